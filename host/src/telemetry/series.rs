//! Cells by label: found again for the same label, given up when nothing has used them for a while, bounded in
//! number.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::Arc,
    time::{Duration, Instant},
};

use super::totals::Sum;

/// How long a series outlives its last user. Long enough that every scrape interval in use (seconds to a few
/// minutes) sees the last counts, and that an endpoint which comes back after a deployment goes on counting.
pub(super) const KEPT_UNUSED: Duration = Duration::from_secs(15 * 60);

/// All series of one kind. A series is in use as long as somebody besides this table holds its cells: a snapshot
/// that names the endpoint, an instance of the version.
#[derive(Debug)]
pub(super) struct SeriesTable<K, C> {
    series: HashMap<K, Series<C>>,
    /// One for all labels beyond the bound.
    overflow: Series<C>,
    series_max: usize,
}

/// A series that was given up, and its last counts.
pub(super) type Retired<K, C> = (K, <C as Sum>::Total);

impl<K: Clone + Eq + Hash, C: Default + Sum> SeriesTable<K, C> {
    pub fn new(series_max: usize) -> Self {
        Self { series: HashMap::new(), overflow: Series::new(Instant::now()), series_max }
    }

    /// The same cells for the same worker and label. A full table gives up the series that has been out of use
    /// for longest; where all are in use, all further labels share their cells.
    pub fn cells(&mut self, worker: usize, key: K, now: Instant) -> (Arc<C>, Option<Retired<K, C>>) {
        let retired = if self.series.contains_key(&key) { None } else { self.make_room() };
        let full = self.series.len() >= self.series_max;
        let series = match self.series.entry(key) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(_) if full => &mut self.overflow,
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(Series::new(now)),
        };
        series.used_at = now;
        (series.of_worker(worker), retired)
    }

    pub fn total(&self, key: &K) -> Option<C::Total> {
        self.series.get(key).map(Series::total)
    }

    /// Each series added up; that of all labels beyond the bound last, without a label, if there is any.
    pub fn totals(&self) -> Vec<(Option<K>, C::Total)> {
        let named = self.series.iter().map(|(key, series)| (Some(key.clone()), series.total()));
        let overflow = (!self.overflow.cells.is_empty()).then(|| (None, self.overflow.total()));
        named.chain(overflow).collect()
    }

    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.series.keys()
    }

    /// Gives up what nobody has used for [`KEPT_UNUSED`].
    pub fn sweep(&mut self, now: Instant) -> Vec<Retired<K, C>> {
        for series in self.series.values_mut().filter(|series| series.in_use()) {
            series.used_at = now;
        }
        self.series
            .extract_if(|_, series| now.saturating_duration_since(series.used_at) >= KEPT_UNUSED)
            .map(|(key, series)| (key, series.total()))
            .collect()
    }

    fn make_room(&mut self) -> Option<Retired<K, C>> {
        if self.series.len() < self.series_max {
            return None;
        }
        let unused = self.series.iter().filter(|(_, series)| !series.in_use());
        let oldest = unused.min_by_key(|(_, series)| series.used_at).map(|(key, _)| key.clone())?;
        self.series.remove_entry(&oldest).map(|(key, series)| (key, series.total()))
    }
}

/// The cells of one label, one a worker.
#[derive(Debug)]
struct Series<C> {
    cells: Vec<(usize, Arc<C>)>,
    used_at: Instant,
}

impl<C: Default + Sum> Series<C> {
    fn new(now: Instant) -> Self {
        Self { cells: Vec::new(), used_at: now }
    }

    fn of_worker(&mut self, worker: usize) -> Arc<C> {
        if let Some((_, cells)) = self.cells.iter().find(|(owner, _)| *owner == worker) {
            return Arc::clone(cells);
        }
        let cells = Arc::<C>::default();
        self.cells.push((worker, Arc::clone(&cells)));
        cells
    }

    fn in_use(&self) -> bool {
        self.cells.iter().any(|(_, cells)| Arc::strong_count(cells) > 1)
    }

    fn total(&self) -> C::Total {
        let mut total = C::Total::default();
        self.cells.iter().for_each(|(_, cells)| cells.add_to(&mut total));
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::RouteCells;

    fn table(series_max: usize) -> SeriesTable<&'static str, RouteCells> {
        SeriesTable::new(series_max)
    }

    #[test]
    fn the_same_label_finds_the_same_cells_again() {
        let now = Instant::now();
        let mut table = table(8);
        let (cells, _) = table.cells(0, "/a", now);
        cells.retries.add(3);
        drop(cells);
        assert_eq!(table.cells(0, "/a", now).0.retries.get(), 3);
        assert_eq!(table.cells(1, "/a", now).0.retries.get(), 0, "another worker has cells of its own");
        assert_eq!(table.total(&"/a").map(|total| total.retries), Some(3));
    }

    #[test]
    fn a_series_goes_only_when_unused_for_long_and_leaves_its_counts() {
        let start = Instant::now();
        let mut table = table(8);
        let (held, _) = table.cells(0, "/held", start);
        table.cells(0, "/gone", start).0.retries.add(2);
        assert!(table.sweep(start + KEPT_UNUSED - Duration::from_secs(1)).is_empty());

        let retired = table.sweep(start + KEPT_UNUSED);
        assert_eq!(retired.iter().map(|(key, total)| (*key, total.retries)).collect::<Vec<_>>(), [("/gone", 2)]);

        drop(held);
        let let_go = start + KEPT_UNUSED;
        assert!(table.sweep(let_go + KEPT_UNUSED - Duration::from_secs(1)).is_empty(), "was in use until just now");
        assert_eq!(table.sweep(let_go + KEPT_UNUSED).len(), 1);
    }

    #[test]
    fn labels_beyond_the_bound_share_their_cells() {
        let now = Instant::now();
        let mut table = table(2);
        let (_a, _) = table.cells(0, "/a", now);
        let (b, _) = table.cells(0, "/b", now);
        b.retries.add(1);
        table.cells(0, "/c", now).0.retries.add(5);
        table.cells(0, "/d", now).0.retries.add(5);
        assert_eq!(table.keys().count(), 2);
        assert_eq!(table.totals().iter().find(|(key, _)| key.is_none()).map(|(_, total)| total.retries), Some(10));

        drop(b);
        let (_, retired) = table.cells(0, "/c", now);
        assert_eq!(retired.map(|(key, total)| (key, total.retries)), Some(("/b", 1)), "unused, so it makes room");
        assert_eq!(table.total(&"/c").map(|total| total.retries), Some(0));
    }
}
