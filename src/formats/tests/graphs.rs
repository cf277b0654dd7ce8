//! Formats: written graphs are read back, examples of the originals are read, and other texts are refused.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use neuroql_formats::graphs::{dot, n2g_rs, openai};
use neuroql_graph::formats::{json, paths, store};
use neuroql_graph::{Builder, Element, Error, Graph, Kind, Node, Pattern, Policy, Symbol, Token};
use proptest::prelude::*;

fn text(id: u32) -> Arc<str> {
    format!("<{id}>").into()
}

fn graph(patterns: &[(Vec<Symbol>, f32)]) -> Graph {
    let mut builder = Builder::new(Policy::Max);
    for (symbols, ends) in patterns {
        let element = |symbol: &Symbol| Element { symbol: symbol.clone(), importance: 0.8, activation: 0.0 };
        builder.insert(&Pattern { elements: symbols.iter().map(element).collect(), ends: *ends }).unwrap();
    }
    builder.build().unwrap()
}

/// Fills in the activations of a graph as formats without them do.
fn filled(graph: &Graph, change: impl Fn(&Node, f32) -> Node) -> Graph {
    let mut greatest: Vec<f32> = graph.nodes().iter().map(|node| node.ends.unwrap_or(0.0)).collect();
    for (i, node) in graph.nodes().iter().enumerate().rev() {
        if let Some(parent) = node.parent {
            greatest[parent as usize] = greatest[parent as usize].max(greatest[i]);
        }
    }
    let changed = graph.nodes().iter().zip(greatest).map(|(node, greatest)| {
        let activation = if node.parent.is_none() { greatest } else { 0.0 };
        change(node, activation)
    });
    Graph::new(changed.collect()).unwrap()
}

fn unbound(node: &Node) -> Symbol {
    match &node.symbol {
        Symbol::Token(token) => Symbol::Token(Token { id: None, text: token.text.clone() }),
        other => other.clone(),
    }
}

/// Graphs of patterns that are all different, whose support is therefore the number of ends.
fn graphs(symbols: impl Strategy<Value = Symbol>) -> impl Strategy<Value = Graph> {
    let ends = prop::sample::select(vec![0.1f32, 0.25, 0.5, 0.7, 1.3]);
    prop::collection::hash_map(prop::collection::vec(symbols, 1..5), ends, 0..8)
        .prop_map(|patterns| graph(&patterns.into_iter().collect::<Vec<_>>()))
}

fn tokens() -> impl Strategy<Value = Symbol> {
    (0..5u32).prop_map(|id| Symbol::token(id, text(id)))
}

proptest! {
    #[test]
    fn json_keeps_everything(graph in graphs(prop_oneof![
        4 => tokens(),
        1 => "\\PC{0,3}".prop_map(|text| Symbol::Token(Token { id: None, text: text.into() })),
        1 => Just(Symbol::Any),
        1 => any::<u16>().prop_map(Symbol::Gap),
        1 => Just(Symbol::Start),
    ])) {
        prop_assert_eq!(json::parse(&json::print(&graph).unwrap()), Ok(graph));
    }

    #[test]
    fn paths_come_back(graph in graphs(prop_oneof![3 => tokens(), 1 => Just(Symbol::Any)])) {
        let unbound = Graph::new(graph.nodes().iter().map(|node| Node { symbol: unbound(node), ..node.clone() }).collect());
        prop_assert_eq!(paths::parse(&paths::print(&graph).unwrap()), unbound);
    }

    #[test]
    fn openai_comes_back(graph in graphs(prop_oneof![3 => tokens(), 1 => Just(Symbol::Any), 1 => Just(Symbol::Start)])) {
        let expected = filled(&graph, |node, activation| {
            Node { symbol: unbound(node), importance: 0.0, activation, ..node.clone() }
        });
        prop_assert_eq!(openai::parse(&openai::print(&graph, 1.0).unwrap(), 1.0), Ok(expected));
    }

    #[test]
    fn n2g_rs_comes_back(graph in graphs(prop_oneof![3 => tokens(), 1 => Just(Symbol::Any)])) {
        let expected: Vec<_> = filled(&graph, |node, activation| Node { activation, ..node.clone() }).to_patterns().collect();
        let sorted = |graph: &Graph| {
            let mut patterns: Vec<_> = graph.to_patterns().collect();
            patterns.sort_by_key(|pattern| expected.iter().position(|other| other == pattern));
            patterns
        };
        let read = n2g_rs::parse_json(&n2g_rs::print_json(&graph).unwrap(), text).unwrap();
        prop_assert_eq!(&sorted(&read), &expected);
        prop_assert_eq!(read.nodes().len(), graph.nodes().len());
        let read_binary = n2g_rs::parse_binary(&n2g_rs::print_binary(&graph).unwrap(), text).unwrap();
        prop_assert_eq!(&read_binary, &read);
        let list = n2g_rs::print_binary_list([None, Some(&graph)]).unwrap();
        prop_assert_eq!(n2g_rs::parse_binary_list(&list, text), Ok(vec![None, Some(read)]));
    }

    #[test]
    fn labels_come_back(texts in prop::collection::hash_set("[^\\[\\]\"'\\\\]{1,4}|  ?|\"a", 1..6)) {
        let patterns: Vec<_> = texts.iter().map(|text| {
            (vec![Symbol::Token(Token { id: None, text: text.as_str().into() })], 1.0)
        }).collect();
        let graph = graph(&patterns);
        let read = dot::parse(&dot::print(&graph, dot::Thresholds::default()), dot::Thresholds::default()).unwrap();
        let symbols = |graph: &Graph| graph.nodes().iter().map(|node| node.symbol.clone()).collect::<Vec<_>>();
        prop_assert_eq!(symbols(&read), symbols(&graph));
    }

    #[test]
    fn nonsense_is_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), near in "[\\[\\]{}\"a:,<>=\\-0-9 \\\\]{0,40}") {
        let _ = n2g_rs::parse_binary(&bytes, text);
        let _ = n2g_rs::parse_binary_list(&bytes, text);
        let _ = dot::parse(&format!("digraph {{ {near} }}"), dot::Thresholds::default());
        let _ = openai::parse(&format!("{{\"trie\":{{{near}}}}}"), 1.0);
        let _ = (json::parse(&near), paths::parse(&near), store::parse(&near), n2g_rs::parse_json(&near, text));
    }
}

