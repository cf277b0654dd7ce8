//! `search(model, query)`: neurons whose graphs have the tokens of a query, best first.
//!
//! The language of queries is that of [`neuroql_graph::search`]. Without a model all models are searched. Each neuron
//! is searched by the graph that stands for it, as in `neurons`.

use std::collections::{BTreeMap, HashMap};
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
use neuroql_graph::search::{Evidence, Found, Index, Query};
use neuroql_model::Model;
use neuroql_schema::sql_error;

use crate::Error;
use crate::state::EngineState;
use crate::table_functions::api::{Asked, Call, Parameter, Rows, TableFunction, Values, Work, computed};
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

    fn requires_superuser(&self) -> bool {
        false
    }

    fn plan(&self, engine: &Arc<EngineState>, values: &Values) -> Result<LogicalPlan> {
        let models = match values.optional_text("model") {
            Some(_) => vec![values.model(engine)?],
            None => engine.registry.list(),
        };
        let query: Query = values.text("query")?.parse().map_err(sql_error)?;
        computed(self.name(), SearchCall { engine: Arc::clone(engine), models, query })
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

#[derive(Debug)]
struct SearchCall {
    engine: Arc<EngineState>,
    models: Vec<Arc<Model>>,
    query: Query,
}

impl Call for SearchCall {
    type Work = Searching;

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(fields()))
    }

    fn work<'a>(&'a self, _: &'a dyn Session, asked: Asked<'a>) -> BoxFuture<'a, Result<Searching>> {
        Box::pin(async move {
            Ok(Searching {
                engine: Arc::clone(&self.engine),
                models: self.models.clone(),
                query: self.query.clone(),
                limit: asked.limit,
                patterns: asked.reads(PATTERN),
            })
        })
    }
}

/// A search to be run.
#[derive(Clone)]
struct Searching {
    engine: Arc<EngineState>,
    models: Vec<Arc<Model>>,
    query: Query,
    limit: Option<usize>,
    /// True if the column `pattern` is read.
    patterns: bool,
}

impl fmt::Display for Searching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let models: Vec<&str> = self.models.iter().map(|model| model.name()).collect();
        write!(f, "search models={} query={:?} patterns={}", models.join(","), self.query.to_string(), self.patterns)?;
        self.limit.map_or(Ok(()), |limit| write!(f, " limit={limit}"))
    }
}

/// A neuron found in a model.
struct Answer {
    model: Arc<Model>,
    index: Arc<GraphIndex>,
    found: Found,
}

impl Work for Searching {
    fn run<'a>(&'a self, _: &'a Arc<TaskContext>, rows: &'a Rows) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut answers = Vec::new();
            for model in &self.models {
                let index = self.engine.resources.graph_index(model).await?;
                let found = self.clone().found(Arc::clone(model), Arc::clone(&index)).await?;
                let answer = |found| Answer { model: Arc::clone(model), index: Arc::clone(&index), found };
                answers.extend(found.into_iter().map(answer));
            }
            if self.models.len() > 1 {
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

impl Searching {
    /// Searches one model, on a thread that may wait for graphs.
    async fn found(self, model: Arc<Model>, index: Arc<GraphIndex>) -> Result<Vec<Found>> {
        let runtime = tokio::runtime::Handle::current();
        let search = move || {
            self.query.search(&index.tokens, self.limit, |ordinals| {
                let places: Vec<_> = ordinals.iter().map(|ordinal| index.places[*ordinal as usize]).collect();
                runtime.block_on(self.evidence(&model, &places))
            })
        };
        let found = tokio::task::spawn_blocking(search).await;
        found.map_err(|e| DataFusionError::from(Error::Internal(format!("a search was lost: {e}"))))?
    }

    /// Returns the evidence for the query in graphs of a model, several layers at once.
    async fn evidence(&self, model: &Model, places: &[(u32, u32)]) -> Result<Vec<Option<Evidence>>> {
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
    async fn show(&self, answers: &mut [Answer]) -> Result<()> {
        for answers in answers.chunk_by_mut(|one, other| one.model.name() == other.model.name()) {
            let mut unseen: Vec<_> = answers.iter_mut().filter(|answer| answer.found.hit.is_none()).collect();
            let places: Vec<_> = unseen.iter().map(|answer| answer.place()).collect();
            let Some(model) = unseen.first().map(|answer| Arc::clone(&answer.model)) else { continue };
            for (answer, evidence) in unseen.iter_mut().zip(self.evidence(&model, &places).await?) {
                answer.found.hit = evidence.and_then(Evidence::into_hit);
            }
        }
        Ok(())
    }
}

impl Answer {
    fn place(&self) -> (u32, u32) {
        self.index.places[self.found.ordinal as usize]
    }

    fn f1(&self) -> Option<f32> {
        Some(self.index.tokens.f1s()[self.found.ordinal as usize]).filter(|f1| !f1.is_nan())
    }

    fn rank(&self) -> (Option<neuroql_graph::search::Score>, Option<f32>) {
        (self.found.score, self.f1())
    }
}

fn batch(answers: &[Answer]) -> Result<RecordBatch> {
    let score = |answer: &Answer| answer.found.score;
    let columns: Vec<datafusion::arrow::array::ArrayRef> = vec![
        Arc::new(answers.iter().map(|a| Some(a.model.name())).collect::<StringArray>()),
        Arc::new(answers.iter().map(|a| a.place().0 as i32).collect::<Int32Array>()),
        Arc::new(answers.iter().map(|a| a.place().1 as i32).collect::<Int32Array>()),
        Arc::new(answers.iter().map(|a| score(a).map(|score| score.role.name())).collect::<StringArray>()),
        Arc::new(answers.iter().map(|a| a.found.hit.as_ref().map(|hit| &hit.pattern)).collect::<StringArray>()),
        Arc::new(answers.iter().map(|a| score(a).map(|score| score.activation)).collect::<Float32Array>()),
        Arc::new(answers.iter().map(|a| score(a).map(|score| score.importance)).collect::<Float32Array>()),
        Arc::new(answers.iter().map(Answer::f1).collect::<Float32Array>()),
    ];
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields())), columns)?)
}
