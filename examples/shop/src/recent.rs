//! A map that forgets its oldest entries: what keeps a service that runs for ever from growing for ever.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

/// At most `MAX` entries by id, in the order in which they came.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recent<T, const MAX: usize> {
    entries: BTreeMap<String, T>,
    order: VecDeque<String>,
}

impl<T, const MAX: usize> Recent<T, MAX> {
    pub fn get(&self, id: &str) -> Option<&T> {
        self.entries.get(id)
    }

    /// Keeps a new entry; one with the same id stays in its place with the new value.
    pub fn keep(&mut self, id: &str, entry: T) {
        if self.entries.insert(id.to_owned(), entry).is_some() {
            return;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > MAX {
            let oldest = self.order.pop_front().expect("longer than the bound");
            self.entries.remove(&oldest);
        }
    }

    pub fn remove(&mut self, id: &str) -> Option<T> {
        let entry = self.entries.remove(id)?;
        self.order.retain(|known| known != id);
        Some(entry)
    }

    /// The newest first.
    pub fn newest(&self) -> impl Iterator<Item = &T> {
        self.order.iter().rev().filter_map(|id| self.entries.get(id))
    }
}

impl<T, const MAX: usize> Default for Recent<T, MAX> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), order: VecDeque::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first() {
        let mut recent = Recent::<u32, 3>::default();
        (0..5).for_each(|n| recent.keep(&n.to_string(), n));
        recent.keep("3", 33);
        assert_eq!(recent.newest().copied().collect::<Vec<_>>(), [4, 33, 2]);
        assert_eq!(recent.get("1"), None);
        assert_eq!([recent.remove("2"), recent.remove("2")], [Some(2), None]);
        recent.keep("5", 5);
        assert_eq!(recent.newest().copied().collect::<Vec<_>>(), [5, 4, 33]);
    }
}
