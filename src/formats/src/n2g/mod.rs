//! Folders of Neuron2Graph's results.
//!
//! | written by | graphs | scores |
//! |---|---|---|
//! | the original notebooks | `neuron_graphs/{model}/{folder}/{layer}_{neuron}/graph`, in Graphviz's language | `stats.json` in the same folder |
//! | the fork | `output/{model}/graphs/{layer}_{neuron}`, in Graphviz's language | `output/{model}/stats.json` |
//! | the Rust port | `{layer}_{neuron}` with `.json`, `.bin` or no ending in a folder, or a file of the graphs of one layer | beside it, if at all |
//!
//! A location is any folder on the way, as long as the graphs of one model are below it; those of the original may be in
//! several folders, such as one for each layer. Models of the Rust port have token ids
//! only, so they need a vocabulary. Thresholds of colours are Neuron2Graph's own.

mod layout;
mod stats;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use layout::{Kind, Layout};
use neuroql_graph::{Graph, Symbol};
use stats::{Stats, StatsFile};
pub use write::{Added, File, GRAPHS, Writer};

use crate::files::{self, pass_on};
use crate::graphs::{dot, n2g_rs};
use crate::source::{LayerSelection, parse_place};
use crate::{
    Description, Error, Item, MOST_LAYERS, MOST_NEURONS, Neuron, NeuronGraph, Place, Reject, Request, Result, Row,
    Scores, Sink, Source, Table, Version,
};

const FORMAT: &str = "a folder of Neuron2Graph's results";
const LIST: &str = "a list of graphs of the Rust port of Neuron2Graph";

/// Greatest size of a file of many graphs, in bytes.
const MOST_LIST_BYTES: u64 = 512 << 20;

/// Number of neurons up to which their files are opened by name, without listing the folder.
const BY_NAME: usize = 1024;

/// Texts of token ids.
pub type Vocabulary = Arc<dyn Fn(u32) -> Option<Arc<str>> + Send + Sync>;

/// Results for one model.
pub struct N2g {
    /// Folders of graphs; the original may have one for each layer.
    parts: Vec<Part>,
    description: Description,
    vocabulary: Option<Vocabulary>,
}

/// A folder of graphs.
#[derive(Debug)]
struct Part {
    layout: Layout,
    stats: Option<StatsFile>,
}

/// A graph and its method, if there is a file of it, or why it cannot be read.
type Read = Result<Option<(Graph, &'static str)>, String>;

/// The files that a part has of a neuron.
struct Found {
    path: PathBuf,
    graph: Read,
    /// Scores, or why they cannot be read.
    scores: Result<Scores, String>,
}

impl std::fmt::Debug for N2g {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("N2g").field("parts", &self.parts).finish_non_exhaustive()
    }
}

impl N2g {
    /// Opens a folder, or a file of the Rust port, whose graphs are of `layer`, by default 0.
    ///
    /// # Errors
    /// [`Error::NotInFormat`], [`Error::Ambiguous`] if there are several sets of graphs, [`Error::InvalidOption`] if a
    /// layer is given that is in the files' names, [`Error::Io`].
    pub fn open(location: &Path, layer: Option<u32>, vocabulary: Option<Vocabulary>) -> Result<Self> {
        let layouts = Layout::find(location, layer.unwrap_or(0))?;
        let is_list = layouts.iter().any(|layout| matches!(layout.kind, Kind::List { .. }));
        if let (Some(layer), false) = (layer, is_list) {
            let reason = "the names of the files say the layers".to_owned();
            return Err(Error::InvalidOption { option: "layer", value: layer.to_string(), reason });
        }
        if layer.is_some_and(|layer| layer >= MOST_LAYERS) {
            let (value, reason) = (layer.unwrap_or(0).to_string(), format!("it must be less than {MOST_LAYERS}"));
            return Err(Error::InvalidOption { option: "layer", value, reason });
        }
        if vocabulary.is_none() && is_list {
            return Err(Error::not_in_format(location, FORMAT, NEEDS_MODEL));
        }
        let name = layouts.iter().find_map(|layout| layout.model.clone());
        let part = |layout: Layout| Part { stats: layout.stats.clone().map(StatsFile::new), layout };
        let description = Description { name, ..Description::default() };
        Ok(Self { parts: layouts.into_iter().map(part).collect(), description, vocabulary })
    }

    /// Returns a graph of the Rust port if the vocabulary has all of its tokens.
    fn known(&self, graph: Graph) -> Result<Graph, String> {
        let unknown = graph.nodes().iter().find_map(|node| match &node.symbol {
            Symbol::Token(token) => token.id.filter(|id| self.text(*id).is_none()),
            _ => None,
        });
        match unknown {
            Some(id) => Err(format!("it has token {id}, which the vocabulary of the model does not have")),
            None => Ok(graph),
        }
    }

