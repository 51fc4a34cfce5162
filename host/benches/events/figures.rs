//! What a load comes to.

use std::time::Duration;

use serde_json::{Value, json};

/// Durations of single operations.
#[derive(Default)]
pub struct Latencies(Vec<u32>);

impl Latencies {
    pub fn add(&mut self, took: Duration) {
        self.0.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }

    pub fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Rate a second of what each of them stands for, and percentiles in microseconds.
    pub fn figures(mut self, took: Duration, each: usize) -> Value {
        self.0.sort_unstable();
        let at = |share: f64| {
            let nth = (self.0.len() as f64 * share) as usize;
            self.0.get(nth.min(self.0.len().saturating_sub(1))).copied().unwrap_or(0)
        };
        json!({
            "count": self.0.len() * each,
            "rate": (self.0.len() * each) as f64 / took.as_secs_f64(),
            "p50_us": at(0.5), "p99_us": at(0.99), "max_us": at(1.0),
        })
    }
}

/// 1 KiB that no compression makes smaller, of letters, so that every protocol carries it as it is.
pub fn kibibyte(random: &mut fastrand::Rng) -> String {
    std::iter::repeat_with(|| random.alphanumeric()).take(1024).collect()
}

/// Streams that events are spread over.
pub const STREAMS: u64 = 1_000;
