//! Reads tensors by name, checks their shapes and converts them to the layout of [`crate::weights`].

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use crate::checkpoint::TensorSource;
use crate::device::Target;
use crate::weights::{Layer, Linear, NormWeights, Unembed};
use crate::{Error, Result};

/// Rule for the bias of a matrix or norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bias {
    /// Required: a missing bias is an error.
    Wanted,
    /// Optional: read if the checkpoint has one.
    IfPresent,
    /// None: a bias of the checkpoint is ignored, as transformers ignores unexpected keys.
    Ignored,
    /// None: a checkpoint with a bias is refused, as it is of another network.
    Absent,
}

impl Bias {
    /// Rule for a matrix whose configuration gives whether it has a bias.
    pub fn of(has: bool) -> Self {
        if has { Self::Wanted } else { Self::Ignored }
    }
}

/// Checked access to a checkpoint's tensors.
pub(super) struct Reader<'a> {
    source: &'a dyn TensorSource,
    /// Device and number types of layers; `None` to check names and shapes alone, with tensors that take no memory.
    target: Option<&'a Target>,
    read: Mutex<BTreeSet<String>>,
}

impl<'a> Reader<'a> {
    /// Makes a reader of a checkpoint: tensors are read on the processor in f32, whole layers go to `target`.
    pub fn new(source: &'a dyn TensorSource, target: &'a Target) -> Self {
        Self { source, target: Some(target), read: Mutex::default() }
    }

    /// Makes a reader that reads nothing, and refuses what [`Reader::new`] refuses.
    pub fn checking(source: &'a dyn TensorSource) -> Self {
        Self { source, target: None, read: Mutex::default() }
    }

    /// Returns a tensor of this shape that `make` makes of tensors that were read; in a reader that reads nothing, one that
    /// takes no memory.
    pub fn made(&self, shape: &[usize], make: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
        match self.target {
            Some(_) => make(),
            None => Ok(Tensor::zeros(1, DType::F32, &Device::Cpu)?.broadcast_as(shape)?),
        }
    }

    /// Refuses a checkpoint with a tensor that was not read: it is of another network.
    ///
    /// `buffers` are endings of names that hold no weights (causal masks, cached frequencies).
    pub fn finish(&self, buffers: &[&str]) -> Result<()> {
        self.finish_within(buffers, &|_| false)
    }

