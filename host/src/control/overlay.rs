//! What was changed over the API: it wins over the configuration file, and survives a restart.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::model::{PluginName, PolicyConfig, ServiceName, VersionId};

/// The file's name within `data_dir`.
const FILE_NAME: &str = "overlay.json";
/// Of the file. Grows when an older gateway could not read what a newer one wrote.
const FORMAT: u32 = 1;
/// Ten thousand services with settings of a kilobyte each.
const BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How far back `rollback` can go.
pub const PREVIOUS_MAX: usize = 8;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overlay {
    pub services: BTreeMap<ServiceName, ServiceOverlay>,
    pub plugins: BTreeMap<PluginName, PluginOverlay>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceOverlay {
    pub balancer: Option<PolicyConfig>,
    pub failover: Option<PolicyConfig>,
    pub discovery: Option<PolicyConfig>,
}

/// Which version of a plugin is in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginOverlay {
    /// None: the one that the configuration file or the binary brings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<VersionId>,
    /// Those in use before, the latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub previous: Vec<VersionId>,
}

#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    #[error("cannot read the changes made over the API in {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "the changes made over the API cannot be understood: {path}: {problem}; repair the file, or move it away to start with the configuration file alone"
    )]
    Corrupt { path: PathBuf, problem: String },
    #[error("cannot keep the changes made over the API in {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
}

/// Where the overlay lies.
#[derive(Clone, Debug)]
pub struct OverlayFile {
    path: PathBuf,
}

/// An overlay on disk that is not in force yet. Dropped, it was never there.
#[derive(Debug)]
pub struct Staged {
    file: NamedTempFile,
    path: PathBuf,
}

impl OverlayFile {
    pub fn in_dir(data_dir: &Path) -> Self {
        Self { path: data_dir.join(FILE_NAME) }
    }

    /// The overlay of the last run; empty where there is none.
    pub fn load(&self) -> Result<Overlay, OverlayError> {
        let read = |source| OverlayError::Read { path: self.path.clone(), source };
        let corrupt = |problem| OverlayError::Corrupt { path: self.path.clone(), problem };
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Overlay::default()),
            Err(error) => return Err(read(error)),
        };
        let mut bytes = Vec::new();
        file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(read)?;
        if bytes.len() as u64 > BYTES_MAX {
            return Err(corrupt(format!("it is larger than {BYTES_MAX} bytes")));
        }
        let document: Document = serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
        if document.format != FORMAT {
            return Err(corrupt(format!("its format is {}, and this version reads format {FORMAT}", document.format)));
        }
        Ok(document.into())
    }

    /// Puts an overlay on disk beside the one in force, so that a full disk is found out before anything changes.
    pub fn stage(&self, overlay: &Overlay) -> Result<Staged, OverlayError> {
        let write = |source| OverlayError::Write { path: self.path.clone(), source };
        let dir = self.path.parent().expect("the file lies in data_dir");
        let bytes = serde_json::to_vec_pretty(&Document::from(overlay)).expect("plain values are JSON");
        let mut file = NamedTempFile::new_in(dir).map_err(write)?;
        file.write_all(&bytes).and_then(|()| file.as_file().sync_all()).map_err(write)?;
        Ok(Staged { file, path: self.path.clone() })
    }
}

impl Staged {
    /// Brings it into force: after this it survives a crash.
    pub fn commit(self) -> Result<(), OverlayError> {
        let Self { file, path } = self;
        let write = |source| OverlayError::Write { path: path.clone(), source };
        file.persist(&path).map_err(|error| write(error.error))?;
        sync_dir(path.parent().expect("the file lies in data_dir")).map_err(write)
    }
}

/// Makes a rename in the folder durable.
fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

/// The file's shape.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u32,
    #[serde(default)]
    services: BTreeMap<ServiceName, ServiceDocument>,
    #[serde(default)]
    plugins: BTreeMap<PluginName, PluginOverlay>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceDocument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    balancer: Option<PolicyDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failover: Option<PolicyDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    discovery: Option<PolicyDocument>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyDocument {
    plugin: PluginName,
    settings: serde_json::Map<String, serde_json::Value>,
}

impl From<Document> for Overlay {
    fn from(document: Document) -> Self {
        let policy = |policy: PolicyDocument| PolicyConfig { plugin: policy.plugin, settings: policy.settings.into() };
        let service = |service: ServiceDocument| ServiceOverlay {
            balancer: service.balancer.map(policy),
            failover: service.failover.map(policy),
            discovery: service.discovery.map(policy),
        };
        Self {
            services: document.services.into_iter().map(|(name, overlay)| (name, service(overlay))).collect(),
            plugins: document.plugins,
        }
    }
}

impl From<&Overlay> for Document {
    fn from(overlay: &Overlay) -> Self {
        let policy = |policy: &PolicyConfig| PolicyDocument {
            plugin: policy.plugin.clone(),
            settings: policy.settings.as_object().cloned().unwrap_or_default(),
        };
        let service = |service: &ServiceOverlay| ServiceDocument {
            balancer: service.balancer.as_ref().map(policy),
            failover: service.failover.as_ref().map(policy),
            discovery: service.discovery.as_ref().map(policy),
        };
        Self {
            format: FORMAT,
            services: overlay.services.iter().map(|(name, overlay)| (name.clone(), service(overlay))).collect(),
            plugins: overlay.plugins.clone(),
        }
    }
}

