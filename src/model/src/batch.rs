//! Sequences packed into one forward pass, without padding.

use std::collections::HashMap;

/// Examples to run together: their tokens lie end to end, and each sees only itself.
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
    /// Which token is known to follow another (or to begin a sequence), if examples share what they begin with.
    followers: Option<HashMap<(Option<u32>, u32), u32>>,
}

impl Batch {
    /// A batch of whole examples; `bos` is put before each and gives no row of its own.
    pub fn new<'a>(examples: impl IntoIterator<Item = &'a [u32]>, bos: Option<u32>) -> Self {
        let mut batch = Self { bos, ..Self::default() };
        examples.into_iter().for_each(|example| batch.push(example));
        batch
    }

    /// An empty batch whose examples share what they begin with: a token runs once for all examples that are the same
    /// up to it. The rows are those of a batch that does not share.
    pub fn sharing(bos: Option<u32>) -> Self {
        Self { bos, followers: Some(HashMap::new()), ..Self::default() }
    }

    /// Adds an example; each of its tokens gives a row.
    pub fn push(&mut self, tokens: &[u32]) {
        let places = self.append(tokens);
        self.rows.extend(&places[places.len() - tokens.len()..]);
    }

    /// Adds an example of which only some positions give a row (ascending, 0-based, BOS not counted).
    ///
    /// Tokens after the last position are not run: attention is causal, so nothing depends on them.
    pub fn push_positions(&mut self, tokens: &[u32], positions: &[u32]) {
        let Some(&last) = positions.last() else { return };
        let places = self.append(&tokens[..last as usize + 1]);
        let first = places.len() - last as usize - 1;
        self.rows.extend(positions.iter().map(|p| places[first + *p as usize]));
    }

    /// Adds an example of which only the last token gives a row: BOS if it has no tokens, nothing if there is no BOS.
    pub fn push_last(&mut self, tokens: &[u32]) {
        let places = self.append(tokens);
        self.rows.extend(places.last());
    }

    /// Rows of the result: one a wanted position.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Tokens that run through the network, BOS included.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Two batches of half the rows each, in order; `None` if that would not make the longer one smaller.
    ///
    /// What the rows of a half do not depend on is left out of it; what rows of both depend on is in both.
    pub(crate) fn halves(&self) -> Option<(Self, Self)> {
        let (left, right) = self.rows.split_at(self.rows.len() / 2);
        let halves = (self.needed_by(left), self.needed_by(right));
        (!left.is_empty() && halves.0.tokens().max(halves.1.tokens()) < self.tokens()).then_some(halves)
    }

    /// The part of the batch that these rows depend on.
    fn needed_by(&self, rows: &[u32]) -> Self {
        // Of each segment, how many tokens are needed: parents come before their children.
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
        let mut part = Self { bos: self.bos, offsets: vec![0], ..Self::default() };
        // Where each token went.
        let mut moved = vec![u32::MAX; self.tokens.len()];
        for (segment, count) in needed.into_iter().enumerate().filter(|(_, count)| *count > 0) {
            for row in self.offsets[segment]..self.offsets[segment] + count {
                moved[row] = part.tokens.len() as u32;
                part.tokens.push(self.tokens[row]);
                part.positions.push(self.positions[row]);
            }
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

    /// Adds BOS and the tokens; returns where each is.
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
            // What is new is followed by nothing that is known: the rest of the sequence is one segment.
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
