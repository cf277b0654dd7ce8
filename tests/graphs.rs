//! Tests of graphs in the store: kept over restarts and interrupted INSERTs, and shared by writers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float32Array, Int32Array, ListArray, RecordBatch, StringArray, StructArray,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Fields, Int32Type, Int64Type, Schema, SchemaRef};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use libtest_mimic::Trial;
use neuroql::{Engine, Store};

use crate::answers::rows;
use crate::server::{self, Error};
use crate::timing;

/// One trial per property.
pub fn trials() -> Vec<Trial> {
    vec![
        timing::test("graphs::killed", || Ok(killed()?)),
        timing::test("graphs::killed_build", || Ok(killed_build()?)),
        timing::test("graphs::cancelled", || Ok(cancelled()?)),
        timing::test("graphs::writers", || Ok(writers()?)),
        timing::test("graphs::a_million_nodes", || Ok(a_million_nodes()?)),
        timing::test("graphs::examples", || Ok(examples()?)),
        timing::test("graphs::refusals", || Ok(refusals()?)),
        timing::test("graphs::indexed", || Ok(indexed()?)),
    ]
}

/// A stream of a row for each neuron of a layer, with pauses, as a build yields them.
#[derive(Debug)]
struct SlowRows {
    schema: SchemaRef,
    pause: Duration,
}

/// Number of neurons of a layer of the toy.
const NEURONS: i32 = 512;

impl PartitionStream for SlowRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (schema, pause) = (Arc::clone(&self.schema), self.pause);
        let rows = futures::stream::iter(0..NEURONS).then(move |neuron| {
            let schema = Arc::clone(&schema);
            async move {
                tokio::time::sleep(pause).await;
                Ok(RecordBatch::try_new(schema, vec![Arc::new(Int32Array::from(vec![neuron]))])?)
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows))
    }
}

/// Returns a session in which the table `slow` yields a neuron every `pause`.
async fn session(location: &str, pause: Duration) -> Result<SessionContext, Error> {
    let engine = Engine::builder().with_store(Store::open(location).await?).build()?;
    let context = engine.session();
    let schema = Arc::new(Schema::new(vec![Field::new("neuron", DataType::Int32, false)]));
    let slowly = SlowRows { schema: Arc::clone(&schema), pause };
    context.register_table("slow", Arc::new(StreamingTable::try_new(schema, vec![Arc::new(slowly)])?))?;
    Ok(context)
}

/// Returns the statement that inserts a graph of one node for each neuron.
fn insert(layer: usize, method: &str) -> String {
    format!(
        "INSERT INTO toy.graphs (layer, neuron, graph, method, f1) SELECT {layer}, neuron, \
         graph_from_nodes(ARRAY[named_struct('parent', -1, 'token', ' the', 'ends', 1.0)]), '{method}', 0.5 FROM slow"
    )
}

/// Returns the numbers of rows of a method, of distinct neurons among them, and of nodes.
async fn counts(context: &SessionContext, method: &str) -> Result<[i64; 3], Error> {
    let graphs = format!("FROM toy.graphs WHERE method = '{method}'");
    let nodes = format!("SELECT count(*) FROM toy.graph_nodes WHERE method = '{method}'");
    let sql = format!(
        "SELECT count(*) AS rows, count(DISTINCT 1000 * layer + neuron) AS neurons, ({nodes}) AS nodes {graphs}"
    );
    let batches = rows(context, &sql).await?;
    let row = batches.iter().find(|batch| batch.num_rows() == 1).ok_or("no row")?;
    Ok([0, 1, 2].map(|column| row.column(column).as_primitive::<Int64Type>().value(0)))
}

const CHILD: &str = "NEUROQL_TEST_INSERT_INTO";
const STATEMENT: &str = "NEUROQL_TEST_STATEMENT";

