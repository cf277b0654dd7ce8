use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Float32Type, Int64Type};
use neuroql_analysis::ValueRange;

use super::*;
use crate::bounds::{Aggregate, ScanOrder, StoredAnalysis, TopK};
use crate::testing::{Collector, Texts, resources, texts, toy};

fn analysis(resources: &Arc<Resources>, texts: &[Option<String>]) -> Analysis {
    Analysis {
        resources: Arc::clone(resources),
        model: toy(),
        dataset: "texts".into(),
        origin: Texts::new(texts, None).origin(),
        layers: vec![0, 1],
        documents: None,
        k: 3,
    }
}

async fn run(analysis: &Analysis) -> Vec<AnalysisProgress> {
    let steps = Collector::default();
    analysis.run(&Arc::default(), &steps).await.unwrap();
    steps.taken.into_inner().unwrap()
}

async fn neurons(analysis: &Analysis, layer: u32) -> RecordBatch {
    analysis.resources.store.neurons(analysis.model.name(), &analysis.dataset, layer).await.unwrap()
}

/// Returns the columns that do not name the commits.
async fn results(analysis: &Analysis) -> Vec<RecordBatch> {
    let mut layers = Vec::new();
    for layer in [0, 1] {
        let rows = neurons(analysis, layer).await;
        let own = ["tokens", "mean", "max_activation", "min_activation", "histogram", "examples"];
        let own: Vec<usize> = own.iter().filter_map(|name| rows.schema().index_of(name).ok()).collect();
        assert!(own.len() >= 5, "{:?}", rows.schema());
        layers.push(rows.project(&own).unwrap());
    }
    layers
}

#[tokio::test]
async fn results_do_not_depend_on_threads() {
    let (one, three) = (analysis(&resources(1), &texts(9)), analysis(&resources(3), &texts(9)));
    let steps = run(&one).await;
    let last = steps.last().unwrap();
    assert!(last.complete && (last.documents, last.total) == (9, 9) && last.layers == [0, 1]);
    run(&three).await;
    assert_eq!(results(&one).await, results(&three).await);
}

#[tokio::test]
async fn an_analysis_goes_on_where_it_ended() {
    let (whole, parts) = (analysis(&resources(2), &texts(9)), analysis(&resources(2), &texts(9)));
    run(&whole).await;
    let part = run(&Analysis { documents: Some(4), ..parts.clone() }).await;
    let last = part.last().unwrap();
    assert!(!last.complete && last.documents == 4, "{last:?}");
    let rest = run(&parts).await;
    assert_eq!(rest[0].documents, 4);
    assert!(rest[0].examples.end > 0 && rest.last().unwrap().complete);
    assert_eq!(rest.last().unwrap().tokens, run(&whole).await.last().unwrap().tokens);
    let (whole, parts) = (neurons(&whole, 1).await, neurons(&parts, 1).await);
    let greatest = |rows: &RecordBatch| rows["max_activation"].as_primitive::<Float32Type>().values().to_vec();
    for (a, b) in greatest(&whole).into_iter().zip(greatest(&parts)) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
}

#[tokio::test]
async fn an_analysis_of_other_text_starts_over() {
    let resources = resources(2);
    let before = analysis(&resources, &texts(6));
    run(&before).await;
    let mut changed = texts(9);
    changed[0] = Some("something else".into());
    let steps = run(&analysis(&resources, &changed)).await;
    assert_eq!((steps[0].documents, steps[0].tokens), (0, 0));
    assert!(steps.last().unwrap().complete);
}

#[tokio::test]
async fn one_analysis_at_a_time() {
    let resources = resources(1);
    let analysis = analysis(&resources, &texts(3));
    let busy = resources.store.begin(analysis.model.name(), &analysis.dataset).unwrap();
    let error = analysis.run(&Arc::default(), &Collector::default()).await.unwrap_err();
    assert!(error.to_string().contains("being analysed over \"texts\" already"), "{error}");
    drop(busy);
    run(&analysis).await;
}

#[tokio::test]
async fn nobody_who_wants_more_ends_it() {
    let analysis = analysis(&resources(1), &texts(3));
    let steps = Collector { enough: 1, ..Collector::default() };
    analysis.run(&Arc::default(), &steps).await.unwrap();
    assert_eq!(steps.taken.into_inner().unwrap().len(), 1);
    assert!(analysis.resources.store.progress(analysis.model.name(), "texts", 0).await.unwrap().is_none());
}

#[tokio::test]
async fn bounds_leave_the_examples_that_matter() {
    let analysis = analysis(&resources(2), &texts(9));
    run(&analysis).await;
    let Analysis { resources, model, origin, .. } = &analysis;
    let selection = vec![(1, Some(vec![5, 9]))];
    let stored = StoredAnalysis::find(model, origin, &selection, resources).await.unwrap().unwrap();
    assert!(stored.is_of(origin, resources, &Arc::default()).await.unwrap());
    let bounds = stored.load(model, &selection, resources).await.unwrap().unwrap();
    let all: Vec<usize> = (0..bounds.contexts.len()).collect();
    let rows = neurons(&analysis, 1).await;
    let greatest = |neuron: usize| rows["max_activation"].as_primitive::<Float32Type>().value(neuron);

    // One of the examples left reaches the greatest activation.
    let top = TopK { k: 1, visit: ScanOrder::Descending, of_each: false };
    let mut left = all.clone();
    let known = bounds.retain_top(&[(1, vec![5, 9])], top, None, &mut left);
    assert!(known.is_empty() && !left.is_empty() && left.len() < all.len());
    let most = greatest(5).max(greatest(9));
    assert!(left.iter().any(|example| bounds.upper[*example] >= most));
    // The strongest tokens in the store answer without a run.
    let strongest = stored.strongest(model, &selection, resources).await.unwrap().unwrap();
    let each = TopK { k: 2, of_each: true, ..top };
    let mut left = all.clone();
    let known = bounds.retain_top(&[(1, vec![5, 9])], each, Some(&strongest), &mut left);
    assert!(left.is_empty());
    let found: Vec<_> = known.iter().map(|known| (known.layer, known.neuron, known.tokens[0].activation)).collect();
    assert_eq!(found, [(1, 5, greatest(5)), (1, 9, greatest(9))]);

    // Every token counts, so no example has to run.
    let mut left = all.clone();
    let counts = bounds.retain_undecided(&[(Aggregate::Count, ValueRange::ALWAYS)], &mut left).unwrap();
    let tokens = rows["tokens"].as_primitive::<Int64Type>().value(5) as u64;
    assert_eq!((left.len(), counts), (0, vec![vec![vec![tokens, tokens]]]));
    assert_eq!(bounds.retain_undecided(&[(Aggregate::Max, ValueRange::ALWAYS)], &mut Vec::new()), None);

    // The dataset has changed.
    let other = Texts::new(&texts(8), None).origin();
    assert!(!stored.is_of(&other, resources, &Arc::default()).await.unwrap());
}
