//! Distributed transactions: a call that changes several services happens everywhere or nowhere.
//!
//! The coordinator keeps the durable record, makes the calls and repeats them, and recovers; the protocol is a plugin:
//! `plan` turns a submission into branches, `next` is a pure function from all that has happened to the next step.
//!
//! ```text
//!  submit ──▶ plan ──▶ next ──▶ one durable commit (submission, first operations) ──▶ acknowledged
//!                       ▲                                                         └──▶ calls ──▶ answers
//!                       └──────────────── facts ◀──────────────────────────────────────────────────┘
//!             next: decide ──▶ one durable commit (facts, decision, its operations) ──▶ calls … ──▶ finish
//! ```
//!
//! What is called stands in the store before it is called; what was learned from an answer stands there together with
//! what follows from it. So after a crash what is unfinished is loaded, what was under way is asked once more, and the
//! plugin goes on from what it is shown. [`machine`] is one transaction without I/O, and holds the invariants that no
//! protocol may break; [`driver`] is its task.
//!
//! | what | bound | constant or key |
//! | --- | --- | --- |
//! | transactions that have not ended | 100,000 | `LIVE_MAX` |
//! | one request | 1 MiB | `REQUEST_BYTES_MAX` |
//! | branches; operations of each; those under way; steps | 1,000; 8; 256; 10,000 | `BRANCHES_MAX`, `OPERATIONS_MAX`, `UNDER_WAY_MAX`, `STEPS_MAX` |
//! | calls at once, over all transactions | 1,024 | `CALLS_MAX` |
//! | between two attempts of a call | up to 1 s, doubling to 60 s, full jitter | [`backoff`] |
//! | one call | 3 s | `request_timeout`, `REQUEST_TIMEOUT` |
//! | events kept of a transaction | 200 | `EVENTS_MAX` |
//! | ended transactions are kept | 7 days | `transactions.retention` |

mod answers;
mod begin;
mod call;
mod calls;
mod commands;
mod coordinator;
mod core;
mod driver;
mod error;
mod journal;
mod listing;
pub mod machine;
mod outcome;
mod plan;
mod protocol;
mod record;
mod shown;
mod submission;
mod targets;

use std::time::Duration;

pub use call::{ANSWER_BYTES_MAX, Answered, BranchCall, BranchCaller, CallAnswer, RawAnswer};
pub use coordinator::{Coordinator, Parts};
pub use core::Alert;
pub use error::{FieldProblem, TransactionError};
pub use listing::{Figures, Filter, PAGE_MAX, Page};
pub use protocol::{ComponentProtocol, Pin, Pinned, Protocol, ProtocolInForce, Protocols, StepError, Versions};
pub use record::{Event, EventKind, Trouble};
pub use shown::{BranchShown, Details, OperationShown, Status, Summary};
pub use submission::{Enlistment, Gid, REQUEST_BYTES_MAX, Submission};

/// Transactions that have not ended; each takes some KiB.
pub const LIVE_MAX: usize = 100_000;

/// Calls to participants at once, over all transactions: enough for 3,000 transactions a second of two branches whose
/// calls take 80 ms, and few enough sockets.
pub const CALLS_MAX: usize = 1_024;

/// Of one call, where its transaction names none: DTM's default.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// What may wait for one transaction's task.
const COMMANDS_MAX: usize = 64;

#[cfg(test)]
mod tests;
