//! The index of the graphs that stand for the neurons of a model, for searches and comparisons.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::Int32Type;
use datafusion::error::{DataFusionError, Result};
use neuroql_graph::search::{Index, MemoryIndex, normalize};
use neuroql_graph::{Graph, PatternIndex, PatternIndexBuilder, Signature};
use neuroql_model::Model;
use neuroql_schema::sql_error;
use neuroql_store::{BoundedCache, IndexedGraph, IndexedLayer};

use super::preferred::preferred_graphs;
use crate::Error;
use crate::resources::Resources;

/// Default limit of the cached indexes, in bytes.
pub const INDEX_BYTES: u64 = 2 << 30;

/// The index of the graphs of a model. Graphs have ordinals, by layer and neuron.
#[derive(Debug)]
pub struct GraphIndex {
    /// Layer and neuron of each graph, ascending.
    pub places: Vec<(u32, u32)>,
    /// Their tokens.
    pub tokens: MemoryIndex,
    /// Their patterns; keys are ordinals.
    pub patterns: PatternIndex,
    /// Layers and neurons that have several graphs, by other methods.
    several: BTreeSet<(u32, u32)>,
}

impl GraphIndex {
    /// Returns the neurons of a layer that may have a graph, by whatever method, with one of these tokens: all that
    /// have such a graph, and perhaps others.
    pub fn neurons_with(&self, tokens: &[String], layer: u32) -> BTreeSet<u32> {
        let mut neurons: BTreeSet<u32> =
            self.several.range((layer, 0)..=(layer, u32::MAX)).map(|(_, neuron)| *neuron).collect();
        for token in tokens {
            let lists = self.tokens.lookup(&normalize(token));
            for list in lists.iter().filter(|list| list.text == token) {
                // Ordinals ascend, and so do layers.
                let first = list.ordinals.partition_point(|ordinal| self.places[*ordinal as usize].0 < layer);
                let places = list.ordinals[first..].iter().map(|ordinal| self.places[*ordinal as usize]);
                neurons.extend(places.take_while(|place| place.0 == layer).map(|place| place.1));
            }
        }
        neurons
    }

    /// Returns the patterns of a neuron's graph, if it has any.
    pub fn signature(&self, layer: u32, neuron: u32) -> Option<Signature> {
        self.patterns.signature(self.places.binary_search(&(layer, neuron)).ok()? as u64)
    }

    fn bytes(&self) -> usize {
        // A node of the set has several places, most of them taken.
        8 * self.places.capacity() + 16 * self.several.len() + self.tokens.bytes() + self.patterns.bytes()
    }

    /// Makes the index of layers, ascending.
    fn new(layers: Vec<(u32, IndexedLayer)>) -> Result<Self> {
        let mut places = Vec::new();
        let mut patterns = PatternIndexBuilder::default();
        let mut several = BTreeSet::new();
        let mut tokens = Vec::with_capacity(layers.len());
        for (layer, of_layer) in layers {
            for graph in &of_layer.graphs {
                patterns.push(places.len() as u64, &graph.signature);
                places.push((layer, graph.neuron));
            }
            several.extend(of_layer.graphs.iter().filter(|graph| graph.several).map(|graph| (layer, graph.neuron)));
            tokens.push(of_layer.tokens);
        }
        let patterns = patterns.build().map_err(sql_error)?;
        Ok(Self { places, tokens: MemoryIndex::concat(&tokens), patterns, several })
    }
}

/// Makes the index of a layer from rows of `graphs`.
fn index(rows: &RecordBatch) -> Result<IndexedLayer> {
    let neurons = rows["neuron"].as_primitive::<Int32Type>().values();
    // Rows are in order of neurons.
    let same = neurons.windows(2).filter(|pair| pair[0] == pair[1]);
    let several: BTreeSet<u32> = same.map(|pair| pair[0] as u32).collect();
    let mut indexed = Vec::new();
    let mut failed = None;
    let graphs = preferred_graphs(rows).map_while(|found| {
        let (neuron, graph, f1) = found.map_err(|error| failed = Some(error)).ok()?;
        let signature = Signature::of(&graph);
        indexed.push(IndexedGraph { neuron, several: several.contains(&neuron), signature });
        Some((graph, f1))
    });
    let tokens = MemoryIndex::new(graphs);
    match failed {
        Some(error) => Err(error),
        None => Ok(IndexedLayer { graphs: indexed, tokens }),
    }
}

