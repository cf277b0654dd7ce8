//! Admission of examples: the conditions for keeping more of one than its extremes.

use crate::examples::{BANDS, Selected, band};
use crate::top_tokens::{TopToken, kept_tokens};
use crate::total_order::is_greater;

/// Floor that an example must pass to be kept for a neuron. It is checked for each example and neuron, so floors of
/// neurons are adjacent in memory, unlike the kept examples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AdmissionThreshold {
    /// Activation of the weakest of the strongest tokens; `None` while there is room for more.
    token: Option<f32>,
    /// Activation of the weakest of the strongest examples, and its document; `None` while there is room for more.
    example: Option<(f32, i64)>,
    /// Number by which the example of each band was drawn; `None` if it has none.
    drawn: [Option<u64>; BANDS],
}

impl AdmissionThreshold {
    /// Makes the floor of a neuron from its kept examples and tokens, with `k` strongest examples at most.
    pub fn of(selected: &Selected, strongest: &[TopToken], k: usize) -> Self {
        let example = selected.best.last().filter(|_| selected.best.len() >= k);
        let drawn = |band: usize| selected.drawn.get(band).and_then(|drawn| drawn.as_ref().map(|(draw, _)| *draw));
        Self {
            token: strongest.last().filter(|_| strongest.len() >= kept_tokens(k)).map(|token| token.activation),
            example: example.map(|weakest| (weakest.activation, weakest.document)),
            drawn: std::array::from_fn(drawn),
        }
    }

    /// Returns true if an example of a document, or a token of it, is to be kept, by its peak and a random number. An
    /// example that is refused now would be refused later too.
    #[inline]
    pub fn wants(&self, k: usize, draw: impl Fn() -> u64, peak: f32, document: i64) -> bool {
        let passes = self.token.map_or(k > 0, |weakest| is_greater(peak, weakest));
        let ranks = || match self.example {
            // Equal examples are kept only if they come first in the dataset.
            Some((weakest, of)) => is_greater(peak, weakest) || (peak.to_bits() == weakest.to_bits() && document < of),
            None => k > 0,
        };
        let draws = || self.drawn[band(peak)].is_none_or(|least| draw() < least);
        passes || ranks() || draws()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::examples::Peak;
    use crate::top_tokens::offer;

    proptest! {
        /// Checks that offering an unwanted example changes nothing, and that offering a wanted one does.
        #[test]
        fn wanted_is_what_would_be_kept(
            examples in proptest::collection::vec((0_i64..6, -9_i8..9, any::<u64>()), 1..40),
            k in 0_usize..5,
        ) {
            let (mut selected, mut strongest) = (Selected::default(), Vec::new());
            for (number, (document, quarters, draw)) in (0..).zip(examples) {
                let activation = f32::from(quarters) / 4.0;
                let wanted = AdmissionThreshold::of(&selected, &strongest, k).wants(k, || draw, activation, document);
                let before = (AdmissionThreshold::of(&selected, &strongest, k), selected.clone(), strongest.clone());
                let peak = Peak { document, example: number, position: 0, activation, around: Box::default() };
                selected.offer(k, draw, peak);
                offer(&mut strongest, kept_tokens(k), number as u32, &[activation]);
                let same = before.1.best == selected.best
                    && before.1.further == selected.further
                    && before.1.drawn() .eq(selected.drawn())
                    && before.2 == strongest;
                prop_assert!(wanted || same, "{:?}", before.0);
                // An example whose document has a stronger one may rank and yet find no room.
                prop_assert!(!wanted || !same || before.1.best.iter().any(|best| best.document == document));
            }
        }
    }
}
