//! The gateway's "no": an RFC 9457 problem document, made readable.

use serde::Deserialize;
use serde_json::{Value, json};

use super::failure::{Exit, Failure};

/// As much of an answer that is no problem document as one line shows.
const SHOWN_LEN_MAX: usize = 200;

#[derive(Deserialize)]
struct Document {
    title: String,
    detail: Option<String>,
    #[serde(default)]
    problems: Vec<Problem>,
}

#[derive(Deserialize)]
struct Problem {
    /// JSON Pointer into what was sent; empty for the whole.
    #[serde(default)]
    pointer: String,
    message: String,
    /// Where one service of several stands against the change.
    service: Option<String>,
}

/// What an answer that is not a success means: each of its problems on a line.
pub(super) fn failure(status: u16, text: &str) -> Failure {
    // What the gateway could not do is no refusal of what was asked.
    let exit = if status >= 500 { Exit::Failed } else { Exit::Refused };
    let json: Option<Value> = serde_json::from_str(text).ok();
    let Some(document) = json.as_ref().and_then(|json| Document::deserialize(json).ok()) else {
        let text = text.trim();
        let shown = text[..text.floor_char_boundary(SHOWN_LEN_MAX)].escape_debug().to_string();
        return Failure::new(exit, format_args!("the gateway answered {status}: {shown}"));
    };
    let message = document.detail.unwrap_or(document.title);
    let problems = document.problems.iter().map(in_words).collect();
    Failure::with_problems(exit, message, problems, json.unwrap_or_else(|| json!({})))
}

fn in_words(problem: &Problem) -> String {
    let service = problem.service.iter().map(|service| format!("service {service}: "));
    let pointer = Some(&problem.pointer).filter(|pointer| !pointer.is_empty());
    service.chain(pointer.map(|pointer| format!("{pointer}: "))).chain([problem.message.clone()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_without_place_is_its_message_alone() {
        let problem = Problem { pointer: String::new(), message: "no".to_owned(), service: None };
        assert_eq!(in_words(&problem), "no");
        let problem =
            Problem { pointer: "/a".to_owned(), message: "no".to_owned(), service: Some("orders".to_owned()) };
        assert_eq!(in_words(&problem), "service orders: /a: no");
    }

    #[test]
    fn a_status_tells_a_refusal_from_a_failure() {
        assert_eq!(failure(422, r#"{"title": "wrong", "status": 422}"#).exit, Exit::Refused);
        assert_eq!(failure(404, "not json").exit, Exit::Refused);
        assert_eq!(failure(503, r#"{"title": "shutting down"}"#).exit, Exit::Failed);
    }
}
