//! Generation: what a network writes, a token after another.

use candle_core::Tensor;

use crate::forward::{Cache, Head, Tap};
use crate::neighbours::greatest;
use crate::{Batch, Cancel, Error, Model, Result};

/// Choice of the next token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0 takes the most probable token; else a token is drawn by `softmax(logits / temperature)`.
    pub temperature: f64,
    /// Seed of the draws: the same seed draws the same tokens.
    pub seed: u64,
}

impl Sampling {
    /// The most probable token, of equal ones the lower id.
    pub const GREEDY: Self = Self { temperature: 0.0, seed: 0 };
}

impl Model {
    /// Writes on after a text: at most `count` tokens, fewer if it writes one that ends texts, which is left out.
    ///
    /// Keys and values of attention are kept from token to token, on the host.
    ///
    /// # Errors
    /// Errors of [`Model::logits`]; [`Error::TooLong`] if text and tokens do not fit the window, and
    /// [`Error::InvalidOption`] for a text of no tokens without BOS, or a temperature below 0.
    pub fn generate(&self, text: &[u32], count: usize, sampling: Sampling, cancel: &Cancel) -> Result<Vec<u32>> {
        self.check_length(text.len().saturating_add(count))?;
        if !(sampling.temperature >= 0.0 && sampling.temperature.is_finite()) {
            let reason = format!("is {}, expected a number from 0", sampling.temperature);
            return Err(Error::InvalidOption { option: "temperature".into(), reason });
        }
        let mut written = Vec::with_capacity(count);
        if count == 0 {
            return Ok(written);
        }
        let mut new: Vec<u32> = self.bos().into_iter().chain(text.iter().copied()).collect();
        if new.is_empty() {
            let reason = format!("has no token, and model \"{}\" no BOS to begin with", self.name());
            return Err(Error::InvalidOption { option: "text".into(), reason });
        }
        let (cache, head, mut draws) = (Cache::new(self), self.head()?, Draws(sampling.seed));
        let mut position = 0;
        while written.len() < count {
            let logits = self.step(&new, position, (&cache, &head), cancel)?;
            position += new.len();
            let token = match sampling.temperature {
                0.0 => greatest(&logits, |_| true, 1).first().copied().unwrap_or_default(),
                temperature => draws.token(&logits, temperature),
            };
            if self.ends().contains(&token) {
                break;
            }
            written.push(token);
            new = vec![token];
        }
        Ok(written)
    }

    /// Runs tokens that follow those of the cache, of which the first has this position; returns the logits of the last.
    pub(crate) fn step(
        &self,
        tokens: &[u32],
        position: usize,
        with: (&Cache, &Head),
        cancel: &Cancel,
    ) -> Result<Vec<f32>> {
        let (cache, head) = with;
        let batch = Batch::from_position(tokens, position);
        let x = self.through_blocks(&batch, cancel, Some(cache), |_| Ok(Tap::none()), |_, _| Ok(()))?;
        let logits: Tensor = head.logits(&self.final_rows(x, &batch)?)?;
        Ok(logits.flatten_all()?.to_vec1()?)
    }
}

/// Numbers drawn by SplitMix64 (Steele et al. 2014).
struct Draws(u64);

impl Draws {
    /// Draws a number of 0 to 1, 1 excluded.
    fn number(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Draws a token by `softmax(logits / temperature)`.
    fn token(&mut self, logits: &[f32], temperature: f64) -> u32 {
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |logit: &f32| (f64::from(logit - most) / temperature).exp();
        let mut rest = self.number() * logits.iter().map(weight).sum::<f64>();
        for (token, logit) in (0..).zip(logits) {
            rest -= weight(logit);
            if rest < 0.0 {
                return token;
            }
        }
        // Rounding, or logits that are not numbers.
        greatest(logits, |_| true, 1).first().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_their_probabilities() {
        let mut draws = Draws(7);
        let logits = [0.0, 2f32.ln(), f32::NEG_INFINITY, 5f32.ln()];
        let mut counts = [0; 4];
        (0..8000).for_each(|_| counts[draws.token(&logits, 1.0) as usize] += 1);
        for (count, expected) in counts.into_iter().zip([1000.0f64, 2000.0, 0.0, 5000.0]) {
            assert!((f64::from(count) - expected).abs() <= 4.0 * expected.sqrt(), "{counts:?}");
        }
        // Near 0, the most probable one; far above 1, all but the impossible alike.
        assert!((0..100).all(|_| draws.token(&logits, 1e-3) == 3));
        let mut even = [0; 4];
        (0..3000).for_each(|_| even[draws.token(&logits, 1e6) as usize] += 1);
        assert!(even[2] == 0 && [0, 1, 3].into_iter().all(|id| (850..1150).contains(&even[id])), "{even:?}");
    }
}
