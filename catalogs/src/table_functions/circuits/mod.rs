//! Table functions over the weights of neurons, without any text: [`neuroql_model`]'s circuits.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int32Array};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::LogicalPlan;
use futures::future::BoxFuture;
use neuroql_model::{Cancel, CancelOnDrop, Model, Placement};
use neuroql_schema::sql_error;

use crate::state::EngineState;
use crate::table_functions::api::{Parameter, Ranges, Rows, TableFunction, Values, Work, always_computed};

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
pub(crate) struct OfWeights {
    name: &'static str,
    /// Columns after `layer` and `neuron`.
    fields: fn() -> Vec<Field>,
    rows: MakeRows,
}

/// Computes the rows of some neurons of a layer, `k` of a kind for each.
type MakeRows = fn(&Model, usize, &[u32], usize, &Cancel) -> neuroql_model::Result<OfNeurons>;

/// Rows of some neurons: the neuron of each row, and the other columns.
struct OfNeurons {
    neurons: Vec<u32>,
    columns: Vec<ArrayRef>,
}

impl TableFunction for OfWeights {
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

    fn requires_superuser(&self) -> bool {
        false
    }

    fn plan(&self, engine: &Arc<EngineState>, values: &Values) -> Result<LogicalPlan> {
        let model = values.model(engine)?;
        let all = |count: usize| (0..count as u32).collect::<Vec<u32>>();
        let one = |number: Option<u32>, count| number.map_or_else(|| all(count), |number| vec![number]);
        let (layer, neuron) = values.place(&model)?;
        let call = Neurons {
            of: *self,
            engine: Arc::clone(engine),
            layers: one(layer, model.config().layers),
            neurons: one(neuron, model.config().d_mlp),
            k: values.number("k", 0..=i64::MAX)? as usize,
            model,
        };
        always_computed(self, call)
    }
}

struct Neurons {
    of: OfWeights,
    engine: Arc<EngineState>,
    model: Arc<Model>,
    layers: Vec<u32>,
    neurons: Vec<u32>,
    k: usize,
}

impl fmt::Display for Neurons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { of, model, layers, neurons, k, .. } = self;
        let (layers, neurons) = (Ranges::of(layers), Ranges::of(neurons));
        write!(f, "{} model={} layers={layers} neurons={neurons} k={k}", of.name, model.name())
    }
}

impl Work for Neurons {
    fn run<'a>(&'a self, _: &'a Arc<TaskContext>, rows: &'a Rows) -> BoxFuture<'a, Result<()>> {
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