fn letters(text: &str) -> Vec<Symbol> {
    let symbol = |letter: char| match letter {
        '*' => Symbol::Any,
        '^' => Symbol::Start,
        letter => Symbol::token(letter as u32, letter.to_string()),
    };
    text.chars().map(symbol).collect()
}

#[test]
fn n2g_rs_example() {
    let json = r#"{"louds":{"lbs":{"byte_vec":[182,32],"bit_len":13,"chunks":{"chunks":[],"chunks_cnt":2},
        "table":{"bit_length":1,"table":[0,1]}}},"tokens":[
        {"token":{"token":4294967295},"end_node":null,"importance":null},
        {"token":{"token":4294967295},"end_node":null,"importance":null},
        {"token":{"token":41},"end_node":null,"importance":1.0},
        {"token":{"token":43},"end_node":0.4,"importance":1.0},
        {"token":{"token":52},"end_node":0.6,"importance":0.9},
        {"token":{"token":4294967295},"end_node":null,"importance":0.1},
        {"token":{"token":52},"end_node":0.7,"importance":0.8}]}"#;
    let graph = n2g_rs::parse_json(json, text).unwrap();
    let shape: Vec<_> = graph.nodes().iter().map(|node| (node.parent, node.symbol.clone(), node.ends)).collect();
    let token = |id| Symbol::token(id, text(id));
    assert_eq!(
        shape,
        [
            (None, token(41), None),
            (Some(0), token(52), Some(0.6)),
            (Some(0), Symbol::Any, None),
            (Some(2), token(52), Some(0.7)),
            (None, token(43), Some(0.4)),
        ]
    );
    let written = n2g_rs::print_json(&graph).unwrap();
    for part in [
        r#"{"louds":{"lbs":{"byte_vec":[182,32],"bit_len":13,"chunks":{"chunks":[{"value":5,"blocks":{"blocks":[{"value":1,"length":1},"#,
        r#"],"blocks_cnt":9}},"#,
        r#"],"chunks_cnt":2},"table":{"bit_length":1,"table":[0,1]}}},"tokens":[{"token":{"token":4294967295},"end_node":null,"importance":null},"#,
    ] {
        assert!(written.contains(part), "{part} in {written}");
    }
    assert_eq!(n2g_rs::print_binary(&graph).unwrap().len(), 109);
    let missing = json.replace("[182,32]", "[182,16]");
    assert!(matches!(n2g_rs::parse_json(&missing, text), Err(Error::Malformed { .. })));
    assert!(matches!(n2g_rs::print_json(&self::graph(&[(letters("a^"), 1.0)])), Err(Error::Inexpressible { .. })));
}

