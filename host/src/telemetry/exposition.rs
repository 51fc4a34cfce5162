//! All metrics as text, in the OpenMetrics format that Prometheus scrapes.

use std::{collections::BTreeMap, fmt, sync::Arc, time::UNIX_EPOCH};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, text},
    registry::{Registry, Unit},
};

use super::{
    page::Page,
    process::ProcessFigures,
    registry::{
        EndpointKey, EventGauges, Gauges, GroupGauges, HandlerGauges, Metrics, PluginKey, RegistryGauges, SourceGauges,
        TransactionGauges,
    },
    totals::{EndpointTotals, PluginTotals, RouteTotals},
};
use crate::model::Outcome;

/// Of what [`exposition`] returns.
pub const EXPOSITION_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything counted so far, as `/metrics` shows it.
pub fn exposition(metrics: &Arc<Metrics>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Arc::clone(metrics)));
    let mut text = String::new();
    text::encode(&mut text, &registry).expect("writing to a string does not fail");
    text
}

/// The label value of all series beyond a table's bound.
const OVERFLOW: &str = "(other)";

/// Bounds of the exposed buckets as powers of two, coarser than what is kept: a route's latency from 128 µs to
/// 34 s, an attempt's (of which there are many series) from 256 µs to 17 s, a pick from 64 ns to its deadline
/// of 1 ms, an adoption from 4 µs to 4 ms.
const ROUTE_POWERS: [u32; 19] = [7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25];
const ATTEMPT_POWERS: [u32; 9] = [8, 10, 12, 14, 16, 18, 20, 22, 24];
const PICK_POWERS: [u32; 15] = [6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20];
const ADOPTION_POWERS: [u32; 11] = [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

const US_PER_SECOND: f64 = 1e6;
const NS_PER_SECOND: f64 = 1e9;

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let mut page = Page(&mut encoder);
        let (mut routes, mut endpoints, mut plugins) = {
            let tables = self.tables();
            (tables.routes.totals(), tables.endpoints.totals(), tables.plugins.totals())
        };
        routes.sort_by(|a, b| a.0.cmp(&b.0));
        endpoints.sort_by(|a, b| a.0.cmp(&b.0));
        plugins.sort_by(|a, b| a.0.cmp(&b.0));
        encode_routes(&mut page, &routes)?;
        encode_endpoints(&mut page, &endpoints)?;
        encode_plugins(&mut page, &plugins)?;
        let gauges = self.gauges();
        encode_gauges(&mut page, &gauges)?;
        encode_registry(&mut page, &gauges.registry)?;
        encode_transactions(&mut page, &gauges.transactions)?;
        encode_events(&mut page, &gauges.events)?;
        encode_handlers(&mut page, &gauges.handlers)?;
        encode_groups(&mut page, &gauges.groups)?;
        encode_workers(&mut page, self)?;
        encode_control(&mut page, self)?;
        encode_process(&mut page, self)
    }
}

fn encode_routes(page: &mut Page, routes: &[(Option<Box<str>>, RouteTotals)]) -> fmt::Result {
    const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
    let rows: Vec<_> =
        routes.iter().map(|(key, total)| ([("route", key.as_deref().unwrap_or(OVERFLOW))], total)).collect();
    let by_class = rows.iter().flat_map(|([route], total)| {
        let answered = CLASSES.into_iter().zip(total.responses).filter(|(_, count)| *count > 0);
        answered.map(move |(class, count)| ([*route, ("status_class", class)], count))
    });
    page.counter("sluice_requests", "Requests answered.", by_class)?;
    page.histogram(
        "sluice_request_duration",
        "From a request's head to its response's head, retries included.",
        (&ROUTE_POWERS, US_PER_SECOND),
        rows.iter().map(|(labels, total)| (*labels, &total.latency)),
    )?;
    let each = |value: fn(&RouteTotals) -> u64| rows.iter().map(move |(labels, total)| (*labels, value(total)));
    page.counter("sluice_request_retries", "Second and later attempts.", each(|total| total.retries))?;
    page.counter(
        "sluice_gateway_errors",
        "Requests that the gateway itself answered with an error.",
        each(|total| total.gateway_errors),
    )
}

