//! Transactions over HTTP and at the command line: what is done is told, and what is wrong is told with its field and
//! leaves nothing behind.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddr},
    process::Command,
};

use http::Method;
use serde_json::{Value, json};
use sluice_harness::{Answer, Client, Origin, Refused, Sluice, control::text, service, sluice, wait_until};
use tempfile::TempDir;

/// Of a request (`REQUEST_BYTES_MAX`).
const BYTES_MAX: usize = 1024 * 1024;

/// Two participants behind a gateway: services `a` and `b`.
struct Shop {
    a: Origin,
    b: Origin,
    gateway: Sluice,
}

impl Shop {
    fn start() -> Self {
        Self::with("")
    }

    fn with(more: &str) -> Self {
        let (a, b) = (Origin::start("a"), Origin::start("b"));
        let config = format!("{more}{}{}", service("a", &[a.address()], ""), service("b", &[b.address()], ""));
        let gateway = sluice!().config(config).start();
        Self { a, b, gateway }
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.gateway.control().post(path, body)
    }

    fn get(&self, path: &str) -> Value {
        self.gateway.control().get(path).expect(200).json()
    }

    /// All there are, by their ids.
    fn gids(&self, query: &str) -> Vec<String> {
        let listed = self.get(&format!("/transactions?{query}"));
        listed["transactions"].as_array().expect("a list").iter().map(|it| text(&it["gid"])).collect()
    }

    fn ended(&self, gid: &str) -> Value {
        let shown = self.get(&format!("/transactions/{gid}?wait=20s"));
        assert!(["succeeded", "failed", "stopped"].contains(&shown["status"].as_str().expect("a text")), "{shown}");
        shown
    }
}

/// What it was asked for, in order: the last part of each path.
fn asked(origin: &Origin) -> Vec<String> {
    origin.seen().iter().map(|seen| seen.uri.path().rsplit('/').next().unwrap_or_default().to_owned()).collect()
}

fn saga(gid: &str, action: &str) -> Value {
    let steps = json!([{"action": "service://a/do", "compensate": "service://a/undo"},
        {"action": action, "compensate": "service://b/undo"}]);
    json!({"gid": gid, "trans_type": "saga", "steps": steps, "payloads": ["{\"n\":1}", "{\"n\":2}"]})
}

const GOOD: &str = "service://b/do";
const REFUSED: &str = "service://b/status/409";

#[test]
fn the_shortest_form_commits_at_every_participant_or_at_none() {
    let shop = Shop::start();
    let done = shop.post("/transaction", &json!({"service_a": "a", "service_b": "service://b/", "payload": {"n": 1}}));
    let done = done.expect(200).json();
    assert_eq!(done["status"], "succeeded", "{done}");
    for origin in [&shop.a, &shop.b] {
        assert_eq!(asked(origin), ["prepare", "commit"], "{}", origin.name());
        let query = origin.seen()[0].uri.query().unwrap_or_default().to_owned();
        assert!(query.contains(&format!("gid={}&trans_type=two-phase-commit", text(&done["gid"]))), "{query}");
    }
    let refused = json!({"service_a": "a", "service_b": "service://b/status/409", "gid": "no-1"});
    let answer = shop.post("/transaction", &refused).expect(409).json();
    assert_eq!((&answer["gid"], &answer["status"]), (&json!("no-1"), &json!("failed")), "{answer}");
    assert!(text(&answer["reason"]).starts_with("branch 02 refused prepare: 409 Conflict"), "{answer}");
    // The refusal may come while the other one is still being asked to prepare, which is then given up.
    assert!(asked(&shop.a)[2..].contains(&"abort".to_owned()), "{:?}", asked(&shop.a));
    for origin in [&shop.a, &shop.b] {
        assert!(!asked(origin)[2..].contains(&"commit".to_owned()), "{:?}", asked(origin));
    }
}

