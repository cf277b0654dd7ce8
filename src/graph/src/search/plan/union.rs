//! Going along several cursors at once.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::cursor::{Cursor, END};
use super::floor::Floor;
use super::outcome::Outcome;

/// Graphs that one of several cursors has, or more of them.
pub(super) struct Union<'a> {
    parts: Vec<Cursor<'a>>,
    /// Parts that are further on, by ordinal.
    ahead: BinaryHeap<Reverse<(u32, usize)>>,
    /// Parts that are at the graph.
    here: Vec<usize>,
    current: Option<u32>,
}

impl<'a> Union<'a> {
    pub fn new(parts: Vec<Cursor<'a>>) -> Self {
        let here = (0..parts.len()).collect();
        Self { parts, ahead: BinaryHeap::new(), here, current: None }
    }

    pub fn cost(&self) -> usize {
        self.parts.iter().map(Cursor::cost).sum()
    }

    pub fn outcome(&self) -> Option<Outcome> {
        self.here.iter().filter_map(|part| self.parts[*part].outcome()).reduce(Outcome::or)
    }

    pub fn advance(&mut self, target: u32, floor: &Floor) -> u32 {
        if let Some(current) = self.current.filter(|current| *current >= target) {
            return current;
        }
        for part in self.here.drain(..) {
            let at = self.parts[part].advance(target, floor);
            if at != END {
                self.ahead.push(Reverse((at, part)));
            }
        }
        let mut current = END;
        while let Some(Reverse((at, part))) = self.ahead.peek().copied() {
            if at > current {
                break;
            }
            self.ahead.pop();
            if at >= target {
                current = at;
                self.here.push(part);
                continue;
            }
            let at = self.parts[part].advance(target, floor);
            if at != END {
                self.ahead.push(Reverse((at, part)));
            }
        }
        self.current = Some(current);
        current
    }
}
