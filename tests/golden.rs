//! The reference values as tables: each `golden.safetensors` becomes two Parquet files that SQL can join.
//!
//! `<model>_activations.parquet` has (text, position, layer, neuron, activation), BOS left out;
//! `<model>_tokens.parquet` has (text, ids), without BOS.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Float32Builder, Int32Builder, ListBuilder, RecordBatch, StringArray, StringBuilder,
};
use datafusion::parquet::arrow::ArrowWriter;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Returns the root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository").to_owned()
}

/// Returns the folder of the Parquet files.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("golden")
}

/// Writes the Parquet files of all reference models.
pub fn write_all() -> Result<()> {
    fs::create_dir_all(folder())?;
    write("toy", &root().join("datasets/toy"), "mlp_mid")?;
    write("toy_post", &root().join("datasets/toy"), "mlp_post")?;
    for model in ["gpt2", "gpt_neox", "llama", "smollm2"] {
        write(model, &root().join("tests/models").join(model), "mlp_post")?;
    }
    Ok(())
}

fn write(model: &str, source: &Path, site: &str) -> Result<()> {
    let bytes = fs::read(source.join("golden.safetensors"))?;
    let (_, header) = SafeTensors::read_metadata(&bytes)?;
    let golden = SafeTensors::deserialize(&bytes)?;
    let about = header.metadata().as_ref().ok_or("golden.safetensors has no metadata")?;
    let texts: Vec<String> = serde_json::from_str(&about["texts"])?;
    let bos = usize::from(!about["note"].contains("no BOS"));
    let neurons = golden.tensor("neurons").ok().map(|tensor| integers(&tensor));

    let mut text = StringBuilder::new();
    let (mut position, mut layer, mut neuron) = (Int32Builder::new(), Int32Builder::new(), Int32Builder::new());
    let mut activation = Float32Builder::new();
    let mut ids = ListBuilder::new(Int32Builder::new());
    for (index, content) in texts.iter().enumerate() {
        ids.append_value(integers(&golden.tensor(&format!("{index}.ids"))?).into_iter().skip(bos).map(Some));
        let prefix = format!("{index}.{site}.");
        for (name, tensor) in golden.iter().filter(|(name, _)| name.starts_with(&prefix)) {
            let depth: i32 = name[prefix.len()..].parse()?;
            let width = tensor.shape()[1];
            for (cell, value) in floats(&tensor).into_iter().enumerate().skip(bos * width) {
                text.append_value(content);
                position.append_value((cell / width - bos) as i32);
                layer.append_value(depth);
                neuron.append_value(neurons.as_ref().map_or((cell % width) as i32, |names| names[cell % width]));
                activation.append_value(value);
            }
        }
    }
    let activations: [(&str, ArrayRef); 5] = [
        ("text", Arc::new(text.finish())),
        ("position", Arc::new(position.finish())),
        ("layer", Arc::new(layer.finish())),
        ("neuron", Arc::new(neuron.finish())),
        ("activation", Arc::new(activation.finish())),
    ];
    let tokens: [(&str, ArrayRef); 2] = [("text", Arc::new(StringArray::from(texts))), ("ids", Arc::new(ids.finish()))];
    save(&format!("{model}_activations"), RecordBatch::try_from_iter(activations)?)?;
    save(&format!("{model}_tokens"), RecordBatch::try_from_iter(tokens)?)
}

fn save(name: &str, batch: RecordBatch) -> Result<()> {
    // Another run of the tests may read the file meanwhile.
    let part = folder().join(format!("{name}.{}", std::process::id()));
    let mut writer = ArrowWriter::try_new(File::create(&part)?, batch.schema(), None)?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(fs::rename(part, folder().join(name).with_extension("parquet"))?)
}

fn floats(tensor: &TensorView) -> Vec<f32> {
    tensor.data().chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes"))).collect()
}

fn integers(tensor: &TensorView) -> Vec<i32> {
    tensor.data().chunks_exact(4).map(|four| i32::from_le_bytes(four.try_into().expect("four bytes"))).collect()
}
