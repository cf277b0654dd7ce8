//! Circuits of a neuron by the weights: milliseconds a call, without SQL.
//!
//! `cargo bench -p neuroql-model --bench circuits -- MODEL` asks for the middle layer and prints one JSON line with the
//! medians of nine calls.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its result")]

use std::time::Instant;

use neuroql_model::{Cancel, Model, Options, Result};

const RUNS: usize = 9;
const K: usize = 10;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let [location] = arguments.as_slice() else {
        eprintln!("arguments: MODEL");
        return Ok(());
    };
    let model = Model::load("model", location, &Options::default(), &())?;
    let cancel = Cancel::default();
    let layer = model.config().layers / 2;
    let many: Vec<u32> = (0..model.config().d_mlp.min(256) as u32).collect();
    println!(
        "{{\"model\": \"{location}\", \"threads\": {}, \"logit_effects\": {:.1}, \"logit_effects_of_{}\": {:.1}, \
         \"input_tokens\": {:.1}, \"connections\": {:.1}, \"strongest_connections\": {:.1}}}",
        std::thread::available_parallelism()?,
        milliseconds(|| model.logit_effects(layer, &[7], K, &cancel).map(drop))?,
        many.len(),
        milliseconds(|| model.logit_effects(layer, &many, K, &cancel).map(drop))?,
        milliseconds(|| model.input_tokens(layer, &[7], K, &cancel).map(drop))?,
        milliseconds(|| model.connections(layer, 7, K, &cancel).map(drop))?,
        milliseconds(|| model.strongest_connections(layer - 1, layer, K, &cancel).map(drop))?,
    );
    Ok(())
}

/// Median milliseconds of a call, after a warm-up call.
fn milliseconds(call: impl Fn() -> Result<()>) -> Result<f64> {
    call()?;
    let mut times = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let start = Instant::now();
        call()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[RUNS / 2])
}
