//! Similarity join of many graphs, exact and without comparing each with each.
//!
//! Similarity is [`Signature::similarity`]. The ideas are those of joins of sets (Chaudhuri et al., ICDE 2006; Bayardo et
//! al., WWW 2007; Xiao et al., WWW 2008), with weights: two signatures of at least similarity t share at least
//! t/(1 + t) of the sum of their totals, so
//! - the lesser total is at least t times the greater (size filter);
//! - in any order of all patterns, the first that both have is not in that tail of either which weighs less than
//!   they must share (prefix filter); with the rarest patterns first, few others are met;
//! - comparing stops once too much of either is known to be missing from the other.
//!
//! Filters err on the side of comparing, by [`SLACK`]; the comparison decides with the arithmetic of
//! [`Signature::similarity`], so results are the same to the last bit.

mod build;
mod nearest;
mod pairs;

use std::ops::Range;

pub use self::build::PatternIndexBuilder;
pub use self::pairs::Pair;

use crate::Signature;
use crate::signature::{self, jaccard};

/// Margin of the filters, relative to totals: far more than the rounding errors of totals of up to 2²⁴ weights.
const SLACK: f64 = 1e-7;

/// Index of the signatures of many graphs, to find similar ones.
///
/// Equal signatures are kept once, and signatures without patterns, which are similar to nothing, not at all. A pattern
/// of a signature takes 12 bytes, and each distinct pattern 12 more: see [`Self::bytes`]. Its contents depend on the
/// signatures and their keys only, not on the order in which they came.
///
/// ```
/// use std::ops::ControlFlow;
/// use neuroql_graph::{PatternIndexBuilder, Signature};
///
/// let signature = |patterns: &[(u64, f32)]| Signature::new(patterns.to_vec());
/// let mut builder = PatternIndexBuilder::default();
/// builder.push(7, &signature(&[(1, 1.0), (2, 1.0)])?);
/// builder.push(8, &signature(&[(1, 1.0), (2, 0.5)])?);
/// builder.push(9, &signature(&[(3, 1.0)])?);
/// let index = builder.build()?;
/// assert_eq!(index.most_similar(&signature(&[(1, 1.0), (2, 1.0)])?, 10, 0.0), [(7, 1.0), (8, 0.75)]);
///
/// let mut found = Vec::new();
/// index.pairs(0.75, |pairs| {
///     found.extend(pairs.iter().map(|pair| (pair.a, pair.b, pair.similarity)));
///     ControlFlow::Continue(())
/// })?;
/// assert_eq!(found, [(7, 8, 0.75)]);
/// # Ok::<(), neuroql_graph::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct PatternIndex {
    /// Hash of each pattern, ascending: patterns are numbered in this order.
    hashes: Vec<u64>,
    /// Offsets of the patterns of each class, `[classes + 1]`. A class is all graphs of one signature; classes are in
    /// ascending order of totals.
    starts: Vec<u32>,
    /// Numbers of the patterns of each class, ascending, and their weights.
    patterns: Vec<u32>,
    weights: Vec<f32>,
    /// Total of each class's signature.
    totals: Vec<f64>,
    /// Offsets of the keys of each class, `[classes + 1]`.
    key_starts: Vec<u32>,
    /// Keys of each class, ascending.
    keys: Vec<u64>,
    /// Places of keys, in ascending order of the keys.
    by_key: Vec<u32>,
    /// Offsets of the classes of each pattern, `[patterns + 1]`.
    posting_starts: Vec<u32>,
    /// Classes that have each pattern, ascending.
    postings: Vec<u32>,
}

/// A signature to look up in an index.
struct Probe {
    /// Numbers, ascending, and weights of its patterns that the index has.
    patterns: Vec<(u32, f32)>,
    /// Total of the signature.
    total: f64,
    /// Total of those patterns.
    known: f64,
}

impl Probe {
    fn new(patterns: Vec<(u32, f32)>, total: f64) -> Self {
        let known = signature::total(&patterns);
        Self { patterns, total, known }
    }
}

impl PatternIndex {
    /// Number of graphs, those without patterns not counted.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns true if there is no graph with a pattern.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Number of distinct signatures.
    pub fn distinct(&self) -> usize {
        self.totals.len()
    }

