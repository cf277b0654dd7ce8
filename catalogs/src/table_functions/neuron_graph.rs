//! `neuron_graph(model, kind, threshold, k, dataset, documents, fires_above)`: the place of each neuron in a network.
//!
//! `kind => 'similarity'` connects neurons whose graphs are at least so similar, `kind => 'coactivation'` those that
//! fire together on at least such a share of the tokens of the dataset on which one of them does, `kind => 'weights'`
//! each neuron and the `k` of each later layer that it feeds most, where the |cosine| of what the one writes and the
//! other reads is at least the threshold. Neurons without an edge have no row. Components are clusters of similar
//! neurons, groups that fire together, or circuits.

use neuroql_pipeline::Origin;
use std::fmt;
use std::ops::ControlFlow;
use std::str::FromStr;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int32Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::logical_expr::LogicalPlan;
use futures::future::BoxFuture;
use neuroql_analysis::CoActivations;
use neuroql_graph::{Network, Pair};
use neuroql_model::{CancelOnDrop, Model, Placement};
use neuroql_schema::{Role, sql_error};

use crate::Error;
use crate::state::EngineState;
use crate::table_functions::api::{
    Parameter, ParameterValues, RowProducer, RowSender, ScanOptions, StreamingTableFunction, TableFunction,
    streaming_plan,
};
use crate::table_functions::pairwise::{FIRES_ABOVE, PairRequest, fires_above};
use crate::table_functions::similar_pairs::LEAST_THRESHOLD;
use crate::tables::dataset::DEFAULT;

/// Default of the parameter `threshold`: similarity from which neurons are connected.
const DEFAULT_THRESHOLD: f64 = 0.5;

/// Default of the parameter `k`: number of neurons of each later layer that one is connected to.
const DEFAULT_K: i64 = 5;

/// Damping factor of the network's PageRank: see [`Network::page_rank`].
const DAMPING: f64 = 0.85;

/// Table function `neuron_graph`.
#[derive(Debug)]
pub(crate) struct NeuronGraph;

/// Kind of connection between neurons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NetworkKind {
    Similarity,
    Coactivation,
    Weights,
}

impl NetworkKind {
    fn name(self) -> &'static str {
        match self {
            Self::Similarity => "similarity",
            Self::Coactivation => "coactivation",
            Self::Weights => "weights",
        }
    }
}

impl FromStr for NetworkKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = [Self::Similarity, Self::Coactivation, Self::Weights].into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| format!("is '{name}', expected similarity, coactivation or weights"))
    }
}

impl TableFunction for NeuronGraph {
    fn name(&self) -> &'static str {
        "neuron_graph"
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![
            Parameter::required("model", DataType::Utf8),
            Parameter::with_default("kind", NetworkKind::Similarity.name()),
            Parameter::with_default("threshold", DEFAULT_THRESHOLD),
            Parameter::with_default("k", DEFAULT_K),
            Parameter::with_default("dataset", DEFAULT),
            Parameter::optional_number("documents"),
            Parameter::with_default("fires_above", FIRES_ABOVE),
        ]
    }

    fn outputs(&self) -> Vec<Field> {
        let field = |name: &str, data_type| Field::new(name, data_type, true);
        vec![
            field("layer", DataType::Int32),
            field("neuron", DataType::Int32),
            field("component", DataType::Int32),
            field("neighbours", DataType::Int32),
            field("weight", DataType::Float64),
            field("page_rank", DataType::Float64),
        ]
    }

    fn requires(&self) -> Role {
        Role::Reader
    }

    fn plan(&self, engine: &Arc<EngineState>, values: &ParameterValues) -> Result<LogicalPlan> {
        let model = values.model(engine)?;
        let call = NetworkCall {
            firing: PairRequest::all(engine, &model, values)?,
            engine: Arc::clone(engine),
            model,
            kind: values.parsed("kind")?,
            threshold: values.real("threshold", LEAST_THRESHOLD..=1.0)?,
            fires_above: fires_above(values)?,
            k: values.number("k", 1..=i64::MAX)? as usize,
        };
        streaming_plan(self.name(), call)
    }
}

#[derive(Debug, Clone)]
struct NetworkCall {
    engine: Arc<EngineState>,
    model: Arc<Model>,
    kind: NetworkKind,
    threshold: f64,
    k: usize,
    /// Request for the pairs of neurons that may fire together.
    firing: PairRequest,
    fires_above: f32,
}

impl StreamingTableFunction for NetworkCall {
    type Producer = NetworkProducer;

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(NeuronGraph.outputs()))
    }

    fn producer<'a>(&'a self, session: &'a dyn Session, _: ScanOptions<'a>) -> BoxFuture<'a, Result<NetworkProducer>> {
        Box::pin(async move {
            let origin = match self.kind {
                NetworkKind::Coactivation => Some(self.firing.origin(session).await?),
                _ => None,
            };
            Ok(NetworkProducer { edges: self.clone(), origin })
        })
    }
}

/// A network to be made.
struct NetworkProducer {
    edges: NetworkCall,
    /// Documents of the text, if the network is one of co-activations.
    origin: Option<Origin>,
}

