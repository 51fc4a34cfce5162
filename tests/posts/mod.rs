//! POSTs under random failures: the clients, the instances, and the ledger that both write in.

pub mod client;
pub mod instance;
pub mod ledger;
mod peer;
