//! `examples`: the texts on which each neuron is strongest, and some drawn at random from each octave of strength; and
//! examples that others have published, which `INSERT` puts there.
//!
//! The strongest of an analysis have a `rank`, from 1, and are of distinct documents as far as there are enough. The
//! others have a `quantile` instead: the share of examples whose peak is weaker, to half an octave. `tokens` and
//! `activations` are those around the peak; `array_position(activations, activation)` is where it is in them. They have
//! no `source`; published examples have, and `DELETE` removes them.

mod insert;
mod published;

use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, RecordBatch, StringArray, new_null_array,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::Result;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::streaming::StreamingTableExec;
use futures::future::BoxFuture;
use neuroql_model::Model;
use neuroql_pipeline::RowFilter;
use neuroql_schema::sql_error;

use self::insert::ExampleWriter;
use self::published::{ExamplesPartition, deleted};
use crate::Error;
use crate::state::EngineState;
use crate::tables::insert as inserts;
use crate::tables::model_table::{ModelTable, Scan};
use crate::tables::neuron_rows::{LayerPart, batch, partition, selection, supports_place, take_neurons};
use crate::tables::predicate::Predicate;

/// Table `examples`.
#[derive(Debug)]
pub(crate) struct Examples;

/// Columns of `examples`.
pub(crate) fn schema() -> SchemaRef {
    let field = |name: &str, data_type: DataType| Field::new(name, data_type, true);
    let list = |data_type| DataType::List(Arc::new(Field::new_list_field(data_type, true)));
    let real = |name| field(name, DataType::Float32);
    Arc::new(Schema::new(vec![
        field("layer", DataType::Int32),
        field("neuron", DataType::Int32),
        field("rank", DataType::Int32),
        field("dataset", DataType::Utf8),
        field("document", DataType::Int64),
        field("example", DataType::Int64),
        field("position", DataType::Int32),
        real("activation"),
        field("tokens", list(DataType::Utf8)),
        field("activations", list(DataType::Float32)),
        real("quantile"),
        field("source", DataType::Utf8),
        field("bos", DataType::Boolean),
        field("token_ids", list(DataType::Int32)),
        real("max_activation"),
        real("min_activation"),
        real("max_range"),
        real("min_range"),
    ]))
}

/// Columns of which only published examples have values.
const PUBLISHED: [&str; 5] = ["source", "max_activation", "min_activation", "max_range", "min_range"];

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
        Box::pin(async move {
            let places = selection(model, &scan, &schema())?;
            let analysed = partition(model, &scan, schema(), places.clone(), false, rows)?;
            let projected = Arc::clone(analysed.schema());
            let (model, engine) = (Arc::clone(model), Arc::clone(scan.engine));
            let all = Arc::new(ExamplesPartition { analysed, model, engine, places });
            let exec = StreamingTableExec::try_new(projected, vec![all], None, [], false, scan.limit)?;
            Ok(Arc::new(exec) as Arc<dyn ExecutionPlan>)
        })
    }

    fn insert(
        &self,
        model: &Arc<Model>,
        engine: &Arc<EngineState>,
        input: Arc<dyn ExecutionPlan>,
        op: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let writer =
            ExampleWriter { model: Arc::clone(model), engine: Arc::clone(engine), vocabulary: OnceLock::new() };
        inserts::plan(input, schema(), op, writer)
    }

    fn supports_delete(&self) -> bool {
        true
    }

    fn delete<'a>(
        &'a self,
        model: &'a Arc<Model>,
        engine: &'a Arc<EngineState>,
        predicate: &'a Predicate,
    ) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            if analysed_match(model, engine, predicate).await? {
                return Err(Error::AnalysedExamples.into());
            }
            let keys = deleted(model, engine, predicate).await?;
            engine.store.delete_examples(model.name(), &keys).await.map_err(sql_error)?;
            Ok(keys.len() as u64)
        })
    }
}

/// Returns true if a predicate lets an example of an analysis pass.
async fn analysed_match(model: &Arc<Model>, engine: &Arc<EngineState>, predicate: &Predicate) -> Result<bool> {
    let whole = schema();
    let columns = whole.fields().iter().filter(|field| predicate.columns().contains(field.name()));
    let columns = Arc::new(Schema::new(columns.cloned().collect::<Vec<_>>()));
    for (dataset, layers) in engine.analysed(model).await? {
        for layer in layers {
            let neurons: Vec<u32> = (0..model.neurons_per_layer() as u32).collect();
            let part = LayerPart { layer, dataset: Some(dataset.clone()), neurons, experts: Vec::new() };
            let kept = engine.store.neurons(model.name(), &dataset, layer).await.map_err(sql_error)?;
            let found = rows(&part, Some(&kept), None, &columns)?;
            if found.num_rows() > 0 && predicate.evaluate(&found)?.true_count() > 0 {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Makes a row for each example of an analysis of some neurons of a layer.
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
            // Activations of BOS are not kept.
            "bos" => Arc::new(BooleanArray::from(vec![false; count])),
            name if PUBLISHED.contains(&name) => new_null_array(field.data_type(), count),
            name => {
                let missing = || Error::Internal(format!("the store's examples have no column {name}"));
                cast(examples.column_by_name(name).ok_or_else(missing)?, field.data_type())?
            }
        })
    };
    batch(schema, schema.fields().iter().map(|field| column(field)).collect::<Result<Vec<_>>>()?, count)
}
