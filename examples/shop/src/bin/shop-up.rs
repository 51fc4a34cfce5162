//! Starts the shop behind the gateway and says what to try: `make run`.

use std::process::ExitCode;

use clap::Parser;
use sluice_shop::up::{self, Up};

#[derive(Debug, Parser)]
#[command(about = "Starts the example shop behind the gateway; Ctrl-C ends everything")]
struct Arguments {
    #[command(flatten)]
    up: Up,
}

fn main() -> ExitCode {
    let up = Arguments::parse().up;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.expect("a runtime can be built").block_on(up::run(&up));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
