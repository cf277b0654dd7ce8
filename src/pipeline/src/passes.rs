//! Forward passes over a stream of batches: in order, a bounded number at once, and stopped when nobody waits.

use std::sync::Arc;

use datafusion::error::Result;
use futures::stream::{FuturesOrdered, Stream, StreamExt, try_unfold};
use neuroql_model::{Cancel, CancelOnDrop, Model, Registry, Width};
use neuroql_schema::sql_error;

/// How forward passes of a model run.
#[derive(Debug, Clone)]
pub struct Passes {
    registry: Arc<Registry>,
    width: Width,
    at_once: usize,
}

impl Passes {
    /// Passes on one thread each, as many at once as there are threads and one more, so that none waits for a batch.
    pub fn side_by_side(registry: &Arc<Registry>, model: &Model) -> Self {
        Self::new(registry, model, Width::Lane, registry.pool().threads() + 1)
    }

    /// Passes that run on one thread or on all of them, so many at once.
    pub fn new(registry: &Arc<Registry>, model: &Model, width: Width, at_once: usize) -> Self {
        Self { registry: Arc::clone(registry), width: width.of(model), at_once: at_once.max(1) }
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
                    running.push_back(passes.registry.pool().run(passes.width, move || pass(batch, &cancel)));
                }
                let result = running.next().await.transpose().map_err(sql_error)?;
                Ok(result.map(|result| (result, (batches, running, guard))))
            }
        })
    }
}
