//! Going along a few cursors at once.

use super::cursor::{Cursor, END};
use super::floor::Floor;
use super::outcome::Outcome;

/// Graphs that one of several cursors has, or more of them.
pub(super) struct Union<'a> {
    parts: Vec<Cursor<'a>>,
    /// Where each part is, once all have been advanced for the first time.
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

    pub fn outcome(&self) -> Option<Outcome> {
        let here = self.parts.iter().zip(&self.at).filter(|(_, at)| Some(**at) == self.current);
        here.filter_map(|(part, _)| part.outcome()).reduce(Outcome::or)
    }

    pub fn advance(&mut self, target: u32, floor: &Floor) -> u32 {
        if let Some(current) = self.current.filter(|current| *current >= target) {
            return current;
        }
        let is_first = self.current.is_none();
        let mut nearest = END;
        // There are few parts: looking at each is faster than keeping them in order.
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
