//! `sluice events`: appended from flags and from lines, read page by page, and followed over a restart.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
};

use serde_json::{Value, json};
use sluice_harness::{DEADLINE, HeldPort, Sluice, control::text, sluice, wait_for};
use tempfile::TempDir;

fn command(address: SocketAddr, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.arg("events").args(args).arg("--control").arg(address.to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn events(gateway: &Sluice, args: &[&str], input: &str) -> Output {
    let mut child = command(gateway.control_address(), args).spawn().expect("the binary is built");
    // One that wants no input may have ended.
    let _ = child.stdin.take().expect("piped above").write_all(input.as_bytes());
    let (sender, ended) = mpsc::channel();
    // What it prints is read while it is waited for.
    thread::spawn(move || sender.send(child.wait_with_output()));
    ended.recv_timeout(DEADLINE).expect("the command's end").expect("a child can be waited for")
}

#[track_caller]
fn done(gateway: &Sluice, args: &[&str], input: &str) -> String {
    let output = events(gateway, args, input);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[track_caller]
fn refused(gateway: &Sluice, args: &[&str], input: &str, code: i32, says: &str) {
    let output = events(gateway, args, input);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    assert!(said.contains(says), "{args:?}: {said}");
}

fn lines(ids: std::ops::Range<usize>) -> String {
    ids.map(|id| format!("{}\n", json!({"specversion": "1.0", "id": id.to_string(), "source": "/test", "type": "t"})))
        .collect()
}

fn ids(json: &str) -> Vec<String> {
    let page: Value = serde_json::from_str(json).expect("JSON");
    page["events"].as_array().expect("a list").iter().map(|event| text(&event["id"])).collect()
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[test]
fn one_event_is_appended_from_flags_once() {
    let gateway = sluice!().start();
    let flags = ["append", "--type", "order.placed", "--data", r#"{"total": 12.10}"#, "--stream", "o", "--id", "1"];
    assert_eq!(done(&gateway, &flags, ""), "1 is at o@0, position 1\n");
    assert_eq!(done(&gateway, &flags, ""), "1 is at o@0, position 1 (it was there already)\n");
    let plain = ["append", "--type", "note", "--data", "as it is", "--content-type", "text/plain", "--subject", "s"];
    done(&gateway, &plain, "");
    let read = done(&gateway, &["read", "--json"], "");
    assert!(read.contains(r#""data":{"total": 12.10}"#), "not a digit is lost: {read}");
    assert!(
        read.contains(r#""subject":"s","datacontenttype":"text/plain""#) && read.contains(r#""data":"as it is""#),
        "{read}"
    );
    let shown = done(&gateway, &["read"], "");
    assert!(shown.lines().next().is_some_and(|line| line.starts_with("POSITION  TIME")), "{shown}");
    assert!(shown.contains("o@0") && shown.contains(r#"{"total": 12.10}"#), "{shown}");
    refused(&gateway, &["append", "--type", "t", "--data", "{"], "", 2, "--data is no JSON");
    refused(&gateway, &["append", "--type", "t", "--stream", "o", "--expected", "7"], "", 4, "is at revision 0");
}

#[test]
fn lines_are_appended_in_their_order_however_many_there_are() {
    let gateway = sluice!().start();
    let said = done(&gateway, &["append", "-", "--stream", "s", "--expected", "none", "--json"], &lines(0..2_500));
    assert_eq!(ids(&said).len(), 2_500);
    assert_eq!(gateway.metric("sluice_events_appended_total", &[]), 2_500.0);
    assert_eq!(ids(&done(&gateway, &["read", "--limit", "1800", "--json"], "")), numbers(0..1_800));
    let backward =
        done(&gateway, &["read", "--stream", "s", "--from", "1500", "--backward", "--limit", "3", "--json"], "");
    assert_eq!(ids(&backward), ["1500", "1499", "1498"]);
    assert_eq!(ids(&done(&gateway, &["read", "--stream", "s*", "--type", "other", "--json"], "")), [""; 0]);
    refused(&gateway, &["append", "-"], "{}\n", 4, "/0/id: id: is missing");
    refused(&gateway, &["append", "-"], "{\n", 2, "line 1 is no JSON");
    refused(&gateway, &["append", "nowhere.json"], "", 2, "nowhere.json: cannot be read");
    refused(&gateway, &["read", "--from", "9999"], "", 4, "beyond the last position");
    refused(&gateway, &["read", "--stream", "nobody"], "", 4, "never had an event");
}

#[test]
fn what_is_expected_holds_for_all_of_a_file_and_a_failure_says_how_far_it_came() {
    let gateway = sluice!().start();
    done(&gateway, &["append", "-", "--stream", "s"], &lines(0..1_000));
    done(&gateway, &["append", "--stream", "s", "--type", "t", "--id", "between"], "");
    // The first thousand are there already, and another event stands behind them.
    let expecting = |expected| ["append", "-", "--stream", "s", "--expected", expected];
    refused(&gateway, &expecting("none"), &lines(0..1_500), 4, "expected at revision 999, and is at revision 1000");
    let told = "1000 events before it are appended: the last, 999 is at s@999, position 1000";
    refused(&gateway, &expecting("none"), &lines(0..1_500), 4, told);
    for expected in ["exists", "any"] {
        done(&gateway, &expecting(expected), &lines(0..1_500));
    }
    assert_eq!(gateway.metric("sluice_events_appended_total", &[]), 1_501.0);
}

/// One that runs on until it has seen enough.
struct Tail {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Tail {
    fn start(gateway: &Sluice, args: &[&str]) -> Self {
        let mut child = command(gateway.control_address(), args).spawn().expect("the binary is built");
        let stdout = BufReader::new(child.stdout.take().expect("piped above"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    fn ids(&self, count: usize) -> Vec<String> {
        let line = |_| self.lines.recv_timeout(DEADLINE).expect("another event");
        let event = |line: String| serde_json::from_str::<Value>(&line).expect("JSON");
        (0..count).map(line).map(|line| text(&event(line)["id"])).collect()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn tail_goes_on_behind_what_it_saw_last_when_the_gateway_is_back() {
    let folder = TempDir::new().expect("a temporary folder");
    let mut gateway = sluice!().directory(folder.path()).start();
    let address = gateway.control_address();
    done(&gateway, &["append", "-"], &lines(0..20));
    let mut tail = Tail::start(&gateway, &["tail", "--after", "0", "--limit", "60", "--json"]);
    assert_eq!(tail.ids(20), numbers(0..20));
    done(&gateway, &["append", "-"], &lines(20..30));
    assert_eq!(tail.ids(10), numbers(20..30));
    gateway.kill();
    let _held = HeldPort::of(address);
    let again = sluice!().config(format!("[control]\naddress = \"{address}\"")).directory(folder.path());
    let gateway = again.start();
    done(&gateway, &["append", "-"], &lines(30..70));
    assert_eq!(tail.ids(30), numbers(30..60));
    let status = wait_for("tail's end", DEADLINE, || tail.child.try_wait().expect("a child can be waited for"));
    assert!(status.success(), "it ends after as many as were asked for");
    refused(&gateway, &["tail", "--after", "71"], "", 4, "?after: 71 is beyond the last position, 70");
}
