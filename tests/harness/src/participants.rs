//! Participants of transactions: one server for all of them, with a ledger and a barrier, which outlives the gateway.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex, MutexGuard},
};

use crate::{RawExchange, RawOrigin, process};

/// What one branch's participant has in its books.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Prepared, tried, or acted.
    pub done: bool,
    pub refused: bool,
    /// Committed or confirmed; a message's action.
    pub confirmed: bool,
    /// Aborted, cancelled, or compensated.
    pub undone: bool,
}

/// One call, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub path: String,
    pub gid: String,
    pub protocol: String,
    pub branch: String,
    pub op: String,
    pub body: String,
}

/// The server. A path that holds `/refuse` says no before the decision, `/refuse-commit` and `/refuse-undo` after it, and
/// `/unavailable` answers 503, these three until [`Participants::mend`]; `/held` waits until [`Participants::release`];
/// everything else is done.
pub struct Participants {
    origin: RawOrigin,
    books: Arc<Books>,
}

#[derive(Default)]
struct Books {
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<(String, String), Entry>,
    calls: Vec<Call>,
    violations: Vec<String>,
    is_released: bool,
    is_mended: bool,
    /// Messages whose sender has done its part.
    sent: BTreeSet<String>,
}

impl Participants {
    pub fn start() -> Self {
        // A call that is held keeps its connection, and some tests hold a thousand.
        process::raise_descriptor_limit();
        let books = Arc::<Books>::default();
        let of_origin = Arc::clone(&books);
        let origin = RawOrigin::start(move |exchange| serve(exchange, &of_origin));
        Self { origin, books }
    }

    pub fn address(&self) -> SocketAddr {
        self.origin.address()
    }

    /// Such as `http://127.0.0.1:4000`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// By branch.
    pub fn ledger(&self, gid: &str) -> BTreeMap<String, Entry> {
        let state = self.books.lock();
        let of = state.entries.iter().filter(|((of, _), _)| of == gid);
        of.map(|((_, branch), entry)| (branch.clone(), *entry)).collect()
    }

    pub fn calls(&self) -> Vec<Call> {
        self.books.lock().calls.clone()
    }

    /// Without a copy of them all, as whoever waits for them asks often.
    pub fn count_calls(&self, counts: impl Fn(&Call) -> bool) -> usize {
        self.books.lock().calls.iter().filter(|call| counts(call)).count()
    }

    pub fn calls_of(&self, gid: &str) -> Vec<Call> {
        self.books.lock().calls.iter().filter(|call| call.gid == gid).cloned().collect()
    }

    /// Moments at which one had committed and another aborted, or had committed without having been prepared.
    pub fn violations(&self) -> Vec<String> {
        self.books.lock().violations.clone()
    }

    /// The sender of this message has done its part, so that a query about it is answered with yes.
    pub fn sender_sends(&self, gid: &str) {
        self.books.lock().sent.insert(gid.to_owned());
    }

    /// A try that the client makes itself. Whether it was done.
    pub fn client_tries(&self, gid: &str, branch: &str) -> bool {
        let call = Call {
            path: "/try".to_owned(),
            gid: gid.to_owned(),
            protocol: "tcc".to_owned(),
            branch: branch.to_owned(),
            op: "try".to_owned(),
            body: String::new(),
        };
        self.books.lock().carry_out(&call) == 200
    }

    /// What is held goes on, and nothing is held from now on.
    pub fn release(&self) {
        self.books.lock().is_released = true;
        self.books.released.notify_all();
    }

    /// What said no after the decision, or was not available, does what it is asked from now on.
    pub fn mend(&self) {
        self.books.lock().is_mended = true;
    }
}

impl Drop for Participants {
    fn drop(&mut self) {
        self.release();
    }
}

impl Books {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    fn answer(&self, call: &Call) -> u16 {
        let mut state = self.lock();
        state.calls.push(call.clone());
        if call.path.contains("/held") {
            state = self.released.wait_while(state, |state| !state.is_released).expect("no holder panics");
        }
        state.carry_out(call)
    }
}

impl State {
    fn carry_out(&mut self, call: &Call) -> u16 {
        if call.op == "msg" {
            return if self.sent.contains(&call.gid) { 200 } else { 409 };
        }
        let breaks = |path: &str| call.path.contains(path) && !self.is_mended;
        let (is_unavailable, refuses_commit, refuses_undo) =
            (breaks("/unavailable"), breaks("/refuse-commit"), breaks("/refuse-undo"));
        if is_unavailable {
            return 503;
        }
        let entry = self.entries.entry((call.gid.clone(), call.branch.clone())).or_default();
        let is_message = ["message", "msg"].contains(&&*call.protocol);
        let status = match &*call.op {
            "abort" | "cancel" | "compensate" | "rollback" if refuses_undo => 409,
            "abort" | "cancel" | "compensate" | "rollback" => {
                entry.undone = true;
                200
            }
            op if is_message || ["commit", "confirm"].contains(&op) => {
                if refuses_commit {
                    409
                } else {
                    entry.confirmed = true;
                    200
                }
            }
            // The barrier: a try that comes after its cancel finds it there.
            _ if entry.undone || entry.refused => 409,
            _ if call.path.contains("/refuse") && !call.path.contains("/refuse-") => {
                entry.refused = true;
                409
            }
            _ => {
                entry.done = true;
                200
            }
        };
        self.check(call, is_message);
        status
    }

    fn check(&mut self, call: &Call, is_message: bool) {
        let of: Vec<_> =
            self.entries.iter().filter(|((gid, _), _)| *gid == call.gid).map(|(_, entry)| *entry).collect();
        if of.iter().any(|entry| entry.confirmed) && of.iter().any(|entry| entry.undone) {
            self.violations.push(format!("one has committed and another aborted, after {call:?}: {of:?}"));
        }
        if !is_message && of.iter().any(|entry| entry.confirmed && !entry.done) {
            self.violations.push(format!("committed without having been prepared, by {call:?}: {of:?}"));
        }
    }
}

fn serve(mut exchange: RawExchange, books: &Books) {
    while let Some(request) = exchange.read_request() {
        let call = read(&request);
        let status = books.answer(&call);
        let body = if status == 200 { "done" } else { "no" };
        exchange.write(format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes());
    }
}

fn read(request: &[u8]) -> Call {
    let text = String::from_utf8_lossy(request);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let target = head.split(' ').nth(1).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let fields: BTreeMap<_, _> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let field = |name: &str| (*fields.get(name).unwrap_or(&"")).to_owned();
    Call {
        path: path.to_owned(),
        gid: field("gid"),
        protocol: field("trans_type"),
        branch: field("branch_id"),
        op: field("op"),
        body: body.to_owned(),
    }
}