#[test]
fn whoever_has_the_answer_finds_it_among_those_that_have_ended() {
    let shop = Shop::start();
    for number in 1..=20 {
        // The record of an end has time: nobody waits for the disk.
        shop.post("/transaction", &json!({"service_a": "a", "service_b": "b"})).expect(200);
        assert_eq!(shop.gids("status=succeeded").len(), number);
        assert_eq!(shop.gateway.metric("sluice_transactions_live", &[]), 0.0);
    }
}

#[test]
fn a_transaction_that_goes_on_is_told_with_the_place_to_look_for_it() {
    let shop = Shop::start();
    let begun = shop.post("/transaction?wait=0s", &json!({"service_a": "a", "service_b": "b", "gid": "g"})).expect(202);
    assert_eq!(begun.header("location"), Some("/transactions/g"));
    assert_eq!(shop.ended("g")["status"], "succeeded");
    let again = shop.post("/transaction", &json!({"service_a": "a", "service_b": "b", "gid": "g"})).expect(200).json();
    assert_eq!(again, json!({"gid": "g", "status": "succeeded"}));
    assert_eq!(asked(&shop.a), ["prepare", "commit"], "the same once more does nothing");
}

#[test]
fn one_transaction_shows_its_whole_history() {
    let shop = Shop::start();
    let done = shop.post("/transactions?wait=20s", &saga("g", REFUSED)).expect(409).json();
    assert!(text(&done["reason"]).starts_with("branch 02 refused action: 409"), "{done}");
    let shown = shop.get("/transactions/g");
    assert_eq!((&shown["status"], &shown["decision"]), (&json!("failed"), &json!("abort")), "{shown}");
    let operation = |branch: usize, operation: usize| &shown["branches"][branch]["operations"][operation];
    assert_eq!(operation(0, 0)["progress"], "succeeded");
    assert_eq!((&operation(0, 1)["op"], &operation(0, 1)["progress"]), (&json!("compensate"), &json!("succeeded")));
    assert_eq!((&operation(1, 0)["progress"], &operation(1, 0)["target"]), (&json!("refused"), &json!(REFUSED)));
    assert_eq!(shown["branches"][1]["after"], json!(["01"]));
    let events = shown["events"].as_array().expect("a list");
    let what: Vec<_> = events.iter().map(|event| text(&event["what"])).collect();
    assert_eq!((what.first().map(String::as_str), what.last().map(String::as_str)), (Some("begun"), Some("ended")));
    assert!(what.contains(&"decided".to_owned()) && what.contains(&"refused".to_owned()), "{what:?}");
    assert!(text(&events[0]["at"]).ends_with('Z'), "{}", events[0]);
    assert_eq!(shown["request"]["payloads"], json!(["{\"n\":1}", "{\"n\":2}"]));
    shop.gateway.control().get("/transactions/nobody").expect(404);
}

/// What is wrong with a submission, and where.
fn wrong_submissions() -> Vec<(Value, &'static str, &'static str)> {
    let with = |field: &str, value: Value| {
        let mut body = saga("g", GOOD);
        body[field] = value;
        body
    };
    let step = |action: &str| json!([{"action": action, "compensate": ""}]);
    let cycle = json!({"concurrent": true, "orders": {"0": [1], "1": [0]}}).to_string();
    vec![
        (with("trans_type", json!("sagas")), "/trans_type", "there is no protocol"),
        (with("trans_type", json!(null)), "/trans_type", "must name the protocol"),
        (with("gid", json!("a/b")), "/gid", "must be 1 to 128 characters"),
        (with("gid", json!(7)), "/gid", "must be a string"),
        (with("steps", json!("x")), "/steps", "must be a list"),
        (with("steps", json!([])), "/steps", "at least one"),
        (with("steps", json!([7])), "/steps/0", "must be an object"),
        (with("steps", json!([{"action": 7, "compensate": GOOD}])), "/steps/0/action", "must be a text"),
        (with("steps", step("ftp://a/x")), "/steps/0/action", "must be a URL"),
        (with("steps", step("service://nobody/x")), "/steps/0/action", "nobody"),
        (with("steps", step("http://10.1.2.3:80/x")), "/steps/0/action", "allow_hosts"),
        (with("steps", step("http://127.0.0.1:1/x")), "/steps/0/action", "allow_hosts"),
        (with("custom_data", json!(cycle)), "/custom_data/orders", "no cycle"),
        (with("custom_data", json!("{")), "/custom_data", "must be a JSON object"),
        (with("timeout_to_fail", json!(-1)), "/timeout_to_fail", "whole number of seconds"),
        (with("retry_limit", json!("x")), "/retry_limit", "whole number"),
        (with("branch_headers", json!({"host": "x"})), "/branch_headers/host", "must be a header"),
        (with("payloads", json!({})), "/payloads", "must be a list"),
    ]
}

