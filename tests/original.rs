//! Test of the faithful method against scores of the original Neuron2Graph code on the toy
//! (`datasets/toy/n2g-original.json` describes how its examples were cut).

use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use futures::stream::{FuturesOrdered, StreamExt};
use libtest_mimic::Trial;
use neuroql::Engine;
use neuroql_model::{Batch, Cancel, Placement, ReadSpec, Registry};
use neuroql_n2g::{Background, GraphTrainer, Method, Options, QueryRunner, Sample, Task};

use crate::server::Error;
use crate::timing;

/// Greatest and least number of tokens of an example there.
const WINDOW: usize = 120;
const SHORTEST: usize = 9;

/// Places of the examples, ordered by strength, that scikit-learn's split with seed 0 makes train and test.
const TRAIN: [usize; 10] = [5, 14, 9, 7, 16, 11, 3, 0, 15, 12];
const TEST: [usize; 10] = [18, 1, 19, 8, 10, 17, 6, 13, 4, 2];

/// Greatest difference of the mean F1 of a layer from the original's.
const TOLERANCE: f64 = 0.03;

/// One trial.
pub fn trials() -> Vec<Trial> {
    vec![timing::test("original::same_scores", || Ok(tokio::runtime::Runtime::new()?.block_on(same_scores())?))]
}

/// A neuron's F1 by the original; undefined is 0.
struct Reference {
    neuron: u32,
    f1: f64,
}

fn references(layer: u64) -> Result<Vec<Reference>, Error> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../datasets/toy/n2g-original.json");
    let all: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let neurons = all["neurons"].as_array().ok_or("no neurons")?.iter().filter(|n| n["layer"] == layer);
    let reference = |n: &serde_json::Value| {
        let neuron = n["neuron"].as_u64().ok_or("no neuron")? as u32;
        Ok(Reference { neuron, f1: n["f1"].as_f64().unwrap_or(0.0) })
    };
    neurons.map(reference).collect()
}

async fn same_scores() -> Result<(), Error> {
    let engine = Engine::builder().build()?;
    let registry: Arc<Registry> = Arc::clone(engine.registry());
    let model = registry.get("toy")?;
    let sql = "SELECT arrow_cast(text, 'Utf8') FROM corpus ORDER BY document";
    let mut windows: Vec<Arc<[u32]>> = Vec::new();
    for batch in engine.session().sql(sql).await?.collect().await? {
        for text in batch.column(0).as_string::<i32>().iter().flatten() {
            let tokens = model.tokenizer().encode(text)?;
            windows.extend(tokens.chunks(WINDOW).filter(|tokens| tokens.len() >= SHORTEST).map(Arc::from));
        }
    }
    for layer in 0..2 {
        let references = references(layer as u64)?;
        let neurons: Vec<u32> = references.iter().map(|reference| reference.neuron).collect();
        let tasks = tasks(&registry, &windows, layer, &neurons).await?;
        let runner = QueryRunner::new(Arc::clone(&model), Arc::clone(&registry), layer, Cancel::default());
        // Token 1 masked there, whatever it is.
        let options = Options { masking_token: Some(1), ..Options::of(Method::N2g) };
        let mut trainer = GraphTrainer::new(runner.model(), Method::N2g, options);
        let fired = vec![Vec::new(); tasks.len()];
        let built = trainer.build(&runner, tasks, &Arc::new(Background::default()), fired).await?;
        let f1 = |i: usize| built[i].outcome.as_ref().ok().and_then(|(_, scores)| scores.f1).unwrap_or(0.0);
        let count = references.len() as f64;
        let ours = (0..built.len()).map(|i| f64::from(f1(i))).sum::<f64>() / count;
        let original = references.iter().map(|reference| reference.f1).sum::<f64>() / count;
        assert!((ours - original).abs() <= TOLERANCE, "layer {layer}: mean F1 {ours}, the original has {original}");
        let near = references.iter().enumerate().filter(|(i, r)| (f64::from(f1(*i)) - r.f1).abs() < 0.02).count();
        assert!(near * 10 >= references.len() * 8, "layer {layer}: only {near} of {count} neurons score alike");
    }
    Ok(())
}

/// Returns the examples of each neuron: the 20 windows where it is strongest, of equal ones the later first.
async fn tasks(
    registry: &Arc<Registry>,
    windows: &[Arc<[u32]>],
    layer: usize,
    neurons: &[u32],
) -> Result<Vec<Task>, Error> {
    let model = registry.get("toy")?;
    let spec = Arc::new(ReadSpec::new(&model, [(layer, Some(neurons.to_vec()))])?);
    let passes: FuturesOrdered<_> = windows
        .chunks(8)
        .map(|chunk| {
            let (model, spec, chunk) = (Arc::clone(&model), Arc::clone(&spec), chunk.to_vec());
            registry.pool().run(Placement::OneThread, move || {
                let batch = Batch::new(chunk.iter().map(|tokens| &tokens[..]), model.bos());
                let mut rows = Vec::new();
                for tensor in model.run(&batch, &spec, &Cancel::default())? {
                    rows = tensor.to_vec2::<f32>()?;
                }
                Ok(rows)
            })
        })
        .collect();
    let batches: Vec<_> = passes.collect().await;
    let mut rows = Vec::new();
    for batch in batches {
        rows.extend(batch?);
    }
    let mut tasks = Vec::new();
    for (column, neuron) in neurons.iter().enumerate() {
        let mut values = rows.iter().map(|row| row[column]);
        let activations: Vec<Vec<f32>> = windows.iter().map(|w| values.by_ref().take(w.len()).collect()).collect();
        let peak = |i: &usize| activations[*i].iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut order: Vec<usize> = (0..windows.len()).collect();
        order.sort_by(|a, b| peak(b).total_cmp(&peak(a)).then(b.cmp(a)));
        let max_activation = peak(&order[0]);
        let sample = |place: &usize| Sample {
            document: order[*place] as i64,
            example: 0,
            tokens: Arc::clone(&windows[order[*place]]),
            activations: activations[order[*place]].iter().map(|a| a / max_activation).collect(),
        };
        let (train, held_out) = (TRAIN.iter().map(sample).collect(), TEST.iter().map(sample).collect());
        tasks.push(Task { neuron: *neuron, max_activation, train, held_out });
    }
    Ok(tasks)
}
