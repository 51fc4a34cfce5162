//! The guard on bytes alone. The table is shared with the end-to-end test.

#[path = "../../../../tests/raw/http1.rs"]
mod http1;
mod io;

use super::{Guard, Place, Refusal, Verdict};
use crate::model::Limits;

pub(super) fn limits() -> Limits {
    let limits = Limits::default();
    // What the table is written for.
    assert_eq!(limits.header_bytes_max, http1::HEADER_BYTES_MAX);
    assert_eq!(limits.header_count_max, http1::HEADER_COUNT_MAX);
    limits
}

/// What the guard made of a stream that came in these pieces.
#[derive(Debug, PartialEq, Eq)]
struct Reading {
    passed: usize,
    heads: u64,
    place: Place,
    verdict: Verdict,
}

/// Shows the pieces one after another, as a caller does.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Reading {
    let mut guard = Guard::new(&limits());
    let mut held = Vec::new();
    let mut passed = 0;
    let mut verdict = Verdict::Continue;
    for piece in pieces {
        held.extend_from_slice(piece);
        let inspected = guard.inspect(&held);
        held.drain(..inspected.pass);
        passed += inspected.pass;
        verdict = inspected.verdict;
    }
    Reading { passed, heads: guard.heads(), place: guard.place(), verdict }
}

fn refusal_status(verdict: Verdict) -> Option<u16> {
    match verdict {
        Verdict::RefuseHead(refusal) | Verdict::RefuseBody(refusal) => Some(refusal.status().as_u16()),
        Verdict::Continue | Verdict::NeedMore => None,
    }
}

#[test]
fn each_raw_request_is_read_as_the_table_says() {
    for case in http1::cases() {
        let reading = read([case.raw.as_slice()]);
        let served = case.statuses.iter().filter(|&&status| status == 200).count() as u64;
        let refused = case.statuses.last().copied().filter(|&status| status != 200);
        assert_eq!(refusal_status(reading.verdict), refused, "{}: {reading:?}", case.name);
        // The head of a request whose body is refused has passed.
        let in_body = u64::from(matches!(reading.verdict, Verdict::RefuseBody(_)));
        assert_eq!(reading.heads, served + in_body, "{}: {reading:?}", case.name);
        if refused.is_none() {
            assert_eq!((reading.passed, reading.place), (case.raw.len(), Place::Head), "{}", case.name);
        }
    }
}

#[test]
fn the_table_has_each_name_once() {
    let mut names: Vec<_> = http1::cases().into_iter().map(|case| case.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(count >= 60, "{count} cases");
}

#[test]
fn the_verdict_does_not_depend_on_how_the_bytes_come() {
    for case in http1::cases() {
        let raw = case.raw.as_slice();
        let whole = read([raw]);
        // Long cases repeat one byte: cutting their first and last part in two says as much.
        let cuts = (0..raw.len()).filter(|&at| at < 300 || raw.len() - at < 300);
        for at in cuts {
            assert_eq!(read([&raw[..at], &raw[at..]]), whole, "{}, cut at {at}", case.name);
        }
        if raw.len() < 4096 {
            assert_eq!(read(raw.chunks(1)), whole, "{}, byte by byte", case.name);
        }
    }
}

#[test]
fn no_byte_of_a_bad_head_passes() {
    for case in http1::cases() {
        let reading = read([case.raw.as_slice()]);
        if let Verdict::RefuseHead(_) = reading.verdict {
            let good = read([&case.raw[..reading.passed]]);
            assert_eq!((good.passed, good.place), (reading.passed, Place::Head), "{}: between messages", case.name);
        }
    }
}

#[test]
fn a_refusal_is_for_good() {
    let mut guard = Guard::new(&limits());
    let first = guard.inspect(b"GET / HTTP/1.1\nHost: a\r\n\r\n");
    let good = guard.inspect(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((first.pass, good.pass), (0, 0));
    assert_eq!(first.verdict, good.verdict);
}

#[test]
fn what_follows_an_upgrade_waits_for_its_answer() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n".as_slice();
    let asked = |rest: &[u8]| {
        let mut guard = Guard::new(&limits());
        let inspected = guard.inspect(&[head, rest].concat());
        assert_eq!((inspected.pass, inspected.verdict), (head.len(), Verdict::NeedMore));
        assert_eq!(guard.place(), Place::UpgradeAsked);
        guard
    };
    let frames = b"\x81\x05hello\r\n\n\0";
    let mut guard = asked(frames);
    assert_eq!(guard.inspect(frames).pass, 0, "not before the answer");
    guard.resume();
    assert!(matches!(guard.inspect(frames).verdict, Verdict::RefuseHead(_)), "not granted: it is HTTP");

    let next = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut guard = asked(next);
    guard.resume();
    assert_eq!(guard.inspect(next).pass, next.len());
}

#[test]
fn only_http_1_1_needs_a_host() {
    assert_eq!(read([b"GET / HTTP/1.0\r\n\r\n".as_slice()]).heads, 1);
    assert_eq!(read([b"GET / HTTP/1.1\r\n\r\n".as_slice()]).verdict, Verdict::RefuseHead(Refusal::HostMissing));
}

#[test]
fn an_upgrade_in_http_1_0_is_none() {
    let raw = b"GET / HTTP/1.0\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(read([raw.as_slice()]).place, Place::Head);
}
