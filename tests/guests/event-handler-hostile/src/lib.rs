//! An event handler that does what its settings say, for each event of type `when` (for every event without it); all
//! others it counts, under `count/STREAM` and `count` itself, and answers `GET …/count` with that number.
//!
//! | `deed` | what happens |
//! | --- | --- |
//! | `none` | the event is counted |
//! | `traps`, `spins`, `allocates` | a trap, an endless loop, memory without end |
//! | `traps-in-read`, `spins-in-read`, `allocates-in-read` | the same when something is read |
//! | `traps-in-subscribe`, `spins-in-subscribe` | the same when it is asked what it wants |
//! | `fails`, `fails-for-now` | a failure at the event, lasting or transient |
//! | `fails-nowhere` | a failure at event 4,000,000,000 |
//! | `writes-without-end` | keys without end |
//! | `writes-one-key-without-end` | the same key without end |
//! | `writes-large-values`, `writes-long-keys` | a value of 1 MiB and a byte; a key of 1 KiB and a byte |
//! | `writes-in-read`, `writes-in-subscribe`, `reads-in-subscribe` | the state where it may not be written, or read |
//! | `emits` | an event of type `seen`, with the event's subject and data, in stream `seen` |
//! | `emits-in-circles` | the same event again |
//! | `emits-a-flood`, `emits-megabytes` | 1,001 events; 9 of 1 MiB each |
//! | `emits-for-nothing` | one that event 4,000,000,000 caused |
//! | `emits-nameless`, `emits-to-the-store` | without a type; in stream `$store` |
//! | `emits-as-the-store`, `emits-large-data` | an extension named `position`; data of 1 MiB and a byte |
//! | `calls` | `POST` to `target` with the event's data |
//! | `calls-nowhere`, `calls-without-method` | a target that is no URL; an empty method |
//! | `calls-as-the-gateway`, `calls-with-two-lines` | a header field `idempotency-key`; one with a line break in it |
//! | `wants-nonsense`, `wants-a-flood` | a pattern with `*` in its middle; 65 patterns |
//! | `answers-hello`, `answers-no-type`, `answers-a-flood` | when read: status 100; no content type; 4 MiB and a byte |
//! | `fetches` | `GET` of `target` while it handles; what came is under `fetched` |
//! | `lingers` | the same, with the answer's body, whatever time it takes |

use std::cell::RefCell;

use sluice_sdk::{
    Context, Problem, Settings,
    bindings::{
        event_handler::{
            exports::sluice::plugin::{
                event_handler::{Failure, Guest as Handles},
                read_model::Guest as Reads,
            },
            sluice::plugin::{state, state_write},
        },
        exports::sluice::plugin::policy::Guest as Configures,
    },
    event_handler::{Answer, Call, Caused, Draft, Effect, Event, Query, State, Subscription},
    http,
};

const DEEDS: [&str; 40] = [
    "none",
    "traps",
    "spins",
    "allocates",
    "traps-in-read",
    "spins-in-read",
    "allocates-in-read",
    "traps-in-subscribe",
    "spins-in-subscribe",
    "fails",
    "fails-for-now",
    "fails-nowhere",
    "writes-without-end",
    "writes-one-key-without-end",
    "writes-large-values",
    "writes-long-keys",
    "writes-in-read",
    "writes-in-subscribe",
    "reads-in-subscribe",
    "emits",
    "emits-in-circles",
    "emits-a-flood",
    "emits-megabytes",
    "emits-for-nothing",
    "emits-nameless",
    "emits-to-the-store",
    "emits-as-the-store",
    "emits-large-data",
    "calls",
    "calls-nowhere",
    "calls-without-method",
    "calls-as-the-gateway",
    "calls-with-two-lines",
    "wants-nonsense",
    "wants-a-flood",
    "answers-hello",
    "answers-no-type",
    "answers-a-flood",
    "fetches",
    "lingers",
];

/// No index of anything.
const NOWHERE: u32 = 4_000_000_000;

const MIB: usize = 1 << 20;

#[derive(Clone, Default)]
struct Told {
    deed: String,
    when: String,
    target: String,
}

thread_local! {
    static TOLD: RefCell<Told> = RefCell::default();
}

fn told() -> Told {
    TOLD.with_borrow(Told::clone)
}

struct Hostile;

impl Configures for Hostile {
    fn configure(context: Context) -> Result<(), Vec<Problem>> {
        let mut settings = Settings::parse(&context.settings);
        let deed = settings.text("deed", "none");
        if !DEEDS.contains(&deed.as_str()) {
            settings.problem("deed", "is none that is known");
        }
        let told = Told { deed, when: settings.text("when", ""), target: settings.text("target", "service://echo/") };
        TOLD.set(told);
        let problems = settings.finish();
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    fn save() -> Vec<u8> {
        Vec::new()
    }

    fn restore(_: Vec<u8>) -> Result<(), String> {
        Err("there is nothing".to_owned())
    }
}

impl Handles for Hostile {
    fn subscribe() -> Subscription {
        let mut subscription = Subscription { types: Vec::new(), streams: Vec::new() };
        match told().deed.as_str() {
            "traps-in-subscribe" => panic!("as the settings say"),
            "spins-in-subscribe" => spin(),
            "writes-in-subscribe" => state_write::put("a", b"b"),
            "reads-in-subscribe" => drop(state::get("a")),
            "wants-nonsense" => subscription.types.push("a*b".to_owned()),
            "wants-a-flood" => subscription.streams = (0..65).map(|n| format!("s-{n}")).collect(),
            _ => {}
        }
        subscription
    }

