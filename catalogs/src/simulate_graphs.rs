//! `simulate_graphs(model, text, layers, method, semantics)`: what the graphs of whole layers predict for a text.
//!
//! A row for each token and neuron of which something is predicted, as a share of the neuron's greatest activation; where
//! there is no row, 0 is. All graphs of a layer run as one automaton.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{Array, AsArray, Float32Array, Int32Array, RecordBatch, StringArray};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::scalar::ScalarValue;
use futures::StreamExt;
use neuroql_graph::{Automaton, Predictions, Semantics};
use neuroql_model::Model;
use neuroql_udfs::graphs::layout::GraphColumn;

use crate::Error;
use crate::analyze::Ranges;
use crate::holdings::Holdings;
use crate::neurons::chosen;
use crate::predicate::check;
use crate::relation::{Parameter, Relation};

/// See the module.
#[derive(Debug)]
pub(crate) struct SimulateGraphs;

impl Relation for SimulateGraphs {
    fn name(&self) -> &'static str {
        "simulate_graphs"
    }

    fn parameters(&self) -> Vec<Parameter> {
        let text = |name, default| Parameter { name, data_type: DataType::Utf8, default };
        let unset = || Some(ScalarValue::Utf8(None));
        vec![
            text("model", None),
            text("text", None),
            text("layers", unset()),
            text("method", unset()),
            text("semantics", Some(Semantics::default().name().into())),
        ]
    }

    fn outputs(&self) -> Vec<Field> {
        fields()
    }

    fn plan(&self, holdings: &Arc<Holdings>, values: &[ScalarValue]) -> Result<LogicalPlan> {
        let invalid = |parameter: &str, reason: String| Error::InvalidParameter {
            relation: "simulate_graphs",
            parameter: parameter.into(),
            reason,
        };
        let value = |index: usize| values[index].try_as_str().flatten();
        let name = value(0).ok_or_else(|| invalid("model", "is NULL".into()))?;
        let model = check(holdings.registry.get(name))?;
        let all = model.config().layers as u32;
        let layers = match value(2) {
            None => (0..all).collect(),
            Some(ranges) => {
                let ranges: Ranges = ranges.parse().map_err(|reason| invalid("layers", reason))?;
                ranges.below(all).map_err(|layer| {
                    invalid("layers", format!("names layer {layer}; model \"{name}\" has layers 0 to {}", all - 1))
                })?
            }
        };
        let semantics = value(4).ok_or_else(|| invalid("semantics", "is NULL".into()))?;
        let semantics =
            semantics.parse().map_err(|error: neuroql_graph::Error| invalid("semantics", error.to_string()))?;
        let simulation = Simulation {
            holdings: Arc::clone(holdings),
            model,
            text: value(1).map(str::to_owned),
            layers,
            method: value(3).map(str::to_owned),
            semantics,
            schema: Arc::new(Schema::new(fields())),
        };
        let table = SimulationTable(Arc::new(simulation));
        LogicalPlanBuilder::scan(self.name(), provider_as_source(Arc::new(table)), None)?.build()
    }
}

fn fields() -> Vec<Field> {
    vec![
        Field::new("layer", DataType::Int32, true),
        Field::new("neuron", DataType::Int32, true),
        Field::new("position", DataType::Int32, true),
        Field::new("token", DataType::Utf8, true),
        Field::new("predicted", DataType::Float32, true),
    ]
}

#[derive(Debug)]
struct SimulationTable(Arc<Simulation>);

#[async_trait]
impl TableProvider for SimulationTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let stream = Arc::new(Layers(Arc::clone(&self.0)));
        let exec = StreamingTableExec::try_new(self.schema(), vec![stream], projection, [], false, None)?;
        Ok(Arc::new(exec))
    }
}

/// What is asked.
#[derive(Debug)]
struct Simulation {
    holdings: Arc<Holdings>,
    model: Arc<Model>,
    /// NULL has no tokens.
    text: Option<String>,
    layers: Vec<u32>,
    method: Option<String>,
    semantics: Semantics,
    schema: SchemaRef,
}

struct Layers(Arc<Simulation>);

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Simulation { model, layers, semantics, .. } = &*self.0;
        write!(f, "simulate_graphs model={} layers={layers:?} semantics={}", model.name(), semantics.name())
    }
}

impl PartitionStream for Layers {
    fn schema(&self) -> &SchemaRef {
        &self.0.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let simulation = Arc::clone(&self.0);
        let rows = futures::stream::iter(simulation.layers.clone()).then(move |layer| {
            let simulation = Arc::clone(&simulation);
            async move { simulation.layer(layer).await }
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.0.schema), rows))
    }
}

impl Simulation {
    async fn layer(&self, layer: u32) -> Result<RecordBatch> {
        let graphs = self.graphs(layer).await?;
        let neurons = graphs["neuron"].as_primitive::<Int32Type>();
        let column = GraphColumn::try_new(&graphs["graph"])?;
        let failed = |error| DataFusionError::External(Box::new(error));
        let views = (0..column.len()).map(|row| column.view(row)).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let automaton = Automaton::new(views, self.semantics).map_err(failed)?;

        let tokenizer = self.model.tokenizer();
        let ids = check(tokenizer.encode(self.text.as_deref().unwrap_or_default()))?;
        let mut found = Predictions::default();
        automaton.simulate(&ids, &mut found);
        let mut rows: Vec<(i32, i32, f32)> = Vec::with_capacity(found.values.len());
        for position in 0..ids.len() {
            let of_token =
                found.at(position).map(|(graph, value)| (position as i32, neurons.value(graph as usize), value));
            let first = rows.len();
            rows.extend(of_token);
            rows[first..].sort_unstable_by_key(|(_, neuron, _)| *neuron);
        }
        let text = |(position, ..): &(i32, i32, f32)| tokenizer.texts().get(ids[*position as usize] as usize);
        Ok(RecordBatch::try_new(
            Arc::clone(&self.schema),
            vec![
                Arc::new(Int32Array::from_value(layer as i32, rows.len())),
                Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.1))),
                Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.0))),
                Arc::new(rows.iter().map(text).collect::<StringArray>()),
                Arc::new(Float32Array::from_iter_values(rows.iter().map(|row| row.2))),
            ],
        )?)
    }

    /// One row of graphs a neuron: those of the method, or those that stand for their neurons.
    async fn graphs(&self, layer: u32) -> Result<RecordBatch> {
        let graphs = self.holdings.graphs(&self.model, layer).await?;
        let methods = graphs["method"].as_string::<i32>();
        let stands = match self.method {
            Some(_) => None,
            None => Some(chosen(&graphs).into_values().collect::<BTreeSet<_>>()),
        };
        let wanted = |(row, method): (usize, Option<&str>)| {
            let by_method = || method == self.method.as_deref();
            let kept = stands.as_ref().map_or_else(by_method, |rows| rows.contains(&row));
            Some(kept && graphs["graph"].is_valid(row))
        };
        Ok(filter_record_batch(&graphs, &methods.iter().enumerate().map(wanted).collect())?)
    }
}
