//! The fuzz targets for a few seconds, from a printed seed: `SLUICE_FUZZ_SEED=… SLUICE_FUZZ_RUNS=…` repeats one or
//! goes on for longer. What libFuzzer does with the same functions stands in `tests/fuzz/`.

#[path = "fuzz/src/lib.rs"]
mod fuzz;
#[path = "raw/http1.rs"]
mod http1;
#[path = "raw/well_formed.rs"]
mod well_formed;

use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;
use http1::Case;

const RUNS: u64 = 3_000;

/// Short inputs are tried more often in the same time.
const SHORT: usize = 2_000;

fn number(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().unwrap_or_else(|_| panic!("{variable} must be a number")))
}

/// Runs a check on inputs that are made from the seed and the run's number; shows the input that fails.
fn run(check: impl Fn(&[u8]), input: impl Fn(&mut Rng) -> Vec<u8>) {
    let seed = number("SLUICE_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("SLUICE_FUZZ_SEED={seed}");
    for run in 0..number("SLUICE_FUZZ_RUNS").unwrap_or(RUNS) {
        let data = input(&mut Rng::with_seed(seed.wrapping_add(run)));
        if let Err(cause) = catch_unwind(AssertUnwindSafe(|| check(&data))) {
            println!("run {run} of seed {seed}, input b\"{}\"", data.escape_ascii());
            std::panic::resume_unwind(cause);
        }
    }
}

#[test]
fn what_the_guard_passes_has_one_reading() {
    let mut corpus = http1::cases();
    corpus.retain(|case| case.raw.len() < SHORT);
    for case in &corpus {
        let served = case.statuses.iter().filter(|&&status| status == 200).count();
        assert_eq!(fuzz::guard::check(&case.raw), served, "{}", case.name);
    }
    let check = |data: &[u8]| {
        fuzz::guard::check(data);
    };
    run(check, |rng| mutate(rng, &corpus));
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_well_formed_passes(requests in proptest::collection::vec(well_formed::request(), 1..4)) {
        let messages = fuzz::guard::check(&requests.concat());
        proptest::prop_assert_eq!(messages, requests.len());
    }
}

#[test]
fn no_text_breaks_the_reader_of_the_configuration() {
    for text in CONFIGURATIONS {
        fuzz::configuration::check(text.as_bytes());
    }
    let texts: Vec<_> = CONFIGURATIONS.iter().map(|text| text.as_bytes().to_vec()).collect();
    run(fuzz::configuration::check, |rng| splice(rng, &texts, CONFIGURATION_PIECES));
}

#[test]
fn no_json_breaks_the_reader_of_registrations_or_passes_unchecked() {
    for text in REGISTRATIONS {
        fuzz::registration::check(text.as_bytes());
    }
    let texts: Vec<_> = REGISTRATIONS.iter().map(|text| text.as_bytes().to_vec()).collect();
    run(fuzz::registration::check, |rng| splice(rng, &texts, REGISTRATION_PIECES));
}

#[test]
fn no_cloud_event_breaks_its_readers_and_what_they_take_comes_out_as_it_came() {
    for event in CLOUD_EVENTS {
        fuzz::cloud_events::check(event.as_bytes());
    }
    let events: Vec<_> = CLOUD_EVENTS.iter().map(|event| event.as_bytes().to_vec()).collect();
    run(fuzz::cloud_events::check, |rng| splice(rng, &events, CLOUD_EVENT_PIECES));
}

#[test]
fn no_answer_of_a_guest_breaks_the_host_or_is_believed_unseen() {
    let small = |rng: &mut Rng| if rng.bool() { rng.u8(..8) } else { rng.u8(..) };
    run(fuzz::guest_answers::check, |rng| {
        let len = rng.usize(28..300);
        // Words of which most are small: else hardly an answer comes through the canonical ABI.
        (0..len).map(|at| if at % 4 == 0 { small(rng) } else { u8::from(rng.u8(..) > 250) * rng.u8(..) }).collect()
    });
}

#[test]
fn no_packet_breaks_the_dns_server() {
    for packet in DNS_PACKETS {
        fuzz::dns::check(packet);
    }
    let packets: Vec<_> = DNS_PACKETS.iter().map(|packet| packet.to_vec()).collect();
    run(fuzz::dns::check, |rng| splice(rng, &packets, DNS_PIECES));
    run(fuzz::dns::check, |rng| (0..rng.usize(..100)).map(|_| rng.u8(..)).collect());
}

/// In structured mode, as a batch, and in binary mode with a line for each header.
const CLOUD_EVENTS: &[&str] = &[
    r#"{"specversion": "1.0", "id": "1", "source": "/a", "type": "t.u", "subject": "s", "time": "2026-01-31T12:00:00.5+01:00",
        "datacontenttype": "application/json", "dataschema": "http://s", "traceid": "x", "count": 7, "flag": true,
        "stream": "s-1", "revision": "4", "position": "9", "data": {"n": 1.50, "list": [null, "\u00e9"]}}"#,
    r#"[{"specversion": "1.0", "id": "a", "source": "b", "type": "c", "data_base64": "AAEC"},
        {"specversion": "1.0", "id": "b", "source": "b", "type": "c", "datacontenttype": "text/plain", "data": "t"}]"#,
    "ce-specversion: 1.0\nce-id: 1\nce-source: /a\nce-type: t\nce-subject: %E2%82%AC %22\nce-traceid: y\ncontent-type: text/xml\n\n<x/>",
    "ce-specversion:1.0\nce-id:2\nce-source:/a\nce-type:t\nce-time:2026-01-31T12:00:00Z\ncontent-type:application/json\n\n{}",
];

