//! Accuracy and speed of networks on a device: the difference from the processor in f32, and tokens a second.
//!
//! `cargo run --release -p neuroql-model --features cuda --example gpu -- --device cuda:0`; `tests/gpu/run.sh` runs it
//! beside PyTorch. Each result is one line of fields between tabs: measurement, network, dtype, number, unit, remark.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it prints its results")]

mod networks;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use neuroql_model::{Batch, Cancel, DeviceName, Model, NumberType, Options, ReadSpec, reduce};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Number of magnitudes between bins of histograms, as many as neuroql has.
const MAGNITUDES: usize = 27;

struct Arguments {
    device: DeviceName,
    dtypes: Vec<NumberType>,
    /// Folder in which networks of random weights are written and reused.
    folder: PathBuf,
    /// Number of tokens of each measurement.
    tokens: usize,
    window: usize,
    /// Side of the square matrices whose product gives the peak.
    matrix: usize,
    /// Number of layers of the networks of random weights; that of their shape if not given.
    layers: Option<usize>,
    /// Further networks to compare, beside the repository's.
    models: Vec<String>,
}

impl Arguments {
    fn parse() -> Result<Self> {
        let mut given: HashMap<String, String> = HashMap::new();
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").ok_or_else(|| format!("{word} is no option"))?;
            given.insert(name.into(), words.next().ok_or_else(|| format!("--{name} has no value"))?);
        }
        let mut take = |name: &str, default: &str| given.remove(name).unwrap_or_else(|| default.into());
        let device: DeviceName = take("device", "cuda").parse()?;
        // On a processor, sizes that take about a minute.
        let [tokens, matrix] = if device == DeviceName::Cpu { ["2048", "1024"] } else { ["1000000", "8192"] };
        let layers = take("layers", "");
        let arguments = Self {
            device,
            dtypes: take("dtypes", "f32,bf16,f16").split(',').map(str::parse).collect::<Result<_, _>>()?,
            folder: take("folder", &std::env::temp_dir().join("neuroql-gpu").to_string_lossy()).into(),
            tokens: take("tokens", tokens).parse()?,
            window: take("window", "256").parse()?,
            matrix: take("matrix", matrix).parse()?,
            layers: if layers.is_empty() { None } else { Some(layers.parse()?) },
            models: take("models", "").split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        };
        match given.keys().next() {
            Some(name) => Err(format!("--{name} is no option").into()),
            None => Ok(arguments),
        }
    }
}

fn report(what: &str, network: &str, dtype: NumberType, number: impl std::fmt::Display, unit: &str, remark: &str) {
    println!("{what}\t{network}\t{dtype}\t{number}\t{unit}\t{remark}");
}

