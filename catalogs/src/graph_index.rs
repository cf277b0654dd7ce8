//! The graphs that stand for the neurons of a model, made ready to be searched and compared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{Float32Type, Int32Type};
use datafusion::error::{DataFusionError, Result};
use moka::future::Cache;
use neuroql_graph::search::{Index, MemoryIndex, normalize};
use neuroql_graph::{Graph, PatternIndex, PatternIndexBuilder, Signature};
use neuroql_model::Model;
use neuroql_udfs::graphs::layout::GraphColumn;

use crate::Error;
use crate::error::graph_error;
use crate::holdings::{Holdings, store_error};
use crate::neurons::chosen;

/// Bytes of indexes kept at hand.
const CACHE_BYTES: u64 = 2 << 30;

/// An index of one model. Graphs have ordinals, by layer and neuron.
#[derive(Debug)]
pub(crate) struct GraphIndex {
    /// Layer and neuron of each graph, ascending.
    pub places: Vec<(u32, u32)>,
    /// Their tokens.
    pub tokens: MemoryIndex,
    /// Their patterns; keys are ordinals.
    pub patterns: PatternIndex,
    /// Layers and neurons that have other graphs beside, by other methods.
    several: BTreeSet<(u32, u32)>,
}

impl GraphIndex {
    /// The neurons of a layer that may have a graph, by whatever method, with one of these tokens: all that have.
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

    fn bytes(&self) -> usize {
        8 * self.places.capacity() + self.tokens.bytes() + self.patterns.bytes()
    }

    /// Of rows of `graphs`, layer by layer.
    fn new(layers: &[(u32, RecordBatch)]) -> Result<Self> {
        let mut places = Vec::new();
        let mut patterns = PatternIndexBuilder::default();
        let mut failed = None;
        let mut several = BTreeSet::new();
        for (layer, rows) in layers {
            let neurons = rows["neuron"].as_primitive::<Int32Type>().values();
            // Rows are in order of neurons.
            let same = neurons.windows(2).filter(|pair| pair[0] == pair[1]);
            several.extend(same.map(|pair| (*layer, pair[0] as u32)));
        }
        let graphs = layers.iter().flat_map(|(layer, rows)| standing(*layer, rows)).map_while(|found| {
            let (place, graph, f1) = found.map_err(|error| failed = Some(error)).ok()?;
            patterns.push(places.len() as u64, &Signature::of(&graph));
            places.push(place);
            Some((graph, f1))
        });
        let tokens = MemoryIndex::new(graphs);
        match failed {
            Some(error) => Err(error),
            None => Ok(Self { places, tokens, patterns: patterns.build().map_err(graph_error)?, several }),
        }
    }
}

/// Place, graph and F1 of each neuron's graph.
type Standing = ((u32, u32), Graph, f32);

/// The graphs of a layer that stand for their neurons; whatever could not be made is not among them.
fn standing(layer: u32, rows: &RecordBatch) -> impl Iterator<Item = Result<Standing>> + '_ {
    let column = GraphColumn::try_new(&rows["graph"]);
    let f1 = rows["f1"].as_primitive::<Float32Type>();
    let chosen: BTreeMap<i32, usize> = chosen(rows);
    chosen.into_iter().filter_map(move |(neuron, row)| {
        let graph = match &column {
            Ok(column) => column.graph(row).map_err(graph_error).transpose()?,
            Err(error) => Err(Error::Internal(format!("the store's graphs are no graphs: {error}")).into()),
        };
        let f1 = if f1.is_valid(row) { f1.value(row) } else { f32::NAN };
        Some(graph.map(|graph| ((layer, neuron as u32), graph, f1)))
    })
}

/// Name and version of a model, and version of the store's graphs.
type Key = (String, String, Option<u64>);

/// Indexes of models, made when they are first asked for and whenever graphs have changed.
#[derive(Debug)]
pub(crate) struct GraphIndexes(Cache<Key, Arc<GraphIndex>>);

impl Default for GraphIndexes {
    fn default() -> Self {
        let weigh = |_: &Key, index: &Arc<GraphIndex>| u32::try_from(index.bytes()).unwrap_or(u32::MAX);
        Self(Cache::builder().max_capacity(CACHE_BYTES).weigher(weigh).build())
    }
}

impl Holdings {
    /// The index of a model's graphs.
    pub(crate) async fn graph_index(&self, model: &Model) -> Result<Arc<GraphIndex>> {
        let version = self.store.graphs_version().await.map_err(store_error)?;
        let key = (model.name().to_owned(), model.version(), version);
        let make = async {
            let mut layers = Vec::new();
            for layer in 0..model.config().layers as u32 {
                layers.push((layer, self.graphs(model, layer).await?));
            }
            let made = tokio::task::spawn_blocking(move || GraphIndex::new(&layers)).await;
            let index = made.map_err(|e| Error::Internal(format!("the index of graphs was lost: {e}")))??;
            Ok(Arc::new(index))
        };
        // An error is shared by all who wait for it, but not kept.
        self.graph_indexes.0.try_get_with(key, make).await.map_err(DataFusionError::Shared)
    }

    /// The graph that stands for a neuron; `None` if there is none.
    pub(crate) async fn graph(&self, model: &Model, layer: u32, neuron: u32) -> Result<Option<Graph>> {
        let rows = self.graphs(model, layer).await?;
        let Some(row) = chosen(&rows).get(&(neuron as i32)).copied() else { return Ok(None) };
        // Only this row's nodes are cast, not those of the layer.
        let graph = take(&rows["graph"], &UInt32Array::from(vec![row as u32]), None)?;
        GraphColumn::try_new(&graph)?.graph(0).map_err(graph_error)
    }
}
