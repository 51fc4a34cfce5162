//! From `sluice.toml` to a checked [`Config`], or to everything that is wrong with it.
//!
//! The text is parsed into a tree that knows where each value stands, and walked section by section, a file a
//! section. A section never stops at its first problem: [`reader`] notes each where it stands and the walk goes on,
//! so that one run of `sluice check` shows all there is to repair. Only a file without problems becomes a
//! [`Config`], and nothing here binds, resolves or starts anything.

mod control;
pub mod defaults;
mod dns;
mod document;
mod endpoint;
mod events;
mod failover;
mod files;
mod gateway;
mod headers;
mod health_check;
mod known;
mod limits;
mod listener;
mod locate;
mod path;
mod plugins;
mod policy;
mod problem;
mod reader;
mod registry;
mod restart;
mod root;
mod route;
mod service;
mod suggest;
mod transactions;
mod values;

#[cfg(test)]
mod tests;

use std::path::Path;

pub use files::CONFIG_BYTES_MAX;
pub use known::Known;
pub use locate::{Finding, data_dir, locate};
pub use policy::{PointerProblem, policy_from_json};
pub use problem::{ConfigErrors, Position, Problem};
pub use restart::restart_differences;

pub(crate) use document::{load_document, parse_document};
pub(crate) use failover::{ejection as read_ejection_limits, retry as read_retry_limits};
pub(crate) use policy::settings as read_settings;
pub(crate) use reader::{Table, Value};

use crate::model::Config;
use reader::FileCheck;

/// Reads and checks a configuration file. The files that it names must be there too.
pub fn load(path: &Path, known: &Known) -> Result<Config, ConfigErrors> {
    let file_name = path.display().to_string();
    let text = files::read(path, &file_name)?;
    let base_dir = path.parent().unwrap_or(Path::new(""));
    root::read(&text, &file_name, base_dir, known, FileCheck::MustExist)
}

/// The same for a text, without looking at any file: relative paths are made relative to `base_dir`, and
/// `file_name` is what problems are reported under.
pub fn parse(text: &str, file_name: &str, base_dir: &Path, known: &Known) -> Result<Config, ConfigErrors> {
    root::read(text, file_name, base_dir, known, FileCheck::Trust)
}
