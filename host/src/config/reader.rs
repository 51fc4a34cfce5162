//! Walking the tree of a TOML text: getters that note every problem where it stands, and go on.
//!
//! A getter that answers `None` for a value that is there has noted why. So a section reads all its keys, puts
//! defaults where nothing usable stands, and leaves it to [`Context::finish`] whether the result counts.

use std::{
    borrow::Borrow,
    cell::{Cell, RefCell},
    fmt::Display,
    ops::Range,
    path::Path,
};

use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use super::{
    known::Known,
    problem::{ConfigErrors, LineIndex, Problem},
    suggest,
};

/// Whether a file that the configuration names is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileCheck {
    MustExist,
    Trust,
}

/// What one reading of a file has at hand, and the problems found so far.
pub(crate) struct Context<'a> {
    pub base_dir: &'a Path,
    pub known: &'a Known,
    pub file_check: FileCheck,
    file_name: &'a str,
    lines: LineIndex<'a>,
    problems: RefCell<Vec<Problem>>,
    /// With names that were meant, perhaps.
    comparisons: Cell<usize>,
}

impl<'a> Context<'a> {
    pub fn new(text: &'a str, file_name: &'a str, base_dir: &'a Path, known: &'a Known, file_check: FileCheck) -> Self {
        let lines = LineIndex::of(text);
        Self { base_dir, known, file_check, file_name, lines, problems: RefCell::default(), comparisons: Cell::new(0) }
    }

    pub fn refuse(&self, offset: usize, key: &str, message: impl Display) {
        self.problems.borrow_mut().push(Problem {
            file: self.file_name.to_owned(),
            position: Some(self.lines.position(offset)),
            key: key.to_owned(),
            message: message.to_string(),
        });
    }

    /// What was meant by a name that is wrong; nothing once there have been very many.
    pub fn hint<S: Borrow<str>>(&self, given: &str, candidates: impl IntoIterator<Item = S>) -> String {
        if self.comparisons.get() >= suggest::COMPARISONS_MAX {
            return String::new();
        }
        let candidates: Vec<S> = candidates.into_iter().collect();
        self.comparisons.set(self.comparisons.get() + candidates.len());
        suggest::hint(given, candidates)
    }

    /// The value made of the whole file, unless anything was refused.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, ConfigErrors> {
        let problems = self.problems.into_inner();
        match value {
            Some(value) if problems.is_empty() => Ok(value),
            _ => Err(ConfigErrors::new(problems)),
        }
    }
}

/// A value, and the key it stands under.
#[derive(Clone)]
pub(crate) struct Value<'a> {
    pub cx: &'a Context<'a>,
    pub key: String,
    pub value: &'a DeValue<'a>,
    offset: usize,
}

impl<'a> Value<'a> {
    pub fn refuse(&self, message: impl Display) {
        self.cx.refuse(self.offset, &self.key, message);
    }

    /// Notes that another type is needed; `example` is what would be right.
    pub fn refuse_type(&self, wanted: &str) {
        let found = self.value.type_str();
        let article = if found.starts_with(['a', 'i']) { "an" } else { "a" };
        self.refuse(format_args!("must be {wanted}, not {article} {found}"));
    }

    pub fn text(&self, wanted: &str) -> Option<&'a str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.refuse_type(wanted);
        }
        text
    }

    pub fn table(&self, wanted: &str) -> Option<Table<'a>> {
        match self.value {
            DeValue::Table(entries) => Some(Table::new(self.cx, self.key.clone(), self.offset, entries)),
            _ => {
                self.refuse_type(wanted);
                None
            }
        }
    }

    /// The elements of an array.
    pub fn items(&self, wanted: &str) -> Option<Vec<Value<'a>>> {
        let DeValue::Array(items) = self.value else {
            self.refuse_type(wanted);
            return None;
        };
        let item = |(index, item): (usize, &'a Spanned<DeValue<'a>>)| Value {
            cx: self.cx,
            key: format!("{}[{index}]", self.key),
            value: item.get_ref(),
            offset: item.span().start,
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// The entries of a table whose keys are names that the user gives.
    pub fn entries(&self, wanted: &str) -> Option<Vec<(Key<'a>, Value<'a>)>> {
        let DeValue::Table(entries) = self.value else {
            self.refuse_type(wanted);
            return None;
        };
        Some(entries.iter().map(|(key, value)| entry(self.cx, &self.key, key, value)).collect())
    }
}

