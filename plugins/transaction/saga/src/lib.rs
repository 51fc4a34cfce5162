//! Sagas (Garcia-Molina and Salem, 1987), as DTM's `saga`: steps, each of them a transaction of its own, one after the
//! other or where nothing orders them at once. Where one refuses, or the client or the time says so, what was done, or may
//! have been, is undone in reverse.
//!
//! A submission names `steps` (`[{"action": URL, "compensate": URL}]`; one without an action does nothing, one without a
//! compensation is not undone) and their `payloads`. `concurrent` lets all go at once, but for what `custom_data` orders:
//! the JSON text `{"concurrent": true, "orders": {"1": [0]}}` has step 1 wait for step 0.
//!
//! Settings: `action_attempts` (0), attempts of an action without an answer after which all is undone; 0: as many as the
//! transaction's time allows, if it has one.

mod algorithm;
mod order;
mod plan;

use sluice_sdk::{
    Context, Settings,
    transaction::{Branch, Problems, Protocol, Request, Step, View},
};

struct Saga {
    action_attempts: u32,
}

impl Protocol for Saga {
    fn configure(_: &Context, settings: &mut Settings) -> Self {
        Self { action_attempts: settings.integer("action_attempts", 0, 0..=1_000_000) }
    }

    fn plan(&self, request: &Request, _: &[Branch], problems: &mut Problems) -> Vec<Branch> {
        plan::branches(request, problems)
    }

    fn next(&self, view: &View) -> Step {
        algorithm::next(view, self.action_attempts)
    }
}

sluice_sdk::transaction!(Saga);

#[cfg(test)]
mod tests;
