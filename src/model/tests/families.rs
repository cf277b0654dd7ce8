//! Variants of every family against their reference programs, refusals, and independence of the batch, the threads, and
//! the neurons that are read.
//!
//! The fixtures and their references come from `tests/models/make_variants.py`.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use candle_core::safetensors::Load;
use candle_core::{DType, Device, Tensor};
use neuroql_model::{Activation, Batch, Cancel, Error, Model, Options, Placement, Pool, Positions, ReadSpec, Site};
use proptest::prelude::*;
use safetensors::SafeTensors;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Largest |a − reference| allowed, as a share of the largest |reference| of a layer.
const TOLERANCE: f32 = 1e-4;
/// Largest difference allowed between two ways to compute a number, as the same share.
const SAME: f32 = 1e-5;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn variant(name: &str) -> PathBuf {
    root().join("tests/models/variants").join(name)
}

/// Loads a variant without BOS; those without a tokenizer share one.
fn load(folder: &Path, site: Option<Site>) -> Result<Model, Error> {
    let shared = variant("tokenizer.json").to_str().unwrap().to_owned();
    let tokenizer = (!folder.join("vocab.json").exists()).then_some(shared);
    let options = Options { bos: Some(false), site, tokenizer, ..Options::default() };
    Model::load("variant", folder.to_str().unwrap(), &options, &())
}

fn run(model: &Model, examples: &[&[u32]], layers: impl IntoIterator<Item = (usize, Option<Vec<u32>>)>) -> Vec<Tensor> {
    let spec = ReadSpec::new(model, layers).unwrap();
    model.run(&Batch::new(examples.iter().copied(), model.bos()), &spec, &Cancel::default()).unwrap()
}

fn largest(t: &Tensor) -> f32 {
    if t.elem_count() == 0 {
        return 0.0;
    }
    t.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap()
}

#[track_caller]
fn close(got: &Tensor, wanted: &Tensor, tolerance: f32, what: &str) {
    assert_eq!(got.dims(), wanted.dims(), "{what}");
    let (error, scale) = (largest(&(got - wanted).unwrap()), largest(wanted));
    // Written so that a NaN fails.
    assert!(error <= tolerance * scale, "{what}: off by {error}, largest is {scale}");
}

struct Golden(HashMap<String, Tensor>);

impl Golden {
    fn of(name: &str) -> Self {
        let file = variant("golden").join(name).with_extension("safetensors");
        Self(candle_core::safetensors::load(file, &Device::Cpu).unwrap())
    }

    fn sequences(&self) -> Vec<Vec<u32>> {
        let ids = |n: usize| Some(self.0.get(&format!("{n}.ids"))?.to_dtype(DType::U32).unwrap().to_vec1().unwrap());
        (0..).map_while(ids).collect()
    }

    /// Checks every layer of a site on all sequences as one batch, and the logits after each.
    fn check(&self, model: &Model, site: &str, what: &str) {
        let sequences = self.sequences();
        let examples: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        let layers = 0..model.config().layers;
        let got = run(model, &examples, layers.clone().map(|l| (l, None)));
        for (l, got) in layers.zip(got) {
            let wanted: Vec<_> = (0..sequences.len()).map(|n| &self.0[&format!("{n}.{site}.{l}")]).collect();
            close(&got, &Tensor::cat(&wanted, 0).unwrap(), TOLERANCE, &format!("{what} {site} {l}"));
        }
        let mut last = Batch::new([], model.bos());
        examples.iter().for_each(|ids| last.push_positions(ids, &[ids.len() as u32 - 1]));
        let logits = model.logits(&last, &Cancel::default()).unwrap();
        for n in 0..sequences.len() {
            let wanted = &self.0[&format!("{n}.last_logits")];
            close(&logits.get(n).unwrap(), wanted, TOLERANCE, &format!("{what} logits {n}"));
        }
    }
}

/// Checks all sites of a variant, in both spellings of its configuration if it has two.
fn check(name: &str) -> Model {
    let folder = variant(name);
    let golden = Golden::of(name);
    let model = load(&folder, Some(Site::MlpPost)).unwrap();
    golden.check(&model, "mlp_post", name);
    if model.config().activation == Activation::SoluLn {
        golden.check(&load(&folder, None).unwrap(), "mlp_mid", name);
    }
    let other = folder.join("config.other.json");
    if other.exists() {
        let copy = copy(name);
        fs::copy(other, copy.path().join("config.json")).unwrap();
        let model = load(copy.path(), None).unwrap();
        golden.check(&model, "mlp_post", &format!("{name} in the other spelling"));
    }
    model
}

