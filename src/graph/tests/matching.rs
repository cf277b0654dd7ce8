//! Matching, against definitions written as plainly as possible.

#![allow(clippy::unwrap_used)]

mod letters;

use neuroql_graph::{
    Alternative, Automaton, Builder, Element, Graph, Matcher, Pattern, Policy, Predictions, Semantics, Symbol, Token,
    Validity, View, encode,
};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::letters::symbol;

fn graph(patterns: &[(String, f32)]) -> Graph {
    let mut builder = Builder::new(Policy::Max);
    for (text, ends) in patterns {
        let element = |letter| Element { symbol: symbol(letter), importance: 1.0, activation: 1.0 };
        builder.insert(&Pattern { elements: text.chars().map(element).collect(), ends: *ends }).unwrap();
    }
    builder.build().unwrap()
}

/// A graph some of whose nodes have further tokens, as far as they may.
fn with_others(patterns: &[(String, f32)], others: &[(Index, char)]) -> Graph {
    let graph = graph(patterns);
    let made = |alternatives: &[Alternative]| Graph::with_alternatives(graph.nodes().to_vec(), alternatives.to_vec());
    let mut alternatives: Vec<Alternative> = Vec::new();
    for (node, letter) in others.iter().filter(|_| !graph.is_empty()) {
        let token = Token { id: Some(*letter as u32), text: letter.to_string().into() };
        let node = node.index(graph.nodes().len()) as u32;
        alternatives.push(Alternative { node, token, importance: 1.0, activation: 1.0, support: 1 });
        if made(&alternatives).is_err() {
            alternatives.pop();
        }
    }
    made(&alternatives).unwrap()
}

fn others() -> impl Strategy<Value = Vec<(Index, char)>> {
    prop::collection::vec((any::<Index>(), prop::char::range('a', 'd')), 0..6)
}

/// Symbols of a node.
fn symbols(graph: &Graph, node: u32) -> Vec<Symbol> {
    let others = graph.alternatives_of(node).iter().map(|other| Symbol::Token(other.token.clone()));
    std::iter::once(graph.nodes()[node as usize].symbol.clone()).chain(others).collect()
}

/// The patterns of a graph, one for each way through the tokens of its nodes.
fn ways(graph: &Graph) -> Vec<Pattern> {
    let mut ways = Vec::new();
    for (path, pattern) in graph.paths().zip(graph.to_patterns()) {
        let mut of_path: Vec<Vec<Element>> = vec![Vec::new()];
        for (node, element) in path.into_iter().zip(pattern.elements) {
            let longer = |way: &Vec<Element>| -> Vec<Vec<Element>> {
                let symbols = symbols(graph, node).into_iter();
                let element = |symbol| Element { symbol, ..element.clone() };
                symbols.map(|symbol| way.iter().cloned().chain([element(symbol)]).collect()).collect()
            };
            of_path = of_path.iter().flat_map(longer).collect();
        }
        ways.extend(of_path.into_iter().map(|elements| Pattern { elements, ends: pattern.ends }));
    }
    ways
}

fn of(patterns: &[(&str, f32)]) -> Graph {
    graph(&patterns.iter().map(|(text, ends)| ((*text).to_owned(), *ends)).collect::<Vec<_>>())
}

fn tokens(text: &str) -> Vec<u32> {
    text.chars().map(|letter| letter as u32).collect()
}

fn simulated(graph: &Graph, semantics: Semantics, text: &str) -> Vec<f32> {
    let mut out = Vec::new();
    Matcher::of(graph, semantics).unwrap().simulate(&tokens(text), &mut out);
    out
}

