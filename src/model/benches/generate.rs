//! Tokens a second that a model writes, with its cache of keys and values: `cargo bench -p neuroql-model --bench generate --
//! MODEL TEXT [TOKENS] [THREADS]`.

use std::sync::Arc;
use std::time::Instant;

use futures::executor::block_on;
use neuroql_model::{Cancel, Model, Options, Placement, Pool, Sampling};

/// Runs, of which the median counts.
const RUNS: usize = 5;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its figures")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [location, text, rest @ ..] = arguments.as_slice() else {
        eprintln!("arguments: MODEL TEXT [TOKENS] [THREADS]");
        return Ok(());
    };
    let number = |i: usize, default: usize| rest.get(i).map_or(Ok(default), |n| n.parse::<usize>());
    let (count, threads) = (number(0, 64)?, number(1, 2)?);
    let model = Arc::new(Model::load("model", location, &Options::default(), &())?);
    let tokens = model.tokenizer().encode(text)?;
    let pool = Pool::new(threads)?;
    let (mut seconds, mut written) = (Vec::new(), 0);
    for _ in 0..RUNS {
        let (model, tokens) = (Arc::clone(&model), tokens.clone());
        let start = Instant::now();
        let job = move || model.generate(&tokens, count, Sampling::GREEDY, &Cancel::default());
        written = block_on(pool.run(Placement::AllThreads, job))?.len();
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let rate = written as f64 / seconds[RUNS / 2];
    println!(
        "{{\"model\": \"{location}\", \"threads\": {threads}, \"tokens\": {written}, \"tokens_per_second\": {rate:.1}}}"
    );
    Ok(())
}
