//! Events that a transaction's outcome appends, in the very commit that decides it.
//!
//! ```json
//! "events": { "committed": [{ "type": "order.placed", "stream": "order-7", "data": { "total": 12 } }],
//!             "aborted":   [{ "type": "order.rejected", "stream": "order-7" }] }
//! ```
//!
//! The n-th of a decision has the id `GID:n` for ever, and `/transactions/GID` as its source.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{Gid, error::FieldProblem};
use crate::{
    events::StreamAppend,
    model::{Draft, EventProblem, EventType, Expected, StreamName, transaction::Decision},
};

/// Events of one decision.
pub const EVENTS_MAX: usize = 32;

const FIELD: &str = "events";
const FIELDS: [&str; 5] = ["type", "stream", "subject", "data", "datacontenttype"];
const DECISIONS: [(&str, Decision); 2] = [("committed", Decision::Commit), ("aborted", Decision::Abort)];

/// Whether a request asks for any.
pub fn asks_for_events(request: &Map<String, Value>) -> bool {
    request.contains_key(FIELD)
}

/// Everything that is wrong with what a request asks for.
pub fn problems(gid: &Gid, request: &Map<String, Value>) -> Vec<FieldProblem> {
    let mut problems = Vec::new();
    let Some(given) = request.get(FIELD) else { return problems };
    let Value::Object(given) = given else {
        return vec![FieldProblem::new(format!("/{FIELD}"), "must be an object of \"committed\" and \"aborted\"")];
    };
    for name in given.keys().filter(|name| DECISIONS.iter().all(|(known, _)| known != name)) {
        problems.push(FieldProblem::new(format!("/{FIELD}/{name}"), "must be \"committed\" or \"aborted\""));
    }
    for (name, _) in DECISIONS {
        match given.get(name) {
            None => {}
            Some(Value::Array(events)) if events.len() <= EVENTS_MAX => {
                let read = events.iter().enumerate().map(|(nth, event)| (nth, draft(gid, nth, event)));
                for (nth, problem) in read.filter_map(|(nth, read)| read.err().map(|problem| (nth, problem))) {
                    let pointer = format!("/{FIELD}/{name}/{nth}/{}", problem.attribute);
                    problems.push(FieldProblem::new(pointer, problem.rule));
                }
            }
            Some(_) => {
                let rule = format!("must be a list of at most {EVENTS_MAX} events");
                problems.push(FieldProblem::new(format!("/{FIELD}/{name}"), rule));
            }
        }
    }
    problems
}

/// What a decision appends; the request was found right when the transaction began.
pub fn appends(gid: &Gid, request: &Map<String, Value>, decision: Decision) -> Vec<StreamAppend> {
    let name = DECISIONS.iter().find(|(_, of)| *of == decision).map_or("", |(name, _)| name);
    let events = request.get(FIELD).and_then(|given| given.get(name)).and_then(Value::as_array);
    let mut streams: Vec<StreamAppend> = Vec::new();
    for (nth, event) in events.into_iter().flatten().enumerate() {
        let Ok((stream, draft)) = draft(gid, nth, event) else { continue };
        match streams.iter_mut().find(|of| of.stream == stream) {
            Some(of) => of.drafts.push(draft),
            None => streams.push(StreamAppend { stream, expected: Expected::Any, drafts: vec![draft] }),
        }
    }
    streams
}

fn draft(gid: &Gid, nth: usize, given: &Value) -> Result<(StreamName, Draft), EventProblem> {
    let Value::Object(given) = given else { return Err(EventProblem::new("", "must be an object")) };
    if let Some(unknown) = given.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        return Err(EventProblem::new(unknown, format!("is not known; known are {}", FIELDS.join(", "))));
    }
    let text = |name: &str| match given.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(EventProblem::new(name, "must be a string")),
    };
    let event_type = text("type")?.ok_or_else(|| EventProblem::new("type", "must be there"))?;
    let stream = text("stream")?.unwrap_or(event_type).parse()?;
    let event_type: EventType = event_type.parse()?;
    let id = format!("{gid}:{nth}").parse()?;
    let source = format!("/transactions/{gid}").parse()?;
    let mut draft = Draft::new(id, source, event_type);
    draft.subject = text("subject")?.map(Arc::from);
    draft.content_type = text("datacontenttype")?.map(Arc::from);
    match given.get("data") {
        None => {}
        // A text is itself where it is said to be something else than JSON.
        Some(Value::String(data)) if draft.content_type.as_ref().is_some_and(|is| !is.contains("json")) => {
            draft.data = Bytes::copy_from_slice(data.as_bytes());
        }
        Some(data) => {
            draft.content_type.get_or_insert_with(|| Arc::from("application/json"));
            draft.data = data.to_string().into();
        }
    }
    draft.check()?;
    Ok((stream, draft))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(events: Value) -> Map<String, Value> {
        Map::from_iter([(FIELD.to_owned(), events)])
    }

    #[test]
    fn each_decision_has_its_own_events_with_ids_that_never_change() {
        let gid: Gid = "g-1".parse().expect("it is right");
        let request = request(json!({
            "committed": [{"type": "a", "data": {"x": 1}}, {"type": "b", "stream": "s", "subject": "7"},
                          {"type": "c", "stream": "s", "datacontenttype": "text/plain", "data": "as it is"}],
            "aborted": [{"type": "d"}],
        }));
        assert_eq!(problems(&gid, &request), []);
        let committed = appends(&gid, &request, Decision::Commit);
        let shown: Vec<_> = committed
            .iter()
            .flat_map(|of| of.drafts.iter().map(|draft| (of.stream.as_str(), draft.id.as_str(), &draft.data[..])))
            .collect();
        let wanted: [(&str, &str, &[u8]); 3] =
            [("a", "g-1:0", b"{\"x\":1}"), ("s", "g-1:1", b""), ("s", "g-1:2", b"as it is")];
        assert_eq!(shown, wanted);
        assert_eq!(appends(&gid, &request, Decision::Abort)[0].stream.as_str(), "d");
    }

    #[test]
    fn what_is_wrong_is_said_with_where_it_stands() {
        let gid: Gid = "g-1".parse().expect("it is right");
        let pointers = |events: Value| -> Vec<_> {
            problems(&gid, &request(events)).into_iter().map(|problem| problem.pointer).collect()
        };
        assert_eq!(pointers(json!([])), ["/events"]);
        assert_eq!(pointers(json!({"done": [], "aborted": {}})), ["/events/done", "/events/aborted"]);
        let wrong = json!({"committed": [{}, {"type": 1}, {"type": "a", "stream": "$x"}, {"type": "a", "id": "1"}, 7]});
        let wanted = ["0/type", "1/type", "2/stream", "3/id", "4/"].map(|at| format!("/events/committed/{at}"));
        assert_eq!(pointers(wrong), wanted);
        assert_eq!(pointers(json!({"aborted": vec![json!({"type": "a"}); 33]})), ["/events/aborted"]);
    }
}
