//! `correlations(model, dataset, …)`: which neurons rise and fall together over a dataset.
//!
//! For each neuron the `k` others with the strongest Pearson correlation over all tokens: of the same model, or of
//! `other`, a model that reads the same tokens. The model runs once; co-moments of all pairs are added up as it goes, so
//! memory is that of a matrix of pairs, whatever the size of the dataset.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, Float64Array, Int32Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::logical_expr::LogicalPlan;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use neuroql_analysis::{CoMoments, Sign};
use neuroql_model::{Batch, Cancel, CancelOnDrop, Model, Probe, Width};

use crate::Error;
use crate::activations::{Documents, Examples, Origin, Producer};
use crate::dataset::{DEFAULT, Dataset};
use crate::holdings::Holdings;
use crate::predicate::{Predicate, check};
use crate::relation::{Asked, Call, Parameter, Relation, Rows, Values, Work, computed};

/// Neurons returned for each if the query does not say.
const DEFAULT_K: i64 = 5;

/// Which correlations are strong if the query does not say.
const DEFAULT_SIGN: &str = "either";

/// See the module.
#[derive(Debug)]
pub(crate) struct Correlations;

impl Relation for Correlations {
    fn name(&self) -> &'static str {
        "correlations"
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![
            Parameter::required("model", DataType::Utf8),
            Parameter::with_default("dataset", DEFAULT),
            Parameter::optional_text("other"),
            Parameter::optional_text("layers"),
            Parameter::optional_text("other_layers"),
            Parameter::optional_number("documents"),
            Parameter::with_default("k", DEFAULT_K),
            Parameter::with_default("sign", DEFAULT_SIGN),
        ]
    }

    fn outputs(&self) -> Vec<Field> {
        let field = |name: &str, data_type| Field::new(name, data_type, true);
        vec![
            field("layer", DataType::Int32),
            field("neuron", DataType::Int32),
            field("rank", DataType::Int32),
            field("other_model", DataType::Utf8),
            field("other_layer", DataType::Int32),
            field("other_neuron", DataType::Int32),
            field("correlation", DataType::Float64),
        ]
    }

    fn plan(&self, holdings: &Arc<Holdings>, values: &Values) -> Result<LogicalPlan> {
        let model = values.model(holdings)?;
        let other = values.optional_text("other").map(|other| check(holdings.registry.get(other))).transpose()?;
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
        let call = CorrelationsCall {
            holdings: Arc::clone(holdings),
            dataset: values.text("dataset")?.to_owned(),
            documents: values.optional_number("documents", 0..=i64::MAX)?,
            k: values.number("k", 1..=i64::MAX)? as usize,
            sign: values.parsed::<Named>("sign")?.0,
            one,
            other,
        };
        computed(self.name(), call)
    }
}

/// A sign by its name in SQL.
struct Named(Sign);

impl FromStr for Named {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "positive" => Ok(Self(Sign::Positive)),
            "negative" => Ok(Self(Sign::Negative)),
            "either" => Ok(Self(Sign::Either)),
            other => Err(format!("is '{other}', expected positive, negative or either")),
        }
    }
}

/// Some layers of a model; neurons are numbered through them.
#[derive(Debug, Clone)]
struct Side {
    model: Arc<Model>,
    layers: Vec<u32>,
}

impl Side {
    fn width(&self) -> usize {
        self.layers.len() * self.model.config().d_mlp
    }

    fn place(&self, number: usize) -> (i32, i32) {
        let d_mlp = self.model.config().d_mlp;
        (self.layers[number / d_mlp] as i32, (number % d_mlp) as i32)
    }

    /// Activations of all its neurons, `[tokens, width]`.
    fn run(&self, batch: &Batch, probe: &Probe, cancel: &Cancel) -> neuroql_model::Result<Vec<f32>> {
        let (d_mlp, width) = (self.model.config().d_mlp, self.width());
        let mut all = Vec::new();
        for (number, tensor) in self.model.run(batch, probe, cancel)?.into_iter().enumerate() {
            let values = tensor.flatten_all()?.to_vec1::<f32>()?;
            if width == d_mlp {
                return Ok(values);
            }
            all.resize(values.len() / d_mlp * width, 0.0);
            let of_layer = number * d_mlp..(number + 1) * d_mlp;
            for (row, values) in all.chunks_exact_mut(width).zip(values.chunks_exact(d_mlp)) {
                row[of_layer.clone()].copy_from_slice(values);
            }
        }
        Ok(all)
    }
}

#[derive(Debug, Clone)]
struct CorrelationsCall {
    holdings: Arc<Holdings>,
    dataset: String,
    one: Side,
    /// What it is correlated with, if not with itself.
    other: Option<Side>,
    /// Documents to be read at most.
    documents: Option<u64>,
    k: usize,
    sign: Sign,
}

#[async_trait]
impl Call for CorrelationsCall {
    type Work = Correlating;

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(Correlations.outputs()))
    }

    async fn work(&self, session: &dyn Session, _: Asked<'_>) -> Result<Correlating> {
        let dataset = Dataset::find(session, &self.dataset).await?;
        Ok(Correlating { origin: Origin::of(session, &self.dataset, dataset).await?, call: self.clone() })
    }
}

/// Correlations to be computed.
struct Correlating {
    call: CorrelationsCall,
    origin: Origin,
}

