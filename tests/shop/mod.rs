//! The example shop as `make run` starts it, and what its services have kept.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sluice_harness::{Answer, Client, DEADLINE, process, wait_for};
use tempfile::TempDir;

/// What each product's stock is when the shop opens.
pub const STOCK: u64 = 100_000;

/// Of a service whose instances are both gone: ten seconds until they come back, thirty after which an order is undone, and
/// the pauses between the attempts.
pub const OUTAGE_DEADLINE: Duration = Duration::from_secs(90);

/// Until the shop is closed: its seven processes end in turn, each within ten seconds.
const CLOSING_DEADLINE: Duration = DEADLINE.saturating_mul(3);

/// A shop that is open until it is dropped.
pub struct Shop {
    up: Child,
    pub gateway: Client,
    pub control: Client,
    /// Everything that `make run` says.
    pub said: Vec<String>,
    _data: TempDir,
}

/// What each service has kept.
#[derive(Debug, PartialEq)]
pub struct Ledgers {
    inventory: Value,
    payments: Value,
    orders: Value,
}

impl Shop {
    pub fn open() -> Self {
        let data = TempDir::new().expect("a temporary folder");
        let config = data.path().join("shop.toml");
        // Addresses that are taken are replaced by free ones, and nobody has port 0.
        let text =
            fs::read_to_string(process::workspace_root().join("examples/shop/sluice.toml")).expect("it is there");
        let text = text.replace("127.0.0.1:8080", "127.0.0.1:0").replace("127.0.0.1:9180", "127.0.0.2:0");
        let plugins = process::workspace_root().join("examples/shop/plugins/built");
        assert!(plugins.is_dir(), "there is no {}: make shop-plugins makes it", plugins.display());
        let text = text.replace("plugins/built", &plugins.display().to_string());
        fs::write(&config, text).expect("a temporary folder can be written");
        let mut up = Command::new(env!("CARGO_BIN_EXE_shop-up"))
            .arg("--config")
            .arg(&config)
            .arg("--sluice")
            .arg(sluice())
            .arg("--data")
            .arg(data.path().join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary is built");
        // Shown by the test, and not handed down to whoever reads the tests' output: those who write here are not all the
        // test's own children, and may outlive it.
        let complaints = BufReader::new(up.stderr.take().expect("piped above")).lines().map_while(Result::ok);
        thread::spawn(move || complaints.for_each(|line| eprintln!("{line}")));
        let mut lines = BufReader::new(up.stdout.take().expect("piped above")).lines().map_while(Result::ok);
        let mut said = Vec::new();
        for line in lines.by_ref() {
            let is_last = line.starts_with("Ctrl-C");
            said.push(line);
            if is_last {
                break;
            }
        }
        // Whatever it says later is not waited for, but read, so that it never blocks.
        thread::spawn(move || lines.for_each(drop));
        let (Some(gateway), Some(control)) = (address(&said, "gateway"), address(&said, "control")) else {
            panic!("the shop does not open: {:?}\n{}", end(&mut up), said.join("\n"));
        };
        Self { up, gateway: Client::to(gateway), control: Client::to(control), said, _data: data }
    }

    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        address(&self.said, name)
    }

    pub fn order(&self, protocol: &str, wish: &Value) -> Answer {
        self.gateway.post(&format!("/orders?protocol={protocol}"), wish)
    }

    pub fn ledgers(&self) -> Ledgers {
        let [inventory, payments, orders] =
            ["/inventory/products", "/payments/till", "/orders"].map(|it| self.ledger(it));
        Ledgers { inventory, payments, orders }
    }

    fn ledger(&self, path: &str) -> Value {
        let mut answer = self.gateway.get(path).expect(200).json();
        answer.as_object_mut().expect("an object").remove("instance");
        answer
    }

    pub fn status(&self, gid: &Value) -> String {
        text(&self.control.get(&format!("/transactions/{}", text(gid))).expect(200).json()["status"])
    }

    pub fn transactions(&self, status: &str) -> Vec<Value> {
        let page = self.control.get(&format!("/transactions?limit=1000&status={status}")).expect(200).json();
        assert_eq!(page["next"], Value::Null, "all of them fit into one page");
        page["transactions"].as_array().cloned().expect("a list")
    }

