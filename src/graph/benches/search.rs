//! Searching 1.1 million graphs by an index; beside it, looking at each graph, and reading a neuron store as JSON for
//! each query as DeepDecipher does.
//!
//! Before the benchmarks a table is printed, with percentiles over many queries of each class.

#![allow(clippy::print_stdout, reason = "the table")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group};
use neuroql_graph::formats::store;
use neuroql_graph::search::{Evidence, Hit, Index, PostingList, Query, Role, Score};
use neuroql_graph::{Builder, Element, Graph, Kind, Pattern, Policy, Symbol};

const GRAPHS: u32 = 1_100_000;
const WORDS: usize = 50_000;
/// Number of tokens of a graph.
const TOKENS: usize = 12;
/// Number of graphs that are scanned one by one, and that the neuron store has.
const SCANNED: usize = 20_000;
const QUERIES: usize = 400;
const LIMIT: usize = 10;

/// Random number generator with the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() * limit as f64) as usize
    }

    /// Draws a word by Zipf's law: the k-th most frequent with a probability of about 1/k.
    fn word(&mut self) -> usize {
        ((WORDS as f64).powf(self.next()) as usize - 1).min(WORDS - 1)
    }

    /// Draws an activation distributed as in graphs: many are the greatest possible.
    fn activation(&mut self) -> f32 {
        if self.next() < 0.3 { 1.0 } else { 0.5 + 0.5 * self.next() as f32 }
    }

    fn importance(&mut self) -> f32 {
        if self.next() < 0.5 { 1.0 } else { 0.75 + 0.25 * self.next() as f32 }
    }
}

/// Token texts of a word as it stands after a space or a line break, and with a capital or without.
fn texts(word: usize) -> [String; 2] {
    [format!(" w{word}"), format!("W{word}")]
}

/// Columns of a posting list, owned.
#[derive(Default)]
struct Columns {
    ordinals: Vec<u32>,
    activations: Vec<f32>,
    importances: Vec<f32>,
}

/// Posting lists without graphs: of each word, of each of its texts, of each role.
struct Synthetic {
    f1s: Vec<f32>,
    texts: Vec<[String; 2]>,
    lists: Vec<[[Columns; 2]; 2]>,
    words: BTreeMap<String, usize>,
}

impl Synthetic {
    fn new(random: &mut Random) -> Self {
        let mut lists: Vec<[[Columns; 2]; 2]> = (0..WORDS).map(|_| Default::default()).collect();
        for ordinal in 0..GRAPHS {
            for _ in 0..TOKENS {
                let (word, text) = (random.word(), random.below(2));
                let role = usize::from(random.next() < 0.7);
                let list = &mut lists[word][text][role];
                if list.ordinals.last() != Some(&ordinal) {
                    list.ordinals.push(ordinal);
                    list.activations.push(random.activation());
                    list.importances.push(random.importance());
                }
            }
        }
        Self {
            f1s: (0..GRAPHS).map(|_| random.next() as f32).collect(),
            texts: (0..WORDS).map(texts).collect(),
            lists,
            words: (0..WORDS).map(|word| (format!("w{word}"), word)).collect(),
        }
    }

    fn graphs_with(&self, word: usize) -> usize {
        self.lists[word].iter().flatten().map(|list| list.ordinals.len()).sum()
    }

    /// Evidence of a graph with two words for a phrase of them: they stand side by side in every tenth graph.
    fn verify(&self, words: [usize; 2], ordinal: u32) -> Option<Evidence> {
        let best = |word: usize| {
            let score = |list: PostingList| {
                let at = list.ordinals.binary_search(&ordinal).ok()?;
                Some(Score { role: list.role, activation: list.activations[at], importance: list.importances[at] })
            };
            self.lists_of(word).filter_map(score).max()
        };
        let [one, last] = [best(words[0])?, best(words[1])?];
        let activation = one.activation.min(last.activation);
        let score = Score { activation, importance: one.importance.min(last.importance), ..last };
        ordinal.is_multiple_of(10).then(|| Evidence::Present(Hit { score, node: 0, pattern: String::new() }))
    }