/// Runs as the child process of a trial if this process is one.
pub fn child() -> Option<ExitCode> {
    let location = std::env::var(CHILD).ok()?;
    let statement = std::env::var(STATEMENT).ok()?;
    let runtime = tokio::runtime::Runtime::new().ok()?;
    let done =
        runtime.block_on(async { rows(&session(&location, Duration::from_millis(60)).await?, &statement).await });
    Some(if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Starts a process that executes a statement on a store.
fn process(location: &str, statement: &str) -> Result<Child, Error> {
    Ok(Command::new(std::env::current_exe()?).env(CHILD, location).env(STATEMENT, statement).spawn()?)
}

/// Checks that a process that is killed while it inserts keeps what it had committed, and can insert again.
#[tokio::main]
async fn killed() -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let location = folder.path().to_str().ok_or("no path")?;
    let mut seen = 0;
    for _ in 0..3 {
        let mut process = process(location, &insert(1, "slowly"))?;
        // Commits come every three seconds; this kills while the next one waits or is written.
        for _ in 0..600 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let [rows, ..] = counts(&session(location, Duration::ZERO).await?, "slowly").await?;
            if rows > seen || process.try_wait()?.is_some() {
                break;
            }
        }
        process.kill()?;
        process.wait()?;
        let [rows, neurons, nodes] = counts(&session(location, Duration::ZERO).await?, "slowly").await?;
        assert!(rows > 0 && rows == neurons && rows == nodes, "{rows} rows, {neurons} neurons, {nodes} nodes");
        seen = rows.min(i64::from(NEURONS) - 1);
    }
    let context = session(location, Duration::ZERO).await?;
    rows(&context, &insert(1, "slowly")).await?;
    rows(&context, &insert(1, "slowly")).await?;
    assert_eq!(counts(&context, "slowly").await?, [512; 3]);
    assert_eq!(counts(&session(location, Duration::ZERO).await?, "slowly").await?, [512; 3]);
    Ok(())
}

/// Checks that a build that is killed goes on where it was: graphs that it had committed are not built again.
#[tokio::main]
async fn killed_build() -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let location = folder.path().to_str().ok_or("no path")?;
    let build =
        "INSERT INTO toy.graphs SELECT * FROM build_graphs('toy', layer => 1, neurons => '0-255', method => 'n2g')";
    let built = "SELECT neuron, CAST(built_at AS text) FROM toy.graphs WHERE layer = 1 AND method = 'n2g'";
    let built = async || -> Result<BTreeMap<i32, String>, Error> {
        let mut times = BTreeMap::new();
        for batch in rows(&session(location, Duration::ZERO).await?, built).await? {
            let time = cast(batch.column(1), &DataType::Utf8)?;
            let neurons = batch.column(0).as_primitive::<Int32Type>().values().iter().copied();
            times.extend(neurons.zip(time.as_string::<i32>().iter().map(|time| time.unwrap_or_default().to_owned())));
        }
        Ok(times)
    };
    let mut process = process(location, build)?;
    while process.try_wait()?.is_none() && built().await?.is_empty() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    process.kill()?;
    process.wait()?;
    let before = built().await?;
    assert!((1..256).contains(&before.len()), "{} neurons were committed", before.len());
    rows(&session(location, Duration::ZERO).await?, build).await?;
    let after = built().await?;
    assert_eq!(after.len(), 256);
    assert!(before.iter().all(|(neuron, time)| after[neuron] == *time), "what was committed was built again");
    assert!(after.values().any(|time| !before.values().any(|earlier| earlier == time)));
    Ok(())
}

/// Checks that a query that is given up keeps what it had committed.
#[tokio::main]
async fn cancelled() -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let location = folder.path().to_str().ok_or("no path")?;
    let context = session(location, Duration::from_millis(60)).await?;
    let inserting = context.clone();
    let inserting = tokio::spawn(async move { rows(&inserting, &insert(0, "slowly")).await.map(drop) });
    while !inserting.is_finished() && counts(&context, "slowly").await?[0] == 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    inserting.abort();
    assert!(inserting.await.is_err_and(|end| end.is_cancelled()), "it ended by itself");
    let [rows, neurons, nodes] = counts(&context, "slowly").await?;
    assert!((1..512).contains(&rows) && rows == neurons && rows == nodes, "{rows} rows, {neurons} neurons");
    assert_eq!(counts(&session(location, Duration::ZERO).await?, "slowly").await?, [rows, neurons, nodes]);
    Ok(())
}

