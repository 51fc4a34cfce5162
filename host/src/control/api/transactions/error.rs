//! What the coordinator refuses, as HTTP says it.

use axum::http::StatusCode;

use crate::{
    control::{api::problem::Problem, change::ChangeProblem},
    transactions::{FieldProblem, TransactionError},
};

impl From<TransactionError> for Problem {
    fn from(error: TransactionError) -> Self {
        let status = match &error {
            TransactionError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            TransactionError::Unknown(_) => StatusCode::NOT_FOUND,
            TransactionError::OtherContent { .. } | TransactionError::TooLate { .. } => StatusCode::CONFLICT,
            TransactionError::Protocol { .. } => StatusCode::BAD_GATEWAY,
            TransactionError::Damaged { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            TransactionError::Full { .. }
            | TransactionError::NotDurable(_)
            | TransactionError::Unreadable(_)
            | TransactionError::TakenOver
            | TransactionError::Closed => StatusCode::SERVICE_UNAVAILABLE,
        };
        match error {
            TransactionError::Invalid(problems) => {
                Self::with_problems(status, "the body is wrong", problems.into_iter().map(problem).collect())
            }
            // So that it stands with the field, as every other problem of a body.
            TransactionError::OtherContent { ref field, .. } => {
                let pointer = format!("/{field}");
                let said = ChangeProblem { pointer, message: "is another one there".to_owned(), service: None };
                Self::with_problems(status, error.to_string(), vec![said])
            }
            other => Self::new(status, other.to_string()),
        }
    }
}

fn problem(FieldProblem { pointer, message }: FieldProblem) -> ChangeProblem {
    ChangeProblem { pointer, message, service: None }
}
