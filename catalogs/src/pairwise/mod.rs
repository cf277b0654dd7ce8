//! Relations over pairs of neurons, of one model or of two, that are about the activations of both on the same tokens.
//!
//! The models run once; what is kept of each pair is added up as they go, so memory is that of a matrix of pairs,
//! whatever the size of the dataset.

use neuroql_schema::sql_error;
use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int32Array, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::logical_expr::LogicalPlan;
use futures::future::BoxFuture;
use futures::future::ready;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use neuroql_model::{Batch, Cancel, CancelOnDrop, Model, Probe, Width, reduce};

use crate::Error;
use crate::activations::{Documents, Examples, Origin, Producer};
use crate::dataset::{DEFAULT, Dataset};
use crate::estimate::{Estimate, Running, Tokens};
use crate::holdings::Holdings;
use crate::predicate::Predicate;
use crate::relation::{Asked, Call, Parameter, Relation, Rows, Values, Work, computed};

mod coactivations;
mod correlations;

pub(crate) use coactivations::{FIRES_ABOVE, Firing, fires_above};
pub(crate) use correlations::Correlation;

/// Neurons returned for each if the query does not say.
const DEFAULT_K: i64 = 5;

/// What is kept of all pairs, of one set of neurons or of two, while the models run.
pub(crate) trait Accumulator: Send + Sync + Sized + 'static {
    /// Adds the activations `[tokens, width]` of one set or of two, row for row of the same tokens.
    fn add_values(&mut self, values: &[Vec<f32>]) -> neuroql_analysis::Result<()>;

    /// Adds what another knows of other tokens.
    fn add_others(&mut self, others: &Self) -> neuroql_analysis::Result<()>;
}

/// Of so many batches each adds to an accumulator of its own, beside the others and on one thread. As many for any number
/// of threads, so that the last digits of a result do not depend on it.
const CHAINS: usize = 8;

/// Bytes of an accumulator that is worth having so often.
const CHAIN_BYTES: usize = 64 << 20;

/// How strongly neurons are paired.
pub(crate) trait Measure: Clone + fmt::Debug + Send + Sync + 'static {
    /// The relation's name.
    const NAME: &'static str;
    /// What is kept of all pairs.
    type Kept: Accumulator;
    /// What is told of a pair.
    type Told: Send;

    /// The parameter that says which, beside those that all such relations have.
    fn parameter() -> Parameter;

    /// What a call says of it.
    fn of(values: &Values) -> Result<Self>;

    /// Nothing kept yet; `others` is the size of the second set.
    fn start(&self, width: usize, others: Option<usize>) -> Self::Kept;

    /// The bytes that it will take.
    fn bytes(width: usize, others: Option<usize>) -> usize;

    /// The numbers of the `k` neurons that one is paired with most strongly, strongest first.
    fn strongest(&self, kept: &Self::Kept, number: usize, k: usize) -> Vec<(u32, Self::Told)>;

    /// Columns of what is told.
    fn fields() -> Vec<Field>;

    /// Their values.
    fn columns(told: &[Self::Told]) -> Vec<ArrayRef>;
}

/// Some layers of a model; neurons are numbered through them.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    pub model: Arc<Model>,
    pub layers: Vec<u32>,
}

impl Side {
    pub fn width(&self) -> usize {
        self.layers.len() * self.model.config().d_mlp
    }

    /// Layer and neuron of a number.
    fn place(&self, number: usize) -> (i32, i32) {
        let d_mlp = self.model.config().d_mlp;
        (self.layers[number / d_mlp] as i32, (number % d_mlp) as i32)
    }

    /// Activations of all its neurons, `[tokens, width]`.
    fn run(&self, batch: &Batch, probe: &Probe, cancel: &Cancel) -> neuroql_model::Result<Vec<f32>> {
        let d_mlp = self.model.config().d_mlp;
        let layers =
            self.model.run(batch, probe, cancel)?.iter().map(reduce::on_host).collect::<Result<Vec<_>, _>>()?;
        let layers = layers.iter().map(reduce::in_place).collect::<Result<Vec<_>, _>>()?;
        let tokens = layers.first().map_or(0, |layer| layer.len() / d_mlp);
        let mut all = Vec::with_capacity(tokens * self.width());
        for token in 0..tokens {
            layers.iter().for_each(|layer| all.extend_from_slice(&layer[token * d_mlp..][..d_mlp]));
        }
        Ok(all)
    }
}

/// Which pairs are asked for, and over which text.
#[derive(Debug, Clone)]
pub(crate) struct Pairs {
    holdings: Arc<Holdings>,
    dataset: String,
    pub one: Side,
    /// What it is paired with, if not with itself.
    pub other: Option<Side>,
    /// Documents to be read at most.
    documents: Option<u64>,
    /// Partners to be returned of each neuron.
    pub k: usize,
}

impl Pairs {
    /// The parameters that say so.
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

    /// Columns that name a pair and tell of it.
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

