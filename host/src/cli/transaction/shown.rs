//! One transaction as people see it.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::cli::output::table;

/// Of a participant's words, as much as a line shows.
const SHOWN_LEN_MAX: usize = 120;

/// `GET /transactions/{gid}`, as far as it is shown.
#[derive(Deserialize)]
pub(super) struct Details {
    gid: String,
    protocol: String,
    status: String,
    plugin: String,
    version: String,
    created_at: String,
    updated_at: String,
    reason: Option<String>,
    expires_at: Option<String>,
    held_up: Option<String>,
    branches: Vec<Branch>,
    events: Vec<Event>,
    events_left_out: u64,
}

#[derive(Deserialize)]
struct Branch {
    id: String,
    operations: Vec<Operation>,
}

#[derive(Deserialize)]
struct Operation {
    op: String,
    target: String,
    by_client: bool,
    progress: String,
    reason: Option<String>,
    attempts: Option<u32>,
    last_error: Option<String>,
    next_at: Option<String>,
}

#[derive(Deserialize)]
struct Event {
    at: String,
    what: String,
    #[serde(flatten)]
    more: Map<String, Value>,
}

impl Details {
    pub fn in_words(&self) -> String {
        let reason = self.reason.iter().map(|reason| format!(": {}", one_line(reason)));
        let first = format!("transaction {} ({}) is {}", self.gid, self.protocol, self.status);
        let mut lines = vec![
            std::iter::once(first).chain(reason).collect(),
            format!("begun {}, last changed {}", self.created_at, self.updated_at),
            format!("plugin {}, version {}", self.plugin, self.version),
        ];
        lines.extend(self.expires_at.iter().map(|at| format!("expires {at}")));
        lines.extend(self.held_up.iter().map(|why| format!("held up: {}", one_line(why))));
        lines.push(String::new());
        let branches = self.branches.iter().flat_map(|branch| branch.operations.iter().map(|it| row(&branch.id, it)));
        let heading = ["BRANCH", "OPERATION", "PROGRESS", "ATTEMPTS", "NEXT", "TARGET", "LAST SAID"];
        lines.push(table(heading, &branches.collect::<Vec<_>>()));
        lines.push(String::new());
        let events: Vec<_> = self.events.iter().map(|event| [event.at.clone(), event.in_words()]).collect();
        lines.push(table(["WHEN", "WHAT"], &events));
        if self.events_left_out > 0 {
            lines.push(format!("({} later events were not kept)", self.events_left_out));
        }
        lines.join("\n")
    }
}

fn row(branch: &str, operation: &Operation) -> [String; 7] {
    let Operation { op, target, by_client, progress, reason, attempts, last_error, next_at } = operation;
    let said = last_error.as_ref().or(reason.as_ref()).map(|said| one_line(said));
    [
        branch.to_owned(),
        op.clone(),
        progress.clone(),
        attempts.map(|attempts| attempts.to_string()).unwrap_or_default(),
        next_at.clone().unwrap_or_default(),
        if *by_client { "(the client)".to_owned() } else { target.clone() },
        said.unwrap_or_default(),
    ]
}

impl Event {
    /// Its name, and whatever it is about in the order in which people say it.
    fn in_words(&self) -> String {
        let about = ["branch", "operation", "decision", "ending", "why", "reason"];
        let about = about.iter().filter_map(|field| self.more.get(*field)?.as_str()).map(one_line);
        std::iter::once(self.what.replace('-', " ")).chain(about).collect::<Vec<_>>().join(" ")
    }
}

/// What others said, so that it stays in its line and moves no cursor.
pub(super) fn one_line(text: &str) -> String {
    let end = text.floor_char_boundary(SHOWN_LEN_MAX);
    let shown: String = text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if end < text.len() { format!("{shown}…") } else { shown }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_transaction_is_told_in_words() {
        let details = Details::deserialize(json!({
            "gid": "g", "protocol": "saga", "status": "aborting", "plugin": "saga", "version": "0123456789ab",
            "created_at": "T1", "updated_at": "T2", "reason": "branch 02 refused action: 409 Conflict: no\nstock",
            "events_left_out": 0,
            "branches": [{"id": "01", "after": [], "operations": [
                {"op": "compensate", "target": "service://a/undo", "phase": "aborted", "by_client": false,
                 "progress": "running", "attempts": 2, "last_error": "503", "next_at": "T3"}]}],
            "events": [{"at": "T1", "what": "begun"}, {"at": "T2", "what": "decided", "decision": "abort"}],
        }));
        let text = details.expect("the API's own shape").in_words();
        assert_eq!(
            text,
            "transaction g (saga) is aborting: branch 02 refused action: 409 Conflict: no stock\n\
             begun T1, last changed T2\n\
             plugin saga, version 0123456789ab\n\n\
             BRANCH  OPERATION   PROGRESS  ATTEMPTS  NEXT  TARGET            LAST SAID\n\
             01      compensate  running   2         T3    service://a/undo  503\n\n\
             WHEN  WHAT\n\
             T1    begun\n\
             T2    decided abort"
        );
    }

    #[test]
    fn what_others_said_stays_in_its_line() {
        assert_eq!(one_line("a\u{1b}[2J\nb"), "a [2J b");
        assert_eq!(one_line(&"é".repeat(100)).chars().count(), 61);
    }
}
