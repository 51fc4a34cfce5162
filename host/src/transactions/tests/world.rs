//! Participants and the network between: they outlive every gateway, keep a ledger, and use the barrier.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;

use crate::{
    model::Wall,
    transactions::{Answered, BranchCall, BranchCaller, CallAnswer, RawAnswer},
};

/// What a branch's participant has in its books.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Prepared, tried, or acted.
    pub done: bool,
    pub refused: bool,
    pub confirmed: bool,
    pub undone: bool,
}

/// How badly the world behaves: chances in a thousand.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub lost: u32,
    pub answer_lost: u32,
    pub late: u32,
    pub doubled: u32,
    pub down: u32,
    /// That a participant says no, decided once for each branch.
    pub refuses: u32,
}

impl Weather {
    pub const CALM: Self = Self { lost: 0, answer_lost: 0, late: 0, doubled: 0, down: 0, refuses: 0 };
}

/// All participants of all transactions.
#[derive(Clone)]
pub struct World(Arc<Mutex<Books>>);

struct Books {
    random: fastrand::Rng,
    weather: Weather,
    entries: BTreeMap<(String, String), Entry>,
    /// Calls on their way: when they arrive.
    late: Vec<(u64, Op)>,
    down_until_ms: u64,
    calls: u64,
    violations: Vec<String>,
    /// Messages whose sender has done its part: what a query answers.
    sent: BTreeMap<String, bool>,
}

#[derive(Clone, Debug)]
struct Op {
    gid: String,
    protocol: String,
    branch: String,
    op: String,
}

impl World {
    pub fn new(seed: u64, weather: Weather) -> Self {
        Self(Arc::new(Mutex::new(Books {
            random: fastrand::Rng::with_seed(seed),
            weather,
            entries: BTreeMap::new(),
            late: Vec::new(),
            down_until_ms: 0,
            calls: 0,
            violations: Vec::new(),
            sent: BTreeMap::new(),
        })))
    }

    pub fn set_weather(&self, weather: Weather) {
        self.lock().weather = weather;
    }

    pub fn branches(&self, gid: &str) -> BTreeMap<String, Entry> {
        let books = self.lock();
        let of = books.entries.iter().filter(|((of, _), _)| of == gid);
        of.map(|((_, branch), entry)| (branch.clone(), *entry)).collect()
    }

    /// The sender of a message has done its part, or decided not to.
    pub fn sender_decides(&self, gid: &str, sends: bool) {
        self.lock().sent.entry(gid.to_owned()).or_insert(sends);
    }

    /// A try that the client makes itself. Whether it was done.
    pub fn client_tries(&self, gid: &str, branch: &str, wall: &Wall) -> bool {
        let mut books = self.lock();
        books.deliver_late(wall.now_ms());
        let op =
            Op { gid: gid.to_owned(), protocol: "tcc".to_owned(), branch: branch.to_owned(), op: "try".to_owned() };
        books.carry_out(&op).status == StatusCode::OK
    }

    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What becomes of one call.
enum Fate {
    Lost,
    AnswerLost,
    Late(u64),
    Arrives(Duration),
}

impl Books {
    fn chance(&mut self, of_thousand: u32) -> bool {
        self.random.u32(..1_000) < of_thousand
    }

    fn fate(&mut self, now_ms: u64) -> Fate {
        self.calls += 1;
        if self.chance(self.weather.down) {
            self.down_until_ms = now_ms + self.random.u64(..5_000);
        }
        if now_ms < self.down_until_ms || self.chance(self.weather.lost) {
            return Fate::Lost;
        }
        if self.chance(self.weather.answer_lost) {
            return Fate::AnswerLost;
        }
        if self.chance(self.weather.late) {
            return Fate::Late(now_ms + self.random.u64(..30_000));
        }
        Fate::Arrives(Duration::from_micros(self.random.u64(..20_000)))
    }

