//! Packs the examples of documents into batches for the model.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{
    ArrayRef, Int32Array, Int64Array, RecordBatch, StringViewArray, StringViewBuilder, UInt32Array,
};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use futures::stream::{Stream, try_unfold, unfold};
use neuroql_model::{Batch, CancelOnDrop, Model};
use neuroql_schema::sql_error;

use crate::Error;
use crate::documents::{Document, Documents};
use crate::source::RowFilter;

/// Length in bytes from which a text is tokenized off the async threads.
const LONG_TEXT: usize = 4096;

/// Batches packed ahead of need.
const AHEAD: usize = 8;

/// Examples to be run together.
#[derive(Debug, Default)]
pub struct ExampleBatch {
    /// Their tokens as the model takes them.
    pub batch: Batch,
    /// The examples, in the order of the batch.
    pub examples: Vec<BatchExample>,
}

/// An example of a batch.
#[derive(Debug)]
pub struct BatchExample {
    /// The document it is of.
    pub document: Arc<Document>,
    /// Its number in the document, counted from 0.
    pub example: i64,
    /// Positions of the rows that it contributes, ascending.
    pub positions: Vec<u32>,
    /// Tokens of the whole example.
    pub tokens: Arc<[u32]>,
    /// True if it ends its document.
    pub last: bool,
}

/// The examples that a [`Batcher`] packs.
pub enum Examples {
    /// Examples of documents, to be tokenized.
    Documents(Box<Documents>),
    /// Examples that an analysis has seen before.
    Candidates(Box<dyn Candidates>),
}

/// Examples that are known from an analysis, of which some may not need a run.
pub trait Candidates: Send {
    /// Updates the choice of examples that need a run. Called before each batch.
    ///
    /// # Errors
    /// Errors of evaluating filters on examples.
    fn refresh(&mut self) -> Result<()>;

    /// Returns the next example, if there is one.
    fn next(&mut self) -> Option<Candidate>;
}

/// An example that may need a run.
pub enum Candidate {
    /// No row of it can pass.
    Skipped,
    /// The example has to be run.
    Run {
        /// The document it is of.
        document: Arc<Document>,
        /// Its number in the document.
        example: i64,
        /// Its tokens.
        tokens: Arc<[u32]>,
    },
}

/// Tokenizes documents, filters their tokens and packs the examples that are left into batches.
pub struct Batcher {
    model: Arc<Model>,
    examples: Examples,
    filter: Option<Arc<dyn RowFilter>>,
    /// The document whose examples are taken.
    current: Option<TokenizedDocument>,
    /// Examples to be packed next.
    ready: VecDeque<BatchExample>,
    /// Number of tokens of the next batch; later ones have `most_tokens` at most.
    tokens: usize,
    most_tokens: usize,
    /// Number of rows that may still be asked for, if the query has a limit and every row of a token counts.
    pub wanted_rows: Option<usize>,
    /// Number of examples of which no token passed the filter, or which needed no run.
    pub examples_skipped: usize,
    /// Number of examples of the first document to pass over.
    skipped: usize,
}

/// A document whose examples are taken one after another.
struct TokenizedDocument {
    document: Arc<Document>,
    ids: Vec<u32>,
    /// Number of the next example.
    next: usize,
    /// Memory of the text and the ids, if there are many.
    _held: MemoryReservation,
}

impl Batcher {
    /// Creates a batcher with batches of `tokens` tokens; one example may have more. The filter is on the columns
    /// `dataset`, `document`, `text`, `example`, `position`, `token_id` and `token`.
    pub fn new(model: Arc<Model>, examples: Examples, filter: Option<Arc<dyn RowFilter>>, tokens: usize) -> Self {
        Self {
            model,
            examples,
            filter,
            current: None,
            ready: VecDeque::new(),
            tokens,
            most_tokens: tokens,
            wanted_rows: None,
            examples_skipped: 0,
            skipped: 0,
        }
    }

    /// Passes over the first examples of the first document.
    pub fn skip_examples(&mut self, examples: usize) {
        self.skipped = examples;
    }

    /// Limits the first batch to `tokens` tokens; each batch after it has twice as many, up to the usual number.
    pub fn start_with(&mut self, tokens: usize) {
        self.tokens = tokens.min(self.most_tokens);
    }

    /// Creates a batcher of all documents, without a filter.
    pub fn of_documents(model: &Arc<Model>, documents: Documents, tokens: usize) -> Self {
        Self::new(Arc::clone(model), Examples::Documents(Box::new(documents)), None, tokens)
    }

