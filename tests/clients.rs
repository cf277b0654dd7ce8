//! Tests of clients against a real socket: psql, psycopg, SQLAlchemy with pandas, node-pg, tokio-postgres. Also of
//! readers of the store's files: deltalake, Polars, DuckDB.
//!
//! The packages of the scripts are installed once into `neuroql-tests` in the user's cache folder; a client that is not
//! there and cannot be installed is reported as ignored, or as a failure if `NEUROQL_REQUIRE` names it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures::StreamExt;
use libtest_mimic::{Completion, Failed, Trial};
use neuroql::{Engine, Store};
use neuroql_requirements::{Requirement, cache, succeeds};
use tokio_postgres::types::Type;

use crate::golden;
use crate::server::{self, Error};
use crate::timing;

const PATIENCE: Duration = Duration::from_secs(300);

/// One trial per client.
pub fn trials() -> Vec<Trial> {
    vec![
        timing::ignorable_test("clients::psql", || script(psql(), "psql.sh")),
        timing::ignorable_test("clients::psycopg", || script(python(), "psycopg_client.py")),
        timing::ignorable_test("clients::sqlalchemy_pandas", || script(python(), "sqlalchemy_pandas.py")),
        timing::ignorable_test("clients::store_readers", || script(python(), "store_readers.py")),
        timing::ignorable_test("clients::node_pg", || script(node(), "node.js")),
        timing::test("clients::tokio_postgres", || Ok(tokio_postgres()?)),
    ]
}

/// Runs a script with an interpreter, or reports why there is none.
#[tokio::main]
async fn script(interpreter: Result<Interpreter, Missing>, name: &str) -> Result<Completion, Failed> {
    let interpreter = match interpreter {
        Ok(found) => found,
        Err((requirement, reason)) => return Ok(Completion::ignored_with(requirement.missing(&reason)?)),
    };
    let store = tempfile::tempdir()?;
    let opened = Store::open(&store.path().to_string_lossy()).await?;
    let running = server::start(Engine::builder().with_store(opened).build()?).await?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name);
    let mut command = Command::new(&interpreter.program);
    command
        .arg(path)
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", running.port.to_string())
        .env("PGUSER", "neuroql")
        .env("PGDATABASE", "neuroql")
        .env("PGSSLMODE", "disable")
        .env("STORE", store.path())
        .env("MODELS", golden::root().join("tests/models"))
        .env("NODE_PATH", &interpreter.modules)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let said = tokio::task::spawn_blocking(move || patiently(command)).await??;
    if !said.ends_with("\nok") && said != "ok" {
        return Err(format!("{name} did not come to its end\n{said}").into());
    }
    running.stop().await?;
    Ok(Completion::Completed)
}

