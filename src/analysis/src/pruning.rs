//! Pruning by bounds: marks the examples that must run because their bounds do not decide a query.

use crate::bounds::QuantizedBounds;
use crate::reduce::ValueRange;

/// Bounds of one neuron in all examples.
#[derive(Debug, Default)]
pub struct NeuronBounds {
    lower: Vec<f32>,
    upper: Vec<f32>,
    /// Numbers that some activation of each example is at least (above) and at most (below).
    reached_above: Vec<Option<f32>>,
    reached_below: Vec<Option<f32>>,
}

impl NeuronBounds {
    /// Adds the examples of a segment.
    pub fn extend(&mut self, lower: &QuantizedBounds, upper: &QuantizedBounds) {
        for e in 0..upper.codes.len() {
            self.lower.push(lower.get(e).unwrap_or(f32::NEG_INFINITY));
            self.upper.push(upper.get(e).unwrap_or(f32::NAN));
            self.reached_above.push(upper.opposite(e, true));
            self.reached_below.push(lower.opposite(e, false));
        }
    }

    /// Updates, for each example, the strongest number that some activation of this neuron or of earlier ones reaches.
    pub fn reach(&self, examples: &[usize], greatest: bool, reached: &mut [Option<f32>]) {
        for (&e, reached) in examples.iter().zip(reached) {
            *reached = match (*reached, self.reached(e, greatest)) {
                (Some(a), Some(b)) => Some(if greatest { a.max(b) } else { a.min(b) }),
                (a, b) => a.or(b),
            };
        }
    }

    fn reached(&self, example: usize, greatest: bool) -> Option<f32> {
        if greatest { self.reached_above[example] } else { self.reached_below[example] }
    }

    fn threshold(&self, examples: &[usize], k: usize, greatest: bool) -> f32 {
        threshold(examples.iter().filter_map(|e| self.reached(*e, greatest)), k, greatest)
    }

    /// Marks the examples that may have one of the `k` greatest (or least) activations, of which at least as many are
    /// known to reach `known`.
    pub fn need_top(&self, examples: &[usize], k: usize, greatest: bool, known: f32, needed: &mut [bool]) {
        let threshold = self.threshold(examples, k, greatest);
        let threshold = if greatest { threshold.max(known) } else { threshold.min(known) };
        self.need_from(examples, greatest, threshold, needed);
    }

    /// Marks the examples that may have the greatest activation in a range that has no upper end.
    pub fn need_max(&self, examples: &[usize], condition: ValueRange, needed: &mut [bool]) {
        // An example whose greatest value is in the range rules out weaker ones.
        let threshold = self.threshold(examples, 1, true);
        self.need_from(examples, true, threshold.max(condition.least), needed);
    }

    /// Marks the examples that may have the least activation in a range that has no lower end.
    pub fn need_min(&self, examples: &[usize], condition: ValueRange, needed: &mut [bool]) {
        let threshold = self.threshold(examples, 1, false);
        self.need_from(examples, false, threshold.min(condition.greatest), needed);
    }

    /// Marks the examples in which some activations may be in a range and others not.
    pub fn need_count(&self, examples: &[usize], condition: ValueRange, needed: &mut [bool]) {
        for &e in examples {
            needed[e] |= condition.of_all(self.lower[e], self.upper[e]).is_none();
        }
    }

    /// Returns true if all activations of an example are certainly in a range.
    pub fn is_within(&self, example: usize, condition: ValueRange) -> bool {
        condition.of_all(self.lower[example], self.upper[example]) == Some(true)
    }

    fn need_from(&self, examples: &[usize], greatest: bool, number: f32, needed: &mut [bool]) {
        for &e in examples {
            needed[e] |= reaches(self.lower[e], self.upper[e], greatest, number);
        }
    }
}

/// Returns true if some activation between two bounds may be at least (or at most) a number; NaN is no bound.
pub fn reaches(lower: f32, upper: f32, greatest: bool, number: f32) -> bool {
    if greatest { upper.is_nan() || upper >= number } else { lower <= number }
}

