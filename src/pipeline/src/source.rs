//! Sources of documents.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, Weak};

use datafusion::arrow::array::{BooleanArray, RecordBatch};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};

/// The documents of a run.
#[derive(Debug, Clone)]
pub enum Origin {
    /// Texts by themselves, each once, numbered from 0.
    Texts(Vec<Arc<str>>),
    /// The documents of a dataset.
    Dataset(Arc<dyn DocumentSource>),
    /// No documents.
    Nothing,
}

impl Origin {
    /// The dataset, if it is one.
    pub fn dataset(&self) -> Option<&Arc<dyn DocumentSource>> {
        match self {
            Self::Dataset(dataset) => Some(dataset),
            Self::Texts(_) | Self::Nothing => None,
        }
    }
}

/// A dataset whose rows can be read, and read again.
pub trait DocumentSource: Debug + Send + Sync + Any {
    /// Name of the dataset.
    fn name(&self) -> &Arc<str>;

    /// Opens the rows in the order of the dataset. The first column of each batch holds texts; if the source
    /// [is numbered](Self::is_numbered), the second holds the documents' numbers.
    ///
    /// # Errors
    /// Errors of reading the rows.
    fn open(&self, context: &Arc<TaskContext>) -> Result<SendableRecordBatchStream>;

    /// Returns true if documents have numbers of their own; otherwise their rows are counted.
    fn is_numbered(&self) -> bool;

    /// Returns the identity of the table that is read. Fingerprints of a dataset are forgotten when its table is gone.
    fn table(&self) -> Box<dyn Identity>;

    /// Returns the identity of the rows; `None` if it is unknown, or if they may differ from one reading to the next.
    fn contents(&self) -> Option<Box<dyn Contents>>;
}

/// The identity of a value that others own.
pub trait Identity: Debug + Send + Sync {
    /// Returns the place of the value in memory, which no other value has for as long as this exists.
    fn address(&self) -> usize;

    /// Returns true if the value still exists.
    fn is_alive(&self) -> bool;
}

impl<T: Debug + Send + Sync + ?Sized> Identity for Weak<T> {
    fn address(&self) -> usize {
        self.as_ptr().cast::<()>() as usize
    }

    fn is_alive(&self) -> bool {
        self.strong_count() > 0
    }
}

/// The identity of the rows of a source: sources with equal contents yield equal rows in the same order.
pub trait Contents: Debug + Send + Sync + Any {
    /// Returns true if these are the contents of `other` too.
    fn is_same(&self, other: &dyn Contents) -> bool;
}

/// A condition on rows.
pub trait RowFilter: Debug + Send + Sync {
    /// Names of the columns that the condition reads.
    fn columns(&self) -> &BTreeSet<String>;

    /// Returns which rows pass; NULL does not.
    ///
    /// # Errors
    /// Errors of evaluating the condition.
    fn evaluate(&self, rows: &RecordBatch) -> Result<BooleanArray>;
}

/// One of several runs that share the documents of a dataset.
///
/// Every shard reads all documents, so their numbers and the dataset's hash are those of the whole, and runs each
/// `count`-th of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Index of this shard, less than `count`.
    pub index: u64,
    /// Number of shards.
    pub count: u64,
}

impl Shard {
    /// The only shard.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// Returns true if the document of this row of the dataset belongs to the shard.
    pub fn has(self, row: u64) -> bool {
        row % self.count.max(1) == self.index
    }
}
