//! Consumer groups: consumers share the events of a log, each event goes to one of them, and it is known durably which are
//! settled.
//!
//! ```text
//!  log ──▶ buffer: what is read and not settled ──▶ take: the first of each stream, under a lease, as attempt n
//!             ▲                                        ├──▶ ack   ──▶ one durable commit ──▶ answered; the next of its stream
//!             │ retry, or a lease that ran out         ├──▶ retry ──▶ waits (backoff, jitter), its stream with it
//!             └────────────────────────────────────────┴──▶ park  ──▶ put aside with its reason; replay brings it back
//! ```
//!
//! Partitioned by stream: one event of a stream is under way at a time, and the next follows when it is acknowledged or parked,
//! so that order within a stream holds whoever consumes it. Every event is delivered at least once: a lease that runs out
//! (`ack_timeout`) is a failed attempt, and after `attempts_max` of them the event is parked.
//!
//! What is stored of a group is its settings, how far it has read, and which events up to there are *not* settled, at most as
//! many as the buffer holds ([`record::Progress`]); that record and what is parked are one commit, and all that waits for
//! a commit, of all groups, shares one (`scribe`). A group follows the log by its position and reads only when a consumer asks,
//! so that one without consumers costs its record, and a slow one holds no writer back.
//!
//! A stream that waits keeps what is read of it in the buffer: where 500 events stand behind one that fails, the other streams
//! wait too, until it is acknowledged or parked.
//!
//! A webhook is a group that the gateway itself consumes, by calls (`webhook`).
//!
//! | what | bound | constant |
//! | --- | --- | --- |
//! | groups | 256 → 507 | [`GROUPS_MAX`] |
//! | events of a group that are read and not settled; their bytes | 500; 4 MiB, or one page | `BUFFER_MAX`, `BUFFER_BYTES_MAX` |
//! | the same, of all groups | 256 MiB, then one event a group | `HELD_BYTES_MAX` |
//! | a take; how long it waits | 500 events; 60 s | `BUFFER_MAX`, [`WAIT_MAX`] |
//! | consumers of a group; not seen for | 1,000 → 503; 2 min | `CONSUMERS_MAX`, `CONSUMER_FORGOTTEN_AFTER` |
//! | a page of what stands aside | 4 MiB, then the next | [`PAGE_BYTES_MAX`](super::PAGE_BYTES_MAX) |
//! | a lease; attempts | 30 s; 10 | settings `ack_timeout`, `attempts_max` |
//! | between two attempts | up to 1 s, doubling to 60 s, full jitter | setting `backoff`, [`backoff`](crate::model::backoff) |
//! | a reason | 1,024 bytes, then cut | `REASON_BYTES_MAX` |
//! | calls of a webhook at once | 16 | `PUSHES_MAX` |
//! | a pause that its receiver wants | 1 s to 1 h, and no less than between two attempts | `RETRY_AFTER_MIN`, `RETRY_AFTER_MAX` |

mod core;
mod error;
mod group;
mod hub;
mod journal;
mod keys;
mod read;
mod record;
mod remove;
mod scribe;
mod settings;
mod shown;
mod state;
mod token;
mod webhook;

pub use core::WebhookCaller;
pub use error::GroupsError;
pub use group::Settled;
pub use hub::{Defined, EventGroups, GROUPS_MAX, GroupParts, ParkedPage, Replay, WAIT_MAX};
pub use record::{ParkedEvent, Stopped};
pub use settings::{GroupStart, Settings, Webhook};
pub use shown::{ConsumerShown, GroupShown, TroubleShown};
pub use state::{Delivery, How, NotSettled};
pub use token::Token;

#[cfg(test)]
mod tests;
