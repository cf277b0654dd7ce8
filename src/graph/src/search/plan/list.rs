//! Going along a posting list.

use super::cursor::END;
use super::floor::Floor;
use super::outcome::Outcome;
use crate::search::{PostingList, Score};

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
