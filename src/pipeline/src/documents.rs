//! The documents of a run, one after another.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringViewArray, new_null_array,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use futures::StreamExt;

use crate::Error;
use crate::fingerprint::{DocumentHasher, Fingerprint};
use crate::source::{DocumentSource, Origin, RowFilter, Shard};

/// Columns that are known of a document before it is tokenized.
static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("dataset", DataType::Utf8View, true),
        Field::new("document", DataType::Int64, true),
        Field::new("text", DataType::Utf8View, true),
    ]))
});

/// A document to be run.
#[derive(Debug, Clone)]
pub struct Document {
    /// Name of its dataset, if it has one.
    pub dataset: Option<Arc<str>>,
    /// Its number.
    pub number: i64,
    /// Its text.
    pub text: Arc<str>,
    /// Index of its row in the dataset, NULL texts counted.
    pub row: u64,
    /// Hash of the dataset up to it, if requested.
    pub sha256: Option<Arc<str>>,
}

/// Yields documents; a NULL text is no document but keeps its number.
pub struct Documents {
    filter: Option<Arc<dyn RowFilter>>,
    shard: Shard,
    /// Documents that were read and not yet returned.
    ready: VecDeque<Document>,
    /// Memory of the texts of those that are of a dataset; texts of the query are shared with it.
    held: MemoryReservation,
    unread: UnreadSource,
    /// Number of rows read so far.
    rows: u64,
    /// Number of first rows to pass over.
    skipped: u64,
    /// Index of the row at which to end.
    end: u64,
    digests: Option<DocumentHasher>,
}

/// The part of the origin that is not read yet.
enum UnreadSource {
    Nothing,
    Dataset {
        source: Arc<dyn DocumentSource>,
        context: Arc<TaskContext>,
        stream: Option<SendableRecordBatchStream>,
        /// Number of the next row.
        next: i64,
    },
}

