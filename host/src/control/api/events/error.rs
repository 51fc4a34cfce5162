//! What the store of events refuses, as HTTP says it.

use axum::http::StatusCode;

use crate::{
    control::{
        api::problem::{Problem, RevisionConflict},
        change::ChangeProblem,
    },
    events::{AppendError, ReadError, cloud_events::Refused},
    model::{EventProblem, Position},
};

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        let detail = if error.is_in_doubt() {
            format!("{error}; the events may be there: sent again with the same ids, they are there once")
        } else {
            error.to_string()
        };
        match error {
            AppendError::Conflict { stream, expected, actual } => {
                let conflict = RevisionConflict {
                    stream: stream.to_string(),
                    expected_revision: expected.to_string(),
                    actual_revision: actual,
                };
                Self::new(StatusCode::CONFLICT, detail).of(conflict)
            }
            AppendError::IdTaken { .. } | AppendError::Overtaken { .. } => Self::new(StatusCode::CONFLICT, detail),
            AppendError::Invalid { problem, .. } => Self::with_problems(
                StatusCode::UNPROCESSABLE_ENTITY,
                detail,
                vec![ChangeProblem::plain(problem.to_string())],
            ),
            AppendError::Count { .. } | AppendError::TooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
            }
            AppendError::StreamTwice(_) | AppendError::TooDeep { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
            }
            AppendError::NotDurable(_) | AppendError::TakenOver => Self::new(StatusCode::SERVICE_UNAVAILABLE, detail),
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Storage(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            ReadError::Damaged { .. } => {
                let detail = format!("{error}; the others are read with a ?from= on its other side");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
            }
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NotJson(_) | Refused::Shape(_) => Self::new(StatusCode::BAD_REQUEST, refused.to_string()),
            Refused::Count { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, refused.to_string()),
            Refused::Attributes { problems, too_large } => {
                let status = if too_large { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::UNPROCESSABLE_ENTITY };
                let problems = problems.into_iter().map(|it| ChangeProblem {
                    message: it.to_string(),
                    pointer: it.pointer,
                    ..Default::default()
                });
                Self::with_problems(
                    status,
                    "nothing was appended: attributes of CloudEvents are wrong",
                    problems.collect(),
                )
            }
        }
    }
}

/// Of what stands elsewhere than in the body.
pub fn invalid(problem: EventProblem) -> Problem {
    let problems = vec![ChangeProblem::plain(problem.to_string())];
    Problem::with_problems(StatusCode::UNPROCESSABLE_ENTITY, "the request is wrong", problems)
}

/// A place that the log has not reached: the checkpoint is of another log, or the log was brought back from a backup.
pub fn of_the_future(place: &str, given: u64, head: Position) -> Problem {
    let detail = format!("{place}: {given} is beyond the last position, {head}: it is no checkpoint of these events");
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::response::IntoResponse;

    use super::*;
    use crate::{model::Expected, storage::StorageError};

    #[test]
    fn the_status_says_whether_to_correct_give_up_or_come_back() {
        let stream = || "s".parse().expect("a name");
        for (error, status) in [
            (AppendError::Conflict { stream: stream(), expected: Expected::NoStream, actual: Some(3) }, 409),
            (AppendError::IdTaken { stream: stream(), id: "1".parse().expect("an id") }, 409),
            (AppendError::Invalid { stream: stream(), index: 0, problem: EventProblem::new("id", "is wrong") }, 422),
            (AppendError::Count { given: 1001, max: 1000 }, 413),
            (AppendError::TooLarge { given: 9, max: 8 }, 413),
            (AppendError::NotDurable(StorageError::Closed), 503),
            (AppendError::TakenOver, 503),
        ] {
            let said = error.to_string();
            let response = Problem::from(error).into_response();
            assert_eq!(response.status().as_u16(), status, "{said}");
            assert_eq!(response.headers().contains_key("retry-after"), status == 503, "{said}");
        }
    }

    #[test]
    fn what_is_in_doubt_is_said_to_be_repeatable() {
        let failed = StorageError::WriteFailed { path: "store".into(), reason: Arc::from("an I/O error") };
        assert!(Problem::from(AppendError::NotDurable(failed)).detail.contains("may be there"));
        let refused = StorageError::BatchTooLarge { bytes: 1 };
        assert!(!Problem::from(AppendError::NotDurable(refused)).detail.contains("may be there"));
    }

    #[test]
    fn a_conflict_tells_where_the_stream_stands() {
        for (actual, shown) in [(Some(3), serde_json::json!(3)), (None, serde_json::Value::Null)] {
            let stream = "s".parse().expect("a name");
            let problem = Problem::from(AppendError::Conflict { stream, expected: Expected::Revision(7), actual });
            let json = serde_json::to_value(problem).expect("JSON");
            assert_eq!(
                (&json["actual_revision"], &json["expected_revision"]),
                (&shown, &serde_json::json!("7")),
                "{json}"
            );
            assert_eq!(json["stream"], "s");
        }
    }
}
