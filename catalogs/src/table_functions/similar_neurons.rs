//! `similar_neurons(model, layer, neuron, k, other)`: neurons whose graphs have the most patterns in common with that
//! of a neuron, most similar first.
//!
//! Similarity is the weighted Jaccard similarity of patterns, `graph_similarity(a, b)`. Neurons of the same model are
//! looked at, of the model `other` if one is named, or of all models if that is `*`.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{Float64Array, Int32Array, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::LogicalPlan;
use futures::future::BoxFuture;
use neuroql_model::Model;
use neuroql_schema::Role;

use crate::Error;
use crate::state::EngineState;
use crate::table_functions::api::{
    Parameter, ParameterValues, RowProducer, RowSender, ScanOptions, StreamingTableFunction, TableFunction,
    streaming_plan,
};

/// Default of the parameter `k`: number of neurons returned.
const DEFAULT_K: i64 = 10;

/// Table function `similar_neurons`.
#[derive(Debug)]
pub(crate) struct SimilarNeurons;

impl TableFunction for SimilarNeurons {
    fn name(&self) -> &'static str {
        "similar_neurons"
    }

    fn parameters(&self) -> Vec<Parameter> {
        // The columns model, layer and neuron are those of the neurons found.
        vec![
            Parameter::required("model", DataType::Utf8).in_column("of_model"),
            Parameter::required("layer", DataType::Int64).in_column("of_layer"),
            Parameter::required("neuron", DataType::Int64).in_column("of_neuron"),
            Parameter::with_default("k", DEFAULT_K),
            Parameter::optional_text("other"),
        ]
    }

    fn outputs(&self) -> Vec<Field> {
        fields()
    }

    fn requires(&self) -> Role {
        Role::Reader
    }

    fn plan(&self, engine: &Arc<EngineState>, values: &ParameterValues) -> Result<LogicalPlan> {
        let model = values.model(engine)?;
        let (Some(layer), Some(neuron)) = values.place(&model)? else {
            let missing = if values.optional_number("layer", 0..=i64::MAX)?.is_none() { "layer" } else { "neuron" };
            return Err(values.invalid(missing, "is NULL").into());
        };
        let others = match values.optional_text("other") {
            None => vec![Arc::clone(&model)],
            Some("*") => values.models(engine),
            Some(other) => vec![values.model_named(engine, other)?],
        };
        let k = values.number("k", 0..=i64::MAX)? as usize;
        streaming_plan(
            self.name(),
            SimilarNeuronsProducer { engine: Arc::clone(engine), model, layer, neuron, others, k },
        )
    }
}

fn fields() -> Vec<Field> {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    vec![
        field("model", DataType::Utf8),
        field("layer", DataType::Int32),
        field("neuron", DataType::Int32),
        field("similarity", DataType::Float64),
    ]
}

#[derive(Debug, Clone)]
struct SimilarNeuronsProducer {
    engine: Arc<EngineState>,
    model: Arc<Model>,
    layer: u32,
    neuron: u32,
    others: Vec<Arc<Model>>,
    k: usize,
}

impl StreamingTableFunction for SimilarNeuronsProducer {
    type Producer = Self;

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(fields()))
    }

    fn producer<'a>(&'a self, _: &'a dyn Session, scan: ScanOptions<'a>) -> BoxFuture<'a, Result<Self>> {
        Box::pin(async move { Ok(Self { k: self.k.min(scan.limit.unwrap_or(usize::MAX)), ..self.clone() }) })
    }
}

impl fmt::Display for SimilarNeuronsProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, layer, neuron, others, k, .. } = self;
        let others: Vec<&str> = others.iter().map(|other| other.name()).collect();
        write!(
            f,
            "similar_neurons model={} layer={layer} neuron={neuron} among={} k={k}",
            model.name(),
            others.join(",")
        )
    }
}

impl RowProducer for SimilarNeuronsProducer {
    fn run<'a>(&'a self, _: &'a Arc<TaskContext>, rows: &'a RowSender) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let own = self.engine.resources.graph_index(&self.model).await?;
            let Some(signature) = own.signature(self.layer, self.neuron) else { return Ok(()) };
            let mut found: Vec<(usize, (u32, u32), f64)> = Vec::new();
            for (number, other) in self.others.iter().enumerate() {
                let index = self.engine.resources.graph_index(other).await?;
                let itself = (other.name() == self.model.name()).then_some((self.layer, self.neuron));
                let (signature, k) = (signature.clone(), self.k.saturating_add(1));
                let search = move || {
                    let similar = index.patterns.most_similar(&signature, k, 0.0).into_iter();
                    let placed = similar.map(|(ordinal, similarity)| (index.places[ordinal as usize], similarity));
                    placed.filter(|(place, _)| Some(*place) != itself).collect::<Vec<_>>()
                };
                let similar = tokio::task::spawn_blocking(search).await;
                let similar = similar.map_err(|e| Error::Internal(format!("a comparison was lost: {e}")))?;
                found.extend(similar.into_iter().map(|(place, similarity)| (number, place, similarity)));
            }
            found.sort_by(|a, b| b.2.total_cmp(&a.2).then((a.0, a.1).cmp(&(b.0, b.1))));
            found.truncate(self.k);
            for found in found.chunks(8192) {
                let columns: Vec<datafusion::arrow::array::ArrayRef> = vec![
                    Arc::new(
                        found.iter().map(|(number, ..)| Some(self.others[*number].name())).collect::<StringArray>(),
                    ),
                    Arc::new(found.iter().map(|(_, (layer, _), _)| *layer as i32).collect::<Int32Array>()),
                    Arc::new(found.iter().map(|(_, (_, neuron), _)| *neuron as i32).collect::<Int32Array>()),
                    Arc::new(found.iter().map(|(.., similarity)| *similarity).collect::<Float64Array>()),
                ];
                if !rows.send(rows.batch(columns)?).await {
                    break;
                }
            }
            Ok(())
        })
    }
}
