//! Tries of the reference implementation of Neuron2Graph: see `about` in the data.

#![allow(clippy::unwrap_used)]

use neuroql_graph::{Builder, Graph, Inherited, Matcher, PatternExtractor, Policy, Prompt, Semantics, Symbol, Token};
use serde_json::Value;

fn cases() -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("data/n2g-reference-tries.json")).unwrap();
    all["cases"].as_array().unwrap().clone()
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(number).collect()
}

fn number(value: &Value) -> f32 {
    value.as_f64().unwrap() as f32
}

/// Texts of all cases; their ids are their places in this list.
const VOCABULARY: [&str; 10] = [" é", " of", " cat", " 1", " import", "def", " a", " the", "\n", " B"];

fn id(text: &str) -> u32 {
    VOCABULARY.iter().position(|known| *known == text).unwrap() as u32
}

fn tokens(value: &Value) -> Vec<Token> {
    let texts = value.as_array().unwrap().iter().map(|text| text.as_str().unwrap());
    texts.map(|text| Token { id: Some(id(text)), text: text.into() }).collect()
}

fn graph(case: &Value) -> Graph {
    let lines = PatternExtractor {
        activation_threshold: number(&case["activation_threshold"]),
        importance_threshold: number(&case["importance_threshold"]),
        inherited: Inherited::All,
        special: None,
    };
    let mut builder = Builder::new(Policy::FirstWins);
    for sample in case["samples"].as_array().unwrap() {
        let owned: Vec<_> = sample
            .as_array()
            .unwrap()
            .iter()
            .map(|prompt| {
                let importances =
                    prompt["importances"].as_array().unwrap().iter().flat_map(numbers).collect::<Vec<_>>();
                (tokens(&prompt["tokens"]), importances, numbers(&prompt["activations"]))
            })
            .collect();
        let prompts: Vec<_> = owned
            .iter()
            .map(|(tokens, importances, activations)| Prompt { tokens, importances, activations })
            .collect();
        for pattern in lines.patterns(&prompts).unwrap() {
            builder.insert(&pattern).unwrap();
        }
    }
    builder.merge_wildcards().unwrap();
    builder.build().unwrap()
}

/// Path of a trie: text, importance and activation of each step, and the activation of the end.
type Path = (Vec<(String, f32, f32)>, f32);

fn sorted(mut paths: Vec<Path>) -> Vec<Path> {
    paths.sort_by(|a, b| a.partial_cmp(b).unwrap());
    paths
}

#[test]
fn paths_are_those_of_the_reference() {
    for (i, case) in cases().iter().enumerate() {
        let step = |value: &Value| {
            (value["token"].as_str().unwrap().to_owned(), number(&value["importance"]), number(&value["activation"]))
        };
        let expected = case["paths"].as_array().unwrap().iter().map(|path| {
            let (end, steps) = path.as_array().unwrap().split_last().unwrap();
            assert_eq!(end["token"], "**END**");
            (steps.iter().map(step).collect(), number(&end["activation"]))
        });
        let found = graph(case)
            .to_patterns()
            .map(|pattern| {
                let text = |symbol: &Symbol| match symbol {
                    Symbol::Token(token) => token.text.to_string(),
                    _ => "**IGNORE**".to_owned(),
                };
                let steps = pattern.elements.iter().map(|step| (text(&step.symbol), step.importance, step.activation));
                (steps.collect(), pattern.ends)
            })
            .collect();
        assert_eq!(sorted(found), sorted(expected.collect()), "case {i}");
    }
}

#[test]
fn predictions_are_those_of_the_reference() {
    for (i, case) in cases().iter().enumerate() {
        let matcher = Matcher::of(&graph(case), Semantics::Greedy).unwrap();
        for query in case["queries"].as_array().unwrap() {
            let tokens: Vec<u32> = tokens(&query["tokens"]).iter().filter_map(|token| token.id).collect();
            let mut found = Vec::new();
            matcher.simulate(&tokens, &mut found);
            assert_eq!(found, numbers(&query["activations"]), "case {i}");
        }
    }
}