impl fmt::Display for Correlating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CorrelationsCall { dataset, one, other, k, .. } = &self.call;
        write!(f, "correlations model={} dataset={dataset} layers={:?}", one.model.name(), one.layers)?;
        other.iter().try_for_each(|other| write!(f, " other={} {:?}", other.model.name(), other.layers))?;
        write!(f, " k={k}")
    }
}

#[async_trait]
impl Work for Correlating {
    async fn run(&self, context: &Arc<TaskContext>, rows: &Rows) -> Result<()> {
        let pairs = Arc::new(self.pairs(context).await?);
        let call = &self.call;
        for first in (0..call.one.width()).step_by(call.one.model.config().d_mlp) {
            let (pairs, call) = (Arc::clone(&pairs), call.clone());
            let of_layer = tokio::task::spawn_blocking(move || call.strongest(&pairs, first)).await;
            let of_layer = of_layer.map_err(|e| Error::Internal(format!("correlations were lost: {e}")))?;
            if !rows.send(of_layer?).await {
                break;
            }
        }
        Ok(())
    }
}

impl Correlating {
    /// Co-moments of all pairs over the dataset.
    async fn pairs(&self, context: &Arc<TaskContext>) -> Result<CoMoments> {
        let CorrelationsCall { holdings, one, other, documents, .. } = &self.call;
        let goal = documents.unwrap_or(u64::MAX);
        let (width, others) = (one.width(), other.as_ref().map(Side::width));
        let most = one.model.batch_tokens(width + others.unwrap_or(0));
        let pool = holdings.registry.pool();
        let reservation = MemoryConsumer::new("correlations").register(context.memory_pool());
        let batches = (pool.threads() + 2) * 4 * most * (width + others.unwrap_or(0));
        reservation.try_grow(CoMoments::bytes(width, others) + batches)?;
        let mut pairs = match others {
            None => CoMoments::within(width),
            Some(others) => CoMoments::between(width, others),
        };
        let guard = CancelOnDrop::default();
        let sides = Arc::new([Some(one.clone()), other.clone()]);
        let probe = |side: &Side| Probe::new(&side.model, side.layers.iter().map(|layer| (*layer as usize, None)));
        let probes = sides.iter().flatten().map(probe).collect::<neuroql_model::Result<Vec<_>>>();
        let probes = Arc::new(check(probes)?);
        let everything = Predicate::new(Vec::new());
        let documents = Documents::new(&self.origin, everything.clone(), Arc::clone(context))?;
        let examples = Examples::Of(Box::new(documents));
        let mut producer = Producer::new(Arc::clone(&one.model), examples, everything, most);
        let mut in_flight = FuturesOrdered::new();
        let mut exhausted = false;
        loop {
            while !exhausted && in_flight.len() <= pool.threads() {
                let next = producer.next().await?;
                match next.map(|packed| packed.before(goal, one.model.bos())) {
                    Some(packed) if !packed.examples.is_empty() => {
                        let (sides, probes, cancel) = (Arc::clone(&sides), Arc::clone(&probes), guard.flag());
                        in_flight.push_back(pool.run(Width::Lane, move || {
                            let sides = sides.iter().flatten().zip(probes.iter());
                            sides.map(|(side, probe)| side.run(&packed.batch, probe, &cancel)).collect()
                        }));
                    }
                    _ => exhausted = true,
                }
            }
            let Some(values) = in_flight.next().await else { return Ok(pairs) };
            let values: Vec<Vec<f32>> = check(values)?;
            let add = move || {
                let added = match &values[..] {
                    [x, y] => pairs.add_pairs(x, y),
                    values => values.iter().try_for_each(|x| pairs.add(x)),
                };
                Ok(added.map(|()| pairs))
            };
            let added = check(pool.run(Width::Wide, add).await)?;
            pairs = added.map_err(|e| DataFusionError::from(Error::Internal(e.to_string())))?;
        }
    }
}

impl CorrelationsCall {
    /// Rows of the neurons of a layer, whose first neuron has this number.
    fn strongest(&self, pairs: &CoMoments, first: usize) -> Result<RecordBatch> {
        let others = self.other.as_ref().unwrap_or(&self.one);
        let mut found = Vec::new();
        for number in first..first + self.one.model.config().d_mlp {
            let strongest = pairs.strongest(number, self.k, self.sign).into_iter().zip(1..);
            found.extend(strongest.map(|(correlate, rank)| (number, rank, correlate)));
        }
        let integers = |integer: &dyn Fn(&(usize, i32, neuroql_analysis::Correlate)) -> i32| -> ArrayRef {
            Arc::new(Int32Array::from_iter_values(found.iter().map(integer)))
        };
        let columns: Vec<ArrayRef> = vec![
            integers(&|(number, ..)| self.one.place(*number).0),
            integers(&|(number, ..)| self.one.place(*number).1),
            integers(&|(_, rank, _)| *rank),
            Arc::new(StringArray::from_iter_values(found.iter().map(|_| others.model.name()))),
            integers(&|(.., correlate)| others.place(correlate.neuron as usize).0),
            integers(&|(.., correlate)| others.place(correlate.neuron as usize).1),
            Arc::new(Float64Array::from_iter_values(found.iter().map(|(.., correlate)| correlate.correlation))),
        ];
        Ok(RecordBatch::try_new(self.schema(), columns)?)
    }
}
