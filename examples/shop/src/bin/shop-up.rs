//! Starts the shop behind the gateway and says what to try: `make run`.

use clap::Parser;
use sluice_shop::up::{self, Up};

#[derive(Debug, Parser)]
#[command(about = "Starts the example shop behind the gateway; Ctrl-C ends everything")]
struct Arguments {
    #[command(flatten)]
    up: Up,
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(up::run(&Arguments::parse().up))
}
