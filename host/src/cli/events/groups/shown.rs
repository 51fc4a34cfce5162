//! A group in words.

use std::fmt::Write;

use serde::Deserialize;

use super::super::one_line;

/// As the gateway shows it.
#[derive(Deserialize)]
pub struct Group {
    group: String,
    pub checkpoint: u64,
    head: u64,
    lag: u64,
    in_flight: usize,
    retrying: usize,
    parked: u64,
    replaying: bool,
    acknowledged: u64,
    consumers: Vec<Consumer>,
    settings: Settings,
    pushing: Option<String>,
    trouble: Option<Trouble>,
}

#[derive(Deserialize)]
struct Consumer {
    consumer: String,
    in_flight: usize,
    waiting: bool,
    seen_seconds_ago: f64,
}

#[derive(Deserialize)]
struct Settings {
    types: Vec<String>,
    streams: Vec<String>,
    ack_timeout: String,
    attempts_max: u32,
    backoff: String,
    batch: usize,
    webhook: Option<Webhook>,
}

#[derive(Deserialize)]
struct Webhook {
    url: String,
    origin: String,
}

#[derive(Deserialize)]
struct Trouble {
    at: String,
    message: String,
}

impl Group {
    pub fn row(&self) -> [String; 8] {
        let consumers = match &self.pushing {
            Some(pushing) => pushing.clone(),
            None => self.consumers.len().to_string(),
        };
        [
            self.group.clone(),
            self.checkpoint.to_string(),
            self.lag.to_string(),
            self.in_flight.to_string(),
            self.retrying.to_string(),
            self.parked.to_string(),
            consumers,
            self.trouble.as_ref().map_or("-".to_owned(), |trouble| one_line(&trouble.message)),
        ]
    }

    pub fn in_words(&self) -> String {
        let Settings { types, streams, ack_timeout, attempts_max, backoff, batch, webhook } = &self.settings;
        let of = |patterns: &[String]| if patterns.is_empty() { "all".to_owned() } else { patterns.join(", ") };
        let replaying = if self.replaying { ", some of them on their way back" } else { "" };
        let mut text = format!(
            "group {}\n  checkpoint {} of {}, {} to come at most\n  {} in flight, {} to be tried again, {} parked{replaying}\n  \
             {} acknowledged\n  types {}, streams {}\n  ack timeout {ack_timeout}, {attempts_max} attempts, backoff {backoff}, \
             batch {batch}",
            self.group,
            self.checkpoint,
            self.head,
            self.lag,
            self.in_flight,
            self.retrying,
            self.parked,
            self.acknowledged,
            of(types),
            of(streams),
        );
        let mut line = |line: String| write!(text, "\n  {line}").expect("memory takes it");
        if let Some(Webhook { url, origin }) = webhook {
            let pushing = self.pushing.as_deref().unwrap_or("beginning");
            line(format!("webhook {url} as {origin}: {pushing}"));
        }
        for Consumer { consumer, in_flight, waiting, seen_seconds_ago } in &self.consumers {
            let seen = if *waiting { "waiting".to_owned() } else { format!("seen {seen_seconds_ago:.0} s ago") };
            line(format!("consumer {}: {in_flight} in flight, {seen}", one_line(consumer)));
        }
        if let Some(Trouble { at, message }) = &self.trouble {
            line(format!("trouble at {at}: {}", one_line(message)));
        }
        text
    }
}
