//! Tests of analyses: of their results, that they go on where they stopped, and that queries answered by them return
//! what a full scan returns.

use std::process::{Command, ExitCode};
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use libtest_mimic::Trial;
use neuroql::{Engine, Store};

use crate::answers::{Cell, cells, rows};
use crate::server::{self, Error};
use crate::timing;

/// One trial per property.
pub fn trials() -> Vec<Trial> {
    vec![
        timing::test("analysis::statistics", || Ok(statistics()?)),
        timing::test("analysis::same_rows", || Ok(same_rows()?)),
        timing::test("analysis::goes_on", || Ok(goes_on()?)),
        timing::test("analysis::killed", || Ok(killed()?)),
        timing::test("analysis::changes_are_noticed", || Ok(changes_are_noticed()?)),
        timing::test("analysis::registrations", || Ok(registrations()?)),
        timing::test("analysis::tables", || Ok(tables()?)),
        timing::test("analysis::refusals", || Ok(refusals()?)),
    ]
}

/// Some documents of the corpus, cut short, with a NULL and an empty one among them.
pub const SMALL: &str = "CREATE TABLE small AS SELECT document, substr(text, 1, 1500) AS text FROM corpus \
                     WHERE document < 14 UNION ALL SELECT 100, NULL UNION ALL SELECT 101, '' ORDER BY document";

/// Checks that the table of neurons has the statistics that a scan of all activations gives.
#[tokio::main]
async fn statistics() -> Result<(), Error> {
    let context = Engine::builder().build()?.session();
    rows(&context, SMALL).await?;
    let scanned = "SELECT layer, neuron, count(*), avg(activation), var_pop(activation), max(activation), \
                   min(activation), avg(CASE WHEN activation > 0 THEN 1.0 ELSE 0.0 END) \
                   FROM toy.activations WHERE dataset = 'small' GROUP BY 1, 2 ORDER BY 1, 2";
    let expected = cells(&context, scanned).await?;
    // On one thread aggregates are planned in one piece, and move all the same.
    let lone = Engine::builder().with_threads(1).build()?.session();
    rows(&lone, SMALL).await?;
    let simple = "SELECT layer, neuron, count(*), avg(activation), max(activation) FROM toy.activations \
                  WHERE dataset = 'small' GROUP BY 1, 2 ORDER BY 1, 2";
    let plan = format!("{:?}", cells(&lone, &format!("EXPLAIN {simple}")).await?);
    assert!(plan.contains("by neuron: count, countunsigned, sum, max"), "{plan}");
    assert_eq!(cells(&lone, simple).await?, cells(&context, simple).await?);
    let steps = rows(&context, "SELECT * FROM analyze(model => 'toy', dataset => 'small', k => 10)").await?;
    assert!(steps.iter().map(RecordBatch::num_rows).sum::<usize>() >= 2);
    let kept = "SELECT layer, neuron, tokens, mean, variance, max_activation, min_activation, density \
                FROM toy.neurons WHERE dataset = 'small' ORDER BY layer, neuron";
    assert_eq!(cells(&context, kept).await?, expected);

    let moments = "SELECT sum(power(activation - m, 3)) / count(*) / power(stddev_pop(activation), 3), \
                   sum(power(activation - m, 4)) / count(*) / power(stddev_pop(activation), 4) \
                   FROM toy.activations, (SELECT avg(activation) AS m FROM toy.activations WHERE dataset = 'small' \
                   AND layer = 1 AND neuron = 17) WHERE dataset = 'small' AND layer = 1 AND neuron = 17";
    let expected = cells(&context, moments).await?;
    let kept = "SELECT skewness, kurtosis FROM toy.neurons WHERE dataset = 'small' AND layer = 1 AND neuron = 17";
    assert_eq!(cells(&context, kept).await?, expected);

    let histogram = "SELECT array_length(histogram), (SELECT sum(h) FROM (SELECT unnest(histogram) AS h FROM toy.neurons \
                     WHERE dataset = 'small' AND layer = 0 AND neuron = 3)) FROM toy.neurons \
                     WHERE dataset = 'small' AND layer = 0 AND neuron = 3";
    assert_eq!(cells(&context, histogram).await?, [[Cell::Text("56".into()), Cell::Real(1.0)]]);

    // The strongest example of each document, strongest first.
    let best = "SELECT document, activation FROM (SELECT document, max(activation) AS activation FROM toy.activations \
                WHERE dataset = 'small' AND layer = 1 AND neuron = 17 GROUP BY document) ORDER BY 2 DESC, 1 LIMIT 10";
    let expected = cells(&context, best).await?;
    let kept = "SELECT document, activation FROM toy.examples WHERE dataset = 'small' AND layer = 1 AND neuron = 17 \
                AND rank IS NOT NULL ORDER BY rank";
    assert_eq!(cells(&context, kept).await?, expected);
    let around = "SELECT count(*) FROM toy.examples e JOIN toy.activations a ON a.document = e.document \
                  AND a.example = e.example AND a.position = e.position AND a.activation = e.activation \
                  WHERE e.dataset = 'small' AND a.dataset = 'small' AND a.layer = 1 AND a.neuron = 17 AND e.layer = 1 \
                  AND e.neuron = 17 AND e.tokens[CAST(array_position(e.activations, e.activation) AS int)] = a.token";
    let all = "SELECT count(*) FROM toy.examples WHERE dataset = 'small' AND layer = 1 AND neuron = 17";
    assert_eq!(cells(&context, around).await?, cells(&context, all).await?);
    let drawn = "SELECT count(*) > 2, min(quantile) >= 0, max(quantile) < 1, count(rank) FROM toy.examples \
                 WHERE dataset = 'small' AND layer = 1 AND neuron = 17 AND quantile IS NOT NULL";
    let expected = ["true", "true", "true", "0"].map(|text| Cell::Text(text.into()));
    assert_eq!(cells(&context, drawn).await?, [expected]);
    Ok(())
}

