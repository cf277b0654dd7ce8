//! Similarity, algebra and networks, against an independent implementation and against laws.

#![allow(clippy::unwrap_used)]

mod letters;

use std::cell::Cell;
use std::collections::BTreeMap;

use neuroql_graph::{
    Builder, Element, Error, Graph, Matcher, Network, Node, Pattern, Policy, Semantics, Signature, Similarity, Symbol,
    Token, behaviour, similarity, similarity_while,
};
use proptest::prelude::*;
use serde_json::Value;

use crate::letters::symbol;

fn golden() -> Value {
    serde_json::from_str(include_str!("data/comparison.json")).unwrap()
}

fn numbers(values: &Value) -> Vec<f64> {
    values.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

/// Graph of patterns of letters, the activator first; activations of nodes are those of the golden data.
fn graph<'a>(patterns: impl IntoIterator<Item = (&'a str, f32)>) -> Graph {
    let mut builder = Builder::new(Policy::Max);
    for (text, ends) in patterns {
        let element = |(depth, letter)| {
            let activation = [0.1, 0.6, 0.9][if depth == 0 { 2 } else { usize::from("ab".contains(letter)) }];
            Element { symbol: symbol(letter), importance: ends, activation }
        };
        builder.insert(&Pattern { elements: text.chars().enumerate().map(element).collect(), ends }).unwrap();
    }
    builder.build().unwrap()
}

fn case_graph(patterns: &Value) -> Graph {
    let patterns = patterns.as_array().unwrap().iter();
    graph(patterns.map(|pattern| (pattern[0].as_str().unwrap(), pattern[1].as_f64().unwrap() as f32)))
}

fn assert_close(found: Option<f64>, expected: Option<f64>, what: &dyn std::fmt::Debug) {
    let close = match (found, expected) {
        (Some(found), Some(expected)) => (found - expected).abs() < 1e-12,
        (found, expected) => found == expected,
    };
    assert!(close, "{found:?} instead of {expected:?}: {what:?}");
}

#[test]
fn similarities_are_those_of_another_implementation() {
    for case in golden()["cases"].as_array().unwrap() {
        let (a, b) = (case_graph(&case["a"]), case_graph(&case["b"]));
        for method in [Similarity::Tokens, Similarity::Containment, Similarity::Patterns] {
            let expected = case[method.name()].as_f64();
            assert_close(similarity(&a, &b, method).unwrap(), expected, &(method, case));
        }
        let text: Vec<u32> = case["text"].as_str().unwrap().chars().map(u32::from).collect();
        let (start, end) = text.split_at(0);
        assert_close(behaviour(&a, &b, &[start, end]).unwrap(), case["behaviour"].as_f64(), case);
    }
}

#[test]
fn networks_are_those_of_another_implementation() {
    for case in golden()["networks"].as_array().unwrap() {
        let edges = case["edges"].as_array().unwrap().iter();
        let edges = edges.map(|edge| (edge[0].as_u64().unwrap(), edge[1].as_u64().unwrap(), edge[2].as_f64().unwrap()));
        let network = Network::new(edges).unwrap();
        for (found, expected) in network.page_rank(0.85).unwrap().iter().zip(numbers(&case["page_rank"])) {
            assert!((found - expected).abs() < 1e-12, "{found} instead of {expected}");
        }
        let degrees = network.degrees();
        let neighbours: Vec<f64> = degrees.iter().map(|degree| degree.neighbours.into()).collect();
        assert_eq!(neighbours, numbers(&case["neighbours"]));
        for (degree, expected) in degrees.iter().zip(numbers(&case["weights"])) {
            assert!((degree.weight - expected).abs() < 1e-12);
        }
        for (sets, expected) in [(network.components(), "components"), (network.clusters(0.5), "clusters")] {
            let mut members: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
            network.keys().iter().zip(sets).for_each(|(key, set)| members.entry(set).or_default().push(*key));
            let expected: Vec<Vec<u64>> = serde_json::from_value(case[expected].clone()).unwrap();
            assert_eq!(members.into_values().collect::<Vec<_>>(), expected);
        }
    }
}

