//! `neurons`: one row a neuron and analysed dataset. Columns beyond the place of a neuron are NULL until a dataset is
//! analysed or a graph is built.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, Int32Array, RecordBatch, StringArray, UInt32Array, new_null_array};
use datafusion::arrow::compute::{cast, take};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use futures::future::BoxFuture;
use neuroql_model::Model;
use neuroql_pipeline::graphs::preferred_rows_of;

use crate::tables::model_table::{ModelTable, Scan};
use crate::tables::neuron_rows::{LayerPart, OF_GRAPHS, batch, of_kept, supports_place, take_neurons};

/// Table `neurons`.
#[derive(Debug)]
pub(crate) struct Neurons;

/// Columns of `neurons`.
pub(crate) fn schema() -> SchemaRef {
    let field = |name: &str, data_type: DataType, nullable| Field::new(name, data_type, nullable);
    let real = |name: &str| field(name, DataType::Float32, true);
    let histogram = DataType::List(Arc::new(Field::new_list_field(DataType::Float32, true)));
    Arc::new(Schema::new(vec![
        field("layer", DataType::Int32, false),
        field("neuron", DataType::Int32, false),
        field("dataset", DataType::Utf8, true),
        field("tokens", DataType::Int64, true),
        real("mean"),
        real("variance"),
        real("skewness"),
        real("kurtosis"),
        real("max_activation"),
        real("min_activation"),
        real("density"),
        field("histogram", histogram, true),
        field("nodes", DataType::Int32, true),
        real("precision"),
        real("recall"),
        real("f1"),
    ]))
}

/// Columns of `neurons` of a model, or of all.
fn schema_of(model: Option<&Model>) -> SchemaRef {
    let schema = schema();
    if !model.is_none_or(Model::has_experts) {
        return schema;
    }
    let expert = Arc::new(Field::new("expert", DataType::Int32, true));
    Arc::new(Schema::new(schema.fields().iter().cloned().chain([expert]).collect::<Vec<_>>()))
}

impl ModelTable for Neurons {
    fn name(&self) -> &'static str {
        "neurons"
    }

    fn schema(&self, model: Option<&Model>) -> SchemaRef {
        schema_of(model)
    }

    fn supports_filter(&self, filter: &Expr) -> TableProviderFilterPushDown {
        supports_place(filter)
    }

    fn is_read_at_execution(&self) -> bool {
        true
    }

    fn scan<'a>(&'a self, model: &'a Arc<Model>, scan: Scan<'a>) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>>> {
        Box::pin(std::future::ready(of_kept(model, scan, schema_of(Some(model)), true, rows)))
    }
}

/// Makes rows of some neurons of a layer from the store's columns of the same names.
fn rows(
    part: &LayerPart,
    kept: Option<&RecordBatch>,
    graphs: Option<&RecordBatch>,
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let count = part.neurons.len();
    let graphs = graphs.map(|graphs| (graphs, of_neurons(part, graphs)));
    let column = |field: &Field| -> Result<ArrayRef> {
        let stored = kept.and_then(|kept| kept.column_by_name(field.name()));
        Ok(match (field.name().as_str(), stored) {
            ("layer", _) => Arc::new(Int32Array::from_value(part.layer as i32, count)),
            ("neuron", _) => Arc::new(Int32Array::from_iter_values(part.neurons.iter().map(|n| *n as i32))),
            ("expert", _) => {
                Arc::new(part.experts.iter().map(|expert| expert.map(|n| n as i32)).collect::<Int32Array>())
            }
            ("dataset", _) => Arc::new(StringArray::from_iter(vec![part.dataset.as_deref(); count])),
            (name, _) if OF_GRAPHS.contains(&name) => match &graphs {
                Some((graphs, rows)) => match &rows.values()[..] {
                    [row] if rows.null_count() == 0 => graphs[name].slice(*row as usize, 1),
                    _ => take(&graphs[name], rows, None)?,
                },
                None => new_null_array(field.data_type(), count),
            },
            (_, Some(column)) => {
                let taken = take_neurons(column, &part.neurons)?;
                if taken.data_type() == field.data_type() { taken } else { cast(&taken, field.data_type())? }
            }
            _ => new_null_array(field.data_type(), count),
        })
    };
    batch(schema, schema.fields().iter().map(|field| column(field)).collect::<Result<Vec<_>>>()?, count)
}

/// Returns for each neuron the row of `graphs` that stands for it.
fn of_neurons(part: &LayerPart, graphs: &RecordBatch) -> UInt32Array {
    preferred_rows_of(graphs, &part.neurons).into_iter().map(|row| row.map(|row| row as u32)).collect()
}
