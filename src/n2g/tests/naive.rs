//! Kernels against simple, slow versions, on the bundled model.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::sync::Arc;

use futures::executor::block_on;
use neuroql_graph::{Builder, Element, Graph, Matcher, Pattern, Policy, Semantics, Symbol};
use neuroql_model::checkpoint::Checkpoint;
use neuroql_model::{Batch, Cancel, Model, Options, ReadSpec, Registry};
use neuroql_n2g::{
    Background, BackgroundActivation, Positions, Query, QueryRunner, Sample, Task, Window, score, split,
};

fn toy() -> Arc<Model> {
    let bundle = neuroql_datasets::TOY;
    let checkpoint = Checkpoint::from_bytes(bundle.config, bundle.weights, bundle.tokenizer).unwrap();
    Arc::new(Model::from_checkpoint("toy", "bundled", checkpoint, &Options::default()).unwrap())
}

/// Activations of one neuron on one text, run alone.
fn alone(model: &Model, layer: usize, neuron: u32, tokens: &[u32]) -> Vec<f32> {
    let spec = ReadSpec::new(model, [(layer, Some(vec![neuron]))]).unwrap();
    let batch = Batch::new([tokens], model.bos());
    model.run(&batch, &spec, &Cancel::default()).unwrap()[0].flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn many_questions_at_once_are_answered_as_one_by_one() {
    let model = toy();
    let registry = Arc::new(Registry::new(2).unwrap());
    for layer in 0..2 {
        let mut queries = Vec::new();
        for i in 0..300u32 {
            let tokens: Vec<u32> = (0..i % 23).map(|k| (i / 2 * 31 + k * 97) % 4096).collect();
            let at = if i % 3 == 0 { Positions::Last } else { Positions::All };
            queries.push(Query { neuron: i * 7 % 512, tokens, at });
        }
        let runner = QueryRunner::new(Arc::clone(&model), Arc::clone(&registry), layer, Cancel::default());
        let answers = block_on(runner.ask(&queries)).unwrap();
        for (query, answer) in queries.iter().zip(answers) {
            if query.tokens.is_empty() {
                assert!(answer.is_empty());
                continue;
            }
            let all = alone(&model, layer, query.neuron, &query.tokens);
            let expected = if query.at == Positions::All { &all[..] } else { &all[all.len() - 1..] };
            assert_eq!(answer.len(), expected.len());
            for (a, b) in answer.iter().zip(expected) {
                assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()), "{query:?}: {a} {b}");
            }
        }
    }
}

#[test]
fn a_cancelled_oracle_says_so() {
    let cancel = Cancel::default();
    let runner = QueryRunner::new(toy(), Arc::new(Registry::new(1).unwrap()), 0, cancel.clone());
    cancel.cancel();
    let query = Query { neuron: 0, tokens: vec![1, 2], at: Positions::All };
    assert!(matches!(block_on(runner.ask(&[query])), Err(neuroql_model::Error::Cancelled)));
}

fn graph(patterns: &[(&[u32], f32)]) -> Graph {
    let mut builder = Builder::new(Policy::Max);
    for (tokens, ends) in patterns {
        let element =
            |id: &u32| Element { symbol: Symbol::token(*id, id.to_string()), importance: 1.0, activation: *ends };
        builder.insert(&Pattern { elements: tokens.iter().map(element).collect(), ends: *ends }).unwrap();
    }
    builder.build().unwrap()
}

fn sample(document: i64, tokens: &[u32], activations: &[f32]) -> Sample {
    Sample { document, example: 0, tokens: tokens.into(), activations: activations.to_vec() }
}

#[test]
fn scores_are_those_of_counting() {
    let matcher = Matcher::of(&graph(&[(&[1], 0.9), (&[2, 3], 0.6), (&[4], 0.3)]), Semantics::Longest).unwrap();
    let held_out = [sample(1, &[1, 2, 3, 2, 4], &[1.0, 0.6, 0.0, 0.2, 0.7]), sample(2, &[5, 1], &[0.5, 0.1])];
    // Windows for judging are those of documents that are not for learning.
    let judging: Vec<i64> = (0..).filter(|d| !Background::is_train(*d)).take(3).collect();
    let learning = (0..).find(|d| Background::is_train(*d)).unwrap();
    let window = |document, tokens: &[u32]| Window { document, tokens: tokens.into() };
    let background = Background {
        windows: vec![
            window(judging[0], &[1, 1, 5]),
            window(learning, &[1, 1]),
            window(judging[1], &[1]),
            window(judging[2], &[5, 6]),
        ],
    };
    let fired = |window, position, activation| BackgroundActivation { window, position, activation };
    let fired = [fired(0, 0, 0.8), fired(0, 2, 0.5), fired(1, 0, 1.0), fired(2, 0, 0.9), fired(3, 1, 0.4)];
    let scores = score(&matcher, &held_out, &background, &fired, &HashSet::from([judging[1]]), 0.5);
    // Predicted: 1 and the 2 after a 3 in the first sample, 1 in the second; 4 is below the threshold.
    assert_eq!((scores.precision, scores.recall), (Some(1.0 / 3.0), Some(1.0 / 4.0)));
    assert_eq!(scores.f1, Some(2.0 / 7.0));
    assert_eq!((scores.accuracy, scores.positives, scores.tokens), (Some(2.0 / 7.0), 4, 7));
    assert_eq!((scores.random_precision, scores.random_recall), (Some(0.5), Some(0.5)));
    assert_eq!((scores.random_positives, scores.random_predictions, scores.random_tokens), (2, 2, 5));
    // 0.9 is predicted twice, 0.6 and 0.3 once each; at random 0.9 twice.
    assert_eq!(scores.calibration.tokens, [0, 0, 1, 0, 0, 1, 0, 0, 2, 0]);
    let real = scores.calibration.activations();
    assert_eq!((real[0], real[2], real[5], real[8]), (None, Some(0.7), Some(0.2), Some(0.55)));
    assert_eq!(scores.random_calibration.tokens, [0, 0, 0, 0, 0, 0, 0, 0, 2, 0]);
    assert_eq!(scores.random_calibration.activations()[8], Some(0.4));
    let (a, p) = ([1.0, 0.6, 0.0, 0.2, 0.7, 0.5, 0.1f64], [0.9, 0.0, 0.0, 0.6, 0.3, 0.0, 0.9f64]);
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let (ma, mp) = (mean(&a), mean(&p));
    let sum = |f: &dyn Fn(f64, f64) -> f64| a.iter().zip(&p).map(|(a, p)| f(*a, *p)).sum::<f64>();
    let r2 = 1.0 - sum(&|a, p| (a - p) * (a - p)) / sum(&|a, _| (a - ma) * (a - ma));
    let variances = sum(&|a, _| (a - ma) * (a - ma)) * sum(&|_, p| (p - mp) * (p - mp));
    let pearson = sum(&|a, p| (a - ma) * (p - mp)) / variances.sqrt();
    assert!((f64::from(scores.r2.unwrap()) - r2).abs() < 1e-6, "{scores:?} {r2}");
    assert!((f64::from(scores.pearson.unwrap()) - pearson).abs() < 1e-6, "{scores:?} {pearson}");
}

