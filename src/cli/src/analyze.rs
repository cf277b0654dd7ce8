//! `neuroql analyze` and `neuroql vacuum`.

use std::time::Duration;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Float64Type, Int64Type};
use datafusion::prelude::SessionContext;
use futures::StreamExt;

use crate::arguments::{Analyze, Vacuum};
use crate::console::{self, Failure};
use crate::serve::{start_engine, store_failure};

pub(crate) async fn run(options: Analyze) -> Result<(), Failure> {
    if options.engine.store.is_none() {
        return Err(Failure {
            message: "an analysis without a store is lost when the command ends".into(),
            hint: Some("add --store DIR, or analyse in a running server: SELECT * FROM analyze(model => …)".into()),
        });
    }
    let engine = start_engine(&options.engine).await?;
    let context = engine.session();
    for (name, location) in &options.tables {
        register(&engine, &context, name, location).await?;
    }
    let mut sql =
        format!("SELECT * FROM analyze(model => {}, dataset => {}", text(&options.model), text(&options.dataset));
    if let Some(layers) = &options.layers {
        sql.push_str(&format!(", layers => {}", text(layers)));
    }
    if let Some(documents) = options.documents {
        sql.push_str(&format!(", documents => {documents}"));
    }
    sql.push_str(&format!(", k => {})", options.k));
    let mut rows = context.sql(&sql).await?.execute_stream().await?;
    let bar = console::document_bar();
    while let Some(row) = rows.next().await {
        show(&bar, &row?);
    }
    bar.finish_and_clear();
    console::print(&format!("{} is analysed over {}\n", options.model, options.dataset))?;
    Ok(())
}

pub(crate) async fn vacuum(options: Vacuum) -> Result<(), Failure> {
    let store = neuroql::Store::open(&options.store).await.map_err(store_failure)?;
    let deleted = store.vacuum(Some(Duration::from_secs(options.retention))).await.map_err(store_failure)?;
    console::print(&format!("{deleted} files deleted\n"))?;
    Ok(())
}

/// A string of SQL.
pub(crate) fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// Registers a file by its ending, in the place of a table of that name.
pub(crate) async fn register(
    engine: &neuroql::Engine,
    context: &SessionContext,
    name: &str,
    location: &str,
) -> Result<(), Failure> {
    if engine.registry().get(name).is_ok() {
        return Err(Failure { message: format!("\"{name}\" is a model"), hint: Some("use another name".into()) });
    }
    let end = location.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let format = match end.as_str() {
        "csv" | "tsv" => "CSV OPTIONS ('format.has_header' 'true')",
        "json" | "jsonl" | "ndjson" => "JSON",
        _ => "PARQUET",
    };
    let (kind, options) = format.split_once(' ').unwrap_or((format, ""));
    let name = name.replace('"', "\"\"");
    let sql =
        format!("CREATE OR REPLACE EXTERNAL TABLE \"{name}\" STORED AS {kind} LOCATION {} {options}", text(location));
    context.sql(&sql).await?.collect().await?;
    engine.settle().await?;
    Ok(())
}

fn show(bar: &indicatif::ProgressBar, row: &RecordBatch) {
    let number = |name: &str| row[name].as_primitive::<Int64Type>().value(0) as u64;
    bar.set_length(number("documents_total"));
    bar.set_position(number("documents_done"));
    let rate = row["tokens_per_second"].as_primitive::<Float64Type>();
    let rate = rate.iter().next().flatten().map_or_else(String::new, |rate| format!(", {rate:.0} tokens/s"));
    let left = row["seconds_left"].as_primitive::<Float64Type>();
    let left = left.iter().next().flatten().map_or_else(String::new, |left| format!(", {left:.0} s left"));
    bar.set_message(format!("{} tokens{rate}{left}", number("tokens")));
}
