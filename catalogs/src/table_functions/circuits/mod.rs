//! Table functions over the weights of neurons, without any text: [`neuroql_model`]'s circuits.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int32Array};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::LogicalPlan;
use futures::future::BoxFuture;
use neuroql_model::{Cancel, CancelOnDrop, Model, Placement};
use neuroql_schema::{Role, sql_error};

use crate::state::EngineState;
use crate::table_functions::api::{
    Parameter, ParameterValues, Ranges, RowProducer, RowSender, TableFunction, unfiltered_plan,
};

mod connections;
mod input_tokens;
mod logit_effects;

pub(crate) use connections::CONNECTIONS;
pub(crate) use input_tokens::INPUT_TOKENS;
pub(crate) use logit_effects::LOGIT_EFFECTS;

/// Default of the parameter `k`: number of rows returned.
const DEFAULT_K: i64 = 10;

/// Neurons whose rows are computed, and returned, together.
const TOGETHER: usize = 64;

/// A table function of neurons and a number `k`: a layer or neuron that is NULL stands for all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WeightsFunction {
    name: &'static str,
    /// Columns after `layer` and `neuron`.
    fields: fn() -> Vec<Field>,
    rows: MakeRows,
}

/// Computes the rows of some neurons of a layer, `k` of a kind for each.
type MakeRows = fn(&Model, usize, &[u32], usize, &Cancel) -> neuroql_model::Result<NeuronRows>;

/// Rows of some neurons: the neuron of each row, and the other columns.
struct NeuronRows {
    neurons: Vec<u32>,
    columns: Vec<ArrayRef>,
}

impl TableFunction for WeightsFunction {
    fn name(&self) -> &'static str {
        self.name
    }

    fn parameters(&self) -> Vec<Parameter> {
        // The columns layer and neuron are those of the rows.
        let number = |name| Parameter { default: None, ..Parameter::optional_number(name) };
        vec![
            Parameter::required("model", DataType::Utf8),
            number("layer").in_column("of_layer"),
            number("neuron").in_column("of_neuron"),
            Parameter::with_default("k", DEFAULT_K),
        ]
    }

    fn outputs(&self) -> Vec<Field> {
        let place = ["layer", "neuron"].map(|name| Field::new(name, DataType::Int32, true));
        place.into_iter().chain((self.fields)()).collect()
    }

    fn requires(&self) -> Role {
        Role::Reader
    }

    fn plan(&self, engine: &Arc<EngineState>, values: &ParameterValues) -> Result<LogicalPlan> {
        let model = values.model(engine)?;
        let one = |number: Option<u32>, all: Range<usize>| match number {
            Some(number) => vec![number],
            None => all.map(|number| number as u32).collect(),
        };
        let (layer, neuron) = values.place(&model)?;
        let call = WeightsProducer {
            of: *self,
            engine: Arc::clone(engine),
            layers: one(layer, model.layers_read()),
            neurons: one(neuron, 0..model.neurons_per_layer()),
            k: values.number("k", 0..=i64::MAX)? as usize,
            model,
        };
        unfiltered_plan(self, call)
    }
}

struct WeightsProducer {
    of: WeightsFunction,
    engine: Arc<EngineState>,
    model: Arc<Model>,
    layers: Vec<u32>,
    neurons: Vec<u32>,
    k: usize,
}

impl fmt::Display for WeightsProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { of, model, layers, neurons, k, .. } = self;
        let (layers, neurons) = (Ranges::of(layers), Ranges::of(neurons));
        write!(f, "{} model={} layers={layers} neurons={neurons} k={k}", of.name, model.name())
    }
}

impl RowProducer for WeightsProducer {
    fn run<'a>(&'a self, _: &'a Arc<TaskContext>, rows: &'a RowSender) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let guard = CancelOnDrop::default();
            for layer in &self.layers {
                for neurons in self.neurons.chunks(TOGETHER) {
                    let (model, neurons, cancel) = (Arc::clone(&self.model), neurons.to_vec(), guard.flag());
                    let (make, layer, k) = (self.of.rows, *layer as usize, self.k);
                    let job = move || make(&model, layer, &neurons, k, &cancel);
                    let found = self
                        .engine
                        .registry
                        .pool()
                        .run(Placement::AllThreads.of(&self.model), job)
                        .await
                        .map_err(sql_error)?;
                    let layers: ArrayRef = Arc::new(Int32Array::from_value(layer as i32, found.neurons.len()));
                    let neurons: ArrayRef =
                        Arc::new(Int32Array::from_iter_values(found.neurons.iter().map(|n| *n as i32)));
                    let columns = [layers, neurons].into_iter().chain(found.columns).collect();
                    if !rows.send(rows.batch(columns)?).await {
                        return Ok(());
                    }
                }
            }
            Ok(())
        })
    }
}
