//! `[registry]`: what the embedded registry does when many leases run out at once.

use std::time::Duration;

use super::reader::Table;
use crate::model::{Percent, RegistryConfig};

/// A hold of less would be over before a second heartbeat could come; longer, nobody remembers why.
const HOLD_MIN: Duration = Duration::from_secs(1);
const HOLD_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

pub(super) fn read(root: &mut Table<'_>) -> RegistryConfig {
    let mut config = RegistryConfig::default();
    let Some(mut table) = root.read("registry", |value| value.table("a table: [registry]")) else {
        return config;
    };
    table.set(&mut config.mass_expiry.percent, "mass_expiry_percent", |value| {
        value.integer(1..=100).and_then(Percent::new)
    });
    table.set(&mut config.mass_expiry.hold, "mass_expiry_hold", |value| value.duration(HOLD_MIN..=HOLD_MAX));
    table.finish();
    config
}
