//! What a query saves: EXPLAIN says it beforehand, EXPLAIN ANALYZE counts it.

use datafusion::arrow::array::AsArray;
use datafusion::prelude::SessionContext;
use libtest_mimic::Trial;
use neuroql::Engine;

use crate::server::Error;

/// One trial a promise.
pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("pushdown::plans", || Ok(plans()?)),
        Trial::test("pushdown::layers_and_neurons", || Ok(layers_and_neurons()?)),
        Trial::test("pushdown::tokens", || Ok(tokens()?)),
        Trial::test("pushdown::joins", || Ok(joins()?)),
        Trial::test("pushdown::limit_and_top_k", || Ok(limit_and_top_k()?)),
    ]
}

/// The text of EXPLAIN or EXPLAIN ANALYZE.
async fn explain(context: &SessionContext, sql: &str) -> Result<String, Error> {
    let mut text = String::new();
    for batch in context.sql(sql).await?.collect().await? {
        for row in 0..batch.num_rows() {
            text += batch.column(1).as_string::<i32>().value(row);
        }
    }
    Ok(text)
}

/// A counter of the scan; 0 if it is not shown.
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

/// Attention is causal: tokens after the last wanted one do not run, nor examples without one.
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

/// The build side of a join says which neurons the model has to compute.
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
