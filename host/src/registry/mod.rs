//! Where services are: instances that register themselves, keep a lease, and are found.
//!
//! ```text
//!  write ──▶ keeper: state changed ──▶ one durable commit ──▶ published ──▶ the caller is answered, who waits is woken
//!  heartbeat ──▶ the lease's own cell (no commit; only a change of status is a write)
//!  read  ──▶ what was published last
//! ```
//!
//! [`state`] is the registry as plain, deterministic state; the [`keeper`] is the one task that changes it; everybody
//! else has a [`Registry`]: reads never wait for a write, writes return once they are durable. One gateway is one
//! *node*, in Consul's words, whose own checks and maintenance hold for all instances.
//!
//! | what | default | constant or key |
//! | --- | --- | --- |
//! | instances | 50,000 | `INSTANCES_MAX` |
//! | checks of an instance, and of the node | 16 | `CHECKS_MAX` |
//! | names, tags, metadata, times | | [`rules`] |
//! | leases that may run out at once | 50 % of a service's, or of all, and 4 in any case | `registry.mass_expiry_percent`, `MASS_MIN` |
//! | how long they are held beyond | 10 min | `registry.mass_expiry_hold` |
//! | active checks at work at once | 256 | `PROBES_MAX` |
//! | changes that wait for the store | 1,024, then their callers wait | `CHANGES_MAX` |

mod checks;
pub mod dns;
mod error;
mod handle;
mod instance;
mod keeper;
mod lease;
mod options;
mod registration;
pub mod rules;
mod state;
mod view;
mod wake;

pub use error::RegistryError;
pub use handle::Registry;
pub use instance::{
    CheckStatus, Listing, NodeListing, RegisteredCheck, RegisteredInstance, ServicesListing, TaggedAddress, Weights,
};
pub use options::RegistryOptions;
pub use registration::{CheckDefinition, CheckKind, HttpCheck, Registration, Thresholds};
pub use rules::FieldProblem;
pub use state::{HeldLeases, INSTANCES_MAX};
pub use view::Figures;

#[cfg(test)]
mod tests;
