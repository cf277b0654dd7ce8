//! Seeded fuzzing of every reader: damaged samples are read or refused, soon and in little memory, and nothing panics.
//!
//! `NEUROQL_FUZZ_INPUTS` is the number of inputs (some thousand otherwise), `NEUROQL_FUZZ_SEED` that of the first one; an
//! input that fails is named by its seed, with which it is made again.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod whole_source;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use neuroql_formats::deepdecipher::DeepDecipher;
use neuroql_formats::graphs::{dot, n2g_rs, openai};
use neuroql_formats::n2g::N2g;
use neuroql_formats::neuroscope::Neuroscope;
use neuroql_formats::openai::OpenAi;
use neuroql_graph::Symbol;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::whole_source::read_all;

/// Inputs of a run of the test suite.
const INPUTS: u64 = 6_000;

/// Longest time on a processor that one input may take; whole samples take less than a thousandth of it.
const MOST_TIME: Duration = Duration::from_secs(10);

/// Most bytes that reading one input may take at a time; whole samples take less than a hundredth of it.
const MOST_BYTES: usize = 256 << 20;

/// Counts bytes, so that the most that are in use at a time are known.
struct Counting;

static USED: AtomicUsize = AtomicUsize::new(0);
static MOST_USED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator with its own arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let used = USED.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST_USED.fetch_max(used, Ordering::Relaxed);
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the promises of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn sample(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/formats").join(path)).unwrap()
}

