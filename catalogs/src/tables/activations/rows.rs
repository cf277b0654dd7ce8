//! Turns the activations of a batch into rows: tokens outside, neurons inside, as they lie in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, Float32Array, Int32Array, Int64Array, RecordBatch, StringViewArray, UInt32Array,
};
use datafusion::arrow::compute::{concat, take};
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::error::Result;
use neuroql_model::Model;
use neuroql_pipeline::ExampleBatch;
use neuroql_pipeline::RowFilter;
use neuroql_pipeline::batcher::{repeated, text_of};

use super::scan_request::OF_TOKEN;
use crate::Error;
use crate::tables::neuron_rows::batch;
use crate::tables::predicate::Predicate;

/// Builds record batches of the columns a query asks for.
pub(super) struct RowBuilder {
    model: Arc<Model>,
    schema: SchemaRef,
    /// Rows of a record batch, at least those of one token.
    rows: usize,
    /// `layer` and `neuron` of consecutive rows, by layer; every batch takes a slice of them.
    patterns: BTreeMap<usize, (Int32Array, Int32Array)>,
}

impl RowBuilder {
    pub fn new(model: Arc<Model>, schema: SchemaRef, rows: usize) -> Self {
        Self { model, schema, rows, patterns: BTreeMap::new() }
    }

    /// Cuts the rows of one layer of a batch into record batches. `values` is `[rows of the batch, neurons]`.
    pub fn layer(&mut self, packed: &ExampleBatch, layer: usize, neurons: &[u32], values: Vec<f32>) -> LayerRows {
        let width = neurons.len().max(1);
        let tokens = (self.rows / width).max(1);
        let (layers, neurons) = self.patterns.entry(layer).or_insert_with(|| {
            let ids = (0..tokens).flat_map(|_| neurons.iter().map(|n| *n as i32));
            (Int32Array::from_value(layer as i32, tokens * width), Int32Array::from_iter_values(ids))
        });
        LayerRows {
            model: Arc::clone(&self.model),
            schema: Arc::clone(&self.schema),
            width,
            tokens,
            total: packed.batch.rows(),
            next: 0,
            layers: layers.clone(),
            neurons: neurons.clone(),
            values: Float32Array::from(values),
            of_token: BTreeMap::new(),
        }
    }
}

/// The rows of one layer of one batch.
pub(super) struct LayerRows {
    model: Arc<Model>,
    schema: SchemaRef,
    /// Number of neurons per token.
    width: usize,
    /// Number of tokens per record batch.
    tokens: usize,
    /// Number of tokens in all.
    total: usize,
    next: usize,
    layers: Int32Array,
    neurons: Int32Array,
    values: Float32Array,
    /// Columns with one value per token of the batch, made when first needed.
    of_token: BTreeMap<String, ArrayRef>,
}

/// Rows of some tokens, and the indices of those that are kept.
struct RowChunk {
    first: usize,
    tokens: usize,
    kept: Option<UInt32Array>,
}

impl LayerRows {
    /// Returns the next record batch that has a row left after the filters; `None` at the end.
    pub fn next(&mut self, packed: &ExampleBatch, filters: &[&Predicate]) -> Result<Option<RecordBatch>> {
        while self.next < self.total {
            let tokens = self.tokens.min(self.total - self.next);
            let mut chunk = RowChunk { first: self.next, tokens, kept: None };
            self.next += tokens;
            let mut empty = false;
            for filter in filters.iter().filter(|filter| !filter.is_empty()) {
                chunk.kept = self.kept(packed, &chunk, filter)?;
                empty = chunk.kept.as_ref().is_some_and(|kept| kept.is_empty());
                if empty {
                    break;
                }
            }
            if !empty {
                return Ok(Some(self.batch(packed, &chunk)?));
            }
        }
        Ok(None)
    }

    fn batch(&mut self, packed: &ExampleBatch, chunk: &RowChunk) -> Result<RecordBatch> {
        let schema = Arc::clone(&self.schema);
        let columns: Vec<ArrayRef> =
            schema.fields().iter().map(|f| self.column(packed, chunk, f.name())).collect::<Result<_>>()?;
        let rows = chunk.kept.as_ref().map_or(chunk.tokens * self.width, |kept| kept.len());
        batch(&schema, columns, rows)
    }

