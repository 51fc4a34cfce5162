//! From bytes to a [`Version`]: what is no plugin is refused here, each reason in its own sentence.

use std::{collections::BTreeSet, sync::Arc};

use wasmtime::{
    Engine,
    component::{
        Component, InstancePre, Linker,
        types::{self, ComponentItem},
    },
};

use super::{
    LoadError, PolicyContext, Runtime, balancer,
    cache::Sha256,
    discovery, event_handler, failover,
    instance::State,
    transaction,
    version::{Asks, Identity, Linked, Usage, Version},
    wasi,
};
use crate::model::{Clock, PluginKind, PluginName, VersionId};

/// Largest component. Stock ones have some 50 KiB; one with a language runtime inside, some 20 MiB.
pub const COMPONENT_BYTES_MAX: usize = 64 << 20;

/// Memory of the instance that a component is tried with: more than any limit, which is checked when a service's own
/// instance is made.
const TRIAL_MEMORY_BYTES_MAX: usize = 1 << 30;

/// Our package, and its version up to where versions are compatible.
pub(super) const PACKAGE: &str = "sluice:plugin";
pub(super) const PACKAGE_VERSION: &str = "0.1";

impl Runtime {
    /// Compiles (or takes from the cache) and checks: a component, of one kind, complete, importing no more
    /// than its kind grants. Takes milliseconds to seconds: not for a worker or an async task.
    pub fn load(&self, plugin: &PluginName, component: &[u8]) -> Result<Arc<Version>, LoadError> {
        check_header(component)?;
        let compiled = self.compile(component)?;
        let ty = compiled.component_type();
        let kind = kind(&self.engine, &ty)?;
        check_exports(&self.engine, &ty, kind)?;
        check_imports(&self.engine, &ty, kind)?;
        let identity = Arc::new(Identity {
            plugin: plugin.clone(),
            id: VersionId::of(component),
            usage: Arc::new(Usage::default()),
            ticker: Arc::clone(&self.ticker),
            patience: self.patience,
        });
        let linked = self.link(kind, &compiled, &ty, &identity)?;
        Ok(Arc::new(Version { identity, linked }))
    }

    fn compile(&self, bytes: &[u8]) -> Result<Component, LoadError> {
        let make = || {
            Component::from_binary(&self.engine, bytes)
                .map_err(|error| LoadError(format!("is damaged, or cut short: {}", error.root_cause())))
        };
        self.compiled(Sha256::of(bytes), make)
    }

    /// Resolves imports and exports.
    fn link(
        &self,
        kind: PluginKind,
        compiled: &Component,
        ty: &types::Component,
        identity: &Arc<Identity>,
    ) -> Result<Linked, LoadError> {
        let trial = PolicyContext {
            name: "trial".to_owned(),
            settings: serde_json::Value::Object(serde_json::Map::new()),
            seed: 0,
            memory_bytes_max: TRIAL_MEMORY_BYTES_MAX,
            clock: Clock::start(),
        };
        match kind {
            PluginKind::Discovery => {
                let pre = self.resolve(compiled, ty, discovery::define_imports)?;
                discovery::link(pre, identity, &trial)
            }
            PluginKind::Failover => {
                let pre = self.resolve(compiled, ty, failover::define_imports)?;
                failover::link(pre, identity, &trial)
            }
            PluginKind::Transaction => {
                let pre = self.resolve(compiled, ty, transaction::define_imports)?;
                transaction::link(pre, identity, &trial)
            }
            PluginKind::EventHandler => {
                let pre = self.resolve(compiled, ty, event_handler::define_imports)?;
                event_handler::link(pre, identity, &trial)
            }
            PluginKind::Balancer => {
                let pre = self.resolve(compiled, ty, balancer::define_imports)?;
                balancer::link(pre, asks(&self.engine, ty), identity, &trial)
            }
        }
    }

    fn resolve<I: 'static>(
        &self,
        compiled: &Component,
        ty: &types::Component,
        define_imports: impl FnOnce(&mut Linker<State<I>>) -> wasmtime::Result<()>,
    ) -> Result<InstancePre<State<I>>, LoadError> {
        let mut linker = Linker::new(&self.engine);
        define_imports(&mut linker)
            .and_then(|()| wasi::define_imports(&mut linker, &self.engine, ty))
            .and_then(|()| linker.instantiate_pre(compiled))
            .map_err(|error| LoadError(format!("does not fit its world: {error:#}")))
    }
}