/// A reader of an input.
#[derive(Debug, Clone, Copy)]
enum Reader {
    Database,
    /// A file of OpenAI's, under this name.
    OpenAi(&'static str),
    /// A drawing or statistics of Neuron2Graph.
    Drawing,
    Statistics,
    Page,
    /// A graph by itself.
    Dot,
    RustJson,
    RustBinary,
    RustList,
    Trie,
}

/// A whole sample, and how it is read.
struct Sample {
    name: &'static str,
    reader: Reader,
    bytes: Vec<u8>,
    /// Least number of rows and rejects that come of it, however it is damaged: lists may be empty.
    least: usize,
}

fn text_of(symbol: &Symbol) -> Option<String> {
    if let Symbol::Token(token) = symbol { Some(token.text.to_string()) } else { None }
}

fn samples() -> Vec<Sample> {
    let data = "openai_neuron_explainer/data";
    let drawing = sample("n2g/fork/output/tiny-gpt2/graphs/1_0");
    let mut graph = dot::parse(std::str::from_utf8(&drawing).unwrap(), dot::Thresholds::default()).unwrap();
    let trie = openai::print(&graph, 1.0).unwrap();
    let texts: BTreeSet<String> = graph.nodes().iter().filter_map(|node| text_of(&node.symbol)).collect();
    graph.bind(|text| texts.iter().position(|known| known == text).map(|id| id as u32));
    let new = |name, reader, bytes, least| Sample { name, reader, bytes, least };
    let of_openai = |name, path, least| new(name, Reader::OpenAi(path), sample(&format!("{data}/{path}")), least);
    vec![
        new("DeepDecipher's database", Reader::Database, sample("deepdecipher/data.db"), 0),
        of_openai("OpenAI's record", "collated-activations/0/3.json", 1),
        of_openai("OpenAI's explanations", "explanations/0/3.jsonl", 1),
        of_openai("OpenAI's tokens by weight", "related-tokens/weight-based/0/3.json", 0),
        of_openai("OpenAI's tokens by activation", "related-tokens/activation-based/0/3.json", 0),
        of_openai("OpenAI's neurons by weight", "related-neurons/weight-based/0/3.json", 0),
        new("drawing in a folder", Reader::Drawing, drawing.clone(), 1),
        new("statistics of drawings", Reader::Statistics, sample("n2g/fork/output/tiny-gpt2/stats.json"), 1),
        new("Neuroscope's page", Reader::Page, sample("neuroscope/tiny-gpt2/0/1.html"), 1),
        new("drawing", Reader::Dot, drawing, 0),
        new("graph of the Rust port, JSON", Reader::RustJson, n2g_rs::print_json(&graph).unwrap().into(), 0),
        new("graph of the Rust port, binary", Reader::RustBinary, n2g_rs::print_binary(&graph).unwrap(), 0),
        new(
            "list of graphs of the Rust port",
            Reader::RustList,
            n2g_rs::print_binary_list([None, Some(&graph), Some(&graph)]).unwrap(),
            0,
        ),
        new("OpenAI's trie", Reader::Trie, trie.into(), 0),
    ]
}

/// Texts that parsers trip over.
const TEXTS: [&str; 34] = [
    "NaN",
    "Infinity",
    "null",
    "true",
    "-1",
    "-0.0",
    "1e999",
    "-1e999",
    "1e-999",
    "0x10",
    "00",
    "1.",
    ".5",
    "+1",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\u",
    "\\ud800",
    "<hr>",
    "ColoredTokens,",
    "</script> </details>",
    "->",
    "subgraph",
    "\u{feff}",
    "\u{202e}",
    "\0",
];

/// Damages bytes in one way, which leaves all others in their places if `in_place` is true.
fn damage(bytes: &mut Vec<u8>, in_place: bool, others: &[Sample], random: &mut StdRng) {
    let at = random.random_range(0..=bytes.len());
    let some = |random: &mut StdRng| random.random_range(1..200_usize);
    let way = match in_place {
        true => [1, 1, 7][random.random_range(0..3)],
        false => random.random_range(0..11),
    };
    match way {
        0 => bytes.truncate(at),
        1 => {
            for _ in 0..random.random_range(1..8) {
                if let Some(byte) = pick(bytes.len(), random).map(|at| &mut bytes[at]) {
                    *byte ^= 1 << random.random_range(0..8);
                }
            }
        }
        2 => {
            let end = (at + some(random)).min(bytes.len());
            bytes.drain(at..end);
        }
        3 => {
            let end = (at + some(random)).min(bytes.len());
            let copies = bytes[at..end].repeat(random.random_range(1..50));
            bytes.splice(at..at, copies);
        }
        // A piece of another sample, or of this one.
        4 => {
            let other = &others.choose(random).unwrap().bytes;
            let start = random.random_range(0..=other.len());
            let end = (start + random.random_range(0..2000)).min(other.len());
            let end_of_cut = (at + random.random_range(0..2000)).min(bytes.len());
            bytes.splice(at..end_of_cut, other[start..end].iter().copied());
        }
        // A number in digits.
        5 | 6 => {
            if let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit).map(|found| at + found) {
                let length = bytes[start..].iter().take_while(|byte| b"0123456789.eE+-".contains(byte)).count();
                let number = match random.random_range(0..8) {
                    0 => "9".repeat(random.random_range(1..500)),
                    1 => random.random::<u64>().to_string(),
                    2 => f32::from_bits(random.random()).to_string(),
                    _ => TEXTS[..19].choose(random).unwrap().to_string(),
                };
                bytes.splice(start..start + length, number.bytes());
            }
        }
        // A number in bytes.
        7 => {
            let width = [1, 2, 4, 8][random.random_range(0..4)].min(bytes.len() - at);
            let edge = [0, 1, 0x7f, 0x80, 0xff, random.random()][random.random_range(0..6)];
            bytes[at..at + width].fill(edge);
        }
        8 => {
            let open = ["[", "{\"a\":", "{\"tokens\":[", "(", "subgraph cluster_1 {"].choose(random).unwrap();
            let depth = 1 << random.random_range(1..15);
            bytes.splice(at..at, open.repeat(depth).into_bytes());
        }
        9 => {
            let text = TEXTS.choose(random).unwrap();
            bytes.splice(at..at, text.bytes());
        }
        _ => {
            let noise: Vec<u8> = (0..random.random_range(1..9)).map(|_| random.random()).collect();
            bytes.splice(at..at, noise);
        }
    }
}

fn pick(length: usize, random: &mut StdRng) -> Option<usize> {
    (length > 0).then(|| random.random_range(0..length))
}

/// A folder in memory where there is one.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