fn encode_endpoints(page: &mut Page, endpoints: &[(Option<EndpointKey>, EndpointTotals)]) -> fmt::Result {
    let rows: Vec<_> = endpoints
        .iter()
        .map(|(key, total)| {
            let (service, endpoint) = match key {
                Some(key) => (key.service.as_str(), &*key.endpoint),
                None => (OVERFLOW, OVERFLOW),
            };
            ([("service", service), ("endpoint", endpoint)], total)
        })
        .collect();
    let by_outcome = rows.iter().flat_map(|([service, endpoint], total)| {
        let ended = Outcome::ALL.into_iter().zip(total.outcomes).filter(|(_, count)| *count > 0);
        ended.map(move |(outcome, count)| ([*service, *endpoint, ("outcome", outcome.as_str())], count))
    });
    page.counter("sluice_attempts", "Attempts at an endpoint that ended.", by_outcome)?;
    page.histogram(
        "sluice_attempt_first_byte",
        "From sending a request to an endpoint to its response's head.",
        (&ATTEMPT_POWERS, US_PER_SECOND),
        rows.iter().map(|(labels, total)| (*labels, &total.first_byte)),
    )?;
    page.counter(
        "sluice_endpoint_connects",
        "Connections opened to an endpoint.",
        rows.iter().map(|(labels, total)| (*labels, total.connects)),
    )
}

fn encode_plugins(page: &mut Page, plugins: &[(Option<PluginKey>, PluginTotals)]) -> fmt::Result {
    let versions: Vec<_> = plugins.iter().map(|(key, _)| key.as_ref().map(|key| key.version.to_string())).collect();
    let rows: Vec<_> = plugins
        .iter()
        .zip(&versions)
        .map(|((key, total), version)| {
            let (service, plugin) = match key {
                Some(key) => (key.service.as_str(), key.plugin.as_str()),
                None => (OVERFLOW, OVERFLOW),
            };
            let version = version.as_deref().unwrap_or(OVERFLOW);
            ([("service", service), ("plugin", plugin), ("version", version)], total)
        })
        .collect();
    let each = |value: fn(&PluginTotals) -> u64| rows.iter().map(move |(labels, total)| (*labels, value(total)));
    page.counter("sluice_plugin_calls", "Calls of a plugin's pick.", each(|total| total.picks))?;
    page.counter(
        "sluice_plugin_decisions",
        "Calls of a plugin's decide, for failed attempts.",
        each(|total| total.decisions),
    )?;
    page.histogram(
        "sluice_plugin_call_duration",
        "Time of a pick; every 64th is measured.",
        (&PICK_POWERS, NS_PER_SECOND),
        rows.iter().map(|(labels, total)| (*labels, &total.pick_ns)),
    )?;
    page.counter("sluice_plugin_traps", "Calls that ended in a trap.", each(|total| total.traps))?;
    page.counter(
        "sluice_plugin_deadline_overruns",
        "Calls stopped because they took more CPU time than allowed.",
        each(|total| total.deadline_overruns),
    )?;
    page.counter(
        "sluice_plugin_memory_overruns",
        "Calls stopped because they wanted more memory than allowed.",
        each(|total| total.memory_overruns),
    )?;
    page.counter(
        "sluice_plugin_invalid_answers",
        "Answers that break a rule of the interface.",
        each(|total| total.invalid_answers),
    )?;
    page.counter(
        "sluice_plugin_fallbacks",
        "Picks and decisions made natively in a plugin's place.",
        each(|total| total.fallbacks),
    )?;
    page.counter(
        "sluice_plugin_attempts",
        "Attempts at endpoints that a plugin picked.",
        each(|total| total.attempts),
    )?;
    page.counter(
        "sluice_plugin_attempt_failures",
        "Attempts at endpoints that a plugin picked, and that failed.",
        each(|total| total.failures),
    )?;
    page.histogram(
        "sluice_plugin_attempt_duration",
        "Latency of the attempts that a plugin picked.",
        (&ATTEMPT_POWERS, US_PER_SECOND),
        rows.iter().map(|(labels, total)| (*labels, &total.latency)),
    )
}

