//! What the runs of a scenario have shown, a row each.

use serde_json::{Value, json};

use super::{Figures, Pairing};

/// Columns of the table. Latencies are in milliseconds, shares in percent.
pub const HEADING: [&str; 19] = [
    "BALANCER", "FAILOVER", "REQUESTS", "SUCCESS", "FAILED", "MEAN", "P50", "P90", "P99", "P99.9", "ATTEMPTS",
    "RETRIES", "HEDGES", "REFUSED", "EJECTED", "LEAST", "MOST", "FAULTS", "INVALID",
];

/// What the columns mean, below the table.
pub const LEGEND: &str = "\
SUCCESS answered well within the limit · MEAN … P99.9 ms until the client knew, failures included · ATTEMPTS a request ·
REFUSED repetitions that the budget did not allow · EJECTED endpoints, each time · LEAST, MOST share of attempts of one endpoint ·
FAULTS traps and overruns of a component · INVALID answers that broke a rule";

/// One pairing's row.
pub fn row(pairing: &Pairing, figures: &Figures) -> [String; HEADING.len()] {
    let (least, most) = figures.load_shares();
    let percentile = |percent| millis(f64::from(figures.percentile_us(percent)));
    [
        pairing.balancer.label.clone(),
        failover(pairing).to_owned(),
        figures.requests.to_string(),
        format!("{} %", percent(figures.success_share())),
        format!("{} %", percent(figures.failed_share())),
        millis(figures.mean_us()),
        percentile(50.0),
        percentile(90.0),
        percentile(99.0),
        percentile(99.9),
        format!("{:.3}", figures.attempts_per_request()),
        figures.retries.to_string(),
        figures.hedges.to_string(),
        figures.over_budget.to_string(),
        figures.ejections.to_string(),
        format!("{:.1} %", least * 100.0),
        format!("{:.1} %", most * 100.0),
        figures.faults.to_string(),
        (figures.invalid_picks + figures.invalid_verdicts).to_string(),
    ]
}

/// The same for programs, and more of it: times in microseconds, shares from 0 to 1.
pub fn object(pairing: &Pairing, figures: &Figures) -> Value {
    let (least, most) = figures.load_shares();
    let version = |policy: &super::Policy| policy.version.id();
    json!({
        "balancer": pairing.balancer.label,
        "balancer_version": version(&pairing.balancer),
        "failover": failover(pairing),
        "failover_version": pairing.failover.as_ref().map(version),
        "requests": figures.requests,
        "success_share": figures.success_share(),
        "failed_share": figures.failed_share(),
        "mean_us": figures.mean_us(),
        "p50_us": figures.percentile_us(50.0),
        "p90_us": figures.percentile_us(90.0),
        "p99_us": figures.percentile_us(99.0),
        "p999_us": figures.percentile_us(99.9),
        "attempts_per_request": figures.attempts_per_request(),
        "attempts": figures.attempts,
        "least_loaded_share": least,
        "most_loaded_share": most,
        "retries": figures.retries,
        "hedges": figures.hedges,
        "hedges_won": figures.hedges_won,
        "over_budget": figures.over_budget,
        "ejections": figures.ejections,
        "ejections_overruled": figures.overruled,
        "faults": figures.faults,
        "invalid_picks": figures.invalid_picks,
        "invalid_verdicts": figures.invalid_verdicts,
    })
}

/// The name of a pairing's failover policy.
pub fn failover(pairing: &Pairing) -> &str {
    pairing.failover.as_ref().map_or("off", |policy| &policy.label)
}

/// Three digits after the point, where it is not all: 99.95 % is another thing than 99.9 %.
fn percent(share: f64) -> String {
    if share == 0.0 || share == 1.0 { format!("{:.0}", share * 100.0) } else { format!("{:.3}", share * 100.0) }
}

fn millis(us: f64) -> String {
    format!("{:.1}", us / 1e3)
}
