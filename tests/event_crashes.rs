//! Whatever moment kills the gateway: no acknowledged event is lost or moved, and no append is half there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use fastrand::Rng;
use http::Method;
use serde_json::{Value, json};
use sluice_harness::{Client, Sluice, process::third_party, sluice, strace, wait_until};

/// Before and after everything that must be done in order.
const POINTS: [&str; 4] = ["before-append", "before-append-commit", "after-append-commit", "before-append-answer"];

/// What the path of the store's journal contains.
const JOURNAL: &str = ".jnl";

/// Kills at random moments.
const KILLS: usize = 40;

const WRITERS: usize = 4;

const CONFIG: &str = "[services.none]\nendpoints = [\"127.0.0.1:9\"]\n[[route]]\npath = \"/\"\nservice = \"none\"\n";

/// What clients know of what they appended and read, over all lives of the gateway.
#[derive(Default)]
struct Known {
    /// By id, of what was acknowledged: stream, revision, position.
    acknowledged: BTreeMap<String, (String, u64, u64)>,
    /// Ids of each request, and whether it was answered.
    requests: Vec<Vec<String>>,
    /// What readers were shown: id by position.
    shown: BTreeMap<u64, String>,
}

/// Events over two streams in one request.
fn batch(ids: &[String]) -> Vec<u8> {
    let events: Vec<_> = ids
        .iter()
        .enumerate()
        .map(|(nth, id)| {
            let stream = if nth == 0 { "first".to_owned() } else { format!("other-{}", id.len() % 3) };
            json!({"specversion": "1.0", "id": id, "source": "/crashes", "type": "written", "stream": stream,
                "data": {"id": id, "filler": "x".repeat(nth * 500)}})
        })
        .collect();
    json!(events).to_string().into_bytes()
}

fn append(client: &Client, ids: &[String]) -> Option<Vec<Value>> {
    let headers = [("content-type", "application/cloudevents-batch+json")];
    let answer = client.try_send(Method::POST, "/events", &headers, batch(ids)).ok()?;
    assert!([200, 201].contains(&answer.status.as_u16()), "{answer}");
    Some(answer.json()["events"].as_array().expect("events").clone())
}

fn note(known: &Mutex<Known>, places: &[Value]) {
    let mut known = known.lock().expect("unpoisoned");
    for place in places {
        let text = |name: &str| place[name].as_str().expect("a text").to_owned();
        let number = |name: &str| place[name].as_u64().expect("a number");
        let before = known.acknowledged.insert(text("id"), (text("stream"), number("revision"), number("position")));
        assert_eq!(before, None);
    }
}

/// Appends until the gateway is gone, or `more` says that it is enough.
fn write(client: &Client, known: &Mutex<Known>, random: &mut Rng, mut more: impl FnMut() -> bool) {
    while more() {
        let ids: Vec<_> = (0..random.usize(1..=4)).map(|_| format!("{:016x}", random.u64(..))).collect();
        known.lock().expect("unpoisoned").requests.push(ids.clone());
        let Some(places) = append(client, &ids) else { return };
        note(known, &places);
    }
}

/// Everything there is, page by page: id, stream and revision by position. None: the gateway is gone.
fn read(client: &Client, limit: usize) -> Option<BTreeMap<u64, (String, String, u64)>> {
    let mut found = BTreeMap::new();
    let mut path = format!("/events?limit={limit}");
    loop {
        let page = client.try_send(Method::GET, &path, &[], Vec::new()).ok()?;
        let page = page.expect(200).json();
        for event in page["events"].as_array().expect("events") {
            let text = |name: &str| event[name].as_str().expect("a text").to_owned();
            let position = text("position").parse().expect("a number");
            found.insert(position, (text("id"), text("stream"), text("revision").parse().expect("a number")));
        }
        let Some(next) = page["next"].as_str() else { return Some(found) };
        path = next[next.find("/events").expect("a path")..].to_owned();
    }
}