    /// Does the same for a network that is a part of its checkpoint: tensors `outside` belong to other parts.
    pub fn finish_within(&self, buffers: &[&str], outside: &dyn Fn(&str) -> bool) -> Result<()> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let left =
            |name: &String| !read.contains(name) && !buffers.iter().any(|end| name.ends_with(end)) && !outside(name);
        match self.source.names().into_iter().find(left) {
            None => Ok(()),
            Some(name) => Err(Error::Unsupported {
                what: "tensor",
                value: name,
                supported: "the tensors that transformers or TransformerLens give this architecture".into(),
            }),
        }
    }

    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.source.shape(name)
    }

    pub fn has(&self, name: &str) -> bool {
        self.shape(name).is_some()
    }

    /// Reads a tensor, which must exist and have this shape.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.optional(name, shape)?.ok_or_else(|| Error::Weights {
            tensor: name.into(),
            reason: format!("missing from the checkpoint; expected {shape:?}"),
        })
    }

    /// Reads a tensor if the checkpoint has it.
    pub fn optional(&self, name: &str, shape: &[usize]) -> Result<Option<Tensor>> {
        match self.source.shape(name) {
            None => Ok(None),
            Some(found) if found == shape => {
                self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
                self.made(shape, || self.source.read(name)).map(Some)
            }
            Some(found) => {
                let reason = format!("has shape {found:?}, the configuration asks for {shape:?}");
                Err(Error::Weights { tensor: name.into(), reason })
            }
        }
    }

    /// Reads the bias of a matrix or norm, by the rule `bias`.
    pub fn bias(&self, name: &str, d: usize, bias: Bias) -> Result<Option<Tensor>> {
        self.bias_of(name, &[d], bias)
    }

    /// Reads a bias of any shape, by the rule `bias`.
    pub fn bias_of(&self, name: &str, shape: &[usize], bias: Bias) -> Result<Option<Tensor>> {
        match bias {
            Bias::Wanted => self.tensor(name, shape).map(Some),
            Bias::IfPresent => self.optional(name, shape),
            Bias::Ignored => {
                self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
                Ok(None)
            }
            Bias::Absent => Ok(None),
        }
    }

    /// Reads matrices stored `[out, in]` (PyTorch's `nn.Linear`) side by side as one `[in, Σ out]`; their biases, if
    /// any has one, in a row.
    pub fn linears(&self, parts: &[(String, usize)], d_in: usize, bias: Bias) -> Result<Linear> {
        let mut weights = Vec::with_capacity(parts.len());
        let mut biases = Vec::with_capacity(parts.len());
        for (name, d_out) in parts {
            weights.push(self.tensor(&format!("{name}.weight"), &[*d_out, d_in])?);
            biases.push(self.bias(&format!("{name}.bias"), *d_out, bias)?);
        }
        let bias = if biases.iter().all(Option::is_none) {
            None
        } else {
            let filled: Vec<Tensor> = biases
                .into_iter()
                .zip(parts)
                .map(|(bias, (_, d_out))| match bias {
                    Some(bias) => Ok(bias),
                    None => Tensor::zeros(*d_out, DType::F32, &Device::Cpu),
                })
                .collect::<Result<_, _>>()?;
            Some(Tensor::cat(&filled, 0)?)
        };
        let d_out = parts.iter().map(|(_, d_out)| d_out).sum();
        let weight = self.made(&[d_in, d_out], || {
            let rows = if weights.len() == 1 { weights.remove(0) } else { Tensor::cat(&weights, 0)? };
            drop(weights);
            Ok(rows.t()?.contiguous()?)
        })?;
        Ok(Linear::new(weight, bias))
    }

    /// Reads one matrix stored `[out, in]`.
    pub fn linear(&self, name: &str, d_in: usize, d_out: usize, bias: Bias) -> Result<Linear> {
        self.linears(&[(name.to_owned(), d_out)], d_in, bias)
    }

    /// Reads `{name}.weight`, which must exist, and `{name}.bias` of a norm of width `d`.
    pub fn norm(&self, name: &str, d: usize, bias: Bias) -> Result<NormWeights> {
        Ok(NormWeights {
            weight: Some(self.tensor(&format!("{name}.weight"), &[d])?),
            bias: self.bias(&format!("{name}.bias"), d, bias)?,
        })
    }

    /// Reads the unembedding, from `d` numbers to the vocabulary: the first of `names` that the checkpoint has, else the
    /// embedding if the two are tied.
    pub fn unembed(&self, names: &[&str], (d, vocabulary): (usize, usize), tied: bool, bias: Bias) -> Result<Unembed> {
        match names.iter().find(|name| self.has(&format!("{name}.weight"))) {
            Some(name) => Ok(Unembed::Matrix(self.linear(name, d, vocabulary, bias)?)),
            None => {
                for name in names.iter().filter(|_| bias == Bias::Ignored) {
                    self.bias(&format!("{name}.bias"), vocabulary, bias)?;
                }
                Ok(if tied { Unembed::Tied } else { Unembed::Missing })
            }
        }
    }

    /// Reads layers in parallel: dequantising and transposing are bound by the processor. Each goes to its device at
    /// once, so that only a few are in memory twice.
    pub fn layers(&self, count: usize, read: impl Fn(usize) -> Result<Layer> + Send + Sync) -> Result<Vec<Layer>> {
        let layer = |l| match self.target {
            Some(target) => read(l)?.at(target),
            None => read(l),
        };
        (0..count).into_par_iter().map(layer).collect()
    }
}
