//! A candidate version beside the incumbent: compared all the time, withdrawn when it is worse.

mod bounds;
mod verdict;
mod watch;

pub use verdict::{Reason, THRESHOLDS, Thresholds, Verdict, verdict};
pub use watch::watch;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use crate::{
    model::{Percent, PluginName, ServiceName, VersionId},
    telemetry::{Metrics, PluginTotals},
};

/// A version on trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    pub version: VersionId,
    pub percent: Percent,
    /// None: every service that is bound to the plugin.
    pub service: Option<ServiceName>,
    pub started_at: SystemTime,
    /// Tells this canary from others of the same version.
    pub number: u64,
}

/// What both versions did for one service since the canary began.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    pub incumbent: PluginTotals,
    pub candidate: PluginTotals,
}

/// A canary's number, a service, and the version that the candidate is compared with there.
type Trial = (u64, ServiceName, VersionId);

/// Where the counters stood when each canary began.
#[derive(Clone, Debug, Default)]
pub struct CanaryBook {
    baselines: Arc<Mutex<HashMap<Trial, Comparison>>>,
}

impl CanaryBook {
    /// The counters since the canary began for this service, which is now where it was never asked before.
    pub fn comparison(
        &self,
        metrics: &Metrics,
        canary: &Canary,
        service: &ServiceName,
        plugin: &PluginName,
        incumbent: VersionId,
    ) -> Comparison {
        let now = Comparison {
            incumbent: metrics.plugin_totals(service, plugin, incumbent),
            candidate: metrics.plugin_totals(service, plugin, canary.version),
        };
        let mut baselines = self.baselines.lock().expect("no holder of the lock panics");
        let baseline = baselines.entry((canary.number, service.clone(), incumbent)).or_insert_with(|| now.clone());
        Comparison {
            incumbent: now.incumbent.since(&baseline.incumbent),
            candidate: now.candidate.since(&baseline.candidate),
        }
    }

    /// Forgets all canaries but these.
    pub fn retain(&self, numbers: &[u64]) {
        let mut baselines = self.baselines.lock().expect("no holder of the lock panics");
        baselines.retain(|(number, ..), _| numbers.contains(number));
    }
}
