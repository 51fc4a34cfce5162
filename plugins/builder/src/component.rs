//! From a core module to a component, and what kind of plugin that is.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use wit_component::{ComponentEncoder, DecodedWasm};
use wit_parser::{Resolve, WorldId, WorldItem};

/// The package that plugins are written against, without its version.
const PACKAGE: &str = "sluice:plugin/";

/// The kinds, each named by the interface that only it exports, and what it may import (see `wit/world.wit`).
const KINDS: [(&str, &[&str]); 5] = [
    ("balancer", &["log", "load", "incoming"]),
    ("failover", &["log", "load"]),
    ("transaction", &["log"]),
    ("discovery", &["log", "clock", "http", "dns", "files", "registry"]),
    ("event-handler", &["log", "http", "state", "state-write", "events"]),
];

/// What a component is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// `balancer`, `failover`, `transaction`, `discovery` or `event-handler`.
    pub kind: String,
    /// Names of the interfaces that it imports, such as `load`; types and WASI left out.
    pub imports: BTreeSet<String>,
}

/// Wraps a core module that carries its WIT (as `wit-bindgen` embeds it).
pub(crate) fn encode(module: &[u8]) -> Result<Vec<u8>> {
    ComponentEncoder::default().module(module)?.validate(true).encode().context("it does not become a component")
}

/// Says what kind of plugin a component is, or why it is none. The gateway checks again, with every function's
/// type, when the component is pushed.
pub fn check(component: &[u8]) -> Result<Checked> {
    let decoded = wit_component::decode(component).context("it is not a WebAssembly component")?;
    let DecodedWasm::Component(resolve, world) = decoded else {
        bail!("it is a package of WIT, not a component");
    };
    let exports = interfaces(&resolve, world, Side::Export);
    let imports = interfaces(&resolve, world, Side::Import);
    let ours = |names: &BTreeSet<String>| -> BTreeSet<String> {
        names.iter().filter_map(|name| Some(name.strip_prefix(PACKAGE)?.split('@').next()?.to_owned())).collect()
    };
    let exported = ours(&exports);
    let Some((kind, granted)) = KINDS.iter().find(|(kind, _)| exported.contains(*kind)) else {
        bail!("it exports no kind of plugin: one of balancer, failover, transaction, discovery, event-handler");
    };
    ensure!(
        exported.contains("policy"),
        "it exports {PACKAGE}{kind}, but not {PACKAGE}policy, which every plugin does"
    );
    let mut imported = ours(&imports);
    imported.remove("types");
    for name in &imports {
        let known = name.starts_with(PACKAGE) || name.starts_with("wasi:");
        ensure!(known, "it imports {name}, which no plugin is given");
    }
    if let Some(refused) = imported.iter().find(|name| !granted.contains(&name.as_str())) {
        bail!("it imports {PACKAGE}{refused}, which a {kind} is not given");
    }
    Ok(Checked { kind: (*kind).to_owned(), imports: imported })
}

enum Side {
    Import,
    Export,
}

/// The full names of a world's interfaces (and, as they are, of its functions).
fn interfaces(resolve: &Resolve, world: WorldId, side: Side) -> BTreeSet<String> {
    let world = &resolve.worlds[world];
    let items = match side {
        Side::Import => &world.imports,
        Side::Export => &world.exports,
    };
    items
        .iter()
        .map(|(key, item)| match item {
            WorldItem::Interface { id, .. } => resolve.id_of(*id).unwrap_or_else(|| resolve.name_world_key(key)),
            _ => resolve.name_world_key(key),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_and_core_modules_are_no_components() {
        assert!(check(b"noise").is_err());
        assert!(check(b"\0asm\x01\0\0\0").is_err());
    }
}
