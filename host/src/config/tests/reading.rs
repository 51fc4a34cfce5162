//! A right file becomes exactly what it says.

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use http::{HeaderName, HeaderValue, Method};
use serde_json::json;

use super::{read, right_with};
use crate::{
    config::defaults,
    model::{AccessLog, HashOn, HeaderEdits, Limits, Protocol, Weight},
};

/// Everything that this version knows.
const WHOLE: &str = r#"
[gateway]
workers = 2
data_dir = "data"
trusted_proxies = ["10.0.0.0/8", "192.0.2.7", "fd00::/8"]
nameservers = ["10.0.0.2", "[::1]:5353"]
grace_period = "5 s"
access_log = { sample = 0.01 }

[gateway.limits]
header_bytes_max = "16 KiB"
header_count_max = 50
header_read_timeout = "1500 ms"
keep_alive_timeout = "2 min"
body_read_timeout = "20s"
write_timeout = "45 s"
body_bytes_max = "1 GiB"
connections_max = 500
h2_streams_max = 64

[[listener]]
address = "127.0.0.1:8080"

[[listener]]
address = "[::]:0"

[control]
address = "0.0.0.0:9180"
operator_token_file = "operator.token"

[plugins.tenant-affinity]
path = "tenant_affinity.wasm"
sha256 = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
memory_max = "32 MiB"

[plugins.ring-hash]
memory_max = "64 MiB"

[services.orders]
endpoints = ["127.0.0.1:9001", { address = "orders.internal:9002", weight = 2, zone = "b", priority = 1, metadata = { rack = "7" } }]
balancer = { plugin = "tenant-affinity", settings = { choices = 2, ratio = 0.5, names = ["a", "b"], deep = { on = true } } }
timeout = "10 s"
idle_timeout = "30 s"
max_duration = "1 h"
connect_timeout = "250 ms"
protocol = "h2"

[services.orders-next]
endpoints = ["[::1]:9003"]

[[route]]
host = "*.Example.com"
path = "/orders/"
methods = ["GET", "HEAD"]
services = [{ name = "orders", weight = 90 }, { name = "orders-next", weight = 10 }]
strip_prefix = true
decode_slash = true
request_headers = { set = { "X-Env" = "prod" }, remove = ["x-internal"] }
response_headers = { set = { "x-served-by" = "sluice" } }
hash_on = { header = "x-customer" }
expose = ["x-tenant"]

[[route]]
path = "/caf%c3%a9"
service = "orders"
hash_on = "client-address"
"#;

