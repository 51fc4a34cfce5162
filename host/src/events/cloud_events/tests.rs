use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::model::{DATA_BYTES_MAX, Event, EventTime, Extension, Position};

fn least() -> Value {
    json!({"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.placed"})
}

fn with(name: &str, value: Value) -> Value {
    let mut event = least();
    event[name] = value;
    event
}

fn structured(event: &Value) -> Result<Placed, Refused> {
    read_one(event.to_string().as_bytes(), None)
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (HeaderName::try_from(*name).expect("a name"), HeaderValue::from_bytes(value.as_bytes()).expect("a value"))
    };
    let mut map = HeaderMap::new();
    for (name, value) in pairs.iter().map(pair) {
        map.append(name, value);
    }
    map
}

const LEAST: [(&str, &str); 4] =
    [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/shop"), ("ce-type", "order.placed")];

fn binary(more: &[(&str, &str)], body: &[u8]) -> Result<Placed, Refused> {
    let all: Vec<_> =
        LEAST.iter().filter(|(name, _)| more.iter().all(|(other, _)| other != name)).chain(more).collect();
    let all: Vec<_> = all.into_iter().copied().filter(|(_, value)| *value != "absent").collect();
    read_binary(&headers(&all), Bytes::copy_from_slice(body), None)
}

fn stored(placed: Placed) -> Event {
    let Placed { stream, draft } = placed;
    Event { position: Position(7), stream, revision: 3, recorded_ms: 1_700_000_000_123, draft }
}

fn said(refused: Result<impl std::fmt::Debug, Refused>) -> Vec<(String, String)> {
    match refused {
        Err(Refused::Attributes { problems, .. }) => {
            problems.into_iter().map(|it| (it.pointer.clone(), it.to_string())).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_wrong_attribute_is_named_with_its_place() {
    let long = "x".repeat(1025);
    for (event, pointer, says) in [
        (with("specversion", json!("0.3")), "/specversion", "specversion: must be \"1.0\", and is \"0.3\""),
        (with("specversion", json!(1.0)), "/specversion", "specversion: must be a string"),
        (with("id", json!("")), "/id", "id: must be 1 to 255 bytes"),
        (with("id", json!(7)), "/id", "id: must be a string"),
        (with("id", json!({})), "/id", "id: must be a string"),
        (with("id", Value::Null), "/id", "id: is missing"),
        (with("source", json!(true)), "/source", "source: must be a string"),
        (with("source", json!("a b")), "/source", "source: must be a URI reference"),
        (with("type", json!("a*")), "/type", "type: must not have"),
        (with("time", json!("yesterday")), "/time", "time: must be a time as in RFC 3339"),
        (with("time", json!(1)), "/time", "time: must be a string"),
        (with("subject", json!("")), "/subject", "subject: must not be empty"),
        (with("subject", json!(long)), "/subject", "subject: must be at most 1024 bytes"),
        (with("datacontenttype", json!("json")), "/datacontenttype", "datacontenttype: must be a media type"),
        (with("dataschema", json!("schema.json")), "/dataschema", "dataschema: must be a URI with its scheme"),
        (with("stream", json!("$x")), "/stream", "stream: must not begin with '$'"),
        (with("stream", json!(3)), "/stream", "stream: must be a string"),
        (with("Trace", json!("x")), "/Trace", "Trace: names of attributes"),
        (with("tr/ace", json!("x")), "/tr~1ace", "tr/ace: names of attributes"),
        (with("weight", json!(1.5)), "/weight", "weight: must be a string, or"),
        (with("weight", json!(2_147_483_648_i64)), "/weight", "weight: must be a string, or"),
        (with("weight", json!([1])), "/weight", "weight: must be a string, or"),
        (with("data_base64", json!("?")), "/data_base64", "data_base64: must be a string of Base64"),
        (with("data_base64", json!(1)), "/data_base64", "data_base64: must be a string of Base64"),
        (with("type", json!("$internal")), "/stream", "stream: is missing, and the type is no stream's name"),
    ] {
        let found = said(structured(&event));
        assert_eq!(found.len(), 1, "{event}: {found:?}");
        assert_eq!(found[0].0, pointer, "{event}: {found:?}");
        assert!(found[0].1.starts_with(says), "{event}: {found:?}");
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let pointers: Vec<_> =
        said(structured(&json!({"id": 1, "time": "x"}))).into_iter().map(|(place, _)| place).collect();
    assert_eq!(pointers, ["/id", "/time", "/specversion", "/source", "/type"]);
    let both = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": 1, "data_base64": "AA=="});
    assert_eq!(said(structured(&both))[0].0, "/data_base64");
    let twice = br#"{"specversion":"1.0","id":"1","id":"2","source":"/s","type":"t","data":1,"data":2}"#;
    let found = said(read_one(twice, None));
    assert_eq!(
        found,
        [("/id".to_owned(), "id: is there twice".to_owned()), ("/data".to_owned(), "data: is there twice".to_owned())]
    );
    let mut extensions = least();
    for nth in 0..33 {
        extensions[format!("e{nth}")] = json!("x");
    }
    assert!(said(structured(&extensions))[0].1.contains("more than 32 extension attributes"));
}

#[test]
fn a_batch_with_one_wrong_event_is_refused_with_its_place() {
    let batch = |events: Value| read_batch(events.to_string().as_bytes(), None);
    assert_eq!(batch(json!([])), Ok(Vec::new()));
    assert_eq!(batch(json!([least(), with("id", json!("2"))])).expect("right").len(), 2);
    let found = said(batch(json!([least(), with("id", json!(2)), 7])));
    assert_eq!((found[0].0.as_str(), found[1].0.as_str()), ("/1/id", "/2"), "{found:?}");
    assert!(matches!(batch(least()), Err(Refused::Shape(_))));
    assert!(matches!(read_batch(b"[", None), Err(Refused::NotJson(_))));
    assert!(matches!(read_one(b"7", None), Err(Refused::Shape(_))));
    assert!(matches!(read_one(b"\xff", None), Err(Refused::NotJson(_))));
}

#[test]
fn what_is_more_than_an_append_or_an_event_may_have_is_not_looked_at() {
    let batch = |events: usize| read_batch(format!("[{}{{}}]", "{},".repeat(events - 1)).as_bytes(), None);
    assert_eq!(batch(100_000), Err(Refused::Count { given: 100_000, max: 1_000 }));
    let told = said(batch(1_000));
    assert_eq!((told.len(), told[99].0.as_str()), (100, "/24/type"));
    let members: Vec<_> = (0..100_000).map(|nth| format!("\"a{nth}\":1")).collect();
    let told = said(read_one(format!("{{{}}}", members.join(",")).as_bytes(), None));
    assert_eq!(told.len(), 1, "each was compared with each before it");
    assert!(told[0].0.is_empty() && told[0].1.contains("more than 45 members"), "{told:?}");
    let told = said(read_batch(format!("[{{{}}}]", members.join(",")).as_bytes(), None));
    assert_eq!(told[0].0, "/0");
}

#[test]
fn a_long_name_of_an_extension_is_legal() {
    let long = "a".repeat(64);
    assert_eq!(structured(&with(&long, json!("x"))).expect("right").draft.extensions.len(), 1);
    assert!(structured(&with(&format!("{long}a"), json!("x"))).is_err());
}

#[test]
fn a_media_type_that_no_header_carries_is_named_where_it_stands() {
    let told = said(structured(&with("datacontenttype", json!("text/plain; a=\u{fc}"))));
    assert_eq!(told[0].0, "/datacontenttype", "{told:?}");
}

#[test]
fn headers_that_are_wrong_are_named() {
    for (more, says) in [
        (&[("ce-id", "absent")][..], "ce-id: is missing"),
        (&[("ce-specversion", "0.2")], "ce-specversion: must be \"1.0\""),
        (&[("ce-source", "")], "ce-source: must be a URI reference"),
        (&[("ce-time", "soon")], "ce-time: must be a time"),
        (&[("content-type", "nonsense")], "content-type: must be a media type"),
        (&[("ce-datacontenttype", "text/plain")], "content-type: is sent as Content-Type"),
        (&[("ce-data", "x")], "ce-data: is no name for an extension attribute"),
        (&[("ce-not-one", "x")], "ce-not-one: names of attributes"),
        (&[("ce-subject", "%ff")], "ce-subject: must be ASCII"),
        (&[("ce-subject", "ü")], "ce-subject: must be ASCII"),
        (&[("ce-subject", "%00")], "ce-subject: must not have control characters"),
        (&[("ce-trace", "a"), ("ce-trace", "b")], "ce-trace: is there twice"),
    ] {
        let found = said(binary(more, b""));
        assert_eq!(found.len(), 1, "{more:?}: {found:?}");
        assert!(found[0].1.starts_with(says) && found[0].0.is_empty(), "{more:?}: {found:?}");
    }
    assert_eq!(said(read_binary(&HeaderMap::new(), Bytes::new(), None)).len(), 4);
}

#[test]
fn too_much_data_is_told_apart_from_wrong_data() {
    let large = vec![b'x'; DATA_BYTES_MAX + 1];
    let is_too_large = |result| matches!(result, Err(Refused::Attributes { too_large: true, .. }));
    assert!(is_too_large(binary(&[], &large)));
    assert!(is_too_large(structured(&with("data", json!("x".repeat(DATA_BYTES_MAX))))), "the quotes are data too");
    assert!(binary(&[], &large[1..]).is_ok());
    assert!(!is_too_large(binary(&[("ce-id", "absent")], &large)));
}

#[test]
fn values_of_headers_are_decoded_as_the_binding_says() {
    for (sent, wanted) in [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("%e2%82%ac", "€"),
        ("\"quoted with \\\"blanks\\\"\"", "quoted with \"blanks\""),
        ("100%", "100%"),
        ("a,b", "a,b"),
    ] {
        let placed = binary(&[("ce-subject", sent)], b"").expect("right");
        assert_eq!(placed.draft.subject.as_deref(), Some(wanted), "{sent}");
    }
}

#[test]
fn the_stream_is_the_address_or_what_the_event_says_or_its_type() {
    let named = "orders-1".parse::<StreamName>().expect("a name");
    assert_eq!(structured(&least()).expect("right").stream.as_str(), "order.placed");
    assert_eq!(structured(&with("stream", json!("a"))).expect("right").stream.as_str(), "a");
    let read_back = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "$t", "stream": "$a", "revision": "x", "position": 3});
    let placed = read_one(read_back.to_string().as_bytes(), Some(&named)).expect("right");
    assert_eq!(placed.stream, named);
    assert!(placed.draft.extensions.is_empty(), "our own are dropped");
}

#[test]
fn json_data_goes_through_as_it_came() {
    for data in
        ["1.0000000000000000001e400", "12345678901234567890123", "\"text\"", "[1, 2]", "{\"a\":1,\"a\":2}", "true"]
    {
        let event = format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{data}}}"#);
        let json = to_json(&stored(read_one(event.as_bytes(), None).expect("right")));
        let json = String::from_utf8(json).expect("text");
        assert!(json.ends_with(&format!(",\"data\":{data}}}")), "{json}");
        assert!(json.contains("\"datacontenttype\":\"application/json\""), "{json}");
    }
    let deep = format!("{}{}", "[".repeat(101), "]".repeat(101));
    let event = format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{deep}}}"#);
    assert!(said(read_one(event.as_bytes(), None))[0].1.starts_with("data: must not be nested deeper"));
    let shown = stored(binary(&[("content-type", "application/json")], deep.as_bytes()).expect("data is the author's"));
    assert!(String::from_utf8(to_json(&shown)).expect("text").contains("\"data_base64\":"));
}

