use sluice_sdk::testing::event_handler::{Played, event};

use super::CountByType;

fn counted(types: &[&str]) -> Played<CountByType> {
    let mut counts = Played::new("{}").expect("the settings are right");
    let events: Vec<_> = types.iter().map(|name| event("s", name, "{}")).collect();
    assert_eq!(counts.handle(&events), Ok(Vec::new()), "it causes nothing");
    counts
}

#[test]
fn every_event_counts_once_whatever_the_batches() {
    let mut counts = counted(&["b", "a", "b"]);
    counts.handle(&[event("t", "b", "{}")]).expect("it is counted");
    assert_eq!(counts.read_text("", &[]), (200, r#"{"counts":{"a":1,"b":3},"next":null}"#.to_owned()));
    assert_eq!(counts.read_text("b", &[]), (200, r#"{"type":"b","count":3}"#.to_owned()));
    assert_eq!(counts.read_text("c", &[]), (200, r#"{"type":"c","count":0}"#.to_owned()));
}

#[test]
fn many_types_are_read_in_pages() {
    let names: Vec<_> = (0..250).map(|n| format!("type-{n:03}")).collect();
    let counts = counted(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let (mut seen, mut start) = (0, String::new());
    loop {
        let page = counts.read_text("", &[("prefix", "type-"), ("start", &start)]).1;
        seen += page.matches("\"type-").count();
        match page.rsplit_once("\"next\":\"") {
            Some((_, next)) => start = next.trim_end_matches("\"}").to_owned(),
            None => break,
        }
        // The page's `next` was counted as well.
        seen -= 1;
    }
    assert_eq!(seen, 250);
    assert_eq!(counts.read_text("", &[("start", "type-249")]).1, r#"{"counts":{"type-249":1},"next":null}"#);
    assert_eq!(counts.read_text("", &[("limit", "0")]).0, 400);
    assert_eq!(counts.read_text("", &[("limit", "1001")]).0, 400);
}

#[test]
fn wrong_settings_are_reported() {
    let problems = Played::<CountByType>::new(r#"{"types": ["a*b"], "stream": []}"#).expect_err("they are wrong");
    let paths: Vec<_> = problems.into_iter().map(|problem| problem.path).collect();
    assert_eq!(paths, ["/types", "/stream"]);
}
