//! What changes the running gateway.
//!
//! One task, the [`publisher`], owns how things should be (the configuration file, the [`overlay`] of what the API
//! changed, canaries) and makes each change one transaction that every worker adopts, or none. Around it stand what
//! asks for changes: the HTTP [`api`], the [`supervisor`] of plugin instances that failed, the watch over a
//! [`canary`], host names whose addresses changed ([`membership`]), sources of endpoints ([`discovery`]), and signals ([`run`]).

pub mod api;
mod calls;
pub mod canary;
pub mod change;
pub mod dashboard;
pub mod discovery;
mod dns;
pub mod events;
mod ground;
mod groups;
pub mod handle;
pub mod handlers;
pub mod history;
pub mod membership;
pub mod overlay;
mod pinned;
pub mod publisher;
pub mod report;
mod run;
mod stock;
pub mod supervisor;
pub mod transactions;

pub use run::{RunError, Trigger, known_plugins, run};

#[cfg(test)]
mod tests;
