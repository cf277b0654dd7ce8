//! Forward pass, from tokens to the activations of a [`ReadSpec`] or to logits.
//!
//! It stops at the deepest layer to read, multiplies only the columns of the neurons to read there, and computes logits
//! only for [`Model::logits`]. At the deepest layer only the wanted rows go on after attention.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{DType, Tensor};

use crate::backpressure::Pace;
use crate::kernel::Segments;
use crate::ops::{self, Attention, Packing};
use crate::weights::{Layer, Linear, Unembed};
use crate::{Activation, Batch, Error, Model, Positions, ReadSpec, Result, Site};

#[cfg(test)]
mod tests;

/// Flag that stops a forward pass at its next layer; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Stops all passes that hold this flag.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Checks that the flag is not set.
    ///
    /// # Errors
    /// [`Error::Cancelled`] once [`Cancel::cancel`] was called.
    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// Activations of one MLP, at both sites.
struct Mlp {
    mid: Tensor,
    post: Tensor,
}

impl Model {
    /// Computes the activations of a batch in one pass.
    pub(crate) fn pass(&self, batch: &Batch, spec: &ReadSpec, cancel: &Cancel) -> Result<Vec<Tensor>> {
        let mut outputs = Vec::with_capacity(spec.layers().len());
        let Some(deepest) = spec.deepest_layer() else { return Ok(outputs) };
        if batch.is_empty() {
            for layer in spec.layers() {
                let neurons = layer.neurons.as_ref().map_or(self.config().d_mlp, |n| n.len());
                outputs.push(Tensor::zeros((0, neurons), DType::F32, self.device())?);
            }
            return Ok(outputs);
        }
        let Rows { places: rows, copies } = self.wanted_rows(batch)?;
        let (rows, copies) = (rows.as_ref(), copies.as_ref());
        let mut wanted = spec.layers().iter().peekable();
        #[cfg(test)]
        tests::lack_memory(batch)?;
        let mut x = self.embed(batch)?;
        let packing = self.packing(&x, batch)?;
        let pass = Pass { batch, packing: packing.as_ref() };
        let mut pace = Pace::new(self, batch.tokens());
        for l in 0..=deepest {
            pace.step(cancel)?;
            let layer = &self.weights().layers[l];
            let read = wanted.next_if(|spec| spec.layer == l);
            if l == deepest {
                let x = self.mlp_input(l, layer, x, pass, rows)?;
                let mlp = self.mlp(layer, spec.deepest.as_ref().unwrap_or(&layer.mlp_in), &x)?;
                let value = self.at_site(mlp);
                let value = match read.and_then(|read| read.columns.as_ref()) {
                    Some(columns) if spec.deepest.is_none() => value.index_select(columns, 1)?,
                    _ => value,
                };
                outputs.push(select(value, copies)?.to_dtype(DType::F32)?);
                return Ok(outputs);
            }
            let (next, mlp) = self.block(l, layer, x, pass)?;
            x = next;
            if let Some(read) = read {
                let value = select(self.at_site(mlp), rows)?;
                let value = match &read.columns {
                    Some(columns) => value.index_select(columns, 1)?,
                    None => value,
                };
                outputs.push(select(value, copies)?.to_dtype(DType::F32)?);
            }
        }
        Ok(outputs)
    }

    /// Computes the logits of the batch's rows, f32: `[rows, vocabulary]`.
    ///
    /// # Errors
    /// Errors of [`Model::run`], and [`Error::Unsupported`] for a network without an unembedding.
    pub fn logits(&self, batch: &Batch, cancel: &Cancel) -> Result<Tensor> {
        self.head()?.logits(&self.final_residual(batch, cancel)?)
    }