    /// Returns the batches, each packed when it is asked for.
    pub fn into_stream(self) -> impl Stream<Item = Result<ExampleBatch>> + Send + 'static {
        try_unfold(self, |mut batcher| async move { Ok(batcher.next().await?.map(|batch| (batch, batcher))) })
    }

    /// Returns the batches, up to eight of them packed in the background: tokenizing a document takes as long as
    /// several batches of it run. The background task ends when the stream is dropped.
    pub fn read_ahead(mut self) -> impl Stream<Item = Result<ExampleBatch>> + Send + 'static {
        let (sender, receiver) = tokio::sync::mpsc::channel(AHEAD);
        let task = SpawnedTask::spawn(async move {
            while let Some(next) = self.next().await.transpose() {
                let failed = next.is_err();
                if sender.send(next).await.is_err() || failed {
                    break;
                }
            }
        });
        unfold((receiver, task), |(mut receiver, task)| async move {
            let next = receiver.recv().await?;
            Some((next, (receiver, task)))
        })
    }

    /// Returns the next batch; `None` when all documents are done.
    ///
    /// # Errors
    /// Errors of reading, tokenizing and filtering documents.
    pub async fn next(&mut self) -> Result<Option<ExampleBatch>> {
        let mut packed = ExampleBatch { batch: Batch::new([], self.model.bos()), examples: Vec::new() };
        if let Examples::Candidates(candidates) = &mut self.examples {
            candidates.refresh()?;
        }
        loop {
            let Some(example) = self.ready.front() else {
                if self.queue_next()? {
                    continue;
                }
                match &mut self.examples {
                    Examples::Documents(documents) => {
                        let Some(document) = documents.next().await? else { break };
                        let held = documents.reservation();
                        self.take(document, held).await?;
                    }
                    Examples::Candidates(candidates) => match candidates.next() {
                        None => break,
                        Some(Candidate::Skipped) => self.examples_skipped += 1,
                        Some(Candidate::Run { document, example, tokens }) => {
                            self.queue(document, example, tokens, false)?
                        }
                    },
                }
                continue;
            };
            let last = example.positions.last().map_or(0, |p| *p as usize + 1);
            if !packed.batch.is_empty() && packed.batch.tokens() + last > self.tokens {
                break;
            }
            if let Some(example) = self.ready.pop_front() {
                packed.batch.push_positions(&example.tokens, &example.positions);
                packed.examples.push(example);
            }
            if self.wanted_rows.is_some_and(|wanted| packed.batch.rows() >= wanted) {
                break;
            }
        }
        self.tokens = (2 * self.tokens).min(self.most_tokens);
        Ok((!packed.batch.is_empty()).then_some(packed))
    }

    /// Tokenizes a document, whose examples are the next.
    async fn take(&mut self, document: Document, held: MemoryReservation) -> Result<()> {
        let ids = if document.text.len() < LONG_TEXT {
            self.model.tokenizer().encode(&document.text).map_err(sql_error)?
        } else {
            let encoding = self.model.tokenizer().encoding_bytes(&document.text).map_err(sql_error)?;
            held.try_grow(document.text.len().saturating_add(encoding))?;
            // Tokenizing ends with this future.
            let guard = CancelOnDrop::default();
            let (model, text, cancel) = (Arc::clone(&self.model), Arc::clone(&document.text), guard.flag());
            let task = SpawnedTask::spawn_blocking(move || model.tokenizer().encode_cancellable(&text, &cancel));
            let ids = task.await.map_err(|e| Error::Internal(format!("tokenizing failed: {e}")))?;
            let ids = ids.map_err(sql_error)?;
            held.resize(document.text.len() + size_of::<u32>() * ids.capacity());
            ids
        };
        let next = std::mem::take(&mut self.skipped);
        self.current = Some(TokenizedDocument { document: Arc::new(document), ids, next, _held: held });
        Ok(())
    }

    /// Queues the next example of the current document if it has a wanted token; returns false if there is none.
    fn queue_next(&mut self) -> Result<bool> {
        let Some(current) = &mut self.current else { return Ok(false) };
        let mut rest = self.model.examples(&current.ids).skip(current.next);
        let Some(tokens) = rest.next() else {
            self.current = None;
            return Ok(false);
        };
        let (document, example, last) = (Arc::clone(&current.document), current.next as i64, rest.next().is_none());
        let tokens = tokens.into();
        current.next += 1;
        self.queue(document, example, tokens, last)?;
        Ok(true)
    }

    /// Queues an example if it has a wanted token.
    fn queue(&mut self, document: Arc<Document>, example: i64, tokens: Arc<[u32]>, last: bool) -> Result<()> {
        let positions = self.wanted(&document, example, &tokens)?;
        if positions.is_empty() {
            self.examples_skipped += 1;
        } else {
            self.ready.push_back(BatchExample { document, example, positions, tokens, last });
        }
        Ok(())
    }

    /// Returns the positions of an example that pass the filters on tokens.
    fn wanted(&self, document: &Document, example: i64, tokens: &[u32]) -> Result<Vec<u32>> {
        let Some(filter) = &self.filter else { return Ok((0..tokens.len() as u32).collect()) };
        let rows = tokens.len();
        let texts = self.model.tokenizer().texts();
        let mut columns: Vec<(Field, ArrayRef)> = Vec::new();
        for name in filter.columns() {
            let column: ArrayRef = match name.as_str() {
                "dataset" => {
                    Arc::new(StringViewArray::from_iter(std::iter::repeat_n(document.dataset.as_deref(), rows)))
                }
                "document" => Arc::new(Int64Array::from_value(document.number, rows)),
                "text" => repeated(&document.text, rows)?,
                "example" => Arc::new(Int64Array::from_value(example, rows)),
                "position" => Arc::new(Int32Array::from_iter_values(0..rows as i32)),
                "token_id" => Arc::new(Int32Array::from_iter_values(tokens.iter().map(|t| *t as i32))),
                "token" => Arc::new(StringViewArray::from_iter_values(tokens.iter().map(|t| text_of(texts, *t)))),
                other => return Err(Error::Internal(format!("column {other} is not known of a token")).into()),
            };
            columns.push((Field::new(name, column.data_type().clone(), true), column));
        }
        let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
        Ok(filter.evaluate(&batch)?.values().set_indices().map(|i| i as u32).collect())
    }
}