fn encode_gauges(page: &mut Page, gauges: &Gauges) -> fmt::Result {
    let endpoints = || {
        gauges
            .endpoints
            .iter()
            .map(|gauge| ([("service", gauge.service.as_str()), ("endpoint", &*gauge.endpoint)], gauge))
    };
    page.gauge(
        "sluice_endpoint_in_flight",
        "Requests to an endpoint that have not ended.",
        endpoints().map(|(labels, gauge)| (labels, f64::from(gauge.in_flight))),
    )?;
    page.gauge(
        "sluice_endpoint_available",
        "1 while an endpoint may get traffic.",
        endpoints().map(|(labels, gauge)| (labels, f64::from(u8::from(gauge.available)))),
    )?;
    page.counter(
        "sluice_endpoint_ejections",
        "Times that an endpoint was taken out of traffic by the failover policy.",
        endpoints().map(|(labels, gauge)| (labels, u64::from(gauge.ejections))),
    )?;
    page.gauge(
        "sluice_endpoint_ejected",
        "1 while an endpoint is ejected or probed.",
        endpoints().filter_map(|([service, endpoint], gauge)| {
            let reason = gauge.ejected.as_deref()?;
            Some(([service, endpoint, ("reason", reason)], 1.0))
        }),
    )?;
    encode_failover(page, gauges)?;
    let versions: Vec<_> = gauges.plugins.iter().map(|gauge| gauge.version.to_string()).collect();
    let plugins = || {
        let named = gauges.plugins.iter().zip(&versions);
        named.map(|(gauge, version)| ([("plugin", gauge.plugin.as_str()), ("version", version.as_str())], gauge))
    };
    page.gauge(
        "sluice_plugin_live_instances",
        "Instances of a plugin version alive now.",
        plugins().map(|(labels, gauge)| (labels, gauge.live_instances as f64)),
    )?;
    page.gauge_with_unit(
        "sluice_plugin_memory",
        "Linear memory of all live instances of a plugin version.",
        Unit::Bytes,
        plugins().map(|(labels, gauge)| (labels, gauge.memory_bytes as f64)),
    )?;
    encode_sources(page, &gauges.sources)?;
    let workers: Vec<_> = (0..gauges.connections.len()).map(|worker| worker.to_string()).collect();
    page.gauge(
        "sluice_connections",
        "Client connections open now.",
        workers.iter().zip(&gauges.connections).map(|(worker, open)| ([("worker", worker.as_str())], *open as f64)),
    )?;
    page.gauge("sluice_generation", "Grows with each change of the gateway's state.", [([], gauges.generation as f64)])
}

fn encode_failover(page: &mut Page, gauges: &Gauges) -> fmt::Result {
    let events = gauges.failover.iter().flat_map(|gauge| {
        gauge.events.iter().map(|(event, count)| ([("service", gauge.service.as_str()), ("event", *event)], *count))
    });
    page.counter("sluice_failover", "What failover has done, by event.", events)?;
    page.gauge(
        "sluice_requests_waiting",
        "Requests that wait for a circuit limit.",
        gauges.failover.iter().map(|gauge| ([("service", gauge.service.as_str())], f64::from(gauge.waiting))),
    )?;
    page.counter(
        "sluice_health_batches_dropped",
        "Batches of completions that health policies never saw.",
        [([], gauges.health_batches_dropped)],
    )
}

fn encode_registry(page: &mut Page, registry: &RegistryGauges) -> fmt::Result {
    let services = [([], registry.services as f64)];
    page.gauge("sluice_registry_services", "Services that have an instance registered.", services)?;
    page.gauge(
        "sluice_registry_instances",
        "Registered instances.",
        registry.instances.iter().map(|(status, count)| ([("status", *status)], *count as f64)),
    )?;
    page.gauge(
        "sluice_registry_held_leases",
        "Leases that ran out with many others at once: their instances stay as they were.",
        registry.held.iter().map(|(service, count)| ([("service", service.as_str())], *count as f64)),
    )?;
    let waiting = [([], registry.waiting as f64)];
    page.gauge("sluice_registry_waiting_queries", "Requests that wait for a change of the registry.", waiting)?;
    let heartbeats = [([], registry.heartbeats)];
    page.counter("sluice_registry_heartbeats", "What instances said of themselves.", heartbeats)?;
    page.counter(
        "sluice_registry_commits",
        "Changes of the registry made durable together, by what became of them.",
        registry.commits.iter().map(|(result, count)| ([("result", *result)], *count)),
    )
}

fn encode_transactions(page: &mut Page, transactions: &TransactionGauges) -> fmt::Result {
    let TransactionGauges { live, begun, ended, hazards, calls, commits } = transactions;
    page.gauge("sluice_transactions_live", "Transactions that have not ended.", [([], *live as f64)])?;
    page.counter("sluice_transactions_begun", "Transactions begun.", [([], *begun)])?;
    page.counter(
        "sluice_transactions",
        "Transactions that ended, by how.",
        ended.iter().map(|(outcome, count)| ([("outcome", *outcome)], *count)),
    )?;
    page.counter("sluice_transaction_hazards", "Times that a transaction stopped in hazard.", [([], *hazards)])?;
    page.counter(
        "sluice_transaction_calls",
        "Calls to participants, by what was answered.",
        calls.iter().map(|(answer, count)| ([("answer", *answer)], *count)),
    )?;
    page.counter("sluice_transaction_commits", "Changes of transactions written to the store.", [([], *commits)])
}

