//! Search, against definitions written as plainly as possible.

#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::cmp::Reverse;

use neuroql_graph::search::{
    Evidence, Form, Index, MemoryIndex, Query, Role, Score, SearchResult, Term, normalize, postings,
};
use neuroql_graph::{Builder, Element, Graph, Node, Pattern, Policy, Symbol, Token};
use proptest::prelude::*;

fn query(text: &str) -> Query {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Graph of one pattern, as it stands in a text; `<any>` is any token.
fn chain(tokens: &[&str]) -> Graph {
    let symbol = |text: &&str| match *text {
        "<any>" => Symbol::Any,
        text => Symbol::Token(Token { id: None, text: text.into() }),
    };
    let element = |text| Element { symbol: symbol(text), importance: 1.0, activation: 0.0 };
    let mut builder = Builder::new(Policy::Max);
    builder.insert(&Pattern { elements: tokens.iter().rev().map(element).collect(), ends: 0.5 }).unwrap();
    builder.build().unwrap()
}

fn finds(text: &str, tokens: &[&str]) -> bool {
    query(text).find(&chain(tokens)).is_some()
}

#[test]
fn tokens_are_found_in_their_roles() {
    let graph = chain(&[" From", "<any>", "import"]);
    for (text, is_found) in [
        ("activating:import,important:from", true),
        ("activating:from", false),
        ("any:FROM", true),
        ("\"from import\"", false),
        ("=\" From\"", true),
        ("=From", false),
        ("=\"From\"", false),
        ("fro*", true),
        ("\"fro*\"", false),
        ("\"*\"", false),
        ("NOT from OR import", true),
        ("NOT use", true),
        ("NOT (use OR import)", false),
    ] {
        assert_eq!(query(text).find(&graph).is_some(), is_found, "{text}");
    }
    // A context token on which the neuron fires too.
    let nodes = graph.nodes().iter().map(|node| Node { activation: 0.6, ..node.clone() });
    assert!(query("activating:from").find(&Graph::new(nodes.collect()).unwrap()).is_some());
}

#[test]
fn tokens_of_all_scripts_and_signs_are_found() {
    for token in
        ["a:b", ",", "\"", "(", "*", "=", "\\", "\n", "AND", " ", "日本", "👩\u{200d}🔬", "İ", "\u{301}", "re: \"x\""]
    {
        let term = Query::Term(Term::new(None, Form::Exact, token).unwrap());
        assert_eq!(query(&term.to_string()), term, "{token:?}");
        assert!(term.find(&chain(&[token])).is_some(), "{token:?}");
        assert!(term.find(&chain(&["a"])).is_none(), "{token:?}");
    }
    assert!(finds("ISTANBUL", &[" istanbul"]) && finds("İstanbul", &["i\u{307}STANBUL"]));
    assert!(!finds("istanbul", &["İstanbul"]));
    assert!(finds("caf\u{e9}", &[" CAFE\u{301}"]) && finds("cafe*", &["caf\u{e9}s"]));
    assert!(finds("日本*", &["日本語"]) && finds("한국", &["\u{1112}\u{1161}\u{11ab}국"]));
}

#[test]
fn phrases_are_spelled_by_neighbours() {
    for (text, tokens, is_found) in [
        ("\"united states\"", &[" United", " States"][..], true),
        ("\"united states\"", &[" States", " United"], false),
        ("\"united states\"", &[" Uni", "ted", " ", "Sta", "tes", "man"], true),
        ("\"united states\"", &[" United States"], true),
        ("\"united states\"", &["United", "States"], false),
        ("\"united states\"", &[" United", "<any>", " States"], false),
        ("\"united states\"", &[" United", " Statesman"], false),
        ("\"united states\"*", &[" United", " Statesman"], true),
        ("\"united st\"*", &["x", " united", " s", "t", "ates"], true),
        ("\"united st\"*", &["united", " s"], false),
        ("=\"United States\"", &["United", " States"], true),
        ("=\"United States\"", &[" United", " States"], false),
        ("=\" United States\"", &[" United", " States"], true),
        ("=\"united states\"", &["United", " States"], false),
        ("activating:\"united states\"", &["United", " States"], true),
        ("important:\"united states\"", &["United", " States"], false),
        ("important:\"united states\"", &["United", " States", " of"], true),
        ("\"a\\nb\"", &["a", "\n", "b"], true),
        ("\"a\\nb\"", &["a", " b"], false),
        ("\"der stra\\u00dfe\"", &[" DER", " STRAS", "SE"], true),
        ("\"un caf\\u00e9\"", &["un", " cafe", "\u{301}"], true),
    ] {
        assert_eq!(finds(text, tokens), is_found, "{text} in {tokens:?}");
    }
}

#[test]
fn hits_are_shown_by_their_best_pattern() {
    let mut builder = Builder::new(Policy::Max);
    for (texts, ends) in [(&["np", " as", "import"][..], 0.7), (&["np", " as"], 0.9), (&["y", "import"], 0.6)] {
        let element = |text: &&str| {
            let symbol = Symbol::Token(Token { id: None, text: (*text).into() });
            Element { symbol, importance: 0.8, activation: 0.2 }
        };
        builder.insert(&Pattern { elements: texts.iter().map(element).collect(), ends }).unwrap();
    }
    let graph = builder.build().unwrap();
    let hit = |text: &str| query(text).find(&graph).and_then(Evidence::into_hit).map(|hit| (hit.pattern, hit.node));
    let shown = |pattern: &str, node| Some((pattern.to_owned(), node));
    assert_eq!(hit("np"), shown("\" as\" np → 0.90", 0));
    assert_eq!(hit("import"), shown("import \" as\" np → 0.70", 2));
    assert_eq!(hit("np import"), shown("import \" as\" np → 0.70", 2));
    assert_eq!(hit("y OR np"), shown("\" as\" np → 0.90", 0));
    assert_eq!(hit("\"import as\""), shown("import \" as\" np → 0.70", 2));
    assert_eq!(query("NOT x").find(&graph), Some(Evidence::Absent));
}

#[test]
fn empty_graphs_have_nothing() {
    let empty = Graph::default();
    assert!(postings(&empty).is_empty());
    assert_eq!(query("a OR \"a b\"").find(&empty), None);
    assert_eq!(query("NOT a").find(&empty), Some(Evidence::Absent));
    let index = MemoryIndex::new([(&empty, f32::NAN)]);
    let found = query("NOT a").search(&index, None, |_| Ok::<_, ()>(Vec::new())).unwrap();
    assert_eq!(found, [SearchResult { ordinal: 0, score: None, hit: None }]);
    assert_eq!(query("a").search(&MemoryIndex::default(), Some(1), |_| Err("not loaded")), Ok(Vec::new()));
}

#[test]
fn only_graphs_that_can_be_best_are_looked_at() {
    let graphs: Vec<_> = (0..100).map(|i| chain(&["a", if i % 10 == 3 { "<any>" } else { "a" }, " b"])).collect();
    let index = MemoryIndex::new(graphs.iter().map(|graph| (graph, 0.5)));
    let looked = Cell::new(0);
    let search = |text: &str, limit| {
        looked.set(0);
        let query = query(text);
        let verify = |ordinals: &[u32]| {
            looked.set(looked.get() + ordinals.len());
            Ok::<_, ()>(ordinals.iter().map(|ordinal| query.find(&graphs[*ordinal as usize])).collect())
        };
        let found = query.search(&index, limit, verify).unwrap();
        (found.iter().map(|found| found.ordinal).collect::<Vec<_>>(), looked.get())
    };
    assert_eq!(search("\"a b\"", Some(5)), (vec![0, 1, 2, 4, 5], 15));
    assert_eq!(search("\"a b\"", None).1, 100);
    assert_eq!(search("\"a b\"", Some(0)), (vec![], 0));
    assert_eq!(search("a b", Some(3)), (vec![0, 1, 2], 0));
    assert_eq!(search("b NOT \"a b\"", Some(1)), (vec![3], 7));
    assert_eq!(search("x NOT \"a b\"", None), (vec![], 0));
    let failed = query("\"a b\"").search(&index, Some(1), |ordinals| Err(format!("graphs {ordinals:?} are gone")));
    assert_eq!(failed, Err("graphs [0] are gone".to_owned()));
}

#[test]
fn postings_are_merged_by_text_and_role() {
    let node = |parent, text: &str, importance, ends| Node {
        parent,
        symbol: Symbol::Token(Token { id: None, text: text.into() }),
        importance,
        activation: 0.0,
        ends,
        support: 1,
    };
    let graph = Graph::new(vec![
        node(None, "B", 0.25, None),
        node(Some(0), "a", 0.5, Some(0.5)),
        node(Some(0), " b", 0.75, None),
        node(Some(2), "a", 0.25, Some(0.75)),
        node(None, "c", -0.0, None),
    ]);
    let shown = |graph: &Graph| {
        let show = |p: neuroql_graph::search::Posting| {
            (p.key, p.text.to_string(), p.node, p.score.role, p.score.activation, p.score.importance)
        };
        postings(graph).into_iter().map(show).collect::<Vec<_>>()
    };
    let (a, i) = (Role::Activating, Role::Important);
    let posting = |key: &str, text: &str, node, role, activation, importance| {
        (key.to_owned(), text.to_owned(), node, role, activation, importance)
    };
    let expected = [
        posting("a", "a", 3, i, 0.75, 0.5),
        posting("b", " b", 2, i, 0.75, 0.75),
        posting("b", "B", 0, a, 0.75, 0.25),
        posting("c", "c", 4, a, 0.0, 0.0),
    ];
    assert_eq!(shown(&graph.unwrap()), expected);
}

const TEXTS: [&str; 16] =
    ["a", " a", "A", "b", " b", "ab", " ab", "a b", "b a", " ", "\n", "", "É", "e\u{301}", "e", " a\u{301}b"];

fn graphs() -> impl Strategy<Value = Vec<(Graph, f32)>> {
    let number = |values: &'static [f32]| prop::sample::select(values);
    let symbol = prop_oneof![
        6 => prop::sample::select(&TEXTS[..]).prop_map(|text| Symbol::Token(Token { id: None, text: text.into() })),
        1 => Just(Symbol::Any),
    ];
    let element = (symbol, number(&[-0.0, 0.0, 0.5, 1.0]), number(&[0.0, 0.5, 0.75]))
        .prop_map(|(symbol, importance, activation)| Element { symbol, importance, activation });
    let pattern = (prop::collection::vec(element, 1..5), number(&[-0.5, -0.0, 0.0, 0.5, 1.0]))
        .prop_map(|(elements, ends)| Pattern { elements, ends });
    let graph = (prop::collection::vec(pattern, 0..5), any::<u8>()).prop_map(|(patterns, incomplete)| {
        let mut builder = Builder::new(Policy::Max);
        patterns.iter().for_each(|pattern| builder.insert(pattern).unwrap());
        let mut nodes = builder.build().unwrap().nodes().to_vec();
        if let Some(node) = nodes.get_mut(usize::from(incomplete)) {
            node.ends = None;
        }
        Graph::new(nodes).unwrap()
    });
    prop::collection::vec((graph, number(&[f32::NAN, -0.0, 0.0, 0.5])), 0..20)
}

fn queries() -> impl Strategy<Value = Query> {
    let role = prop::sample::select(vec![None, Some(Role::Activating), Some(Role::Important)]);
    let form = prop::sample::select(vec![Form::Normalized, Form::Prefix, Form::Exact]);
    let words = prop::collection::vec(prop::sample::select(&TEXTS[..]), 1..4).prop_map(|words| words.concat());
    let text = prop_oneof![2 => words, 1 => prop::sample::select(&TEXTS[..]).prop_map(str::to_owned)];
    let term = (role, form, text.prop_filter("empty", |text| !text.is_empty()));
    let term = term.prop_map(|(role, form, text)| Query::Term(Term::new(role, form, text).unwrap()));
    term.prop_recursive(4, 16, 3, |part| {
        let parts = || prop::collection::vec(part.clone(), 2..4);
        prop_oneof![
            parts().prop_map(Query::And),
            parts().prop_map(Query::Or),
            part.clone().prop_map(|part| Query::Not(Box::new(part))),
        ]
    })
}

/// Runs of tokens without wildcards: their texts, and the role of the last.
fn runs(graph: &Graph) -> Vec<(Vec<&str>, Role)> {
    let mut runs = Vec::new();
    for start in 0..graph.nodes().len() {
        let mut texts = Vec::new();
        let mut next = Some(start);
        while let Some(at) = next {
            let node = &graph.nodes()[at];
            let Symbol::Token(token) = &node.symbol else { break };
            texts.push(&*token.text);
            let fires = node.parent.is_none() || node.activation > 0.5;
            runs.push((texts.clone(), if fires { Role::Activating } else { Role::Important }));
            next = node.parent.map(|parent| parent as usize);
        }
    }
    runs
}

/// Returns true if a graph matches, by all runs in it.
fn answers(query: &Query, graph: &Graph) -> bool {
    match query {
        Query::And(parts) => parts.iter().all(|part| answers(part, graph)),
        Query::Or(parts) => parts.iter().any(|part| answers(part, graph)),
        Query::Not(part) => !answers(part, graph),
        Query::Term(term) => runs(graph).iter().any(|(texts, role)| {
            let (text, wanted) = (texts.concat(), term.text());
            let last = texts[texts.len() - 1];
            let before = texts[..texts.len() - 1].concat();
            let complete = |text: &str| match term.form() {
                Form::Exact => text == wanted,
                Form::Normalized => normalize(text) == normalize(wanted),
                Form::Prefix => normalize(text).starts_with(&normalize(wanted)),
            };
            let is_run = texts.len() == 1 || wanted.trim().contains(char::is_whitespace);
            // The last token is the one that completes it.
            let is_last = texts.len() == 1 || (!complete(&before) && !last.is_empty());
            is_run && is_last && term.role().is_none_or(|wanted| wanted == *role) && complete(&text)
        }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn queries_print_as_they_are_read(query in queries()) {
        prop_assert_eq!(query.to_string().parse::<Query>(), Ok(query));
    }

    #[test]
    fn graphs_answer_by_their_runs(graphs in graphs(), query in queries()) {
        for (graph, _) in &graphs {
            prop_assert_eq!(query.find(graph).is_some(), answers(&query, graph), "{} in {:?}", query, graph);
        }
    }

    #[test]
    fn an_index_is_the_same_of_parts_and_of_its_own_lists(graphs in graphs(), cut in any::<prop::sample::Index>()) {
        let of = |graphs: &[(Graph, f32)]| MemoryIndex::new(graphs.iter().map(|(graph, f1)| (graph, *f1)));
        let bits = |index: &MemoryIndex| index.f1s().iter().map(|f1| f1.to_bits()).collect::<Vec<_>>();
        let index = of(&graphs);
        let (one, other) = graphs.split_at(cut.index(graphs.len() + 1));
        let together = MemoryIndex::concat(&[of(one), of(other)]);
        let mut lists: Vec<_> = index.lists().collect();
        lists.reverse();
        let again = MemoryIndex::from_lists(index.f1s().to_vec(), lists).unwrap();
        for same in [together, again] {
            prop_assert_eq!(bits(&same), bits(&index));
            prop_assert_eq!(same.lists().collect::<Vec<_>>(), index.lists().collect::<Vec<_>>());
        }
        // A list with the ordinal of a graph that is not there is refused.
        for (key, list) in index.lists() {
            let least = list.ordinals.last().map_or(0, |last| *last as usize);
            prop_assert!(MemoryIndex::from_lists(vec![0.0; least], [(key, list)]).is_err());
            prop_assert!(MemoryIndex::from_lists(vec![0.0; least + 1], [(key, list)]).is_ok());
        }
    }

    #[test]
    fn an_index_answers_as_the_graphs_do(graphs in graphs(), query in queries(), limit in prop::option::of(0..8usize)) {
        let index = MemoryIndex::new(graphs.iter().map(|(graph, f1)| (graph, *f1)));
        let find = |ordinal: &u32| query.find(&graphs[*ordinal as usize].0);
        let verify = |ordinals: &[u32]| Ok::<_, ()>(ordinals.iter().map(find).collect());
        let found = query.search(&index, limit, verify).unwrap();

        let mut expected: Vec<(Option<Score>, f32, Reverse<u32>)> = Vec::new();
        for ((graph, f1), ordinal) in graphs.iter().zip(0..) {
            let f1 = if f1.is_nan() { f32::NEG_INFINITY } else { *f1 };
            expected.extend(query.find(graph).map(|evidence| (evidence.hit().map(|hit| hit.score), f1, Reverse(ordinal))));
        }
        expected.sort_by(|one, other| other.partial_cmp(one).unwrap());
        expected.truncate(limit.unwrap_or(usize::MAX));
        let expected: Vec<_> = expected.into_iter().map(|(score, _, Reverse(ordinal))| (ordinal, score)).collect();
        let ranked: Vec<_> = found.iter().map(|found| (found.ordinal, found.score)).collect();
        prop_assert_eq!(ranked, expected, "{}", query);
        for SearchResult { ordinal, hit, .. } in found.iter().filter(|found| found.hit.is_some()) {
            prop_assert_eq!(hit, &query.find(&graphs[*ordinal as usize].0).and_then(Evidence::into_hit));
        }
    }
}
