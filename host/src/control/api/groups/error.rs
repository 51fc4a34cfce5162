//! What groups refuse, as HTTP says it.

use axum::http::StatusCode;

use crate::{
    control::{api::problem::Problem, change::ChangeProblem},
    events::groups::GroupsError,
};

impl From<GroupsError> for Problem {
    fn from(error: GroupsError) -> Self {
        let of_field = |pointer: &str| {
            let said = error.to_string();
            // The field that it begins with is what the pointer says.
            let message = said.split_once(": ").map_or(said.as_str(), |(_, rest)| rest).to_owned();
            let problem = ChangeProblem { pointer: pointer.to_owned(), message, service: None, plugin: None };
            Self::with_problems(StatusCode::UNPROCESSABLE_ENTITY, said, vec![problem])
        };
        let status = match &error {
            GroupsError::OfTheFuture { field, .. } => return of_field(&format!("/{field}")),
            GroupsError::HasBegun(_) => return of_field("/from"),
            GroupsError::NoTarget(_) => return of_field("/webhook/url"),
            GroupsError::Unknown(_) | GroupsError::NotParked { .. } => StatusCode::NOT_FOUND,
            GroupsError::Removed { .. } => StatusCode::GONE,
            GroupsError::TooMany => StatusCode::INSUFFICIENT_STORAGE,
            GroupsError::IsPushed(_) => StatusCode::CONFLICT,
            GroupsError::Damaged { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            GroupsError::Crowded(_)
            | GroupsError::Full(_)
            | GroupsError::BeingDeleted(_)
            | GroupsError::NotDurable(_)
            | GroupsError::Unreadable(_)
            | GroupsError::Events(_)
            | GroupsError::TakenOver
            | GroupsError::Closed => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}
