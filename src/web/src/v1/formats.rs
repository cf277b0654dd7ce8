//! Rows in the forms in which programs take them.

use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::csv::WriterBuilder;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::errors::ParquetError;
use serde::Deserialize;

use crate::arrow_json::{write_arrays, write_lines, write_text, write_value};
use crate::error::Fault;

/// Bytes of a row group of Parquet.
const ROW_GROUP: usize = 16 << 20;

/// A form of rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// One object: `{"columns": […], "rows": [[…], …], "complete": true}`.
    #[default]
    Json,
    /// An object a line.
    Ndjson,
    Csv,
    /// A stream of Arrow's IPC format.
    Arrow,
    Parquet,
}

impl Format {
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }

    pub fn extension(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Arrow => "arrows",
            Self::Parquet => "parquet",
        }
    }
}

/// A failure to write rows.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    #[error(transparent)]
    Parquet(#[from] ParquetError),
    #[error("a result with two columns of one name cannot be a file of Parquet")]
    Twins,
    #[error("a result without columns cannot be a file of Parquet")]
    NoColumns,
}

impl From<WriteError> for Fault {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Twins | WriteError::NoColumns => Self::bad_request(error.to_string()),
            _ => Self::internal(error),
        }
    }
}

/// Writer of the rows of one result.
pub(super) struct Writer {
    kind: Kind,
    /// Rows that may still be written.
    left: usize,
    /// True if rows were left out.
    is_cut: bool,
}

enum Kind {
    Json { head: String, is_first: bool },
    Ndjson,
    Csv { names: String },
    Arrow(Box<StreamWriter<Vec<u8>>>),
    Parquet(Option<Box<ArrowWriter<Vec<u8>>>>),
}

impl Writer {
    pub fn new(format: Format, schema: &SchemaRef, types: &[String], limit: Option<usize>) -> Result<Self, WriteError> {
        let kind = match format {
            Format::Json => Kind::Json { head: head(schema, types), is_first: true },
            Format::Ndjson => Kind::Ndjson,
            Format::Csv => Kind::Csv { names: names(schema) },
            Format::Arrow => Kind::Arrow(Box::new(StreamWriter::try_new(Vec::new(), schema)?)),
            Format::Parquet if schema.fields().is_empty() => return Err(WriteError::NoColumns),
            Format::Parquet => {
                let mut known: Vec<_> = schema.fields().iter().map(|field| field.name()).collect();
                known.sort();
                if known.windows(2).any(|pair| pair[0] == pair[1]) {
                    return Err(WriteError::Twins);
                }
                Kind::Parquet(Some(Box::new(ArrowWriter::try_new(Vec::new(), Arc::clone(schema), None)?)))
            }
        };
        Ok(Self { kind, left: limit.unwrap_or(usize::MAX), is_cut: false })
    }

    /// Returns true if no more rows are wanted.
    pub fn is_full(&self) -> bool {
        self.left == 0
    }

    /// Returns what stands before the rows.
    pub fn begin(&mut self) -> Vec<u8> {
        match &mut self.kind {
            Kind::Json { head, .. } => std::mem::take(head).into_bytes(),
            Kind::Csv { names } => std::mem::take(names).into_bytes(),
            Kind::Arrow(writer) => std::mem::take(writer.get_mut()),
            Kind::Ndjson | Kind::Parquet(_) => Vec::new(),
        }
    }

    /// Writes rows, as many as are wanted.
    pub fn write(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), WriteError> {
        self.is_cut |= batch.num_rows() > self.left;
        let batch = batch.slice(0, batch.num_rows().min(self.left));
        self.left -= batch.num_rows();
        if batch.num_rows() == 0 {
            return Ok(());
        }
        match &mut self.kind {
            Kind::Json { is_first, .. } => {
                let mut text = String::new();
                write_arrays(&mut text, &batch, is_first)?;
                out.extend_from_slice(text.as_bytes());
            }
            Kind::Ndjson => {
                let mut text = String::new();
                write_lines(&mut text, &batch)?;
                out.extend_from_slice(text.as_bytes());
            }
            // The writer would make one empty value of none.
            Kind::Csv { .. } if batch.num_columns() == 0 => out.extend(std::iter::repeat_n(b'\n', batch.num_rows())),
            Kind::Csv { .. } => {
                WriterBuilder::new().with_header(false).build(out).write(&flat(&batch)?)?;
            }
            Kind::Arrow(writer) => {
                writer.write(&batch)?;
                out.append(writer.get_mut());
            }
            Kind::Parquet(writer) => {
                if let Some(writer) = writer {
                    writer.write(&batch)?;
                    if writer.in_progress_size() > ROW_GROUP {
                        writer.flush()?;
                    }
                    out.append(writer.inner_mut());
                }
            }
        }
        Ok(())
    }

    /// Writes what stands after the rows.
    pub fn finish(&mut self, out: &mut Vec<u8>, has_more: bool) -> Result<(), WriteError> {
        match &mut self.kind {
            Kind::Json { .. } => {
                let is_complete = !has_more && !self.is_cut;
                out.extend_from_slice(format!("],\"complete\":{is_complete}}}\n").as_bytes());
            }
            Kind::Ndjson | Kind::Csv { .. } => {}
            Kind::Arrow(writer) => {
                writer.finish()?;
                out.append(writer.get_mut());
            }
            Kind::Parquet(writer) => {
                if let Some(writer) = writer.take() {
                    out.extend(writer.into_inner()?);
                }
            }
        }
        Ok(())
    }

    /// Returns what stands after the rows if there is an error after some of them; `None` if the form has no place for it.
    pub fn fail(&self, fault: &Fault) -> Option<Vec<u8>> {
        let error = fault.to_json();
        match &self.kind {
            Kind::Json { .. } => Some(format!("],\"complete\":false,\"error\":{}}}\n", error["error"]).into_bytes()),
            Kind::Ndjson => Some(format!("{error}\n").into_bytes()),
            Kind::Csv { .. } | Kind::Arrow(_) | Kind::Parquet(_) => None,
        }
    }
}

fn head(schema: &SchemaRef, types: &[String]) -> String {
    let mut head = String::from("{\"columns\":[");
    for (index, (field, kind)) in schema.fields().iter().zip(types).enumerate() {
        head.push_str(if index > 0 { ",{\"name\":" } else { "{\"name\":" });
        write_text(&mut head, field.name());
        head.push_str(",\"type\":");
        write_text(&mut head, kind);
        head.push('}');
    }
    head.push_str("],\"rows\":[");
    head
}

/// Returns the line of names of CSV.
fn names(schema: &SchemaRef) -> String {
    let quoted = schema.fields().iter().map(|field| match field.name() {
        name if name.contains(['"', ',', '\n', '\r']) => format!("\"{}\"", name.replace('"', "\"\"")),
        name => name.clone(),
    });
    format!("{}\n", quoted.collect::<Vec<_>>().join(","))
}

/// Writes arrays and structs as JSON, as CSV has neither.
fn flat(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let is_plain = !column.data_type().is_nested();
        let column = match is_plain {
            true => Arc::clone(column),
            false => {
                let mut texts = Vec::with_capacity(column.len());
                for row in 0..column.len() {
                    let mut text = String::new();
                    write_value(&mut text, column, row)?;
                    texts.push(column.is_valid(row).then_some(text));
                }
                Arc::new(datafusion::arrow::array::StringArray::from(texts))
            }
        };
        let kind = if is_plain { column.data_type().clone() } else { DataType::Utf8 };
        fields.push(Field::new(field.name(), kind, true));
        columns.push(column);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
}
