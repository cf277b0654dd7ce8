//! The bundled model and datasets in memory, for tests.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use neuroql_datasets::TOY;
use neuroql_model::checkpoint::Checkpoint;
use neuroql_model::{Model, Options, Registry};
use neuroql_store::Store;

use crate::consumer::Consumer;
use crate::graphs::INDEX_BYTES;
use crate::resources::Resources;
use crate::source::{Contents, DocumentSource, Identity, Origin};

/// Resources with `threads` threads and a store in memory.
pub(crate) fn resources(threads: usize) -> Arc<Resources> {
    let (registry, store) = (Registry::new(threads).unwrap(), Store::in_memory().unwrap());
    Arc::new(Resources::new(Arc::new(registry), Arc::new(store), INDEX_BYTES))
}

/// The bundled model.
pub(crate) fn toy() -> Arc<Model> {
    let checkpoint = Checkpoint::from_bytes(TOY.config, TOY.weights, TOY.tokenizer).unwrap();
    Arc::new(Model::from_checkpoint(TOY.name, "bundled", checkpoint, &Options::default()).unwrap())
}

/// Some texts, each longer than the one before, with a NULL and an empty one among them.
pub(crate) fn texts(count: usize) -> Vec<Option<String>> {
    let words = ["the cat sat", "on a mat, ", "and then", " they went home", "because it rained", "all day. "];
    let text = |i: usize| (0..3 + 5 * i).map(|j| words[(i * i + j) % words.len()]).collect::<Vec<_>>().join(" ");
    (0..count).map(|i| (i != 2).then(|| if i == 4 { String::new() } else { text(i) })).collect()
}

/// A dataset in memory, in batches of three rows.
#[derive(Debug)]
pub(crate) struct Texts {
    name: Arc<str>,
    batches: Vec<RecordBatch>,
    numbered: bool,
    /// Number by which contents compare equal; `None` if the rows have no identity.
    contents: Option<u32>,
    table: Arc<u8>,
    /// Number of times that it was opened.
    pub opened: AtomicUsize,
}

impl Texts {
    pub(crate) fn new(texts: &[Option<String>], numbers: Option<&[Option<i64>]>) -> Self {
        let batch = |i: usize| {
            let range = i..(i + 3).min(texts.len());
            let mut columns: Vec<(&str, ArrayRef)> =
                vec![("text", Arc::new(texts[range.clone()].iter().cloned().collect::<StringArray>()))];
            if let Some(numbers) = numbers {
                columns.push(("document", Arc::new(numbers[range].iter().copied().collect::<Int64Array>())));
            }
            RecordBatch::try_from_iter(columns).unwrap()
        };
        let batches = (0..texts.len()).step_by(3).map(batch).collect();
        let (name, table, opened) = ("texts".into(), Arc::new(0), AtomicUsize::new(0));
        Self { name, batches, numbered: numbers.is_some(), contents: None, table, opened }
    }

    /// Returns it as a source of this table, with contents of this identity.
    pub(crate) fn with_identity(self, table: &Arc<u8>, contents: Option<u32>) -> Arc<Self> {
        Arc::new(Self { table: Arc::clone(table), contents, ..self })
    }

    pub(crate) fn origin(self) -> Origin {
        Origin::Dataset(Arc::new(self))
    }
}

impl DocumentSource for Texts {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn open(&self, _: &Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let rows = futures::stream::iter(self.batches.clone().into_iter().map(Ok));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.batches[0].schema(), rows)))
    }

    fn is_numbered(&self) -> bool {
        self.numbered
    }

    fn table(&self) -> Box<dyn Identity> {
        Box::new(Arc::downgrade(&self.table))
    }

    fn contents(&self) -> Option<Box<dyn Contents>> {
        self.contents.map(|contents| Box::new(Named(contents)) as Box<dyn Contents>)
    }
}

#[derive(Debug)]
struct Named(u32);

impl Contents for Named {
    fn is_same(&self, other: &dyn Contents) -> bool {
        (other as &dyn std::any::Any).downcast_ref::<Self>().is_some_and(|other| self.0 == other.0)
    }
}

/// Collects what a run hands over, until it has enough.
pub(crate) struct Collector<T> {
    pub taken: Mutex<Vec<T>>,
    pub enough: usize,
}

impl<T> Default for Collector<T> {
    fn default() -> Self {
        Self { taken: Mutex::default(), enough: usize::MAX }
    }
}

impl<T: Send> Consumer<T> for Collector<T> {
    async fn take(&self, result: T) -> Result<bool> {
        let mut taken = self.taken.lock().unwrap();
        taken.push(result);
        Ok(taken.len() < self.enough)
    }
}
