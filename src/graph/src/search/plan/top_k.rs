//! Top-k: the rank of answers, the best of them, and the floor below which none is kept.

use crate::search::Score;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// Rank of an answer; greater is better: a greater score, a greater F1, a lesser ordinal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rank {
    /// Score; `None` if the match is by NOT alone.
    pub score: Option<Score>,
    /// F1 score; NaN is below all numbers.
    pub f1: f32,
    pub ordinal: u32,
}

impl Rank {
    /// F1 as a comparable number: NaN is −∞, −0 is 0.
    pub fn sortable_f1(&self) -> f32 {
        if self.f1.is_nan() { f32::NEG_INFINITY } else { self.f1 + 0.0 }
    }
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        let f1 = || self.sortable_f1().total_cmp(&other.sortable_f1());
        self.score.cmp(&other.score).then_with(f1).then_with(|| other.ordinal.cmp(&self.ordinal))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Rank {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Rank {}

/// The best ranks, up to a limit.
pub(super) struct TopRanks {
    limit: usize,
    /// The ranks, the worst at the top.
    kept: BinaryHeap<Reverse<Rank>>,
}

impl TopRanks {
    /// Keeps at most `limit` ranks; without a limit, all.
    pub fn new(limit: Option<usize>) -> Self {
        Self { limit: limit.unwrap_or(usize::MAX), kept: BinaryHeap::new() }
    }

    /// The worst rank, which others have to be above to be kept, once there are `limit`.
    pub fn floor(&self) -> Option<Rank> {
        let worst = self.kept.peek().filter(|_| self.kept.len() >= self.limit);
        worst.map(|Reverse(rank)| *rank)
    }

    pub fn offer(&mut self, rank: Rank) {
        if self.floor().is_none_or(|floor| rank > floor) {
            self.kept.push(Reverse(rank));
        }
        if self.kept.len() > self.limit {
            self.kept.pop();
        }
    }

    /// Returns the ranks, best first.
    pub fn into_sorted(self) -> Vec<Rank> {
        let mut kept: Vec<Rank> = self.kept.into_iter().map(|Reverse(rank)| rank).collect();
        kept.sort_unstable_by(|one, other| other.cmp(one));
        kept
    }
}

/// Rank of the worst answer that is still kept: a graph that does not rank above it may be passed over.
pub(super) struct AdmissionThreshold<'a> {
    pub rank: Option<Rank>,
    pub f1s: &'a [f32],
}

impl AdmissionThreshold<'_> {
    /// Returns true if a graph that matches with this score would be kept.
    pub fn admits(&self, score: Option<Score>, ordinal: u32) -> bool {
        self.rank.is_none_or(|floor| self.rank_of(score, ordinal) > floor)
    }

    pub fn rank_of(&self, score: Option<Score>, ordinal: u32) -> Rank {
        Rank { score, f1: self.f1(ordinal), ordinal }
    }

    /// F1 score of a graph; NaN if unknown.
    #[inline]
    pub fn f1(&self, ordinal: u32) -> f32 {
        self.f1s.get(ordinal as usize).copied().unwrap_or(f32::NAN)
    }
}
