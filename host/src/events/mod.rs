//! Event sourcing: a durable, ordered store of events, and what follows them.
//!
//! ```text
//!  append ──▶ queue ──▶ writer thread: revisions, ids, positions ──▶ one durable commit ──▶ head moves ──▶ answers
//!                                                                                            │
//!  read, subscribe ◀── the tail in memory, or the disk ◀──────────────────────────────────────┘
//! ```
//!
//! One writer gives every event its place, so that the order of positions is the order in which events become visible:
//! nothing ever appears at or below [`EventStore::head`]. Readers go by positions alone; nobody keeps anything for them,
//! so that a slow one holds no writer back.

mod append;
pub mod cloud_events;
mod error;
pub mod groups;
pub mod handlers;
mod keys;
mod log;
mod record;

pub use append::{APPEND_BYTES_MAX, Append, Appended, AppendedEvent, AppendedStream, EVENTS_MAX, StreamAppend};
pub use error::{AppendError, EventStoreError, ReadError};
pub use log::{EventStore, Followed, PAGE_BYTES_MAX, Page, Read, StreamInfo, Subscription};

#[cfg(test)]
mod tests;
