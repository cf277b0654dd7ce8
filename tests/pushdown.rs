//! Tests of work that queries save: EXPLAIN shows it beforehand, EXPLAIN ANALYZE counts it.

use datafusion::arrow::array::AsArray;
use datafusion::prelude::SessionContext;
use libtest_mimic::Trial;
use neuroql::Engine;

use crate::server::Error;
use crate::timing;

/// One trial per property.
pub fn trials() -> Vec<Trial> {
    vec![
        timing::test("pushdown::plans", || Ok(plans()?)),
        timing::test("pushdown::layers_and_neurons", || Ok(layers_and_neurons()?)),
        timing::test("pushdown::tokens", || Ok(tokens()?)),
        timing::test("pushdown::joins", || Ok(joins()?)),
        timing::test("pushdown::limit_and_top_k", || Ok(limit_and_top_k()?)),
        timing::test("pushdown::estimates", || Ok(estimates()?)),
        timing::test("pushdown::estimates_of_relations", || Ok(estimates_of_relations()?)),
    ]
}

/// Returns the text of EXPLAIN or EXPLAIN ANALYZE.
async fn explain(context: &SessionContext, sql: &str) -> Result<String, Error> {
    let mut text = String::new();
    for batch in context.sql(sql).await?.collect().await? {
        for row in 0..batch.num_rows() {
            text += batch.column(1).as_string::<i32>().value(row);
        }
    }
    Ok(text)
}

/// Returns a counter of the scan; 0 if it is not shown.
fn metric(plan: &str, name: &str) -> f64 {
    let scan = plan.lines().find(|line| line.contains("ActivationScan")).unwrap_or_default();
    let Some((_, value)) = scan.split_once(&format!("{name}=")) else { return 0.0 };
    let value = value.split([',', ']']).next().unwrap_or_default();
    let (number, unit) = value.split_once(' ').unwrap_or((value, ""));
    let factor = match unit {
        "K" => 1e3,
        "M" => 1e6,
        "B" => 1e9,
        _ => 1.0,
    };
    number.parse::<f64>().unwrap_or(f64::NAN) * factor
}

#[tokio::main]
async fn plans() -> Result<(), Error> {
    let context = Engine::builder().build()?.session();
    for (query, promises) in [
        ("text = 'a' AND layer = 0 AND neuron IN (1, 2)", ["texts=1", "layers_run=1/2", "neurons=2 of 512"]),
        ("text IN ('a', 'b', 'a') AND neuron < 10", ["texts=2", "layers_run=2/2", "neurons=20 of 1024"]),
        ("layer = 1 AND neuron % 256 = 0", ["dataset=corpus", "layers_run=2/2", "neurons=2 of 512"]),
        ("text = 'a' AND layer = 7", ["texts=1", "layers_run=0/2", "neurons=0 of 0"]),
        (
            "dataset = 'corpus' AND document < 3 AND position = 0",
            ["documents: document", "tokens: position", "neurons=1024"],
        ),
        ("text = 'a' AND activation > 0.5", ["rows: ", "activation@", "> 0.5"]),
    ] {
        let plan = explain(&context, &format!("EXPLAIN SELECT activation FROM toy.activations WHERE {query}")).await?;
        for promise in promises {
            assert!(plan.contains(promise), "{query}: no {promise} in\n{plan}");
        }
        assert!(!plan.contains("FilterExec"), "{query}: filtered above the scan\n{plan}");
        assert!(plan.contains("columns=[activation]"), "{query}: other columns are built\n{plan}");
    }
    Ok(())
}

#[tokio::main]
async fn layers_and_neurons() -> Result<(), Error> {
    let context = Engine::builder().build()?.session();
    let sql = "EXPLAIN ANALYZE SELECT * FROM toy.activations WHERE text = 'a b c' AND layer = 0 AND neuron IN (1, 2)";
    let plan = explain(&context, sql).await?;
    assert!(plan.contains("layers_run=1/2") && plan.contains("neurons=2 of 512"), "{plan}");
    assert_eq!(metric(&plan, "tokens_run"), 4.0, "three tokens and BOS: {plan}");
    assert_eq!(metric(&plan, "output_rows"), 6.0, "{plan}");
    assert!(metric(&plan, "tokens_per_second") > 0.0, "{plan}");
    Ok(())
}

