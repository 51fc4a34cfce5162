//! Protocols for tests: the stock components, and liars written down here.

use std::{fs, path::Path, sync::Arc, time::Duration};

use serde_json::Map;

use crate::{
    model::{
        Clock, PluginName, VersionId,
        transaction::{Branch, Step, View},
    },
    plugin::{Fault, Problem, Runtime},
    transactions::{ComponentProtocol, Pin, Pinned, Protocol, ProtocolInForce, Protocols, StepError, Versions},
};

const STOCK: &str = "../plugins/built/transaction";

/// All four, as `make plugins` builds them; where they are not built, a test says so and proves nothing. In CI they are.
pub fn stock() -> Option<Protocols> {
    // Whether a call is within its time is another test's subject; here a busy machine shall not be taken for a fault.
    let runtime = Runtime::patient().expect("the engine starts");
    let mut protocols = Protocols::new();
    for name in ["two-phase-commit", "saga", "tcc", "message"] {
        let path = Path::new(STOCK).join(format!("{name}.wasm"));
        let Ok(bytes) = fs::read(&path) else {
            let missing = format!("{} is not built: make plugins", path.display());
            assert!(std::env::var_os("CI").is_none(), "{missing}");
            eprintln!("{missing}");
            return None;
        };
        let plugin: PluginName = name.parse().expect("a name");
        let version = runtime.load(&plugin, &bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let pin = pin(name, version.id());
        let protocol = ComponentProtocol::new(version, &pin, Clock::start(), 1).expect("it takes no settings");
        protocols.insert(name.to_owned(), in_force(pin, Arc::new(protocol)));
    }
    Some(protocols)
}

pub fn pin(plugin: &str, version: VersionId) -> Pin {
    Pin { plugin: plugin.parse().expect("a name"), version, settings: Map::new(), memory_bytes_max: 16 << 20 }
}

pub fn in_force(pin: Pin, protocol: Arc<dyn Protocol>) -> ProtocolInForce {
    ProtocolInForce { incumbent: Pinned { pin, protocol }, candidate: None, timeout: Duration::from_secs(35) }
}

/// No transaction keeps to any but these.
pub struct NoOthers;

impl Versions for NoOthers {
    fn load(&self, pin: &Pin) -> Result<Arc<dyn Protocol>, String> {
        Err(format!("{} is in force, and nothing else is asked for", pin.plugin))
    }
}

/// Another one, which answers a decision with the same again.
pub struct DecidesAgain(pub Arc<dyn Protocol>);

impl Protocol for DecidesAgain {
    fn plan(&self, request: &str, enlisted: &[Branch]) -> Result<Result<Vec<Branch>, Vec<Problem>>, Fault> {
        self.0.plan(request, enlisted)
    }

    fn next(&self, view: &View, moves: &dyn Fn(&Step) -> bool) -> Result<Step, StepError> {
        view.decision.map_or_else(|| self.0.next(view, moves), |decision| Ok(Step::Decide(decision)))
    }
}
