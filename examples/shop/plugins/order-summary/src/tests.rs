use sluice_sdk::{
    event_handler::Event,
    testing::event_handler::{Played, event},
};

use super::OrderSummary;

fn summary() -> Played<OrderSummary> {
    Played::new("{}").expect("it needs no settings")
}

fn placed(id: &str, sku: &str, quantity: u64) -> Event {
    let data = format!(r#"{{"lines": [{{"sku": "{sku}", "quantity": {quantity}}}], "protocol": "saga"}}"#);
    event(&format!("order-{id}"), "order.placed", &data)
}

fn confirmed(id: &str, total_cents: u64) -> Event {
    let data = format!(r#"{{"total_cents": {total_cents}, "transaction": "order-{id}"}}"#);
    event(&format!("order-{id}"), "order.confirmed", &data)
}

fn failed(id: &str, data: &str) -> Event {
    event(&format!("order-{id}"), "order.failed", data)
}

fn json(summary: &Played<OrderSummary>, path: &str) -> String {
    let (status, body) = summary.read_text(path, &[]);
    assert_eq!(status, 200, "{path}: {body}");
    body
}

#[test]
fn an_order_is_counted_where_it_stands_and_nowhere_else() {
    let mut summary = summary();
    let wish = event("order-1", "order.requested", r#"{"sku": "tea", "quantity": 2, "card": "4000"}"#);
    summary.handle(&[wish]).expect("it is counted");
    assert_eq!(json(&summary, "skus/tea"), r#"{"sku":"tea","requested":2,"placed":0,"confirmed":0,"failed":0}"#);
    summary.handle(&[placed("1", "tea", 2), placed("2", "tea", 3), placed("3", "cup", 1)]).expect("they are counted");
    summary.handle(&[confirmed("1", 1_780), failed("2", "{}")]).expect("they are counted");
    assert_eq!(
        json(&summary, ""),
        r#"{"orders":{"requested":0,"placed":1,"confirmed":1,"failed":1},"confirmed_cents":1780}"#
    );
    assert_eq!(json(&summary, "skus/tea"), r#"{"sku":"tea","requested":0,"placed":0,"confirmed":2,"failed":3}"#);
    let order = json(&summary, "orders/1");
    let shown = r#"{"order":"1","state":"confirmed","lines":[{"sku":"tea","quantity":2}],"total_cents":1780,"#;
    assert!(order.starts_with(shown) && !order.contains("4000"), "{order}");
    assert!(
        order.contains(r#""protocol":"saga","transaction":"order-1","reason":null,"changed_at":"2026-"#),
        "{order}"
    );
}

#[test]
fn what_has_ended_stays_as_it_is_and_other_events_say_nothing() {
    let mut summary = summary();
    summary.handle(&[placed("1", "tea", 2), failed("1", r#"{"reason": "no"}"#)]).expect("they are counted");
    let before = summary.state().clone();
    let late = [confirmed("1", 5), failed("1", "{}"), placed("1", "cup", 1), event("order-1", "order.shipped", "{}")];
    summary.handle(&late).expect("they are looked at");
    assert_eq!(*summary.state(), before);
    assert!(json(&summary, "orders/1").contains(r#""state":"failed""#));
    assert!(json(&summary, "orders/1").contains(r#""reason":"no""#));
}

#[test]
fn a_wish_that_is_nonsense_is_an_order_without_lines_until_it_fails() {
    let mut summary = summary();
    summary.handle(&[event("order-1", "order.requested", "7")]).expect("it is counted");
    assert!(json(&summary, "orders/1").contains(r#""state":"requested","lines":[]"#));
    summary.handle(&[failed("1", r#"{"reason": "the data must be an object"}"#)]).expect("it is counted");
    assert!(json(&summary, "").contains(r#""requested":0,"placed":0,"confirmed":0,"failed":1"#));
}

#[test]
fn what_cannot_be_read_is_put_aside_and_counts_nothing() {
    let mut summary = summary();
    let many = format!(r#"{{"lines": [{}]}}"#, vec![r#"{"sku": "a", "quantity": 1}"#; 101].join(","));
    for (event_type, data) in [
        ("order.placed", ""),
        ("order.placed", "{}"),
        ("order.placed", r#"{"lines": [{"sku": "tea", "quantity": -1}]}"#),
        ("order.placed", r#"{"lines": [{"sku": "", "quantity": 1}]}"#),
        ("order.placed", &many),
        ("order.confirmed", r#"{"total_cents": 1.5}"#),
    ] {
        let (at, failure) = summary.handle(&[event("order-1", event_type, data)]).expect_err("it is wrong");
        assert!(at == 0 && !failure.is_transient(), "{data}");
        assert!(summary.state().is_empty(), "{data}");
    }
}

#[test]
fn orders_and_products_are_read_in_pages_and_one_by_one() {
    let mut summary = summary();
    for id in ["b", "a", "c"] {
        summary.handle(&[placed(id, id, 1)]).expect("it is counted");
    }
    let page = summary.read_text("orders", &[("limit", "2")]).1;
    assert!(page.starts_with(r#"{"orders":[{"order":"a","#) && page.ends_with(r#""next":"c"}"#), "{page}");
    let page = summary.read_text("orders", &[("start", "c")]).1;
    assert!(page.starts_with(r#"{"orders":[{"order":"c","#) && page.ends_with(r#""next":null}"#), "{page}");
    let page = summary.read_text("skus", &[("prefix", "b")]).1;
    let piece = r#"{"sku":"b","requested":0,"placed":1,"confirmed":0,"failed":0}"#;
    assert_eq!(page, format!(r#"{{"skus":[{piece}],"next":null}}"#));
    for nowhere in ["orders/z", "skus/z", "else", "orders/a/b"] {
        assert_eq!(summary.read_text(nowhere, &[]).0, 404, "{nowhere}");
    }
    assert_eq!(summary.read_text("orders", &[("limit", "0")]).0, 400);
}