    fn text(&self, id: u32) -> Option<Arc<str>> {
        self.vocabulary.as_ref().and_then(|vocabulary| vocabulary(id))
    }

    /// Parses the graph in a file, whose format its first bytes tell.
    fn parse(&self, bytes: &[u8]) -> Result<(Graph, &'static str), String> {
        let text = std::str::from_utf8(bytes).ok();
        let start = text.map(str::trim_start).unwrap_or_default();
        let is_drawing = ["digraph", "strict", "//", "/*"].iter().any(|word| start.starts_with(word));
        if let Some(text) = text.filter(|_| is_drawing) {
            return Ok((dot::parse(text, dot::Thresholds::default()).map_err(|e| e.to_string())?, "n2g-dot"));
        }
        let token = |id| self.text(id).unwrap_or_default();
        let graph = match text.filter(|_| start.starts_with('{')) {
            Some(text) => n2g_rs::parse_json(text, token),
            None if bytes.is_empty() => return Err("it is empty".into()),
            None => n2g_rs::parse_binary(bytes, token),
        };
        let graph = graph.map_err(|error| error.to_string())?;
        if self.vocabulary.is_none() {
            return Err(NEEDS_MODEL.into());
        }
        self.known(graph).map(|graph| (graph, "n2g-rs"))
    }

    /// Reads what a part has of a neuron; `None` if that is nothing.
    fn find(&self, part: &Part, stats: Option<&Stats>, place: Place, reads_graph: bool) -> Option<Found> {
        let scores = stats.and_then(|stats| stats.get(&place));
        let (path, graph) = if reads_graph {
            self.graph(&part.layout, place)
        } else {
            let path = part.layout.paths(place).into_iter().find(|path| path.is_file());
            if path.is_none() && scores.is_none() {
                return None;
            }
            (path.unwrap_or_default(), Ok(None))
        };
        if reads_graph && matches!(graph, Ok(None)) && scores.is_none() {
            return None;
        }
        let scores = scores.map_or(Ok(Scores::default()), |scores| scores.clone().map(Option::unwrap_or_default));
        Some(Found { path, graph, scores })
    }

    /// Reads the graph of a neuron.
    fn graph(&self, layout: &Layout, place: Place) -> (PathBuf, Read) {
        let paths = layout.paths(place);
        for path in &paths {
            match files::read(path, files::MOST_BYTES) {
                Ok(Some(bytes)) => return (path.clone(), self.parse(&bytes).map(Some)),
                Ok(None) => {}
                Err(error) => return (path.clone(), Err(error.to_string())),
            }
        }
        (paths.into_iter().next().unwrap_or_default(), Ok(None))
    }