    /// Waits until nothing goes on any more; where something does, all that happened to it is shown.
    pub fn await_ends(&self, deadline: Duration) {
        let open = ["prepared", "submitted", "committing", "aborting"];
        let left = || open.iter().flat_map(|status| self.transactions(status)).collect::<Vec<_>>();
        let begun = Instant::now();
        let left = wait_for("a list of transactions", deadline * 2, || {
            let left = left();
            (left.is_empty() || begun.elapsed() >= deadline).then_some(left)
        });
        let details = |it: &Value| self.control.get(&format!("/transactions/{}", text(&it["gid"]))).text();
        let left: Vec<_> = left.iter().map(details).collect();
        assert!(left.is_empty(), "not ended within {deadline:?}: {left:#?}");
    }

    /// As an instance dies whose machine does.
    pub fn kill(&self, instance: &str) {
        self.try_kill(instance).unwrap_or_else(|| panic!("{instance} is not running"));
    }

    /// None: it is not running.
    pub fn try_kill(&self, instance: &str) -> Option<()> {
        let is_instance = |pid: &Pid| {
            let command = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
            command.split(|byte| *byte == 0).any(|argument| argument == instance.as_bytes())
        };
        let pid = children(&self.up).into_iter().find(is_instance)?;
        // It may have ended since.
        kill_process(pid, Signal::KILL).ok()
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        end(&mut self.up);
    }
}

impl Ledgers {
    pub fn stock(&self, sku: &str) -> u64 {
        number(&self.inventory["products"][sku]["stock"])
    }

    pub fn taken_cents(&self) -> u64 {
        number(&self.payments["taken_cents"])
    }

    /// What was sold, what was paid and what was ordered are the same, and nothing is set aside any more.
    #[track_caller]
    pub fn agree(&self) {
        let products = self.inventory["products"].as_object().expect("products");
        let sold = products.values().map(|it| (STOCK - number(&it["stock"])) * number(&it["price_cents"]));
        assert_eq!(sold.sum::<u64>(), self.taken_cents(), "{self:?}");
        assert_eq!(self.taken_cents(), number(&self.orders["total_cents"]), "{self:?}");
        let held = products.values().map(|it| number(&it["held"])).sum::<u64>();
        let held = (held, number(&self.payments["held_cents"]), number(&self.orders["pending"]));
        assert_eq!(held, (0, 0, 0), "{self:?}");
    }
}

/// The gateway's binary is another package's: whoever builds the workspace has it beside the shop's.
pub fn sluice() -> PathBuf {
    let sluice = Path::new(env!("CARGO_BIN_EXE_shop-up")).with_file_name("sluice");
    assert!(sluice.is_file(), "there is no {}: cargo build --package sluice makes it", sluice.display());
    sluice
}

/// Where something listens, from what `make run` says.
fn address(said: &[String], name: &str) -> Option<SocketAddr> {
    said.iter().find_map(|line| line.trim().strip_prefix(name)?.trim().trim_start_matches("http://").parse().ok())
}

/// Its children end before it does, one after the other. Never panics, as a test that failed may be the reason.
fn end(up: &mut Child) -> Option<ExitStatus> {
    // It may have ended by itself; then there is nobody to tell.
    let _ = kill_process(Pid::from_child(up), Signal::TERM);
    let begun = Instant::now();
    while begun.elapsed() < CLOSING_DEADLINE {
        if let Ok(Some(status)) = up.try_wait() {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(20));
    }
    eprintln!("the shop does not close within {CLOSING_DEADLINE:?}: killed");
    // The services end with their parent, the gateway does not.
    for child in children(up) {
        let _ = kill_process(child, Signal::KILL);
    }
    let _ = up.kill();
    up.wait().ok()
}

/// Of a process that is alive.
fn children(up: &Child) -> Vec<Pid> {
    let up = up.id();
    let children = fs::read_to_string(format!("/proc/{up}/task/{up}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

#[track_caller]
pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}