#[test]
fn each_wrong_field_is_named_and_nothing_is_stored() {
    let shop = Shop::with("[transactions]\nallow_hosts = [\"127.0.0.1:2\"]\n");
    for (body, pointer, says) in wrong_submissions() {
        let own = Refused::of(shop.post("/transactions", &body).expect(422)).says(&[says]);
        assert_eq!(own.pointers(), [pointer], "{body}: {}", own.words());
        if body["gid"] == "g" {
            // DTM's clients are told the same in their own words.
            let answer = shop.post("/api/dtmsvr/submit", &body).expect(422).json();
            assert_eq!(
                (&answer["dtm_result"], &answer["problems"][0]["pointer"]),
                (&json!("FAILURE"), &json!(pointer))
            );
            assert!(text(&answer["message"]).contains(says), "{answer}");
        }
    }
    for (body, pointers) in [
        (json!({}), vec![""]),
        (json!({"service_a": "nobody", "service_b": "b"}), vec!["/service_a"]),
        (json!({"service_a": "a", "service_b": "http://10.1.2.3/x"}), vec!["/service_b"]),
        (
            json!({"service_a": 1, "service_b": "ftp://b", "timeout": "1s", "x": 1}),
            vec!["/service_a", "/service_b", "/timeout", "/x"],
        ),
        (json!({"service_a": "a", "gid": ""}), vec!["/gid"]),
        (json!({"service_a": "a", "timeout": 100_000_000}), vec!["/timeout"]),
    ] {
        let refused = Refused::of(shop.post("/transaction", &body).expect(422));
        assert_eq!(refused.pointers(), pointers, "{body}: {}", refused.words());
    }
    let large = saga("g", GOOD).to_string().replace("{\\\"n\\\":1}", &"x".repeat(BYTES_MAX));
    for path in ["/transactions", "/transaction", "/api/dtmsvr/submit", "/api/dtmsvr/prepare"] {
        let send = |body: &str| shop.gateway.control_json(Method::POST, path, body);
        // Nothing of it is read, so what is too large is the whole.
        let refused = Refused::of(send(&large).expect(413)).says(&["the body may have 1048576 bytes at most"]);
        assert_eq!(refused.pointers(), [""], "{path}: {}", refused.words());
        send("[]").expect(400);
        send("{").expect(400);
        send(&"[".repeat(10_000)).expect(400);
        shop.gateway.control().send(Method::POST, path, &[], b"{}".to_vec()).expect(415);
    }
    shop.post("/transactions/g/branches", &json!({"branch_id": "01"})).expect(404);
    shop.post("/api/dtmsvr/registerBranch", &json!({"gid": "g", "branch_id": "01"})).expect(404);
    for query in ["status=done", "limit=0", "limit=1001", "after=zz", "colour=red", "wait=1s"] {
        Refused::of(shop.gateway.control().get(&format!("/transactions?{query}")).expect(400))
            .says(&[query.split('=').next().expect("a name")]);
    }
    assert_eq!(shop.get("/transactions"), json!({"transactions": [], "next": null}), "something was stored");
    assert_eq!((shop.a.requests(), shop.b.requests()), (0, 0), "somebody was called");
    assert_eq!(shop.gateway.metric("sluice_transactions_begun_total", &[]), 0.0);
}

