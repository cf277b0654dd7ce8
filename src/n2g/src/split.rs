//! Split of examples into those to learn from and those to judge by.

use std::collections::{HashMap, HashSet};

use crate::Sample;

/// Number of tokens up to the peak that are equal in near-duplicates.
const NEAR_DUPLICATE: usize = 8;

/// Splits activating examples, strongest first, into those to learn from and those to judge by: near-duplicates are
/// left out, and no document is on both sides. Documents take sides in turn, the strongest first, so that both sides
/// are as strong; if there is one document only, its examples do.
pub fn split(samples: Vec<Sample>, most: usize) -> (Vec<Sample>, Vec<Sample>) {
    let mut seen = HashSet::new();
    let distinct: Vec<Sample> = samples
        .into_iter()
        .filter(|sample| {
            let Some((peak, _)) = sample.peak() else { return false };
            let start = (peak + 1).saturating_sub(NEAR_DUPLICATE);
            seen.insert(sample.tokens[start..=peak].to_vec())
        })
        .take(most)
        .collect();
    let mut sides: HashMap<i64, bool> = HashMap::new();
    for sample in &distinct {
        let side = sides.len().is_multiple_of(2);
        sides.entry(sample.document).or_insert(side);
    }
    if sides.len() > 1 {
        return distinct.into_iter().partition(|sample| sides[&sample.document]);
    }
    let mut first = false;
    distinct.into_iter().partition(|_| {
        first = !first;
        first
    })
}
