use std::{
    io,
    sync::{Arc, Mutex},
};

use http::{HeaderName, HeaderValue};
use smallvec::smallvec;
use tracing_subscriber::fmt::MakeWriter;

use super::guest::{
    Guest, InProcess, component_of, component_with_adapter, context, member, pick, pick_for, plugin_name, runtime,
};
use crate::plugin::{BalancerInstance, Incoming};

#[test]
fn in_flight_counts_what_is_going_on_now() {
    // Answers the load of the slot in `hash`, plus 1000.
    let guest = Guest {
        items: r#"(import "sluice:plugin/load@0.1.0" "in-flight" (func $in_flight (param i32) (result i32)))"#,
        pick: "(call $answer (i32.add (i32.const 1000) (call $in_flight (i32.wrap_i64 (local.get $hash)))))",
        ..Guest::default()
    };
    let mut instance = guest.instance();
    let load =
        |instance: &mut BalancerInstance, slot| pick_for(instance, slot, &Incoming::default()).unwrap().unwrap() - 1000;
    let members = [member(0), member(3)];
    instance.update(&members, 1).unwrap();
    let requests = [members[1].endpoint.begin(), members[1].endpoint.begin()];
    assert_eq!([0, 1, 2, 3, 4, u64::MAX].map(|slot| load(&mut instance, slot)), [0, 0, 0, 2, 0, 0]);
    drop(requests);
    assert_eq!(load(&mut instance, 3), 0);
    let _requests = [members[0].endpoint.begin(), members[1].endpoint.begin()];
    instance.update(&members[..1], 2).unwrap();
    assert_eq!([0, 3].map(|slot| load(&mut instance, slot)), [1, 0], "3 is no member any more");
    instance.update(&members[1..], 3).unwrap();
    assert_eq!([0, 3].map(|slot| load(&mut instance, slot)), [0, 1]);
}

/// Saves what the imports say: asked in a pick where `hash` is 1, when saving where it is 2.
fn curious() -> Guest {
    Guest {
        items: r#"(import "sluice:plugin/incoming@0.1.0" "tried" (func $tried (param i32) (result i32)))
            (import "sluice:plugin/incoming@0.1.0" "header" (func $header (param i32 i32 i32)))
            (import "sluice:plugin/incoming@0.1.0" "path" (func $path (param i32)))
            (data (i32.const 512) "x-tenantx-other")
            (func $ask
              (i32.store8 (i32.const 1024) (call $tried (i32.const 2)))
              (i32.store8 (i32.const 1025) (call $tried (i32.const 3)))
              (i32.store8 (i32.const 1026) (i32.const 0)) (i32.store8 (i32.const 1027) (i32.const 0))
              (call $header (i32.const 512) (i32.const 8) (i32.const 64))
              (if (i32.load8_u (i32.const 64)) (then
                (i32.store8 (i32.const 1026) (i32.load8_u (i32.load (i32.const 68))))))
              (call $header (i32.const 520) (i32.const 7) (i32.const 64))
              (i32.store8 (i32.const 1027) (i32.load8_u (i32.const 64)))
              (call $path (i32.const 64))
              (memory.copy (i32.const 1028) (i32.load (i32.const 64)) (i32.load (i32.const 68)))
              (i32.store (i32.const 32) (i32.const 1024))
              (i32.store (i32.const 36) (i32.add (i32.const 4) (i32.load (i32.const 68)))))"#,
        pick: "(if (i64.eq (local.get $hash) (i64.const 1)) (then (call $ask))) (i32.const 0)",
        save: "(i32.const 32)",
        update: "(call $ask)",
        ..Guest::default()
    }
}

fn incoming() -> Incoming {
    Incoming {
        tried: smallvec![3],
        path: Some("/orders/7?full=1".parse().unwrap()),
        headers: smallvec![(HeaderName::from_static("x-tenant"), HeaderValue::from_static("blue"))],
    }
}

#[test]
fn a_pick_sees_its_own_request_and_nothing_is_left_of_it() {
    let mut instance = curious().instance();
    pick_for(&mut instance, 1, &incoming()).unwrap();
    assert_eq!(instance.save().unwrap(), b"\x00\x01b\x00/orders/7");
    // The next request has none of it, nor has any other call.
    pick_for(&mut instance, 1, &Incoming::default()).unwrap();
    assert_eq!(instance.save().unwrap(), b"\0\0\0\0");
    pick_for(&mut instance, 0, &incoming()).unwrap();
    instance.update(&[], 1).unwrap();
    assert_eq!(instance.save().unwrap(), b"\0\0\0\0");
}

