//! Resources that runs share.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::error::Result;
use neuroql_model::{Model, Registry};
use neuroql_schema::sql_error;
use neuroql_store::Store;

use crate::fingerprint::Fingerprints;
use crate::graphs::GraphIndexes;

/// Models, the store of results about them, and fingerprints of datasets.
#[derive(Debug)]
pub struct Resources {
    /// The models that are loaded, and the threads that they run on.
    pub registry: Arc<Registry>,
    /// Statistics, examples, bounds and graphs.
    pub store: Arc<Store>,
    /// Fingerprints of datasets.
    pub fingerprints: Fingerprints,
    pub(crate) graph_indexes: GraphIndexes,
}

impl Resources {
    /// Combines models and store, with indexes of graphs that take at most `index_bytes` bytes.
    pub fn new(registry: Arc<Registry>, store: Arc<Store>, index_bytes: u64) -> Self {
        let (fingerprints, graph_indexes) = (Fingerprints::default(), GraphIndexes::of_bytes(index_bytes));
        Self { registry, store, fingerprints, graph_indexes }
    }

    /// Returns rows of the store's table `graphs` of some neurons of a layer, or all, that were made of this version of
    /// the model, by neuron and method.
    ///
    /// # Errors
    /// An error of the store.
    pub async fn graphs(&self, model: &Model, layer: u32, neurons: Option<&[u32]>) -> Result<RecordBatch> {
        self.store.graphs(model.name(), &model.version(), layer, neurons).await.map_err(sql_error)
    }

    /// Returns the same rows of all neurons, without the graphs themselves.
    ///
    /// # Errors
    /// An error of the store.
    pub async fn graph_scores(&self, model: &Model, layer: u32) -> Result<RecordBatch> {
        self.store.graph_scores(model.name(), &model.version(), layer).await.map_err(sql_error)
    }
}
