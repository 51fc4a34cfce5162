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
            | TransactionError::EventsRefused(_)
            | TransactionError::EventWrong { .. }
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
                let said = ChangeProblem { pointer, message: "is another one there".to_owned(), ..Default::default() };
                Self::with_problems(status, error.to_string(), vec![said])
            }
            other => Self::new(status, other.to_string()),
        }
    }
}

fn problem(FieldProblem { pointer, message }: FieldProblem) -> ChangeProblem {
    ChangeProblem { pointer, message, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;
    use crate::transactions::Status;

    #[test]
    fn the_status_says_whether_to_correct_give_up_or_come_back() {
        let gid = || "g".parse().expect("a gid");
        for (error, status) in [
            (TransactionError::field("/gid", "must be there"), 422),
            (TransactionError::Unknown(gid()), 404),
            (TransactionError::OtherContent { gid: gid(), field: "steps".to_owned() }, 409),
            (TransactionError::TooLate { gid: gid(), status: Status::Failed, wanted: "be committed" }, 409),
            (TransactionError::Damaged { key: "c".to_owned(), reason: "torn".to_owned() }, 500),
            (TransactionError::Full { max: 1 }, 503),
            (TransactionError::TakenOver, 503),
            (TransactionError::Closed, 503),
        ] {
            let said = error.to_string();
            let response = Problem::from(error).into_response();
            assert_eq!(response.status().as_u16(), status, "{said}");
            assert_eq!(response.headers().contains_key("retry-after"), status == 503, "{said}");
        }
    }

    #[test]
    fn every_wrong_field_has_its_pointer() {
        let of = |pointer: &str| FieldProblem::new(pointer, "must be right");
        let problem = Problem::from(TransactionError::Invalid(vec![of("/a"), of("/b/0")]));
        let pointers: Vec<_> = problem.problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(pointers, ["/a", "/b/0"]);
        let other = Problem::from(TransactionError::OtherContent {
            gid: "g".parse().expect("a gid"),
            field: "steps".to_owned(),
        });
        assert_eq!(other.problems[0].pointer, "/steps");
    }
}
