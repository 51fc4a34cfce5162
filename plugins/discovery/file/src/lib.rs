//! Endpoints from a file, watched. Settings: `path` (one of the plugin's `allow_files`) and `format` (`auto`, by the
//! file's name; `json`; `toml`).
//!
//! JSON is a list of endpoints, or an object with the list as `endpoints`; TOML has `endpoints = […]` or
//! `[[endpoints]]`. An endpoint is `"host:port"` or a table, see `sluice_sdk::instances`.

mod content;

use content::Format;
use sluice_sdk::{
    Context, Settings,
    discovery::{Discovery, Membership, WatchError, Watched},
    files,
};

struct File {
    path: String,
    format: Format,
    /// A content that could not be read, by its digest, and why: it is not read again until it changes.
    wrong: Option<(Vec<u8>, String)>,
}

impl Discovery for File {
    fn configure(_: &Context, settings: &mut Settings) -> Self {
        let path = settings.required_text("path", "endpoints.json");
        let named = if path.ends_with(".toml") { Format::Toml } else { Format::Json };
        let given =
            settings.one_of("format", &[("auto", None), ("json", Some(Format::Json)), ("toml", Some(Format::Toml))]);
        Self { path, format: given.unwrap_or(named), wrong: None }
    }

    /// The cursor is the content's digest in hex.
    fn watch(&mut self, cursor: Option<&str>, wait_ms: u32) -> Watched {
        let known = match (&self.wrong, cursor) {
            (Some((digest, _)), _) => Some(digest.clone()),
            (None, Some(cursor)) => {
                Some(content::from_hex(cursor).ok_or_else(|| WatchError::Lost("the cursor is no digest".to_owned()))?)
            }
            (None, None) => None,
        };
        let read = files::read(&self.path, known.as_deref(), wait_ms).map_err(|error| match error {
            files::Error::NotAllowed => WatchError::Refused(format!("{} is not among allow_files", self.path)),
            files::Error::NotFound => WatchError::Unavailable(format!("there is no file {}", self.path)),
            files::Error::Failed(why) => WatchError::Unavailable(format!("{}: {why}", self.path)),
        })?;
        let Some((bytes, digest)) = read else {
            return match &self.wrong {
                Some((_, why)) => Err(WatchError::Unavailable(why.clone())),
                None => Ok(None),
            };
        };
        match content::endpoints(&bytes, self.format) {
            Ok(instances) => {
                self.wrong = None;
                Ok(Some(Membership { instances, cursor: content::hex(&digest) }))
            }
            Err(why) => {
                let why = format!("{}: {why}", self.path);
                self.wrong = Some((digest, why.clone()));
                Err(WatchError::Unavailable(why))
            }
        }
    }
}

sluice_sdk::discovery!(File);
