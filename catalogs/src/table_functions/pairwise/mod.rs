//! Table functions over pairs of neurons, of one model or of two: statistics of the activations of both on the same
//! tokens.
//!
//! The models run once; the statistics of all pairs are added up as they go, so memory is that of a matrix of pairs,
//! whatever the size of the dataset.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int32Array, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::LogicalPlan;
use futures::future::BoxFuture;
use neuroql_model::Model;
use neuroql_pipeline::Origin;
use neuroql_pipeline::pairs::{Accumulator, CHAIN_BYTES, CHAINS, NeuronSet, Pairs};
use neuroql_schema::Role;

use crate::Error;
use crate::planner::estimate::{Estimate, RunConditions, TokenCount};
use crate::state::EngineState;
use crate::table_functions::api::{
    Parameter, ParameterValues, RowProducer, RowSender, ScanOptions, StreamingTableFunction, TableFunction,
    streaming_plan,
};
use crate::tables::dataset::{DEFAULT, Dataset};

mod coactivations;
mod correlations;

pub(crate) use coactivations::{Coactivation, FIRES_ABOVE, fires_above};
pub(crate) use correlations::Correlation;

/// Default of the parameter `k`: number of neurons returned for each.
const DEFAULT_K: i64 = 5;

/// Statistic by which neurons are paired.
pub(crate) trait Measure: Clone + fmt::Debug + Send + Sync + 'static {
    /// The table function's name.
    const NAME: &'static str;
    /// Accumulator of all pairs.
    type Accumulator: Accumulator;
    /// Result for one pair.
    type PairResult: Send;

    /// The parameter of the measure, beside those that all such table functions have.
    fn parameter() -> Parameter;

    /// Reads the measure from the values of a call.
    fn of(values: &ParameterValues) -> Result<Self>;

    /// Creates an empty accumulator; `others` is the size of the second set.
    fn start(&self, width: usize, others: Option<usize>) -> Self::Accumulator;

    /// Bytes that an accumulator takes.
    fn bytes(width: usize, others: Option<usize>) -> usize;

    /// The numbers of the `k` neurons that one is paired with most strongly, strongest first.
    fn strongest(&self, accumulator: &Self::Accumulator, number: usize, k: usize) -> Vec<(u32, Self::PairResult)>;

    /// Columns of the results.
    fn fields() -> Vec<Field>;

    /// Values of these columns.
    fn columns(results: &[Self::PairResult]) -> Vec<ArrayRef>;
}

/// Pairs and text that a call asks for.
#[derive(Debug, Clone)]
pub(crate) struct PairRequest {
    dataset: String,
    pub pairs: Pairs,
    /// Number of partners to return of each neuron.
    k: usize,
}

impl PairRequest {
    /// Parameters of the request.
    fn parameters() -> Vec<Parameter> {
        vec![
            Parameter::required("model", DataType::Utf8),
            Parameter::with_default("dataset", DEFAULT),
            Parameter::optional_text("other"),
            Parameter::optional_text("layers"),
            Parameter::optional_text("other_layers"),
            Parameter::optional_number("documents"),
            Parameter::with_default("k", DEFAULT_K),
        ]
    }

    /// Columns of a pair: its neurons, and the result for it.
    fn outputs<M: Measure>() -> Vec<Field> {
        let field = |name: &str, data_type| Field::new(name, data_type, true);
        let pair = [
            field("layer", DataType::Int32),
            field("neuron", DataType::Int32),
            field("rank", DataType::Int32),
            field("other_model", DataType::Utf8),
            field("other_layer", DataType::Int32),
            field("other_neuron", DataType::Int32),
        ];
        pair.into_iter().chain(M::fields()).collect()
    }

