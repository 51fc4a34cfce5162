//! What a command that worked prints.

use serde_json::Value;

/// For people, or for programs with `--json`.
#[derive(Debug)]
pub(super) struct Output {
    text: String,
    /// None: nothing to say.
    json: Option<String>,
}

impl Output {
    pub fn new(text: impl Into<String>, json: Value) -> Self {
        let json = Some(json).filter(|json| !json.is_null());
        Self { text: text.into(), json: json.map(|json| json.to_string()) }
    }

    /// With JSON as it is, for what a [`Value`] would round.
    pub fn with_json(text: impl Into<String>, json: String) -> Self {
        Self { text: text.into(), json: Some(json) }
    }

    /// Of a command whose work was all.
    pub fn nothing() -> Self {
        Self { text: String::new(), json: None }
    }

    pub fn print(&self, as_json: bool) {
        if let Some(json) = self.json.as_ref().filter(|_| as_json) {
            println!("{json}");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a".to_owned(), "ééé".to_owned()], ["long-name".to_owned(), String::new()]];
        assert_eq!(table(["NAME", "X"], &rows), "NAME       X\na          ééé\nlong-name");
    }
}
