//! Dependencies point one way (ARCHITECTURE.md, "The folders"): this reads the sources of the library and finds
//! each path that leads from one top-level module into another.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Each level may use those above it in this list; modules of one level do not use each other.
const LEVELS: [&[&str]; 9] = [
    &["model"],
    &["config"],
    &["plugin", "storage", "telemetry"],
    &["failover"],
    &["gateway"],
    &["events"],
    &["registry", "transactions", "simulator"],
    &["control"],
    &["cli"],
];

#[test]
fn dependencies_point_one_way() {
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(sources.len() > 20, "only {} files were found", sources.len());
    let wrong: Vec<_> = sources.iter().flat_map(Source::wrong_arrows).collect();
    assert!(wrong.is_empty(), "{} arrows point the wrong way:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_way_to_write_an_arrow_is_seen() {
    let wrong_arrows = |file: &str, text: &str| Source::new(Path::new(file), text).wrong_arrows();
    let is_wrong = |file: &str, text: &str| wrong_arrows(file, text).len() == 1;
    assert!(is_wrong("gateway/pick.rs", "use crate::control::Publisher;"));
    assert!(is_wrong("gateway/pick.rs", "use crate::{model::{Slot, Clock}, control::{self, publish}};"));
    assert!(is_wrong("gateway/pick.rs", "fn f() { crate :: cli ::run() }"));
    assert!(is_wrong("gateway/guard/io.rs", "use super::super::super::control::Change;"));
    assert!(is_wrong("gateway/mod.rs", "use super::control;"));
    assert!(is_wrong("plugin/mod.rs", "use crate::telemetry::Metrics;"));
    assert!(is_wrong("model/mod.rs", "use crate::*;"));
    assert!(is_wrong("elsewhere/mod.rs", ""), "a module that has no level");

    let is_right = |file: &str, text: &str| wrong_arrows(file, text).is_empty();
    assert!(is_right("control/mod.rs", "use crate::{gateway::Gateway, model::{self, Slot}, telemetry::*};"));
    assert!(is_right("gateway/pick.rs", "use crate::gateway::router::{control, cli};\nuse super::control;"));
    assert!(is_right("gateway/pick.rs", "// crate::control\n/* crate::cli */ let s = \"crate::control\";"));
    assert!(is_right("gateway/pick.rs", "pub(in crate::gateway) fn f(q: char) -> bool { q == '\"' }"));
    assert!(is_right("telemetry/mod.rs", "mod tests { use super::registry::Metrics; }"));
}

struct Source {
    /// Below `src`, without `mod` and extension: the modules' names.
    modules: Vec<String>,
    file: PathBuf,
    /// Without comments and literals.
    code: String,
}

impl Source {
    fn new(file: &Path, text: &str) -> Self {
        let path = file.with_extension("");
        let modules = path.iter().map(|part| part.to_string_lossy().into_owned()).filter(|part| part != "mod");
        Self { modules: modules.collect(), file: file.to_owned(), code: without_comments_and_literals(text) }
    }

    fn wrong_arrows(&self) -> Vec<String> {
        let own = self.modules[0].as_str();
        if ["main", "lib"].contains(&own) {
            return Vec::new();
        }
        let Some(own_level) = level(own) else {
            return vec![format!("{}: {own} has no place in LEVELS", self.file.display())];
        };
        let allowed = |used: &str| used == own || level(used).is_some_and(|used| used < own_level);
        self.used()
            .into_iter()
            .filter(|used| !allowed(used))
            .map(|used| format!("{}: {own} uses {used}", self.file.display()))
            .collect()
    }

    /// Top-level modules that this file names.
    fn used(&self) -> Vec<String> {
        let tokens = tokens(&self.code);
        let mut used = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            let supers = tokens[at..].chunks(2).take_while(|pair| *pair == ["super", "::"]).count();
            let begins_path = at == 0 || tokens[at - 1] != "::";
            if tokens[at..].starts_with(&["crate", "::"]) {
                at += 2;
                used.extend(heads(&tokens[at..]));
            } else if begins_path && supers > 0 {
                at += 2 * supers;
                // One more than the file is deep leaves the crate, unless it stands in an inline module.
                let inline = tokens[..at].windows(3).any(|three| three[0] == "mod" && three[2] == "{");
                if supers >= self.modules.len() && !inline {
                    used.extend(heads(&tokens[at..]));
                }
            } else {
                at += 1;
            }
        }
        used
    }
}

fn level(module: &str) -> Option<usize> {
    LEVELS.iter().position(|level| level.contains(&module))
}

/// The first segments of a path or of the paths in a `{…}` list.
fn heads(tokens: &[&str]) -> Vec<String> {
    if tokens.first() != Some(&"{") {
        return tokens.first().map(|head| (*head).to_owned()).into_iter().collect();
    }
    let mut heads = Vec::new();
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match *token {
            "{" => depth += 1,
            "}" => depth -= 1,
            head if depth == 1 && ["{", ","].contains(&tokens[at - 1]) && head != "," => heads.push(head.to_owned()),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    heads
}

/// Identifiers, `::`, and single other characters.
fn tokens(code: &str) -> Vec<&str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let len = match first {
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            ':' if rest.starts_with("::") => 2,
            c => c.len_utf8(),
        };
        tokens.push(&rest[..len]);
        rest = rest[len..].trim_start();
    }
    tokens
}

fn without_comments_and_literals(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(quoted) = raw_string_len(rest) {
            quoted
        } else if first == '"' {
            string_len(rest)
        } else if let Some(quoted) = char_literal_len(rest) {
            quoted
        } else {
            code.push(first);
            first.len_utf8()
        };
        rest = &rest[len..];
    }
    code
}

fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

fn raw_string_len(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('r')?;
    let hashes = inner.len() - inner.trim_start_matches('#').len();
    let body = inner[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(body.find(&end).map_or(text.len(), |at| 1 + hashes + 1 + at + end.len()))
}

/// `'x'` and `'\n'`, but not the lifetime `'x`.
fn char_literal_len(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('\'')?;
    let value = match inner.strip_prefix('\\') {
        Some(escape) => 1 + escape.chars().next()?.len_utf8() + escape[1..].find('\'')?,
        None => inner.chars().next()?.len_utf8(),
    };
    inner[value..].starts_with('\'').then_some(value + 2)
}

fn sources(src: &Path) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut folders = vec![src.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the sources can be read") {
            let path = entry.expect("the sources can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("the sources are text");
                let below = path.strip_prefix(src).expect("it is below the folder that was read");
                sources.push(Source::new(below, &text));
            }
        }
    }
    sources
}