const CLOUD_EVENT_PIECES: &[&[u8]] = &[
    b"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\n",
    b"null",
    b"-1",
    b"2147483648",
    b"1e999",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"%",
    b"%00",
    b"%ff",
    b"%22",
    b"*",
    b"$",
    b"\"data\": 1,",
    b"\"data_base64\": \"?\",",
    b"\"id\": \"\",",
    b"\"specversion\": \"0.3\",",
    b"\"Upper\": 1,",
    b"\"stream\": 5,",
    b"ce-id: 1\n",
    b"ce-data: 1\n",
    b"content-type: \n",
];

/// Registrations and checks as clients send them, and a filter.
const REGISTRATIONS: &[&str] = &[
    r#"{"Name": "web", "ID": "web-1", "Address": "10.0.0.7", "Port": 8080, "Tags": ["blue"], "Meta": {"a": "b"},
        "Check": {"TTL": "10s", "Status": "passing", "DeregisterCriticalServiceAfter": "1m"}}"#,
    r#"{"name": "web", "checks": [{"HTTP": "http://a:1/", "Interval": "1m30s", "Timeout": 5000000000, "Method": "HEAD",
        "Header": {"x": ["y"]}, "FailuresBeforeCritical": 3}, {"tcp": "[::1]:80", "interval": "1s"}],
        "Weights": {"Passing": 5, "Warning": 0}, "TaggedAddresses": {"wan": {"Address": "::1", "Port": 1}}}"#,
    r#"{"Name": "disk", "CheckID": "disk", "ServiceID": "web-1", "TTL": "15s", "Notes": "full"}"#,
    r#"{"Name": "web", "Locality": {"Zone": "b"}, "EnableTagOverride": true, "Connect": {}, "Kind": null}"#,
    r#"Service.Meta.version == "2" and (not "blue" in Service.Tags or Checks.Status is not empty)"#,
];

/// What breaks readers of numbers, texts and nesting.
const REGISTRATION_PIECES: &[&[u8]] = &[
    b"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"65536",
    b"0.5",
    b"\"9999999999h\"",
    b"\"1.5.5s\"",
    b"\"\xc2\xb5s\"",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"\"TTL\": \"10s\",",
    b"\"ttl\": {},",
    b"\"Check\": [],",
    b"\"Checks\": [null],",
    b"\"Tags\": [[]],",
    b"\"Port\": 0,",
    b"(((((((((((((((((((((((((((((((((",
    b" not ",
    b" in ",
    b"`",
];

/// Pieces from which most attacks on framing are made.
const PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b"\0",
    b":",
    b",",
    b";",
    b"_",
    b"0\r\n\r\n",
    b"chunked",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: x\r\n",
    b"Host: a\r\n",
    b"hello",
    b"5\r\nhello\r\n",
    b"HTTP/1.0",
];

