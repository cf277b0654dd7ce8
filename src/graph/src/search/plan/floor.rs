//! The score below which nothing is an answer.

use super::rank::Rank;
use crate::search::Score;

/// The rank of the worst answer that is still kept: a graph that does not rank above it need not be found.
pub(super) struct Floor<'a> {
    pub rank: Option<Rank>,
    pub f1s: &'a [f32],
}

impl Floor<'_> {
    /// Returns whether a graph would be kept if it answered with this score.
    pub fn admits(&self, score: Option<Score>, ordinal: u32) -> bool {
        self.rank.is_none_or(|floor| self.rank_of(score, ordinal) > floor)
    }

    pub fn rank_of(&self, score: Option<Score>, ordinal: u32) -> Rank {
        Rank { score, f1: self.f1(ordinal), ordinal }
    }

    /// NaN where it is not known.
    #[inline]
    pub fn f1(&self, ordinal: u32) -> f32 {
        self.f1s.get(ordinal as usize).copied().unwrap_or(f32::NAN)
    }
}