#[test]
fn data_stands_in_json_by_its_type() {
    let shown = |content_type: &str, data: &[u8]| {
        let more = [("content-type", content_type)];
        let more = if content_type.is_empty() { &more[..0] } else { &more[..] };
        let json = to_json(&stored(binary(more, data).expect("right")));
        let json: Value = serde_json::from_slice(&json).expect("JSON");
        (json.get("data").cloned(), json.get("data_base64").cloned())
    };
    assert_eq!(shown("application/json", b"{\"a\":1}"), (Some(json!({"a": 1})), None));
    assert_eq!(shown("application/json", b"{"), (None, Some(json!("ew=="))));
    assert_eq!(shown("application/json", b"1\n"), (None, Some(json!("MQo="))), "not a byte is lost");
    assert_eq!(shown("text/plain; charset=utf-8", "grün".as_bytes()), (Some(json!("grün")), None));
    assert_eq!(shown("text/plain", b"\xff"), (None, Some(json!("/w=="))));
    assert_eq!(shown("application/xml", b"<a/>"), (None, Some(json!("PGEvPg=="))));
    assert_eq!(shown("", b"[1]"), (Some(json!([1])), None));
    assert_eq!(shown("", b"text"), (None, Some(json!("dGV4dA=="))));
    assert_eq!(shown("text/plain", b""), (None, None));
    let text = with("data", json!("a"));
    let mut text = text;
    text["datacontenttype"] = json!("text/plain");
    assert_eq!(structured(&text).expect("right").draft.data, "a");
    text["data"] = json!({"a": 1});
    assert!(said(structured(&text))[0].1.starts_with("data: must be a string where"));
}