    fn of(holdings: &Arc<Holdings>, values: &Values) -> Result<Self> {
        let model = values.model(holdings)?;
        let other =
            values.optional_text("other").map(|other| holdings.registry.get(other).map_err(sql_error)).transpose()?;
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
        let one = Side { layers: values.layers("layers", &model)?, model };
        let other = match other {
            Some(other) => Some(Side { layers: values.layers("other_layers", &other)?, model: other }),
            None if values.optional_text("other_layers").is_some() => {
                Some(Side { layers: values.layers("other_layers", &one.model)?, model: Arc::clone(&one.model) })
            }
            None => None,
        };
        Ok(Self {
            holdings: Arc::clone(holdings),
            dataset: values.text("dataset")?.to_owned(),
            documents: values.optional_number("documents", 0..=i64::MAX)?,
            k: values.number("k", 1..=i64::MAX)? as usize,
            one,
            other,
        })
    }

    /// All pairs of the neurons of a model.
    pub fn all(holdings: &Arc<Holdings>, model: &Arc<Model>, values: &Values) -> Result<Self> {
        Ok(Self {
            holdings: Arc::clone(holdings),
            dataset: values.text("dataset")?.to_owned(),
            documents: values.optional_number("documents", 0..=i64::MAX)?,
            one: Side { layers: (0..model.config().layers as u32).collect(), model: Arc::clone(model) },
            other: None,
            k: usize::MAX,
        })
    }

    /// Where the text is.
    pub async fn origin(&self, session: &dyn Session) -> Result<Origin> {
        Origin::of(session, &self.dataset, Dataset::find(session, &self.dataset).await?).await
    }

    /// Neurons on both sides.
    pub fn widths(&self) -> (usize, Option<usize>) {
        (self.one.width(), self.other.as_ref().map(Side::width))
    }

    /// What adding up will cost; `bytes` is what an accumulator takes.
    fn estimate(&self, bytes: usize, origin: &Origin) -> Estimate {
        let Self { holdings, one, other, documents, .. } = self;
        let (width, others) = self.widths();
        let values = width + others.unwrap_or(0);
        let threads = holdings.registry.pool().threads();
        // The other model's passes count by their layers.
        let depth = |side: &Side| side.layers.last().map_or(0.0, |layer| f64::from(layer + 1));
        let running = Running {
            speed: one.model.speed(),
            layers: depth(one) + other.as_ref().map_or(0.0, depth),
            batch: one.model.batch_tokens(values),
            lanes: threads + 1,
            threads,
        };
        let tokens = Tokens::of(origin, &one.model, one.model.tokenizer().bytes_per_token());
        let tokens = tokens.map(|tokens| tokens.of_first(*documents));
        let count = if bytes <= CHAIN_BYTES { CHAINS } else { 1 };
        running.estimate(tokens, threads + 2 + count, (count * bytes) as f64, (4 * values) as f64)
    }

    /// Adds up all pairs over the dataset; `bytes` is what an accumulator takes, beside that of the batches.
    pub async fn add_up<A: Accumulator>(
        &self,
        start: impl Fn() -> A,
        bytes: usize,
        origin: &Origin,
        context: &Arc<TaskContext>,
    ) -> Result<A> {
        let Self { holdings, one, other, documents, .. } = self;
        let goal = documents.unwrap_or(u64::MAX);
        let (width, others) = self.widths();
        let most = one.model.batch_tokens(width + others.unwrap_or(0));
        let pool = holdings.registry.pool();
        let reservation = MemoryConsumer::new("pairs of neurons").register(context.memory_pool());
        let batch = 4 * most * (width + others.unwrap_or(0));
        let needed = |count| count * bytes + (pool.threads() + 2 + count) * batch;
        // A large one, or one that memory is short for, is added to by all threads at once instead.
        let (count, adding) = match bytes <= CHAIN_BYTES && reservation.try_grow(needed(CHAINS)).is_ok() {
            true => (CHAINS, Width::Lane),
            false => {
                reservation.try_grow(needed(1))?;
                (1, Width::Wide)
            }
        };
        let guard = CancelOnDrop::default();
        let sides = Arc::new([Some(one.clone()), other.clone()]);
        let probe = |side: &Side| Probe::new(&side.model, side.layers.iter().map(|layer| (*layer as usize, None)));
        let probes = sides.iter().flatten().map(probe).collect::<neuroql_model::Result<Vec<_>>>();
        let probes = Arc::new(probes.map_err(sql_error)?);
        let everything = Predicate::new(Vec::new());
        let documents = Documents::new(origin, everything.clone(), Arc::clone(context))?;
        let examples = Examples::Of(Box::new(documents));
        let mut batches = Producer::new(Arc::clone(&one.model), examples, everything, most).ahead();
        let mut in_flight = FuturesOrdered::new();
        let mut exhausted = false;
        let mut chains: VecDeque<_> = (0..count).map(|_| ready(Ok(Ok(start()))).boxed()).collect();
        loop {
            while !exhausted && in_flight.len() <= pool.threads() {
                let next = batches.next().await?;
                match next.map(|packed| packed.before(goal, one.model.bos())) {
                    Some(packed) if !packed.examples.is_empty() => {
                        let (sides, probes, cancel) = (Arc::clone(&sides), Arc::clone(&probes), guard.flag());
                        let lane = Width::Lane.of(&one.model);
                        in_flight.push_back(pool.run(lane, move || {
                            let sides = sides.iter().flatten().zip(probes.iter());
                            sides.map(|(side, probe)| side.run(&packed.batch, probe, &cancel)).collect()
                        }));
                    }
                    _ => exhausted = true,
                }
            }
            let Some(values) = in_flight.next().await else { break };
            let values: Vec<Vec<f32>> = values.map_err(sql_error)?;
            // The one whose turn it is; it was last added to `count` batches ago.
            let Some(chain) = chains.pop_front() else { break };
            let mut pairs = added(chain.await)?;
            let add = move || Ok(pairs.add_values(&values).map(|()| pairs));
            chains.push_back(pool.run(adding, add).boxed());
        }
        let mut all: Option<A> = None;
        for chain in chains {
            let pairs = added(chain.await)?;
            all = Some(match all {
                None => pairs,
                Some(mut all) => added(Ok(all.add_others(&pairs).map(|()| all)))?,
            });
        }
        Ok(all.unwrap_or_else(start))
    }
}

