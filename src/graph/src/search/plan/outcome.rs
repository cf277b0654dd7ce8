//! The outcome of a query by the index alone.

use crate::search::Score;

/// How a graph answers a part of a query if it does at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome {
    /// True if it surely answers, and the rest is how. Otherwise the graph has to be looked at.
    pub certain: bool,
    /// True if it may answer because of what it does not have.
    pub absent: bool,
    /// The greatest score with which it may answer because of what it has.
    pub score: Option<Score>,
}

impl Outcome {
    /// It answers because of what it does not have.
    pub const ABSENT: Self = Self { certain: true, absent: true, score: None };

    /// It answers with this score.
    pub fn present(score: Score) -> Self {
        Self { certain: true, absent: false, score: Some(score) }
    }

    /// It may answer, with this score at most.
    pub fn possible(score: Score) -> Self {
        Self { certain: false, absent: false, score: Some(score) }
    }

    /// How it answers if it has to answer both: with the lesser score, if both are because of what it has.
    pub fn and(self, other: Self) -> Self {
        let both = self.score.zip(other.score).map(|(one, other)| one.min(other));
        let one = self.score.filter(|_| other.absent);
        let other_one = other.score.filter(|_| self.absent);
        Self {
            certain: self.certain && other.certain,
            absent: self.absent && other.absent,
            score: both.max(one).max(other_one),
        }
    }

    /// How it answers if it has to answer one of them, with the greater score.
    pub fn or(self, other: Self) -> Self {
        let settles = |one: Self, other: Self| one.certain && one.score.is_some() && one.score >= other.score;
        let is_present = |one: Self| one.certain && !one.absent;
        Self {
            certain: (self.certain && other.certain) || settles(self, other) || settles(other, self),
            absent: (self.absent || other.absent) && !is_present(self) && !is_present(other),
            score: self.score.max(other.score),
        }
    }
}
