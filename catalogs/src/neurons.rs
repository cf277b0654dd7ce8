//! `neurons`: one row a neuron. What is known of a neuron beyond its place is NULL until a dataset is analysed or a
//! graph is built.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, Int32Array, RecordBatch, new_null_array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use neuroql_model::Model;

use crate::model_table::{ModelTable, Scan};

/// See the module.
#[derive(Debug)]
pub(crate) struct Neurons;

#[async_trait]
impl ModelTable for Neurons {
    fn name(&self) -> &'static str {
        "neurons"
    }

    fn schema(&self, _: Option<&Model>) -> SchemaRef {
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

    fn supports_filter(&self, _: &Expr) -> TableProviderFilterPushDown {
        TableProviderFilterPushDown::Unsupported
    }

    async fn scan(&self, model: &Arc<Model>, scan: Scan<'_>) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.schema(Some(model));
        let (layers, width) = (model.config().layers as i32, model.config().d_mlp as i32);
        let places = |f: fn(i32, i32) -> i32| -> ArrayRef {
            Arc::new(Int32Array::from_iter_values((0..layers).flat_map(|l| (0..width).map(move |n| f(l, n)))))
        };
        let mut columns = vec![places(|layer, _| layer), places(|_, neuron| neuron)];
        let rows = columns[0].len();
        columns.extend(schema.fields()[2..].iter().map(|field| new_null_array(field.data_type(), rows)));
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
        Ok(MemorySourceConfig::try_new_exec(&[vec![batch]], schema, scan.projection.cloned())?)
    }
}
