//! Activations of whole texts, computed on the threads of a pool.

use std::sync::Arc;
use std::time::Duration;

use candle_core::DType;

use crate::kernel::on_one_thread;
use crate::pool::{Placement, Pool, caught};
use crate::{Batch, Cancel, Error, Model, ReadSpec, Result};

/// Time up to which passes run on the thread that asks for them: waking the threads of a pool, and being woken by them,
/// takes about half of it.
const BRIEF: Duration = Duration::from_micros(400);

/// Bytes of texts up to which they are tokenized on the thread that asks.
const BRIEF_BYTES: usize = 512;

/// Number of activations up to which a pass may be brief.
const BRIEF_VALUES: usize = 1 << 13;

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
    /// passes, and tokenizing between the parts of a long text. Short texts run when the future is polled, if their pass is
    /// estimated to take some hundred microseconds at most.
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
        let mut encoded = Vec::new();
        if self.may_be_brief(texts.iter().map(|text| text.as_ref().len()).sum()) {
            let encode = |text: &T| self.tokenizer().encode_cancellable(text.as_ref(), &cancel);
            encoded = caught(|| texts.iter().map(encode).collect())?;
        }
        let is_brief = !encoded.is_empty() && self.is_brief(layer, neurons.len(), &encoded);
        let job = move || {
            let texts = texts.iter().enumerate();
            let tokens = texts.map(|(number, text)| match encoded.get_mut(number) {
                Some(tokens) => Ok(std::mem::take(tokens)),
                None => model.tokenizer().encode_cancellable(text.as_ref(), &cancel),
            });
            model.activations_here(layer, neurons, tokens, &mut reserve, &cancel)
        };
        match is_brief {
            true => caught(|| on_one_thread(job)),
            false => pool.run(Placement::AllThreads.of(self), job).await,
        }
    }

    /// Returns true if the pass of texts of so many bytes may be brief.
    fn may_be_brief(&self, bytes: usize) -> bool {
        let tokens = bytes as f64 / self.tokenizer().bytes_per_token();
        // A pass in another number type uses candle's products, which start threads.
        let runs_here = self.device().is_cpu() && self.activation_dtype() == DType::F32;
        runs_here && bytes <= BRIEF_BYTES && self.speed().seconds(tokens, 1.0, 1) <= BRIEF.as_secs_f64()
    }

    /// Returns true if the pass of texts to a layer is estimated to be brief.
    fn is_brief(&self, layer: usize, neurons: usize, encoded: &[Vec<u32>]) -> bool {
        let all: usize = encoded.iter().map(|tokens| tokens.len() + usize::from(self.bos().is_some())).sum();
        // The deepest layer runs, in part, where its input is read.
        let layers = (layer + 1) as f64;
        all * neurons <= BRIEF_VALUES && self.speed().seconds(all as f64, layers, 1) <= BRIEF.as_secs_f64()
    }

    fn activations_here(
        &self,
        layer: usize,
        neurons: Vec<u32>,
        texts: impl ExactSizeIterator<Item = Result<Vec<u32>>>,
        reserve: &mut impl FnMut(usize) -> Result<()>,
        cancel: &Cancel,
    ) -> Result<Vec<Vec<Vec<f32>>>> {
        let mut out: Vec<Vec<Vec<f32>>> = vec![vec![Vec::new(); neurons.len()]; texts.len()];
        let (limit, row) = (self.batch_tokens(neurons.len()), size_of::<f32>() * neurons.len());
        let spec = ReadSpec::new(self, [(layer, Some(neurons))])?;
        let mut batch = Batch::new([], self.bos());
        let mut owners: Vec<(usize, usize)> = Vec::new();
        for (text, tokens) in texts.enumerate() {
            let tokens = tokens?;
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

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::executor::block_on;

    use super::*;
    use crate::Options;

    fn toy() -> Arc<Model> {
        let toy = format!("{}/../../datasets/toy", env!("CARGO_MANIFEST_DIR"));
        Arc::new(Model::load("toy", &toy, &Options::default(), &()).unwrap())
    }

    #[test]
    fn a_brief_pass_needs_no_other_thread_and_gives_the_same_values() {
        let (model, pool, neurons) = (toy(), Pool::new(3).unwrap(), vec![3, 17]);
        for texts in [vec!["The President of the United States"], vec!["import", "", "ä of"], vec![""]] {
            let brief = model.activations(&pool, 1, neurons.clone(), texts.clone()).now_or_never();
            let brief = brief.expect("the pass was not brief").unwrap();
            let (same, neurons) = (Arc::clone(&model), neurons.clone());
            let job = move || {
                let tokens = texts.iter().map(|text| same.tokenizer().encode(text));
                same.activations_here(1, neurons, tokens, &mut |_| Ok(()), &Cancel::default())
            };
            assert_eq!(brief, block_on(pool.run(Placement::AllThreads, job)).unwrap());
        }
    }

    #[test]
    fn what_a_brief_pass_takes_is_reserved() {
        let (model, pool) = (toy(), Pool::new(1).unwrap());
        let refuse = |_| Err(Error::Internal("too much".into()));
        let refused = model.activations_within(&pool, 0, vec![1], vec!["import numpy"], refuse).now_or_never();
        assert!(matches!(refused, Some(Err(Error::Internal(reason))) if reason == "too much"));
    }

    #[test]
    fn long_texts_and_many_values_are_not_brief() {
        let model = toy();
        assert!(model.may_be_brief(60) && !model.may_be_brief(BRIEF_BYTES + 1));
        assert!(model.is_brief(1, 1, &[vec![5; 10]]));
        assert!(!model.is_brief(1, 1, &[vec![5; 100]]));
        assert!(!model.is_brief(1, BRIEF_VALUES, &[vec![5; 10]]));
    }
}
