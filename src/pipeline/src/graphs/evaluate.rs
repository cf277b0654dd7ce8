//! Judges graphs of the store on text of any dataset.
//!
//! On the dataset that a graph was made of, or one with the same documents, it is judged by the examples that it was
//! not made of, if they are known; on another, by all strongest examples of the neuron. Random text is judged beside
//! them. Activations are measured by the neuron's greatest on the dataset that the graph was made of.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::{Float32Type, Int32Type};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use futures::future::try_join_all;
use neuroql_graph::{Matcher, Semantics};
use neuroql_model::{Model, Placement};
use neuroql_n2g::{BackgroundActivation, Method, PopulationScores, Sample, Scores, population_scores, score};
use neuroql_schema::{GraphColumn, sql_error};

use super::corpora::Corpora;
use super::corpus::{Corpus, NeuronExamples, NeuronReader};
use super::provenance::{Provenance, SearchScope};
use crate::Error;
use crate::bounds::Selection;
use crate::consumer::Consumer;
use crate::resources::Resources;
use crate::source::Origin;

/// Reasons why the dataset that a graph was made of cannot judge it.
const CHANGED: &str = "the dataset is not what it was when the graph was made";
const GONE: &str = "the analysis that the graph's examples are from is not there any more";
const UNKNOWN: &str = "nothing says which examples of the dataset the graph was made of";

/// An evaluation to be run.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// The store that has the graphs, and the threads that the model runs on.
    pub resources: Arc<Resources>,
    /// The model.
    pub model: Arc<Model>,
    /// Name under which the store keeps the dataset.
    pub dataset: String,
    /// The documents of the dataset.
    pub origin: Origin,
    /// The neurons, by layer; `None` stands for all of a layer.
    pub selection: Selection,
    /// Lists of methods; that of a graph must be in each of them.
    pub methods: Vec<Vec<String>>,
    /// Number of examples of a neuron.
    pub examples: usize,
    /// Number of tokens searched for them if the dataset was not analysed.
    pub tokens: usize,
    /// Share of a neuron's greatest activation from which it fires.
    pub threshold: f32,
}

/// Result of judging a graph.
#[derive(Debug)]
pub struct EvaluatedGraph {
    /// The layer of its neuron.
    pub layer: u32,
    /// The neuron.
    pub neuron: u32,
    /// The method that made the graph.
    pub method: String,
    /// Its scores, or the reason why there are none.
    pub scores: Result<GraphScores, &'static str>,
}

/// Scores of a graph.
#[derive(Debug)]
pub struct GraphScores {
    /// Scores on examples of the neuron and on random text.
    pub sampled: Scores,
    /// Scores over the dataset as it is, as far as they can be estimated.
    pub population: Option<PopulationScores>,
}

/// A graph of the store.
struct StoredGraph {
    neuron: u32,
    method: String,
    matcher: Matcher,
    greatest: f32,
    made_of: GraphOrigin,
}

/// The text that a graph was made of.
#[derive(Debug, Clone, PartialEq)]
enum GraphOrigin {
    /// Text of other datasets than the one that it is judged by.
    Others,
    /// This text of the dataset.
    Own(Provenance),
    /// Unknown text of the dataset.
    Unknown,
}

