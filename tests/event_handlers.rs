//! Event handlers in a real gateway: read models beside the log, and versions and settings that are swapped under load.

use std::{
    collections::BTreeSet,
    process::{Command, Output},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use http::Method;
use serde_json::{Value, json};
use sluice_harness::{
    Client, Origin, Sluice, WebhookReceiver,
    control::text,
    guest::{built, rebuilt},
    process::workspace_root,
    sluice, wait_until,
};

const SERVICE: &str = "[services.none]\nendpoints = [\"127.0.0.1:9\"]\n[[route]]\npath = \"/\"\nservice = \"none\"\n";

fn stock(name: &str) -> Vec<u8> {
    let path = workspace_root().join("plugins/built/event-handler").join(name).with_extension("wasm");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; make plugins makes it", path.display()))
}

/// A handler that counts, and does something else with each event of type `b`.
fn config(deed: &str) -> String {
    let hostile = workspace_root().join("tests/guests/built/event-handler-hostile.wasm");
    format!(
        "[plugins.own]\npath = {hostile:?}\n\
         [events.handlers.h]\nplugin = \"own\"\nsettings = {{ deed = {deed:?}, when = \"b\" }}\n{SERVICE}"
    )
}

fn append(client: &Client, event_type: &str, number: u64) {
    let event = json!({"event_type": event_type, "event_data": {"number": number}});
    client.post("/event", &event).expect(201);
}

fn shown(client: &Client, name: &str) -> Value {
    client.get(&format!("/projections/{name}")).expect(200).json()
}

/// Everything there is was looked at by all handlers, and nothing waits.
fn settle(client: &Client) {
    wait_until("the handlers to have come to the end", || {
        let all = client.get("/projections").expect(200).json();
        all["projections"].as_array().expect("a list").iter().all(|one| {
            one["lag"] == 0
                && one["checkpoint"] == one["head"]
                && one["rebuilding"].is_null()
                && one["calls"]["waiting"] == 0
        })
    });
}

fn count(client: &Client, path: &str) -> u64 {
    client.get(path).expect(200).json()["count"].as_u64().expect("a number")
}

fn projection(gateway: &Sluice, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.arg("projection").args(args).arg("--control").arg(gateway.control_address().to_string());
    command.output().expect("the binary is built")
}

/// Those who go on until it is true end also where the test has failed.
struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn versions_swapped_under_load_take_over_with_reads_served_all_along_and_no_call_repeated() {
    // It remembers all of them, however many there are by the time that all swaps are done.
    let receiver = WebhookReceiver::start();
    let gateway = sluice!()
        .config(format!(
            "[events]\nallow_hosts = [\"{0}\"]\n[events.handlers.counts]\nplugin = \"count-by-type\"\n\
             [events.handlers.forward]\nplugin = \"webhook-forwarder\"\nsettings = {{ target = \"http://{0}/\" }}\n{SERVICE}",
            receiver.address()
        ))
        .start();
    let control = gateway.control();
    (0..300).for_each(|number| append(&control, "placed", number));
    settle(&control);
    let (ends, appended, reads) = (AtomicBool::new(false), AtomicU64::new(300), AtomicU64::new(0));
    thread::scope(|scope| {
        let _ends = SetWhenDropped(&ends);
        scope.spawn(|| {
            let client = gateway.control();
            while !ends.load(Ordering::Relaxed) {
                append(&client, "placed", appended.fetch_add(1, Ordering::Relaxed));
            }
        });
        scope.spawn(|| {
            let (client, mut last) = (gateway.control(), 300);
            while !ends.load(Ordering::Relaxed) {
                // No read fails, none goes back.
                let now = count(&client, "/projections/counts/placed");
                assert!(now >= last, "{last} events were counted, and then {now}");
                last = now;
                reads.fetch_add(1, Ordering::Relaxed);
            }
        });
        for build in 1..=3 {
            gateway.push("count-by-type", &rebuilt(&stock("count-by-type"), build));
            gateway.push("webhook-forwarder", &rebuilt(&stock("webhook-forwarder"), build));
            for name in ["counts", "forward"] {
                wait_until("the new version to have taken over", || {
                    let shown = shown(&control, name);
                    shown["generation"] == build + 1 && shown["rebuilding"].is_null()
                });
            }
        }
        wait_until("some reads to have been served meanwhile", || reads.load(Ordering::Relaxed) > 10);
    });
    settle(&control);
    let events = appended.load(Ordering::Relaxed);
    assert_eq!(count(&control, "/projections/counts/placed"), events);
    let seen = receiver.delivered();
    let keys: BTreeSet<_> =
        seen.iter().map(|seen| seen.header("idempotency-key").expect("each has one").to_owned()).collect();
    let expected: BTreeSet<_> = (1..=events).map(|position| format!("forward:{position}:0")).collect();
    assert_eq!(keys, expected);
    assert_eq!(seen.len() as u64, events, "a call was repeated");
    gateway.await_history("rebuilt", &["counts", "in use"]);
    assert_eq!(gateway.metric("sluice_handler_lag_events", &["handler=\"counts\""]), 0.0);
    assert_eq!(gateway.metric("sluice_handler_calls_total", &["handler=\"forward\""]), events as f64);
}

#[test]
fn settings_that_fail_in_the_replay_never_take_over_and_the_old_ones_serve_after_a_restart_too() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut gateway = sluice!().config(config("none")).directory(folder.path()).start();
    let control = gateway.control();
    ["a", "b", "c"].iter().for_each(|event_type| append(&control, event_type, 0));
    settle(&control);
    for (deed, reason) in [("fails", "as the settings say"), ("traps", "trapped"), ("spins", "CPU time")] {
        gateway.rewrite_config(&config(deed));
        control.post("/reload", &json!({})).expect(200);
        // The one before it was refused at the same event, and is shown until this one is being built.
        wait_until("it to be refused", || {
            let refused = &shown(&control, "h")["refused"];
            refused["position"] == 2 && refused["reason"].as_str().is_some_and(|told| told.contains(reason))
        });
        let shown = shown(&control, "h");
        assert_eq!((&shown["generation"], &shown["settings"]["deed"]), (&json!(1), &json!("none")), "{shown}");
        append(&control, "b", 0);
        settle(&control);
    }
    gateway.await_history("warning", &["h", "does not come into use"]);
    assert_eq!(control.get("/projections/h/count").expect(200).text(), "6");
    gateway.terminate();
    // As the file is now: with the settings that failed.
    let gateway = sluice!().config(config("spins")).directory(folder.path()).start();
    let control = gateway.control();
    append(&control, "b", 0);
    settle(&control);
    let kept = shown(&control, "h");
    assert_eq!((&kept["generation"], &kept["settings"]["deed"]), (&json!(1), &json!("none")), "{kept}");
    assert_eq!(control.get("/projections/h/count").expect(200).text(), "7");
    // Asked for, it is tried again; and says why not.
    let output = projection(&gateway, &["rebuild", "h"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("CPU time"), "{said}");
    gateway.rewrite_config(&config("calls-nowhere").replace("when = \"b\"", "when = \"never\""));
    control.post("/reload", &json!({})).expect(200);
    wait_until("the right settings to have taken over", || shown(&control, "h")["settings"]["when"] == "never");
    settle(&control);
    assert_eq!(control.get("/projections/h/count").expect(200).text(), "7");
}

#[test]
fn a_push_that_cannot_be_configured_changes_nothing_and_what_is_needed_is_not_deleted() {
    let gateway = sluice!().config(config("none")).start();
    let control = gateway.control();
    append(&control, "a", 0);
    settle(&control);
    let before = gateway.active("own");
    // Another kind, and one that does not know the settings.
    gateway.refused_push("own", &built("tame"), 422).says(&["events.handlers.h"]);
    gateway.refused_push("own", &stock("count-by-type"), 422).says(&["events.handlers.h", "deed"]);
    assert_eq!(gateway.active("own"), before);
    gateway.rewrite_config(&config("wants-nonsense"));
    control.post("/reload", &json!({})).expect(422);
    assert_eq!(control.get("/projections/h/count").expect(200).text(), "1");
    let uploaded = gateway.upload("own", &rebuilt(&built("event-handler-hostile"), 1));
    let canary = json!({"version": uploaded, "percent": 5});
    let refused = control.post("/plugins/own/canary", &canary).expect(409).text();
    assert!(refused.contains("beside the one in use"), "{refused}");

    let own = sluice!().config(format!("[events.handlers.h]\nplugin = \"count-by-type\"\n{SERVICE}")).start();
    own.push("count-by-type", &rebuilt(&stock("count-by-type"), 1));
    wait_until("it to be swapped", || shown(&own.control(), "h")["generation"] == 2);
    // The binary brings it, so that it can go.
    own.control().delete("/plugins/count-by-type").expect(200);
    wait_until("it to be swapped back", || shown(&own.control(), "h")["generation"] == 3);
}

#[test]
fn a_plugin_that_nothing_else_brings_stays_while_a_handler_is_of_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let gateway = sluice!().config(SERVICE).directory(folder.path()).start();
    let control = gateway.control();
    control.put_component("/plugins/mine", &rebuilt(&stock("count-by-type"), 7)).expect(200);
    gateway.rewrite_config(&format!("[events.handlers.h]\nplugin = \"mine\"\n{SERVICE}"));
    control.post("/reload", &json!({})).expect(200);
    let refused = control.delete("/plugins/mine").expect(409).text();
    assert!(refused.contains("in use by event handler h"), "{refused}");
    gateway.rewrite_config(SERVICE);
    control.post("/reload", &json!({})).expect(200);
    control.get("/projections/h").expect(404);
    control.delete("/plugins/mine").expect(200);
}

