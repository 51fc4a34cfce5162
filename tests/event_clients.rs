//! Clients of CloudEvents and of server-sent events from other hands, unmodified.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

use http::Method;
use serde_json::json;
use sluice_harness::{
    DEADLINE, HeldPort, Sluice,
    process::{test_node, test_python, workspace_root},
    script::run_script,
    sluice, wait_for,
};
use tempfile::TempDir;

#[test]
fn pythons_cloudevents_appends_in_binary_and_structured_mode() {
    let Some(python) = test_python() else { return };
    let gateway = sluice!().start();
    let script = workspace_root().join("tests/python/cloudevents_client.py");
    let (host, port) = host_and_port(gateway.control_address());
    run_script(&python, &script, &[&host, &port], &[]);
}

#[test]
fn nodes_cloudevents_appends_in_batches() {
    let Some((node, packages)) = test_node() else { return };
    let gateway = sluice!().start();
    let script = workspace_root().join("tests/node/cloudevents_client.js");
    let (host, port) = host_and_port(gateway.control_address());
    run_script(&node, &script, &[&host, &port], &[("NODE_PATH", &packages)]);
}

fn host_and_port(address: SocketAddr) -> (String, String) {
    (address.ip().to_string(), address.port().to_string())
}

/// A script that prints what it sees, and is ended with the test.
struct Watching {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Watching {
    fn start(node: &Path, packages: &Path, gateway: &Sluice, count: usize) -> Self {
        let (host, port) = host_and_port(gateway.control_address());
        let script = workspace_root().join("tests/node/event_source.js");
        let mut command = Command::new(node);
        command.arg(script).args([&host, &port, &count.to_string()]).env("NODE_PATH", packages);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("node starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped above"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    fn next(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.lines.recv_timeout(DEADLINE).expect("another event")).collect()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn append(gateway: &Sluice, ids: std::ops::Range<usize>) {
    let event =
        |id: usize| json!({"specversion": "1.0", "id": id.to_string(), "source": "/test", "type": "test.counted"});
    // What does not fit is there as well.
    let other = |id: usize| json!({"specversion": "1.0", "id": id.to_string(), "source": "/test", "type": "other"});
    let events: Vec<_> = ids.flat_map(|id| [event(id), other(id)]).collect();
    let headers = [("content-type", "application/cloudevents-batch+json")];
    gateway.control().send(Method::POST, "/events", &headers, json!(events).to_string().into_bytes()).expect(201);
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[test]
fn nodes_eventsource_follows_over_restarts_with_neither_a_gap_nor_a_repetition() {
    let Some((node, packages)) = test_node() else { return };
    let folder = TempDir::new().expect("a temporary folder");
    let mut gateway = sluice!().directory(folder.path()).start();
    // Where it was the first time, as a gateway is that is started again.
    let address = gateway.control_address();
    let again = || sluice!().config(format!("[control]\naddress = \"{address}\"")).directory(folder.path()).start();
    append(&gateway, 0..40);
    let mut watching = Watching::start(&node, &packages, &gateway, 200);
    assert_eq!(watching.next(40), numbers(0..40));
    append(&gateway, 40..60);
    gateway.terminate();
    let _held = HeldPort::of(address);
    let mut gateway = again();
    append(&gateway, 60..100);
    assert_eq!(watching.next(60), numbers(40..100), "over a shutdown");
    append(&gateway, 100..120);
    gateway.kill();
    let gateway = again();
    append(&gateway, 120..200);
    assert_eq!(watching.next(100), numbers(100..200), "over a kill");
    let status = wait_for("its end", DEADLINE, || watching.child.try_wait().expect("a child can be waited for"));
    assert!(status.success(), "{status}");
    assert!(watching.lines.recv().is_err(), "nothing came more often");
}
