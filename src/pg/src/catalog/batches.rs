//! Reads and replaces columns of the catalog's rows.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{Int32Type, SchemaRef};
use datafusion::common::cast::as_string_array;
use datafusion::common::exec_datafusion_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::TryStreamExt;

/// Returns a column of `Int32`.
///
/// # Errors
/// If there is no such column, or if it is of another type.
pub(crate) fn numbers<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a Int32Array> {
    let column = batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int32Type>());
    column.ok_or_else(|| exec_datafusion_err!("column {name} has no numbers"))
}

/// Returns a column of `Utf8`.
///
/// # Errors
/// If there is no such column, or if it is of another type.
pub(crate) fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray> {
    as_string_array(batch.column(batch.schema().index_of(name)?))
}

/// Returns the rows with another column of this name and type.
///
/// # Errors
/// If there is no such column, or if it is of another type or length.
pub(super) fn replaced(batch: &RecordBatch, name: &str, column: ArrayRef) -> Result<RecordBatch> {
    let mut columns = batch.columns().to_vec();
    columns[batch.schema().index_of(name)?] = column;
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

/// Returns a stream of these rows, or of the error.
pub(super) fn stream_of(schema: &SchemaRef, rows: Result<RecordBatch>) -> SendableRecordBatchStream {
    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), futures::stream::iter([rows])))
}

/// Returns a stream of the rows that `rows` reads once the stream is polled.
pub(super) fn stream(
    schema: &SchemaRef,
    rows: impl Future<Output = Result<Vec<RecordBatch>>> + Send + 'static,
) -> SendableRecordBatchStream {
    let batches = async move {
        let rows = rows.await?.into_iter().map(Ok::<_, DataFusionError>);
        Ok::<_, DataFusionError>(futures::stream::iter(rows))
    };
    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), futures::stream::once(batches).try_flatten()))
}