    /// Computes the residual stream of the batch's rows after the last norm: `[rows, d_model]`.
    pub(crate) fn final_residual(&self, batch: &Batch, cancel: &Cancel) -> Result<Tensor> {
        let mut x = self.embed(batch)?;
        let packing = self.packing(&x, batch)?;
        let pass = Pass { batch, packing: packing.as_ref() };
        let mut pace = Pace::new(self, batch.tokens());
        for (l, layer) in self.weights().layers.iter().enumerate() {
            pace.step(cancel)?;
            x = self.block(l, layer, x, pass)?.0;
        }
        let Rows { places, copies } = self.wanted_rows(batch)?;
        let x = select(select(x, places.as_ref())?, copies.as_ref())?;
        ops::norm(x, self.config().final_norm, &self.weights().final_norm)
    }

    /// Returns the unembedding, in the number type of activations.
    pub(crate) fn head(&self) -> Result<Head> {
        let dtype = self.activation_dtype();
        Ok(match &self.weights().unembed {
            Unembed::Tied => Head(Linear { weight: self.weights().embed.to_dtype(dtype)?.t()?, bias: None }),
            Unembed::Matrix(Linear { weight, bias }) => {
                Head(Linear { weight: weight.to_dtype(dtype)?, bias: bias.clone() })
            }
            Unembed::Missing => return Err(Unembed::missing()),
        })
    }

    fn packing(&self, x: &Tensor, batch: &Batch) -> Result<Option<Packing>> {
        ops::packing(x, &segments(batch), self.config().heads, self.rotary())
    }

    fn embed(&self, batch: &Batch) -> Result<Tensor> {
        let config = self.config();
        if let Some(&token) = batch.tokens.iter().find(|t| **t as usize >= config.vocabulary) {
            return Err(Error::OutOfRange {
                what: "token id",
                index: token.into(),
                limit: config.vocabulary,
                model: self.name().into(),
            });
        }
        if batch.longest() > self.longest() {
            return Err(Error::Internal(format!(
                "a sequence of {} tokens was given to a window of {}",
                batch.longest(),
                self.longest()
            )));
        }
        let ids = Tensor::from_slice(&batch.tokens, batch.tokens.len(), self.device())?;
        let x = self.weights().embed.index_select(&ids, 0)?.to_dtype(self.activation_dtype())?;
        match (&config.positions, &self.weights().positions) {
            (Positions::Learned, Some(positions)) => {
                let ids = Tensor::from_slice(&batch.positions, batch.positions.len(), self.device())?;
                ops::add(x, &positions.index_select(&ids, 0)?.to_dtype(self.activation_dtype())?, None)
            }
            _ => Ok(x),
        }
    }

    /// Runs a whole block: returns the next residual stream and the activations of its MLP.
    fn block(&self, l: usize, layer: &Layer, x: Tensor, pass: Pass) -> Result<(Tensor, Mlp)> {
        let attention = self.attention(l, layer, &x, pass)?;
        let (x, mlp) = if self.config().parallel {
            let mlp = self.mlp(layer, &layer.mlp_in, &x)?;
            (self.attended(layer, x, &attention)?, mlp)
        } else {
            let x = self.attended(layer, x, &attention)?;
            let mlp = self.mlp(layer, &layer.mlp_in, &x)?;
            (x, mlp)
        };
        let written = ops::matmul(&mlp.post, &layer.mlp_out)?;
        Ok((ops::add(x, &written, layer.mlp_out.bias.as_ref())?, mlp))
    }

    /// Computes the residual stream that the MLP of the deepest layer reads, wanted rows only.
    fn mlp_input(&self, l: usize, layer: &Layer, x: Tensor, pass: Pass, rows: Option<&Tensor>) -> Result<Tensor> {
        if self.config().parallel {
            return select(x, rows);
        }
        let attention = select(self.attention(l, layer, &x, pass)?, rows)?;
        self.attended(layer, select(x, rows)?, &attention)
    }