/// The name of an entry.
pub(crate) struct Key<'a> {
    pub text: &'a str,
    cx: &'a Context<'a>,
    key: String,
    offset: usize,
}

impl Key<'_> {
    pub fn refuse(&self, message: impl Display) {
        self.cx.refuse(self.offset, &self.key, message);
    }
}

/// A table whose keys are fixed: those asked for. [`Table::finish`] refuses the others.
pub(crate) struct Table<'a> {
    cx: &'a Context<'a>,
    key: String,
    offset: usize,
    entries: &'a DeTable<'a>,
    asked: Vec<&'static str>,
    refused: Vec<&'static str>,
}

impl<'a> Table<'a> {
    pub fn new(cx: &'a Context<'a>, key: String, offset: usize, entries: &'a DeTable<'a>) -> Self {
        Self { cx, key, offset, entries, asked: Vec::new(), refused: Vec::new() }
    }

    /// The value of a key, if it is there.
    pub fn get(&mut self, name: &'static str) -> Option<Value<'a>> {
        self.asked.push(name);
        let (key, value) = self.entries.get_key_value(name)?;
        Some(entry(self.cx, &self.key, key, value).1)
    }

    /// The keys asked for so far that the file has.
    pub fn stated(&self) -> Vec<&'static str> {
        self.asked.iter().copied().filter(|&name| self.entries.contains_key(name)).collect()
    }

    /// What `read` makes of a key's value; none where it is absent or `read` refused it.
    pub fn read<T>(&mut self, name: &'static str, read: impl FnOnce(&Value<'a>) -> Option<T>) -> Option<T> {
        self.get(name).and_then(|value| read(&value))
    }

    /// The same for a key that must be there; `example` shows it.
    pub fn require<T>(
        &mut self,
        name: &'static str,
        example: &str,
        read: impl FnOnce(&Value<'a>) -> Option<T>,
    ) -> Option<T> {
        match self.get(name) {
            Some(value) => read(&value),
            None => {
                self.refuse(format_args!("{name:?} is missing, such as {name} = {example}"));
                None
            }
        }
    }

    /// Refuses keys that a later version will have.
    pub fn not_yet(&mut self, names: &[&'static str]) {
        for &name in names {
            self.refused.push(name);
            if let Some((key, value)) = self.entries.get_key_value(name) {
                entry(self.cx, &self.key, key, value).0.refuse("is not available in this version; take it out");
            }
        }
    }

    /// Puts what `read` makes of a key's value in place of a default, where there is something usable.
    pub fn set<T>(&mut self, place: &mut T, name: &'static str, read: impl FnOnce(&Value<'a>) -> Option<T>) {
        if let Some(value) = self.read(name, read) {
            *place = value;
        }
    }

    pub fn cx(&self) -> &'a Context<'a> {
        self.cx
    }

    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn refuse(&self, message: impl Display) {
        self.cx.refuse(self.offset, &self.key, message);
    }

    /// Refuses every key that nobody asked for.
    pub fn finish(self) {
        for (key, value) in self.entries {
            let name: &str = key.get_ref();
            if !self.asked.contains(&name) && !self.refused.contains(&name) {
                let hint = self.cx.hint(name, self.asked.iter().copied());
                entry(self.cx, &self.key, key, value).0.refuse(format_args!("is no known key{hint}"));
            }
        }
    }
}

fn entry<'a>(
    cx: &'a Context<'a>,
    parent: &str,
    key: &'a Spanned<DeString<'a>>,
    value: &'a Spanned<DeValue<'a>>,
) -> (Key<'a>, Value<'a>) {
    let text: &str = key.get_ref();
    let path = join(parent, text);
    let Range { start: offset, .. } = key.span();
    let key = Key { text, cx, key: path.clone(), offset };
    (key, Value { cx, key: path, value: value.get_ref(), offset: value.span().start })
}

/// Longest part of a key that a message shows.
const KEY_SHOWN_LEN_MAX: usize = 80;

/// `parent.name`, the name as it would be written in TOML.
pub(super) fn join(parent: &str, name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let shown = &name[..name.floor_char_boundary(KEY_SHOWN_LEN_MAX)];
    let dots = if shown.len() < name.len() { "…" } else { "" };
    let shown = if bare { format!("{shown}{dots}") } else { format!("\"{}{dots}\"", shown.escape_debug()) };
    if parent.is_empty() { shown } else { format!("{parent}.{shown}") }
}
