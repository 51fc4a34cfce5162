//! What the gateway answers to a change that it made.

use std::{collections::BTreeMap, fmt::Write};

use serde::Deserialize;
use serde_json::Value;

use super::{client::understood, failure::Failure, output::Output};

/// The answer, as far as it is told to people.
#[derive(Deserialize)]
struct Applied {
    changed: bool,
    version: Option<String>,
    workers: Vec<Worker>,
    restores: Vec<Restore>,
    warnings: Vec<String>,
}

#[derive(Deserialize)]
struct Worker {
    gap_us: u64,
}

#[derive(Deserialize)]
struct Restore {
    service: String,
    problem: Option<String>,
}

/// `what` happened, how far, and what the gateway warns of.
pub(super) fn output(what: &str, answer: Value) -> Result<Output, Failure> {
    let applied: Applied = understood(&answer)?;
    Ok(Output::new(in_words(what, &applied), answer))
}

fn in_words(what: &str, applied: &Applied) -> String {
    let version = applied.version.iter().map(|version| format!(", version {version}")).collect::<String>();
    if !applied.changed {
        return with_warnings(format!("{what}{version}: nothing to do, it is so already"), applied);
    }
    let workers = applied.workers.len();
    let plural = if workers == 1 { "" } else { "s" };
    let mut text = match applied.workers.iter().map(|worker| worker.gap_us).max() {
        Some(gap_us) => {
            format!("{what}{version}: in use on {workers} worker{plural} (adopted within {gap_us} µs of CPU)")
        }
        None => format!("{what}{version}: done; no worker needed to change"),
    };
    let (fresh, carried): (Vec<_>, Vec<_>) = applied.restores.iter().partition(|restore| restore.problem.is_some());
    if !carried.is_empty() {
        let instances = if carried.len() == 1 { "instance goes" } else { "instances go" };
        let _ = write!(text, "\n{} {instances} on with what the one before had learned", carried.len());
    }
    // The same on all workers, mostly: once a service and reason is enough.
    let mut reasons: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for Restore { service, problem } in fresh {
        *reasons.entry((service, problem.as_deref().unwrap_or_default())).or_default() += 1;
    }
    for ((service, why), count) in reasons {
        let of = if count < workers { format!("on {count} of {workers} workers ") } else { String::new() };
        let _ = write!(text, "\nservice {service} {of}starts fresh: {why}");
    }
    with_warnings(text, applied)
}

fn with_warnings(text: String, applied: &Applied) -> String {
    applied.warnings.iter().fold(text, |text, warning| format!("{text}\nwarning: {warning}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn words(answer: Value) -> String {
        in_words("own", &Applied::deserialize(answer).expect("an answer"))
    }

    #[test]
    fn a_change_says_how_far_it_went_and_what_was_carried_over() {
        let restore =
            |worker: u32, problem: Option<&str>| json!({"service": "orders", "worker": worker, "problem": problem});
        let answer = json!({
            "changed": true, "generation": 3, "version": "0123456789ab",
            "workers": [{"worker": 0, "gap_us": 12}, {"worker": 1, "gap_us": 30}],
            "restores": [restore(0, None), restore(1, Some("unknown format"))],
            "warnings": ["careful"],
        });
        assert_eq!(
            words(answer),
            "own, version 0123456789ab: in use on 2 workers (adopted within 30 µs of CPU)\n\
             1 instance goes on with what the one before had learned\n\
             service orders on 1 of 2 workers starts fresh: unknown format\n\
             warning: careful"
        );
    }

    #[test]
    fn nothing_to_do_is_said_too() {
        let answer = json!({"changed": false, "generation": 3, "workers": [], "restores": [], "warnings": []});
        assert_eq!(words(answer), "own: nothing to do, it is so already");
    }
}
