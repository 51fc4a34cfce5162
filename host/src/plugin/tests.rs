//! The runtime against components that are written for one test each.

mod calls;
mod faults;
mod fetching;
pub(crate) mod guest;
mod hostile;
mod imports;
mod loading;
mod real;
mod real_failover;
mod real_transaction;
mod waiting;
