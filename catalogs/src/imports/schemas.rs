//! Columns of the tables of imports: those of a model's tables, and what published data have besides.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use neuroql_formats::Table;

use super::Kind;
use crate::tables::{examples, explanations, graphs, models, neurons};

fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

/// Columns of a model's table, of which all but the neuron's place may be NULL.
fn nullable(own: &SchemaRef) -> SchemaRef {
    let is_place = |name: &str| ["layer", "neuron"].contains(&name);
    let own = own.fields().iter().map(|field| field.as_ref().clone().with_nullable(!is_place(field.name())));
    Arc::new(Schema::new(own.collect::<Vec<_>>()))
}

/// Columns that begin with the neuron's place.
fn of_neuron(others: Vec<Field>) -> SchemaRef {
    let place = |name| Field::new(name, DataType::Int32, false);
    Arc::new(Schema::new([place("layer"), place("neuron")].into_iter().chain(others).collect::<Vec<_>>()))
}

/// Columns of a table.
pub(super) fn schema(kind: Kind) -> SchemaRef {
    let int = |name| field(name, DataType::Int32);
    let real = |name| field(name, DataType::Float32);
    let text = |name| field(name, DataType::Utf8);
    match kind {
        Kind::Rows(Table::Neurons) => nullable(&neurons::schema()),
        Kind::Rows(Table::Examples) => nullable(&examples::schema()),
        Kind::Rows(Table::Graphs) => nullable(&graphs::schema()),
        Kind::Rows(Table::Explanations) => nullable(&explanations::schema()),
        Kind::Rows(Table::ExplanationScores) => of_neuron(vec![
            text("source"),
            text("explanation"),
            real("score"),
            real("rsquared"),
            real("absolute_dev_explained"),
        ]),
        Kind::Rows(Table::Similar) => of_neuron(vec![int("other_layer"), int("other_neuron"), real("similarity")]),
        Kind::Rows(Table::RelatedTokens) => of_neuron(vec![
            text("relation"),
            int("rank"),
            text("token"),
            field("token_id", DataType::Int32),
            real("value"),
        ]),
        Kind::Rows(Table::RelatedNeurons) => {
            of_neuron(vec![text("relation"), int("rank"), int("other_layer"), int("other_neuron"), real("weight")])
        }
        Kind::GraphNodes => graphs::nodes_schema(),
        Kind::Models => {
            let own = models::schema();
            let own = own.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
            Arc::new(Schema::new(own.chain([text("dataset")]).collect::<Vec<_>>()))
        }
        Kind::Rejects => Arc::new(Schema::new(vec![
            text("table_name"),
            int("layer"),
            int("neuron"),
            text("location"),
            text("reason"),
        ])),
    }
}