/// A number that looks random and is the same in every run.
struct RepeatableRandom(u64);

impl RepeatableRandom {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.roll(of.len() as u64) as usize]
    }

    fn threshold(&mut self) -> String {
        format!("{:.2}", self.roll(600) as f64 / 100.0 - 1.0)
    }

    /// Returns a query of activations whose rows are in one order only.
    fn query(&mut self) -> String {
        let neurons = match self.roll(4) {
            0 => format!("layer = {} AND neuron = {}", self.roll(2), self.roll(512)),
            1 => format!(
                "layer = {} AND neuron IN ({}, {}, {})",
                self.roll(2),
                self.roll(512),
                self.roll(512),
                self.roll(512)
            ),
            2 => format!("neuron = {}", self.roll(512)),
            _ => format!("layer = {} AND neuron BETWEEN {} AND 511", self.roll(2), 480 + self.roll(30)),
        };
        let documents = match self.roll(4) {
            0 => format!(" AND document < {}", self.roll(14)),
            1 => format!(" AND document % 3 = {} AND example < 2", self.roll(3)),
            _ => String::new(),
        };
        let from = format!("FROM toy.activations WHERE dataset = 'small' AND {neurons}{documents}");
        let place = "layer, neuron, document, example, position";
        match self.roll(7) {
            0 => {
                let direction = self.pick(&["DESC", "ASC"]);
                let k = 1 + self.roll(30);
                format!("SELECT {place}, token, activation {from} ORDER BY activation {direction}, {place} LIMIT {k}")
            }
            1 => {
                let (op, x) = (self.pick(&[">", ">=", "<", "<="]), self.threshold());
                format!("SELECT {place}, activation {from} AND activation {op} {x} ORDER BY {place} LIMIT 500")
            }
            2 => {
                let (x, y) = (self.threshold(), self.threshold());
                format!(
                    "SELECT {place}, activation {from} AND (activation > {x} OR activation < {y} - 5.5) AND position > 3 \
                     ORDER BY activation DESC, {place} LIMIT 20"
                )
            }
            3 => {
                let (op, x, y) = (self.pick(&[">", ">=", "<", "<="]), self.threshold(), self.threshold());
                format!(
                    "SELECT layer, neuron, max(activation), min(activation), count(*), \
                     count(*) FILTER (WHERE activation {op} {x}), max(activation) FILTER (WHERE activation > {y}) \
                     {from} GROUP BY layer, neuron ORDER BY 1, 2"
                )
            }
            4 => {
                let x = self.threshold();
                format!(
                    "SELECT layer, neuron, avg(activation), sum(activation), stddev(activation), var_pop(activation), \
                     avg(activation) FILTER (WHERE activation > {x}), stddev_pop(activation) FILTER (WHERE activation <= {x}), \
                     sum(activation) FILTER (WHERE activation > {x}), min(activation) FILTER (WHERE activation < {x} AND activation > -0.5), \
                     count(activation) FILTER (WHERE {x} < activation) {from} GROUP BY layer, neuron ORDER BY 1, 2"
                )
            }
            5 => format!(
                "SELECT layer, neuron, max(activation), min(activation), count(*), avg(activation), sum(activation), \
                 stddev(activation), var_samp(activation) {from} GROUP BY layer, neuron ORDER BY 1, 2"
            ),
            _ => {
                let (f, direction, k) =
                    (self.pick(&["row_number", "rank"]), self.pick(&["DESC", "ASC"]), 1 + self.roll(8));
                let order = if f == "rank" { String::new() } else { format!(", {place}") };
                format!(
                    "SELECT * FROM (SELECT {place}, activation, {f}() OVER (PARTITION BY layer, neuron \
                     ORDER BY activation {direction}{order}) AS r {from}) WHERE r <= {k} ORDER BY {place}"
                )
            }
        }
    }
}