/// An import's or export's name, taken apart: `sluice:plugin/log@0.1.0`.
pub(super) struct ImportName<'a> {
    /// `sluice:plugin/log`, or whatever stands before the version.
    pub interface: &'a str,
    /// Empty where there is none.
    pub version: &'a str,
}

impl<'a> ImportName<'a> {
    pub fn parse(name: &'a str) -> Self {
        let (interface, version) = name.split_once('@').unwrap_or((name, ""));
        Self { interface, version }
    }

    fn has_version(&self, compatible: &str) -> bool {
        self.version.strip_prefix(compatible).is_some_and(|rest| rest.starts_with('.'))
    }

    /// `log` of `sluice:plugin/log`.
    fn of_ours(&self) -> Option<&'a str> {
        self.interface.strip_prefix(PACKAGE)?.strip_prefix('/')
    }
}

/// The interfaces that a kind exports, with their functions.
fn exports_of(kind: PluginKind) -> &'static [(&'static str, &'static [&'static str])] {
    match kind {
        PluginKind::Balancer => {
            &[("policy", &["configure", "save", "restore"]), ("balancer", &["update", "pick", "complete"])]
        }
        PluginKind::Failover => &[
            ("policy", &["configure", "save", "restore"]),
            ("failover", &["decide", "complete"]),
            ("health", &["update", "observe"]),
        ],
        PluginKind::Discovery => &[("policy", &["configure", "save", "restore"]), ("discovery", &["watch"])],
        PluginKind::Transaction => &[("policy", &["configure", "save", "restore"]), ("transaction", &["plan", "next"])],
        PluginKind::EventHandler => &[
            ("policy", &["configure", "save", "restore"]),
            ("event-handler", &["subscribe", "handle"]),
            ("read-model", &["read"]),
        ],
    }
}

/// What of `http` may be imported.
const HTTP: &[&str] = &["send", "[method]response.status", "[method]response.header", "[method]response.read"];

/// The interfaces that a kind may import, with their functions. `types` has none, and is any kind's; `events`
/// has none either.
fn imports_of(kind: PluginKind) -> &'static [(&'static str, &'static [&'static str])] {
    match kind {
        PluginKind::Balancer => {
            &[("types", &[]), ("log", &["write"]), ("load", &["in-flight"]), ("incoming", &["tried", "header", "path"])]
        }
        PluginKind::Discovery => &[
            ("types", &[]),
            ("log", &["write"]),
            ("clock", &["now", "sleep-ms"]),
            ("http", HTTP),
            ("dns", &["addresses", "services"]),
            ("files", &["read"]),
            ("registry", &["list-service"]),
        ],
        PluginKind::Failover | PluginKind::Transaction => &[("types", &[]), ("log", &["write"])],
        PluginKind::EventHandler => &[
            ("types", &[]),
            ("events", &[]),
            ("log", &["write"]),
            ("http", HTTP),
            ("state", &["get", "scan"]),
            ("state-write", &["put", "delete"]),
        ],
    }
}

/// What the first eight bytes tell.
fn check_header(bytes: &[u8]) -> Result<(), LoadError> {
    const MAGIC: &[u8] = b"\0asm";
    const MODULE: &[u8] = &[1, 0, 0, 0];
    const COMPONENT: &[u8] = &[0x0d, 0, 1, 0];
    let refuse = |why: String| Err(LoadError(why));
    if bytes.len() > COMPONENT_BYTES_MAX {
        return refuse(format!(
            "is too large: {:.1} MiB, and {} MiB is the most",
            bytes.len() as f64 / f64::from(1 << 20),
            COMPONENT_BYTES_MAX >> 20
        ));
    }
    match bytes.strip_prefix(MAGIC).map(|rest| rest.get(..4)) {
        _ if bytes.is_empty() => refuse("is empty: a WebAssembly component is needed".to_owned()),
        None => refuse("is not WebAssembly: it does not begin with \\0asm".to_owned()),
        Some(None) => refuse("is cut short: it ends within its first eight bytes".to_owned()),
        Some(Some(MODULE)) => refuse(
            "is a core module, not a component: build it with `sluice plugin build`, or wrap it with `wasm-tools component new`"
                .to_owned(),
        ),
        Some(Some(COMPONENT)) => Ok(()),
        Some(Some(other)) => refuse(format!("has an unknown version of the binary format: {}", hex::encode(other))),
    }
}

