//! How the registry is set up.

use crate::model::MassExpiry;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryOptions {
    /// What the one node is called.
    pub node_name: String,
    /// Where instances are that registered without an address: the gateway's own host.
    pub node_address: String,
    pub mass_expiry: MassExpiry,
}