impl Evaluation {
    /// Judges the graphs and hands them over as they come, those of a layer together, until no more are wanted.
    ///
    /// # Errors
    /// Errors of the model, of the store and of reading documents, and if memory is short.
    pub async fn run(&self, context: &Arc<TaskContext>, evaluated: &impl Consumer<Vec<EvaluatedGraph>>) -> Result<()> {
        let corpora = Corpora::new(&self.resources, &self.model, &self.origin, context);
        let sha256 = corpora.sha256().await?;
        for (layer, neurons) in &self.selection {
            let layer = *layer as u32;
            let graphs = self.stored(layer, neurons.as_deref(), &sha256).await?;
            if graphs.is_empty() {
                continue;
            }
            let best = (self.examples, corpora.best(layer, self.tokens).await?);
            let (groups, mut hopeless) = grouped(layer, graphs, best, &sha256);
            for ((examples, searched), mut graphs) in groups {
                let Some(corpus) = corpora.of_layer(layer, searched).await? else {
                    hopeless.extend(graphs.into_iter().map(|graph| graph.evaluated(layer, Err(GONE))));
                    continue;
                };
                let together = corpus.most_neurons(examples);
                while !graphs.is_empty() {
                    let rest = graphs.split_off(together.min(graphs.len()));
                    let judged = self.judge(&corpus, layer, examples, std::mem::replace(&mut graphs, rest)).await?;
                    if !evaluated.take(judged).await? {
                        return Ok(());
                    }
                }
            }
            if !hopeless.is_empty() && !evaluated.take(hopeless).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Returns the store's graphs of some neurons of a layer, without those that have none.
    async fn stored(&self, layer: u32, neurons: Option<&[u32]>, sha256: &str) -> Result<Vec<StoredGraph>> {
        let rows = self.resources.graphs(&self.model, layer, neurons).await?;
        let column = |name| rows.column_by_name(name).ok_or_else(|| Error::Internal(format!("no column {name}")));
        let neuron = column("neuron")?.as_primitive::<Int32Type>();
        let (method, dataset) = (column("method")?.as_string::<i32>(), column("dataset")?.as_string::<i32>());
        let options = column("options")?.as_string::<i32>();
        let greatest = column("max_activation")?.as_primitive::<Float32Type>();
        let graphs = GraphColumn::try_new(column("graph")?)?;
        let mut found = Vec::new();
        for i in 0..rows.num_rows() {
            let number = neuron.value(i) as u32;
            let asked = neurons.is_none_or(|neurons| neurons.binary_search(&number).is_ok())
                && self.methods.iter().all(|methods| methods.iter().any(|asked| asked == method.value(i)));
            if !asked || graphs.is_null(i) {
                continue;
            }
            let semantics = method.value(i).parse::<Method>().map_or(Semantics::Longest, Method::semantics);
            let matcher = Matcher::new(graphs.view(i).map_err(sql_error)?, semantics).map_err(sql_error)?;
            let greatest = if greatest.is_valid(i) { greatest.value(i) } else { f32::NAN };
            let own = dataset.is_valid(i) && dataset.value(i) == self.dataset;
            let text = Provenance::of_options(if options.is_valid(i) { options.value(i) } else { "" });
            let made_of = match text {
                // A dataset of another name with the same documents is the same.
                Some(text) if own || text.is_of(sha256) => GraphOrigin::Own(text),
                None if own => GraphOrigin::Unknown,
                _ => GraphOrigin::Others,
            };
            found.push(StoredGraph { neuron: number, method: method.value(i).to_owned(), matcher, greatest, made_of });
        }
        Ok(found)
    }

    /// Returns the scores of graphs of a layer, judged by `examples` examples.
    async fn judge(
        &self,
        corpus: &Corpus,
        layer: u32,
        examples: usize,
        graphs: Vec<StoredGraph>,
    ) -> Result<Vec<EvaluatedGraph>> {
        // The least measure of each neuron's activations.
        let mut neurons: BTreeMap<u32, f32> = BTreeMap::new();
        for graph in &graphs {
            let measure = if graph.greatest > 0.0 { graph.greatest } else { f32::INFINITY };
            let least = neurons.entry(graph.neuron).or_insert(f32::INFINITY);
            *least = least.min(measure);
        }
        let (neurons, measures) = neurons.into_iter().unzip();
        let reader = NeuronReader {
            resources: Arc::clone(&self.resources),
            model: Arc::clone(&self.model),
            layer,
            neurons,
            measures: Some(measures),
        };
        let gathered = Arc::new(corpus.gather(&reader, &self.dataset, examples).await?);
        let (pool, threshold) = (self.resources.registry.pool(), self.threshold);
        let scores = graphs.into_iter().map(|graph| {
            // The neuron of each graph is among those that were read.
            let number = reader.neurons.partition_point(|neuron| *neuron < graph.neuron);
            let gathered = Arc::clone(&gathered);
            pool.run(Placement::OneThread, move || {
                let scores = graph.score(&gathered, number, threshold);
                Ok(graph.evaluated(layer, Ok(scores)))
            })
        });
        try_join_all(scores).await.map_err(sql_error)
    }
}

/// Graphs by the number of examples, and the text, that judge them.
type Groups = BTreeMap<(usize, SearchScope), Vec<StoredGraph>>;

/// Groups graphs by the number of examples and the text to search for them: `best` for graphs of another dataset, as
/// many of the same text as then for graphs of this one, so that the split is the same. Also returns the graphs that
/// cannot be judged.
fn grouped(
    layer: u32,
    graphs: Vec<StoredGraph>,
    best: (usize, SearchScope),
    sha256: &str,
) -> (Groups, Vec<EvaluatedGraph>) {
    let (mut groups, mut hopeless) = (Groups::new(), Vec::new());
    for graph in graphs {
        match &graph.made_of {
            GraphOrigin::Others => groups.entry(best).or_default().push(graph),
            GraphOrigin::Own(text) if text.is_of(sha256) => {
                groups.entry((text.examples, text.searched)).or_default().push(graph);
            }
            GraphOrigin::Own(_) => hopeless.push(graph.evaluated(layer, Err(CHANGED))),
            GraphOrigin::Unknown => hopeless.push(graph.evaluated(layer, Err(UNKNOWN))),
        }
    }
    (groups, hopeless)
}

impl StoredGraph {
    /// Returns the graph with its scores, or with the reason why it has none.
    fn evaluated(self, layer: u32, scores: Result<GraphScores, &'static str>) -> EvaluatedGraph {
        EvaluatedGraph { layer, neuron: self.neuron, method: self.method, scores }
    }

    /// Scores the graph by the activations of its neuron, which is the one gathered under `number`.
    fn score(&self, examples: &NeuronExamples, number: usize, threshold: f32) -> GraphScores {
        let task = &examples.tasks[number];
        // The measure of activations differs between the datasets.
        let scale = if self.greatest > 0.0 { task.max_activation / self.greatest } else { 1.0 };
        let own = self.made_of != GraphOrigin::Others;
        let unseen: Vec<Sample> = match own {
            true => task.held_out.iter().map(|sample| sample.scaled(scale)).collect(),
            false => task.train.iter().chain(&task.held_out).map(|sample| sample.scaled(scale)).collect(),
        };
        let fired: Vec<BackgroundActivation> = examples.fired[number].iter().map(|fired| fired.scaled(scale)).collect();
        let seen: HashSet<i64> = match own {
            true => task.train.iter().map(|sample| sample.document).collect(),
            false => HashSet::new(),
        };
        let background = &examples.background;
        let population = examples.populations[number].as_ref();
        let population = population.and_then(|population| {
            population_scores(&self.matcher, &unseen, background, &fired, &seen, threshold, population)
        });
        GraphScores { sampled: score(&self.matcher, &unseen, background, &fired, &seen, threshold), population }
    }
}
