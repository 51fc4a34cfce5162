//! What active checks promise.

mod answers;
mod book;
mod life;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::model::{Endpoint, HealthCheck, HostPort, Percent, Probe, Slot};

const SECOND_US: u64 = 1_000_000;

/// Every 2 s, three times and two times in a row, without jitter; 20 s to answer, where a test is not about lateness.
fn check(probe: Probe) -> HealthCheck {
    HealthCheck {
        probe,
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(20),
        fall: 3,
        rise: 2,
        jitter: Percent::new(0).expect("at most 100"),
        port: None,
    }
}

fn endpoint_at(slot: Slot, address: SocketAddr) -> Arc<Endpoint> {
    let label: HostPort = format!("orders-{slot}.internal:{}", address.port()).parse().expect("host and port");
    Endpoint::new("orders".parse().expect("a name"), slot, 7, address, label)
}

fn block_on<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test)
}