    /// What was on its way arrives, whoever sent it.
    fn deliver_late(&mut self, now_ms: u64) {
        let (due, later) = std::mem::take(&mut self.late).into_iter().partition(|(at_ms, _)| *at_ms <= now_ms);
        self.late = later;
        let due: Vec<(u64, Op)> = due;
        for (_, op) in due {
            self.carry_out(&op);
        }
    }

    fn carry_out(&mut self, op: &Op) -> RawAnswer {
        let key = (op.gid.clone(), op.branch.clone());
        let refuses = self.weather.refuses;
        let is_new = !self.entries.contains_key(&key);
        let says_no = is_new && self.random.u32(..1_000) < refuses;
        if op.op == "msg" {
            let sent = *self.sent.entry(op.gid.clone()).or_insert(false);
            return answer(if sent { 200 } else { 409 });
        }
        let entry = self.entries.entry(key).or_default();
        let is_second_phase = op.protocol == "message" || matches!(&*op.op, "commit" | "confirm");
        let status = match &*op.op {
            "abort" | "cancel" | "compensate" => {
                entry.undone = true;
                200
            }
            _ if is_second_phase => {
                entry.confirmed = true;
                200
            }
            // The barrier: a try that comes after its cancel finds it there.
            _ if entry.undone || entry.refused => 409,
            _ if entry.done => 200,
            _ if says_no => {
                entry.refused = true;
                409
            }
            _ => {
                entry.done = true;
                200
            }
        };
        self.check(&op.gid, op);
        answer(status)
    }

    /// Lamport's invariant, in its strongest form: at every moment.
    fn check(&mut self, gid: &str, op: &Op) {
        let of: Vec<_> = self.entries.iter().filter(|((of, _), _)| of == gid).map(|(_, entry)| *entry).collect();
        let committed = of.iter().any(|entry| entry.confirmed);
        let aborted = of.iter().any(|entry| entry.undone);
        if committed && aborted {
            self.violations.push(format!("{gid}: one has committed and another aborted, after {op:?}: {of:?}"));
        }
        let unprepared = |entry: &Entry| entry.confirmed && !entry.done;
        if op.protocol != "message" && of.iter().any(unprepared) {
            self.violations.push(format!("{gid}: committed without having been prepared, by {op:?}: {of:?}"));
        }
    }
}

fn answer(status: u16) -> RawAnswer {
    RawAnswer { status: StatusCode::from_u16(status).expect("a status"), body: Bytes::new() }
}

/// The way from one gateway to the participants.
pub struct Network {
    pub world: World,
    pub wall: Wall,
}

impl BranchCaller for Network {
    fn call(&self, call: BranchCall) -> Answered {
        let (world, wall) = (self.world.clone(), self.wall);
        Box::pin(async move {
            let op = read(&call.url);
            let fate = world.lock().fate(wall.now_ms());
            let lost = || async {
                tokio::time::sleep(call.timeout).await;
                CallAnswer::Unclear("no answer in time".to_owned())
            };
            match fate {
                Fate::Lost => lost().await,
                Fate::Late(at_ms) => {
                    world.lock().late.push((at_ms, op));
                    lost().await
                }
                Fate::AnswerLost => {
                    world.lock().carry_out(&op);
                    lost().await
                }
                Fate::Arrives(after) => {
                    tokio::time::sleep(after).await;
                    let mut books = world.lock();
                    books.deliver_late(wall.now_ms());
                    let doubled = books.weather.doubled;
                    if books.chance(doubled) {
                        books.carry_out(&op);
                    }
                    CallAnswer::of(&books.carry_out(&op))
                }
            }
        })
    }

    fn check(&self, _target: &str) -> Result<(), String> {
        Ok(())
    }
}

fn read(url: &str) -> Op {
    let (_, query) = url.split_once('?').expect("a call says whose it is");
    let fields: BTreeMap<_, _> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let field = |name: &str| (*fields.get(name).unwrap_or(&"")).to_owned();
    Op { gid: field("gid"), protocol: field("trans_type"), branch: field("branch_id"), op: field("op") }
}
