//! Batches that are too large for a device are run in parts.

use std::ops::Range;
use std::time::Instant;

use candle_core::{DType, Tensor};

use crate::device::{is_out_of_memory, room};
use crate::{Batch, Cancel, Error, Model, ReadSpec, Result};

/// Which part of a batch was run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its rows.
    pub rows: Range<usize>,
    /// Its examples, whole ones, numbered as they were pushed to the batch.
    pub examples: Range<usize>,
}

/// Bytes of activations that one forward pass may return, on a processor and on a GPU.
const OUTPUT_BYTES: [usize; 2] = [32 << 20, 1 << 30];

/// Tokens of a forward pass. More do not run faster: on a processor, as weights are then reused from cache enough and
/// intermediate results no longer fit it; on a GPU, as it has enough to do without.
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

    /// Runs the batch in parts that the device has memory for, mostly one, and gives `each` of them its activations as
    /// [`Model::run`] would, in order. What `each` needs memory for on the device counts: if it runs out there, the part is halved
    /// too, so it must change nothing before it succeeds.
    ///
    /// # Errors
    /// As [`Model::run`], and what `each` returns.
    pub fn run_parts(
        &self,
        batch: &Batch,
        spec: &ReadSpec,
        cancel: &Cancel,
        mut each: impl FnMut(Part, Vec<Tensor>) -> Result<()>,
    ) -> Result<()> {
        // What is still to run, the next last, with its first row and example.
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

    /// A pass whose time is noted, where it has ended when it returns.
    fn timed(&self, batch: &Batch, spec: &ReadSpec, cancel: &Cancel) -> Result<Vec<Tensor>> {
        let start = Instant::now();
        let layers = self.pass(batch, spec, cancel)?;
        if self.device().is_cpu() {
            let depth = spec.deepest_layer().map_or(0, |layer| layer + 1);
            self.measured().note(batch.tokens(), depth, rayon::current_num_threads(), start.elapsed());
        }
        Ok(layers)
    }

    /// Tokens that a forward pass should have if it returns so many values a token. On a GPU that depends on the memory
    /// it has free now.
    pub fn batch_tokens(&self, values: usize) -> usize {
        let gpu = usize::from(!self.device().is_cpu());
        let tokens = (OUTPUT_BYTES[gpu] / (4 * values.max(1))).clamp(1, TOKENS[gpu]);
        match room(self.device()) {
            // Half of what is free: another pass may be on its way.
            Some(free) => tokens.min(free / 2 / self.bytes_per_token(values)).max(1),
            None => tokens,
        }
    }

    /// Bytes that a pass on a GPU needs a token, about: what is alive at once in a block, and what is read, with room
    /// for reducing it.
    fn bytes_per_token(&self, values: usize) -> usize {
        let config = self.config();
        let scores = 3 * config.heads * self.longest();
        let qkv = 3 * (config.heads + 2 * config.kv_heads) * config.d_head;
        let mlp = if config.gated { 6 } else { 4 } * config.d_mlp;
        let block = 4 * config.d_model + qkv + scores + mlp;
        self.activation_dtype().size_in_bytes() * block + 2 * DType::F32.size_in_bytes() * (values + config.d_mlp)
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