#[test]
fn methods_have_names() {
    for method in Similarity::ALL {
        assert_eq!(method.name().parse(), Ok(method));
    }
    let error = "jaccard".parse::<Similarity>().unwrap_err();
    assert_eq!(
        (error.to_string(), error.sqlstate()),
        (
            "there is no way to compare graphs \"jaccard\"; there are tokens, containment, patterns, behaviour"
                .to_owned(),
            "22023"
        )
    );
    assert_eq!(Similarity::default(), Similarity::Patterns);
}

#[test]
fn nothing_is_compared_with_care() {
    let (none, some) = (Graph::default(), graph([("ab", 0.5)]));
    for method in Similarity::ALL {
        assert_eq!(similarity(&none, &none, method), Ok(None), "{method:?}");
        assert_eq!(similarity(&some, &some, method), Ok(Some(1.0)), "{method:?}");
        let expected = if method == Similarity::Containment { None } else { Some(0.0) };
        assert_eq!(similarity(&none, &some, method), Ok(expected), "{method:?}");
        assert_eq!(similarity(&some, &none, method), Ok(Some(0.0)), "{method:?}");
    }
    // Patterns that predict no activation have no weight, and wildcards are no tokens.
    let silent = graph([("ab", 0.0), ("c", -1.0)]);
    assert_eq!(similarity(&silent, &silent, Similarity::Patterns), Ok(None));
    let anything = graph([("*", 0.5)]);
    assert_eq!(similarity(&anything, &anything, Similarity::Tokens), Ok(None));
    // Without important tokens Neuron2Graph divides 0 by 1.
    let lookup = graph([("a", 0.5), ("b", 0.7)]);
    assert_eq!(similarity(&lookup, &lookup, Similarity::Tokens), Ok(Some(1.0)));
    assert_eq!(behaviour(&some, &some, &[]), Ok(None));
    assert_eq!(behaviour(&some, &some, &[&[99, 98]]), Ok(None));
}

/// Refuses many leaves at the end of a long chain: few nodes, whose patterns have very many tokens.
#[test]
fn behaviour_refuses_what_it_could_not_hold() {
    const CHAIN: u32 = 4_000;
    let node = |number: u32| Node {
        parent: number.min(CHAIN).checked_sub(1),
        symbol: Symbol::token(number, "t"),
        importance: 1.0,
        activation: 1.0,
        ends: (number >= CHAIN).then_some(0.5),
        support: 1,
    };
    let comb = Graph::new((0..CHAIN + 2_200).map(node).collect()).unwrap();
    let refused = similarity(&comb, &comb, Similarity::Behaviour);
    assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
    assert_eq!(similarity(&comb, &comb, Similarity::Patterns), Ok(Some(1.0)));
}

#[test]
fn interrupted_where_it_may_take_long() {
    let long = Matcher::of(&graph([("ab", 0.5)]), Semantics::Longest).unwrap();
    let asked = Cell::new(0);
    let go_on = || {
        asked.set(asked.get() + 1);
        asked.get() < 3
    };
    let (a, mut out) = (u32::from('a'), Vec::new());
    assert_eq!(long.simulate_while(&[a, 0, a, a, a], &mut out, go_on), Err(Error::Interrupted));
    assert_eq!(asked.get(), 3);
    let (one, other) = (graph([("ab", 0.5)]), graph([("ac", 0.5)]));
    assert_eq!(similarity_while(&one, &other, Similarity::Behaviour, &|| false), Err(Error::Interrupted));
}

#[test]
fn behaviour_looks_through_form() {
    // Different graphs with the same predictions.
    let (a, b) = (graph([("a1", 0.5), ("b", 0.25)]), graph([("a", 0.5), ("b", 0.25)]));
    assert_eq!(similarity(&a, &b, Similarity::Patterns).unwrap().map(|similarity| similarity < 1.0), Some(true));
    assert_close(similarity(&a, &b, Similarity::Behaviour).unwrap(), Some(1.0), &"own texts");
    // Predictions of half the size correlate fully; a negative correlation is 0.
    let half = graph([("a", 0.25), ("b", 0.125)]);
    assert_close(similarity(&half, &b, Similarity::Behaviour).unwrap(), Some(1.0), &"half");
    assert_eq!(similarity(&graph([("a", 0.5)]), &graph([("b", 0.5)]), Similarity::Behaviour), Ok(Some(0.0)));
    // The start of the text distinguishes patterns.
    let start = graph([("a^", 0.5)]);
    assert_eq!(similarity(&start, &start, Similarity::Behaviour), Ok(Some(1.0)));
    assert!(similarity(&start, &graph([("a", 0.5)]), Similarity::Behaviour).unwrap().unwrap() < 1.0);
}

