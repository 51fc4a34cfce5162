//! Consul's clients from other hands register, send heartbeats, look up, wait and leave, unmodified.

use sluice_harness::{
    process::{test_node, test_python, workspace_root},
    script::run_script,
    sluice,
};

#[test]
fn py_consul_works_unmodified() {
    let Some(python) = test_python() else { return };
    let gateway = sluice!().config("").start();
    let (host, port) = address(&gateway);
    let script = workspace_root().join("tests/python/consul_client.py");
    print!("{}", run_script(&python, &script, &[&host, &port], &[]));
}

#[test]
fn npm_consul_works_unmodified() {
    let Some((node, packages)) = test_node() else { return };
    let gateway = sluice!().config("").start();
    let (host, port) = address(&gateway);
    let script = workspace_root().join("tests/node/consul_client.js");
    print!("{}", run_script(&node, &script, &[&host, &port], &[("NODE_PATH", &packages)]));
}

fn address(gateway: &sluice_harness::Sluice) -> (String, String) {
    let address = gateway.control_address();
    (address.ip().to_string(), address.port().to_string())
}
