//! `sluice-plugin-builder [--unchecked] WORKSPACE TARGET OUT`: builds all guest crates of a workspace, also those that
//! are no plugins if `--unchecked`. `sluice plugin build` is the same for one crate.

use std::{path::PathBuf, process::ExitCode};

use sluice_plugin_builder::{Check, Toolchain, build_all, in_words};

fn main() -> ExitCode {
    let mut arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let unchecked = arguments.first().is_some_and(|first| first.as_os_str() == "--unchecked");
    let check = if unchecked { Check::Report } else { Check::Refuse };
    let [workspace, target, out] = &arguments.split_off(usize::from(unchecked))[..] else {
        eprintln!("usage: sluice-plugin-builder [--unchecked] WORKSPACE TARGET OUT");
        return ExitCode::from(2);
    };
    let built = Toolchain::find().and_then(|toolchain| {
        eprintln!("building {} with {}", workspace.display(), toolchain.in_words());
        build_all(workspace, target, out, check, |built| eprintln!("{}", in_words(built)))
    });
    match built {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
