//! Search for similar graphs, against comparing each with each.

#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;

use neuroql_graph::synthetic::Store;
use neuroql_graph::{Error, Pair, PatternIndex, PatternIndexBuilder, Signature};
use proptest::prelude::*;

fn index(signatures: &[(u64, Signature)]) -> PatternIndex {
    let mut builder = PatternIndexBuilder::default();
    signatures.iter().for_each(|(key, signature)| builder.push(*key, signature));
    builder.build().unwrap()
}

fn similarity(one: &Signature, other: &Signature) -> f64 {
    one.similarity(other).unwrap_or(0.0)
}

/// Similar pairs by comparing each with each, sorted.
fn compared(signatures: &[(u64, Signature)], threshold: f64) -> Vec<(u64, u64, f64)> {
    let mut pairs = Vec::new();
    for (at, (one, signature)) in signatures.iter().enumerate() {
        for (other, others) in &signatures[at + 1..] {
            let similarity = similarity(signature, others);
            if similarity >= threshold {
                pairs.push((*one.min(other), *one.max(other), similarity));
            }
        }
    }
    pairs.sort_by(|one, other| one.partial_cmp(other).unwrap());
    pairs
}

fn compared_with(ones: &[(u64, Signature)], others: &[(u64, Signature)], threshold: f64) -> Vec<(u64, u64, f64)> {
    let all = ones.iter().flat_map(|one| others.iter().map(move |other| (one, other)));
    let mut pairs: Vec<_> = all
        .map(|(one, other)| (one.0, other.0, similarity(&one.1, &other.1)))
        .filter(|(_, _, similarity)| *similarity >= threshold)
        .collect();
    pairs.sort_by(|one, other| one.partial_cmp(other).unwrap());
    pairs
}

fn nearest(signatures: &[(u64, Signature)], asked: &Signature, k: usize, at_least: f64) -> Vec<(u64, f64)> {
    let mut all: Vec<_> = signatures.iter().map(|(key, signature)| (*key, similarity(asked, signature))).collect();
    all.retain(|(_, similarity)| *similarity > 0.0 && *similarity >= at_least);
    all.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
    all.truncate(k);
    all
}

fn collected(search: impl FnOnce(&mut dyn FnMut(&[Pair]) -> ControlFlow<()>)) -> Vec<(u64, u64, f64)> {
    let mut pairs = Vec::new();
    search(&mut |found| {
        pairs.extend(found.iter().map(|pair| (pair.a, pair.b, pair.similarity)));
        ControlFlow::Continue(())
    });
    pairs
}

fn pairs(index: &PatternIndex, threshold: f64) -> Vec<(u64, u64, f64)> {
    let mut pairs = collected(|sink| assert!(index.pairs(threshold, sink).unwrap().is_continue()));
    pairs.sort_by(|one, other| one.partial_cmp(other).unwrap());
    pairs
}

fn pairs_with(one: &PatternIndex, other: &PatternIndex, threshold: f64) -> Vec<(u64, u64, f64)> {
    let mut pairs = collected(|sink| assert!(one.pairs_with(other, threshold, sink).unwrap().is_continue()));
    pairs.sort_by(|one, other| one.partial_cmp(other).unwrap());
    pairs
}

/// Signatures of patterns some of which are far more common than others, under shuffled keys.
fn any_signatures() -> impl Strategy<Value = Vec<(u64, Signature)>> {
    let pattern = (0.0..1.0f64).prop_map(|at| (at * at * at * 30.0) as u64);
    let weight = prop_oneof![
        // Equal sums, and so similarities, come often.
        4 => (1u8..=4).prop_map(|quarters| f32::from(quarters) / 4.0),
        2 => 0.5f32..1.0,
        1 => (-30i32..30).prop_map(|exponent| 10f32.powi(exponent)),
    ];
    let signature = proptest::collection::vec((pattern, weight), 0..8).prop_map(|all| Signature::new(all).unwrap());
    proptest::collection::vec(signature, 0..60)
        .prop_map(|all| all.into_iter().enumerate().map(|(at, one)| ((at as u64 * 37) % 61, one)).collect())
}

