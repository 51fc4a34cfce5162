//! The gateway's coordinator, as the shop asks it: one order, three participants, three protocols.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use crate::{
    events,
    participant::Part,
    reply::{Refusal, Reply},
    services::Service,
};

/// Reserve, charge, record: what may say no comes first.
const PARTICIPANTS: [Service; 3] = [Service::Inventory, Service::Payments, Service::Orders];

/// An order that has not been decided by then is undone.
const DECIDED_WITHIN_S: u64 = 30;

/// How long a customer waits for the outcome; what takes longer goes on without anybody waiting.
const WAIT_S: u64 = 10;

/// Of the whole call: the outcome's, and some for the way.
const CALL_TIMEOUT: Duration = Duration::from_secs(WAIT_S + 5);

/// How an order's parts are brought to agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    TwoPhaseCommit,
    TryConfirmCancel,
    Saga,
}

/// An order as a transaction: the same body each time, by which the coordinator knows it again.
#[derive(Debug)]
pub struct Submission {
    gid: String,
    body: Value,
}

/// How a transaction stood when nobody waited any longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Committed,
    /// Nothing of it is left, and why.
    Aborted(String),
    /// It goes on by itself; the coordinator's word for where it stands.
    Open(String),
}

#[derive(Debug)]
pub struct Coordinator {
    agent: ureq::Agent,
    /// The gateway's control listener: `http://host:port`.
    control: String,
}

impl Coordinator {
    pub fn new(control: String) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(CALL_TIMEOUT))
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .into();
        Self { agent, control }
    }

    /// The transaction is there from now on, and does nothing yet. If nobody submits it, it fails when its time is over.
    pub fn prepare(&self, submission: &Submission) -> Reply<()> {
        self.send(submission, "prepare=true").map(|_| ())
    }

    /// Has it carried out, and waits for the outcome, for a while.
    pub fn outcome(&self, submission: &Submission) -> Reply<Verdict> {
        self.send(submission, &format!("wait={WAIT_S}s"))
    }

    /// Has it carried out, whoever is there to see it.
    pub fn submit(&self, submission: &Submission) -> Reply<Verdict> {
        self.send(submission, "")
    }

    fn send(&self, Submission { gid, body }: &Submission, query: &str) -> Reply<Verdict> {
        let url = format!("{}/transactions?{query}", self.control);
        let answer = self.agent.post(url).content_type("application/json").send(body.to_string());
        let (_, body) = self.read(gid, answer)?;
        verdict(&body).ok_or_else(|| {
            let detail = body["detail"].as_str().unwrap_or("no reason is given");
            Refusal::new(StatusCode::BAD_GATEWAY, format!("the coordinator does not take the order: {detail}"))
        })
    }

    /// How a transaction stands; none where there is none.
    pub fn standing(&self, gid: &str) -> Reply<Option<Verdict>> {
        let answer = self.agent.get(format!("{}/transactions/{gid}", self.control)).call();
        let (status, body) = self.read(gid, answer)?;
        match verdict(&body) {
            None if status == StatusCode::NOT_FOUND => Ok(None),
            None => Err(Refusal::new(StatusCode::BAD_GATEWAY, format!("the coordinator answered {status}"))),
            standing => Ok(standing),
        }
    }

    fn read(
        &self,
        gid: &str,
        answer: Result<axum::http::Response<ureq::Body>, ureq::Error>,
    ) -> Reply<(StatusCode, Value)> {
        let unclear = |why: &dyn std::fmt::Display| {
            let detail = format!("how transaction {gid} stands, {}/transactions/{gid} knows: {why}", self.control);
            Refusal::new(StatusCode::BAD_GATEWAY, detail)
        };
        let mut answer = answer.map_err(|error| unclear(&error))?;
        let body = answer.body_mut().read_json().map_err(|error| unclear(&error))?;
        Ok((answer.status(), body))
    }
}

impl Protocol {
    pub const ALL: [Self; 3] = [Self::TwoPhaseCommit, Self::TryConfirmCancel, Self::Saga];

    /// As customers say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::TwoPhaseCommit => "2pc",
            Self::TryConfirmCancel => "tcc",
            Self::Saga => "saga",
        }
    }
}

