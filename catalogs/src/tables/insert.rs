//! `INSERT INTO` a table of the store: checks rows and puts them there, a commit every few seconds.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::not_impl_err;
use datafusion::datasource::sink::{DataSink, DataSinkExec};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan};
use futures::StreamExt;
use futures::future::BoxFuture;
use tokio::time::{Instant, timeout_at};

use crate::async_method::async_method;

/// Longest time that rows wait for others before they are committed.
const PATIENCE: Duration = Duration::from_secs(3);

/// Bytes of rows that are committed at once.
const BYTES: usize = 64 << 20;

/// Writes rows of one table of one model.
pub(crate) trait RowWriter: fmt::Debug + Send + Sync {
    /// Names the table and the model, for EXPLAIN.
    fn target(&self) -> String;

    /// Checks rows, and returns them as the store takes them.
    fn check(&self, rows: &RecordBatch) -> Result<RecordBatch>;

    /// Puts checked rows into the store, in one commit, in the place of those with the same key.
    fn put<'a>(&'a self, rows: &'a RecordBatch) -> BoxFuture<'a, Result<()>>;
}

/// The plan that inserts the rows of another, which has the columns of `schema`.
pub(crate) fn plan(
    input: Arc<dyn ExecutionPlan>,
    schema: SchemaRef,
    op: InsertOp,
    writer: impl RowWriter + 'static,
) -> Result<Arc<dyn ExecutionPlan>> {
    if op == InsertOp::Overwrite {
        return not_impl_err!(
            "INSERT OVERWRITE is not supported for {}: rows with the same key are replaced by INSERT, others removed by \
             DELETE",
            writer.target()
        );
    }
    Ok(Arc::new(DataSinkExec::new(input, Arc::new(StoreSink { schema, writer: Arc::new(writer) }), None)))
}

#[derive(Debug)]
struct StoreSink {
    schema: SchemaRef,
    writer: Arc<dyn RowWriter>,
}

impl DisplayAs for StoreSink {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.writer.target())
    }
}

impl DataSink for StoreSink {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    async_method!(write_all => write<'a>(data: SendableRecordBatchStream, context: &'a Arc<TaskContext>) -> u64);
}

impl StoreSink {
    fn write<'a>(&'a self, mut data: SendableRecordBatchStream, _: &'a Arc<TaskContext>) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            let mut waiting: Vec<RecordBatch> = Vec::new();
            let mut deadline = Instant::now();
            let mut count = 0;
            loop {
                let next = match waiting.is_empty() {
                    true => data.next().await,
                    false => match timeout_at(deadline, data.next()).await {
                        Ok(next) => next,
                        // Rows that wait are committed, however long the next ones take.
                        Err(_) => {
                            self.commit(&mut waiting).await?;
                            continue;
                        }
                    },
                };
                match next.map(|batch| self.writer.check(&batch?)) {
                    Some(Ok(rows)) if rows.num_rows() == 0 => {}
                    Some(Ok(rows)) => {
                        count += rows.num_rows() as u64;
                        if waiting.is_empty() {
                            deadline = Instant::now() + PATIENCE;
                        }
                        waiting.push(rows);
                        let bytes: usize = waiting.iter().map(RecordBatch::get_array_memory_size).sum();
                        if bytes >= BYTES || Instant::now() >= deadline {
                            self.commit(&mut waiting).await?;
                        }
                    }
                    Some(Err(error)) => {
                        // The rows before the error, maybe built for hours, are worth keeping.
                        self.commit(&mut waiting).await?;
                        return Err(error);
                    }
                    None => {
                        self.commit(&mut waiting).await?;
                        return Ok(count);
                    }
                }
            }
        })
    }

    async fn commit(&self, waiting: &mut Vec<RecordBatch>) -> Result<()> {
        let Some(first) = waiting.first() else { return Ok(()) };
        self.writer.put(&concat_batches(first.schema_ref(), waiting.iter())?).await?;
        waiting.clear();
        Ok(())
    }
}
