//! Whatever the guard lets through, hyper and a set of careless readers must split into the same messages.

mod careless;
mod hyper_reading;

use sluice::{
    gateway::guard::{Guard, Place, Verdict},
    model::Limits,
};

/// Smaller heads than usual, so that short inputs reach the limit.
fn limits() -> Limits {
    Limits { header_bytes_max: 2048, ..Limits::default() }
}

/// How many messages are read again with their last byte missing: each is a hyper connection of its own.
const EXACT_ENDS_MAX: usize = 3;

/// Checks one client's bytes; answers with how many whole messages they have.
pub fn check(data: &[u8]) -> usize {
    let ends = check_splits(data);
    let passed = *ends.passed.last().unwrap_or(&0);
    let good = &data[..passed];
    careless::check(good, &ends.messages);
    check_hyper(good, &ends.messages);
    for (index, &end) in ends.messages.iter().take(EXACT_ENDS_MAX).enumerate() {
        let read = hyper_reading::read(&good[..end - 1]);
        let complete = read.iter().filter(|message| message.body.is_some()).count();
        assert!(complete <= index, "hyper has read message {index} before its last byte: {read:#?}");
    }
    ends.messages.len()
}

/// Where parts of the stream passed, and where messages ended.
struct Ends {
    passed: Vec<usize>,
    messages: Vec<usize>,
}

/// Shows the bytes whole, one by one and in pieces: the guard must say the same.
fn check_splits(data: &[u8]) -> Ends {
    let (bytewise, ends) = show(data, |_| 1);
    let (whole, _) = show(data, |_| data.len().max(1));
    let (pieces, _) = show(data, |at| 1 + usize::from(data[at]) % 61);
    assert_eq!(whole, bytewise, "whole and byte by byte");
    assert_eq!(pieces, bytewise, "in pieces and byte by byte");
    ends
}

/// What must not depend on how the bytes come: how many passed, in how many heads, and the last word.
type Said = (usize, u64, Place, Option<Verdict>);

fn show(data: &[u8], piece_len: impl Fn(usize) -> usize) -> (Said, Ends) {
    let mut guard = Guard::new(&limits());
    let mut ends = Ends { passed: Vec::new(), messages: Vec::new() };
    let (mut passed, mut shown) = (0, 0);
    let mut refused = None;
    while shown < data.len() && refused.is_none() {
        shown = (shown + piece_len(shown)).min(data.len());
        loop {
            let inspected = guard.inspect(&data[passed..shown]);
            passed += inspected.pass;
            if inspected.pass > 0 {
                ends.passed.push(passed);
                if matches!(guard.place(), Place::Head | Place::UpgradeAsked) {
                    ends.messages.push(passed);
                }
            }
            refused = Some(inspected.verdict)
                .filter(|verdict| matches!(verdict, Verdict::RefuseHead(_) | Verdict::RefuseBody(_)));
            if guard.place() != Place::UpgradeAsked {
                break;
            }
            guard.resume();
        }
    }
    ((passed, guard.heads(), guard.place(), refused), ends)
}

/// hyper must find the messages that the guard found, with the bodies that stand there.
fn check_hyper(good: &[u8], ends: &[usize]) {
    let read = hyper_reading::read(good);
    let expected = hyper_reading::expected(good, ends);
    let complete: Vec<_> = read.iter().filter(|message| message.body.is_some()).cloned().collect();
    // After a message that says close, hyper reads no more.
    let until_close = expected.iter().position(|message| message.closes).map_or(expected.len(), |at| at + 1);
    assert!(complete.len() >= until_close, "hyper read {complete:#?} of {expected:#?}");
    assert!(complete.len() <= expected.len(), "hyper read {complete:#?}, the guard {expected:#?}");
    for (index, (hyper, guard)) in complete.iter().zip(&expected).enumerate() {
        assert_eq!(hyper, guard, "message {index}");
    }
}
