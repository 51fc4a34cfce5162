//! Where services find each other.

pub mod dns;
