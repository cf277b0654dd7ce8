//! `analyze(model, dataset, layers, documents, k)`: runs a model over a dataset once and keeps the results.
//!
//! A row is returned for each commit, and before the first one that says where the analysis goes on: how many
//! documents, examples and tokens are done, how fast, and how long the rest may take.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::LogicalPlan;
use futures::future::BoxFuture;
use neuroql_analysis::LayerSummary;
use neuroql_model::{Model, Pool};
use neuroql_pipeline::Consumer;
use neuroql_pipeline::analyze::{Analysis, AnalysisProgress, SEGMENT_BYTES};
use neuroql_schema::{Role, sql_error};

use crate::planner::estimate::{Estimate, RunConditions, TokenCount};
use crate::state::EngineState;
use crate::table_functions::api::{
    Parameter, ParameterValues, Ranges, RowProducer, RowSender, ScanOptions, StreamingTableFunction, TableFunction,
    streaming_plan,
};
use crate::tables::dataset::{DEFAULT, Dataset};

/// Default of the parameter `k`: number of strongest examples kept of each neuron.
const DEFAULT_K: i64 = 20;

/// Greatest `k`: with more, the store would be larger than the activations that it replaces.
const MOST_K: i64 = 1000;

/// Table function `analyze`.
#[derive(Debug)]
pub(crate) struct Analyze;

impl TableFunction for Analyze {
    fn name(&self) -> &'static str {
        "analyze"
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![
            Parameter::required("model", DataType::Utf8),
            Parameter::with_default("dataset", DEFAULT),
            Parameter::optional_text("layers"),
            Parameter::optional_number("documents"),
            Parameter::with_default("k", DEFAULT_K),
        ]
    }

    fn outputs(&self) -> Vec<Field> {
        fields()
    }

    fn requires(&self) -> Role {
        Role::Analyst
    }

    fn plan(&self, engine: &Arc<EngineState>, values: &ParameterValues) -> Result<LogicalPlan> {
        let model = values.model(engine)?;
        let call = AnalyzeCall {
            engine: Arc::clone(engine),
            dataset: values.text("dataset")?.to_owned(),
            layers: values.layers("layers", &model)?,
            documents: values.optional_number("documents", 0..=i64::MAX)?,
            k: values.number("k", 1..=MOST_K)? as usize,
            model,
        };
        streaming_plan(self.name(), call)
    }
}

/// Columns of a row of progress; its parameters are not among them.
fn fields() -> Vec<Field> {
    vec![
        Field::new("analysed_layers", DataType::Utf8, true),
        Field::new("first_example", DataType::Int64, true),
        Field::new("end_example", DataType::Int64, true),
        Field::new("documents_done", DataType::Int64, true),
        Field::new("documents_total", DataType::Int64, true),
        Field::new("tokens", DataType::Int64, true),
        Field::new("tokens_per_second", DataType::Float64, true),
        Field::new("seconds_left", DataType::Float64, true),
        Field::new("complete", DataType::Boolean, true),
    ]
}

#[derive(Debug)]
struct AnalyzeCall {
    engine: Arc<EngineState>,
    model: Arc<Model>,
    dataset: String,
    layers: Vec<u32>,
    documents: Option<u64>,
    k: usize,
}

impl StreamingTableFunction for AnalyzeCall {
    type Producer = AnalyzeProducer;

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(fields()))
    }

    fn producer<'a>(&'a self, session: &'a dyn Session, _: ScanOptions<'a>) -> BoxFuture<'a, Result<AnalyzeProducer>> {
        Box::pin(async move {
            let name = Dataset::kept_as(session, &self.dataset);
            let dataset = Dataset::find(session, &self.dataset).await?;
            let (engine, model) = (&self.engine, &self.model);
            let origin = dataset.documents(session, &name).await?;
            let tokens = TokenCount::of(&origin, model, model.tokenizer().bytes_per_token());
            let mut tokens = tokens.map(|tokens| tokens.of_first(self.documents));
            for layer in &self.layers {
                // Some of it may be done already.
                if engine.store.progress(model.name(), &name, *layer).await.map_err(sql_error)?.is_some() {
                    tokens = tokens.map(TokenCount::at_most);
                }
            }
            let estimate = estimate(engine.registry.pool(), model, &self.layers, self.k, tokens);
            let analysis = Analysis {
                resources: Arc::clone(&engine.resources),
                model: Arc::clone(model),
                origin,
                dataset: name,
                layers: self.layers.clone(),
                documents: self.documents,
                k: self.k,
            };
            Ok(AnalyzeProducer { analysis, estimate })
        })
    }
}

/// Estimates the cost of an analysis of which nothing was done before.
fn estimate(pool: &Pool, model: &Model, layers: &[u32], k: usize, tokens: Option<TokenCount>) -> Estimate {
    let (width, threads) = (model.neurons_per_layer(), pool.threads());
    let values = width * layers.len();
    let running = RunConditions {
        speed: model.speed(),
        layers: layers.last().map_or(0.0, |layer| f64::from(layer + 1)),
        batch: model.batch_tokens(values),
        lanes: threads + 1,
        threads,
    };
    // As much as the run reserves: summaries, extremes of two segments, batches and their reductions.
    let extremes = tokens.map_or(usize::MAX, |tokens| tokens.examples as usize).saturating_mul(8 * values);
    let bytes = layers.len() * LayerSummary::bytes(width, k) + 2 * SEGMENT_BYTES.min(extremes);
    running.estimate(tokens, threads + 1, bytes as f64, (8 * values) as f64)
}

/// An analysis to be run, and its cost.
struct AnalyzeProducer {
    analysis: Analysis,
    estimate: Estimate,
}

impl fmt::Display for AnalyzeProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { analysis: Analysis { model, dataset, layers, .. }, estimate } = self;
        write!(f, "analyze model={} dataset={dataset} layers={layers:?}, {estimate}", model.name())
    }
}

impl RowProducer for AnalyzeProducer {
    fn run<'a>(&'a self, context: &'a Arc<TaskContext>, rows: &'a RowSender) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.analysis.run(context, rows).await })
    }
}

impl Consumer<AnalysisProgress> for RowSender {
    async fn take(&self, step: AnalysisProgress) -> Result<bool> {
        Ok(self.send(row(&step)?).await)
    }
}

/// Converts a step to a row.
fn row(step: &AnalysisProgress) -> Result<RecordBatch> {
    let number = |n: u64| -> ArrayRef { Arc::new(Int64Array::from_value(n as i64, 1)) };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values([Ranges::of(&step.layers).to_string()])),
        number(step.examples.start),
        number(step.examples.end),
        number(step.documents),
        number(step.total),
        number(step.tokens),
        Arc::new(Float64Array::from(vec![step.tokens_per_second])),
        Arc::new(Float64Array::from(vec![step.seconds_left])),
        Arc::new(BooleanArray::from(vec![step.complete])),
    ];
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields())), columns)?)
}
