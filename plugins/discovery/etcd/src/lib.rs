//! Endpoints from keys below a prefix of etcd v3, through its JSON gateway. Settings: `endpoints` (URLs or `host:port`
//! of the cluster's members, each among the plugin's `allow_hosts`) and `prefix`.
//!
//! One key is one endpoint; its id is the key without the prefix. A value is `host:port`, or a JSON object as
//! `sluice_sdk::instances` reads it. A value that is neither is left out and logged: keys have many authors, and one of
//! them must not stop the others.

mod answers;
mod base64;

use answers::{Event, Lines, Place, Range};
use sluice_sdk::{
    Context, Settings, clock,
    discovery::{Discovery, Membership, WatchError, Watched},
    http::{self, Request, Response},
    log,
};

/// Of one member of the cluster, to an answer; then the next one is asked.
const TIMEOUT_MS: u32 = 3_000;
const PIECE_BYTES: u32 = 64 << 10;

struct Etcd {
    /// Base URLs. The one that answered last is `turn`.
    members: Vec<String>,
    turn: usize,
    prefix: String,
}

impl Discovery for Etcd {
    fn configure(_: &Context, settings: &mut Settings) -> Self {
        let prefix = settings.required_text("prefix", "/services/orders/");
        let given = settings.texts("endpoints");
        if given.is_empty() {
            settings.problem("endpoints", "must have at least one, such as [\"10.0.0.1:2379\"]");
        }
        let base = |member: String| if member.contains("://") { member } else { format!("http://{member}") };
        let members = given.into_iter().map(base).map(|member| member.trim_end_matches('/').to_owned()).collect();
        Self { members, turn: 0, prefix }
    }

    /// The cursor is the cluster's id and its revision.
    fn watch(&mut self, cursor: Option<&str>, wait_ms: u32) -> Watched {
        let Some(cursor) = cursor else { return self.membership().map(Some) };
        let known =
            Place::parse(cursor).ok_or_else(|| WatchError::Lost("the cursor is no place in etcd".to_owned()))?;
        let deadline = clock::now() + u64::from(wait_ms) * 1000;
        let mut failures = Vec::new();
        while failures.len() < self.members.len() {
            match self.wait_for_change(&known, deadline) {
                Ok(()) => {
                    // Also where time is up: a member that was cut off from the others has nothing to tell for ever.
                    let membership = self.membership()?;
                    return Ok(Some(membership).filter(|now| now.cursor != cursor));
                }
                Err(Failure::Member(why)) => {
                    failures.push(why);
                    self.turn = (self.turn + 1) % self.members.len();
                }
                Err(Failure::Watch(error)) => return Err(error),
            }
        }
        Err(WatchError::Unavailable(failures.join("; ")))
    }
}

/// Why nothing came of asking one member.
enum Failure {
    /// The next one may do better.
    Member(String),
    Watch(WatchError),
}

impl Etcd {
    /// All endpoints now, of whichever member answers. Reads are linearizable: a member without a quorum gives none.
    fn membership(&mut self) -> Result<Membership, WatchError> {
        let mut failures = Vec::new();
        for _ in 0..self.members.len() {
            match self.range() {
                Ok(Range { place, values }) => {
                    let (instances, wrong) = answers::endpoints(&values, &self.prefix);
                    for problem in wrong {
                        log::warn(&problem);
                    }
                    return Ok(Membership { instances, cursor: place.to_string() });
                }
                Err(Failure::Member(why)) => {
                    failures.push(why);
                    self.turn = (self.turn + 1) % self.members.len();
                }
                Err(Failure::Watch(error)) => return Err(error),
            }
        }
        Err(WatchError::Unavailable(failures.join("; ")))
    }

    fn range(&self) -> Result<Range, Failure> {
        let response = self.post("/v3/kv/range", &answers::range_request(&self.prefix))?;
        let body = http::body(&response, TIMEOUT_MS).map_err(|error| self.failed(&error))?;
        if response.status() != 200 {
            return Err(self.answered(response.status(), &body));
        }
        answers::range(&body).ok_or_else(|| Failure::Member(format!("{}: no answer of etcd", self.member())))
    }

    /// Returns when something below the prefix changed after `known`, or at the deadline.
    fn wait_for_change(&self, known: &Place, deadline: u64) -> Result<(), Failure> {
        let response = self.post("/v3/watch", &answers::watch_request(&self.prefix, known.revision + 1))?;
        if response.status() != 200 {
            let body = http::body(&response, TIMEOUT_MS).unwrap_or_default();
            return Err(self.answered(response.status(), &body));
        }
        let mut lines = Lines::default();
        loop {
            let left_ms = deadline.saturating_sub(clock::now()).div_ceil(1000);
            let left_ms = u32::try_from(left_ms).unwrap_or(u32::MAX);
            if left_ms == 0 {
                return Ok(());
            }
            match response.read(PIECE_BYTES, left_ms) {
                Ok(Some(piece)) => lines.push(&piece),
                Ok(None) => return Err(Failure::Member(format!("{}: the watch has ended", self.member()))),
                Err(http::Error::TimedOut) => return Ok(()),
                Err(error) => return Err(self.failed(&error)),
            }
            while let Some(line) = lines.next() {
                match answers::event(&line, known) {
                    Event::Nothing => {}
                    Event::Changed => return Ok(()),
                    Event::Lost(why) => return Err(Failure::Watch(WatchError::Lost(why))),
                    Event::Failed(why) => return Err(Failure::Member(format!("{}: {why}", self.member()))),
                }
            }
            if lines.too_long() {
                return Err(Failure::Member(format!("{}: an event is too long", self.member())));
            }
        }
    }

    fn post(&self, path: &str, body: &str) -> Result<Response, Failure> {
        let request = Request {
            method: "POST".to_owned(),
            url: format!("{}{path}", self.member()),
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: body.as_bytes().to_vec(),
            timeout_ms: TIMEOUT_MS,
        };
        http::send(&request).map_err(|error| self.failed(&error))
    }

    fn member(&self) -> &str {
        &self.members[self.turn]
    }

    fn failed(&self, error: &http::Error) -> Failure {
        let sentence = format!("{}: {}", self.member(), http::in_words(error));
        match error {
            http::Error::NotAllowed(_) if self.members.len() == 1 => Failure::Watch(WatchError::Refused(sentence)),
            _ => Failure::Member(sentence),
        }
    }

    fn answered(&self, status: u16, body: &[u8]) -> Failure {
        let said = String::from_utf8_lossy(body.get(..200).unwrap_or(body)).trim().to_owned();
        let sentence = format!("{} answers {status}: {said}", self.member());
        match status {
            401 | 403 => Failure::Watch(WatchError::Refused(sentence)),
            _ => Failure::Member(sentence),
        }
    }
}

sluice_sdk::discovery!(Etcd);
