//! `search(model, query)`: neurons whose graphs have the tokens of a query, best first.
//!
//! The language of queries is that of [`neuroql_graph::search`]. Without a model all models are searched. Each neuron
//! is searched by the graph that stands for it, as in `neurons`. Published data that were registered are searched by
//! their name.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{Float32Array, Int32Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::LogicalPlan;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use neuroql_formats::LayerSelection;
use neuroql_graph::search::{Evidence, Index, MemoryIndex, Query, SearchResult};
use neuroql_model::Model;
use neuroql_schema::{Role, sql_error};

use crate::Error;
use crate::imports::{Import, ImportIndex};
use crate::state::EngineState;
use crate::table_functions::api::{
    Parameter, ParameterValues, RowProducer, RowSender, ScanOptions, StreamingTableFunction, TableFunction,
    streaming_plan,
};
use neuroql_pipeline::graphs::GraphIndex;

/// Rows that are sent together: few, as a pattern means that a graph is loaded.
const TOGETHER: usize = 256;

/// Layers that graphs are loaded of at the same time.
const LAYERS_AT_ONCE: usize = 8;

/// Table function `search`.
#[derive(Debug)]
pub(crate) struct Search;

impl TableFunction for Search {
    fn name(&self) -> &'static str {
        "search"
    }

    fn parameters(&self) -> Vec<Parameter> {
        // Rows name the model that they are of, and may be filtered by it.
        vec![Parameter::optional_text("model").in_column("of_model"), Parameter::required("query", DataType::Utf8)]
    }

    fn outputs(&self) -> Vec<Field> {
        fields()
    }

    fn requires(&self) -> Role {
        Role::Reader
    }

    fn plan(&self, engine: &Arc<EngineState>, values: &ParameterValues) -> Result<LogicalPlan> {
        let subjects = match values.optional_text("model") {
            Some(name) => match values.import_named(engine, name)? {
                Some(import) if !import.has_graphs() => {
                    let (function, parameter) = (self.name(), "model".to_owned());
                    let reason = format!("is \"{name}\", which has no graphs");
                    return Err(Error::InvalidParameter { function, parameter, reason }.into());
                }
                Some(import) => vec![Subject::Import(import)],
                None => vec![Subject::Model(values.model(engine)?)],
            },
            None => values.models(engine).into_iter().map(Subject::Model).collect(),
        };
        let query: Query = values.text("query")?.parse().map_err(sql_error)?;
        streaming_plan(self.name(), SearchCall { engine: Arc::clone(engine), subjects, query })
    }
}

fn fields() -> Vec<Field> {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    vec![
        field("model", DataType::Utf8),
        field("layer", DataType::Int32),
        field("neuron", DataType::Int32),
        field("role", DataType::Utf8),
        field("pattern", DataType::Utf8),
        field("activation", DataType::Float32),
        field("importance", DataType::Float32),
        field("f1", DataType::Float32),
    ]
}

/// Index of the column `pattern`.
const PATTERN: usize = 4;

/// Whose graphs are searched.
#[derive(Debug, Clone)]
enum Subject {
    Model(Arc<Model>),
    Import(Arc<Import>),
}

impl Subject {
    fn name(&self) -> &str {
        match self {
            Subject::Model(model) => model.name(),
            Subject::Import(import) => &import.name,
        }
    }
}

#[derive(Debug)]
struct SearchCall {
    engine: Arc<EngineState>,
    subjects: Vec<Subject>,
    query: Query,
}

impl StreamingTableFunction for SearchCall {
    type Producer = SearchProducer;

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(fields()))
    }

    fn producer<'a>(&'a self, _: &'a dyn Session, scan: ScanOptions<'a>) -> BoxFuture<'a, Result<SearchProducer>> {
        Box::pin(async move {
            Ok(SearchProducer {
                engine: Arc::clone(&self.engine),
                subjects: self.subjects.clone(),
                query: self.query.clone(),
                limit: scan.limit,
                patterns: scan.reads(PATTERN),
            })
        })
    }
}

