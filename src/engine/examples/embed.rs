//! neuroql inside a Rust program: an engine of its own, results as Arrow record batches.
//!
//! `cargo run --release -p neuroql --example embed`

#![expect(clippy::print_stdout, reason = "an example prints")]

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{Float32Type, Int32Type};
use neuroql::Engine;

#[tokio::main]
async fn main() -> datafusion::error::Result<()> {
    let engine = Engine::builder().with_memory_limit(1 << 30).build()?;
    // engine.register_model("smol", "/models/SmolLM2-135M-Instruct.Q4_1.gguf", neuroql::Options::default()).await?;

    let session = engine.session();
    let top = session
        .sql("SELECT layer, neuron, activation FROM top_neurons(model => 'toy', text => 'import numpy as np', k => 5)")
        .await?;
    for batch in top.collect().await? {
        let (layers, neurons) =
            (batch.column(0).as_primitive::<Int32Type>(), batch.column(1).as_primitive::<Int32Type>());
        let activations = batch.column(2).as_primitive::<Float32Type>();
        for row in 0..batch.num_rows() {
            println!("{}:{} fires at {:.3}", layers.value(row), neurons.value(row), activations.value(row));
        }
    }
    Ok(())
}
