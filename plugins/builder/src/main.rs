//! `sluice-plugin-builder WORKSPACE TARGET OUT`: builds all guest crates of a workspace. `sluice plugin build` is the
//! same for one crate.

use std::{path::PathBuf, process::ExitCode};

use sluice_plugin_builder::{Toolchain, build_all, in_words};

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [workspace, target, out] = arguments.as_slice() else {
        eprintln!("usage: sluice-plugin-builder WORKSPACE TARGET OUT");
        return ExitCode::from(2);
    };
    let built = Toolchain::find().and_then(|toolchain| {
        eprintln!("building {} with {}", workspace.display(), toolchain.in_words());
        build_all(workspace, target, out, |built| eprintln!("{}", in_words(built)))
    });
    match built {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
