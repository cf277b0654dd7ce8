//! What an example must have for more to be kept of it than its extremes.

use crate::examples::{BANDS, Selected, band};
use crate::top_tokens::{StrongToken, kept_tokens};
use crate::total_order::is_greater;

/// What is asked of each example and neuron, and most do not have: beside those of other neurons in memory, as what is
/// kept is not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Floor {
    /// The weakest of the strongest tokens; `None` while there is room for more.
    token: Option<f32>,
    /// The weakest of the strongest examples and its document; `None` while there is room for more.
    example: Option<(f32, i64)>,
    /// Of each band the number by which its example was drawn; `None` if it has none.
    drawn: [Option<u64>; BANDS],
}

impl Floor {
    /// Of what is kept of a neuron, with `k` strongest examples at most.
    pub fn of(selected: &Selected, strongest: &[StrongToken], k: usize) -> Self {
        let example = selected.best.last().filter(|_| selected.best.len() >= k);
        let drawn = |band: usize| selected.drawn.get(band).and_then(|drawn| drawn.as_ref().map(|(draw, _)| *draw));
        Self {
            token: strongest.last().filter(|_| strongest.len() >= kept_tokens(k)).map(|token| token.activation),
            example: example.map(|weakest| (weakest.activation, weakest.document)),
            drawn: std::array::from_fn(drawn),
        }
    }

    /// Returns whether an example of a document is to be kept, or a token of it, by its peak and a number that is given to it by
    /// lot. What is not now will not be later either.
    #[inline]
    pub fn wants(&self, k: usize, draw: impl Fn() -> u64, peak: f32, document: i64) -> bool {
        let passes = self.token.map_or(k > 0, |weakest| is_greater(peak, weakest));
        let ranks = || match self.example {
            // Equal ones are taken only if they come first in the numbering.
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
        /// Offering what is not wanted changes nothing, and offering what is wanted does.
        #[test]
        fn wanted_is_what_would_be_kept(
            examples in proptest::collection::vec((0_i64..6, -9_i8..9, any::<u64>()), 1..40),
            k in 0_usize..5,
        ) {
            let (mut selected, mut strongest) = (Selected::default(), Vec::new());
            for (number, (document, quarters, draw)) in (0..).zip(examples) {
                let activation = f32::from(quarters) / 4.0;
                let wanted = Floor::of(&selected, &strongest, k).wants(k, || draw, activation, document);
                let before = (Floor::of(&selected, &strongest, k), selected.clone(), strongest.clone());
                let peak = Peak { document, example: number, position: 0, activation, around: Box::default() };
                selected.offer(k, draw, peak);
                offer(&mut strongest, kept_tokens(k), number as u32, &[activation]);
                let same = before.1.best == selected.best
                    && before.1.further == selected.further
                    && before.1.drawn() .eq(selected.drawn())
                    && before.2 == strongest;
                prop_assert!(wanted || same, "{:?}", before.0);
                // One of a document that has a stronger one may rank and yet find no room.
                prop_assert!(!wanted || !same || before.1.best.iter().any(|best| best.document == document));
            }
        }
    }
}
