//! Going along the graphs that answer a part of a query, in the order of their ordinals.

use super::conjunction::Conjunction;
use super::floor::Floor;
use super::list::{ListCursor, gallop};
use super::outcome::Outcome;
use super::union::Union;
use super::window::Windows;
use crate::search::Score;

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
