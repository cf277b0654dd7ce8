//! Weights of a network in the layout of its forward pass.

use candle_core::Tensor;

use crate::device::Target;
use crate::{Error, Result};

/// Weights: all tensors of a network; every matrix is `[in, out]`, contiguous, so that rows of activations multiply it
/// from the left.
#[derive(Debug, Clone)]
pub(crate) struct Weights {
    /// Embedding, `[vocabulary, d_model]`.
    pub embed: Tensor,
    /// Learned positions, `[context, d_model]`.
    pub positions: Option<Tensor>,
    pub layers: Vec<Layer>,
    pub final_norm: NormWeights,
    pub unembed: Unembed,
}

/// Weights of a block.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub norm1: NormWeights,
    /// Queries, keys and values, heads contiguous: `[d_model, (heads + 2·kv_heads)·d_head]`.
    pub qkv: Linear,
    /// Output of attention, `[heads·d_head, d_model]`.
    pub out: Linear,
    pub norm2: NormWeights,
    /// Input of the MLP, `[d_model, d_mlp]`, or `[d_model, 2·d_mlp]` with the gate first.
    pub mlp_in: Linear,
    /// LayerNorm of a solu_ln MLP.
    pub mlp_norm: NormWeights,
    /// Output of the MLP, `[d_mlp, d_model]`.
    pub mlp_out: Linear,
}

/// A matrix and its bias.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    pub weight: Tensor,
    pub bias: Option<Tensor>,
}

/// Weight and bias of a norm, if the checkpoint has them.
#[derive(Debug, Clone, Default)]
pub(crate) struct NormWeights {
    pub weight: Option<Tensor>,
    pub bias: Option<Tensor>,
}

/// Unembedding, from the residual stream to logits.
#[derive(Debug, Clone)]
pub(crate) enum Unembed {
    /// The transposed embedding.
    Tied,
    /// Matrix `[d_model, vocabulary]` and its bias.
    Matrix(Linear),
    /// No unembedding: the checkpoint is of a network without its head.
    Missing,
}

impl Unembed {
    /// Error of computing logits of a network without a head.
    pub fn missing() -> Error {
        Error::Unsupported {
            what: "unembedding",
            value:
                "none (the checkpoint has no lm_head.weight or embed_out.weight, and tie_word_embeddings is not true)"
                    .into(),
            supported: "checkpoints with one, or with tie_word_embeddings true in config.json".into(),
        }
    }
}

impl Weights {
    /// Moves all tensors to a device, in its number types; the layers are there since they were read.
    pub fn at(self, target: &Target) -> Result<Self> {
        let Self { embed, positions, layers, final_norm, unembed } = self;
        Ok(Self {
            embed: target.matrix(&embed)?,
            positions: positions.map(|positions| target.matrix(&positions)).transpose()?,
            layers,
            final_norm: final_norm.at(target)?,
            unembed: match unembed {
                Unembed::Tied => Unembed::Tied,
                Unembed::Missing => Unembed::Missing,
                Unembed::Matrix(linear) => Unembed::Matrix(linear.at(target)?),
            },
        })
    }

    /// Number of scalars, a tied unembedding counted once.
    pub fn parameters(&self) -> usize {
        let mut count = self.embed.elem_count() + self.final_norm.parameters();
        count += self.positions.as_ref().map_or(0, Tensor::elem_count);
        if let Unembed::Matrix(linear) = &self.unembed {
            count += linear.parameters();
        }
        for layer in &self.layers {
            let linears = [&layer.qkv, &layer.out, &layer.mlp_in, &layer.mlp_out];
            let norms = [&layer.norm1, &layer.norm2, &layer.mlp_norm];
            count += linears.iter().map(|l| l.parameters()).sum::<usize>();
            count += norms.iter().map(|n| n.parameters()).sum::<usize>();
        }
        count
    }
}

impl Layer {
    /// Moves the layer to a device, in its number types.
    pub fn at(self, target: &Target) -> Result<Self> {
        let Self { norm1, qkv, out, norm2, mlp_in, mlp_norm, mlp_out } = self;
        Ok(Self {
            norm1: norm1.at(target)?,
            qkv: qkv.at(target)?,
            out: out.at(target)?,
            norm2: norm2.at(target)?,
            mlp_in: mlp_in.at(target)?,
            mlp_norm: mlp_norm.at(target)?,
            mlp_out: mlp_out.at(target)?,
        })
    }
}

impl Linear {
    fn at(self, target: &Target) -> Result<Self> {
        let bias = self.bias.map(|bias| target.vector(&bias)).transpose()?;
        Ok(Self { weight: target.matrix(&self.weight)?, bias })
    }

    fn parameters(&self) -> usize {
        self.weight.elem_count() + self.bias.as_ref().map_or(0, Tensor::elem_count)
    }
}

impl NormWeights {
    fn at(self, target: &Target) -> Result<Self> {
        let at = |x: Option<Tensor>| x.map(|x| target.vector(&x)).transpose();
        Ok(Self { weight: at(self.weight)?, bias: at(self.bias)? })
    }

    fn parameters(&self) -> usize {
        [&self.weight, &self.bias].into_iter().flatten().map(Tensor::elem_count).sum()
    }
}
