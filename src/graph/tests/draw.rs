//! Drawings of graphs: they are well formed for any tokens, and show patterns of the trie and no others.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeSet, HashMap};

use neuroql_graph::draw::{DrawOptions, Theme, dot, mermaid, svg, text};
use neuroql_graph::{Alternative, Display, DisplayKind, Graph, Node, Skip, Symbol, Token, simplify};
use proptest::prelude::*;

/// The graph of patterns, each as it stands in a text.
fn graph(patterns: &[(Vec<Symbol>, f32)]) -> Graph {
    let mut nodes: Vec<Node> = Vec::new();
    let mut known: HashMap<(Option<u32>, Symbol), u32> = HashMap::new();
    for (pattern, ends) in patterns {
        let mut parent = None;
        for symbol in pattern.iter().rev() {
            let at = *known.entry((parent, symbol.clone())).or_insert(nodes.len() as u32);
            if at as usize == nodes.len() {
                let symbol = symbol.clone();
                nodes.push(Node { parent, symbol, importance: *ends, activation: *ends, ends: None, support: 1 });
            }
            parent = Some(at);
        }
        if let Some(last) = parent {
            nodes[last as usize].ends = Some(*ends);
        }
    }
    Graph::new(nodes).unwrap()
}

/// A pattern of words: `*`, `{5}` and `^` are wildcards.
fn pattern(words: &str) -> Vec<Symbol> {
    let symbol = |word: &str| match word {
        "*" => Symbol::Any,
        "{5}" => Symbol::Gap(5),
        "^" => Symbol::Start,
        word => Symbol::token(word.bytes().map(u32::from).sum(), word.replace('_', " ")),
    };
    words.split_whitespace().map(symbol).collect()
}

fn imports() -> Graph {
    let patterns = [
        ("import _numpy _as _np", 0.97),
        ("import * _as _np", 0.9),
        ("^ {5} import _torch", 0.93),
        ("from _torch", 0.93),
        ("\"<&> ]]> #1. _end", 0.7),
        ("日本 語", 0.61),
    ];
    graph(&patterns.map(|(words, ends)| (pattern(words), ends)))
}

/// A part of a drawn pattern: a token, the start, or a number of skipped tokens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Word(String),
    Start,
    Skip(Skip),
}

fn push(parts: &mut Vec<Part>, part: Part) {
    match (parts.last_mut(), part) {
        (_, Part::Skip(skip)) if skip.is_none() => {}
        (Some(Part::Skip(before)), Part::Skip(skip)) => {
            *before = Skip { least: before.least + skip.least, most: before.most + skip.most };
        }
        (_, part) => parts.push(part),
    }
}

/// The complete patterns of a trie.
fn patterns(graph: &Graph) -> BTreeSet<Vec<Part>> {
    let mut patterns = BTreeSet::new();
    for pattern in graph.nodes().iter().filter(|node| node.ends.is_some()) {
        let mut parts = Vec::new();
        let mut next = Some(pattern);
        while let Some(node) = next {
            push(
                &mut parts,
                match &node.symbol {
                    Symbol::Token(token) => Part::Word(token.text.to_string()),
                    Symbol::Any => Part::Skip(Skip { least: 1, most: 1 }),
                    Symbol::Gap(most) => Part::Skip(Skip { least: 0, most: u32::from(*most) }),
                    Symbol::Start => Part::Start,
                },
            );
            next = node.parent.map(|parent| &graph.nodes()[parent as usize]);
        }
        patterns.insert(parts);
    }
    patterns
}

