//! `build_graphs(model, layer, neuron, layers, neurons, method, …)`: makes the graphs of neurons and judges them.
//!
//! A row is returned for each neuron as soon as it is done, with its graph or the reason why it has none. Its columns
//! are those of `graphs`, so `INSERT INTO model.graphs SELECT * FROM build_graphs(…)` keeps them. A graph that was kept
//! before is returned as it is if everything that it depends on is the same, so what was interrupted goes on;
//! `rebuild => true` makes it again.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::scalar::ScalarValue;
use neuroql_model::Model;
use neuroql_n2g::{Method, Options};

use crate::Error;
use crate::activations::Origin;
use crate::analyze::Ranges;
use crate::dataset::{DEFAULT, Dataset};
use crate::graphs;
use crate::holdings::Holdings;
use crate::kept::supports_place;
use crate::predicate::{Predicate, Selection, check, select_neurons};
use crate::relation::{Parameter, Relation};

mod corpus;
mod rows;
mod run;

pub(crate) use corpus::{Corpus, Gathered, Reader};
use run::Build;

/// Examples of a neuron, half of them to learn from, if the query does not say.
pub(crate) const EXAMPLES: i64 = 40;

/// More would hold too much text at once.
pub(crate) const MOST_EXAMPLES: i64 = 1000;

/// Tokens of a dataset that was not analysed that are searched for examples if the query does not say.
pub(crate) const TOKENS: i64 = 100_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct BuildGraphs;

impl Relation for BuildGraphs {
    fn name(&self) -> &'static str {
        "build_graphs"
    }

    fn parameters(&self) -> Vec<Parameter> {
        let text = |name| Parameter { name, data_type: DataType::Utf8, default: Some(ScalarValue::Utf8(None)) };
        let number = |name, default: i64| Parameter { name, data_type: DataType::Int64, default: Some(default.into()) };
        vec![
            Parameter { name: "model", data_type: DataType::Utf8, default: None },
            text("layers"),
            text("neurons"),
            Parameter { name: "method", data_type: DataType::Utf8, default: Some(Method::default().name().into()) },
            Parameter { name: "dataset", data_type: DataType::Utf8, default: Some(DEFAULT.into()) },
            number("examples", EXAMPLES),
            number("tokens", TOKENS),
            text("options"),
            Parameter { name: "rebuild", data_type: DataType::Boolean, default: Some(false.into()) },
        ]
    }

    fn outputs(&self) -> Vec<Field> {
        graphs::schema().fields().iter().map(|field| field.as_ref().clone()).collect()
    }

    fn plan(&self, holdings: &Arc<Holdings>, values: &[ScalarValue]) -> Result<LogicalPlan> {
        let text = |value: &ScalarValue| value.try_as_str().flatten().map(str::to_owned);
        let given = |value, name| text(value).ok_or_else(|| invalid(name, "is NULL".into()));
        let model = check(holdings.registry.get(&given(&values[0], "model")?))?;
        let method: Method = given(&values[3], "method")?.parse().map_err(n2g_error)?;
        let options = match text(&values[7]) {
            Some(changes) => Options::parse(method, &changes).map_err(n2g_error)?,
            None => Options::of(method),
        };
        if options.masking_token.is_some_and(|token| token as usize >= model.config().vocabulary) {
            let last = model.config().vocabulary - 1;
            return Err(invalid("options", format!("has a masking_token that is not one of 0 to {last}")).into());
        }
        let number = |value: &ScalarValue, name, most: i64| match value {
            ScalarValue::Int64(Some(n)) if (2..=most).contains(n) => Ok(*n as usize),
            other => Err(invalid(name, format!("is {other}, expected 2 to {most}"))),
        };
        let table = BuildTable {
            layers: ranges(text(&values[1]), "layers", "layer", model.config().layers)?,
            neurons: ranges(text(&values[2]), "neurons", "neuron", model.config().d_mlp)?,
            dataset: given(&values[4], "dataset")?,
            examples: number(&values[5], "examples", MOST_EXAMPLES)?,
            tokens: number(&values[6], "tokens", i64::from(u32::MAX))?,
            rebuild: values[8] == ScalarValue::Boolean(Some(true)),
            holdings: Arc::clone(holdings),
            model,
            method,
            options,
        };
        LogicalPlanBuilder::scan(self.name(), provider_as_source(Arc::new(table)), None)?.build()
    }
}

