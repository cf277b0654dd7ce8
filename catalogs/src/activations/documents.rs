//! The documents of a scan, one after another.

use std::collections::VecDeque;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringViewArray, new_null_array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::StreamExt;

use super::request::{OF_DOCUMENT, Origin};
use super::schema;
use crate::Error;
use crate::fingerprint::Digests;
use crate::predicate::Predicate;

/// A document that passed the filters on documents.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub dataset: Option<Arc<str>>,
    pub number: i64,
    pub text: Arc<str>,
    /// Index of its row in the dataset, NULL texts counted.
    pub row: u64,
    /// Hash of the dataset up to it, where asked for.
    pub sha256: Option<Arc<str>>,
}

/// Yields documents; a NULL text is no document but keeps its number.
pub(crate) struct Documents {
    predicate: Predicate,
    schema: SchemaRef,
    ready: VecDeque<Document>,
    rest: Rest,
    /// Rows read so far.
    rows: u64,
    /// Rows to pass over.
    skipped: u64,
    digests: Option<Digests>,
}

enum Rest {
    Done,
    Table {
        dataset: Arc<str>,
        plan: Arc<dyn ExecutionPlan>,
        numbered: bool,
        context: Arc<TaskContext>,
        /// The partition being read and those after it.
        partition: usize,
        stream: Option<SendableRecordBatchStream>,
        next: i64,
    },
}

impl Documents {
    pub fn new(origin: &Origin, predicate: Predicate, context: Arc<TaskContext>) -> Result<Self> {
        let columns: Vec<usize> = OF_DOCUMENT.iter().map(|c| schema().index_of(c)).collect::<Result<_, _>>()?;
        let schema = Arc::new(schema().project(&columns)?);
        let mut documents =
            Self { predicate, schema, ready: VecDeque::new(), rest: Rest::Done, rows: 0, skipped: 0, digests: None };
        match origin {
            Origin::Nothing => {}
            Origin::Texts(texts) => {
                let numbers = Int64Array::from_iter_values(0..texts.len() as i64);
                let texts = StringViewArray::from_iter_values(texts.iter());
                documents.keep(None, Arc::new(numbers), Arc::new(texts))?;
            }
            Origin::Dataset { name, plan, numbered, .. } => {
                documents.rest = Rest::Table {
                    dataset: Arc::clone(name),
                    // It is read more than once, for the hash of the dataset before anything else, and a scan of files
                    // that has been read to its end would have nothing left.
                    plan: reset_plan_states(Arc::clone(plan))?,
                    numbered: *numbered,
                    context,
                    partition: 0,
                    stream: None,
                    next: 0,
                };
            }
        }
        Ok(documents)
    }

    /// All documents of a dataset but those of the first rows, with the hash of what comes before each.
    pub fn all(origin: &Origin, skipped: u64, digests: Digests, context: Arc<TaskContext>) -> Result<Self> {
        let mut documents = Self::new(origin, Predicate::new(Vec::new()), context)?;
        (documents.skipped, documents.digests) = (skipped, Some(digests));
        Ok(documents)
    }

    /// Hashes of all rows read so far.
    pub fn digests(&self) -> Digests {
        self.digests.clone().unwrap_or_default()
    }

    /// The next document.
    pub async fn next(&mut self) -> Result<Option<Document>> {
        loop {
            if let Some(document) = self.ready.pop_front() {
                return Ok(Some(document));
            }
            let Rest::Table { dataset, plan, numbered, context, partition, stream, next } = &mut self.rest else {
                return Ok(None);
            };
            let open = match stream {
                Some(open) => open,
                None if *partition < plan.output_partitioning().partition_count() => {
                    stream.insert(plan.execute(*partition, Arc::clone(context))?)
                }
                None => {
                    self.rest = Rest::Done;
                    continue;
                }
            };
            let Some(batch) = open.next().await.transpose()? else {
                *stream = None;
                *partition += 1;
                continue;
            };
            let rows = batch.num_rows() as i64;
            let numbers: ArrayRef = if *numbered {
                numbers_of(batch.column(1), batch.column(0), dataset, *next)?
            } else {
                Arc::new(Int64Array::from_iter_values(*next..*next + rows))
            };
            *next += rows;
            let dataset = Arc::clone(dataset);
            self.keep(Some(dataset), numbers, cast(batch.column(0), &DataType::Utf8View)?)?;
        }
    }

    /// Filters documents and queues what passes.
    fn keep(&mut self, dataset: Option<Arc<str>>, numbers: ArrayRef, texts: ArrayRef) -> Result<()> {
        let rows = texts.len();
        let datasets: ArrayRef = match &dataset {
            Some(name) => Arc::new(StringViewArray::from_iter_values(std::iter::repeat_n(name.as_ref(), rows))),
            None => new_null_array(&DataType::Utf8View, rows),
        };
        let nullable = self.schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true));
        let schema = Arc::new(Schema::new(nullable.collect::<Vec<_>>()));
        let batch = RecordBatch::try_new(schema, vec![datasets, numbers, texts])?;
        let mask = self.predicate.evaluate(&batch)?;
        let (numbers, texts) = (batch.column(1).as_primitive::<Int64Type>(), batch.column(2).as_string_view());
        for i in 0..rows {
            let row = self.rows;
            self.rows += 1;
            let (number, text) =
                (numbers.is_valid(i).then(|| numbers.value(i)), texts.is_valid(i).then(|| texts.value(i)));
            if let Some(digests) = &mut self.digests {
                digests.add(number, text);
            }
            let (Some(number), Some(text)) = (number, text) else { continue };
            if mask.value(i) && row >= self.skipped {
                let sha256 = self.digests.as_ref().map(|digests| Arc::from(digests.current()));
                self.ready.push_back(Document { dataset: dataset.clone(), number, text: Arc::from(text), row, sha256 });
            }
        }
        Ok(())
    }
}

/// Numbers of documents as they are in a column. Each text must have one; NULL texts are no documents.
fn numbers_of(column: &ArrayRef, texts: &ArrayRef, dataset: &str, before: i64) -> Result<ArrayRef> {
    let numbers = cast(column, &DataType::Int64)?;
    let texts = texts.logical_nulls();
    let lacks = |i: &usize| numbers.is_null(*i) && texts.as_ref().is_none_or(|texts| texts.is_valid(*i));
    match (0..numbers.len()).find(lacks) {
        None => Ok(numbers),
        Some(i) => {
            let null = column.logical_nulls().is_some_and(|nulls| nulls.is_null(i));
            let value = if null { "NULL".to_owned() } else { array_value_to_string(column, i)? };
            let (dataset, row) = (dataset.to_owned(), before as u64 + i as u64 + 1);
            Err(Error::DocumentNumber { dataset, row, value }.into())
        }
    }
}
