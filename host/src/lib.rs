//! Sluice: an API gateway whose every policy is a WebAssembly component, replaceable while traffic flows.

pub mod cli;
pub mod config;
pub mod control;
pub mod events;
pub mod failover;
pub mod gateway;
pub mod model;
pub mod plugin;
pub mod registry;
pub mod simulator;
pub mod storage;
pub mod telemetry;
pub mod transactions;
