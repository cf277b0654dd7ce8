//! The text that graphs of layers are made of: what an analysis has seen, or the first documents of a dataset.

use neuroql_schema::sql_error;
use std::collections::HashMap;
use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use neuroql_model::Model;
use neuroql_store::{Context, Progress, holds_for};
use tokio::sync::Mutex;

use super::corpus::Corpus;
use super::text::Searched;
use super::windows::{Windows, pieces};
use crate::Error;
use crate::activations::{Documents, Examples, Origin, Producer};
use crate::holdings::Holdings;
use crate::predicate::Predicate;

/// The text of layers, opened when it is first asked for.
pub(crate) struct Corpora<'a> {
    holdings: &'a Holdings,
    model: &'a Arc<Model>,
    origin: &'a Origin,
    context: &'a Arc<TaskContext>,
    opened: Mutex<HashMap<Searched, Arc<Corpus>>>,
}

impl<'a> Corpora<'a> {
    /// Of layers of a model over a dataset.
    pub fn new(
        holdings: &'a Holdings,
        model: &'a Arc<Model>,
        origin: &'a Origin,
        context: &'a Arc<TaskContext>,
    ) -> Self {
        Self { holdings, model, origin, context, opened: Mutex::default() }
    }

    /// The SHA-256 of the documents.
    pub async fn sha256(&self) -> Result<String> {
        let fingerprint = self.holdings.fingerprints.of(self.origin, Arc::clone(self.context)).await?;
        let missing = || Error::Internal("graphs are made of a dataset, and it has no hash".into());
        Ok(fingerprint.ok_or_else(missing)?.sha256.clone())
    }

    /// Where examples of a layer are best looked for: if an analysis has seen the whole dataset as it is, in that, else
    /// in so many tokens.
    pub async fn best(&self, layer: u32, tokens: usize) -> Result<Searched> {
        Ok(self.windows(layer).await?.map_or(Searched::Tokens(tokens), |_| Searched::Analysis))
    }

    /// The text of a layer; `None` if it is that of an analysis and there is none.
    pub async fn of_layer(&self, layer: u32, searched: Searched) -> Result<Option<Arc<Corpus>>> {
        let mut opened = self.opened.lock().await;
        let held = MemoryConsumer::new("text of graphs").register(self.context.memory_pool());
        let corpus = match searched {
            Searched::Analysis => {
                let Some(windows) = self.windows(layer).await? else { return Ok(None) };
                // Analyses of one dataset by one model have seen the same windows, whatever the layer.
                if let Some(corpus) = opened.get(&searched) {
                    return Ok(Some(Arc::clone(corpus)));
                }
                let (examples, windows) = Windows::cut(windows, self.model.window());
                // The store holds what it has anyway.
                if !windows.are_examples() {
                    held.try_grow(bytes(&examples))?;
                }
                Corpus::new(examples, Some(windows), held, self.context)
            }
            Searched::Tokens(tokens) => {
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

    /// The windows of an analysis that has seen the whole dataset as it is.
    async fn windows(&self, layer: u32) -> Result<Option<Arc<Vec<Context>>>> {
        let Self { holdings, model, origin, context, .. } = self;
        let Origin::Dataset { name, .. } = origin else { return Ok(None) };
        let progress = holdings.store.progress(model.name(), name, layer).await.map_err(sql_error)?;
        let current = |progress: &Progress| progress.complete && holds_for(&progress.model_version, &model.version());
        let Some(progress) = progress.filter(current) else { return Ok(None) };
        let fingerprint = holdings.fingerprints.of(origin, Arc::clone(context)).await?;
        if fingerprint.is_none_or(|fingerprint| fingerprint.sha256 != progress.documents_sha256) {
            return Ok(None);
        }
        holdings.store.contexts(model.name(), name, &progress).await.map_err(sql_error)
    }
}

fn bytes(examples: &[Context]) -> usize {
    examples.iter().map(|example| size_of::<Context>() + 4 * example.tokens.len()).sum()
}

/// Reads documents until there are so many tokens.
async fn read_examples(
    model: &Arc<Model>,
    origin: &Origin,
    tokens: usize,
    held: &MemoryReservation,
    context: &Arc<TaskContext>,
) -> Result<Vec<Context>> {
    let everything = Predicate::new(Vec::new());
    let documents = Documents::new(origin, everything.clone(), Arc::clone(context))?;
    let mut producer =
        Producer::new(Arc::clone(model), Examples::Of(Box::new(documents)), everything, tokens.min(4096));
    let mut examples = Vec::new();
    let mut read = 0;
    while read < tokens {
        let Some(packed) = producer.next().await? else { break };
        for rows in packed.examples {
            read += rows.tokens.len();
            let first = examples.len();
            examples.extend(pieces(rows.document.number, rows.example, &rows.tokens, model.window()));
            held.try_grow(bytes(&examples[first..]))?;
        }
    }
    Ok(examples)
}
