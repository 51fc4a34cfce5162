//! `?filter=`: expressions over an answer's entries, such as `Service.Meta.version == "2" and "blue" in Service.Tags`.
//!
//! The part of Consul's language that compares: `==`, `!=`, `in`, `not in`, `contains`, `not contains`, `is empty`,
//! `is not empty`, joined by `and`, `or`, `not` and parentheses. A selector is a path into the entry as it is answered;
//! through a list it means any of its elements. What the path does not lead to equals nothing. Regular expressions
//! (`matches`) are refused.

use serde_json::Value;

use super::error::Error;

/// Longest expression, in bytes.
const FILTER_LEN_MAX: usize = 1024;
/// Parentheses and `not`s in each other.
const DEPTH_MAX: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(Expression);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Expression {
    Or(Vec<Expression>),
    And(Vec<Expression>),
    Not(Box<Expression>),
    /// Anything that the path leads to is this text, or is a list or map that has it.
    Has {
        path: Vec<String>,
        value: String,
    },
    Empty {
        path: Vec<String>,
    },
}

impl Filter {
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |why: String| Error::bad_request(format!("Failed to parse filter: {why}"));
        if text.len() > FILTER_LEN_MAX {
            return Err(wrong(format!("it may have {FILTER_LEN_MAX} bytes at most")));
        }
        let mut parser = Parser { tokens: tokens(text).map_err(wrong)?, at: 0, depth: 0 };
        let expression = parser.any_of().map_err(wrong)?;
        match parser.next() {
            None => Ok(Self(expression)),
            Some(token) => Err(wrong(format!("{:?} was not expected", token.text()))),
        }
    }

    pub fn matches(&self, entry: &Value) -> bool {
        self.0.holds(entry)
    }
}

impl Expression {
    fn holds(&self, entry: &Value) -> bool {
        match self {
            Self::Or(parts) => parts.iter().any(|part| part.holds(entry)),
            Self::And(parts) => parts.iter().all(|part| part.holds(entry)),
            Self::Not(part) => !part.holds(entry),
            Self::Has { path, value } => any(entry, path, &|found| has(found, value)),
            Self::Empty { path } => !any(entry, path, &|found| !is_empty(found)),
        }
    }
}

/// Whether something that the path leads to fulfils the condition.
fn any(value: &Value, path: &[String], condition: &dyn Fn(&Value) -> bool) -> bool {
    match (value, path) {
        (value, []) => condition(value),
        (Value::Array(elements), path) => elements.iter().any(|element| any(element, path, condition)),
        (Value::Object(fields), [name, rest @ ..]) => fields.get(name).is_some_and(|field| any(field, rest, condition)),
        _ => false,
    }
}

fn has(found: &Value, value: &str) -> bool {
    match found {
        Value::String(text) => text == value,
        Value::Array(elements) => elements.iter().any(|element| element.as_str() == Some(value)),
        Value::Object(fields) => fields.contains_key(value),
        Value::Number(number) => number.to_string() == value,
        Value::Bool(flag) => flag.to_string() == value,
        Value::Null => false,
    }
}

