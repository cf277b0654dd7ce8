//! Tests of every file of `slt/`, run three ways: embedded, and over the wire in the simple and the extended protocol.
//!
//! Expected values hold for all three, so a difference between them is a fault of the front end. With
//! `NEUROQL_SLT_COMPLETE=1` results are written into the files instead, to be read before they are committed:
//! `NEUROQL_SLT_COMPLETE=1 cargo test -p neuroql-tests -- slt::search::embedded`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use libtest_mimic::{Completion, Failed, Trial};
use neuroql::Engine;
use neuroql_requirements::Requirement;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner, default_validator};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::cell::{Cell, arrow_column, wire_column};
use crate::timing;
use crate::{golden, server};

/// One trial per file and way.
pub fn trials() -> Vec<Trial> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("slt");
    let mut files: Vec<_> = fs::read_dir(folder).expect("tests/slt exists").flatten().map(|file| file.path()).collect();
    files.sort();
    let mut trials = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|name| name == "slt")) {
        let name = file.file_stem().expect("a file has a name").to_string_lossy();
        for way in [Way::Embedded, Way::Simple, Way::Extended] {
            let file = file.clone();
            trials
                .push(timing::ignorable_test(format!("slt::{name}::{way:?}").to_lowercase(), move || run(&file, way)));
        }
    }
    trials
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Embedded,
    Simple,
    Extended,
}

#[tokio::main]
async fn run(file: &Path, way: Way) -> Result<Completion, Failed> {
    let smollm2 = match file.ends_with("smollm2.slt").then(neuroql_requirements::smollm2).transpose() {
        Ok(smollm2) => smollm2,
        Err(reason) => return Ok(Completion::ignored_with(Requirement::SmolLm2.missing(&reason)?)),
    };
    let engine = Engine::builder().build()?;
    let outcome = match way {
        Way::Embedded => script(file, smollm2, || async { Ok(Embedded(engine.session())) }).await,
        Way::Simple | Way::Extended => {
            let running = server::start(engine).await?;
            let outcome = match way {
                Way::Simple => script(file, smollm2, || async { Ok(Simple(running.connect().await?)) }).await,
                _ => script(file, smollm2, || async { Ok(Extended(running.connect().await?)) }).await,
            };
            running.stop().await?;
            outcome
        }
    };
    outcome.map(|()| Completion::Completed)
}

async fn script<D, M, F>(file: &Path, smollm2: Option<PathBuf>, connect: M) -> Result<(), Failed>
where
    D: AsyncDB<Error = SqlError, ColumnType = DefaultColumnType>,
    M: FnMut() -> F,
    F: Future<Output = Result<D, SqlError>>,
{
    let mut runner = Runner::new(connect);
    // Whitespace counts: tokens begin with it.
    runner.with_normalizer(String::clone);
    runner.with_column_validator(same_types);
    let folders = [
        ("golden", golden::folder()),
        ("models", golden::root().join("tests/models")),
        ("formats", golden::root().join("tests/formats")),
        ("datasets", golden::root().join("datasets")),
        ("smollm2", smollm2.unwrap_or_default()),
    ];
    for (name, folder) in folders {
        runner.set_var(name.into(), folder.display().to_string());
    }
    let outcome = match std::env::var_os("NEUROQL_SLT_COMPLETE") {
        Some(_) => {
            let updated = runner.update_test_file(file, " ", default_validator, String::clone, same_types).await;
            updated.map_err(|error| Failed::from(error.to_string()))
        }
        None => {
            let outcome = runner.run_file_async(file).await;
            outcome.map_err(|error| error.display(false).to_string().into())
        }
    };
    runner.shutdown_async().await;
    outcome
}

/// Compares column types. The simple protocol does not report them to tokio-postgres: there every column is `Any`.
#[expect(clippy::ptr_arg, reason = "sqllogictest gives the signature")]
fn same_types(actual: &Vec<DefaultColumnType>, expected: &Vec<DefaultColumnType>) -> bool {
    actual.len() == expected.len()
        && actual.iter().zip(expected).all(|(found, wanted)| found == wanted || *found == DefaultColumnType::Any)
}

