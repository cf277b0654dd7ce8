//! Statistics of pairs of neurons, of one model or of two, over the activations of both on the same tokens.
//!
//! The models run once; an accumulator of all pairs is added to as they go, so memory is that of a matrix of pairs,
//! whatever the size of the dataset.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use futures::future::ready;
use futures::{FutureExt, TryStreamExt};
use neuroql_analysis::{CoActivations, CoMoments};
use neuroql_model::{Batch, Cancel, Model, Placement, ReadSpec, reduce};
use neuroql_schema::sql_error;

use crate::Error;
use crate::batcher::{Batcher, ExampleBatch};
use crate::documents::Documents;
use crate::passes::Passes;
use crate::resources::Resources;
use crate::source::Origin;

/// Number of accumulators that batches are added to in turn, each on one thread; the same for any number of threads, so
/// that rounding does not depend on it.
pub const CHAINS: usize = 8;

/// Bytes of an accumulator up to which there are [`CHAINS`] of them.
pub const CHAIN_BYTES: usize = 64 << 20;

/// A statistic of all pairs, of one set of neurons or of two, while the models run.
pub trait Accumulator: Send + Sync + Sized + 'static {
    /// Adds the activations `[tokens, width]` of one set or of two, row for row of the same tokens.
    ///
    /// # Errors
    /// Returns an error if the activations have other sizes than the accumulator was made for.
    fn add_values(&mut self, values: &[Vec<f32>]) -> neuroql_analysis::Result<()>;

    /// Adds another accumulator, of other tokens.
    ///
    /// # Errors
    /// Returns an error if it has other sizes.
    fn add_others(&mut self, others: &Self) -> neuroql_analysis::Result<()>;
}

impl Accumulator for CoActivations {
    fn add_values(&mut self, values: &[Vec<f32>]) -> neuroql_analysis::Result<()> {
        match values {
            [x, y] => self.add_pairs(x, y),
            values => values.iter().try_for_each(|x| self.add(x)),
        }
    }

    fn add_others(&mut self, others: &Self) -> neuroql_analysis::Result<()> {
        self.merge(others)
    }
}

impl Accumulator for CoMoments {
    fn add_values(&mut self, values: &[Vec<f32>]) -> neuroql_analysis::Result<()> {
        match values {
            [x, y] => self.add_pairs(x, y),
            values => values.iter().try_for_each(|x| self.add(x)),
        }
    }

    fn add_others(&mut self, others: &Self) -> neuroql_analysis::Result<()> {
        self.merge(others)
    }
}

/// The neurons of some layers of a model, numbered through the layers.
#[derive(Debug, Clone)]
pub struct NeuronSet {
    /// The model.
    pub model: Arc<Model>,
    /// Its layers, ascending.
    pub layers: Vec<u32>,
}

impl NeuronSet {
    /// Number of neurons.
    pub fn width(&self) -> usize {
        self.layers.len() * self.model.neurons_per_layer()
    }

    /// Returns the layer and the neuron with this number.
    pub fn place(&self, number: usize) -> (i32, i32) {
        let width = self.model.neurons_per_layer();
        (self.layers[number / width] as i32, (number % width) as i32)
    }

    fn spec(&self) -> neuroql_model::Result<ReadSpec> {
        ReadSpec::new(&self.model, self.layers.iter().map(|layer| (*layer as usize, None)))
    }

    /// Returns the activations of all its neurons, `[tokens, width]`.
    fn activations(&self, batch: &Batch, spec: &ReadSpec, cancel: &Cancel) -> neuroql_model::Result<Vec<f32>> {
        let width = self.model.neurons_per_layer();
        let layers = self.model.run(batch, spec, cancel)?.iter().map(reduce::on_host).collect::<Result<Vec<_>, _>>()?;
        let layers = layers.iter().map(reduce::in_place).collect::<Result<Vec<_>, _>>()?;
        let tokens = layers.first().map_or(0, |layer| layer.len() / width);
        let mut all = Vec::with_capacity(tokens * self.width());
        for token in 0..tokens {
            layers.iter().for_each(|layer| all.extend_from_slice(&layer[token * width..][..width]));
        }
        Ok(all)
    }
}

/// The pairs of one set of neurons, or of one with another.
#[derive(Debug, Clone)]
pub struct Pairs {
    /// The store, and the threads that the models run on.
    pub resources: Arc<Resources>,
    /// The first set.
    pub one: NeuronSet,
    /// The second set, if the pairs are of two.
    pub other: Option<NeuronSet>,
    /// Number of documents to be read at most.
    pub documents: Option<u64>,
}

impl Pairs {
    /// Number of neurons of each set.
    pub fn widths(&self) -> (usize, Option<usize>) {
        (self.one.width(), self.other.as_ref().map(NeuronSet::width))
    }

