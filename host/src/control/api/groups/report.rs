//! How groups stand, as HTTP shows them.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    events::{
        cloud_events::to_json,
        groups::{ConsumerShown, GroupShown, GroupStart, ParkedEvent, ParkedPage, Settings, TroubleShown, Webhook},
    },
    model::{EventTime, GroupName, Pattern},
};

#[derive(Serialize, ToSchema)]
pub struct GroupsReport {
    /// By name.
    groups: Vec<GroupReport>,
}

impl GroupsReport {
    pub fn new(groups: Vec<GroupReport>) -> Self {
        Self { groups }
    }
}

#[derive(Serialize, ToSchema)]
pub struct GroupReport {
    group: String,
    created: String,
    /// All at or below is settled.
    checkpoint: u64,
    /// The last position of all events.
    head: u64,
    /// Events that are to come at most: not settled, or not looked at.
    lag: u64,
    /// Deliveries that are with consumers.
    in_flight: usize,
    /// Events that wait after an attempt that failed, and their streams with them.
    retrying: usize,
    /// Events that stand aside.
    parked: u64,
    /// Some of them are being delivered again.
    replaying: bool,
    /// Over all its time.
    acknowledged: u64,
    /// Since the gateway started.
    counts: CountsReport,
    /// By name; those of the last minutes.
    consumers: Vec<ConsumerReport>,
    settings: SettingsReport,
    /// Of a webhook: shaking-hands, refused, pushing, paused, stopped.
    pushing: Option<&'static str>,
    /// The last thing that went wrong.
    trouble: Option<TroubleReport>,
}

#[derive(Serialize, ToSchema)]
pub struct CountsReport {
    delivered: u64,
    /// Those of them that were not the first of their event.
    redelivered: u64,
    acknowledged: u64,
    retried: u64,
    parked: u64,
    /// Deliveries that were not settled in time.
    timed_out: u64,
    /// Events that were not there any more when they came to be delivered.
    removed: u64,
}

#[derive(Serialize, ToSchema)]
pub struct ConsumerReport {
    consumer: String,
    in_flight: usize,
    /// It waits for events.
    waiting: bool,
    seen_seconds_ago: f64,
}

#[derive(Serialize, ToSchema)]
pub struct SettingsReport {
    types: Vec<String>,
    streams: Vec<String>,
    /// start, now, or a position.
    #[schema(value_type = Object)]
    from: serde_json::Value,
    ack_timeout: String,
    attempts_max: u32,
    backoff: String,
    batch: usize,
    webhook: Option<WebhookReport>,
}

#[derive(Serialize, ToSchema)]
pub struct WebhookReport {
    url: String,
    origin: String,
    /// Deliveries a minute; null: as many as it allows.
    rate: Option<u32>,
}

#[derive(Serialize, ToSchema)]
pub struct TroubleReport {
    at: String,
    message: String,
}

impl GroupReport {
    pub fn of(shown: GroupShown) -> Self {
        let lag = shown.lag();
        let GroupShown { name, settings, created_ms, checkpoint, head, counts, .. } = shown;
        Self {
            group: name.to_string(),
            created: time(created_ms),
            checkpoint: checkpoint.0,
            head: head.0,
            lag,
            in_flight: shown.in_flight,
            retrying: shown.retrying,
            parked: shown.parked,
            replaying: shown.is_replaying,
            acknowledged: shown.acknowledged,
            counts: CountsReport {
                delivered: counts.delivered,
                redelivered: counts.redelivered,
                acknowledged: counts.acknowledged,
                retried: counts.retried,
                parked: counts.parked,
                timed_out: counts.timed_out,
                removed: counts.removed,
            },
            consumers: shown.consumers.into_iter().map(ConsumerReport::of).collect(),
            settings: SettingsReport::of(settings),
            pushing: shown.pushing.map(|pushing| pushing.as_str()),
            trouble: shown.trouble.map(|TroubleShown { at_ms, message }| TroubleReport { at: time(at_ms), message }),
        }
    }
}

impl ConsumerReport {
    fn of(ConsumerShown { name, in_flight, is_waiting, seen_ms_ago }: ConsumerShown) -> Self {
        Self { consumer: name, in_flight, waiting: is_waiting, seen_seconds_ago: seen_ms_ago as f64 / 1e3 }
    }
}

impl SettingsReport {
    fn of(settings: Settings) -> Self {
        let Settings { filter, from, ack_timeout, attempts_max, batch, backoff, webhook } = settings;
        let texts = |patterns: Vec<Pattern>| patterns.into_iter().map(String::from).collect();
        Self {
            types: texts(filter.types),
            streams: texts(filter.streams),
            from: match from {
                GroupStart::Start => "start".into(),
                GroupStart::Now => "now".into(),
                GroupStart::Position(position) => position.0.into(),
            },
            ack_timeout: duration(ack_timeout),
            attempts_max,
            backoff: duration(backoff),
            batch,
            webhook: webhook.map(|Webhook { url, origin, rate }| WebhookReport { url, origin, rate }),
        }
    }
}

#[derive(Serialize, ToSchema)]
pub struct ParkedReport {
    /// By position.
    parked: Vec<ParkedEventReport>,
    /// Where the next page is; null where nothing is left.
    next: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct ParkedEventReport {
    position: u64,
    reason: String,
    /// How often it was delivered.
    attempts: u32,
    at: String,
    /// As a CloudEvent; null where it is damaged or was removed.
    #[schema(value_type = Option<Object>)]
    event: Option<Box<RawValue>>,
}

impl ParkedReport {
    pub fn of(name: &GroupName, page: ParkedPage) -> Self {
        let parked = page.parked.into_iter().map(|(position, parked, event)| {
            let ParkedEvent { reason, attempts, at_ms } = parked;
            let json = event.and_then(|event| String::from_utf8(to_json(&event)).ok());
            let event = json.and_then(|json| RawValue::from_string(json).ok());
            ParkedEventReport { position: position.0, reason, attempts, at: time(at_ms), event }
        });
        let next = page.next.map(|after| format!("/groups/{name}/parked?after={after}"));
        Self { parked: parked.collect(), next }
    }
}

fn time(at_ms: u64) -> String {
    EventTime::of_unix_ms(at_ms).as_str().to_owned()
}

fn duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}
