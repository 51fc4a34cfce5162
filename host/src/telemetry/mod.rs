//! Metrics, access log, traces.
//!
//! Cells are counted by one worker thread each (so an addition is a relaxed load and store, no locked
//! instruction) and summed when `/metrics` is read. A label's cells are the same before and after a swap or a
//! reload, so counts go on.
//!
//! # Metrics
//!
//! | name | type | labels | |
//! | --- | --- | --- | --- |
//! | `sluice_requests_total` | counter | `route`, `status_class` | requests answered |
//! | `sluice_request_duration_seconds` | histogram | `route` | request head to response head, retries included |
//! | `sluice_request_retries_total` | counter | `route` | second and later attempts |
//! | `sluice_gateway_errors_total` | counter | `route` | errors that the gateway itself answered with |
//! | `sluice_attempts_total` | counter | `service`, `endpoint`, `outcome` | attempts that ended |
//! | `sluice_attempt_first_byte_seconds` | histogram | `service`, `endpoint` | request sent to response head |
//! | `sluice_endpoint_connects_total` | counter | `service`, `endpoint` | connections opened |
//! | `sluice_endpoint_in_flight` | gauge | `service`, `endpoint` | requests that have not ended |
//! | `sluice_endpoint_available` | gauge | `service`, `endpoint` | 1 while it may get traffic |
//! | `sluice_endpoint_ejections_total` | counter | `service`, `endpoint` | taken out of traffic by the failover policy |
//! | `sluice_endpoint_ejected` | gauge | `service`, `endpoint`, `reason` | 1 while it is ejected or probed |
//! | `sluice_failover_total` | counter | `service`, `event` | retries, hedges, hedges-won, fall-backs, over-budget, shed, diverted, probes, invalid-verdicts, ejections, readmissions, overruled |
//! | `sluice_requests_waiting` | gauge | `service` | wait for a circuit limit |
//! | `sluice_health_batches_dropped_total` | counter | | completions that health policies never saw |
//! | `sluice_plugin_calls_total` | counter | `service`, `plugin`, `version` | calls of `pick` |
//! | `sluice_plugin_decisions_total` | counter | `service`, `plugin`, `version` | calls of `decide` |
//! | `sluice_plugin_call_duration_seconds` | histogram | `service`, `plugin`, `version` | Elapsed time of every 64th `pick` |
//! | `sluice_plugin_traps_total` | counter | `service`, `plugin`, `version` | calls that trapped |
//! | `sluice_plugin_deadline_overruns_total` | counter | `service`, `plugin`, `version` | calls stopped for their CPU time |
//! | `sluice_plugin_memory_overruns_total` | counter | `service`, `plugin`, `version` | calls stopped for their memory |
//! | `sluice_plugin_invalid_answers_total` | counter | `service`, `plugin`, `version` | answers that break a rule of the WIT |
//! | `sluice_plugin_fallbacks_total` | counter | `service`, `plugin`, `version` | picks and decisions made natively instead |
//! | `sluice_plugin_attempts_total` | counter | `service`, `plugin`, `version` | attempts that it picked |
//! | `sluice_plugin_attempt_failures_total` | counter | `service`, `plugin`, `version` | those of them that failed |
//! | `sluice_plugin_attempt_duration_seconds` | histogram | `service`, `plugin`, `version` | latency of those |
//! | `sluice_plugin_live_instances` | gauge | `plugin`, `version` | instances alive now |
//! | `sluice_plugin_memory_bytes` | gauge | `plugin`, `version` | their linear memory |
//! | `sluice_discovery_answers_total` | counter | `service`, `plugin` | answers of a source of endpoints |
//! | `sluice_discovery_errors_total` | counter | `service`, `plugin` | its failures |
//! | `sluice_discovery_not_granted_total` | counter | `service`, `plugin` | what it asked for and may not reach |
//! | `sluice_discovery_held_back` | gauge | `service`, `plugin` | 1 while a membership that loses too much is not in force |
//! | `sluice_connections` | gauge | `worker` | client connections open now |
//! | `sluice_connections_accepted_total` | counter | `worker` | client connections accepted |
//! | `sluice_requests_refused_total` | counter | `reason` | refused before routing |
//! | `sluice_generation` | gauge | | grows with each change of the gateway's state |
//! | `sluice_adoption_gap_seconds` | histogram | | worker's CPU time to adopt a new state |
//! | `sluice_changes_total` | counter | `result` | applied, refused, rolled-back, withdrawn |
//! | `sluice_access_log_lines_total` | counter | `result` | written, dropped |
//! | `sluice_registry_services` | gauge | | services with an instance registered |
//! | `sluice_registry_instances` | gauge | `status` | passing, warning, critical |
//! | `sluice_registry_held_leases` | gauge | `service` | ran out with many others at once, and so are not believed |
//! | `sluice_registry_waiting_queries` | gauge | | requests that wait for a change |
//! | `sluice_registry_heartbeats_total` | counter | | what instances said of themselves |
//! | `sluice_registry_commits_total` | counter | `result` | durable, failed |
//! | `sluice_transactions_live` | gauge | | distributed transactions that have not ended |
//! | `sluice_transactions_begun_total` | counter | | since the gateway started |
//! | `sluice_transactions_total` | counter | `outcome` | ended: succeeded, failed, stopped |
//! | `sluice_transaction_hazards_total` | counter | | stopped in hazard: an operator has to look |
//! | `sluice_transaction_calls_total` | counter | `answer` | calls to participants: succeeded, refused, unclear |
//! | `sluice_transaction_commits_total` | counter | | changes written to the store |
//! | `sluice_events_head` | gauge | | the last position of the order of events |
//! | `sluice_events_appended_total` | counter | | events made durable since the gateway started |
//! | `sluice_event_subscribers` | gauge | | who follows the events over HTTP |
//! | `sluice_handler_lag_events` | gauge | `handler` | events that it has not looked at |
//! | `sluice_handler_handled_events` | gauge | `handler` | that the state in use was made of |
//! | `sluice_handler_parked_events` | gauge | `handler` | put aside: an operator has to look |
//! | `sluice_handler_waiting_calls` | gauge | `handler` | in its outbox |
//! | `sluice_handler_parked_calls` | gauge | `handler` | that failed too often: an operator has to look |
//! | `sluice_handler_calls_total` | counter | `handler` | answered well |
//! | `sluice_handler_faults_total` | counter | `handler` | traps and overruns |
//! | `sluice_handler_replayed_position` | gauge | `handler` | of a state that is to take over, while there is one |
//! | `sluice_group_lag_events` | gauge | `group` | events that are not settled, or not looked at |
//! | `sluice_group_in_flight_events` | gauge | `group` | with consumers |
//! | `sluice_group_parked_events` | gauge | `group` | put aside: an operator has to look |
//! | `sluice_group_delivered_total` | counter | `group` | deliveries |
//! | `sluice_group_settled_total` | counter | `group`, `how` | acknowledged, retried, parked, timed-out |
//! | `sluice_build_info` | gauge | `version` | always 1 |
//! | `process_cpu_seconds_total` | counter | | user and system |
//! | `process_resident_memory_bytes` | gauge | | in RAM |
//! | `process_start_time_seconds` | gauge | | since 1970 |
//! | `process_open_fds` | gauge | | file descriptors |
//! | `process_threads` | gauge | | threads |
//!
//! Requests that matched no route have the route `(unrouted)`, calls that the gateway itself makes `(own)`. The number
//! of series is bounded; labels beyond the bound are counted together as `(other)`. A series that nothing has used for
//! 15 minutes is dropped.

mod access_log;
mod cells;
mod counter;
mod exposition;
mod histogram;
mod page;
mod process;
mod registry;
mod series;
mod totals;
pub mod trace_context;

pub use access_log::{AccessLogCells, AccessLogSink, AccessLogWriter, AccessRecord};
pub use cells::{EndpointCells, PluginCells, RouteCells, WorkerCells};
pub use counter::{Counter, SharedCounter};
pub use exposition::{EXPOSITION_CONTENT_TYPE, exposition};
pub use histogram::{Histogram, HistogramSnapshot, LatencySummary};
pub use process::resident_bytes;
pub use registry::{
    Change, EndpointGauges, EventGauges, FailoverGauges, Gauges, GroupGauges, HandlerGauges, Metrics, OWN_CALLS,
    PluginGauges, RegistryGauges, SourceGauges, TransactionGauges, UNROUTED,
};
pub use totals::{EndpointTotals, PluginTotals, RouteTotals};
