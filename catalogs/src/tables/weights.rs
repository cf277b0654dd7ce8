//! `weights`: the vectors by which each neuron reads from the residual stream and writes to it.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float32Array, Float32Builder, Int32Array, ListBuilder, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::future::BoxFuture;
use neuroql_model::Model;
use neuroql_pipeline::Selection;
use neuroql_schema::sql_error;

use crate::tables::model_table::{ModelTable, Scan};
use crate::tables::neuron_rows::supports_place;
use crate::tables::predicate::{Predicate, select_neurons};

/// Bytes of vectors in a batch.
const BATCH_BYTES: usize = 4 << 20;

/// Table `weights`.
#[derive(Debug)]
pub(crate) struct Weights;

impl ModelTable for Weights {
    fn name(&self) -> &'static str {
        "weights"
    }

    fn schema(&self, model: Option<&Model>) -> SchemaRef {
        let vector = DataType::List(Arc::new(Field::new_list_field(DataType::Float32, true)));
        let mut fields = vec![
            Field::new("layer", DataType::Int32, false),
            Field::new("neuron", DataType::Int32, false),
            Field::new("w_in", vector.clone(), false),
            Field::new("b_in", DataType::Float32, true),
            Field::new("w_out", vector.clone(), false),
        ];
        if model.is_none_or(|model| model.config().gated) {
            fields.push(Field::new("w_gate", vector, true));
        }
        if model.is_none_or(Model::has_experts) {
            fields.push(Field::new("expert", DataType::Int32, true));
        }
        Arc::new(Schema::new(fields))
    }

    fn supports_filter(&self, filter: &Expr) -> TableProviderFilterPushDown {
        supports_place(filter)
    }

    fn scan<'a>(&'a self, model: &'a Arc<Model>, scan: Scan<'a>) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>>> {
        Box::pin(async move {
            model.check_neuron_weights().map_err(sql_error)?;
            let schema = self.schema(Some(model));
            let predicate = Predicate::compile(scan.filters, &schema, scan.session)?;
            let selection = select_neurons(model, &predicate)?;
            let partition = WeightPartition { schema: Arc::clone(&schema), model: Arc::clone(model), selection };
            let partitions: Vec<Arc<dyn PartitionStream>> = vec![Arc::new(partition)];
            let plan = StreamingTableExec::try_new(schema, partitions, scan.projection, [], false, scan.limit)?;
            Ok(Arc::new(plan) as Arc<dyn ExecutionPlan>)
        })
    }
}

#[derive(Debug)]
struct WeightPartition {
    schema: SchemaRef,
    model: Arc<Model>,
    selection: Selection,
}

impl PartitionStream for WeightPartition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (model, schema) = (Arc::clone(&self.model), Arc::clone(&self.schema));
        let rows = (BATCH_BYTES / (12 * model.config().d_model)).max(1);
        let all: Vec<u32> = (0..model.neurons_per_layer() as u32).collect();
        let chunks: Vec<(usize, Vec<u32>)> = self
            .selection
            .iter()
            .flat_map(|(layer, neurons)| {
                neurons.as_deref().unwrap_or(&all).chunks(rows).map(|chunk| (*layer, chunk.to_vec()))
            })
            .collect();
        let batches = chunks.into_iter().map(move |(layer, neurons)| batch(&model, &schema, layer, &neurons));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), futures::stream::iter(batches)))
    }
}

fn batch(model: &Model, schema: &SchemaRef, layer: usize, neurons: &[u32]) -> Result<RecordBatch> {
    let weights = model.neuron_weights(layer, neurons).map_err(sql_error)?;
    let vectors = |vectors: Vec<Option<&Vec<f32>>>| -> ArrayRef {
        let mut builder = ListBuilder::new(Float32Builder::new());
        for vector in vectors {
            match vector {
                Some(vector) => {
                    builder.values().append_slice(vector);
                    builder.append(true);
                }
                None => builder.append_null(),
            }
        }
        Arc::new(builder.finish())
    };
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from_value(layer as i32, neurons.len())),
        Arc::new(Int32Array::from_iter_values(neurons.iter().map(|n| *n as i32))),
        vectors(weights.iter().map(|w| Some(&w.w_in)).collect()),
        Arc::new(weights.iter().map(|w| w.b_in).collect::<Float32Array>()),
        vectors(weights.iter().map(|w| Some(&w.w_out)).collect()),
    ];
    if schema.index_of("w_gate").is_ok() {
        columns.push(vectors(weights.iter().map(|w| w.w_gate.as_ref()).collect()));
    }
    if schema.index_of("expert").is_ok() {
        let expert = |neuron: &u32| model.expert_of(layer, *neuron).map(|expert| expert as i32);
        columns.push(Arc::new(neurons.iter().map(expert).collect::<Int32Array>()));
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