    fn scan_list(&self, file: &Path, layer: u32, request: &Request, sink: Sink) -> Result<()> {
        let Some(of_layer) = request.selection.iter().find(|s| s.layer == layer) else { return Ok(()) };
        let bytes = files::read(file, MOST_LIST_BYTES)?.unwrap_or_default();
        let graphs = n2g_rs::parse_binary_list(&bytes, |id| self.text(id).unwrap_or_default());
        let graphs = graphs.map_err(|error| Error::not_in_format(file, LIST, error.to_string()))?;
        for (neuron, graph) in graphs.into_iter().enumerate() {
            let place = Place { layer, neuron: neuron as u32 };
            if !of_layer.has(place.neuron) {
                continue;
            }
            let reason = graph.is_none().then(|| "the file has none".to_owned());
            let graph = graph.map(|graph| self.known(graph)).transpose();
            let parsed = graph.map(|graph| {
                let graph = graph.map(|graph| (graph, "n2g-rs"));
                vec![Ok(self.row(request.table, place, graph, reason, Scores::default()))]
            });
            if pass_on(parsed, request.table, place, &file.display().to_string(), sink).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn row(
        &self,
        table: Table,
        place: Place,
        graph: Option<(Graph, &'static str)>,
        reason: Option<String>,
        scores: Scores,
    ) -> Row {
        if table == Table::Neurons {
            let nodes = graph.map(|(graph, _)| graph.nodes().len() as u32);
            return Row::Neuron(Neuron { place, nodes, scores, ..Neuron::default() });
        }
        let method = graph.as_ref().map_or("n2g-dot", |(_, method)| method);
        Row::Graph(NeuronGraph { place, graph: graph.map(|(graph, _)| graph), reason, scores, method })
    }
}

const NEEDS_MODEL: &str = "graphs of the Rust port have token ids only: name the model whose vocabulary has them by \
                           OPTIONS ('model' '…')";

impl Source for N2g {
    fn description(&self) -> &Description {
        &self.description
    }

    fn tables(&self) -> Vec<Table> {
        vec![Table::Neurons, Table::Graphs]
    }

    fn layers(&self) -> Result<Vec<u32>> {
        match self.list() {
            Some((_, layer)) => Ok(vec![layer]),
            // Files of all layers are in one folder, which is long to list.
            None => Ok((0..MOST_LAYERS).collect()),
        }
    }

    fn width(&self) -> u32 {
        MOST_NEURONS
    }

    fn version(&self) -> Result<Version> {
        let mut last = (None, 0);
        for part in &self.parts {
            let (changed, length) = files::version(&part.layout.folder)?;
            last = (last.0.max(changed), last.1 + length);
        }
        Ok(last)
    }

    fn scan(&self, request: &Request, sink: Sink) -> Result<()> {
        if !matches!(request.table, Table::Neurons | Table::Graphs) {
            return Ok(());
        }
        if let Some((file, layer)) = self.list() {
            return self.scan_list(file, layer, request, sink);
        }
        let reject = |place, path: &Path, reason| {
            Item::Reject(Reject { table: request.table, place, location: path.display().to_string(), reason })
        };
        let mut scores = Vec::new();
        let mut places: BTreeMap<Place, Vec<usize>> = BTreeMap::new();
        for (number, part) in self.parts.iter().enumerate() {
            // Neurons that could not be given a graph are in the scores only, so they are read for any columns.
            let stats = part.stats.as_ref().map(|file| (file, file.read()));
            let stats = match stats {
                Some((_, Ok(stats))) => Some(stats),
                Some((file, Err(reason))) => {
                    if sink(reject(None, file.path(), reason)).is_break() {
                        return Ok(());
                    }
                    None
                }
                None => None,
            };
            for place in part.places(&request.selection, stats.as_deref())? {
                places.entry(place).or_default().push(number);
            }
            scores.push(stats);
        }
        let reads_graph = request.table == Table::Graphs || request.reads(&["nodes"]);
        for (place, numbers) in places {
            let find = |number: usize| self.find(&self.parts[number], scores[number].as_deref(), place, reads_graph);
            let mut found = numbers.into_iter().filter_map(|number| Some((number, find(number)?)));
            let (Some((number, Found { path, graph, scores })), other) = (found.next(), found.next()) else { continue };
            let flow = match other {
                Some((_, other)) => {
                    sink(reject(Some(place), &path, format!("there is \"{}\", too", other.path.display())))
                }
                None => {
                    let parsed = graph.map(|graph| {
                        let reason = graph.is_none().then(|| "Neuron2Graph has made none".to_owned());
                        let scores = scores.as_ref().copied().unwrap_or_default();
                        vec![Ok(self.row(request.table, place, graph, reason, scores))]
                    });
                    pass_on(parsed, request.table, place, &path.display().to_string(), sink)
                }
            };
            if flow.is_break() {
                return Ok(());
            }
            if let (Err(reason), Some(file)) = (scores, &self.parts[number].stats)
                && sink(reject(Some(place), file.path(), reason)).is_break()
            {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl N2g {
    /// The file of the graphs of a layer, if that is what there is.
    fn list(&self) -> Option<(&Path, u32)> {
        self.parts.iter().find_map(|part| match part.layout.kind {
            Kind::List { layer } => Some((part.layout.folder.as_path(), layer)),
            Kind::Folders | Kind::Files => None,
        })
    }
}

impl Part {
    /// Neurons asked for of which there may be a graph or scores.
    fn places(&self, selection: &[LayerSelection], scores: Option<&Stats>) -> Result<BTreeSet<Place>> {
        let count = |s: &LayerSelection| s.neurons.as_ref().map_or(BY_NAME + 1, |neurons| neurons.len());
        if selection.iter().map(count).sum::<usize>() <= BY_NAME {
            let of_layer = |s: &LayerSelection| {
                let (layer, neurons) = (s.layer, s.neurons.clone().unwrap_or_default());
                (0..neurons.len()).map(move |i| Place { layer, neuron: neurons[i] })
            };
            return Ok(selection.iter().flat_map(of_layer).collect());
        }
        let layers: BTreeMap<u32, &LayerSelection> = selection.iter().map(|s| (s.layer, s)).collect();
        let is_asked = |place: &Place| layers.get(&place.layer).is_some_and(|s| s.has(place.neuron));
        let mut places = BTreeSet::new();
        for name in files::names(&self.layout.folder)? {
            let name = name?;
            let place = layout::stem(&name, self.layout.kind).and_then(parse_place);
            places.extend(place.filter(|place| is_asked(place)));
        }
        places.extend(scores.into_iter().flat_map(|scores| scores.keys()).filter(|place| is_asked(place)));
        Ok(places)
    }
}