#[test]
fn a_header_that_is_no_text_is_none() {
    let mut instance = curious().instance();
    let value = HeaderValue::from_bytes(b"b\xff").unwrap();
    let incoming = Incoming { headers: smallvec![(HeaderName::from_static("x-tenant"), value)], ..incoming() };
    pick_for(&mut instance, 1, &incoming).unwrap();
    assert_eq!(instance.save().unwrap(), b"\x00\x01\x00\x00/orders/7");
}

/// What is logged while it runs, by this thread.
fn logged(run: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl MakeWriter<'_> for Buffer {
        type Writer = Self;
        fn make_writer(&self) -> Self {
            self.clone()
        }
    }
    let buffer = Buffer::default();
    let subscriber = tracing_subscriber::fmt().json().with_max_level(tracing::Level::DEBUG).with_writer(buffer.clone());
    tracing::subscriber::with_default(subscriber.finish(), run);
    String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap()
}

const LOG: &str = r#"(import "sluice:plugin/log@0.1.0" "write" (func $log (param i32 i32 i32)))
    (data (i32.const 512) "hello\nthere")"#;

#[test]
fn a_line_says_which_plugin_version_and_service_it_is_of() {
    let guest = Guest {
        items: LOG,
        pick: "(call $log (i32.const 1) (i32.const 512) (i32.const 11)) (i32.const 0)",
        ..Guest::default()
    };
    let version = guest.version(&runtime());
    let mut instance = version.balancer(&context()).unwrap();
    let lines = logged(|| assert_eq!(pick(&mut instance).unwrap(), None));
    let line: serde_json::Value = serde_json::from_str(lines.trim()).expect("one line");
    assert_eq!(line["level"], "WARN");
    assert_eq!(
        line["fields"],
        serde_json::json!({
            "message": "hello there", "plugin": "tested", "version": version.id().to_string(), "service": "orders"
        })
    );
}

#[test]
fn a_flood_of_lines_is_cut_and_counted() {
    // As many lines as `hash` says.
    let guest = Guest {
        items: LOG,
        pick: "(loop $again (call $log (i32.const 2) (i32.const 512) (i32.const 5))
              (local.set $hash (i64.sub (local.get $hash) (i64.const 1)))
              (br_if $again (i64.gt_s (local.get $hash) (i64.const 0)))) (i32.const 0)",
        ..Guest::default()
    };
    let version = guest.version(&runtime());
    let mut instance = version.balancer(&context()).unwrap();
    let lines = logged(|| {
        for _ in 0..10 {
            pick_for(&mut instance, 15, &Incoming::default()).unwrap();
        }
        drop(instance);
    });
    // In one second, or in two if its end came in between.
    let hellos = lines.matches("hello").count();
    let dropped = version.log_lines_dropped() as usize;
    assert_eq!(hellos + dropped, 150);
    assert!(hellos == 100 || lines.matches("lines dropped").count() != 1, "{hellos}");
    assert!(lines.contains("lines dropped: more than 100 in a second"), "{lines}");
}

#[test]
fn a_huge_line_is_cut() {
    let guest = Guest {
        items: LOG,
        pick: "(memory.fill (i32.const 8192) (i32.const 120) (i32.const 40000))
            (call $log (i32.const 2) (i32.const 8192) (i32.const 40000)) (i32.const 0)",
        ..Guest::default()
    };
    let mut instance = guest.instance();
    let lines = logged(|| assert_eq!(pick(&mut instance).unwrap(), None));
    assert!(lines.contains("xxx…") && lines.len() < 5000, "{} bytes", lines.len());
}

