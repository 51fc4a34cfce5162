//! What a service answers: JSON, or a problem document (RFC 9457).

use std::{fmt, io};

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

/// Why a service says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    pub detail: String,
}

pub type Reply<T> = Result<T, Refusal>;

impl Refusal {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into() }
    }

    pub fn not_found(what: &str, id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no {what} {id:?}"))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the store: {error}"))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Refused");
        let problem = json!({ "title": title, "status": self.status.as_u16(), "detail": self.detail });
        (self.status, [(header::CONTENT_TYPE, "application/problem+json")], problem.to_string()).into_response()
    }
}

/// Runs what blocks (files, calls to other services) off the threads that serve connections.
pub async fn blocking<T, F>(status: StatusCode, work: F) -> Response
where
    T: serde::Serialize,
    F: FnOnce() -> Reply<T> + Send + 'static,
{
    answering(move || Ok((status, Json(work()?)).into_response())).await
}

/// As [`blocking`], where the work knows the whole answer.
pub async fn answering<F>(work: F) -> Response
where
    F: FnOnce() -> Reply<Response> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(response)) => response,
        Ok(Err(refusal)) => refusal.into_response(),
        Err(_) => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the service failed inside").into_response(),
    }
}