fn is_empty(found: &Value) -> bool {
    match found {
        Value::String(text) => text.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Null => true,
        Value::Number(_) | Value::Bool(_) => false,
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Quoted(String),
    Sign(&'static str),
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::Word(text) | Self::Quoted(text) => text,
            Self::Sign(sign) => sign,
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let sign = ["==", "!=", "(", ")"].into_iter().find(|sign| rest.starts_with(sign));
        let len = if let Some(sign) = sign {
            tokens.push(Token::Sign(sign));
            sign.len()
        } else if first == '"' || first == '`' {
            let end = rest[1..].find(first).ok_or("a quote is not closed")?;
            tokens.push(Token::Quoted(rest[1..=end].to_owned()));
            end + 2
        } else {
            let end = rest.find(|c: char| c.is_whitespace() || "()=!\"`".contains(c)).unwrap_or(rest.len());
            if end == 0 {
                return Err(format!("{first:?} was not expected"));
            }
            tokens.push(Token::Word(rest[..end].to_owned()));
            end
        };
        rest = rest[len..].trim_start();
    }
    Ok(tokens)
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn any_of(&mut self) -> Result<Expression, String> {
        let mut parts = vec![self.all_of()?];
        while self.word("or") {
            parts.push(self.all_of()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::Or(parts) })
    }

    fn all_of(&mut self) -> Result<Expression, String> {
        let mut parts = vec![self.one()?];
        while self.word("and") {
            parts.push(self.one()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::And(parts) })
    }

    fn one(&mut self) -> Result<Expression, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("it is nested more than {DEPTH_MAX} deep"));
        }
        let expression = if self.word("not") {
            Expression::Not(Box::new(self.one()?))
        } else if self.sign("(") {
            let inner = self.any_of()?;
            if !self.sign(")") {
                return Err("a parenthesis is not closed".to_owned());
            }
            inner
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(expression)
    }

    fn comparison(&mut self) -> Result<Expression, String> {
        let left = self.next().ok_or("something to compare is missing")?;
        let negated =
            |negated: bool, expression| if negated { Expression::Not(Box::new(expression)) } else { expression };
        if self.sign("==") || self.sign("!=") {
            let is_not = self.tokens[self.at - 1] == Token::Sign("!=");
            return Ok(negated(is_not, Expression::Has { path: path(&left)?, value: self.value()? }));
        }
        if self.word("is") {
            let is_not = self.word("not");
            if !self.word("empty") {
                return Err("\"is\" must be followed by \"empty\" or \"not empty\"".to_owned());
            }
            return Ok(negated(is_not, Expression::Empty { path: path(&left)? }));
        }
        let is_not = self.word("not");
        if self.word("in") {
            let list = self.next().ok_or("\"in\" must be followed by a selector")?;
            return Ok(negated(is_not, Expression::Has { path: path(&list)?, value: left.text().to_owned() }));
        }
        if self.word("contains") {
            return Ok(negated(is_not, Expression::Has { path: path(&left)?, value: self.value()? }));
        }
        Err(format!("after {:?} must come ==, !=, in, contains or is empty", left.text()))
    }

    fn value(&mut self) -> Result<String, String> {
        match self.next() {
            Some(Token::Quoted(text) | Token::Word(text)) => Ok(text),
            _ => Err("a value is missing".to_owned()),
        }
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += usize::from(token.is_some());
        token
    }

    fn word(&mut self, word: &str) -> bool {
        self.take(|token| matches!(token, Token::Word(text) if text == word))
    }

    fn sign(&mut self, sign: &str) -> bool {
        self.take(|token| matches!(token, Token::Sign(text) if *text == sign))
    }

    fn take(&mut self, is: impl Fn(&Token) -> bool) -> bool {
        let taken = self.tokens.get(self.at).is_some_and(is);
        self.at += usize::from(taken);
        taken
    }
}

/// `Service.Meta.version`
fn path(token: &Token) -> Result<Vec<String>, String> {
    match token {
        Token::Word(text) if text.split('.').all(|part| !part.is_empty()) => {
            Ok(text.split('.').map(str::to_owned).collect())
        }
        other => Err(format!("{:?} is no selector, such as Service.Tags", other.text())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn matches(filter: &str) -> bool {
        let entry = json!({
            "Service": {"Service": "web", "Tags": ["blue", "v2"], "Meta": {"version": "2"}, "Port": 80, "Address": ""},
            "Checks": [{"Status": "passing"}, {"Status": "critical"}],
        });
        Filter::parse(filter).unwrap_or_else(|error| panic!("{filter}: {error:?}")).matches(&entry)
    }

    #[test]
    fn comparisons_hold_as_they_read() {
        for holds in [
            "Service.Meta.version == \"2\"",
            "Service.Meta.version != 3",
            "Service.Port == 80",
            "\"blue\" in Service.Tags",
            "green not in Service.Tags",
            "Service.Tags contains `v2`",
            "Service.Tags not contains v3",
            "version in Service.Meta",
            "Service.Address is empty",
            "Service.Tags is not empty",
            "Checks.Status == critical",
            "not Service.Service == api",
            "Service.Service == api or Service.Service == web and blue in Service.Tags",
            "(Service.Service == api or Service.Service == web) and not (Service.Port == 81)",
            "Service.Nothing != x",
        ] {
            assert!(matches(holds), "{holds}");
            assert!(!matches(&format!("not ({holds})")), "not {holds}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        let deep = format!("{}a == b{}", "(".repeat(40), ")".repeat(40));
        let long = format!("a == \"{}\"", "x".repeat(FILTER_LEN_MAX));
        for wrong in [
            "a",
            "a ==",
            "== b",
            "a = b",
            "(a == b",
            "a == b)",
            "a == \"b",
            "a is full",
            "a..b == c",
            "\"a\" == b",
            "a matches b",
            "a == b and",
            "a == b c == d",
            &deep,
            &long,
        ] {
            assert!(Filter::parse(wrong).is_err(), "{wrong}");
        }
    }
}
