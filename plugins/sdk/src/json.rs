//! JSON (RFC 8259), as much of it as reading settings and the answers of other systems takes.
//!
//! What counts is size: a policy that links a general JSON crate doubles.

/// How deep tables and lists may stand in each other: bounds the reader's stack.
const DEPTH_MAX: u32 = 16;

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Boolean(bool),
    Number(f64),
    Text(String),
    List(Vec<Value>),
    /// In the order written.
    Table(Vec<(String, Value)>),
}

impl Value {
    /// The entry of a table; none for anything else.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let Self::Table(entries) = self else { return None };
        entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// What a JSON Pointer (RFC 6901) leads to; empty is the whole.
    pub fn at(&self, pointer: &str) -> Option<&Value> {
        let Some(steps) = pointer.strip_prefix('/') else { return pointer.is_empty().then_some(self) };
        steps.split('/').try_fold(self, |value, step| match value {
            Self::List(values) => {
                let digits = step.bytes().all(|byte| byte.is_ascii_digit()) && (step == "0" || !step.starts_with('0'));
                step.parse::<usize>().ok().filter(|_| digits).and_then(|index| values.get(index))
            }
            other => other.get(&step.replace("~1", "/").replace("~0", "~")),
        })
    }

    pub fn list(&self) -> Option<&[Value]> {
        if let Self::List(values) = self { Some(values) } else { None }
    }

    /// A whole number from 0 on.
    pub fn integer(&self) -> Option<u32> {
        match self {
            // A float is cut to the range of the integer it becomes.
            Self::Number(number) if f64::from(*number as u32) == *number => Some(*number as u32),
            _ => None,
        }
    }
}

/// A text as JSON has it, in quotes.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            control if control < ' ' => quoted.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// The whole of `text` as one value; none where it is not JSON, or deeper than [`DEPTH_MAX`].
pub fn parse(text: &str) -> Option<Value> {
    let mut reader = Reader { rest: text };
    let value = reader.value(0)?;
    reader.skip_space();
    reader.rest.is_empty().then_some(value)
}

/// No slice of it can panic: the code that says where one did would be an eighth of a small policy.
struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn value(&mut self, depth: u32) -> Option<Value> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.skip_space();
        match self.rest.bytes().next()? {
            b'{' => self.table(depth),
            b'[' => self.list(depth),
            b'"' => self.text().map(Value::Text),
            b't' => self.word("true", Value::Boolean(true)),
            b'f' => self.word("false", Value::Boolean(false)),
            b'n' => self.word("null", Value::Null),
            _ => self.number().map(Value::Number),
        }
    }

    fn table(&mut self, depth: u32) -> Option<Value> {
        let mut entries = Vec::new();
        self.take('{')?;
        if self.take('}').is_some() {
            return Some(Value::Table(entries));
        }
        loop {
            self.skip_space();
            let key = self.text()?;
            self.take(':')?;
            entries.push((key, self.value(depth + 1)?));
            if self.take(',').is_none() {
                self.take('}')?;
                return Some(Value::Table(entries));
            }
        }
    }

    fn list(&mut self, depth: u32) -> Option<Value> {
        let mut values = Vec::new();
        self.take('[')?;
        if self.take(']').is_some() {
            return Some(Value::List(values));
        }
        loop {
            values.push(self.value(depth + 1)?);
            if self.take(',').is_none() {
                self.take(']')?;
                return Some(Value::List(values));
            }
        }
    }

    fn text(&mut self) -> Option<String> {
        self.rest = self.rest.strip_prefix('"')?;
        let mut text = String::new();
        loop {
            let end = self.rest.find(|c: char| c == '"' || c == '\\' || c < ' ')?;
            text.push_str(self.rest.get(..end)?);
            let stop = *self.rest.as_bytes().get(end)?;
            // A control character is one byte too, so this is a character's end.
            self.rest = self.rest.get(end + 1..)?;
            match stop {
                b'"' => return Some(text),
                b'\\' => text.push(self.escape()?),
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let letter = self.rest.chars().next()?;
        self.rest = self.rest.get(letter.len_utf8()..)?;
        Some(match letter {
            '"' | '\\' | '/' => letter,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => return self.code_point(),
            _ => return None,
        })
    }

    /// One UTF-16 unit, or two that make a pair.
    fn code_point(&mut self) -> Option<char> {
        let high = self.unit()?;
        if !(0xd800..0xdc00).contains(&high) {
            return char::from_u32(high);
        }
        self.rest = self.rest.strip_prefix("\\u")?;
        let low = self.unit()?;
        (0xdc00..0xe000).contains(&low).then_some(())?;
        char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00))
    }

    fn unit(&mut self) -> Option<u32> {
        let digits = self.rest.get(..4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        self.rest = self.rest.get(4..)?;
        u32::from_str_radix(digits, 16).ok()
    }

    fn number(&mut self) -> Option<f64> {
        let end = self.rest.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'));
        let (number, rest) = self.rest.split_at_checked(end.unwrap_or(self.rest.len()))?;
        self.rest = rest;
        let (sign, number) = number.strip_prefix('-').map_or((1.0, number), |number| (-1.0, number));
        let (decimal, exponent) = match number.find(['e', 'E']) {
            Some(at) => (number.get(..at)?, number.get(at + 1..)?.parse::<i32>().ok()?),
            None => (number, 0),
        };
        let whole = decimal.split('.').next()?;
        if whole.len() > 1 && whole.starts_with('0') {
            return None;
        }
        Some(sign * parse_decimal(decimal)? * 10_f64.powi(exponent.clamp(-400, 400)))
    }

    fn word(&mut self, word: &str, value: Value) -> Option<Value> {
        self.rest = self.rest.strip_prefix(word)?;
        Some(value)
    }

    fn take(&mut self, wanted: char) -> Option<()> {
        self.skip_space();
        self.rest = self.rest.strip_prefix(wanted)?;
        Some(())
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }
}