/// The paths from complete nodes to activators.
fn paths(display: &Display) -> BTreeSet<Vec<Part>> {
    let mut paths = BTreeSet::new();
    let mut stack: Vec<(usize, Vec<Part>)> =
        (0..display.nodes.len()).filter(|i| display.nodes[*i].complete).map(|i| (i, Vec::new())).collect();
    while let Some((i, parts)) = stack.pop() {
        let node = &display.nodes[i];
        let own: Vec<Part> = match node.kind {
            DisplayKind::Activator | DisplayKind::Context => {
                node.tokens.iter().map(|shown| Part::Word(shown.token.text.to_string())).collect()
            }
            DisplayKind::Wildcard(skip) => vec![Part::Skip(skip)],
            DisplayKind::Start => vec![Part::Start],
            DisplayKind::Rest => panic!("patterns were short"),
        };
        for part in own {
            let mut parts = parts.clone();
            push(&mut parts, part);
            push(&mut parts, Part::Skip(node.skip));
            stack.extend(node.towards.iter().map(|to| (*to as usize, parts.clone())));
            if node.towards.is_empty() {
                paths.insert(parts);
            }
        }
    }
    paths
}

fn symbols() -> impl Strategy<Value = Symbol> {
    let words = prop::sample::select(vec!["a", " a", "A", "b", "c", " d"]);
    prop_oneof![
        6 => words.prop_map(|word| Symbol::token(word.bytes().map(u32::from).sum(), word)),
        2 => Just(Symbol::Any),
        1 => (0..3_u16).prop_map(Symbol::Gap),
        1 => Just(Symbol::Start),
    ]
}

fn odd_symbols() -> impl Strategy<Value = Symbol> {
    let odd =
        prop::sample::select(vec!["\n", "\"", "\\", "\u{202e}", "]]>", "\u{0}", "#quot;", "&lt;", "\u{fffe}", ""]);
    let texts = prop_oneof![any::<String>(), odd.prop_map(str::to_owned)];
    prop_oneof![8 => texts.prop_map(|text| Symbol::token(0, text)), 1 => symbols()]
}

fn graphs(symbols: impl Strategy<Value = Symbol>) -> impl Strategy<Value = Graph> {
    let pattern = (prop::collection::vec(symbols, 1..6), (0..50_u8).prop_map(|i| 0.5 + f32::from(i) / 100.0));
    prop::collection::vec(pattern, 0..30).prop_map(|patterns| graph(&patterns))
}

/// Asserts that quotes are closed on each line, and that only graphic ASCII is outside of them.
fn assert_quotes_closed(dot: &str) {
    for line in dot.lines() {
        let mut quoted = false;
        let mut chars = line.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' if quoted => {
                    chars.next();
                }
                '"' => quoted = !quoted,
                c => assert!(quoted || c.is_ascii_graphic() || c == ' ', "{c:?} in {line}"),
            }
        }
        assert!(!quoted, "{line}");
    }
}

proptest! {
    #[test]
    fn what_is_drawn_is_in_the_trie(graph in graphs(symbols()), max_nodes in 1..100_usize) {
        let display = simplify(&graph, max_nodes);
        let (patterns, paths) = (patterns(&graph), paths(&display));
        prop_assert!(paths.is_subset(&patterns), "{:?}", paths.difference(&patterns).collect::<Vec<_>>());
        if display.hidden == 0 {
            prop_assert_eq!(paths, patterns);
        } else {
            prop_assert!(!paths.is_empty() && display.hidden < graph.patterns());
            // The longest patterns have six symbols, and one pattern is drawn whatever the limit.
            prop_assert!(display.nodes.len() <= max_nodes.max(6));
        }
        for (i, node) in display.nodes.iter().enumerate() {
            prop_assert!(node.towards.iter().all(|to| display.nodes[*to as usize].depth + 1 == node.depth));
            prop_assert!(node.towards.iter().all(|to| (*to as usize) < i));
        }
    }

    #[test]
    fn any_tokens_can_be_drawn(graph in graphs(odd_symbols()), title in any::<Option<String>>(), max_nodes in 1..50_usize) {
        let options = DrawOptions { title, max_nodes, ..DrawOptions::default() };
        let svg = svg(&graph, &options);
        let xml = roxmltree::Document::parse(&svg).map_err(|error| TestCaseError::fail(format!("{error}: {svg}")))?;
        prop_assert!(xml.descendants().filter(|node| node.has_tag_name("rect")).count() > simplify(&graph, max_nodes).nodes.len());
        assert_quotes_closed(&dot(&graph, &options));
        let titled = usize::from(options.title.as_ref().is_some_and(|title| !title.is_empty()));
        let lines = text(&graph, &options).lines().count();
        prop_assert!((titled + usize::from(graph.patterns() > 0)..=titled + graph.patterns()).contains(&lines));
        let chart = mermaid(&graph, &options);
        for line in chart.lines().skip(3 * titled) {
            prop_assert!(line.matches('"').count() % 2 == 0 && !line.contains(char::is_control), "{}", line);
        }
    }
}

