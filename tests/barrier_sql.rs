//! The barrier's SQL, as examples/participants.md has it, run by the databases that it is for.

use std::process::Command;

use sluice_harness::process::{third_party, workspace_root};

#[test]
fn the_pages_statements_let_no_order_through_that_does_harm_on_sqlite() {
    run("sqlite");
}

#[test]
fn the_pages_statements_let_no_order_through_that_does_harm_on_postgresql() {
    if third_party("psql").is_some() {
        run("postgresql");
    }
}

fn run(database: &str) {
    let Some(python) = third_party("python3") else { return };
    let script = workspace_root().join("tests/python/barrier_sql.py");
    let ran = Command::new(python).arg(script).arg(database).output().expect("python starts");
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{out}{err}");
    assert!(out.contains("90 orders"), "{out}");
}