/// A reader that looks while others write.
fn look(client: &Client, known: &Mutex<Known>) {
    while let Some(found) = read(client, 100) {
        let mut known = known.lock().expect("unpoisoned");
        // What appears later stands above what was shown: a gap that is filled would show here.
        let last = known.shown.last_key_value().map_or(0, |(position, _)| *position);
        for (position, (id, ..)) in found {
            match known.shown.get(&position) {
                Some(shown) => assert_eq!(*shown, id),
                None => {
                    assert!(position > last, "an event appeared at {position}, below {last}, which was shown");
                    known.shown.insert(position, id);
                }
            }
        }
    }
}

fn check(client: &Client, known: &Known) {
    let there = read(client, 1_000).expect("the gateway serves");
    let by_id: BTreeMap<_, _> =
        there.iter().map(|(at, (id, stream, revision))| (id.clone(), (stream.clone(), *revision, *at))).collect();
    assert_eq!(by_id.len(), there.len(), "an event is there twice");
    for (id, place) in &known.acknowledged {
        assert_eq!(by_id.get(id), Some(place), "{id} was acknowledged");
    }
    for (position, id) in &known.shown {
        assert_eq!(there.get(position).map(|(id, ..)| id), Some(id), "it was shown at {position}");
    }
    for ids in &known.requests {
        let count = ids.iter().filter(|id| by_id.contains_key(*id)).count();
        assert!(count == 0 || count == ids.len(), "{count} of {ids:?} are there");
    }
    let mut next = BTreeMap::<&str, u64>::new();
    for (_, stream, revision) in there.values() {
        let next = next.entry(stream).or_default();
        assert_eq!(revision, next, "of stream {stream}");
        *next += 1;
    }
    // Clients that had no answer ask again, and nothing is there twice.
    let unanswered: BTreeSet<_> =
        known.requests.iter().filter(|ids| !known.acknowledged.contains_key(&ids[0])).collect();
    for ids in unanswered.iter().take(20) {
        append(client, ids).expect("the gateway serves");
        append(client, ids).expect("the gateway serves");
    }
    let ids: Vec<_> = read(client, 1_000).expect("it serves").into_values().map(|(id, ..)| id).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "an event is there twice");
}

/// Writers and a reader at once until the gateway is dead; `kill` is asked after each append whether it is time.
fn live_until_dead(gateway: Sluice, known: &Mutex<Known>, random: &mut Rng, kill_after: Option<usize>) {
    let (control, done) = (gateway.control_address(), AtomicUsize::new(0));
    let seeds: Vec<_> = (0..WRITERS).map(|_| random.u64(..)).collect();
    thread::scope(|scope| {
        // Within the scope, so that a wait which fails ends the gateway, and with it those who write and read until then.
        let mut gateway = gateway;
        for seed in seeds {
            let done = &done;
            scope.spawn(move || {
                let (client, mut random) = (Client::to(control), Rng::with_seed(seed));
                write(&client, known, &mut random, || {
                    done.fetch_add(1, Ordering::Relaxed);
                    true
                });
            });
        }
        scope.spawn(move || look(&Client::to(control), known));
        if let Some(kill_after) = kill_after {
            wait_until("enough to be under way", || done.load(Ordering::Relaxed) >= kill_after);
            gateway.kill();
        } else {
            gateway.await_exit();
        }
    });
}

#[test]
fn whatever_step_of_an_append_the_gateway_dies_at_nothing_acknowledged_is_lost_and_nothing_is_half_there() {
    let mut random = seeded();
    let directory = tempfile::tempdir().expect("a temporary folder");
    let known = Mutex::new(Known::default());
    for point in POINTS {
        for time in [1, 2, 7, 30] {
            let at = format!("{point}:{time}");
            let gateway = sluice!().config(CONFIG).directory(directory.path()).env("SLUICE_CRASH_AT", &at).start();
            live_until_dead(gateway, &known, &mut random, None);
        }
        let gateway = sluice!().config(CONFIG).directory(directory.path()).start();
        let known = &mut *known.lock().expect("unpoisoned");
        check(&gateway.control(), known);
        println!("{point}: {} acknowledged, {} shown", known.acknowledged.len(), known.shown.len());
        // What was asked again has its place from here on.
        known.requests.retain(|ids| known.acknowledged.contains_key(&ids[0]));
    }
    assert!(known.lock().expect("unpoisoned").acknowledged.len() > 50, "the clients got nowhere");
}

