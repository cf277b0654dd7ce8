//! Cursors that combine others: conjunction without some, union of a few, union of very many.

use super::cursor::{Cursor, END, ListCursor, MatchOutcome};
use super::top_k::AdmissionThreshold;
use crate::search::{Role, Score};

/// Greatest cost of a cursor, as a multiple of the rarest one's, at which it passes over graphs below the floor one by
/// one: a jump to a graph takes about as long.
const WORTH_PRUNING: usize = 32;

/// Conjunction: graphs that all wanted cursors have and no unwanted one.
pub(super) struct Conjunction<'a> {
    /// Cursors that must have the graph: at least one, the rarest first.
    wanted: Vec<Cursor<'a>>,
    /// Number of the first of them that pass over graphs below the floor.
    pruned: usize,
    unwanted: Vec<Cursor<'a>>,
    current: Option<u32>,
    /// True if an unwanted cursor may have the current graph.
    doubtful: bool,
}

impl<'a> Conjunction<'a> {
    pub fn new(mut wanted: Vec<Cursor<'a>>, unwanted: Vec<Cursor<'a>>) -> Self {
        wanted.sort_by_key(Cursor::cost);
        let most = wanted.first().map_or(0, Cursor::cost).saturating_mul(WORTH_PRUNING);
        let pruned = wanted.partition_point(|part| part.cost() <= most);
        Self { wanted, pruned, unwanted, current: None, doubtful: false }
    }

    pub fn cost(&self) -> usize {
        self.wanted.first().map_or(0, Cursor::cost)
    }

    pub fn outcome(&self) -> Option<MatchOutcome> {
        let all = self.wanted.iter().map(Cursor::outcome).reduce(|one, other| Some(one?.and(other?)))??;
        Some(MatchOutcome { certain: all.certain && !self.doubtful, ..all })
    }

    pub fn advance(&mut self, target: u32, floor: &AdmissionThreshold) -> u32 {
        if let Some(current) = self.current.filter(|current| *current >= target) {
            return current;
        }
        let mut next = target;
        let found = loop {
            let common = self.agree(next, floor);
            if common == END || !self.excludes(common, floor) {
                break common;
            }
            next = common + 1;
        };
        self.current = Some(found);
        found
    }

    /// First graph from `target` on that all wanted cursors have.
    fn agree(&mut self, target: u32, floor: &AdmissionThreshold) -> u32 {
        if let [only] = &mut self.wanted[..] {
            return only.advance(target, floor);
        }
        let mut candidate = target;
        let mut agreed = 0;
        let without = AdmissionThreshold { rank: None, ..*floor };
        // Each cursor advances to the graph of the one before it, until all are at the same.
        for part in (0..self.wanted.len()).cycle() {
            let at = self.wanted[part].advance(candidate, if part < self.pruned { floor } else { &without });
            agreed = if at == candidate { agreed + 1 } else { 1 };
            candidate = at;
            if candidate == END || agreed >= self.wanted.len() {
                break;
            }
        }
        candidate
    }

    /// Returns true if an unwanted cursor certainly has a graph.
    fn excludes(&mut self, graph: u32, floor: &AdmissionThreshold) -> bool {
        self.doubtful = false;
        for part in &mut self.unwanted {
            if part.advance(graph, floor) == graph {
                if part.outcome().is_some_and(|outcome| outcome.certain) {
                    return true;
                }
                self.doubtful = true;
            }
        }
        false
    }
}

/// Union: graphs that at least one of several cursors has.
pub(super) struct Union<'a> {
    parts: Vec<Cursor<'a>>,
    /// Current graph of each part, once all have been advanced for the first time.
    at: Vec<u32>,
    current: Option<u32>,
}

impl<'a> Union<'a> {
    pub fn new(parts: Vec<Cursor<'a>>) -> Self {
        Self { at: vec![0; parts.len()], parts, current: None }
    }

    pub fn cost(&self) -> usize {
        self.parts.iter().map(Cursor::cost).sum()
    }

