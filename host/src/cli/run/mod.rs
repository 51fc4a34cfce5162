//! `sluice run`: the gateway's process from its first line to its exit code.

mod log;
mod signals;
mod watch;

use std::{path::Path, sync::Arc};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::mpsc;

use self::{signals::Signals, watch::FileWatch};
use super::{
    config_file,
    failure::{Exit, Failure},
    flags::{LogFormat, RunFlags},
    output::Output,
    policies,
};
use crate::{
    control::{self, RunError},
    model::Config,
    plugin::Runtime,
};

/// Of the control plane: one for the API while another prepares a change. The data path has threads of its own.
const CONTROL_THREADS: usize = 2;
/// Reloads that wait for one under way; more are the same reload again.
const TRIGGERS_MAX: usize = 4;

pub(super) fn run(flags: RunFlags, as_json: bool) -> Result<Output, Failure> {
    log::begin(if as_json { LogFormat::Json } else { flags.log_format })?;
    keep_pages_small();
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("sluice-control")
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::new(Exit::Failed, format_args!("cannot start the control plane's threads: {error}"))
        })?;
    runtime.block_on(serve(&flags.file.config))?;
    Ok(Output::nothing())
}

/// A gateway's heaps and its plugins' memories are many and small: where the system makes every touched range of 2 MiB
/// one huge page, an idle gateway has 141 MB instead of 45.
fn keep_pages_small() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages stay on: more memory is used");
    }
}

/// As many sockets and files as this process may have: the usual first limit, 1,024, is for programs that call `select`,
/// and a gateway of some hundred clients and services would run into it.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::warn!(%error, limit = ?limit.current, "the limit of open files stays as it is");
    }
}

async fn serve(path: &Path) -> Result<(), Failure> {
    let (sender, triggers) = mpsc::channel(TRIGGERS_MAX);
    // Before anything else, so that a signal while starting is a shutdown too.
    let _signals = Signals::begin(sender.clone())
        .map_err(|error| Failure::new(Exit::Failed, format_args!("cannot listen for signals: {error}")))?;
    // Before the file is read, so that no change of it falls in between.
    let watch = FileWatch::begin(path, sender);
    let config = config_file::load(path)?;
    let runtime = try_policies(path, &config)?;
    let _watch = watch
        .inspect_err(
            |error| tracing::warn!(%error, "changes of the configuration file are not noticed; SIGHUP reloads"),
        )
        .ok();
    control::run(path.to_owned(), config, runtime, triggers).await.map_err(|error| {
        let exit = match error {
            RunError::Configuration(_) => Exit::WrongInput,
            _ => Exit::Failed,
        };
        Failure::new(exit, error)
    })
}

/// With the code that an earlier run compiled; the runtime has what was compiled now. Nothing is made before the configuration is known to be right.
fn try_policies(path: &Path, config: &Config) -> Result<Arc<Runtime>, Failure> {
    let cache = config.gateway.code_cache_dir();
    // One that cannot be used is reported when the gateway starts.
    let runtime = Runtime::new(Some(cache.as_path()).filter(|cache| cache.is_dir())).or_else(|_| Runtime::new(None));
    let runtime = runtime.map_err(|error| Failure::new(Exit::Failed, error))?;
    policies::check(path, config, &runtime)?;
    Ok(runtime)
}
