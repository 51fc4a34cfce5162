//! Many transactions at a time.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{
    coordinator::Coordinator,
    error::TransactionError,
    shown::{Status, Summary},
};

/// Of one page.
pub const PAGE_MAX: usize = 1_000;

/// Looked at for one page: a filter that few pass must not read the whole store.
const LOOKED_AT_MAX: usize = 10_000;

/// Read from the store at a time.
const READ_AT_ONCE: usize = 256;

/// Which ones are wanted. What is empty asks for nothing.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub statuses: BTreeSet<&'static str>,
    pub protocol: Option<String>,
}

impl Filter {
    fn takes(&self, summary: &Summary) -> bool {
        (self.statuses.is_empty() || self.statuses.contains(summary.status.as_str()))
            && self.protocol.as_ref().is_none_or(|protocol| *protocol == summary.protocol)
    }
}

/// From the newest on.
#[derive(Clone, Debug)]
pub struct Page {
    pub transactions: Vec<Summary>,
    /// Where the next page begins; None where nothing is left.
    pub next: Option<String>,
}

/// Since the gateway started, and now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub live: usize,
    pub begun: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub stopped: u64,
    pub hazards: u64,
    pub calls_succeeded: u64,
    pub calls_refused: u64,
    pub calls_unclear: u64,
    pub commits: u64,
}

impl Coordinator {
    /// At most `limit` that the filter takes, behind the page that ended with `after`. It may hold fewer, and none, where
    /// others are left: only `next` says that nothing is.
    pub async fn list(&self, filter: &Filter, after: Option<&str>, limit: usize) -> Result<Page, TransactionError> {
        let limit = limit.clamp(1, PAGE_MAX);
        let mut at = match after {
            Some(after) => Some(position(after)?),
            None => None,
        };
        let core = self.core();
        let journal = &core.journal;
        let (mut transactions, mut looked_at) = (Vec::new(), 0);
        loop {
            let listed = journal.listed(at.as_deref(), READ_AT_ONCE).await?;
            let is_last = listed.len() < READ_AT_ONCE;
            for (key, gid) in listed {
                at = Some(key);
                looked_at += 1;
                let summary = match core.ended(&gid) {
                    Some(ended) => Some(ended),
                    None => journal.standing(&gid).await?.map(|standing| Summary::of(gid, &standing)),
                };
                transactions.extend(summary.filter(|summary| filter.takes(summary)));
                if transactions.len() == limit || looked_at == LOOKED_AT_MAX {
                    return Ok(Page { transactions, next: at.map(hex::encode) });
                }
            }
            if is_last {
                return Ok(Page { transactions, next: None });
            }
        }
    }

    pub fn figures(&self) -> Figures {
        use std::sync::atomic::Ordering::Relaxed;
        let (core, counts) = (self.core(), &self.core().counts);
        Figures {
            live: core.live_count(),
            begun: counts.begun.load(Relaxed),
            succeeded: counts.succeeded.load(Relaxed),
            failed: counts.failed.load(Relaxed),
            stopped: counts.stopped.load(Relaxed),
            hazards: counts.hazards.load(Relaxed),
            calls_succeeded: counts.calls_succeeded.load(Relaxed),
            calls_refused: counts.calls_refused.load(Relaxed),
            calls_unclear: counts.calls_unclear.load(Relaxed),
            commits: core.journal.commits.load(Relaxed),
        }
    }
}

fn position(after: &str) -> Result<Bytes, TransactionError> {
    let wrong = || TransactionError::field("/after", "must be what the page before gave as next");
    let key = hex::decode(after).map_err(|_| wrong())?;
    if key.starts_with(b"i/") { Ok(key.into()) } else { Err(wrong()) }
}

impl Filter {
    /// By the name of a status.
    pub fn with_status(mut self, name: &str) -> Result<Self, TransactionError> {
        let status = Status::ALL.into_iter().find(|status| status.as_str() == name);
        let Some(status) = status else {
            let names = Status::ALL.map(Status::as_str).join(", ");
            return Err(TransactionError::field("/status", format!("must be one of {names}")));
        };
        self.statuses.insert(status.as_str());
        Ok(self)
    }
}