/// Name and version of a model, and version of the store's graphs.
type IndexKey = (String, String, Option<u64>);

/// Indexes of models, made when they are first read and whenever graphs have changed.
#[derive(Debug)]
pub struct GraphIndexes(BoundedCache<IndexKey, Arc<GraphIndex>>);

impl GraphIndexes {
    /// Creates a cache of indexes with a limit of `bytes` bytes.
    pub fn of_bytes(bytes: u64) -> Self {
        Self(BoundedCache::new(bytes, |(name, version, _): &IndexKey, index: &Arc<GraphIndex>| {
            name.len() + version.len() + index.bytes()
        }))
    }
}

fn lost(error: tokio::task::JoinError) -> Error {
    Error::Internal(format!("the index of graphs was lost: {error}"))
}

impl Resources {
    /// Returns the index of a model's graphs.
    ///
    /// # Errors
    /// An error of the store.
    pub async fn graph_index(&self, model: &Model) -> Result<Arc<GraphIndex>> {
        let version = self.store.graphs_version().await.map_err(sql_error)?;
        let key = (model.name().to_owned(), model.version(), version);
        let make = async {
            let layers = self.indexed_layers(model).await?;
            let made = tokio::task::spawn_blocking(move || GraphIndex::new(layers)).await;
            Ok(Arc::new(made.map_err(lost)??))
        };
        // An error is shared by all who wait for it, but not kept.
        self.graph_indexes.0.get_or_load(key, make).await.map_err(DataFusionError::Shared)
    }

    /// Returns the layers of a model that have graphs: as they are in the store, or made, and then stored.
    async fn indexed_layers(&self, model: &Model) -> Result<Vec<(u32, IndexedLayer)>> {
        let (name, version) = (model.name(), model.version());
        let (mut layers, mut made) = (Vec::new(), Vec::new());
        for layer in 0..model.config().layers as u32 {
            let state = || self.store.graphs_state(name, &version, layer);
            let Some(before) = state().await.map_err(sql_error)? else { continue };
            // An index that is damaged is made again.
            let stored = self.store.graph_index(name, layer, &before).await;
            let stored =
                stored.inspect_err(|error| tracing::warn!(model = name, layer, %error, "index of graphs not read"));
            if let Ok(Some(stored)) = stored {
                layers.push((layer, stored));
                continue;
            }
            let rows = self.graphs(model, layer, None).await?;
            let indexed = tokio::task::spawn_blocking(move || index(&rows)).await.map_err(lost)??;
            // If graphs have changed meanwhile, it is unknown which state the index is of.
            if state().await.map_err(sql_error)?.as_ref() == Some(&before) {
                made.push((layer, before, indexed));
            } else {
                layers.push((layer, indexed));
            }
        }
        if !made.is_empty() && !self.store.is_fleeting() {
            // If it cannot be stored, nothing but time is lost.
            if let Err(error) = self.store.put_graph_index(name, &made).await {
                tracing::warn!(model = name, %error, "index of graphs not kept");
            }
        }
        layers.extend(made.into_iter().map(|(layer, _, indexed)| (layer, indexed)));
        layers.sort_by_key(|(layer, _)| *layer);
        Ok(layers)
    }

    /// Returns the graphs that stand for some neurons of a layer, of those that have one.
    ///
    /// # Errors
    /// An error of the store.
    pub async fn preferred_graphs(&self, model: &Model, layer: u32, neurons: &[u32]) -> Result<BTreeMap<u32, Graph>> {
        let rows = self.store.graphs_alone(model.name(), &model.version(), layer, neurons).await.map_err(sql_error)?;
        preferred_graphs(&rows).map(|found| found.map(|(neuron, graph, _)| (neuron, graph))).collect()
    }
}
