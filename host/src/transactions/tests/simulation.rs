//! A deterministic simulation: gateways that are killed, a disk that drops, tears and reorders what was not synced, a
//! network that loses, delays and doubles, participants that refuse and go down; the protocols are the components
//! themselves. `SLUICE_SEED` and `SLUICE_SEEDS` choose where it begins and how long it goes on.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    protocols::{NoOthers, stock},
    world::{Network, Weather, World},
};
use crate::{
    model::Wall,
    storage::{Storage, memory::MemoryStorage},
    transactions::{Coordinator, Enlistment, Filter, Gid, Parts, Protocols, Status, Submission, TransactionError},
};

const SEEDS: u64 = 1_000;

/// In which every transaction must have ended once everything works again.
const CALM_TIME: Duration = Duration::from_secs(600);

/// One history of gateways, one after the other, over one disk.
struct History {
    seed: u64,
    random: fastrand::Rng,
    world: World,
    storage: MemoryStorage,
    now_ms: u64,
    wanted: Vec<Wanted>,
    /// Whether commits are acknowledged before they are durable.
    disk_lies: bool,
}

/// What a client wants, and has learned.
#[derive(Clone)]
struct Wanted {
    protocol: &'static str,
    gid: Gid,
    request: Value,
    branches: usize,
    /// The client's own: tries, or whether it sends a message.
    by_client: bool,
    gives_up: bool,
    begun: bool,
    acknowledged: bool,
    outcome: Option<Status>,
}

#[test]
fn whatever_is_killed_lost_delayed_and_doubled_every_transaction_ends_and_all_ledgers_agree() {
    let Some(protocols) = stock() else { return };
    let read = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let (first, count) = (read("SLUICE_SEED", 1), read("SLUICE_SEEDS", SEEDS));
    println!("seeds {first} to {} (SLUICE_SEED, SLUICE_SEEDS)", first + count - 1);
    let (mut calls, mut ended) = (0, BTreeMap::<Status, usize>::new());
    for seed in first..first + count {
        let history = History::begin(seed).live(&protocols);
        calls += history.world.calls();
        for wanted in &history.wanted {
            *ended.entry(wanted.outcome.expect("it has ended")).or_default() += 1;
        }
    }
    println!("{calls} calls, {ended:?}");
    if count >= 100 {
        assert!(ended[&Status::Succeeded] > 10 && ended[&Status::Failed] > 10, "the weather was too good or too bad");
    }
}

/// The tests' own test: a disk that forgets what it has acknowledged must show.
#[test]
fn a_store_that_acknowledges_too_early_is_found_out() {
    let Some(protocols) = stock() else { return };
    let is_found_out = |seed| {
        let mut history = History::begin(seed);
        history.disk_lies = true;
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(history.live(&protocols)))).is_err()
    };
    assert!((1..200).any(is_found_out), "200 histories on a disk that lies showed nothing");
}

impl History {
    fn begin(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let weather = match random.u32(..4) {
            0 => Weather { refuses: 200, ..Weather::CALM },
            1 => Weather { lost: 50, answer_lost: 50, late: 50, doubled: 50, down: 5, refuses: 50 },
            2 => Weather { lost: 300, answer_lost: 200, late: 100, doubled: 100, down: 20, refuses: 100 },
            _ => Weather { late: 300, doubled: 300, ..Weather::CALM },
        };
        let world = World::new(random.u64(..), weather);
        let wanted = (0..random.usize(1..5)).map(|number| wanted(&mut random, number)).collect();
        Self { seed, world, storage: MemoryStorage::new(), now_ms: 1_700_000_000_000, wanted, random, disk_lies: false }
    }

    fn live(mut self, protocols: &Protocols) -> Self {
        for _ in 0..self.random.usize(..5) {
            let until = Duration::from_micros(match self.random.u32(..3) {
                0 => self.random.u64(..50_000),
                1 => self.random.u64(..1_000_000),
                _ => self.random.u64(..60_000_000),
            });
            self.gateway(protocols, until, false);
            self.storage = self.storage.crash(self.random.u64(..));
        }
        self.world.set_weather(Weather::CALM);
        self.gateway(protocols, CALM_TIME, true);
        self.judge();
        self
    }