/// Threshold that at least `k` activations reach, given numbers of which each is reached by one; the weakest possible
/// if there are fewer than `k`.
pub fn threshold(reached: impl Iterator<Item = f32>, k: usize, greatest: bool) -> f32 {
    let mut reached: Vec<f32> = reached.collect();
    if k == 0 || reached.len() < k {
        return if greatest { f32::NEG_INFINITY } else { f32::INFINITY };
    }
    let order = |a: &f32, b: &f32| if greatest { b.total_cmp(a) } else { a.total_cmp(b) };
    *reached.select_nth_unstable_by(k - 1, order).1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bounds::LayerBounds;

    fn corpus() -> impl Strategy<Value = Vec<Vec<f32>>> {
        let value = prop_oneof![8 => (-20_i8..20).prop_map(|v| f32::from(v) / 4.0), 1 => any::<f32>()];
        proptest::collection::vec(proptest::collection::vec(value, 1..6), 1..20)
    }

    /// Makes bounds of one neuron, over two segments.
    fn bounds(corpus: &[Vec<f32>]) -> NeuronBounds {
        let mut of = NeuronBounds::default();
        let (first, second) = corpus.split_at(corpus.len() / 2);
        for segment in [first, second] {
            let peaks: Vec<f32> =
                segment.iter().map(|v| v.iter().copied().fold(f32::NEG_INFINITY, crate::greater)).collect();
            let troughs: Vec<f32> = segment.iter().map(|v| v.iter().copied().fold(f32::NAN, crate::lesser)).collect();
            let bounds = LayerBounds::new(&[&peaks[..]], &[&troughs[..]], 1);
            of.extend(&bounds.lower[0], &bounds.upper[0]);
        }
        of
    }

    proptest! {
        #[test]
        fn what_is_not_needed_does_not_matter(corpus in corpus(), k in 1_usize..8, greatest in any::<bool>(), x in -5.0_f64..5.0) {
            let of = bounds(&corpus);
            // Every other example is left out.
            let asked: Vec<usize> = (0..corpus.len()).step_by(2).collect();
            let sorted = |examples: &mut dyn Iterator<Item = usize>| {
                let mut values: Vec<f32> = examples.flat_map(|e| corpus[e].clone()).collect();
                // The order of SQL.
                values.sort_by(|a, b| a.is_nan().cmp(&b.is_nan()).then(a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal)));
                if greatest { values.reverse() }
                values
            };
            let left = |needed: &[bool]| sorted(&mut asked.iter().copied().filter(|e| needed[*e]));
            let same = |a: Option<&f32>, b: Option<&f32>| a == b || a.zip(b).is_some_and(|(a, b)| a.is_nan() && b.is_nan());
            let all = sorted(&mut asked.iter().copied());
            let mut needed = vec![false; corpus.len()];
            of.need_top(&asked, k, greatest, if greatest { f32::NEG_INFINITY } else { f32::INFINITY }, &mut needed);
            let run = left(&needed);
            let mut reached = vec![None; asked.len()];
            of.reach(&asked, greatest, &mut reached);
            let number = threshold(reached.into_iter().flatten(), k, greatest);
            for e in &asked {
                prop_assert_eq!(needed[*e], reaches(of.lower[*e], of.upper[*e], greatest, number));
            }
            prop_assert!((0..k.min(all.len())).all(|i| same(run.get(i), all.get(i))));

            let condition = if greatest { ValueRange::above(x, true) } else { ValueRange::below(x, true) };
            let mut needed = vec![false; corpus.len()];
            match greatest {
                true => of.need_max(&asked, condition, &mut needed),
                false => of.need_min(&asked, condition, &mut needed),
            }
            let extreme = |values: &[f32]| values.iter().copied().find(|v| condition.holds(*v));
            prop_assert!(same(extreme(&left(&needed)).as_ref(), extreme(&all).as_ref()));

            let mut needed = vec![false; corpus.len()];
            of.need_count(&asked, condition, &mut needed);
            let count = |values: &[f32]| values.iter().filter(|v| condition.holds(**v)).count();
            let decided = asked.iter().filter(|e| !needed[**e] && of.is_within(**e, condition));
            prop_assert_eq!(count(&left(&needed)) + decided.map(|e| corpus[*e].len()).sum::<usize>(), count(&all));
        }
    }

    #[test]
    fn thresholds() {
        assert_eq!(threshold([1.0, 3.0, 2.0].into_iter(), 2, true), 2.0);
        assert_eq!(threshold([1.0, 3.0, 2.0].into_iter(), 1, false), 1.0);
        assert_eq!(threshold([1.0].into_iter(), 2, true), f32::NEG_INFINITY);
        assert_eq!(threshold(std::iter::empty(), 0, false), f32::INFINITY);
    }
}
