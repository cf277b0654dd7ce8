//! Runs batches, in parts if they are too large for a device.

use std::ops::Range;
use std::time::Instant;

use candle_core::{DType, Tensor};

use crate::device::{is_out_of_memory, room};
use crate::kernel::threads;
use crate::{Batch, Cancel, Error, Model, ReadSpec, Result};

/// A part of a batch, run in one pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Rows of the part.
    pub rows: Range<usize>,
    /// Examples of the part, whole ones, numbered as they were pushed to the batch.
    pub examples: Range<usize>,
}

/// Greatest number of bytes of activations that one forward pass returns, on a processor and on a GPU.
const OUTPUT_BYTES: [usize; 2] = [32 << 20, 1 << 30];

/// Greatest number of tokens of a forward pass, on a processor and on a GPU. More are not faster: a processor reuses
/// weights from cache enough with these, and more intermediate results would not fit it; a GPU is busy with these.
const TOKENS: [usize; 2] = [1024, 32_768];

impl Model {
    /// Runs the batch and returns, for each layer of the spec, activations at the model's site: f32 `[rows, neurons]` on
    /// the model's device, rows in the order they were pushed to the batch.
    ///
    /// A batch that the device has no memory for is run in parts.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a token the embedding does not have, [`Error::Cancelled`], [`Error::OutOfMemory`] if one
    /// example alone is too much.
    pub fn run(&self, batch: &Batch, spec: &ReadSpec, cancel: &Cancel) -> Result<Vec<Tensor>> {
        let mut parts: Vec<Vec<Tensor>> = Vec::new();
        self.run_parts(batch, spec, cancel, |_, layers| {
            parts.push(layers);
            Ok(())
        })?;
        if parts.len() == 1 {
            // The vector has one element, so there is always a last.
            return Ok(parts.pop().unwrap_or_default());
        }
        let layer = |l: usize| {
            let rows: Vec<&Tensor> = parts.iter().map(|layers| &layers[l]).collect();
            Tensor::cat(&rows, 0).map_err(|e| self.out_of_memory(e.into(), batch))
        };
        (0..spec.layers().len()).map(layer).collect()
    }

    /// Runs the batch in parts that the device has memory for, mostly one, and calls `each` with every part and its
    /// activations as [`Model::run`] returns them, in order. If `each` itself runs out of memory on the device, the
    /// part is halved too, so it must change nothing before it succeeds.
    ///
    /// # Errors
    /// Errors of [`Model::run`] and of `each`.
    pub fn run_parts(
        &self,
        batch: &Batch,
        spec: &ReadSpec,
        cancel: &Cancel,
        mut each: impl FnMut(Part, Vec<Tensor>) -> Result<()>,
    ) -> Result<()> {
        // Parts still to run, the next last, with their first rows and examples.
        let mut waiting = vec![(0, 0, None)];
        while let Some((row, example, part)) = waiting.pop() {
            let part: &Batch = part.as_ref().unwrap_or(batch);
            let place = Part { rows: row..row + part.rows(), examples: example..example + part.examples() };
            let done = self.timed(part, spec, cancel).and_then(|layers| each(place, layers));
            match done {
                Err(Error::Tensor(e)) if is_out_of_memory(&e) => {
                    let Some((left, right)) = part.halves() else {
                        return Err(self.out_of_memory(Error::Tensor(e), part));
                    };
                    waiting.push((row + left.rows(), example + left.examples(), Some(right)));
                    waiting.push((row, example, Some(left)));
                }
                done => done?,
            }
        }
        Ok(())
    }

    /// Runs a pass, and records its time on a processor, where it has ended when it returns.
    fn timed(&self, batch: &Batch, spec: &ReadSpec, cancel: &Cancel) -> Result<Vec<Tensor>> {
        let start = Instant::now();
        let layers = self.pass(batch, spec, cancel)?;
        if self.device().is_cpu() {
            let depth = spec.deepest_layer().map_or(0, |layer| self.layers_to_run(layer));
            self.measured().note(batch.tokens(), depth, threads(), start.elapsed());
        }
        Ok(layers)
    }

    /// Number of tokens that a forward pass should have if it returns `values` values a token. On a GPU it depends on
    /// the memory that is free now.
    pub fn batch_tokens(&self, values: usize) -> usize {
        let gpu = usize::from(!self.device().is_cpu());
        let tokens = (OUTPUT_BYTES[gpu] / (4 * values.max(1))).clamp(1, TOKENS[gpu]);
        match room(self.device()) {
            // Half of the free memory: another pass may be queued.
            Some(free) => tokens.min(free / 2 / self.bytes_per_token(values)).max(1),
            None => tokens,
        }
    }

    /// Estimated bytes that a pass on a GPU needs a token: the live tensors of a block, and the activations read, with
    /// room for reducing them.
    fn bytes_per_token(&self, values: usize) -> usize {
        let config = self.config();
        let scores = 3 * config.heads * self.longest();
        let qkv = 3 * (config.heads + 2 * config.kv_heads) * config.d_head;
        let mlp = if config.gated { 6 } else { 4 } * config.active_width();
        let block = 4 * config.d_model + qkv + scores + mlp;
        self.activation_dtype().size_in_bytes() * block
            + 2 * DType::F32.size_in_bytes() * (values + self.neurons_per_layer())
    }

    fn out_of_memory(&self, error: Error, batch: &Batch) -> Error {
        match error {
            Error::Tensor(e) if is_out_of_memory(&e) => Error::OutOfMemory {
                device: self.device_name().into(),
                reason: format!(
                    "{} tokens do not fit beside model \"{}\"; a smaller 'window', 'dtype' or model needs less",
                    batch.tokens(),
                    self.name()
                ),
            },
            error => error,
        }
    }
}
