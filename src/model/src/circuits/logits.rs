//! The tokens that a neuron promotes and suppresses, through the unembedding.

use candle_core::Tensor;
use rayon::prelude::*;

use super::strongest::Strongest;
use super::{BLOCK, centred, elements, gained};
use crate::ops;
use crate::weights::Unembed;
use crate::{Cancel, Model, Result};

/// Effect of a neuron on the logit of a token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogitEffect {
    /// Token id.
    pub token: u32,
    /// Change of its logit by a unit of the neuron's activation, up to the factor 1/σ of the final norm, less the mean
    /// change of all logits.
    pub effect: f32,
}

/// Tokens whose logits a neuron changes most.
#[derive(Debug, Clone, PartialEq)]
pub struct LogitEffects {
    /// Tokens whose logits it raises most, greatest effect first.
    pub promoted: Vec<LogitEffect>,
    /// Tokens whose logits it lowers most, least effect first.
    pub suppressed: Vec<LogitEffect>,
}

impl Model {
    /// Effects on logits: the `k` tokens each neuron promotes most and the `k` it suppresses most, by its direct path.
    ///
    /// `effect(t) = W_U[:, t]ᵀ·(g ⊙ C·write(neuron)) − meanₜ'(the same of t')`, where `W_U` is `[d_model, vocabulary]`,
    /// `g` the gain of the final norm, `C` subtracts the mean if that norm is a LayerNorm, and `write` is `w_out`, with
    /// the LayerNorm of a solu_ln MLP folded in for neurons read at `mlp.mid`. This is a row of `W_out @ W_U` in
    /// TransformerLens after `fold_ln`, `center_writing_weights` and `center_unembed`; the factor 1/σ of the final norm
    /// depends on the text and is left out. Where logits have a factor (Cohere, Granite), it is in the effect; where they
    /// have a soft cap (Gemma 2), the effect is the one before it.
    ///
    /// Tokens of equal effect come in the order of their ids. If `2k` exceeds the vocabulary, some are in both lists.
    ///
    /// # Errors
    /// [`Error::OutOfRange`](crate::Error::OutOfRange) for a layer or neuron the model does not have,
    /// [`Error::Cancelled`](crate::Error::Cancelled), [`Error::Unsupported`](crate::Error::Unsupported) for a network
    /// without an unembedding, or that normalises its residual stream itself.
    ///
    /// ```no_run
    /// # use neuroql_model::{Cancel, Model, Options};
    /// # fn main() -> neuroql_model::Result<()> {
    /// let model = Model::load("gpt2", "hf://openai-community/gpt2", &Options::default(), &())?;
    /// let effects = model.logit_effects(5, &[17], 10, &Cancel::default())?;
    /// for promoted in &effects[0].promoted {
    ///     println!("{} {:+.3}", model.tokenizer().texts()[promoted.token as usize], promoted.effect);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn logit_effects(&self, layer: usize, neurons: &[u32], k: usize, cancel: &Cancel) -> Result<Vec<LogitEffects>> {
        let layer = self.layer(layer, neurons)?;
        self.check_paths()?;
        let vocabulary = self.config().vocabulary;
        let mut effects = Vec::with_capacity(neurons.len());
        for neurons in neurons.chunks((BLOCK / vocabulary).max(1)) {
            cancel.check()?;
            let written = centred(self.written(layer, neurons)?, self.config().final_norm)?;
            let logits = self.unembedded(&gained(written, &self.weights().final_norm)?)?;
            let logits = elements(&(logits * f64::from(self.config().logit_scale))?)?;
            effects.par_extend(logits.par_chunks_exact(vocabulary).map(|logits| greatest_and_least(logits, k)));
        }
        Ok(effects)
    }

    /// Computes `x·W_U`, without its bias.
    fn unembedded(&self, x: &Tensor) -> Result<Tensor> {
        match &self.weights().unembed {
            Unembed::Tied => Ok(x.matmul(&self.weights().embed.to_dtype(x.dtype())?.t()?)?),
            Unembed::Matrix(linear) => ops::matmul(x, linear),
            Unembed::Missing => Err(Unembed::missing()),
        }
    }
}

fn greatest_and_least(logits: &[f32], k: usize) -> LogitEffects {
    let mean = logits.iter().map(|logit| f64::from(*logit)).sum::<f64>() / logits.len() as f64;
    let (mut promoted, mut suppressed) = (Strongest::new(k), Strongest::new(k));
    for (token, logit) in (0..).zip(logits) {
        let effect = || LogitEffect { token, effect: (f64::from(*logit) - mean) as f32 };
        promoted.offer(*logit, effect);
        suppressed.offer(-*logit, effect);
    }
    LogitEffects { promoted: promoted.into_items(), suppressed: suppressed.into_items() }
}
