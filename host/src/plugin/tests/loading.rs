use super::guest::{Guest, completion, component, component_of, context, member, pick_for, plugin_name, runtime};
use crate::{
    model::{PluginKind, VersionId},
    plugin::{CacheCounts, Incoming, InstanceError, LoadError, PolicyContext, Runtime, stock},
};

fn refusal(bytes: &[u8]) -> String {
    let LoadError(message) = runtime().load(&plugin_name(), bytes).expect_err("this is no balancer");
    assert!(!message.contains('\n') && message.len() < 500, "one sentence: {message}");
    message
}

#[test]
fn a_balancer_is_loaded_under_the_hash_of_its_bytes() {
    let bytes = Guest::default().component();
    let version = runtime().load(&plugin_name(), &bytes).unwrap();
    assert_eq!((version.id(), version.kind()), (VersionId::of(&bytes), PluginKind::Balancer));
    assert_eq!(version.plugin().as_str(), "tested");
    assert_eq!(version.live_instances(), 0, "the one that it was tried with is gone");
    let shown = format!("{version:?}");
    assert!(shown.contains("tested") && shown.contains(&version.id().to_string()), "{shown}");
}

#[test]
fn what_is_no_component_is_refused_by_its_first_bytes() {
    assert_eq!(refusal(b""), "is empty: a WebAssembly component is needed");
    assert_eq!(refusal(b"hello, I am a plugin"), "is not WebAssembly: it does not begin with \\0asm");
    assert_eq!(refusal(b"\0asm\x0d"), "is cut short: it ends within its first eight bytes");
    let module = wat::parse_str("(module)").unwrap();
    assert!(refusal(&module).starts_with("is a core module, not a component: "), "{}", refusal(&module));
    assert_eq!(refusal(b"\0asm\x0e\0\x01\0more"), "has an unknown version of the binary format: 0e000100");
}

#[test]
fn a_component_of_a_hundred_megabytes_is_refused_without_reading_it() {
    assert_eq!(refusal(&vec![b'x'; 100 << 20]), "is too large: 100.0 MiB, and 64 MiB is the most");
}

#[test]
fn a_component_cut_short_anywhere_is_refused() {
    let whole = Guest::default().component();
    let runtime = runtime();
    // The last section only says who made it: without that, it is a component still.
    let last = whole.windows(9).rposition(|window| window == b"producers").unwrap() - 3;
    // A prime, so that cuts fall into all kinds of places.
    for len in (8..last).step_by(97) {
        let LoadError(message) = runtime.load(&plugin_name(), &whole[..len]).expect_err("a part is no plugin");
        // Up to the first section's end, what is left is a component that exports nothing.
        let clear = message.starts_with("is damaged, or cut short: ") || message.starts_with("is no plugin: ");
        assert!(clear, "cut at {len}: {message}");
    }
}

#[test]
fn noise_behind_a_right_header_is_refused() {
    let mut random = fastrand::Rng::with_seed(1);
    let runtime = runtime();
    for _ in 0..50 {
        let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
        bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(10_000));
        let LoadError(message) = runtime.load(&plugin_name(), &bytes).expect_err("noise is no plugin");
        assert!(message.starts_with("is damaged, or cut short: "), "{message}");
    }
}

#[test]
fn a_component_of_another_kind_of_thing_is_refused() {
    let other = component_of(
        r#"(module (func (export "test:t/greeter#hello")))"#,
        &["package test:t; interface greeter { hello: func(); } world greets { export greeter; }"],
        false,
        "greets",
    );
    assert_eq!(
        refusal(&other),
        "is no plugin: it exports none of sluice:plugin/{balancer, failover, discovery, transaction, event-handler} \
         (it exports test:t/greeter)"
    );
}

#[test]
fn an_event_handler_without_a_read_model_is_none() {
    let kind = "event-handler";
    let wit = format!("package sluice:plugin@0.1.0; world w {{ export {kind}; }} interface {kind} {{ act: func(); }}");
    let text = format!(r#"(module (func (export "sluice:plugin/{kind}@0.1.0#act")))"#);
    let message = refusal(&component_of(&text, &[&wit], false, "w"));
    assert_eq!(
        message,
        "lacks exports that every event-handler must have: the interface sluice:plugin/policy@0.1, the function subscribe of \
         sluice:plugin/event-handler, the function handle of sluice:plugin/event-handler, the interface \
         sluice:plugin/read-model@0.1"
    );
}

/// A balancer's text where the interfaces are the test's own.
fn balancer_in(wit: &str, text: &str) -> Vec<u8> {
    component_of(text, &[wit], false, "w")
}

#[test]
fn missing_exports_are_all_named() {
    let no_policy = balancer_in(
        "package sluice:plugin@0.1.0; world w { export balancer; }
         interface balancer { update: func(); complete: func(); }",
        r#"(module (func (export "sluice:plugin/balancer@0.1.0#update"))
            (func (export "sluice:plugin/balancer@0.1.0#complete")))"#,
    );
    assert_eq!(
        refusal(&no_policy),
        "lacks exports that every balancer must have: the interface sluice:plugin/policy@0.1, the function pick of \
         sluice:plugin/balancer"
    );
}

