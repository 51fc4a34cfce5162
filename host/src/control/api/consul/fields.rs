//! Reading a JSON object field by field, so that every problem is found with its name.
//!
//! Consul takes field names in any case, and with underscores (`deregister_critical_service_after`); clients rely on it.

use std::time::Duration;

use serde_json::{Map, Value};

use super::duration;
use crate::registry::FieldProblem;

/// The object's fields that have not been read yet, and what was wrong with the others.
pub struct Fields<'p> {
    /// Where the object stands, such as `Check.`; empty for the body itself.
    place: String,
    /// By plain name.
    fields: Vec<(String, String, Value)>,
    problems: &'p mut Vec<FieldProblem>,
}

/// The client's own name of a field, made fit for a message.
fn problem(place: &str, name: &str, message: impl Into<String>) -> FieldProblem {
    let shown = match name {
        "" => "\"\"".to_owned(),
        name => name[..name.floor_char_boundary(SHOWN_BYTES)].escape_debug().to_string(),
    };
    FieldProblem::new(format!("{place}{shown}"), message)
}

/// As names are compared.
fn plain(name: &str) -> String {
    name.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).collect()
}

impl<'p> Fields<'p> {
    pub fn of(object: Map<String, Value>, place: String, problems: &'p mut Vec<FieldProblem>) -> Self {
        let mut fields: Vec<(String, String, Value)> = Vec::new();
        for (name, value) in object {
            let key = plain(&name);
            if fields.iter().any(|(other, ..)| *other == key) {
                problems.push(problem(&place, &name, "stands there twice, in another spelling"));
            } else {
                fields.push((key, name, value));
            }
        }
        Self { place, fields, problems }
    }

    /// None where it is absent or null.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        let key = plain(name);
        let at = self.fields.iter().position(|(other, ..)| *other == key)?;
        Some(self.fields.swap_remove(at).2).filter(|value| !value.is_null())
    }

    pub fn refuse(&mut self, name: &str, message: impl Into<String>) {
        self.problems.push(problem(&self.place, name, message));
    }

    pub fn text(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => Some(text),
            other => self.wrong(name, "a string", &other),
        }
    }

    pub fn flag(&mut self, name: &str) -> bool {
        match self.take(name) {
            None => false,
            Some(Value::Bool(flag)) => flag,
            Some(other) => self.wrong(name, "true or false", &other).unwrap_or_default(),
        }
    }

    /// 0 to `max`.
    pub fn number(&mut self, name: &str, max: u32) -> Option<u32> {
        let value = self.take(name)?;
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok()).filter(|number| *number <= max);
        if number.is_none() {
            return self.wrong(name, &format!("a whole number from 0 to {max}"), &value);
        }
        number
    }

    /// As Go writes it, or a number of nanoseconds; empty is absent.
    pub fn duration(&mut self, name: &str) -> Option<Duration> {
        let value = self.take(name)?;
        let read = match &value {
            Value::String(text) if text.is_empty() => return None,
            Value::String(text) => duration::parse(text),
            Value::Number(number) => number.as_u64().map(Duration::from_nanos),
            _ => None,
        };
        if read.is_none() {
            return self.wrong(name, "a duration such as \"10s\" or \"1m30s\"", &value);
        }
        read
    }

    pub fn texts(&mut self, name: &str) -> Vec<String> {
        let mut texts = Vec::new();
        for (at, value) in self.list(name).into_iter().enumerate() {
            match value {
                Value::String(text) => texts.push(text),
                other => drop(self.wrong::<()>(&format!("{name}[{at}]"), "a string", &other)),
            }
        }
        texts
    }

    pub fn list(&mut self, name: &str) -> Vec<Value> {
        match self.take(name) {
            None => Vec::new(),
            Some(Value::Array(list)) => list,
            Some(other) => self.wrong(name, "a list", &other).unwrap_or_default(),
        }
    }

    pub fn object(&mut self, name: &str) -> Option<Map<String, Value>> {
        match self.take(name)? {
            Value::Object(object) => Some(object),
            other => self.wrong(name, "an object", &other),
        }
    }

    /// The fields of an object within this one.
    pub fn within(&mut self, name: &str, object: Map<String, Value>) -> Fields<'_> {
        Fields::of(object, format!("{}{name}.", self.place), self.problems)
    }

    /// What clients send and this gateway has no use for.
    pub fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.take(name);
        }
    }

    /// What is of no use here, and would be missed: it must be as if it were absent.
    pub fn unsupported(&mut self, names: &[&str], why: &str) {
        for name in names {
            let given = self.take(name);
            let absent = match &given {
                None => true,
                Some(Value::String(text)) => text.is_empty(),
                Some(Value::Bool(flag)) => !flag,
                Some(Value::Array(list)) => list.is_empty(),
                Some(_) => false,
            };
            if !absent {
                self.refuse(name, why);
            }
        }
    }

    /// Whatever has not been read is a mistake.
    pub fn finish(self) {
        for (_, name, _) in self.fields {
            self.problems.push(problem(&self.place, &name, "there is no such field"));
        }
    }

    fn wrong<T>(&mut self, name: &str, wanted: &str, given: &Value) -> Option<T> {
        let given = match given {
            Value::Bool(_) => "a boolean".to_owned(),
            Value::Number(number) => number.to_string(),
            Value::String(text) => format!("{:?}", &text[..text.floor_char_boundary(SHOWN_BYTES)]),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "an object".to_owned(),
            Value::Null => "null".to_owned(),
        };
        self.refuse(name, format!("must be {wanted}, not {given}"));
        None
    }
}

/// Of a wrong text or name, as much stands in the error.
const SHOWN_BYTES: usize = 64;
