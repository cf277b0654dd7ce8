//! The corpus that is compiled into the program, decoded when it is first read.

use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::physical_plan::ExecutionPlan;
use futures::future::BoxFuture;

use crate::async_method::async_method;

/// A table of a Parquet file in memory.
#[derive(Debug)]
pub(crate) struct BundledTable {
    schema: SchemaRef,
    file: &'static [u8],
    batches: OnceLock<Vec<RecordBatch>>,
}

/// The bundled corpus: document, source, split, text.
///
/// # Errors
/// Only if the bundled file is damaged.
pub fn bundled_corpus() -> Result<Arc<dyn TableProvider>> {
    let file = neuroql_datasets::TOY.corpus;
    let reader = ParquetRecordBatchReaderBuilder::try_new(in_memory(file))?;
    Ok(Arc::new(BundledTable { schema: Arc::clone(reader.schema()), file, batches: OnceLock::new() }))
}

fn in_memory(file: &'static [u8]) -> bytes::Bytes {
    bytes::Bytes::from_static(file)
}

impl TableProvider for BundledTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async_method!(scan => plan);
}

impl BundledTable {
    fn plan<'a>(
        &'a self,
        _: &'a dyn Session,
        projection: Option<&'a Vec<usize>>,
        _: &'a [Expr],
        _: Option<usize>,
    ) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>>> {
        Box::pin(async move {
            let batches = match self.batches.get() {
                Some(batches) => batches,
                None => {
                    let reader = ParquetRecordBatchReaderBuilder::try_new(in_memory(self.file))?.build()?;
                    let batches = reader.collect::<Result<Vec<_>, _>>()?;
                    self.batches.get_or_init(|| batches)
                }
            };
            let schema = Arc::clone(&self.schema);
            let plan = MemorySourceConfig::try_new_exec(std::slice::from_ref(batches), schema, projection.cloned())?;
            Ok(plan as Arc<dyn ExecutionPlan>)
        })
    }
}
