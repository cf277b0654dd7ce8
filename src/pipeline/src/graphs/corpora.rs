//! The text that graphs of layers are made of: all that an analysis has seen, or the first documents of a dataset.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use neuroql_model::Model;
use neuroql_schema::sql_error;
use neuroql_store::StoredExample;
use tokio::sync::Mutex;

use super::corpus::Corpus;
use super::provenance::SearchScope;
use super::windows::{Windows, pieces};
use crate::Error;
use crate::batcher::Batcher;
use crate::documents::Documents;
use crate::freshness::Freshness;
use crate::resources::Resources;
use crate::source::Origin;

/// The text of layers, opened when it is first read.
pub struct Corpora<'a> {
    resources: &'a Resources,
    model: &'a Arc<Model>,
    origin: &'a Origin,
    context: &'a Arc<TaskContext>,
    opened: Mutex<HashMap<SearchScope, Arc<Corpus>>>,
}

impl<'a> Corpora<'a> {
    /// Creates the text of layers of a model over a dataset.
    pub fn new(
        resources: &'a Resources,
        model: &'a Arc<Model>,
        origin: &'a Origin,
        context: &'a Arc<TaskContext>,
    ) -> Self {
        Self { resources, model, origin, context, opened: Mutex::default() }
    }

    /// Returns the SHA-256 of the documents.
    ///
    /// # Errors
    /// Errors of reading the documents.
    pub async fn sha256(&self) -> Result<String> {
        let fingerprint = self.resources.fingerprints.of(self.origin, self.context).await?;
        let missing = || Error::Internal("graphs are made of a dataset, and it has no hash".into());
        Ok(fingerprint.ok_or_else(missing)?.sha256.clone())
    }

    /// Returns the best text to search for examples of a layer: if an analysis has seen the whole dataset as it is, all
    /// of that, else `tokens` tokens.
    ///
    /// # Errors
    /// Errors of the store and of reading documents.
    pub async fn best(&self, layer: u32, tokens: usize) -> Result<SearchScope> {
        Ok(self.windows(layer).await?.map_or(SearchScope::Tokens(tokens), |_| SearchScope::Analysis))
    }

    /// Returns the text of a layer; `None` if it is that of an analysis and there is no analysis.
    ///
    /// # Errors
    /// Errors of the store and of reading documents, and if memory is short.
    pub async fn of_layer(&self, layer: u32, searched: SearchScope) -> Result<Option<Arc<Corpus>>> {
        let mut opened = self.opened.lock().await;
        let held = MemoryConsumer::new("text of graphs").register(self.context.memory_pool());
        let corpus = match searched {
            SearchScope::Analysis => {
                let Some(windows) = self.windows(layer).await? else { return Ok(None) };
                // Analyses of one dataset by one model have seen the same windows, whatever the layer.
                if let Some(corpus) = opened.get(&searched) {
                    return Ok(Some(Arc::clone(corpus)));
                }
                let (examples, windows) = Windows::cut(windows, self.model.window());
                // The store holds its own windows anyway.
                if !windows.are_examples() {
                    held.try_grow(bytes(&examples))?;
                }
                Corpus::new(examples, Some(windows), held, self.context)
            }
            SearchScope::Tokens(tokens) => {
                if let Some(corpus) = opened.get(&searched) {
                    return Ok(Some(Arc::clone(corpus)));
                }
                let examples = read_examples(self.model, self.origin, tokens, &held, self.context).await?;
                Corpus::new(Arc::new(examples), None, held, self.context)
            }
        };
        let corpus = Arc::new(corpus);
        opened.insert(searched, Arc::clone(&corpus));
        Ok(Some(corpus))
    }

    /// Returns the windows of an analysis that has seen the whole dataset as it is.
    async fn windows(&self, layer: u32) -> Result<Option<Arc<Vec<StoredExample>>>> {
        let Self { resources, model, origin, context, .. } = self;
        let Some(name) = origin.dataset().map(|dataset| dataset.name()) else { return Ok(None) };
        let freshness = Freshness::of(model);
        let progress = resources.store.progress(model.name(), name, layer).await.map_err(sql_error)?;
        let Some(progress) = progress.filter(|progress| freshness.is_complete(progress)) else { return Ok(None) };
        let fingerprint = resources.fingerprints.of(origin, context).await?;
        if fingerprint.is_none_or(|fingerprint| !freshness.is_current(&progress, &fingerprint.sha256)) {
            return Ok(None);
        }
        resources.store.contexts(model.name(), name, &progress).await.map_err(sql_error)
    }
}

fn bytes(examples: &[StoredExample]) -> usize {
    examples.iter().map(|example| size_of::<StoredExample>() + 4 * example.tokens.len()).sum()
}

/// Reads documents until there are `tokens` tokens.
async fn read_examples(
    model: &Arc<Model>,
    origin: &Origin,
    tokens: usize,
    held: &MemoryReservation,
    context: &Arc<TaskContext>,
) -> Result<Vec<StoredExample>> {
    let documents = Documents::all(origin, context)?;
    let mut batcher = Batcher::of_documents(model, documents, tokens.min(4096));
    let mut examples = Vec::new();
    let mut read = 0;
    while read < tokens {
        let Some(packed) = batcher.next().await? else { break };
        for rows in packed.examples {
            read += rows.tokens.len();
            let first = examples.len();
            examples.extend(pieces(rows.document.number, rows.example, &rows.tokens, model.window()));
            held.try_grow(bytes(&examples[first..]))?;
        }
    }
    Ok(examples)
}
