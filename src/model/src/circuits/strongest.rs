//! Top-k selection.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// The `k` items of greatest rank of those offered; of equal ones the first. NaN ranks last.
#[derive(Debug)]
pub(super) struct Strongest<T> {
    k: usize,
    offered: u64,
    /// Least rank kept.
    floor: f32,
    kept: BinaryHeap<Reverse<Ranked<T>>>,
}

#[derive(Debug)]
struct Ranked<T> {
    rank: f32,
    place: u64,
    item: T,
}

impl<T> Strongest<T> {
    pub fn new(k: usize) -> Self {
        Self { k, offered: 0, floor: f32::NAN, kept: BinaryHeap::new() }
    }

    #[inline]
    pub fn offer(&mut self, rank: f32, item: impl FnOnce() -> T) {
        if self.kept.len() < self.k || rank > self.floor {
            self.keep(rank, item());
        }
        self.offered += 1;
    }

    fn keep(&mut self, rank: f32, item: T) {
        // −0 becomes 0, and NaN −∞.
        let rank = if rank.is_nan() { f32::NEG_INFINITY } else { rank + 0.0 };
        if self.kept.len() == self.k {
            self.kept.pop();
        }
        self.kept.push(Reverse(Ranked { rank, place: self.offered, item }));
        self.floor = self.kept.peek().map_or(f32::NAN, |least| least.0.rank);
    }

    /// Returns the items, greatest rank first.
    pub fn into_items(self) -> Vec<T> {
        // Ascending by the reversed order.
        self.kept.into_sorted_vec().into_iter().map(|ranked| ranked.0.item).collect()
    }
}

impl<T> Ord for Ranked<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank.total_cmp(&other.rank).then(other.place.cmp(&self.place))
    }
}

impl<T> PartialOrd for Ranked<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Ranked<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Ranked<T> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn as_a_stable_sort(
            ranks in proptest::collection::vec(
                prop_oneof![8 => (-4_i8..4).prop_map(f32::from), 1 => any::<f32>(), 1 => Just(-0.0)],
                0..40,
            ),
            k in 0_usize..50,
        ) {
            let mut strongest = Strongest::new(k);
            ranks.iter().enumerate().for_each(|(i, rank)| strongest.offer(*rank, || i));
            let mut all: Vec<usize> = (0..ranks.len()).collect();
            let rank = |i: &usize| if ranks[*i].is_nan() { f32::NEG_INFINITY } else { ranks[*i] };
            all.sort_by(|a, b| rank(b).partial_cmp(&rank(a)).unwrap());
            all.truncate(k);
            prop_assert_eq!(strongest.into_items(), all);
        }
    }
}