#[test]
fn an_id_that_is_taken_by_other_content_is_refused() {
    let shop = Shop::start();
    shop.post("/transactions?wait=20s", &saga("g", GOOD)).expect(200);
    shop.post("/transactions", &saga("g", GOOD)).expect(200);
    let refused = Refused::of(shop.post("/transactions", &saga("g", REFUSED)).expect(409));
    assert_eq!(refused.pointers(), ["/steps"], "{}", refused.words());
    let answer = shop.post("/api/dtmsvr/submit", &saga("g", REFUSED)).expect(409).json();
    assert_eq!(answer["dtm_result"], "FAILURE", "{answer}");
    shop.post("/transaction", &json!({"service_a": "a", "gid": "g"})).expect(409);
    assert_eq!(asked(&shop.b), ["do"], "the first one's call alone");
}

#[test]
fn a_client_that_makes_its_own_calls_registers_branches_and_says_how_it_ends() {
    let shop = Shop::start();
    let begin = |gid: &str| {
        let begun = shop.post("/transactions?prepare=true", &json!({"gid": gid, "trans_type": "tcc"})).expect(201);
        assert_eq!(begun.header("location").map(str::to_owned), Some(format!("/transactions/{gid}")));
        let branch =
            json!({"branch_id": "01", "data": "{}", "confirm": "service://a/confirm", "cancel": "service://a/cancel"});
        shop.post(&format!("/transactions/{gid}/branches"), &branch).expect(201);
        shop.post(&format!("/transactions/{gid}/branches"), &branch).expect(201);
        let mut other = branch;
        other["data"] = "[]".into();
        let other = Refused::of(shop.post(&format!("/transactions/{gid}/branches"), &other).expect(409));
        assert_eq!(other.pointers(), ["/data"], "{}", other.words());
        let wrong = shop.post(&format!("/transactions/{gid}/branches"), &json!({"branch_id": "02", "confirm": 7}));
        assert_eq!(Refused::of(wrong.expect(422)).pointers(), ["/confirm", "/cancel"]);
    };
    begin("yes");
    shop.post("/transactions/yes/submit?wait=20s", &json!({})).expect(200);
    assert_eq!(asked(&shop.a), ["confirm"]);
    shop.post("/transactions/yes/abort", &json!({})).expect(409);
    shop.post(
        "/transactions/yes/branches",
        &json!({"branch_id": "03", "confirm": "service://a/x", "cancel": "service://a/y"}),
    )
    .expect(409);
    begin("no");
    shop.post("/transactions/no/abort", &json!({"reason": "out of stock"})).expect(200);
    let shown = shop.ended("no");
    assert_eq!(
        (&shown["status"], &shown["reason"]),
        (&json!("failed"), &json!("its client asked for it: out of stock"))
    );
    assert_eq!(asked(&shop.a), ["confirm", "cancel"]);
    shop.post("/transactions/no/submit", &json!({})).expect(409);
}

#[test]
fn the_list_goes_on_page_by_page_and_takes_what_the_filter_says() {
    let shop = Shop::start();
    for number in 0..5 {
        shop.post("/transactions?wait=20s", &saga(&format!("good-{number}"), GOOD)).expect(200);
    }
    shop.post("/transactions?wait=20s", &saga("bad", REFUSED)).expect(409);
    shop.post("/transaction", &json!({"service_a": "a", "gid": "short"})).expect(200);
    let (mut pages, mut path) = (Vec::new(), "/transactions?limit=3".to_owned());
    loop {
        let page = shop.get(&path);
        let gids = page["transactions"].as_array().expect("a list").iter().map(|it| text(&it["gid"]));
        pages.push(gids.collect::<Vec<_>>());
        let Some(next) = page["next"].as_str() else { break };
        path = next.to_owned();
    }
    assert_eq!(pages[0][0], "short", "the newest first: {pages:?}");
    assert!(pages.iter().all(|page| page.len() <= 3), "{pages:?}");
    let all: Vec<_> = pages.into_iter().flatten().collect();
    assert_eq!((all.len(), all.iter().collect::<BTreeSet<_>>().len()), (7, 7), "{all:?}");
    assert_eq!(shop.gids("status=failed"), ["bad"]);
    assert_eq!(shop.gids("protocol=two-phase-commit"), ["short"]);
    assert_eq!(shop.gids("status=succeeded&protocol=saga&limit=1000").len(), 5);
    assert!(shop.gids("status=hazard,stopped,aborting").is_empty());
    let figures = shop.get("/protocols");
    assert_eq!((&figures["figures"]["succeeded"], &figures["figures"]["failed"]), (&json!(6), &json!(1)), "{figures}");
    let saga = figures["protocols"].as_array().expect("a list").iter().find(|it| it["name"] == "saga").expect("saga");
    assert_eq!((&saga["plugin"], &saga["timeout"]), (&json!("saga"), &json!("35s")));
    assert_eq!(shop.gateway.metric("sluice_transactions_total", &["outcome=\"succeeded\""]), 6.0);
    assert!(shop.gateway.metric("sluice_transaction_calls_total", &["answer=\"refused\""]) >= 1.0);
}

