//! No text, however wrong, does more than be refused.

use proptest::prelude::*;

use super::read;

/// Pieces from which something near a configuration is made.
const PIECES: &[&str] = &[
    "[gateway]\n",
    "[gateway.limits]\n",
    "[[listener]]\n",
    "[control]\n",
    "[plugins.p]\n",
    "[services.s]\n",
    "[[route]]\n",
    "address = ",
    "endpoints = ",
    "balancer = ",
    "settings = ",
    "path = ",
    "service = ",
    "services = ",
    "hash_on = ",
    "request_headers = ",
    "set = ",
    "timeout = ",
    "header_bytes_max = ",
    "access_log = ",
    "workers = ",
    "host = ",
    "\"127.0.0.1:1\"",
    "\"s\"",
    "\"/%2f\"",
    "\"15 s\"",
    "\"1e400 YiB\"",
    "99999999999999999999999 ",
    "0x",
    "nan",
    "-inf",
    "1979-05-27T07:32:00Z",
    "true",
    "{",
    "}",
    "[",
    "]",
    ",",
    "=",
    ".",
    "\n",
    "\"",
    "'''",
    "\\u0000",
    "é",
    "\u{feff}",
    "\0",
    "{ plugin = \"ring-hash\" }",
    "# comment\n",
];

fn reads_without_panic(bytes: &[u8]) {
    if let Err(errors) = read(&String::from_utf8_lossy(bytes)) {
        // Showing a problem is part of the promise.
        drop(errors.to_string());
    }
}

proptest! {
    #[test]
    fn arbitrary_text_is_read_or_refused_but_never_panics(text in "\\PC{0,200}") {
        reads_without_panic(text.as_bytes());
    }

    #[test]
    fn arbitrary_bytes_are_read_or_refused_but_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        reads_without_panic(&bytes);
    }

    #[test]
    fn text_near_a_configuration_never_panics(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40)) {
        reads_without_panic(pieces.concat().as_bytes());
    }
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    let deep = format!(
        "[services.s]\nbalancer = {{ plugin = \"p\", settings = {{ a = {}{} }} }}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert!(read(&deep).is_err());
    let dotted = format!("a{} = 1", ".a".repeat(100_000));
    assert!(read(&dotted).is_err());
}

#[test]
fn very_many_wrong_references_cost_a_bounded_number_of_comparisons() {
    let mut text = "[[listener]]\naddress = \"127.0.0.1:0\"\n".to_owned();
    for n in 0..1_000 {
        text += &format!("[services.s-{n}]\nendpoints = [\"127.0.0.1:1\"]\n");
    }
    for n in 0..300 {
        text += &format!("[[route]]\npath = \"/{n}\"\nservice = \"z-{n}\"\n");
    }
    let errors = read(&text).unwrap_err();
    let helped = errors.problems().iter().filter(|problem| problem.message.contains("did you mean")).count();
    assert_eq!((errors.problems().len(), helped), (300, 200), "200 times 1,000 comparisons");
}

#[test]
fn a_file_of_garbage_gives_a_bounded_report() {
    let many: String = (0..5_000).map(|n| format!("key{n} = 1\n")).collect();
    let errors = read(&many).unwrap_err();
    assert_eq!(errors.problems().len(), 500);
    assert!(errors.to_string().ends_with("and 4501 more problems"), "{errors}");
}
