//! Components of a few lines, and instances of them in this process.

use std::sync::Arc;

use sluice_harness::guest::resolve;
pub use sluice_harness::guest::{Guest, component, component_of};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use crate::{
    model::{Clock, Completion, Endpoint, EndpointState, Outcome, Slot, Weight},
    plugin::{BalancerInstance, Fault, Incoming, PickRequest, PolicyContext, Runtime, Version},
};

/// A guest without a gateway around it.
pub trait InProcess {
    fn version(&self, runtime: &Runtime) -> Arc<Version>;

    /// One instance in a runtime of its own.
    fn instance(&self) -> BalancerInstance;
}

impl InProcess for Guest {
    fn version(&self, runtime: &Runtime) -> Arc<Version> {
        runtime.load(&plugin_name(), &self.component()).expect("the guest is right")
    }

    fn instance(&self) -> BalancerInstance {
        self.version(&runtime()).balancer(&context()).expect("the guest configures")
    }
}

/// The component as a toolchain for WASI 0.1 makes it: with the adapter from that to 0.2.
pub fn component_with_adapter(guest: &Guest) -> Vec<u8> {
    use wasi_preview1_component_adapter_provider::{
        WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
    };
    let (resolve, world) = resolve(&[], true, "balancer-plugin");
    let mut module = wat::parse_str(guest.text()).expect("the text parses");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).expect("the world fits");
    let mut encoder = ComponentEncoder::default();
    let adapter = (WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER);
    encoder.module(&module).expect("the module fits").adapter(adapter.0, adapter.1).expect("the adapter fits");
    encoder.encode().expect("the module fits its world")
}

pub fn runtime() -> Arc<Runtime> {
    Runtime::new(None).expect("the engine starts")
}

pub fn plugin_name() -> crate::model::PluginName {
    "tested".parse().expect("a plugin's name")
}

pub fn context() -> PolicyContext {
    PolicyContext {
        name: "orders".to_owned(),
        settings: serde_json::json!({}),
        seed: 7,
        memory_bytes_max: 16 << 20,
        clock: Clock::start(),
    }
}

pub fn pick(instance: &mut BalancerInstance) -> Result<Option<Slot>, Fault> {
    pick_for(instance, 0, &Incoming::default())
}

/// A pick whose `hash` says what shall be done.
pub fn pick_for(instance: &mut BalancerInstance, hash: u64, incoming: &Incoming) -> Result<Option<Slot>, Fault> {
    instance.pick(PickRequest { now_us: 1_000_000, random: 42, hash, attempt: 0 }, incoming)
}

pub fn member(slot: Slot) -> EndpointState {
    let label: crate::model::HostPort = format!("127.0.0.1:{}", 9000 + slot).parse().expect("an address");
    let address = label.socket_addr().expect("an address without a name");
    let service = "orders".parse().expect("a service's name");
    EndpointState {
        endpoint: Endpoint::new(service, slot, u64::from(slot) * 1000, address, label),
        weight: Weight::ONE,
        priority: 0,
        zone: "b".to_owned(),
        metadata: vec![("rack".to_owned(), "7".to_owned())],
        healthy: true,
        available: true,
        since_us: 1,
    }
}

pub fn completion(slot: Slot) -> Completion {
    Completion { slot, outcome: Outcome::TimedOut, at_us: 5, first_byte_us: 0, total_us: 9, load_permille: Some(100) }
}