    fn lists_of(&self, word: usize) -> impl Iterator<Item = PostingList<'_>> {
        let of_text = move |text: usize| Role::ALL.into_iter().zip(0..).map(move |(role, column)| (text, role, column));
        (0..2).flat_map(of_text).filter_map(move |(text, role, column): (usize, Role, usize)| {
            let Columns { ordinals, activations, importances } = &self.lists[word][text][column];
            let text = &self.texts[word][text];
            (!ordinals.is_empty()).then_some(PostingList { text, role, ordinals, activations, importances })
        })
    }
}

impl Index for Synthetic {
    fn f1s(&self) -> &[f32] {
        &self.f1s
    }

    fn lookup(&self, key: &str) -> Vec<PostingList<'_>> {
        self.words.get(key).into_iter().flat_map(|word| self.lists_of(*word)).collect()
    }

    fn lookup_prefix(&self, prefix: &str) -> Vec<PostingList<'_>> {
        let words = self.words.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        words.flat_map(|(_, word)| self.lists_of(*word)).collect()
    }
}

/// Classes of queries: the operator between the two terms, and the words that they are drawn from.
const CLASSES: [(&str, Terms); 9] = [
    ("and", Terms::Mixed),
    ("or", Terms::Mixed),
    ("and not", Terms::Mixed),
    ("and", Terms::Common),
    ("or", Terms::Common),
    ("and not", Terms::Common),
    ("and", Terms::CommonAndRare),
    ("or", Terms::CommonAndRare),
    ("and not", Terms::CommonAndRare),
];

#[derive(Clone, Copy, PartialEq)]
enum Terms {
    /// Words by their frequency.
    Mixed,
    /// The twenty most frequent words, each in 60,000 graphs or more.
    Common,
    CommonAndRare,
}

impl Terms {
    fn name(self) -> &'static str {
        match self {
            Self::Mixed => "as in texts",
            Self::Common => "common, common",
            Self::CommonAndRare => "common, rare",
        }
    }

    /// Two different words.
    fn words(self, random: &mut Random) -> [usize; 2] {
        loop {
            let words = match self {
                Self::Mixed => [random.word(), random.word()],
                Self::Common => [random.below(20), random.below(20)],
                Self::CommonAndRare => [random.below(20), WORDS / 2 + random.below(WORDS / 2)],
            };
            if words[0] != words[1] {
                return words;
            }
        }
    }
}

fn query(random: &mut Random, operator: &str, terms: Terms) -> Query {
    let [one, other] = terms.words(random).map(|word| {
        let role = ["", "", "any:", "activating:", "important:"][random.below(5)];
        format!("{role}w{word}")
    });
    format!("{one} {} {other}", operator.to_uppercase()).parse().expect("a query")
}

fn search(index: &Synthetic, query: &Query, limit: Option<usize>) -> usize {
    query.search(index, limit, |_| Ok::<_, ()>(Vec::new())).map_or(0, |found| found.len())
}

