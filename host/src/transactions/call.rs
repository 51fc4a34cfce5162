//! A call to a participant, and what its answer means: DTM's conventions.

use std::{future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::{Gid, submission::CallOptions};
use crate::model::transaction::{Branch, Operation};

/// Of a participant's answer, as much as is read: what it means stands in its status, and why in the first of it.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Of a participant's words, as much as is kept.
const REASON_LEN_MAX: usize = 300;

/// The operation by which DTM's clients ask what has become of a message: a GET.
const QUERY: &str = "query_prepared";

/// In DTM's words, the parameter `op` of that query is the kind of the transaction.
const QUERY_OP: &str = "msg";

/// What an operation's name may bring into a query.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// One attempt of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchCall {
    /// Not repeated by itself after it may have arrived.
    pub method: http::Method,
    /// With the parameters that say whose call this is.
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    pub timeout: Duration,
}

impl BranchCall {
    pub fn new(
        gid: &Gid,
        protocol: &str,
        (branch, operation): (&Branch, &Operation),
        body: Bytes,
        options: &CallOptions,
    ) -> Self {
        let is_query = operation.name == QUERY;
        let encode = |text| utf8_percent_encode(text, UNRESERVED);
        let op = if is_query { QUERY_OP } else { &operation.name };
        // What stands behind a # is never sent.
        let target = operation.target.split('#').next().unwrap_or_default();
        let url = format!(
            "{target}{}gid={}&trans_type={}&branch_id={}&op={}",
            if target.contains('?') { '&' } else { '?' },
            encode(gid.as_str()),
            encode(protocol),
            encode(&branch.id),
            encode(op),
        );
        let mut headers: Vec<_> = options.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        if !is_query && !options.headers.contains_key("content-type") {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        Self {
            method: if is_query { http::Method::GET } else { http::Method::POST },
            url,
            headers,
            body: if is_query { Bytes::new() } else { body },
            timeout: options.request_timeout(),
        }
    }
}

/// A participant's answer, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawAnswer {
    pub status: StatusCode,
    /// At most [`ANSWER_BYTES_MAX`].
    pub body: Bytes,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallAnswer {
    Succeeded,
    /// It said no, and why.
    Refused(String),
    /// It is still at it, and is asked again.
    Ongoing,
    /// No clear answer, and why: it may have run.
    Unclear(String),
}

impl CallAnswer {
    /// 2xx: done; 409: no; 425: still at it; anything else: asked again. Older participants say the same in a body whose
    /// `dtm_result` is `SUCCESS`, `FAILURE` or `ONGOING`.
    pub fn of(answer: &RawAnswer) -> Self {
        let result = dtm_result(&answer.body);
        let said = || match excerpt(&answer.body) {
            nothing if nothing.is_empty() => answer.status.to_string(),
            words => format!("{}: {words}", answer.status),
        };
        match (answer.status.as_u16(), result.as_deref()) {
            (409, _) | (200..=299, Some("FAILURE")) => Self::Refused(said()),
            (425, _) | (200..=299, Some("ONGOING")) => Self::Ongoing,
            (200..=299, _) => Self::Succeeded,
            _ => Self::Unclear(said()),
        }
    }
}

fn dtm_result(body: &[u8]) -> Option<String> {
    match serde_json::from_slice(body).ok()? {
        Value::Object(mut answer) => match answer.remove("dtm_result")? {
            Value::String(result) => Some(result),
            _ => None,
        },
        _ => None,
    }
}

/// In one line.
pub fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(REASON_LEN_MAX)]);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

pub type Answered = Pin<Box<dyn Future<Output = CallAnswer> + Send>>;

/// Makes calls to participants.
pub trait BranchCaller: Send + Sync + 'static {
    /// Ends within the call's timeout, about. Dropped, it is given up, and may have arrived all the same.
    fn call(&self, call: BranchCall) -> Answered;

    /// What is wrong with a target, if it is one that is never called: not a URL, no such service, not allowed.
    fn check(&self, target: &str) -> Result<(), String>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::transaction::Phase;

    fn call(target: &str, name: &str) -> BranchCall {
        let operation =
            Operation { name: name.to_owned(), target: target.to_owned(), phase: Phase::Undecided, by_client: false };
        let branch = Branch { id: "01".to_owned(), operations: vec![operation.clone()], after: vec![], payload: None };
        let gid = "a+b@c".parse().expect("a gid");
        BranchCall::new(&gid, "saga", (&branch, &operation), "{}".into(), &CallOptions::default())
    }

    #[test]
    fn a_call_says_whose_it_is() {
        let made = call("service://orders/reserve", "action");
        assert_eq!(made.url, "service://orders/reserve?gid=a%2Bb%40c&trans_type=saga&branch_id=01&op=action");
        assert_eq!((made.method.as_str(), &made.body[..]), ("POST", &b"{}"[..]));
        assert_eq!(call("http://a/b?c=d#e", "x").url, "http://a/b?c=d&gid=a%2Bb%40c&trans_type=saga&branch_id=01&op=x");
        let query = call("http://a/q", "query_prepared");
        assert!(query.method == "GET" && query.body.is_empty() && query.url.ends_with("&op=msg"), "{query:?}");
    }

    #[test]
    fn an_answer_means_what_dtm_says_it_means() {
        let of = |status: u16, body: &'static str| {
            CallAnswer::of(&RawAnswer { status: StatusCode::from_u16(status).expect("a status"), body: body.into() })
        };
        for (status, body) in [(200, ""), (204, ""), (200, "{\"dtm_result\":\"SUCCESS\"}"), (200, "no FAILURE here")] {
            assert_eq!(of(status, body), CallAnswer::Succeeded, "{status} {body}");
        }
        assert_eq!(of(409, "no stock\nleft"), CallAnswer::Refused("409 Conflict: no stock left".to_owned()));
        assert_eq!(of(409, ""), CallAnswer::Refused("409 Conflict".to_owned()));
        assert!(matches!(of(200, "{\"dtm_result\": \"FAILURE\"}"), CallAnswer::Refused(_)));
        assert_eq!(of(425, ""), CallAnswer::Ongoing);
        assert_eq!(of(200, "{\"dtm_result\":\"ONGOING\"}"), CallAnswer::Ongoing);
        for status in [301, 400, 404, 500, 503] {
            assert!(matches!(of(status, "?"), CallAnswer::Unclear(_)), "{status}");
        }
    }
}
