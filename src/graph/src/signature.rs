//! Signatures of graphs: their patterns as hashes, to compare them with many others.

use crate::token_key::path_hashes;
use crate::{Error, Graph, Result};

/// Signature of a graph: its patterns, each as a hash of 64 bits, with their weights.
///
/// A pattern is its symbols from the activator outwards, tokens compared by text (by id where the text has U+FFFD: the
/// token's bytes are no UTF-8 by themselves). Its weight is the activation predicted where it ends; patterns that
/// predict none are left out. Two patterns are taken for one if their hashes collide: that there is any such pair among
/// 10 million patterns has a probability of 3 in a million. Hashes are XXH3, the same on all machines, and may be stored.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Signature {
    patterns: Vec<(u64, f32)>,
    total: f64,
}

impl Signature {
    /// Makes the signature of a graph; a node with alternatives is a node for each.
    pub fn of(graph: &Graph) -> Self {
        let weight = |(hash, ends): (u64, Option<f32>)| Some((hash, ends.filter(|ends| *ends > 0.0)?));
        let graph = graph.expanded();
        let ends = graph.nodes().iter().map(|node| node.ends);
        Self::merged(path_hashes(&graph).into_iter().zip(ends).filter_map(weight).collect())
    }

    /// Makes a signature of hashes and weights, in any order; of a hash that is there twice, the greater weight counts.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a weight that is not positive or not finite.
    pub fn new(patterns: Vec<(u64, f32)>) -> Result<Self> {
        match patterns.iter().find(|(_, weight)| !weight.is_finite() || *weight <= 0.0) {
            Some((_, weight)) => Err(Error::OutOfRange {
                what: "the weight of a pattern",
                value: weight.to_string(),
                allowed: "positive and finite",
            }),
            None => Ok(Self::merged(patterns)),
        }
    }

    fn merged(mut patterns: Vec<(u64, f32)>) -> Self {
        patterns.sort_unstable_by(|one, other| one.0.cmp(&other.0).then(other.1.total_cmp(&one.1)));
        patterns.dedup_by_key(|(hash, _)| *hash);
        let total = total(&patterns);
        Self { patterns, total }
    }

    /// Hashes, ascending, and weights, positive and finite.
    pub fn patterns(&self) -> &[(u64, f32)] {
        &self.patterns
    }

    /// Sum of the weights.
    pub fn total(&self) -> f64 {
        self.total
    }

    /// Returns true if it has no pattern.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Weighted Jaccard similarity, from 0 to 1: sum of the lesser weight of each pattern over that of the greater, where
    /// a pattern that one of them lacks weighs 0 there. `None` if neither has patterns. Symmetric to the last bit.
    pub fn similarity(&self, other: &Self) -> Option<f64> {
        let overlap = sum(self.common(other).map(|(one, other)| one.min(other)));
        (!self.is_empty() || !other.is_empty()).then(|| jaccard(overlap, self.total, other.total))
    }

    /// Share of its weight, from 0 to 1, on patterns that `other` has too; their weights there do not count. `None` if
    /// it has no patterns. Not symmetric.
    pub fn contained_in(&self, other: &Self) -> Option<f64> {
        let shared = sum(self.common(other).map(|(own, _)| own));
        (!self.is_empty()).then(|| shared / self.total)
    }

    /// Both weights of each pattern that both have, in the order of hashes.
    fn common<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (f32, f32)> + 'a {
        let mut others = other.patterns.iter().peekable();
        self.patterns.iter().filter_map(move |(hash, own)| {
            while others.next_if(|(other, _)| other < hash).is_some() {}
            others.next_if(|(other, _)| other == hash).map(|(_, weight)| (*own, *weight))
        })
    }
}

/// Sum of weights, always in the order of hashes, so that it is the same to the last bit.
pub(crate) fn total<T>(patterns: &[(T, f32)]) -> f64 {
    sum(patterns.iter().map(|(_, weight)| *weight))
}

/// Weighted Jaccard similarity of two signatures of these totals, not both 0, whose lesser weights sum to `overlap`.
pub(crate) fn jaccard(overlap: f64, one: f64, other: f64) -> f64 {
    // Rounding can make the divisor a little too small.
    (overlap / (one + other - overlap)).min(1.0)
}

/// Sum of weights; 0 of none, where [`Iterator::sum`] has −0.
fn sum(weights: impl Iterator<Item = f32>) -> f64 {
    weights.fold(0.0, |sum, weight| sum + f64::from(weight))
}
