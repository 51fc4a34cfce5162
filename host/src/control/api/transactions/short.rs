//! `POST /transaction`: the smallest two-phase commit.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::Response,
};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{OUTCOME_WAIT, Outcome, Surface};
use crate::{
    control::api::{
        body::{Fields, json_object_within, text},
        parameters::Parameters,
        problem::Problem,
    },
    model::ServiceName,
    transactions::{FieldProblem, Gid, REQUEST_BYTES_MAX, Submission, TransactionError},
};

/// Every field that begins so names a participant.
const PARTICIPANT: &str = "service_";

/// The protocol by this name.
const PROTOCOL: &str = "two-phase-commit";

/// Any number of participants: each is a field whose name begins with `service_`.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the body, which is read field by field so that every problem is found")]
pub struct ShortTransaction {
    /// A service's name, or where its `/prepare`, `/commit` and `/abort` stand: `service://orders/stock`, or an http or
    /// https URL whose host is in `transactions.allow_hosts`.
    #[schema(example = "orders")]
    service_a: String,
    #[schema(example = "billing")]
    service_b: String,
    /// Sent to each of them.
    #[schema(value_type = Option<Object>)]
    payload: Option<Value>,
    /// One is made up where it is not given; with one, the same request once more is harmless.
    gid: Option<String>,
    /// After so many seconds without a decision it is aborted.
    timeout: Option<u64>,
}

/// Has each participant prepare, and then each commit, or each abort: `POST {participant}/prepare`, `/commit`, `/abort`.
/// Answers when that is done, or after 20 s (`wait`) that it goes on.
#[utoipa::path(post, path = "/transaction", tag = "transactions", request_body = ShortTransaction,
    params(("wait" = Option<String>, Query, description = "For its outcome, such as 10s")),
    responses((status = 200, body = Outcome, description = "every participant has committed"),
        (status = 409, body = Outcome, description = "every participant has aborted; or a problem: another transaction has this gid"),
        (status = 202, body = Outcome, description = "goes on"), (status = 413, body = Problem), (status = 422, body = Problem),
        (status = 503, body = Problem)))]
pub async fn commit(
    State(surface): State<Arc<Surface>>,
    parameters: Parameters,
    request: Request,
) -> Result<Response, Problem> {
    let wait = parameters.wait(OUTCOME_WAIT)?;
    let short = Short::read(json_object_within(request, REQUEST_BYTES_MAX).await?)?;
    let gid = short.gid.clone().unwrap_or_else(|| surface.coordinator.new_gid());
    let begun = match Submission::parse(short.submission(&gid)) {
        Ok(submission) => surface.coordinator.submit(submission).await,
        Err(error) => Err(error),
    };
    let status = begun.map_err(|error| short.in_its_own_words(error))?;
    Ok(surface.answer(&gid, status, wait).await?)
}

struct Short {
    gid: Option<Gid>,
    /// The fields' names, and where their paths begin.
    participants: Vec<(String, String)>,
    payload: Option<Value>,
    timeout_s: Option<u64>,
}

impl Short {
    fn read(mut body: Map<String, Value>) -> Result<Self, Problem> {
        body.retain(|_, value| !value.is_null());
        let names: Vec<_> = body.keys().filter(|name| name.starts_with(PARTICIPANT)).cloned().collect();
        let mut fields = Fields::of(body);
        let mut participants = Vec::new();
        for name in &names {
            participants.extend(fields.required(name, base).map(|base| (name.clone(), base)));
        }
        if names.is_empty() {
            fields.required("service_a", base);
        }
        let gid = fields.optional("gid", text);
        let payload = fields.take("payload");
        let timeout_s = fields.optional("timeout", |value| {
            let seconds = value.as_u64().filter(|seconds| *seconds > 0);
            seconds.ok_or_else(|| "must be a whole number of seconds, at least 1".to_owned())
        });
        fields.finish()?;
        Ok(Self { gid, participants, payload, timeout_s })
    }

    /// In DTM's fields.
    fn submission(&self, gid: &Gid) -> Value {
        let branches = self.participants.iter().map(|(_, base)| {
            let mut branch = json!({
                "prepare": format!("{base}/prepare"),
                "commit": format!("{base}/commit"),
                "abort": format!("{base}/abort"),
            });
            if self.payload.is_some() {
                branch["payload"] = 0.into();
            }
            branch
        });
        let mut submission = json!({"gid": gid, "trans_type": PROTOCOL, "branches": branches.collect::<Vec<_>>()});
        if let Some(payload) = &self.payload {
            // As text, so that a JSON string stays one.
            submission["payloads"] = json!([payload.to_string()]);
        }
        if let Some(timeout_s) = self.timeout_s {
            submission["timeout_to_fail"] = timeout_s.into();
        }
        submission
    }

