//! An analysis that is compiled into the program, in the tables of a store.

use std::sync::OnceLock;

use bytes::Bytes;
use datafusion::arrow::array::{AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{Int32Type, SchemaRef};
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use deltalake::DeltaTableError;

use crate::table::conform;
use crate::{Error, Result};
use neuroql_schema::tables::{BOUNDS, CONTEXTS, NEURONS};

/// Parquet files with the rows of one model and dataset.
#[derive(Debug, Clone, Copy)]
pub struct BundledAnalysis {
    /// The model's name.
    pub model: &'static str,
    /// The dataset's name.
    pub dataset: &'static str,
    /// Rows of `neurons`.
    pub neurons: &'static [u8],
    /// Rows of `bounds`.
    pub bounds: &'static [u8],
    /// Rows of `contexts`.
    pub contexts: &'static [u8],
}

/// A [`BundledAnalysis`], decoded when it is first read.
#[derive(Debug)]
pub(crate) struct DecodedAnalysis {
    pub files: BundledAnalysis,
    neurons: OnceLock<Vec<RecordBatch>>,
    bounds: OnceLock<Vec<RecordBatch>>,
    contexts: OnceLock<Vec<RecordBatch>>,
}

impl DecodedAnalysis {
    pub fn new(files: BundledAnalysis) -> Self {
        Self { files, neurons: OnceLock::new(), bounds: OnceLock::new(), contexts: OnceLock::new() }
    }

    /// Returns rows of `neurons`, of one layer or of all if `None`.
    pub fn neurons(&self, layer: Option<u32>) -> Result<Vec<RecordBatch>> {
        of_layer(decoded("neurons", &self.neurons, self.files.neurons, &NEURONS)?, layer)
    }

    /// Returns rows of `bounds` of one layer.
    pub fn bounds(&self, layer: u32) -> Result<Vec<RecordBatch>> {
        of_layer(decoded("bounds", &self.bounds, self.files.bounds, &BOUNDS)?, Some(layer))
    }

    /// Returns rows of `contexts`.
    pub fn contexts(&self) -> Result<Vec<RecordBatch>> {
        Ok(decoded("contexts", &self.contexts, self.files.contexts, &CONTEXTS)?.to_vec())
    }
}

pub(crate) fn decoded<'a>(
    table: &'static str,
    cell: &'a OnceLock<Vec<RecordBatch>>,
    file: &'static [u8],
    schema: &SchemaRef,
) -> Result<&'a [RecordBatch]> {
    if let Some(rows) = cell.get() {
        return Ok(rows);
    }
    let read = || {
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from_static(file))?.build()?;
        reader.map(|batch| conform(&batch?, schema)).collect::<Result<Vec<_>, _>>()
    };
    let rows = read().map_err(|error: DeltaTableError| Error::of(table, "read", error))?;
    Ok(cell.get_or_init(|| rows))
}

fn of_layer(rows: &[RecordBatch], layer: Option<u32>) -> Result<Vec<RecordBatch>> {
    let Some(layer) = layer else { return Ok(rows.to_vec()) };
    let keep = |batch: &RecordBatch| {
        let layers = batch.column_by_name("layer").map(|layers| layers.as_primitive::<Int32Type>().clone());
        let layers = layers.ok_or(Error::Damaged { table: "neurons", reason: "layers are missing".into() })?;
        let mask: BooleanArray = layers.iter().map(|l| Some(l == Some(layer as i32))).collect();
        filter_record_batch(batch, &mask).map_err(|error| Error::of("neurons", "read", error.into()))
    };
    rows.iter().map(keep).collect()
}