#[test]
fn what_a_handler_emits_is_in_the_log_once_with_an_id_of_its_cause() {
    let gateway = sluice!().config(config("emits")).start();
    let control = gateway.control();
    ["a", "b", "b"].iter().for_each(|event_type| append(&control, event_type, 5));
    settle(&control);
    control.post("/projections/h/rebuild", &json!({})).expect(202);
    wait_until("it to be rebuilt", || shown(&control, "h")["generation"] == 2);
    settle(&control);
    let events = |path: &str| control.get(path).expect(200).json()["events"].as_array().cloned().expect("events");
    let causes = events("/events?type=b");
    let expected: Vec<_> = causes.iter().map(|cause| format!("h:{}:0", text(&cause["position"]))).collect();
    let events = events("/streams/seen");
    let ids: Vec<_> = events.iter().map(|event| text(&event["id"])).collect();
    assert_eq!((ids.len(), ids), (2, expected));
    assert!(events.iter().all(|event| event["source"] == "/projections/h"), "{events:?}");
    assert_eq!(events[0]["data"], json!({"number": 5}));
}

#[test]
fn an_uploaded_handler_that_is_damaged_does_not_keep_the_gateway_from_starting() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = format!("[events.handlers.counts]\nplugin = \"count-by-type\"\n{SERVICE}");
    let mut gateway = sluice!().config(&config).directory(folder.path()).start();
    append(&gateway.control(), "placed", 1);
    gateway.push("count-by-type", &rebuilt(&stock("count-by-type"), 1));
    wait_until("it to be swapped", || shown(&gateway.control(), "counts")["generation"] == 2);
    let version = gateway.active("count-by-type");
    gateway.terminate();
    let component = folder.path().join(format!("data/plugins/count-by-type/{version}.wasm"));
    std::fs::write(component, b"\0asm something else").expect("writable");
    let gateway = sluice!().config(&config).directory(folder.path()).start();
    gateway.await_history("warning", &["count-by-type", &version, "damaged", "not in force"]);
    // The binary's own builds its state anew.
    wait_until("it to be swapped back", || shown(&gateway.control(), "counts")["generation"] == 3);
    assert_eq!(count(&gateway.control(), "/projections/counts/placed"), 1);
}