    fn of(engine: &Arc<EngineState>, values: &ParameterValues) -> Result<Self> {
        let model = values.model(engine)?;
        let other = values.optional_model(engine, "other")?;
        let other = other.filter(|other| other.name() != model.name());
        let reads_alike = |other: &Arc<Model>| {
            other.tokenizer().texts() == model.tokenizer().texts()
                && (other.window(), other.bos()) == (model.window(), model.bos())
        };
        if let Some(other) = other.as_ref().filter(|other| !reads_alike(other)) {
            let reason = format!(
                "is '{}', which does not cut text into the same tokens and examples as '{}': vocabularies, windows and \
                 beginnings of text must be the same",
                other.name(),
                model.name()
            );
            return Err(values.invalid("other", reason).into());
        }
        let one = NeuronSet { layers: values.layers("layers", &model)?, model };
        let other = match other {
            Some(other) => Some(NeuronSet { layers: values.layers("other_layers", &other)?, model: other }),
            None if values.optional_text("other_layers").is_some() => {
                Some(NeuronSet { layers: values.layers("other_layers", &one.model)?, model: Arc::clone(&one.model) })
            }
            None => None,
        };
        Ok(Self {
            dataset: values.text("dataset")?.to_owned(),
            pairs: Pairs {
                resources: Arc::clone(&engine.resources),
                documents: values.optional_number("documents", 0..=i64::MAX)?,
                one,
                other,
            },
            k: values.number("k", 1..=i64::MAX)? as usize,
        })
    }

    /// Requests all pairs of the neurons of a model.
    pub fn all(engine: &Arc<EngineState>, model: &Arc<Model>, values: &ParameterValues) -> Result<Self> {
        Ok(Self {
            dataset: values.text("dataset")?.to_owned(),
            pairs: Pairs {
                resources: Arc::clone(&engine.resources),
                documents: values.optional_number("documents", 0..=i64::MAX)?,
                one: NeuronSet {
                    layers: model.layers_read().map(|layer| layer as u32).collect(),
                    model: Arc::clone(model),
                },
                other: None,
            },
            k: usize::MAX,
        })
    }

    /// Returns the documents of the text.
    pub async fn origin(&self, session: &dyn Session) -> Result<Origin> {
        Dataset::find(session, &self.dataset).await?.documents(session, &self.dataset).await
    }

    /// Estimates the cost of adding up; `bytes` is the size of an accumulator.
    fn estimate(&self, bytes: usize, origin: &Origin) -> Estimate {
        let Pairs { resources, one, other, documents } = &self.pairs;
        let (width, others) = self.pairs.widths();
        let values = width + others.unwrap_or(0);
        let threads = resources.registry.pool().threads();
        // The other model's passes count by their layers.
        let depth = |set: &NeuronSet| set.layers.last().map_or(0.0, |layer| f64::from(layer + 1));
        let running = RunConditions {
            speed: one.model.speed(),
            layers: depth(one) + other.as_ref().map_or(0.0, depth),
            batch: one.model.batch_tokens(values),
            lanes: threads + 1,
            threads,
        };
        let tokens = TokenCount::of(origin, &one.model, one.model.tokenizer().bytes_per_token());
        let tokens = tokens.map(|tokens| tokens.of_first(*documents));
        let count = if bytes <= CHAIN_BYTES { CHAINS } else { 1 };
        running.estimate(tokens, threads + 2 + count, (count * bytes) as f64, (4 * values) as f64)
    }
}

/// The table function of a measure.
#[derive(Debug)]
pub(crate) struct PairwiseFunction<M>(PhantomData<M>);

impl<M> PairwiseFunction<M> {
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<M: Measure> TableFunction for PairwiseFunction<M> {
    fn name(&self) -> &'static str {
        M::NAME
    }

    fn parameters(&self) -> Vec<Parameter> {
        let mut parameters = PairRequest::parameters();
        parameters.push(M::parameter());
        parameters
    }

    fn outputs(&self) -> Vec<Field> {
        PairRequest::outputs::<M>()
    }

    fn requires(&self) -> Role {
        Role::Reader
    }

