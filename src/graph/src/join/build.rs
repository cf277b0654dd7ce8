//! Builder of an index.

use std::borrow::Borrow;
use std::cmp::Ordering;

use rayon::slice::ParallelSliceMut;

use super::PatternIndex;
use crate::{Error, Graph, Result, Signature, signature};

/// Builder of an index from signatures.
#[derive(Debug, Clone, Default)]
pub struct PatternIndexBuilder {
    /// Key of each signature, and the end of its patterns.
    records: Vec<(u64, usize)>,
    patterns: Vec<(u64, f32)>,
}

impl PatternIndexBuilder {
    /// Adds a signature. Its key, which names it in results, should be unique.
    pub fn push(&mut self, key: u64, signature: &Signature) {
        if !signature.is_empty() {
            self.patterns.extend_from_slice(signature.patterns());
            self.records.push((key, self.patterns.len()));
        }
    }

    /// Builds the index.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for more than 2³² − 1 patterns of all signatures, or as many signatures.
    pub fn build(self) -> Result<PatternIndex> {
        let limit = u32::MAX as usize;
        for (what, count) in [("patterns", self.patterns.len()), ("signatures", self.records.len())] {
            if count > limit {
                return Err(Error::TooLarge { what, count, limit });
            }
        }
        let mut index = self.classes();
        let hashes = self.hashes_of(&mut index);
        number(&mut index, hashes);
        post(&mut index);
        Ok(index)
    }

    /// Groups equal signatures into classes. The patterns of the index are places in `self.patterns` until [`number`].
    fn classes(&self) -> PatternIndex {
        let mut order: Vec<(f64, u32)> = (0..self.records.len() as u32).map(|at| (self.total(at), at)).collect();
        let compare = |one: &(f64, u32), other: &(f64, u32)| {
            one.0.total_cmp(&other.0).then_with(|| lexicographic(self.signature(one.1), self.signature(other.1)))
        };
        order.par_sort_unstable_by(|one, other| {
            compare(one, other).then_with(|| self.records[one.1 as usize].0.cmp(&self.records[other.1 as usize].0))
        });
        let mut index = PatternIndex {
            hashes: Vec::new(),
            starts: vec![0],
            patterns: Vec::new(),
            weights: Vec::new(),
            totals: Vec::new(),
            key_starts: vec![0],
            keys: Vec::with_capacity(order.len()),
            by_key: (0..order.len() as u32).collect(),
            posting_starts: Vec::new(),
            postings: Vec::new(),
        };
        for same in order.chunk_by(|one, other| compare(one, other).is_eq()) {
            let (total, first) = same[0];
            let range = self.range(first);
            index.patterns.extend(range.start as u32..range.end as u32);
            index.weights.extend(self.signature(first).iter().map(|(_, weight)| *weight));
            index.starts.push(index.patterns.len() as u32);
            index.totals.push(total);
            index.keys.extend(same.iter().map(|(_, at)| self.records[*at as usize].0));
            index.key_starts.push(index.keys.len() as u32);
        }
        index.by_key.par_sort_unstable_by_key(|place| index.keys[*place as usize]);
        for numbers in [&mut index.starts, &mut index.patterns, &mut index.key_starts] {
            numbers.shrink_to_fit();
        }
        index.weights.shrink_to_fit();
        index.totals.shrink_to_fit();
        index
    }

    /// Hash of each pattern of the index, with its place there. Frees the collected signatures.
    fn hashes_of(self, index: &mut PatternIndex) -> Vec<(u64, u32)> {
        let hash = |(place, pattern): (u32, &u32)| (self.patterns[*pattern as usize].0, place);
        (0..).zip(&index.patterns).map(hash).collect()
    }

    fn range(&self, at: u32) -> std::ops::Range<usize> {
        let start = at.checked_sub(1).map_or(0, |before| self.records[before as usize].1);
        start..self.records[at as usize].1
    }

    fn signature(&self, at: u32) -> &[(u64, f32)] {
        &self.patterns[self.range(at)]
    }

    fn total(&self, at: u32) -> f64 {
        signature::total(self.signature(at))
    }
}

impl<G: Borrow<Graph>> Extend<(u64, G)> for PatternIndexBuilder {
    fn extend<T: IntoIterator<Item = (u64, G)>>(&mut self, graphs: T) {
        graphs.into_iter().for_each(|(key, graph)| self.push(key, &Signature::of(graph.borrow())));
    }
}

fn lexicographic(one: &[(u64, f32)], other: &[(u64, f32)]) -> Ordering {
    let compare = |(one, other): (&(u64, f32), &(u64, f32))| one.0.cmp(&other.0).then(one.1.total_cmp(&other.1));
    one.iter().zip(other).map(compare).find(|order| order.is_ne()).unwrap_or(one.len().cmp(&other.len()))
}

/// Numbers patterns in the order of their hashes, so that those of a class, which are in it already, ascend.
fn number(index: &mut PatternIndex, mut hashes: Vec<(u64, u32)>) {
    hashes.par_sort_unstable();
    for same in hashes.chunk_by(|one, other| one.0 == other.0) {
        let number = index.hashes.len() as u32;
        index.hashes.push(same[0].0);
        same.iter().for_each(|(_, place)| index.patterns[*place as usize] = number);
    }
    index.hashes.shrink_to_fit();
}

/// Fills in the postings of the index.
fn post(index: &mut PatternIndex) {
    let classes = (0..).zip(index.starts.windows(2));
    let entries = classes.flat_map(|(class, bounds)| {
        index.patterns[bounds[0] as usize..bounds[1] as usize].iter().map(move |pattern| (*pattern, class))
    });
    (index.posting_starts, index.postings) = transposed(index.hashes.len(), || entries.clone());
}

/// Transposes entries (pattern, class): the offsets of the classes of each pattern, `[patterns + 1]`, and the classes,
/// in the order given. `entries` is called twice.
pub(super) fn transposed<I>(patterns: usize, entries: impl Fn() -> I) -> (Vec<u32>, Vec<u32>)
where
    I: Iterator<Item = (u32, u32)>,
{
    // While classes are filled in, each start is that of the pattern before.
    let mut starts = vec![0; patterns + 2];
    entries().for_each(|(pattern, _)| starts[pattern as usize + 2] += 1);
    for pattern in 2..starts.len() {
        starts[pattern] += starts[pattern - 1];
    }
    let mut classes = vec![0; starts.last().copied().unwrap_or_default() as usize];
    for (pattern, class) in entries() {
        let next = &mut starts[pattern as usize + 1];
        classes[*next as usize] = class;
        *next += 1;
    }
    starts.pop();
    starts.shrink_to_fit();
    (starts, classes)
}
