//! Errors as Consul's clients expect them: a status and one line of plain text.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::{
    control::api::{access::Caller, problem::Problem},
    registry::RegistryError,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    status: StatusCode,
    text: String,
}

impl Error {
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    /// Unless an operator asks: for what holds for the node.
    pub fn unless_operator(caller: Caller) -> Result<(), Self> {
        match caller {
            Caller::Operator => Ok(()),
            Caller::Service => {
                let text = "Permission denied: what holds for the node needs the operators' token";
                Err(Self::new(StatusCode::FORBIDDEN, text))
            }
        }
    }

    pub fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }
}

impl From<RegistryError> for Error {
    fn from(error: RegistryError) -> Self {
        let status = match &error {
            RegistryError::Invalid(_) | RegistryError::NoTtl { .. } => StatusCode::BAD_REQUEST,
            RegistryError::UnknownService { .. } | RegistryError::UnknownCheck { .. } => StatusCode::NOT_FOUND,
            RegistryError::Full { .. } => StatusCode::INSUFFICIENT_STORAGE,
            RegistryError::NotDurable(_) | RegistryError::Unreadable(_) | RegistryError::Damaged { .. } => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            RegistryError::Closed => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        let status = StatusCode::from_u16(problem.status).expect("made from a status");
        Self::new(status, problem.detail)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        (self.status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], self.text).into_response()
    }
}
