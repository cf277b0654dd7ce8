//! Cursors: the graphs that answer a part of a query, in the order of their ordinals.

use super::boolean::{Conjunction, Union, Windows};
use super::top_k::Floor;
use crate::search::{PostingList, Score};

/// After the last graph.
pub(super) const END: u32 = u32::MAX;

/// Graphs that answer a part of a query, or may do. A cursor is at a graph after it has been advanced.
pub(super) enum Cursor<'a> {
    List(ListCursor<'a>),
    Candidates(Candidates),
    All(All),
    Union(Union<'a>),
    Windows(Windows<'a>),
    Conjunction(Conjunction<'a>),
}

impl Cursor<'_> {
    /// Goes on to the first graph whose ordinal is not below `target`, if it is not there yet; graphs that `floor` does
    /// not admit may be passed over.
    pub fn advance(&mut self, target: u32, floor: &Floor) -> u32 {
        match self {
            Self::List(cursor) => cursor.advance(target, floor),
            Self::Candidates(cursor) => cursor.advance(target),
            Self::All(cursor) => cursor.advance(target, floor),
            Self::Union(cursor) => cursor.advance(target, floor),
            Self::Windows(cursor) => cursor.advance(target, floor),
            Self::Conjunction(cursor) => cursor.advance(target, floor),
        }
    }

    /// How the graph answers that it is at.
    pub fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::List(cursor) => cursor.outcome(),
            Self::Candidates(cursor) => cursor.outcome(),
            Self::All(_) => Some(Outcome::ABSENT),
            Self::Union(cursor) => cursor.outcome(),
            Self::Windows(cursor) => cursor.outcome(),
            Self::Conjunction(cursor) => cursor.outcome(),
        }
    }

    /// Graphs that it goes along at most.
    pub fn cost(&self) -> usize {
        match self {
            Self::List(cursor) => cursor.len(),
            Self::Candidates(cursor) => cursor.ordinals.len(),
            Self::All(cursor) => cursor.graphs as usize,
            Self::Union(cursor) => cursor.cost(),
            Self::Windows(cursor) => cursor.cost(),
            Self::Conjunction(cursor) => cursor.cost(),
        }
    }
}

/// Graphs that may have a phrase.
pub(super) struct Candidates {
    ordinals: Vec<u32>,
    /// The greatest score that each can have.
    scores: Vec<Score>,
    at: usize,
}

impl Candidates {
    /// Of graphs in the order of their ordinals.
    pub fn new(graphs: Vec<(u32, Score)>) -> Self {
        let (ordinals, scores) = graphs.into_iter().unzip();
        Self { ordinals, scores, at: 0 }
    }

    fn advance(&mut self, target: u32) -> u32 {
        self.at = gallop(&self.ordinals, self.at, target);
        self.ordinals.get(self.at).copied().unwrap_or(END)
    }

    fn outcome(&self) -> Option<Outcome> {
        self.scores.get(self.at).copied().map(Outcome::possible)
    }
}

/// All graphs.
pub(super) struct All {
    pub graphs: u32,
    /// True if graphs that have nothing that is searched for can be passed over if they are below the floor.
    pub prunes: bool,
}

impl All {
    fn advance(&self, target: u32, floor: &Floor) -> u32 {
        let mut rest = target..self.graphs;
        let found = if self.prunes { rest.find(|ordinal| floor.admits(None, *ordinal)) } else { rest.next() };
        found.unwrap_or(END)
    }
}

/// The first place from `at` on whose ordinal is not below `target`, by steps that double: near places are found in
/// little time, however long the list.
#[inline]
pub(super) fn gallop(ordinals: &[u32], at: usize, target: u32) -> usize {
    let rest = &ordinals[at.min(ordinals.len())..];
    if rest.first().is_none_or(|first| *first >= target) {
        return at;
    }
    let mut step = 1;
    while rest.get(step).is_some_and(|ordinal| *ordinal < target) {
        step *= 2;
    }
    let start = step / 2 + 1;
    let end = step.min(rest.len());
    at + start + rest[start..end].partition_point(|ordinal| *ordinal < target)
}

/// A place in a posting list.
pub(super) struct ListCursor<'a> {
    list: PostingList<'a>,
    at: usize,
    /// True if what would rank below the floor by this list alone can be passed over.
    prunes: bool,
}

impl<'a> ListCursor<'a> {
    pub fn new(list: PostingList<'a>, prunes: bool) -> Self {
        Self { list, at: 0, prunes }
    }

    pub fn len(&self) -> usize {
        self.list.ordinals.len()
    }

    pub fn current(&self) -> u32 {
        self.list.ordinals.get(self.at).copied().unwrap_or(END)
    }

    /// How the graph answers that it is at, if it is at one.
    pub fn outcome(&self) -> Option<Outcome> {
        self.score().map(Outcome::present)
    }

    /// How far after `start` the graph is that it is at, if it is before `end`, and its score.
    pub fn within(&self, start: u32, end: u32) -> Option<(usize, Score)> {
        let offset = self.current().checked_sub(start).filter(|_| self.current() < end)?;
        Some((offset as usize, self.score()?))
    }

    fn score(&self) -> Option<Score> {
        let PostingList { role, activations, importances, .. } = self.list;
        let [activation, importance] = [activations, importances].map(|column| column.get(self.at).copied());
        Some(Score { role, activation: activation?, importance: importance? })
    }

    pub fn advance(&mut self, target: u32, floor: &Floor) -> u32 {
        self.at = gallop(self.list.ordinals, self.at, target);
        if self.prunes {
            self.skip_below(floor);
        }
        self.current()
    }

    /// Goes on to the first graph that is above the floor by this list alone.
    fn skip_below(&mut self, floor: &Floor) {
        let PostingList { role, ordinals, activations, importances, .. } = self.list;
        let Some((least, rank)) = floor.rank.and_then(|rank| Some((rank.score?, rank))) else { return };
        if least.role != role {
            self.at = if least.role > role { self.len() } else { self.at };
            return;
        }
        let least_f1 = rank.sortable_f1();
        let above = |at: &usize| {
            let [activation, importance] = [activations[*at], importances[*at]];
            let f1 = floor.f1(ordinals[*at]);
            // Without short cuts: which of the numbers decides is as good as random, and a processor that guesses
            // wrong loses more than all comparisons take. The floor's ordinal is less: it came before.
            (activation > least.activation)
                | ((activation == least.activation)
                    & ((importance > least.importance) | ((importance == least.importance) & (f1 > least_f1))))
        };
        self.at = (self.at..self.len()).find(above).unwrap_or(self.len());
    }
}

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
