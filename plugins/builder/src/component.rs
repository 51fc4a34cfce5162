//! From a core module to a component, and what kind of plugin that is.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use wit_component::{ComponentEncoder, DecodedWasm};
use wit_parser::{Resolve, WorldId, WorldItem};

/// The package that plugins are written against, without its version.
const PACKAGE: &str = "sluice:plugin/";

/// How a core module begins: the magic number and its version (WebAssembly 1.0 §5.5.16).
const MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// What a world of `wit/world.wit` has.
struct Kind {
    /// The kind, named by the interface that only it exports.
    name: &'static str,
    /// What else it exports.
    exports: &'static [&'static str],
    /// What it may import.
    imports: &'static [&'static str],
}

const KINDS: [Kind; 5] = [
    Kind { name: "balancer", exports: &["policy"], imports: &["log", "load", "incoming"] },
    Kind { name: "failover", exports: &["policy", "health"], imports: &["log"] },
    Kind { name: "transaction", exports: &["policy"], imports: &["log"] },
    Kind { name: "discovery", exports: &["policy"], imports: &["log", "clock", "http", "dns", "files", "registry"] },
    Kind { name: "event-handler", exports: &["policy"], imports: &["log", "http", "state", "state-write", "events"] },
];

/// What a toolchain with a C library always imports. The gateway answers some of it, and the rest traps when called.
const WASI: [&str; 5] = ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/"];

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
    ensure!(
        !component.starts_with(MODULE),
        "it is a core module, not a component: `sluice plugin build` makes a component of a crate"
    );
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
    let Some(Kind { name: kind, exports, imports: granted }) = KINDS.iter().find(|kind| exported.contains(kind.name))
    else {
        bail!("it exports no kind of plugin: one of balancer, failover, transaction, discovery, event-handler");
    };
    if let Some(missing) = exports.iter().find(|name| !exported.contains(**name)) {
        bail!("it exports {PACKAGE}{kind}, but not {PACKAGE}{missing}, which every {kind} plugin does");
    }
    let mut imported = ours(&imports);
    imported.remove("types");
    for name in &imports {
        let known = [PACKAGE].iter().chain(&WASI).any(|package| name.starts_with(package));
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

    /// What `check` says of a component in the text format, with all causes.
    fn refused(wat: &str) -> String {
        let component = wat::parse_str(wat).expect("valid text");
        format!("{:#}", check(&component).expect_err("it is no plugin"))
    }

    #[test]
    fn noise_and_core_modules_are_no_components() {
        assert!(check(b"noise").is_err());
        assert!(refused(include_str!("../../../tests/guests/wat/core-module.wat")).contains("is a core module"));
    }

    #[test]
    fn a_component_of_another_world_is_told_what_plugins_export() {
        let said = refused(include_str!("../../../tests/guests/wat/wrong-world.wat"));
        assert!(said.contains("exports no kind of plugin: one of balancer, failover"), "{said}");
    }

    #[test]
    fn a_kind_without_the_interface_that_all_have_is_incomplete() {
        let said = refused(include_str!("../../../tests/guests/wat/half-a-balancer.wat"));
        assert!(said.contains("but not sluice:plugin/policy"), "{said}");
    }

    #[test]
    fn half_a_failover_policy_is_incomplete_and_asks_for_no_load() {
        let with = |import: &str, exports: &[&str]| {
            let exports: String = exports
                .iter()
                .map(|name| format!(r#"(export "sluice:plugin/{name}@0.1.0" (instance $empty))"#))
                .collect();
            format!(r#"(component (import "sluice:plugin/{import}@0.1.0" (instance)) (instance $empty) {exports})"#)
        };
        let whole = ["failover", "health", "policy"];
        let component = wat::parse_str(with("log", &whole)).expect("valid text");
        assert_eq!(check(&component).expect("a failover policy").kind, "failover");
        assert!(refused(&with("load", &whole)).contains("load, which a failover is not given"));
        assert!(refused(&with("log", &["failover", "policy"])).contains("but not sluice:plugin/health"));
    }

    #[test]
    fn imports_that_nobody_grants_are_named() {
        let with = |import: &str| {
            format!(
                r#"(component (import "{import}" (instance)) (instance $empty)
                    (export "sluice:plugin/balancer@0.1.0" (instance $empty))
                    (export "sluice:plugin/policy@0.1.0" (instance $empty)))"#
            )
        };
        assert!(
            refused(&with("intruder:host/shell")).contains("imports intruder:host/shell, which no plugin is given")
        );
        assert!(refused(&with("wasi:sockets/tcp@0.2.6")).contains("imports wasi:sockets/tcp@0.2.6"));
        assert!(refused(&with("sluice:plugin/http@0.1.0")).contains("http, which a balancer is not given"));
        for granted in ["sluice:plugin/load@0.1.0", "wasi:cli/stdout@0.2.6"] {
            let component = wat::parse_str(with(granted)).expect("valid text");
            assert_eq!(check(&component).expect("a balancer").kind, "balancer");
        }
    }
}