/// Milliseconds of each run, sorted: the least of five times, which leaves out other load of the machine.
fn timed(runs: impl Iterator<Item = impl Fn() -> usize>) -> Vec<f64> {
    let time = |run: &dyn Fn() -> usize| {
        let start = Instant::now();
        black_box(run());
        start.elapsed().as_secs_f64() * 1e3
    };
    let mut times: Vec<f64> = runs.map(|run| (0..5).map(|_| time(&run)).fold(f64::INFINITY, f64::min)).collect();
    times.sort_by(f64::total_cmp);
    times
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

fn line(name: &str, times: &[f64]) {
    let [p50, p99, most] = [50, 99, 100].map(|percent| percentile(times, percent));
    println!("{name:<44} {p50:>10.3} {p99:>10.3} {most:>10.3}");
}

fn table(index: &Synthetic) {
    let mut random = Random(11);
    let sizes = [0, 1, 19, 999, WORDS - 1].map(|word| index.graphs_with(word));
    println!("{GRAPHS} graphs; words 1, 2, 20, 1000 and {WORDS} are in {sizes:?}");
    println!("{:<44} {:>10} {:>10} {:>10}", "milliseconds", "p50", "p99", "most");
    let mut all = Vec::new();
    for (operator, terms) in CLASSES {
        let queries: Vec<_> = (0..QUERIES).map(|_| query(&mut random, operator, terms)).collect();
        let times = timed(queries.iter().map(|query| || search(index, query, Some(LIMIT))));
        line(&format!("index, {operator}, {}, best {LIMIT}", terms.name()), &times);
        all.extend(times);
        let times = timed(queries.iter().take(40).map(|query| || search(index, query, None)));
        line(&format!("index, {operator}, {}, all", terms.name()), &times);
    }
    all.sort_by(f64::total_cmp);
    line(&format!("index, all classes, best {LIMIT}"), &all);
    for text in [
        "NOT w0",
        "NOT w0 NOT w1",
        "w2 NOT w2",
        "w123*",
        "w12*",
        "w12* w7",
        "w1*",
        "w1* w7",
        "w* NOT w0",
        "w0 w1 w2 OR w3 NOT w4",
    ] {
        let query: Query = text.parse().expect("a query");
        line(&format!("index, {text}, best {LIMIT}"), &timed((0..1).map(|_| || search(index, &query, Some(LIMIT)))));
    }
    for words in [[0, 1], [30, 40], [0, 1000], [1000, 2000]] {
        let query: Query = format!("\"w{} w{}\"", words[0], words[1]).parse().expect("a query");
        let verify = |ordinals: &[u32]| Ok::<_, ()>(ordinals.iter().map(|at| index.verify(words, *at)).collect());
        let run = || query.search(index, Some(LIMIT), verify).map_or(0, |found| found.len());
        line(&format!("index, {query}, best {LIMIT}"), &timed([run].into_iter()));
    }
    scans(&mut random);
}

/// Makes a graph of [`TOKENS`] tokens, as many as the lists have for one.
fn graph(random: &mut Random) -> Graph {
    let mut builder = Builder::new(Policy::Max);
    for _ in 0..TOKENS / 3 {
        let element = |_| {
            let word = random.word();
            let symbol = Symbol::token(word as u32, texts(word)[random.below(2)].as_str());
            Element { symbol, importance: random.importance(), activation: 0.0 }
        };
        let elements = (0..3).map(element).collect();
        builder.insert(&Pattern { elements, ends: random.activation() }).expect("short patterns");
    }
    builder.build().expect("a trie")
}

/// Prints the cost of a search without an index: times for [`SCANNED`] graphs, scaled to all.
fn scans(random: &mut Random) {
    let graphs: Vec<_> = (0..SCANNED).map(|_| graph(random)).collect();
    let queries: Vec<_> = (0..10).map(|_| query(random, "and", Terms::Mixed)).collect();
    let scaled = |times: Vec<f64>| -> Vec<f64> {
        times.into_iter().map(|time| time * f64::from(GRAPHS) / SCANNED as f64).collect()
    };
    let scan = |query: &Query| graphs.iter().filter(|graph| query.find(graph).is_some()).count();
    line("each graph, and (of 20,000, scaled)", &scaled(timed(queries.iter().map(|query| || scan(query)))));
    let entries: Vec<_> =
        graphs.iter().zip(0..).flat_map(|(graph, neuron)| store::entries(0, neuron, graph, 0.5)).collect();
    let json = store::print(&entries).expect("a store");
    let read = || {
        let entries = store::parse(&json).expect("a store");
        let with = |word: usize, role| {
            let entries = entries.iter().filter(|entry| entry.role == role && entry.token == texts(word)[0]);
            entries.map(|entry| entry.neuron).collect::<std::collections::BTreeSet<_>>()
        };
        with(0, Kind::Activator).intersection(&with(1, Kind::Context)).count()
    };
    line("JSON store per query (of 20,000, scaled)", &scaled(timed((0..1).map(|_| read))));
}

fn searches(criterion: &mut Criterion) {
    let index = Synthetic::new(&mut Random(7));
    table(&index);
    let mut group = criterion.benchmark_group("search");
    group.sample_size(20).measurement_time(Duration::from_secs(2));
    for text in ["w0 w1", "w0 OR w1", "w0 NOT w1", "w0 w30000", "w30000 OR w30001"] {
        let query: Query = text.parse().expect("a query");
        group.bench_function(BenchmarkId::new("best 10", text), |bencher| {
            bencher.iter(|| search(&index, black_box(&query), Some(LIMIT)));
        });
    }
    group.bench_function("parse", |bencher| {
        bencher.iter(|| black_box("activating:from AND (important:import OR imp*) NOT \"a b\"").parse::<Query>());
    });
    group.finish();
}

criterion_group!(benches, searches);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
}