#[derive(Debug, thiserror::Error)]
enum SqlError {
    #[error("{}", neuroql::diagnose(.0).message)]
    Embedded(#[from] DataFusionError),
    #[error("{}", .0.as_db_error().map_or_else(|| .0.to_string(), |error| error.message().to_owned()))]
    Wire(#[from] tokio_postgres::Error),
}

impl SqlError {
    fn sqlstate(&self) -> Option<String> {
        match self {
            SqlError::Embedded(error) => Some(neuroql::sqlstate(error).to_owned()),
            SqlError::Wire(error) => error.code().map(|state| state.code().to_owned()),
        }
    }
}

type Output = Result<DBOutput<DefaultColumnType>, SqlError>;

/// Implements `AsyncDB` for a way; ways differ in `run` only.
macro_rules! async_db {
    ($way:ident, $name:literal) => {
        #[async_trait]
        impl AsyncDB for $way {
            type Error = SqlError;
            type ColumnType = DefaultColumnType;

            async fn run(&mut self, sql: &str) -> Output {
                self.query(sql).await
            }

            async fn shutdown(&mut self) {}

            fn engine_name(&self) -> &str {
                $name
            }

            fn error_sql_state(error: &SqlError) -> Option<String> {
                error.sqlstate()
            }
        }
    };
}

async_db!(Embedded, "embedded");
async_db!(Simple, "simple");
async_db!(Extended, "extended");

struct Embedded(SessionContext);

impl Embedded {
    async fn query(&self, sql: &str) -> Output {
        let frame = self.0.sql(sql).await?;
        let planned = frame.schema().as_arrow().clone();
        let batches = frame.collect().await?;
        // The common type of a CASE or UNION of several types is known only when it runs.
        let schema = batches.first().map_or(Arc::new(planned), |batch| batch.schema());
        let types: Vec<_> = schema.fields().iter().map(|field| arrow_column(field.data_type())).collect();
        let mut rows = Vec::new();
        for batch in batches {
            for row in 0..batch.num_rows() {
                rows.push(batch.columns().iter().map(|column| Cell::arrow(column, row).line()).collect());
            }
        }
        Ok(if types.is_empty() { DBOutput::StatementComplete(0) } else { DBOutput::Rows { types, rows } })
    }
}

struct Simple(Client);

impl Simple {
    async fn query(&self, sql: &str) -> Output {
        let (mut types, mut rows, mut count) = (None, Vec::new(), 0);
        for message in self.0.simple_query(sql).await? {
            match message {
                SimpleQueryMessage::RowDescription(columns) => {
                    types = Some(vec![DefaultColumnType::Any; columns.len()]);
                }
                SimpleQueryMessage::Row(row) => {
                    rows.push((0..row.len()).map(|column| Cell::text(row.get(column)).line()).collect());
                }
                SimpleQueryMessage::CommandComplete(affected) => count = affected,
                _ => {}
            }
        }
        Ok(match types {
            Some(types) => DBOutput::Rows { types, rows },
            None => DBOutput::StatementComplete(count),
        })
    }
}

struct Extended(Client);

impl Extended {
    async fn query(&self, sql: &str) -> Output {
        let statement = self.0.prepare(sql).await?;
        let types: Vec<_> = statement.columns().iter().map(|column| wire_column(column.type_())).collect();
        if types.is_empty() {
            return Ok(DBOutput::StatementComplete(self.0.execute(&statement, &[]).await?));
        }
        let mut rows = Vec::new();
        for row in self.0.query(&statement, &[]).await? {
            let cells = (0..row.len()).map(|column| Ok(row.try_get::<_, Cell>(column)?.line()));
            rows.push(cells.collect::<Result<Vec<_>, tokio_postgres::Error>>()?);
        }
        Ok(DBOutput::Rows { types, rows })
    }
}