impl Documents {
    /// Returns the documents that pass a filter on the columns `dataset`, `document` and `text`.
    ///
    /// # Errors
    /// Errors of evaluating the filter on texts of the query.
    pub fn new(origin: &Origin, filter: Option<Arc<dyn RowFilter>>, context: &Arc<TaskContext>) -> Result<Self> {
        let mut documents = Self {
            filter,
            shard: Shard::WHOLE,
            ready: VecDeque::new(),
            held: MemoryConsumer::new("documents").register(context.memory_pool()),
            unread: UnreadSource::Nothing,
            rows: 0,
            skipped: 0,
            end: u64::MAX,
            digests: None,
        };
        match origin {
            Origin::Nothing => {}
            Origin::Texts(texts) => {
                let mut passes = None;
                if documents.filter.is_some() {
                    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..texts.len() as i64));
                    let column: ArrayRef = Arc::new(StringViewArray::from_iter_values(texts.iter()));
                    passes = documents.passes(None, &numbers, &column)?;
                }
                documents.rows = texts.len() as u64;
                for (row, text) in (0_u64..).zip(texts) {
                    if passes.as_ref().is_none_or(|passes| passes.value(row as usize)) {
                        let (number, text) = (row as i64, Arc::clone(text));
                        documents.ready.push_back(Document { dataset: None, number, text, row, sha256: None });
                    }
                }
            }
            Origin::Dataset(source) => {
                let (source, context) = (Arc::clone(source), Arc::clone(context));
                documents.unread = UnreadSource::Dataset { source, context, stream: None, next: 0 };
            }
        }
        Ok(documents)
    }

    /// Returns all documents.
    ///
    /// # Errors
    /// See [`Documents::new`].
    pub fn all(origin: &Origin, context: &Arc<TaskContext>) -> Result<Self> {
        Self::new(origin, None, context)
    }

    /// Leaves out the documents of the first rows of the dataset.
    #[must_use]
    pub fn after(mut self, rows: u64) -> Self {
        self.ready.retain(|document| document.row >= rows);
        self.skipped = rows;
        self
    }

    /// Ends before the document of this row.
    #[must_use]
    pub fn before(mut self, row: u64) -> Self {
        self.ready.retain(|document| document.row < row);
        self.end = row;
        self
    }

    /// Leaves out the documents of other shards.
    #[must_use]
    pub fn of_shard(mut self, shard: Shard) -> Self {
        self.ready.retain(|document| shard.has(document.row));
        self.shard = shard;
        self
    }

    /// Hashes the rows of a dataset as they are read: each document says the hash of the dataset up to it.
    #[must_use]
    pub fn hashed(mut self) -> Self {
        self.digests = Some(DocumentHasher::default());
        self
    }

    /// Reads a dataset to its end, and returns its hash and those of its first rows, as many as each number in
    /// `prefixes`.
    ///
    /// # Errors
    /// Errors of reading the documents.
    pub async fn fingerprint(
        origin: &Origin,
        prefixes: BTreeSet<u64>,
        context: &Arc<TaskContext>,
    ) -> Result<Fingerprint> {
        let mut documents = Self::all(origin, context)?;
        documents.digests = Some(DocumentHasher::at(prefixes));
        let mut bytes = 0;
        while let Some(document) = documents.next().await? {
            bytes += document.text.len() as u64;
        }
        Ok(documents.digests.unwrap_or_default().finish(bytes))
    }

    /// Returns the next document.
    ///
    /// # Errors
    /// [`Error::DocumentNumber`]; errors of reading the rows.
    pub async fn next(&mut self) -> Result<Option<Document>> {
        loop {
            if let Some(document) = self.ready.pop_front() {
                if document.dataset.is_some() {
                    self.held.shrink(document.text.len());
                }
                return Ok(Some(document));
            }
            if self.rows >= self.end {
                self.unread = UnreadSource::Nothing;
            }
            let UnreadSource::Dataset { source, context, stream, next } = &mut self.unread else {
                return Ok(None);
            };
            let open = match stream {
                Some(open) => open,
                None => stream.insert(source.open(context)?),
            };
            let Some(batch) = open.next().await.transpose()? else {
                self.unread = UnreadSource::Nothing;
                continue;
            };
            let rows = batch.num_rows() as i64;
            let numbers: ArrayRef = if source.is_numbered() {
                numbers_of(batch.column(1), batch.column(0), source.name(), *next)?
            } else {
                Arc::new(Int64Array::from_iter_values(*next..*next + rows))
            };
            *next += rows;
            let dataset = Arc::clone(source.name());
            self.push(&dataset, numbers, cast(batch.column(0), &DataType::Utf8View)?)?;
        }
    }

    /// Returns an empty reservation in the memory pool of the documents.
    pub(crate) fn reservation(&self) -> MemoryReservation {
        self.held.new_empty()
    }

    /// Queues the documents of some rows of a dataset that pass.
    fn push(&mut self, dataset: &Arc<str>, numbers: ArrayRef, texts: ArrayRef) -> Result<()> {
        let rows = texts.len();
        let passes = self.passes(Some(&**dataset), &numbers, &texts)?;
        let (numbers, texts) = (numbers.as_primitive::<Int64Type>(), texts.as_string_view());
        for i in 0..rows {
            let row = self.rows;
            self.rows += 1;
            let (number, text) =
                (numbers.is_valid(i).then(|| numbers.value(i)), texts.is_valid(i).then(|| texts.value(i)));
            if let Some(digests) = &mut self.digests {
                digests.add(number, text);
            }
            let (Some(number), Some(text)) = (number, text) else { continue };
            let wanted = row >= self.skipped && row < self.end && self.shard.has(row);
            if wanted && passes.as_ref().is_none_or(|passes| passes.value(i)) {
                let sha256 = self.digests.as_ref().map(|digests| Arc::from(digests.current()));
                self.held.try_grow(text.len())?;
                let dataset = Some(Arc::clone(dataset));
                self.ready.push_back(Document { dataset, number, text: Arc::from(text), row, sha256 });
            }
        }
        Ok(())
    }

    /// Returns a mask of the rows that pass the filter; `None` if there is no filter.
    fn passes(&self, dataset: Option<&str>, numbers: &ArrayRef, texts: &ArrayRef) -> Result<Option<BooleanArray>> {
        let Some(filter) = &self.filter else { return Ok(None) };
        let rows = texts.len();
        let datasets: ArrayRef = match dataset {
            Some(name) => Arc::new(StringViewArray::from_iter_values(std::iter::repeat_n(name, rows))),
            None => new_null_array(&DataType::Utf8View, rows),
        };
        let columns = vec![datasets, Arc::clone(numbers), Arc::clone(texts)];
        filter.evaluate(&RecordBatch::try_new(Arc::clone(&SCHEMA), columns)?).map(Some)
    }
}

