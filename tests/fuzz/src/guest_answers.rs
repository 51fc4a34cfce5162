//! What the host does with what a guest answers: the guest says whatever the input says, byte for byte, and the host
//! must neither panic nor believe it.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    sync::Arc,
};

use sluice::{
    config::{Known, parse},
    gateway::ServiceSnapshot,
    model::{Clock, Endpoint, EndpointState, Slot, Weight},
    plugin::{BalancerInstance, Incoming, PickRequest, PolicyContext, Runtime, Version},
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// What the host lets a guest hand over at once.
const SAVED_LEN_MAX: usize = 1 << 20;

/// What the host shows of a guest's words, and the mark of what it left off.
const MESSAGE_LEN_MAX: usize = 1024 + "…".len();

/// A state of this length answers one `restore` (12 bytes: a result whose error is a string), one `save` (8: where
/// a list stands) and one `pick` (8: an option of a slot).
const ANSWERS_LEN: usize = 28;

/// A balancer that answers with the bytes of the state that it was last told to restore. What is to the left of
/// the state, and what it points at, is the guest's own memory.
const PARROT: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32) (param $len i32) (result i32)
    (if (i32.gt_u (local.get $len) (i32.const 32768)) (then unreachable))
    (i32.const 4096))
  (func (export "sluice:plugin/policy@0.1.0#configure") (param i32 i32 i32 i32 i64) (result i32) (i32.const 0))
  (func (export "sluice:plugin/policy@0.1.0#restore") (param $state i32) (param i32) (result i32) (local.get $state))
  (func (export "sluice:plugin/policy@0.1.0#save") (result i32) (i32.const 4108))
  (func (export "sluice:plugin/balancer@0.1.0#update") (param i32 i32 i64))
  (func (export "sluice:plugin/balancer@0.1.0#pick") (param i64 i64 i64 i32) (result i32) (i32.const 4116))
  (func (export "sluice:plugin/balancer@0.1.0#complete") (param i32 i32 i64)))"#;

thread_local! {
    /// Compiling takes milliseconds, so it is done once.
    static VERSION: RefCell<Option<Arc<Version>>> = const { RefCell::new(None) };
}

pub fn check(data: &[u8]) {
    // The last byte says which of four endpoints are there, and which are available.
    let Some((&membership, data)) = data.split_last() else { return };
    let snapshot = snapshot(membership);
    let mut instance = None;
    for state in data.chunks(64).filter(|state| state.len() >= ANSWERS_LEN) {
        let guest = instance.get_or_insert_with(guest);
        // A call that does not come back ends the instance, as in the gateway.
        if !is_well(guest, state, &snapshot) {
            instance = None;
        }
    }
}

fn is_well(guest: &mut BalancerInstance, state: &[u8], snapshot: &ServiceSnapshot) -> bool {
    match guest.restore(state) {
        Ok(Ok(())) => {}
        Ok(Err(message)) => {
            assert!(message.len() <= MESSAGE_LEN_MAX, "{} bytes to show", message.len());
            assert!(!message.contains(|shown: char| shown.is_control()), "{message:?}");
        }
        Err(fault) => {
            assert!(!fault.to_string().is_empty());
            return false;
        }
    }
    match guest.save() {
        Ok(saved) => assert!(saved.len() <= SAVED_LEN_MAX),
        Err(_) => return false,
    }
    let request = PickRequest { now_us: 1, random: 2, hash: 3, attempt: 0 };
    let Ok(answer) = guest.pick(request, &Incoming::default()) else { return false };
    for tried in [&[][..], &[0], &[0, 1, 2, 3]] {
        assert_sound(snapshot, answer, tried);
    }
    true
}

/// What is accepted is an endpoint that can be sent to, and never one that was tried while another was not.
fn assert_sound(snapshot: &ServiceSnapshot, answer: Option<Slot>, tried: &[Slot]) {
    if !snapshot.accepts(answer, tried) {
        return;
    }
    let up = snapshot.members().filter(|member| member.available).count();
    match answer {
        Some(slot) => {
            let chosen = snapshot.endpoint(slot).expect("an accepted slot has an endpoint");
            assert_eq!(chosen.endpoint.slot, slot);
            assert!(chosen.available || up * 2 < snapshot.members().count() || up == 0, "{slot} is not available");
            assert!(!tried.contains(&slot) || snapshot.eligible(tried).next().is_none(), "{slot} was tried");
        }
        None => assert!(up * 2 < snapshot.members().count() || up == 0, "{up} endpoints could have been chosen"),
    }
}

fn guest() -> BalancerInstance {
    let version = VERSION.with_borrow_mut(|version| Arc::clone(version.get_or_insert_with(load)));
    let context = PolicyContext {
        name: "parrot".to_owned(),
        settings: serde_json::json!({}),
        seed: 1,
        memory_bytes_max: 1 << 20,
        clock: Clock::start(),
    };
    version.balancer(&context).expect("it configures")
}

fn load() -> Arc<Version> {
    let mut resolve = Resolve::default();
    let package = resolve.push_path(wit()).expect("the WIT parses").0;
    let world = resolve.select_world(&[package], Some("balancer-plugin")).expect("the world is there");
    let mut module = wat::parse_str(PARROT).expect("the text parses");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).expect("the world fits");
    let mut encoder = ComponentEncoder::default();
    let component = encoder.module(&module).expect("the module fits").encode().expect("the module fits its world");
    let runtime = Runtime::new(None).expect("the engine starts");
    runtime.load(&"parrot".parse().expect("a name"), &component).expect("the guest is right")
}

/// The repository's WIT: above this crate, or above the host's, for whose tests this file is compiled too.
fn wit() -> PathBuf {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("wit"));
    above.into_iter().find(|wit| wit.join("world.wit").exists()).expect("the repository has a folder wit")
}

/// Of four endpoints, those whose bit is set in the low half; available are those also set in the high half.
fn snapshot(membership: u8) -> ServiceSnapshot {
    let text = "[services.orders]\nendpoints = [\"127.0.0.1:9001\"]\n[[listener]]\naddress = \"127.0.0.1:0\"\n";
    let known: Known = ["least-request", "standard"].into_iter().map(|name| name.parse().expect("a name")).collect();
    let config = parse(text, "sluice.toml", Path::new("/"), &known).expect("the configuration is right");
    let config = config.services.into_values().next().expect("one service");
    let endpoints = (0..4_u8).map(|bit| {
        let (there, available) = (membership >> bit & 1 == 1, membership >> (bit + 4) & 1 == 1);
        there.then(|| endpoint(Slot::from(bit), available))
    });
    let shared = sluice::failover::Shared::new(1, 1);
    ServiceSnapshot { config, endpoints: endpoints.collect(), updated_us: 1, shared }
}

fn endpoint(slot: Slot, available: bool) -> EndpointState {
    let label: sluice::model::HostPort = "127.0.0.1:9001".parse().expect("an address");
    let address = label.socket_addr().expect("no name");
    let service = "orders".parse().expect("a name");
    EndpointState {
        endpoint: Endpoint::new(service, slot, 7, address, label),
        weight: Weight::ONE,
        priority: 0,
        zone: String::new(),
        metadata: Vec::new(),
        healthy: true,
        available,
        since_us: 1,
    }
}
