//! The example shop's events: each order's stream tells its way, an event alone can place one, and a projection says what
//! the ledgers hold.

mod shop;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use serde_json::{Value, json};
use sluice_harness::{Client, wait_until};
use sluice_shop::services::payments::DECLINED_CARD;

use shop::{OUTAGE_DEADLINE, STOCK, Shop, number, text};

const STAGES: [&str; 4] = ["requested", "placed", "confirmed", "failed"];

#[test]
fn an_order_by_an_event_alone_happens_in_all_services_or_in_none() {
    let shop = Shop::open();
    let before = shop.ledgers();
    let taken = shop.order("event", &json!({"sku": "cup", "quantity": 3})).expect(202).json();
    let order = shop.await_end(&text(&taken["id"]));
    assert_eq!((&order["state"], &order["total_cents"]), (&json!("confirmed"), &json!(3_750)), "{order}");
    assert_eq!(shop.story(&taken["id"]), ["order.requested", "order.placed", "order.confirmed"]);
    let kept = shop.gateway.get(&format!("/orders/{}", text(&taken["id"]))).expect(200).json();
    assert_eq!((&kept["transaction"], &kept["price_cents"]), (&taken["stream"], &json!(3_750)));
    assert!(text(&kept["taken_by"]).starts_with("orders-"), "{kept}");
    let after = shop.ledgers();
    assert_eq!(after.stock("cup"), before.stock("cup") - 3);
    assert_eq!(after.taken_cents(), before.taken_cents() + 3_750);
    after.agree();

    // Refused by the bank, by the catalogue, and by the handler itself, which calls nobody then.
    for (wish, story) in [
        (
            json!({"sku": "cup", "quantity": 1, "card": DECLINED_CARD}),
            ["order.requested", "order.placed", "order.failed"].as_slice(),
        ),
        (json!({"sku": "gold", "quantity": 1}), &["order.requested", "order.placed", "order.failed"]),
        (json!({"sku": "cup", "quantity": 0}), &["order.requested", "order.failed"]),
    ] {
        let taken = shop.order("event", &wish).expect(202).json();
        assert_eq!(shop.await_end(&text(&taken["id"]))["state"], "failed", "{wish}");
        assert_eq!(shop.story(&taken["id"]), story, "{wish}");
        // What was done is undone once that it failed is decided, and told.
        shop.await_ends(OUTAGE_DEADLINE);
        assert_eq!(shop.ledgers(), after, "{wish}");
    }
    let refused = json!({"placed": 3, "refused": 1, "repeated": 0});
    assert_eq!(shop.control.get("/projections/order-fulfilment/").expect(200).json(), refused);

    // Nobody has to go through the orders service; and the same wish once more is the same order.
    for _ in 0..2 {
        let wish =
            json!({"stream": "order-42", "event_type": "order.requested", "event_data": {"sku": "tea", "quantity": 2}});
        shop.control.post("/event", &wish).expect(201);
        shop.await_end("42");
    }
    shop.settle();
    assert_eq!(shop.story(&json!("42")), ["order.requested", "order.placed", "order.confirmed", "order.requested"]);
    let figures = json!({"placed": 4, "refused": 1, "repeated": 1});
    assert_eq!(shop.control.get("/projections/order-fulfilment/").expect(200).json(), figures);
    assert_eq!(shop.ledgers().stock("tea"), STOCK - 2);
    assert_eq!(shop.transactions("succeeded").len(), 2);
    shop.ledgers().agree();
    // What the handler calls is nobody else's to call.
    shop.gateway.post("/fulfil", &json!({})).expect(404);
    shop.gateway.post("/orders/fulfil", &json!({})).expect(405);
}

