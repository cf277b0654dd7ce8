//! Tests of neuroql inside another program, and of many clients at once.

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{Float64Type, Int32Type};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::{SessionConfig, SessionContext, col, lit};
use futures::future::try_join_all;
use libtest_mimic::Trial;
use neuroql::expr_fn::{graph_components, graph_contains};
use neuroql::{Engine, GraphColumn, Options, Store};

use crate::golden;
use crate::server::{self, Error};
use crate::timing;

/// One trial per way of embedding.
pub fn trials() -> Vec<Trial> {
    vec![
        timing::test("embedding::own_context", || Ok(own_context()?)),
        timing::test("embedding::own_context_with_a_store", || Ok(own_context_with_a_store()?)),
        timing::test("embedding::sessions", || Ok(sessions()?)),
        timing::test("embedding::eight_clients", || Ok(eight_clients()?)),
    ]
}

/// Returns the rows of a query, as a table in text.
async fn table(context: &SessionContext, sql: &str) -> Result<String, Error> {
    Ok(pretty_format_batches(&context.sql(sql).await?.collect().await?)?.to_string())
}

/// Checks a program that registers neuroql with a context that it already uses for its own tables and options.
#[tokio::main]
async fn own_context() -> Result<(), Error> {
    let context = SessionContext::new_with_config(SessionConfig::new().with_batch_size(1000).with_target_partitions(3));
    context.sql("CREATE TABLE own AS SELECT 'import numpy as np' AS text").await?.collect().await?;
    neuroql::register_all(&context)?;

    let sql = "SELECT neuron FROM toy.activations a JOIN own USING (text) \
               WHERE a.text = 'import numpy as np' AND layer = 1 ORDER BY activation DESC LIMIT 1";
    assert!(table(&context, sql).await?.contains("| 5 "));
    let sql = "SELECT array_length(activation('toy', 1, 5, text)) AS n FROM own";
    assert!(table(&context, sql).await?.contains("| 6 "));
    let sql = "SELECT count(*) AS n FROM toy.activations WHERE dataset = 'own' AND layer = 0 AND neuron = 0";
    assert!(table(&context, sql).await?.contains("| 6 "));
    let sql = "SELECT neuron FROM top_neurons(model => 'toy', text => 'import numpy as np', k => 1)";
    assert!(table(&context, sql).await?.contains("| 5 "));

    let folder = golden::root().join("tests/models/llama");
    let sql = format!("CREATE EXTERNAL TABLE llama STORED AS MODEL LOCATION '{}'", folder.display());
    context.sql(&sql).await?.collect().await?;
    assert!(table(&context, "SELECT count(*) AS n FROM llama.neurons").await?.contains("| 432 "));
    context.sql("DROP TABLE llama").await?.collect().await?;
    assert!(context.sql("SELECT * FROM llama.neurons").await.is_err());

    // The program's settings stay as they were.
    assert_eq!(context.state().config().batch_size(), 1000);
    assert_eq!(context.state().config().target_partitions(), 3);
    Ok(())
}

/// Checks a program with its own context, a store, a model, and functions in data frames.
#[tokio::main]
async fn own_context_with_a_store() -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let location = folder.path().display().to_string();
    let model = golden::root().join("tests/models/llama").display().to_string();
    {
        let context = SessionContext::new();
        let engine = Engine::builder().with_store(Store::open(&location).await?).register(&context)?;
        let options = Options { window: Some(32), ..Options::default() };
        engine.register_model("llama", &model, options).await?;
        assert_eq!(engine.registry().get("llama")?.window(), 32);
        assert!(table(&context, "SELECT count(*) AS n FROM llama.neurons").await?.contains("| 432 "));
        context.sql("CREATE VIEW kept AS SELECT 7 AS a, 'it''s' AS b").await?.collect().await?;
        // What the store would keep of this one is another text.
        let refused = async { context.sql("CREATE VIEW lost AS SELECT 'a''''b'").await?.collect().await };
        let refused = refused.await.err().ok_or("a refusal")?;
        assert_eq!(neuroql::sqlstate(&refused), "0A000", "{refused}");
        engine.settle().await?;

        let graphs =
            context.table("toy.graphs").await?.filter(col("layer").eq(lit(0)).and(col("neuron").eq(lit(9))))?;
        let rows = graphs.select(vec![
            graph_components(col("graph")).alias("components"),
            graph_contains(col("graph"), col("graph")).alias("contains"),
            col("graph"),
        ])?;
        let batches = rows.collect().await?;
        assert_eq!(batches[0].column(1).as_primitive::<Float64Type>().value(0), 1.0);
        let graph = GraphColumn::try_new(batches[0].column(2))?.graph(0)?.ok_or("a graph")?;
        let parts = batches[0].column(0).as_primitive::<Int32Type>().value(0);
        assert!(parts >= 1 && graph.nodes().len() >= parts as usize);
    }
    let context = SessionContext::new();
    let engine = Engine::builder().with_store(Store::open(&location).await?).without_bundled().register(&context)?;
    engine.restore().await?;
    assert!(table(&context, "SELECT a, b FROM kept").await?.contains("| 7 | it's "));
    assert!(context.sql("SELECT * FROM toy.neurons").await.is_err());
    assert!(engine.registry().list().is_empty());
    Ok(())
}

/// Checks that sessions of one engine share tables and models and nothing else.
#[tokio::main]
async fn sessions() -> Result<(), Error> {
    let engine = Engine::builder().build()?;
    let (one, two) = (engine.session(), engine.session());
    one.sql("SET datafusion.execution.batch_size = 17").await?.collect().await?;
    assert_eq!(one.state().config().batch_size(), 17);
    assert_ne!(two.state().config().batch_size(), 17);
    one.sql("CREATE TABLE shared AS SELECT 1 AS a").await?.collect().await?;
    assert!(table(&two, "SELECT * FROM shared").await?.contains("| 1 "));

    // Another engine has its own tables.
    let other = Engine::builder().build()?.session();
    assert!(other.sql("SELECT * FROM shared").await.is_err());
    Ok(())
}

/// Checks that eight connections ask different things at the same time and each gets its own answer.
#[tokio::main]
async fn eight_clients() -> Result<(), Error> {
    let running = server::start(Engine::builder().build()?).await?;
    let texts = ["x", "hello", "the the the", "import numpy as np", "bonjour", "café", "Call me Ishmael.", "日本語"];
    let sql = "SELECT neuron, max(activation) FROM toy.activations WHERE text = $1 AND layer = 1 GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 20";
    let ask = async |text: &'static str, times: usize| -> Result<Vec<(i32, f32)>, Error> {
        let client = running.connect().await?;
        let statement = client.prepare(sql).await?;
        let mut answer = Vec::new();
        for _ in 0..times {
            let rows = client.query(&statement, &[&text]).await?;
            let rows: Vec<(i32, f32)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
            assert!(answer.is_empty() || answer == rows, "{text}: {answer:?} and then {rows:?}");
            answer = rows;
        }
        Ok(answer)
    };
    let mut alone = Vec::new();
    for text in texts {
        alone.push(ask(text, 1).await?);
    }
    let together = try_join_all(texts.map(|text| ask(text, 10))).await?;
    assert_eq!(alone, together);
    running.stop().await
}
