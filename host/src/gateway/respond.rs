//! When the gateway itself answers: a problem document (RFC 9457) that names the stage that failed and the
//! request's id.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::{
    attempt::Cause,
    body::{BodyError, ResponseBody},
    guard::Refusal,
    path::PathError,
    upstream::ConnectError,
};
use crate::{model::ServiceName, telemetry::trace_context::X_REQUEST_ID};

/// Why a request was not answered by an endpoint. Converted to HTTP here and nowhere else.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Refused(Refusal),
    #[error("{0}")]
    Path(#[from] PathError),
    #[error("the request has passed this gateway too often")]
    Loop,
    #[error("no route for this host and path")]
    NoRoute,
    #[error("the routes for this path take {allow}, not this method")]
    MethodNotAllowed { allow: String },
    #[error("there is no service {0}")]
    NoService(ServiceName),
    #[error("service {0} has no endpoint to give")]
    NoEndpoint(ServiceName),
    #[error("service {0} has as many requests as it may have")]
    Shed(ServiceName, std::time::Duration),
    #[error("service {service}, endpoint {endpoint}: {cause}")]
    Attempt { service: ServiceName, endpoint: String, cause: Cause, sent: bool },
    #[error("service {service} has not answered within {after:?}")]
    TimedOut { service: ServiceName, after: std::time::Duration },
    #[error("{0}")]
    Body(BodyError),
    #[error("service {0} speaks HTTP/2, which has no upgrades")]
    Upgrade(ServiceName),
    #[error("service {0} changed the protocol without being asked")]
    UnaskedUpgrade(ServiceName),
    #[error("service {0} answered in a transfer coding that it was not asked for")]
    Coding(ServiceName),
}

impl Failure {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Refused(refusal) => refusal.status(),
            Self::Path(_) | Self::Upgrade(_) => StatusCode::BAD_REQUEST,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::NoRoute | Self::NoService(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Attempt { cause: Cause::Connect(ConnectError::TooMany(_)), .. }
            | Self::NoEndpoint(_)
            | Self::Shed(..) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Attempt { cause: Cause::TimedOut(_), .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::Attempt { .. } | Self::UnaskedUpgrade(_) | Self::Coding(_) => StatusCode::BAD_GATEWAY,
            Self::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::Body(BodyError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// The stage of a request's way that failed, as ARCHITECTURE.md draws it.
    pub fn stage(&self) -> &'static str {
        match self {
            Self::Refused(_) => "guard",
            Self::Path(_) | Self::Loop | Self::Upgrade(_) => "request",
            Self::NoRoute | Self::NoService(_) | Self::MethodNotAllowed { .. } => "route",
            Self::NoEndpoint(_) | Self::Shed(..) => "pick",
            Self::Attempt { cause: Cause::Connect(_), .. } => "connect",
            Self::Attempt { .. } | Self::TimedOut { .. } | Self::UnaskedUpgrade(_) | Self::Coding(_) => "upstream",
            Self::Body(_) => "body",
        }
    }

    /// Whether the connection must end with this answer: what follows on it cannot be trusted or was not read.
    pub fn closes(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Body(_))
    }

    /// Whether anything of the request may have reached an endpoint that may have acted on it.
    fn sent(&self) -> Option<bool> {
        match self {
            Self::Attempt { sent, .. } => Some(*sent),
            _ => None,
        }
    }
}

/// The answer to a request that failed.
pub fn problem(failure: &Failure, request_id: &HeaderValue) -> Response<ResponseBody> {
    let status = failure.status();
    let mut document = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "detail": failure.to_string(),
        "stage": failure.stage(),
        "request_id": String::from_utf8_lossy(request_id.as_bytes()),
    });
    if let Some(sent) = failure.sent() {
        // Tells a client whether repeating is safe whatever the method.
        document["request_sent"] = sent.into();
    }
    let mut response = Response::new(ResponseBody::own(Some(Bytes::from(document.to_string()))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(X_REQUEST_ID, request_id.clone());
    if failure.closes() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Failure::Shed(_, after) = failure {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    // RFC 9110 §15.5.6.
    if let Failure::MethodNotAllowed { allow } = failure
        && let Ok(allow) = HeaderValue::from_str(allow)
    {
        headers.insert(header::ALLOW, allow);
    }
    response
}