    /// Number of patterns of all distinct signatures.
    pub fn postings(&self) -> usize {
        self.postings.len()
    }

    /// The signature that has a key; `None` if there is none, or if it is without patterns.
    pub fn signature(&self, key: u64) -> Option<Signature> {
        let at = self.by_key.binary_search_by_key(&key, |place| self.keys[*place as usize]).ok()?;
        let class = self.key_starts.partition_point(|start| *start <= self.by_key[at]) as u32 - 1;
        let patterns = self.class(class).map(|(pattern, weight)| (self.hashes[pattern as usize], weight));
        Signature::new(patterns.collect()).ok()
    }

    /// Size in memory, in bytes.
    pub fn bytes(&self) -> usize {
        let u32s = [&self.starts, &self.patterns, &self.key_starts, &self.by_key, &self.posting_starts, &self.postings];
        let halves = u32s.into_iter().map(Vec::capacity).sum::<usize>() + self.weights.capacity();
        let wholes = self.hashes.capacity() + self.totals.capacity() + self.keys.capacity();
        size_of::<Self>() + 4 * halves + 8 * wholes
    }

    fn probe(&self, signature: &Signature) -> Probe {
        let known = |(hash, weight): &(u64, f32)| Some((self.hashes.binary_search(hash).ok()? as u32, *weight));
        Probe::new(signature.patterns().iter().filter_map(known).collect(), signature.total())
    }

    fn class(&self, class: u32) -> impl Iterator<Item = (u32, f32)> + '_ {
        let range = range(&self.starts, class);
        self.patterns[range.clone()].iter().copied().zip(self.weights[range].iter().copied())
    }

    fn keys_of(&self, class: u32) -> &[u64] {
        &self.keys[range(&self.key_starts, class)]
    }

    fn classes_with(&self, pattern: u32) -> &[u32] {
        &self.postings[range(&self.posting_starts, pattern)]
    }

    /// Indices of the patterns, in ascending order of the number of classes that have them.
    fn rarest_first(&self, patterns: &[(u32, f32)]) -> Vec<u32> {
        let mut order: Vec<u32> = (0..patterns.len() as u32).collect();
        order.sort_unstable_by_key(|place| {
            let pattern = patterns[*place as usize].0;
            (self.classes_with(pattern).len(), pattern)
        });
        order
    }

    /// Prefix of patterns of a probe or class, rarest first: all but the longest tail that weighs less than `needed`.
    fn prefix(&self, patterns: &[(u32, f32)], needed: f64) -> impl Iterator<Item = u32> {
        let mut order = self.rarest_first(patterns);
        let mut tail = 0.0;
        while let Some(last) = order.last() {
            tail += f64::from(patterns[*last as usize].1);
            if tail >= needed {
                break;
            }
            order.pop();
        }
        order.into_iter().map(|place| patterns[place as usize].0)
    }

    /// Similarity of a probe to a class; may be `None` if it is less than `least`.
    fn compare(&self, probe: &Probe, class: u32, least: f64) -> Option<f64> {
        let total = self.totals[class as usize];
        let both = probe.total + total;
        let needed = least / (1.0 + least) * both - SLACK * both;
        // Weight that either may still have unshared.
        let (mut spare, mut class_spare) = (probe.known - needed, total - needed);
        let mut overlap = 0.0;
        let mut others = self.class(class).peekable();
        for (pattern, weight) in &probe.patterns {
            while let Some((_, missing)) = others.next_if(|(other, _)| other < pattern) {
                class_spare -= f64::from(missing);
            }
            let weight = f64::from(*weight);
            let other = others.next_if(|(other, _)| other == pattern).map_or(0.0, |(_, other)| f64::from(other));
            let shared = weight.min(other);
            overlap += shared;
            spare -= weight - shared;
            class_spare -= other - shared;
            if spare < 0.0 || class_spare < 0.0 {
                return None;
            }
        }
        Some(jaccard(overlap, probe.total, total))
    }
}

fn range(starts: &[u32], at: u32) -> Range<usize> {
    starts[at as usize] as usize..starts[at as usize + 1] as usize
}