#[test]
fn a_text_reads_from_left_to_right() {
    let lines = [
        r#"import " numpy" " as" " np" → 0.97"#,
        r#"from " torch" → 0.93"#,
        r#"^ {0,5} import " torch" → 0.93"#,
        r#"import * " as" " np" → 0.90"#,
        r##""\"<&>" ]]> #1. " end" → 0.70"##,
        "日本 語 → 0.61",
    ];
    let drawn = text(&imports(), &DrawOptions::default());
    assert_eq!(drawn.lines().collect::<BTreeSet<_>>(), lines.into_iter().collect());
    assert_eq!(drawn.lines().next(), Some(lines[0]));
    let two = DrawOptions { title: Some("one\ntwo".into()), max_patterns: 1, ..DrawOptions::default() };
    assert_eq!(text(&imports(), &two), format!("one\\ntwo\n{}\n+5 patterns", lines[0]));
}

#[test]
fn patterns_that_differ_in_one_token_share_a_line() {
    let lines = |patterns: &[(&str, f32)]| {
        let patterns: Vec<_> = patterns.iter().map(|(words, ends)| (pattern(words), *ends)).collect();
        text(&graph(&patterns), &DrawOptions::default())
    };
    let both = [("import _np", 0.9), ("import _pd", 0.8), ("from _np", 0.75), ("from _pd", 0.7), ("use _pt", 0.5)];
    assert_eq!(lines(&both), "(from | import) (\" np\" | \" pd\") → 0.70–0.90\nuse \" pt\" → 0.50");
    // Contexts of different lengths, and those that predict nothing else, stay apart.
    assert_eq!(lines(&[("a b", 0.9), ("c * b", 0.9), ("b", 0.9)]), "b → 0.90\na b → 0.90\nc * b → 0.90");
    assert_eq!(lines(&[("a", 0.9), ("b", 0.8), ("c", 0.6), ("d", 0.5)]), "(a | b) → 0.80–0.90\n(c | d) → 0.50–0.60");
    let digits: Vec<String> = (0..10).map(|digit| format!("x{digit} {digit}")).collect();
    let same: Vec<(String, f32)> = (0..10).map(|digit| (format!("v {digit}"), 0.75)).collect();
    let same: Vec<(&str, f32)> = same.iter().map(|(words, ends)| (words.as_str(), *ends)).collect();
    assert_eq!(lines(&same), "v [0-9] → 0.75");
    assert_eq!(lines(&[("_a z", 0.5), ("_b z", 0.5), ("_c z", 0.5), ("q z", 0.5)]), "(\" \"[a-c] | q) z → 0.50");
    let apart: Vec<(&str, f32)> = digits.iter().map(|words| (words.as_str(), 0.5)).collect();
    assert_eq!(lines(&apart).lines().count(), 10);
}

