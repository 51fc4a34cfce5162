//! Event handlers: components that follow the log, keep a state of their own, and cause events and calls.
//!
//! ```text
//!  log ──▶ batch that fits ──▶ handle ──▶ one durable commit: state, checkpoint, emitted events, calls in the outbox
//!                                              └──▶ outbox ──▶ each call, at least once, with its Idempotency-Key
//!  GET /projections/{name}/… ──▶ read, in an instance of its own, over the state as of one commit
//! ```
//!
//! What a batch did is there whole or not at all, so each event has its effect on the state exactly once, and what is
//! emitted is emitted once: its id is made of the handler, the position of its cause and a number. A generation of a handler
//! is one version with its settings and the state that it has built; another version or other settings make another
//! generation, which builds its state beside the one in use (`keeper`, `swap`). What is stored stands in [`keys`].
//!
//! Effects of events at or below the checkpoint at which a new generation takes over never go out again. Those that the old one
//! had put aside stand aside of the new one too, and have theirs once they are replayed.
//!
//! | what | bound | constant |
//! | --- | --- | --- |
//! | events of one batch; their bytes | 256; 1 MiB, or one event | `BATCH_EVENTS_MAX`, `BATCH_BYTES_MAX` |
//! | effects of one batch; their bytes | 1,000; 8 MiB | [`HANDLE_EFFECTS_MAX`](crate::plugin::HANDLE_EFFECTS_MAX), `HANDLE_ANSWER_BYTES_MAX` |
//! | state of a generation | 4 GiB | `STATE_BYTES_MAX` |
//! | calls of a handler that fail on one event; that do not come back | 10; 3 | `ATTEMPTS_MAX`, `FAULTS_MAX` |
//! | between two attempts | up to 1 s, doubling to 60 s, full jitter | [`backoff`](crate::model::backoff) |
//! | events that come of one from outside; how deep | about 10,000; 16 | [`DESCENDANTS_MAX`](crate::model::DESCENDANTS_MAX), [`CAUSATION_DEPTH_MAX`](crate::model::CAUSATION_DEPTH_MAX) |
//! | calls of a handler at once; to one target; of one stream | 32; 8; 1 | `CALLS_MAX`, `TARGET_CALLS_MAX` |
//! | one call; attempts of it | 30 s; 10 | `CALL_TIMEOUT`, `ATTEMPTS_MAX` |
//! | calls that wait or stand aside, before the handler waits too; their bytes | 100,000; 1 GiB | [`OutboxBounds`] |
//! | how long the generation in use stands still to be taken over from | 5 s | `LAST_STRETCH_MAX` |
//! | instances that read; a read waits for one | 4; 5 s | `READERS_MAX`, `READ_WAIT` |

mod aside;
mod core;
mod effects;
mod error;
mod follow;
mod handler;
mod hub;
mod journal;
mod keeper;
mod keys;
mod lanes;
mod outbox;
mod queue;
mod record;
mod replay;
mod room;
mod shown;
mod step;
mod swap;
mod wanted;

pub use aside::{Discarded, Replayed};
pub use core::{HandlerCaller, OutgoingCall, Tell, Told};
pub use error::HandlersError;
pub use handler::{ComponentHandler, Handler, HandlerVersions, Making};
pub use hub::{Aside, EventHandlers, HandlerParts};
pub use keys::CallId;
pub use record::{OutboxCall, ParkedEvent, Pin, Progress, Refused};
pub use room::OutboxBounds;
pub use shown::{Doing, GenerationShown, HandlerShown, TroubleShown};
pub use wanted::Wanted;

#[cfg(test)]
mod tests;
