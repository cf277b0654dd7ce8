//! Rows as text or as a file.

use std::io::Write;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::csv;
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::arrow::json::writer::{LineDelimited, WriterBuilder};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::arrow::util::pretty::pretty_format_batches_with_options;
use datafusion::error::{DataFusionError, Result};
use datafusion::parquet::arrow::ArrowWriter;

use crate::arguments::Format;

/// Returns rows whose values of `uuid` are texts.
fn shown(batch: &RecordBatch) -> Result<RecordBatch> {
    if !batch.columns().iter().any(|column| neuroql::uuid_texts(column).is_some()) {
        return Ok(batch.clone());
    }
    let mut columns = Vec::with_capacity(batch.num_columns());
    let mut fields = Vec::with_capacity(batch.num_columns());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let column = neuroql::uuid_texts(column).unwrap_or_else(|| Arc::clone(column));
        fields.push(Field::clone(field).with_data_type(column.data_type().clone()));
        columns.push(column);
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// Writes the rows of one statement.
pub(crate) trait Printer: Send {
    /// Writes some more rows.
    fn batch(&mut self, batch: &RecordBatch, out: &mut (dyn Write + Send)) -> Result<()>;
    /// Ends the output.
    fn end(self: Box<Self>, out: &mut (dyn Write + Send)) -> Result<()>;
}

pub(crate) fn printer(format: Format, schema: &SchemaRef, out: &mut (dyn Write + Send)) -> Result<Box<dyn Printer>> {
    Ok(match format {
        Format::Table => Box::new(Table { schema: SchemaRef::clone(schema), batches: Vec::new(), shown: 0, rows: 0 }),
        Format::Csv => {
            let names: Vec<_> = schema.fields().iter().map(|field| quoted(field.name())).collect();
            writeln!(out, "{}", names.join(","))?;
            Box::new(Csv)
        }
        Format::Json => Box::new(Json),
        Format::Parquet => Box::new(Parquet(ArrowWriter::try_new(Vec::new(), SchemaRef::clone(schema), None)?)),
    })
}

/// Columns as wide as their widest value, so all rows of a table are read before one is shown: a long result is
/// shown in several tables.
struct Table {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    shown: usize,
    rows: usize,
}

/// Rows of one table.
const TABLE_ROWS: usize = 100_000;

impl Table {
    fn show(&mut self, out: &mut (dyn Write + Send)) -> Result<()> {
        if self.batches.is_empty() {
            self.batches.push(RecordBatch::new_empty(SchemaRef::clone(&self.schema)));
        }
        let options = FormatOptions::default();
        writeln!(out, "{}", pretty_format_batches_with_options(&self.batches, &options)?)?;
        self.batches.clear();
        self.shown = self.rows;
        Ok(())
    }
}

impl Printer for Table {
    fn batch(&mut self, batch: &RecordBatch, out: &mut (dyn Write + Send)) -> Result<()> {
        self.rows += batch.num_rows();
        self.batches.push(shown(batch)?);
        if self.rows - self.shown >= TABLE_ROWS { self.show(out) } else { Ok(()) }
    }

    fn end(mut self: Box<Self>, out: &mut (dyn Write + Send)) -> Result<()> {
        if self.shown == 0 || self.rows > self.shown {
            self.show(out)?;
        }
        Ok(writeln!(out, "{} row{}", self.rows, if self.rows == 1 { "" } else { "s" })?)
    }
}

struct Csv;

impl Printer for Csv {
    fn batch(&mut self, batch: &RecordBatch, out: &mut (dyn Write + Send)) -> Result<()> {
        let batch = &shown(batch)?;
        // Arrow's own writer refuses lists; plain columns are left to it because it is faster.
        if batch.schema().fields().iter().all(|field| !field.data_type().is_nested()) {
            return Ok(csv::WriterBuilder::new().with_header(false).build(out).write(batch)?);
        }
        let options = FormatOptions::default();
        let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let values = columns.iter().map(|column| Ok(quoted(&column.value(row).try_to_string()?)));
            let values = values.collect::<Result<Vec<_>, DataFusionError>>()?;
            writeln!(out, "{}", values.join(","))?;
        }
        Ok(())
    }

    fn end(self: Box<Self>, _: &mut (dyn Write + Send)) -> Result<()> {
        Ok(())
    }
}

/// A CSV value, in quotes where it needs them.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.into() }
}

struct Json;

impl Printer for Json {
    fn batch(&mut self, batch: &RecordBatch, out: &mut (dyn Write + Send)) -> Result<()> {
        let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(out);
        writer.write(&shown(batch)?)?;
        Ok(writer.finish()?)
    }

    fn end(self: Box<Self>, _: &mut (dyn Write + Send)) -> Result<()> {
        Ok(())
    }
}

/// A row group is encoded in memory and handed on when it is full.
struct Parquet(ArrowWriter<Vec<u8>>);

impl Printer for Parquet {
    fn batch(&mut self, batch: &RecordBatch, out: &mut (dyn Write + Send)) -> Result<()> {
        self.0.write(batch)?;
        out.write_all(&std::mem::take(self.0.inner_mut()))?;
        Ok(())
    }

    fn end(self: Box<Self>, out: &mut (dyn Write + Send)) -> Result<()> {
        Ok(out.write_all(&self.0.into_inner()?)?)
    }
}
