//! Steady traffic with one line a second: how many requests, how many failed, who answered.

use std::{
    collections::BTreeMap,
    io::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Threads that ask; enough for the rate at some milliseconds a request.
const THREADS: u32 = 8;

/// What is asked, and how often.
#[derive(Clone, Debug, clap::Args)]
pub struct Traffic {
    /// Where the gateway listens
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub gateway: String,
    /// What to ask for
    #[arg(long, default_value = "/inventory/products")]
    pub path: String,
    /// Requests a second
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// Whom to ask as (header x-customer): what a hashing policy goes by
    #[arg(long, default_value = "ada")]
    pub customer: String,
    /// Seconds until it ends by itself
    #[arg(long)]
    pub seconds: Option<u64>,
}

#[derive(Debug, Default)]
struct Tally {
    answered: BTreeMap<String, u64>,
    failed: BTreeMap<String, u64>,
}

/// Runs until its time is over (or for ever), printing a line a second. The answer is how many failed.
pub fn run(traffic: &Traffic) -> u64 {
    let tally = Arc::<Mutex<Tally>>::default();
    let next = Arc::<AtomicU64>::default();
    let start = Instant::now();
    let end = traffic.seconds.map(|seconds| start + Duration::from_secs(seconds));
    for _ in 0..THREADS {
        let (traffic, tally, next) = (traffic.clone(), Arc::clone(&tally), Arc::clone(&next));
        thread::spawn(move || ask(&traffic, &tally, &next, start, end));
    }
    let mut failed_total = 0;
    let mut second = 0;
    while end.is_none_or(|end| Instant::now() < end) {
        second += 1;
        thread::sleep((start + Duration::from_secs(second)).saturating_duration_since(Instant::now()));
        let Tally { answered, failed } = std::mem::take(&mut *tally.lock().expect("no holder panics"));
        failed_total += failed.values().sum::<u64>();
        let line = describe(second, &answered, &failed);
        // Whoever reads may have gone (a pipe into `head`): then there is nobody to count for.
        if writeln!(std::io::stdout(), "{line}").is_err() {
            break;
        }
    }
    failed_total
}

fn ask(traffic: &Traffic, tally: &Mutex<Tally>, next: &AtomicU64, start: Instant, end: Option<Instant>) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
    let url = format!("{}{}", traffic.gateway, traffic.path);
    while end.is_none_or(|end| Instant::now() < end) {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let due = start + Duration::from_secs_f64(index as f64 / f64::from(traffic.rate));
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let result = exchange(&agent, &url, &traffic.customer);
        let mut tally = tally.lock().expect("no holder panics");
        match result {
            Ok(instance) => *tally.answered.entry(instance).or_default() += 1,
            Err(why) => *tally.failed.entry(why).or_default() += 1,
        }
    }
}

/// Who answered, or how it failed.
fn exchange(agent: &ureq::Agent, url: &str, customer: &str) -> Result<String, String> {
    let mut response = agent.get(url).header("x-customer", customer).call().map_err(|error| error.to_string())?;
    let status = response.status();
    let instance = response.headers().get("x-instance").and_then(|name| name.to_str().ok());
    let instance = instance.unwrap_or("somebody without a name").to_owned();
    response.body_mut().read_to_vec().map_err(|error| error.to_string())?;
    if status.is_server_error() { Err(status.to_string()) } else { Ok(instance) }
}

fn describe(second: u64, answered: &BTreeMap<String, u64>, failed: &BTreeMap<String, u64>) -> String {
    let total: u64 = answered.values().sum();
    let shares = answered.iter().map(|(name, count)| format!("{name} {:3.0} %", *count as f64 / total as f64 * 100.0));
    let shares = shares.collect::<Vec<_>>().join("  ");
    let failures = failed.iter().map(|(why, count)| format!("  {count} × {why}")).collect::<String>();
    let failed: u64 = failed.values().sum();
    format!("{second:4} s  {total:5} answered  {failed} failed  {shares}{failures}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_answered_and_what_failed() {
        let answered = BTreeMap::from([("a-1".to_owned(), 75), ("a-2".to_owned(), 25)]);
        let failed = BTreeMap::from([("502 Bad Gateway".to_owned(), 2)]);
        let line = describe(7, &answered, &failed);
        assert_eq!(line, "   7 s    100 answered  2 failed  a-1  75 %  a-2  25 %  2 × 502 Bad Gateway");
    }
}