#[test]
fn vocabularies_may_differ() {
    let one = |id: Option<u32>, text: &str| {
        let symbol = Symbol::Token(Token { id, text: text.into() });
        Graph::new(vec![Node { parent: None, symbol, importance: 1.0, activation: 1.0, ends: Some(0.5), support: 1 }])
            .unwrap()
    };
    for method in [Similarity::Tokens, Similarity::Containment, Similarity::Patterns] {
        let compare = |a: &Graph, b: &Graph| similarity(a, b, method).unwrap().unwrap();
        assert_eq!(compare(&one(Some(1), " 犬"), &one(Some(2), " 犬")), 1.0);
        assert_eq!(compare(&one(Some(1), " 犬"), &one(None, " 犬")), 1.0);
        assert_eq!(compare(&one(Some(1), "\u{FFFD}"), &one(Some(2), "\u{FFFD}")), 0.0);
        assert_eq!(compare(&one(Some(1), "\u{FFFD}"), &one(Some(1), "\u{FFFD}")), 1.0);
    }
    // The first graph's token stays.
    assert_eq!(one(Some(1), " 犬").union(&one(Some(2), " 犬")), Ok(one(Some(1), " 犬")));
    // Tokens of one text in one graph are one pattern.
    let twins = Graph::new([1, 2].map(|id| one(Some(id), "x").nodes()[0].clone()).to_vec()).unwrap();
    assert_eq!(Signature::of(&twins), Signature::of(&one(Some(3), "x")));
    assert_eq!(Signature::of(&twins.union(&twins).unwrap()), Signature::of(&twins));
    assert_eq!(twins.difference(&one(Some(3), "x")), Ok(Graph::default()));
}

#[test]
fn signatures_and_networks_refuse_what_is_no_weight() {
    for weight in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert!(matches!(Signature::new(vec![(1, weight)]), Err(Error::OutOfRange { .. })));
        assert!(matches!(Network::new([(1, 2, f64::from(weight))]), Err(Error::OutOfRange { .. })));
    }
    assert_eq!(Signature::new(vec![(2, 0.5), (1, 0.25), (2, 0.75)]).unwrap().patterns(), [(1, 0.25), (2, 0.75)]);
    let network = Network::new([(1, 2, 0.25), (2, 1, 0.5), (3, 3, 1.0)]).unwrap();
    assert_eq!(network.degrees().iter().map(|degree| degree.weight).collect::<Vec<_>>(), [0.5, 0.5, 0.0]);
    for damping in [-0.1, 1.0, f64::NAN] {
        let error = network.page_rank(damping).unwrap_err();
        assert_eq!(error.sqlstate(), "22023");
    }
    let nothing = Network::new([]).unwrap();
    assert!(nothing.keys().is_empty() && nothing.components().is_empty());
    assert_eq!(nothing.page_rank(0.85), Ok(vec![]));
}

/// Patterns of a graph: their symbols and ends.
fn set(graph: &Graph) -> BTreeMap<Vec<Symbol>, f32> {
    let symbols = |pattern: &Pattern| pattern.elements.iter().map(|element| element.symbol.clone()).collect();
    graph.to_patterns().map(|pattern| (symbols(&pattern), pattern.ends)).collect()
}