/// WASI as far as the tests need it: the shapes are those of the real packages.
const WASI: [&str; 5] = [
    "package wasi:io@0.2.3;
     interface error { resource error; }
     interface poll { resource pollable { block: func(); } }
     interface streams {
       use error.{error}; use poll.{pollable};
       variant stream-error { last-operation-failed(error), closed }
       resource input-stream { blocking-read: func(len: u64) -> result<list<u8>, stream-error>; }
       resource output-stream {
         check-write: func() -> result<u64, stream-error>;
         blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
         subscribe: func() -> pollable;
       }
     }",
    "package wasi:cli@0.2.3;
     interface environment { get-environment: func() -> list<tuple<string, string>>; }
     interface exit { exit: func(status: result); }
     interface stdin { use wasi:io/streams@0.2.3.{input-stream}; get-stdin: func() -> input-stream; }
     interface stdout { use wasi:io/streams@0.2.3.{output-stream}; get-stdout: func() -> output-stream; }
     interface stderr { use wasi:io/streams@0.2.3.{output-stream}; get-stderr: func() -> output-stream; }
     interface terminal-output { resource terminal-output; }
     interface terminal-stdout {
       use terminal-output.{terminal-output};
       get-terminal-stdout: func() -> option<terminal-output>;
     }",
    "package wasi:clocks@0.2.3;
     interface monotonic-clock { use wasi:io/poll@0.2.3.{pollable}; type instant = u64; now: func() -> instant;
       subscribe-duration: func(when: u64) -> pollable; }
     interface wall-clock { record datetime { seconds: u64, nanoseconds: u32 } now: func() -> datetime; }",
    "package wasi:random@0.2.3;
     interface random { get-random-u64: func() -> u64; get-random-bytes: func(len: u64) -> list<u8>; }",
    "package test:t; world w {
       include sluice:plugin/balancer-plugin@0.1.0;
       import wasi:cli/environment@0.2.3; import wasi:cli/exit@0.2.3; import wasi:cli/stdin@0.2.3;
       import wasi:cli/stdout@0.2.3; import wasi:cli/stderr@0.2.3; import wasi:cli/terminal-stdout@0.2.3;
       import wasi:io/streams@0.2.3; import wasi:io/poll@0.2.3;
       import wasi:clocks/monotonic-clock@0.2.3; import wasi:clocks/wall-clock@0.2.3;
       import wasi:random/random@0.2.3;
     }",
];

fn with_wasi(guest: &Guest) -> BalancerInstance {
    let bytes = component_of(&guest.text(), &WASI, true, "w");
    let version = runtime().load(&plugin_name(), &bytes).unwrap_or_else(|error| panic!("{error}"));
    version.balancer(&context()).unwrap()
}

const STREAMS: &str = r#"
    (import "wasi:cli/stdout@0.2.3" "get-stdout" (func $stdout (result i32)))
    (import "wasi:cli/stderr@0.2.3" "get-stderr" (func $stderr (result i32)))
    (import "wasi:io/streams@0.2.3" "[method]output-stream.blocking-write-and-flush"
      (func $write (param i32 i32 i32 i32)))
    (import "wasi:io/streams@0.2.3" "[resource-drop]output-stream" (func $drop (param i32)))
    (data (i32.const 512) "one\ntwo\nthr")
    (data (i32.const 532) "ee\n")"#;

#[test]
fn what_is_printed_becomes_lines_of_the_log() {
    let mut instance = with_wasi(&Guest {
        items: STREAMS,
        pick: "(local $out i32) (local.set $out (call $stdout))
            (call $write (local.get $out) (i32.const 512) (i32.const 11) (i32.const 64))
            (call $write (local.get $out) (i32.const 532) (i32.const 3) (i32.const 64))
            (call $drop (local.get $out))
            (local.set $out (call $stderr))
            (call $write (local.get $out) (i32.const 512) (i32.const 4) (i32.const 64))
            (call $drop (local.get $out))
            (call $answer (i32.load8_u (i32.const 64)))",
        ..Guest::default()
    });
    let lines = logged(|| assert_eq!(pick(&mut instance).unwrap(), Some(0), "the write succeeded"));
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let shown: Vec<_> = lines.iter().map(|line| (line["level"].as_str(), line["fields"]["message"].as_str())).collect();
    let info = |text| (Some("INFO"), Some(text));
    assert_eq!(shown, [info("one"), info("two"), info("three"), (Some("WARN"), Some("one"))]);
}