/// What the gateway does where an answer was lost: by another instance, and while the first is still at it.
#[test]
fn a_call_that_comes_many_times_places_one_order_at_whichever_instances_it_arrives() {
    let shop = Shop::open();
    let instances = [1, 2].map(|number| Client::to(shop.address(&format!("orders-{number}")).expect("it is said")));
    for order in 0..8 {
        let call = json!({"order": order.to_string(), "sku": "tea", "quantity": 1, "card": "", "taken_by": "nobody"});
        thread::scope(|scope| {
            for instance in &instances {
                scope.spawn(|| instance.post("/fulfil", &call).expect(202));
            }
        });
        shop.await_end(&order.to_string());
        let again = instances[order % 2].post("/fulfil", &call).expect(202).json();
        assert_eq!(
            again,
            json!({"id": order.to_string(), "transaction": format!("order-{order}"), "status": "succeeded"})
        );
        assert_eq!(shop.story(&json!(order.to_string())), ["order.confirmed"]);
    }
    assert_eq!((shop.ledgers().stock("tea"), shop.transactions("succeeded").len()), (STOCK - 8, 8));
    shop.ledgers().agree();
}

#[test]
fn whichever_way_an_order_is_placed_its_stream_tells_so_and_how_it_ended() {
    let shop = Shop::open();
    for protocol in ["saga", "tcc", "2pc", "none"] {
        let place = |card: &str| {
            let wish = json!({"sku": "tea", "quantity": 2, "card": card});
            let query = if protocol == "none" { String::new() } else { format!("?protocol={protocol}") };
            shop.gateway.post(&format!("/orders{query}"), &wish)
        };
        let id = text(&place("").expect(201).json()["id"]);
        let order = shop.await_end(&id);
        assert_eq!((&order["state"], &order["protocol"]), (&json!("confirmed"), &json!(protocol)));
        assert_eq!((&order["total_cents"], &order["lines"][0]), (&json!(1_780), &json!({"sku": "tea", "quantity": 2})));
        assert_eq!(shop.story(&json!(id)), ["order.placed", "order.confirmed"], "{protocol}");
        let outcome = shop.events(&id).pop().expect("two events");
        if protocol != "none" {
            assert_eq!(outcome["source"], format!("/transactions/order-{id}"), "the deciding commit has it");
        }
        assert!(!place(DECLINED_CARD).status.is_success());
    }
    shop.settle();
    let summary = shop.control.get("/projections/order-summary/").expect(200).json();
    let orders = json!({"requested": 0, "placed": 0, "confirmed": 4, "failed": 4});
    assert_eq!(summary, json!({"orders": orders, "confirmed_cents": 4 * 1_780}));
    let wrong = shop.order("three", &json!({"sku": "tea", "quantity": 1})).expect(400).text();
    assert!(wrong.contains("saga, tcc, 2pc or event"), "{wrong}");
}

