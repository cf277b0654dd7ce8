//! Cursors over the graphs that match a part of a query, in the order of their ordinals.

use super::boolean::{Conjunction, Union, Windows};
use super::top_k::AdmissionThreshold;
use crate::search::{PostingList, Score};

/// Ordinal after the last graph.
pub(super) const END: u32 = u32::MAX;

/// Cursor over the graphs that match, or may match, a part of a query. It is at a graph after an advance.
pub(super) enum Cursor<'a> {
    List(ListCursor<'a>),
    Candidates(Candidates),
    All(AllGraphs),
    Union(Union<'a>),
    Windows(Windows<'a>),
    Conjunction(Conjunction<'a>),
}

impl Cursor<'_> {
    /// Advances to the first graph whose ordinal is not below `target`, and returns the ordinal or [`END`]; graphs that
    /// `floor` does not admit may be passed over.
    pub fn advance(&mut self, target: u32, floor: &AdmissionThreshold) -> u32 {
        match self {
            Self::List(cursor) => cursor.advance(target, floor),
            Self::Candidates(cursor) => cursor.advance(target),
            Self::All(cursor) => cursor.advance(target, floor),
            Self::Union(cursor) => cursor.advance(target, floor),
            Self::Windows(cursor) => cursor.advance(target, floor),
            Self::Conjunction(cursor) => cursor.advance(target, floor),
        }
    }

    /// Outcome of the current graph.
    pub fn outcome(&self) -> Option<MatchOutcome> {
        match self {
            Self::List(cursor) => cursor.outcome(),
            Self::Candidates(cursor) => cursor.outcome(),
            Self::All(_) => Some(MatchOutcome::ABSENT),
            Self::Union(cursor) => cursor.outcome(),
            Self::Windows(cursor) => cursor.outcome(),
            Self::Conjunction(cursor) => cursor.outcome(),
        }
    }

    /// Greatest number of graphs that it visits.
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

/// Cursor over the graphs that may have a phrase.
pub(super) struct Candidates {
    ordinals: Vec<u32>,
    /// Greatest score that each graph can have.
    scores: Vec<Score>,
    at: usize,
}

impl Candidates {
    /// Makes a cursor over graphs, given in the order of their ordinals.
    pub fn new(graphs: Vec<(u32, Score)>) -> Self {
        let (ordinals, scores) = graphs.into_iter().unzip();
        Self { ordinals, scores, at: 0 }
    }

    fn advance(&mut self, target: u32) -> u32 {
        self.at = gallop(&self.ordinals, self.at, target);
        self.ordinals.get(self.at).copied().unwrap_or(END)
    }

    fn outcome(&self) -> Option<MatchOutcome> {
        self.scores.get(self.at).copied().map(MatchOutcome::possible)
    }
}

/// Cursor over all graphs.
pub(super) struct AllGraphs {
    pub graphs: u32,
    /// True if graphs without a score that are below the floor can be passed over.
    pub prunes: bool,
}

impl AllGraphs {
    fn advance(&self, target: u32, floor: &AdmissionThreshold) -> u32 {
        let mut rest = target..self.graphs;
        let found = if self.prunes { rest.find(|ordinal| floor.admits(None, *ordinal)) } else { rest.next() };
        found.unwrap_or(END)
    }
}

/// Galloping search: the first place from `at` on whose ordinal is not below `target`, by steps that double. Takes time
/// logarithmic in the distance, not in the length of the list.
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

/// Cursor over a posting list.
pub(super) struct ListCursor<'a> {
    list: PostingList<'a>,
    at: usize,
    /// True if graphs that rank below the floor by this list alone can be passed over.
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

    /// Outcome of the current graph, if there is one.
    pub fn outcome(&self) -> Option<MatchOutcome> {
        self.score().map(MatchOutcome::present)
    }

    /// Offset of the current graph from `start`, and its score, if it is before `end`.
    pub fn within(&self, start: u32, end: u32) -> Option<(usize, Score)> {
        let offset = self.current().checked_sub(start).filter(|_| self.current() < end)?;
        Some((offset as usize, self.score()?))
    }

    fn score(&self) -> Option<Score> {
        let PostingList { role, activations, importances, .. } = self.list;
        let [activation, importance] = [activations, importances].map(|column| column.get(self.at).copied());
        Some(Score { role, activation: activation?, importance: importance? })
    }

    pub fn advance(&mut self, target: u32, floor: &AdmissionThreshold) -> u32 {
        self.at = gallop(self.list.ordinals, self.at, target);
        if self.prunes {
            self.skip_below(floor);
        }
        self.current()
    }

    /// Advances to the first graph that ranks above the floor by this list alone.
    fn skip_below(&mut self, floor: &AdmissionThreshold) {
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
            // Without short-circuits: the deciding comparison is about random, and a mispredicted branch costs more
            // than all comparisons. The floor's ordinal is less: it came before.
            (activation > least.activation)
                | ((activation == least.activation)
                    & ((importance > least.importance) | ((importance == least.importance) & (f1 > least_f1))))
        };
        self.at = (self.at..self.len()).find(above).unwrap_or(self.len());
    }
}

/// Outcome of a graph for a part of a query that it may match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MatchOutcome {
    /// True if it certainly matches, by the other fields. Otherwise the graph has to be verified.
    pub certain: bool,
    /// True if it may match by NOT alone.
    pub absent: bool,
    /// Greatest score of a match by its tokens; `None` if there can be none.
    pub score: Option<Score>,
}

impl MatchOutcome {
    /// A certain match by NOT alone.
    pub const ABSENT: Self = Self { certain: true, absent: true, score: None };

    /// A certain match with this score.
    pub fn present(score: Score) -> Self {
        Self { certain: true, absent: false, score: Some(score) }
    }

    /// A possible match, with this score at most.
    pub fn possible(score: Score) -> Self {
        Self { certain: false, absent: false, score: Some(score) }
    }

    /// Outcome of a conjunction, with the lesser score if both match by tokens.
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

    /// Outcome of a disjunction, with the greater score.
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