fn encode_handlers(page: &mut Page, handlers: &[HandlerGauges]) -> fmt::Result {
    let each = |of: fn(&HandlerGauges) -> u64| {
        handlers.iter().map(move |handler| ([("handler", handler.handler.as_str())], of(handler)))
    };
    let gauge = |of: fn(&HandlerGauges) -> u64| each(of).map(|(labels, value)| (labels, value as f64));
    page.gauge("sluice_handler_lag_events", "Events that a handler has not looked at.", gauge(|of| of.lag))?;
    page.gauge("sluice_handler_handled_events", "Events that the state in use was made of.", gauge(|of| of.handled))?;
    page.gauge("sluice_handler_parked_events", "Events that a handler did not take.", gauge(|of| of.parked))?;
    page.gauge("sluice_handler_waiting_calls", "Calls that events caused, to be made.", gauge(|of| of.calls_waiting))?;
    page.gauge("sluice_handler_parked_calls", "Calls that failed too often.", gauge(|of| of.calls_parked))?;
    page.counter("sluice_handler_calls", "Calls that were answered well.", each(|of| of.calls_made))?;
    page.counter("sluice_handler_faults", "Calls of a handler that did not come back.", each(|of| of.faults))?;
    let replays = handlers.iter().filter_map(|of| Some(([("handler", of.handler.as_str())], of.replayed? as f64)));
    page.gauge("sluice_handler_replayed_position", "Where a state that is to take over has come to.", replays)
}

fn encode_groups(page: &mut Page, groups: &[GroupGauges]) -> fmt::Result {
    let each =
        |of: fn(&GroupGauges) -> u64| groups.iter().map(move |group| ([("group", group.group.as_str())], of(group)));
    let gauge = |of: fn(&GroupGauges) -> u64| each(of).map(|(labels, value)| (labels, value as f64));
    page.gauge("sluice_group_lag_events", "Events that are not settled, or not looked at.", gauge(|of| of.lag))?;
    page.gauge("sluice_group_in_flight_events", "Events that consumers have.", gauge(|of| of.in_flight as u64))?;
    page.gauge("sluice_group_parked_events", "Events that were put aside.", gauge(|of| of.parked))?;
    page.counter("sluice_group_delivered", "Deliveries to consumers.", each(|of| of.delivered))?;
    let settled = groups.iter().flat_map(|group| {
        group.settled.iter().map(|(how, count)| ([("group", group.group.as_str()), ("how", *how)], *count))
    });
    page.counter("sluice_group_settled", "What became of deliveries.", settled)
}

fn encode_events(page: &mut Page, events: &EventGauges) -> fmt::Result {
    let EventGauges { head, appended, subscribers } = events;
    page.gauge("sluice_events_head", "The last position of the order of events.", [([], *head as f64)])?;
    page.counter("sluice_events_appended", "Events made durable.", [([], *appended)])?;
    page.gauge("sluice_event_subscribers", "Who follows the events over HTTP.", [([], *subscribers as f64)])
}

fn encode_workers(page: &mut Page, metrics: &Metrics) -> fmt::Result {
    let workers = metrics.workers();
    let numbers: Vec<_> = workers.iter().map(|(number, _)| number.to_string()).collect();
    page.counter(
        "sluice_connections_accepted",
        "Client connections accepted.",
        numbers.iter().zip(&workers).map(|(number, (_, cells))| ([("worker", number.as_str())], cells.accepted.get())),
    )?;
    let mut by_reason = BTreeMap::<&str, u64>::new();
    for (reason, count) in workers.iter().flat_map(|(_, cells)| cells.refusals()) {
        *by_reason.entry(reason).or_default() += count;
    }
    page.counter(
        "sluice_requests_refused",
        "Requests refused before routing, by what was wrong with them.",
        by_reason.into_iter().map(|(reason, count)| ([("reason", reason)], count)),
    )
}