/// Checks random queries answered by bounds, by the store and by a full scan.
#[tokio::main]
async fn same_rows() -> Result<(), Error> {
    let (plain, analysed) = (Engine::builder().build()?.session(), Engine::builder().build()?.session());
    for context in [&plain, &analysed] {
        rows(context, SMALL).await?;
    }
    rows(&analysed, "SELECT * FROM analyze(model => 'toy', dataset => 'small')").await?;
    let mut dice = RepeatableRandom(20_261_121);
    let (mut bounded, mut stored) = (0, 0);
    for _ in 0..150 {
        let sql = dice.query();
        let expected = cells(&plain, &sql).await?;
        let found = cells(&analysed, &sql).await?;
        assert_eq!(found.len(), expected.len(), "{sql}");
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected, "{sql}");
        }
        let plan = format!("{:?}", cells(&analysed, &format!("EXPLAIN {sql}")).await?);
        bounded += usize::from(plan.contains("plan=bounds"));
        stored += usize::from(plan.contains("plan=stored"));
    }
    assert!(bounded > 60 && stored > 3, "{bounded} by bounds, {stored} by the store");

    // Without rows there are no groups, but one row if there is no GROUP BY.
    for documents in ["document < 0", "document = 100", "document = 101"] {
        let from = format!("FROM toy.activations WHERE dataset = 'small' AND {documents}");
        let grouped = format!("SELECT layer, neuron, max(activation), count(*) {from} GROUP BY layer, neuron");
        let whole = format!("SELECT max(activation), count(*) FILTER (WHERE activation > 1) {from}");
        for sql in [grouped, whole] {
            assert_eq!(cells(&analysed, &sql).await?, cells(&plain, &sql).await?, "{sql}");
        }
    }

    // Nothing is run for a few of the strongest tokens of one neuron, and little for many, or the weakest.
    for (order, choice, runs) in [
        ("DESC LIMIT 3", "stored answer", false),
        ("DESC LIMIT 100", "greatest first", true),
        ("LIMIT 3", "least first", true),
    ] {
        let sql = format!(
            "EXPLAIN ANALYZE SELECT document, activation FROM toy.activations WHERE dataset = 'small' AND layer = 1 \
             AND neuron = 17 ORDER BY activation {order}"
        );
        let plan = format!("{:?}", cells(&analysed, &sql).await?);
        assert!(plan.contains(choice) && !plan.contains("examples_skipped=0"), "{plan}");
        assert_eq!(plan.contains("tokens_run=0"), !runs, "{plan}");
    }
    Ok(())
}