    /// Returns the rows of a chunk that a filter lets pass, counted from the chunk's first; `None` if all pass.
    fn kept(&mut self, packed: &ExampleBatch, chunk: &RowChunk, filter: &Predicate) -> Result<Option<UInt32Array>> {
        let mut fields = Vec::new();
        let mut columns = Vec::new();
        for name in filter.columns() {
            let column = self.column(packed, chunk, name)?;
            fields.push(Field::new(name, column.data_type().clone(), true));
            columns.push(column);
        }
        let rows = chunk.kept.as_ref().map_or(chunk.tokens * self.width, |kept| kept.len());
        let mask = filter.evaluate(&batch(&Arc::new(Schema::new(fields)), columns, rows)?)?;
        if mask.true_count() == mask.len() {
            return Ok(chunk.kept.clone());
        }
        let passed = mask.values().set_indices().map(|i| i as u32);
        Ok(Some(match &chunk.kept {
            Some(kept) => UInt32Array::from_iter_values(passed.map(|i| kept.value(i as usize))),
            None => UInt32Array::from_iter_values(passed),
        }))
    }

    fn column(&mut self, packed: &ExampleBatch, chunk: &RowChunk, name: &str) -> Result<ArrayRef> {
        let (width, rows) = (self.width, chunk.tokens * self.width);
        let of_row = |all: ArrayRef| match &chunk.kept {
            Some(kept) => Ok(take(&all, kept, None)?),
            None => Ok(all),
        };
        match name {
            "layer" => {
                let rows = chunk.kept.as_ref().map_or(rows, |kept| kept.len());
                Ok(Arc::new(self.layers.slice(0, rows)))
            }
            "neuron" => of_row(Arc::new(self.neurons.slice(0, rows))),
            "activation" => of_row(Arc::new(self.values.slice(chunk.first * width, rows))),
            _ => {
                let tokens = self.of_token(packed, name)?.slice(chunk.first, chunk.tokens);
                let index = match &chunk.kept {
                    Some(kept) => UInt32Array::from_iter_values(kept.values().iter().map(|row| row / width as u32)),
                    None if width == 1 => return Ok(tokens),
                    None => {
                        let repeat = (0..chunk.tokens as u32).flat_map(|t| std::iter::repeat_n(t, width));
                        UInt32Array::from_iter_values(repeat)
                    }
                };
                Ok(take(&tokens, &index, None)?)
            }
        }
    }

    /// Returns a column with one value per token of the batch.
    fn of_token(&mut self, packed: &ExampleBatch, name: &str) -> Result<ArrayRef> {
        if let Some(column) = self.of_token.get(name) {
            return Ok(Arc::clone(column));
        }
        if !OF_TOKEN.contains(&name) {
            return Err(Error::Internal(format!("column {name} is not known of a token")).into());
        }
        let texts = self.model.tokenizer().texts();
        let examples = &packed.examples;
        let positions = || examples.iter().flat_map(|e| e.positions.iter().map(move |p| (e, *p)));
        let column: ArrayRef = match name {
            "document" => Arc::new(Int64Array::from_iter_values(positions().map(|(e, _)| e.document.number))),
            "example" => Arc::new(Int64Array::from_iter_values(positions().map(|(e, _)| e.example))),
            "position" => Arc::new(Int32Array::from_iter_values(positions().map(|(_, p)| p as i32))),
            "token_id" => Arc::new(Int32Array::from_iter_values(positions().map(|(e, p)| e.tokens[p as usize] as i32))),
            "token" => {
                let tokens = positions().map(|(e, p)| text_of(texts, e.tokens[p as usize]));
                Arc::new(StringViewArray::from_iter_values(tokens))
            }
            "dataset" => Arc::new(StringViewArray::from_iter(positions().map(|(e, _)| e.document.dataset.as_deref()))),
            _ => {
                let texts: Vec<ArrayRef> =
                    examples.iter().map(|e| repeated(&e.document.text, e.positions.len())).collect::<Result<_>>()?;
                concat(&texts.iter().map(AsRef::as_ref).collect::<Vec<_>>())?
            }
        };
        self.of_token.insert(name.to_owned(), Arc::clone(&column));
        Ok(column)
    }
}