/// The kind is the one whose interface is exported.
fn kind(engine: &Engine, component: &types::Component) -> Result<PluginKind, LoadError> {
    let mut found = BTreeSet::new();
    let mut others = Vec::new();
    for (name, _) in component.exports(engine) {
        let parsed = ImportName::parse(name);
        let Some(interface) = parsed.of_ours() else {
            others.push(name);
            continue;
        };
        // `policy` is every kind's; `health` and `read-model` stand beside the interface that names the kind.
        if let Some(kind) = PluginKind::ALL.into_iter().find(|kind| kind.as_str() == interface) {
            if !parsed.has_version(PACKAGE_VERSION) {
                return Err(LoadError(format!(
                    "exports {name}, and this gateway has {PACKAGE}@{PACKAGE_VERSION}: build it against that"
                )));
            }
            found.insert(kind);
        }
    }
    match Vec::from_iter(found).as_slice() {
        [kind] => Ok(*kind),
        [] => {
            let instead =
                if others.is_empty() { String::new() } else { format!(" (it exports {})", others.join(", ")) };
            let kinds = PluginKind::ALL.map(PluginKind::as_str).join(", ");
            Err(LoadError(format!("is no plugin: it exports none of {PACKAGE}/{{{kinds}}}{instead}")))
        }
        several => {
            let several: Vec<_> = several.iter().map(|kind| kind.as_str()).collect();
            Err(LoadError(format!("is of several kinds at once ({}): a plugin is of one", several.join(", "))))
        }
    }
}

fn check_exports(engine: &Engine, component: &types::Component, kind: PluginKind) -> Result<(), LoadError> {
    let mut missing = Vec::new();
    for &(interface, functions) in exports_of(kind) {
        let exported = component.exports(engine).find_map(|(name, export)| {
            let name = ImportName::parse(name);
            let same = name.of_ours() == Some(interface) && name.has_version(PACKAGE_VERSION);
            match export.ty {
                ComponentItem::ComponentInstance(instance) if same => Some(instance),
                _ => None,
            }
        });
        let Some(exported) = exported else {
            missing.push(format!("the interface {PACKAGE}/{interface}@{PACKAGE_VERSION}"));
            continue;
        };
        let is_function = |function: &str| {
            exported
                .get_export(engine, function)
                .is_some_and(|export| matches!(export.ty, ComponentItem::ComponentFunc(_)))
        };
        let absent = functions.iter().filter(|function| !is_function(function));
        missing.extend(absent.map(|function| format!("the function {function} of {PACKAGE}/{interface}")));
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(LoadError(format!("lacks exports that every {kind} must have: {}", missing.join(", "))))
    }
}

fn check_imports(engine: &Engine, component: &types::Component, kind: PluginKind) -> Result<(), LoadError> {
    let mut refused = Vec::new();
    for (name, import) in component.imports(engine) {
        let parsed = ImportName::parse(name);
        let ComponentItem::ComponentInstance(instance) = import.ty else {
            refused.push(name.to_owned());
            continue;
        };
        if wasi::INTERFACES.contains(&parsed.interface) && parsed.has_version(wasi::VERSION) {
            continue;
        }
        let granted = imports_of(kind).iter().find(|(interface, _)| parsed.of_ours() == Some(interface));
        match granted {
            Some((_, functions)) if parsed.has_version(PACKAGE_VERSION) => {
                let function = |(item, export): (&str, types::ComponentExtern<'_>)| {
                    matches!(export.ty, ComponentItem::ComponentFunc(_)).then(|| item.to_owned())
                };
                let asked = instance.exports(engine).filter_map(function);
                let unknown = asked.filter(|item| !functions.contains(&item.as_str()));
                refused.extend(unknown.map(|item| format!("{name}.{item}")));
            }
            _ => refused.push(name.to_owned()),
        }
    }
    if refused.is_empty() {
        return Ok(());
    }
    let granted: Vec<_> = imports_of(kind).iter().map(|(interface, _)| *interface).collect();
    Err(LoadError(format!(
        "imports {}, which a {kind} may not: it may import {PACKAGE}/{{{}}}@{PACKAGE_VERSION} and, of WASI {}, cli, \
         clocks, filesystem (without any folder), io and random",
        refused.join(", "),
        granted.join(", "),
        wasi::VERSION,
    )))
}

fn asks(engine: &Engine, component: &types::Component) -> Asks {
    let incoming = component.imports(engine).find_map(|(name, import)| match import.ty {
        ComponentItem::ComponentInstance(instance) if ImportName::parse(name).of_ours() == Some("incoming") => {
            Some(instance)
        }
        _ => None,
    });
    let asks = |function| incoming.as_ref().is_some_and(|incoming| incoming.get_export(engine, function).is_some());
    Asks { tried: asks("tried"), header: asks("header"), path: asks("path") }
}
