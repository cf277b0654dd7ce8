//! `analyze(model, dataset, layers, documents, k)`: runs a model over a dataset once and keeps what it learns.
//!
//! A row is returned for each commit, and before the first one that says where the analysis goes on: how many documents,
//! examples and tokens are done, how fast, and how long the rest may take. [`run`] is the loop.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::scalar::ScalarValue;
use neuroql_model::Model;

use crate::Error;
use crate::activations::Origin;
use crate::dataset::{DEFAULT, Dataset};
use crate::holdings::Holdings;
use crate::predicate::check;
use crate::relation::{Parameter, Relation};

mod layers;
mod run;

pub(crate) use layers::Ranges;
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
        let unset = |data_type: &DataType| ScalarValue::try_new_null(data_type).ok();
        vec![
            Parameter { name: "model", data_type: DataType::Utf8, default: None },
            Parameter { name: "dataset", data_type: DataType::Utf8, default: Some(DEFAULT.into()) },
            Parameter { name: "layers", data_type: DataType::Utf8, default: unset(&DataType::Utf8) },
            Parameter { name: "documents", data_type: DataType::Int64, default: unset(&DataType::Int64) },
            Parameter { name: "k", data_type: DataType::Int64, default: Some(DEFAULT_K.into()) },
        ]
    }

    fn outputs(&self) -> Vec<Field> {
        fields()
    }

    fn plan(&self, holdings: &Arc<Holdings>, values: &[ScalarValue]) -> Result<LogicalPlan> {
        let invalid = |parameter: &str, reason: String| Error::InvalidParameter {
            relation: "analyze",
            parameter: parameter.into(),
            reason,
        };
        let text = |value: &ScalarValue| value.try_as_str().flatten().map(str::to_owned);
        let name = text(&values[0]).ok_or_else(|| invalid("model", "is NULL".into()))?;
        let dataset = text(&values[1]).ok_or_else(|| invalid("dataset", "is NULL".into()))?;
        let model = check(holdings.registry.get(&name))?;
        let layers = match text(&values[2]) {
            None => (0..model.config().layers as u32).collect(),
            Some(ranges) => {
                let ranges: Ranges = ranges.parse().map_err(|reason| invalid("layers", reason))?;
                ranges.below(model.config().layers as u32).map_err(|layer| {
                    let last = model.config().layers - 1;
                    invalid("layers", format!("names layer {layer}; model \"{name}\" has layers 0 to {last}"))
                })?
            }
        };
        let documents = match values[3] {
            ScalarValue::Int64(None) => None,
            ScalarValue::Int64(Some(n)) if n >= 0 => Some(n as u64),
            ref other => return Err(invalid("documents", format!("is {other}, expected a number from 0")).into()),
        };
        let k = match values[4] {
            ScalarValue::Int64(Some(k)) if (1..=MOST_K).contains(&k) => k as usize,
            ref other => return Err(invalid("k", format!("is {other}, expected 1 to {MOST_K}")).into()),
        };
        let table = AnalyzeTable { holdings: Arc::clone(holdings), model, dataset, layers, documents, k };
        LogicalPlanBuilder::scan(self.name(), provider_as_source(Arc::new(table)), None)?.build()
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

/// An analysis as a table of its progress.
#[derive(Debug)]
struct AnalyzeTable {
    holdings: Arc<Holdings>,
    model: Arc<Model>,
    dataset: String,
    layers: Vec<u32>,
    documents: Option<u64>,
    k: usize,
}

#[async_trait]
impl TableProvider for AnalyzeTable {
    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(fields()))
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let dataset = Dataset::find(session, &self.dataset).await?;
        let analysis = Analysis {
            holdings: Arc::clone(&self.holdings),
            model: Arc::clone(&self.model),
            dataset: self.dataset.clone(),
            origin: Origin::of(session, &self.dataset, dataset).await?,
            layers: self.layers.clone(),
            documents: self.documents,
            k: self.k,
        };
        let stream = Arc::new(Progress { schema: self.schema(), analysis });
        let exec = StreamingTableExec::try_new(self.schema(), vec![stream], projection, [], false, None)?;
        Ok(Arc::new(exec))
    }
}

struct Progress {
    schema: SchemaRef,
    analysis: Analysis,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Analysis { model, dataset, layers, .. } = &self.analysis;
        write!(f, "analyze model={} dataset={dataset} layers={layers:?}", model.name())
    }
}

impl PartitionStream for Progress {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        // The loop stops when the stream is dropped, at its next row or await.
        let mut builder = RecordBatchReceiverStream::builder(Arc::clone(&self.schema), 1);
        let reporter = Reporter { sender: builder.tx(), schema: Arc::clone(&self.schema) };
        let analysis = self.analysis.clone();
        builder.spawn(async move { analysis.run(&context, reporter).await });
        builder.build()
    }
}

/// Where steps become rows.
struct Reporter {
    sender: tokio::sync::mpsc::Sender<Result<RecordBatch>>,
    schema: SchemaRef,
}

impl Reporter {
    /// False if nobody listens any more: the query has ended, and with it the analysis.
    async fn send(&self, step: Step) -> bool {
        self.sender.send(row(&self.schema, &step)).await.is_ok()
    }
}

fn row(schema: &SchemaRef, step: &Step) -> Result<RecordBatch> {
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
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