#[test]
fn dtms_paths_answer_as_dtm_does() {
    let shop = Shop::start();
    let dtm = |path: &str, body: &Value| shop.post(&format!("/api/dtmsvr/{path}"), body);
    let new = shop.get("/api/dtmsvr/newGid");
    assert_eq!(new["dtm_result"], "SUCCESS");
    let gid = text(&new["gid"]);
    let success = json!({"dtm_result": "SUCCESS"});
    let mut waits = saga(&gid, GOOD);
    waits["wait_result"] = true.into();
    assert_eq!(dtm("submit", &waits).expect(200).json(), success);
    let queried = shop.get(&format!("/api/dtmsvr/query?gid={gid}"));
    assert_eq!(
        (&queried["transaction"]["status"], &queried["transaction"]["trans_type"]),
        (&json!("succeed"), &json!("saga"))
    );
    let branch = json!({"gid": gid, "branch_id": "01", "op": "action", "url": "service://a/do", "status": "succeed"});
    assert!(queried["branches"].as_array().expect("a list").contains(&branch), "{queried}");

    let mut fails = saga("fails", REFUSED);
    fails["wait_result"] = true.into();
    let failed = dtm("submit", &fails).expect(409).json();
    assert_eq!(failed["dtm_result"], "FAILURE");
    assert!(text(&failed["message"]).contains("branch 02 refused action"), "{failed}");
    assert_eq!(shop.get("/api/dtmsvr/query?gid=fails")["transaction"]["status"], "failed");

    let nothing = json!({"transaction": null, "branches": []});
    assert_eq!(shop.get("/api/dtmsvr/query?gid=nobody"), nothing);
    shop.gateway.control().get("/api/dtmsvr/query").expect(422);

    let message = json!({"gid": "m", "trans_type": "msg", "steps": [{"action": GOOD}], "payloads": ["{}"]});
    for _ in 0..2 {
        assert_eq!(dtm("prepare", &message).expect(200).json(), success);
    }
    assert_eq!(shop.get("/api/dtmsvr/query?gid=m")["transaction"]["status"], "prepared");
    assert_eq!(
        dtm("abort", &json!({"gid": "m", "trans_type": "msg", "rollback_reason": null})).expect(200).json(),
        success
    );
    shop.ended("m");
    assert_eq!(dtm("prepare", &message).expect(409).json()["dtm_result"], "FAILURE");
    assert_eq!(dtm("submit", &message).expect(409).json()["dtm_result"], "FAILURE");
    assert_eq!(dtm("abort", &json!({"gid": "m"})).expect(200).json(), success);
    assert_eq!(dtm("abort", &json!({"gid": "nobody"})).expect(404).json()["dtm_result"], "FAILURE");

    // A participant that gives no clear answer: the client does not wait longer than it says itself.
    let mut stuck = saga("stuck", "service://b/status/500");
    (stuck["wait_result"], stuck["request_timeout"]) = (true.into(), 1.into());
    assert_eq!(dtm("submit", &stuck).expect(425).json()["dtm_result"], "ONGOING");
    assert_eq!(dtm("forceStop", &json!({"gid": "stuck"})).expect(200).json(), success);
    assert_eq!(shop.get("/api/dtmsvr/query?gid=stuck")["transaction"]["status"], "failed");

    let first = shop.get("/api/dtmsvr/all?limit=3");
    let position = text(&first["next_position"]);
    let second = shop.get(&format!("/api/dtmsvr/all?limit=3&position={position}"));
    let gids = |page: &Value| -> BTreeSet<String> {
        page["transactions"].as_array().expect("a list").iter().map(|it| text(&it["gid"])).collect()
    };
    let all: BTreeSet<_> = gids(&first).union(&gids(&second)).cloned().collect();
    assert_eq!(all, BTreeSet::from([gid, "fails".to_owned(), "m".to_owned(), "stuck".to_owned()]));
}

