//! The coordinator without sockets: virtual time, a simulated disk, simulated participants.

mod life;
mod outcomes;
mod protocols;
mod simulation;
mod world;
