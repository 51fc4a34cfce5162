//! What the fuzz targets check, as functions that `fuzz_short.rs` calls too, without libFuzzer.

pub mod cloud_events;
pub mod configuration;
pub mod dns;
pub mod guard;
pub mod guest_answers;
pub mod registration;
