//! `neuroql query`.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Read, Write};

use datafusion::error::DataFusionError;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect};
use futures::StreamExt;
use neuroql::PostgresDialect;

use crate::arguments::{Format, Query};
use crate::console::Failure;
use crate::format::{Printer, printer};
use crate::serve::start_engine;

pub(crate) async fn run(options: Query) -> Result<(), Failure> {
    let text = text(&options)?;
    let statements = parse(&text)?;
    if options.format == Format::Parquet {
        if options.out.is_none() && io::stdout().is_terminal() {
            return Err(failure("Parquet is not for terminals: give a file with -o, or redirect the output"));
        }
        if statements.len() != 1 {
            return Err(failure("a Parquet file holds the rows of one statement"));
        }
    }
    let engine = start_engine(&options.engine).await?;
    let context = engine.session();
    let mut out: Box<dyn Write + Send> = match &options.out {
        Some(file) => Box::new(BufWriter::new(
            File::create(file).map_err(|error| failure(&format!("cannot write {}: {error}", file.display())))?,
        )),
        None => Box::new(BufWriter::new(io::stdout())),
    };
    for statement in statements {
        let done = run_statement(&context, statement, options.format, &mut out).await;
        engine.settle().await?;
        let flushed = out.flush().map_err(DataFusionError::from);
        match done.and(flushed) {
            Ok(()) => {}
            // `neuroql query … | head` is no failure.
            Err(DataFusionError::IoError(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn failure(message: &str) -> Failure {
    Failure { message: message.into(), hint: None }
}

/// Returns the SQL of the file, followed by that of the argument.
fn text(options: &Query) -> Result<String, Failure> {
    let mut text = String::new();
    if let Some(file) = &options.file {
        text = std::fs::read_to_string(file)
            .map_err(|error| failure(&format!("cannot read {}: {error}", file.display())))?;
        text.push_str("\n;\n");
    }
    match options.sql.as_deref() {
        Some("-") => {
            io::stdin().read_to_string(&mut text)?;
        }
        Some(sql) => text.push_str(sql),
        None => {}
    }
    Ok(text)
}

/// Parses SQL in Postgres' dialect, or in DataFusion's own what that one does not know (lambdas, for instance).
fn parse(text: &str) -> Result<Vec<Statement>, DataFusionError> {
    let parse = |dialect: &dyn Dialect| DFParserBuilder::new(text).with_dialect(dialect).build()?.parse_statements();
    let statements = parse(&PostgresDialect).or_else(|error| parse(&GenericDialect {}).map_err(|_| error))?;
    if statements.is_empty() {
        return Err(DataFusionError::Plan("there is no statement to run".into()));
    }
    Ok(statements.into())
}

async fn run_statement(
    context: &SessionContext,
    statement: Statement,
    format: Format,
    out: &mut (dyn Write + Send),
) -> Result<(), DataFusionError> {
    let plan = context.state().statement_to_plan(statement).await?;
    let silent = matches!(plan, LogicalPlan::Ddl(_) | LogicalPlan::Statement(_));
    let frame = context.execute_logical_plan(plan).await?;
    if silent {
        frame.collect().await?;
        return Ok(());
    }
    let mut rows = frame.execute_stream().await?;
    let mut printer: Box<dyn Printer> = printer(format, &rows.schema(), out)?;
    while let Some(batch) = rows.next().await {
        printer.batch(&batch?, out)?;
        if format != Format::Parquet {
            out.flush()?;
        }
    }
    printer.end(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn print(sql: &str, format: Format) -> String {
        let context = SessionContext::new();
        let mut out = Vec::new();
        for statement in parse(sql).unwrap() {
            run_statement(&context, statement, format, &mut out).await.unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[tokio::test]
    async fn tables_and_arrays() {
        let text = print("select 1 as a, null as b, [1.5, null] as c", Format::Table).await;
        let expected = "+---+---+---------+\n| a | b | c       |\n+---+---+---------+\n\
                        | 1 |   | [1.5, ] |\n+---+---+---------+\n1 row\n";
        assert_eq!(text, expected);
    }

    #[tokio::test]
    async fn csv_and_json() {
        let sql = "select * from (values (1, 'x,\"y'), (2, null)) t(a, b)";
        assert_eq!(print(sql, Format::Csv).await, "a,b\n1,\"x,\"\"y\"\n2,\n");
        assert_eq!(print(sql, Format::Json).await, "{\"a\":1,\"b\":\"x,\\\"y\"}\n{\"a\":2,\"b\":null}\n");
        let arrays = "select [1, 2] as a, [[1], [2]] as b";
        assert_eq!(print(arrays, Format::Csv).await, "a,b\n\"[1, 2]\",\"[[1], [2]]\"\n");
        assert_eq!(print(arrays, Format::Json).await, "{\"a\":[1,2],\"b\":[[1],[2]]}\n");
    }

    #[tokio::test]
    async fn statements_run_in_order() {
        let text =
            print("create table t as select 1 as a; insert into t values (2); select a from t order by a", Format::Csv)
                .await;
        assert_eq!(text, "count\n1\na\n1\n2\n");
        assert_eq!(print("create table t(a int)", Format::Table).await, "");
        assert_eq!(print("select 1 as a where false", Format::Csv).await, "a\n");
    }

    #[test]
    fn nothing_to_run_is_an_error() {
        assert!(parse(" ; -- nothing").is_err());
        assert!(parse("selekt 1").is_err());
        assert!(parse("create external table m stored as model location 'x'; select 1").is_ok());
    }
}