    /// Adds up all pairs over the documents, from accumulators of `bytes` bytes each that `start` makes.
    ///
    /// # Errors
    /// Errors of reading the documents and of the models, and if memory is short.
    pub async fn add_up<A: Accumulator>(
        &self,
        start: impl Fn() -> A,
        bytes: usize,
        origin: &Origin,
        context: &Arc<TaskContext>,
    ) -> Result<A> {
        let Self { resources, one, other, documents } = self;
        let (width, others) = self.widths();
        let most = one.model.batch_tokens(width + others.unwrap_or(0));
        let pool = resources.registry.pool();
        let reservation = MemoryConsumer::new("pairs of neurons").register(context.memory_pool());
        let batch = 4 * most * (width + others.unwrap_or(0));
        let needed = |count| count * bytes + (pool.threads() + 2 + count) * batch;
        // All threads at once add to an accumulator that is large, or that memory is short for.
        let (count, adding) = match bytes <= CHAIN_BYTES && reservation.try_grow(needed(CHAINS)).is_ok() {
            true => (CHAINS, Placement::OneThread),
            false => {
                reservation.try_grow(needed(1))?;
                (1, Placement::AllThreads)
            }
        };
        let sets: Vec<NeuronSet> = [Some(one), other.as_ref()].into_iter().flatten().cloned().collect();
        let specs = sets.iter().map(NeuronSet::spec).collect::<neuroql_model::Result<Vec<_>>>().map_err(sql_error)?;
        let read: Arc<[(NeuronSet, ReadSpec)]> = sets.into_iter().zip(specs).collect();
        let documents = Documents::all(origin, context)?.before(documents.unwrap_or(u64::MAX));
        let batches = Batcher::of_documents(&one.model, documents, most).read_ahead();
        let passes = Passes::side_by_side(&resources.registry, &one.model);
        let passes = passes.over(batches, move |packed: ExampleBatch, cancel| {
            read.iter().map(|(set, spec)| set.activations(&packed.batch, spec, cancel)).collect()
        });
        let mut passes = pin!(passes);
        let mut chains: VecDeque<_> = (0..count).map(|_| ready(Ok(Ok(start()))).boxed()).collect();
        while let Some(values) = passes.try_next().await? {
            let values: Vec<Vec<f32>> = values;
            // The next chain in turn, which was last added to `count` batches ago.
            let Some(chain) = chains.pop_front() else { break };
            let mut pairs = added(chain.await)?;
            let add = move || Ok(pairs.add_values(&values).map(|()| pairs));
            chains.push_back(pool.run(adding, add).boxed());
        }
        let mut all: Option<A> = None;
        for chain in chains {
            let pairs = added(chain.await)?;
            all = Some(match all {
                None => pairs,
                Some(mut all) => added(Ok(all.add_others(&pairs).map(|()| all)))?,
            });
        }
        Ok(all.unwrap_or_else(start))
    }
}

/// Returns the accumulator that values were added to, or the error of adding them.
fn added<A>(result: neuroql_model::Result<neuroql_analysis::Result<A>>) -> Result<A> {
    result.map_err(sql_error)?.map_err(|e| Error::Internal(e.to_string()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Texts, resources, texts, toy};

    async fn counts(threads: usize, documents: Option<u64>, origin: &Origin) -> Vec<(u32, u64, u64, u64)> {
        let one = NeuronSet { model: toy(), layers: vec![0] };
        let pairs = Pairs { resources: resources(threads), one, other: None, documents };
        let (width, _) = pairs.widths();
        let start = || CoActivations::within(width, 0.0);
        let bytes = CoActivations::bytes(width, None);
        let counts = pairs.add_up(start, bytes, origin, &Arc::default()).await.unwrap();
        let strongest = counts.strongest(5, 4).into_iter();
        strongest.map(|(neuron, overlap)| (neuron, overlap.both, overlap.first, overlap.second)).collect()
    }

    #[tokio::test]
    async fn pairs_do_not_depend_on_threads() {
        let origin = Texts::new(&texts(9), None).origin();
        let one = counts(1, None, &origin).await;
        assert!(!one.is_empty());
        assert_eq!(counts(3, None, &origin).await, one);
    }

    #[tokio::test]
    async fn the_first_documents_are_those_of_a_shorter_dataset() {
        let all = Texts::new(&texts(9), None).origin();
        let short = Texts::new(&texts(6), None).origin();
        assert_eq!(counts(2, Some(6), &all).await, counts(2, None, &short).await);
    }

    #[test]
    fn neurons_are_numbered_through_the_layers() {
        let set = NeuronSet { model: toy(), layers: vec![0, 1] };
        let width = set.model.neurons_per_layer();
        assert_eq!((set.width(), set.place(0), set.place(width + 7)), (2 * width, (0, 0), (1, 7)));
    }
}