#[test]
fn what_may_be_secret_is_shown_to_operators_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for token in ["operator", "service"] {
        std::fs::write(folder.path().join(token), format!("{token}-token")).expect("writable");
    }
    let receiver = Origin::start("receiver");
    let config = format!(
        "[control]\noperator_token_file = \"operator\"\nservice_token_file = \"service\"\n\
         [events]\nallow_hosts = [\"{0}\"]\n[events.handlers.forward]\nplugin = \"webhook-forwarder\"\n\
         settings = {{ target = \"http://{0}/in\", headers = {{ authorization = \"Bearer s3cret\" }} }}\n{SERVICE}",
        receiver.address()
    );
    let gateway = sluice!().config(config).directory(folder.path()).start();
    let ask = |token: &str, path: &str| {
        let authorization = format!("Bearer {token}-token");
        gateway.control().send(Method::GET, path, &[("authorization", authorization.as_str())], Vec::new()).expect(200)
    };
    wait_until("it to follow", || ask("operator", "/projections/forward").json()["status"] == "following");
    for path in ["/projections", "/projections/forward"] {
        assert!(ask("operator", path).text().contains("s3cret"), "{path}");
        let shown = ask("service", path);
        assert!(shown.text().contains("webhook-forwarder") && !shown.text().contains("s3cret"), "{}", shown.text());
    }
}

