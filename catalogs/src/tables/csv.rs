//! CSV files, the values of which may have newlines.
//!
//! DataFusion infers the columns of a file from pieces that may begin within a value, and reads pieces of large files
//! side by side unless `format.newlines_in_values` is set, which cuts values in two without a word. Here columns are
//! inferred by the parser that reads them, from the beginning of each file, and files are not cut unless the table says
//! that no value has a newline.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use datafusion::arrow::csv::reader::Format;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::catalog::Session;
use datafusion::common::{GetExt, Statistics};
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::{DEFAULT_SCHEMA_INFER_MAX_RECORD, FileFormat, FileFormatFactory};
use datafusion::datasource::physical_plan::{FileScanConfig, FileSinkConfig, FileSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use datafusion::physical_expr::LexRequirement;
use datafusion::physical_plan::ExecutionPlan;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc::{Receiver, channel};

use crate::Error;
use crate::async_method::async_method;

/// Bytes of a file that its columns are inferred from at most: a quote that is never closed makes one value of all.
const MOST_BYTES: usize = 256 << 20;

/// Files whose headers are read at the same time.
const AT_ONCE: usize = 32;

/// `STORED AS CSV`, in the place of DataFusion's own.
#[derive(Debug)]
pub struct CsvFactory(
    /// DataFusion's own, which knows the options.
    pub Arc<dyn FileFormatFactory>,
);

impl GetExt for CsvFactory {
    fn get_ext(&self) -> String {
        self.0.get_ext()
    }
}

impl FileFormatFactory for CsvFactory {
    fn create(&self, state: &dyn Session, options: &HashMap<String, String>) -> Result<Arc<dyn FileFormat>> {
        Ok(InferringCsvFormat::over(self.0.create(state, options)?))
    }

    fn default(&self) -> Arc<dyn FileFormat> {
        InferringCsvFormat::over(self.0.default())
    }
}

/// The format of the files of one table.
#[derive(Debug)]
struct InferringCsvFormat(CsvFormat);

impl InferringCsvFormat {
    fn over(format: Arc<dyn FileFormat>) -> Arc<dyn FileFormat> {
        let Some(csv) = format.downcast_ref::<CsvFormat>() else { return format };
        let mut options = csv.options().clone();
        options.newlines_in_values.get_or_insert(true);
        Arc::new(Self(CsvFormat::default().with_options(options)))
    }

    fn infer<'a>(
        &'a self,
        state: &'a dyn Session,
        store: &'a Arc<dyn ObjectStore>,
        files: &'a [ObjectMeta],
    ) -> BoxFuture<'a, Result<SchemaRef>> {
        Box::pin(async move {
            let options = self.0.options();
            let has_header = options.has_header.unwrap_or_else(|| state.config_options().catalog.has_header);
            let mut left = options.schema_infer_max_rec.unwrap_or(DEFAULT_SCHEMA_INFER_MAX_RECORD);
            let untyped = left == 0;
            let format = self.reader(has_header)?;
            let mut columns = InferredColumns::default();
            let mut files = files.iter();
            for file in files.by_ref() {
                let (schema, records) = self.head(&format, store, file, left).await?;
                columns.add(file, &schema, has_header)?;
                left -= records.min(left);
                if left == 0 {
                    break;
                }
            }
            // Columns are read by their places: files with other columns in these places must be refused.
            let rest: Vec<&ObjectMeta> = if has_header { files.collect() } else { Vec::new() };
            let mut headers = Vec::with_capacity(rest.len());
            for file in &rest {
                headers.push(self.head(&format, store, file, 0));
            }
            let mut headers = futures::stream::iter(headers).buffered(AT_ONCE);
            for file in &rest {
                if let Some((schema, _)) = headers.try_next().await? {
                    columns.add(file, &schema, has_header)?;
                }
            }
            Ok(Arc::new(columns.schema(untyped)))
        })
    }

    fn reader(&self, has_header: bool) -> Result<Format> {
        let options = self.0.options();
        let mut format = Format::default()
            .with_header(has_header)
            .with_delimiter(options.delimiter)
            .with_quote(options.quote)
            .with_truncated_rows(options.truncated_rows.unwrap_or(false));
        if let Some(regex) = &options.null_regex {
            let wrong = |error: regex::Error| {
                let (option, reason) = ("format.null_regex", error.to_string());
                Error::TableOption { option, value: regex.clone(), reason }
            };
            format = format.with_null_regex(regex::Regex::new(regex).map_err(wrong)?);
        }
        if let Some(escape) = options.escape {
            format = format.with_escape(escape);
        }
        if let Some(terminator) = options.terminator {
            format = format.with_terminator(terminator);
        }
        if let Some(comment) = options.comment {
            format = format.with_comment(comment);
        }
        Ok(format)
    }

    /// Infers the columns of a file from its first `records` records, and returns the number of those that it has.
    fn head<'a>(
        &'a self,
        format: &'a Format,
        store: &'a Arc<dyn ObjectStore>,
        file: &'a ObjectMeta,
        records: usize,
    ) -> BoxFuture<'a, Result<(Schema, usize)>> {
        Box::pin(async move {
            let bytes = store.get(&file.location).await?.into_stream().map_err(DataFusionError::from).boxed();
            let compression: FileCompressionType = self.0.options().compression.into();
            let mut bytes = compression.convert_stream(bytes)?;
            let (sender, pieces) = channel(2);
            let format = format.clone();
            let read = tokio::task::spawn_blocking(move || {
                format.infer_schema(ChunkReader { pieces, current: Bytes::new(), left: MOST_BYTES }, Some(records))
            });
            while let Some(piece) = bytes.next().await {
                // The reader has enough.
                if sender.send(piece).await.is_err() {
                    break;
                }
            }
            drop(sender);
            let inferred = read.await.map_err(|e| Error::Internal(format!("reading a CSV file failed: {e}")))?;
            Ok(inferred.map_err(|error| unreadable(file, &error))?)
        })
    }

    fn stats<'a>(
        &'a self,
        state: &'a dyn Session,
        store: &'a Arc<dyn ObjectStore>,
        schema: SchemaRef,
        file: &'a ObjectMeta,
    ) -> BoxFuture<'a, Result<Statistics>> {
        self.0.infer_stats(state, store, schema, file)
    }

    fn scan<'a>(
        &'a self,
        state: &'a dyn Session,
        config: FileScanConfig,
    ) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>>> {
        self.0.create_physical_plan(state, config)
    }

    fn write<'a>(
        &'a self,
        input: Arc<dyn ExecutionPlan>,
        state: &'a dyn Session,
        config: FileSinkConfig,
        order: Option<LexRequirement>,
    ) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>>> {
        self.0.create_writer_physical_plan(input, state, config, order)
    }
}

