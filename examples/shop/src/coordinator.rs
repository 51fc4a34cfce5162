//! The gateway's coordinator, as the shop asks it: one order, three participants, three protocols.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use crate::{
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub enum Protocol {
    #[serde(rename = "2pc")]
    TwoPhaseCommit,
    #[serde(rename = "tcc")]
    TryConfirmCancel,
    #[serde(rename = "saga")]
    Saga,
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

    /// Waits for the outcome, for a while. `headers` go with each of its calls.
    pub fn run(&self, gid: &str, protocol: Protocol, part: &Part, headers: Map<String, Value>) -> Reply<Verdict> {
        let unclear = |why: &dyn std::fmt::Display| {
            let detail =
                format!("whether transaction {gid} has begun, {}/transactions/{gid} knows: {why}", self.control);
            Refusal::new(StatusCode::BAD_GATEWAY, detail)
        };
        let mut submission = submission(gid, protocol, part);
        submission["branch_headers"] = headers.into();
        let url = format!("{}/transactions?wait={WAIT_S}s", self.control);
        let answer = self.agent.post(url).content_type("application/json").send(submission.to_string());
        let mut answer = answer.map_err(|error| unclear(&error))?;
        let body: Value = answer.body_mut().read_json().map_err(|error| unclear(&error))?;
        verdict(&body).ok_or_else(|| {
            let detail = body["detail"].as_str().unwrap_or("no reason is given");
            Refusal::new(StatusCode::BAD_GATEWAY, format!("the coordinator does not take the order: {detail}"))
        })
    }
}

fn submission(gid: &str, protocol: Protocol, part: &Part) -> Value {
    let names = PARTICIPANTS.map(Service::name);
    let (trans_type, field, participants) = match protocol {
        Protocol::TwoPhaseCommit => ("two-phase-commit", "branches", names.map(branch)),
        Protocol::TryConfirmCancel => ("tcc", "branches", names.map(branch)),
        Protocol::Saga => ("saga", "steps", names.map(step)),
    };
    let mut submission = json!({
        "gid": gid,
        "trans_type": trans_type,
        "payloads": [part],
        "timeout_to_fail": DECIDED_WITHIN_S,
    });
    submission[field] = participants.to_vec().into();
    submission
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
            let submission = submission("g", protocol, &part);
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
