//! Sequences packed into one forward pass, without padding.

use std::collections::HashMap;
use std::ops::Range;

/// Batch of examples: their tokens lie end to end, and each attends only to itself.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    bos: Option<u32>,
    pub(crate) tokens: Vec<u32>,
    /// Position of each token in its sequence, BOS included.
    pub(crate) positions: Vec<u32>,
    /// Segment `s` owns tokens `offsets[s]..offsets[s + 1]`, which follow each other in a sequence.
    pub(crate) offsets: Vec<usize>,
    /// The token that each segment follows; `None` where a sequence begins.
    pub(crate) parents: Vec<Option<u32>>,
    /// Indices of the tokens whose activations are wanted: one a row of the result.
    pub(crate) rows: Vec<u32>,
    /// Number of rows of all examples up to and with each.
    ends: Vec<usize>,
    /// Index of the token that follows another (or begins a sequence), by token id, if examples share prefixes.
    followers: Option<HashMap<(Option<u32>, u32), u32>>,
}

impl Batch {
    /// Makes a batch of whole examples; `bos` is put before each and gives no row of its own.
    pub fn new<'a>(examples: impl IntoIterator<Item = &'a [u32]>, bos: Option<u32>) -> Self {
        let mut batch = Self { bos, ..Self::default() };
        examples.into_iter().for_each(|example| batch.push(example));
        batch
    }

    /// Makes an empty batch whose examples share prefixes: a token runs once for all examples that are the same up to
    /// it. The rows are those of a batch that does not share.
    pub fn sharing(bos: Option<u32>) -> Self {
        Self { bos, followers: Some(HashMap::new()), ..Self::default() }
    }

    /// Makes a batch of one example; BOS, if there is one, gives a row as each token does.
    pub(crate) fn of_all(tokens: &[u32], bos: Option<u32>) -> Self {
        let mut batch = Self { bos, ..Self::default() };
        batch.rows = batch.append(tokens);
        batch.ends.push(batch.rows.len());
        batch
    }

    /// Makes a batch of tokens that follow others of one sequence, of which the first has this position; the last gives a
    /// row.
    pub(crate) fn from_position(tokens: &[u32], position: usize) -> Self {
        let mut batch = Self { tokens: tokens.to_vec(), parents: vec![None], ..Self::default() };
        batch.positions = (position..position + tokens.len()).map(|position| position as u32).collect();
        batch.offsets = vec![0, tokens.len()];
        batch.rows = (0..tokens.len() as u32).rev().take(1).collect();
        batch.ends = vec![batch.rows.len()];
        batch
    }

    /// Adds an example; each of its tokens gives a row.
    pub fn push(&mut self, tokens: &[u32]) {
        let places = self.append(tokens);
        self.rows.extend(&places[places.len() - tokens.len()..]);
        self.ends.push(self.rows.len());
    }

    /// Adds an example in which only some positions give a row (ascending, 0-based, BOS not counted).
    ///
    /// Tokens after the last position are not run: attention is causal, so nothing depends on them.
    pub fn push_positions(&mut self, tokens: &[u32], positions: &[u32]) {
        if let Some(&last) = positions.last() {
            let places = self.append(&tokens[..last as usize + 1]);
            let first = places.len() - last as usize - 1;
            self.rows.extend(positions.iter().map(|p| places[first + *p as usize]));
        }
        self.ends.push(self.rows.len());
    }

    /// Adds an example in which only the last token gives a row: BOS if it has no tokens, nothing if there is no BOS.
    pub fn push_last(&mut self, tokens: &[u32]) {
        let places = self.append(tokens);
        self.rows.extend(places.last());
        self.ends.push(self.rows.len());
    }

    /// Number of rows of the result: one a wanted position.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Number of tokens that run through the network, BOS included.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Returns true if the batch has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Number of examples, those without rows included.
    pub(crate) fn examples(&self) -> usize {
        self.ends.len()
    }

    /// Splits into two batches of whole examples with about half the rows each; `None` if one would not be smaller.
    ///
    /// Tokens that the rows of a half do not depend on are left out of it; tokens that rows of both need are in both.
    pub(crate) fn halves(&self) -> Option<(Self, Self)> {
        let inner = self.ends.len().checked_sub(1)?;
        let middle = self.rows.len() / 2;
        let last = (0..inner).min_by_key(|example| self.ends[*example].abs_diff(middle))?;
        let halves = (self.part(0..last + 1), self.part(last + 1..self.ends.len()));
        (halves.0.tokens().max(halves.1.tokens()) < self.tokens()).then_some(halves)
    }

    /// The batch of some examples, with the tokens that their rows depend on.
    fn part(&self, examples: Range<usize>) -> Self {
        let first = examples.start.checked_sub(1).map_or(0, |before| self.ends[before]);
        let ends = &self.ends[examples];
        let rows = &self.rows[first..ends.last().copied().unwrap_or(first)];
        // Number of tokens needed of each segment; parents come before their children.
        let mut needed = vec![0; self.parents.len()];
        let owner = |row: u32| self.offsets.partition_point(|start| *start <= row as usize) - 1;
        let need = |needed: &mut Vec<usize>, row: u32| {
            let segment = owner(row);
            needed[segment] = needed[segment].max(row as usize + 1 - self.offsets[segment]);
        };
        rows.iter().for_each(|row| need(&mut needed, *row));
        for segment in (0..self.parents.len()).rev() {
            if let Some(parent) = self.parents[segment].filter(|_| needed[segment] > 0) {
                need(&mut needed, parent);
            }
        }
        let ends = ends.iter().map(|end| end - first).collect();
        let mut part = Self { bos: self.bos, offsets: vec![0], ends, ..Self::default() };
        // New index of each token.
        let mut moved = vec![u32::MAX; self.tokens.len()];
        for (segment, count) in needed.into_iter().enumerate().filter(|(_, count)| *count > 0) {
            let kept = self.offsets[segment]..self.offsets[segment] + count;
            let end = (part.tokens.len() + count) as u32;
            moved[kept.clone()].iter_mut().zip(part.tokens.len() as u32..end).for_each(|(place, new)| *place = new);
            part.tokens.extend_from_slice(&self.tokens[kept.clone()]);
            part.positions.extend_from_slice(&self.positions[kept]);
            part.offsets.push(part.tokens.len());
            part.parents.push(self.parents[segment].map(|parent| moved[parent as usize]));
        }
        part.rows = rows.iter().map(|row| moved[*row as usize]).collect();
        part
    }

    /// Length of the longest sequence, BOS included.
    pub(crate) fn longest(&self) -> usize {
        self.positions.iter().max().map_or(0, |last| *last as usize + 1)
    }

    /// Adds BOS and the tokens; returns the index of each.
    fn append(&mut self, tokens: &[u32]) -> Vec<u32> {
        if self.offsets.is_empty() {
            self.offsets.push(0);
        }
        let mut places = Vec::with_capacity(tokens.len() + 1);
        let mut parent = None;
        let sequence = self.bos.iter().chain(tokens);
        for token in sequence {
            let last = places.last().copied();
            let known = self.followers.as_ref().and_then(|followers| followers.get(&(last, *token)));
            // No known token follows a new one, so the rest of the sequence is one segment.
            places.push(match known {
                Some(place) => {
                    parent = Some(*place);
                    *place
                }
                None => {
                    let place = self.tokens.len() as u32;
                    self.tokens.push(*token);
                    self.positions.push(places.len() as u32);
                    if let Some(followers) = &mut self.followers {
                        followers.insert((last, *token), place);
                    }
                    place
                }
            });
        }
        if self.offsets.last() != Some(&self.tokens.len()) {
            self.offsets.push(self.tokens.len());
            self.parents.push(parent);
        }
        places
    }
}