#[test]
fn an_instance_killed_while_orders_are_fulfilled_loses_and_doubles_none_and_the_projection_is_what_the_log_says() {
    const CUSTOMERS: usize = 4;
    const ORDERS: usize = 80;
    let shop = Shop::open();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..CUSTOMERS {
            scope.spawn(|| {
                loop {
                    let order = next.fetch_add(1, Ordering::Relaxed);
                    if order >= ORDERS {
                        break;
                    }
                    let card = if is_declined(order) { DECLINED_CARD } else { "" };
                    let sku = ["tea", "cup", "pot"][order % 3];
                    let data = json!({"sku": sku, "quantity": 1 + order % 5, "card": card});
                    let stream = format!("order-{order}");
                    let wish = json!({"stream": stream, "event_type": "order.requested", "event_data": data});
                    shop.control.post("/event", &wish).expect(201);
                }
            });
        }
        for (after, victim) in [(3, "orders-1"), (20, "inventory-2"), (40, "payments-1")] {
            wait_until("orders to be fulfilled", || shop.ended() >= after);
            shop.kill(victim);
        }
    });
    shop.await_count(ORDERS);
    shop.settle();
    shop.await_ends(OUTAGE_DEADLINE);
    assert_eq!(shop.projection("order-fulfilment")["calls"]["parked"], 0);
    for order in 0..ORDERS {
        let outcome = if is_declined(order) { "order.failed" } else { "order.confirmed" };
        assert_eq!(shop.story(&json!(order.to_string())), ["order.requested", "order.placed", outcome], "{order}");
    }
    assert_eq!(shop.transactions("succeeded").len() + shop.transactions("failed").len(), ORDERS);
    let ledgers = shop.ledgers();
    ledgers.agree();

    let log = &shop.control.get("/projections").expect(200).json()["log"];
    assert_eq!((&log["head"], &log["appended"]), (&json!(3 * ORDERS), &json!(3 * ORDERS)), "{log}");
    let recomputed = Recomputed::of(&shop.log());
    for _ in 0..2 {
        let orders = &shop.control.get("/projections/order-summary/orders?limit=1000").expect(200).json()["orders"];
        let shown = orders.as_array().expect("a list").iter().map(|order| (text(&order["order"]), order.clone()));
        assert_eq!(recomputed.orders, shown.collect(), "as the log has it");
        let skus = &shop.control.get("/projections/order-summary/skus").expect(200).json()["skus"];
        assert_eq!(recomputed.skus(), *skus);
        let summary = shop.control.get("/projections/order-summary/").expect(200).json();
        assert_eq!(summary["confirmed_cents"], ledgers.taken_cents(), "{summary}");
        assert_eq!(number(&summary["orders"]["confirmed"]), shop.transactions("succeeded").len() as u64);
        shop.rebuild("order-summary");
    }
}

#[test]
fn a_rebuild_of_the_handler_that_places_orders_places_none_again() {
    let shop = Shop::open();
    for order in 0..10 {
        let card = if is_declined(order) { DECLINED_CARD } else { "" };
        shop.order("event", &json!({"sku": "pot", "quantity": 1, "card": card})).expect(202);
    }
    shop.await_count(10);
    shop.settle();
    shop.await_ends(OUTAGE_DEADLINE);
    let (before, ledgers) = (shop.projection("order-fulfilment"), shop.ledgers());
    assert_eq!((number(&before["calls"]["made"]), number(&before["emitted"])), (10, 10));
    shop.rebuild("order-fulfilment");
    shop.settle();
    let after = shop.projection("order-fulfilment");
    assert_eq!((&after["calls"]["made"], &after["head"]), (&before["calls"]["made"], &before["head"]), "{after}");
    assert_eq!((&after["handled"], &after["plugin"]), (&before["handled"], &json!("order-fulfilment")));
    assert_eq!(shop.ledgers(), ledgers);
    // And the new one goes on.
    shop.order("event", &json!({"sku": "pot", "quantity": 1})).expect(202);
    shop.await_count(11);
    shop.ledgers().agree();
    assert_eq!(shop.ledgers().stock("pot"), ledgers.stock("pot") - 1);
}

/// What the projection should say, from the log alone and by other means.
struct Recomputed {
    orders: BTreeMap<String, Value>,
}

impl Recomputed {
    fn of(log: &[Value]) -> Self {
        let mut orders: BTreeMap<String, Value> = BTreeMap::new();
        for event in log {
            let id = text(&event["stream"]).strip_prefix("order-").expect("an order's stream").to_owned();
            let stage = text(&event["type"]).strip_prefix("order.").expect("an order's event").to_owned();
            let data = &event["data"];
            let order = orders.entry(id.clone()).or_insert_with(|| {
                json!({"order": id, "lines": [], "total_cents": null, "protocol": null, "transaction": null, "reason": null})
            });
            assert!(order["state"] != "confirmed" && order["state"] != "failed", "{event} after the end");
            match stage.as_str() {
                "requested" => order["lines"] = json!([{"sku": data["sku"], "quantity": data["quantity"]}]),
                "placed" => (order["lines"], order["protocol"]) = (data["lines"].clone(), data["protocol"].clone()),
                "confirmed" => order["total_cents"] = data["total_cents"].clone(),
                _ => {}
            }
            if data["transaction"].is_string() {
                order["transaction"] = data["transaction"].clone();
            }
            (order["state"], order["changed_at"]) = (json!(stage), event["time"].clone());
        }
        for order in orders.values_mut() {
            order["changed_at"] = with_milliseconds(&text(&order["changed_at"])).into();
        }
        Self { orders }
    }

