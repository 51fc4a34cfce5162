//! Passes failures on to the client, and leaves all endpoints in service: no retries, no ejections, no second copies.
//!
//! Settings: none.

use sluice_sdk::{Context, Settings, failover::Failover};

struct None;

/// What a policy does not say is nothing.
impl Failover for None {
    fn configure(_: &Context, _: &mut Settings) -> Self {
        Self
    }
}

sluice_sdk::failover!(None);

#[cfg(test)]
mod tests;
