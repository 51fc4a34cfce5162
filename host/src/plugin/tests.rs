//! The runtime against components that are written for one test each.

mod calls;
mod faults;
pub(super) mod guest;
mod imports;
mod loading;
