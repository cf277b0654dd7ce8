//! Packs documents into batches for the model.

use neuroql_schema::sql_error;
use std::collections::VecDeque;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringViewArray};
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::{DataFusionError, Result};
use neuroql_model::{Batch, Model};

use super::candidates::{Candidate, Candidates};
use super::documents::{Document, Documents};
use crate::Error;
use crate::predicate::Predicate;

/// Length in bytes from which a text is tokenized off the async threads.
const LONG_TEXT: usize = 4096;

/// Batches packed ahead of need.
const AHEAD: usize = 8;

/// Tokens of a batch and what is known of them.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    pub batch: Batch,
    pub examples: Vec<ExampleRows>,
}

/// The rows that an example contributes to a batch.
#[derive(Debug)]
pub(crate) struct ExampleRows {
    pub document: Arc<Document>,
    pub example: i64,
    /// Ascending.
    pub positions: Vec<u32>,
    /// Of the whole example.
    pub tokens: Arc<[u32]>,
    /// Whether it ends its document.
    pub last: bool,
}

impl Packed {
    /// Without the examples of documents from this row of the dataset on.
    pub fn before(self, row: u64, bos: Option<u32>) -> Self {
        match self.examples.iter().position(|example| example.document.row >= row) {
            None => self,
            Some(end) => self.truncated(end, bos),
        }
    }

    /// The first examples only.
    pub fn truncated(mut self, examples: usize, bos: Option<u32>) -> Self {
        self.examples.truncate(examples);
        self.batch = Batch::new([], bos);
        self.examples.iter().for_each(|e| self.batch.push_positions(&e.tokens, &e.positions));
        self
    }
}

/// Where a producer takes its examples from.
pub(crate) enum Examples {
    /// Documents, to be tokenized.
    Of(Box<Documents>),
    /// What an analysis has seen before.
    Analysed(Box<Candidates>),
}

/// Pulls documents, tokenizes and filters them, and packs what is left.
pub(crate) struct Producer {
    model: Arc<Model>,
    examples: Examples,
    on_tokens: Predicate,
    /// Examples of the document in hand.
    ready: VecDeque<ExampleRows>,
    /// Tokens the next batch should have, and those after it at most.
    tokens: usize,
    most_tokens: usize,
    /// Rows that may still be asked for, where the query has a limit and every row of a token counts.
    pub wanted_rows: Option<usize>,
    /// Examples that no token of passed the filters.
    pub examples_skipped: usize,
    /// Examples of the first document to pass over.
    skipped: usize,
}

/// Batches that a producer packs in the background.
pub(crate) struct Ahead {
    packed: tokio::sync::mpsc::Receiver<Result<Packed>>,
    /// Ends with this.
    _task: SpawnedTask<()>,
}

impl Ahead {
    /// The next batch; `None` when all documents are done.
    pub async fn next(&mut self) -> Result<Option<Packed>> {
        self.packed.recv().await.transpose()
    }
}

impl Producer {
    pub fn new(model: Arc<Model>, examples: Examples, on_tokens: Predicate, tokens: usize) -> Self {
        Self {
            model,
            examples,
            on_tokens,
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

    /// Makes the first batch small and each after it twice as large.
    pub fn start_with(&mut self, tokens: usize) {
        self.tokens = tokens.min(self.most_tokens);
    }

    /// Packs batches in the background, [`AHEAD`] of them at most: tokenizing a document takes as long as several batches
    /// of it run.
    pub fn ahead(mut self) -> Ahead {
        let (sender, packed) = tokio::sync::mpsc::channel(AHEAD);
        let task = SpawnedTask::spawn(async move {
            while let Some(next) = self.next().await.transpose() {
                let failed = next.is_err();
                if sender.send(next).await.is_err() || failed {
                    break;
                }
            }
        });
        Ahead { packed, _task: task }
    }

    /// The next batch; `None` when all documents are done.
    pub async fn next(&mut self) -> Result<Option<Packed>> {
        let mut packed = Packed { batch: Batch::new([], self.model.bos()), examples: Vec::new() };
        if let Examples::Analysed(candidates) = &mut self.examples {
            candidates.refresh()?;
        }
        loop {
            let Some(example) = self.ready.front() else {
                match &mut self.examples {
                    Examples::Of(documents) => {
                        let Some(document) = documents.next().await? else { break };
                        self.take(document).await?;
                    }
                    Examples::Analysed(candidates) => match candidates.next() {
                        None => break,
                        Some(Candidate::Hopeless) => self.examples_skipped += 1,
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

    /// Tokenizes a document and queues the examples that have a wanted token.
    async fn take(&mut self, document: Document) -> Result<()> {
        let ids = if document.text.len() < LONG_TEXT {
            self.model.tokenizer().encode(&document.text)
        } else {
            let (model, text) = (Arc::clone(&self.model), Arc::clone(&document.text));
            let task = SpawnedTask::spawn_blocking(move || model.tokenizer().encode(&text));
            task.await.map_err(|e| Error::Internal(format!("tokenizing failed: {e}")))?
        };
        let ids = ids.map_err(sql_error)?;
        let document = Arc::new(document);
        let count = self.model.examples(&ids).len();
        let skipped = std::mem::take(&mut self.skipped);
        for (number, tokens) in self.model.examples(&ids).enumerate().skip(skipped) {
            self.queue(Arc::clone(&document), number as i64, tokens.into(), number + 1 == count)?;
        }
        Ok(())
    }

    /// Queues an example if it has a wanted token.
    fn queue(&mut self, document: Arc<Document>, example: i64, tokens: Arc<[u32]>, last: bool) -> Result<()> {
        let positions = self.wanted(&document, example, &tokens)?;
        if positions.is_empty() {
            self.examples_skipped += 1;
        } else {
            self.ready.push_back(ExampleRows { document, example, positions, tokens, last });
        }
        Ok(())
    }

    /// Positions of an example that pass the filters on tokens.
    fn wanted(&self, document: &Document, example: i64, tokens: &[u32]) -> Result<Vec<u32>> {
        if self.on_tokens.is_empty() {
            return Ok((0..tokens.len() as u32).collect());
        }
        let rows = tokens.len();
        let texts = self.model.tokenizer().texts();
        let mut columns: Vec<(Field, ArrayRef)> = Vec::new();
        for name in self.on_tokens.columns() {
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
        Ok(self.on_tokens.evaluate(&batch)?.values().set_indices().map(|i| i as u32).collect())
    }
}

/// Text of a token; a tokenizer may know tokens that the embedding has no row for.
pub(super) fn text_of(texts: &[String], token: u32) -> &str {
    texts.get(token as usize).map_or("", String::as_str)
}

/// One text, many times, stored once.
pub(super) fn repeated(text: &str, rows: usize) -> Result<ArrayRef, DataFusionError> {
    let one = StringViewArray::from_iter_values([text]);
    let views = vec![one.views()[0]; rows];
    Ok(Arc::new(StringViewArray::try_new(views.into(), one.data_buffers().to_vec(), None)?))
}