#[test]
fn what_is_stuck_is_seen_and_helped() {
    let shop = Shop::start();
    // A message's steps are not to be refused: this one stands in hazard.
    let message =
        json!({"gid": "h", "trans_type": "message", "steps": [{"action": "service://b/do"}], "payloads": ["{}"]});
    shop.b.set_failures(1000, 409);
    let answer = shop.post("/transactions?wait=20s", &message).expect(202).json();
    assert_eq!(answer["status"], "hazard", "{answer}");
    assert_eq!(shop.gids("status=hazard"), ["h"]);
    assert_eq!(shop.gateway.metric("sluice_transaction_hazards_total", &[]), 1.0);
    shop.b.set_failures(0, 500);
    shop.post("/transactions/h/retry", &json!({})).expect(200);
    assert_eq!(shop.ended("h")["status"], "succeeded");
    shop.post("/transactions/h/retry", &json!({})).expect(409);
    // One that gets no clear answer shows its attempts, and when it is tried again.
    shop.b.set_failures(1000, 503);
    shop.post("/transactions", &saga("r", GOOD)).expect(202);
    let shown = || shop.get("/transactions/r")["branches"][1]["operations"][0].clone();
    wait_until("an attempt has failed", || shown()["attempts"].as_u64() >= Some(1));
    let operation = shown();
    assert!(
        text(&operation["last_error"]).contains("503") && text(&operation["next_at"]).ends_with('Z'),
        "{operation}"
    );
    shop.post("/transactions/r/stop", &json!({})).expect(200);
    assert_eq!(shop.get("/transactions/r")["reason"], "an operator stopped it");
    shop.post("/transactions/r/stop", &json!({})).expect(409);
}

#[test]
fn services_use_transactions_with_their_own_token_and_operators_help_them() {
    let folder = TempDir::new().expect("a temporary folder");
    let token = |name: &str| {
        let file = folder.path().join(name);
        fs::write(&file, format!("{name}-token-0123456789\n")).expect("a writable folder");
        format!("{name}_token_file = {file:?}\n")
    };
    let config = format!("[control]\naddress = \"0.0.0.0:0\"\n{}{}", token("operator"), token("service"));
    let shop = Shop::with(&config);
    let control = Client::to(SocketAddr::from((Ipv4Addr::LOCALHOST, shop.gateway.control_address().port())));
    let send = |token: &str, path: &str, body: &Value| {
        let bearer = format!("Bearer {token}-token-0123456789");
        let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
        control.send(Method::POST, path, &headers, body.to_string().into_bytes())
    };
    let message = json!({"gid": "g", "trans_type": "msg", "steps": [{"action": GOOD}], "payloads": ["{}"]});
    send("nobodys", "/api/dtmsvr/prepare", &message).expect(401);
    send("service", "/api/dtmsvr/prepare", &message).expect(200);
    send("service", "/transaction", &json!({"service_a": "a"})).expect(200);
    for path in ["/transactions/g/stop", "/transactions/g/retry"] {
        send("service", path, &json!({})).expect(403);
    }
    send("service", "/api/dtmsvr/forceStop", &json!({"gid": "g"})).expect(403);
    send("operator", "/transactions/g/stop", &json!({})).expect(200);
}