    /// One gateway's life. Killed at its end: whatever it was at is dropped.
    fn gateway(&mut self, protocols: &Protocols, life: Duration, to_the_end: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime starts");
        let (seed, base_ms) = (self.random.u64(..), self.now_ms);
        let (storage, world, wanted) = (self.storage.clone(), self.world.clone(), self.wanted.clone());
        if self.disk_lies && !to_the_end {
            storage.acknowledge_too_early();
        }
        let told = Arc::new(std::sync::Mutex::new(self.wanted.clone()));
        let lives = live(storage, world, protocols.clone(), (seed, base_ms), wanted, Arc::clone(&told));
        let reached_ms = runtime.block_on(async {
            let wall = Wall::at(base_ms);
            let over = tokio::time::timeout(life, lives).await.is_ok();
            assert!(over || !to_the_end, "seed {}: not all have ended: {:?}", self.seed, shown(&told));
            wall.now_ms()
        });
        drop(runtime);
        self.now_ms = reached_ms + 1;
        self.wanted = told.lock().expect("nobody panicked").clone();
    }

    fn judge(&self) {
        let seed = self.seed;
        assert!(self.world.violations().is_empty(), "seed {seed}: {:?}", self.world.violations());
        for Wanted { gid, protocol, outcome, branches, .. } in &self.wanted {
            let ledger = self.world.branches(gid.as_str());
            let stands = |holds: &dyn Fn(&super::world::Entry) -> bool| ledger.values().all(holds);
            let right = match (outcome, *protocol) {
                (Some(Status::Succeeded), "saga") => {
                    ledger.len() == *branches && stands(&|entry| entry.done && !entry.undone)
                }
                (Some(Status::Succeeded), _) => ledger.len() == *branches && stands(&|entry| entry.confirmed),
                (Some(Status::Failed), _) => stands(&|entry| !entry.confirmed && (!entry.done || entry.undone)),
                _ => false,
            };
            assert!(right, "seed {seed}: {protocol} {gid} has ended as {outcome:?}, and the ledgers say {ledger:?}");
        }
    }
}

fn shown(told: &std::sync::Mutex<Vec<Wanted>>) -> Vec<(String, &'static str, bool, Option<Status>)> {
    let told = told.lock().expect("nobody panicked");
    told.iter().map(|wanted| (wanted.gid.to_string(), wanted.protocol, wanted.begun, wanted.outcome)).collect()
}

fn wanted(random: &mut fastrand::Rng, number: usize) -> Wanted {
    let protocol = ["two-phase-commit", "saga", "tcc", "tcc", "message", "message"][random.usize(..6)];
    let branches = random.usize(1..4);
    let by_client = protocol == "message" || (protocol == "tcc" && random.bool());
    let gid: Gid = format!("{protocol}-{number}").parse().expect("a gid");
    let of_service = |count: usize| (0..count).map(|n| json!({"service": format!("s{n}")})).collect::<Vec<_>>();
    let mut request = json!({"gid": gid, "trans_type": protocol});
    let steps = |count: usize| -> Vec<Value> {
        (0..count)
            .map(|n| json!({"action": format!("service://s{n}/do"), "compensate": format!("service://s{n}/undo")}))
            .collect()
    };
    match protocol {
        "saga" => {
            request["steps"] = json!(steps(branches));
            if random.bool() {
                request["custom_data"] = json!("{\"concurrent\":true}");
            }
            if random.bool() {
                request["timeout_to_fail"] = json!(random.u32(1..40));
            }
        }
        "message" => {
            let actions: Vec<_> = (0..branches).map(|n| json!({"action": format!("service://s{n}/do")})).collect();
            request["steps"] = json!(actions);
            request["query_prepared"] = json!("service://sender/query");
        }
        "tcc" if by_client => {}
        _ => request["branches"] = json!(of_service(branches)),
    }
    Wanted {
        protocol,
        gid,
        request,
        branches,
        by_client,
        gives_up: random.u32(..4) == 0,
        begun: false,
        acknowledged: false,
        outcome: None,
    }
}

/// Everything that happens while one gateway lives; ends when all transactions have.
async fn live(
    storage: MemoryStorage,
    world: World,
    protocols: Protocols,
    (seed, base_ms): (u64, u64),
    wanted: Vec<Wanted>,
    told: Arc<std::sync::Mutex<Vec<Wanted>>>,
) {
    let mut random = fastrand::Rng::with_seed(seed);
    storage.hold_syncs();
    let (disk, mut pauses) = (storage.clone(), random.fork());
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_micros(pauses.u64(10..5_000))).await;
            disk.sync();
        }
    });
    let wall = Wall::at(base_ms);
    let coordinator = Coordinator::open(Parts {
        storage: Arc::new(storage) as Arc<dyn Storage>,
        events: None,
        caller: Arc::new(Network { world: world.clone(), wall }),
        versions: Arc::new(NoOthers),
        alert: Arc::new(|gid, _, _, reason| panic!("{gid} stands in hazard: {reason}")),
        wall,
        retention: Duration::from_secs(3600),
        owner: "simulation".to_owned(),
        seed: random.u64(..),
    });
    let coordinator = coordinator.await.expect("the store is claimed");
    coordinator.set_protocols(protocols);
    coordinator.recover().await.expect("what has not ended is there");
    let clients = wanted.into_iter().enumerate().map(|(index, wanted)| {
        let client =
            Client { coordinator: coordinator.clone(), world: world.clone(), wall, index, told: Arc::clone(&told) };
        let mut random = random.fork();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_micros(random.u64(..100_000))).await;
            client.run(wanted, &mut random).await;
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("a client does not panic");
    }
    // Whoever waits is told before the end is written down.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let page = coordinator.list(&Filter::default(), None, 100).await.expect("they are listed");
    assert!(page.transactions.iter().all(|one| one.status.has_ended()), "{page:?}");
}

