//! Batches of rows of imports.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Float32Builder, Int32Array, Int32Builder, Int64Array, ListBuilder,
    RecordBatch, StringArray, StringBuilder, new_null_array,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{Field, SchemaRef};
use datafusion::error::Result;
use neuroql_formats::{Example, Explanation, NeuronGraph, Place, Reject, Row, Scores};
use neuroql_graph::Graph;
use neuroql_schema::graph_column::GraphBuilder;
use neuroql_schema::sql_error;

use super::vocabulary::Vocabulary;
use crate::tables::neuron_rows::batch;

/// Makes a batch of rows. Columns that the rows have nothing for are NULL.
pub(super) fn of_rows(
    rows: &mut [Row],
    schema: &SchemaRef,
    vocabulary: Option<&Vocabulary>,
    dataset: Option<&str>,
) -> Result<RecordBatch> {
    if let Some(vocabulary) = vocabulary {
        bind(rows, vocabulary);
    }
    let rows = &*rows;
    let columns = schema.fields().iter().map(|field| column(rows, field, vocabulary, dataset));
    batch(schema, columns.collect::<Result<Vec<_>>>()?, rows.len())
}

/// Gives the tokens of graphs the ids of a vocabulary; graphs that have ids already keep them.
fn bind(rows: &mut [Row], vocabulary: &Vocabulary) {
    for row in rows {
        if let Row::Graph(NeuronGraph { graph: Some(graph), method, .. }) = row {
            vocabulary.bind(graph, method);
        }
    }
}

fn place(row: &Row) -> Place {
    match row {
        Row::Neuron(row) => row.place,
        Row::Example(row) => row.place,
        Row::Graph(row) => row.place,
        Row::Explanation(row) => row.place,
        Row::Similar(row) => row.place,
        Row::RelatedToken(row) => row.place,
        Row::RelatedNeuron(row) => row.place,
    }
}

fn scores(row: &Row) -> Option<&Scores> {
    match row {
        Row::Neuron(row) => Some(&row.scores),
        Row::Graph(row) => Some(&row.scores),
        _ => None,
    }
}

fn example(row: &Row) -> Option<&Example> {
    if let Row::Example(example) = row { Some(example) } else { None }
}

fn explanation(row: &Row) -> Option<&Explanation> {
    if let Row::Explanation(explanation) = row { Some(explanation) } else { None }
}

fn graph(row: &Row) -> Option<&Graph> {
    if let Row::Graph(row) = row { row.graph.as_ref() } else { None }
}