/// A search to be run.
#[derive(Clone)]
struct SearchProducer {
    engine: Arc<EngineState>,
    subjects: Vec<Subject>,
    query: Query,
    limit: Option<usize>,
    /// True if the column `pattern` is read.
    patterns: bool,
}

impl fmt::Display for SearchProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let models: Vec<&str> = self.subjects.iter().map(Subject::name).collect();
        write!(f, "search models={} query={:?} patterns={}", models.join(","), self.query.to_string(), self.patterns)?;
        self.limit.map_or(Ok(()), |limit| write!(f, " limit={limit}"))
    }
}

/// A neuron that was found.
struct NeuronHit {
    subject: Subject,
    place: (u32, u32),
    /// F1 of its graph, NaN if unknown.
    f1: f32,
    found: SearchResult,
}

impl RowProducer for SearchProducer {
    fn run<'a>(&'a self, _: &'a Arc<TaskContext>, rows: &'a RowSender) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut answers = Vec::new();
            for subject in &self.subjects {
                answers.extend(match subject {
                    Subject::Model(model) => {
                        let index = self.engine.resources.graph_index(model).await?;
                        self.clone().found(subject.clone(), move || Ok(index)).await?
                    }
                    Subject::Import(import) => {
                        let import = Arc::clone(import);
                        self.clone().found(subject.clone(), move || import.index()).await?
                    }
                });
            }
            if self.subjects.len() > 1 {
                // Stable: models are in order of their names, and within each the order is right.
                answers.sort_by(|a, b| b.rank().partial_cmp(&a.rank()).unwrap_or(std::cmp::Ordering::Equal));
                answers.truncate(self.limit.unwrap_or(usize::MAX));
            }
            for answers in answers.chunks_mut(TOGETHER) {
                if self.patterns {
                    self.show(answers).await?;
                }
                if !rows.send(batch(answers)?).await {
                    break;
                }
            }
            Ok(())
        })
    }
}

impl SearchProducer {
    /// Searches the graphs of one index, on a thread that may wait for graphs.
    async fn found<I: GraphTokens>(
        self,
        subject: Subject,
        index: impl FnOnce() -> Result<Arc<I>> + Send + 'static,
    ) -> Result<Vec<NeuronHit>> {
        let runtime = tokio::runtime::Handle::current();
        let search = move || -> Result<Vec<NeuronHit>> {
            let index = index()?;
            let found = self.query.search(index.tokens(), self.limit, |ordinals| {
                let places: Vec<_> = ordinals.iter().map(|ordinal| index.places()[*ordinal as usize]).collect();
                runtime.block_on(self.evidence(&subject, &places))
            })?;
            let answer = |found: SearchResult| {
                let ordinal = found.ordinal as usize;
                let (place, f1) = (index.places()[ordinal], index.tokens().f1s()[ordinal]);
                NeuronHit { subject: subject.clone(), place, f1, found }
            };
            Ok(found.into_iter().map(answer).collect())
        };
        let found = tokio::task::spawn_blocking(search).await;
        found.map_err(lost)?
    }

    /// Returns the evidence for the query in graphs.
    async fn evidence(&self, subject: &Subject, places: &[(u32, u32)]) -> Result<Vec<Option<Evidence>>> {
        match subject {
            Subject::Model(model) => self.evidence_of_model(model, places).await,
            Subject::Import(import) => {
                let (import, query, places) = (Arc::clone(import), self.query.clone(), places.to_vec());
                tokio::task::spawn_blocking(move || evidence_of_import(&import, &query, &places)).await.map_err(lost)?
            }
        }
    }

    /// Returns the evidence for the query in graphs of a model, several layers at once.
    async fn evidence_of_model(&self, model: &Model, places: &[(u32, u32)]) -> Result<Vec<Option<Evidence>>> {
        let mut layers: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (layer, neuron) in places {
            layers.entry(*layer).or_default().push(*neuron);
        }
        let of_layer = |(layer, neurons): (u32, Vec<u32>)| async move {
            let graphs = self.engine.resources.preferred_graphs(model, layer, &neurons).await?;
            let found = graphs.iter().map(|(neuron, graph)| ((layer, *neuron), self.query.find(graph)));
            Ok::<_, DataFusionError>(found.collect::<Vec<_>>())
        };
        let found = futures::stream::iter(layers).map(of_layer).buffer_unordered(LAYERS_AT_ONCE);
        let mut found: HashMap<(u32, u32), Option<Evidence>> =
            found.try_collect::<Vec<_>>().await?.into_iter().flatten().collect();
        Ok(places.iter().map(|place| found.remove(place).flatten()).collect())
    }

