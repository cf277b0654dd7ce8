//! The columns of the tables that a store keeps.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

use crate::graph_column::node_fields;

/// Delta's name for the elements of a list.
const ELEMENT: &str = "element";

/// A list of values of a type.
pub fn list(data_type: DataType) -> DataType {
    DataType::List(Arc::new(element(data_type)))
}

/// The field inside a list.
pub fn element(data_type: DataType) -> Field {
    Field::new(ELEMENT, data_type, true)
}

fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

/// An example kept of a neuron. Those with a rank are its strongest; those with a quantile were drawn at random.
pub static EXAMPLE: LazyLock<Fields> = LazyLock::new(|| {
    Fields::from(vec![
        field("rank", DataType::Int32),
        field("quantile", DataType::Float32),
        field("document", DataType::Int64),
        field("example", DataType::Int64),
        field("position", DataType::Int32),
        field("activation", DataType::Float32),
        field("token_ids", list(DataType::Int32)),
        field("tokens", list(DataType::Utf8)),
        field("activations", list(DataType::Float32)),
        field("draw", DataType::Int64),
    ])
});

/// A token on which a neuron is among its strongest; `example` counts the examples of the analysis.
pub static STRONG: LazyLock<Fields> = LazyLock::new(|| {
    Fields::from(vec![
        field("example", DataType::Int32),
        field("position", DataType::Int32),
        field("activation", DataType::Float32),
    ])
});

/// The progress of an analysis.
pub static PROGRESS: LazyLock<Fields> = LazyLock::new(|| {
    Fields::from(vec![
        field("model_version", DataType::Utf8),
        field("k", DataType::Int32),
        field("documents", DataType::Int64),
        field("partial", DataType::Int64),
        field("documents_sha256", DataType::Utf8),
        field("examples", DataType::Int64),
        field("segments", list(DataType::Utf8)),
        field("complete", DataType::Boolean),
    ])
});

/// `neurons`: statistics and examples, and the progress of the analysis that made them.
pub static NEURONS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        field("model", DataType::Utf8),
        field("layer", DataType::Int32),
        field("dataset", DataType::Utf8),
        field("neuron", DataType::Int32),
        field("tokens", DataType::Int64),
        field("mean", DataType::Float64),
        field("variance", DataType::Float64),
        field("skewness", DataType::Float64),
        field("kurtosis", DataType::Float64),
        field("max_activation", DataType::Float32),
        field("min_activation", DataType::Float32),
        field("density", DataType::Float64),
        field("histogram", list(DataType::Float32)),
        field("examples", list(DataType::Struct(EXAMPLE.clone()))),
        field("strongest", list(DataType::Struct(STRONG.clone()))),
        field("positive", DataType::Int64),
        field("counts", list(DataType::Int64)),
        field("peaks", list(DataType::Int64)),
        field("m2", DataType::Float64),
        field("m3", DataType::Float64),
        field("m4", DataType::Float64),
        field("progress", DataType::Struct(PROGRESS.clone())),
    ]))
});

/// `bounds`: for each neuron and segment, a code an example, a signed byte each.
pub static BOUNDS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        field("model", DataType::Utf8),
        field("layer", DataType::Int32),
        field("dataset", DataType::Utf8),
        field("segment", DataType::Utf8),
        field("neuron", DataType::Int32),
        field("upper_low", DataType::Float32),
        field("upper_high", DataType::Float32),
        field("upper", DataType::Binary),
        field("lower_low", DataType::Float32),
        field("lower_high", DataType::Float32),
        field("lower", DataType::Binary),
    ]))
});

/// `contexts`: the tokens of each example of a segment, in the order of the bounds.
pub static CONTEXTS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        field("model", DataType::Utf8),
        field("dataset", DataType::Utf8),
        field("segment", DataType::Utf8),
        field("number", DataType::Int32),
        field("document", DataType::Int64),
        field("example", DataType::Int64),
        field("token_ids", list(DataType::Int32)),
    ]))
});

