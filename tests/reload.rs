//! Another configuration is one change, whoever asks for it; a wrong one is none at all.

use std::{fs, time::Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use sluice_harness::{Load, Origin, Refused, Sluice, any_route, guest::built, service, sluice, wait_until};

fn generation(gateway: &Sluice) -> u64 {
    gateway.metric("sluice_generation", &[]) as u64
}

fn reload(gateway: &Sluice) -> Value {
    gateway.control().post("/reload", &json!({})).expect(200).json()
}

/// Routes of three services at once, so that half of a change would show: each answers with its own two origins.
fn config(orders: &Origin, payments: &Origin, prefix: &str) -> String {
    format!(
        "{}{}[[route]]\npath = \"{prefix}/orders/\"\nservice = \"orders\"\n[[route]]\npath = \"{prefix}/payments/\"\n\
         service = \"payments\"\n",
        service("orders", &[orders.address()], ""),
        service("payments", &[payments.address()], ""),
    )
}

#[test]
fn sighup_a_change_of_the_file_and_a_post_each_apply_the_file_as_one_change() {
    let origins = ["a", "b"].map(Origin::start);
    let gateway = sluice!().config(config(&origins[0], &origins[1], "")).start();
    let client = gateway.client();
    assert_eq!(client.get("/orders/1").expect(200).instance(), "a");
    // By each way in turn: the services swap their endpoints, and the paths change with them.
    for (n, way) in (0..).zip(["file", "post", "sighup", "file", "post"]) {
        let before = generation(&gateway);
        let swapped = n % 2 == 0;
        let (one, other) = if swapped { (&origins[1], &origins[0]) } else { (&origins[0], &origins[1]) };
        let prefix = format!("/v{n}");
        gateway.rewrite_config(&config(one, other, &prefix));
        // The file is watched, so whatever the way, the change may have come by that already.
        match way {
            "post" => drop(reload(&gateway)),
            "sighup" => gateway.signal(Signal::HUP),
            _ => {}
        }
        wait_until("the new configuration", || generation(&gateway) > before);
        assert_eq!(client.get(&format!("{prefix}/orders/1")).expect(200).instance(), one.name());
        assert_eq!(client.get(&format!("{prefix}/payments/1")).expect(200).instance(), other.name());
        client.get("/orders/1").expect(404);
    }
    assert!(gateway.history("reloaded").len() >= 5);
}

#[test]
fn sighup_alone_reloads_what_else_belongs_to_the_configuration() {
    // A plugin's file is no part of what is watched.
    let origins = ["a", "b"].map(Origin::start);
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let component = folder.path().join("own.wasm");
    fs::write(&component, built("first-slot")).expect("a writable folder");
    let addresses = [origins[0].address(), origins[1].address()];
    let text = any_route("orders", &addresses, "balancer = { plugin = \"own\" }")
        + &format!("[plugins.own]\npath = {component:?}\n");
    let gateway = sluice!().config(text).start();
    let client = gateway.client();
    assert_eq!(client.get("/").expect(200).instance(), "a");
    fs::write(&component, built("second-slot")).expect("a writable folder");
    gateway.signal(Signal::HUP);
    gateway.await_history("reloaded", &[]);
    wait_until("the other version", || client.get("/").expect(200).instance() == "b");
    assert_eq!(gateway.plugin("own")["source"], "file");
    // A file that is no plugin changes nothing.
    fs::write(&component, b"no plugin").expect("a writable folder");
    let refused = Refused::of(gateway.control().post("/reload", &json!({})).expect(422));
    assert_eq!(refused.problems()[0]["service"], "orders", "{}", refused.0);
    refused.says(&["own", "is not WebAssembly"]);
    assert_eq!(client.get("/").expect(200).instance(), "b");
}

#[test]
fn a_reload_under_load_fails_no_request_and_is_seen_whole() {
    const RELOADS: usize = 20;
    let origins = ["a", "b", "c"].map(Origin::start);
    let both = |n: usize| {
        let addresses: Vec<_> = (0..2).map(|offset| origins[(n + offset) % 3].address()).collect();
        let headers = format!("response_headers = {{ set = {{ x-change = \"{n}\" }} }}\n");
        any_route("orders", &addresses, &format!("timeout = \"{} s\"", 10 + n)) + &headers
    };
    let gateway = sluice!().config(both(0)).start();
    // After each change more requests than connections: some of them are sent after it.
    let load = Load::to(gateway.address()).rate(300.0).connections(8).start();
    let mut phases = Vec::new();
    for n in 1..=RELOADS {
        gateway.rewrite_config(&both(n));
        reload(&gateway);
        let from = Instant::now();
        let answer = gateway.client().get("/").expect(200);
        assert_eq!(answer.header("x-change"), Some(&n.to_string()[..]));
        assert_eq!(gateway.service("orders")["limits"]["timeout"]["value"], format!("{}s", 10 + n));
        load.await_more(20);
        phases.push((from, Instant::now(), origins[(n + 2) % 3].name()));
    }
    let report = load.stop();
    println!("{report}");
    report.expect_no_failures();
    for (n, (from, to, gone)) in phases.into_iter().enumerate() {
        let within = report.within(from, to);
        assert!(within.total() > 0 && within.share(gone) == 0.0, "after reload {n}, {gone} was asked: {within}");
    }
}

#[test]
fn a_wrong_file_changes_nothing_and_every_problem_is_told_with_its_line() {
    let origins = ["a", "b"].map(Origin::start);
    let addresses = [origins[0].address()];
    let gateway = sluice!().config(any_route("orders", &addresses, "")).start();
    let load = Load::to(gateway.address()).rate(200.0).start();
    let before = generation(&gateway);
    let wrong = "[services.orders]\nendpoints = [\"127.0.0.1\"]\nbalancer = { plugin = \"least-reqest\" }\n\
                 timeout = \"soon\"\ncolour = \"red\"\n[[route]]\npath = \"/\"\nservice = \"ordres\"\n";
    gateway.rewrite_config(wrong);
    let refused = Refused::of(gateway.control().post("/reload", &json!({})).expect(422));
    let file = fs::read_to_string(gateway.config_path()).expect("readable");
    for (key, words) in [
        ("endpoints", "must be host:port"),
        ("plugin", "did you mean \"least-request\""),
        ("timeout", "soon"),
        ("colour", "is no known key"),
        ("service = \"ordres\"", "orders"),
    ] {
        let line = 1 + file.lines().position(|line| line.contains(key)).expect("the harness kept the key");
        let place = format!("sluice.toml:{line}:");
        let problems = refused.problems();
        let told = problems.iter().filter_map(|problem| problem["message"].as_str());
        let told: Vec<_> = told.filter(|message| message.contains(&place)).collect();
        assert!(told.iter().any(|message| message.contains(words)), "{key} at {place}: {}", refused.words());
    }
    // By the file watch and by a signal, the same is in the log and in the history.
    gateway.signal(Signal::HUP);
    gateway.await_history("refused", &["least-reqest", "soon", "colour", "ordres"]);
    fs::write(gateway.config_path(), "[services.orders\nendpoints = ").expect("a writable folder");
    Refused::of(gateway.control().post("/reload", &json!({})).expect(422)).says(&["sluice.toml:1:"]);
    fs::remove_file(gateway.config_path()).expect("it is there");
    Refused::of(gateway.control().post("/reload", &json!({})).expect(422)).says(&["sluice.toml"]);
    load.await_more(20);
    load.stop().expect_no_failures();
    assert_eq!(generation(&gateway), before);
    assert_eq!(gateway.client().get("/").expect(200).instance(), "a");
}

#[test]
fn what_needs_a_restart_is_refused_with_those_words() {
    let origin = Origin::start("a");
    let text = any_route("orders", &[origin.address()], "");
    let gateway = sluice!().config(text.clone()).start();
    let before = generation(&gateway);
    let data_dir = |name: &str| {
        let path = gateway.config_path().with_file_name(name);
        format!("[gateway]\ndata_dir = {path:?}\n")
    };
    for (more, words) in [
        ("[gateway]\nworkers = 3\n".to_owned(), &["gateway.workers changes from 2 to 3", "needs a restart"][..]),
        (
            "[[listener]]\naddress = \"127.0.0.1:0\"\n[[listener]]\naddress = \"127.0.0.2:0\"\n".to_owned(),
            &["listener changes from", "needs a restart"],
        ),
        ("[control]\naddress = \"127.0.0.2:0\"\n".to_owned(), &["control.address changes from", "needs a restart"]),
    ] {
        gateway.rewrite_config(&(more + &text));
        let refused = Refused::of(gateway.control().post("/reload", &json!({})).expect(422));
        refused.says(&["changes that need a restart"]).says(words);
    }
    // What could be adopted is not adopted beside what cannot.
    gateway.rewrite_config(&(data_dir("elsewhere") + &text.replace("path = \"/\"", "path = \"/new/\"")));
    Refused::of(gateway.control().post("/reload", &json!({})).expect(422)).says(&["gateway.data_dir changes from"]);
    assert_eq!(generation(&gateway), before);
    assert_eq!(gateway.client().get("/").expect(200).instance(), "a");
    // Taken back, the file is what is in force: nothing to do.
    gateway.rewrite_config(&(data_dir("data") + &text));
    assert_eq!(reload(&gateway)["changed"], false);
}

#[test]
fn the_overlay_stays_on_top_of_a_reloaded_file() {
    let origins = ["a", "b"].map(Origin::start);
    let addresses = [origins[0].address(), origins[1].address()];
    let gateway = sluice!().config(any_route("orders", &addresses, "balancer = { plugin = \"random\" }")).start();
    gateway.push("own", &built("second-slot"));
    gateway.set_balancer("orders", "own", json!({}));
    gateway.rewrite_config(&any_route("orders", &addresses, "balancer = { plugin = \"maglev\" }"));
    reload(&gateway);
    let balancer = gateway.service("orders")["balancer"].clone();
    assert_eq!([&balancer["plugin"], &balancer["overlaid"]["plugin"]], ["own", "maglev"], "{balancer}");
    let report = Load::to(gateway.address()).run_count(50);
    report.expect_no_failures();
    assert_eq!(report.share("b"), 1.0, "{report}");
    gateway.control().delete("/services/orders/overlay").expect(200);
    assert_eq!(gateway.service("orders")["balancer"]["plugin"], "maglev");
    // A service that leaves the file takes its overlay's effect with it, and gets it back.
    gateway.set_balancer("orders", "own", json!({}));
    gateway.rewrite_config(&any_route("other", &addresses, ""));
    reload(&gateway);
    gateway.control().get("/services/orders").expect(404);
    gateway.rewrite_config(&any_route("orders", &addresses, ""));
    reload(&gateway);
    assert_eq!(gateway.service("orders")["balancer"]["plugin"], "own");
}
