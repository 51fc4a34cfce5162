//! What holds where the configuration says nothing.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};

use crate::model::{AccessLog, CircuitLimits, EjectionLimits, Limits, MassExpiry, Percent, RetryLimits};

pub const DATA_DIR: &str = "sluice-data";
/// Beside the gateway's own ports and free of well-known services.
pub const CONTROL_ADDRESS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9180));
/// As Consul's, so that names configured for it keep working.
pub const DNS_DOMAIN: &str = "consul";
/// As Consul's: an answer is right at the moment it is given, and nobody shall use it for longer.
pub const DNS_TTL: Duration = Duration::ZERO;
/// As Kubernetes' `terminationGracePeriodSeconds`, after which it would kill the process anyway.
pub const GRACE_PERIOD: Duration = Duration::from_secs(30);
/// Off, as it costs more than all the rest of a small request.
pub const ACCESS_LOG: AccessLog = AccessLog::Off;

/// Power of two choices: needs no tuning and does well with any load (reference/balancing-and-failover.md).
pub const BALANCER: &str = "least-request";
/// Envoy's outlier detection and gRPC's retry rules.
pub const FAILOVER: &str = "standard";
/// Of services without endpoints: the gateway's own registry.
pub const DISCOVERY: &str = "registry";
/// As Envoy's `route.timeout`.
pub const TIMEOUT: Duration = Duration::from_secs(15);
/// As nginx' `proxy_read_timeout`.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// A connection within a data centre that takes longer lost at least one SYN (retransmitted after 1 s).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// As HAProxy's `inter`, `fall` and `rise`: a dead endpoint is out of traffic after 4 to 6 s.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(2);
pub const CHECK_FALL: u32 = 3;
pub const CHECK_RISE: u32 = 2;
/// Of one check, or the interval where that is shorter: an endpoint that needs a second to say that it is well is not.
pub const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// So that checks which fell together drift apart within some ten intervals.
pub fn check_jitter() -> Percent {
    Percent::new(10).expect("at most 100")
}

/// Of a plugin instance: a stock balancer takes 1 to 2 MiB at 1,000 endpoints.
pub const PLUGIN_MEMORY_BYTES_MAX: usize = 16 * 1024 * 1024;

impl Default for MassExpiry {
    fn default() -> Self {
        Self {
            // As what is held back of a membership that discovery brings; Eureka keeps its leases from 15 % on.
            percent: Percent::new(50).expect("at most 100"),
            // A partition that lasts longer is one that somebody has noticed.
            hold: Duration::from_secs(10 * 60),
        }
    }
}

impl Default for RetryLimits {
    fn default() -> Self {
        Self {
            // Two endpoints may be lost before a client sees it (nginx's and Envoy's usual number of retries is 1 to 2).
            attempts_max: 3,
            per_try_timeout: None,
            // Finagle's budget: 20 % of the requests, and 10 a second where there are few.
            budget: Percent::new(20).expect("at most 100"),
            budget_min_per_second: 10,
            body_bytes_max: 64 * 1024,
            deadline_header: None,
        }
    }
}

impl Default for EjectionLimits {
    fn default() -> Self {
        Self {
            // Beyond half of the endpoints a service is in panic, and verdicts are not believed any more.
            percent_max: Percent::new(50).expect("at most 100"),
            // As Envoy's `max_ejection_time`.
            duration_max: Duration::from_secs(5 * 60),
        }
    }
}

impl Default for CircuitLimits {
    fn default() -> Self {
        Self {
            // Envoy's 1,024 surprise whoever has streams that live.
            requests_max: None,
            endpoint_requests_max: None,
            endpoint_connections_max: None,
            pending_max: 0,
            pending_timeout: Duration::from_secs(1),
            adaptive: false,
            retry_after: Duration::from_secs(1),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // As nginx' `large_client_header_buffers` (4 × 8 KiB).
            header_bytes_max: 32 * 1024,
            // As Envoy's and hyper's.
            header_count_max: 100,
            // Slow links need a second; slowloris needs minutes.
            header_read_timeout: Duration::from_secs(10),
            // As nginx' `keepalive_timeout`.
            keep_alive_timeout: Duration::from_secs(75),
            body_read_timeout: Duration::from_secs(30),
            // As nginx' `send_timeout`.
            write_timeout: Duration::from_secs(60),
            body_bytes_max: 4 * 1024 * 1024 * 1024,
            connections_max: 10_000,
            // As nginx' `http2_max_concurrent_streams`.
            h2_streams_max: 128,
        }
    }
}