impl Overlay {
    /// Makes `version` the one in use instead of `before`. `base` is what the file or the binary brings: going
    /// back to it is following it again.
    pub fn activate(
        &mut self,
        plugin: &PluginName,
        version: VersionId,
        before: Option<VersionId>,
        base: Option<VersionId>,
    ) {
        let overlay = self.plugins.entry(plugin.clone()).or_default();
        overlay.previous.retain(|&previous| previous != version);
        if let Some(before) = before.filter(|&before| before != version) {
            overlay.previous.retain(|&previous| previous != before);
            overlay.previous.push(before);
        }
        let excess = overlay.previous.len().saturating_sub(PREVIOUS_MAX);
        overlay.previous.drain(..excess);
        overlay.active = Some(version).filter(|_| base != Some(version));
        self.tidy(plugin);
    }

    /// Makes the version before the one in use; returns it. What was in use is not among the previous ones.
    pub fn roll_back(&mut self, plugin: &PluginName, base: Option<VersionId>) -> Option<VersionId> {
        let overlay = self.plugins.get_mut(plugin)?;
        let version = overlay.previous.pop()?;
        overlay.active = Some(version).filter(|_| base != Some(version));
        self.tidy(plugin);
        Some(version)
    }

    fn tidy(&mut self, plugin: &PluginName) {
        if self.plugins.get(plugin) == Some(&PluginOverlay::default()) {
            self.plugins.remove(plugin);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn version(byte: u8) -> VersionId {
        VersionId::of(&[byte])
    }

    fn name(name: &str) -> PluginName {
        name.parse().expect("a plugin name")
    }

    fn some_overlay() -> Overlay {
        let policy = PolicyConfig { plugin: name("maglev"), settings: json!({"table": 65537}) };
        Overlay {
            services: [(
                "orders".parse().expect("a service name"),
                ServiceOverlay {
                    balancer: Some(policy.clone()),
                    failover: Some(policy.clone()),
                    discovery: Some(policy),
                },
            )]
            .into(),
            plugins: [(name("maglev"), PluginOverlay { active: Some(version(2)), previous: vec![version(1)] })].into(),
        }
    }

    #[test]
    fn a_committed_overlay_is_there_after_a_restart() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = OverlayFile::in_dir(dir.path());
        assert_eq!(file.load().expect("no file is an empty overlay"), Overlay::default());
        file.stage(&some_overlay()).expect("a writable folder").commit().expect("a writable folder");
        assert_eq!(OverlayFile::in_dir(dir.path()).load().expect("what was written"), some_overlay());
    }

    #[test]
    fn an_overlay_that_was_only_staged_was_never_there() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = OverlayFile::in_dir(dir.path());
        drop(file.stage(&some_overlay()).expect("a writable folder"));
        assert_eq!(file.load().expect("no file"), Overlay::default());
        assert_eq!(fs::read_dir(dir.path()).expect("the folder").count(), 0, "no temporary file stays behind");
    }

    #[test]
    fn a_corrupt_overlay_says_where_and_what_to_do() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(FILE_NAME);
        for (content, said) in [
            ("{\"format\": 1, \"servi", "EOF"),
            ("{\"format\": 2}", "format is 2"),
            ("{\"format\": 1, \"sevices\": {}}", "sevices"),
            ("{\"format\": 1, \"plugins\": {\"X\": {}}}", "plugin name"),
            ("{\"format\": 1, \"plugins\": {\"x\": {\"active\": \"zz\"}}}", "12 hex digits"),
        ] {
            fs::write(&path, content).expect("a writable folder");
            let error = OverlayFile::in_dir(dir.path()).load().expect_err("a corrupt file").to_string();
            assert!(error.contains(said) && error.contains("move it away") && error.contains(FILE_NAME), "{error}");
            assert!(!error.contains('\n'), "one line: {error}");
        }
    }

    #[test]
    fn rolling_back_goes_back_one_version_at_a_time_and_never_forward() {
        let (plugin, base) = (name("x"), Some(version(0)));
        let mut overlay = Overlay::default();
        overlay.activate(&plugin, version(1), base, base);
        overlay.activate(&plugin, version(2), Some(version(1)), base);
        assert_eq!(overlay.roll_back(&plugin, base), Some(version(1)));
        assert_eq!(overlay.roll_back(&plugin, base), Some(version(0)));
        assert_eq!(overlay.plugins.get(&plugin), None, "it follows the file again");
        assert_eq!(overlay.roll_back(&plugin, base), None);
    }

    #[test]
    fn versions_to_go_back_to_are_bounded_and_without_repetition() {
        let plugin = name("x");
        let mut overlay = Overlay::default();
        let mut before = None;
        for byte in (0..20).chain([15, 19, 15]) {
            overlay.activate(&plugin, version(byte), before, None);
            before = Some(version(byte));
        }
        let previous = &overlay.plugins[&plugin].previous;
        assert_eq!(previous.len(), PREVIOUS_MAX);
        assert_eq!(previous.last(), Some(&version(19)));
        assert!(!previous.contains(&version(15)), "the one in use is not a previous one");
    }
}