    fn plan(&self, engine: &Arc<EngineState>, values: &ParameterValues) -> Result<LogicalPlan> {
        let request = PairRequest::of(engine, values)?;
        streaming_plan(M::NAME, PairsCall { request, measure: M::of(values)? })
    }
}

/// A call of a table function over pairs.
#[derive(Debug, Clone)]
struct PairsCall<M> {
    request: PairRequest,
    measure: M,
}

impl<M: Measure> StreamingTableFunction for PairsCall<M> {
    type Producer = PairsProducer<M>;

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(PairRequest::outputs::<M>()))
    }

    fn producer<'a>(&'a self, session: &'a dyn Session, _: ScanOptions<'a>) -> BoxFuture<'a, Result<PairsProducer<M>>> {
        Box::pin(async move {
            let origin = self.request.origin(session).await?;
            let (width, others) = self.request.pairs.widths();
            let estimate = self.request.estimate(M::bytes(width, others), &origin);
            Ok(PairsProducer { origin, call: self.clone(), estimate })
        })
    }
}

/// Pairs to be found.
struct PairsProducer<M> {
    call: PairsCall<M>,
    origin: Origin,
    estimate: Estimate,
}

impl<M: Measure> fmt::Display for PairsProducer<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PairRequest { dataset, pairs, k } = &self.call.request;
        let Pairs { one, other, .. } = pairs;
        write!(f, "{} model={} dataset={dataset} layers={:?}", M::NAME, one.model.name(), one.layers)?;
        other.iter().try_for_each(|other| write!(f, " other={} {:?}", other.model.name(), other.layers))?;
        write!(f, " k={k}, {}", self.estimate)
    }
}

impl<M: Measure> RowProducer for PairsProducer<M> {
    fn run<'a>(&'a self, context: &'a Arc<TaskContext>, rows: &'a RowSender) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let PairsCall { request, measure } = &self.call;
            let pairs = &request.pairs;
            let (width, others) = pairs.widths();
            let start = || measure.start(width, others);
            let accumulator = Arc::new(pairs.add_up(start, M::bytes(width, others), &self.origin, context).await?);
            for first in (0..width).step_by(pairs.one.model.neurons_per_layer()) {
                let (accumulator, call) = (Arc::clone(&accumulator), self.call.clone());
                let of_layer = tokio::task::spawn_blocking(move || call.strongest(&accumulator, first)).await;
                let of_layer = of_layer.map_err(|e| Error::Internal(format!("pairs of neurons were lost: {e}")))?;
                if !rows.send(rows.batch(of_layer)?).await {
                    break;
                }
            }
            Ok(())
        })
    }
}

impl<M: Measure> PairsCall<M> {
    /// Columns for the neurons of a layer, whose first neuron has this number.
    fn strongest(&self, accumulator: &M::Accumulator, first: usize) -> Vec<ArrayRef> {
        let PairRequest { pairs: Pairs { one, other, .. }, k, .. } = &self.request;
        let others = other.as_ref().unwrap_or(one);
        let (mut found, mut results) = (Vec::new(), Vec::new());
        for number in first..first + one.model.neurons_per_layer() {
            for ((partner, tells), rank) in self.measure.strongest(accumulator, number, *k).into_iter().zip(1..) {
                found.push((number, rank, partner as usize));
                results.push(tells);
            }
        }
        let integers = |integer: &dyn Fn(&(usize, i32, usize)) -> i32| -> ArrayRef {
            Arc::new(Int32Array::from_iter_values(found.iter().map(integer)))
        };
        let mut columns: Vec<ArrayRef> = vec![
            integers(&|(number, ..)| one.place(*number).0),
            integers(&|(number, ..)| one.place(*number).1),
            integers(&|(_, rank, _)| *rank),
            Arc::new(StringArray::from_iter_values(found.iter().map(|_| others.model.name()))),
            integers(&|(.., partner)| others.place(*partner).0),
            integers(&|(.., partner)| others.place(*partner).1),
        ];
        columns.extend(M::columns(&results));
        columns
    }
}
