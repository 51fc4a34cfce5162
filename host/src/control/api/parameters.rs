//! What stands behind the `?`. Everything that is wrong is told at once, unknown parameters too.

use std::convert::Infallible;

use axum::{
    extract::{FromRequestParts, Query},
    http::{StatusCode, Uri, request::Parts},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::problem::Problem;
use crate::control::change::ChangeProblem;

/// The parameters as they came.
pub struct Parameters(Result<Vec<(String, String)>, String>);

impl<S: Sync> FromRequestParts<S> for Parameters {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.uri))
    }
}

impl Parameters {
    pub fn of(uri: &Uri) -> Self {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri);
        Self(pairs.map(|Query(pairs)| pairs).map_err(|error| error.to_string()))
    }

    /// `take` answers whether it knows the parameter, or what would be right.
    pub fn read(self, mut take: impl FnMut(&str, &str) -> Result<bool, String>) -> Result<(), Problem> {
        let pairs = self.0.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error))?;
        let mut problems = Vec::new();
        for (name, value) in pairs {
            match take(&name, &value) {
                Ok(true) => {}
                Ok(false) => problems.push(format!("?{name}: there is no such parameter")),
                Err(rule) => problems.push(format!("?{name}: {rule}")),
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(wrong(problems)) }
    }

    /// Where none is known.
    pub fn none(self) -> Result<(), Problem> {
        self.read(|_, _| Ok(false))
    }
}

/// Each as `?name: what would be right`.
pub fn wrong(problems: Vec<String>) -> Problem {
    let problems = problems.into_iter().map(ChangeProblem::plain).collect();
    Problem::with_problems(StatusCode::BAD_REQUEST, "the query is wrong", problems)
}

/// Stands in a path or a query as it is (RFC 3986, 2.3), and the rest encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A text as it stands in a path or a query.
pub fn in_url(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}
