//! Odd configurations and tensors, as transformers takes them (`tests/models/make_edges.py`), and refusals by name.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use neuroql_model::{Batch, Cancel, Error, Model, Options, ReadSpec};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Largest |a − reference| allowed, as a share of the largest |reference|.
const TOLERANCE: f32 = 1e-4;

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models")
}

/// Reads the weights of a network of `tests/models`.
fn tensors(of: &str) -> HashMap<String, Tensor> {
    let files = fs::read_dir(models().join(of)).unwrap().map(|entry| entry.unwrap().path());
    let weights = files.filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("model") && name.ends_with(".safetensors")
    });
    weights.flat_map(|path| candle_core::safetensors::load(path, &Device::Cpu).unwrap()).collect()
}

/// Writes a network with the changes of a case.
fn changed(case: &Value) -> TempDir {
    let of = case["of"].as_str().unwrap();
    let mut config: Value = serde_json::from_slice(&fs::read(models().join(of).join("config.json")).unwrap()).unwrap();
    let map = config.as_object_mut().unwrap();
    case["remove"].as_array().into_iter().flatten().for_each(|key| drop(map.remove(key.as_str().unwrap())));
    map.extend(case["set"].as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
    let mut tensors = tensors(of);
    case["drop"]
        .as_array()
        .into_iter()
        .flatten()
        .for_each(|name| drop(tensors.remove(name.as_str().unwrap()).unwrap()));
    for (key, dtype) in [("ones", DType::F32), ("bytes", DType::U8)] {
        for (name, shape) in case[key].as_object().into_iter().flatten() {
            let shape: Vec<usize> = serde_json::from_value(shape.clone()).unwrap();
            tensors.insert(name.clone(), Tensor::ones(shape, dtype, &Device::Cpu).unwrap());
        }
    }
    if let [Value::String(old), Value::String(new)] = case["rename"].as_array().map_or(&[][..], Vec::as_slice) {
        let renamed = |name: String| name.strip_prefix(old).map(|rest| format!("{new}{rest}")).unwrap_or(name);
        tensors = tensors.into_iter().map(|(name, tensor)| (renamed(name), tensor)).collect();
    }
    let folder = TempDir::new().unwrap();
    candle_core::safetensors::save(&tensors, folder.path().join("model.safetensors")).unwrap();
    let mut config = config.to_string();
    if let Some(raw) = case["raw"].as_str() {
        config.insert_str(config.len() - 1, &format!(", {raw}"));
    }
    fs::write(folder.path().join("config.json"), config).unwrap();
    folder
}

fn load(folder: &Path) -> Result<Model, Error> {
    let tokenizer = Some(models().join("variants/tokenizer.json").to_str().unwrap().to_owned());
    let options = Options { bos: Some(false), tokenizer, ..Options::default() };
    Model::load("edge", folder.to_str().unwrap(), &options, &())
}

fn largest(t: &Tensor) -> f32 {
    t.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap()
}

/// Message about the error of a tensor, if it is above the tolerance.
fn off(got: &Tensor, wanted: &Tensor) -> Option<String> {
    let (error, scale) = (largest(&(got - wanted).unwrap()), largest(wanted));
    // Written so that a NaN is off.
    if error <= TOLERANCE * scale { None } else { Some(format!("off by {error}, largest is {scale}")) }
}

#[test]
fn odd_configurations_and_tensors_give_what_transformers_gives() {
    let fixture: Value = serde_json::from_slice(&fs::read(models().join("edges.json")).unwrap()).unwrap();
    let golden = candle_core::safetensors::load(models().join("edges.safetensors"), &Device::Cpu).unwrap();
    let ids: Vec<u32> = serde_json::from_value(fixture["ids"].clone()).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    assert!(cases.len() > 100);
    let mut wrong = Vec::new();
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let folder = changed(case);
        let model = match load(folder.path()) {
            Ok(model) => model,
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        let spec = ReadSpec::new(&model, [(model.config().layers - 1, None)]).unwrap();
        let got = model.run(&Batch::new([ids.as_slice()], None), &spec, &Cancel::default()).unwrap();
        wrong.extend(off(&got[0], &golden[name]).map(|reason| format!("{name}: {reason}")));
        if case["head"] != true {
            continue;
        }
        let mut last = Batch::new([], None);
        last.push_positions(&ids, &[ids.len() as u32 - 1]);
        let (logits, effects) =
            (model.logits(&last, &Cancel::default()), model.logit_effects(0, &[0], 1, &Cancel::default()));
        match (golden.get(&format!("{name} logits")), logits) {
            (Some(wanted), Ok(logits)) => {
                wrong.extend(off(&logits.get(0).unwrap(), wanted).map(|reason| format!("{name}, logits: {reason}")));
                effects.unwrap();
            }
            (Some(_), Err(error)) => wrong.push(format!("{name}, logits: {error}")),
            (None, Ok(_)) => wrong.push(format!("{name}: has logits without a head")),
            (None, Err(error)) => {
                for error in [error, effects.unwrap_err(), model.next_tokens(&last, 1, &Cancel::default()).unwrap_err()]
                {
                    assert!(matches!(error, Error::Unsupported { what: "unembedding", .. }), "{name}: {error}");
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

const PLAIN: &str = "variants/llama_llama3";

/// Error of a network with keys set.
#[track_caller]
fn refused(of: &str, set: Value) -> String {
    let folder = changed(&json!({"of": of, "set": set}));
    load(folder.path()).map(drop).unwrap_err().to_string()
}

#[test]
fn quantised_checkpoints_are_refused_by_the_name_of_their_method() {
    let with = |said: Value| refused(PLAIN, json!({"quantization_config": said}));
    for method in
        ["gptq", "awq", "fp8", "compressed-tensors", "hqq", "eetq", "aqlm", "quanto", "torchao", "mxfp4", "vptq"]
    {
        let text = with(json!({"quant_method": method, "bits": 4}));
        assert!(text.contains("quantisation") && text.contains(&format!("{method}, 4 bits")), "{text}");
        assert!(text.contains("quantization_config of config.json") && text.contains("GGUF"), "{text}");
    }
    assert!(with(json!({"load_in_4bit": true})).contains("bitsandbytes, 4 bits"));
    let eight = json!({"load_in_8bit": true, "load_in_4bit": false, "quant_method": "bitsandbytes"});
    assert!(with(eight).contains("bitsandbytes, 8 bits"));
    assert!(with(json!({})).contains("method not named"));
    assert!(refused(PLAIN, json!({"compression_config": {"quant_method": "sparseml"}})).contains("sparseml"));
    // Without a key in config.json, the tensors decide.
    let tensor = "model.layers.0.mlp.up_proj";
    for (ending, method) in [
        ("qweight", "GPTQ or AWQ"),
        ("g_idx", "GPTQ"),
        ("weight_packed", "compressed-tensors"),
        ("weight.quant_state.bitsandbytes__nf4", "bitsandbytes, 4 bits"),
        ("SCB", "bitsandbytes, 8 bits"),
        ("weight_scale_inv", "fp8"),
        ("W_q", "hqq"),
        ("codebooks", "aqlm"),
    ] {
        let name = format!("{tensor}.{ending}");
        let case = json!({"of": PLAIN, "drop": [format!("{tensor}.weight")], "ones": {name.as_str(): [4]}});
        let text = load(changed(&case).path()).map(drop).unwrap_err().to_string();
        assert!(text.contains(method) && text.contains(&name), "{text}");
    }
    assert!(load(changed(&json!({"of": PLAIN, "set": {"quantization_config": null}})).path()).is_ok());
}

/// Experts in MXFP4 of gpt-oss are read, and what is not as they are stored is refused with the file and what is expected.
#[test]
fn packed_experts_that_do_not_fit_are_refused() {
    let of = "families/gpt_oss_mxfp4";
    let refusal = |mut case: Value| {
        case["of"] = of.into();
        load(changed(&case).path()).map(drop).unwrap_err()
    };
    assert!(load(changed(&json!({"of": of})).path()).is_ok());
    let matrix = "model.layers.1.mlp.experts.down_proj";
    let [blocks, scales] = ["blocks", "scales"].map(|part| format!("{matrix}_{part}"));
    let (blocks, scales, other) = (blocks.as_str(), scales.as_str(), "model.layers.0.self_attn.q_proj_blocks");
    for (case, tensor, words) in [
        (json!({"drop": [scales]}), scales, "expected U8 [experts, rows, groups] beside"),
        (json!({"drop": [blocks]}), blocks, "expected U8 [experts, rows, groups, 16] beside"),
        (json!({"ones": {blocks: [4, 32, 2, 16]}}), blocks, "is F32 [4, 32, 2, 16] in"),
        (json!({"bytes": {blocks: [4, 32, 4, 8]}}), blocks, "blocks of mxfp4 are U8 [experts, rows, groups, 16]"),
        (json!({"bytes": {blocks: [4, 32, 32]}}), blocks, "is U8 [4, 32, 32] in"),
        (json!({"bytes": {scales: [4, 32, 1]}}), scales, "its blocks ask for U8 [4, 32, 2]"),
        (json!({"ones": {scales: [4, 32, 2]}}), scales, "its blocks ask for U8 [4, 32, 2]"),
        (json!({"ones": {matrix: [4, 64, 32]}}), matrix, "expected one of them"),
        (json!({"bytes": {other: [48, 1, 16]}}), other, "mxfp4 is expected of .mlp.experts.gate_up_proj and"),
    ] {
        let error = refusal(case.clone());
        let text = error.to_string();
        assert!(matches!(&error, Error::Weights { tensor: named, .. } if named == tensor), "{case}: {text}");
        assert!(text.contains(words) && text.contains("model.safetensors"), "{case}: {text}");
    }
    // Well packed, and not of this network.
    let text = refusal(json!({"bytes": {blocks: [4, 32, 1, 16], scales: [4, 32, 1]}})).to_string();
    assert!(text.contains(matrix) && text.contains("[4, 32, 32], the configuration asks for [4, 64, 32]"), "{text}");
    // Nothing in config.json says that they are packed, or another method is said too.
    let text = refusal(json!({"remove": ["quantization_config"]})).to_string();
    assert!(text.contains("mxfp4 (tensor model.layers.0.mlp.experts.down_proj_blocks)"), "{text}");
    let both = json!({"quantization_config": {"quant_method": "mxfp4", "load_in_4bit": true}});
    assert!(refused(of, both).contains("quantization_config of config.json"));
    // As in transformers, what is not packed is read as it is.
    let plain = json!({"of": "families/gpt_oss", "set": {"quantization_config": {"quant_method": "mxfp4"}}});
    assert!(load(changed(&plain).path()).is_ok());
}

#[test]
fn what_transformers_fails_on_is_refused_by_name() {
    for (of, set, words) in [
        (PLAIN, json!({"rope_scaling": {"rope_type": "linear"}}), "factor is missing"),
        (PLAIN, json!({"rope_scaling": {"rope_type": "yarn"}}), "factor is missing"),
        (PLAIN, json!({"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}), "low_freq_factor is missing"),
        (
            PLAIN,
            json!({"rope_scaling": {"rope_type": "linear", "factor": 2.0}, "partial_rotary_factor": 0.5}),
            "partial_rotary_factor",
        ),
        (
            PLAIN,
            json!({"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0}}}),
            "full_attention",
        ),
        (PLAIN, json!({"attention_bias": true}), "self_attn.q_proj.bias"),
        (PLAIN, json!({"mlp_bias": true}), "mlp.gate_proj.bias"),
        ("variants/gpt_neox_serial", json!({"attention_bias": null}), "query_key_value.bias"),
        ("variants/qwen2", json!({"layer_types": ["sliding_attention", "full_attention"]}), "use_sliding_window"),
        ("variants/qwen2", json!({"layer_types": ["chunked_attention", "full_attention"]}), "chunked_attention"),
        // Numbers that are not finite, in keys that are used.
        (PLAIN, json!({"rms_norm_eps": {"__float__": "NaN"}}), "rms_norm_eps is NaN"),
        (PLAIN, json!({"rope_parameters": {"rope_theta": {"__float__": "Infinity"}}}), "rope_theta is Infinity"),
        (PLAIN, json!({"rope_scaling": {"__float__": "NaN"}}), "rope_scaling is NaN"),
    ] {
        let text = refused(of, set.clone());
        assert!(text.contains(words), "{of} {set}: {text}");
    }
    let case = json!({"of": "variants/mistral", "remove": ["num_key_value_heads"]});
    let text = load(changed(&case).path()).map(drop).unwrap_err().to_string();
    assert!(text.contains("4 query heads cannot share 8"), "{text}");
}

/// Checks the number of tokens that some layer attends to at most: the sliding window of transformers' attention, or the
/// context.
#[test]
fn windows_are_those_of_transformers() {
    let context = |of: &str, set: Value, remove: &[&str]| {
        let folder = changed(&json!({"of": of, "set": set, "remove": remove}));
        let model = load(folder.path()).unwrap();
        model.config().local.as_ref().map_or(model.config().context, |local| local.window)
    };
    let (mistral, qwen2) = ("variants/mistral", "variants/qwen2");
    assert_eq!(context(mistral, json!({}), &[]), 20);
    assert_eq!(context(mistral, json!({"sliding_window": null}), &[]), 40);
    let long = json!({"max_position_embeddings": 9000});
    assert_eq!(context(mistral, long.clone(), &["sliding_window"]), 4096);
    assert_eq!(context(mistral, json!({"sliding_window": null, "max_position_embeddings": 9000}), &[]), 9000);
    assert_eq!(context(mistral, json!({"sliding_window": null}), &["max_position_embeddings"]), 131_072);
    assert_eq!(context(mistral, json!({"use_sliding_window": false, "layer_types": ["full_attention"]}), &[]), 20);
    assert_eq!(context(PLAIN, json!({"sliding_window": 4, "use_sliding_window": true}), &[]), 40);
    // Qwen2 has sliding windows from a layer on, and only with use_sliding_window.
    let qwen = |set: Value| context(qwen2, set, &[]);
    assert_eq!(qwen(json!({"use_sliding_window": false, "max_window_layers": 0})), 40);
    assert_eq!(qwen(json!({"use_sliding_window": true, "max_window_layers": 2})), 40);
    assert_eq!(qwen(json!({"use_sliding_window": true, "max_window_layers": 1})), 16);
    assert_eq!(qwen(json!({"use_sliding_window": true, "sliding_window": null, "max_window_layers": 0})), 40);
    let types = |first: &str| json!({"use_sliding_window": true, "max_window_layers": 0, "layer_types": [first, "full_attention"]});
    assert_eq!(qwen(types("full_attention")), 40);
    assert_eq!(qwen(types("sliding_attention")), 16);
    let told = json!({"use_sliding_window": true, "max_window_layers": 0, "max_position_embeddings": 9000});
    assert_eq!(context(qwen2, told.clone(), &["sliding_window"]), 4096);
    // By transformers' default, the first sliding layer is the 28th.
    assert_eq!(context(qwen2, json!({"use_sliding_window": true}), &["max_window_layers"]), 40);
}