/// Returns the text of a token; a tokenizer may know tokens that the embedding has no row for.
pub fn text_of(texts: &[String], token: u32) -> &str {
    texts.get(token as usize).map_or("", String::as_str)
}

/// A text in memory that a column shares.
struct SharedText(Arc<str>);

impl AsRef<[u8]> for SharedText {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Returns a column of one text, many times, which is not copied.
///
/// # Errors
/// Returns an error if the text is too long for a column.
pub fn repeated(text: &Arc<str>, rows: usize) -> Result<ArrayRef> {
    let length = u32::try_from(text.len()).ok().filter(|length| *length < u32::MAX);
    let length = length.ok_or_else(|| Error::Internal(format!("a text of {} bytes is in no column", text.len())))?;
    let mut one = StringViewBuilder::with_capacity(1);
    let block = one.append_block(Bytes::from_owner(SharedText(Arc::clone(text))).into());
    one.try_append_view(block, 0, length)?;
    Ok(take(&one.finish(), &UInt32Array::from_value(0, rows), None)?)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Array, AsArray};
    use datafusion::error::DataFusionError;
    use datafusion::execution::TaskContext;
    use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;

    use super::*;
    use crate::source::Origin;
    use crate::testing::{Texts, toy};

    /// Reads the examples of documents within a memory pool: returns the number of tokens and the bytes that were held with
    /// the first of them.
    async fn read(origin: &Origin, bytes: usize) -> Result<(usize, usize)> {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(bytes));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::clone(&pool)).build_arc()?;
        let context = Arc::new(TaskContext::default().with_runtime(runtime));
        let mut batcher = Batcher::of_documents(&toy(), Documents::all(origin, &context)?, 1024);
        let (mut tokens, mut held) = (0, None);
        while let Some(packed) = batcher.next().await? {
            tokens += packed.batch.rows();
            held.get_or_insert(pool.reserved());
        }
        assert_eq!(pool.reserved(), 0);
        Ok((tokens, held.unwrap_or(0)))
    }

    #[tokio::test]
    async fn a_long_text_is_accounted_for_as_long_as_it_is_read() {
        let text = "word ".repeat(100_000);
        let dataset = Texts::new(&[Some(text.clone()), None, Some("word".into())], None).origin();
        for (origin, others) in [(Origin::Texts(vec![text.as_str().into()]), 0), (dataset, 1)] {
            let (tokens, held) = read(&origin, 32 << 20).await.unwrap();
            assert_eq!(tokens, 100_001 + others);
            assert!((text.len() + 4 * tokens..3 * text.len()).contains(&held), "{held}");
            let refused = read(&origin, 4 << 20).await.map(|_| ());
            assert!(matches!(refused, Err(DataFusionError::ResourcesExhausted(_))), "{refused:?}");
        }
    }

    #[tokio::test]
    async fn a_text_that_cannot_be_tokenized_in_parts_is_refused() {
        let refused = read(&Origin::Texts(vec!["a".repeat((8 << 20) + 1).into()]), usize::MAX).await.unwrap_err();
        assert!(refused.to_string().contains("8388608 bytes"), "{refused}");
    }

    #[test]
    fn a_repeated_text_is_not_copied() {
        for text in ["", "short", "a text that is too long for a view"] {
            let text: Arc<str> = text.into();
            let column = repeated(&text, 3).unwrap();
            let column = column.as_string_view();
            assert_eq!((column.len(), column.null_count()), (3, 0));
            assert!(column.iter().flatten().all(|found| found == &*text));
            let is_shared = column.data_buffers().iter().all(|buffer| buffer.as_ptr() == text.as_ptr());
            assert!(is_shared || text.is_empty());
        }
        assert_eq!(repeated(&"none".into(), 0).unwrap().len(), 0);
    }
}
