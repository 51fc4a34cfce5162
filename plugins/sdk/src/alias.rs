//! Weighted sampling in constant time: the alias method (Walker 1977; built as in Vose, "A Linear Algorithm
//! for Generating Random Numbers with a Given Distribution", 1991).

use crate::random::below;

/// A distribution over `0..len`. Drawing costs two loads and a comparison, however many there are.
#[derive(Clone, Debug, Default)]
pub struct Alias {
    columns: Vec<Column>,
    // Kept between rebuilds, so that one in the middle of a slow start allocates nothing.
    heights: Vec<f64>,
    small: Vec<u32>,
    large: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Column {
    /// Of 2^32: how much of the column is its own; the rest is `other`'s.
    own: u32,
    other: u32,
}

/// A column's whole height.
const FULL: f64 = 4_294_967_296.0;

impl Alias {
    /// Takes new weights; one that is 0 is never drawn, unless all are.
    pub fn rebuild(&mut self, weights: impl ExactSizeIterator<Item = u32>) {
        let count = weights.len();
        self.heights.clear();
        self.heights.extend(weights.map(f64::from));
        self.columns.clear();
        self.columns.extend((0..count as u32).map(|index| Column { own: u32::MAX, other: index }));
        let total: f64 = self.heights.iter().sum();
        if total == 0.0 {
            return;
        }
        self.small.clear();
        self.large.clear();
        for (index, height) in self.heights.iter_mut().enumerate() {
            *height *= count as f64 / total;
            if *height < 1.0 { self.small.push(index as u32) } else { self.large.push(index as u32) }
        }
        while let (Some(&little), Some(&big)) = (self.small.last(), self.large.last()) {
            self.small.pop();
            let own = self.heights[little as usize];
            self.columns[little as usize] = Column { own: (own * FULL) as u32, other: big };
            let left = &mut self.heights[big as usize];
            *left -= 1.0 - own;
            if *left < 1.0 {
                self.large.pop();
                self.small.push(big);
            }
        }
        // What is left in either list has a full column, but for rounding.
    }

    /// One of `0..len`, from 64 uniform bits. The table must not be empty.
    #[inline]
    pub fn draw(&self, random: u64) -> usize {
        let index = below(random, self.columns.len() as u32);
        let column = self.columns[index as usize];
        if (random as u32) < column.own { index as usize } else { column.other as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::mix;

    fn shares(weights: &[u32], draws: u64) -> Vec<f64> {
        let mut alias = Alias::default();
        alias.rebuild(weights.iter().copied());
        let mut counts = vec![0_u64; weights.len()];
        for n in 0..draws {
            counts[alias.draw(mix(7, n))] += 1;
        }
        counts.iter().map(|&count| count as f64 / draws as f64).collect()
    }

    #[test]
    fn each_index_is_drawn_in_proportion_to_its_weight() {
        let weights = [1, 2, 3, 10, 0, 65_535, 400];
        let total: u32 = weights.iter().sum();
        for (index, share) in shares(&weights, 2_000_000).into_iter().enumerate() {
            let wanted = f64::from(weights[index]) / f64::from(total);
            assert!((share - wanted).abs() < 0.001, "{index}: {share} instead of {wanted}");
        }
    }

    #[test]
    fn a_weight_of_zero_is_never_drawn() {
        assert_eq!(shares(&[0, 5, 0], 100_000), [0.0, 1.0, 0.0]);
    }

    #[test]
    fn where_all_weights_are_zero_all_are_drawn() {
        assert!(shares(&[0, 0], 10_000).iter().all(|&share| share > 0.4));
    }
}