const EVERYTHING: [&str; 2] = [
    "SELECT layer, neuron, tokens, mean, variance, skewness, kurtosis, max_activation, min_activation, density, \
     array_to_string(histogram, ' ') FROM toy.neurons WHERE dataset = 'small' ORDER BY layer, neuron",
    "SELECT layer, neuron, rank, document, example, position, activation, quantile, array_to_string(tokens, ''), \
     array_to_string(activations, ' ') FROM toy.examples WHERE dataset = 'small' \
     ORDER BY layer, neuron, rank, quantile, document",
];

/// Returns all results about `small`.
pub async fn everything(context: &SessionContext) -> Result<Vec<Vec<Vec<Cell>>>, Error> {
    Ok(vec![cells(context, EVERYTHING[0]).await?, cells(context, EVERYTHING[1]).await?])
}

/// Returns the results of an analysis in one go, without a store.
pub async fn in_one_go() -> Result<Vec<Vec<Vec<Cell>>>, Error> {
    let context = Engine::builder().build()?.session();
    rows(&context, SMALL).await?;
    rows(&context, "SELECT * FROM analyze(model => 'toy', dataset => 'small')").await?;
    everything(&context).await
}

/// Checks that an analysis piece by piece, with layers apart, reopened and given up in between, has the result of one
/// go.
#[tokio::main]
async fn goes_on() -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let location = folder.path().to_str().ok_or("no path")?;
    for parameters in ["documents => 3, layers => '1'", "documents => 5", "documents => 5", "layers => '0'", "k => 20"]
    {
        let engine = Engine::builder().with_store(Store::open(location).await?).build()?;
        let context = engine.session();
        rows(&context, SMALL).await?;
        let sql = format!("SELECT * FROM analyze(model => 'toy', dataset => 'small', {parameters})");
        rows(&context, &sql).await?;
        // A client that leaves after the first row.
        let mut abandoned =
            context.sql("SELECT * FROM analyze(model => 'toy', dataset => 'small')").await?.execute_stream().await?;
        abandoned.next().await;
    }
    let engine = Engine::builder().with_store(Store::open(location).await?).build()?;
    let context = engine.session();
    rows(&context, SMALL).await?;
    rows(&context, "SELECT * FROM analyze(model => 'toy', dataset => 'small')").await?;
    assert_eq!(everything(&context).await?, in_one_go().await?);
    // Nothing is left to do.
    let steps = cells(&context, "SELECT first_example = end_example, complete FROM analyze('toy', 'small')").await?;
    assert!(steps.iter().all(|step| *step == ["true", "true"].map(|text| Cell::Text(text.into()))), "{steps:?}");
    Ok(())
}

/// Environment variable with the location of the store for the child process of [`killed`].
const CHILD: &str = "NEUROQL_TEST_ANALYSE_IN";

