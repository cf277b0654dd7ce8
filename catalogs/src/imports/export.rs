//! `COPY (SELECT … FROM model.graphs) TO 'folder' STORED AS N2G`: graphs as Neuron2Graph's notebooks write them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, Float32Array, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float32Type, Int32Type, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::{GetExt, Statistics, not_impl_err};
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::{FileFormat, FileFormatFactory};
use datafusion::datasource::physical_plan::{FileScanConfig, FileSinkConfig, FileSource};
use datafusion::datasource::sink::{DataSink, DataSinkExec};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::object_store::path::Path;
use datafusion::object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use datafusion::physical_expr::LexRequirement;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan};
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use neuroql_formats::n2g::{Added, File, Writer};
use neuroql_formats::{Place, Scores};
use neuroql_schema::graph_column::GraphColumn;
use neuroql_schema::sql_error;

use crate::Error;
use crate::async_method::async_method;

/// Files that are written at the same time.
const AT_ONCE: usize = 16;

/// `STORED AS N2G`, as the target of `COPY`.
#[derive(Debug, Default)]
pub struct N2gExport;

impl GetExt for N2gExport {
    fn get_ext(&self) -> String {
        "n2g".to_owned()
    }
}

impl FileFormatFactory for N2gExport {
    fn create(&self, _: &dyn Session, options: &HashMap<String, String>) -> Result<Arc<dyn FileFormat>> {
        match options.iter().next() {
            Some((option, _)) => not_impl_err!("COPY … STORED AS N2G has no option '{option}'"),
            None => Ok(Arc::new(N2gFolder)),
        }
    }

    fn default(&self) -> Arc<dyn FileFormat> {
        Arc::new(N2gFolder)
    }
}

/// The format of a folder that is written. Folders are read as tables of their own, by
/// [`ImportFactory`](super::ImportFactory).
#[derive(Debug)]
struct N2gFolder;

impl N2gFolder {
    fn refuse<'a, T>(&'a self) -> BoxFuture<'a, Result<T>> {
        Box::pin(async { not_impl_err!("a folder of Neuron2Graph is read by CREATE EXTERNAL TABLE … STORED AS N2G") })
    }

    fn infer<'a>(
        &'a self,
        _: &'a dyn Session,
        _: &'a Arc<dyn ObjectStore>,
        _: &'a [ObjectMeta],
    ) -> BoxFuture<'a, Result<SchemaRef>> {
        self.refuse()
    }

    fn stats<'a>(
        &'a self,
        _: &'a dyn Session,
        _: &'a Arc<dyn ObjectStore>,
        _: SchemaRef,
        _: &'a ObjectMeta,
    ) -> BoxFuture<'a, Result<Statistics>> {
        self.refuse()
    }

    fn scan<'a>(&'a self, _: &'a dyn Session, _: FileScanConfig) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>>> {
        self.refuse()
    }

    fn write<'a>(
        &'a self,
        input: Arc<dyn ExecutionPlan>,
        _: &'a dyn Session,
        config: FileSinkConfig,
        _: Option<LexRequirement>,
    ) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>>> {
        Box::pin(async move {
            if !config.table_partition_cols.is_empty() {
                return not_impl_err!("COPY … STORED AS N2G has no PARTITIONED BY");
            }
            Columns::of(&config.output_schema)?;
            let sink = FolderSink { schema: Arc::clone(&config.output_schema), config };
            Ok(Arc::new(DataSinkExec::new(input, Arc::new(sink), None)) as Arc<dyn ExecutionPlan>)
        })
    }
}

impl FileFormat for N2gFolder {
    fn get_ext(&self) -> String {
        GetExt::get_ext(&N2gExport)
    }

    fn get_ext_with_compression(&self, _: &FileCompressionType) -> Result<String> {
        Ok(GetExt::get_ext(&N2gExport))
    }

    fn compression_type(&self) -> Option<FileCompressionType> {
        None
    }

    fn file_source(&self, schema: TableSchema) -> Arc<dyn FileSource> {
        // Only a table over such a folder would read it, and `infer_schema` lets none be made.
        CsvFormat::default().file_source(schema)
    }

    async_method!(infer_schema => infer);

    async_method!(infer_stats => stats);

    async_method!(create_physical_plan => scan);

    async_method!(create_writer_physical_plan => write);
}