    /// The coordinator's pointers are into what it was given: here they become those of the fields that were sent, each
    /// told once.
    fn in_its_own_words(&self, error: TransactionError) -> TransactionError {
        let TransactionError::Invalid(problems) = error else { return error };
        let mut told: Vec<FieldProblem> = Vec::new();
        for FieldProblem { pointer, message } in problems {
            let mut parts = pointer.split('/').skip(1);
            let pointer = match (parts.next(), parts.next().and_then(|index| index.parse::<usize>().ok())) {
                (Some("branches"), Some(index)) => {
                    self.participants.get(index).map_or(String::new(), |(name, _)| format!("/{name}"))
                }
                (Some("timeout_to_fail"), _) => "/timeout".to_owned(),
                (Some("payloads"), _) => "/payload".to_owned(),
                (Some("trans_type" | "branches"), _) => String::new(),
                _ => pointer,
            };
            if pointer.is_empty() || told.iter().all(|told| told.pointer != pointer) {
                told.push(FieldProblem::new(pointer, message));
            }
        }
        TransactionError::Invalid(told)
    }
}

/// Where a participant's paths begin.
fn base(value: Value) -> Result<String, String> {
    let wanted = "must be a service's name, service://NAME/PATH, or an http or https URL";
    let Value::String(given) = value else { return Err(wanted.to_owned()) };
    if !given.contains("://") {
        let name: ServiceName = given.parse().map_err(|error| format!("{wanted}; as a name: {error}"))?;
        return Ok(format!("service://{name}"));
    }
    let known = ["service://", "http://", "https://"].iter().any(|scheme| given.starts_with(scheme));
    if !known || given.contains(['?', '#']) {
        return Err(format!("{wanted}, without ? and #"));
    }
    Ok(given.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(body: Value) -> Result<Short, Problem> {
        let Value::Object(body) = body else { panic!("an object") };
        Short::read(body)
    }

    #[test]
    fn participants_are_services_or_where_their_paths_begin() {
        let short = short(json!({
            "service_a": "orders", "service_b": "http://b:1/x/", "service_stock": "service://stock/v2", "payload": "p",
            "timeout": 7, "gid": null,
        }));
        let submission = short.expect("it is right").submission(&"g".parse().expect("a gid"));
        assert_eq!(
            submission,
            json!({"gid": "g", "trans_type": "two-phase-commit", "timeout_to_fail": 7, "payloads": ["\"p\""], "branches": [
                {"prepare": "service://orders/prepare", "commit": "service://orders/commit", "abort": "service://orders/abort", "payload": 0},
                {"prepare": "http://b:1/x/prepare", "commit": "http://b:1/x/commit", "abort": "http://b:1/x/abort", "payload": 0},
                {"prepare": "service://stock/v2/prepare", "commit": "service://stock/v2/commit", "abort": "service://stock/v2/abort", "payload": 0},
            ]})
        );
    }

    #[test]
    fn everything_that_is_wrong_is_told_with_its_field() {
        let told = |body: Value| {
            let problem = short(body).err().expect("it is wrong");
            problem.problems.into_iter().map(|problem| problem.pointer).collect::<Vec<_>>()
        };
        let wrong = json!({
            "service_a": 7, "service_b": "a b", "service_c": "ftp://x", "service_d": "http://x?y", "gid": "a/b",
            "timeout": 0, "colour": "red",
        });
        let pointers = ["/service_a", "/service_b", "/service_c", "/service_d", "/gid", "/timeout", "/colour"];
        assert_eq!(told(wrong), pointers);
        assert_eq!(told(json!({})), [""], "no participant");
    }

    #[test]
    fn what_the_coordinator_says_is_told_of_the_fields_that_were_sent() {
        let short = short(json!({"service_a": "a", "service_b": "b"})).expect("it is right");
        let of = |pointer: &str| FieldProblem::new(pointer, "no");
        let error = TransactionError::Invalid(vec![of("/branches/1/prepare"), of("/branches/1/commit"), of("/gid")]);
        let TransactionError::Invalid(told) = short.in_its_own_words(error) else { panic!("still invalid") };
        assert_eq!(told, [of("/service_b"), of("/gid")]);
    }
}
