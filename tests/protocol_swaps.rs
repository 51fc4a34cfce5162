//! Protocols are swapped while transactions are under way: each ends under the version and the settings that it began with,
//! and new ones begin under those that are in force.

use std::{
    collections::BTreeMap,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sluice_harness::{
    Participants, Sluice,
    control::text,
    guest::{built, rebuilt, stock_balancer, stock_transaction},
    sluice, wait_for, wait_until,
};

const PLUGIN: &str = "two-phase-commit";

/// Under way at once while everything is swapped, in this many cohorts that begin under something else each.
const TRANSACTIONS: usize = 1_000;
const COHORTS: usize = 4;

/// Clients that begin them.
const CLIENTS: usize = 8;

/// For a thousand transactions to end in a debug build, their attempts some seconds apart.
const END_DEADLINE: Duration = Duration::from_secs(120);

fn stock() -> Vec<u8> {
    stock_transaction(PLUGIN)
}

/// With so many attempts to prepare before a transaction is given up; 0: as many as it takes.
fn config(participants: &Participants, prepare_attempts: u32) -> String {
    let address = participants.address();
    format!(
        "[transactions]\nallow_hosts = [\"{address}\"]\n[services.ledger]\nendpoints = [\"{address}\"]\n\
         [[route]]\npath = \"/\"\nservice = \"ledger\"\n\
         [transactions.protocols.{PLUGIN}]\nplugin = \"{PLUGIN}\"\nsettings = {{ prepare_attempts = {prepare_attempts} }}\n"
    )
}

fn start(participants: &Participants, folder: &Path, prepare_attempts: u32) -> Sluice {
    sluice!().config(config(participants, prepare_attempts)).directory(folder).start()
}

/// Two branches, of which the second prepares at `path`. A call that is held is not given up meanwhile.
fn submission(participants: &Participants, gid: &str, path: &str) -> Value {
    let at = |path: &str| format!("{}/{path}", participants.url());
    json!({
        "gid": gid, "trans_type": PLUGIN, "payloads": ["{}", "{}"], "request_timeout": 600,
        "branches": [
            {"prepare": at("a"), "commit": at("a"), "abort": at("a")},
            {"prepare": at(path), "commit": at("b"), "abort": at("b")},
        ],
    })
}

/// The protocol as new transactions get it.
fn in_force(gateway: &Sluice) -> Value {
    let shown = gateway.control().get("/protocols").expect(200).json();
    let protocols = shown["protocols"].as_array().cloned().unwrap_or_default();
    protocols.into_iter().find(|protocol| protocol["name"] == PLUGIN).expect("a stock protocol")
}

/// Reloads the file as it is with so many attempts.
fn set_attempts(gateway: &Sluice, participants: &Participants, prepare_attempts: u32) {
    gateway.rewrite_config(&config(participants, prepare_attempts));
    gateway.control().post("/reload", &json!({})).expect(200);
    assert_eq!(in_force(gateway)["settings"], json!({"prepare_attempts": prepare_attempts}));
}

/// What some of the transactions began under.
struct Cohort {
    gids: Vec<String>,
    version: String,
    settings: Value,
}

impl Cohort {
    /// Begins them; the second branch of each is held while it prepares, and is not available afterwards.
    fn begin(gateway: &Sluice, participants: &Participants, name: &str) -> Self {
        let protocol = in_force(gateway);
        let gids: Vec<_> = (0..TRANSACTIONS / COHORTS).map(|n| format!("{name}-{n}")).collect();
        thread::scope(|scope| {
            for part in gids.chunks(gids.len().div_ceil(CLIENTS)) {
                scope.spawn(move || {
                    let client = gateway.control();
                    for gid in part {
                        client.post("/transactions", &submission(participants, gid, "held/unavailable")).expect(202);
                    }
                });
            }
        });
        Self { gids, version: text(&protocol["version"]), settings: protocol["settings"].clone() }
    }

    /// Each keeps to what it began under, and stands so.
    #[track_caller]
    fn expect(&self, gateway: &Sluice, status: &str) {
        for gid in &self.gids {
            let shown = gateway.transaction(gid);
            let of = (&shown["version"], &shown["settings"], &shown["status"]);
            assert_eq!(of, (&json!(self.version), &self.settings, &json!(status)), "{gid}: {shown}");
        }
    }
}

/// How many of a thousand have ended so.
fn ended(gateway: &Sluice, outcome: &str) -> usize {
    gateway.metric("sluice_transactions_total", &[&format!("outcome=\"{outcome}\"")]) as usize
}

fn held(participants: &Participants) -> usize {
    participants.count_calls(|call| call.path == "/held/unavailable")
}

#[test]
fn a_thousand_transactions_in_flight_end_each_under_its_own_version_and_settings() {
    let participants = Participants::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut gateway = start(&participants, folder.path(), 1);
    let begun = Instant::now();
    // One attempt under the binary's own version and another build of it, then as many as it takes under that one and a
    // third.
    let first = Cohort::begin(&gateway, &participants, "first");
    let pushed = text(&gateway.push(PLUGIN, &rebuilt(&stock(), 1))["version"]);
    let second = Cohort::begin(&gateway, &participants, "second");
    set_attempts(&gateway, &participants, 0);
    let third = Cohort::begin(&gateway, &participants, "third");
    gateway.push(PLUGIN, &rebuilt(&stock(), 2));
    let fourth = Cohort::begin(&gateway, &participants, "fourth");
    let cohorts = [&first, &second, &third, &fourth];
    wait_for("all to be held", END_DEADLINE, || (held(&participants) == TRANSACTIONS).then_some(()));
    println!("{TRANSACTIONS} are under way after {:?}", begun.elapsed());
    assert_eq!((&second.version, &third.version), (&pushed, &pushed));
    assert_eq!((&first.settings, &third.settings), (&second.settings, &fourth.settings));
    let in_each = TRANSACTIONS / COHORTS;
    let kept = json!({&*first.version: in_each, &*pushed: 2 * in_each, &*fourth.version: in_each});
    assert_eq!(in_force(&gateway)["transactions"], kept);

    // What they need is not deleted, whoever asks for it.
    let refused = gateway.control().delete(&format!("/plugins/{PLUGIN}")).expect(409).text();
    let named = [(&pushed, 2 * in_each), (&fourth.version, in_each)];
    let counts = |words: &str| {
        named.iter().all(|(version, count)| words.contains(&format!("{count} transactions keep to version {version}")))
    };
    assert!(counts(&refused), "{refused}");

    // Another version is active when the gateway dies.
    gateway.control().post(&format!("/plugins/{PLUGIN}/rollback"), &json!({})).expect(200);
    gateway.control().post(&format!("/plugins/{PLUGIN}/rollback"), &json!({})).expect(200);
    assert_eq!(gateway.active(PLUGIN), first.version);
    gateway.kill();
    let gateway = start(&participants, folder.path(), 7);
    wait_for("all to be held again", END_DEADLINE, || (held(&participants) == 2 * TRANSACTIONS).then_some(()));
    assert_eq!(in_force(&gateway)["transactions"], kept);
    cohorts.iter().for_each(|cohort| cohort.expect(&gateway, "submitted"));
    gateway.control().delete(&format!("/plugins/{PLUGIN}")).expect(409);
    let fresh = submission(&participants, "fresh", "b");
    gateway.control().post("/transactions?wait=30s", &fresh).expect(200);
    let shown = gateway.transaction("fresh");
    assert_eq!(
        (&shown["version"], &shown["settings"]["prepare_attempts"]),
        (&json!(first.version), &json!(7)),
        "new ones get what is in force"
    );

    // The answer is 503: enough for those with one attempt, and not for the others.
    participants.release();
    wait_for("half of them to fail", END_DEADLINE, || (ended(&gateway, "failed") == 2 * in_each).then_some(()));
    third.expect(&gateway, "submitted");
    assert_eq!(ended(&gateway, "failed"), 2 * in_each, "the others are not given up");
    participants.mend();
    wait_for("the others to succeed", END_DEADLINE, || (ended(&gateway, "succeeded") == 2 * in_each + 1).then_some(()));
    first.expect(&gateway, "failed");
    second.expect(&gateway, "failed");
    third.expect(&gateway, "succeeded");
    fourth.expect(&gateway, "succeeded");
    println!("all have ended after {:?}", begun.elapsed());
    assert_eq!(participants.violations(), Vec::<String>::new());
    assert_eq!(gateway.metric("sluice_transaction_hazards_total", &[]), 0.0);

    // Nobody needs them any more, as soon as each that has ended is gone.
    wait_until("no transaction to be left", || in_force(&gateway)["transactions"] == json!({}));
    gateway.control().delete(&format!("/plugins/{PLUGIN}")).expect(200);
    let versions = gateway.plugin(PLUGIN)["versions"].as_array().cloned().unwrap_or_default();
    let kept: Vec<_> =
        versions.iter().filter(|version| version["bytes"] != 0).map(|version| &version["version"]).collect();
    assert_eq!(kept, [&json!(first.version)]);
}

/// Begins one that succeeds; the version that it got.
fn version_of(gateway: &Sluice, participants: &Participants, gid: &str) -> String {
    gateway.control().post("/transactions?wait=30s", &submission(participants, gid, "b")).expect(200);
    text(&gateway.transaction(gid)["version"])
}

#[test]
fn a_canary_gets_its_share_of_the_new_transactions_by_their_ids() {
    const COUNT: usize = 200;
    let participants = Participants::start();
    let candidate = rebuilt(&stock(), 3);
    let mut assigned = Vec::new();
    // The second gateway knows nothing of the first.
    for _ in 0..2 {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let gateway = start(&participants, folder.path(), 3);
        let incumbent = gateway.active(PLUGIN);
        let version = gateway.upload(PLUGIN, &candidate);
        gateway.start_canary(PLUGIN, &version, 50);
        let shown = in_force(&gateway);
        assert_eq!((&shown["version"], &shown["candidate"]["version"]), (&json!(incumbent), &json!(version)));
        assert_eq!(shown["candidate"]["percent"], 50);
        let of: BTreeMap<_, _> = (0..COUNT)
            .map(|n| {
                let gid = format!("canary-{n}");
                let version_of = version_of(&gateway, &participants, &gid);
                assert!([&incumbent, &version].contains(&&version_of), "{version_of}");
                (gid, version_of == version)
            })
            .collect();
        let share = of.values().filter(|on_trial| **on_trial).count();
        println!("{share} of {COUNT} began with the candidate");
        // Five standard deviations of a binomial: the hash is fixed, so this holds always or never.
        assert!(share.abs_diff(COUNT / 2) < 36, "{share}");
        // Said once more, it is the same transaction under the same version.
        for (gid, on_trial) in of.iter().take(10) {
            assert_eq!(version_of(&gateway, &participants, gid) == version, *on_trial);
        }
        gateway.control().delete(&format!("/plugins/{PLUGIN}/canary")).expect(200);
        assert_eq!(version_of(&gateway, &participants, "after"), incumbent);
        assert!(in_force(&gateway)["candidate"].is_null());
        assigned.push(of);
    }
    assert_eq!(assigned[0], assigned[1], "whoever gets an id gives it the same arm");
}

#[test]
fn what_a_canary_began_goes_on_under_it_when_the_canary_has_ended() {
    let participants = Participants::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut gateway = start(&participants, folder.path(), 3);
    let incumbent = gateway.active(PLUGIN);
    let candidate = gateway.upload(PLUGIN, &rebuilt(&stock(), 4));
    gateway.start_canary(PLUGIN, &candidate, 99);
    let gid = (0..100)
        .map(|n| format!("held-{n}"))
        .find(|gid| {
            gateway.control().post("/transactions", &submission(&participants, gid, "held")).expect(202);
            gateway.transaction(gid)["version"] == candidate
        })
        .expect("99 of 100");
    gateway.control().delete(&format!("/plugins/{PLUGIN}/canary")).expect(200);
    gateway.control().delete(&format!("/plugins/{PLUGIN}")).expect(409);
    gateway.kill();
    let gateway = start(&participants, folder.path(), 3);
    assert_eq!((gateway.active(PLUGIN), &gateway.transaction(&gid)["version"]), (incumbent, &json!(candidate)));
    participants.release();
    assert_eq!(gateway.await_transaction(&gid, "succeeded")["version"], candidate);
    wait_until("the others to have ended", || gateway.metric("sluice_transactions_live", &[]) == 0.0);
    gateway.control().delete(&format!("/plugins/{PLUGIN}")).expect(200);
    assert_eq!(participants.violations(), Vec::<String>::new());
}

/// A protocol `own` of a plugin in a file, as long as `is_there`.
fn config_with_own(participants: &Participants, file: &Path, is_there: bool) -> String {
    let own = format!("[transactions.protocols.own]\nplugin = \"own\"\n[plugins.own]\npath = {file:?}\n");
    config(participants, 3) + if is_there { &own } else { "" }
}

#[test]
fn a_transaction_goes_on_under_a_protocol_that_is_gone_from_the_configuration() {
    let participants = Participants::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("own.wasm");
    std::fs::write(&file, rebuilt(&stock(), 7)).expect("a writable folder");
    let builder = |is_there| sluice!().config(config_with_own(&participants, &file, is_there)).directory(folder.path());
    let mut gateway = builder(true).start();
    let of_own = |gid: &str, path: &str| {
        let mut submission = submission(&participants, gid, path);
        submission["trans_type"] = "own".into();
        submission
    };
    let control = gateway.control();
    control.post("/transactions?wait=30s", &of_own("ended", "b")).expect(200);
    control.post("/transactions", &of_own("held", "held")).expect(202);
    control.post("/transactions?prepare=true", &of_own("prepared", "b")).expect(201);
    control.post("/transactions?prepare=true", &of_own("prepared-too", "b")).expect(201);
    let version = gateway.active("own");
    gateway.rewrite_config(&config_with_own(&participants, &file, false));
    control.post("/reload", &json!({})).expect(200);
    std::fs::remove_file(&file).expect("it is there");
    control.post("/transactions", &of_own("new", "b")).expect(422);
    // Whoever says it once more means the one that is there.
    assert_eq!(control.post("/transactions", &of_own("ended", "b")).expect(200).json()["status"], "succeeded");
    assert_eq!(control.post("/transactions", &of_own("held", "held")).expect(202).json()["status"], "submitted");
    control.post("/transactions", &of_own("held", "b")).expect(409);
    control.post("/transactions/prepared/submit?wait=30s", &json!({})).expect(200);
    gateway.kill();
    let gateway = builder(false).start();
    let control = gateway.control();
    control.post("/transactions", &of_own("prepared-too", "b")).expect(202);
    participants.release();
    for gid in ["ended", "held", "prepared", "prepared-too"] {
        assert_eq!(gateway.await_transaction(gid, "succeeded")["version"], version, "{gid}");
    }
    assert_eq!(participants.violations(), Vec::<String>::new());
}

#[test]
fn a_version_is_kept_as_long_as_a_transaction_needs_it() {
    /// Uploaded versions of a plugin that are kept anyway: host/src/control/publisher/apply.rs.
    const VERSIONS_KEPT_MAX: u32 = 16;
    let participants = Participants::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut gateway = start(&participants, folder.path(), 3);
    let version = text(&gateway.push(PLUGIN, &rebuilt(&stock(), 100))["version"]);
    gateway.control().post("/transactions", &submission(&participants, "held", "held")).expect(202);
    for build in 0..=VERSIONS_KEPT_MAX {
        gateway.push(PLUGIN, &rebuilt(&stock(), 101 + build));
    }
    gateway.kill();
    // Where it is gone all the same, that is seen, and is mended by bringing it back.
    let kept = folder.path().join("data/transactions/plugins");
    let away = folder.path().join("away");
    std::fs::rename(&kept, &away).expect("it is kept there");
    let gateway = start(&participants, folder.path(), 3);
    wait_until("it to be missed", || {
        text(&gateway.transaction("held")["held_up"]).contains("the version that it began with is not there any more")
    });
    version_of(&gateway, &participants, "meanwhile");
    let file = format!("{PLUGIN}/{version}.wasm");
    std::fs::rename(away.join(&file), kept.join(&file)).expect("it was moved away");
    participants.release();
    let ended = gateway.await_transaction("held", "succeeded");
    assert_eq!((&ended["version"], &ended["held_up"]), (&json!(version), &Value::Null));
}

#[test]
fn protocols_are_pushed_activated_and_rolled_back_like_every_plugin() {
    let participants = Participants::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut gateway = start(&participants, folder.path(), 3);
    let stock_version = gateway.active(PLUGIN);
    let report = gateway.plugin(PLUGIN);
    assert_eq!((&report["kind"], &report["protocols"]), (&json!("transaction"), &json!([PLUGIN, "xa"])));
    assert_eq!(gateway.plugin("round-robin")["protocols"], json!([]));
    let one = text(&gateway.push(PLUGIN, &rebuilt(&stock(), 5))["version"]);
    assert_eq!(version_of(&gateway, &participants, "pushed"), one);
    let other = gateway.upload(PLUGIN, &rebuilt(&stock(), 6));
    assert_eq!(version_of(&gateway, &participants, "uploaded"), one, "an upload is not in use");
    gateway.control().post(&format!("/plugins/{PLUGIN}/activate"), &json!({"version": other})).expect(200);
    assert_eq!(version_of(&gateway, &participants, "activated"), other);
    for (gid, version) in [("back", &one), ("further-back", &stock_version)] {
        gateway.control().post(&format!("/plugins/{PLUGIN}/rollback"), &json!({})).expect(200);
        assert_eq!(&version_of(&gateway, &participants, gid), version);
    }
    gateway.control().post(&format!("/plugins/{PLUGIN}/activate"), &json!({"version": one})).expect(200);
    gateway.kill();
    let gateway = start(&participants, folder.path(), 3);
    assert_eq!(version_of(&gateway, &participants, "restarted"), one);
}

#[test]
fn a_version_that_does_not_fit_is_refused_and_nothing_changes() {
    let participants = Participants::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let gateway = start(&participants, folder.path(), 3);
    let before = in_force(&gateway);
    // It knows no prepare_attempts, which the configuration gives it.
    let refused = gateway.refused_push(PLUGIN, &built("transaction-hostile"), 422);
    println!("{}", refused.words());
    refused.says(&[&format!("transactions.protocols.{PLUGIN}"), "prepare_attempts"]);
    // A balancer is no protocol.
    let refused = gateway.refused_push(PLUGIN, &stock_balancer("round-robin"), 422);
    println!("{}", refused.words());
    gateway.refused_push(PLUGIN, b"no component", 422);
    // A candidate has to take them, too.
    let upload =
        gateway.control().put_component(&format!("/plugins/{PLUGIN}?activate=false"), &built("transaction-hostile"));
    let candidate = text(&upload.expect(200).json()["uploaded"]);
    let trial = json!({"version": candidate, "percent": 50});
    gateway.control().post(&format!("/plugins/{PLUGIN}/canary"), &trial).expect(422);
    // So has the version in use, where it is given others.
    gateway.rewrite_config(&config(&participants, 1_001));
    let refused = gateway.control().post("/reload", &json!({})).expect(422).text();
    assert!(refused.contains("prepare_attempts"), "{refused}");
    assert_eq!(in_force(&gateway), before);
    assert_eq!(json!(version_of(&gateway, &participants, "still")), before["version"]);
}
