//! Weights of a network in the layout of its forward pass.

use candle_core::{Device, Tensor};

use crate::device::Target;
use crate::kernel::Blocks;
use crate::ops::elements;
use crate::{Error, Result};

/// Weights: all tensors of a network; every matrix is `[in, out]`, contiguous, so that rows of activations multiply it
/// from the left.
#[derive(Debug, Clone)]
pub(crate) struct Weights {
    /// Embedding, `[vocabulary, d_model]`.
    pub embed: Tensor,
    /// Learned positions, `[context, d_model]`.
    pub positions: Option<Tensor>,
    /// Norm of the embedding, if it has one.
    pub embed_norm: NormWeights,
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
    /// Input of the MLP, `[d_model, d_mlp]`, or `[d_model, 2·d_mlp]` with the gate first; experts are side by side.
    pub mlp_in: Linear,
    /// LayerNorm of a solu_ln MLP.
    pub mlp_norm: NormWeights,
    /// Output of the MLP, `[d_mlp, d_model]`.
    pub mlp_out: Linear,
    pub extras: Extras,
}

/// Weights that only some architectures have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Extras {
    /// Norm of what attention writes.
    pub post_norm1: NormWeights,
    /// Norm of what the MLP writes.
    pub post_norm2: NormWeights,
    /// Norms of queries and keys, `[(heads + kv_heads)·d_head]`.
    pub qk_norm: NormWeights,
    /// Scores of no key, `[heads]`.
    pub sinks: Option<Tensor>,
    /// Router of a mixture of experts, `[d_model, experts]`; `None` for a dense MLP.
    pub router: Option<Linear>,
    /// Biases of the experts' outputs, `[experts, d_model]`.
    pub expert_bias: Option<Tensor>,
}

/// A matrix and its bias.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    weight: Matrix,
    pub bias: Option<Tensor>,
}

/// A matrix `[in, out]`.
#[derive(Debug, Clone)]
enum Matrix {
    Plain(Tensor),
    /// In the order in which instructions for bf16 read it.
    Blocks(Blocks),
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
        let Self { embed, positions, embed_norm, layers, final_norm, unembed } = self;
        Ok(Self {
            embed: target.matrix(&embed)?,
            positions: positions.map(|positions| target.matrix(&positions)).transpose()?,
            embed_norm: embed_norm.at(target)?,
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
        let mut count = self.embed.elem_count() + self.final_norm.parameters() + self.embed_norm.parameters();
        count += self.positions.as_ref().map_or(0, Tensor::elem_count);
        if let Unembed::Matrix(linear) = &self.unembed {
            count += linear.parameters();
        }
        for layer in &self.layers {
            let linears = [&layer.qkv, &layer.out, &layer.mlp_in, &layer.mlp_out];
            let norms = [&layer.norm1, &layer.norm2, &layer.mlp_norm];
            count += linears.iter().map(|l| l.parameters()).sum::<usize>();
            count += norms.iter().map(|n| n.parameters()).sum::<usize>() + layer.extras.parameters();
        }
        count
    }
}

impl Layer {
    /// Moves the layer to a device, in its number types.
    pub fn at(self, target: &Target) -> Result<Self> {
        let Self { norm1, qkv, out, norm2, mlp_in, mlp_norm, mlp_out, extras } = self;
        // Experts are parts of their matrices.
        let of_mlp = |linear: Linear| match extras.router {
            Some(_) => linear.at(target),
            None => linear.in_blocks_at(target),
        };
        Ok(Self {
            norm1: norm1.at(target)?,
            qkv: qkv.in_blocks_at(target)?,
            out: out.in_blocks_at(target)?,
            norm2: norm2.at(target)?,
            mlp_in: of_mlp(mlp_in)?,
            mlp_norm: mlp_norm.at(target)?,
            mlp_out: of_mlp(mlp_out)?,
            extras: extras.at(target)?,
        })
    }
}

impl Extras {
    fn at(self, target: &Target) -> Result<Self> {
        let Self { post_norm1, post_norm2, qk_norm, sinks, router, expert_bias } = self;
        Ok(Self {
            post_norm1: post_norm1.at(target)?,
            post_norm2: post_norm2.at(target)?,
            qk_norm: qk_norm.at(target)?,
            sinks: sinks.map(|sinks| target.vector(&sinks)).transpose()?,
            router: router.map(|router| router.at(target)).transpose()?,
            expert_bias: expert_bias.map(|bias| target.vector(&bias)).transpose()?,
        })
    }

