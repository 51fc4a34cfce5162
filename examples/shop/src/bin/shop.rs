//! One instance of one of the shop's services, or steady traffic to it.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use sluice_shop::{
    services::{self, Instance, Service},
    traffic::{self, Traffic},
};

#[derive(Debug, Parser)]
#[command(about = "The services of the example shop, and traffic to try them with")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one instance of a service
    Serve {
        service: Service,
        /// Port 0 takes a free one; the address is printed
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// Through which the other services are reached
        #[arg(long, default_value = "http://127.0.0.1:8080")]
        gateway: String,
        /// The gateway's control listener, where the instance registers itself and submits transactions; without it
        /// nobody is told of it, and there are no transactions
        #[arg(long, value_name = "URL")]
        control: Option<String>,
        /// What the instance calls itself in every answer and in the registry
        #[arg(long)]
        name: String,
        /// What the instances of a service share
        #[arg(long)]
        data: PathBuf,
        /// End when the process that started this one ends, however it does
        #[arg(long)]
        end_with_parent: bool,
    },
    /// Ask steadily, and say each second who answered
    Traffic(Traffic),
}

fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().command {
        Command::Serve { service, listen, gateway, control, name, data, end_with_parent } => {
            if end_with_parent {
                rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
            }
            let trimmed = |url: String| url.trim_end_matches('/').to_owned();
            let (gateway, control) = (trimmed(gateway), control.map(trimmed));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(services::serve(Instance { service, name, listen, gateway, control, data }))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Traffic(traffic) => {
            Ok(if traffic::run(&traffic) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}
