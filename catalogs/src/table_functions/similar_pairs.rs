//! `similar_pairs(model, other, threshold)`: all pairs of neurons of a model, or of one of it and one of another, whose
//! graphs are at least so similar.
//!
//! Similarity is the weighted Jaccard similarity of patterns, `graph_similarity(a, b)`. Pairs come as they are found,
//! by an exact join of sets that compares few of all pairs.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int32Array, StringArray};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::LogicalPlan;
use futures::future::BoxFuture;
use neuroql_graph::Pair;
use neuroql_model::Model;
use neuroql_schema::{Role, sql_error};

use crate::Error;
use crate::state::EngineState;
use crate::table_functions::api::{Parameter, ParameterValues, RowProducer, RowSender, TableFunction, unfiltered_plan};
use neuroql_pipeline::graphs::GraphIndex;

/// Default of the parameter `threshold`: similarity from which pairs are returned.
const DEFAULT_THRESHOLD: f64 = 0.9;

/// Least threshold: far below it nearly all pairs that share a pattern would have to be compared.
pub(crate) const LEAST_THRESHOLD: f64 = 0.01;

/// Table function `similar_pairs`.
#[derive(Debug)]
pub(crate) struct SimilarPairs;

impl TableFunction for SimilarPairs {
    fn name(&self) -> &'static str {
        "similar_pairs"
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![
            Parameter::required("model", DataType::Utf8).in_column("of_model"),
            Parameter::optional_text("other"),
            Parameter::with_default("threshold", DEFAULT_THRESHOLD),
        ]
    }

    fn positional(&self, arguments: usize) -> Vec<&'static str> {
        // The second one may be left out.
        if arguments == 2 { vec!["model", "threshold"] } else { vec!["model", "other", "threshold"] }
    }

    fn outputs(&self) -> Vec<Field> {
        let field = |name: &str, data_type| Field::new(name, data_type, true);
        vec![
            field("model", DataType::Utf8),
            field("layer", DataType::Int32),
            field("neuron", DataType::Int32),
            field("other_model", DataType::Utf8),
            field("other_layer", DataType::Int32),
            field("other_neuron", DataType::Int32),
            field("similarity", DataType::Float64),
        ]
    }

    fn requires(&self) -> Role {
        Role::Reader
    }

    fn plan(&self, engine: &Arc<EngineState>, values: &ParameterValues) -> Result<LogicalPlan> {
        let model = values.model(engine)?;
        let other = values.optional_model(engine, "other")?;
        let call = SimilarPairsProducer {
            engine: Arc::clone(engine),
            other: other.filter(|other| other.name() != model.name()),
            threshold: values.real("threshold", LEAST_THRESHOLD..=1.0)?,
            model,
        };
        unfiltered_plan(self, call)
    }
}

#[derive(Debug, Clone)]
struct SimilarPairsProducer {
    engine: Arc<EngineState>,
    model: Arc<Model>,
    other: Option<Arc<Model>>,
    threshold: f64,
}

impl fmt::Display for SimilarPairsProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "similar_pairs model={}", self.model.name())?;
        self.other.iter().try_for_each(|other| write!(f, " other={}", other.name()))?;
        write!(f, " threshold={}", self.threshold)
    }
}

impl RowProducer for SimilarPairsProducer {
    fn run<'a>(&'a self, _: &'a Arc<TaskContext>, rows: &'a RowSender) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let one = self.engine.resources.graph_index(&self.model).await?;
            let other = match &self.other {
                Some(other) => Some(self.engine.resources.graph_index(other).await?),
                None => None,
            };
            let (this, rows) = (self.clone(), rows.clone());
            let join = move || {
                let others = other.as_deref().unwrap_or(&one);
                let mut failed = None;
                let sink = |pairs: &[Pair]| {
                    let sent = rows.batch(this.columns(&one, others, pairs)).map(|batch| rows.send_from_thread(batch));
                    if matches!(sent, Ok(true)) {
                        return ControlFlow::Continue(());
                    }
                    failed = sent.err();
                    ControlFlow::Break(())
                };
                let joined = match &other {
                    Some(other) => one.patterns.pairs_with(&other.patterns, this.threshold, sink),
                    None => one.patterns.pairs(this.threshold, sink),
                };
                match (joined, failed) {
                    (Err(error), _) => Err(sql_error(error)),
                    (Ok(_), Some(error)) => Err(error),
                    (Ok(_), None) => Ok(()),
                }
            };
            let joined = tokio::task::spawn_blocking(join).await;
            joined.map_err(|e| {
                datafusion::error::DataFusionError::from(Error::Internal(format!("a join was lost: {e}")))
            })?
        })
    }
}

impl SimilarPairsProducer {
    fn columns(&self, one: &GraphIndex, other: &GraphIndex, pairs: &[Pair]) -> Vec<ArrayRef> {
        let names = [&self.model, self.other.as_ref().unwrap_or(&self.model)].map(|model| {
            let name: ArrayRef = Arc::new(StringArray::from_iter_values(pairs.iter().map(|_| model.name())));
            name
        });
        let numbers = |number: &dyn Fn(&Pair) -> u32| -> ArrayRef {
            Arc::new(Int32Array::from_iter_values(pairs.iter().map(|pair| number(pair) as i32)))
        };
        let [name, other_name] = names;
        vec![
            name,
            numbers(&|pair| one.places[pair.a as usize].0),
            numbers(&|pair| one.places[pair.a as usize].1),
            other_name,
            numbers(&|pair| other.places[pair.b as usize].0),
            numbers(&|pair| other.places[pair.b as usize].1),
            Arc::new(Float64Array::from_iter_values(pairs.iter().map(|pair| pair.similarity))),
        ]
    }
}
