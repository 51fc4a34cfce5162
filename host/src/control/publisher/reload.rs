//! The configuration file, read again.

use std::{collections::BTreeMap, sync::Arc};

use tokio::task::spawn_blocking;

use super::{
    Publisher,
    desired::{Base, Desired, Source},
};
use crate::{
    config::restart_differences,
    control::{
        change::{ChangeProblem, Refusal},
        stock,
    },
    model::{Config, PluginName, VersionId},
};

impl Publisher {
    /// Puts the file as it is now into `desired`, if it is right and needs no restart.
    pub(super) async fn reread(&self, desired: &mut Desired) -> Result<(), Refusal> {
        let read = Arc::clone(&self.read_config);
        let (old, file) = (Arc::clone(&desired.file), spawn_blocking(move || read()).await);
        let file = file.map_err(|error| Refusal::Failed(format!("reading the configuration failed: {error}")))?;
        let file = file.map_err(|errors| {
            let problems = errors.problems().iter().map(|problem| ChangeProblem::plain(problem.to_string()));
            Refusal::invalid("the configuration is wrong, and nothing has changed", problems.collect())
        })?;
        let mut differences = restart_differences(&old, &file);
        if old.control.operator_token_file != file.control.operator_token_file {
            differences.push("control.operator_token_file changes, which needs a restart".to_owned());
        }
        if old.gateway.nameservers != file.gateway.nameservers {
            differences.push("gateway.nameservers changes, which needs a restart".to_owned());
        }
        if !differences.is_empty() {
            let problems = differences.into_iter().map(ChangeProblem::plain).collect();
            return Err(Refusal::invalid("the configuration has changes that need a restart", problems));
        }
        let file = Arc::new(file);
        let of_file = Arc::clone(&file);
        let bases = spawn_blocking(move || bases(&of_file)).await;
        desired.bases = Arc::new(
            bases
                .map_err(|error| Refusal::Failed(error.to_string()))?
                .map_err(|problems| Refusal::invalid("the configuration's plugins cannot be read", problems))?,
        );
        desired.file = file;
        Ok(())
    }
}

/// What the file and the binary bring; a problem for each file that cannot be read or is another than expected.
pub fn bases(config: &Config) -> Result<BTreeMap<PluginName, Base>, Vec<ChangeProblem>> {
    let mut bases: BTreeMap<_, _> = stock::components()
        .map(|(plugin, component)| {
            (plugin, Base { version: VersionId::of(&component), component, source: Source::Default })
        })
        .collect();
    let mut problems = Vec::new();
    for (plugin, options) in &config.plugins {
        let Some(path) = &options.path else { continue };
        match stock::read_component(path, options.sha256.as_ref()) {
            Ok(component) => {
                let version = VersionId::of(&component);
                bases.insert(plugin.clone(), Base { version, component, source: Source::File });
            }
            Err(problem) => problems.push(ChangeProblem::plain(format!("plugins.{plugin}: {problem}"))),
        }
    }
    if problems.is_empty() { Ok(bases) } else { Err(problems) }
}
