//! Options of devices and number types.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use candle_core::DType;
use futures::executor::block_on;
use futures::future::join_all;
use neuroql_model::{Batch, Cancel, DeviceName, Error, Model, NumberType, Options, Placement, Pool, ReadSpec};

fn load(name: &str, options: &[(&str, &str)]) -> Result<Model, Error> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
    Model::load(name, folder.to_str().unwrap(), &Options::parse(options.iter().copied())?, &())
}

const MODELS: [&str; 4] = ["datasets/toy", "tests/models/gpt2", "tests/models/gpt_neox", "tests/models/llama"];

#[test]
fn weights_of_sixteen_bits_on_a_processor() {
    // Only weights are rounded, and for products of bf16 what they are multiplied with.
    for (dtype, numbers, bound) in [("bf16", DType::BF16, 3e-2), ("f16", DType::F16, 4e-3)] {
        for name in MODELS {
            let (wanted, model) =
                (load(name, &[]).unwrap(), load(name, &[("dtype", dtype), ("device", "CPU")]).unwrap());
            assert_eq!((model.dtype(), model.device_name()), (numbers, "cpu"));
            assert_ne!(model.version(), wanted.version());
            assert_eq!(model.parameters(), wanted.parameters());
            assert!(model.rounding() == wanted.rounding() || model.version().contains("products=bf16"), "{dtype}");
            let tokens = model.tokenizer().encode("The President of the United States said that").unwrap();
            let batch = Batch::new([&tokens[..], &tokens[1..]], model.bos());
            let run = |model: &Model| {
                let spec = ReadSpec::new(model, (0..model.config().layers).map(|l| (l, None))).unwrap();
                let mut all = model.run(&batch, &spec, &Cancel::default()).unwrap();
                all.push(model.logits(&batch, &Cancel::default()).unwrap());
                all.into_iter().map(|x| x.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect::<Vec<_>>()
            };
            // Some neurons alone are the same numbers.
            let last = model.config().layers - 1;
            let neurons = vec![5, 0, model.neurons_per_layer() as u32 - 1];
            let alone = ReadSpec::new(&model, [(last, Some(neurons.clone()))]).unwrap();
            let alone = model.run(&batch, &alone, &Cancel::default()).unwrap().remove(0);
            let whole = &run(&model)[last];
            for (row, alone) in whole.chunks(model.neurons_per_layer()).zip(alone.to_vec2::<f32>().unwrap()) {
                let scale = row.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
                let same = |(n, x): (&u32, &f32)| (row[*n as usize] - x).abs() <= 1e-6 * scale;
                assert!(neurons.iter().zip(&alone).all(same), "{name} {dtype}");
            }
            for (got, wanted) in run(&model).iter().zip(run(&wanted)) {
                let scale = wanted.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
                for (a, b) in got.iter().zip(&wanted) {
                    assert!((a - b).abs() <= bound * scale, "{name} {dtype}: {a} is not {b}, largest is {scale}");
                }
            }
            weights_are_read(&model, &wanted, bound);
        }
    }
}

/// Checks functions without a forward pass in these number types against f32.
fn weights_are_read(model: &Model, wanted: &Model, bound: f32) {
    let (cancel, last) = (Cancel::default(), model.config().layers - 1);
    let (got, exact) =
        (model.neuron_weights(0, &[2]).unwrap().remove(0), wanted.neuron_weights(0, &[2]).unwrap().remove(0));
    for (a, b) in got.w_in.iter().chain(&got.w_out).zip(exact.w_in.iter().chain(&exact.w_out)) {
        assert!((a - b).abs() <= b.abs() / 128.0 + 1e-6, "{a} {b}");
    }
    let effect = |model: &Model| model.logit_effects(last, &[1], 1, &cancel).unwrap().remove(0).promoted[0].effect;
    assert!((effect(model) - effect(wanted)).abs() <= bound * effect(wanted).abs());
    let strongest = |model: &Model| model.input_tokens(0, &[1], 1, &cancel).unwrap().remove(0)[0].activation;
    assert!((strongest(model) - strongest(wanted)).abs() <= bound * strongest(wanted).abs().max(0.1));
    let fed =
        |model: &Model| model.connections(0, 1, 3, &cancel).unwrap().to.first().map_or(0.0, |fed| fed.weight.abs());
    assert!((fed(model) - fed(wanted)).abs() <= bound * fed(wanted));
    assert_eq!(model.strongest_connections(0, last, 1, &cancel).unwrap().len(), model.config().d_mlp);
    let tokens = [1, 2, 3];
    assert_eq!(model.nearest_tokens(&tokens, 2).unwrap().len(), 3);
    let mut batch = Batch::new([], None);
    batch.push_last(&tokens);
    assert_eq!(model.next_tokens(&batch, 4, &cancel).unwrap()[0].len(), 4);
}

#[test]
fn versions_of_plain_models_stay() {
    let model = load("tests/models/gpt2", &[]).unwrap();
    let version = model.version();
    let (unnamed, tokenizer) = version.rsplit_once(" tokenizer=").unwrap();
    let (tokenizer, settings) = tokenizer.split_once('+').unwrap();
    assert!(unnamed.ends_with(" dtype=f32") && tokenizer == model.tokenizer_sha256(), "{version}");
    assert_eq!(settings.len(), 64);
    assert_eq!((model.placed(), model.batch_tokens(1)), (DeviceName::Cpu, 1024));
}

/// Checks that the version of a model changes with its settings.
#[test]
fn settings_are_part_of_a_version() {
    let folder = tempfile::tempdir().unwrap();
    let files = ["config.json", "model.safetensors", "tokenizer.json"];
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/gpt2");
    for file in files {
        std::fs::copy(from.join(file), folder.path().join(file)).unwrap();
    }
    let version = || load(folder.path().to_str().unwrap(), &[]).unwrap().version();
    let mut seen = vec![version()];
    assert_eq!(seen[0], version());
    std::fs::write(folder.path().join("tokenizer_config.json"), r#"{"add_prefix_space": true}"#).unwrap();
    seen.push(version());
    std::fs::write(folder.path().join("tokenizer_config.json"), r#"{"add_prefix_space": false}"#).unwrap();
    seen.push(version());
    let config = std::fs::read_to_string(from.join("config.json")).unwrap();
    let other = config.replace("1e-05", "1e-04");
    assert_ne!(config, other);
    std::fs::write(folder.path().join("config.json"), other).unwrap();
    seen.push(version());
    assert!((1..seen.len()).all(|i| !seen[..i].contains(&seen[i])), "{seen:?}");
}

/// Checks lanes of GPUs, which need no GPU: they are threads and a queue.
#[test]
fn cards_have_lanes() {
    let pool = Pool::new(1).unwrap();
    let job =
        |i: usize| pool.run(Placement::Gpu(i % 2), move || Ok((i, std::thread::current().name().map(str::to_owned))));
    for (i, done) in block_on(join_all((0..20).map(job))).into_iter().enumerate() {
        let (job, thread) = done.unwrap();
        assert_eq!(job, i);
        assert!(thread.unwrap().starts_with("neuroql-GPU"));
    }
    let model = load("tests/models/gpt2", &[]).unwrap();
    assert_eq!(
        (Placement::OneThread.of(&model), Placement::AllThreads.of(&model)),
        (Placement::OneThread, Placement::AllThreads)
    );
}

#[test]
fn names() {
    let device = |name: &str| name.parse::<DeviceName>();
    assert_eq!(device("CPU").unwrap(), DeviceName::Cpu);
    assert_eq!(device("cuda").unwrap(), DeviceName::Cuda(0));
    assert_eq!(device("cuda:12").unwrap(), DeviceName::Cuda(12));
    assert_eq!(device("cuda:1").unwrap().to_string(), "cuda:1");
    for name in ["", "gpu", "cuda:", "cuda:x", "cuda:+1", "cuda:-1", "cuda0", "metal", "cuda:99999999999999999999"] {
        let error = device(name).unwrap_err();
        assert_eq!(error.sqlstate(), "0A000");
        assert!(error.to_string().contains("supported are cpu, and cuda"), "{error}");
    }
    for (name, number) in [("f32", NumberType::F32), ("BF16", NumberType::Bf16), ("f16", NumberType::F16)] {
        assert_eq!(name.parse::<NumberType>().unwrap(), number);
        assert_eq!(number.to_string(), name.to_ascii_lowercase());
    }
    let error = load("tests/models/gpt2", &[("dtype", "f17")]).unwrap_err();
    assert_eq!(error.to_string(), "dtype \"f17\" is not supported; supported are f32, bf16, f16");
    assert_eq!(error.sqlstate(), "0A000");
}

/// Refuses a GPU of a number that no machine has.
#[test]
fn no_such_card() {
    let error = load("tests/models/gpt2", &[("device", "cuda:977")]).unwrap_err();
    assert!(matches!(&error, Error::Device { device, .. } if device == "cuda:977"), "{error}");
    assert_eq!(error.sqlstate(), "0A000");
    let missing = error.to_string();
    if cfg!(feature = "cuda") {
        assert!(
            ["is missing", "finds no GPU", "only GPU", "there are"].iter().any(|part| missing.contains(part)),
            "{missing}"
        );
    } else {
        assert!(missing.contains("this build has no CUDA"), "{missing}");
    }
}
