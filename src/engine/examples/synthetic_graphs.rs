//! Fills a store with made-up graphs for all neurons of a model, to try searches at the size of many models:
//!
//! ```sh
//! cargo run --release -p neuroql --example synthetic_graphs -- STORE NAME FOLDER
//! ```
//!
//! registers the model in FOLDER as NAME and gives each of its neurons a graph. `tests/bench/search.py` uses it.

#![allow(clippy::print_stdout, reason = "a program")]

use std::error::Error;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float32Array, Int32Array, RecordBatch, StringArray};
use neuroql::{Engine, Store};
use neuroql_graph::synthetic;
use neuroql_schema::GraphBuilder;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [store, name, folder] = &arguments[..] else { return Err("usage: synthetic_graphs STORE NAME FOLDER".into()) };
    let engine = Engine::builder().with_store(Store::open(store).await?).build()?;
    let create =
        format!("CREATE EXTERNAL TABLE {name} STORED AS MODEL LOCATION '{}'", std::path::absolute(folder)?.display());
    engine.session().sql(&create).await?.collect().await?;
    let model = engine.registry().get(name)?;
    let (layers, width) = (model.config().layers, model.neurons_per_layer());
    let synthetic = synthetic::Store::new((layers * width) as u64, 7);
    let mut graphs = synthetic.graphs();
    for layer in 0..layers {
        let of_layer: Vec<_> = graphs.by_ref().take(width).collect();
        let mut builder = GraphBuilder::default();
        for graph in &of_layer {
            builder.append(Some(graph))?;
        }
        let number = |value: usize| value as i32;
        let same = |value: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(vec![value; width])) };
        let f1s = (0..width).map(|neuron| neuron as f32 / width as f32);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("layer", Arc::new(Int32Array::from_value(number(layer), width))),
            ("neuron", Arc::new(Int32Array::from_iter_values((0..width).map(number)))),
            ("graph", Arc::new(builder.finish()?)),
            ("nodes", Arc::new(Int32Array::from_iter_values(of_layer.iter().map(|graph| number(graph.nodes().len()))))),
            ("f1", Arc::new(Float32Array::from_iter_values(f1s))),
            ("method", same("neuroql")),
            ("dataset", same("corpus")),
            ("model_version", same(&model.version())),
        ];
        engine.store().put_graphs(name, &RecordBatch::try_from_iter(columns)?).await?;
        println!("layer {layer}: {width} graphs");
    }
    engine.settle().await?;
    Ok(())
}