#[test]
fn kills_at_random_moments_lose_and_tear_no_event() {
    let mut random = seeded();
    let directory = tempfile::tempdir().expect("a temporary folder");
    let known = Mutex::new(Known::default());
    for _ in 0..KILLS {
        let gateway = sluice!().config(CONFIG).directory(directory.path()).start();
        let kill_after = random.usize(1..120);
        live_until_dead(gateway, &known, &mut random, Some(kill_after));
    }
    let gateway = sluice!().config(CONFIG).directory(directory.path()).start();
    let known = known.into_inner().expect("unpoisoned");
    println!("{} acknowledged over {KILLS} kills", known.acknowledged.len());
    check(&gateway.control(), &known);
}

fn seeded() -> Rng {
    let given = std::env::var("SLUICE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("SLUICE_SEED={seed}");
    Rng::with_seed(seed)
}

#[test]
fn an_append_is_synced_before_it_is_acknowledged() {
    if third_party("strace").is_none() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let trace = folder.path().join("trace");
    let gateway = sluice!().config(CONFIG).traced("fsync,fdatasync,sendto,write,writev,sendmsg", &trace).start();
    let read = || fs::read_to_string(&trace).unwrap_or_default();
    let before = read().lines().count();
    append(&gateway.control(), &["traced-append".to_owned()]).expect("the gateway serves");
    // The acknowledgement names the event's place; the journal has its id too, so the place is what tells them apart.
    let is_acknowledgement = |line: &str| line.contains("201 Created");
    wait_until("the acknowledgement to be in the trace", || read().lines().skip(before).any(is_acknowledgement));
    let lines: Vec<String> = read().lines().skip(before).map(str::to_owned).collect();
    let acknowledged = lines.iter().position(|line| is_acknowledgement(line)).expect("it was waited for");
    let written = lines.iter().position(|line| line.contains("traced-append") && !is_acknowledgement(line));
    let in_time = |synced: &usize| *synced < acknowledged && written.is_none_or(|written| written < *synced);
    assert!(strace::syncs(&lines, JOURNAL).iter().any(in_time), "{}", lines.join("\n"));
}

/// Requests of [`FILLING_EVENTS`] events of 40 KB: more than is held in memory (`EVENTS_MEMTABLE_BYTES_MAX`).
const FILLING: u64 = 80;
const FILLING_EVENTS: u64 = 16;

fn fill(gateway: &Sluice) {
    for nth in 0..FILLING {
        let events: Vec<_> = (0..FILLING_EVENTS)
            .map(|event| {
                let mut random = Rng::with_seed(nth * FILLING_EVENTS + event);
                let data: String = std::iter::repeat_with(|| random.alphanumeric()).take(40_000).collect();
                json!({"specversion": "1.0", "id": format!("{nth}-{event}"), "source": "/damage", "type": "written",
                    "data": data})
            })
            .collect();
        let headers = [("content-type", "application/cloudevents-batch+json")];
        let body = json!(events).to_string().into_bytes();
        gateway.control().send(Method::POST, "/streams/large", &headers, body).expect(201);
    }
}

/// Files below, the largest first. What goes while they are looked at, as a running gateway's may, is left out.
fn files(folder: &Path) -> Vec<(u64, PathBuf)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => found.push((metadata.len(), entry.path())),
                Err(_) => {}
            }
        }
    }
    found.sort();
    found.reverse();
    found
}

