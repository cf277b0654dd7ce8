//! `attention`: virtual, how much each token of a text attends to each.
//!
//! A scan runs texts that `text = '…'` or `text IN (…)` gives, up to the deepest layer that filters leave, and computes
//! the patterns of no heads but those.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float32Array, Int32Array, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use futures::future::BoxFuture;
use neuroql_model::{AttentionPass, CancelOnDrop, Model, Placement};
use neuroql_pipeline::RowFilter;
use neuroql_pipeline::batcher::repeated;
use neuroql_schema::sql_error;

use crate::Error;
use crate::state::EngineState;
use crate::table_functions::api::{Ranges, RowProducer, RowSender, producer_plan};
use crate::tables::model_table::{ModelTable, Scan};
use crate::tables::predicate::{Predicate, allowed_strings, can_evaluate_on};

/// Rows of a batch.
const ROWS: usize = 8192;

/// Table `attention`.
#[derive(Debug)]
pub(crate) struct Attention;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("text", DataType::Utf8View, false),
        Field::new("layer", DataType::Int32, false),
        Field::new("head", DataType::Int32, false),
        Field::new("query", DataType::Int32, false),
        Field::new("key", DataType::Int32, false),
        Field::new("weight", DataType::Float32, false),
        Field::new("example", DataType::Int64, false),
    ]))
}

fn is_of_heads(filter: &Expr) -> bool {
    can_evaluate_on(filter, &["layer", "head"])
}

impl ModelTable for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn schema(&self, _: Option<&Model>) -> SchemaRef {
        schema()
    }

    fn supports_filter(&self, filter: &Expr) -> TableProviderFilterPushDown {
        match is_of_heads(filter) || allowed_strings(filter, "text").is_some() {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Unsupported,
        }
    }

    fn scan<'a>(&'a self, model: &'a Arc<Model>, scan: Scan<'a>) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>>> {
        Box::pin(std::future::ready(plan(model, &scan)))
    }
}

fn plan(model: &Arc<Model>, scan: &Scan<'_>) -> Result<Arc<dyn ExecutionPlan>> {
    let mut texts: Option<Vec<String>> = None;
    let mut of_heads = Vec::new();
    for filter in scan.filters {
        match (allowed_strings(filter, "text"), &mut texts) {
            (Some(given), Some(texts)) => texts.retain(|text| given.contains(text)),
            (Some(given), None) => {
                // Each text once, in the order given.
                let mut seen = BTreeSet::new();
                texts = Some(given.into_iter().filter(|text| seen.insert(text.clone())).collect());
            }
            (None, _) => of_heads.push(filter.clone()),
        }
    }
    let texts = texts.ok_or_else(|| Error::NoAttentionText(model.name().into()))?;
    let predicate = Predicate::compile(&of_heads, &schema(), scan.session)?;
    let producer = Patterns {
        engine: Arc::clone(scan.engine),
        heads: heads(model, &predicate)?,
        model: Arc::clone(model),
        texts: texts.into_iter().map(Arc::from).collect(),
    };
    producer_plan(schema(), producer, scan.projection, scan.limit)
}

/// Layers, ascending, and the heads of each that a predicate lets pass.
fn heads(model: &Model, predicate: &Predicate) -> Result<Vec<(usize, Vec<usize>)>> {
    let field = |name: &str| Field::new(name, DataType::Int32, false);
    let schema = Arc::new(Schema::new(vec![field("layer"), field("head")]));
    let count = model.config().heads;
    let mut selected = Vec::new();
    for layer in model.layers_read() {
        let layers = Arc::new(Int32Array::from_value(layer as i32, count));
        let heads = Arc::new(Int32Array::from_iter_values(0..count as i32));
        let mask = predicate.evaluate(&RecordBatch::try_new(Arc::clone(&schema), vec![layers, heads])?)?;
        let heads: Vec<usize> = mask.values().set_indices().collect();
        if !heads.is_empty() {
            selected.push((layer, heads));
        }
    }
    Ok(selected)
}

/// A scan.
struct Patterns {
    engine: Arc<EngineState>,
    model: Arc<Model>,
    texts: Vec<Arc<str>>,
    heads: Vec<(usize, Vec<usize>)>,
}