#[test]
fn wildcard_characters_are_quoted_as_tokens() {
    let words = ["*", "^", "{0,5}", "→", "|", "(a", "a)", "[a-z]", "", "\u{301}", "a\tb", "plain"]
        .map(|word| Symbol::token(1, word));
    let drawn = text(&graph(&[(words.to_vec(), 0.5)]), &DrawOptions::default());
    assert_eq!(drawn, r#""*" "^" "{0,5}" "→" "|" "(a" "a)" "[a-z]" "" "\u0301" "a\tb" plain → 0.50"#);
}

#[test]
fn an_svg_has_all_labels_and_tooltips() {
    let options = DrawOptions { title: Some("toy & <co>".into()), ..DrawOptions::default() };
    let svg = svg(&imports(), &options);
    let xml = roxmltree::Document::parse(&svg).unwrap();
    let of = |tag: &str| -> BTreeSet<String> {
        let nodes = xml.descendants().filter(|node| node.has_tag_name(tag));
        nodes.map(|node| node.descendants().filter_map(|n| n.text().filter(|_| n.is_text())).collect()).collect()
    };
    let labels = of("text");
    for label in
        ["import", "␣numpy", "␣as", "␣np", "start", "≤5", "·1", "\"<&>", "]]>", "#1.", "日本", "語", "toy & <co>"]
    {
        assert!(labels.contains(label), "{label} in {labels:?}");
    }
    let tooltips = of("title");
    let np = "\" np\" (317): activation 0.97, importance 0.97, support 1";
    assert!(tooltips.contains(np), "{tooltips:?}");
    assert!(tooltips.iter().any(|tooltip| tooltip.ends_with("up to 5 tokens skipped after it")), "{tooltips:?}");
    // Activators stand in one column, right of all others.
    let bold = xml.descendants().filter(|node| node.attribute("stroke-width") == Some("3")).count();
    assert_eq!(bold, 6 + 1, "six complete patterns, one sign in the legend");
}

#[test]
fn nodes_of_several_tokens_are_one_box() {
    // (" of" | " in") before " the" and before " a", which predict other things.
    let patterns = [("_of _the", 0.9), ("_of _a", 0.6)];
    let trie = graph(&patterns.map(|(words, ends)| (pattern(words), ends)));
    let other = |node| {
        let token = Token { id: Some(7), text: " in".into() };
        Alternative { node, token, importance: 0.5, activation: 0.5, support: 1 }
    };
    let sets = Graph::with_alternatives(trie.nodes().to_vec(), vec![other(1), other(3)]).unwrap();
    let boxes = |graph: &Graph| -> Vec<Vec<String>> {
        let tokens = |node: neuroql_graph::DisplayNode| node.tokens.iter().map(|t| t.token.text.to_string()).collect();
        simplify(graph, 120).nodes.into_iter().map(tokens).collect()
    };
    assert_eq!(boxes(&sets), [vec![" the"], vec![" a"], vec![" of", " in"]]);
    assert_eq!(boxes(&sets.expanded()), [vec![" the"], vec![" a"], vec![" of"], vec![" in"]]);
    assert_eq!(text(&sets, &DrawOptions::default()), text(&sets.expanded(), &DrawOptions::default()));
}

#[test]
fn charts_name_their_nodes() {
    let options = DrawOptions { title: Some("a \"b\"".into()), ..DrawOptions::default() };
    let chart = mermaid(&imports(), &options);
    assert!(chart.starts_with("---\ntitle: \"a \\\"b\\\"\"\n---\nflowchart LR\n  n0[\"␣np\"]\n"), "{chart}");
    assert!(chart.contains("[\"#34;#60;#38;#62;\"]") && chart.contains("-->|\"≤5\"|"), "{chart}");
    let dot = dot(&imports(), &options);
    assert!(dot.contains("label=\"a \\\"b\\\"\"") && dot.contains("[label=\"日本\""), "{dot}");
    assert!(dot.contains("label=\"\\\"<&amp;>\"") && dot.contains("rank=same"), "{dot}");
}

#[test]
fn no_graph_is_too_small_or_too_long() {
    let options = DrawOptions::default();
    let of_wildcards = graph(&[(pattern("^ * {5}"), 0.9), (pattern("*"), 0.8)]);
    let chain = graph(&[((0..4096).map(|i| Symbol::token(i, i.to_string())).collect(), 0.9)]);
    for graph in [Graph::default(), of_wildcards, chain.clone()] {
        let svg = svg(&graph, &options);
        roxmltree::Document::parse(&svg).unwrap();
        assert_quotes_closed(&dot(&graph, &options));
        assert!(mermaid(&graph, &options).starts_with("flowchart LR\n"));
    }
    assert_eq!(text(&Graph::default(), &options), "");
    let display = simplify(&chain, 100);
    assert_eq!(display.nodes.last().map(|node| node.kind), Some(DisplayKind::Rest));
    assert_eq!((display.nodes.len(), display.hidden), (25, 1));
}

/// A graph of random shape: no two of its nodes are alike.
fn large(count: u32) -> Graph {
    let node = |i: u32| Node {
        parent: (i >= 20).then(|| i.wrapping_mul(2_654_435_761) % i),
        symbol: Symbol::token(i, format!(" w{i}")),
        importance: 0.9,
        activation: 0.9,
        ends: i.is_multiple_of(3).then_some((i % 500) as f32 / 500.0),
        support: 1,
    };
    Graph::new((0..count).map(node).collect()).unwrap()
}

fn assert_simplified(graph: &Graph) {
    let options = DrawOptions::default();
    let display = simplify(graph, options.max_nodes);
    assert!((options.max_nodes / 2..=options.max_nodes).contains(&display.nodes.len()), "{}", display.nodes.len());
    let strongest = graph.nodes().iter().filter_map(|node| node.ends).fold(0.0, f32::max);
    assert!(display.nodes.iter().any(|node| node.weight.ends.is_some_and(|ends| ends.1 == strongest)));
    let svg = svg(graph, &options);
    assert!(svg.contains(&format!("+{} patterns not drawn", display.hidden)));
    roxmltree::Document::parse(&svg).unwrap();
    assert!(text(graph, &options).ends_with("patterns"));
}

#[test]
fn ten_thousand_nodes_are_simplified() {
    assert_simplified(&large(10_000));
}

#[test]
fn a_million_nodes_are_simplified() {
    assert_simplified(&large(1_000_000));
}

#[test]
fn what_many_tokens_share_is_drawn_once() {
    let mut patterns = Vec::new();
    for i in 0..300 {
        let word = Symbol::token(i, format!(" word{i}"));
        patterns.push((vec![word, Symbol::Any, Symbol::token(1000, " of")], 0.9));
    }
    let graph = graph(&patterns);
    let display = simplify(&graph, 100);
    assert_eq!((display.nodes.len(), display.nodes[1].tokens.len(), display.hidden), (2, 300, 0));
    let svg = svg(&graph, &DrawOptions::default());
    assert!(svg.contains("␣") && svg.contains("and 281 others"), "{svg}");
    // With room for it, every token has its own node.
    assert_eq!(simplify(&graph, 3000).nodes.len(), 301);
}

#[test]
fn themes_and_links() {
    let hostile = graph(&[(pattern("\"><script> _the"), 1.0), (pattern("a \u{202e}x"), 0.9)]);
    for theme in Theme::ALL {
        let options = DrawOptions { theme, link: Some("/search?a=\"<&q=".into()), ..DrawOptions::default() };
        let drawn = svg(&hostile, &options);
        let xml = roxmltree::Document::parse(&drawn).unwrap();
        let links: Vec<_> = xml.descendants().filter(|node| node.tag_name().name() == "a").collect();
        assert_eq!(links.len(), 4);
        for link in &links {
            let address = link.attribute("href").unwrap();
            let query = address.strip_prefix("/search?a=\"<&q=").unwrap();
            assert!(query.starts_with("activating%3A%3D%22") || query.starts_with("important%3A%3D%22"), "{query}");
            assert!(link.attribute("data-tokens").is_some_and(|tokens| tokens.is_ascii() && !tokens.contains('<')));
        }
        assert_eq!(drawn.contains("currentColor"), theme == Theme::Page);
        assert_eq!(Theme::of_name(theme.name()), Some(theme));
    }
    let plain = svg(&hostile, &DrawOptions::default());
    assert!(!plain.contains("<a ") && plain.contains("#ffffff"));
    assert_eq!(Theme::of_name("Light"), None);
}