    fn handle(events: Vec<Event>) -> Result<Vec<Caused>, Failure> {
        let told = told();
        let mut state = State::new();
        let mut caused = Vec::new();
        for (at, event) in (0..).zip(&events) {
            if told.when.is_empty() || told.when == event.draft.event_type {
                let effects = misbehave(&told, at, event, &mut state)?;
                let by = if told.deed == "emits-for-nothing" { NOWHERE } else { at };
                caused.extend(effects.into_iter().map(|effect| Caused { by, effect }));
            }
            state.add(&format!("count/{}", event.draft.stream_name), 1);
            state.add("count", 1);
        }
        Ok(caused)
    }
}

impl Reads for Hostile {
    fn read(query: Query) -> Answer {
        let count = State::new().text(&query.path);
        let answer = count.map_or_else(|| Answer::not_found("nothing"), Answer::json);
        match told().deed.as_str() {
            "traps-in-read" => panic!("as the settings say"),
            "spins-in-read" => spin(),
            "allocates-in-read" => allocate(),
            "writes-in-read" => state_write::put("a", b"b"),
            "answers-hello" => return Answer { status: 100, ..answer },
            "answers-no-type" => return Answer { content_type: "no\ntype".to_owned(), ..answer },
            "answers-a-flood" => return Answer { body: vec![b' '; 4 * MIB + 1], ..answer },
            _ => {}
        }
        answer
    }
}

#[expect(clippy::infinite_iter, reason = "that is the deed")]
fn misbehave(told: &Told, at: u32, event: &Event, state: &mut State) -> Result<Vec<Effect>, Failure> {
    let failure = |at, transient| Failure { at, transient, message: "as the\nsettings say".to_owned() };
    match told.deed.as_str() {
        "traps" => panic!("as the settings say"),
        "spins" => spin(),
        "allocates" => allocate(),
        "fails" => return Err(failure(at, false)),
        "fails-for-now" => return Err(failure(at, true)),
        "fails-nowhere" => return Err(failure(NOWHERE, true)),
        "writes-without-end" => (0_u64..).for_each(|n| state.put(&format!("key-{n}"), vec![0; 10_000])),
        "writes-one-key-without-end" => (0_u64..).for_each(|n| state.put_number("key", n)),
        "writes-large-values" => state.put("large", vec![0; MIB + 1]),
        "writes-long-keys" => state.put(&"k".repeat(1_025), []),
        "fetches" | "lingers" => state.put("fetched", fetched(&told.target, told.deed == "lingers")),
        deed if deed.starts_with("emits") => return Ok(emitted(deed, event)),
        deed if deed.starts_with("calls") => return Ok(vec![Effect::Call(called(deed, &told.target, event))]),
        _ => {}
    }
    Ok(Vec::new())
}

fn emitted(deed: &str, event: &Event) -> Vec<Effect> {
    let seen = Draft { stream_name: "seen".to_owned(), event_type: "seen".to_owned(), ..event.draft.clone() };
    let large = |bytes| Draft { data: vec![b'x'; bytes], ..seen.clone() };
    let drafts = match deed {
        "emits-in-circles" => vec![event.draft.clone()],
        "emits-a-flood" => vec![seen; 1_001],
        "emits-megabytes" => vec![large(MIB); 9],
        "emits-nameless" => vec![Draft { event_type: String::new(), ..seen }],
        "emits-to-the-store" => vec![Draft { stream_name: "$store".to_owned(), ..seen }],
        "emits-as-the-store" => vec![Draft { extensions: vec![("position".to_owned(), "1".to_owned())], ..seen }],
        "emits-large-data" => vec![large(MIB + 1)],
        _ => vec![seen],
    };
    drafts.into_iter().map(Effect::Emit).collect()
}

fn called(deed: &str, target: &str, event: &Event) -> Call {
    let call = Call::post(target, &event.draft.content_type, event.draft.data.clone());
    let with_header =
        |name: &str, value: &str| Call { headers: vec![(name.to_owned(), value.to_owned())], ..call.clone() };
    match deed {
        "calls-nowhere" => Call { target: "nowhere at all".to_owned(), ..call },
        "calls-without-method" => Call { method: String::new(), ..call },
        "calls-as-the-gateway" => with_header("Idempotency-Key", "1"),
        "calls-with-two-lines" => with_header("x-lines", "a\nb"),
        _ => call,
    }
}

/// What is there, or why it is not.
fn fetched(url: &str, with_body: bool) -> String {
    let request = http::Request {
        method: "GET".to_owned(),
        url: url.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
        timeout_ms: 0,
    };
    match http::send(&request) {
        Ok(response) if with_body => match http::body(&response, u32::MAX) {
            Ok(body) => String::from_utf8_lossy(&body).into_owned(),
            Err(error) => http::in_words(&error),
        },
        Ok(response) => response.status().to_string(),
        Err(error) => http::in_words(&error),
    }
}

fn spin() -> ! {
    loop {
        std::hint::black_box(());
    }
}

fn allocate() -> ! {
    let mut hoard = Vec::new();
    loop {
        hoard.push(std::hint::black_box(vec![1_u8; MIB]));
    }
}

sluice_sdk::bindings::export!(Hostile with_types_in sluice_sdk::bindings);
sluice_sdk::bindings::event_handler::export!(Hostile with_types_in sluice_sdk::bindings::event_handler);
