//! Circuits: properties of a neuron by the weights alone, through the residual stream: the tokens it promotes
//! ([`Model::logit_effects`]), the tokens that drive it ([`Model::input_tokens`]) and the neurons that feed it or that
//! it feeds ([`Model::connections`], [`Model::strongest_connections`]).
//!
//! These are the virtual weights of Elhage et al., *A Mathematical Framework for Transformer Circuits* (2021): a vector
//! that writes to the residual stream and one that reads from it are connected by their product. Norms are folded into
//! the reader as TransformerLens does (`fold_ln`, `center_writing_weights`), so for neurons `i` and `j`
//!
//! - `write(i) = w_out(i)`, times the gain of the norm after the MLP where there is one (Gemma 2, OLMo 2); where the neuron is read at `mlp.mid` or `mlp.pre`, the LayerNorm that follows SoLU is folded in:
//!   `γᵢ·w_out(i) − meanₖ(γₖ·w_out(k))` over the neurons `k` of its layer;
//! - `read(j) = g ⊙ w_in(j)`, `g` being the gain of the norm that the reader sees;
//! - both lose their mean over `d_model` if that norm is a LayerNorm: `C = I − 11ᵀ/d_model`, else `C = I`;
//! - the connection is `read(j)ᵀ·C·write(i)`.
//!
//! The factor 1/σ by which a norm divides depends on the text and is left out, as is usual; so are biases, which do not
//! depend on the neuron. Products are computed in f32 for every dtype of weights.

mod connections;
mod logits;
mod strongest;
mod tokens;

pub use connections::{Connection, Connections, Via};
pub use logits::{LogitEffect, LogitEffects};
pub use tokens::InputToken;

use candle_core::{D, DType, Tensor};

use crate::ops::elements;
use crate::weights::{Layer, NormWeights};
use crate::{Activation, Error, Model, Norm, NormKind, NormPlace, Result, Site};

/// Greatest number of elements of a matrix that is computed at once: 32 MiB.
const BLOCK: usize = 1 << 23;

impl Model {
    /// Returns true if neurons are read before a LayerNorm over their layer, which is then folded into `write`.
    fn norm_follows(&self) -> bool {
        self.config().activation == Activation::SoluLn && self.site() != Site::MlpPost
    }

    /// Refuses sites whose neurons have no weights, and networks whose residual stream is normalised itself, through which
    /// there are no paths of weights alone.
    fn check_paths(&self) -> Result<()> {
        self.check_neuron_weights()?;
        self.check_place_of_norms()
    }

    /// Refuses networks whose residual stream is normalised itself.
    pub(crate) fn check_place_of_norms(&self) -> Result<()> {
        match self.config().norm_place {
            NormPlace::Before => Ok(()),
            NormPlace::BeforeBoth | NormPlace::AfterSum => Err(Error::Unsupported {
                what: "place of norms",
                value: "norms of the residual stream itself (apply_residual_connection_post_layernorm, or \
                        do_layer_norm_before = false)"
                    .into(),
                supported:
                    "for properties of the weights alone and direct effects, norms of what attention and MLP read"
                        .into(),
            }),
        }
    }

    /// Computes `write(i)` of some neurons, f32: `[neurons, d_model]`.
    fn written(&self, layer: &Layer, neurons: &[u32]) -> Result<Tensor> {
        let ids = Tensor::from_slice(neurons, neurons.len(), self.device())?;
        let w_out = layer.mlp_out.matrix()?;
        let rows = w_out.index_select(&ids, 0)?.to_dtype(DType::F32)?;
        if !self.norm_follows() {
            return gained(rows, &layer.extras.post_norm2);
        }
        let (d_mlp, w_out) = (self.config().d_mlp, w_out.to_dtype(DType::F32)?);
        let (rows, sum) = match &layer.mlp_norm.weight {
            Some(gain) => {
                let gain = gain.to_dtype(DType::F32)?;
                let gains = gain.index_select(&ids, 0)?.reshape((neurons.len(), 1))?;
                (rows.broadcast_mul(&gains)?, gain.reshape((1, d_mlp))?.matmul(&w_out)?)
            }
            None => (rows, w_out.sum_keepdim(0)?),
        };
        Ok(rows.broadcast_sub(&(sum / d_mlp as f64)?)?)
    }

    /// Computes `readᵀ·write(i)` of all neurons `i` of a layer, for each row of `[rows, d_model]`: `[rows, d_mlp]`.
    fn received(&self, layer: &Layer, read: &Tensor) -> Result<Tensor> {
        let products = gained(read.clone(), &layer.extras.post_norm2)?
            .matmul(&layer.mlp_out.matrix()?.to_dtype(DType::F32)?.t()?)?;
        if !self.norm_follows() {
            return Ok(products);
        }
        let products = gained(products, &layer.mlp_norm)?;
        Ok(products.broadcast_sub(&products.mean_keepdim(D::Minus1)?)?)
    }
}

/// Computes `C·x` for each row.
pub(crate) fn centred(x: Tensor, norm: Norm) -> Result<Tensor> {
    Ok(match norm.kind {
        NormKind::Layer => x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?,
        NormKind::Rms | NormKind::None => x,
    })
}

/// Computes `g ⊙ x` for each row.
pub(crate) fn gained(x: Tensor, norm: &NormWeights) -> Result<Tensor> {
    Ok(match &norm.weight {
        Some(gain) => x.broadcast_mul(&gain.to_dtype(x.dtype())?)?,
        None => x,
    })
}

/// Lengths of the rows of a matrix.
fn lengths(x: &Tensor) -> Result<Vec<f64>> {
    let width = x.dim(1)?;
    let length = |row: &[f32]| row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    Ok(elements(x)?.chunks_exact(width).map(length).collect())
}