fn column(rows: &[Row], field: &Field, vocabulary: Option<&Vocabulary>, dataset: Option<&str>) -> Result<ArrayRef> {
    let int =
        |value: &dyn Fn(&Row) -> Option<i32>| -> ArrayRef { Arc::new(rows.iter().map(value).collect::<Int32Array>()) };
    let real = |value: &dyn Fn(&Row) -> Option<f32>| -> ArrayRef {
        Arc::new(rows.iter().map(value).collect::<Float32Array>())
    };
    let text = |value: &dyn Fn(&Row) -> Option<String>| -> ArrayRef {
        Arc::new(rows.iter().map(value).collect::<StringArray>())
    };
    let narrow = |value: f64| value as f32;
    let column: ArrayRef = match field.name().as_str() {
        "layer" => int(&|row| Some(place(row).layer as i32)),
        "neuron" => int(&|row| Some(place(row).neuron as i32)),
        "dataset" => text(&|row| matches!(row, Row::Example(_)).then(|| dataset.map(str::to_owned)).flatten()),
        "rank" => int(&|row| match row {
            Row::Example(row) => row.rank.map(|rank| rank as i32),
            Row::RelatedToken(row) => Some(row.rank as i32),
            Row::RelatedNeuron(row) => Some(row.rank as i32),
            _ => None,
        }),
        "document" => {
            let document = |row: &Row| example(row)?.document.and_then(|document| i64::try_from(document).ok());
            Arc::new(rows.iter().map(document).collect::<Int64Array>())
        }
        "position" => int(&|row| example(row).map(|row| row.position as i32)),
        "activation" => real(&|row| example(row).map(|row| row.activation)),
        "tokens" if rows.iter().any(|row| example(row).is_some()) => {
            let mut lists = ListBuilder::new(StringBuilder::new());
            for row in rows.iter().filter_map(example) {
                lists.append_value(row.tokens.iter().map(Some));
            }
            Arc::new(lists.finish())
        }
        "activations" => {
            let mut lists = ListBuilder::new(Float32Builder::new());
            for row in rows.iter().filter_map(example) {
                lists.append_value(row.activations.iter().map(|activation| Some(*activation)));
            }
            Arc::new(lists.finish())
        }
        "token_ids" => {
            let Some(vocabulary) = vocabulary else { return Ok(new_null_array(field.data_type(), rows.len())) };
            let mut lists = ListBuilder::new(Int32Builder::new());
            for row in rows.iter().filter_map(example) {
                lists.append_value(row.tokens.iter().map(|token| vocabulary.id(token).map(|id| id as i32)));
            }
            Arc::new(lists.finish())
        }
        "quantile" => real(&|row| example(row)?.quantile),
        "bos" => Arc::new(rows.iter().map(|row| example(row).map(|row| row.has_bos)).collect::<BooleanArray>()),
        "min_activation" => real(&|row| Some(example(row)?.extremes?.min_activation)),
        "max_range" => real(&|row| Some(example(row)?.extremes?.max_range)),
        "min_range" => real(&|row| Some(example(row)?.extremes?.min_range)),
        "max_activation" => real(&|row| match row {
            Row::Neuron(row) => row.max_activation,
            Row::Example(row) => row.extremes.map(|extremes| extremes.max_activation),
            _ => None,
        }),
        "mean" => real(&|row| if let Row::Neuron(row) = row { row.mean.map(narrow) } else { None }),
        "variance" => real(&|row| if let Row::Neuron(row) = row { row.variance.map(narrow) } else { None }),
        "skewness" => real(&|row| if let Row::Neuron(row) = row { row.skewness.map(narrow) } else { None }),
        "kurtosis" => real(&|row| if let Row::Neuron(row) = row { row.kurtosis.map(narrow) } else { None }),
        "nodes" => int(&|row| match row {
            Row::Neuron(row) => row.nodes.map(|nodes| nodes as i32),
            row => graph(row).map(|graph| graph.nodes().len() as i32),
        }),
        "patterns" => int(&|row| graph(row).map(|graph| graph.patterns() as i32)),
        "named_tokens" => int(&|row| graph(row).map(|graph| graph.tokens() as i32)),
        "description_length" => real(&|row| graph(row).map(|graph| graph.description_length() as f32)),
        "graph" => {
            let mut graphs = GraphBuilder::default();
            for row in rows {
                graphs.append(graph(row)).map_err(sql_error)?;
            }
            Arc::new(graphs.finish()?)
        }
        "precision" => real(&|row| scores(row)?.precision),
        "recall" => real(&|row| scores(row)?.recall),
        "f1" => real(&|row| scores(row)?.f1),
        "accuracy" => real(&|row| scores(row)?.accuracy),
        "r2" => real(&|row| scores(row)?.r2),
        "positives" => int(&|row| scores(row)?.positives),
        "method" => text(&|row| if let Row::Graph(row) = row { Some(row.method.into()) } else { None }),
        "reason" => text(&|row| if let Row::Graph(row) = row { row.reason.clone() } else { None }),
        "source" => text(&|row| match row {
            Row::Explanation(row) => Some(row.source.clone()),
            Row::Example(row) => Some(row.source.to_owned()),
            _ => None,
        }),
        "explanation" => text(&|row| explanation(row).map(|row| row.text.clone())),
        "score" => real(&|row| explanation(row)?.score.map(narrow)),
        "rsquared" => real(&|row| explanation(row)?.rsquared.map(narrow)),
        "absolute_dev_explained" => real(&|row| explanation(row)?.absolute_dev_explained.map(narrow)),
        "other_layer" => int(&|row| other(row).map(|other| other.layer as i32)),
        "other_neuron" => int(&|row| other(row).map(|other| other.neuron as i32)),
        "similarity" => real(&|row| if let Row::Similar(row) = row { Some(row.similarity) } else { None }),
        "relation" => text(&|row| match row {
            Row::RelatedToken(row) => Some(row.relation.into()),
            Row::RelatedNeuron(row) => Some(row.relation.into()),
            _ => None,
        }),
        "token" => text(&|row| if let Row::RelatedToken(row) = row { Some(row.token.clone()) } else { None }),
        "token_id" => int(&|row| match (row, vocabulary) {
            (Row::RelatedToken(row), Some(vocabulary)) => vocabulary.id(&row.token).map(|id| id as i32),
            _ => None,
        }),
        "value" => real(&|row| if let Row::RelatedToken(row) = row { row.value.map(narrow) } else { None }),
        "weight" => real(&|row| if let Row::RelatedNeuron(row) = row { row.weight.map(narrow) } else { None }),
        _ => new_null_array(field.data_type(), rows.len()),
    };
    Ok(cast(&column, field.data_type())?)
}

fn other(row: &Row) -> Option<Place> {
    match row {
        Row::Similar(row) => Some(row.other),
        Row::RelatedNeuron(row) => Some(row.other),
        _ => None,
    }
}

/// Makes a batch of rows that could not be read.
pub(super) fn of_rejects(rejects: &[Reject], schema: &SchemaRef) -> Result<RecordBatch> {
    let column = |field: &Field| -> ArrayRef {
        let text = |value: &dyn Fn(&Reject) -> String| -> ArrayRef {
            Arc::new(rejects.iter().map(|reject| Some(value(reject))).collect::<StringArray>())
        };
        let int = |value: fn(Place) -> u32| -> ArrayRef {
            Arc::new(rejects.iter().map(|reject| reject.place.map(|place| value(place) as i32)).collect::<Int32Array>())
        };
        match field.name().as_str() {
            "table_name" => text(&|reject| reject.table.name().into()),
            "layer" => int(|place| place.layer),
            "neuron" => int(|place| place.neuron),
            "location" => text(&|reject| reject.location.clone()),
            _ => text(&|reject| reject.reason.clone()),
        }
    };
    batch(schema, schema.fields().iter().map(|field| column(field)).collect(), rejects.len())
}