/// Runs as the child process of a trial if this process is one.
pub fn child() -> Option<ExitCode> {
    let location = std::env::var(CHILD).ok()?;
    let runtime = tokio::runtime::Runtime::new().ok()?;
    let done = runtime.block_on(async {
        let engine = Engine::builder().with_store(Store::open(&location).await?).build()?;
        let context = engine.session();
        rows(&context, SMALL).await?;
        for documents in 1..16 {
            let sql = format!("SELECT * FROM analyze(model => 'toy', dataset => 'small', documents => {documents})");
            rows(&context, &sql).await?;
        }
        Ok::<_, Error>(())
    });
    Some(if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Checks a process that is killed again and again while it commits.
#[tokio::main]
async fn killed() -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let location = folder.path().to_str().ok_or("no path")?;
    let mut dice = RepeatableRandom(7);
    let mut kills = 0;
    loop {
        let mut process = Command::new(std::env::current_exe()?).env(CHILD, location).spawn()?;
        tokio::time::sleep(Duration::from_millis(700 + dice.roll(1500))).await;
        if let Some(status) = process.try_wait()? {
            assert!(status.success(), "{status}");
            break;
        }
        if kills < 6 {
            process.kill()?;
            kills += 1;
        }
        let status = process.wait()?;
        if kills >= 6 && status.success() {
            break;
        }
    }
    let engine = Engine::builder().with_store(Store::open(location).await?).build()?;
    let context = engine.session();
    rows(&context, SMALL).await?;
    rows(&context, "SELECT * FROM analyze(model => 'toy', dataset => 'small')").await?;
    assert_eq!(everything(&context).await?, in_one_go().await?, "after {kills} kills");
    Ok(())
}

/// Checks that documents that were appended are analysed alone; anything else starts over, and until then nothing old
/// is used.
#[tokio::main]
async fn changes_are_noticed() -> Result<(), Error> {
    let context = Engine::builder().build()?.session();
    rows(
        &context,
        "CREATE TABLE small AS SELECT document, substr(text, 1, 600) AS text FROM corpus WHERE document < 4",
    )
    .await?;
    rows(&context, "SELECT * FROM analyze('toy', 'small')").await?;
    let top = "SELECT document, example, position, activation FROM toy.activations WHERE dataset = 'small' \
               AND layer = 1 AND neuron = 17 ORDER BY activation DESC, document, example, position LIMIT 5";
    let plan = format!("EXPLAIN ANALYZE {top}");
    assert!(format!("{:?}", cells(&context, &plan).await?).contains("plan=stored"));

    rows(&context, "INSERT INTO small SELECT document, substr(text, 1, 600) FROM corpus WHERE document = 7").await?;
    assert!(format!("{:?}", cells(&context, &plan).await?).contains("plan=full scan"));
    let steps =
        cells(&context, "SELECT min(first_example) > 0, max(documents_done) FROM analyze('toy', 'small')").await?;
    assert_eq!(steps, [["true", "5"].map(|text| Cell::Text(text.into()))]);
    assert!(format!("{:?}", cells(&context, &plan).await?).contains("plan=stored"));

    rows(&context, "DROP TABLE small").await?;
    rows(&context, "CREATE TABLE small AS SELECT 0 AS document, 'import numpy as np' AS text").await?;
    assert!(format!("{:?}", cells(&context, &plan).await?).contains("plan=full scan"));
    assert_eq!(cells(&context, top).await?.len(), 5);
    let steps = cells(&context, "SELECT min(first_example), max(tokens) FROM analyze('toy', 'small')").await?;
    assert_eq!(steps, [["0", "6"].map(|text| Cell::Text(text.into()))]);
    assert_eq!(cells(&context, "SELECT DISTINCT tokens FROM toy.neurons WHERE dataset = 'small'").await?.len(), 1);

    // Files are read twice: for their hash, and for their texts.
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("few.parquet");
    let (file, few) = (file.display(), "SELECT document, substr(text, 1, 300) AS text FROM corpus WHERE document");
    rows(&context, &format!("COPY ({few} < 3) TO '{file}'")).await?;
    rows(&context, &format!("CREATE EXTERNAL TABLE filed STORED AS PARQUET LOCATION '{file}'")).await?;
    let count = "SELECT count(*) FROM toy.activations WHERE dataset = 'filed' AND layer = 1 AND neuron = 17";
    let scanned = cells(&context, &format!("{count} AND position >= 0")).await?;
    assert_ne!(scanned, [[Cell::Text("0".into())]]);
    rows(&context, "SELECT * FROM analyze('toy', 'filed')").await?;
    let tokens = "SELECT tokens FROM toy.neurons WHERE dataset = 'filed' AND layer = 1 AND neuron = 17";
    assert_eq!(cells(&context, tokens).await?, scanned);
    assert_eq!(cells(&context, &format!("{count} AND activation > -1000")).await?, scanned);
    std::thread::sleep(Duration::from_millis(20));
    rows(&context, &format!("COPY ({few} < 2) TO '{file}'")).await?;
    let fewer = cells(&context, &format!("{count} AND position >= 0")).await?;
    assert!(fewer != scanned && fewer != [[Cell::Text("0".into())]], "{fewer:?}");

    // An analysis of no documents is an analysis too.
    rows(&context, "CREATE TABLE nothing(text text)").await?;
    let steps = cells(&context, "SELECT DISTINCT complete, tokens FROM analyze('toy', 'nothing')").await?;
    assert_eq!(steps, [["true", "0"].map(|text| Cell::Text(text.into()))]);
    let groups = "SELECT layer, neuron, max(activation) FROM toy.activations WHERE dataset = 'nothing' GROUP BY 1, 2";
    assert_eq!(cells(&context, groups).await?.len(), 0);
    let kept = "SELECT DISTINCT tokens, mean, max_activation FROM toy.neurons WHERE dataset = 'nothing'";
    assert_eq!(cells(&context, kept).await?, [["0", "NULL", "NULL"].map(|text| Cell::Text(text.into()))]);
    Ok(())
}

/// Checks that models are remembered until they are dropped.
#[tokio::main]
async fn registrations() -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let location = folder.path().to_str().ok_or("no path")?;
    let open = async || -> Result<Engine, Error> {
        let engine = Engine::builder().with_store(Store::open(location).await?).build()?;
        engine.restore().await?;
        Ok(engine)
    };
    let models = crate::golden::root().join("tests/models");
    let engine = open().await?;
    for (name, options) in [("llama", ""), ("gpt2", "OPTIONS ('window' '16', 'bos' 'false')")] {
        let file = models.join(name);
        let sql = format!("CREATE EXTERNAL TABLE {name} STORED AS MODEL LOCATION '{}' {options}", file.display());
        rows(&engine.session(), &sql).await?;
    }
    let engine = open().await?;
    let names = "SELECT model FROM models ORDER BY model";
    let expected = |names: &[&str]| names.iter().map(|n| vec![Cell::Text((*n).into())]).collect::<Vec<_>>();
    assert_eq!(cells(&engine.session(), names).await?, expected(&["gpt2", "llama", "toy"]));
    assert_eq!(engine.registry().get("gpt2")?.window(), 16);
    rows(&engine.session(), "DROP TABLE llama").await?;
    engine.settle().await?;
    assert_eq!(cells(&open().await?.session(), names).await?, expected(&["gpt2", "toy"]));
    Ok(())
}

