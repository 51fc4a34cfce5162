//! A gateway without time: scenarios are run against the plugins themselves, stock ones or a user's own, on a virtual
//! clock (`sluice plugin simulate`).
//!
//! A seeded discrete-event simulation on one thread: the same scenario and seed give the same figures, to the last
//! digit. What decides is the component, called as a worker calls it; what bounds it are the gateway's own
//! [`crate::failover`] and rules of an answer. Only sockets are missing: endpoints are queues with servers, and a
//! connection costs nothing.
//!
//! | file | what |
//! | --- | --- |
//! | `scenario` | what is simulated, and how it is written down |
//! | `events`, `random` | virtual time, and the streams of randomness |
//! | `arrivals`, `server`, `service_time` | the world: clients and endpoints |
//! | `policies` | the plugins on trial and their instances |
//! | `run` | the gateway between them |
//! | `figures`, `report`, `plot` | what was seen, as a table, JSON, and a drawing |

mod arrivals;
mod events;
pub mod figures;
pub mod plot;
pub mod policies;
mod random;
pub mod report;
mod run;
pub mod scenario;
mod server;
mod service_time;

pub use figures::Figures;
pub use policies::{Pairing, Policy};
pub use run::run;
pub use scenario::Scenario;
