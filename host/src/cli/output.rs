//! What a command that worked prints.

use serde_json::Value;

/// For people, or for programs with `--json`.
#[derive(Debug)]
pub(super) struct Output {
    text: String,
    json: Value,
}

impl Output {
    pub fn new(text: impl Into<String>, json: Value) -> Self {
        Self { text: text.into(), json }
    }

    /// Of a command whose work was all.
    pub fn nothing() -> Self {
        Self { text: String::new(), json: Value::Null }
    }

    pub fn print(&self, as_json: bool) {
        if as_json && !self.json.is_null() {
            println!("{}", self.json);
        } else if !as_json && !self.text.is_empty() {
            println!("{}", self.text.trim_end());
        }
    }
}

/// Rows below a heading, each column as wide as its widest cell.
pub(super) fn table<const COLUMNS: usize>(heading: [&str; COLUMNS], rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([heading[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..COLUMNS).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let heading = line(heading.to_vec());
    let rows = rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
    std::iter::once(heading).chain(rows).collect::<Vec<_>>().join("\n")
}

/// A JSON value as indented lines, `key: value` each; a list of plain values on one line.
pub(super) fn outline(value: &Value) -> String {
    let mut lines = String::new();
    outline_into(&mut lines, value, 0);
    lines
}

fn outline_into(lines: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    let Value::Object(fields) = value else {
        *lines += &format!("{indent}{}\n", plain(value));
        return;
    };
    for (key, value) in fields {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                *lines += &format!("{indent}{key}:\n");
                outline_into(lines, value, depth + 1);
            }
            Value::Array(items) if items.iter().any(Value::is_object) => {
                *lines += &format!("{indent}{key}:\n");
                for item in items {
                    let mut inner = String::new();
                    outline_into(&mut inner, item, depth + 2);
                    // The first line of an item carries its dash.
                    *lines += &inner.replacen(&format!("{indent}    "), &format!("{indent}  - "), 1);
                }
            }
            _ => *lines += &format!("{indent}{key}: {}\n", plain(value)),
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_outline_has_a_line_for_each_value() {
        let value = json!({"a": 1, "b": {"c": "x"}, "d": [1, 2], "e": [{"f": 1, "g": {"h": true}}, {"f": 2}], "i": {}});
        let wanted = "a: 1\nb:\n  c: x\nd: 1, 2\ne:\n  - f: 1\n    g:\n      h: true\n  - f: 2\ni: {}\n";
        assert_eq!(outline(&value), wanted);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a".to_owned(), "ééé".to_owned()], ["long-name".to_owned(), String::new()]];
        assert_eq!(table(["NAME", "X"], &rows), "NAME       X\na          ééé\nlong-name");
    }
}
