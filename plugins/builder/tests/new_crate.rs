//! What `sluice plugin new` makes, built and tested as its author would.

use std::{path::Path, process::Command};

/// Shared with the stock plugins, whose dependencies are the same.
const TARGET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target");

#[test]
fn a_new_crate_passes_its_test_and_builds_as_it_stands() {
    for kind in ["balancer", "failover", "transaction", "event-handler"] {
        passes_its_test_and_builds(kind);
    }
}

fn passes_its_test_and_builds(kind: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let name = format!("my-{kind}");
    let dir = folder.path().join(&name);
    sluice_plugin_builder::new_crate(&dir, &name, kind).expect("a new crate");

    let mut tests = Command::new(env!("CARGO"));
    tests.args(["test", "--quiet", "--target-dir", TARGET]).current_dir(&dir);
    let (good, said) = run(&mut tests);
    assert!(good, "{said}");
    assert!(said.contains("3 passed"), "{said}");

    let out = folder.path().join("built");
    let (good, said) = run(&mut builder(&[&dir, Path::new(TARGET), &out]));
    assert!(good, "{said}");
    let component = std::fs::read(out.join(format!("{name}.wasm"))).expect("a component");
    assert_eq!(sluice_plugin_builder::check(&component).expect("a plugin").kind, kind);
    assert!(component.len() < 72 * 1024, "{} bytes", component.len());

    let (_, said) = run(&mut builder(&[&dir, Path::new(TARGET), &out]));
    assert!(said.contains(&format!("unchanged: {kind} {name}")), "{said}");
}

#[test]
fn a_crate_that_does_not_compile_is_an_error_that_cargo_explains() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("broken");
    sluice_plugin_builder::new_crate(&dir, "broken", "balancer").expect("a new crate");
    std::fs::write(dir.join("src/lib.rs"), "fn broken( {}").expect("a file");
    let (good, said) = run(&mut builder(&[&dir, Path::new(TARGET), &folder.path().join("built")]));
    assert!(!good);
    assert!(said.contains("src/lib.rs:1"), "{said}");
    assert!(said.contains("cargo could not build"), "{said}");
}

#[test]
fn a_folder_without_a_crate_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = sluice_plugin_builder::build(folder.path(), None).expect_err("no crate");
    assert!(error.to_string().contains("there is no"), "{error}");
}

fn builder(arguments: &[&Path]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-plugin-builder"));
    command.args(arguments);
    command
}

fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().expect("it starts");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.success(), said)
}
