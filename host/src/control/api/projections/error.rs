//! What event handlers refuse, as HTTP says it.

use axum::http::StatusCode;

use crate::{control::api::problem::Problem, events::handlers::HandlersError};

impl From<HandlersError> for Problem {
    fn from(error: HandlersError) -> Self {
        let status = match &error {
            HandlersError::Unknown(_) => StatusCode::NOT_FOUND,
            HandlersError::NotHalted(_) | HandlersError::Rebuilding(_) => StatusCode::CONFLICT,
            HandlersError::Fault { .. } => StatusCode::BAD_GATEWAY,
            HandlersError::Damaged { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            HandlersError::NotReadable { .. }
            | HandlersError::Busy(_)
            | HandlersError::NotRunning { .. }
            | HandlersError::AskedTooMuch(_)
            | HandlersError::Interrupted(_)
            | HandlersError::NotStored(_)
            | HandlersError::NotDurable(_)
            | HandlersError::Unreadable(_)
            | HandlersError::TakenOver
            | HandlersError::Closed => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}
