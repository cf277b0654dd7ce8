//! Forward pass, from tokens to the activations of a [`ReadSpec`] or to logits.
//!
//! It stops at the deepest layer to read, multiplies only the columns of the neurons to read there, and computes logits
//! only for [`Model::logits`]. At the deepest layer only the wanted rows go on after attention.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{DType, Tensor};

use crate::backpressure::Pace;
use crate::kernel::Segments;
use crate::ops::{self, Packing};
use crate::weights::{Linear, Unembed};
use crate::{Batch, Error, Model, Positions, ReadSpec, Result};

mod block;
mod experts;
mod tap;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod whole_tests;

pub(crate) use block::Mlp;
pub(crate) use tap::{Edit, Tap};

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

impl Model {
    /// Computes the activations of a batch in one pass.
    pub(crate) fn pass(&self, batch: &Batch, spec: &ReadSpec, cancel: &Cancel) -> Result<Vec<Tensor>> {
        let mut outputs = Vec::with_capacity(spec.layers().len());
        let Some(deepest) = spec.deepest_layer() else { return Ok(outputs) };
        if batch.is_empty() {
            for layer in spec.layers() {
                let neurons = layer.neurons.as_ref().map_or(self.neurons_per_layer(), |n| n.len());
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
        let pass = Pass { batch, packing: packing.as_ref(), cache: None };
        let mut pace = Pace::new(self, batch.tokens());
        let sites = [self.site()];
        for l in 0..deepest {
            pace.step(cancel)?;
            let layer = (l, &self.weights().layers[l]);
            let read = wanted.next_if(|spec| spec.layer == l);
            let mut tap = match read {
                Some(_) => Tap::of(&sites, rows, read),
                None => Tap::none(),
            };
            x = self.block(layer, x, pass, &mut tap)?;
            if read.is_some() {
                outputs.push(select(tap.only()?, copies)?.to_dtype(DType::F32)?);
            }
        }
        pace.step(cancel)?;
        if let Some(read) = wanted.next() {
            let layer = (deepest, &self.weights().layers[deepest]);
            let value = self.last_block(layer, x, pass, rows, (read, spec.deepest.as_ref()))?;
            outputs.push(select(value, copies)?.to_dtype(DType::F32)?);
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
        let x = self.through_blocks(batch, cancel, None, |_| Ok(Tap::none()), |_, _| Ok(()))?;
        self.final_rows(x, batch)
    }

    /// Takes the batch's rows of the residual stream after the last block, and normalises them.
    pub(crate) fn final_rows(&self, x: Tensor, batch: &Batch) -> Result<Tensor> {
        let Rows { places, copies } = self.wanted_rows(batch)?;
        let x = select(select(x, places.as_ref())?, copies.as_ref())?;
        ops::norm(x, self.config().final_norm, &self.weights().final_norm)
    }

    /// Runs a batch through all blocks; returns the residual stream of its tokens, `[tokens, d_model]`. `tap` makes the
    /// tap of each layer, and `each` is given it after the layer.
    pub(crate) fn through_blocks<'a>(
        &self,
        batch: &Batch,
        cancel: &Cancel,
        cache: Option<&Cache>,
        tap: impl Fn(usize) -> Result<Tap<'a>>,
        mut each: impl FnMut(usize, Tap<'a>) -> Result<()>,
    ) -> Result<Tensor> {
        let mut x = self.embed(batch)?;
        let packing = match cache {
            None => self.packing(&x, batch)?,
            Some(_) => None,
        };
        let pass = Pass { batch, packing: packing.as_ref(), cache };
        let mut pace = Pace::new(self, batch.tokens());
        for (l, layer) in self.weights().layers.iter().enumerate() {
            pace.step(cancel)?;
            let mut tap = tap(l)?;
            x = self.block((l, layer), x, pass, &mut tap)?;
            each(l, tap)?;
        }
        Ok(x)
    }

    /// Runs a batch of one sequence through some layers, and computes the patterns of heads of the next one: returns the
    /// residual stream before it, and the patterns `[heads, tokens, tokens]`.
    pub(crate) fn patterns_after(
        &self,
        batch: &Batch,
        mut x: Tensor,
        layers: Range<usize>,
        heads: &[usize],
        cancel: &Cancel,
    ) -> Result<(Tensor, Vec<f32>)> {
        let packing = self.packing(&x, batch)?;
        let pass = Pass { batch, packing: packing.as_ref(), cache: None };
        let mut pace = Pace::new(self, batch.tokens());
        let next = layers.end;
        for l in layers {
            pace.step(cancel)?;
            x = self.block((l, &self.weights().layers[l]), x, pass, &mut Tap::none())?;
        }
        pace.step(cancel)?;
        let layer = (next, &self.weights().layers[next]);
        let patterns = self.with_attention(layer, &x, pass, |attention, qkv| attention.patterns(qkv, heads))?;
        Ok((x, patterns))
    }

    /// Returns the unembedding, in the number type of activations.
    pub(crate) fn head(&self) -> Result<Head> {
        let dtype = self.activation_dtype();
        let linear = match &self.weights().unembed {
            Unembed::Tied => Linear::new(self.weights().embed.to_dtype(dtype)?.t()?, None),
            Unembed::Matrix(linear) => Linear::new(linear.matrix()?.to_dtype(dtype)?, linear.bias.clone()),
            Unembed::Missing => return Err(Unembed::missing()),
        };
        Ok(Head { linear, scale: self.config().logit_scale, cap: self.config().logit_cap })
    }

    fn packing(&self, x: &Tensor, batch: &Batch) -> Result<Option<Packing>> {
        ops::packing(x, &segments(batch), self.config(), self.rotaries())
    }

    pub(crate) fn embed(&self, batch: &Batch) -> Result<Tensor> {
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
        let x = self.embedded(self.weights().embed.index_select(&ids, 0)?)?;
        match (&config.positions, &self.weights().positions) {
            (Positions::Learned, Some(positions)) => {
                let ids = Tensor::from_slice(&batch.positions, batch.positions.len(), self.device())?;
                ops::add(x, &positions.index_select(&ids, 0)?.to_dtype(self.activation_dtype())?, None)
            }
            _ => Ok(x),
        }
    }

    /// Makes rows of the embedding what the residual stream begins with, but for learned positions.
    pub(crate) fn embedded(&self, rows: Tensor) -> Result<Tensor> {
        let config = self.config();
        let mut x = rows.to_dtype(self.activation_dtype())?;
        if config.embed_scale != 1.0 {
            x = (x * f64::from(config.embed_scale))?;
        }
        match config.embed_norm {
            Some(norm) => ops::norm(x, norm, &self.weights().embed_norm),
            None => Ok(x),
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

/// Keys and values of one sequence by layer, `[tokens, 2·kv_heads·d_head]` each, to go on with it.
#[derive(Debug, Default)]
pub(crate) struct Cache(Vec<RefCell<Vec<f32>>>);

impl Cache {
    /// Makes a cache of no tokens.
    pub fn new(model: &Model) -> Self {
        Self((0..model.config().layers).map(|_| RefCell::default()).collect())
    }
}

/// A batch and its packing, as the layers take them.
#[derive(Clone, Copy)]
struct Pass<'a> {
    batch: &'a Batch,
    packing: Option<&'a Packing>,
    /// Keys and values of the tokens before those of the batch, which are one sequence.
    cache: Option<&'a Cache>,
}

fn segments(batch: &Batch) -> Segments<'_> {
    Segments { offsets: &batch.offsets, parents: &batch.parents, positions: &batch.positions }
}

/// Unembedding: maps the residual stream after the last norm to logits.
pub(crate) struct Head {
    linear: Linear,
    scale: f32,
    cap: Option<f32>,
}

impl Head {
    /// Computes logits, f32 `[rows, vocabulary]`, of `[rows, d_model]`.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        // By candle, as kernels need contiguous matrices and a tied one is transposed.
        let mut logits = x.matmul(&self.linear.matrix()?)?.to_dtype(DType::F32)?;
        if let Some(bias) = &self.linear.bias {
            logits = logits.broadcast_add(&bias.to_dtype(DType::F32)?)?;
        }
        if self.scale != 1.0 {
            logits = (logits * f64::from(self.scale))?;
        }
        if let Some(cap) = self.cap.map(f64::from) {
            logits = ((logits / cap)?.tanh()? * cap)?;
        }
        Ok(logits)
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
