//! Going along what several cursors have in common.

use super::cursor::{Cursor, END};
use super::floor::Floor;
use super::outcome::Outcome;

/// How many times as much as the rarest cursor another may have for it to be worth looking there for what is above the
/// floor, graph by graph: a jump to a graph takes about as long.
const WORTH_PRUNING: usize = 32;

/// Graphs that all of some cursors have and none of some others.
pub(super) struct Conjunction<'a> {
    /// At least one, the rarest first.
    wanted: Vec<Cursor<'a>>,
    /// How many of them pass over what is below the floor.
    pruned: usize,
    unwanted: Vec<Cursor<'a>>,
    current: Option<u32>,
    /// True if a cursor of the unwanted may have the graph.
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

    pub fn outcome(&self) -> Option<Outcome> {
        let all = self.wanted.iter().map(Cursor::outcome).reduce(|one, other| Some(one?.and(other?)))??;
        Some(Outcome { certain: all.certain && !self.doubtful, ..all })
    }

    pub fn advance(&mut self, target: u32, floor: &Floor) -> u32 {
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

    /// The first graph from `target` on that all have.
    fn agree(&mut self, target: u32, floor: &Floor) -> u32 {
        if let [only] = &mut self.wanted[..] {
            return only.advance(target, floor);
        }
        let mut candidate = target;
        let mut agreed = 0;
        let without = Floor { rank: None, ..*floor };
        // Each goes on to where the one before it is, until all are at one place.
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

    /// Returns whether one of the unwanted surely has a graph.
    fn excludes(&mut self, graph: u32, floor: &Floor) -> bool {
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