    fn parameters(&self) -> usize {
        let norms = [&self.post_norm1, &self.post_norm2, &self.qk_norm];
        let tensors = self.sinks.iter().chain(&self.expert_bias).map(Tensor::elem_count).sum::<usize>();
        norms.iter().map(|norm| norm.parameters()).sum::<usize>()
            + tensors
            + self.router.as_ref().map_or(0, Linear::parameters)
    }
}

impl Linear {
    /// Makes a linear layer of a matrix `[in, out]` and its bias `[out]`.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight: Matrix::Plain(weight), bias }
    }

    /// Returns the matrix, `[in, out]`: a copy if it is in blocks.
    pub fn matrix(&self) -> Result<Tensor> {
        Ok(match &self.weight {
            Matrix::Plain(weight) => weight.clone(),
            Matrix::Blocks(blocks) => Tensor::from_vec(blocks.matrix(), blocks.shape(), &Device::Cpu)?,
        })
    }

    /// Number of inputs and of outputs.
    pub fn shape(&self) -> Result<(usize, usize)> {
        Ok(match &self.weight {
            Matrix::Plain(weight) => weight.dims2()?,
            Matrix::Blocks(blocks) => blocks.shape(),
        })
    }

    /// Returns the layer of some outputs.
    pub fn columns(&self, columns: &[u32]) -> Result<Self> {
        let select = |x: &Tensor, dim| {
            let ids = Tensor::from_slice(columns, columns.len(), x.device())?;
            x.index_select(&ids, dim)
        };
        let weight = match &self.weight {
            Matrix::Plain(weight) => Matrix::Plain(select(weight, 1)?),
            Matrix::Blocks(blocks) => {
                let limit = blocks.shape().1;
                if let Some(column) = columns.iter().find(|column| **column as usize >= limit) {
                    return Err(Error::Internal(format!("column {column} of a matrix of {limit}")));
                }
                Matrix::Blocks(blocks.columns(columns))
            }
        };
        Ok(Self { weight, bias: self.bias.as_ref().map(|bias| select(bias, 0)).transpose()? })
    }

    /// Returns the matrix if it is in blocks.
    pub fn blocks(&self) -> Option<&Blocks> {
        match &self.weight {
            Matrix::Plain(_) => None,
            Matrix::Blocks(blocks) => Some(blocks),
        }
    }

    fn at(self, target: &Target) -> Result<Self> {
        let bias = self.bias.as_ref().map(|bias| target.vector(bias)).transpose()?;
        Ok(Self::new(target.matrix(&self.matrix()?)?, bias))
    }

    /// Does the same for a matrix that rows are multiplied with as a whole: in blocks, if the target has them.
    fn in_blocks_at(self, target: &Target) -> Result<Self> {
        let Some(instructions) = target.blocks else { return self.at(target) };
        let bias = self.bias.as_ref().map(|bias| target.vector(bias)).transpose()?;
        let blocks = Blocks::new(&elements(&self.matrix()?)?, self.shape()?, instructions);
        Ok(Self { weight: Matrix::Blocks(blocks), bias })
    }

    fn parameters(&self) -> usize {
        let elements = match &self.weight {
            Matrix::Plain(weight) => weight.elem_count(),
            Matrix::Blocks(blocks) => blocks.shape().0 * blocks.shape().1,
        };
        elements + self.bias.as_ref().map_or(0, Tensor::elem_count)
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
