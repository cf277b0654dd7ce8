//! The bare forward pass: tokens a second through a [`Pool`], without SQL.
//!
//! `cargo bench -p neuroql-model --bench forward -- MODEL TEXT_FILE [LAYER] [THREADS] [TOKENS] [DTYPE]` runs the tokens of a text in windows
//! of 128 to a layer (the last if not given), reads all its neurons and prints one JSON line with the median of five
//! runs.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its result")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use futures::executor::block_on;
use futures::stream::{FuturesUnordered, StreamExt};
use neuroql_model::{Batch, Cancel, Model, Options, Placement, Pool, ReadSpec};

const RUNS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let [location, file, rest @ ..] = arguments.as_slice() else {
        eprintln!("arguments: MODEL TEXT_FILE [LAYER] [THREADS] [TOKENS] [DTYPE]");
        return Ok(());
    };
    let number = |i: usize, default: usize| rest.get(i).map_or(Ok(default), |n| n.parse::<usize>());
    let dtype = rest.get(3).map(|name| name.parse()).transpose()?;
    let options = Options { window: Some(127), dtype, ..Options::default() };
    let model = Arc::new(Model::load("model", location, &options, &())?);
    let layer = number(0, model.config().layers - 1)?;
    let threads = number(1, 2)?;
    let limit = number(2, 1 << 30)?;
    let mut tokens = model.tokenizer().encode(&std::fs::read_to_string(file)?)?;
    tokens.truncate(limit);
    let pool = Pool::new(threads)?;
    let spec = Arc::new(ReadSpec::new(&model, [(layer, None)])?);
    let size = model.batch_tokens(model.neurons_per_layer());
    let mut seconds = Vec::new();
    for _ in 0..RUNS {
        let start = Instant::now();
        block_on(run(&model, &pool, &spec, &tokens, size))?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let rate = tokens.len() as f64 / seconds[RUNS / 2];
    println!(
        "{{\"model\": \"{location}\", \"layer\": {layer}, \"threads\": {threads}, \"tokens\": {}, \
         \"tokens_per_second\": {rate:.0}}}",
        tokens.len()
    );
    Ok(())
}

/// Runs all tokens once, with one pass waiting for each that runs.
async fn run(
    model: &Arc<Model>,
    pool: &Pool,
    spec: &Arc<ReadSpec>,
    tokens: &[u32],
    size: usize,
) -> neuroql_model::Result<()> {
    let mut batches = VecDeque::new();
    let mut batch = Batch::new([], model.bos());
    for example in model.examples(tokens) {
        if !batch.is_empty() && batch.tokens() + example.len() > size {
            batches.push_back(std::mem::replace(&mut batch, Batch::new([], model.bos())));
        }
        batch.push(example);
    }
    batches.push_back(batch);
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < 2 * pool.threads()
            && let Some(batch) = batches.pop_front()
        {
            let (model, spec) = (Arc::clone(model), Arc::clone(spec));
            running
                .push(pool.run(Placement::OneThread, move || model.run(&batch, &spec, &Cancel::default()).map(drop)));
        }
        match running.next().await {
            None => return Ok(()),
            Some(done) => done?,
        }
    }
}
