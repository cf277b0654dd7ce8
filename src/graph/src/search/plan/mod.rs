//! Search in an index.

mod boolean;
mod cursor;
mod phrase;
mod top_k;

use self::boolean::{Conjunction, Union, Windows};
use self::cursor::{AllGraphs, Candidates, Cursor, END, ListCursor};
use self::top_k::{AdmissionThreshold, Rank, TopRanks};
use std::collections::{BTreeMap, BinaryHeap};

use super::{Evidence, Form, Hit, Index, PostingList, Query, Score, Term};

/// Greatest number of lists merged by [`Union`]; more of them are read in [`Windows`].
const FEW_LISTS: usize = 8;

/// Greatest number of graphs that are verified together.
const MOST_TOGETHER: usize = 1024;

/// A graph that matches a query: a result of [`Query::search`].
#[derive(Debug, Clone, PartialEq)]
pub struct SearchResult {
    /// Ordinal of the graph in the index.
    pub ordinal: u32,
    /// Score of the match; `None` if it is by NOT alone.
    pub score: Option<Score>,
    /// The hit, if the graph had to be verified; [`Query::find`] finds it in other graphs.
    pub hit: Option<Hit>,
}

impl Query {
    /// Searches an index for the graphs that match, best first: by score, then those with a greater F1, then those with
    /// a lesser ordinal; at most `limit`.
    ///
    /// Without phrases in the query the index alone decides. Graphs that have the tokens of a phrase are given to
    /// `verify`, which loads them and returns the result of [`find`](Self::find) for each. They come in the order of
    /// their greatest possible scores, up to 1,024 together, and only as long as one could be among the best `limit`.
    ///
    /// A search reads all posting lists at once, in the order of ordinals, and passes over graphs that rank below the
    /// `limit`-th best up to then. It does not depend on threads or on the order of lists.
    ///
    /// # Errors
    /// Errors of `verify`.
    pub fn search<I: Index + ?Sized, E>(
        &self,
        index: &I,
        limit: Option<usize>,
        mut verify: impl FnMut(&[u32]) -> Result<Vec<Option<Evidence>>, E>,
    ) -> Result<Vec<SearchResult>, E> {
        let mut best = TopRanks::new(limit);
        let mut hits: BTreeMap<u32, Hit> = BTreeMap::new();
        if limit == Some(0) {
            return Ok(Vec::new());
        }
        let mut doubtful = BinaryHeap::new();
        let mut floor = AdmissionThreshold { rank: None, f1s: index.f1s() };
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
        // As many as are wanted at first, then twice as many each time: it may be that few match.
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
        let found = |Rank { ordinal, score, .. }| SearchResult { ordinal, score, hit: hits.remove(&ordinal) };
        Ok(best.into_sorted().into_iter().map(found).collect())
    }

    /// Cursor over the graphs that match. `prunes` is true if a graph whose score here is below the floor cannot rank
    /// above it in the whole query.
    fn cursor<'a, I: Index + ?Sized>(&self, index: &'a I, prunes: bool) -> Cursor<'a> {
        match self {
            Self::Term(term) => term.cursor(index, prunes),
            Self::Not(_) => Self::conjunction(std::slice::from_ref(self), index, prunes),
            Self::And(parts) => Self::conjunction(parts, index, prunes),
            Self::Or(parts) => {
                // A graph passed over in one part would count as a match by NOT alone, without its low score.
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
            wanted.push(Cursor::All(AllGraphs { graphs: index.f1s().len() as u32, prunes }));
        }
        Cursor::Conjunction(Conjunction::new(wanted, unwanted))
    }

    /// Returns true if a graph can match by NOT alone.
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