/// Checks that tokens after the last wanted one do not run, as attention is causal, nor examples without one.
#[tokio::main]
async fn tokens() -> Result<(), Error> {
    let context = Engine::builder().build()?.session();
    let analyze = "EXPLAIN ANALYZE SELECT * FROM toy.activations WHERE layer = 1 AND neuron = 17 AND";
    let plan = explain(&context, &format!("{analyze} text = 'the the the the the the' AND position = 2")).await?;
    assert_eq!(metric(&plan, "tokens_run"), 4.0, "{plan}");
    assert_eq!(metric(&plan, "output_rows"), 1.0, "{plan}");
    let whole = explain(&context, &format!("{analyze} dataset = 'corpus' AND document = 5")).await?;
    let some =
        explain(&context, &format!("{analyze} dataset = 'corpus' AND document = 5 AND token = ' liberty'")).await?;
    assert!(metric(&some, "tokens_run") < metric(&whole, "tokens_run") / 2.0, "{some}\n{whole}");
    assert!(metric(&some, "examples_skipped") > 0.0, "{some}");
    Ok(())
}

/// Checks that the build side of a join chooses the neurons that the model computes.
#[tokio::main]
async fn joins() -> Result<(), Error> {
    let context = Engine::builder().build()?.session();
    let sql = "EXPLAIN ANALYZE SELECT a.position, a.activation FROM (VALUES (1, 17), (1, 18)) k(layer, neuron)
               JOIN toy.activations a ON a.layer = k.layer AND a.neuron = k.neuron WHERE a.text = 'a b c'";
    let plan = explain(&context, sql).await?;
    assert_eq!(metric(&plan, "output_rows"), 6.0, "{plan}");
    Ok(())
}

#[tokio::main]
async fn limit_and_top_k() -> Result<(), Error> {
    let context = Engine::builder().build()?.session();
    let plan = explain(&context, "EXPLAIN ANALYZE SELECT * FROM toy.activations LIMIT 3").await?;
    assert!(metric(&plan, "tokens_run") <= 128.0, "one example is enough: {plan}");
    assert_eq!(metric(&plan, "output_rows"), 3.0, "{plan}");
    // A dataset that was not analysed: every example runs.
    context.sql("CREATE TABLE plain AS SELECT document, text FROM corpus WHERE document < 4").await?.collect().await?;
    let sql = "EXPLAIN ANALYZE SELECT token, activation FROM toy.activations WHERE dataset = 'plain'
               ORDER BY activation DESC LIMIT 5";
    let plan = explain(&context, sql).await?;
    assert!(plan.contains("plan=full scan"), "{plan}");
    let rows = metric(&plan, "tokens_run") * 1024.0;
    assert!(metric(&plan, "output_rows") < rows / 10.0, "the moving threshold drops rows: {plan}");
    // One that was: none runs for the strongest tokens, few for more of them.
    let top = "EXPLAIN ANALYZE SELECT token, activation FROM toy.activations WHERE layer = 1 AND neuron = 17
               ORDER BY activation DESC LIMIT";
    let plan = explain(&context, &format!("{top} 20")).await?;
    assert!(plan.contains("plan=stored answer") && metric(&plan, "tokens_run") == 0.0, "{plan}");
    let plan = explain(&context, &format!("{top} 50")).await?;
    assert!(plan.contains("plan=bounds and re-run, greatest first"), "{plan}");
    assert!(metric(&plan, "examples_skipped") > 7_000.0 && metric(&plan, "tokens_run") < 50_000.0, "{plan}");
    for (what, choice) in [
        ("max(activation), avg(activation), stddev(activation)", "plan=stored answer"),
        ("count(*) FILTER (WHERE activation > 1.5)", "plan=bounds and re-run"),
        ("avg(activation) FILTER (WHERE activation > 1.5)", "plan=full scan"),
    ] {
        let sql = format!("EXPLAIN SELECT layer, neuron, {what} FROM toy.activations GROUP BY 1, 2");
        let plan = explain(&context, &sql).await?;
        assert!(plan.contains(choice) && plan.contains("by neuron"), "{plan}");
    }
    Ok(())
}