    pub fn outcome(&self) -> Option<MatchOutcome> {
        let here = self.parts.iter().zip(&self.at).filter(|(_, at)| Some(**at) == self.current);
        here.filter_map(|(part, _)| part.outcome()).reduce(MatchOutcome::or)
    }

    pub fn advance(&mut self, target: u32, floor: &AdmissionThreshold) -> u32 {
        if let Some(current) = self.current.filter(|current| *current >= target) {
            return current;
        }
        let is_first = self.current.is_none();
        let mut nearest = END;
        // There are few parts: a scan is faster than a heap.
        for (part, at) in self.parts.iter_mut().zip(&mut self.at) {
            if is_first || *at < target {
                *at = part.advance(target, floor);
            }
            nearest = nearest.min(*at);
        }
        self.current = Some(nearest);
        nearest
    }
}

/// Ordinals of the first window, in which there may be no floor yet, the factor of each further one, and the most.
const FIRST: u32 = 1 << 10;
const GROWTH: u32 = 16;
const MOST: u32 = 1 << 20;

/// Union of many lists. They are read one after the other for a window of ordinals, which needs no search for the list
/// that is farthest behind.
pub(super) struct Windows<'a> {
    lists: Vec<ListCursor<'a>>,
    /// Range of ordinals of the window.
    start: u32,
    end: u32,
    /// Greatest number of ordinals of the next window.
    width: u32,
    /// Bit of each ordinal of the window, 1 if it is in a list, and then its greatest score.
    present: Vec<u64>,
    scores: Vec<Score>,
    current: Option<u32>,
}

impl<'a> Windows<'a> {
    pub fn new(lists: Vec<ListCursor<'a>>) -> Self {
        Self { lists, start: 0, end: 0, width: FIRST, present: Vec::new(), scores: Vec::new(), current: None }
    }

    pub fn cost(&self) -> usize {
        self.lists.iter().map(ListCursor::len).sum()
    }

    pub fn outcome(&self) -> Option<MatchOutcome> {
        let slot = self.current?.checked_sub(self.start)?;
        self.scores.get(slot as usize).copied().map(MatchOutcome::present)
    }

    pub fn advance(&mut self, target: u32, floor: &AdmissionThreshold) -> u32 {
        if let Some(current) = self.current.filter(|current| *current >= target) {
            return current;
        }
        let mut target = target;
        let found = loop {
            if let Some(found) = self.next_present(target) {
                break found;
            }
            target = target.max(self.end);
            if !self.fill(target, floor) {
                break END;
            }
        };
        self.current = Some(found);
        found
    }

    /// Fills the window from the first graph on that is not below `target`; returns false if there is none.
    fn fill(&mut self, target: u32, floor: &AdmissionThreshold) -> bool {
        // Lists at their end are dropped.
        self.lists.retain_mut(|list| list.advance(target, floor) != END);
        let Some(start) = self.lists.iter().map(ListCursor::current).min() else { return false };
        (self.start, self.end) = (start, start.saturating_add(self.width));
        self.width = (self.width * GROWTH).min(MOST);
        let words = (self.end - start).div_ceil(64) as usize;
        self.present.clear();
        self.present.resize(words, 0);
        self.scores.resize(words * 64, Score { role: Role::Important, activation: 0.0, importance: 0.0 });
        for list in &mut self.lists {
            while let Some((slot, score)) = list.within(start, self.end) {
                let (word, bit) = (&mut self.present[slot / 64], 1 << (slot % 64));
                let best = &mut self.scores[slot];
                *best = if *word & bit == 0 { score } else { score.max(*best) };
                *word |= bit;
                list.advance(start + slot as u32 + 1, floor);
            }
        }
        true
    }

    /// First ordinal of the window from `target` on that is in a list.
    fn next_present(&self, target: u32) -> Option<u32> {
        let slot = target.saturating_sub(self.start);
        let mut words = self.present.iter().zip(0u32..).skip(slot as usize / 64);
        let mut first = u64::MAX << (slot % 64);
        words.find_map(|(word, at)| {
            let bits = word & std::mem::replace(&mut first, u64::MAX);
            (bits != 0).then(|| self.start + at * 64 + bits.trailing_zeros())
        })
    }
}
