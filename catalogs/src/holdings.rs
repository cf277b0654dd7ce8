//! What all tables share: the models, and what is kept of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::{DataFusionError, Result};
use neuroql_model::{Model, Registry};
use neuroql_store::Store;

use crate::Error;
use crate::fingerprint::Fingerprints;
use crate::graph_index::GraphIndexes;

/// Models and the store of results about them.
#[derive(Debug)]
pub struct Holdings {
    /// The models that are loaded.
    pub registry: Arc<Registry>,
    /// Registrations, statistics, examples, bounds and graphs.
    pub store: Arc<Store>,
    pub(crate) fingerprints: Fingerprints,
    pub(crate) graph_indexes: GraphIndexes,
    /// Writes that a statement has begun and could not wait for.
    pending: Mutex<Vec<SpawnedTask<neuroql_store::Result<()>>>>,
}

impl Holdings {
    /// Puts models and store together.
    pub fn new(registry: Arc<Registry>, store: Arc<Store>) -> Self {
        Self {
            registry,
            store,
            fingerprints: Fingerprints::default(),
            graph_indexes: GraphIndexes::default(),
            pending: Mutex::default(),
        }
    }

    /// Forgets the registration of a model, in the background: DataFusion drops tables without awaiting anything.
    pub(crate) fn forget(&self, model: &str) {
        let (store, model) = (Arc::clone(&self.store), model.to_owned());
        let Ok(_) = tokio::runtime::Handle::try_current() else {
            tracing::warn!(model, "dropped outside a runtime: the store still remembers it");
            return;
        };
        let task = SpawnedTask::spawn(async move { store.forget(&model).await });
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }

    /// Waits for what statements have left to do in the background.
    ///
    /// # Errors
    /// What the store says of it.
    pub async fn settle(&self) -> Result<()> {
        let pending = std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        for task in pending {
            let done = task.await.map_err(|e| Error::Internal(format!("a write was lost: {e}")))?;
            done.map_err(store_error)?;
        }
        Ok(())
    }

    /// Of each dataset over which layers of this very model were analysed, these layers.
    pub(crate) async fn analysed(&self, model: &Model) -> Result<BTreeMap<String, Vec<u32>>> {
        let version = model.version();
        let mut datasets: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for analysed in self.store.analysed().await.map_err(store_error)?.iter() {
            if analysed.model == model.name() && analysed.progress.model_version == version {
                datasets.entry(analysed.dataset.clone()).or_default().push(analysed.layer);
            }
        }
        Ok(datasets)
    }
}

impl Holdings {
    /// Rows of the store's table `graphs` of a layer that were made of this very model, by neuron and method.
    pub(crate) async fn graphs(&self, model: &Model, layer: u32) -> Result<RecordBatch> {
        self.store.graphs(model.name(), &model.version(), layer).await.map_err(store_error)
    }

    /// The same without the graphs themselves.
    pub(crate) async fn graph_scores(&self, model: &Model, layer: u32) -> Result<RecordBatch> {
        self.store.graph_scores(model.name(), &model.version(), layer).await.map_err(store_error)
    }
}

/// Wraps an error of the store room; the front end finds it again by its type.
pub(crate) fn store_error(error: neuroql_store::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
