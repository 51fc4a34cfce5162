//! Reading what a client has sent: a request that cannot be read as asked notes a [`Problem`] with its JSON Pointer, and
//! answers as if nothing were there, so that a protocol reads all of it without a branch.

use super::{Branch, Operation, Phase};
use crate::{
    Problem,
    json::{self, Value},
    settings::pointer,
};

/// Branches of a transaction; the gateway refuses more.
pub const BRANCHES_MAX: usize = 1_000;

/// Problems that are told; more help nobody.
const PROBLEMS_MAX: usize = 100;

/// What is wrong with a request.
#[derive(Clone, Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// `path` is a JSON Pointer (RFC 6901) into the request; empty for the whole.
    pub fn note(&mut self, path: &str, message: &str) {
        if self.0.len() < PROBLEMS_MAX {
            self.0.push(Problem { path: path.to_owned(), message: message.to_owned() });
        }
    }

    pub fn finish(self) -> Vec<Problem> {
        self.0
    }
}

/// A part of what a client has sent, and where in it that stands. Where a text holds JSON itself, the pointer goes on
/// into that.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    path: String,
    value: &'a Value,
}

impl<'a> Request<'a> {
    /// The whole.
    pub fn whole(value: &'a Value) -> Self {
        Self::at(String::new(), value)
    }

    /// What was read from a text of the request.
    pub fn at(path: String, value: &'a Value) -> Self {
        Self { path, value }
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn value(&self) -> &'a Value {
        self.value
    }

    /// Notes something that is wrong with this part.
    pub fn note(&self, problems: &mut Problems, message: &str) {
        problems.note(&self.path, message);
    }

    /// Notes something that is wrong with an entry of this table, or that it is not there.
    pub fn note_entry(&self, key: &str, problems: &mut Problems, message: &str) {
        problems.note(&self.entry_path(key), message);
    }

    fn entry_path(&self, key: &str) -> String {
        self.path.clone() + &pointer(key)
    }

    /// An entry of this table; none where it is not given, or null.
    pub fn get(&self, key: &str) -> Option<Request<'a>> {
        let value = self.value.get(key).filter(|value| **value != Value::Null)?;
        Some(Self::at(self.entry_path(key), value))
    }

    /// A text that may be left out; empty then.
    pub fn text(&self, key: &str, problems: &mut Problems) -> String {
        let Some(entry) = self.get(key) else { return String::new() };
        match entry.value {
            Value::Text(text) => text.clone(),
            _ => {
                entry.note(problems, "must be a text");
                String::new()
            }
        }
    }

    /// A text that must be given, and not be empty.
    pub fn required_text(&self, key: &str, problems: &mut Problems) -> String {
        match self.get(key).map(|entry| entry.value) {
            Some(Value::Text(text)) if !text.is_empty() => text.clone(),
            _ => {
                self.note_entry(key, problems, "must be given, as a text that is not empty");
                String::new()
            }
        }
    }

    /// Whom to call: `service://orders/pay`, or a URL. May be left out or empty; then nobody is.
    pub fn target(&self, key: &str, problems: &mut Problems) -> Option<String> {
        let target = self.text(key, problems);
        if target.is_empty() {
            return None;
        }
        if !["service://", "http://", "https://"].iter().any(|scheme| target.starts_with(scheme)) {
            let message = "must be a URL of http or https, or service:// with a service's name and a path";
            self.note_entry(key, problems, message);
        }
        Some(target)
    }

    /// As `target`, where somebody has to be called.
    pub fn required_target(&self, key: &str, problems: &mut Problems) -> String {
        if matches!(self.get(key).map(|entry| entry.value), Some(Value::Text(text)) if !text.is_empty()) {
            return self.target(key, problems).unwrap_or_default();
        }
        self.note_entry(key, problems, "must be given, as the URL to call");
        String::new()
    }

    pub fn boolean(&self, key: &str, problems: &mut Problems) -> bool {
        match self.get(key) {
            None => false,
            Some(Request { value: Value::Boolean(value), .. }) => *value,
            Some(entry) => {
                entry.note(problems, "must be true or false");
                false
            }
        }
    }

    /// The elements of a list; none where it is left out.
    pub fn list(&self, key: &str, problems: &mut Problems) -> Vec<Request<'a>> {
        let Some(entry) = self.get(key) else { return Vec::new() };
        entry.elements(problems)
    }

    /// The elements of this list.
    pub fn elements(&self, problems: &mut Problems) -> Vec<Request<'a>> {
        let Value::List(values) = self.value else {
            self.note(problems, "must be a list");
            return Vec::new();
        };
        values.iter().enumerate().map(|(index, value)| Self::at(format!("{}/{index}", self.path), value)).collect()
    }

    /// As `list`, where there must be at least one, each of them an object, and at most [`BRANCHES_MAX`].
    pub fn entries(&self, key: &str, problems: &mut Problems) -> Vec<Request<'a>> {
        let mut entries = match self.get(key) {
            Some(entry) if !matches!(entry.value.list(), Some([])) => entry.elements(problems),
            _ => {
                self.note_entry(key, problems, "must be given, with at least one entry");
                Vec::new()
            }
        };
        if entries.len() > BRANCHES_MAX {
            self.note_entry(key, problems, &format!("must have at most {BRANCHES_MAX} entries"));
            entries.truncate(BRANCHES_MAX);
        }
        entries.retain(|entry| {
            let is_table = matches!(entry.value, Value::Table(_));
            if !is_table {
                entry.note(problems, "must be an object");
            }
            is_table
        });
        entries
    }

    /// Notes every key that is none of `known`.
    pub fn only(&self, known: &[&str], problems: &mut Problems) {
        let Value::Table(entries) = self.value else { return };
        for (key, _) in entries.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            self.note_entry(key, problems, &format!("unknown; known are {}", known.join(", ")));
        }
    }

    /// How many payloads the request has.
    pub fn payloads(&self, problems: &mut Problems) -> u32 {
        u32::try_from(self.list("payloads", problems).len()).unwrap_or(u32::MAX)
    }

    /// The payload of this entry, the `index`-th: the one that its `payload` says, else that of the same index where
    /// there is one.
    pub fn payload(&self, index: usize, payloads: u32, problems: &mut Problems) -> Option<u32> {
        let Some(entry) = self.get("payload") else {
            return u32::try_from(index).ok().filter(|index| *index < payloads);
        };
        let given = entry.value.integer().filter(|index| *index < payloads);
        if given.is_none() {
            entry.note(problems, &format!("must be an index into payloads, of which there are {payloads}"));
        }
        given
    }
}

