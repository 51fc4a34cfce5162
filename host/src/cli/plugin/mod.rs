//! `sluice plugin …`.

mod check;
mod local;
mod push;
mod simulate;
mod versions;

use super::{client::Client, failure::Failure, flags::PluginCommand, output::Output};

pub(super) fn run(command: PluginCommand, as_json: bool) -> Result<Output, Failure> {
    match command {
        PluginCommand::New { name, kind, dir } => local::new(&name, kind, dir),
        PluginCommand::Build { crate_dir, out } => local::build(&crate_dir, out.as_deref()),
        PluginCommand::Check { file, settings } => check::run(&file, settings.as_deref()),
        PluginCommand::Push { name, file, keep_only, control } => {
            push::run(&Client::new(&control)?, name, &file, keep_only, as_json)
        }
        PluginCommand::List { control } => versions::list(&Client::new(&control)?),
        PluginCommand::Activate { name, version, control } => {
            versions::activate(&Client::new(&control)?, &name, version)
        }
        PluginCommand::Rollback { name, control } => versions::roll_back(&Client::new(&control)?, &name),
        PluginCommand::Canary { name, version, percent, service, end: _, control } => {
            let client = Client::new(&control)?;
            match version.zip(percent) {
                Some((version, percent)) => versions::start_canary(&client, &name, version, percent, service),
                None => versions::end_canary(&client, &name),
            }
        }
        PluginCommand::Simulate { scenario, balancer, failover, seed, svg } => {
            simulate::run(&scenario, &balancer, &failover, seed, svg.as_deref())
        }
    }
}