#[test]
fn what_stands_aside_can_be_discarded_and_what_must_not_be_called_is_not_stored() {
    let gateway = sluice!().config(config("fails")).start();
    let control = gateway.control();
    ["a", "b", "b"].iter().for_each(|event_type| append(&control, event_type, 0));
    settle(&control);
    assert_eq!(shown(&control, "h")["parked"], 2);
    let output = projection(&gateway, &["replay-parked", "h"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("0 events handled, 2 stay aside"), "{output:?}");
    let output = projection(&gateway, &["discard-parked", "h"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("2 events and 0 calls are discarded"), "{output:?}");
    let left = shown(&control, "h");
    assert_eq!((&left["parked"], &left["parked_events"], &left["handled"]), (&json!(0), &json!([]), &json!(1)));
    assert_eq!(projection(&gateway, &["discard-parked", "nobody"]).status.code(), Some(4));

    let stray = "settings = { target = \"http://127.0.0.2:1/\" }";
    let gateway = sluice!().config(format!("[events.handlers.h]\nplugin = \"webhook-forwarder\"\n{stray}\n{SERVICE}"));
    let gateway = gateway.start();
    append(&gateway.control(), "a", 0);
    wait_until("it to be put aside", || shown(&gateway.control(), "h")["parked"] == 1);
    let aside = shown(&gateway.control(), "h");
    assert!(text(&aside["parked_events"][0]["reason"]).contains("allow_hosts"), "{aside}");
    assert_eq!((&aside["calls"]["waiting"], &aside["calls"]["parked"]), (&json!(0), &json!(0)));
}

#[test]
fn the_command_line_lists_shows_and_rebuilds() {
    let gateway = sluice!().config(config("fails")).start();
    let control = gateway.control();
    ["a", "b", "a"].iter().for_each(|event_type| append(&control, event_type, 0));
    settle(&control);
    let done = |args: &[&str]| {
        let output = projection(&gateway, args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let list = done(&["list"]);
    assert!(list.contains("following") && list.lines().count() == 2, "{list}");
    let one = done(&["show", "h"]);
    assert!(one.contains("2 events handled, 0 emitted, 1 parked") && one.contains("as the settings say"), "{one}");
    assert!(done(&["rebuild", "h"]).contains("is rebuilt: 2 events handled"));
    let shown: Value = serde_json::from_str(&done(&["show", "h", "--json"])).expect("JSON");
    assert_eq!((&shown["generation"], &shown["parked"]), (&json!(2), &json!(1)));
    assert_eq!(projection(&gateway, &["show", "nobody"]).status.code(), Some(4));
    let replayed = control.post("/projections/h/replay-parked", &json!({})).expect(200).json();
    assert_eq!(replayed, json!({"events_handled": 0, "events_failed": 1, "calls": 0}));
    control.post("/projections/h/resume", &json!({})).expect(409);
    // A path of the read model's own may be called as what can be asked with POST.
    control.get("/projections/h/rebuild").expect(404);
    assert_eq!(control.get("/projections/h/%63ount?a=b").expect(200).text(), "2");
}