fn written(folder: &Path, path: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Reads an input in the way of its sample, and returns the number of rows and rejects.
fn read(reader: Reader, bytes: &[u8]) -> usize {
    let text = |_| Arc::from("x");
    let as_text = || String::from_utf8_lossy(bytes);
    let of_graph = |graph: Option<neuroql_graph::Graph>| graph.map_or(0, |graph| graph.nodes().len());
    let folder = folder();
    let folder = folder.path();
    match reader {
        Reader::Database => read_all(DeepDecipher::open(&written(folder, "data.db", bytes), None)),
        Reader::OpenAi(path) => {
            written(folder, path, bytes);
            read_all(OpenAi::open(folder))
        }
        Reader::Drawing => {
            written(folder, "graphs/1_0", bytes);
            read_all(N2g::open(folder, None, None))
        }
        Reader::Statistics => {
            written(folder, "graphs/1_0", &sample("n2g/fork/output/tiny-gpt2/graphs/1_0"));
            written(folder, "stats.json", bytes);
            read_all(N2g::open(folder, None, None))
        }
        Reader::Page => {
            written(folder, "0/1.html", bytes);
            read_all(Neuroscope::open(folder))
        }
        Reader::Dot => of_graph(dot::parse(&as_text(), dot::Thresholds::default()).ok()),
        Reader::RustJson => of_graph(n2g_rs::parse_json(&as_text(), text).ok()),
        Reader::RustBinary => of_graph(n2g_rs::parse_binary(bytes, text).ok()),
        Reader::RustList => n2g_rs::parse_binary_list(bytes, text).map_or(0, |graphs| graphs.len()),
        Reader::Trie => of_graph(openai::parse(&as_text(), 1.0).ok()),
    }
}

/// Time that this thread has run, without that in which others did.
fn time_run() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let known = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let run = known.and_then(|known| known.split(' ').next()?.parse().ok().map(Duration::from_nanos));
    run.unwrap_or_else(|| START.elapsed())
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// Time and memory that the inputs of a sample took.
#[derive(Debug, Default)]
struct Costs {
    inputs: u64,
    /// Inputs of which something was read.
    read: u64,
    time: Duration,
    most_time: Duration,
    most_bytes: usize,
}

#[test]
fn fuzzed_inputs() {
    let samples = samples();
    let mut costs: BTreeMap<&str, Costs> = BTreeMap::new();
    for sample in &samples {
        assert!(read(sample.reader, &sample.bytes) >= sample.least.max(1), "{} is not read", sample.name);
    }
    let first = number("NEUROQL_FUZZ_SEED", 1);
    for seed in first..first + number("NEUROQL_FUZZ_INPUTS", INPUTS) {
        let mut random = StdRng::seed_from_u64(seed);
        let sample = &samples[seed as usize % samples.len()];
        let mut bytes = sample.bytes.clone();
        // Few binary files are more than refused if their parts move.
        let is_binary = matches!(sample.reader, Reader::Database | Reader::RustBinary | Reader::RustList);
        let in_place = random.random_bool(if is_binary { 0.8 } else { 0.2 });
        let damages = if random.random_bool(0.5) { 1 } else { random.random_range(2..5) };
        for _ in 0..damages {
            damage(&mut bytes, in_place, &samples, &mut random);
        }
        let (start, before) = (time_run(), USED.load(Ordering::Relaxed));
        MOST_USED.store(before, Ordering::Relaxed);
        let count = catch_unwind(AssertUnwindSafe(|| read(sample.reader, &bytes)));
        let (time, most) = (time_run() - start, MOST_USED.load(Ordering::Relaxed) - before);
        let name = sample.name;
        let count = count.unwrap_or_else(|_| panic!("a panic of {name}, input {seed}"));
        assert!(count >= sample.least, "nothing came of {name}, input {seed}");
        assert!(time < MOST_TIME, "{name}, input {seed} took {time:?}");
        assert!(most < MOST_BYTES, "{name}, input {seed} took {most} bytes");
        let costs = costs.entry(name).or_default();
        costs.inputs += 1;
        costs.read += u64::from(count > 0);
        costs.time += time;
        costs.most_time = costs.most_time.max(time);
        costs.most_bytes = costs.most_bytes.max(most);
    }
    for (name, Costs { inputs, read, time, most_time, most_bytes }) in costs {
        let mean = time / inputs as u32;
        eprintln!(
            "{name}: {inputs} inputs, {read} read in part at least, {mean:?} each, {most_time:?} and {} KiB at most",
            most_bytes >> 10
        );
    }
}
