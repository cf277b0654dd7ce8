//! The index of an import's graphs, for searches.

use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError};

use datafusion::error::Result;
use neuroql_formats::{Item, LayerSelection, NeuronGraph, Place, Request, Row, Table};
use neuroql_graph::Graph;
use neuroql_graph::search::MemoryIndex;

use super::Import;
use crate::Error;

/// Tokens of graphs, which have ordinals by layer and neuron.
#[derive(Debug)]
pub(crate) struct ImportIndex {
    /// Version of the files that it was made of.
    version: neuroql_formats::Version,
    /// Layer and neuron of each graph, ascending.
    pub places: Vec<(u32, u32)>,
    /// Their tokens.
    pub tokens: MemoryIndex,
}

impl Import {
    /// Returns the index of its graphs, which is made anew if the files have changed. Reads files, so it blocks.
    ///
    /// # Errors
    /// Returns an error if the files cannot be read.
    pub fn index(&self) -> Result<Arc<ImportIndex>> {
        let version = self.source.version().map_err(Error::from)?;
        let mut known = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = known.as_ref().filter(|index| index.version == version) {
            return Ok(Arc::clone(index));
        }
        let layers = self.source.layers().map_err(Error::from)?;
        let mut parts = Vec::new();
        let mut places = Vec::new();
        for layer in layers {
            let mut graphs: Vec<(Graph, f32)> = Vec::new();
            self.graphs(vec![LayerSelection { layer, neurons: None }], &mut |place, graph, f1| {
                places.push((place.layer, place.neuron));
                graphs.push((graph, f1.unwrap_or(f32::NAN)));
            })?;
            if !graphs.is_empty() {
                parts.push(MemoryIndex::new(graphs));
            }
        }
        let index = Arc::new(ImportIndex { version, places, tokens: MemoryIndex::concat(&parts) });
        *known = Some(Arc::clone(&index));
        Ok(index)
    }

    /// Passes on one graph of each neuron, in the order of layers and neurons.
    pub fn graphs(
        &self,
        selection: Vec<LayerSelection>,
        each: &mut dyn FnMut(Place, Graph, Option<f32>),
    ) -> Result<()> {
        let mut last = None;
        let mut sink = |item| {
            if let Item::Row(Row::Graph(NeuronGraph { place, graph: Some(mut graph), scores, method, .. })) = item
                && last.is_none_or(|last| last < place)
            {
                last = Some(place);
                if let Some(vocabulary) = &self.vocabulary {
                    vocabulary.bind(&mut graph, method);
                }
                each(place, graph, scores.f1);
            }
            ControlFlow::Continue(())
        };
        let request = Request { table: Table::Graphs, selection, columns: &["graph", "f1"] };
        Ok(self.source.scan(&request, &mut sink).map_err(Error::from)?)
    }

    /// Returns true if it has graphs.
    pub fn has_graphs(&self) -> bool {
        self.source.tables().contains(&Table::Graphs)
    }
}