#[test]
fn scores_of_nothing_are_unknown() {
    let matcher = Matcher::of(&graph(&[(&[1], 0.9)]), Semantics::Longest).unwrap();
    let nothing = score(&matcher, &[], &Background::default(), &[], &HashSet::new(), 0.5);
    assert_eq!((nothing.precision, nothing.recall, nothing.f1, nothing.r2), (None, None, None, None));
    let missed = [sample(1, &[2], &[1.0])];
    let missed = score(&matcher, &missed, &Background::default(), &[], &HashSet::new(), 0.5);
    assert_eq!((missed.precision, missed.recall, missed.f1), (None, Some(0.0), Some(0.0)));
}

/// Checks constants of so many tokens that rounding in one-pass sums gives them a variance.
#[test]
fn constants_do_not_correlate() {
    let matcher = Matcher::of(&graph(&[(&[1], 0.9)]), Semantics::Longest).unwrap();
    let activations: Vec<f32> = (0..2560).map(|i| (i % 7) as f32 / 7.0).collect();
    let scores = |tokens: &[u32], activations: &[f32]| {
        score(&matcher, &[sample(1, tokens, activations)], &Background::default(), &[], &HashSet::new(), 0.5)
    };
    let of_constant_prediction = scores(&[1; 2560], &activations);
    assert!(of_constant_prediction.pearson.is_none() && of_constant_prediction.r2.is_some());
    let mut tokens = [1; 2560];
    tokens[0] = 2;
    let of_constant_activation = scores(&tokens, &[0.9; 2560]);
    assert_eq!((of_constant_activation.pearson, of_constant_activation.r2), (None, None));
    assert!(scores(&tokens, &activations).pearson.is_some());
}

#[test]
fn no_document_is_on_both_sides() {
    let samples: Vec<Sample> = (0..40u32)
        .map(|i| sample(i64::from(i % 7), &[i, i + 1, i % 20 + 100], &[0.1, 0.2, 1.0 - i as f32 / 100.0]))
        .collect();
    let (train, held_out) = split(samples, 30);
    assert_eq!(train.len() + held_out.len(), 30);
    let documents = |side: &[Sample]| side.iter().map(|sample| sample.document).collect::<HashSet<_>>();
    assert!(documents(&train).is_disjoint(&documents(&held_out)));
    assert!(!train.is_empty() && !held_out.is_empty());
    // Near-duplicates: the same tokens up to the peak.
    let twice = vec![sample(1, &[1, 2, 3], &[0.0, 1.0, 0.0]), sample(2, &[1, 2, 9], &[0.0, 0.9, 0.0])];
    let (train, held_out) = split(twice, 10);
    assert_eq!((train.len(), held_out.len()), (1, 0));
    let one_document = (0..4).map(|i| sample(1, &[i], &[1.0])).collect();
    let (train, held_out) = split(one_document, 10);
    assert_eq!((train.len(), held_out.len()), (2, 2));
}

#[test]
fn a_task_has_the_strongest_active_examples() {
    let peaks = [0.25, 0.0, 1.0, -0.5, 0.5, 0.75];
    let samples = peaks.iter().enumerate().map(|(i, peak)| sample(i as i64, &[i as u32, 9], &[*peak, -1.0]));
    let task = Task::new(7, 3.0, samples.collect(), 3);
    assert_eq!((task.neuron, task.max_activation), (7, 3.0));
    let of = |side: &[Sample]| side.iter().map(|sample| sample.activations[0]).collect::<Vec<_>>();
    assert_eq!((of(&task.train), of(&task.held_out)), (vec![1.0, 0.5], vec![0.75]));
    let nothing = Task::new(7, 0.0, vec![sample(1, &[1], &[0.0])], 3);
    assert!(nothing.train.is_empty() && nothing.held_out.is_empty());
}