/// Checks that external tables and views are remembered until they are dropped, whatever they need.
#[tokio::main]
async fn tables() -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let location = folder.path().join("store").to_str().ok_or("no path")?.to_owned();
    let open = async || -> Result<Engine, Error> {
        let engine = Engine::builder().with_store(Store::open(&location).await?).build()?;
        engine.restore().await?;
        Ok(engine)
    };
    for (file, content) in [("it's.csv", "a;b\n1;im\u{e9}\n2;\n"), ("p/x=1/f.csv", "5\n"), ("p/x=2/f.csv", "6\n")] {
        let file = folder.path().join(file);
        std::fs::create_dir_all(file.parent().ok_or("no folder")?)?;
        std::fs::write(file, content)?;
    }
    let files = folder.path().display();
    let engine = open().await?;
    let context = engine.session();
    for sql in [
        format!(
            "CREATE EXTERNAL TABLE \"T \"\"1\"(a double precision not null, b text) STORED AS CSV LOCATION '{files}/it''s.csv' OPTIONS ('format.has_header' 'true', 'format.delimiter' ';')"
        ),
        format!(
            "CREATE EXTERNAL TABLE parts(y bigint, x int) STORED AS CSV PARTITIONED BY (x) WITH ORDER (y DESC) LOCATION '{files}/p/' OPTIONS ('format.has_header' 'false')"
        ),
        "CREATE VIEW twice AS SELECT 2 * a AS a FROM \"T \"\"1\"".into(),
        "CREATE VIEW sums AS SELECT sum(a) AS s FROM twice".into(),
        "CREATE VIEW doomed AS SELECT 1 AS one".into(),
        "CREATE TABLE fleeting AS SELECT 1 AS one".into(),
        // Now younger than the view that needs it.
        "CREATE OR REPLACE VIEW twice AS SELECT a + a AS a FROM \"T \"\"1\"".into(),
        "DROP VIEW doomed".into(),
    ] {
        rows(&context, &sql).await?;
    }
    engine.settle().await?;
    let questions = [
        "SELECT a, b, arrow_typeof(a) FROM \"T \"\"1\" ORDER BY a",
        "SELECT y, x FROM parts ORDER BY 1",
        "SELECT s FROM sums",
        "SELECT table_name, table_type FROM information_schema.tables WHERE table_name IN ('T \"1', 'parts', 'twice', 'sums', 'doomed') ORDER BY 1",
    ];
    let mut before = Vec::new();
    for sql in questions {
        before.push(cells(&context, sql).await?);
    }
    assert_eq!(before[2], [[Cell::Real(6.0)]]);
    assert_eq!((before[0].len(), before[1].len(), before[3].len()), (2, 2, 4));
    for _ in 0..2 {
        let engine = open().await?;
        for (sql, before) in questions.into_iter().zip(&before) {
            assert_eq!(&cells(&engine.session(), sql).await?, before, "{sql}");
        }
        engine.settle().await?;
    }
    // A file that was away comes back.
    std::fs::rename(folder.path().join("p"), folder.path().join("q"))?;
    let without = open().await?.session();
    assert!(
        without.sql("SELECT y, x FROM parts WHERE x = 1").await.is_err()
            || cells(&without, questions[1]).await.is_ok_and(|rows| rows.is_empty())
    );
    std::fs::rename(folder.path().join("q"), folder.path().join("p"))?;
    assert_eq!(cells(&open().await?.session(), questions[1]).await?, before[1]);
    Ok(())
}