#[test]
fn exports_of_another_type_are_refused_when_they_are_loaded() {
    let wrong = balancer_in(
        "package sluice:plugin@0.1.0; world w { export balancer; export policy; }
         interface balancer { update: func(); complete: func(); pick: func(n: u64) -> u32; }
         interface policy { configure: func(); save: func(); restore: func(); }",
        r#"(module (func (export "sluice:plugin/balancer@0.1.0#update"))
            (func (export "sluice:plugin/balancer@0.1.0#complete"))
            (func (export "sluice:plugin/balancer@0.1.0#pick") (param i64) (result i32) unreachable)
            (func (export "sluice:plugin/policy@0.1.0#configure"))
            (func (export "sluice:plugin/policy@0.1.0#save"))
            (func (export "sluice:plugin/policy@0.1.0#restore")))"#,
    );
    let message = refusal(&wrong);
    let wanted = "has another sluice:plugin/policy@0.1.0.configure than the interface: type mismatch with parameters";
    assert!(message.starts_with(wanted), "{message}");
}

#[test]
fn a_later_package_is_refused_by_its_version() {
    let later = balancer_in(
        "package sluice:plugin@0.2.0; world w { export balancer; } interface balancer { pick: func(); }",
        r#"(module (func (export "sluice:plugin/balancer@0.2.0#pick")))"#,
    );
    assert_eq!(
        refusal(&later),
        "exports sluice:plugin/balancer@0.2.0, and this gateway has sluice:plugin@0.1: build it against that"
    );
}

#[test]
fn two_kinds_at_once_are_refused() {
    let two = balancer_in(
        "package sluice:plugin@0.1.0; world w { export balancer; export discovery; }
         interface balancer { pick: func(); } interface discovery { watch: func(); }",
        r#"(module (func (export "sluice:plugin/balancer@0.1.0#pick"))
            (func (export "sluice:plugin/discovery@0.1.0#watch")))"#,
    );
    assert_eq!(refusal(&two), "is of several kinds at once (balancer, discovery): a plugin is of one");
}

/// A whole balancer that calls imports of `wit` when it picks.
fn importing(wit: &[&str], imports: &'static str) -> Vec<u8> {
    let guest = Guest { items: imports, ..Guest::default() };
    component_of(&guest.text(), wit, true, "w")
}

#[test]
fn imports_beyond_the_kinds_are_all_named() {
    let bytes = importing(
        &[
            "package wasi:http@0.2.0; interface outgoing-handler { handle: func(); }",
            "package wasi:sockets@0.2.3; interface tcp { connect: func(); }",
            "package test:t; world w { include sluice:plugin/balancer-plugin@0.1.0;
                import wasi:http/outgoing-handler@0.2.0; import wasi:sockets/tcp@0.2.3;
                import sluice:plugin/http@0.1.0; import sluice:plugin/clock@0.1.0; import shell: func(); }",
        ],
        r#"(import "wasi:http/outgoing-handler@0.2.0" "handle" (func))
           (import "wasi:sockets/tcp@0.2.3" "connect" (func))
           (import "sluice:plugin/clock@0.1.0" "now" (func (result i64)))
           (import "$root" "shell" (func))"#,
    );
    let message = refusal(&bytes);
    let (named, rest) = message.split_once(", which a balancer may not: ").unwrap_or_else(|| panic!("{message}"));
    for import in ["wasi:http/outgoing-handler@0.2.0", "wasi:sockets/tcp@0.2.3", "sluice:plugin/clock@0.1.0", "shell"] {
        assert!(named.contains(import), "{import} in {message}");
    }
    assert_eq!(
        rest,
        "it may import sluice:plugin/{types, log, load, incoming}@0.1 and, of WASI 0.2, cli, clocks, filesystem (without any folder), io \
         and random"
    );
}