/// Digits, maybe with a fraction, such as `12` or `0.25`: exact below 2^53 and to 22 decimal places, which settings
/// do not exceed. The library's own conversion is always exact and costs 15 KiB of tables.
pub fn parse_decimal(text: &str) -> Option<f64> {
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || fraction.is_some_and(|fraction| !digits(fraction)) {
        return None;
    }
    let (mut value, mut scale) = (0.0, 1.0);
    for digit in whole.bytes() {
        value = value * 10.0 + f64::from(digit - b'0');
    }
    for digit in fraction.unwrap_or("").bytes().take(22) {
        value = value * 10.0 + f64::from(digit - b'0');
        scale *= 10.0;
    }
    Some(value / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(ours: &Value, theirs: &serde_json::Value) -> bool {
        use serde_json::Value as Json;
        match (ours, theirs) {
            (Value::Null, Json::Null) => true,
            (Value::Boolean(a), Json::Bool(b)) => a == b,
            (Value::Number(a), Json::Number(b)) => (a - b.as_f64().unwrap()).abs() <= a.abs() * 1e-15,
            (Value::Text(a), Json::String(b)) => a == b,
            (Value::List(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
            (Value::Table(a), Json::Object(b)) => {
                a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
            }
            _ => false,
        }
    }

    #[test]
    fn what_is_json_reads_as_a_reference_reader_reads_it() {
        for text in [
            "{}",
            " [ ] ",
            r#"{"a": 1, "b": [true, false, null], "c": {"d": "e"}}"#,
            r#""\"\\\/\b\f\n\r\tä€\ud83d\ude00 é""#,
            "[0, -0, 1.25, -12.5e3, 1E-3, 9007199254740991, 0.1, 65535, 3.858]",
            "\t{\n\"x\" :\r1 }\n",
        ] {
            let theirs = serde_json::from_str(text).unwrap();
            let ours = parse(text).unwrap_or_else(|| panic!("{text} is JSON"));
            assert!(same(&ours, &theirs), "{text}: {ours:?}");
        }
    }

    #[test]
    fn a_pointer_leads_to_what_rfc_6901_says() {
        let value = parse(r#"{"a": [{"b": 1}, 2], "": 3, "m~n": 4, "x/y": 5}"#).unwrap();
        let number = |pointer| value.at(pointer).and_then(Value::integer);
        assert_eq!(value.at(""), Some(&value));
        for (pointer, found) in [("/a/0/b", 1), ("/a/1", 2), ("/", 3), ("/m~0n", 4), ("/x~1y", 5)] {
            assert_eq!(number(pointer), Some(found), "{pointer}");
        }
        for nowhere in ["a", "/a/2", "/a/00", "/a/+1", "/a/0/b/c", "/b"] {
            assert_eq!(number(nowhere), None, "{nowhere}");
        }
    }

    #[test]
    fn what_is_not_json_is_none_and_never_a_panic() {
        for text in [
            "",
            "{",
            "[1",
            "[1,]",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "\"",
            "\"\\",
            "\"\\u12\"",
            "\"\\ud800\"",
            "\"\\ud800\\u0041\"",
            "\"\\x\"",
            "\"\n\"",
            "tru",
            "nul",
            "01",
            "1.",
            ".5",
            "+1",
            "-",
            "1e",
            "1 2",
            "[1 2]",
            "\"\\u+123\"",
            "é",
            "--1",
            "1-1",
        ] {
            assert_eq!(parse(text), None, "{text}");
            assert!(serde_json::from_str::<serde_json::Value>(text).is_err(), "{text}");
        }
        assert_eq!(parse(&"[".repeat(100_000)), None);
    }

    #[test]
    fn every_truncation_is_none_or_a_value() {
        let text = r#"{"aé": [1.5e2, "\u00e9\ud83d\ude00x", true], "b": {"c": null}}"#;
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
            assert_eq!(parse(&text[..end]), None, "{}", &text[..end]);
        }
        assert!(parse(text).is_some());
    }
}