fn encode_sources(page: &mut Page, sources: &[SourceGauges]) -> fmt::Result {
    let rows = |value: fn(&SourceGauges) -> u64| {
        sources.iter().map(move |source| {
            ([("service", source.service.as_str()), ("plugin", source.plugin.as_str())], value(source))
        })
    };
    page.counter("sluice_discovery_answers", "Answers of sources of endpoints.", rows(|source| source.answers))?;
    page.counter("sluice_discovery_errors", "Failures of sources of endpoints.", rows(|source| source.errors))?;
    page.counter(
        "sluice_discovery_not_granted",
        "Things outside that a source asked for and may not reach.",
        rows(|source| source.refusals),
    )?;
    page.gauge(
        "sluice_discovery_held_back",
        "1 while a membership that loses too much at once is not in force.",
        rows(|source| u64::from(source.held_back)).map(|(labels, held)| (labels, held as f64)),
    )
}

fn encode_control(page: &mut Page, metrics: &Metrics) -> fmt::Result {
    page.histogram(
        "sluice_adoption_gap",
        "CPU time that a worker spent away from requests to adopt a new state.",
        (&ADOPTION_POWERS, US_PER_SECOND),
        [([], &metrics.adoption_gap())],
    )?;
    page.counter(
        "sluice_changes",
        "Changes of the gateway's state, by what became of them.",
        metrics.changes().map(|(change, count)| ([("result", change.as_str())], count)),
    )?;
    let log = metrics.access_log();
    page.counter(
        "sluice_access_log_lines",
        "Access-log lines, by what became of them.",
        [([("result", "written")], log.written.get()), ([("result", "dropped")], log.dropped.get())],
    )
}

