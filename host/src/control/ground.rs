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
    api::Tokens,
    change::Refusal,
    membership::names::Names,
    overlay::{Overlay, OverlayFile},
    publisher::{bases, desired::Base},
    run::RunError,
};
use crate::{
    model::{Config, PluginName},
    plugin::{ComponentStore, Runtime},
    storage::{Embedded, STORE_DIR, Storage},
};

/// All of it, once it has been found right.
pub struct Ground {
    pub data_dir: DataDir,
    pub store: Arc<ComponentStore>,
    pub overlay_file: OverlayFile,
    pub overlay: Overlay,
    pub tokens: Tokens,
    /// Everything durable but plugins and the overlay.
    pub storage: Arc<dyn Storage>,
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
            tokens: tokens(config)?,
            storage: Arc::new(Embedded::open(&data_dir.path.join(STORE_DIR))?),
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

fn tokens(config: &Config) -> Result<Tokens, RunError> {
    let control = &config.control;
    let read = |key, path: &Option<PathBuf>| path.as_ref().map(|path| token_in(key, path)).transpose();
    let tokens = Tokens {
        operator: read("operator_token_file", &control.operator_token_file)?,
        service: read("service_token_file", &control.service_token_file)?,
    };
    if tokens.operator.is_none() && !control.address.ip().is_loopback() {
        return Err(RunError::TokenMissing(control.address));
    }
    if tokens.operator.is_some() && tokens.operator == tokens.service {
        let path = control.service_token_file.clone().unwrap_or_default();
        let problem = "holds the operators' token too: services would be operators".to_owned();
        return Err(RunError::Token { key: "service_token_file", path, problem });
    }
    Ok(tokens)
}

fn token_in(key: &'static str, path: &Path) -> Result<String, RunError> {
    let failed = |problem: String| RunError::Token { key, path: path.to_owned(), problem };
    let mut token = String::new();
    let unreadable = |error| failed(format!("cannot be read: {error}"));
    let file = File::open(path).map_err(unreadable)?;
    file.take(TOKEN_BYTES_MAX).read_to_string(&mut token).map_err(unreadable)?;
    let token = token.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(failed("must hold one token of visible ASCII characters".to_owned()));
    }
    Ok(token.to_owned())
}