fn invalid(parameter: &str, reason: String) -> Error {
    Error::InvalidParameter { relation: "build_graphs", parameter: parameter.into(), reason }
}

/// Numbers below a limit from ranges as text; all of them without one.
fn ranges(text: Option<String>, parameter: &str, what: &str, limit: usize) -> Result<Vec<u32>> {
    let Some(text) = text else { return Ok((0..limit as u32).collect()) };
    let ranges: Ranges = text.parse().map_err(|reason| invalid(parameter, reason))?;
    let numbers = ranges.below(limit as u32).map_err(|number| {
        invalid(parameter, format!("names {what} {number}; the model has {what}s 0 to {}", limit - 1))
    });
    Ok(numbers?)
}

/// Wraps an error of the room that builds; the front end finds it again by its type.
fn n2g_error(error: neuroql_n2g::Error) -> datafusion::error::DataFusionError {
    match error {
        neuroql_n2g::Error::Model(error) => crate::error::model_error(error),
        error => datafusion::error::DataFusionError::External(Box::new(error)),
    }
}

/// The graphs that a call would build, as a table.
#[derive(Debug)]
struct BuildTable {
    holdings: Arc<Holdings>,
    model: Arc<Model>,
    dataset: String,
    layers: Vec<u32>,
    neurons: Vec<u32>,
    method: Method,
    examples: usize,
    tokens: usize,
    options: Options,
    rebuild: bool,
}

impl BuildTable {
    /// The neurons asked for by ranges and by filters on the columns `layer` and `neuron`.
    fn selection(&self, session: &dyn Session, filters: &[Expr]) -> Result<Vec<(u32, Vec<u32>)>> {
        let predicate = Predicate::compile(filters, &self.schema(), session)?;
        let by_filters: Selection = select_neurons(&self.model, &predicate)?;
        let of_layer = |neurons: Option<Vec<u32>>| match neurons {
            None => self.neurons.clone(),
            Some(neurons) => neurons.into_iter().filter(|n| self.neurons.binary_search(n).is_ok()).collect(),
        };
        let layers = by_filters.into_iter().map(|(layer, neurons)| (layer as u32, of_layer(neurons)));
        Ok(layers.filter(|(layer, neurons)| self.layers.contains(layer) && !neurons.is_empty()).collect())
    }
}

#[async_trait]
impl TableProvider for BuildTable {
    fn schema(&self) -> SchemaRef {
        graphs::schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(filters.iter().map(|filter| supports_place(filter)).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let dataset = Dataset::find(session, &self.dataset).await?;
        let build = Build {
            holdings: Arc::clone(&self.holdings),
            model: Arc::clone(&self.model),
            origin: Origin::of(session, &self.dataset, dataset).await?,
            dataset: self.dataset.clone(),
            selection: self.selection(session, filters)?,
            method: self.method,
            examples: self.examples,
            tokens: self.tokens,
            options: self.options.clone(),
            rebuild: self.rebuild,
        };
        let stream = Arc::new(Building { schema: self.schema(), build });
        let exec = StreamingTableExec::try_new(self.schema(), vec![stream], projection, [], false, limit)?;
        Ok(Arc::new(exec))
    }
}

struct Building {
    schema: SchemaRef,
    build: Build,
}

impl fmt::Debug for Building {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Build { model, dataset, method, selection, .. } = &self.build;
        let neurons: usize = selection.iter().map(|(_, neurons)| neurons.len()).sum();
        write!(f, "build_graphs model={} dataset={dataset} method={method} neurons={neurons}", model.name())
    }
}

impl PartitionStream for Building {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        // The loop stops when the stream is dropped, at its next row or await.
        let mut builder = RecordBatchReceiverStream::builder(Arc::clone(&self.schema), 1);
        let (sender, build) = (builder.tx(), self.build.clone());
        builder.spawn(async move { build.run(&context, sender).await });
        builder.build()
    }
}