/// Returns an estimate of EXPLAIN: its certainty (`=`, `≈` or `≤`), and the number, without its unit.
fn estimated(plan: &str, name: &str) -> Option<(char, f64)> {
    let (_, estimate) = plan.split_once("estimate: ")?;
    let (_, rest) = estimate.split_once(name)?;
    let sign = rest.chars().next()?;
    let number = rest[sign.len_utf8()..].split([' ', ',', '\n']).next()?;
    Some((sign, number.parse().ok()?))
}

/// Checks that tokens and forward passes are estimated before anything runs, and are those that run.
#[tokio::main]
async fn estimates() -> Result<(), Error> {
    let context = Engine::builder().build()?.session();
    let of = async |query: &str| {
        explain(&context, &format!("EXPLAIN SELECT activation FROM toy.activations WHERE {query}")).await
    };
    // Texts of the query are counted: three tokens and BOS, one and BOS.
    let plan = of("text IN ('a b c', 'a') AND layer = 0").await?;
    assert_eq!(estimated(&plan, "tokens"), Some(('=', 6.0)), "{plan}");
    assert_eq!(estimated(&plan, "forward_passes"), Some(('=', 1.0)), "{plan}");
    assert!(plan.contains("(speed assumed)"), "nothing has run: {plan}");
    let (sign, seconds) = estimated(&plan, "seconds").ok_or("no seconds")?;
    assert!(sign == '≈' && seconds > 0.0 && seconds < 1.0, "{plan}");
    assert!(estimated(&plan, "memory").is_some_and(|(sign, memory)| sign == '≈' && memory > 0.0), "{plan}");
    // Filtered tokens may be fewer, and those that are not read are none.
    for (query, tokens) in
        [("text = 'a b c' AND token = 'b'", ('≤', 4.0)), ("text = 'a b c' AND layer = 7", ('=', 0.0))]
    {
        let plan = of(query).await?;
        assert_eq!(estimated(&plan, "tokens"), Some(tokens), "{plan}");
    }
    // The corpus has 1.01 million tokens: within a fifth, by a sample; LIMIT needs one example of 127 and BOS.
    let plan = of("dataset = 'corpus' AND layer = 0 AND neuron < 100").await?;
    let (sign, tokens) = estimated(&plan, "tokens").ok_or("no tokens")?;
    assert!(sign == '≈' && (8.1e5..1.21e6).contains(&tokens), "{plan}");
    let (_, passes) = estimated(&plan, "forward_passes").ok_or("no passes")?;
    assert!((tokens / 1024.0..tokens / 900.0 + 1.0).contains(&passes), "{plan}");
    let plan = explain(&context, "EXPLAIN SELECT * FROM toy.activations LIMIT 3").await?;
    assert_eq!(estimated(&plan, "tokens").map(|(_, tokens)| tokens), Some(128.0), "{plan}");
    // Answers from the store run nothing, those by bounds no more than a full scan.
    let plan =
        explain(&context, "EXPLAIN SELECT layer, neuron, max(activation) FROM toy.activations GROUP BY 1, 2").await?;
    assert_eq!(estimated(&plan, "tokens"), Some(('=', 0.0)), "{plan}");
    let plan = explain(&context, "EXPLAIN SELECT * FROM toy.activations WHERE activation > 3").await?;
    assert!(estimated(&plan, "tokens").is_some_and(|(sign, tokens)| sign == '≤' && tokens > 7e5), "{plan}");

    // Datasets in memory and in files: within a third of what runs.
    let folder = tempfile::tempdir()?;
    let copied = "SELECT document, text FROM corpus WHERE document < 4";
    for (name, statement) in [
        ("in_memory", format!("CREATE TABLE in_memory AS {copied}")),
        ("a_view", format!("CREATE VIEW a_view AS {copied}")),
        ("in_parquet", format!("COPY ({copied}) TO '{}/some.parquet'", folder.path().display())),
        ("in_json", format!("COPY ({copied}) TO '{}/some.json'", folder.path().display())),
    ] {
        context.sql(&statement).await?.collect().await?;
        if let Some(format) = name.strip_prefix("in_").filter(|format| *format != "memory") {
            let location = format!("{}/some.{format}", folder.path().display());
            let create = format!("CREATE EXTERNAL TABLE {name} STORED AS {format} LOCATION '{location}'");
            context.sql(&create).await?.collect().await?;
        }
        let query = format!(
            "SELECT max(activation) FROM toy.activations WHERE dataset = '{name}' AND layer = 0 AND neuron = 0"
        );
        let before = explain(&context, &format!("EXPLAIN {query}")).await?;
        let after = explain(&context, &format!("EXPLAIN ANALYZE {query}")).await?;
        let ran = metric(&after, "tokens_run");
        let (sign, tokens) = estimated(&before, "tokens").ok_or_else(|| format!("{name}: no tokens in {before}"))?;
        // A view's filter may drop any rows of the corpus.
        let (expected, is_near) = match name {
            "a_view" => ('≤', tokens > ran),
            _ => ('≈', (ran / 1.5..ran * 1.5).contains(&tokens)),
        };
        assert!(sign == expected && is_near, "{name}: {tokens} tokens, ran {ran}\n{before}");
        // EXPLAIN ANALYZE shows the estimate of the planning beside the measurements.
        assert!(estimated(&after, "tokens").is_some_and(|(_, again)| (again - tokens).abs() < tokens / 2.0), "{after}");
    }
    // The speed is known now.
    let plan = of("dataset = 'in_memory'").await?;
    assert!(!plan.contains("(speed assumed)"), "{plan}");
    Ok(())
}

