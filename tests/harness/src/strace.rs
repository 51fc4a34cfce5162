//! What strace saw of a gateway ([`crate::SluiceBuilder::traced`]).

use std::collections::BTreeSet;

/// The lines at which a sync of a file came to a good end whose path contains `path`.
pub fn syncs(lines: &[String], path: &str) -> Vec<usize> {
    // A call during which another thread makes one stands in two lines, and only the first names the file.
    let mut begun = BTreeSet::new();
    let mut ended = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let thread = line.split_whitespace().next().unwrap_or_default();
        let is_resumed = line.contains("sync resumed>");
        let is_begun = (line.contains(" fsync(") || line.contains(" fdatasync(")) && line.contains(path);
        if is_resumed && !begun.remove(thread) || !is_resumed && !is_begun {
            continue;
        }
        if line.contains("<unfinished") {
            begun.insert(thread);
        } else if line.trim_end().ends_with("= 0") {
            ended.push(at);
        }
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_counts_where_it_ends_if_it_is_of_the_file() {
        let lines = [
            "7 10:00:00.1 fdatasync(5</data/a.jnl> <unfinished ...>",
            "8 10:00:00.2 fsync(6</data/other>) = 0",
            "9 10:00:00.3 fdatasync(6</data/other> <unfinished ...>",
            "7 10:00:00.4 <... fdatasync resumed>) = 0",
            "9 10:00:00.5 <... fdatasync resumed>) = 0",
            "8 10:00:00.6 fsync(5</data/a.jnl>) = -1 EIO (Input/output error)",
            "8 10:00:00.7 fsync(5</data/a.jnl>) = 0",
        ];
        assert_eq!(syncs(&lines.map(str::to_owned), ".jnl"), [3, 6]);
    }
}
