//! What the end-to-end tests are told in.
//!
//! A test starts a real gateway process ([`sluice!`]) between real sockets: origins that behave as they are
//! told ([`Origin`], [`RawOrigin`]), a client that speaks HTTP ([`Client`]), one that speaks bytes
//! ([`RawConnection`]), and load on a schedule ([`Load`]). Nothing sleeps: a test waits for a condition under
//! a deadline ([`wait_until`]). No port is fixed: everything binds port 0 and is asked where it landed.

pub mod client;
pub mod config;
pub mod control;
pub mod dns;
pub mod first_slot;
pub mod gateway;
pub mod guest;
#[path = "../../guests/in_text.rs"]
pub mod guests;
pub mod h2;
pub mod held_port;
pub mod instance;
pub mod load;
pub mod origin;
pub mod participants;
pub mod process;
pub mod python;
pub mod raw;
pub mod raw_origin;
pub mod script;
pub mod slots;
pub mod strace;
pub mod transfer;
pub mod wait;
pub mod webhook_receiver;

pub use client::{Answer, Client};
pub use config::{any_route, endpoints, service};
pub use control::Refused;
pub use dns::{NameServer, Says, Service};
pub use first_slot::FirstSlot;
pub use gateway::{Sluice, SluiceBuilder};
pub use guest::Guest;
pub use h2::{H2Body, H2Connection, H2Exchange};
pub use held_port::HeldPort;
pub use instance::InstanceProcess;
pub use load::{Failure, Load, Report, RunningLoad, capacity_rps};
pub use origin::{Origin, Seen};
pub use participants::Participants;
pub use python::PythonPeer;
pub use raw::{RawAnswer, RawConnection};
pub use raw_origin::{RawExchange, RawOrigin};
pub use slots::SlotOrigin;
pub use transfer::{Exchange, Version};
pub use wait::{DEADLINE, wait_for, wait_until};
pub use webhook_receiver::{Delivered, WebhookReceiver};

/// The builder of a gateway process: `sluice!().config("…").start()`. A macro, because only the test's own
/// crate knows where cargo put the binary.
#[macro_export]
macro_rules! sluice {
    () => {
        $crate::SluiceBuilder::new(env!("CARGO_BIN_EXE_sluice"))
    };
}