impl FileFormat for InferringCsvFormat {
    fn get_ext(&self) -> String {
        self.0.get_ext()
    }

    fn get_ext_with_compression(&self, compression: &FileCompressionType) -> Result<String> {
        self.0.get_ext_with_compression(compression)
    }

    fn compression_type(&self) -> Option<FileCompressionType> {
        self.0.compression_type()
    }

    fn file_source(&self, schema: TableSchema) -> Arc<dyn FileSource> {
        self.0.file_source(schema)
    }

    async_method!(infer_schema => infer);

    async_method!(infer_stats => stats);

    async_method!(create_physical_plan => scan);

    async_method!(create_writer_physical_plan => write);
}

fn unreadable(file: &ObjectMeta, error: &ArrowError) -> Error {
    let reason = match error {
        ArrowError::CsvError(reason) => reason.clone(),
        ArrowError::IoError(reason, _) => reason.clone(),
        other => other.to_string(),
    };
    Error::Columns { file: file.location.to_string(), reason }
}

/// The bytes of a file as they come.
struct ChunkReader {
    pieces: Receiver<Result<Bytes>>,
    current: Bytes,
    left: usize,
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.current = piece.map_err(std::io::Error::other)?,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.current.len());
        self.left = self.left.checked_sub(length).ok_or_else(|| {
            let mib = MOST_BYTES >> 20;
            std::io::Error::other(format!(
                "its first records have more than {mib} MiB: a quote is not closed, or \
                 'format.schema_infer_max_rec' should be less than {DEFAULT_SCHEMA_INFER_MAX_RECORD}"
            ))
        })?;
        buffer[..length].copy_from_slice(&self.current[..length]);
        self.current.advance(length);
        Ok(length)
    }
}

/// Names and types of columns, of all files together.
#[derive(Debug, Default)]
struct InferredColumns {
    columns: Vec<(String, DataType)>,
    /// The file with the most columns.
    file: String,
}

impl InferredColumns {
    fn add(&mut self, file: &ObjectMeta, schema: &Schema, named: bool) -> Result<(), Error> {
        let same = |(field, (name, _)): (&Arc<Field>, &(String, DataType))| field.name() == name;
        if named && !schema.fields().iter().zip(&self.columns).all(same) {
            let of = |names: Vec<&str>| names.join(", ");
            return Err(Error::OtherColumns {
                file: file.location.to_string(),
                columns: of(schema.fields().iter().map(|field| field.name().as_str()).collect()),
                other: self.file.clone(),
                others: of(self.columns.iter().map(|(name, _)| name.as_str()).collect()),
            });
        }
        for (field, (_, kind)) in schema.fields().iter().zip(&mut self.columns) {
            *kind = both(kind, field.data_type());
        }
        if schema.fields().len() > self.columns.len() {
            let more = schema.fields().iter().skip(self.columns.len());
            self.columns.extend(more.map(|field| (field.name().clone(), field.data_type().clone())));
            self.file = file.location.to_string();
        }
        Ok(())
    }

    fn schema(self, untyped: bool) -> Schema {
        let field = |(name, kind): (String, DataType)| {
            // Nothing but NULL was found: later records may have anything.
            let kind = if untyped || kind.is_null() { DataType::Utf8 } else { kind };
            Field::new(name, kind, true)
        };
        Schema::new(self.columns.into_iter().map(field).collect::<Vec<_>>())
    }
}

/// Returns the type that has the values of both.
fn both(one: &DataType, other: &DataType) -> DataType {
    match (one, other) {
        (DataType::Null, kind) | (kind, DataType::Null) => kind.clone(),
        (one, other) if one == other => one.clone(),
        (DataType::Int64, DataType::Float64) | (DataType::Float64, DataType::Int64) => DataType::Float64,
        _ => DataType::Utf8,
    }
}
