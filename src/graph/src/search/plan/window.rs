//! Going along very many posting lists at once, as prefixes have.

use super::cursor::END;
use super::floor::Floor;
use super::list::ListCursor;
use super::outcome::Outcome;
use crate::search::{Role, Score};

/// Ordinals of the first window, in which there may be no floor yet, and how many times more each further one has.
const FIRST: u32 = 1 << 10;
const GROWTH: u32 = 16;
const MOST: u32 = 1 << 20;

/// Graphs that one of many lists has. Lists are read one after the other for a window of ordinals, so that a graph
/// costs no search for the list that is behind.
pub(super) struct Windows<'a> {
    lists: Vec<ListCursor<'a>>,
    /// First ordinal of the window, and the first after it.
    start: u32,
    end: u32,
    /// Ordinals that the next window has at most.
    width: u32,
    /// Of each ordinal in the window: whether it is in a list, as bits, and the greatest score if it is.
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

    pub fn outcome(&self) -> Option<Outcome> {
        let slot = self.current?.checked_sub(self.start)?;
        self.scores.get(slot as usize).copied().map(Outcome::present)
    }

    pub fn advance(&mut self, target: u32, floor: &Floor) -> u32 {
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

    /// Goes on to the window from the first graph on that is not below `target`, if there is one.
    fn fill(&mut self, target: u32, floor: &Floor) -> bool {
        // Lists that are at their end are of no more use.
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

    /// The first ordinal of the window from `target` on that is in a list.
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
