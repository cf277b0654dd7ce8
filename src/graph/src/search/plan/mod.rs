//! Searching an index.

mod boolean;
mod cursor;
mod phrase;
mod top_k;

use self::boolean::{Conjunction, Union, Windows};
use self::cursor::{All, Candidates, Cursor, END, ListCursor};
use self::top_k::{Best, Floor, Rank};
use std::collections::{BTreeMap, BinaryHeap};

use super::{Evidence, Form, Hit, Index, PostingList, Query, Score, Term};

/// Lists that are gone along one by one; more of them are read in windows.
const FEW_LISTS: usize = 8;

/// Graphs that are verified together, at most.
const MOST_TOGETHER: usize = 1024;

/// A graph that answers a query.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its ordinal in the index.
    pub ordinal: u32,
    /// How well it answers; `None` if it does because of what it does not have.
    pub score: Option<Score>,
    /// What answers, if the graph had to be looked at; [`Query::find`] finds it for other graphs.
    pub hit: Option<Hit>,
}

impl Query {
    /// The graphs of an index that answer, best first: by score, then those with a greater F1, then those with a lesser
    /// ordinal; at most `limit`.
    ///
    /// Without phrases in the query the index alone decides. Graphs that have the tokens of a phrase are given to
    /// `verify`, which loads them and returns what [`find`](Self::find) says of each. They come in the order of the best
    /// that they can be, some together, up to 1,024, and only as long as one could be among the best `limit`.
    ///
    /// A search goes along the posting lists at once, in the order of ordinals, and passes over graphs that rank below
    /// the `limit`-th best up to then. It does not depend on threads or on the order of lists.
    ///
    /// # Errors
    /// Those of `verify`.
    pub fn search<I: Index + ?Sized, E>(
        &self,
        index: &I,
        limit: Option<usize>,
        mut verify: impl FnMut(&[u32]) -> Result<Vec<Option<Evidence>>, E>,
    ) -> Result<Vec<Found>, E> {
        let mut best = Best::new(limit);
        let mut hits: BTreeMap<u32, Hit> = BTreeMap::new();
        if limit == Some(0) {
            return Ok(Vec::new());
        }
        let mut doubtful = BinaryHeap::new();
        let mut floor = Floor { rank: None, f1s: index.f1s() };
        let mut cursor = self.cursor(index, true);
        let mut next = 0;
        loop {
            let ordinal = cursor.advance(next, &floor);
            let Some(outcome) = cursor.outcome().filter(|_| ordinal != END) else { break };
            next = ordinal + 1;
            let rank = floor.rank_of(outcome.score, ordinal);
            if floor.rank.is_some_and(|floor| rank < floor) {
                continue;
            }
            if outcome.certain {
                best.offer(rank);
                floor.rank = best.floor();
            } else {
                doubtful.push(rank);
            }
        }
        // As many as are wanted at first; if they do not answer, it may be that few do.
        let mut together = limit.unwrap_or(usize::MAX).min(MOST_TOGETHER);
        loop {
            let can_be_kept = |rank: &Rank| best.floor().is_none_or(|floor| *rank > floor);
            let next = std::iter::from_fn(|| doubtful.pop().filter(can_be_kept)).take(together);
            let ordinals: Vec<u32> = next.map(|rank| rank.ordinal).collect();
            if ordinals.is_empty() {
                break;
            }
            for (ordinal, evidence) in ordinals.iter().zip(verify(&ordinals)?) {
                let Some(evidence) = evidence else { continue };
                best.offer(floor.rank_of(evidence.hit().map(|hit| hit.score), *ordinal));
                hits.extend(evidence.into_hit().map(|hit| (*ordinal, hit)));
            }
            together = (2 * together).min(MOST_TOGETHER);
        }
        let found = |Rank { ordinal, score, .. }| Found { ordinal, score, hit: hits.remove(&ordinal) };
        Ok(best.into_sorted().into_iter().map(found).collect())
    }

    /// What goes along the graphs that answer. `prunes` says that a graph is no answer, or one with no greater score,
    /// if its score here is too low for one.
    fn cursor<'a, I: Index + ?Sized>(&self, index: &'a I, prunes: bool) -> Cursor<'a> {
        match self {
            Self::Term(term) => term.cursor(index, prunes),
            Self::Not(_) => Self::conjunction(std::slice::from_ref(self), index, prunes),
            Self::And(parts) => Self::conjunction(parts, index, prunes),
            Self::Or(parts) => {
                // Passing over what one part has would make of a low score one that counts for nothing.
                let prunes = prunes && !parts.iter().any(Self::may_be_absent);
                Cursor::Union(Union::new(parts.iter().map(|part| part.cursor(index, prunes)).collect()))
            }
        }
    }

    fn conjunction<'a, I: Index + ?Sized>(parts: &[Self], index: &'a I, prunes: bool) -> Cursor<'a> {
        let (mut wanted, mut unwanted) = (Vec::new(), Vec::new());
        for part in parts {
            match part {
                Self::Not(part) => unwanted.push(part.cursor(index, false)),
                part => wanted.push(part.cursor(index, prunes && !part.may_be_absent())),
            }
        }
        if wanted.is_empty() {
            wanted.push(Cursor::All(All { graphs: index.f1s().len() as u32, prunes }));
        }
        Cursor::Conjunction(Conjunction::new(wanted, unwanted))
    }

    /// Returns whether a graph can answer because of what it does not have.
    fn may_be_absent(&self) -> bool {
        match self {
            Self::Term(_) => false,
            Self::Not(_) => true,
            Self::And(parts) => parts.iter().all(Self::may_be_absent),
            Self::Or(parts) => parts.iter().any(Self::may_be_absent),
        }
    }
}

impl Term {
    fn cursor<'a, I: Index + ?Sized>(&self, index: &'a I, prunes: bool) -> Cursor<'a> {
        if self.is_phrase() {
            return Cursor::Candidates(Candidates::new(phrase::candidates(index, self)));
        }
        let lists = match self.form() {
            Form::Prefix => index.lookup_prefix(self.key()),
            Form::Normalized | Form::Exact => index.lookup(self.key()),
        };
        let is_meant =
            |list: &PostingList| self.takes_role(list.role) && (self.form() != Form::Exact || list.text == self.text());
        let lists: Vec<_> = lists.into_iter().filter(is_meant).map(|list| ListCursor::new(list, prunes)).collect();
        match lists.len() {
            ..=FEW_LISTS => Cursor::Union(Union::new(lists.into_iter().map(Cursor::List).collect())),
            _ => Cursor::Windows(Windows::new(lists)),
        }
    }
}