impl fmt::Display for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, texts, heads, .. } = self;
        let layers: Vec<u32> = heads.iter().map(|(layer, _)| *layer as u32).collect();
        let count: usize = heads.iter().map(|(_, heads)| heads.len()).sum();
        write!(f, "attention model={} texts={} layers={} heads={count}", model.name(), texts.len(), Ranges::of(&layers))
    }
}

impl RowProducer for Patterns {
    fn run<'a>(&'a self, context: &'a Arc<TaskContext>, rows: &'a RowSender) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let guard = CancelOnDrop::default();
            let held = MemoryConsumer::new("attention").register(context.memory_pool());
            for text in &self.texts {
                held.try_resize(self.model.tokenizer().encoding_bytes(text).map_err(sql_error)?)?;
                let (model, words, cancel) = (Arc::clone(&self.model), Arc::clone(text), guard.flag());
                let encode = move || model.tokenizer().encode_cancellable(&words, &cancel);
                let pool = self.engine.registry.pool();
                let tokens = pool.run(Placement::AllThreads, encode).await.map_err(sql_error)?;
                for (number, example) in (0..).zip(self.model.examples(&tokens)) {
                    if !self.example((text, number), example, &guard, (context, rows)).await? {
                        return Ok(());
                    }
                }
            }
            Ok(())
        })
    }
}

impl Patterns {
    /// Sends the rows of an example; returns false if nobody listens any more.
    async fn example(
        &self,
        (text, number): (&Arc<str>, i64),
        tokens: &[u32],
        guard: &CancelOnDrop,
        (context, rows): (&Arc<TaskContext>, &RowSender),
    ) -> Result<bool> {
        let mut pass = AttentionPass::new(&self.model, tokens).map_err(sql_error)?;
        let reservation = MemoryConsumer::new("attention").register(context.memory_pool());
        let bos = pass.tokens() - tokens.len();
        for (layer, heads) in &self.heads {
            let held = size_of::<f32>() * heads.len() * pass.tokens() * pass.tokens();
            reservation.try_resize(held)?;
            let (wanted, layer, cancel) = (heads.clone(), *layer, guard.flag());
            let job = move || {
                let patterns = pass.patterns(layer, &wanted, &cancel)?;
                Ok((pass, patterns))
            };
            let placement = Placement::AllThreads.of(&self.model);
            let patterns;
            (pass, patterns) = self.engine.registry.pool().run(placement, job).await.map_err(sql_error)?;
            let count = pass.tokens();
            let mut columns = Columns::default();
            for (head, pattern) in heads.iter().zip(patterns.chunks_exact(count * count)) {
                for (query, weights) in pattern.chunks_exact(count).enumerate().skip(bos) {
                    for (key, weight) in weights[..=query].iter().enumerate() {
                        columns.push(*head, query as i32 - bos as i32, key as i32 - bos as i32, *weight);
                    }
                    if columns.weights.len() >= ROWS {
                        let batch = std::mem::take(&mut columns).batch(rows, (text, number), layer)?;
                        if !rows.send(batch).await {
                            return Ok(false);
                        }
                    }
                }
            }
            if !columns.weights.is_empty() && !rows.send(columns.batch(rows, (text, number), layer)?).await {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Columns of a batch.
#[derive(Default)]
struct Columns {
    heads: Vec<i32>,
    queries: Vec<i32>,
    keys: Vec<i32>,
    weights: Vec<f32>,
}

impl Columns {
    fn push(&mut self, head: usize, query: i32, key: i32, weight: f32) {
        self.heads.push(head as i32);
        self.queries.push(query);
        self.keys.push(key);
        self.weights.push(weight);
    }

    fn batch(self, rows: &RowSender, (text, example): (&Arc<str>, i64), layer: usize) -> Result<RecordBatch> {
        let count = self.weights.len();
        let columns: Vec<ArrayRef> = vec![
            repeated(text, count)?,
            Arc::new(Int32Array::from_value(layer as i32, count)),
            Arc::new(Int32Array::from(self.heads)),
            Arc::new(Int32Array::from(self.queries)),
            Arc::new(Int32Array::from(self.keys)),
            Arc::new(Float32Array::from(self.weights)),
            Arc::new(Int64Array::from_value(example, count)),
        ];
        rows.batch(columns)
    }
}
