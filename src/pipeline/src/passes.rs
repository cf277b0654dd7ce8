//! Forward passes over a stream of batches: in order, a bounded number at once, and stopped when nobody waits.

use std::sync::Arc;

use datafusion::error::Result;
use futures::stream::{FuturesOrdered, Stream, StreamExt, try_unfold};
use neuroql_model::{Cancel, CancelOnDrop, Model, Placement, Registry};
use neuroql_schema::sql_error;

/// Options of forward passes of a model.
#[derive(Debug, Clone)]
pub struct Passes {
    registry: Arc<Registry>,
    placement: Placement,
    at_once: usize,
}

impl Passes {
    /// Creates passes on one thread each, as many at once as there are threads and one more, so that none waits for a
    /// batch.
    pub fn side_by_side(registry: &Arc<Registry>, model: &Model) -> Self {
        Self::new(registry, model, Placement::OneThread, registry.pool().threads() + 1)
    }

    /// Creates passes that run on one thread or on all of them, `at_once` at once.
    pub fn new(registry: &Arc<Registry>, model: &Model, placement: Placement, at_once: usize) -> Self {
        Self { registry: Arc::clone(registry), placement: placement.of(model), at_once: at_once.max(1) }
    }

    /// Runs `pass` over each batch on the threads of the registry and yields the results in the order of the batches.
    ///
    /// A batch is taken only while fewer passes than allowed are running or wait to be yielded, and only while somebody
    /// waits for a result: no batch is left half taken when one is yielded, so several streams may take theirs from one
    /// place under a lock. Dropping the stream cancels the passes that are running.
    pub fn over<B, T>(
        self,
        batches: impl Stream<Item = Result<B>> + Send + 'static,
        pass: impl Fn(B, &Cancel) -> neuroql_model::Result<T> + Clone + Send + 'static,
    ) -> impl Stream<Item = Result<T>> + Send + 'static
    where
        B: Send + 'static,
        T: Send + 'static,
    {
        let state = (Box::pin(batches.fuse()), FuturesOrdered::new(), CancelOnDrop::default());
        try_unfold(state, move |(mut batches, mut running, guard)| {
            let (passes, pass) = (self.clone(), pass.clone());
            async move {
                while running.len() < passes.at_once && !batches.is_done() {
                    let Some(batch) = batches.next().await.transpose()? else { break };
                    let (pass, cancel) = (pass.clone(), guard.flag());
                    running.push_back(passes.registry.pool().run(passes.placement, move || pass(batch, &cancel)));
                }
                let result = running.next().await.transpose().map_err(sql_error)?;
                Ok(result.map(|result| (result, (batches, running, guard))))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::TryStreamExt;
    use futures::stream::iter;
    use neuroql_model::ReadSpec;

    use super::*;
    use crate::batcher::{Batcher, ExampleBatch};
    use crate::documents::Documents;
    use crate::source::{Origin, Shard};
    use crate::testing::{Texts, resources, texts, toy};

    #[tokio::test]
    async fn results_come_in_order_and_few_batches_are_taken() {
        let (resources, model) = (resources(3), toy());
        let (taken, yielded) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (count, done) = (Arc::clone(&taken), Arc::clone(&yielded));
        let batches = iter(0..40_u64).map(move |batch| {
            let ahead = count.fetch_add(1, Ordering::Relaxed) - done.load(Ordering::Relaxed);
            assert!(ahead < 4, "{ahead} batches are running already");
            Ok(batch)
        });
        let passes = Passes::side_by_side(&resources.registry, &model);
        let mut results = pin!(passes.over(batches, |batch: u64, _: &Cancel| {
            // Later batches are quicker.
            std::thread::sleep(std::time::Duration::from_micros(200 * (40 - batch)));
            Ok(batch)
        }));
        for expected in 0..40 {
            assert_eq!(results.try_next().await.unwrap(), Some(expected));
            yielded.fetch_add(1, Ordering::Relaxed);
        }
        assert_eq!(results.try_next().await.unwrap(), None);
        assert_eq!(taken.load(Ordering::Relaxed), 40);
    }

    #[tokio::test]
    async fn a_stream_that_is_dropped_stops_its_passes() {
        let (resources, model) = (resources(2), toy());
        let (events, receiver) = std::sync::mpsc::channel();
        let passes = Passes::new(&resources.registry, &model, Placement::OneThread, 2);
        let results = passes.over(iter(0..9).map(Ok), move |batch: u64, cancel: &Cancel| {
            let _ = events.send((batch, "begun"));
            while batch > 0 && cancel.check().is_ok() {
                std::thread::yield_now();
            }
            let _ = events.send((batch, "ended"));
            cancel.check()
        });
        let mut results = Box::pin(results);
        assert!(results.try_next().await.unwrap().is_some());
        // The next pass runs, and would run for ever.
        assert!(futures::poll!(results.try_next()).is_pending());
        while receiver.recv().unwrap() != (1, "begun") {}
        drop(results);
        while receiver.recv().unwrap() != (1, "ended") {}
    }

    #[tokio::test]
    async fn an_error_ends_the_stream() {
        let (resources, model) = (resources(2), toy());
        let passes = Passes::new(&resources.registry, &model, Placement::OneThread, 2);
        let failed = neuroql_model::Error::Internal("no".into());
        let failed = std::sync::Mutex::new(Some(failed));
        let failed = Arc::new(failed);
        let mut results = pin!(passes.over(iter(0..9).map(Ok), move |batch: u64, _: &Cancel| match batch {
            3 => Err(failed.lock().unwrap().take().unwrap()),
            batch => Ok(batch),
        }));
        for expected in 0..3 {
            assert_eq!(results.try_next().await.unwrap(), Some(expected));
        }
        assert!(results.try_next().await.is_err());
        assert_eq!(results.try_next().await.unwrap(), None);
    }

    /// Activations of a neuron on each token of the documents of a shard, by document and example.
    async fn activations(threads: usize, tokens: usize, shard: Shard) -> Vec<(i64, i64, Vec<f32>)> {
        let (resources, model, context) = (resources(threads), toy(), Arc::default());
        let origin: Origin = Texts::new(&texts(9), None).origin();
        let documents = Documents::all(&origin, &context).unwrap().of_shard(shard);
        let batches = Batcher::of_documents(&model, documents, tokens).read_ahead();
        let spec = ReadSpec::new(&model, [(1, Some(vec![5]))]).unwrap();
        let passes = Passes::side_by_side(&resources.registry, &model);
        let results = passes.over(batches, move |batch: ExampleBatch, cancel| {
            let values = model.run(&batch.batch, &spec, cancel)?[0].flatten_all()?.to_vec1::<f32>()?;
            let mut rest = values.as_slice();
            let of_example = batch.examples.iter().map(|example| {
                let (own, others) = rest.split_at(example.tokens.len());
                rest = others;
                (example.document.number, example.example, own.to_vec())
            });
            Ok(of_example.collect::<Vec<_>>())
        });
        results.try_collect::<Vec<_>>().await.unwrap().concat()
    }

    #[tokio::test]
    async fn results_depend_neither_on_threads_nor_on_shards() {
        let whole = activations(1, 512, Shard::WHOLE).await;
        assert!(whole.len() > 6 && whole.iter().any(|(_, example, _)| *example > 0));
        assert_eq!(activations(3, 512, Shard::WHOLE).await, whole);
        let mut shards = Vec::new();
        for index in 0..2 {
            shards.extend(activations(2, 512, Shard { index, count: 2 }).await);
        }
        shards.sort_by_key(|(document, example, _)| (*document, *example));
        let places = |all: &[(i64, i64, Vec<f32>)]| all.iter().map(|(d, e, v)| (*d, *e, v.len())).collect::<Vec<_>>();
        assert_eq!(places(&shards), places(&whole));
        for ((.., a), (.., b)) in shards.iter().zip(&whole) {
            assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4));
        }
    }
}