/// Returns true if a pattern matches at the end of a text.
fn matches(pattern: &[Element], text: &[u32]) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return true };
    let shorter = text.split_last();
    match &first.symbol {
        Symbol::Token(token) => shorter.is_some_and(|(last, text)| token.id == Some(*last) && matches(rest, text)),
        Symbol::Any => shorter.is_some_and(|(_, text)| matches(rest, text)),
        Symbol::Gap(most) => {
            (0..=usize::from(*most).min(text.len())).any(|taken| matches(rest, &text[..text.len() - taken]))
        }
        Symbol::Start => text.is_empty() && rest.is_empty(),
    }
}

/// Place of a symbol in the order of preference.
fn preference(symbol: &Symbol) -> (u32, u32) {
    match symbol {
        Symbol::Token(token) => (0, token.id.unwrap()),
        Symbol::Start => (1, 0),
        Symbol::Any => (2, 0),
        Symbol::Gap(most) => (3, u32::from(*most)),
    }
}

/// Predicts with `Longest` or `Max` by trying every pattern.
fn tried(graph: &Graph, semantics: Semantics, text: &[u32]) -> f32 {
    let found = ways(graph).into_iter().filter(|pattern| matches(&pattern.elements, text));
    let best = match semantics {
        Semantics::Max => found.max_by(|one, other| one.ends.total_cmp(&other.ends)),
        _ => found.min_by_key(|pattern| {
            let exactness = pattern.elements.iter().map(|element| preference(&element.symbol)).collect::<Vec<_>>();
            (std::cmp::Reverse(exactness.len()), exactness)
        }),
    };
    best.map_or(0.0, |best| best.ends)
}

/// Predicts with `Greedy` or `Shortest` by walking over the nodes, for graphs without gaps.
fn walked(graph: &Graph, semantics: Semantics, text: &[u32]) -> f32 {
    let (mut at, mut taken, mut result) = (None, 0, 0.0);
    loop {
        let child = |symbol: &dyn Fn(&Symbol) -> bool| {
            let matches = |node: u32| symbols(graph, node).iter().any(symbol);
            graph.nodes().iter().zip(0..).position(|(node, i)| node.parent == at && matches(i))
        };
        let token = text.iter().rev().nth(taken);
        let next = match token {
            Some(id) => child(&|symbol| matches!(symbol, Symbol::Token(token) if token.id == Some(*id)))
                .or_else(|| child(&|symbol| *symbol == Symbol::Any)),
            None => child(&|symbol| *symbol == Symbol::Start),
        };
        let Some(next) = next else { return result };
        (at, taken) = (Some(next as u32), taken + 1);
        if let Some(ends) = graph.nodes()[next].ends {
            result = ends;
            if semantics == Semantics::Shortest {
                return result;
            }
        }
    }
}

fn patterns(letters: &'static str) -> impl Strategy<Value = Vec<(String, f32)>> {
    let ends = prop::sample::select(vec![-0.5f32, 0.0, 0.25, 0.5, 0.75]);
    prop::collection::vec((letters, ends), 0..12)
}

/// Columns of a graph, as a table has them.
struct Columns {
    parents: Vec<i32>,
    ids: Vec<i32>,
    ends: Vec<f32>,
    /// Validity bitmaps of ids, texts and ends.
    bits: [Vec<u8>; 3],
}

const OFFSET: usize = 3;

impl Columns {
    /// Writes further tokens before the nodes, the last first.
    fn of(graph: &Graph) -> Self {
        let first = graph.alternatives().len() as i32;
        let mut rows: Vec<(i32, Symbol, Option<f32>)> = Vec::new();
        for Alternative { node, token, .. } in graph.alternatives().iter().rev() {
            rows.push((-2 - (first + *node as i32), Symbol::Token(token.clone()), None));
        }
        for node in graph.nodes() {
            let parent = node.parent.map_or(-1, |parent| first + parent as i32);
            rows.push((parent, node.symbol.clone(), node.ends));
        }
        let mut bits: [Vec<u8>; 3] = std::array::from_fn(|_| vec![0; (rows.len() + OFFSET).div_ceil(8)]);
        let mut ids = Vec::new();
        for (i, (_, symbol, ends)) in rows.iter().enumerate() {
            let (id, text) = encode(symbol).unwrap();
            ids.push(id.unwrap_or(7));
            for (bits, valid) in bits.iter_mut().zip([id.is_some(), text.is_some(), ends.is_some()]) {
                bits[(i + OFFSET) / 8] |= u8::from(valid) << ((i + OFFSET) % 8);
            }
        }
        let parents = rows.iter().map(|(parent, ..)| *parent).collect();
        Self { parents, ids, ends: rows.iter().map(|(.., ends)| ends.unwrap_or(9.0)).collect(), bits }
    }

