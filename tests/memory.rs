//! Tests of a memory limit: caches, weighed by the allocator, and long texts.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a child says what it measured to its parent")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering};

use libtest_mimic::Trial;
use neuroql::{Engine, Store};

use crate::answers::rows;
use crate::golden;
use crate::server::{self, Error};
use crate::timing;

/// Two trials.
pub fn trials() -> Vec<Trial> {
    vec![timing::test("memory::caches", || Ok(caches()?)), timing::test("memory::long_texts", || Ok(long_texts()?))]
}

/// The system's allocator, which counts the bytes that are in use.
#[derive(Debug)]
pub struct CountingAllocator(AtomicUsize);

impl CountingAllocator {
    /// Creates an allocator with no bytes in use.
    pub const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

// SAFETY: the system's allocator does all of it.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.0.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.0.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.0.fetch_add(size, Ordering::Relaxed);
        self.0.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Memory limit of the limited engine, in bytes.
const LIMIT: usize = 64 << 20;

/// Number of models that there are graphs of.
const MODELS: usize = 3;

/// Number of methods of each model's graphs.
const METHODS: usize = 12;

const CHILD: &str = "NEUROQL_TEST_MEMORY_OF";
const LIMITED: &str = "NEUROQL_TEST_MEMORY_LIMITED";

/// Runs as the child process of the trial if this process is one: prints the bytes that a session has grown by.
pub fn child(allocated: &CountingAllocator) -> Option<ExitCode> {
    let location = std::env::var(CHILD).ok()?;
    let limited = std::env::var(LIMITED).is_ok();
    let runtime = tokio::runtime::Runtime::new().ok()?;
    Some(match runtime.block_on(grown(&location, limited, allocated)) {
        Ok(bytes) => {
            println!("grown by {bytes}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    })
}

fn model(i: usize) -> String {
    format!("m{i}")
}

/// Returns the bytes that searching and reading the graphs of all models adds.
async fn grown(location: &str, limited: bool, allocated: &CountingAllocator) -> Result<usize, Error> {
    let mut builder = Engine::builder().with_threads(2).with_store(Store::open(location).await?);
    if limited {
        builder = builder.with_memory_limit(LIMIT);
    }
    let engine = builder.build()?;
    engine.restore().await?;
    let context = engine.session();
    // These are decoded or compiled once, whatever the caches hold.
    rows(&context, "SELECT * FROM search('toy', 'import')").await?;
    rows(&context, "SELECT count(*) FROM toy.neurons").await?;
    let before = allocated.bytes();
    for i in 0..MODELS {
        let name = model(i);
        for sql in [
            format!("SELECT * FROM search('{name}', 'import')"),
            format!("SELECT count(*), sum(array_length(graph)) FROM {name}.graphs"),
            format!("SELECT graph FROM {name}.graphs WHERE layer = 1 AND neuron IN (3, 5, 7)"),
        ] {
            if rows(&context, &sql).await?.iter().all(|batch| batch.num_rows() == 0) {
                return Err(format!("{sql} finds nothing").into());
            }
        }
    }
    Ok(allocated.bytes().saturating_sub(before))
}

fn process(location: &str, limited: bool) -> Result<usize, Error> {
    let mut process = Command::new(std::env::current_exe()?);
    process.env(CHILD, location);
    if limited {
        process.env(LIMITED, "yes");
    }
    let done = process.output()?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let bytes = said.trim().rsplit(' ').next().and_then(|bytes| bytes.parse().ok());
    bytes.ok_or_else(|| format!("{said}{}", String::from_utf8_lossy(&done.stderr)).into())
}

/// Checks that the memory that queries leave in use stays within a small limit, and would not without it.
#[tokio::main]
async fn caches() -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let location = folder.path().to_str().ok_or("no path")?;
    let engine = Engine::builder().with_store(Store::open(location).await?).build()?;
    let context = engine.session();
    let toy = golden::root().join("datasets/toy");
    for i in 0..MODELS {
        let name = model(i);
        create(&context, &name, &toy).await?;
        let sql = format!(
            "INSERT INTO {name}.graphs (layer, neuron, graph, method, f1) \
             SELECT layer, neuron, graph, method || value, f1 FROM toy.graphs CROSS JOIN generate_series(1, {METHODS})"
        );
        rows(&context, &sql).await?;
    }
    engine.settle().await?;
    drop((context, engine));
    let (limited, free) = (process(location, true)?, process(location, false)?);
    println!("grown by {limited} bytes under a limit of {LIMIT}, by {free} without");
    assert!(limited <= LIMIT / 2, "{limited}");
    assert!(free > LIMIT, "{free}: too little is cached for this to say anything");
    Ok(())
}

async fn create(context: &datafusion::prelude::SessionContext, name: &str, folder: &Path) -> Result<(), Error> {
    let sql = format!("CREATE EXTERNAL TABLE {name} STORED AS MODEL LOCATION '{}'", folder.display());
    rows(context, &sql).await.map(drop)
}

/// Checks that a text whose tokenizing takes more memory than there is is refused, and a longer one that is tokenized in
/// parts is not.
#[tokio::main]
async fn long_texts() -> Result<(), Error> {
    let running = server::start(Engine::builder().with_threads(2).with_memory_limit(256 << 20).build()?).await?;
    let client = running.connect().await?;
    let (word, words) = ("repeat('a', 1000000)", "repeat(' word', 400000)");
    for (text, wanted) in [(word, "53200"), (words, "00000")] {
        for sql in [
            format!("SELECT array_length(tokenize('toy', {text}))"),
            format!("SELECT array_length(tokens('toy', {text}))"),
            format!(
                "SELECT count(*) FROM toy.activations WHERE text = {text} AND layer = 0 AND neuron = 0 AND position < 0"
            ),
        ] {
            let code = match client.simple_query(&sql).await {
                Ok(_) => "00000".to_owned(),
                Err(error) => error.code().ok_or_else(|| format!("{sql}: {error}"))?.code().to_owned(),
            };
            assert_eq!(code, wanted, "{sql}");
        }
    }
    for sql in [format!("SELECT activation('toy', 0, 0, {word})"), format!("SELECT * FROM loss('toy', {word})")] {
        let refused = client.simple_query(&sql).await.err().ok_or("not refused")?;
        assert_eq!(refused.code().map(|code| code.code()), Some("53200"), "{sql}");
    }
    client.simple_query("SELECT 1").await?;
    drop(client);
    running.stop().await
}