/// `graphs`: the graph that a method has learned of a neuron, or the reason why there is none, and its scores.
pub static GRAPHS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        field("model", DataType::Utf8),
        field("layer", DataType::Int32),
        field("neuron", DataType::Int32),
        field("graph", list(DataType::Struct(node_fields()))),
        field("nodes", DataType::Int32),
        field("patterns", DataType::Int32),
        field("max_activation", DataType::Float32),
        field("precision", DataType::Float32),
        field("recall", DataType::Float32),
        field("f1", DataType::Float32),
        field("accuracy", DataType::Float32),
        field("r2", DataType::Float32),
        field("pearson", DataType::Float32),
        field("random_precision", DataType::Float32),
        field("random_recall", DataType::Float32),
        field("method", DataType::Utf8),
        field("dataset", DataType::Utf8),
        field("seconds", DataType::Float32),
        field("built_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        field("reason", DataType::Utf8),
        field("options", DataType::Utf8),
        field("positives", DataType::Int32),
        field("model_version", DataType::Utf8),
        field("random_positives", DataType::Int32),
        field("random_predictions", DataType::Int32),
        field("named_tokens", DataType::Int32),
        field("description_length", DataType::Float32),
    ]))
});

/// `explanations`: what a source says of a neuron. `digest` is a hash of neuron, source and explanation.
pub static EXPLANATIONS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        field("model", DataType::Utf8),
        field("layer", DataType::Int32),
        field("neuron", DataType::Int32),
        field("source", DataType::Utf8),
        field("explanation", DataType::Utf8),
        field("score", DataType::Float32),
        field("digest", DataType::Int64),
        field("model_version", DataType::Utf8),
    ]))
});

/// `examples`: what a source has published of the activations of a neuron on a text. `digest` is a hash of the values by
/// which a row takes the place of another.
pub static EXAMPLES: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        field("model", DataType::Utf8),
        field("layer", DataType::Int32),
        field("neuron", DataType::Int32),
        field("source", DataType::Utf8),
        field("rank", DataType::Int32),
        field("quantile", DataType::Float32),
        field("dataset", DataType::Utf8),
        field("document", DataType::Int64),
        field("example", DataType::Int64),
        field("position", DataType::Int32),
        field("activation", DataType::Float32),
        field("tokens", list(DataType::Utf8)),
        field("activations", list(DataType::Float32)),
        field("token_ids", list(DataType::Int32)),
        field("bos", DataType::Boolean),
        field("max_activation", DataType::Float32),
        field("min_activation", DataType::Float32),
        field("max_range", DataType::Float32),
        field("min_range", DataType::Float32),
        field("digest", DataType::Int64),
        field("model_version", DataType::Utf8),
    ]))
});

/// Columns of tables that were made before the columns were: there they are NULL.
pub const ADDED: [&str; 4] = ["random_positives", "random_predictions", "named_tokens", "description_length"];

/// `graph_tokens`: an inverted index of the graphs of a layer. A row has the neurons whose graphs have a token in a
/// role.
pub static GRAPH_TOKENS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        field("model", DataType::Utf8),
        field("layer", DataType::Int32),
        field("state", DataType::Utf8),
        field("key", DataType::Utf8),
        field("token", DataType::Utf8),
        field("role", DataType::Utf8),
        field("neurons", list(DataType::Int32)),
        field("activations", list(DataType::Float32)),
        field("importances", list(DataType::Float32)),
    ]))
});

/// `graph_signatures`: the patterns of each graph as numbers, by which graphs are compared.
pub static GRAPH_SIGNATURES: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        field("model", DataType::Utf8),
        field("layer", DataType::Int32),
        field("state", DataType::Utf8),
        field("neuron", DataType::Int32),
        field("f1", DataType::Float32),
        field("several", DataType::Boolean),
        field("patterns", list(DataType::Int64)),
        field("weights", list(DataType::Float32)),
    ]))
});

/// `tables`: tables and views that were created beside models.
pub static TABLES: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        field("name", DataType::Utf8),
        field("definition", DataType::Utf8),
        field("created_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
    ]))
});

/// `models`: models that were registered.
pub static MODELS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let option = Fields::from(vec![field("option", DataType::Utf8), field("value", DataType::Utf8)]);
    Arc::new(Schema::new(vec![
        field("model", DataType::Utf8),
        field("location", DataType::Utf8),
        field("options", list(DataType::Struct(option))),
        field("sha256", DataType::Utf8),
    ]))
});
