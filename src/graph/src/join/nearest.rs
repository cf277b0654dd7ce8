//! The most similar graphs to one.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::{PatternIndex, Probe, SLACK};
use crate::Signature;

impl PatternIndex {
    /// The `k` graphs most similar to a signature, with their similarities, the most similar first and of equals the one
    /// with the least key; only those that share a pattern with it and are similar to at least `at_least`. If the
    /// signature's own graph is in the index, it is among them.
    pub fn most_similar(&self, signature: &Signature, k: usize, at_least: f64) -> Vec<(u64, f64)> {
        let mut best = Best { found: BinaryHeap::new(), k, at_least: at_least.max(0.0) };
        if k > 0 {
            self.search(&self.probe(signature), &mut best);
        }
        let found = best.found.into_sorted_vec();
        found.into_iter().map(|Candidate { similarity, key }| (key, similarity)).collect()
    }

    /// Goes through the classes that have a pattern of the probe, from its rarest on. Those that come up with a pattern
    /// have none of the rarer ones, so they share with the probe at most the rest of it.
    fn search(&self, probe: &Probe, best: &mut Best) {
        let mut met = vec![0u64; self.totals.len().div_ceil(64)];
        let mut rest = probe.total - probe.unknown;
        for place in self.rarest_first(&probe.patterns) {
            let (pattern, weight) = probe.patterns[place as usize];
            if bound(rest, rest, probe.total) < best.least() {
                return;
            }
            let classes = self.classes_with(pattern);
            // The nearer a total is to the rest, the more similar its class can be.
            let above = classes.partition_point(|class| self.totals[*class as usize] < rest);
            let (mut lower, mut upper) = (classes[..above].iter().rev().peekable(), classes[above..].iter().peekable());
            loop {
                let can_be = |class: Option<&&u32>| {
                    class.map_or(-1.0, |class| bound(rest, self.totals[**class as usize], probe.total))
                };
                let (low, high) = (can_be(lower.peek()), can_be(upper.peek()));
                if low.max(high) < best.least() {
                    break;
                }
                let Some(class) = (if low > high { lower.next() } else { upper.next() }) else { break };
                let (word, bit) = (*class as usize / 64, 1 << (class % 64));
                if met[word] & bit == 0 {
                    met[word] |= bit;
                    let similarity = self.compare(probe, *class, best.least());
                    similarity.into_iter().for_each(|similarity| best.offer(similarity, self.keys_of(*class)));
                }
            }
            rest -= f64::from(weight);
        }
    }
}

/// What the similarity to a class of the total is at most, if no more than `rest` of the probe is shared.
fn bound(rest: f64, total: f64, probe: f64) -> f64 {
    let shared = rest.min(total);
    shared / (probe + total - shared) + SLACK
}

/// The best so far.
struct Best {
    /// The worst of them first.
    found: BinaryHeap<Candidate>,
    k: usize,
    at_least: f64,
}

impl Best {
    /// Similarity below which nothing can be among them.
    fn least(&self) -> f64 {
        match self.found.peek() {
            Some(worst) if self.found.len() == self.k => self.at_least.max(worst.similarity),
            _ => self.at_least,
        }
    }

    /// Takes the keys, which ascend, as far as they are among the best.
    fn offer(&mut self, similarity: f64, keys: &[u64]) {
        if similarity < self.at_least {
            return;
        }
        for key in keys {
            let candidate = Candidate { similarity, key: *key };
            if self.found.len() < self.k {
                self.found.push(candidate);
                continue;
            }
            match self.found.peek_mut() {
                Some(mut worst) if candidate < *worst => *worst = candidate,
                _ => return,
            }
        }
    }
}

/// Better ones are less.
#[derive(PartialEq)]
struct Candidate {
    similarity: f64,
    key: u64,
}

impl Eq for Candidate {}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        let rank = |candidate: &Self| (Reverse(candidate.similarity.to_bits()), candidate.key);
        // Similarities are not negative, so their bits are in their order.
        rank(self).cmp(&rank(other))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
