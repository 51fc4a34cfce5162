//! How an instance makes itself known: registered with the gateway while it serves, by the API that Consul's clients
//! speak. Any of those clients would do the same.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use serde_json::json;
use tokio::{
    sync::oneshot,
    task::{JoinHandle, spawn_blocking},
    time::sleep,
};

/// The lease: without a heartbeat for so long, the instance gets no more requests.
const TTL: Duration = Duration::from_secs(5);

/// Three heartbeats in a lease: one may be lost.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(1_600);

/// While the gateway cannot be reached.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// An instance that was killed is forgotten after this; Consul allows no less.
const FORGOTTEN_AFTER: &str = "1m";

/// Of one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// A registration that is kept alive.
#[derive(Debug)]
pub struct Registration {
    stop: oneshot::Sender<()>,
    kept: JoinHandle<()>,
}

#[derive(Debug)]
struct Registry {
    agent: ureq::Agent,
    /// The gateway's control listener: `http://host:port`.
    control: String,
    service: &'static str,
    id: String,
    address: SocketAddr,
}

impl Registration {
    /// Registers as soon as the gateway can be reached, sends heartbeats, and registers again where it is not known
    /// any more.
    pub fn begin(control: String, service: &'static str, id: String, address: SocketAddr) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(CALL_TIMEOUT))
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .into();
        let registry = Arc::new(Registry { agent, control, service, id, address });
        let (stop, stopped) = oneshot::channel();
        Self { stop, kept: tokio::spawn(keep(registry, stopped)) }
    }

    /// Leaves the registry; returns when the gateway knows, or cannot be told.
    pub async fn end(self) {
        // Either is gone only if the task has ended.
        let _ = self.stop.send(());
        let _ = self.kept.await;
    }
}

async fn keep(registry: Arc<Registry>, mut stopped: oneshot::Receiver<()>) {
    let mut known = false;
    loop {
        let beating = {
            let registry = Arc::clone(&registry);
            spawn_blocking(move || if known { registry.beat() } else { registry.register().map(|()| true) })
        };
        let pause = match beating.await.context("the call panicked").flatten() {
            Ok(still_known) => {
                known = still_known;
                if known { HEARTBEAT_INTERVAL } else { Duration::ZERO }
            }
            Err(error) => {
                eprintln!("{}: {error:#}", registry.id);
                RETRY_INTERVAL
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            _ = &mut stopped => break,
        }
    }
    if let Ok(Err(error)) = spawn_blocking(move || registry.deregister()).await {
        eprintln!("not deregistered: {error:#}");
    }
}

impl Registry {
    fn register(&self) -> anyhow::Result<()> {
        let body = json!({
            "Name": self.service,
            "ID": self.id,
            "Address": self.address.ip().to_string(),
            "Port": self.address.port(),
            "Check": {
                "TTL": format!("{}s", TTL.as_secs()),
                "Status": "passing",
                "DeregisterCriticalServiceAfter": FORGOTTEN_AFTER,
            },
        });
        match self.put("agent/service/register", &body.to_string())? {
            (200, _) => Ok(()),
            (status, text) => bail!("cannot register at {}: {status} {text}", self.control),
        }
    }

    /// False: the gateway does not know the instance.
    fn beat(&self) -> anyhow::Result<bool> {
        match self.put(&format!("agent/check/pass/service:{}", self.id), "")? {
            (200, _) => Ok(true),
            (404, _) => Ok(false),
            (status, text) => bail!("no heartbeat at {}: {status} {text}", self.control),
        }
    }

    fn deregister(&self) -> anyhow::Result<()> {
        match self.put(&format!("agent/service/deregister/{}", self.id), "")? {
            (200 | 404, _) => Ok(()),
            (status, text) => bail!("cannot deregister at {}: {status} {text}", self.control),
        }
    }

    fn put(&self, path: &str, body: &str) -> anyhow::Result<(u16, String)> {
        let request = self.agent.put(format!("{}/v1/{path}", self.control)).content_type("application/json");
        let mut answer = request.send(body).with_context(|| format!("{} cannot be reached", self.control))?;
        Ok((answer.status().as_u16(), answer.body_mut().read_to_string()?))
    }
}
