//! What must be right before anything is bound: the folder, what lies in it, and what the configuration names.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{FlockOperation, flock};

use super::{
    change::Refusal,
    membership::names::Names,
    overlay::{Overlay, OverlayFile},
    publisher::{bases, desired::Base},
    run::RunError,
};
use crate::{
    model::{Config, PluginName},
    plugin::{ComponentStore, Runtime},
};

/// All of it, once it has been found right.
pub struct Ground {
    pub data_dir: DataDir,
    pub store: Arc<ComponentStore>,
    pub overlay_file: OverlayFile,
    pub overlay: Overlay,
    /// The operators'.
    pub token: Option<String>,
    pub bases: BTreeMap<PluginName, Base>,
    pub runtime: Arc<Runtime>,
    pub names: Arc<Names>,
}

impl Ground {
    /// `runtime` keeps compiled code in the folder from here on.
    pub fn check(config: &Config, runtime: Arc<Runtime>) -> Result<Self, RunError> {
        let data_dir = DataDir::open(&config.gateway.data_dir)?;
        let overlay_file = OverlayFile::in_dir(&data_dir.path);
        runtime.keep_code_in(&config.gateway.code_cache_dir())?;
        let unreadable = |problems| RunError::Configuration(Refusal::invalid("plugins cannot be read", problems));
        Ok(Self {
            store: Arc::new(ComponentStore::open(&data_dir.path)?),
            overlay: overlay_file.load()?,
            overlay_file,
            token: operator_token(config)?,
            bases: bases(config).map_err(unreadable)?,
            runtime,
            names: Names::new(&config.gateway.nameservers)?,
            data_dir,
        })
    }
}

/// The folder of everything durable, held against a second gateway.
pub struct DataDir {
    pub path: PathBuf,
    _lock: File,
}

impl DataDir {
    fn open(path: &Path) -> Result<Self, RunError> {
        let failed = |source| RunError::DataDir { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(failed)?;
        let lock = File::options().create(true).truncate(false).write(true).open(path.join("lock")).map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(RunError::DataDirInUse { path: path.to_owned() }),
            Err(error) => Err(failed(error.into())),
        }
    }
}

/// Longest token file.
const TOKEN_BYTES_MAX: u64 = 4096;

fn operator_token(config: &Config) -> Result<Option<String>, RunError> {
    let address = config.control.address;
    let Some(path) = &config.control.operator_token_file else {
        return if address.ip().is_loopback() { Ok(None) } else { Err(RunError::TokenMissing(address)) };
    };
    let failed = |problem: String| RunError::Token { path: path.clone(), problem };
    let mut token = String::new();
    let file = File::open(path).map_err(|error| failed(format!("cannot be read: {error}")))?;
    file.take(TOKEN_BYTES_MAX)
        .read_to_string(&mut token)
        .map_err(|error| failed(format!("cannot be read: {error}")))?;
    let token = token.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(failed("must hold one token of visible ASCII characters".to_owned()));
    }
    Ok(Some(token.to_owned()))
}
