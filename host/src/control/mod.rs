//! control

pub mod dashboard;
