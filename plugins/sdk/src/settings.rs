//! A policy's settings: each is asked for once, with its default and its bounds; everything wrong, unknown
//! keys included, is reported together.

use std::ops::RangeInclusive;

use crate::{
    Problem,
    json::{self, Value},
};

/// The policy's own table of the gateway's configuration.
///
/// A question that cannot be answered as asked notes a [`Problem`] and answers with the default, so a policy
/// reads all of its settings without a branch; the gateway then refuses it with all problems at once.
#[derive(Debug)]
pub struct Settings {
    /// What nobody has asked for yet.
    values: Vec<(String, Value)>,
    asked: Vec<&'static str>,
    problems: Vec<Problem>,
}

impl Settings {
    /// `json` is an object.
    pub fn parse(json: &str) -> Self {
        let mut settings = Self { values: Vec::new(), asked: Vec::new(), problems: Vec::new() };
        match json::parse(json) {
            Some(Value::Table(values)) => settings.values = values,
            _ => settings.note(String::new(), "the settings must be a JSON object".into()),
        }
        settings
    }

    pub fn integer(&mut self, key: &'static str, default: u32, range: RangeInclusive<u32>) -> u32 {
        let Some(value) = self.take(key) else { return default };
        match value {
            // A float is cut to the range of the integer it becomes.
            Value::Number(value) if value.trunc() == value && range.contains(&(value as u32)) && value >= 0.0 => {
                value as u32
            }
            _ => self.wrong(key, &format!("a whole number from {} to {}", range.start(), range.end()), default),
        }
    }

    pub fn number(&mut self, key: &'static str, default: f64, range: RangeInclusive<f64>) -> f64 {
        let Some(value) = self.take(key) else { return default };
        match value {
            Value::Number(value) if range.contains(&value) => value,
            _ => {
                let (least, most) = (decimal(*range.start()), decimal(*range.end()));
                self.wrong(key, &format!("a number from {least} to {most}"), default)
            }
        }
    }

    /// As `number`, for a setting that is off unless given.
    pub fn optional_number(&mut self, key: &'static str, range: RangeInclusive<f64>) -> Option<f64> {
        let given = self.values.iter().any(|(given, _)| given == key);
        let value = self.number(key, *range.start(), range);
        given.then_some(value)
    }

    pub fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        match self.take(key) {
            None => default,
            Some(Value::Boolean(value)) => value,
            Some(_) => self.wrong(key, "true or false", default),
        }
    }

    pub fn text(&mut self, key: &'static str, default: &str) -> String {
        match self.take(key) {
            None => default.to_owned(),
            Some(Value::Text(value)) => value,
            Some(_) => self.wrong(key, "a text", default.to_owned()),
        }
    }

    pub fn texts(&mut self, key: &'static str) -> Vec<String> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let Value::List(values) = value else { return self.wrong(key, "a list of texts", Vec::new()) };
        let count = values.len();
        let texts: Vec<String> = values
            .into_iter()
            .filter_map(|value| if let Value::Text(text) = value { Some(text) } else { None })
            .collect();
        if texts.len() == count { texts } else { self.wrong(key, "a list of texts", Vec::new()) }
    }

    /// A text that must be given.
    pub fn required_text(&mut self, key: &'static str, example: &str) -> String {
        match self.take(key) {
            Some(Value::Text(value)) if !value.is_empty() => value,
            _ => self.wrong(key, &format!("given, such as \"{example}\""), String::new()),
        }
    }

    /// Names with texts, such as `{ track = "stable" }`; empty where it is not given.
    pub fn named_texts(&mut self, key: &'static str) -> Vec<(String, String)> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let Value::Table(entries) = value else { return self.wrong(key, "a table of texts", Vec::new()) };
        let mut texts = Vec::with_capacity(entries.len());
        for (name, value) in entries {
            match value {
                Value::Text(text) => texts.push((name, text)),
                _ => self.note(format!("{}{}", pointer(key), pointer(&name)), "must be a text".to_owned()),
            }
        }
        texts
    }

    /// One of the named values; the first is the default.
    pub fn one_of<T: Copy>(&mut self, key: &'static str, names: &[(&str, T)]) -> T {
        let default = names[0].1;
        let Some(value) = self.take(key) else { return default };
        match names.iter().find(|(name, _)| matches!(&value, Value::Text(value) if value == name)) {
            Some((_, value)) => *value,
            None => {
                let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
                self.wrong(key, &format!("one of {}", names.join(", ")), default)
            }
        }
    }

    /// Some of the named values, as a list; bit `n` of the answer, and of `default`, is the `n`-th name.
    pub fn some_of(&mut self, key: &'static str, names: &[&str], default: u32) -> u32 {
        let Some(value) = self.take(key) else { return default };
        let bit = |value: &Value| names.iter().position(|name| value.text() == Some(name)).map(|n| 1 << n);
        let bits = match &value {
            Value::List(values) => values.iter().map(bit).try_fold(0, |bits, bit| Some(bits | bit?)),
            _ => None,
        };
        bits.unwrap_or_else(|| self.wrong(key, &format!("a list of some of {}", names.join(", ")), default))
    }

    /// A text such as `500 ms`, `1.5 s`, `2 min` or `1 h`, in microseconds; `default` and `range` too.
    pub fn duration_us(&mut self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let Some(value) = self.take(key) else { return default };
        let given = if let Value::Text(text) = &value { parse_duration_us(text) } else { None };
        match given {
            Some(value) if range.contains(&value) => value,
            _ => {
                let (least, most) = (in_words(*range.start()), in_words(*range.end()));
                self.wrong(key, &format!("a duration from {least} to {most}, such as \"500 ms\" or \"10 s\""), default)
            }
        }
    }

    /// Notes something that is wrong with the value of `key` beyond what the questions check.
    pub fn problem(&mut self, key: &str, message: impl Into<String>) {
        self.note(pointer(key), message.into());
    }

    /// Everything that is wrong, keys that nobody asked for included.
    pub fn finish(mut self) -> Vec<Problem> {
        let message = match self.asked.as_slice() {
            [] => "unknown; this policy has no settings".to_owned(),
            known => format!("unknown; the settings are {}", known.join(", ")),
        };
        for (key, _) in std::mem::take(&mut self.values) {
            self.note(pointer(&key), message.clone());
        }
        self.problems
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.asked.push(key);
        let at = self.values.iter().position(|(given, _)| given == key)?;
        Some(self.values.remove(at).1)
    }

    fn wrong<T>(&mut self, key: &str, right: &str, default: T) -> T {
        self.note(pointer(key), format!("must be {right}"));
        default
    }

    fn note(&mut self, path: String, message: String) {
        self.problems.push(Problem { path, message });
    }
}