fn any_graph() -> impl Strategy<Value = Graph> {
    // Few letters, so that patterns meet, and few distinct ends, so that some are equal.
    let ends = (-1i8..8).prop_map(|eighths| f32::from(eighths) / 8.0);
    proptest::collection::vec(("[ab*][abc*1]{0,3}[\\^]?", ends), 0..10)
        .prop_map(|patterns| graph(patterns.iter().map(|(text, ends)| (text.as_str(), *ends))))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn similarities_are_in_range_and_symmetric(a in any_graph(), b in any_graph()) {
        for method in Similarity::ALL {
            let there = similarity(&a, &b, method).unwrap();
            prop_assert!(there.is_none_or(|similarity| (0.0..=1.0).contains(&similarity)), "{method:?} {there:?}");
            if method != Similarity::Containment {
                prop_assert_eq!(there, similarity(&b, &a, method).unwrap(), "{:?}", method);
            }
            prop_assert!(similarity(&a, &a, method).unwrap().is_none_or(|similarity| similarity == 1.0));
        }
    }

    #[test]
    fn patterns_are_compared_as_sets(a in any_graph(), b in any_graph()) {
        let (one, other) = (set(&a), set(&b));
        let weight = |set: &BTreeMap<Vec<Symbol>, f32>, key: &Vec<Symbol>| set.get(key).map_or(0.0, |ends| ends.max(0.0));
        let keys = one.keys().chain(other.keys().filter(|key| !one.contains_key(*key)));
        // Eighths are added without rounding.
        let (lesser, greater) = keys.fold((0.0, 0.0), |(lesser, greater), key| {
            let (one, other) = (weight(&one, key), weight(&other, key));
            (lesser + f64::from(one.min(other)), greater + f64::from(one.max(other)))
        });
        let expected = (greater > 0.0).then(|| lesser / greater);
        prop_assert_eq!(similarity(&a, &b, Similarity::Patterns).unwrap(), expected);
    }

    #[test]
    fn operations_are_those_of_sets(a in any_graph(), b in any_graph()) {
        let (one, other) = (set(&a), set(&b));
        let (union, common) = (a.union(&b).unwrap(), a.intersection(&b).unwrap());
        let rest = a.difference(&b).unwrap();
        let mut expected = one.clone();
        for (key, ends) in &other {
            expected.entry(key.clone()).and_modify(|known| *known = known.max(*ends)).or_insert(*ends);
        }
        prop_assert_eq!(set(&union), expected);
        let both = one.iter().filter_map(|(key, ends)| Some((key.clone(), ends.min(*other.get(key)?))));
        prop_assert_eq!(set(&common), both.collect());
        let only = one.iter().filter(|(key, _)| !other.contains_key(*key)).map(|(key, ends)| (key.clone(), *ends));
        prop_assert_eq!(set(&rest), only.collect());
        for graph in [&union, &common, &rest] {
            prop_assert_eq!(&Graph::new(graph.nodes().to_vec()).unwrap(), graph);
        }
        // No node is left below which no pattern ends.
        let ends_below = |graph: &Graph, node: u32| graph.paths().any(|path| path.contains(&node));
        prop_assert!((0..).zip(rest.nodes()).all(|(node, _)| ends_below(&rest, node)));
        prop_assert!((0..).zip(common.nodes()).all(|(node, _)| ends_below(&common, node)));
    }

    #[test]
    fn operations_obey_laws(a in any_graph(), b in any_graph(), c in any_graph()) {
        prop_assert_eq!(&a.union(&a).unwrap(), &a);
        prop_assert_eq!(&a.intersection(&a).unwrap(), &a);
        prop_assert_eq!(&a.union(&Graph::default()).unwrap(), &a);
        prop_assert!(a.difference(&a).unwrap().is_empty());
        prop_assert!(a.difference(&b).unwrap().intersection(&b).unwrap().is_empty());
        let union = a.union(&b).unwrap();
        let common = a.intersection(&b).unwrap();
        prop_assert_eq!(set(&union), set(&b.union(&a).unwrap()));
        prop_assert_eq!(set(&common), set(&b.intersection(&a).unwrap()));
        prop_assert_eq!(union.union(&c).unwrap(), a.union(&b.union(&c).unwrap()).unwrap());
        prop_assert_eq!(set(&a.difference(&b).unwrap().union(&common).unwrap()).len(), a.patterns());
        let contained = |part: &Graph| similarity(part, &a, Similarity::Containment).unwrap();
        prop_assert!(contained(&common).is_none_or(|share| share == 1.0));
        prop_assert!(contained(&a.difference(&b).unwrap()).is_none_or(|share| share == 1.0));
    }
}