#[test]
fn every_key_arrives_in_the_model() {
    let config = read(WHOLE).unwrap_or_else(|errors| panic!("{errors}"));
    let gateway = &config.gateway;
    assert_eq!(gateway.workers.get(), 2);
    assert_eq!(gateway.data_dir, PathBuf::from("/etc/sluice/data"));
    assert_eq!(
        gateway.trusted_proxies.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.0.0.0/8", "192.0.2.7/32", "fd00::/8"]
    );
    assert_eq!(gateway.nameservers.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.2:53", "[::1]:5353"]);
    assert_eq!(gateway.grace_period, Duration::from_secs(5));
    assert_eq!(gateway.access_log, AccessLog::Sampled(0.01));
    assert_eq!(
        gateway.limits,
        Limits {
            header_bytes_max: 16 << 10,
            header_count_max: 50,
            header_read_timeout: Duration::from_millis(1500),
            keep_alive_timeout: Duration::from_secs(120),
            body_read_timeout: Duration::from_secs(20),
            write_timeout: Duration::from_secs(45),
            body_bytes_max: 1 << 30,
            connections_max: 500,
            h2_streams_max: 64,
        }
    );
    let listeners: Vec<String> = config.listeners.iter().map(|listener| listener.address.to_string()).collect();
    assert_eq!(listeners, ["127.0.0.1:8080", "[::]:0"]);
    assert_eq!(config.control.address.to_string(), "0.0.0.0:9180");
    assert_eq!(config.control.operator_token_file, Some(PathBuf::from("/etc/sluice/operator.token")));
}

#[test]
fn plugins_services_and_policies_arrive_in_the_model() {
    let config = read(WHOLE).unwrap_or_else(|errors| panic!("{errors}"));
    let own = &config.plugins[&"tenant-affinity".parse().unwrap()];
    assert_eq!(own.path, Some(PathBuf::from("/etc/sluice/tenant_affinity.wasm")));
    assert_eq!(own.sha256.map(|digest| digest[31]), Some(0x1f));
    assert_eq!(own.memory_bytes_max, 32 << 20);
    let stock = &config.plugins[&"ring-hash".parse().unwrap()];
    assert_eq!((stock.path.as_ref(), stock.memory_bytes_max), (None, 64 << 20));

    let orders = &config.services[&"orders".parse().unwrap()];
    assert_eq!(orders.endpoints[0].address.to_string(), "127.0.0.1:9001");
    assert_eq!((orders.endpoints[0].weight, orders.endpoints[0].priority), (Weight::ONE, 0));
    let second = &orders.endpoints[1];
    assert_eq!((second.address.to_string().as_str(), second.weight.get()), ("orders.internal:9002", 2));
    assert_eq!((second.zone.as_str(), second.priority), ("b", 1));
    assert_eq!(second.metadata, [("rack".to_owned(), "7".to_owned())]);
    assert_eq!(orders.balancer.plugin.as_str(), "tenant-affinity");
    assert_eq!(
        orders.balancer.settings,
        json!({"choices": 2, "ratio": 0.5, "names": ["a", "b"], "deep": {"on": true}})
    );
    assert_eq!((orders.timeout, orders.idle_timeout), (Duration::from_secs(10), Duration::from_secs(30)));
    assert_eq!(orders.max_duration, Some(Duration::from_secs(3600)));
    assert_eq!((orders.connect_timeout, orders.protocol), (Duration::from_millis(250), Protocol::H2));
}

#[test]
fn routes_arrive_in_the_model() {
    let config = read(WHOLE).unwrap_or_else(|errors| panic!("{errors}"));
    let route = &config.routes[0];
    assert_eq!((route.host.as_deref(), route.path.as_str()), (Some("*.example.com"), "/orders/"));
    assert_eq!(route.methods, [Method::GET, Method::HEAD]);
    let targets: Vec<_> = route.targets.iter().map(|t| (t.service.as_str(), t.weight.get())).collect();
    assert_eq!(targets, [("orders", 90), ("orders-next", 10)]);
    assert!(route.strip_prefix && route.decode_slash);
    assert_eq!(
        route.request_headers,
        HeaderEdits {
            set: vec![(HeaderName::from_static("x-env"), HeaderValue::from_static("prod"))],
            remove: vec![HeaderName::from_static("x-internal")],
        }
    );
    assert_eq!(route.response_headers.set[0].1, "sluice");
    assert_eq!(route.hash_on, Some(HashOn::Header(HeaderName::from_static("x-customer"))));
    assert_eq!(route.expose, [HeaderName::from_static("x-tenant")]);
    let second = &config.routes[1];
    assert_eq!((second.path.as_str(), &second.hash_on), ("/caf%C3%A9", &Some(HashOn::ClientAddress)));
    assert_eq!((second.targets.len(), second.strip_prefix, second.methods.len()), (1, false, 0));
}

#[test]
fn what_is_not_given_has_the_named_default() {
    let config = right_with("");
    assert_eq!(config.gateway.workers, std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN));
    assert_eq!(config.gateway.data_dir, PathBuf::from("/etc/sluice/sluice-data"));
    assert_eq!(config.gateway.access_log, AccessLog::Off);
    assert_eq!(config.gateway.limits, Limits::default());
    assert_eq!(config.control.address, defaults::CONTROL_ADDRESS);
    let orders = &config.services[&"orders".parse().unwrap()];
    assert_eq!((orders.balancer.plugin.as_str(), &orders.balancer.settings), ("least-request", &json!({})));
    assert_eq!((orders.timeout, orders.max_duration), (defaults::TIMEOUT, None));
    assert_eq!(orders.protocol, Protocol::Http1);
}

#[test]
fn absolute_paths_stay_as_they_are() {
    assert_eq!(
        right_with("[gateway]\ndata_dir = \"/var/lib/sluice\"").gateway.data_dir,
        PathBuf::from("/var/lib/sluice")
    );
}