/// Checks writers that know nothing of each other, of the same layer and of others.
#[tokio::main]
async fn writers() -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let location = folder.path().to_str().ok_or("no path")?;
    let tasks = [(0, "a"), (1, "a"), (1, "b")].map(|(layer, method)| {
        let location = location.to_owned();
        tokio::spawn(async move {
            rows(&session(&location, Duration::from_millis(5)).await?, &insert(layer, method)).await.map(drop)
        })
    });
    for task in tasks {
        task.await??;
    }
    let context = session(location, Duration::ZERO).await?;
    assert_eq!(counts(&context, "a").await?, [1024; 3]);
    assert_eq!(counts(&context, "b").await?, [512; 3]);
    rows(&context, "DELETE FROM toy.graphs WHERE layer = 1 AND method = 'a' AND neuron % 2 = 0").await?;
    assert_eq!(counts(&session(location, Duration::ZERO).await?, "a").await?, [768; 3]);
    Ok(())
}

/// Checks that a graph of a million nodes, one under the other or side by side, is refused or answered, in time.
#[tokio::main]
async fn a_million_nodes() -> Result<(), Error> {
    const NODES: i32 = 1_000_000;
    let context = Engine::builder().build()?.session();
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    let fields = Fields::from(vec![
        field("parent", DataType::Int32),
        field("token_id", DataType::Int32),
        field("token", DataType::Utf8),
        field("ends", DataType::Float32),
    ]);
    for (name, parents) in [("chain", (-1..NODES - 1).collect::<Vec<_>>()), ("star", vec![-1; NODES as usize])] {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(parents)),
            Arc::new(Int32Array::from_iter_values(0..NODES)),
            Arc::new(StringArray::from(vec!["t"; NODES as usize])),
            Arc::new(Float32Array::from_value(0.5, NODES as usize)),
        ];
        let nodes = StructArray::new(fields.clone(), columns, None);
        let item = Arc::new(Field::new_list_field(DataType::Struct(fields.clone()), true));
        let list = ListArray::new(item, OffsetBuffer::from_lengths([NODES as usize]), Arc::new(nodes), None);
        context.register_batch(name, RecordBatch::try_from_iter([("graph", Arc::new(list) as ArrayRef)])?)?;
    }
    for (sql, expected) in [
        ("SELECT graph_text(graph) FROM chain", "54000"),
        ("SELECT simulate(graph, ARRAY[1]) FROM chain", "54000"),
        ("SELECT graph_from_nodes(graph) FROM chain", "54000"),
        ("INSERT INTO toy.graphs (layer, neuron, graph) SELECT 0, 1, graph_from_nodes(graph) FROM star", "22000"),
    ] {
        let done = async { context.sql(sql).await?.collect().await }.await;
        let error = done.err().ok_or_else(|| format!("no error: {sql}"))?;
        assert_eq!(neuroql::sqlstate(&error), expected, "{sql}: {error}");
    }
    for sql in [
        "SELECT simulate(graph, ARRAY[7, 1999999, 999999]) = [0.5, 0, 0.5] FROM star",
        "SELECT length(graph_text(graph)) > 0 AND length(graph_svg(graph)) > 0 FROM star",
    ] {
        let rows = rows(&context, sql).await?;
        assert!(rows[0].column(0).as_boolean().value(0), "{sql}");
    }
    Ok(())
}

/// Checks that the examples of functions in information_schema run, and have an answer.
#[tokio::main]
async fn examples() -> Result<(), Error> {
    let context = Engine::builder().build()?.session();
    let ours = ["tokenize", "tokens", "detokenize", "simulate", "dot", "cosine", "l2", "generate"];
    let functions = context.state().scalar_functions().clone();
    let mut seen = 0;
    for (name, function) in functions {
        if !(name.starts_with("graph_") || ours.contains(&name.as_str())) {
            continue;
        }
        let documentation = function.documentation().ok_or_else(|| format!("{name} has no description"))?;
        let example = documentation.sql_example.as_ref().ok_or_else(|| format!("{name} has no example"))?;
        let rows = rows(&context, example).await?;
        assert!(rows.iter().any(|rows| rows.num_rows() == 1 && rows.column(0).is_valid(0)), "{example}");
        seen += 1;
    }
    assert_eq!(seen, 24);
    Ok(())
}

