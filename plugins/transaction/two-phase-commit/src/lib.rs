//! Two-phase commit with presumed abort: all participants prepare at once; when all have, all commit; where one refuses,
//! does not answer, or the client says so, all abort. DTM's `xa` is the same where the client has the participants prepare.
//!
//! A submission names its `branches`: `{"service": "orders"}` (asked at `service://orders/prepare`, `/commit` and `/abort`)
//! or `{"prepare": …, "commit": …, "abort": …}`, each with `payload` (an index into `payloads`; else its own) and `id` if
//! wanted. A branch that is registered names its `branch_id` and the `url` of both its commit and its rollback.
//!
//! Settings: `prepare_attempts` (3), attempts to prepare without an answer after which all abort; 0: as many as the
//! transaction's time allows.

mod plan;

use sluice_sdk::{
    Context, Settings,
    transaction::{Branch, Problems, Protocol, Request, Step, View, two_phase},
};

struct TwoPhaseCommit {
    prepare_attempts: u32,
}

impl Protocol for TwoPhaseCommit {
    fn configure(_: &Context, settings: &mut Settings) -> Self {
        Self { prepare_attempts: settings.integer("prepare_attempts", 3, 0..=1_000) }
    }

    fn plan(&self, request: &Request, enlisted: &[Branch], problems: &mut Problems) -> Vec<Branch> {
        plan::branches(request, enlisted, problems)
    }

    fn next(&self, view: &View) -> Step {
        two_phase::next(view, self.prepare_attempts)
    }
}

sluice_sdk::transaction!(TwoPhaseCommit);

#[cfg(test)]
mod tests;
