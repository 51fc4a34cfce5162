//! Looks at every running canary again and again, and withdraws the one that is worse.

use std::{sync::Arc, time::Duration};

use super::{CanaryBook, THRESHOLDS, Verdict, verdict};
use crate::{
    control::{change::Change, publisher::Handle},
    telemetry::Metrics,
};

/// A tenth of a second of a bad candidate's share of traffic is what a withdrawal may come late.
const INTERVAL: Duration = Duration::from_millis(100);

/// Runs for ever.
pub async fn watch(publisher: Handle, book: CanaryBook, metrics: Arc<Metrics>) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let Some(current) = publisher.current() else { continue };
        let desired = &current.desired;
        for (plugin, canary) in &desired.canaries {
            let Some(active) = desired.active(plugin) else { continue };
            let covered = desired.balanced_by(plugin).into_iter();
            let covered = covered.filter(|service| canary.service.as_ref().is_none_or(|only| only == service));
            let worse = covered.into_iter().find_map(|service| {
                let comparison = book.comparison(&metrics, canary, &service, plugin, active);
                match verdict(&comparison, &THRESHOLDS) {
                    Verdict::Keep => None,
                    Verdict::Withdraw(reason) => Some(format!("for service {service}, {reason}")),
                }
            });
            if let Some(reason) = worse {
                let change = Change::Withdraw { plugin: plugin.clone(), number: canary.number, reason };
                // A refusal is in the history; the canary may have ended meanwhile.
                drop(publisher.apply(change).await);
            }
        }
    }
}