#[test]
fn clocks_and_seeded_randomness_answer() {
    let guest = Guest {
        items: r#"(import "wasi:clocks/monotonic-clock@0.2.3" "now" (func $now (result i64)))
            (import "wasi:clocks/wall-clock@0.2.3" "now" (func $wall (param i32)))
            (import "wasi:random/random@0.2.3" "get-random-u64" (func $random (result i64)))
            (import "wasi:random/random@0.2.3" "get-random-bytes" (func $bytes (param i64 i32)))
            (import "wasi:cli/environment@0.2.3" "get-environment" (func $environment (param i32)))
            (import "wasi:cli/terminal-stdout@0.2.3" "get-terminal-stdout" (func $terminal (param i32)))
            (import "wasi:cli/stdin@0.2.3" "get-stdin" (func $stdin (result i32)))
            (import "wasi:io/streams@0.2.3" "[method]input-stream.blocking-read" (func $read (param i32 i64 i32)))"#,
        pick: "(call $environment (i32.const 64)) (if (i32.load (i32.const 68)) (then unreachable))
            (call $terminal (i32.const 64)) (if (i32.load8_u (i32.const 64)) (then unreachable))
            (call $read (call $stdin) (i64.const 10) (i32.const 64))
            (if (i32.ne (i32.const 1) (i32.load8_u (i32.const 64))) (then unreachable))
            (if (i32.ne (i32.const 1) (i32.load8_u (i32.const 68))) (then unreachable))
            (i64.store (i32.const 1024) (call $now))
            (call $wall (i32.const 64)) (i64.store (i32.const 1032) (i64.load (i32.const 64)))
            (i64.store (i32.const 1040) (call $random))
            (call $bytes (i64.const 3) (i32.const 64))
            (i32.store (i32.const 32) (i32.const 1024)) (i32.store (i32.const 36) (i32.const 24))
            (call $answer (i32.load (i32.const 68)))",
        save: "(i32.const 32)",
        ..Guest::default()
    };
    let asked = |instance: &mut BalancerInstance| {
        assert_eq!(pick(instance).unwrap(), Some(3), "bytes asked for");
        let saved = instance.save().unwrap();
        [0, 8, 16].map(|at| u64::from_le_bytes(saved[at..at + 8].try_into().unwrap()))
    };
    let (mut one, mut two) = (with_wasi(&guest), with_wasi(&guest));
    let [now, wall, random] = asked(&mut one);
    // Of the gateway's clock, which begins with one second.
    assert!((1_000_000_000..60_000_000_000).contains(&now), "{now} ns");
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(wall.abs_diff(since_1970) < 60, "{wall} s");
    assert_eq!(random, asked(&mut two)[2], "the seed is the same");
    assert_ne!(random, asked(&mut one)[2], "and it goes on");
}

#[test]
fn exit_and_what_would_block_are_traps() {
    let exits = Guest {
        items: r#"(import "wasi:cli/exit@0.2.3" "exit" (func $exit (param i32)))"#,
        pick: "(call $exit (i32.const 1)) (i32.const 0)",
        ..Guest::default()
    };
    let fault = pick(&mut with_wasi(&exits)).unwrap_err();
    assert_eq!(fault.message, "called exit with failure, in pick");
    let sleeps = Guest {
        items: r#"(import "wasi:clocks/monotonic-clock@0.2.3" "subscribe-duration" (func $sleep (param i64) (result i32)))"#,
        pick: "(call $sleep (i64.const 1000))",
        ..Guest::default()
    };
    let fault = pick(&mut with_wasi(&sleeps)).unwrap_err();
    let wanted =
        "called wasi:clocks/monotonic-clock.subscribe-duration, which is not there for this kind of plugin, in pick";
    assert_eq!(fault.message, wanted);
}

#[test]
fn randomness_without_end_is_refused() {
    let guest = Guest {
        items: r#"(import "wasi:random/random@0.2.3" "get-random-bytes" (func $bytes (param i64 i32)))"#,
        pick: "(call $bytes (local.get $hash) (i32.const 64)) (i32.const 0)",
        ..Guest::default()
    };
    let fault = pick_for(&mut with_wasi(&guest), u64::MAX, &Incoming::default()).unwrap_err();
    assert_eq!(fault.message, "asked for more than 1 MiB of random bytes, in pick");
}

#[test]
fn a_component_of_a_wasi_toolchain_runs_and_prints() {
    // What a C library does to print a line, and what a hash map does for its seed.
    let guest = Guest {
        items: r#"(import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_open"
              (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (data (i32.const 512) "printed\n")"#,
        pick: "(i32.store (i32.const 64) (i32.const 512)) (i32.store (i32.const 68) (i32.const 8))
            (if (call $fd_write (i32.const 1) (i32.const 64) (i32.const 1) (i32.const 72)) (then unreachable))
            (if (call $random (i32.const 80) (i32.const 16)) (then unreachable))
            (if (call $environ (i32.const 100) (i32.const 104)) (then unreachable))
            (if (i32.load (i32.const 100)) (then unreachable))
            (if (i32.eqz (call $prestat (i32.const 3) (i32.const 112))) (then unreachable))
            (if (i32.eqz (call $open (i32.const 3) (i32.const 0) (i32.const 512) (i32.const 4) (i32.const 0)
              (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 112))) (then unreachable))
            (call $answer (i32.load (i32.const 72)))",
        ..Guest::default()
    };
    let version = runtime().load(&plugin_name(), &component_with_adapter(&guest)).unwrap_or_else(|e| panic!("{e}"));
    let mut instance = version.balancer(&context()).unwrap();
    let lines = logged(|| assert_eq!(pick(&mut instance).unwrap(), Some(8), "bytes written"));
    let line: serde_json::Value = serde_json::from_str(lines.trim()).expect("one line");
    assert_eq!(line["fields"]["message"], "printed");
}