/// Copies a variant, to damage it.
fn copy(name: &str) -> TempDir {
    let copy = TempDir::new().unwrap();
    for entry in fs::read_dir(variant(name)).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

#[test]
fn hooked_solu_ln_of_old_keys_from_a_pickle_with_masks() {
    let model = check("hooked_solu_ln");
    assert_eq!((model.config().norm.eps, model.config().context), (1e-5, 24));
}

#[test]
fn hooked_of_old_names_and_transposed_matrices() {
    let model = check("hooked_old");
    // Only the layout of W_U shows that the second is old, and nothing shows the layout of W_pos of the first.
    assert_eq!(model.config().context, model.config().d_model);
    let model = check("hooked_old_pre");
    assert_eq!(model.config().d_mlp, model.config().d_model);
}

#[test]
fn hooked_norms_activations_and_positions() {
    assert_eq!(check("hooked_rms_solu_ln").config().positions, Positions::Shortformer);
    assert_eq!(check("hooked_shortformer").config().attention_scale, 1.0);
    check("hooked_rotary");
    check("hooked_rotary_full");
    assert_eq!(check("hooked_rotary_adjacent").config().kv_heads, 2);
    check("hooked_relu");
    check("hooked_silu");
}

#[test]
fn gpt2_from_a_pickle_with_buffers_and_a_vocab_json() {
    let model = check("gpt2_bin");
    assert_eq!(model.config().d_mlp, 40);
    let bytes = fs::read(variant("golden/gpt2_bin.safetensors")).unwrap();
    let texts = SafeTensors::read_metadata(&bytes).unwrap().1.metadata().as_ref().unwrap()["texts"].clone();
    let texts: HashMap<String, Vec<u32>> = serde_json::from_str(&texts).unwrap();
    assert_eq!(texts.len(), 3);
    for (text, ids) in texts {
        assert_eq!(model.tokenizer().encode(&text).unwrap(), ids, "{text}");
        assert_eq!(model.tokenizer().decode(&ids).unwrap(), text);
    }
}

#[test]
fn gpt_neox_serial_without_attention_biases_in_shards() {
    assert!(!check("gpt_neox_serial").config().parallel);
}

#[test]
fn llama_biases_head_widths_and_rope_scalings_in_both_spellings() {
    for name in ["llama_linear", "llama_llama3", "llama_yarn"] {
        let model = check(name);
        let config = model.config();
        assert_ne!(config.heads * config.d_head, config.d_model, "{name}");
    }
}

#[test]
fn mistral_attends_to_its_window_and_qwen2_to_all_unless_told() {
    let window = |model: &Model| model.config().local.as_ref().map(|local| (local.window, local.layers.clone()));
    let mistral = check("mistral");
    assert_eq!((mistral.config().context, window(&mistral).unwrap().0), (40, 20));
    assert_eq!(window(&check("qwen2")), None);
    let told = copy("qwen2");
    set(told.path(), "use_sliding_window", json!(true));
    set(told.path(), "max_window_layers", json!(1));
    assert_eq!(window(&load(told.path(), None).unwrap()), Some((16, vec![false, true])));
    // transformers' default for Qwen2.
    set(told.path(), "use_sliding_window", json!(null));
    assert_eq!(window(&load(told.path(), None).unwrap()), None);
}

#[test]
fn yarn_without_a_factor_stretches_to_the_context() {
    // The explicit factor of the fixture is 40 / 16.
    let copy = copy("llama_yarn");
    let config: Value = serde_json::from_slice(&fs::read(variant("llama_yarn/config.json")).unwrap()).unwrap();
    let mut scaling = config["rope_scaling"].clone();
    scaling["factor"] = json!(null);
    set(copy.path(), "rope_scaling", scaling);
    Golden::of("llama_yarn").check(&load(copy.path(), None).unwrap(), "mlp_post", "null factor");
}

/// Sets a key of a configuration file.
fn set(folder: &Path, key: &str, value: Value) {
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config[key] = value;
    fs::write(&path, config.to_string()).unwrap();
}

/// Error of a variant with a key set.
#[track_caller]
fn refused(name: &str, key: &str, value: Value) -> Error {
    let copy = copy(name);
    set(copy.path(), key, value);
    load(copy.path(), None).map(drop).unwrap_err()
}

#[test]
fn what_cannot_be_run_is_refused_by_name_with_the_supported_list() {
    for (name, key, value, what, supported) in [
        ("llama_yarn", "model_type", json!("bert"), "bert", "gpt_neox"),
        ("llama_yarn", "model_type", json!("llama4"), "llama4", "mistral"),
        ("hooked_relu", "model_type", json!("t5"), "t5", "hooked_transformer"),
        ("hooked_relu", "act_fn", json!("xielu"), "xielu", "solu_ln"),
        ("gpt2_bin", "activation_function", json!("prelu"), "prelu", "gelu_new"),
        ("gpt_neox_serial", "hidden_act", json!("relu6"), "relu6", "relu"),
        // Known activations, but no such network uses them, and gates have no such form.
        ("llama_yarn", "hidden_act", json!("solu"), "solu", "silu"),
        ("gpt2_bin", "activation_function", json!("solu_ln"), "solu_ln", "gelu_new"),
        ("hooked_relu", "normalization_type", json!("BN"), "BN", "LNPre"),
        ("hooked_relu", "positional_embedding_type", json!("alibi"), "alibi", "shortformer"),
        ("llama_yarn", "rope_scaling", json!({"rope_type": "longrope", "factor": 2.0}), "longrope", "llama3"),
        ("hooked_relu", "attn_only", json!(true), "attn_only", "attn_only"),
        ("hooked_relu", "attn_scores_soft_cap", json!(50.0), "attn_scores_soft_cap", "without"),
        ("hooked_relu", "use_qk_norm", json!(true), "use_qk_norm", "without"),
        ("hooked_rotary", "use_NTK_by_parts_rope", json!(true), "use_NTK_by_parts_rope", "without"),
        ("hooked_relu", "attention_dir", json!("bidirectional"), "bidirectional", "without"),
        ("gpt2_bin", "add_cross_attention", json!(true), "add_cross_attention", "without"),
    ] {
        let error = refused(name, key, value);
        assert!(matches!(error, Error::Unsupported { .. }), "{name} {key}: {error:?}");
        assert_eq!(error.sqlstate(), "0A000");
        let text = error.to_string();
        assert!(text.contains(what) && text.contains(supported), "{name} {key}: {text}");
    }
    // The values that TransformerLens writes for "not set" are accepted.
    let copy = copy("hooked_relu");
    for (key, value) in
        [("attn_scores_soft_cap", json!(-1.0)), ("clip_qkv", json!(null)), ("use_qk_norm", json!(false))]
    {
        set(copy.path(), key, value);
    }
    load(copy.path(), None).unwrap();
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    for (name, key, value) in [
        ("hooked_relu", "n_layers", json!(0)),
        ("hooked_relu", "n_ctx", json!(null)),
        ("hooked_relu", "d_model", json!("16")),
        ("hooked_relu", "d_head", json!(-4)),
        ("hooked_rotary", "rotary_dim", json!(10)),
        ("hooked_rotary", "rotary_base", json!("x")),
        ("gpt2_bin", "n_embd", json!(1u64 << 40)),
        ("gpt_neox_serial", "num_attention_heads", json!(0)),
        ("llama_yarn", "num_key_value_heads", json!(3)),
        ("llama_yarn", "rope_scaling", json!({"type": "yarn", "factor": 0.5})),
        ("llama_yarn", "rope_scaling", json!("linear")),
        ("llama_yarn", "rms_norm_eps", json!("small")),
        ("mistral", "sliding_window", json!(0)),
        ("qwen2", "use_sliding_window", json!(1)),
    ] {
        let error = refused(name, key, value);
        assert!(matches!(error, Error::Config(_)), "{name} {key}: {error:?}");
    }
    // A missing key is not null: LayerNorm is TransformerLens' default, and these have no weights for it.
    let copy = copy("hooked_relu");
    let path = copy.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config.as_object_mut().unwrap().remove("normalization_type").unwrap();
    fs::write(&path, config.to_string()).unwrap();
    let error = load(copy.path(), None).unwrap_err().to_string();
    assert!(error.contains("ln1"), "{error}");
}

/// Error of a variant whose tensors were changed.
#[track_caller]
fn spoilt(name: &str, change: impl FnOnce(&mut HashMap<String, Tensor>)) -> Error {
    let copy = copy(name);
    let file = copy.path().join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    // Masks, which candle does not read, are left out.
    let floats = stored.iter().filter(|(_, view)| view.dtype() == safetensors::Dtype::F32);
    let mut tensors: HashMap<String, Tensor> =
        floats.map(|(name, view)| (name.to_owned(), view.load(&Device::Cpu).unwrap())).collect();
    change(&mut tensors);
    candle_core::safetensors::save(&tensors, &file).unwrap();
    load(copy.path(), None).map(drop).unwrap_err()
}

#[test]
fn missing_unexpected_and_misshapen_tensors_are_named() {
    let cases = [
        ("llama_yarn", "model.layers.1.mlp.up_proj.weight"),
        ("llama_yarn", "model.norm.weight"),
        ("qwen2", "model.embed_tokens.weight"),
        ("hooked_rotary_adjacent", "blocks.0.attn._W_K"),
        ("hooked_rotary_adjacent", "blocks.1.attn.W_Q"),
        ("hooked_rotary_adjacent", "blocks.1.ln2.b"),
        ("hooked_shortformer", "pos_embed.W_pos"),
    ];
    for (name, tensor) in cases {
        let error = spoilt(name, |tensors| drop(tensors.remove(tensor).unwrap()));
        let short = tensor.replace("._W", ".W");
        let text = error.to_string();
        assert!(matches!(error, Error::Weights { .. }), "{name} without {tensor}: {error:?}");
        assert!(text.replace("._W", ".W").contains(&short) && text.contains("missing"), "{name} {tensor}: {text}");
        let error = spoilt(name, |tensors| {
            let changed = Tensor::zeros((3, 5), DType::F32, &Device::Cpu).unwrap();
            tensors.insert(tensor.into(), changed).unwrap();
        });
        let text = error.to_string();
        assert!(matches!(error, Error::Weights { .. }), "{name} with another {tensor}: {error:?}");
        assert!(text.contains(tensor) && text.contains("[3, 5]"), "{name} {tensor}: {text}");
    }
    for (name, tensor) in [
        ("llama_yarn", "model.layers.0.self_attn.q_norm.weight"),
        ("llama_yarn", "model.layers.2.mlp.up_proj.weight"),
        ("hooked_relu", "blocks.0.mlp.W_gate"),
        ("hooked_relu", "ln_final.w"),
    ] {
        let error = spoilt(name, |tensors| {
            tensors.insert(tensor.into(), Tensor::zeros(4, DType::F32, &Device::Cpu).unwrap());
        });
        let text = error.to_string();
        assert!(matches!(error, Error::Unsupported { .. }) && text.contains(tensor), "{name} {tensor}: {text}");
    }
}

/// Models: the toy, llama_yarn, hooked_rms_solu_ln and hooked_rotary.
static MODELS: LazyLock<Vec<Arc<Model>>> = LazyLock::new(|| {
    let toy = root().join("datasets/toy");
    let toy = Model::load("toy", toy.to_str().unwrap(), &Options::default(), &()).unwrap();
    // Not hooked_shortformer: its scores are not scaled down and amplify rounding errors a thousandfold.
    let variants =
        ["llama_yarn", "hooked_rms_solu_ln", "hooked_rotary"].map(|name| load(&variant(name), None).unwrap());
    std::iter::once(toy).chain(variants).map(Arc::new).collect()
});

/// Strategy for examples of random ids, some empty and some of a whole window.
fn batches() -> impl Strategy<Value = (usize, Vec<Vec<u32>>)> {
    (0..MODELS.len()).prop_flat_map(|which| {
        let config = MODELS[which].config();
        let (vocabulary, window) = (config.vocabulary as u32, MODELS[which].window());
        let length = prop_oneof![1 => Just(0), 2 => Just(1), 6 => 2..window, 1 => Just(window)];
        let example = length.prop_flat_map(move |n| prop::collection::vec(0..vocabulary, n));
        (Just(which), prop::collection::vec(example, 1..8))
    })
}

/// Examples that often share prefixes: for each, the number of tokens that it has from the one before, tokens of its
/// own, and its wanted positions.
type Alike = Vec<(prop::sample::Index, Vec<u32>, Vec<prop::sample::Index>)>;

fn alike() -> impl Strategy<Value = (usize, Alike)> {
    (0..MODELS.len()).prop_flat_map(|which| {
        let vocabulary = MODELS[which].config().vocabulary as u32;
        let own = prop::collection::vec(0..vocabulary, 0..12);
        let wanted = prop::collection::vec(any::<prop::sample::Index>(), 0..4);
        (Just(which), prop::collection::vec((any::<prop::sample::Index>(), own, wanted), 1..16))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn examples_that_share_what_they_begin_with_give_the_same((which, examples) in alike(), threads in 1..4usize) {
        let model = &MODELS[which];
        let (mut plain, mut sharing) = (Batch::new([], model.bos()), Batch::sharing(model.bos()));
        let mut last: Vec<u32> = Vec::new();
        for (i, (kept, own, wanted)) in examples.into_iter().enumerate() {
            last.truncate(kept.index(last.len() + 1));
            last.extend(own);
            last.truncate(model.window());
            let mut positions: Vec<u32> = Vec::new();
            if !last.is_empty() {
                positions.extend(wanted.iter().map(|position| position.index(last.len()) as u32));
                positions.sort_unstable();
                positions.dedup();
            }
            for batch in [&mut plain, &mut sharing] {
                match i % 3 {
                    0 => batch.push(&last),
                    1 => batch.push_positions(&last, &positions),
                    _ => batch.push_last(&last),
                }
            }
        }
        prop_assert_eq!(plain.rows(), sharing.rows());
        prop_assert!(sharing.tokens() <= plain.tokens());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let run = |batch: &Batch, layers: Vec<(usize, Option<Vec<u32>>)>| {
            let spec = ReadSpec::new(model, layers).unwrap();
            pool.install(|| model.run(batch, &spec, &Cancel::default()).unwrap())
        };
        let every = |batch: &Batch| run(batch, (0..model.config().layers).map(|l| (l, None)).collect());
        let wanted = every(&plain);
        for (got, wanted) in every(&sharing).iter().zip(&wanted) {
            close(got, wanted, SAME, "all neurons");
        }
        let (last, neurons) = (model.config().layers - 1, [3u32, 0, 3]);
        let columns = Tensor::new(&neurons, &Device::Cpu).unwrap();
        let some = wanted[last].index_select(&columns, 1).unwrap();
        let got = run(&sharing, vec![(last, Some(neurons.to_vec()))]).remove(0);
        // Relative to the layer, as a few neurons may hardly be active.
        prop_assert!(largest(&(got - some).unwrap()) <= SAME * largest(&wanted[last]), "some neurons");
        if !plain.is_empty() {
            let logits = |batch: &Batch| model.logits(batch, &Cancel::default()).unwrap();
            close(&logits(&sharing), &logits(&plain), SAME, "logits");
        }
    }
}

#[test]
fn what_is_shared_runs_once() {
    let mut batch = Batch::sharing(Some(0));
    for tokens in [&[1, 2, 3][..], &[1, 2, 4, 5], &[1, 2, 3], &[1], &[2, 3], &[]] {
        batch.push(tokens);
    }
    // BOS; 1 2 3; 4 5 after 1 2; 2 3.
    assert_eq!((batch.tokens(), batch.rows()), (8, 13));
    let mut batch = Batch::sharing(None);
    batch.push_last(&[]);
    assert!(batch.is_empty() && batch.tokens() == 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_text_alone_or_in_any_batch_gives_the_same((which, examples) in batches()) {
        let model = &MODELS[which];
        let examples: Vec<&[u32]> = examples.iter().map(Vec::as_slice).collect();
        let layers = || (0..model.config().layers).map(|l| (l, None));
        let together = run(model, &examples, layers());
        let mut first = 0;
        for (n, example) in examples.iter().enumerate() {
            for (l, alone) in run(model, &[example], layers()).iter().enumerate() {
                let mine = together[l].narrow(0, first, example.len()).unwrap();
                close(&mine, alone, SAME, &format!("{} example {n} layer {l}", model.name()));
            }
            first += example.len();
        }
    }

    #[test]
    fn reading_less_changes_nothing(
        (which, examples) in batches(),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 1..12),
        every in 1..5usize,
    ) {
        let model = &MODELS[which];
        let config = model.config();
        let examples: Vec<&[u32]> = examples.iter().map(Vec::as_slice).collect();
        let neurons: Vec<u32> = picks.iter().map(|pick| pick.index(config.d_mlp) as u32).collect();
        let columns = Tensor::from_slice(&neurons, neurons.len(), &Device::Cpu).unwrap();
        let all = run(model, &examples, (0..config.layers).map(|l| (l, None)));

        // One layer at a time, all neurons and some.
        for (l, wanted) in all.iter().enumerate() {
            close(&run(model, &examples, [(l, None)])[0], wanted, SAME, "one layer");
            let some = wanted.index_select(&columns, 1).unwrap();
            let got = run(model, &examples, [(l, Some(neurons.clone()))]).remove(0);
            // Relative to the layer, as a neuron may hardly be active.
            prop_assert!(largest(&(got - some).unwrap()) <= SAME * largest(wanted), "neurons of layer {}", l);
        }
        // Some neurons at every layer, at the deepest and above it.
        let gathered = run(model, &examples, (0..config.layers).rev().map(|l| (l, Some(neurons.clone()))));
        for (wanted, got) in all.iter().zip(gathered) {
            let some = wanted.index_select(&columns, 1).unwrap();
            prop_assert!(largest(&(got - some).unwrap()) <= SAME * largest(wanted), "neurons of all layers");
        }
        // Some positions.
        let mut batch = Batch::new([], model.bos());
        let (mut rows, mut first) = (Vec::new(), 0);
        for example in &examples {
            let positions: Vec<u32> = (0..example.len() as u32).step_by(every).collect();
            batch.push_positions(example, &positions);
            rows.extend(positions.iter().map(|p| first + p));
            first += example.len() as u32;
        }
        let spec = ReadSpec::new(model, (0..config.layers).map(|l| (l, None))).unwrap();
        let rows = Tensor::from_slice(&rows, rows.len(), &Device::Cpu).unwrap();
        for (wanted, got) in all.iter().zip(model.run(&batch, &spec, &Cancel::default()).unwrap()) {
            let some = wanted.index_select(&rows, 0).unwrap();
            prop_assert_eq!(got.dims(), some.dims());
            prop_assert!(largest(&(got - some).unwrap()) <= SAME * largest(wanted), "some positions");
        }
    }
}

/// Activations of all layers as numbers.
fn numbers(model: &Model, examples: &[Vec<u32>]) -> Vec<Vec<f32>> {
    let examples: Vec<&[u32]> = examples.iter().map(Vec::as_slice).collect();
    let values = run(model, &examples, (0..model.config().layers).map(|l| (l, None)));
    values.into_iter().map(|t| t.flatten_all().unwrap().to_vec1().unwrap()).collect()
}

#[test]
fn results_do_not_depend_on_threads() {
    for model in MODELS.iter() {
        let (vocabulary, window) = (model.config().vocabulary, model.window());
        // Enough tokens that every kernel splits them.
        let examples: Vec<Vec<u32>> = (0..1024usize.div_ceil(window))
            .map(|n| (0..window - n % 3).map(|p| ((p * 7919 + n * 104_729) % vocabulary) as u32).collect())
            .collect();
        let mut results = Vec::new();
        for (threads, width) in [
            (1, Placement::OneThread),
            (1, Placement::AllThreads),
            (2, Placement::OneThread),
            (2, Placement::AllThreads),
            (5, Placement::AllThreads),
        ] {
            let pool = Pool::new(threads).unwrap();
            let (model, examples) = (Arc::clone(model), examples.clone());
            let job = pool.run(width, move || Ok(numbers(&model, &examples)));
            results.push(futures::executor::block_on(job).unwrap());
        }
        for other in &results[1..] {
            assert!(*other == results[0], "{}", model.name());
        }
    }
}

#[test]
fn nothing_to_run_gives_no_rows() {
    for model in MODELS.iter() {
        let values = run(model, &[], [(0, None), (1, Some(vec![3, 1]))]);
        assert_eq!((values[0].dims(), values[1].dims()), (&[0, model.config().d_mlp][..], &[0, 2][..]));
        assert_eq!(run(model, &[&[], &[]], [(0, None)])[0].dim(0).unwrap(), 0);
        let logits = model.logits(&Batch::new([], model.bos()), &Cancel::default()).unwrap();
        assert_eq!(logits.dims(), [0, model.config().vocabulary]);
    }
}

#[test]
fn tokens_outside_the_vocabulary_and_the_window_are_errors() {
    for model in MODELS.iter() {
        let spec = ReadSpec::new(model, [(0, None)]).unwrap();
        let unknown = [1, model.config().vocabulary as u32];
        let long = vec![1; model.window() + 1];
        let error = |tokens: &[u32]| {
            model.run(&Batch::new([tokens], model.bos()), &spec, &Cancel::default()).map(drop).unwrap_err()
        };
        assert!(matches!(error(&unknown), Error::OutOfRange { what: "token id", .. }));
        assert!(matches!(error(&long), Error::Internal(_)));
    }
}
