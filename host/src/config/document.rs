//! A TOML document, the gateway's own configuration or another one that is read by the same rules.

use std::path::Path;

use toml::de::{DeTable, Error};

use super::{
    files,
    known::Known,
    problem::{ConfigErrors, LineIndex, Problem},
    reader::{Context, FileCheck, Table},
};

/// Reads a file of which `read` knows the keys; those that it does not ask for are refused.
pub(crate) fn load_document<T>(
    path: &Path,
    read: impl for<'a> FnOnce(&mut Table<'a>) -> Option<T>,
) -> Result<T, ConfigErrors> {
    let file_name = path.display().to_string();
    let text = files::read(path, &file_name)?;
    parse_document(&text, &file_name, read)
}

/// The same for a text; `file_name` is what problems are reported under.
pub(crate) fn parse_document<T>(
    text: &str,
    file_name: &str,
    read: impl for<'a> FnOnce(&mut Table<'a>) -> Option<T>,
) -> Result<T, ConfigErrors> {
    walk(text, file_name, Path::new(""), &Known::default(), FileCheck::Trust, read)
}

/// What `read` makes of the whole document, or everything that is wrong with it.
pub(super) fn walk<T>(
    text: &str,
    file_name: &str,
    base_dir: &Path,
    known: &Known,
    file_check: FileCheck,
    read: impl for<'a> FnOnce(&mut Table<'a>) -> Option<T>,
) -> Result<T, ConfigErrors> {
    let (tree, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(syntax_errors(text, file_name, &errors));
    }
    let cx = Context::new(text, file_name, base_dir, known, file_check);
    let mut root = Table::new(&cx, String::new(), 0, tree.get_ref());
    let value = read(&mut root);
    root.finish();
    cx.finish(value)
}

fn syntax_errors(text: &str, file_name: &str, errors: &[Error]) -> ConfigErrors {
    let lines = LineIndex::of(text);
    let problem = |error: &Error| Problem {
        file: file_name.to_owned(),
        position: Some(lines.position(error.span().map_or(0, |span| span.start))),
        key: String::new(),
        message: format!("is not TOML here: {}", error.message()),
    };
    ConfigErrors::new(errors.iter().map(problem).collect())
}
