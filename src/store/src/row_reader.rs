//! Rows of some neurons of a layer, read from its files without the others.
//!
//! A query of a table opens files, reads their page indexes and plans before it reads a row. Here files stay open, with
//! the places of each neuron's rows, and only the pages that have these are read. Files of a Delta table never change,
//! so the index of a file stays true as long as it is part of the table.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int32Type};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::parquet::DefaultParquetFileReaderFactory;
use datafusion::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection};
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use datafusion::parquet::file::metadata::PageIndexPolicy;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use deltalake::DeltaTableError;
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;

/// A file of a table that has a column `neuron`.
#[derive(Debug)]
pub(crate) struct OpenFile {
    reads: Arc<dyn ParquetFileReaderFactory>,
    file: PartitionedFile,
    metadata: ArrowReaderMetadata,
    /// Neurons and the indices of their rows, ascending.
    rows: Vec<(u32, u32)>,
}

impl OpenFile {
    /// Opens a file of `size` bytes.
    pub async fn open(objects: Arc<dyn ObjectStore>, path: Path, size: u64) -> Result<Self, DeltaTableError> {
        let reads: Arc<dyn ParquetFileReaderFactory> = Arc::new(DefaultParquetFileReaderFactory::new(objects));
        let mut file = PartitionedFile::new("", size);
        // The path is not parsed: names of models are encoded in it, and would be once more.
        file.object_meta.location = path;
        let mut reader = reader(&*reads, &file)?;
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let metadata = ArrowReaderMetadata::load_async(&mut reader, options.clone()).await?;
        // Only the offsets of pages are needed: the least and greatest value of each would take most of the memory.
        let places = metadata.metadata().as_ref().clone().into_builder().set_column_index(None).build();
        let metadata = ArrowReaderMetadata::try_new(Arc::new(places), options)?;
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, metadata.clone());
        let neuron = ProjectionMask::columns(builder.parquet_schema(), ["neuron"]);
        let batches: Vec<RecordBatch> = builder.with_projection(neuron).build()?.try_collect().await?;
        // Files of other writers may have wider integers.
        let neurons: Vec<_> =
            batches.iter().map(|batch| cast(batch.column(0), &DataType::Int32)).collect::<Result<_, _>>()?;
        let neurons = neurons.iter().flat_map(|neurons| neurons.as_primitive::<Int32Type>());
        let place = |(neuron, row): (Option<i32>, u32)| Some((u32::try_from(neuron?).ok()?, row));
        let mut rows: Vec<(u32, u32)> = neurons.zip(0..).filter_map(place).collect();
        rows.sort_unstable();
        Ok(Self { reads, file, metadata, rows })
    }

    /// Reads the rows of some neurons, which ascend, with those of `columns` that the file has; with all if `None`.
    pub async fn read(&self, neurons: &[u32], columns: Option<&[&str]>) -> Result<Vec<RecordBatch>, DeltaTableError> {
        let mut wanted: Vec<u32> = Vec::new();
        for neuron in neurons {
            let first = self.rows.partition_point(|(found, _)| found < neuron);
            wanted.extend(self.rows[first..].iter().take_while(|(found, _)| found == neuron).map(|(_, row)| *row));
        }
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        wanted.sort_unstable();
        let ranges = wanted.into_iter().map(|row| -> Range<usize> { row as usize..row as usize + 1 });
        let all = self.metadata.metadata().file_metadata().num_rows() as usize;
        let selection = RowSelection::from_consecutive_ranges(ranges, all);
        let reader = reader(&*self.reads, &self.file)?;
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, self.metadata.clone());
        let columns = match columns {
            Some(columns) => {
                let has = |name: &&str| self.metadata.schema().column_with_name(name).is_some();
                let own = columns.iter().copied().filter(has);
                ProjectionMask::columns(builder.parquet_schema(), own)
            }
            None => ProjectionMask::all(),
        };
        Ok(builder.with_row_selection(selection).with_projection(columns).build()?.try_collect().await?)
    }

    /// Number of bytes that it takes in memory.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.metadata.metadata().memory_size() + self.rows.capacity() * size_of::<(u32, u32)>()
    }
}

fn reader(
    reads: &dyn ParquetFileReaderFactory,
    file: &PartitionedFile,
) -> Result<Box<dyn AsyncFileReader>, DeltaTableError> {
    Ok(reads.create_reader(0, file.clone(), None, &ExecutionPlanMetricsSet::new())?)
}