impl Submission {
    /// With the events that its decision appends. `headers` go with each of its calls.
    pub fn new(protocol: Protocol, part: &Part, headers: Map<String, Value>) -> Self {
        let gid = events::stream_of(&part.order);
        let names = PARTICIPANTS.map(Service::name);
        let (trans_type, field, participants) = match protocol {
            Protocol::TwoPhaseCommit => ("two-phase-commit", "branches", names.map(branch)),
            Protocol::TryConfirmCancel => ("tcc", "branches", names.map(branch)),
            Protocol::Saga => ("saga", "steps", names.map(step)),
        };
        let event = |event_type: &str, data: Value| json!([{ "type": event_type, "stream": gid, "data": data }]);
        let mut body = json!({
            "gid": gid,
            "trans_type": trans_type,
            "payloads": [part],
            "timeout_to_fail": DECIDED_WITHIN_S,
            "branch_headers": headers,
            "events": {
                "committed": event(events::CONFIRMED, json!({ "transaction": gid, "total_cents": part.price_cents })),
                "aborted": event(events::FAILED, json!({ "transaction": gid })),
            },
        });
        body[field] = participants.to_vec().into();
        Self { gid, body }
    }
}

/// `service://NAME/prepare`, `/commit` and `/abort`, or `/try`, `/confirm` and `/cancel`, as the protocol calls them.
fn branch(service: &str) -> Value {
    json!({ "service": service, "payload": 0 })
}

fn step(service: &str) -> Value {
    let target = |op: &str| format!("service://{service}/{op}");
    json!({ "action": target("action"), "compensate": target("compensate"), "payload": 0 })
}

/// None where it is no transaction's state, but a problem document.
fn verdict(body: &Value) -> Option<Verdict> {
    let reason = || body["reason"].as_str().unwrap_or("no reason is given").to_owned();
    Some(match body["status"].as_str()? {
        "succeeded" => Verdict::Committed,
        "failed" => Verdict::Aborted(reason()),
        other => Verdict::Open(other.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_submitted_to_all_three_participants_whatever_the_protocol() {
        let part = Part {
            order: "1".to_owned(),
            sku: "tea".to_owned(),
            quantity: 2,
            price_cents: 1_780,
            card: String::new(),
            taken_by: "orders-1".to_owned(),
        };
        for (protocol, trans_type, third) in [
            (Protocol::TwoPhaseCommit, "two-phase-commit", json!({"service": "orders", "payload": 0})),
            (Protocol::TryConfirmCancel, "tcc", json!({"service": "orders", "payload": 0})),
            (
                Protocol::Saga,
                "saga",
                json!({
                    "action": "service://orders/action", "compensate": "service://orders/compensate", "payload": 0,
                }),
            ),
        ] {
            let Submission { gid, body: submission } = Submission::new(protocol, &part, Map::new());
            assert_eq!((gid.as_str(), &submission["gid"]), ("order-1", &json!("order-1")));
            assert_eq!(submission["events"]["committed"][0]["data"]["total_cents"], 1_780);
            assert_eq!(submission["events"]["aborted"][0]["stream"], "order-1");
            assert_eq!(submission["trans_type"], trans_type);
            let field = if protocol == Protocol::Saga { "steps" } else { "branches" };
            assert_eq!(submission[field].as_array().map(Vec::len), Some(3));
            assert_eq!(submission[field][2], third);
            assert_eq!(submission["payloads"][0], serde_json::to_value(&part).expect("it is plain"));
        }
    }

    #[test]
    fn an_answer_says_what_has_become_of_it_or_that_it_was_not_taken() {
        assert_eq!(verdict(&json!({"gid": "g", "status": "succeeded"})), Some(Verdict::Committed));
        let failed = json!({"gid": "g", "status": "failed", "reason": "sold out"});
        assert_eq!(verdict(&failed), Some(Verdict::Aborted("sold out".to_owned())));
        for open in ["aborting", "committing", "hazard"] {
            assert_eq!(verdict(&json!({ "status": open })), Some(Verdict::Open(open.to_owned())));
        }
        assert_eq!(verdict(&json!({"status": 422, "detail": "the body is wrong"})), None);
    }
}