/// Indices of the columns that are written.
struct Columns {
    layer: usize,
    neuron: usize,
    graph: usize,
    /// Scores that are there.
    scores: Vec<(usize, &'static str)>,
}

/// Columns of scores that Neuron2Graph has words for.
const SCORES: [&str; 6] = ["precision", "recall", "f1", "accuracy", "r2", "positives"];

impl Columns {
    fn of(schema: &SchemaRef) -> Result<Self> {
        let needed = |name| schema.index_of(name).map_err(|_| Error::ExportColumn(name));
        let scores = SCORES.into_iter().filter_map(|name| Some((schema.index_of(name).ok()?, name)));
        Ok(Self {
            layer: needed("layer")?,
            neuron: needed("neuron")?,
            graph: needed("graph")?,
            scores: scores.collect(),
        })
    }

    /// Adds rows to what is written, and returns the files of their graphs.
    fn add(&self, rows: &RecordBatch, writer: &mut Writer) -> Result<Vec<File>> {
        let number = |index: usize| cast(rows.column(index), &DataType::Int32);
        let (layers, neurons) = (number(self.layer)?, number(self.neuron)?);
        let place = |column: &dyn Array, row: usize, value| {
            let numbers = column.as_primitive::<Int32Type>();
            let number = numbers.is_valid(row).then(|| numbers.value(row)).and_then(|n| u32::try_from(n).ok());
            number.ok_or(Error::MissingValue { table: "graphs", value })
        };
        let graphs = GraphColumn::try_new(rows.column(self.graph)).map_err(sql_error)?;
        let scores: Vec<(&str, Float32Array)> = self
            .scores
            .iter()
            .map(|(index, name)| {
                Ok((*name, cast(rows.column(*index), &DataType::Float32)?.as_primitive::<Float32Type>().clone()))
            })
            .collect::<Result<_>>()?;
        let mut files = Vec::new();
        for row in 0..rows.num_rows() {
            let place = Place { layer: place(&layers, row, "a layer")?, neuron: place(&neurons, row, "a neuron")? };
            let score = |name: &str| {
                let (_, column) = scores.iter().find(|(known, _)| *known == name)?;
                column.is_valid(row).then(|| column.value(row))
            };
            let scores = Scores {
                precision: score("precision"),
                recall: score("recall"),
                f1: score("f1"),
                accuracy: score("accuracy"),
                r2: score("r2"),
                positives: score("positives").map(|count| count as i32),
            };
            let graph = graphs.graph(row).map_err(sql_error)?;
            match writer.add(place, graph.as_ref(), &scores) {
                Added::Graph(file) => files.push(file),
                Added::Neuron => {}
                Added::Twice => return Err(Error::ExportTwice { layer: place.layer, neuron: place.neuron }.into()),
            }
        }
        Ok(files)
    }
}

/// Writes a folder.
struct FolderSink {
    schema: SchemaRef,
    config: FileSinkConfig,
}

impl fmt::Debug for FolderSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FolderSink").finish_non_exhaustive()
    }
}

impl DisplayAs for FolderSink {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("folder of Neuron2Graph")
    }
}

impl DataSink for FolderSink {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    async_method!(write_all => write<'a>(data: SendableRecordBatchStream, context: &'a Arc<TaskContext>) -> u64);
}

impl FolderSink {
    fn write<'a>(
        &'a self,
        mut data: SendableRecordBatchStream,
        context: &'a Arc<TaskContext>,
    ) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            let columns = Columns::of(&self.schema)?;
            let store = context.runtime_env().object_store(&self.config.object_store_url)?;
            let [folder] = self.config.table_paths.as_slice() else {
                return Err(Error::Internal("COPY has another number of targets than one".into()).into());
            };
            let folder = folder.prefix();
            // Graphs of before would be taken for some of these.
            if store.list(Some(folder)).next().await.transpose()?.is_some() {
                return Err(Error::ExportExists(self.config.original_url.clone()).into());
            }
            let (mut writer, mut count) = (Writer::default(), 0);
            while let Some(rows) = data.try_next().await? {
                count += rows.num_rows() as u64;
                put(&store, folder, columns.add(&rows, &mut writer)?).await?;
            }
            put(&store, folder, writer.finish().into()).await?;
            Ok(count)
        })
    }
}

/// Writes files below a folder.
async fn put(store: &Arc<dyn ObjectStore>, folder: &Path, files: Vec<File>) -> Result<()> {
    let mut writes = futures::stream::iter(files.into_iter().map(|(path, text)| {
        let path = path.split('/').fold(folder.clone(), |folder, part| folder.join(part));
        let store = Arc::clone(store);
        async move { store.put(&path, text.into()).await }
    }))
    .buffer_unordered(AT_ONCE);
    while writes.try_next().await?.is_some() {}
    Ok(())
}
