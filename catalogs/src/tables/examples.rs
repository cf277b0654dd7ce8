//! `examples`: the texts on which each neuron is strongest, and some drawn at random from each octave of strength.
//!
//! The strongest have a `rank`, from 1, and are of distinct documents as far as there are enough. The others have a
//! `quantile` instead: the share of examples whose peak is weaker, to half an octave. `tokens` and `activations` are
//! those around the peak; `array_position(activations, activation)` is where it is in them.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int32Array, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use futures::future::BoxFuture;
use neuroql_model::Model;

use crate::Error;
use crate::tables::model_table::{ModelTable, Scan};
use crate::tables::neuron_rows::{LayerPart, batch, of_kept, supports_place, take_neurons};

/// Table `examples`.
#[derive(Debug)]
pub(crate) struct Examples;

fn schema() -> SchemaRef {
    let field = |name: &str, data_type: DataType, nullable| Field::new(name, data_type, nullable);
    let list = |data_type| DataType::List(Arc::new(Field::new_list_field(data_type, true)));
    Arc::new(Schema::new(vec![
        field("layer", DataType::Int32, false),
        field("neuron", DataType::Int32, false),
        field("rank", DataType::Int32, true),
        field("dataset", DataType::Utf8, false),
        field("document", DataType::Int64, false),
        field("example", DataType::Int64, false),
        field("position", DataType::Int32, false),
        field("activation", DataType::Float32, false),
        field("tokens", list(DataType::Utf8), false),
        field("activations", list(DataType::Float32), false),
        field("quantile", DataType::Float32, true),
    ]))
}

impl ModelTable for Examples {
    fn name(&self) -> &'static str {
        "examples"
    }

    fn schema(&self, _: Option<&Model>) -> SchemaRef {
        schema()
    }

    fn supports_filter(&self, filter: &Expr) -> TableProviderFilterPushDown {
        supports_place(filter)
    }

    fn is_read_at_execution(&self) -> bool {
        true
    }

    fn scan<'a>(&'a self, model: &'a Arc<Model>, scan: Scan<'a>) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>>> {
        Box::pin(std::future::ready(of_kept(model, scan, schema(), false, rows)))
    }
}

/// Makes a row for each example of some neurons of a layer.
fn rows(
    part: &LayerPart,
    kept: Option<&RecordBatch>,
    _: Option<&RecordBatch>,
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let Some(kept) = kept else { return Ok(RecordBatch::new_empty(Arc::clone(schema))) };
    let lists = take_neurons(&kept["examples"], &part.neurons)?;
    let lists = lists.as_list::<i32>();
    let offsets = lists.value_offsets();
    let (first, end) = (offsets[0] as usize, offsets[part.neurons.len()] as usize);
    let examples = lists.values().slice(first, end - first);
    let examples = examples.as_struct();
    let per_neuron = part.neurons.iter().zip(offsets.windows(2));
    let neurons = per_neuron.flat_map(|(n, pair)| std::iter::repeat_n(*n as i32, (pair[1] - pair[0]) as usize));
    let count = examples.len();
    let column = |field: &Field| -> Result<ArrayRef> {
        Ok(match field.name().as_str() {
            "layer" => Arc::new(Int32Array::from_value(part.layer as i32, count)),
            "neuron" => Arc::new(Int32Array::from_iter_values(neurons.clone())),
            "dataset" => Arc::new(StringArray::from_iter(vec![part.dataset.as_deref(); count])),
            name => {
                let missing = || Error::Internal(format!("the store's examples have no column {name}"));
                cast(examples.column_by_name(name).ok_or_else(missing)?, field.data_type())?
            }
        })
    };
    batch(schema, schema.fields().iter().map(|field| column(field)).collect::<Result<Vec<_>>>()?, count)
}