    /// Computes the mixed values of attention, `[tokens, heads·d_head]`.
    fn attention(&self, l: usize, layer: &Layer, x: &Tensor, pass: Pass) -> Result<Tensor> {
        let config = self.config();
        let h = ops::norm(x.clone(), config.norm, &layer.norm1)?;
        let qkv = ops::matmul(&h, &layer.qkv)?;
        let shift = match (&config.positions, &self.weights().positions) {
            // (h + p)·W is h·W + p·W, and values do not see p.
            (Positions::Shortformer, Some(positions)) => {
                let columns = (config.heads + config.kv_heads) * config.d_head;
                let weight = layer.qkv.weight.narrow(1, 0, columns)?.contiguous()?;
                let positions = positions.narrow(0, 0, pass.batch.longest())?.to_dtype(self.activation_dtype())?;
                Some(ops::matmul(&positions, &Linear { weight, bias: None })?)
            }
            _ => None,
        };
        let attention = Attention {
            config,
            layer: l,
            bias: layer.qkv.bias.as_ref(),
            shift: shift.as_ref(),
            rotary: self.rotary(),
            segments: segments(pass.batch),
            packing: pass.packing,
        };
        attention.run(&qkv)
    }

    fn attended(&self, layer: &Layer, x: Tensor, attention: &Tensor) -> Result<Tensor> {
        ops::add(x, &ops::matmul(attention, &layer.out)?, layer.out.bias.as_ref())
    }

    fn mlp(&self, layer: &Layer, input: &Linear, x: &Tensor) -> Result<Mlp> {
        let config = self.config();
        let h = ops::norm(x.clone(), config.norm, &layer.norm2)?;
        let mid = ops::activate(ops::matmul(&h, input)?, config, input.bias.as_ref())?;
        let post = if config.activation == Activation::SoluLn {
            ops::norm(mid.clone(), config.mlp_norm(), &layer.mlp_norm)?
        } else {
            mid.clone()
        };
        Ok(Mlp { mid, post })
    }

    fn at_site(&self, mlp: Mlp) -> Tensor {
        match self.site() {
            Site::MlpMid => mlp.mid,
            Site::MlpPost => mlp.post,
        }
    }

    fn wanted_rows(&self, batch: &Batch) -> Result<Rows> {
        let indices = |ids: &[u32]| Tensor::from_slice(ids, ids.len(), self.device());
        let mut places = batch.rows.clone();
        let mut copies = None;
        if !places.is_sorted_by(|a, b| a < b) {
            places.sort_unstable();
            places.dedup();
            let copy = |row: &u32| places.partition_point(|place| place < row) as u32;
            copies = Some(indices(&batch.rows.iter().map(copy).collect::<Vec<_>>())?);
        }
        let places = if places.len() == batch.tokens.len() { None } else { Some(indices(&places)?) };
        Ok(Rows { places, copies })
    }
}

/// A batch and its packing, as the layers take them.
#[derive(Clone, Copy)]
struct Pass<'a> {
    batch: &'a Batch,
    packing: Option<&'a Packing>,
}

fn segments(batch: &Batch) -> Segments<'_> {
    Segments { offsets: &batch.offsets, parents: &batch.parents, positions: &batch.positions }
}

/// Unembedding: maps the residual stream after the last norm to logits.
pub(crate) struct Head(Linear);

impl Head {
    /// Computes logits, f32 `[rows, vocabulary]`, of `[rows, d_model]`.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        // By candle, as kernels need contiguous matrices and a tied one is transposed.
        let logits = x.matmul(&self.0.weight)?.to_dtype(DType::F32)?;
        Ok(match &self.0.bias {
            Some(bias) => logits.broadcast_add(&bias.to_dtype(DType::F32)?)?,
            None => logits,
        })
    }
}

/// The wanted rows of a batch.
struct Rows {
    /// Distinct indices of the wanted tokens, ascending; `None` for all tokens.
    places: Option<Tensor>,
    /// Index in `places` of each row; `None` if the rows are these places in order.
    copies: Option<Tensor>,
}

fn select(x: Tensor, rows: Option<&Tensor>) -> Result<Tensor> {
    Ok(match rows {
        Some(rows) => x.index_select(rows, 0)?,
        None => x,
    })
}
