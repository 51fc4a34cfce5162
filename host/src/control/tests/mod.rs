//! The control plane with a real gateway, real plugins and real sockets, in one process.

mod access;
mod canaries;
mod changes;
mod guests;
mod membership;
mod own_calls;
mod restarts;
mod supervision;
mod uploads;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use sluice_harness::{Client, Origin};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::run::{RunError, Running, start};
use crate::{config, model::VersionId};

/// A folder with a configuration and its plugins, and the gateway that was started from it.
struct Testbed {
    dir: TempDir,
    runtime: Runtime,
    running: Option<Running>,
    origins: Vec<Origin>,
}

impl Testbed {
    /// Two origins `a` and `b` behind the service `orders`, whose balancer is the plugin `own`, from a file.
    fn start(component: &[u8]) -> Self {
        let mut bed = Self::prepare(component);
        bed.run().expect("the gateway starts");
        bed
    }

    fn prepare(component: &[u8]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let origins = vec![Origin::start("a"), Origin::start("b")];
        let bed = Self { dir, runtime: runtime.expect("a runtime"), running: None, origins };
        std::fs::write(bed.path("own.wasm"), component).expect("a writable folder");
        bed.write_config(&bed.config(""));
        bed
    }

    /// The usual configuration, and more for the service `orders`.
    fn config(&self, more: &str) -> String {
        let addresses: Vec<_> =
            self.origins.iter().map(|origin| format!("{:?}", origin.address().to_string())).collect();
        format!(
            r#"
            [gateway]
            workers = 2
            data_dir = {:?}
            [[listener]]
            address = "127.0.0.1:0"
            [control]
            address = "127.0.0.1:0"
            [plugins.own]
            path = {:?}
            [services.orders]
            endpoints = [{}]
            balancer = {{ plugin = "own" }}
            {more}
            [[route]]
            path = "/"
            service = "orders"
            "#,
            self.path("data"),
            self.path("own.wasm"),
            addresses.join(", ")
        )
    }

    fn write_config(&self, text: &str) {
        std::fs::write(self.path("sluice.toml"), text).expect("a writable folder");
    }

    fn run(&mut self) -> Result<(), RunError> {
        let path = self.path("sluice.toml");
        let known = super::known_plugins(&self.path("data"));
        let config = config::load(&path, &known).unwrap_or_else(|errors| panic!("{errors}"));
        let plugins = crate::plugin::Runtime::new(None).expect("the engine starts");
        self.running = Some(self.runtime.block_on(start(&path, config, plugins))?);
        Ok(())
    }

    fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            self.runtime.block_on(running.end());
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("it was started")
    }

    fn control_address(&self) -> SocketAddr {
        self.running().control.address
    }

    fn control(&self) -> Client {
        Client::to(self.control_address())
    }

    fn gateway(&self) -> Client {
        Client::to(self.running().control.bound()[0])
    }

    /// Which origin answers: all the same in `count` requests, each on a connection of its own, so on any worker.
    #[track_caller]
    fn all_go_to(&self, origin: &str, count: usize) {
        for _ in 0..count {
            assert_eq!(self.gateway().get("/").expect(200).instance(), origin);
        }
    }

    fn service(&self) -> Value {
        self.control().get("/services/orders").expect(200).json()
    }

    /// The service's instances that pick endpoints for clients: those of the two workers with listeners.
    fn balancers(&self) -> Vec<Value> {
        let instances = self.service()["instances"].as_array().expect("a list").clone();
        let picks =
            |one: &Value| one["decides"] == "balancer" && one["worker"].as_u64().is_some_and(|worker| worker < 2);
        instances.into_iter().filter(picks).collect()
    }

    fn plugin(&self) -> Value {
        self.control().get("/plugins/own").expect(200).json()
    }

    #[track_caller]
    fn push(&self, component: &[u8]) -> Value {
        self.control().put_component("/plugins/own", component).expect(200).json()
    }

    /// Entries of one kind, the latest first.
    fn history(&self, kind: &str) -> Vec<Value> {
        let page = self.control().get("/history").expect(200).json();
        let entries = page["entries"].as_array().cloned().unwrap_or_default();
        entries.into_iter().filter(|entry| entry["kind"] == kind).collect()
    }

    fn start_canary(&self, version: VersionId, percent: u8) {
        let body = json!({"version": version, "percent": percent});
        self.control().post("/plugins/own/canary", &body).expect(200);
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        self.stop();
    }
}

fn files_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}