/// Checks analyses that are refused, and users for whom they are.
#[tokio::main]
async fn refusals() -> Result<(), Error> {
    let engine = Engine::builder().build()?;
    let running = server::start(engine.clone()).await?;
    let client = running.connect().await?;
    let state = async |sql: &str| -> Result<String, Error> {
        match client.batch_execute(sql).await {
            Ok(()) => Err(format!("no error: {sql}").into()),
            Err(error) => Ok(error.code().map(|code| code.code().to_owned()).unwrap_or_default()),
        }
    };
    client.batch_execute("CREATE TABLE few AS SELECT 'import numpy' AS text").await?;
    for (sql, expected) in [
        ("SELECT * FROM analyze(model => 'none')", "42P01"),
        ("SELECT * FROM analyze()", "42601"),
        ("SELECT * FROM analyze('toy', 'nowhere')", "42P01"),
        ("SELECT * FROM analyze('toy', 'models')", "42809"),
        ("SELECT * FROM analyze('toy', 'few', layers => '0-2')", "22023"),
        ("SELECT * FROM analyze('toy', 'few', layers => 'all')", "22023"),
        ("SELECT * FROM analyze('toy', 'few', k => 0)", "22023"),
        ("SELECT * FROM analyze('toy', 'few', documents => -1)", "22023"),
    ] {
        assert_eq!(state(sql).await?, expected, "{sql}");
    }
    client.batch_execute("SET default_transaction_read_only = on").await?;
    assert_eq!(state("SELECT * FROM analyze('toy', 'few')").await?, "25006");
    assert_eq!(state("EXPLAIN ANALYZE SELECT * FROM analyze('toy', 'few')").await?, "25006");
    client.batch_execute("SET default_transaction_read_only = off").await?;
    // Of two at once, one is refused, or comes second.
    let both = futures::future::join(state("SELECT * FROM analyze('toy', 'corpus', documents => 2)"), async {
        let other = running.connect().await?;
        let done = other.batch_execute("SELECT * FROM analyze('toy', 'corpus', documents => 2)").await;
        Ok::<_, Error>(done.err().and_then(|error| error.code().map(|code| code.code().to_owned())))
    });
    let (first, second) = both.await;
    let states = [first.ok(), second?];
    assert!(states.iter().any(Option::is_none) && states.iter().flatten().all(|state| state == "55006"), "{states:?}");
    running.stop().await
}