/// Thresholds: similarities of some pairs, and round ones.
fn thresholds(signatures: &[(u64, Signature)]) -> Vec<f64> {
    let met = compared(signatures, f64::MIN_POSITIVE);
    let some = met.iter().step_by(met.len() / 4 + 1).map(|(_, _, similarity)| *similarity);
    some.flat_map(|met| [met, met.next_up().min(1.0)]).chain([0.1, 0.5, 0.75, 0.9, 1.0, 1e-300]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn pairs_are_all_that_there_are(signatures in any_signatures()) {
        let index = index(&signatures);
        for threshold in thresholds(&signatures) {
            prop_assert_eq!(pairs(&index, threshold), compared(&signatures, threshold), "{}", threshold);
        }
    }

    #[test]
    fn pairs_of_two_are_all_that_there_are(ones in any_signatures(), others in any_signatures()) {
        let (one, other) = (index(&ones), index(&others));
        for threshold in thresholds(&[ones.clone(), others.clone()].concat()) {
            let expected = compared_with(&ones, &others, threshold);
            prop_assert_eq!(pairs_with(&one, &other, threshold), expected, "{}", threshold);
        }
    }

    #[test]
    fn most_similar_are_the_most_similar(signatures in any_signatures(), asked in any_signatures(), k in 0usize..12) {
        let index = index(&signatures);
        for (_, asked) in asked.iter().chain(&signatures) {
            for at_least in [0.0, 0.25, 0.5, 1.0, -1.0, f64::NAN] {
                let expected = nearest(&signatures, asked, k, at_least.max(0.0));
                prop_assert_eq!(index.most_similar(asked, k, at_least), expected);
            }
        }
    }

    #[test]
    fn what_was_put_in_comes_out(signatures in any_signatures()) {
        let index = index(&signatures);
        for key in 0..70 {
            let put = signatures.iter().find(|(own, _)| *own == key).map(|(_, signature)| signature.clone());
            prop_assert_eq!(index.signature(key), put.filter(|signature| !signature.is_empty()));
        }
    }

    #[test]
    fn order_does_not_matter(signatures in any_signatures()) {
        let reversed: Vec<_> = signatures.iter().rev().cloned().collect();
        prop_assert_eq!(index(&signatures), index(&reversed));
    }
}

fn store(graphs: u64) -> Vec<(u64, Signature)> {
    (0..).zip(Store::new(graphs, 11).graphs().map(|graph| Signature::of(&graph))).collect()
}

#[test]
fn large_stores_are_searched_exactly() {
    let signatures = store(3_000);
    let index = index(&signatures);
    for threshold in [0.05, 0.5, 0.9] {
        assert_eq!(pairs(&index, threshold), compared(&signatures, threshold));
    }
    let (ones, others) = signatures.split_at(1_000);
    assert_eq!(pairs_with(&self::index(ones), &self::index(others), 0.3), compared_with(ones, others, 0.3));
    for (_, asked) in signatures.iter().step_by(7) {
        for (k, at_least) in [(10, 0.0), (10, 0.4), (3_000, 0.0)] {
            assert_eq!(index.most_similar(asked, k, at_least), nearest(&signatures, asked, k, at_least));
        }
    }
}

#[test]
fn output_is_the_same_on_any_number_of_threads() {
    let index = index(&store(3_000));
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| collected(|sink| assert!(index.pairs(0.2, sink).is_ok())))
    };
    assert_eq!(on(1), on(3));
}

#[test]
fn sinks_may_stop() {
    // Equal graphs make many pairs, given in small parts.
    let same = Signature::new(vec![(1, 0.5)]).unwrap();
    let index = index(&(0..5_000).map(|key| (key, same.clone())).collect::<Vec<_>>());
    assert_eq!((index.len(), index.distinct(), index.postings()), (5_000, 1, 1));
    let (mut calls, mut count) = (0, 0);
    let stopped = index.pairs(0.9, |pairs| {
        assert!(pairs.len() <= 4_096 && pairs.iter().all(|pair| pair.a < pair.b && pair.similarity == 1.0));
        calls += 1;
        count += pairs.len();
        if calls == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!((stopped, calls, count), (Ok(ControlFlow::Break(())), 3, 3 * 4_096));
    assert_eq!(index.most_similar(&same, 2, 1.0), [(0, 1.0), (1, 1.0)]);
    // The sink can break also where nothing is found.
    let apart: Vec<_> = (0..100).map(|key| (key, Signature::new(vec![(key, 0.5)]).unwrap())).collect();
    let stopped = self::index(&apart).pairs(0.9, |pairs| {
        assert!(pairs.is_empty());
        ControlFlow::Break(())
    });
    assert_eq!(stopped, Ok(ControlFlow::Break(())));
}

#[test]
fn nothing_is_similar_to_nothing() {
    let index = index(&[(1, Signature::default()), (2, Signature::default())]);
    assert!(index.is_empty() && pairs(&index, 0.5).is_empty());
    assert!(index.most_similar(&Signature::default(), 10, 0.0).is_empty());
    assert!(index.most_similar(&Signature::new(vec![(1, 1.0)]).unwrap(), 10, 0.0).is_empty());
    for threshold in [0.0, -0.5, 1.1, f64::NAN] {
        let refused = index.pairs(threshold, |_| ControlFlow::Continue(()));
        assert!(matches!(refused, Err(Error::OutOfRange { .. })));
        assert!(index.pairs_with(&index, threshold, |_| ControlFlow::Continue(())).is_err());
    }
}
