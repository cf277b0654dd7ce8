//! Search for the graphs most similar to one.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::{PatternIndex, Probe, SLACK};
use crate::Signature;

/// Number of classes compared in the order of their discovery; beyond it, all are first ranked by their bounds.
const MANY: usize = 256;

impl PatternIndex {
    /// The `k` graphs most similar to a signature, with their similarities, the most similar first and of equals the one
    /// with the least key; only those that share a pattern with it and are similar to at least `at_least`. If the
    /// signature's own graph is in the index, it is among them.
    pub fn most_similar(&self, signature: &Signature, k: usize, at_least: f64) -> Vec<(u64, f64)> {
        let mut best = TopCandidates { found: BinaryHeap::new(), k, at_least: at_least.max(0.0) };
        if k > 0 {
            self.search(&self.probe(signature), &mut best);
        }
        let found = best.found.into_sorted_vec();
        found.into_iter().map(|Candidate { similarity, key }| (key, similarity)).collect()
    }

    /// Compares the classes that have the patterns of the probe, the rarest pattern first. A class that comes up for
    /// the first time has none of the rarer patterns, so it shares at most the rest of the probe.
    fn search(&self, probe: &Probe, best: &mut TopCandidates) {
        let mut met = VisitedClasses(vec![0; self.totals.len().div_ceil(64)]);
        let mut rest = probe.known;
        let mut compared = 0;
        let order = self.rarest_first(&probe.patterns);
        for (at, place) in order.iter().enumerate() {
            let (pattern, weight) = probe.patterns[*place as usize];
            let can_be = |class: u32| bound(rest, self.totals[class as usize], probe.total);
            for class in self.outwards(self.classes_with(pattern), rest, can_be) {
                if can_be(class) < best.least() {
                    break;
                }
                if met.is_first(class) {
                    self.offer(probe, class, best);
                    compared += 1;
                }
                if compared > MANY {
                    return self.search_common(probe, &order[at..], &met, best);
                }
            }
            rest -= f64::from(weight);
            if bound(rest, rest, probe.total) < best.least() {
                return;
            }
        }
    }

    /// Classes in descending order of the bound of their similarity, the greater the nearer a total is to `shared`.
    fn outwards<'a>(
        &self,
        classes: &'a [u32],
        shared: f64,
        can_be: impl Fn(u32) -> f64 + 'a,
    ) -> impl Iterator<Item = u32> + 'a {
        let above = classes.partition_point(|class| self.totals[*class as usize] < shared);
        let (lower, upper) = classes.split_at(above);
        let (mut lower, mut upper) = (lower.iter().rev().peekable(), upper.iter().peekable());
        std::iter::from_fn(move || match (lower.peek(), upper.peek()) {
            (Some(low), Some(high)) if can_be(**low) < can_be(**high) => upper.next().copied(),
            (Some(_), _) => lower.next().copied(),
            _ => upper.next().copied(),
        })
    }

    /// Searches patterns that too many classes have to compare each: sums up the weight that each class can share, then
    /// compares the classes in descending order of their bounds.
    fn search_common(&self, probe: &Probe, order: &[u32], met: &VisitedClasses, best: &mut TopCandidates) {
        let mut shared = vec![0.0; self.totals.len()];
        for place in order {
            let (pattern, weight) = probe.patterns[*place as usize];
            let classes = self.classes_with(pattern);
            classes.iter().for_each(|class| shared[*class as usize] += f64::from(weight));
        }
        let promise = |((class, shared), total): ((u32, &f64), &f64)| {
            (bound(*shared, *total, probe.total).to_bits(), Reverse(class))
        };
        let least = best.least();
        let candidates = (0..).zip(&shared).zip(&self.totals).filter(|((class, shared), total)| {
            **shared > 0.0 && bound(**shared, **total, probe.total) >= least && !met.contains(*class)
        });
        let mut candidates: BinaryHeap<(u64, Reverse<u32>)> = candidates.map(promise).collect::<Vec<_>>().into();
        while let Some((can_be, Reverse(class))) = candidates.pop() {
            if f64::from_bits(can_be) < best.least() {
                return;
            }
            self.offer(probe, class, best);
        }
    }

    fn offer(&self, probe: &Probe, class: u32, best: &mut TopCandidates) {
        if let Some(similarity) = self.compare(probe, class, best.least()) {
            best.offer(similarity, self.keys_of(class));
        }
    }
}

/// Upper bound of the similarity to a class of the total, if no more than `rest` of the probe is shared. Positive, so
/// its bits are in its order.
fn bound(rest: f64, total: f64, probe: f64) -> f64 {
    let shared = rest.min(total);
    shared / (probe + total - shared) + SLACK
}

/// Set of the classes that came up, as bits.
struct VisitedClasses(Vec<u64>);

impl VisitedClasses {
    /// Adds a class, and returns true if it was not there before.
    fn is_first(&mut self, class: u32) -> bool {
        let first = !self.contains(class);
        self.0[class as usize / 64] |= 1 << (class % 64);
        first
    }

    fn contains(&self, class: u32) -> bool {
        self.0[class as usize / 64] >> (class % 64) & 1 == 1
    }
}

/// The best candidates so far.
struct TopCandidates {
    /// The candidates, the worst first.
    found: BinaryHeap<Candidate>,
    k: usize,
    at_least: f64,
}

impl TopCandidates {
    /// Similarity below which no class can be among them.
    fn least(&self) -> f64 {
        match self.found.peek() {
            Some(worst) if self.found.len() == self.k => self.at_least.max(worst.similarity),
            _ => self.at_least,
        }
    }

    /// Offers the keys of a class, which ascend: those among the best are kept.
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

/// A graph and its similarity. The order is best first.
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
