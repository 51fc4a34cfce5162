//! The flows that crash tests send: each protocol, to its end or refused on the way.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use sluice_harness::{Answer, Client, Participants, wait_for};

pub const PROTOCOLS: [&str; 4] = ["two-phase-commit", "saga", "tcc", "message"];

/// How long a transaction may take to end when everything works: attempts are a second apart at first.
pub const END_DEADLINE: Duration = Duration::from_secs(60);

/// One transaction that a client wants.
#[derive(Clone, Debug)]
pub struct Flow {
    pub protocol: &'static str,
    pub gid: String,
    pub succeeds: bool,
}

/// A client's request that got no answer: the gateway is gone.
pub struct Gone;

impl Flow {
    pub fn new(protocol: &'static str, gid: String, succeeds: bool) -> Self {
        Self { protocol, gid, succeeds }
    }

    /// All that the client does. `base` is where the participants are: a URL, or `service://NAME`. Whether any of it was
    /// acknowledged; repeated, it is the same transaction.
    pub fn run(&self, client: &Client, base: &str, participants: &Participants) -> Result<bool, Gone> {
        match self.protocol {
            "tcc" => self.tcc(client, base, participants),
            "message" => self.message(client, base, participants),
            _ => self.submit(client, &self.coordinated(base)).map(|_| true),
        }
    }

    /// As a client says it once more.
    pub fn coordinated(&self, base: &str) -> Value {
        let second = if self.succeeds { "b" } else { "refuse" };
        let (one, other) = (format!("{base}/a"), format!("{base}/{second}"));
        match self.protocol {
            "saga" => json!({
                "gid": self.gid, "trans_type": "saga", "payloads": ["{}", "{}"],
                "steps": [{"action": one, "compensate": one}, {"action": other, "compensate": other}],
            }),
            "message" => json!({
                "gid": self.gid, "trans_type": "message", "payloads": ["{}", "{}"], "timeout_to_fail": 1,
                "steps": [{"action": one}, {"action": format!("{base}/b")}], "query_prepared": format!("{base}/query"),
            }),
            "tcc" => json!({"gid": self.gid, "trans_type": "tcc", "timeout_to_fail": 2}),
            _ => json!({
                "gid": self.gid, "trans_type": self.protocol, "payloads": ["{}", "{}"],
                "branches": [
                    {"prepare": one, "commit": one, "abort": one}, {"prepare": other, "commit": other, "abort": other},
                ],
            }),
        }
    }

    /// The client makes the tries itself, and submits or aborts by what comes of them.
    fn tcc(&self, client: &Client, base: &str, participants: &Participants) -> Result<bool, Gone> {
        let request = self.coordinated(base);
        self.post(client, "prepare", &request)?;
        for branch in ["01", "02"] {
            let enlistment = json!({
                "gid": self.gid, "trans_type": "tcc", "branch_id": branch, "data": "{}",
                "confirm": format!("{base}/a"), "cancel": format!("{base}/a"),
            });
            // Refused where it has been decided meanwhile: then no try is made.
            if self.post(client, "registerBranch", &enlistment)?.status != 200 {
                return Ok(true);
            }
            let refused = branch == "02" && !self.succeeds;
            if refused || !participants.client_tries(&self.gid, branch) {
                self.post(client, "abort", &request)?;
                return Ok(true);
            }
        }
        self.submit(client, &request).map(|_| true)
    }

    fn message(&self, client: &Client, base: &str, participants: &Participants) -> Result<bool, Gone> {
        let request = self.coordinated(base);
        self.post(client, "prepare", &request)?;
        if self.succeeds {
            participants.sender_sends(&self.gid);
            self.submit(client, &request)?;
        }
        // Else the sender fails without a word, and is asked for it.
        Ok(true)
    }

    fn submit(&self, client: &Client, request: &Value) -> Result<Answer, Gone> {
        self.post(client, "submit", request)
    }

    fn post(&self, client: &Client, what: &str, request: &Value) -> Result<Answer, Gone> {
        let path = format!("/api/dtmsvr/{what}");
        let headers = [("content-type", "application/json")];
        let answer =
            client.try_send(Method::POST, &path, &headers, request.to_string().into_bytes()).map_err(|_| Gone)?;
        // Whatever is refused is refused for a reason: a gateway that cannot is one that has not acknowledged.
        assert!(answer.status.as_u16() < 500, "{what} of {self:?}: {answer}");
        Ok(answer)
    }

    /// Where it stands in the end; None where the gateway has never heard of it.
    pub fn await_end(&self, control: &Client) -> Option<String> {
        wait_for(&format!("{self:?} to end"), END_DEADLINE, || {
            let answer = control.get(&format!("/transactions/{}", self.gid));
            if answer.status == 404 {
                return Some(None);
            }
            let status = answer.expect(200).json()["status"].as_str().expect("a status").to_owned();
            ["succeeded", "failed", "hazard", "stopped"].contains(&&*status).then_some(Some(status))
        })
    }

    /// That the ledgers are what this end calls for.
    pub fn check(&self, end: Option<&str>, participants: &Participants) {
        let ledger = participants.ledger(&self.gid);
        let calls = || participants.calls_of(&self.gid);
        let all = |holds: &dyn Fn(&sluice_harness::participants::Entry) -> bool| ledger.values().all(holds);
        let right = match end {
            Some("succeeded") if self.protocol == "saga" => {
                ledger.len() == 2 && all(&|entry| entry.done && !entry.undone)
            }
            Some("succeeded") => ledger.len() == 2 && all(&|entry| entry.confirmed),
            Some("failed") => all(&|entry| !entry.confirmed && (!entry.done || entry.undone)),
            None => ledger.is_empty(),
            _ => false,
        };
        assert!(right, "{self:?} ended as {end:?} with {ledger:?} after {:#?}", calls());
        assert!(self.succeeds || end != Some("succeeded"), "{self:?} succeeded");
    }
}