impl fmt::Display for NetworkProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NetworkCall { model, kind, threshold, k, .. } = &self.edges;
        write!(f, "neuron_graph model={} kind={} threshold={threshold} k={k}", model.name(), kind.name())
    }
}

impl RowProducer for NetworkProducer {
    fn run<'a>(&'a self, context: &'a Arc<TaskContext>, rows: &'a RowSender) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let edges = match (&self.edges.kind, &self.origin) {
                (NetworkKind::Coactivation, Some(origin)) => self.edges.firing_together(origin, context).await?,
                (NetworkKind::Weights, _) => self.edges.connected().await?,
                _ => self.edges.similar(rows).await?,
            };
            // Each edge is there in both directions while the network is made.
            let reservation = MemoryConsumer::new("neuron_graph").register(context.memory_pool());
            reservation.try_grow(edges.len() * 4 * size_of::<(u64, u64, f64)>())?;
            let ranked = move || {
                let network = Network::new(edges)?;
                let ranks = network.page_rank(DAMPING)?;
                Ok::<_, neuroql_graph::Error>((network, ranks))
            };
            let ranked = tokio::task::spawn_blocking(ranked).await;
            let (network, ranks) =
                ranked.map_err(|e| Error::Internal(format!("a network was lost: {e}")))?.map_err(sql_error)?;
            rows.send(rows.batch(self.edges.columns(&network, ranks))?).await;
            Ok(())
        })
    }
}

/// Two neurons, each as layer · width + neuron, and how strongly they are connected.
type Edge = (u64, u64, f64);

impl NetworkCall {
    fn width(&self) -> u64 {
        self.model.neurons_per_layer() as u64
    }

    async fn similar(&self, rows: &RowSender) -> Result<Vec<Edge>> {
        let index = self.engine.resources.graph_index(&self.model).await?;
        let (width, threshold, rows) = (self.width(), self.threshold, rows.clone());
        let join = move || {
            let key = |ordinal: u64| {
                let (layer, neuron) = index.places[ordinal as usize];
                u64::from(layer) * width + u64::from(neuron)
            };
            let mut edges = Vec::new();
            let sink = |pairs: &[Pair]| {
                edges.extend(pairs.iter().map(|pair| (key(pair.a), key(pair.b), pair.similarity)));
                if rows.is_wanted() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            index.patterns.pairs(threshold, sink).map(|_| edges)
        };
        let edges = tokio::task::spawn_blocking(join).await;
        edges.map_err(|e| Error::Internal(format!("a join was lost: {e}")))?.map_err(sql_error)
    }

    async fn firing_together(&self, origin: &Origin, context: &Arc<TaskContext>) -> Result<Vec<Edge>> {
        let (width, _) = self.firing.pairs.widths();
        let start = || CoActivations::within(width, self.fires_above);
        let counts = self.firing.pairs.add_up(start, CoActivations::bytes(width, None), origin, context).await?;
        let threshold = self.threshold;
        let select = move || {
            let pairs = (0..width).flat_map(|one| (one + 1..width).map(move |other| (one, other)));
            let similar = pairs.filter_map(|(one, other)| {
                let jaccard = counts.overlap(one, other).jaccard()?;
                (jaccard >= threshold).then_some((one as u64, other as u64, jaccard))
            });
            similar.collect()
        };
        let edges = tokio::task::spawn_blocking(select).await;
        Ok(edges.map_err(|e| Error::Internal(format!("pairs of neurons were lost: {e}")))?)
    }

    async fn connected(&self) -> Result<Vec<Edge>> {
        let guard = CancelOnDrop::default();
        let (width, layers) = (self.width(), self.model.layers_read());
        let mut edges = Vec::new();
        for (from, to) in layers.clone().flat_map(|from| (from + 1..layers.end).map(move |to| (from, to))) {
            let (model, k, cancel) = (Arc::clone(&self.model), self.k, guard.flag());
            let job = move || model.strongest_connections(from, to, k, &cancel);
            let found =
                self.engine.registry.pool().run(Placement::AllThreads.of(&self.model), job).await.map_err(sql_error)?;
            for (neuron, connections) in (0u64..).zip(found) {
                for connection in connections {
                    let cosine = connection.cosine.map_or(0.0, |cosine| f64::from(cosine.abs()));
                    if cosine >= self.threshold {
                        let other = connection.layer as u64 * width + u64::from(connection.neuron);
                        edges.push((from as u64 * width + neuron, other, cosine));
                    }
                }
            }
        }
        Ok(edges)
    }

    fn columns(&self, network: &Network, ranks: Vec<f64>) -> Vec<ArrayRef> {
        let width = self.width();
        let (keys, degrees) = (network.keys(), network.degrees());
        vec![
            Arc::new(Int32Array::from_iter_values(keys.iter().map(|key| (key / width) as i32))),
            Arc::new(Int32Array::from_iter_values(keys.iter().map(|key| (key % width) as i32))),
            Arc::new(Int32Array::from_iter_values(network.components().into_iter().map(|part| part as i32))),
            Arc::new(Int32Array::from_iter_values(degrees.iter().map(|degree| degree.neighbours as i32))),
            Arc::new(Float64Array::from_iter_values(degrees.iter().map(|degree| degree.weight))),
            Arc::new(Float64Array::from(ranks)),
        ]
    }
}