/// Casts a column of document numbers. Each text must have a number; NULL texts are no documents.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Texts, texts};

    async fn read(mut documents: Documents) -> Vec<(u64, i64, Option<Arc<str>>)> {
        let mut all = Vec::new();
        while let Some(document) = documents.next().await.unwrap() {
            all.push((document.row, document.number, document.sha256));
        }
        all
    }

    async fn rows(documents: Documents) -> Vec<u64> {
        read(documents).await.into_iter().map(|(row, ..)| row).collect()
    }

    #[tokio::test]
    async fn null_texts_keep_their_numbers() {
        let (origin, context) = (Texts::new(&texts(8), None).origin(), Arc::default());
        let all = || Documents::all(&origin, &context).unwrap();
        assert_eq!(rows(all()).await, [0, 1, 3, 4, 5, 6, 7]);
        assert_eq!(rows(all().after(4).before(7)).await, [4, 5, 6]);
        assert_eq!(rows(all().before(0)).await, [0; 0]);
        assert!(read(all()).await.iter().all(|(row, number, _)| *row == *number as u64));
    }

    #[tokio::test]
    async fn shards_share_the_documents() {
        let (origin, context) = (Texts::new(&texts(8), None).origin(), Arc::default());
        let shard = |index| rows(Documents::all(&origin, &context).unwrap().of_shard(Shard { index, count: 3 }));
        assert_eq!([shard(0).await, shard(1).await, shard(2).await], [vec![0, 3, 6], vec![1, 4, 7], vec![5]]);
        let texts = Origin::Texts(vec!["a".into(), "b".into(), "c".into()]);
        let second = Documents::all(&texts, &context).unwrap().of_shard(Shard { index: 1, count: 2 });
        assert_eq!(rows(second).await, [1]);
    }

    #[tokio::test]
    async fn documents_know_the_hash_up_to_them() {
        let (origin, context) = (Texts::new(&texts(8), None).origin(), Arc::default());
        let fingerprint = Documents::fingerprint(&origin, (0..=8).collect(), &context).await.unwrap();
        assert_eq!(fingerprint.documents, 8);
        assert_eq!(fingerprint.bytes, texts(8).iter().flatten().map(|text| text.len() as u64).sum::<u64>());
        assert_eq!(fingerprint.prefixes[&8], fingerprint.sha256);
        // The hash includes the rows that are passed over.
        for (row, _, sha256) in read(Documents::all(&origin, &context).unwrap().hashed().after(3)).await {
            assert_eq!(sha256.as_deref(), Some(fingerprint.prefixes[&(row + 1)].as_str()));
        }
        let mut changed = texts(8);
        changed[6] = None;
        let changed = Texts::new(&changed, None).origin();
        let changed = Documents::fingerprint(&changed, (0..=8).collect(), &context).await.unwrap();
        assert_eq!(changed.prefixes[&6], fingerprint.prefixes[&6]);
        assert_ne!(changed.prefixes[&7], fingerprint.prefixes[&7]);
    }

    #[tokio::test]
    async fn each_text_needs_a_number() {
        let numbers = [Some(70), Some(-3), None, Some(7), Some(7), None];
        let context = Arc::default();
        let origin = Texts::new(&texts(6), Some(&numbers)).origin();
        let mut documents = Documents::all(&origin, &context).unwrap();
        let mut seen = Vec::new();
        let error = loop {
            match documents.next().await {
                Ok(Some(document)) => seen.push(document.number),
                Ok(None) => panic!("no error"),
                Err(error) => break error,
            }
        };
        // The NULL text needs none.
        assert_eq!(seen, [70, -3]);
        assert!(error.to_string().contains("column \"document\" of row 6 is NULL"), "{error}");
    }
}