/// A whole configuration, and one in which much is wrong.
const CONFIGURATIONS: [&str; 2] = [
    r#"
[gateway]
workers = 2
trusted_proxies = ["10.0.0.0/8"]
[gateway.limits]
header_bytes_max = "16 KiB"
[[listener]]
address = "127.0.0.1:8080"
[control]
address = "127.0.0.1:9180"
[services.orders]
endpoints = ["127.0.0.1:9001", { address = "orders.internal:9002", weight = 2, zone = "b", priority = 1 }]
balancer = { plugin = "least-request", settings = { choices = 2 } }
timeout = "15 s"
health_check = { path = "/health", interval = "2 s", status = [200], headers = { host = "x" } }
retry = { attempts = 3, per_try_timeout = "500 ms", budget = 20, body = "64 KiB", deadline_header = "x-left" }
ejection = { max_percent = 50, max_duration = "5 min" }
circuit = { requests = 8, pending = 100, adaptive = true, retry_after = "1 s" }
[[route]]
path = "/orders/"
services = [{ name = "orders", weight = 90 }]
request_headers = { set = { "x-env" = "prod" }, remove = ["x-internal"] }
hash_on = { header = "x-customer" }
"#,
    "[[listener]]\naddress = \"nowhere\"\n[services.a]\nendpoint = []\n[[route]]\npath = \"a\"\nservice = \"b\"\n",
];

const CONFIGURATION_PIECES: &[&[u8]] = &[
    b"\n",
    b"[",
    b"]]",
    b"{",
    b"}",
    b"=",
    b"\"",
    b"'",
    b"\\u0000",
    b"-1",
    b"99999999999999999999",
    b"1e400",
    b"nan",
    b"true",
    b"\"1 s\"",
    b"\"\"",
    b"[dns]",
    b"[services.orders]",
    b"path = ",
    b"kind = \"grpc\"",
    b"health_check",
    b"circuit",
    b"../",
    b"\xff",
    b"\"::1\"",
    b", ",
];

/// Queries for an address, for servers with EDNS, and for the zone itself; a name that points to itself.
const DNS_PACKETS: [&[u8]; 5] = [
    b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03web\x07service\x06consul\0\0\x01\0\x01",
    b"\xab\xcd\x01\0\0\x01\0\0\0\0\0\x01\x05_many\x04_tcp\x07service\x06consul\0\0\x21\0\x01\
      \0\0\x29\x10\0\0\0\0\0\0\0",
    b"\0\x01\0\0\0\x01\0\0\0\0\0\0\x05named\x07service\x03dc1\x06consul\0\0\xff\0\x01",
    b"\0\x02\0\0\0\x01\0\0\0\0\0\0\x06consul\0\0\x06\0\x01",
    b"\0\x03\0\0\0\x01\0\0\0\0\0\0\xc0\x0c\0\x01\0\x01",
];

const DNS_PIECES: &[&[u8]] = &[
    b"\xc0\x0c",
    b"\xc0\x20",
    b"\xff\xff",
    b"\0",
    b"\x3f",
    b"\x04none",
    b"\x04many\x07service\x06consul\0",
    b"\x080a000001\x04addr\x06consul\0",
    b"\x06consul\0",
    b"\0\x21\0\x01",
    b"\0\xff\0\x01",
    b"\0\x1c\0\x01",
    b"\0\xfc\0\x01",
    b"\0\0\x29\x02\0\0\0\0\0\0\0",
    b"\0\0\x29\xff\xff\0\x01\0\0\0\0",
    b"\0\0\xfa\0\xff\0\0\0\0\0\0",
    b"\x80",
    b"\x28",
];

fn mutate(rng: &mut Rng, corpus: &[Case]) -> Vec<u8> {
    let raw: Vec<_> = (0..2).map(|_| corpus[rng.usize(..corpus.len())].raw.clone()).collect();
    splice(rng, &raw, PIECES)
}

/// One or two of the inputs, with up to four changes.
fn splice(rng: &mut Rng, inputs: &[Vec<u8>], pieces: &[&[u8]]) -> Vec<u8> {
    let mut data = inputs[rng.usize(..inputs.len())].clone();
    if rng.bool() {
        data.extend_from_slice(&inputs[rng.usize(..inputs.len())]);
    }
    for _ in 0..rng.usize(0..=4) {
        let at = rng.usize(0..=data.len());
        let end = (at + rng.usize(0..8)).min(data.len());
        let piece = pieces[rng.usize(..pieces.len())].iter().copied();
        match rng.u8(0..5) {
            0 => drop(data.splice(at..at, piece)),
            1 => drop(data.drain(at..end)),
            2 => drop(data.splice(at..end, piece)),
            3 if at < data.len() => data[at] = rng.u8(..),
            _ => data.extend_from_within(at..end),
        }
    }
    data
}
