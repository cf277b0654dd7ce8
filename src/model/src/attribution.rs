//! Direct effects of neurons and heads on logits, on a text.

use candle_core::{DType, Tensor};

use crate::circuits::{centred, gained};
use crate::forward::{Mlp, Tap};
use crate::ops::elements;
use crate::weights::{Linear, NormWeights, Unembed};
use crate::{Batch, Cancel, Config, Error, Model, Norm, NormKind, Result, Site};

/// Direct effects of a layer on a logit.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerEffects {
    /// Activation at `mlp.post` of each neuron of the MLP.
    pub activations: Vec<f32>,
    /// Effect of each neuron of the MLP.
    pub neurons: Vec<f32>,
    /// Effect of each head of attention.
    pub heads: Vec<f32>,
}

impl Model {
    /// Direct effects on the logit of a token after the last token of an example, or on how much it exceeds that of another,
    /// of every neuron and head.
    ///
    /// Neuron `i` adds `aᵢ·w_out(i)` to the residual stream, and head `h` adds `z_h·W_O(h)`; where a norm follows the MLP
    /// or attention (Gemma 2, OLMo 2), `g ⊙ C·(…)/σ` of that norm. The logit of token `t` is `s·W_U[:, t]ᵀ·(g ⊙ C·x/σ)`
    /// and biases, of the residual stream `x` after the last layer, where `g` and `σ` are the gain and the divisor of the
    /// final norm, `C` subtracts the mean if it is a LayerNorm, and `s` is a factor on logits. So the effect of what is
    /// added, `v`, is `s·(W_U[:, t] − W_U[:, against])ᵀ·(g ⊙ C·v)/σ`, with each σ as it is on this text: what the logit
    /// loses if `v` is taken from `x` and the norms stay as they are. Effects through later layers are not in it. Where
    /// logits have a soft cap (Gemma 2), it is the effect before it. In a mixture of experts, `aᵢ` is multiplied by the
    /// router's weight.
    ///
    /// The effects of all neurons and heads, and those of the embedding and of biases, add up to the logit.
    ///
    /// # Errors
    /// Errors of [`Model::logits`]; [`Error::TooLong`] for an example longer than the window,
    /// [`Error::OutOfRange`] for a token that is not there, [`Error::InvalidOption`] for an example of no tokens, and
    /// [`Error::Unsupported`] for a network that normalises its residual stream itself.
    pub fn logit_attribution(
        &self,
        tokens: &[u32],
        (target, against): (u32, Option<u32>),
        cancel: &Cancel,
    ) -> Result<Vec<LayerEffects>> {
        self.check_place_of_norms()?;
        self.check_length(tokens.len())?;
        let config = self.config();
        let mut batch = Batch::new([], self.bos());
        batch.push_last(tokens);
        if batch.is_empty() {
            let reason = format!("has no token, and model \"{}\" no BOS", self.name());
            return Err(Error::InvalidOption { option: "text".into(), reason });
        }
        let last = Tensor::from_slice(&batch.rows, batch.rows.len(), self.device())?;
        let sites = [Site::AttnZ, Site::MlpIn];
        let mut found = Vec::with_capacity(config.layers);
        let tap = |_| Ok(Tap::of(&sites, Some(&last), None));
        let x = self.through_blocks(&batch, cancel, None, tap, |_, tap| {
            found.push(tap.found);
            Ok(())
        })?;
        let x = x.index_select(&last, 0)?.to_dtype(DType::F32)?;
        let mut direction = self.unembedding(target)?;
        if let Some(against) = against {
            direction = (direction - self.unembedding(against)?)?;
        }
        let direction = (direction * f64::from(config.logit_scale))?;
        let direction = through(&direction, Some(config.final_norm), &self.weights().final_norm, &x)?;
        let mut effects = Vec::with_capacity(config.layers);
        for (layer, found) in self.weights().layers.iter().zip(found) {
            cancel.check()?;
            let [mixed, x] = <[Tensor; 2]>::try_from(found)
                .map_err(|_| Error::Internal("a block has no values of the sites".into()))?;
            let product = self.attention_product(layer, &mixed)?;
            let read = through(&direction, config.post_norm, &layer.extras.post_norm1, &product)?;
            let parts = times(&mixed, &dot(&layer.out, &read)?)?;
            let heads = parts.chunks_exact(config.d_head).map(|head| head.iter().sum()).collect();
            let mlp = self.mlp(layer, &x, &mut Tap::none())?;
            let product = self.mlp_product(layer, &mlp)?;
            let product = match &layer.mlp_out.bias {
                Some(bias) => product.broadcast_add(&bias.to_dtype(product.dtype())?)?,
                None => product,
            };
            let read = through(&direction, config.post_norm, &layer.extras.post_norm2, &product)?;
            let (activations, weighted) = values(&mlp, config, self)?;
            let neurons = times(&weighted, &dot(&layer.mlp_out, &read)?)?;
            effects.push(LayerEffects { activations: elements(&activations)?, neurons, heads });
        }
        Ok(effects)
    }

    /// Returns the column of the unembedding of a token, f32 `[1, d_model]`.
    fn unembedding(&self, token: u32) -> Result<Tensor> {
        let limit = self.config().vocabulary;
        if token as usize >= limit {
            let model = self.name().into();
            return Err(Error::OutOfRange { what: "token id", index: token.into(), limit, model });
        }
        let column = match &self.weights().unembed {
            Unembed::Tied => self.weights().embed.narrow(0, token as usize, 1)?,
            Unembed::Matrix(linear) => linear.matrix()?.narrow(1, token as usize, 1)?.t()?,
            Unembed::Missing => return Err(Unembed::missing()),
        };
        Ok(column.to_dtype(DType::F32)?.contiguous()?)
    }
}

/// Vector whose product with what is added to `x` is that of `direction` with what is added to `norm(x)`, the divisor of
/// the norm being that of `x`: all are `[1, d_model]`.
fn through(direction: &Tensor, norm: Option<Norm>, weights: &NormWeights, x: &Tensor) -> Result<Tensor> {
    let Some(norm) = norm.filter(|norm| norm.kind != NormKind::None) else { return Ok(direction.clone()) };
    let x: Vec<f64> = elements(x)?.into_iter().map(f64::from).collect();
    let count = x.len() as f64;
    let mean = if norm.kind == NormKind::Layer { x.iter().sum::<f64>() / count } else { 0.0 };
    let squares = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    let divisor = (squares + f64::from(norm.eps)).sqrt();
    Ok((centred(gained(direction.clone(), weights)?, norm)? / divisor)?)
}

/// Computes the product of each row of a matrix with a vector, f32 `[1, rows]`.
fn dot(linear: &Linear, vector: &Tensor) -> Result<Tensor> {
    Ok(vector.matmul(&linear.matrix()?.to_dtype(DType::F32)?.t()?)?)
}

fn times(values: &Tensor, products: &Tensor) -> Result<Vec<f32>> {
    elements(&(values.to_dtype(DType::F32)? * products)?)
}

/// Activations of an MLP, and the same times the weights of their experts, `[1, d_mlp]`.
fn values(mlp: &Mlp, config: &Config, model: &Model) -> Result<(Tensor, Tensor)> {
    Ok(match mlp {
        Mlp::Dense(post) => (post.clone(), post.clone()),
        Mlp::Routed(routed) => (routed.values(config, None, model.device())?, routed.weighted(config, model.device())?),
    })
}