/// Runs a command that must succeed in time, and returns its output.
///
/// # Errors
/// Its output, if it fails or takes too long.
pub fn patiently(mut command: Command) -> Result<String, Error> {
    let said = tempfile::NamedTempFile::new()?;
    let output = said.reopen()?;
    let mut child = command.stdin(Stdio::null()).stderr(output.try_clone()?).stdout(output).spawn()?;
    let start = Instant::now();
    let ended = loop {
        match child.try_wait()? {
            Some(status) => break Some(status),
            None if start.elapsed() > PATIENCE => break None,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let text = fs::read_to_string(said.path())?.trim_end().to_owned();
    match ended {
        Some(status) if status.success() => Ok(text),
        Some(status) => Err(format!("{status}\n{text}").into()),
        None => {
            child.kill()?;
            child.wait()?;
            Err(format!("still running after {PATIENCE:?}\n{text}").into())
        }
    }
}

/// Program that runs a script, and folder of its modules.
struct Interpreter {
    program: PathBuf,
    modules: PathBuf,
}

/// A program that a machine lacks, and the reason.
type Missing = (Requirement, String);

fn psql() -> Result<Interpreter, Missing> {
    succeeds("psql", &["--version"], Path::new(".")).map_err(|reason| (Requirement::Psql, reason))?;
    Ok(Interpreter { program: "bash".into(), modules: PathBuf::new() })
}

fn python() -> Result<Interpreter, Missing> {
    let packages = ["psycopg[binary]", "sqlalchemy", "pandas", "pyarrow", "deltalake", "duckdb", "polars"];
    let modules = "psycopg, sqlalchemy, pandas, pyarrow, deltalake, duckdb, polars";
    let program = neuroql_requirements::python("clients-venv", modules, &packages);
    Ok(Interpreter { program: program.map_err(|reason| (Requirement::Python, reason))?, modules: PathBuf::new() })
}

fn node() -> Result<Interpreter, Missing> {
    let modules = installed_for_node(&["pg"]).map_err(|reason| (Requirement::Node, reason))?;
    Ok(Interpreter { program: "node".into(), modules })
}

/// Returns the folder of packages for Node.js, which are installed if they are not there.
pub fn installed_for_node(packages: &[&str]) -> Result<PathBuf, String> {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _alone = INSTALLING.lock();
    let folder = cache("neuroql-tests")?.join("node");
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let modules = folder.join("node_modules");
    succeeds("node", &["--version"], &folder)?;
    // A version that is named is after the last @.
    let name = |package: &str| package.rsplit_once('@').map_or(package, |(name, _)| name).to_owned();
    if packages.iter().any(|package| !modules.join(name(package)).join("package.json").exists()) {
        succeeds("npm", &[&["install", "--no-fund", "--no-audit"], packages].concat(), &folder)?;
    }
    Ok(modules)
}

#[tokio::main]
async fn tokio_postgres() -> Result<(), Error> {
    let running = server::start(Engine::builder().build()?).await?;
    let client = running.connect().await?;

    let row = client.query_one("SELECT model, layers, parameters FROM models", &[]).await?;
    assert_eq!((row.get("model"), row.get("layers"), row.get("parameters")), ("toy", 2_i32, 1_467_904_i64));

    // Parameters are described without a cast, and values come back in binary.
    let query =
        "SELECT position, activation FROM toy.activations WHERE text = $1 AND layer = $2 AND neuron = $3 ORDER BY 1";
    let statement = client.prepare(query).await?;
    assert_eq!(statement.params(), [Type::TEXT, Type::INT4, Type::INT4]);
    let rows = client.query(&statement, &[&"import numpy as np", &1_i32, &5_i32]).await?;
    let values: Vec<(i32, f32)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    // golden.safetensors, text 1, layer 1, neuron 5.
    for ((position, value), expected) in values.iter().zip([0.004376, 0.237017, 0.015045, 0.005382, 0.363912, 0.046239])
    {
        assert!((value - expected).abs() < 1e-5, "position {position}: {value}, expected {expected}");
    }
    assert_eq!(values.len(), 6);

    let statement =
        client.prepare("SELECT tokenize('toy', $1), tokens('toy', $1), activation('toy', 0, 0, $1)").await?;
    let row = client.query_one(&statement, &[&"the the"]).await?;
    assert_eq!(row.get::<_, Vec<i32>>(0), [799, 265]);
    assert_eq!(row.get::<_, Vec<String>>(1), ["the", " the"]);
    assert_eq!(row.get::<_, Vec<f32>>(2).len(), 2);
    let row = client.query_one(&statement, &[&None::<&str>]).await?;
    assert_eq!(row.get::<_, Option<Vec<f32>>>(2), None);

    // Pipelined queries on one connection.
    let (one, two) = tokio::try_join!(
        client.query_one("SELECT count(*) FROM toy.neurons", &[]),
        client.query_one("SELECT count(*) FROM toy.vocabulary", &[]),
    )?;
    assert_eq!((one.get::<_, i64>(0), two.get::<_, i64>(0)), (1024, 4096));

    // A portal read in pages inside a transaction.
    let mut client = client;
    let transaction = client.transaction().await?;
    let portal = transaction.bind("SELECT neuron FROM toy.activations WHERE text = 'x' AND layer = 0", &[]).await?;
    let mut pages = Vec::new();
    loop {
        let page = transaction.query_portal(&portal, 200).await?;
        if page.is_empty() {
            break;
        }
        pages.push(page.len());
    }
    assert_eq!(pages, [200, 200, 112]);
    transaction.commit().await?;

    // Rows arrive while the scan is running: the first row of the corpus does not wait for the last.
    let rows =
        client.query_raw("SELECT activation FROM toy.activations WHERE dataset = 'corpus'", &[] as &[&str]).await?;
    let first: Vec<_> = rows.take(1000).collect().await;
    assert!(first.iter().all(Result::is_ok));
    running.stop().await
}
