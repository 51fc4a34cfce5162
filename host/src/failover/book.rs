//! What became of endpoints: a bounded history of each service, for its report, and each entry a line of the log.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::SystemTime,
};

use super::{Ruling, RulingKind};
use crate::{
    model::{Endpoint, ServiceName},
    telemetry::SharedCounter,
};

/// Entries of one service that are kept, and of its candidate's differences.
const ENTRIES_MAX: usize = 64;

/// One thing that became of an endpoint, or that a candidate would have had become of it.
#[derive(Clone, Debug)]
pub struct HealthEntry {
    pub at: SystemTime,
    /// Where connections go.
    pub endpoint: String,
    pub what: Said,
    /// One sentence.
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Ejected { for_ms: u32 },
    Probed,
    Readmitted,
    FailsChecks,
    PassesChecks,
    WouldEject,
    WouldAdmit,
}

impl Said {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ejected { .. } => "ejected",
            Self::Probed => "probed",
            Self::Readmitted => "readmitted",
            Self::FailsChecks => "fails-checks",
            Self::PassesChecks => "passes-checks",
            Self::WouldEject => "would-eject",
            Self::WouldAdmit => "would-admit",
        }
    }
}

/// Of all services. Shared with whoever shows it.
#[derive(Clone, Debug, Default)]
pub struct HealthBook(Arc<Mutex<HashMap<ServiceName, Arc<ServiceBook>>>>);

/// Of one service.
#[derive(Debug)]
pub struct ServiceBook {
    service: ServiceName,
    history: Mutex<VecDeque<HealthEntry>>,
    differences: Mutex<VecDeque<HealthEntry>>,
    pub ejections: SharedCounter,
    pub readmissions: SharedCounter,
    /// Verdicts that the host's bounds stood against.
    pub overruled: SharedCounter,
}

impl HealthBook {
    pub fn of(&self, service: &ServiceName) -> Arc<ServiceBook> {
        let mut books = self.0.lock().expect(UNPOISONED);
        Arc::clone(books.entry(service.clone()).or_insert_with(|| Arc::new(ServiceBook::new(service))))
    }

    pub fn forget(&self, service: &ServiceName) {
        self.0.lock().expect(UNPOISONED).remove(service);
    }
}

const UNPOISONED: &str = "no holder of the lock panics";

impl ServiceBook {
    fn new(service: &ServiceName) -> Self {
        Self {
            service: service.clone(),
            history: Mutex::default(),
            differences: Mutex::default(),
            ejections: SharedCounter::default(),
            readmissions: SharedCounter::default(),
            overruled: SharedCounter::default(),
        }
    }

    pub fn rule(&self, ruling: &Ruling) {
        let said = match ruling.kind {
            RulingKind::Ejected { for_ms } => {
                self.ejections.add(1);
                Said::Ejected { for_ms }
            }
            RulingKind::Probed => Said::Probed,
            RulingKind::Readmitted => {
                self.readmissions.add(1);
                Said::Readmitted
            }
        };
        self.note(&ruling.endpoint, said, &ruling.reason);
    }

    pub fn note(&self, endpoint: &Endpoint, said: Said, reason: &str) {
        let (service, address, what) = (&self.service, endpoint.address, said.as_str());
        match said {
            Said::Ejected { for_ms } => {
                tracing::warn!(%service, endpoint = %address, for_ms, reason, "an endpoint is ejected");
            }
            Said::FailsChecks => tracing::warn!(%service, endpoint = %address, reason, "an endpoint fails its checks"),
            _ => tracing::info!(%service, endpoint = %address, what, reason, "an endpoint's standing has changed"),
        }
        push(&mut self.history.lock().expect(UNPOISONED), entry(endpoint, said, reason));
    }

    /// What a candidate in the shadow thinks otherwise.
    pub fn differ(&self, endpoint: &Endpoint, said: Said, reason: &str) {
        push(&mut self.differences.lock().expect(UNPOISONED), entry(endpoint, said, reason));
    }

    /// Why the endpoint is as it is.
    pub fn last_reason(&self, endpoint: &Endpoint) -> Option<String> {
        let address = endpoint.address.to_string();
        let history = self.history.lock().expect(UNPOISONED);
        history.iter().rev().find(|entry| entry.endpoint == address).map(|entry| entry.reason.clone())
    }

    /// Each by its name in `/metrics`.
    pub fn events(&self) -> [(&'static str, u64); 3] {
        [
            ("ejections", self.ejections.get()),
            ("readmissions", self.readmissions.get()),
            ("overruled", self.overruled.get()),
        ]
    }

    /// The latest first.
    pub fn history(&self) -> Vec<HealthEntry> {
        latest_first(&self.history.lock().expect(UNPOISONED))
    }

    /// The latest first.
    pub fn differences(&self) -> Vec<HealthEntry> {
        latest_first(&self.differences.lock().expect(UNPOISONED))
    }

    /// Of another candidate, from now on.
    pub fn forget_differences(&self) {
        self.differences.lock().expect(UNPOISONED).clear();
    }
}

fn entry(endpoint: &Endpoint, what: Said, reason: &str) -> HealthEntry {
    HealthEntry { at: SystemTime::now(), endpoint: endpoint.address.to_string(), what, reason: reason.to_owned() }
}

fn push(entries: &mut MutexGuard<'_, VecDeque<HealthEntry>>, entry: HealthEntry) {
    if entries.len() == ENTRIES_MAX {
        entries.pop_front();
    }
    entries.push_back(entry);
}

fn latest_first(entries: &VecDeque<HealthEntry>) -> Vec<HealthEntry> {
    entries.iter().rev().cloned().collect()
}
