//! `neuroql build`.

use std::time::{Duration, Instant};

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{Float32Type, Int64Type};
use datafusion::common::TableReference;
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::prelude::SessionContext;
use futures::StreamExt;

use crate::analyze::{register, text};
use crate::arguments::Build;
use crate::console::{self, Failure};
use crate::serve::start_engine;

/// Longest time that graphs wait for others before they are committed.
const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) async fn run(options: Build) -> Result<(), Failure> {
    if options.engine.store.is_none() {
        return Err(Failure {
            message: "graphs without a store are lost when the command ends".into(),
            hint: Some(
                "add --store DIR, or build in a running server: INSERT INTO … SELECT * FROM build_graphs(…)".into(),
            ),
        });
    }
    let engine = start_engine(&options.engine).await?;
    let context = engine.session();
    for (name, location) in &options.tables {
        register(&engine, &context, name, location).await?;
    }
    let total = count(&context, &options).await?;
    let mut rows = context.sql(&sql(&options)).await?.execute_stream().await?;
    let bar = console::neuron_bar(total);
    let mut done = BuildTotals::default();
    let mut waiting: Vec<RecordBatch> = Vec::new();
    let mut committed = Instant::now();
    while let Some(batch) = rows.next().await {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                // Graphs that are done are kept.
                commit(&context, &options.model, &mut waiting).await?;
                return Err(error.into());
            }
        };
        done.add(&batch);
        bar.set_position(done.neurons);
        bar.set_message(done.to_string());
        waiting.push(batch);
        if committed.elapsed() >= PATIENCE {
            commit(&context, &options.model, &mut waiting).await?;
            committed = Instant::now();
        }
    }
    commit(&context, &options.model, &mut waiting).await?;
    bar.finish_and_clear();
    console::print(&format!("{}: {} neurons, {done}\n", options.model, done.neurons))?;
    Ok(())
}

/// Returns the call of `build_graphs`.
fn sql(options: &Build) -> String {
    let mut sql = format!(
        "SELECT * FROM build_graphs(model => {}, dataset => {}, method => {}",
        text(&options.model),
        text(&options.dataset),
        text(&options.method)
    );
    let ranges = [("layers", &options.layer), ("neurons", &options.neuron), ("options", &options.options)];
    for (name, value) in ranges {
        if let Some(value) = value {
            sql.push_str(&format!(", {name} => {}", text(value)));
        }
    }
    sql + if options.rebuild { ", rebuild => true)" } else { ")" }
}

/// Returns the number of neurons to build, if it is known.
async fn count(context: &SessionContext, options: &Build) -> Result<Option<u64>, Failure> {
    let model = text(&options.model);
    let sql = format!("SELECT layers::bigint, neurons_per_layer::bigint FROM models WHERE model = {model}");
    let rows = context.sql(&sql).await?.collect().await?;
    let Some(rows) = rows.iter().find(|rows| rows.num_rows() > 0) else { return Ok(None) };
    let all = |column: usize| rows.column(column).as_primitive::<Int64Type>().value(0) as u64;
    let (layers, neurons) = (size(options.layer.as_deref(), all(0)), size(options.neuron.as_deref(), all(1)));
    Ok(layers.zip(neurons).and_then(|(layers, neurons)| layers.checked_mul(neurons)))
}

/// Returns the number of numbers in ranges such as 0-3,7; `None` if they are malformed, which the query will report.
fn size(ranges: Option<&str>, all: u64) -> Option<u64> {
    let Some(ranges) = ranges else { return Some(all) };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let of_range = |range: &str| match range.split_once('-') {
        None => number(range).map(|_| 1),
        Some((first, last)) => number(last)?.checked_add(1)?.checked_sub(number(first)?),
    };
    ranges.split(',').try_fold(0u64, |sum, range| sum.checked_add(of_range(range)?))
}

async fn commit(context: &SessionContext, model: &str, waiting: &mut Vec<RecordBatch>) -> Result<(), Failure> {
    let Some(first) = waiting.first() else { return Ok(()) };
    let rows = concat_batches(&first.schema(), waiting.iter()).map_err(datafusion::error::DataFusionError::from)?;
    waiting.clear();
    let table = TableReference::partial(model, "graphs").to_quoted_string();
    context.read_batch(rows)?.write_table(&table, DataFrameWriteOptions::new()).await?;
    Ok(())
}

/// The graphs built so far.
#[derive(Default)]
struct BuildTotals {
    neurons: u64,
    failed: u64,
    f1: f64,
    scored: u64,
}

impl BuildTotals {
    fn add(&mut self, rows: &RecordBatch) {
        self.neurons += rows.num_rows() as u64;
        self.failed += (rows["reason"].len() - rows["reason"].null_count()) as u64;
        for f1 in rows["f1"].as_primitive::<Float32Type>().iter().flatten() {
            self.f1 += f64::from(f1);
            self.scored += 1;
        }
    }
}

impl std::fmt::Display for BuildTotals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.scored > 0 {
            write!(f, "mean F1 {:.3}, ", self.f1 / self.scored as f64)?;
        }
        write!(f, "{} without a graph", self.failed)
    }
}