    /// Finds the pattern of each answer that does not have it yet.
    async fn show(&self, answers: &mut [NeuronHit]) -> Result<()> {
        for answers in answers.chunk_by_mut(|one, other| one.subject.name() == other.subject.name()) {
            let mut unseen: Vec<_> = answers.iter_mut().filter(|answer| answer.found.hit.is_none()).collect();
            let places: Vec<_> = unseen.iter().map(|answer| answer.place).collect();
            let Some(subject) = unseen.first().map(|answer| answer.subject.clone()) else { continue };
            for (answer, evidence) in unseen.iter_mut().zip(self.evidence(&subject, &places).await?) {
                answer.found.hit = evidence.and_then(Evidence::into_hit);
            }
        }
        Ok(())
    }
}

/// An index of the tokens of graphs, with the neuron of each.
trait GraphTokens: Send + Sync + 'static {
    fn places(&self) -> &[(u32, u32)];
    fn tokens(&self) -> &MemoryIndex;
}

impl GraphTokens for GraphIndex {
    fn places(&self) -> &[(u32, u32)] {
        &self.places
    }

    fn tokens(&self) -> &MemoryIndex {
        &self.tokens
    }
}

impl GraphTokens for ImportIndex {
    fn places(&self) -> &[(u32, u32)] {
        &self.places
    }

    fn tokens(&self) -> &MemoryIndex {
        &self.tokens
    }
}

/// Reads graphs of published data, and finds the evidence for a query in them.
fn evidence_of_import(import: &Import, query: &Query, places: &[(u32, u32)]) -> Result<Vec<Option<Evidence>>> {
    let mut layers: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for (layer, neuron) in places {
        layers.entry(*layer).or_default().insert(*neuron);
    }
    let of_layer =
        |(layer, neurons): (u32, BTreeSet<u32>)| LayerSelection { layer, neurons: Some(neurons.into_iter().collect()) };
    let mut found = HashMap::new();
    import.graphs(layers.into_iter().map(of_layer).collect(), &mut |place, graph, _| {
        found.insert((place.layer, place.neuron), query.find(&graph));
    })?;
    Ok(places.iter().map(|place| found.remove(place).flatten()).collect())
}

fn lost(error: tokio::task::JoinError) -> DataFusionError {
    Error::Internal(format!("a search was lost: {error}")).into()
}

impl NeuronHit {
    fn f1(&self) -> Option<f32> {
        Some(self.f1).filter(|f1| !f1.is_nan())
    }

    fn rank(&self) -> (Option<neuroql_graph::search::Score>, Option<f32>) {
        (self.found.score, self.f1())
    }
}

fn batch(answers: &[NeuronHit]) -> Result<RecordBatch> {
    let score = |answer: &NeuronHit| answer.found.score;
    let columns: Vec<datafusion::arrow::array::ArrayRef> = vec![
        Arc::new(answers.iter().map(|a| Some(a.subject.name())).collect::<StringArray>()),
        Arc::new(answers.iter().map(|a| a.place.0 as i32).collect::<Int32Array>()),
        Arc::new(answers.iter().map(|a| a.place.1 as i32).collect::<Int32Array>()),
        Arc::new(answers.iter().map(|a| score(a).map(|score| score.role.name())).collect::<StringArray>()),
        Arc::new(answers.iter().map(|a| a.found.hit.as_ref().map(|hit| &hit.pattern)).collect::<StringArray>()),
        Arc::new(answers.iter().map(|a| score(a).map(|score| score.activation)).collect::<Float32Array>()),
        Arc::new(answers.iter().map(|a| score(a).map(|score| score.importance)).collect::<Float32Array>()),
        Arc::new(answers.iter().map(NeuronHit::f1).collect::<Float32Array>()),
    ];
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields())), columns)?)
}
