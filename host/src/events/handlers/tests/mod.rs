//! Event handlers without components and sockets: native ones, virtual time, a simulated disk.

mod calls;
mod crashes;
mod failures;
mod swaps;
mod world;