/// Runs `sluice transaction ARGUMENTS…`, which must exit with `code`; what it printed on stdout and stderr.
#[track_caller]
fn command(gateway: &Sluice, code: i32, arguments: &[&str]) -> (String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.arg("transaction").args(arguments);
    let output = command.env("SLUICE_CONTROL", format!("http://{}", gateway.control_address())).output();
    let output = output.expect("the binary is built");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{stdout}\n{stderr}");
    (stdout.into_owned(), stderr.into_owned())
}

#[test]
fn the_command_line_begins_shows_and_stops_transactions() {
    let shop = Shop::start();
    let folder = TempDir::new().expect("a temporary folder");
    let file = |name: &str, body: &Value| {
        let path = folder.path().join(name);
        fs::write(&path, body.to_string()).expect("a writable folder");
        path.display().to_string()
    };
    let run = |code: i32, arguments: &[&str]| command(&shop.gateway, code, arguments);
    let (said, _) = run(0, &["submit", &file("good", &saga("good", GOOD))]);
    assert_eq!(said, "transaction good is succeeded\n");
    let (_, complained) = run(1, &["submit", &file("bad", &saga("bad", REFUSED))]);
    assert!(complained.starts_with("sluice: transaction bad is failed: branch 02 refused action: 409"), "{complained}");
    let (_, complained) = run(4, &["submit", &file("wrong", &json!({"trans_type": "sagas"}))]);
    assert!(complained.contains("\n  /trans_type: there is no protocol"), "{complained}");
    run(2, &["submit", &file("list", &json!([]))]);

    let (listed, _) = run(0, &["list"]);
    assert_eq!(listed.lines().count(), 3, "{listed}");
    assert!(listed.starts_with("TRANSACTION  PROTOCOL  STATUS"), "{listed}");
    let (failed, _) = run(0, &["list", "--status", "failed", "--json"]);
    let failed: Value = serde_json::from_str(&failed).expect("JSON");
    assert_eq!((&failed["transactions"][0]["gid"], &failed["complete"]), (&json!("bad"), &json!(true)));
    let (newest, _) = run(0, &["list", "--limit", "1"]);
    assert!(newest.contains("bad ") && newest.contains("(the newest 1; --limit shows more)"), "{newest}");
    run(4, &["list", "--status", "done"]);

    let (shown, _) = run(0, &["show", "bad"]);
    for part in
        ["transaction bad (saga) is failed: branch 02 refused", "compensate", "decided abort", "service://a/undo"]
    {
        assert!(shown.contains(part), "{part:?} is not in:\n{shown}");
    }
    run(4, &["show", "nobody"]);
    run(2, &["show", "a/b"]);

    shop.b.set_failures(1000, 503);
    run(0, &["submit", "--no-wait", &file("stuck", &saga("stuck", GOOD))]);
    let (said, _) = run(0, &["retry", "stuck"]);
    assert_eq!(said, "transaction stuck is submitted\n");
    let (said, _) = run(0, &["stop", "stuck"]);
    assert_eq!(said, "transaction stuck is stopped: an operator stopped it\n");
    run(4, &["stop", "stuck"]);
}

#[test]
fn every_path_of_transactions_is_documented() {
    let shop = Shop::start();
    let document = shop.get("/openapi.json");
    let paths = document["paths"].as_object().expect("an object");
    for path in ["/transaction", "/transactions", "/transactions/{gid}", "/transactions/{gid}/branches", "/protocols"] {
        assert!(paths.contains_key(path), "{path}");
    }
    let own = ["submit", "abort", "retry", "stop"].map(|what| format!("/transactions/{{gid}}/{what}"));
    let dtm = ["newGid", "query", "all", "prepare", "submit", "abort", "registerBranch", "forceStop"];
    for path in own.into_iter().chain(dtm.map(|what| format!("/api/dtmsvr/{what}"))) {
        assert!(paths.contains_key(&path), "{path}");
    }
    shop.gateway.control().delete("/transactions").expect(405);
}