/// Checks that table functions that run the model are estimated too.
#[tokio::main]
async fn estimates_of_relations() -> Result<(), Error> {
    let context = Engine::builder().build()?.session();
    context.sql("CREATE TABLE few AS SELECT document, text FROM corpus WHERE document < 8").await?.collect().await?;
    let of = async |call: &str| explain(&context, &format!("EXPLAIN SELECT * FROM {call}")).await;
    let mut seen = Vec::new();
    for call in [
        "analyze('toy', 'few')",
        "analyze('toy', 'few', documents => 4)",
        "correlations('toy', dataset => 'few')",
        "build_graphs('toy', layers => '1', neurons => '0-3', dataset => 'few', rebuild => true)",
        "build_graphs('toy', layers => '1', neurons => '0-99', dataset => 'few', rebuild => true)",
        "evaluate_graphs('toy')",
    ] {
        let plan = of(call).await?;
        let (_, tokens) = estimated(&plan, "tokens").ok_or_else(|| format!("no tokens of {call}: {plan}"))?;
        let passes = estimated(&plan, "forward_passes").ok_or("no passes")?.1;
        assert!(
            tokens > 0.0 && passes >= 1.0 && estimated(&plan, "seconds").is_some_and(|(_, seconds)| seconds > 0.0),
            "{plan}"
        );
        seen.push(tokens);
    }
    assert!(seen[1] < seen[0] * 0.6 && seen[1] > seen[0] * 0.4, "half of the documents: {seen:?}");
    assert_eq!(seen[2], seen[0]);
    assert!(seen[4] > seen[3]);
    // Work that was done before is not done again.
    assert!(estimated(&of("analyze('toy')").await?, "tokens").is_some_and(|(sign, _)| sign == '≤'));
    Ok(())
}