#[test]
fn openai_example() {
    let read =
        openai::parse(r#"{"trie": {"c": {"b": {"token(*)": {"token(^)": {"<saliency>": 1.5}}}}}}"#, 3.0).unwrap();
    let pattern = read.to_patterns().next().unwrap();
    assert_eq!(pattern.elements.iter().map(|element| unbound_symbol(&element.symbol)).collect::<String>(), "cb*^");
    assert_eq!((pattern.ends, read.nodes()[0].activation), (0.5, 0.5));
    let deep = |depth| format!("{{\"trie\":{}{}{}}}", "{\"a\":".repeat(depth), "{\"<saliency>\":1}", "}".repeat(depth));
    assert_eq!(openai::parse(&deep(4096), 1.0).unwrap().nodes().len(), 4096);
    assert!(matches!(openai::parse(&deep(4097), 1.0), Err(Error::TooLarge { .. })));
    assert!(matches!(openai::parse(&deep(1_000_000), 1.0), Err(Error::TooLarge { .. })));
    for bad in [
        "",
        "{",
        "{\"trie\":{}",
        "{\"trie\":{}}}",
        "{\"trie\":{\"a\":3}}",
        "{\"trie\":{\"<saliency>\":3}}",
        "{\"x\":{}}",
    ] {
        assert!(matches!(openai::parse(bad, 1.0), Err(Error::Malformed { .. })), "{bad}");
    }
}

fn unbound_symbol(symbol: &Symbol) -> String {
    match symbol {
        Symbol::Token(token) => token.text.to_string(),
        Symbol::Any => "*".to_owned(),
        Symbol::Gap(_) => "_".to_owned(),
        Symbol::Start => "^".to_owned(),
    }
}

#[test]
fn drawings() {
    let node = |parent, token: &str, importance, activation, ends| Node {
        parent,
        symbol: Symbol::Token(Token { id: None, text: token.into() }),
        importance,
        activation,
        ends,
        support: 1,
    };
    let any = Node { symbol: Symbol::Any, ..node(Some(0), "", 0.1, 0.2, None) };
    let nodes = vec![
        node(None, " c", 1.0, 0.9, None),
        any,
        node(Some(1), "a", 1.0, 0.0, Some(0.9)),
        node(None, "d", 1.0, 1.0, Some(0.7)),
        node(Some(3), "a", 0.0, 0.0, Some(0.7)),
    ];
    let graph = Graph::new(nodes).unwrap();
    let drawn = dot::print(&graph, dot::Thresholds::default());
    let expected = r##"digraph {
	graph [nodesep=0.2 rankdir=RL ranksep=1.5 splines=spline]
	node [fixedsize=true height=0.75 width=2]
	subgraph cluster_1 {
		pencolor=white penwidth=3
		1 [label=" c" fillcolor="#ff2525" fontcolor=black fontsize=25 penwidth=3 shape=box style="filled,solid"]
		2 [label=d fillcolor="#ff0000" fontcolor=black fontsize=25 penwidth=7 shape=box style="filled,solid"]
	}
	subgraph cluster_0 {
		pencolor=white penwidth=3
		3 [label=a fillcolor="#0000ff" fontcolor=white fontsize=25 penwidth=7 shape=box style="filled,solid"]
	}
	1 -> 3 [dir=back penwidth=3]
	2 -> 3 [dir=back penwidth=3]
}
"##;
    assert_eq!(drawn, expected);
    let read = dot::parse(&drawn, dot::Thresholds::default()).unwrap();
    let found: Vec<_> = read
        .nodes()
        .iter()
        .map(|node| {
            (
                node.parent,
                unbound_symbol(&node.symbol),
                (node.activation * 100.0).round(),
                node.importance,
                node.ends.is_some(),
            )
        })
        .collect();
    let token = |text: &str| text.to_owned();
    assert_eq!(
        found,
        [
            (None, token(" c"), 90.0, 1.0, false),
            (Some(0), token("a"), 0.0, 1.0, true),
            (None, token("d"), 100.0, 1.0, true),
            (Some(2), token("a"), 0.0, 1.0, true),
        ]
    );
}

#[test]
fn drawings_of_others() {
    let parse = |text: &str| dot::parse(text, dot::Thresholds::default());
    // Old versions wrote tokens without quotes, even with special characters.
    for (label, token) in [("<p>", "<p>"), ("don't;", "don't;"), ("x]", "x]"), ("a=b", "a=b"), ("\\u00e9", "é")] {
        let read = parse(&format!("digraph {{ 1 [label={label} fillcolor=\"#ff2525\" shape=box] }}")).unwrap();
        assert_eq!(unbound_symbol(&read.nodes()[0].symbol), token);
    }
    assert_eq!(unbound_symbol(&parse("digraph{1[label=a]}").unwrap().nodes()[0].symbol), "a");
    // Edges of the Rust port lead to the activators.
    let read = parse("digraph g { rankdir=LR; /* nodes */ b [label=\"b\"]; a -> b; // end\n }").unwrap();
    assert_eq!(read.nodes().iter().map(|node| unbound_symbol(&node.symbol)).collect::<String>(), "ba");
    assert_eq!(read.patterns(), 1);
    for bad in [
        "",
        "graph {}",
        "digraph {",
        "digraph { a -> b -> a }",
        "digraph { c; a -> b -> a }",
        "digraph { a [fillcolor=\"#é1\"] }",
        "digraph { a [label=\"",
        "digraph { -> }",
    ] {
        assert!(matches!(parse(bad), Err(Error::Malformed { .. })), "{bad}");
    }
    let ladder: String = (0..60)
        .map(|i| format!("a{i} -> {{}} ").replace("{}", &format!("b{i} a{i} -> c{i} b{i} -> a{0} c{i} -> a{0}", i + 1)))
        .collect();
    assert!(matches!(parse(&format!("digraph {{ {ladder} }}")), Err(Error::TooLarge { .. })));
}

