//! Tests that rows are read back as they were written, across reopening, interruption and competition.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use neuroql_analysis::{BatchSummary, Columns, Example, LayerBounds, LayerSummary};
use neuroql_store::{Error, Progress, Registration, Segment, Store, StoredExample};

const WIDTH: usize = 5;
const TOKENS: usize = 7;

/// Activations of an example of a made-up corpus, which depend on nothing but their place.
fn values(layer: u32, example: usize) -> Vec<f32> {
    (0..TOKENS * WIDTH).map(|i| ((i * 31 + example * 17 + layer as usize * 7) % 23) as f32 / 3.0 - 2.0).collect()
}

fn context(example: usize) -> StoredExample {
    let tokens: Vec<u32> = (0..TOKENS).map(|t| (example * 10 + t) as u32).collect();
    StoredExample { document: example as i64 / 2, example: example as i64 % 2, tokens: tokens.into() }
}

fn text(token: u32) -> String {
    format!("«{token}»")
}

fn progress(segments: &[&str], examples: usize) -> Progress {
    Progress {
        model_version: "v1".into(),
        k: 3,
        documents: examples as u64 / 2,
        partial: examples as u64 % 2,
        documents_sha256: format!("hash of {examples}"),
        examples: examples as u64,
        segments: segments.iter().map(|s| (*s).to_owned()).collect(),
        complete: false,
    }
}

/// Analyses of two layers after some examples, and the bounds of the last of them.
fn analyses(examples: usize, of_segment: usize) -> (Vec<LayerSummary>, Vec<(u32, LayerBounds)>) {
    let mut bounds = Vec::new();
    let analyses = [0, 3].map(|layer| {
        let mut summary = LayerSummary::new(layer, WIDTH, 3);
        let (mut peaks, mut troughs) = (Vec::new(), Vec::new());
        for e in 0..examples {
            let (context, values) = (context(e), values(layer, e));
            let example = Example { document: context.document, example: context.example, tokens: &context.tokens };
            let batch = BatchSummary::new(&[example], &values, WIDTH);
            let columns = Columns::gather(summary.wanted(&batch, &[example]), &[example], &values, WIDTH);
            summary.merge(&batch, &[example], &columns, e as u64);
            if e + of_segment >= examples {
                peaks.extend(batch.peaks());
                troughs.extend(batch.troughs());
            }
        }
        bounds.push((layer, LayerBounds::new(&[peaks], &[troughs], WIDTH)));
        summary
    });
    (analyses.into(), bounds)
}

async fn commit(store: &Store, segments: &[&str], examples: usize, of_segment: usize) -> Result<(), Error> {
    let (analyses, bounds) = analyses(examples, of_segment);
    let contexts: Vec<StoredExample> = (examples - of_segment..examples).map(context).collect();
    let segment = Segment { name: segments[segments.len() - 1], contexts: &contexts, bounds: &bounds };
    store.commit("it's/a model", "a dataset", Some(segment), &progress(segments, examples), &analyses, &text).await
}

/// Checks that the store returns everything that was put in.
async fn check(store: &Store, segments: &[&str], examples: usize) {
    let (analyses, _) = analyses(examples, examples);
    for expected in analyses {
        let found = store.analysis("it's/a model", "a dataset", expected.layer()).await.unwrap().unwrap();
        assert_eq!(found.progress, progress(segments, examples));
        assert_eq!(found.summary, expected);
        let index = store.index("it's/a model", "a dataset", expected.layer(), &found.progress).await.unwrap().unwrap();
        assert_eq!(index.examples(), examples);
        for neuron in 0..WIDTH {
            let (lower, upper) = index.of_neurons(Some(&[neuron as u32]));
            for e in 0..examples {
                let values = values(expected.layer(), e);
                let of_neuron = values.iter().skip(neuron).step_by(WIDTH).copied();
                assert!(of_neuron.clone().all(|v| lower[e] <= v && v <= upper[e]));
                assert!(upper[e] - of_neuron.fold(f32::MIN, f32::max) < 0.1);
            }
        }
        let contexts = store.contexts("it's/a model", "a dataset", &found.progress).await.unwrap().unwrap();
        assert_eq!(*contexts, (0..examples).map(context).collect::<Vec<_>>());
    }
    assert_eq!(store.analysis("it's/a model", "a dataset", 1).await.unwrap().map(|a| a.layer), None);
    assert_eq!(store.analysed().await.unwrap().len(), 2);
}

#[tokio::test]
async fn in_memory() {
    let store = Store::in_memory().unwrap();
    assert!(store.analysed().await.unwrap().is_empty());
    commit(&store, &["a"], 5, 5).await.unwrap();
    check(&store, &["a"], 5).await;
    commit(&store, &["a", "b"], 9, 4).await.unwrap();
    check(&store, &["a", "b"], 9).await;
}

#[tokio::test]
async fn in_a_folder_that_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let location = folder.path().join("new folder").to_str().unwrap().to_owned();
    commit(&Store::open(&location).await.unwrap(), &["a"], 5, 5).await.unwrap();
    let store = Store::open(&location).await.unwrap();
    check(&store, &["a"], 5).await;

    // Interrupted before the last write: the segment is there but nobody refers to it.
    let (_, bounds) = analyses(8, 3);
    let contexts: Vec<StoredExample> = (5..8).map(context).collect();
    let segment = Segment { name: "lost", contexts: &contexts, bounds: &bounds };
    store
        .commit("it's/a model", "a dataset", Some(segment), &progress(&["a"], 5), &analyses(5, 5).0, &text)
        .await
        .unwrap();
    check(&store, &["a"], 5).await;
    store.sweep("it's/a model", "a dataset").await.unwrap();
    commit(&store, &["a", "b"], 8, 3).await.unwrap();
    check(&Store::open(&location).await.unwrap(), &["a", "b"], 8).await;

    // The vacuum deletes the files that the sweep and later commits replaced, and nothing else.
    assert!(store.vacuum(Some(Duration::ZERO)).await.unwrap() > 0);
    check(&Store::open(&location).await.unwrap(), &["a", "b"], 8).await;
}

