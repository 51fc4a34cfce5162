//! `sluice check`: everything that `sluice run` would refuse, and nothing bound or written.

use std::path::Path;

use serde_json::json;

use super::{
    config_file,
    failure::{Exit, Failure},
    output::Output,
    policies,
};
use crate::plugin::Runtime;

pub(super) fn run(path: &Path) -> Result<Output, Failure> {
    let config = config_file::load(path)?;
    let runtime = Runtime::new(None).map_err(|error| Failure::new(Exit::Failed, error))?;
    policies::check(path, &config, &runtime)?;
    let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let text = format!(
        "{} is right: {}, {}, {}",
        path.display(),
        counted(config.listeners.len(), "listener"),
        counted(config.services.len(), "service"),
        counted(config.routes.len(), "route")
    );
    Ok(Output::new(text, json!([])))
}
