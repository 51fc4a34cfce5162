//! The command line: flags to checked options, and one file a command.
//!
//! Commands that change a running gateway speak to its control API like any other client. Each gives either an
//! [`output::Output`] or a [`Failure`]; both are printed here, for people or as JSON.

mod applied;
mod check;
mod client;
mod component;
mod config_file;
mod events;
mod failure;
mod flags;
mod output;
mod plugin;
mod policies;
mod problem_document;
mod projection;
mod registry;
mod run;
mod service;
mod transaction;

use std::process::ExitCode;

use clap::Parser;
use serde_json::Value;

use failure::{Exit, Failure};
use flags::{Command, Flags};

/// Does what the command line says. Wrong flags end the process here, with exit code 2.
pub fn main() -> ExitCode {
    let Flags { command, json } = Flags::parse();
    let done = match command {
        Command::Run(flags) => run::run(flags, json),
        Command::Check(flags) => check::run(&flags.config),
        Command::Plugin(command) => plugin::run(command, json),
        Command::Service(command) => service::run(command),
        Command::Registry(command) => registry::run(command),
        Command::Transaction(command) => transaction::run(command),
        Command::Events(command) => events::run(command, json),
        Command::Projection(command) => projection::run(command, json),
    };
    match done {
        Ok(output) => {
            output.print(json);
            ExitCode::SUCCESS
        }
        Err(failure) => failure.report(json),
    }
}

/// `--settings`: the policy's own table as a JSON object.
fn settings(text: &str) -> Result<Value, Failure> {
    let wrong = |why: String| Err(Failure::new(Exit::WrongInput, format_args!("--settings: {why}")));
    match serde_json::from_str(text) {
        Ok(settings @ Value::Object(_)) => Ok(settings),
        Ok(_) => wrong("must be a JSON object, such as '{\"choices\": 2}'".to_owned()),
        Err(error) => wrong(format!("is no JSON: {error}")),
    }
}
