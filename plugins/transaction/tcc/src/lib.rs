//! Try, confirm, cancel: participants reserve first; then all confirm, or all who may have reserved cancel.
//!
//! As DTM's `tcc`, the client tries itself: it registers each branch (`branch_id`, `confirm`, `cancel`, `data`) before it
//! calls the participant, and then submits or aborts. Or the gateway tries: a submission names its `branches`,
//! `{"service": "orders"}` (asked at `service://orders/try`, `/confirm` and `/cancel`) or `{"try": …, "confirm": …,
//! "cancel": …}`, each with `payload` (an index into `payloads`; else its own) and `id` if wanted.
//!
//! Settings: `try_attempts` (3), attempts of the gateway to try without an answer after which all cancel; 0: as many as
//! the transaction's time allows.

mod plan;

use sluice_sdk::{
    Context, Settings,
    transaction::{Branch, Problems, Protocol, Request, Step, View, two_phase},
};

struct TryConfirmCancel {
    try_attempts: u32,
}

impl Protocol for TryConfirmCancel {
    fn configure(_: &Context, settings: &mut Settings) -> Self {
        Self { try_attempts: settings.integer("try_attempts", 3, 0..=1_000) }
    }

    fn plan(&self, request: &Request, enlisted: &[Branch], problems: &mut Problems) -> Vec<Branch> {
        plan::branches(request, enlisted, problems)
    }

    fn next(&self, view: &View) -> Step {
        two_phase::next(view, self.try_attempts)
    }
}

sluice_sdk::transaction!(TryConfirmCancel);

#[cfg(test)]
mod tests;
