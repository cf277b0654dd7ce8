//! Strongest tokens of a neuron, kept so that the greatest activations are known without a forward pass.

use std::cmp::Ordering;

use crate::bounds::ROUNDING;
use crate::total_order::is_greater;

/// One of the strongest tokens of a neuron.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopToken {
    /// Number of its example in the order of the analysis.
    pub example: u32,
    /// Position in the example.
    pub position: u32,
    /// Activation on the token.
    pub activation: f32,
}

/// Number of tokens kept of a neuron of which `k` examples are kept: some more, so that the first `k` are complete even
/// if the next are as strong.
pub fn kept_tokens(k: usize) -> usize {
    k + k / 2
}

/// Returns true if a value is among the strongest, of which there are `most`. One that is not now never will be.
#[inline]
pub(crate) fn passes(tokens: &[TopToken], most: usize, value: f32) -> bool {
    tokens.len() < most || tokens.last().is_some_and(|last| is_greater(value, last.activation))
}

/// Offers the tokens of an example; `tokens` are the strongest so far, strongest first, at most `most` of them.
pub(crate) fn offer(tokens: &mut Vec<TopToken>, most: usize, example: u32, values: &[f32]) {
    for (position, &activation) in values.iter().enumerate() {
        if passes(tokens, most, activation) {
            // After equally strong ones, which came first.
            let place = tokens.partition_point(|token| !is_greater(activation, token.activation));
            tokens.truncate(most - 1);
            tokens.insert(place, TopToken { example, position: position as u32, activation });
        }
    }
}

/// Strongest tokens of one neuron, with the greatest magnitude of all.
#[derive(Debug, Clone, Copy)]
pub struct TopTokens<'a> {
    /// Tokens, strongest first.
    pub tokens: &'a [TopToken],
    /// True if these are all tokens.
    pub all: bool,
    /// Greatest magnitude of its activations, of which rounding is a share.
    pub scale: f32,
}

/// Bound of the `k` greatest activations of some neurons by their strongest tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct TopKBound {
    /// Threshold that at least `k` activations reach in any batch; −∞ if there is none.
    pub threshold: f32,
    /// True if all activations that reach it are among the strongest tokens.
    pub complete: bool,
}

impl TopKBound {
    /// Makes the bound from the tokens of examples that pass.
    pub fn of(neurons: &[TopTokens<'_>], passes: impl Fn(u32) -> bool, k: usize) -> Self {
        let unknown = Self { threshold: f32::NEG_INFINITY, complete: false };
        let mut values = Vec::new();
        let mut margin = 0.0_f32;
        for neuron in neurons {
            if !neuron.scale.is_finite() || neuron.tokens.iter().any(|token| !token.activation.is_finite()) {
                return unknown;
            }
            margin = margin.max(3.0 * ROUNDING * neuron.scale);
            values.extend(neuron.tokens.iter().filter(|token| passes(token.example)).map(|token| token.activation));
        }
        if k == 0 || values.len() < k {
            let complete = neurons.iter().all(|neuron| neuron.all);
            return Self { complete, ..unknown };
        }
        let descending = |a: &f32, b: &f32| b.partial_cmp(a).unwrap_or(Ordering::Equal);
        let threshold = *values.select_nth_unstable_by(k - 1, descending).1 - margin;
        // The weakest kept token is at least as strong as all others.
        let rest = |neuron: &TopTokens<'_>| match neuron.tokens.last() {
            Some(last) if !neuron.all => last.activation < threshold - margin,
            _ => neuron.all,
        };
        Self { threshold, complete: neurons.iter().all(rest) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Examples of a few tokens each, with ties.
    fn corpus() -> impl Strategy<Value = Vec<Vec<f32>>> {
        let value = (-20_i8..20).prop_map(|v| f32::from(v) / 4.0);
        proptest::collection::vec(proptest::collection::vec(value, 1..8), 0..12)
    }

    fn strongest(corpus: &[Vec<f32>], most: usize) -> Vec<TopToken> {
        let mut tokens = Vec::new();
        for (example, values) in corpus.iter().enumerate() {
            offer(&mut tokens, most, example as u32, values);
        }
        tokens
    }

    proptest! {
        #[test]
        fn as_sorting_them_all(corpus in corpus(), most in 1_usize..20) {
            let mut all: Vec<TopToken> = Vec::new();
            for (example, values) in corpus.iter().enumerate() {
                all.extend(values.iter().enumerate().map(|(position, activation)| TopToken {
                    example: example as u32,
                    position: position as u32,
                    activation: *activation,
                }));
            }
            all.sort_by(|a, b| b.activation.total_cmp(&a.activation));
            all.truncate(most);
            prop_assert_eq!(strongest(&corpus, most), all);
        }

        #[test]
        fn complete_means_complete(corpora in proptest::collection::vec(corpus(), 1..4), most in 1_usize..20, k in 0_usize..12, modulus in 1_u32..3) {
            let count = |corpus: &[Vec<f32>]| corpus.iter().map(Vec::len).sum::<usize>();
            let kept: Vec<_> = corpora.iter().map(|corpus| strongest(corpus, most)).collect();
            let neurons: Vec<TopTokens> = kept
                .iter()
                .zip(&corpora)
                .map(|(tokens, corpus)| TopTokens { tokens, all: count(corpus) <= most, scale: 5.0 })
                .collect();
            let passes = |example: u32| example.is_multiple_of(modulus);
            let greatest = TopKBound::of(&neurons, passes, k);
            let reach = |values: &mut dyn Iterator<Item = f32>| values.filter(|v| *v >= greatest.threshold).count();
            let passing = |corpus: &Vec<Vec<f32>>| {
                let examples = corpus.iter().enumerate().filter(|(e, _)| passes(*e as u32));
                reach(&mut examples.flat_map(|(_, values)| values.iter().copied()))
            };
            let total: usize = corpora.iter().map(passing).sum();
            if greatest.threshold > f32::NEG_INFINITY {
                prop_assert!(total >= k);
            }
            let known: usize = kept.iter().map(|tokens| {
                reach(&mut tokens.iter().filter(|t| passes(t.example)).map(|t| t.activation))
            }).sum();
            if greatest.complete {
                prop_assert_eq!(known, total);
            }
        }
    }

    #[test]
    fn what_is_not_a_number_says_nothing() {
        let tokens = [TopToken { example: 0, position: 0, activation: f32::NAN }];
        let neuron = TopTokens { tokens: &tokens, all: true, scale: 1.0 };
        assert_eq!(TopKBound::of(&[neuron], |_| true, 1), TopKBound { threshold: f32::NEG_INFINITY, complete: false });
    }
}
