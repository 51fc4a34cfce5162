use sluice_sdk::{
    event_handler::{Effect, Event},
    testing::event_handler::{Played, event},
};

use super::OrderFulfilment;

fn reactor() -> Played<OrderFulfilment> {
    Played::new("{}").expect("it needs no settings")
}

fn requested(stream: &str, data: &str) -> Event {
    event(stream, "order.requested", data)
}

#[test]
fn a_wish_is_placed_and_sent_to_be_carried_out() {
    let mut reactor = reactor();
    let wish = requested("order-42", r#"{"sku": "t\"a", "quantity": 2, "card": "4000"}"#);
    let caused = reactor.handle(&[wish]).expect("it is handled");
    let [(0, Effect::Emit(placed)), (0, Effect::Call(call))] = &caused[..] else { panic!("{caused:?}") };
    assert_eq!((placed.stream_name.as_str(), placed.event_type.as_str()), ("order-42", "order.placed"));
    assert_eq!(
        String::from_utf8_lossy(&placed.data),
        r#"{"lines":[{"sku":"t\"a","quantity":2}],"protocol":"event"}"#,
        "the card is not told to everybody"
    );
    assert_eq!((call.method.as_str(), call.target.as_str()), ("POST", "service://orders/fulfil"));
    assert_eq!(
        String::from_utf8_lossy(&call.body),
        r#"{"order":"42","sku":"t\"a","quantity":2,"card":"4000","taken_by":"order-fulfilment"}"#
    );
    assert_eq!(reactor.read_text("", &[]).1, r#"{"placed":1,"refused":0,"repeated":0}"#);
    assert_eq!(reactor.read_text("42", &[]).0, 404);
}

#[test]
fn an_order_is_placed_once_however_often_it_is_wished_for() {
    let mut reactor = reactor();
    let again = Event { revision: 3, ..requested("order-1", r#"{"sku": "tea", "quantity": 1}"#) };
    assert_eq!(reactor.handle(&[again]), Ok(Vec::new()));
    assert_eq!(reactor.read_text("", &[]).1, r#"{"placed":0,"refused":0,"repeated":1}"#);
}

#[test]
fn a_wish_that_nobody_could_fulfil_fails_with_the_reason_and_calls_nobody() {
    let mut reactor = reactor();
    let right = r#"{"sku": "tea", "quantity": 1}"#;
    let long = format!(r#"{{"sku": "{}", "quantity": 1}}"#, "x".repeat(101));
    let too_long = format!("order-{}", "x".repeat(123));
    for (stream, data, reason) in [
        ("order-1", "", "the data must be a JSON object"),
        ("order-1", "[1]", "the data must be a JSON object"),
        ("order-1", r#"{"quantity": 1}"#, "sku: must be given"),
        ("order-1", r#"{"sku": "", "quantity": 1}"#, "sku: must be given"),
        ("order-1", r#"{"sku": 7, "quantity": 1}"#, "sku: must be a text"),
        ("order-1", &long, "sku: must be a text of at most 100 bytes"),
        ("order-1", r#"{"sku": "tea"}"#, "quantity: must be a whole number"),
        ("order-1", r#"{"sku": "tea", "quantity": 0}"#, "quantity: must be a whole number"),
        ("order-1", r#"{"sku": "tea", "quantity": 1.5}"#, "quantity: must be a whole number"),
        ("order-1", r#"{"sku": "tea", "quantity": 1, "card": 4}"#, "card: must be a text"),
        ("order-", right, "the stream must be order- and an id"),
        ("order-a/b", right, "the stream must be order- and an id"),
        (&too_long, right, "the stream must be order- and an id"),
    ] {
        let caused = reactor.handle(&[requested(stream, data)]).expect("it is handled");
        let [(0, Effect::Emit(failed))] = &caused[..] else { panic!("{data}: {caused:?}") };
        assert_eq!((failed.stream_name.as_str(), failed.event_type.as_str()), (stream, "order.failed"));
        let said = String::from_utf8_lossy(&failed.data);
        assert!(said.starts_with(&format!("{{\"reason\":\"{reason}")), "{said}");
    }
    assert!(reactor.read_text("", &[]).1.contains("\"refused\":13"));
}

#[test]
fn a_target_that_is_no_service_is_refused() {
    let problems = Played::<OrderFulfilment>::new(r#"{"target": "http://a/"}"#).expect_err("it is wrong");
    assert_eq!(problems[0].path, "/target");
}
