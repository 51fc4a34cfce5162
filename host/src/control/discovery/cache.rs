//! The last membership of each service, kept in `data_dir`, so that a gateway serves before its sources answer.
//!
//! What cannot be read is as if it were not there: the source will tell. It is no promise, so nothing waits for the disk.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::model::{EndpointSpec, PluginName, PolicyConfig, ServiceName, Weight};

const FOLDER: &str = "discovery";
/// Grows when an older gateway could not read what a newer one wrote.
const FORMAT: u32 = 1;
/// Twenty thousand endpoints with metadata.
const BYTES_MAX: u64 = 64 << 20;

#[derive(Clone, Debug)]
pub struct MembershipCache {
    folder: PathBuf,
}

/// What a source said in an earlier run.
#[derive(Clone, Debug, PartialEq)]
pub struct Cached {
    pub endpoints: Arc<[EndpointSpec]>,
    pub cursor: Option<String>,
}

impl MembershipCache {
    pub fn in_dir(data_dir: &Path) -> Self {
        Self { folder: data_dir.join(FOLDER) }
    }

    /// What `policy` said last of the service; none where another one did, or nothing is kept.
    pub fn load(&self, service: &ServiceName, policy: &PolicyConfig) -> Option<Cached> {
        let path = self.path(service);
        if fs::metadata(&path).ok()?.len() > BYTES_MAX {
            return None;
        }
        let document: Document = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        let same =
            document.format == FORMAT && document.plugin == policy.plugin && document.settings == policy.settings;
        let endpoints: Option<Vec<_>> = document.endpoints.into_iter().map(Kept::into_spec).collect();
        same.then(|| Some(Cached { endpoints: endpoints?.into(), cursor: document.cursor }))?
    }

    pub fn keep(&self, service: &ServiceName, policy: &PolicyConfig, cursor: Option<&str>, endpoints: &[EndpointSpec]) {
        let document = Document {
            format: FORMAT,
            plugin: policy.plugin.clone(),
            settings: policy.settings.clone(),
            cursor: cursor.map(str::to_owned),
            endpoints: endpoints.iter().map(Kept::from).collect(),
        };
        let bytes = serde_json::to_vec(&document).expect("plain values are JSON");
        if let Err(error) = self.write(service, &bytes) {
            tracing::warn!(%service, %error, "the membership is not kept for the next start");
        }
    }

    pub fn forget(&self, service: &ServiceName) {
        // Where it was not there, nothing was kept.
        let _ = fs::remove_file(self.path(service));
    }

    /// Whole or not at all.
    fn write(&self, service: &ServiceName, bytes: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        io::Write::write_all(&mut file, bytes)?;
        file.persist(self.path(service)).map_err(|error| error.error)?;
        Ok(())
    }

    fn path(&self, service: &ServiceName) -> PathBuf {
        self.folder.join(format!("{service}.json"))
    }
}

/// The file's shape.
#[derive(Serialize, Deserialize)]
struct Document {
    format: u32,
    plugin: PluginName,
    settings: serde_json::Value,
    cursor: Option<String>,
    endpoints: Vec<Kept>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    id: String,
    address: String,
    weight: u16,
    priority: u32,
    zone: String,
    metadata: Vec<(String, String)>,
    healthy: bool,
}

impl From<&EndpointSpec> for Kept {
    fn from(spec: &EndpointSpec) -> Self {
        Self {
            id: spec.id.to_string(),
            address: spec.address.to_string(),
            weight: u16::try_from(spec.weight.get()).unwrap_or(u16::MAX),
            priority: spec.priority,
            zone: spec.zone.clone(),
            metadata: spec.metadata.clone(),
            healthy: spec.healthy,
        }
    }
}

impl Kept {
    fn into_spec(self) -> Option<EndpointSpec> {
        let Self { id, address, weight, priority, zone, metadata, healthy } = self;
        let (address, weight) = (address.parse().ok()?, Weight::new(weight.into())?);
        Some(EndpointSpec { id: id.into(), address, weight, priority, zone, metadata, healthy })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_membership_comes_back_for_the_same_policy_only() {
        let dir = tempfile::tempdir().expect("a folder");
        let cache = MembershipCache::in_dir(dir.path());
        let service: ServiceName = "orders".parse().expect("a name");
        let policy = |settings| PolicyConfig { plugin: "file".parse().expect("a name"), settings };
        let endpoint = EndpointSpec {
            id: "a".into(),
            address: "10.0.0.1:80".parse().expect("an address"),
            weight: Weight::new(3).expect("a weight"),
            priority: 1,
            zone: "z".to_owned(),
            metadata: vec![("tag".to_owned(), "x".to_owned())],
            healthy: false,
        };
        cache.keep(&service, &policy(json!({"path": "a"})), Some("7"), std::slice::from_ref(&endpoint));
        let kept = cache.load(&service, &policy(json!({"path": "a"}))).expect("it was kept");
        assert_eq!((kept.cursor.as_deref(), &*kept.endpoints), (Some("7"), &[endpoint][..]));
        assert_eq!(cache.load(&service, &policy(json!({"path": "b"}))), None);
        fs::write(dir.path().join("discovery/orders.json"), "{\"format\": 1").expect("a writable folder");
        assert_eq!(cache.load(&service, &policy(json!({"path": "a"}))), None, "what is damaged is not there");
        cache.forget(&service);
        assert_eq!(fs::read_dir(dir.path().join(FOLDER)).expect("the folder").count(), 0);
    }
}
