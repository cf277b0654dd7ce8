//! Activations of whole texts, computed on the threads of a pool.

use std::sync::Arc;

use crate::pool::{Placement, Pool};
use crate::{Batch, Cancel, Error, Model, ReadSpec, Result};

/// Guard that cancels when dropped, so that a dropped query stops its forward passes.
#[derive(Debug, Default)]
pub struct CancelOnDrop(Cancel);

impl CancelOnDrop {
    /// The flag to pass to forward passes.
    pub fn flag(&self) -> Cancel {
        self.0.clone()
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Model {
    /// Checks the number of a layer that a user gave.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if the model does not have it, [`Error::LayerNotRead`] if its site is of another layer.
    pub fn check_layer(&self, layer: i64) -> Result<usize> {
        let layer = self.check_index("layer", layer, self.config().layers)?;
        let read = self.layers_read();
        if read.contains(&layer) {
            return Ok(layer);
        }
        Err(Error::LayerNotRead { layer, only: read.start, site: self.site(), model: self.name().into() })
    }

    /// Checks the number of a neuron that a user gave.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if the model does not have it.
    pub fn check_neuron(&self, neuron: i64) -> Result<u32> {
        Ok(self.check_index("neuron", neuron, self.neurons_per_layer())? as u32)
    }

    fn check_index(&self, what: &'static str, index: i64, limit: usize) -> Result<usize> {
        match usize::try_from(index) {
            Ok(i) if i < limit => Ok(i),
            _ => Err(Error::OutOfRange { what, index, limit, model: self.name().into() }),
        }
    }

    /// Activations of some neurons of a layer on each token of each text: `[text][neuron][position]`, positions running
    /// on over the examples of a text longer than the window.
    ///
    /// # Errors
    /// Errors of [`Model::run`] and [`Tokenizer::encode`](crate::Tokenizer::encode). Dropping the future stops the forward
    /// passes, and tokenizing between the parts of a long text.
    pub async fn activations<T: AsRef<str> + Send + 'static>(
        self: &Arc<Self>,
        pool: &Pool,
        layer: usize,
        neurons: Vec<u32>,
        texts: Vec<T>,
    ) -> Result<Vec<Vec<Vec<f32>>>> {
        self.activations_within(pool, layer, neurons, texts, |_| Ok(())).await
    }

    /// Computes what [`Model::activations`] does; `reserve` is called with the bytes of each text's activations before they
    /// are computed.
    ///
    /// # Errors
    /// Errors of [`Model::activations`] and of `reserve`.
    pub async fn activations_within<T: AsRef<str> + Send + 'static>(
        self: &Arc<Self>,
        pool: &Pool,
        layer: usize,
        neurons: Vec<u32>,
        texts: Vec<T>,
        mut reserve: impl FnMut(usize) -> Result<()> + Send + 'static,
    ) -> Result<Vec<Vec<Vec<f32>>>> {
        let guard = CancelOnDrop::default();
        let (model, cancel) = (Arc::clone(self), guard.flag());
        let job = move || model.activations_here(layer, neurons, &texts, &mut reserve, &cancel);
        pool.run(Placement::AllThreads.of(self), job).await
    }

    fn activations_here(
        &self,
        layer: usize,
        neurons: Vec<u32>,
        texts: &[impl AsRef<str>],
        reserve: &mut impl FnMut(usize) -> Result<()>,
        cancel: &Cancel,
    ) -> Result<Vec<Vec<Vec<f32>>>> {
        let mut out: Vec<Vec<Vec<f32>>> = texts.iter().map(|_| vec![Vec::new(); neurons.len()]).collect();
        let (limit, row) = (self.batch_tokens(neurons.len()), size_of::<f32>() * neurons.len());
        let spec = ReadSpec::new(self, [(layer, Some(neurons))])?;
        let mut batch = Batch::new([], self.bos());
        let mut owners: Vec<(usize, usize)> = Vec::new();
        for (text, words) in texts.iter().enumerate() {
            let tokens = self.tokenizer().encode_cancellable(words.as_ref(), cancel)?;
            reserve(row * tokens.len())?;
            out[text].iter_mut().for_each(|values| values.reserve_exact(tokens.len()));
            for example in self.examples(&tokens) {
                if !batch.is_empty() && batch.tokens() + example.len() > limit {
                    self.append(&mut out, &owners, &batch, &spec, cancel)?;
                    batch = Batch::new([], self.bos());
                    owners.clear();
                }
                batch.push(example);
                owners.push((text, example.len()));
            }
        }
        self.append(&mut out, &owners, &batch, &spec, cancel)?;
        Ok(out)
    }

    /// Runs a batch and appends its rows to those of their texts.
    fn append(
        &self,
        out: &mut [Vec<Vec<f32>>],
        owners: &[(usize, usize)],
        batch: &Batch,
        spec: &ReadSpec,
        cancel: &Cancel,
    ) -> Result<()> {
        let values = self.run(batch, spec, cancel)?.pop().ok_or_else(|| Error::Internal("no layer was read".into()))?;
        let mut rows = values.to_vec2::<f32>()?.into_iter();
        for &(text, tokens) in owners {
            for row in rows.by_ref().take(tokens) {
                out[text].iter_mut().zip(row).for_each(|(neuron, value)| neuron.push(value));
            }
        }
        Ok(())
    }
}
