//! The example shop, started as `make run` starts it: its orders happen in all three services or in none, by each
//! protocol, whoever is killed when.

mod shop;

use std::{
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::{Value, json};
use sluice_harness::{Client, process, wait_for, wait_until};
use sluice_shop::services::payments::DECLINED_CARD;

use shop::{OUTAGE_DEADLINE, STOCK, Shop, text};

const PROTOCOLS: [&str; 3] = ["saga", "tcc", "2pc"];

#[test]
fn an_order_happens_in_all_services_or_in_none() {
    let shop = Shop::open();
    for protocol in PROTOCOLS {
        let before = shop.ledgers();
        let order = shop.order(protocol, &json!({"sku": "cup", "quantity": 3})).expect(201).json();
        let after = shop.ledgers();
        assert_eq!(after.stock("cup"), before.stock("cup") - 3, "{protocol}");
        assert_eq!(after.taken_cents(), before.taken_cents() + 3 * 1_250, "{protocol}");
        after.agree();
        assert_eq!(shop.status(&order["transaction"]), "succeeded", "{protocol}");
        let kept = shop.gateway.get(&format!("/orders/{}", text(&order["id"]))).expect(200).json();
        assert_eq!(kept, order, "{protocol}");

        let (sold_out, too_dear) = ("only 100000 of", "above the card's limit");
        for (wish, reasons) in [
            (json!({"sku": "cup", "quantity": 1, "card": DECLINED_CARD}), ["the card is declined"; 2]),
            (json!({"sku": "pot", "quantity": 300}), [too_dear; 2]),
            // Two participants refuse, and those that are asked at once do so in either order.
            (json!({"sku": "tea", "quantity": STOCK + 1}), [sold_out, too_dear]),
        ] {
            let refused = shop.order(protocol, &wish).expect(409);
            assert!(reasons.iter().any(|why| refused.text().contains(why)), "{protocol}: {refused}");
            assert_eq!(shop.ledgers(), after, "{protocol}: {wish}");
        }
    }
    // The record of an end follows what is told of it.
    shop.await_ends(OUTAGE_DEADLINE);
    assert_eq!(shop.transactions("failed").len(), 9);
    assert_eq!(shop.transactions("hazard").len(), 0);
    // And without a coordinator, as ever.
    let order = shop.gateway.post("/orders", &json!({"sku": "tea", "quantity": 1})).expect(201).json();
    assert!(text(&order["reserved_by"]).starts_with("inventory-"), "{order}");
    let declined = json!({"sku": "tea", "quantity": 1, "card": DECLINED_CARD});
    shop.gateway.post("/orders", &declined).expect(402);
    shop.ledgers().agree();
}

#[test]
fn nobody_but_the_coordinator_reaches_a_participant() {
    let shop = Shop::open();
    let part = json!({"order": "1", "sku": "tea", "quantity": 1, "price_cents": 1, "card": "", "taken_by": "nobody"});
    for op in ["prepare", "commit", "try", "cancel", "action", "compensate"] {
        for path in [format!("/{op}"), format!("/inventory/{op}")] {
            shop.gateway.post(&format!("{path}?gid=g&branch_id=01&op={op}"), &part).expect(404);
        }
    }
    assert_eq!(shop.ledgers().stock("tea"), STOCK);
}

/// What the coordinator does after a lost answer, and what a network does by itself, at both instances in turn.
#[test]
fn repeated_overtaken_and_late_calls_change_nothing_at_whichever_instance_they_arrive() {
    let shop = Shop::open();
    let before = shop.ledgers();
    let part = json!({"order": "1", "sku": "tea", "quantity": 4, "price_cents": 3_560, "card": "", "taken_by": "x"});
    for service in ["inventory", "payments", "orders"] {
        let instances =
            [1, 2].map(|number| Client::to(shop.address(&format!("{service}-{number}")).expect("it is said")));
        for (begin, undo) in [("prepare", "abort"), ("try", "cancel"), ("action", "compensate")] {
            let call = |turn: usize, gid: &str, op: &str| {
                let path = format!("/{op}?gid={begin}-{gid}&trans_type=any&branch_id=01&op={op}");
                let answer = instances[turn % 2].post(&path, &part);
                (
                    answer.status.as_u16(),
                    if answer.status == 200 { text(&answer.json()["passed"]) } else { answer.text() },
                )
            };
            let answers = |gid: &str, ops: &[&str]| -> Vec<_> {
                ops.iter().enumerate().map(|(turn, op)| call(turn, gid, op)).collect()
            };
            let passed = |words: [&str; 5]| words.map(|word| (200, word.to_owned()));
            assert_eq!(
                answers("twice", &[begin, begin, undo, undo, begin]),
                passed(["done", "duplicate", "done", "duplicate", "duplicate"]),
                "{service}"
            );
            let late = (409, "it has been undone already".to_owned());
            let [empty, again, ..] = passed(["empty", "duplicate", "", "", ""]);
            assert_eq!(
                answers("overtaken", &[undo, begin, undo, begin]),
                [empty, late.clone(), again, late],
                "{service}"
            );
            assert_eq!(shop.ledgers(), before, "{service} {begin}");
            // An operation that is not its path's is nobody's.
            assert_eq!(instances[0].post(&format!("/{begin}?gid=g&branch_id=01&op={undo}"), &part).status, 400);
        }
    }
}

#[test]
fn a_service_that_is_gone_for_a_while_leaves_no_order_half_done() {
    let shop = Shop::open();
    let before = shop.ledgers();
    shop.kill("payments-1");
    shop.kill("payments-2");
    let wish = json!({"sku": "tea", "quantity": 1});
    thread::scope(|scope| {
        for protocol in PROTOCOLS {
            let (shop, wish) = (&shop, &wish);
            // The customers are told how it stands after ten seconds; it goes on without them.
            scope.spawn(move || shop.order(protocol, wish));
        }
        // It gives up after three attempts to prepare, however long they take: until then nobody comes back.
        wait_for("two-phase commit to give up", OUTAGE_DEADLINE, || {
            for instance in ["payments-1", "payments-2"] {
                let _ = shop.try_kill(instance);
            }
            shop.transactions("aborting").iter().any(|it| it["protocol"] == "two-phase-commit").then_some(())
        });
    });
    // It has failed once payments, which may have been asked, has undone whatever it did. A saga goes on until the order's time is over.
    shop.await_ends(OUTAGE_DEADLINE);
    let failed = shop.transactions("failed");
    assert!(failed.iter().any(|it| it["protocol"] == "two-phase-commit"), "{failed:?}");
    assert_eq!(failed.len() + shop.transactions("succeeded").len(), PROTOCOLS.len());
    wait_for("payments to be back", OUTAGE_DEADLINE, || {
        (shop.gateway.get("/payments/till").status == 200).then_some(())
    });
    let after = shop.ledgers();
    after.agree();
    assert_eq!(before.stock("tea") - after.stock("tea"), shop.transactions("succeeded").len() as u64);
}

#[test]
fn instances_that_are_killed_in_between_leave_the_ledgers_agreed() {
    const CUSTOMERS: usize = 4;
    const ORDERS: usize = 90;
    let shop = Shop::open();
    let (next, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let outcomes = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..CUSTOMERS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= ORDERS {
                        break;
                    }
                    let card = if number % 4 == 3 { DECLINED_CARD } else { "" };
                    let wish = json!({"sku": "tea", "quantity": 1 + number % 5, "card": card});
                    let answer = shop.order(PROTOCOLS[number % PROTOCOLS.len()], &wish);
                    outcomes.lock().expect("no holder panics").push((number, answer));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for (after, victim) in [(15, "inventory-2"), (35, "payments-1"), (55, "orders-2")] {
            wait_until("customers to be served", || answered.load(Ordering::Relaxed) >= after);
            shop.kill(victim);
        }
    });
    // What orders-2 had only announced fails when its time is over.
    shop.await_ends(OUTAGE_DEADLINE);
    assert_eq!(shop.transactions("hazard"), [] as [Value; 0]);
    let ledgers = shop.ledgers();
    ledgers.agree();

    let outcomes = outcomes.into_inner().expect("no holder panics");
    let count = |status: u16| outcomes.iter().filter(|(_, answer)| answer.status == status).count();
    let not_answered: usize = (502..=504).map(count).sum();
    println!("{} placed, {} refused, {not_answered} not answered", count(201), count(409));
    let unknown: Vec<_> = outcomes.iter().filter(|(_, it)| ![201, 409].contains(&it.status.as_u16())).collect();
    // The orders that orders-2 took with it, and those that took longer than anybody waits: the coordinator knows of them.
    assert!(not_answered <= CUSTOMERS && not_answered + count(202) == unknown.len(), "{unknown:?}");
    for (number, answer) in &outcomes {
        let is_declined = number % 4 == 3;
        match answer.status.as_u16() {
            201 => {
                let order = answer.json();
                assert!(!is_declined, "{order}");
                assert_eq!(shop.status(&order["transaction"]), "succeeded");
                shop.gateway.get(&format!("/orders/{}", text(&order["id"]))).expect(200);
            }
            // With one of two instances gone an order may be given up, but never more than that.
            409 if !is_declined => println!("order {number} was given up: {answer}"),
            _ => {}
        }
    }
    let placed = shop.transactions("succeeded").len();
    assert!((count(201)..=count(201) + unknown.len()).contains(&placed), "{placed} transactions have succeeded");
    assert!(placed >= ORDERS / 2, "{placed} of {ORDERS} orders were placed");
}

#[test]
fn what_make_run_says_to_try_works_as_it_stands() {
    if process::third_party("curl").is_none() {
        return;
    }
    let shop = Shop::open();
    // Behind some of them stands what they show.
    let command = |line: &&str| line.trim().split("   ").next().unwrap_or_default().to_owned();
    let lines = shop.said.iter().map(String::as_str).filter(|line| line.starts_with("    "));
    let commands: Vec<_> = lines.map(|line| command(&line)).collect();
    let mut tried = 0;
    let ends = |it: &&String| !it.contains(" events tail ");
    for command in commands.iter().filter(|it| it.starts_with("curl ") || it.contains("/sluice ")).filter(ends) {
        let ran = Command::new("sh").args(["-c", command]).output().expect("a shell");
        let out = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && !out.trim().is_empty(), "{command}: {ran:?}");
        assert!(!out.contains("no route"), "{command}: {out}");
        tried += 1;
    }
    assert!(tried >= 18, "{tried} of {commands:?}");
    let ended = || (shop.transactions("succeeded").len(), shop.transactions("failed").len());
    wait_until("those that events have placed to end", || ended() == (3, 1));
    shop.ledgers().agree();
}