#[test]
fn trajectories() {
    let step = |token: &str, important: bool| {
        format!(r#"{{"token":"{token}","important":{important},"normalised_activation":0.8,"importance":0.1}}"#)
    };
    let steps = [step("c", true), step("x", false), step("a", true), step("y", false)].join(",");
    let read = paths::parse(&format!(r#"[{{"trajectory":[{steps}],"is_augmented":false}}]"#)).unwrap();
    let pattern = read.to_patterns().next().unwrap();
    assert_eq!(pattern.elements.iter().map(|element| unbound_symbol(&element.symbol)).collect::<String>(), "c*a");
    assert_eq!(pattern.ends, 0.8);
    assert!(matches!(paths::parse(r#"[[{"token":"a","importance":1,"activation":1}]]"#), Err(Error::Malformed { .. })));
}

#[test]
fn stores() {
    let graph = graph(&[(letters("c*a"), 0.5), (letters("cb"), 0.5), (letters("b"), 0.5)]);
    let mut entries = store::entries(3, 12, &graph, 0.5);
    entries.extend(store::entries(0, 7, &graph, 0.5));
    let text = store::print(&entries).unwrap();
    assert!(text.starts_with("{\n  \"activating\": {\n    \"b\": [\n      \"0_7\",\n      \"3_12\"\n    ],"), "{text}");
    let read = store::parse(&text).unwrap();
    let of_a: Vec<_> =
        read.iter().filter(|entry| entry.token == "a").map(|entry| (entry.role, entry.layer, entry.neuron)).collect();
    assert_eq!(of_a, [(Kind::Context, 0, 7), (Kind::Context, 3, 12)]);
    assert_eq!(read.len(), entries.len());
    assert!(matches!(store::parse(r#"{"activating":{"a":["3-1"]}}"#), Err(Error::Malformed { .. })));
}

#[test]
fn large_inputs_are_read_or_refused_soon() {
    let node = |parent: &str, id: u32| {
        format!(
            r#"{{"parent":{parent},"kind":"token","id":{id},"token":"a","importance":1,"activation":1,"ends":1,"support":1}}"#
        )
    };
    let file = |nodes: Vec<String>| format!(r#"{{"version":1,"nodes":[{}]}}"#, nodes.join(","));
    let start = std::time::Instant::now();
    let many = 200_000;
    let wide = json::parse(&file((0..many).map(|id| node("null", id)).collect())).unwrap();
    assert_eq!(wide.nodes().len(), many as usize);
    let binary = n2g_rs::print_binary(&wide).unwrap();
    assert_eq!(n2g_rs::parse_binary(&binary, text).unwrap().patterns(), wide.patterns());
    assert_eq!(openai::print(&wide, 1.0).unwrap().matches("saliency").count(), wide.patterns());
    let deep =
        file((0..many).map(|id| node(&id.checked_sub(1).map_or("null".to_owned(), |id| id.to_string()), id)).collect());
    assert!(matches!(json::parse(&deep), Err(Error::TooLarge { .. })));
    let circle = file((0..many).map(|id| node(&((id + 1) % many).to_string(), id)).collect());
    assert_eq!(json::parse(&circle), Err(Error::Cycle(0)));
    let edges: String = (0..many).map(|id| format!("{id} -> {} ", id + 1)).collect();
    assert!(dot::parse(&format!("digraph {{ {edges} }}"), dot::Thresholds::default()).is_err());
    // 2⁴⁰ paths that all spell the same.
    let nodes: String = (0..80).map(|node| format!("n{node} [label=\"x\"]; ")).collect();
    let layers =
        (0..39).flat_map(|layer| [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(a, b)| (2 * layer + a, 2 * layer + 2 + b)));
    let edges: String = layers.map(|(from, to)| format!("n{from} -> n{to}; ")).collect();
    assert!(dot::parse(&format!("digraph {{ {nodes} {edges} }}"), dot::Thresholds::default()).is_err());
    let open = "[".repeat(many as usize);
    assert!(json::parse(&open).is_err() && paths::parse(&open).is_err() && n2g_rs::parse_json(&open, text).is_err());
    assert!(start.elapsed().as_secs() < 60);
}