/// JSON Pointer (RFC 6901 §3) to a key of the whole.
pub(crate) fn pointer(key: &str) -> String {
    format!("/{}", key.replace('~', "~0").replace('/', "~1"))
}

fn parse_duration_us(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, unit) = text.split_at_checked(text.find(|c: char| !c.is_ascii_digit() && c != '.')?)?;
    let unit_us = match unit.trim_start() {
        "us" | "µs" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" | "min" => 60_000_000,
        "h" => 3_600_000_000_u64,
        _ => return None,
    };
    // A float is cut to the range of the integer it becomes.
    Some((json::parse_decimal(number)? * unit_us as f64).round() as u64)
}

/// To three places: the library's own formatting of floats would be a third of a small policy.
pub(crate) fn decimal(value: f64) -> String {
    let thousandths = (value * 1_000.0).round() as i64;
    let text = format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn in_words(us: u64) -> String {
    match us {
        0 => "0 s".to_owned(),
        us if us % 3_600_000_000 == 0 => format!("{} h", us / 3_600_000_000),
        us if us % 1_000_000 == 0 => format!("{} s", us / 1_000_000),
        us if us % 1_000 == 0 => format!("{} ms", us / 1_000),
        us => format!("{us} us"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(settings: Settings) -> Vec<String> {
        settings.finish().into_iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
    }

    #[test]
    fn every_problem_is_listed_with_its_pointer() {
        let mut settings = Settings::parse(
            r#"{"choices": 0, "decay": "soon", "mode": 3, "a/b~c": 1, "names": [1], "on": 1, "factor": "x"}"#,
        );
        assert_eq!(settings.integer("choices", 2, 1..=16), 2);
        assert_eq!(settings.duration_us("decay", 10_000_000, 1_000..=3_600_000_000), 10_000_000);
        assert_eq!(settings.one_of("mode", &[("fast", 1), ("slow", 2)]), 1);
        assert!(settings.texts("names").is_empty());
        assert!(!settings.boolean("on", false));
        assert_eq!(settings.number("factor", 1.0, 0.0..=2.0), 1.0);
        assert_eq!(
            lines(settings),
            [
                "/choices: must be a whole number from 1 to 16",
                "/decay: must be a duration from 1 ms to 1 h, such as \"500 ms\" or \"10 s\"",
                "/mode: must be one of fast, slow",
                "/names: must be a list of texts",
                "/on: must be true or false",
                "/factor: must be a number from 0 to 2",
                "/a~1b~0c: unknown; the settings are choices, decay, mode, names, on, factor",
            ]
        );
    }

    #[test]
    fn good_settings_are_taken_and_absent_ones_have_their_default() {
        let mut settings = Settings::parse(r#"{"window": "1.5 s", "header": "x-tenant", "c": 1.25}"#);
        assert_eq!(settings.duration_us("window", 0, 0..=10_000_000), 1_500_000);
        assert_eq!(settings.text("header", "x-other"), "x-tenant");
        assert_eq!(settings.optional_number("c", 1.0..=10.0), Some(1.25));
        assert_eq!(settings.optional_number("d", 1.0..=10.0), None);
        assert_eq!(settings.integer("choices", 2, 1..=16), 2);
        assert!(lines(settings).is_empty());
    }

    #[test]
    fn some_of_the_names_are_bits() {
        let names = ["a", "b", "c"];
        let mut settings = Settings::parse(r#"{"one": ["c", "a"], "none": [], "wrong": ["d"], "text": "a"}"#);
        assert_eq!(settings.some_of("one", &names, 2), 0b101);
        assert_eq!(settings.some_of("none", &names, 2), 0);
        assert_eq!(settings.some_of("absent", &names, 2), 2);
        settings.some_of("wrong", &names, 2);
        settings.some_of("text", &names, 2);
        assert_eq!(
            lines(settings),
            ["/wrong: must be a list of some of a, b, c", "/text: must be a list of some of a, b, c"]
        );
    }

    #[test]
    fn what_is_no_table_is_one_problem() {
        assert_eq!(lines(Settings::parse("[]")), [": the settings must be a JSON object"]);
        assert_eq!(lines(Settings::parse("{")), [": the settings must be a JSON object"]);
    }

    #[test]
    fn durations_have_a_unit() {
        for (text, us) in [("10 s", 10_000_000), ("250ms", 250_000), ("2 min", 120_000_000), ("1 h", 3_600_000_000)] {
            assert_eq!(parse_duration_us(text), Some(us), "{text}");
        }
        for text in ["10", "", "s", "1 day", "-1 s", "1.2.3 s"] {
            assert_eq!(parse_duration_us(text), None, "{text}");
        }
    }
}