    fn skus(&self) -> Value {
        let mut skus: BTreeMap<String, BTreeMap<&str, u64>> = BTreeMap::new();
        for order in self.orders.values() {
            for line in order["lines"].as_array().expect("a list") {
                let of = skus.entry(text(&line["sku"])).or_insert_with(|| STAGES.map(|stage| (stage, 0)).into());
                *of.get_mut(order["state"].as_str().expect("a text")).expect("a stage") += number(&line["quantity"]);
            }
        }
        let shown = skus.into_iter().map(|(sku, pieces)| {
            let mut shown = json!(pieces);
            shown["sku"] = sku.into();
            shown
        });
        shown.collect()
    }
}

impl Shop {
    /// An order's events.
    fn events(&self, id: &str) -> Vec<Value> {
        let page = self.control.get(&format!("/streams/order-{id}")).expect(200).json();
        page["events"].as_array().cloned().expect("a list")
    }

    /// Their types.
    fn story(&self, id: &Value) -> Vec<String> {
        self.events(&text(id)).iter().map(|event| text(&event["type"])).collect()
    }

    /// Everything.
    fn log(&self) -> Vec<Value> {
        let page = self.control.get("/events?limit=1000").expect(200).json();
        assert_eq!(page["next"], Value::Null, "all of them fit into one page");
        page["events"].as_array().cloned().expect("a list")
    }

    /// As the projection has the order, once it has ended.
    #[track_caller]
    fn await_end(&self, id: &str) -> Value {
        let path = format!("/projections/order-summary/orders/{id}");
        let shown = || self.control.get(&path);
        wait_until("the order to end", || {
            let shown = shown();
            shown.status == 200 && ["confirmed", "failed"].iter().any(|end| shown.json()["state"] == *end)
        });
        shown().json()
    }

    /// Orders that have ended, as the projection counts them.
    fn ended(&self) -> usize {
        let orders = &self.control.get("/projections/order-summary/").expect(200).json()["orders"];
        (number(&orders["confirmed"]) + number(&orders["failed"])) as usize
    }

    fn await_count(&self, orders: usize) {
        sluice_harness::wait_for("all orders to end", OUTAGE_DEADLINE, || (self.ended() == orders).then_some(()));
    }

    fn projection(&self, name: &str) -> Value {
        self.control.get(&format!("/projections/{name}")).expect(200).json()
    }

    /// Both handlers have seen everything, and no call waits.
    fn settle(&self) {
        wait_until("the handlers to have come to the end", || {
            ["order-summary", "order-fulfilment"].iter().all(|name| {
                let shown = self.projection(name);
                shown["checkpoint"] == shown["head"] && shown["calls"]["waiting"] == 0 && shown["rebuilding"].is_null()
            })
        });
    }

    fn rebuild(&self, name: &str) {
        let generation = number(&self.projection(name)["generation"]);
        self.control.post(&format!("/projections/{name}/rebuild"), &json!({})).expect(202);
        wait_until("it to be rebuilt", || number(&self.projection(name)["generation"]) == generation + 1);
    }
}

fn is_declined(order: usize) -> bool {
    order % 4 == 3
}

/// The log leaves out zeros at the end of a second's fraction.
fn with_milliseconds(time: &str) -> String {
    let (second, fraction) = time.trim_end_matches('Z').split_once('.').unwrap_or((time.trim_end_matches('Z'), ""));
    format!("{second}.{fraction:0<3}Z")
}
