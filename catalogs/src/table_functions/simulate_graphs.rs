//! `simulate_graphs(model, text, layers, method, semantics)`: predictions of the graphs of whole layers for a text.
//!
//! A row for each token and neuron with a prediction other than 0, as a share of the neuron's greatest activation. All
//! graphs of a layer run as one automaton.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float32Array, Int32Array, RecordBatch, StringArray};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{DataType, Field, Int32Type};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::LogicalPlan;
use futures::future::BoxFuture;
use neuroql_graph::{Automaton, Predictions, Semantics};
use neuroql_model::{Model, Placement};
use neuroql_schema::graph_column::GraphColumn;
use neuroql_schema::{Role, sql_error};

use crate::state::EngineState;
use crate::table_functions::api::{Parameter, ParameterValues, RowProducer, RowSender, TableFunction, unfiltered_plan};
use neuroql_pipeline::graphs::preferred_rows;

/// Table function `simulate_graphs`.
#[derive(Debug)]
pub(crate) struct SimulateGraphs;

impl TableFunction for SimulateGraphs {
    fn name(&self) -> &'static str {
        "simulate_graphs"
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![
            Parameter::required("model", DataType::Utf8),
            Parameter::required("text", DataType::Utf8),
            Parameter::optional_text("layers"),
            Parameter::optional_text("method"),
            Parameter::with_default("semantics", Semantics::default().name()),
        ]
    }

    fn outputs(&self) -> Vec<Field> {
        vec![
            Field::new("layer", DataType::Int32, true),
            Field::new("neuron", DataType::Int32, true),
            Field::new("position", DataType::Int32, true),
            Field::new("token", DataType::Utf8, true),
            Field::new("predicted", DataType::Float32, true),
        ]
    }

    fn requires(&self) -> Role {
        Role::Reader
    }

    fn plan(&self, engine: &Arc<EngineState>, values: &ParameterValues) -> Result<LogicalPlan> {
        let model = values.model(engine)?;
        let simulation = Simulation {
            engine: Arc::clone(engine),
            text: values.optional_text("text").map(str::to_owned),
            layers: values.layers("layers", &model)?,
            method: values.optional_text("method").map(str::to_owned),
            semantics: values.parsed("semantics")?,
            model,
        };
        unfiltered_plan(self, simulation)
    }
}

/// Arguments of a call of `simulate_graphs`.
struct Simulation {
    engine: Arc<EngineState>,
    model: Arc<Model>,
    /// Text to be simulated; NULL has no tokens.
    text: Option<String>,
    layers: Vec<u32>,
    method: Option<String>,
    semantics: Semantics,
}

impl fmt::Display for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, layers, semantics, .. } = self;
        write!(f, "simulate_graphs model={} layers={layers:?} semantics={}", model.name(), semantics.name())
    }
}

impl RowProducer for Simulation {
    fn run<'a>(&'a self, _: &'a Arc<TaskContext>, rows: &'a RowSender) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for layer in &self.layers {
                if !rows.send(rows.batch(self.layer(*layer).await?)?).await {
                    break;
                }
            }
            Ok(())
        })
    }
}

impl Simulation {
    /// Computes the columns of a layer, apart from the threads that serve clients.
    async fn layer(&self, layer: u32) -> Result<Vec<ArrayRef>> {
        let graphs = self.graphs(layer).await?;
        let (model, text, semantics) = (Arc::clone(&self.model), self.text.clone(), self.semantics);
        let simulate = move || Ok(simulated(&model, &graphs, layer, text.as_deref().unwrap_or_default(), semantics));
        self.engine.registry.pool().run(Placement::OneThread, simulate).await.map_err(sql_error)?
    }

    /// Returns one row of `graphs` for each neuron: that of the method, or the one that stands for the neuron.
    async fn graphs(&self, layer: u32) -> Result<RecordBatch> {
        let graphs = self.engine.resources.graphs(&self.model, layer, None).await?;
        let methods = graphs["method"].as_string::<i32>();
        let stands = match self.method {
            Some(_) => None,
            None => Some(preferred_rows(&graphs).into_values().collect::<BTreeSet<_>>()),
        };
        let wanted = |(row, method): (usize, Option<&str>)| {
            let by_method = || method == self.method.as_deref();
            let kept = stands.as_ref().map_or_else(by_method, |rows| rows.contains(&row));
            Some(kept && graphs["graph"].is_valid(row))
        };
        Ok(filter_record_batch(&graphs, &methods.iter().enumerate().map(wanted).collect())?)
    }
}

/// Computes the columns of the predictions of some graphs of a layer for a text.
fn simulated(
    model: &Model,
    graphs: &RecordBatch,
    layer: u32,
    text: &str,
    semantics: Semantics,
) -> Result<Vec<ArrayRef>> {
    let neurons = graphs["neuron"].as_primitive::<Int32Type>();
    let column = GraphColumn::try_new(&graphs["graph"])?;
    let views = (0..column.len()).map(|row| column.view(row)).collect::<Result<Vec<_>, _>>().map_err(sql_error)?;
    let automaton = Automaton::new(views, semantics).map_err(sql_error)?;

    let tokenizer = model.tokenizer();
    let ids = tokenizer.encode(text).map_err(sql_error)?;
    let mut found = Predictions::default();
    automaton.simulate(&ids, &mut found);
    let mut rows: Vec<(i32, i32, f32)> = Vec::with_capacity(found.values.len());
    for position in 0..ids.len() {
        let of_token = found.at(position).map(|(graph, value)| (position as i32, neurons.value(graph as usize), value));
        let first = rows.len();
        rows.extend(of_token);
        rows[first..].sort_unstable_by_key(|(_, neuron, _)| *neuron);
    }
    let text = |(position, ..): &(i32, i32, f32)| tokenizer.texts().get(ids[*position as usize] as usize);
    Ok(vec![
        Arc::new(Int32Array::from_value(layer as i32, rows.len())),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.1))),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(rows.iter().map(text).collect::<StringArray>()),
        Arc::new(Float32Array::from_iter_values(rows.iter().map(|row| row.2))),
    ])
}