/// `prepare`, `try`, …: an operation that the gateway asks for.
pub fn operation(name: &str, target: String, phase: Phase) -> Operation {
    Operation { name: name.to_owned(), target, phase, by_client: false }
}

/// The id of the `index`-th branch where the client gives none: as DTM's, from `01` on.
pub fn numbered(index: usize) -> String {
    format!("{:02}", index + 1)
}

/// The branches that a submission lists in `branches`, each with its three operations, of which `names` are those before
/// the decision, for the commit and for the abort: `{"service": "orders"}` is asked at `service://orders/<name>`, others
/// name a URL for each. An `id` and a `payload` may be given.
pub fn coordinated(request: &Request, names: [&str; 3], problems: &mut Problems) -> Vec<Branch> {
    let payloads = request.payloads(problems);
    let mut branches: Vec<Branch> = Vec::new();
    for (index, entry) in request.entries("branches", problems).iter().enumerate() {
        entry.only(&["service", names[0], names[1], names[2], "id", "payload"], problems);
        let phases = [Phase::Undecided, Phase::Committed, Phase::Aborted];
        let service = entry.get("service").map(|_| entry.required_text("service", problems));
        if service.is_some() && names.iter().any(|name| entry.get(name).is_some()) {
            entry.note(problems, "must have either a service or URLs of its own");
        }
        let target = |name: &str, problems: &mut Problems| match &service {
            Some(service) => format!("service://{service}/{name}"),
            None => entry.required_target(name, problems),
        };
        let operations =
            names.iter().zip(phases).map(|(name, phase)| operation(name, target(name, problems), phase)).collect();
        let given = entry.get("id").map(|_| entry.required_text("id", problems));
        let id = given.unwrap_or_else(|| numbered(index));
        if branches.iter().any(|branch| branch.id == id) {
            entry.note(problems, &format!("must have an id of its own: an earlier branch is called {id}"));
        }
        branches.push(Branch { id, operations, after: Vec::new(), payload: entry.payload(index, payloads, problems) });
    }
    branches
}

/// One branch that a client registers, under its `branch_id`. The same registered again adds nothing; something else
/// under an id that is taken is a problem.
pub fn registered(
    request: &Request,
    operations: Vec<Operation>,
    enlisted: &[Branch],
    problems: &mut Problems,
) -> Vec<Branch> {
    let id = request.required_text("branch_id", problems);
    if enlisted.len() >= BRANCHES_MAX {
        request.note(problems, &format!("a transaction has at most {BRANCHES_MAX} branches"));
    }
    match enlisted.iter().find(|branch| branch.id == id) {
        Some(known) if known.operations == operations => Vec::new(),
        Some(_) => {
            problems.note("/branch_id", &format!("must be new: a branch {id} is registered already, with other URLs"));
            Vec::new()
        }
        None => {
            let payload = request.get("data").map(|_| 0);
            vec![Branch { id, operations, after: Vec::new(), payload }]
        }
    }
}

/// A JSON object, as it came.
pub(super) fn parse(request: &str) -> Option<Value> {
    json::parse(request).filter(|value| matches!(value, Value::Table(_)))
}
