//! Event handlers without components and sockets: native ones, virtual time, a simulated disk.

mod calls;
mod crashes;
mod failures;
mod slow;
mod swaps;
mod world;