#[test]
fn a_function_that_this_gateway_lacks_is_named() {
    let wit = "package sluice:plugin@0.1.7; world w { import load; export balancer; export policy; }
         interface load { queue-len: func(slot: u32) -> u32; }
         interface balancer { update: func(); complete: func(); pick: func(); }
         interface policy { configure: func(); save: func(); restore: func(); }";
    let bytes = balancer_in(
        wit,
        r#"(module (import "sluice:plugin/load@0.1.7" "queue-len" (func (param i32) (result i32)))
            (func (export "sluice:plugin/balancer@0.1.7#update"))
            (func (export "sluice:plugin/balancer@0.1.7#complete"))
            (func (export "sluice:plugin/balancer@0.1.7#pick"))
            (func (export "sluice:plugin/policy@0.1.7#configure"))
            (func (export "sluice:plugin/policy@0.1.7#save"))
            (func (export "sluice:plugin/policy@0.1.7#restore")))"#,
    );
    let message = refusal(&bytes);
    assert!(message.starts_with("imports sluice:plugin/load@0.1.7.queue-len, which a balancer may not"), "{message}");
}

#[test]
fn a_component_that_traps_or_spins_when_it_starts_is_refused() {
    let starts = |items| Guest { items, ..Guest::default() }.component();
    let traps = starts("(func $go unreachable) (start $go)");
    assert!(refusal(&traps).starts_with("cannot be instantiated: trapped: "), "{}", refusal(&traps));
    let spins = starts("(func $go (loop $l (br $l))) (start $go)");
    assert_eq!(refusal(&spins), "cannot be instantiated: took more than 1s of CPU time, in go");
}

fn counts(runtime: &Runtime) -> (u64, u64) {
    let CacheCounts { hits, misses } = runtime.cache_counts();
    (hits, misses)
}

#[test]
fn a_second_start_compiles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let guests: Vec<_> = (1..=6)
        .map(|n| {
            component(
                &Guest { pick: "(call $answer (i32.const 5))", ..Guest::default() }
                    .text()
                    .replace("const 5", &format!("const {n}")),
                "balancer-plugin",
            )
        })
        .collect();
    let first = Runtime::new(Some(dir.path())).unwrap();
    for bytes in &guests {
        first.load(&plugin_name(), bytes).unwrap();
    }
    assert_eq!(counts(&first), (0, 6));
    let second = Runtime::new(Some(dir.path())).unwrap();
    for (bytes, n) in guests.iter().zip(1..) {
        let mut instance = second.load(&plugin_name(), bytes).unwrap().balancer(&context()).unwrap();
        assert_eq!(super::guest::pick(&mut instance).unwrap(), Some(n));
    }
    assert_eq!(counts(&second), (6, 0));
}

/// Whatever the build has embedded, and nothing where the plugins were not built.
#[test]
fn stock_balancers_pick_members_and_carry_their_state_over() {
    let runtime = runtime();
    let members = [member(0), member(2), member(5)];
    for plugin in stock().iter().filter(|plugin| plugin.kind == PluginKind::Balancer) {
        let loaded = runtime.load(&plugin.name.parse().unwrap(), plugin.component);
        let version = loaded.unwrap_or_else(|error| panic!("{}: {error}", plugin.name));
        assert_eq!(version.kind(), plugin.kind, "{}", plugin.name);
        let instance = || {
            let mut instance = version.balancer(&context()).unwrap();
            instance.update(&members, 2_000_000).unwrap();
            instance
        };
        let mut first = instance();
        for hash in 0..100 {
            let slot =
                pick_for(&mut first, hash, &Incoming::default()).unwrap().expect("there are three to choose from");
            assert!([0, 2, 5].contains(&slot), "{}: {slot}", plugin.name);
        }
        first.complete(&[completion(2), completion(5)], 3_000_000).unwrap();
        let mut second = instance();
        second.restore(&first.save().unwrap()).unwrap().unwrap_or_else(|error| panic!("{}: {error}", plugin.name));
        pick_for(&mut second, 1, &Incoming::default()).unwrap().expect("there are three to choose from");
        second.update(&[], 4_000_000).unwrap();
        assert_eq!(pick_for(&mut second, 1, &Incoming::default()).unwrap(), None, "{}", plugin.name);
    }
}

/// As far as they can be tried without anything outside.
#[test]
fn stock_sources_load_and_say_everything_that_is_wrong_with_their_settings() {
    let runtime = runtime();
    for plugin in stock().iter().filter(|plugin| plugin.kind == PluginKind::Discovery) {
        let version = runtime.load(&plugin.name.parse().unwrap(), plugin.component).unwrap();
        let settings = serde_json::json!({"passing": 1, "port": -1, "format": 2, "tags": 3, "prefix": 4, "odd": 5});
        match version.try_discovery(&PolicyContext { settings, ..context() }) {
            Err(InstanceError::Settings(problems)) => {
                let unknown = problems.iter().filter(|problem| problem.message.starts_with("unknown"));
                assert!(unknown.count() >= 4 && problems.len() >= 6, "{}: {problems:?}", plugin.name);
                assert!(problems.iter().all(|problem| problem.path.starts_with('/')), "{}: {problems:?}", plugin.name);
            }
            other => panic!("{}: {other:?}", plugin.name),
        }
    }
}
