//! A refusal as HTTP says it: a problem document (RFC 9457).

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::control::change::{ChangeProblem, Refusal};

/// Whatever keeps the gateway from doing something for now is over in seconds, or somebody has to look.
const RETRY_AFTER_S: &str = "1";

/// `application/problem+json`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// The status' own words.
    pub title: String,
    pub status: u16,
    /// One sentence on this very request.
    pub detail: String,
    /// Everything that is wrong, where it is more than the detail says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<ChangeProblem>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<Box<RevisionConflict>>,
}

/// A stream of events that is not where it was expected.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RevisionConflict {
    pub stream: String,
    /// As it was sent: none, exists, or a revision.
    pub expected_revision: String,
    /// Of the stream's last event; null where it never had one.
    pub actual_revision: Option<u64>,
}

impl Problem {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self::with_problems(status, detail, Vec::new())
    }

    pub fn with_problems(status: StatusCode, detail: impl Into<String>, problems: Vec<ChangeProblem>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error").to_owned();
        Self { title, status: status.as_u16(), detail: detail.into(), problems, conflict: None }
    }

    #[must_use]
    pub fn of(mut self, conflict: RevisionConflict) -> Self {
        self.conflict = Some(Box::new(conflict));
        self
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::NotFound(_) => StatusCode::NOT_FOUND,
            Refusal::Conflict(_) => StatusCode::CONFLICT,
            Refusal::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Refusal::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        };
        let detail = refusal.to_string();
        let problems = if let Refusal::Invalid { problems, .. } = refusal { problems } else { Vec::new() };
        Self::with_problems(status, detail, problems)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).expect("made from a status");
        let body = serde_json::to_vec(&self).expect("plain values are JSON");
        let mut response = (status, body).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
        }
        response
    }
}
