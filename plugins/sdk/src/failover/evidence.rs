//! What an outcome says about the endpoint, and what it is called.

use crate::Outcome;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// It answered, be it that the request was wrong.
    Works,
    /// It answered with an error of its own, or not at all.
    Fails,
    /// Nothing for or against it: the client went away, or it had more to do than it wants, which taking it out
    /// would make the others' lot as well.
    Nothing,
}

impl From<Outcome> for Evidence {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Success | Outcome::ClientError => Self::Works,
            Outcome::ServerError
            | Outcome::GatewayError
            | Outcome::ConnectFailed
            | Outcome::Reset
            | Outcome::TimedOut => Self::Fails,
            Outcome::Overloaded | Outcome::Cancelled => Self::Nothing,
        }
    }
}

/// As it is written in `wit/types.wit`.
pub fn outcome_in_words(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "success",
        Outcome::ClientError => "client-error",
        Outcome::ServerError => "server-error",
        Outcome::GatewayError => "gateway-error",
        Outcome::Overloaded => "overloaded",
        Outcome::ConnectFailed => "connect-failed",
        Outcome::Reset => "reset",
        Outcome::TimedOut => "timed-out",
        Outcome::Cancelled => "cancelled",
    }
}
