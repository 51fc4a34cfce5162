//! What a consumer settles a delivery with.

use std::{fmt, str::FromStr};

use crate::model::Position;

/// One delivery of one event: another one of the same event has another token, after a restart too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    pub position: Position,
    /// Of the claim under which it was delivered.
    pub epoch: u64,
    /// Of all deliveries under that claim.
    pub number: u64,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.position, self.epoch, self.number)
    }
}

impl FromStr for Token {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        let mut numbers = given.split('-').map(|part| {
            let is_plain = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            is_plain.then(|| part.parse().ok()).flatten()
        });
        match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
            (Some(Some(position)), Some(Some(epoch)), Some(Some(number)), None) => {
                Ok(Self { position: Position(position), epoch, number })
            }
            _ => Err("must be the token of a delivery, such as \"17-1-4\"".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_nothing_else_is_one() {
        let token = Token { position: Position(17), epoch: 1, number: 4 };
        assert_eq!(token.to_string().parse(), Ok(token));
        for wrong in ["", "17", "17-1", "17-1-4-2", "a-1-4", "+7-1-4", "17--4", "99999999999999999999-1-1"] {
            assert!(wrong.parse::<Token>().is_err(), "{wrong}");
        }
    }
}