#[test]
fn what_is_given_out_has_its_place_in_the_order() {
    let event = stored(structured(&with("count", json!(-3))).expect("right"));
    let json: Value = serde_json::from_slice(&to_json(&event)).expect("JSON");
    let wanted = json!({"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.placed", "count": -3,
        "time": "2023-11-14T22:13:20.123Z", "stream": "order.placed", "revision": "3", "position": "7"});
    assert_eq!(json, wanted);
    let (headers, body) = to_binary(&event);
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    assert_eq!((header("ce-position"), header("ce-revision"), header("ce-count")), (Some("7"), Some("3"), Some("-3")));
    assert_eq!((header("content-type"), body.len()), (None, 0));
    let untyped = Event { draft: Draft { data: "1".into(), ..event.draft }, ..event };
    assert_eq!(to_binary(&untyped).0.get("content-type").map(HeaderValue::as_bytes), Some(&b"application/json"[..]));
}

fn attribute() -> impl Strategy<Value = String> {
    // Neither control characters nor nothing; blanks, quotes and percent signs often.
    "[ \"%\\\\a€😀ü,;=]{0,20}[a%€]"
}

prop_compose! {
    fn any_event()(
        (id, subject, extension) in (attribute(), proptest::option::of(attribute()), attribute()),
        (is_set, number) in (any::<bool>(), any::<i32>()),
        content_type in proptest::option::of(proptest::sample::select(vec!["application/json", "text/plain", "a/b"])),
        data in proptest::collection::vec(any::<u8>(), 0..40),
        is_timed in any::<bool>(),
    ) -> Event {
        let mut draft = structured(&least()).expect("right").draft;
        draft.id = id.parse().expect("an id");
        draft.subject = subject.map(Into::into);
        draft.time = is_timed.then(|| EventTime::of_unix_ms(1_000));
        draft.content_type = content_type.map(Into::into);
        draft.extensions = vec![
            ("a".into(), Extension::Text(extension.into())),
            ("b".into(), Extension::Boolean(is_set)),
            ("c".into(), Extension::Integer(number)),
        ];
        draft.data = data.into();
        stored(Placed { stream: "s".parse().expect("a name"), draft })
    }
}

proptest! {
    #[test]
    fn what_is_given_out_reads_back_as_the_same_event(event in any_event()) {
        let mut wanted = event.draft.clone();
        wanted.time = Some(EventTime::of_unix_ms(event.time_ms()));
        let json = read_one(&to_json(&event), None).expect("it is an event");
        prop_assert_eq!(json.stream.as_str(), "s");
        let mut back = json.draft;
        if wanted.content_type.is_none() {
            back.content_type = None;
        }
        prop_assert_eq!(&back, &wanted);
        let (headers, body) = to_binary(&event);
        let mut back = read_binary(&headers, body, None).expect("it is an event").draft;
        if wanted.content_type.is_none() {
            back.content_type = None;
        }
        back.extensions.sort_by(|(one, _), (other, _)| one.cmp(other));
        // Headers have no other values than text.
        for (_, value) in &mut wanted.extensions {
            *value = Extension::Text(value.to_string().into());
        }
        prop_assert_eq!(&back, &wanted);
    }

    #[test]
    fn no_bytes_are_more_than_it_takes(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_one(&body, None);
        let _ = read_batch(&body, None);
    }
}