#[tokio::test]
async fn of_two_writers_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let location = folder.path().to_str().unwrap().to_owned();
    commit(&Store::open(&location).await.unwrap(), &["a"], 2, 2).await.unwrap();
    let (one, other) = (Store::open(&location).await.unwrap(), Store::open(&location).await.unwrap());
    commit(&one, &["a", "b"], 4, 2).await.unwrap();
    let error = commit(&other, &["a", "c"], 5, 3).await.unwrap_err();
    assert_eq!(error.sqlstate(), "40001", "{error}");
    check(&Store::open(&location).await.unwrap(), &["a", "b"], 4).await;
}

#[tokio::test]
async fn writers_that_do_not_touch_the_same_wait_for_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let location = folder.path().to_str().unwrap().to_owned();
    let registration =
        |model: String| Registration { model, location: "/x".into(), options: BTreeMap::new(), sha256: String::new() };
    // Snapshots of all are of the same age, and each sees the commits of the others only when its own fails.
    let (one, other) = (Store::open(&location).await.unwrap(), Store::open(&location).await.unwrap());
    let (analyses, _) = analyses(0, 0);
    for round in 0..3 {
        for (name, store) in [("one", &one), ("other", &other)] {
            store.register(&registration(format!("{name}{round}"))).await.unwrap();
            store.commit(name, "a dataset", None, &progress(&[], 0), &analyses, &text).await.unwrap();
        }
    }
    other.forget("one0").await.unwrap();
    one.forget("other0").await.unwrap();
    let store = Store::open(&location).await.unwrap();
    let names: Vec<String> = store.registrations().await.unwrap().into_iter().map(|r| r.model).collect();
    assert_eq!(names, ["one1", "one2", "other1", "other2"]);
    assert_eq!(store.analysed().await.unwrap().len(), 4);
}

#[tokio::test]
async fn one_analysis_at_a_time() {
    let store = Arc::new(Store::in_memory().unwrap());
    let busy = store.begin("m", "d").unwrap();
    assert!(store.begin("m", "d").is_none());
    assert!(store.begin("m", "e").is_some());
    drop(busy);
    assert!(store.begin("m", "d").is_some());
}

#[tokio::test]
async fn registrations() {
    let folder = tempfile::tempdir().unwrap();
    let location = folder.path().to_str().unwrap().to_owned();
    let store = Store::open(&location).await.unwrap();
    assert_eq!(store.registrations().await.unwrap(), []);
    let options = BTreeMap::from([("window".to_owned(), "64".to_owned()), ("bos".to_owned(), "false".to_owned())]);
    let mut first = Registration { model: "b".into(), location: "/x".into(), options, sha256: "1".into() };
    let second =
        Registration { model: "a".into(), location: "/y".into(), options: BTreeMap::new(), sha256: "2".into() };
    store.register(&first).await.unwrap();
    store.register(&second).await.unwrap();
    first.sha256 = "3".into();
    store.register(&first).await.unwrap();
    let store = Store::open(&location).await.unwrap();
    assert_eq!(store.registrations().await.unwrap(), [second.clone(), first]);
    store.forget("b").await.unwrap();
    assert_eq!(Store::open(&location).await.unwrap().registrations().await.unwrap(), [second]);
}

#[tokio::test]
async fn what_is_no_store() {
    let sqlstate = |store: Result<Store, Error>| store.err().map(|error| error.sqlstate());
    assert_eq!(sqlstate(Store::open("/proc/nothing can be made here").await), Some("22023"));
    assert_eq!(sqlstate(Store::open("gopher://x/y").await), Some("22023"));
    let folder = tempfile::tempdir().unwrap();
    let location = folder.path().to_str().unwrap().to_owned();
    commit(&Store::open(&location).await.unwrap(), &["a"], 2, 2).await.unwrap();
    let log = folder.path().join("neurons/_delta_log/00000000000000000000.json");
    let whole = std::fs::read(&log).unwrap();
    std::fs::write(&log, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(sqlstate(Store::open(&location).await), Some("XX001"));
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_lose_nothing_and_readers_never_go_back() {
    let store = Arc::new(Store::in_memory().unwrap());
    let write = |i: usize| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let registration = Registration {
                model: format!("m{i}"),
                location: "here".into(),
                options: BTreeMap::new(),
                sha256: String::new(),
            };
            store.register(&registration).await
        })
    };
    let writers: Vec<_> = (0..20).map(write).collect();
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut seen = 0;
                while seen < 20 {
                    let found = store.registrations().await.unwrap().len();
                    assert!(found >= seen, "{found} after {seen}");
                    seen = found;
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    let names: Vec<String> = store.registrations().await.unwrap().into_iter().map(|r| r.model).collect();
    let mut expected: Vec<String> = (0..20).map(|i| format!("m{i}")).collect();
    expected.sort();
    assert_eq!(names, expected);
    for reader in readers {
        tokio::time::timeout(Duration::from_secs(60), reader).await.unwrap().unwrap();
    }
}