/// Checks statements that a read-only transaction refuses.
#[tokio::main]
async fn refusals() -> Result<(), Error> {
    let running = server::start(Engine::builder().build()?).await?;
    let client = running.connect().await?;
    client.batch_execute("SET default_transaction_read_only = on").await?;
    for sql in [
        "INSERT INTO toy.graphs (layer, neuron, reason) VALUES (0, 0, 'x')",
        "EXPLAIN ANALYZE INSERT INTO toy.graphs (layer, neuron, reason) VALUES (0, 0, 'x')",
        "DELETE FROM toy.graphs",
    ] {
        let error = client.batch_execute(sql).await.err().ok_or_else(|| format!("no error: {sql}"))?;
        assert_eq!(error.code().map(|code| code.code()), Some("25006"), "{sql}");
    }
    client.batch_execute("SET default_transaction_read_only = off").await?;
    let insert =
        client.prepare("INSERT INTO toy.graphs (layer, neuron, reason, method) VALUES ($1, $2, $3, 'x')").await?;
    assert_eq!(client.execute(&insert, &[&1_i32, &2_i32, &"never fires"]).await?, 1);
    assert_eq!(client.execute("DELETE FROM toy.graphs WHERE neuron = $1 AND method = 'x'", &[&3_i32]).await?, 0);
    assert_eq!(client.execute("DELETE FROM toy.graphs WHERE neuron = $1 AND method = 'x'", &[&2_i32]).await?, 1);
    running.stop().await
}

/// Returns Parquet files of a layer of the toy in a table of the store, those of earlier versions among them.
fn files(location: &str, table: &str, layer: usize) -> Result<BTreeSet<PathBuf>, Error> {
    let folder = Path::new(location).join(table).join("model=toy").join(format!("layer={layer}"));
    Ok(std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?)
}

/// Checks that the index of graphs is kept in the store, used after a restart, replaced where graphs have changed, and
/// made again where it is damaged.
#[tokio::main]
async fn indexed() -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let location = folder.path().to_str().ok_or("no path")?;
    let found = async |context: &SessionContext| -> Result<String, Error> {
        let mut answers = String::new();
        for sql in [
            "SELECT * FROM search('toy', 'activating:import OR \"<|endoftext|>\"') ORDER BY layer, neuron",
            "SELECT * FROM similar_pairs('toy', 0.5) ORDER BY 1, 2, 3, 4, 5, 6",
            "SELECT layer, neuron, node FROM toy.graph_nodes WHERE token = ' import' ORDER BY 1, 2, 3",
        ] {
            answers += &pretty_format_batches(&rows(context, sql).await?)?.to_string();
        }
        Ok(answers)
    };
    let first = session(location, Duration::ZERO).await?;
    let answers = found(&first).await?;
    assert!(answers.lines().count() > 20, "{answers}");
    let kept = [files(location, "graph_tokens", 0)?, files(location, "graph_tokens", 1)?];
    assert_eq!(kept.each_ref().map(BTreeSet::len), [1, 1]);

    let second = session(location, Duration::ZERO).await?;
    assert_eq!(found(&second).await?, answers);
    assert_eq!([files(location, "graph_tokens", 0)?, files(location, "graph_tokens", 1)?], kept);

    let insert = "INSERT INTO toy.graphs (layer, neuron, graph, method, f1) VALUES \
                  (0, 7, graph_from_nodes(ARRAY[named_struct('parent', -1, 'token', '<|endoftext|>', 'ends', 1.0)]), 'neuroql', 1.0)";
    rows(&second, insert).await?;
    let changed = found(&second).await?;
    assert!(changed.contains("<|endoftext|>"), "{changed}");
    assert_ne!(files(location, "graph_tokens", 0)?, kept[0]);
    assert_eq!(files(location, "graph_tokens", 1)?, kept[1]);
    assert_eq!(found(&session(location, Duration::ZERO).await?).await?, changed);

    for file in files(location, "graph_signatures", 1)? {
        std::fs::write(file, "no Parquet")?;
    }
    assert_eq!(found(&session(location, Duration::ZERO).await?).await?, changed);
    assert_eq!(found(&session(location, Duration::ZERO).await?).await?, changed);
    Ok(())
}
