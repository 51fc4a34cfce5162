//! What follows from a local transaction of the client (DTM's `msg`, a transactional outbox without a table): the client
//! prepares the message, commits its own transaction, and submits; then every step is done until it succeeds. Where it
//! does not come back, it is asked at `query_prepared` whether its transaction took place: 2xx, and the steps follow;
//! 409, and nothing does.
//!
//! A submission names `steps` (`[{"action": URL}]`), their `payloads`, and `query_prepared`. Without the latter, what was
//! prepared and not submitted in time is dropped. DTM's delayed messages are not supported.
//!
//! Settings: none.

mod algorithm;
mod plan;

use sluice_sdk::{
    Context, Settings,
    transaction::{Branch, Problems, Protocol, Request, Step, View},
};

struct Message;

impl Protocol for Message {
    fn configure(_: &Context, _: &mut Settings) -> Self {
        Self
    }

    fn plan(&self, request: &Request, _: &[Branch], problems: &mut Problems) -> Vec<Branch> {
        plan::branches(request, problems)
    }

    fn next(&self, view: &View) -> Step {
        algorithm::next(view)
    }
}

sluice_sdk::transaction!(Message);

#[cfg(test)]
mod tests;
