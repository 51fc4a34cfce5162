//! What is wrong with events that came in.

use crate::model::EventProblem;

/// One attribute that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct AttributeProblem {
    /// JSON pointer (RFC 6901) into what came; empty where it came in headers.
    pub pointer: String,
    pub problem: EventProblem,
}

/// Why events were not taken: none of those that came together was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    #[error("the body must be {0}")]
    Shape(&'static str),
    #[error("an append has 1 to {max} events, and this one {given}")]
    Count { given: usize, max: usize },
    /// Each that is wrong, in the order of the events. `too_large`: where nothing else is wrong than that there is too much.
    #[error("{} of the attributes {} wrong", .problems.len(), if .problems.len() == 1 { "is" } else { "are" })]
    Attributes { problems: Vec<AttributeProblem>, too_large: bool },
}

/// What is told of one request at most: the first hundred say enough.
const PROBLEMS_MAX: usize = 100;

/// What has been found so far.
#[derive(Debug, Default)]
pub struct Problems {
    found: Vec<AttributeProblem>,
    sizes: usize,
}

impl Problems {
    pub fn add(&mut self, pointer: String, problem: EventProblem) {
        if self.found.len() < PROBLEMS_MAX {
            self.found.push(AttributeProblem { pointer, problem });
        }
    }

    /// There is more of it than may be.
    pub fn add_size(&mut self, pointer: String, problem: EventProblem) {
        if self.found.len() < PROBLEMS_MAX {
            self.sizes += 1;
            self.add(pointer, problem);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Whether what is found from here on would not be told.
    pub fn is_full(&self) -> bool {
        self.found.len() >= PROBLEMS_MAX
    }

    pub fn count(&self) -> usize {
        self.found.len()
    }

    /// `found` where nothing is wrong.
    pub fn or<T>(self, found: T) -> Result<T, Refused> {
        if self.found.is_empty() {
            return Ok(found);
        }
        let too_large = self.sizes == self.found.len();
        Err(Refused::Attributes { problems: self.found, too_large })
    }
}
