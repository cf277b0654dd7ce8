//! What the weights alone say of a neuron: relations over [`neuroql_model`]'s circuits.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::LogicalPlan;
use neuroql_model::{Cancel, CancelOnDrop, Model, Width};

use crate::holdings::Holdings;
use crate::predicate::check;
use crate::relation::{Asked, Call, Parameter, Relation, Rows, Values, Work, computed};

mod connections;
mod input_tokens;
mod logit_effects;

pub(crate) use connections::CONNECTIONS;
pub(crate) use input_tokens::INPUT_TOKENS;
pub(crate) use logit_effects::LOGIT_EFFECTS;

/// Rows returned if the query does not say.
const DEFAULT_K: i64 = 10;

/// A relation of a neuron and a number `k` of rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OfWeights {
    name: &'static str,
    /// Columns that hold the parameters `layer` and `neuron`.
    place: [&'static str; 2],
    fields: fn() -> Vec<Field>,
    /// The columns of the rows: of a model, a layer, a neuron and `k`.
    columns: fn(&Model, usize, u32, usize, &Cancel) -> neuroql_model::Result<Vec<ArrayRef>>,
}

impl Relation for OfWeights {
    fn name(&self) -> &'static str {
        self.name
    }

    fn parameters(&self) -> Vec<Parameter> {
        let [layer, neuron] = self.place;
        vec![
            Parameter::required("model", DataType::Utf8),
            Parameter::required("layer", DataType::Int64).in_column(layer),
            Parameter::required("neuron", DataType::Int64).in_column(neuron),
            Parameter::with_default("k", DEFAULT_K),
        ]
    }

    fn outputs(&self) -> Vec<Field> {
        (self.fields)()
    }

    fn plan(&self, holdings: &Arc<Holdings>, values: &Values) -> Result<LogicalPlan> {
        let model = values.model(holdings)?;
        let (layer, neuron) = values.place(&model)?;
        let k = values.number("k", 0..=i64::MAX)? as usize;
        computed(self.name, Neuron { of: *self, holdings: Arc::clone(holdings), model, layer, neuron, k })
    }
}

#[derive(Debug, Clone)]
struct Neuron {
    of: OfWeights,
    holdings: Arc<Holdings>,
    model: Arc<Model>,
    layer: u32,
    neuron: u32,
    k: usize,
}

#[async_trait]
impl Call for Neuron {
    type Work = Self;

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new((self.of.fields)()))
    }

    async fn work(&self, _: &dyn Session, _: Asked<'_>) -> Result<Self> {
        Ok(self.clone())
    }
}

impl fmt::Display for Neuron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { of, model, layer, neuron, k, .. } = self;
        write!(f, "{} model={} layer={layer} neuron={neuron} k={k}", of.name, model.name())
    }
}

#[async_trait]
impl Work for Neuron {
    async fn run(&self, _: &Arc<TaskContext>, rows: &Rows) -> Result<()> {
        let guard = CancelOnDrop::default();
        let (this, cancel) = (self.clone(), guard.flag());
        let job = move || (this.of.columns)(&this.model, this.layer as usize, this.neuron, this.k, &cancel);
        let columns = check(self.holdings.registry.pool().run(Width::Wide, job).await)?;
        rows.send(RecordBatch::try_new(self.schema(), columns)?).await;
        Ok(())
    }
}
