//! What happens when an endpoint fails: the bounds that hold whatever a policy says, and what the gateway knows of
//! each endpoint over all workers.
//!
//! The policy decides (`plugin::FailoverInstance` on each worker, `plugin::HealthInstance` once a service); what it
//! decides is carried out here and in `gateway`, within these bounds:
//!
//! | file | what |
//! | --- | --- |
//! | `shared` | what all workers share of one service |
//! | `budget` | how many requests may be sent again |
//! | `judge` | who may be ejected, for how long, and who is probed |
//! | `checks` | what the gateway itself asks each endpoint |
//! | `adaptive` | how many requests at once an endpoint can take |
//! | `monitor`, `watched` | the thread that feeds every service's health policy |
//! | `book` | what became of endpoints, to be looked at |

mod adaptive;
mod book;
mod budget;
mod checks;
mod judge;
mod monitor;
mod shared;
mod watched;

pub use adaptive::Adaptive;
pub use book::{HealthBook, HealthEntry, Said, ServiceBook};
pub use budget::RetryBudget;
pub use checks::{ActiveChecks, CheckReport, Checked, CheckedService, Results};
pub use judge::{Judge, Overruled, Ruling, RulingKind, Standing};
pub use monitor::{Batch, CheckResult, Feed, HealthArm, HealthArms, HealthFault, Monitor, SavedHealth, ServiceWatch};
pub use shared::{FailoverCounts, Shared, Waiting};
