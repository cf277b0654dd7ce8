//! `analyze(model, dataset, layers, documents, k)`: runs a model over a dataset once and keeps what it learns.
//!
//! A row is returned for each commit, and before the first one that says where the analysis goes on: how many documents,
//! examples and tokens are done, how fast, and how long the rest may take. [`run`] is the loop.

use neuroql_schema::sql_error;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::LogicalPlan;
use futures::future::BoxFuture;
use neuroql_model::Model;

use crate::activations::Origin;
use crate::dataset::{DEFAULT, Dataset};
use crate::estimate::Tokens;
use crate::holdings::Holdings;
use crate::relation::{Asked, Call, Parameter, Ranges, Relation, Rows, Values, Work, computed};

mod batch;
mod run;

use run::{Analysis, Step};

/// Strongest examples kept if the query does not say.
const DEFAULT_K: i64 = 20;

/// More would make the store larger than what it is meant to replace.
const MOST_K: i64 = 1000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Analyze;

impl Relation for Analyze {
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

    fn plan(&self, holdings: &Arc<Holdings>, values: &Values) -> Result<LogicalPlan> {
        let model = values.model(holdings)?;
        let call = AnalyzeCall {
            holdings: Arc::clone(holdings),
            dataset: values.text("dataset")?.to_owned(),
            layers: values.layers("layers", &model)?,
            documents: values.optional_number("documents", 0..=i64::MAX)?,
            k: values.number("k", 1..=MOST_K)? as usize,
            model,
        };
        computed(self.name(), call)
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
    holdings: Arc<Holdings>,
    model: Arc<Model>,
    dataset: String,
    layers: Vec<u32>,
    documents: Option<u64>,
    k: usize,
}

impl Call for AnalyzeCall {
    type Work = Analysis;

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(fields()))
    }

    fn work<'a>(&'a self, session: &'a dyn Session, _: Asked<'a>) -> BoxFuture<'a, Result<Analysis>> {
        Box::pin(async move {
            let name = Dataset::kept_as(session, &self.dataset);
            let dataset = Dataset::find(session, &self.dataset).await?;
            let (holdings, model) = (&self.holdings, &self.model);
            let origin = Origin::of(session, &name, dataset).await?;
            let tokens = Tokens::of(&origin, model, model.tokenizer().bytes_per_token());
            let mut tokens = tokens.map(|tokens| tokens.of_first(self.documents));
            for layer in &self.layers {
                // Some of it may be done already.
                if holdings.store.progress(model.name(), &name, *layer).await.map_err(sql_error)?.is_some() {
                    tokens = tokens.map(Tokens::at_most);
                }
            }
            Ok(Analysis {
                holdings: Arc::clone(holdings),
                model: Arc::clone(model),
                origin,
                estimate: Analysis::estimate(holdings.registry.pool(), model, &self.layers, self.k, tokens),
                dataset: name,
                layers: self.layers.clone(),
                documents: self.documents,
                k: self.k,
            })
        })
    }
}

impl fmt::Display for Analysis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, dataset, layers, estimate, .. } = self;
        write!(f, "analyze model={} dataset={dataset} layers={layers:?}, {estimate}", model.name())
    }
}

impl Work for Analysis {
    fn run<'a>(&'a self, context: &'a Arc<TaskContext>, rows: &'a Rows) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.analyze(context, rows).await })
    }
}

impl Step {
    /// It as a row.
    fn row(&self) -> Result<RecordBatch> {
        let number = |n: u64| -> ArrayRef { Arc::new(Int64Array::from_value(n as i64, 1)) };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values([Ranges::of(&self.layers).to_string()])),
            number(self.examples.start),
            number(self.examples.end),
            number(self.documents),
            number(self.total),
            number(self.tokens),
            Arc::new(Float64Array::from(vec![self.tokens_per_second])),
            Arc::new(Float64Array::from(vec![self.seconds_left])),
            Arc::new(BooleanArray::from(vec![self.complete])),
        ];
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields())), columns)?)
    }
}
