//! Events that a transaction's outcome appends, in the very commit that decides it.
//!
//! ```json
//! "events": { "committed": [{ "type": "order.placed", "stream": "order-7", "data": { "total": 12 } }],
//!             "aborted":   [{ "type": "order.rejected", "stream": "order-7" }] }
//! ```
//!
//! The n-th of a decision has the id `GID:MS:n` for ever, and `/transactions/GID` as its source. `MS` is when the transaction
//! began, in milliseconds since 1970: a gid is free again once its transaction is forgotten, and what is told then is not
//! what was told before.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{
    Gid,
    error::{FieldProblem, TransactionError},
};
use crate::{
    events::{StreamAppend, cloud_events::is_json},
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
                // Whatever its moment, an id is as right.
                let read = events.iter().enumerate().map(|(nth, event)| (nth, draft((gid, u64::MAX), nth, event)));
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

/// What a decision of the transaction that began then appends. The request was found right when it began; another version
/// of the gateway may see it in another way.
pub fn appends(
    begun: (&Gid, u64),
    request: &Map<String, Value>,
    decision: Decision,
) -> Result<Vec<StreamAppend>, TransactionError> {
    let name = DECISIONS.iter().find(|(_, of)| *of == decision).map_or("", |(name, _)| name);
    let events = request.get(FIELD).and_then(|given| given.get(name)).and_then(Value::as_array);
    let mut streams: Vec<StreamAppend> = Vec::new();
    for (nth, event) in events.into_iter().flatten().enumerate() {
        let read = draft(begun, nth, event);
        let (stream, draft) = read.map_err(|problem| TransactionError::EventWrong { nth, problem })?;
        match streams.iter_mut().find(|of| of.stream == stream) {
            Some(of) => of.drafts.push(draft),
            None => streams.push(StreamAppend { stream, expected: Expected::Any, drafts: vec![draft] }),
        }
    }
    Ok(streams)
}

fn draft((gid, begun_ms): (&Gid, u64), nth: usize, given: &Value) -> Result<(StreamName, Draft), EventProblem> {
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
    let stream = match text("stream")? {
        Some(stream) => stream.parse()?,
        None => event_type.parse().map_err(|EventProblem { rule, .. }| {
            EventProblem::new("type", format!("is no stream's name, and no stream is given: it {rule}"))
        })?,
    };
    let event_type: EventType = event_type.parse()?;
    let id = format!("{gid}:{begun_ms}:{nth}").parse()?;
    let source = format!("/transactions/{gid}").parse()?;
    let mut draft = Draft::new(id, source, event_type);
    draft.subject = text("subject")?.map(Arc::from);
    draft.content_type = text("datacontenttype")?.map(Arc::from);
    match given.get("data") {
        None => {}
        Some(data) if draft.content_type.as_deref().is_none_or(is_json) => {
            draft.content_type.get_or_insert_with(|| Arc::from("application/json"));
            draft.data = data.to_string().into();
        }
        // A text is itself where it is said to be something else than JSON.
        Some(Value::String(data)) => draft.data = Bytes::copy_from_slice(data.as_bytes()),
        Some(_) => return Err(EventProblem::new("data", "must be a string where datacontenttype is not JSON")),
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
                          {"type": "c", "stream": "s", "datacontenttype": "application/jsonl", "data": "as it is"}],
            "aborted": [{"type": "d"}],
        }));
        assert_eq!(problems(&gid, &request), []);
        let committed = appends((&gid, 7), &request, Decision::Commit).expect("they are right");
        let shown: Vec<_> = committed
            .iter()
            .flat_map(|of| of.drafts.iter().map(|draft| (of.stream.as_str(), draft.id.as_str(), &draft.data[..])))
            .collect();
        let wanted: [(&str, &str, &[u8]); 3] =
            [("a", "g-1:7:0", b"{\"x\":1}"), ("s", "g-1:7:1", b""), ("s", "g-1:7:2", b"as it is")];
        assert_eq!(shown, wanted);
        let of = |begun_ms| appends((&gid, begun_ms), &request, Decision::Abort).expect("they are right");
        assert_eq!(of(7)[0].stream.as_str(), "d");
        assert_ne!(of(7)[0].drafts[0].id, of(8)[0].drafts[0].id, "the gid may have been another transaction's");
    }

    #[test]
    fn what_is_wrong_is_said_with_where_it_stands() {
        let gid: Gid = "g-1".parse().expect("it is right");
        let pointers = |events: Value| -> Vec<_> {
            problems(&gid, &request(events)).into_iter().map(|problem| problem.pointer).collect()
        };
        assert_eq!(pointers(json!([])), ["/events"]);
        assert_eq!(pointers(json!({"done": [], "aborted": {}})), ["/events/done", "/events/aborted"]);
        let wrong = json!({"committed": [{}, {"type": 1}, {"type": "a", "stream": "$x"}, {"type": "a", "id": "1"}, 7, {"type": "$x"},
            {"type": "a", "datacontenttype": "text/plain", "data": 1}, {"type": "a", "datacontenttype": "application/jsonl", "data": []}]});
        let wanted = ["0/type", "1/type", "2/stream", "3/id", "4/", "5/type", "6/data", "7/data"]
            .map(|at| format!("/events/committed/{at}"));
        assert_eq!(pointers(wrong), wanted);
        assert_eq!(pointers(json!({"aborted": vec![json!({"type": "a"}); 33]})), ["/events/aborted"]);
        let refused = appends((&gid, 7), &request(json!({"aborted": [{"type": "a"}, {}]})), Decision::Abort);
        assert!(matches!(refused, Err(TransactionError::EventWrong { nth: 1, .. })), "{refused:?}");
    }
}
