//! The `sluice` command.

use std::process::ExitCode;

/// Worker threads allocate a little for every request; mimalloc keeps what a thread frees for that thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sluice::cli::main()
}