    fn view(&self) -> View<'_> {
        let validity = |i: usize| Some(Validity { bytes: &self.bits[i], offset: OFFSET });
        View {
            parents: &self.parents,
            token_ids: &self.ids,
            token_id_validity: validity(0),
            token_validity: validity(1),
            ends: &self.ends,
            ends_validity: validity(2),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn all_matches_count(
        patterns in patterns("[ab*13][abc*13]{0,4}\\^?"),
        others in others(),
        text in "[abcd]{0,9}",
    ) {
        let graph = with_others(&patterns, &others);
        let text_tokens = tokens(&text);
        for semantics in [Semantics::Longest, Semantics::Max] {
            let expected: Vec<f32> = (1..=text.len()).map(|end| tried(&graph, semantics, &text_tokens[..end])).collect();
            prop_assert_eq!(simulated(&graph, semantics, &text), expected, "{:?} {:?}", semantics, graph);
        }
    }

    #[test]
    fn one_way_is_walked(
        patterns in patterns("[abc*][abc*]{0,4}\\^?"),
        others in others(),
        text in "[abcd]{0,9}",
    ) {
        let graph = with_others(&patterns, &others);
        let text_tokens = tokens(&text);
        for semantics in [Semantics::Greedy, Semantics::Shortest] {
            let expected: Vec<f32> = (1..=text.len()).map(|end| walked(&graph, semantics, &text_tokens[..end])).collect();
            prop_assert_eq!(simulated(&graph, semantics, &text), expected, "{:?} {:?}", semantics, graph);
        }
    }

    #[test]
    fn together_as_alone(
        layer in prop::collection::vec((patterns("[abcde*1]?[abc*13]{0,4}\\^?"), others()), 0..8),
        text in "[abcdef]{0,9}",
    ) {
        let graphs: Vec<_> = layer.iter().map(|(patterns, others)| with_others(patterns, others)).collect();
        let columns: Vec<_> = graphs.iter().map(Columns::of).collect();
        for semantics in Semantics::ALL {
            let automaton = Automaton::new(columns.iter().map(Columns::view), semantics).unwrap();
            let mut sparse = Predictions::default();
            automaton.simulate(&tokens(&text), &mut sparse);
            let mut dense = Vec::new();
            automaton.simulate_dense(&tokens(&text), &mut dense);
            for (i, graph) in graphs.iter().enumerate() {
                let alone = simulated(graph, semantics, &text);
                let mut of_columns = Vec::new();
                Matcher::new(columns[i].view(), semantics).unwrap().simulate(&tokens(&text), &mut of_columns);
                prop_assert_eq!(&alone, &of_columns);
                for (at, alone) in alone.iter().enumerate() {
                    prop_assert_eq!(dense[at * graphs.len() + i], *alone);
                    let found: Vec<f32> = sparse.at(at).filter(|hit| hit.0 == i as u32).map(|hit| hit.1).collect();
                    prop_assert!(found.len() <= 1 && found.first().copied().unwrap_or(0.0) == *alone);
                }
            }
        }
    }
}

#[test]
fn semantics_differ_where_patterns_overlap() {
    let graph = of(&[("c*a", 0.9), ("cb", 0.6), ("d", 0.7)]);
    let last = |semantics, text: &str| *simulated(&graph, semantics, text).last().unwrap();
    for (text, greedy, longest) in
        [("qbc", 0.6, 0.6), ("ayc", 0.9, 0.9), ("abc", 0.6, 0.9), ("d", 0.7, 0.7), ("c", 0.0, 0.0)]
    {
        assert_eq!(last(Semantics::Greedy, text), greedy, "{text}");
        assert_eq!(last(Semantics::Longest, text), longest, "{text}");
        assert_eq!(last(Semantics::Max, text), longest, "{text}");
    }
    let graph = of(&[("cb*^", 0.9), ("cba", 0.4), ("cbad", 0.8)]);
    assert_eq!(simulated(&graph, Semantics::Shortest, "abc"), [0.0, 0.0, 0.4]);
    assert_eq!(simulated(&graph, Semantics::Shortest, "dabc"), [0.0, 0.0, 0.0, 0.4]);
    assert_eq!(simulated(&graph, Semantics::Shortest, "xbc"), [0.0, 0.0, 0.9]);
    assert_eq!(simulated(&graph, Semantics::Shortest, "dxbc"), [0.0; 4]);
    assert_eq!(simulated(&graph, Semantics::Greedy, "dabc"), [0.0, 0.0, 0.0, 0.8]);
    assert_eq!(simulated(&graph, Semantics::Longest, "abc"), [0.0, 0.0, 0.9]);
}

#[test]
fn greedy_gaps_take_the_fewest_tokens() {
    let graph = of(&[("c3ab", 0.5), ("c3^", 0.25)]);
    assert_eq!(simulated(&graph, Semantics::Greedy, "baxc")[3], 0.5);
    assert_eq!(simulated(&graph, Semantics::Greedy, "baxac")[4], 0.0);
    assert_eq!(simulated(&graph, Semantics::Longest, "baxac")[4], 0.5);
    assert_eq!(simulated(&graph, Semantics::Greedy, "xxxc")[3], 0.25);
    assert_eq!(simulated(&graph, Semantics::Greedy, "xxxxc")[4], 0.0);
}

#[test]
fn backtracking_takes_polynomial_time() {
    // There are too many ways to match 400 a's to enumerate.
    let graph = of(&[(&"9".repeat(40), 0.5), (&("9a".repeat(40) + "b"), 0.75), (&("*a*".repeat(30) + "b"), 0.75)]);
    let start = std::time::Instant::now();
    assert_eq!(simulated(&graph, Semantics::Longest, &"a".repeat(400)), [0.5; 400]);
    assert!(start.elapsed().as_secs() < 20);
}

#[test]
fn columns_that_are_no_graph_are_refused() {
    let good = Columns::of(&of(&[("ab", 0.5)]));
    let matcher = |parents: &[i32], ids: &[i32]| {
        let view = View { parents, token_ids: ids, token_id_validity: None, token_validity: None, ..good.view() };
        Matcher::new(view, Semantics::Longest).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(matcher(&[-1, 0], &[1, 2]), Ok(()));
    assert_eq!(matcher(&[-1, -2], &[1, 2]), Ok(()));
    for (parents, ids) in [
        ([-1, 1], [1, 2]),
        ([-1, 2], [1, 2]),
        ([-1, -3], [1, 2]),
        ([-1, -2], [1, 1]),
        ([-3, -2], [1, 2]),
        ([-1, -4], [1, 2]),
        ([-1, -1], [1, 1]),
        ([1, 0], [1, 2]),
        ([-1, 0], [1, -4]),
    ] {
        assert!(matcher(&parents, &ids).is_err());
    }
    assert!(matcher(&[-1], &[1, 2]).is_err());
    assert!("shallow".parse::<Semantics>().unwrap_err().to_string().contains("longest, max, greedy, shortest"));
    assert!(Semantics::ALL.iter().all(|semantics| semantics.name().parse() == Ok(*semantics)));
}