#[test]
fn flipped_bits_in_what_was_written_out_are_said_and_the_rest_is_served() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let mut gateway = sluice!().config(CONFIG).directory(directory.path()).start();
    fill(&gateway);
    let store = directory.path().join("data/store");
    let table = || files(&store).into_iter().find(|(bytes, path)| *bytes > 1 << 20 && path.extension().is_none());
    wait_until("a table to be written out", || table().is_some());
    gateway.terminate();
    let (bytes, path) = table().expect("it was waited for");
    println!("{} of {bytes} bytes", path.display());
    let mut content = fs::read(&path).expect("it is read");
    let middle = content.len() / 2;
    for byte in &mut content[middle..middle + 64] {
        *byte ^= 0xff;
    }
    fs::write(&path, content).expect("it is written");
    let gateway = sluice!().config(CONFIG).directory(directory.path()).start();
    let control = gateway.control();
    let (mut right, mut wrong) = (0, Vec::new());
    for revision in 0..FILLING * FILLING_EVENTS {
        let path = format!("/streams/large?from={revision}&limit=1");
        let answer = control.send(Method::GET, &path, &[], Vec::new());
        match answer.status.as_u16() {
            200 => {
                let event = &answer.json()["events"][0];
                let (nth, of) = (revision / FILLING_EVENTS, revision % FILLING_EVENTS);
                assert_eq!(event["id"], format!("{nth}-{of}"));
                let mut random = Rng::with_seed(revision);
                let data: String = std::iter::repeat_with(|| random.alphanumeric()).take(40_000).collect();
                assert_eq!(event["data"], data, "revision {revision} is not what was written");
                right += 1;
            }
            status => {
                let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
                assert!(status >= 500 && detail.contains("read"), "{answer}");
                wrong.push(detail);
            }
        }
    }
    println!("{right} of {} are served; {:?}", FILLING * FILLING_EVENTS, wrong.first());
    assert!(!wrong.is_empty() && wrong.len() < 20, "{} cannot be read", wrong.len());
    append(&control, &["after-all".to_owned()]).expect("what is new is taken");
}

#[test]
fn a_journal_that_is_damaged_in_its_middle_is_refused_with_what_to_do() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let mut gateway = sluice!().config(CONFIG).directory(directory.path()).start();
    for nth in 0..50 {
        append(&gateway.control(), &[format!("event-number-{nth}")]).expect("it is appended");
    }
    gateway.kill();
    let store = directory.path().join("data/store");
    let journal = files(&store).into_iter().find(|(_, path)| path.extension().is_some_and(|is| is == "jnl"));
    let (_, path) = journal.expect("there is a journal");
    let mut content = fs::read(&path).expect("it is read");
    let at = content.windows(15).position(|window| window == b"event-number-25").expect("it is in there");
    content[at] ^= 0x20;
    fs::write(&path, &content).expect("it is written");
    let ended = sluice!().config(CONFIG).directory(directory.path()).run_to_end("run");
    assert_ne!(ended.code(), Some(0));
    let told = format!("{ended:?}");
    assert!(told.contains("is damaged") && told.contains("bring it back from a backup"), "{told}");
    assert_eq!(fs::read(&path).expect("it is there"), content, "nothing of it was changed");
}

#[test]
fn a_journal_that_ends_in_the_middle_of_a_commit_is_cut_off_there_and_that_is_said() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let mut gateway = sluice!().config(CONFIG).directory(directory.path()).start();
    for nth in 0..50 {
        append(&gateway.control(), &[format!("event-number-{nth}")]).expect("it is appended");
    }
    gateway.kill();
    let store = directory.path().join("data/store");
    let journal = files(&store).into_iter().find(|(_, path)| path.extension().is_some_and(|is| is == "jnl"));
    let (_, path) = journal.expect("there is a journal");
    let mut content = fs::read(&path).expect("it is read");
    let at = content.windows(15).rposition(|window| window == b"event-number-49").expect("it is in there");
    content[at..].fill(0);
    fs::write(&path, &content).expect("it is written");
    let gateway = sluice!().config(CONFIG).directory(directory.path()).start();
    gateway.await_log(&["the last commit was cut off"]);
    let there = read(&gateway.control(), 1_000).expect("the gateway serves");
    let ids: Vec<_> = there.into_values().map(|(id, ..)| id).collect();
    let wanted: Vec<_> = (0..49).map(|nth| format!("event-number-{nth}")).collect();
    assert_eq!(ids, wanted, "all but the one that was torn");
}
