//! POSTs under random failures: the clients, the instances, and what both know of each.

pub mod client;
pub mod instance;
pub mod ledger;
mod peer;