fn encode_process(page: &mut Page, metrics: &Metrics) -> fmt::Result {
    let process = ProcessFigures::read();
    let started = metrics.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let one = |value: Option<u64>| value.map(|value| ([], value as f64));
    page.float_counter("process_cpu", "CPU time, user and system.", Unit::Seconds, process.cpu_seconds)?;
    page.gauge_with_unit("process_resident_memory", "Memory in RAM.", Unit::Bytes, one(process.resident_bytes))?;
    page.gauge_with_unit(
        "process_start_time",
        "When the process started, since 1970.",
        Unit::Seconds,
        [([], started.as_secs_f64())],
    )?;
    page.gauge("process_open_fds", "Open file descriptors.", one(process.open_files))?;
    page.gauge("process_threads", "Threads.", one(process.threads))?;
    page.gauge("sluice_build_info", "Always 1.", [([("version", env!("CARGO_PKG_VERSION"))], 1.0)])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        model::VersionId,
        telemetry::{
            Change, EndpointGauges, EventGauges, FailoverGauges, Gauges, GroupGauges, HandlerGauges, PluginGauges,
            UNROUTED,
        },
    };

    fn counted() -> Arc<Metrics> {
        let metrics = Metrics::new();
        let service = "orders".parse().expect("a right name");
        let plugin = "random".parse().expect("a right name");
        let version = VersionId::of(b"");
        for worker in 0..2 {
            let route = metrics.route(worker, "/a\"b/");
            route.responses[1].add(3);
            route.latency.record_us(1_000);
            metrics.route(worker, UNROUTED).responses[3].add(1);
            metrics.endpoint(worker, &service, "[::1]:80").outcomes[5].add(2);
            metrics.plugin(worker, &service, &plugin, version).pick_ns.record_ns(300);
            metrics.worker(worker, &["bare-lf"]).refused(0);
        }
        metrics.adopted(Duration::from_micros(40));
        metrics.changed(Change::Withdrawn);
        metrics.set_gauges(move || Gauges {
            connections: vec![4, 5],
            generation: 9,
            endpoints: vec![EndpointGauges {
                service: "orders".parse().expect("a right name"),
                endpoint: "[::1]:80".to_owned(),
                in_flight: 2,
                available: true,
                ejections: 3,
                ejected: Some("five failures".to_owned()),
            }],
            failover: vec![FailoverGauges {
                service: "orders".parse().expect("a right name"),
                events: vec![("retries", 8)],
                waiting: 6,
            }],
            health_batches_dropped: 1,
            plugins: vec![PluginGauges { plugin: plugin.clone(), version, live_instances: 2, memory_bytes: 131_072 }],
            sources: vec![SourceGauges {
                service: "orders".parse().expect("a right name"),
                plugin: "consul".parse().expect("a right name"),
                answers: 3,
                errors: 2,
                refusals: 1,
                held_back: true,
            }],
            registry: RegistryGauges { held: vec![("orders".to_owned(), 7)], ..RegistryGauges::default() },
            transactions: TransactionGauges {
                live: 3,
                ended: [("succeeded", 5), ("failed", 1), ("stopped", 0)],
                ..TransactionGauges::default()
            },
            events: EventGauges { head: 9, appended: 4, subscribers: 2 },
            handlers: vec![HandlerGauges {
                handler: "orders".parse().expect("a right name"),
                lag: 3,
                handled: 6,
                parked: 1,
                calls_waiting: 5,
                calls_parked: 0,
                calls_made: 8,
                faults: 2,
                replayed: None,
            }],
            groups: vec![GroupGauges {
                group: "billing".parse().expect("a right name"),
                lag: 4,
                in_flight: 2,
                parked: 1,
                delivered: 9,
                settled: [("acknowledged", 5), ("retried", 1), ("parked", 1), ("timed-out", 0)],
            }],
        });
        metrics
    }

    #[test]
    fn workers_are_summed_and_every_label_is_there() {
        let text = exposition(&counted());
        for line in [
            r#"sluice_requests_total{route="/a\"b/",status_class="2xx"} 6"#,
            r#"sluice_requests_total{route="(unrouted)",status_class="4xx"} 2"#,
            r#"sluice_request_duration_seconds_count{route="/a\"b/"} 2"#,
            r#"sluice_request_duration_seconds_sum{route="/a\"b/"} 0.002"#,
            r#"sluice_request_duration_seconds_bucket{le="0.001024",route="/a\"b/"} 2"#,
            r#"sluice_request_duration_seconds_bucket{le="0.000512",route="/a\"b/"} 0"#,
            r#"sluice_request_duration_seconds_bucket{le="+Inf",route="/a\"b/"} 2"#,
            r#"sluice_discovery_answers_total{service="orders",plugin="consul"} 3"#,
            r#"sluice_discovery_not_granted_total{service="orders",plugin="consul"} 1"#,
            r#"sluice_attempts_total{service="orders",endpoint="[::1]:80",outcome="connect-failed"} 4"#,
            r#"sluice_plugin_call_duration_seconds_count{service="orders",plugin="random",version="e3b0c44298fc"} 2"#,
            r#"sluice_plugin_memory_bytes{plugin="random",version="e3b0c44298fc"} 131072.0"#,
            r#"sluice_endpoint_in_flight{service="orders",endpoint="[::1]:80"} 2.0"#,
            r#"sluice_connections{worker="1"} 5.0"#,
            r#"sluice_requests_refused_total{reason="bare-lf"} 2"#,
            r#"sluice_changes_total{result="withdrawn"} 1"#,
            r#"sluice_endpoint_ejections_total{service="orders",endpoint="[::1]:80"} 3"#,
            r#"sluice_endpoint_ejected{service="orders",endpoint="[::1]:80",reason="five failures"} 1.0"#,
            r#"sluice_failover_total{service="orders",event="retries"} 8"#,
            r#"sluice_requests_waiting{service="orders"} 6.0"#,
            "sluice_health_batches_dropped_total{} 1",
            "sluice_adoption_gap_seconds_count 1",
            "sluice_generation 9.0",
            r#"sluice_registry_held_leases{service="orders"} 7.0"#,
            "sluice_transactions_live 3.0",
            r#"sluice_transactions_total{outcome="succeeded"} 5"#,
            "sluice_events_head 9.0",
            "sluice_event_subscribers 2.0",
            r#"sluice_handler_lag_events{handler="orders"} 3.0"#,
            r#"sluice_handler_faults_total{handler="orders"} 2"#,
            r#"sluice_group_lag_events{group="billing"} 4.0"#,
            r#"sluice_group_settled_total{group="billing",how="acknowledged"} 5"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    /// The table in the module's documentation is what operators are pointed to.
    #[test]
    fn the_table_of_metrics_lists_each_metric_with_its_type() {
        let table: Vec<_> = include_str!("mod.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("//! | `"))
            .map(|line| {
                let mut columns = line.split(" | ");
                let name = columns.next().expect("a first column").trim_end_matches('`');
                (name.strip_suffix("_total").unwrap_or(name).to_owned(), columns.next().expect("a type").to_owned())
            })
            .collect();
        let text = exposition(&counted());
        let mut exposed: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .filter_map(|line| line.split_once(' '))
            .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
            .collect();
        for metric in &table {
            let found = exposed.iter().position(|exposed| exposed == metric);
            exposed.remove(found.unwrap_or_else(|| panic!("{metric:?} is in the table only")));
        }
        assert!(exposed.is_empty(), "not in the table: {exposed:?}");
    }
}
