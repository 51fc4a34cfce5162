//! What stands behind the `?` of reads, and which of it belongs to pages or to following.

use axum::http::StatusCode;

use crate::{
    control::api::{
        parameters::{Parameters, in_url, wrong},
        problem::Problem,
    },
    model::{EventProblem, Filter, PATTERNS_MAX, Pattern, Position},
    storage::Order,
};

/// Of one page.
pub const LIMIT_MAX: usize = 1_000;
/// Where nothing is said.
const LIMIT_DEFAULT: usize = 100;

/// A page that is asked for.
pub struct PageQuery {
    pub from: Option<u64>,
    pub limit: usize,
    pub filter: Filter,
    pub order: Order,
}

/// Where following begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    Position(Position),
    /// Only what comes.
    End,
}

pub struct FollowQuery {
    pub after: After,
    pub filter: Filter,
}

/// Whether `stream` may be asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Of {
    Everything,
    OneStream,
}

impl PageQuery {
    pub fn read(parameters: Parameters, of: Of) -> Result<Self, Problem> {
        let mut query = Self { from: None, limit: LIMIT_DEFAULT, filter: Filter::default(), order: Order::Forward };
        parameters.read(|name, value| {
            match name {
                "from" => query.from = Some(number(value)?),
                "limit" => query.limit = limit(value)?,
                "direction" => {
                    query.order = match value {
                        "forward" => Order::Forward,
                        "backward" => Order::Backward,
                        _ => return Err("must be forward or backward".to_owned()),
                    }
                }
                "after" => return Err("goes with Accept: text/event-stream; a page begins with ?from=".to_owned()),
                _ => return pattern(&mut query.filter, of, name, value),
            }
            Ok(true)
        })?;
        Ok(query)
    }

    /// The page that begins there, of the same.
    pub fn url(&self, path: &str, from: u64) -> String {
        let patterns = |name: &str, patterns: &[Pattern]| {
            let texts: Vec<_> =
                patterns.iter().map(|pattern| format!("&{name}={}", in_url(&pattern.to_string()))).collect();
            texts.concat()
        };
        let direction = if self.order == Order::Backward { "&direction=backward" } else { "" };
        let (types, streams) = (patterns("type", &self.filter.types), patterns("stream", &self.filter.streams));
        format!("{path}?from={from}&limit={}{types}{streams}{direction}", self.limit)
    }
}

impl FollowQuery {
    pub fn read(parameters: Parameters, of: Of) -> Result<Self, Problem> {
        let mut query = Self { after: After::Position(Position::START), filter: Filter::default() };
        parameters.read(|name, value| {
            match name {
                "after" if value == "end" => query.after = After::End,
                "after" => {
                    let rule = |_| "must be a position, or end".to_owned();
                    query.after = After::Position(Position(number(value).map_err(rule)?));
                }
                "from" | "limit" | "direction" => {
                    return Err("goes with pages; following begins behind ?after= or Last-Event-ID".to_owned());
                }
                _ => return pattern(&mut query.filter, of, name, value),
            }
            Ok(true)
        })?;
        Ok(query)
    }
}

/// A page of names.
pub struct ListQuery {
    pub prefix: String,
    pub after: Option<String>,
    pub limit: usize,
}