struct Client {
    coordinator: Coordinator,
    world: World,
    wall: Wall,
    index: usize,
    told: Arc<std::sync::Mutex<Vec<Wanted>>>,
}

impl Client {
    /// Goes on from wherever it was; repeats itself until it is answered.
    async fn run(&self, mut wanted: Wanted, random: &mut fastrand::Rng) {
        let gid = wanted.gid.clone();
        if wanted.acknowledged {
            let known = self.coordinator.status(&gid).await;
            assert!(known.is_ok(), "{gid} was acknowledged, and is lost: {known:?}");
        }
        if wanted.outcome.is_none() && !wanted.begun {
            self.begin(&mut wanted, random).await;
        }
        loop {
            match self.coordinator.outcome(&gid, Duration::from_secs(5)).await {
                Ok(status) if status.has_ended() => {
                    let before = wanted.outcome.replace(status);
                    assert!(before.is_none_or(|before| before == status), "{gid}: {before:?}, and then {status}");
                    let kept = self.coordinator.status(&gid).await.expect("it is there");
                    let on_its_way = match status {
                        Status::Succeeded => Status::Committing,
                        _ => Status::Aborting,
                    };
                    assert!(
                        kept == status || kept == on_its_way,
                        "{gid} was told to be {status}, and is kept as {kept}"
                    );
                    return self.tell(&wanted);
                }
                Ok(_) => {}
                Err(TransactionError::Unknown(_)) if !wanted.acknowledged => {
                    // It never came to be, so nothing has happened.
                    wanted.outcome = Some(Status::Failed);
                    return self.tell(&wanted);
                }
                Err(error) => panic!("{gid}: {error}"),
            }
        }
    }

    async fn begin(&self, wanted: &mut Wanted, random: &mut fastrand::Rng) {
        // A client that dies here never comes back to it; half of them do.
        wanted.begun = random.bool();
        self.tell(wanted);
        let submission = || Submission::parse(wanted.request.clone()).expect("it is right");
        if wanted.by_client {
            if self.coordinator.prepare(submission()).await.is_err() {
                return;
            }
            wanted.acknowledged = true;
            self.tell(wanted);
            if !self.own_part(wanted).await {
                let _ = self.coordinator.abort(&wanted.gid, Some("its own part failed".to_owned())).await;
                return;
            }
        }
        tokio::time::sleep(Duration::from_micros(random.u64(..10_000))).await;
        if wanted.gives_up && wanted.by_client {
            // Neither submitted nor aborted: time has to tell.
            return;
        }
        // A client that has waited long enough asks once more; what it asked for first may be on its way all the same.
        for _ in 0..random.usize(..3) {
            let patience = Duration::from_micros(random.u64(..3_000));
            let _ = tokio::time::timeout(patience, self.coordinator.submit(submission())).await;
        }
        if self.coordinator.submit(submission()).await.is_ok() {
            wanted.acknowledged = true;
            wanted.begun = true;
            self.tell(wanted);
        }
    }

    /// The tries of a TCC, or what a message is to tell of.
    async fn own_part(&self, wanted: &Wanted) -> bool {
        let gid = wanted.gid.as_str();
        if wanted.protocol == "message" {
            self.world.sender_decides(gid, !wanted.gives_up);
            return true;
        }
        for number in 0..wanted.branches {
            let branch = format!("{number:02}");
            let request = json!({
                "gid": gid, "branch_id": branch, "trans_type": "tcc", "data": "{}",
                "confirm": format!("service://s{number}/confirm"), "cancel": format!("service://s{number}/cancel"),
            });
            let enlisted = self.coordinator.enlist(Enlistment::parse(request).expect("it is right")).await;
            if enlisted.is_err() || !self.world.client_tries(gid, &branch, &self.wall) {
                return false;
            }
        }
        true
    }

    fn tell(&self, wanted: &Wanted) {
        self.told.lock().expect("nobody panicked")[self.index] = wanted.clone();
    }
}
