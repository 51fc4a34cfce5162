//! One projection as people see it.

use serde::Deserialize;

use crate::cli::output::table;

/// Of a plugin's words, as much as a line shows.
const SHOWN_LEN_MAX: usize = 120;

/// `GET /projections/{name}`, as far as it is shown.
#[derive(Deserialize)]
pub(super) struct Projection {
    name: String,
    status: String,
    reason: Option<String>,
    plugin: Option<String>,
    version: Option<String>,
    pub generation: u64,
    types: Vec<String>,
    streams: Vec<String>,
    head: u64,
    checkpoint: u64,
    lag: u64,
    pub handled: u64,
    emitted: u64,
    parked: u64,
    calls: Calls,
    faults: u64,
    last_error: Option<Trouble>,
    pub rebuilding: Option<Rebuilding>,
    pub refused: Option<Refused>,
    #[serde(default)]
    parked_events: Vec<ParkedEvent>,
    #[serde(default)]
    parked_calls: Vec<ParkedCall>,
}

#[derive(Deserialize)]
struct Calls {
    waiting: u64,
    made: u64,
    parked: u64,
}

#[derive(Deserialize)]
struct Trouble {
    at: String,
    message: String,
}

#[derive(Deserialize)]
pub(super) struct Rebuilding {
    version: String,
    status: String,
    reason: Option<String>,
    checkpoint: u64,
    goal: u64,
    percent: u8,
    handled: u64,
}

#[derive(Deserialize)]
pub(super) struct Refused {
    version: String,
    pub position: u64,
    pub reason: String,
    at: String,
}

#[derive(Deserialize)]
struct ParkedEvent {
    position: u64,
    reason: String,
    attempts: u32,
    at: String,
}

#[derive(Deserialize)]
struct ParkedCall {
    position: u64,
    stream: String,
    method: String,
    target: String,
    attempts: u32,
    reason: Option<String>,
}

impl Projection {
    pub fn row(&self) -> [String; 9] {
        let calls = match self.calls.parked {
            0 => format!("{} waiting", self.calls.waiting),
            parked => format!("{} waiting, {parked} parked", self.calls.waiting),
        };
        [
            self.name.clone(),
            self.status.clone(),
            self.plugin.clone().unwrap_or_default(),
            self.version.clone().unwrap_or_default(),
            self.lag.to_string(),
            self.handled.to_string(),
            self.parked.to_string(),
            calls,
            self.rebuilding.as_ref().map(|it| format!("{} %", it.percent)).unwrap_or_default(),
        ]
    }

    pub fn in_words(&self) -> String {
        let reason = self.reason.iter().map(|reason| format!(": {}", one_line(reason)));
        let first = format!("projection {} is {}", self.name, self.status);
        let unknown = "none".to_owned();
        let (plugin, version) = (self.plugin.as_ref().unwrap_or(&unknown), self.version.as_ref().unwrap_or(&unknown));
        let mut lines = vec![
            std::iter::once(first).chain(reason).collect(),
            format!("plugin {plugin}, version {version}, generation {}", self.generation),
            format!("wants {} of {}", listed(&self.types, "every type"), listed(&self.streams, "every stream")),
            format!("at position {} of {}, {} behind", self.checkpoint, self.head, self.lag),
            format!("{} events handled, {} emitted, {} parked", self.handled, self.emitted, self.parked),
            format!("{} calls wait, {} made, {} parked", self.calls.waiting, self.calls.made, self.calls.parked),
        ];
        if self.faults > 0 {
            lines.push(format!("{} faults", self.faults));
        }
        lines.extend(self.last_error.iter().map(|it| format!("last error, {}: {}", it.at, one_line(&it.message))));
        lines.extend(self.rebuilding.iter().map(Rebuilding::in_words));
        lines.extend(self.refused.iter().map(|it| {
            let Refused { version, position, reason, at } = it;
            format!("version {version} did not take over, {at}, for the event at {position}: {}", one_line(reason))
        }));
        if !self.parked_events.is_empty() {
            let rows: Vec<_> = self.parked_events.iter().map(ParkedEvent::row).collect();
            lines.push(format!("\n{}", table(["PARKED EVENT", "WHEN", "ATTEMPTS", "REASON"], &rows)));
        }
        if !self.parked_calls.is_empty() {
            let rows: Vec<_> = self.parked_calls.iter().map(ParkedCall::row).collect();
            lines.push(format!("\n{}", table(["PARKED CALL OF", "STREAM", "TARGET", "ATTEMPTS", "REASON"], &rows)));
        }
        lines.join("\n")
    }
}

impl Rebuilding {
    pub fn in_words(&self) -> String {
        let Self { version, status, checkpoint, goal, percent, handled, reason } = self;
        let reason = reason.iter().map(|reason| format!(": {}", one_line(reason)));
        let first = format!(
            "version {version} is {status}, {percent} %: at position {checkpoint} of {goal}, {handled} events handled"
        );
        std::iter::once(first).chain(reason).collect()
    }
}

impl ParkedEvent {
    fn row(&self) -> [String; 4] {
        [self.position.to_string(), self.at.clone(), self.attempts.to_string(), one_line(&self.reason)]
    }
}

impl ParkedCall {
    fn row(&self) -> [String; 5] {
        let Self { position, stream, method, target, attempts, reason } = self;
        let reason = one_line(reason.as_deref().unwrap_or_default());
        [position.to_string(), stream.clone(), format!("{method} {target}"), attempts.to_string(), reason]
    }
}

fn listed(patterns: &[String], all: &str) -> String {
    if patterns.is_empty() { all.to_owned() } else { patterns.join(", ") }
}

/// What a plugin said, without what would break the line.
pub(super) fn one_line(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN_LEN_MAX).collect();
    if text.chars().count() > SHOWN_LEN_MAX { format!("{line}…") } else { line }
}