/// An accumulator that something was added to.
fn added<A>(result: neuroql_model::Result<neuroql_analysis::Result<A>>) -> Result<A> {
    result.map_err(sql_error)?.map_err(|e| Error::Internal(e.to_string()).into())
}

/// The relation of a measure.
#[derive(Debug)]
pub(crate) struct Paired<M>(PhantomData<M>);

impl<M> Paired<M> {
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<M: Measure> Relation for Paired<M> {
    fn name(&self) -> &'static str {
        M::NAME
    }

    fn parameters(&self) -> Vec<Parameter> {
        let mut parameters = Pairs::parameters();
        parameters.push(M::parameter());
        parameters
    }

    fn outputs(&self) -> Vec<Field> {
        Pairs::outputs::<M>()
    }

    fn requires_superuser(&self) -> bool {
        false
    }

    fn plan(&self, holdings: &Arc<Holdings>, values: &Values) -> Result<LogicalPlan> {
        let pairs = Pairs::of(holdings, values)?;
        computed(M::NAME, PairsCall { pairs, measure: M::of(values)? })
    }
}

/// A call of such a relation.
#[derive(Debug, Clone)]
struct PairsCall<M> {
    pairs: Pairs,
    measure: M,
}

impl<M: Measure> Call for PairsCall<M> {
    type Work = Pairing<M>;

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(Pairs::outputs::<M>()))
    }

    fn work<'a>(&'a self, session: &'a dyn Session, _: Asked<'a>) -> BoxFuture<'a, Result<Pairing<M>>> {
        Box::pin(async move {
            let origin = self.pairs.origin(session).await?;
            let (width, others) = self.pairs.widths();
            let estimate = self.pairs.estimate(M::bytes(width, others), &origin);
            Ok(Pairing { origin, call: self.clone(), estimate })
        })
    }
}

/// Pairs to be found.
struct Pairing<M> {
    call: PairsCall<M>,
    origin: Origin,
    estimate: Estimate,
}

impl<M: Measure> fmt::Display for Pairing<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pairs { dataset, one, other, k, .. } = &self.call.pairs;
        write!(f, "{} model={} dataset={dataset} layers={:?}", M::NAME, one.model.name(), one.layers)?;
        other.iter().try_for_each(|other| write!(f, " other={} {:?}", other.model.name(), other.layers))?;
        write!(f, " k={k}, {}", self.estimate)
    }
}

impl<M: Measure> Work for Pairing<M> {
    fn run<'a>(&'a self, context: &'a Arc<TaskContext>, rows: &'a Rows) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let PairsCall { pairs, measure } = &self.call;
            let (width, others) = pairs.widths();
            let start = || measure.start(width, others);
            let kept = Arc::new(pairs.add_up(start, M::bytes(width, others), &self.origin, context).await?);
            for first in (0..width).step_by(pairs.one.model.config().d_mlp) {
                let (kept, call) = (Arc::clone(&kept), self.call.clone());
                let of_layer = tokio::task::spawn_blocking(move || call.strongest(&kept, first)).await;
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
    fn strongest(&self, kept: &M::Kept, first: usize) -> Vec<ArrayRef> {
        let Pairs { one, other, k, .. } = &self.pairs;
        let others = other.as_ref().unwrap_or(one);
        let (mut found, mut told) = (Vec::new(), Vec::new());
        for number in first..first + one.model.config().d_mlp {
            for ((partner, tells), rank) in self.measure.strongest(kept, number, *k).into_iter().zip(1..) {
                found.push((number, rank, partner as usize));
                told.push(tells);
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
        columns.extend(M::columns(&told));
        columns
    }
}
