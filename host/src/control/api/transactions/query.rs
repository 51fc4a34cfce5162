//! What stands behind the `?`. Everything that is wrong is told at once, unknown parameters too.

use std::{collections::BTreeSet, time::Duration};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{OUTCOME_WAIT, WAIT_MAX};
use crate::{
    control::api::{
        parameters::{Parameters, wrong},
        problem::Problem,
    },
    transactions::{Filter, PAGE_MAX, TransactionError},
};

/// Of a page, where nothing is said.
const LIMIT_DEFAULT: usize = 100;

impl Parameters {
    /// For how long the outcome is waited for.
    pub fn wait(self, otherwise: Duration) -> Result<Duration, Problem> {
        let mut wait = otherwise;
        self.read(|name, value| {
            let known = name == "wait";
            if known {
                wait = duration(value)?;
            }
            Ok(known)
        })?;
        Ok(wait)
    }

    /// For how long, and whether it is only begun.
    pub fn begin(self) -> Result<(Duration, bool), Problem> {
        let (mut wait, mut prepare) = (Duration::ZERO, false);
        self.read(|name, value| {
            match name {
                "wait" => wait = duration(value)?,
                "prepare" => prepare = value.parse().map_err(|_| "must be true or false".to_owned())?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok((wait, prepare))
    }

    pub fn list(self) -> Result<Listing, Problem> {
        let mut listing = Listing { filter: Filter::default(), limit: LIMIT_DEFAULT, after: None };
        self.read(|name, value| {
            match name {
                "status" => {
                    for status in value.split(',') {
                        listing.filter = std::mem::take(&mut listing.filter).with_status(status).map_err(rule)?;
                    }
                }
                "protocol" => listing.filter.protocol = Some(value.to_owned()),
                "limit" => listing.limit = limit(value)?,
                "after" => listing.after = Some(value.to_owned()),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(listing)
    }
}

/// Which transactions are listed.
pub struct Listing {
    pub filter: Filter,
    pub limit: usize,
    pub after: Option<String>,
}

impl Listing {
    /// Where the next page is.
    pub fn next(&self, after: &str) -> String {
        let statuses: &BTreeSet<_> = &self.filter.statuses;
        let statuses = statuses.iter().map(|status| format!("status={status}&"));
        let protocol = self.filter.protocol.iter();
        let protocol = protocol.map(|name| format!("protocol={}&", utf8_percent_encode(name, NON_ALPHANUMERIC)));
        let filters: String = statuses.chain(protocol).collect();
        format!("/transactions?{filters}limit={}&after={after}", self.limit)
    }
}

/// The coordinator's own words on a parameter.
pub fn refused(error: TransactionError) -> Problem {
    match error {
        TransactionError::Invalid(problems) => {
            let said =
                problems.into_iter().map(|it| format!("?{}: {}", it.pointer.trim_start_matches('/'), it.message));
            wrong(said.collect())
        }
        other => other.into(),
    }
}

/// As DTM's `limit`, and ours.
pub fn limit(value: &str) -> Result<usize, String> {
    let limit = value.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
    limit.ok_or_else(|| format!("must be a whole number from 1 to {PAGE_MAX}"))
}

fn duration(value: &str) -> Result<Duration, String> {
    let given = if value.is_empty() { Some(OUTCOME_WAIT) } else { humantime::parse_duration(value).ok() };
    given
        .filter(|wait| *wait <= WAIT_MAX)
        .ok_or_else(|| format!("must be a duration such as 10s, at most {} s", WAIT_MAX.as_secs()))
}

fn rule(error: TransactionError) -> String {
    match error {
        TransactionError::Invalid(problems) => problems.into_iter().map(|it| it.message).collect::<Vec<_>>().join("; "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> Parameters {
        Parameters::of(&format!("/?{query}").parse().expect("a URI"))
    }

    #[test]
    fn the_next_page_has_the_same_filters() {
        let listing = asked("status=failed,hazard&protocol=a%26b&limit=7").list().expect("right");
        let next = listing.next("0a");
        assert_eq!(next, "/transactions?status=failed&status=hazard&protocol=a%26b&limit=7&after=0a");
        let again = asked(next.split_once('?').expect("a query").1).list().expect("right");
        assert_eq!((again.filter.statuses, again.filter.protocol), (listing.filter.statuses, Some("a&b".to_owned())));
        assert_eq!((again.limit, again.after.as_deref()), (7, Some("0a")));
    }

    #[test]
    fn each_wrong_parameter_is_named() {
        let problem = asked("status=done&limit=0&colour=red").list().err().expect("wrong");
        let said: Vec<_> = problem.problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[0].starts_with("?status: must be one of prepared, submitted"), "{said:?}");
        assert_eq!(said[1..], ["?limit: must be a whole number from 1 to 1000", "?colour: there is no such parameter"]);
        for wrong in ["wait=61s", "wait=-1s", "wait=soon", "wait=10"] {
            assert!(asked(wrong).wait(Duration::ZERO).is_err(), "{wrong}");
        }
        assert_eq!(asked("wait=1500ms").wait(Duration::ZERO).expect("right"), Duration::from_millis(1500));
        assert_eq!(asked("wait").wait(Duration::ZERO).expect("right"), OUTCOME_WAIT);
    }
}
