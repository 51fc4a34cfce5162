//! From a file's content to endpoints.

use sluice_sdk::{
    discovery::Member,
    instances::instances,
    json::{self, Value},
};
use toml::de::{DeTable, DeValue};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Toml,
}

/// All endpoints, or one sentence with everything that is wrong.
pub fn endpoints(content: &[u8], format: Format) -> Result<Vec<Member>, String> {
    let text = std::str::from_utf8(content).map_err(|_| "it is no UTF-8 text".to_owned())?;
    let value = match format {
        Format::Json => json::parse(text).ok_or("it is no JSON")?,
        Format::Toml => from_toml(text)?,
    };
    let list = value.get("endpoints").unwrap_or(&value).list();
    instances(list.ok_or("it must be a list of endpoints, or a table with that list as \"endpoints\"")?)
}

fn from_toml(text: &str) -> Result<Value, String> {
    let table = DeTable::parse(text).map_err(|error| {
        let line = 1 + error.span().map_or(0, |span| text[..span.start].matches('\n').count());
        format!("it is no TOML, in line {line}: {}", error.message())
    })?;
    Ok(table_value(table.get_ref()))
}

fn table_value(table: &DeTable<'_>) -> Value {
    Value::Table(table.iter().map(|(key, value)| (key.get_ref().to_string(), value_of(value.get_ref()))).collect())
}

/// What is no value of JSON becomes a text, which is refused where it matters.
fn value_of(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => {
            let number = i64::from_str_radix(number.as_str(), number.radix());
            number.map_or(Value::Null, |number| Value::Number(number as f64))
        }
        DeValue::Float(number) => number.as_str().parse().map_or(Value::Null, Value::Number),
        DeValue::Boolean(boolean) => Value::Boolean(*boolean),
        DeValue::Datetime(date) => Value::Text(date.to_string()),
        DeValue::Array(values) => Value::List(values.iter().map(|value| value_of(value.get_ref())).collect()),
        DeValue::Table(table) => table_value(table),
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(content: &str, format: Format) -> Result<Vec<String>, String> {
        let members = endpoints(content.as_bytes(), format)?;
        Ok(members.into_iter().map(|member| format!("{}*{}", member.address, member.weight)).collect())
    }

    #[test]
    fn both_formats_and_both_shapes_mean_the_same() {
        let wanted = Ok(vec!["a:1*1".to_owned(), "b:2*3".to_owned()]);
        let list = r#"["a:1", {"address": "b:2", "weight": 3}]"#;
        assert_eq!(addresses(list, Format::Json), wanted);
        assert_eq!(addresses(&format!("{{\"endpoints\": {list}}}"), Format::Json), wanted);
        assert_eq!(addresses("endpoints = ['a:1', { address = 'b:2', weight = 3 }]", Format::Toml), wanted);
        assert_eq!(
            addresses("[[endpoints]]\naddress = 'a:1'\n[[endpoints]]\naddress = 'b:2'\nweight = 3", Format::Toml),
            wanted
        );
        assert_eq!(addresses("[]", Format::Json), Ok(Vec::new()));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (content, format, said) in [
            ("{", Format::Json, "no JSON"),
            ("{}", Format::Json, "list of endpoints"),
            ("[1]", Format::Json, "endpoint 1"),
            ("a = 1\nb = ", Format::Toml, "line 2"),
            ("endpoints = 1", Format::Toml, "list of endpoints"),
        ] {
            let problem = addresses(content, format).expect_err(content);
            assert!(problem.contains(said), "{content}: {problem}");
        }
        assert!(endpoints(&[0xff], Format::Json).expect_err("no text").contains("UTF-8"));
    }

    #[test]
    fn digests_survive_as_text() {
        assert_eq!(from_hex(&hex(&[0, 255, 16])), Some(vec![0, 255, 16]));
        assert_eq!((from_hex("0"), from_hex("zz")), (None, None));
    }
}