impl ListQuery {
    pub fn read(parameters: Parameters) -> Result<Self, Problem> {
        let mut query = Self { prefix: String::new(), after: None, limit: LIMIT_DEFAULT };
        parameters.read(|name, value| {
            match name {
                "prefix" => value.clone_into(&mut query.prefix),
                "after" => query.after = Some(value.to_owned()),
                "limit" => query.limit = limit(value)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(query)
    }

    pub fn url(&self, after: &str) -> String {
        format!("/streams?prefix={}&limit={}&after={}", in_url(&self.prefix), self.limit, in_url(after))
    }
}

/// `Last-Event-ID`, where it is one.
pub fn last_event_id(given: Option<&axum::http::HeaderValue>) -> Result<Option<Position>, Problem> {
    let Some(given) = given else { return Ok(None) };
    // Browsers send it empty where the server gave none yet.
    let text = given.to_str().ok().map(str::trim);
    match text {
        Some("") => Ok(None),
        Some(text) if number(text).is_ok() => Ok(number(text).ok().map(Position)),
        _ => Err(Problem::new(StatusCode::BAD_REQUEST, "Last-Event-ID must be a position, as id of an event was")),
    }
}

/// Said of `after` where it is no name.
pub fn no_name(problem: &EventProblem) -> Problem {
    wrong(vec![format!("?after: {}", problem.rule)])
}

fn pattern(filter: &mut Filter, of: Of, name: &str, value: &str) -> Result<bool, String> {
    let patterns = match name {
        "type" => &mut filter.types,
        "stream" if of == Of::Everything => &mut filter.streams,
        _ => return Ok(false),
    };
    for text in value.split(',') {
        if patterns.len() == PATTERNS_MAX {
            return Err(format!("at most {PATTERNS_MAX} may be asked for"));
        }
        patterns.push(text.parse().map_err(|problem: EventProblem| problem.rule)?);
    }
    Ok(true)
}

fn number(value: &str) -> Result<u64, String> {
    // Digits alone: u64 takes a plus sign too.
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = if is_number { value.parse().ok() } else { None };
    number.ok_or_else(|| "must be a whole number".to_owned())
}

fn limit(value: &str) -> Result<usize, String> {
    let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
    limit.ok_or_else(|| format!("must be a whole number from 1 to {LIMIT_MAX}"))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn asked(query: &str) -> Parameters {
        Parameters::of(&format!("/?{query}").parse().expect("a URI"))
    }

    #[test]
    fn the_next_page_asks_for_the_same() {
        let query = "from=3&limit=7&type=a.b,c%26*&stream=x&direction=backward";
        let page = PageQuery::read(asked(query), Of::Everything).expect("right");
        let next = page.url("/events", 2);
        assert_eq!(next, "/events?from=2&limit=7&type=a.b&type=c%26%2A&stream=x&direction=backward");
        let again = PageQuery::read(asked(next.split_once('?').expect("a query").1), Of::Everything).expect("right");
        assert_eq!((again.filter, again.limit, again.order), (page.filter, 7, Order::Backward));
        assert_eq!(again.from, Some(2));
    }

    #[test]
    fn each_wrong_parameter_is_named() {
        let said = |problem: Problem| problem.problems.into_iter().map(|it| it.message).collect::<Vec<_>>();
        let query = "from=-1&limit=1001&type=a*b&direction=up&after=3&colour=red";
        let problems = said(PageQuery::read(asked(query), Of::Everything).err().expect("wrong"));
        let names: Vec<_> = problems.iter().map(|problem| problem.split(':').next().unwrap_or_default()).collect();
        assert_eq!(names, ["?from", "?limit", "?type", "?direction", "?after", "?colour"], "{problems:?}");
        assert!(PageQuery::read(asked("stream=a"), Of::OneStream).is_err());
        assert!(PageQuery::read(asked(&format!("type={}", vec!["a"; 65].join(","))), Of::Everything).is_err());
        for query in ["after=last", "after=-1", "after=%2B1", "from=1", "limit=3"] {
            assert!(FollowQuery::read(asked(query), Of::Everything).is_err(), "{query}");
        }
        assert_eq!(FollowQuery::read(asked("after=end"), Of::OneStream).expect("right").after, After::End);
    }

    #[test]
    fn the_last_event_id_is_a_position() {
        let read = |text: &'static str| last_event_id(Some(&HeaderValue::from_static(text))).ok();
        assert_eq!(read("17"), Some(Some(Position(17))));
        assert_eq!(read(""), Some(None));
        for wrong in ["x", "-1", "1.5", "99999999999999999999"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