fn main() -> std::process::ExitCode {
    match measure() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<()> {
    let arguments = Arguments::parse()?;
    let device = arguments.device.open()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let own = ["datasets/toy", "tests/models/gpt2", "tests/models/gpt_neox", "tests/models/llama"];
    let mut compared: Vec<String> = own.iter().map(|name| root.join(name).to_string_lossy().into_owned()).collect();
    compared.extend(arguments.models.iter().cloned());
    for location in &compared {
        compare(&arguments, location, None)?;
    }
    let variants = root.join("tests/models/variants");
    let tokenizer = variants.join("tokenizer.json");
    // Other activations, norms and position embeddings.
    for name in ["hooked_rms_solu_ln", "hooked_relu", "hooked_rotary", "hooked_rotary_adjacent", "llama_yarn"] {
        compare(&arguments, &variants.join(name).to_string_lossy(), Some(&tokenizer))?;
    }
    for shape in ["gpt2", "smollm2"] {
        let folder = networks::random(&arguments.folder, shape, arguments.layers)?;
        for &dtype in &arguments.dtypes {
            let peak = matrix_peak(&device, dtype, arguments.matrix)?;
            report("peak", shape, dtype, format!("{:.1}", peak / 1e12), "TFLOP/s", "square product of the same run");
            let options = Options {
                device: Some(arguments.device),
                dtype: Some(dtype),
                window: Some(arguments.window),
                tokenizer: Some(tokenizer.to_string_lossy().into_owned()),
                bos: Some(false),
                ..Options::default()
            };
            let model = Model::load(shape, &folder.to_string_lossy(), &options, &())?;
            forward(&arguments, &model, dtype, peak)?;
            analyse(&arguments, &model, dtype)?;
        }
    }
    Ok(())
}

/// Reports each layer's greatest difference from f32 on the processor, as a share of the layer's greatest number: of
/// whole examples and of some that share a prefix.
fn compare(arguments: &Arguments, location: &str, tokenizer: Option<&Path>) -> Result<()> {
    let name = Path::new(location).file_name().map_or(location.into(), |name| name.to_string_lossy());
    let load = |device, dtype| {
        let tokenizer = tokenizer.map(|file| file.to_string_lossy().into_owned());
        let options = Options { device: Some(device), dtype: Some(dtype), tokenizer, ..Options::default() };
        Model::load(&name, location, &options, &())
    };
    let run = |model: &Model| -> Result<Vec<Vec<f32>>> {
        let (vocabulary, window) = (model.config().vocabulary, model.window());
        let examples: Vec<Vec<u32>> = [256, 100, 17, 256]
            .iter()
            .enumerate()
            .map(|(i, length)| tokens(vocabulary, window.min(*length), i as u64))
            .collect();
        let batch = Batch::new(examples.iter().map(Vec::as_slice), model.bos());
        let mut sharing = Batch::sharing(model.bos());
        for (i, example) in examples.iter().enumerate() {
            sharing.push(example);
            let mut other = example[..example.len() / 2].to_vec();
            other.extend(tokens(vocabulary, 3.min(example.len() / 2), 10 + i as u64));
            sharing.push_last(&other);
        }
        let spec = ReadSpec::new(model, (0..model.config().layers).map(|layer| (layer, None)))?;
        let mut layers = model.run(&batch, &spec, &Cancel::default())?;
        for (layer, shared) in layers.iter_mut().zip(model.run(&sharing, &spec, &Cancel::default())?) {
            *layer = Tensor::cat(&[&*layer, &shared], 0)?;
        }
        Ok(layers.iter().map(|x| x.flatten_all()?.to_vec1()).collect::<Result<_, _>>()?)
    };
    let reference = load(DeviceName::Cpu, NumberType::F32)?;
    let wanted = run(&reference)?;
    for &dtype in &arguments.dtypes {
        let model = load(arguments.device, dtype)?;
        for (layer, (got, wanted)) in run(&model)?.iter().zip(&wanted).enumerate() {
            let most = wanted.iter().fold(f32::MIN_POSITIVE, |most, x| most.max(x.abs()));
            let error = got.iter().zip(wanted).fold(0.0_f32, |error, (a, b)| error.max((a - b).abs()));
            let far = got.iter().zip(wanted).any(|(a, b)| a.is_nan() != b.is_nan());
            let bound = if dtype == NumberType::F32 { 1e-4 } else { f32::INFINITY };
            let remark = if far || error / most > bound { "TOO FAR" } else { "" };
            let what = format!("error {} {layer}", model.site());
            report(&what, &name, dtype, format!("{:.1e}", error / most), "of greatest", remark);
        }
    }
    Ok(())
}

/// Reports tokens a second of passes to the last layer's neurons, of which maxima are kept.
fn forward(arguments: &Arguments, model: &Model, dtype: NumberType, peak: f64) -> Result<()> {
    let config = model.config();
    let spec = ReadSpec::new(model, [(config.layers - 1, None)])?;
    let mut maxima: Option<Tensor> = None;
    let seconds = batches(arguments, model, config.d_mlp, |batch, _| {
        model.run_parts(batch, &spec, &Cancel::default(), |_, layers| {
            let most = layers[0].max(0)?;
            maxima = Some(match &maxima {
                Some(maxima) => maxima.maximum(&most)?,
                None => most,
            });
            Ok(())
        })?;
        // Waits until the queued work has run.
        maxima.as_ref().map(Tensor::to_vec1::<f32>).transpose()?;
        Ok(())
    })?;
    let rate = arguments.tokens as f64 / seconds;
    let attention = 2 * (config.heads + config.kv_heads) * config.d_head;
    let inner = if config.gated { 2 } else { 1 } * config.d_mlp;
    let weights = config.d_model * (config.layers * (attention + inner + config.d_mlp) - config.d_mlp);
    // Causal attention needs half the products.
    let scores = config.layers * 2 * config.heads * config.d_head * arguments.window / 2;
    let operations = 2.0 * (weights + scores) as f64;
    let share = format!("{:.0} % of peak", 100.0 * rate * operations / peak);
    report("forward", model.name(), dtype, format!("{rate:.0}"), "tokens/s", &share);
    Ok(())
}

/// Reports tokens a second of passes through all layers, each summarised as in an analysis.
fn analyse(arguments: &Arguments, model: &Model, dtype: NumberType) -> Result<()> {
    let config = model.config();
    let spec = ReadSpec::new(model, (0..config.layers).map(|layer| (layer, None)))?;
    let magnitudes: Vec<f32> = (0..MAGNITUDES).map(|i| 2.0_f32.powf(i as f32 / 2.0 - 6.0)).collect();
    let seconds = batches(arguments, model, config.d_mlp * config.layers, |batch, lengths| {
        model.run_parts(batch, &spec, &Cancel::default(), |part, layers| {
            for values in layers {
                reduce::summarise(&values, &lengths[part.examples.clone()], &magnitudes)?;
            }
            Ok(())
        })
    })?;
    let rate = format!("{:.0}", arguments.tokens as f64 / seconds);
    let neurons = format!("{} neurons, reduced where they are", config.d_mlp * config.layers);
    report("analysis", model.name(), dtype, rate, "tokens/s", &neurons);
    Ok(())
}

/// Seconds that `run` takes for all tokens, in batches that fit if `values` values are read a token; after a warm-up
/// batch.
fn batches(
    arguments: &Arguments,
    model: &Model,
    values: usize,
    mut run: impl FnMut(&Batch, &[usize]) -> neuroql_model::Result<()>,
) -> Result<f64> {
    let per_batch = (model.batch_tokens(values) / arguments.window).max(1);
    let corpus = tokens(model.config().vocabulary, arguments.tokens, 7);
    let examples: Vec<&[u32]> = corpus.chunks(arguments.window).collect();
    let mut once = |examples: &[&[u32]]| {
        let lengths: Vec<usize> = examples.iter().map(|example| example.len()).collect();
        run(&Batch::new(examples.iter().copied(), None), &lengths)
    };
    once(&examples[..per_batch.min(examples.len())])?;
    let start = Instant::now();
    examples.chunks(per_batch).try_for_each(once)?;
    Ok(start.elapsed().as_secs_f64())
}

/// Floating-point operations a second of a product of square matrices, the best of five runs.
fn matrix_peak(device: &Device, dtype: NumberType, side: usize) -> Result<f64> {
    // A processor computes in f32 for every dtype of weights.
    let dtype = match (device, dtype) {
        (Device::Cpu, _) | (_, NumberType::F32) => DType::F32,
        (_, NumberType::Bf16) => DType::BF16,
        (_, NumberType::F16) => DType::F16,
    };
    let random = |_| Tensor::randn(0_f32, 1.0, (side, side), device)?.to_dtype(dtype);
    let [a, b] = [random(0)?, random(1)?];
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        const PRODUCTS: usize = 4;
        device.synchronize()?;
        let start = Instant::now();
        for _ in 0..PRODUCTS {
            a.matmul(&b)?;
        }
        device.synchronize()?;
        best = best.min(start.elapsed().as_secs_f64() / PRODUCTS as f64);
    }
    Ok(2.0 * (side as f64).powi(3) / best)
}

/// Pseudorandom token ids.
fn tokens(vocabulary: usize, count: usize, seed: u64) -> Vec<u32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 33) % vocabulary as u64) as u32
    };
    (0..count).map(|_| next()).collect()
}
