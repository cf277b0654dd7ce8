//! Activations of every family against float64 references of Hugging Face transformers (and JAX for the toy).

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use neuroql_model::{Batch, Cancel, Error, Model, Options, ReadSpec, Reference, Site};
use neuroql_requirements::Requirement;
use safetensors::SafeTensors;

/// Largest |a − reference| allowed, as a share of the largest |reference| of a layer.
const TOLERANCE: f32 = 1e-4;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

struct Golden {
    tensors: HashMap<String, Tensor>,
    texts: Vec<String>,
}

impl Golden {
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let texts = header.metadata().as_ref().unwrap()["texts"].clone();
        Self {
            tensors: candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).unwrap(),
            texts: serde_json::from_str(&texts).unwrap(),
        }
    }

    /// Checks a layer of a site on all texts, run as one batch.
    fn check(&self, model: &Model, site: &str, layer: usize, neurons: Option<Vec<u32>>) {
        let spec = ReadSpec::new(model, [(layer, neurons)]).unwrap();
        let tokens: Vec<Vec<u32>> = self.texts.iter().map(|t| model.tokenizer().encode(t).unwrap()).collect();
        let batch = Batch::new(tokens.iter().map(Vec::as_slice), model.bos());
        let got = model.run(&batch, &spec, &Cancel::default()).unwrap().remove(0);
        let wanted = self.texts.iter().enumerate().map(|(i, _)| {
            let reference = &self.tensors[&format!("{i}.{site}.{layer}")];
            // The references have a row for BOS, activations do not.
            let skip = usize::from(model.bos().is_some());
            reference.narrow(0, skip, reference.dim(0).unwrap() - skip).unwrap()
        });
        let wanted = Tensor::cat(&wanted.collect::<Vec<_>>(), 0).unwrap();
        close(&got, &wanted, &format!("{} {site} {layer}", model.name()));
    }

    fn check_logits(&self, model: &Model) {
        for (i, text) in self.texts.iter().enumerate() {
            let tokens = model.tokenizer().encode(text).unwrap();
            let mut batch = Batch::new([], model.bos());
            batch.push_positions(&tokens, &[tokens.len() as u32 - 1]);
            let got = model.logits(&batch, &Cancel::default()).unwrap().squeeze(0).unwrap();
            close(&got, &self.tensors[&format!("{i}.last_logits")], &format!("{} logits of {text:?}", model.name()));
        }
    }

    /// Checks the tokens predicted after each text, all as one batch.
    fn check_next_tokens(&self, model: &Model, count: usize) {
        let mut batch = Batch::new([], model.bos());
        self.texts.iter().for_each(|text| batch.push_last(&model.tokenizer().encode(text).unwrap()));
        let next = model.next_tokens(&batch, count, &Cancel::default()).unwrap();
        assert_eq!(next.len(), self.texts.len());
        for (i, next) in next.iter().enumerate() {
            let logits = &self.tensors[&format!("{i}.last_logits")];
            let logits: Vec<f64> = logits.to_dtype(candle_core::DType::F64).unwrap().to_vec1().unwrap();
            let sum: f64 = logits.iter().map(|x| x.exp()).sum();
            let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
            ids.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
            let expected = ids.iter().take(count).map(|id| (*id, logits[*id as usize].exp() / sum));
            assert_eq!(next.len(), count.min(ids.len()));
            for ((id, probability), (wanted, wanted_probability)) in next.iter().zip(expected) {
                assert_eq!(*id, wanted, "{} after text {i}", model.name());
                assert!((f64::from(*probability) - wanted_probability).abs() < 1e-5);
            }
        }
        assert!(model.next_tokens(&batch, 0, &Cancel::default()).unwrap().iter().all(Vec::is_empty));
        assert!(model.next_tokens(&Batch::new([], None), 5, &Cancel::default()).unwrap().is_empty());
    }
}

fn close(got: &Tensor, wanted: &Tensor, what: &str) {
    assert_eq!(got.dims(), wanted.dims(), "{what}");
    let largest = |t: &Tensor| t.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
    let error = largest(&(got - wanted).unwrap());
    let scale = largest(wanted);
    assert!(error <= TOLERANCE * scale, "{what}: off by {error}, largest is {scale}");
}

fn check_folder(name: &str, bos: bool) {
    let folder = root().join("tests/models").join(name);
    let options = Options { bos: Some(bos), ..Options::default() };
    let model = Model::load(name, folder.to_str().unwrap(), &options, &()).unwrap();
    let golden = Golden::read(&folder.join("golden.safetensors"));
    for layer in 0..model.config().layers {
        golden.check(&model, "mlp_post", layer, None);
    }
    golden.check_logits(&model);
    golden.check_next_tokens(&model, 20);
    verifies(&model, &folder.join("golden.safetensors"), None);
}

/// Checks that a text has the same activations in every batch, and those of the reference if it has the layer.
fn verifies(model: &Model, golden: &Path, layers: Option<&[usize]>) {
    let reference = Reference::open(golden.to_str().unwrap()).unwrap();
    let found = model.verify(None, Some(&reference), &Cancel::default()).unwrap();
    assert_eq!(found.len(), model.config().layers);
    for layer in &found {
        assert!(layer.batched < 1e-5 && layer.reordered < 1e-5 && layer.moved < 1e-5, "{} {layer:?}", model.name());
        assert_eq!(layer.reference.is_some(), layers.is_none_or(|layers| layers.contains(&layer.layer)), "{layer:?}");
        assert!(layer.reference.is_none_or(|reference| reference < TOLERANCE), "{} {layer:?}", model.name());
        assert!(layer.largest > 0.0);
    }
}

/// Copies the golden file of gpt2 with another header or other data.
fn damaged(change: impl Fn(&mut serde_json::Value, &mut Vec<u8>)) -> tempfile::NamedTempFile {
    let bytes = std::fs::read(root().join("tests/models/gpt2/golden.safetensors")).unwrap();
    let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let (mut header, mut data) = (serde_json::from_slice(header).unwrap(), data.to_vec());
    change(&mut header, &mut data);
    let header = header.to_string();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()).unwrap();
    file
}

#[test]
fn references_that_differ_or_do_not_fit_are_told() {
    let folder = root().join("tests/models/gpt2");
    let load =
        |bos| Model::load("gpt2", folder.to_str().unwrap(), &Options { bos: Some(bos), ..Options::default() }, &());
    let model = load(true).unwrap();
    let verify = |model: &Model, file: &Path| {
        Reference::open(file.to_str().unwrap())
            .and_then(|reference| model.verify(None, Some(&reference), &Cancel::default()))
    };
    // One number of text 3, at layer 1, is larger by as much as the largest of the layer.
    let largest = verify(&model, &folder.join("golden.safetensors")).unwrap()[1].largest;
    let off = damaged(|header, data| {
        let start = header["3.mlp_post.1"]["data_offsets"][0].as_u64().unwrap() as usize + 4 * (192 * 5 + 7);
        let value = f32::from_le_bytes(*data[start..].first_chunk().unwrap());
        data[start..start + 4].copy_from_slice(&(value + largest).to_le_bytes());
    });
    let found = verify(&model, off.path()).unwrap();
    assert!((found[1].reference.unwrap() - 1.0).abs() < 1e-3, "{found:?}");
    assert!([0, 2].iter().all(|layer| found[*layer].reference.unwrap() < TOLERANCE), "{found:?}");
    assert!(found.iter().all(|layer| layer.batched < 1e-5 && layer.reordered < 1e-5 && layer.moved < 1e-5));

    let about = |texts: &'static str| {
        move |header: &mut serde_json::Value, _: &mut Vec<u8>| header["__metadata__"]["texts"] = texts.into()
    };
    let renamed = |from: &'static str, to: &'static str| {
        move |header: &mut serde_json::Value, _: &mut Vec<u8>| {
            let tensor = header.as_object_mut().unwrap().remove(from).unwrap();
            header[to] = tensor;
        }
    };
    let refused: [(tempfile::NamedTempFile, &str); 9] = [
        (
            damaged(|header, _| drop(header["__metadata__"].as_object_mut().unwrap().remove("texts"))),
            "has no \"texts\"",
        ),
        (damaged(about("Hello")), "no JSON list of texts"),
        (damaged(about("[]")), "empty list"),
        (damaged(about("[\"Hallo\"]")), "\"0.ids\" has 4 tokens"),
        (damaged(renamed("2.ids", "2.tokens")), "no tensor \"2.ids\""),
        (damaged(renamed("0.mlp_post.2", "0.mlp_post.3")), "layers 0 to 2"),
        (damaged(renamed("4.mlp_post.1", "4.mlp_pre.1")), "no tensor \"4.mlp_post.1\""),
        (damaged(|header, _| header["0.mlp_post.0"]["shape"] = serde_json::json!([192, 4])), "shape [192, 4]"),
        (damaged(|header, _| header["1.ids"]["dtype"] = "F32".into()), "\"1.ids\" is of type F32"),
    ];
    for (file, reason) in &refused {
        let error = verify(&model, file.path()).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }) && error.to_string().contains(reason), "{reason}: {error}");
        assert!(error.to_string().contains(file.path().to_str().unwrap()), "{error}");
    }
    // A model registered without the BOS of the reference.
    let error = verify(&load(false).unwrap(), &folder.join("golden.safetensors")).unwrap_err().to_string();
    assert!(error.contains("'bos'") && error.contains("at index 0"), "{error}");
    for (file, reason) in [("config.json", "safetensors"), ("none", "no such file"), ("", "folder")] {
        let error = verify(&model, &folder.join(file)).unwrap_err().to_string().to_lowercase();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn gpt2_matches_transformers() {
    check_folder("gpt2", true);
}

#[test]
fn gpt_neox_matches_transformers() {
    check_folder("gpt_neox", true);
}

#[test]
fn llama_matches_transformers() {
    check_folder("llama", true);
}

#[test]
fn toy_matches_jax_at_both_sites() {
    let folder = root().join("datasets/toy");
    let golden = Golden::read(&folder.join("golden.safetensors"));
    for (site, name) in [(Site::MlpMid, "mlp_mid"), (Site::MlpPost, "mlp_post")] {
        let options = Options { site: Some(site), ..Options::default() };
        let model = Model::load("toy", folder.to_str().unwrap(), &options, &()).unwrap();
        assert_eq!(model.bos(), Some(0));
        for layer in 0..2 {
            golden.check(&model, name, layer, None);
        }
        golden.check_logits(&model);
        golden.check_next_tokens(&model, 100);
        verifies(&model, &folder.join("golden.safetensors"), None);
    }
}

#[test]
fn toy_matches_transformer_lens_at_every_site() {
    let tensors = candle_core::safetensors::load(root().join("tests/models/toy_sites.safetensors"), &Device::Cpu);
    let tensors = tensors.unwrap();
    let ids: Vec<u32> = tensors["ids"].to_dtype(DType::U32).unwrap().to_vec1().unwrap();
    let folder = root().join("datasets/toy");
    let sites = [
        Site::ResidPre,
        Site::AttnZ,
        Site::AttnOut,
        Site::ResidMid,
        Site::MlpIn,
        Site::MlpPre,
        Site::MlpMid,
        Site::MlpPost,
        Site::MlpOut,
        Site::ResidPost,
    ];
    assert_eq!(tensors.len(), 1 + 2 * sites.len());
    for site in sites {
        let options = Options { site: Some(site), ..Options::default() };
        let model = Model::load("toy", folder.to_str().unwrap(), &options, &()).unwrap();
        let batch = Batch::new([&ids[1..]], model.bos());
        for layer in 0..2 {
            let spec = ReadSpec::new(&model, [(layer, None)]).unwrap();
            let values = model.run(&batch, &spec, &Cancel::default()).unwrap().remove(0);
            let wanted = tensors[&format!("{site}.{layer}")].narrow(0, 1, ids.len() - 1).unwrap();
            close(&values, &wanted, &format!("{site} {layer}"));
        }
    }
}

/// At `mlp.pre`, SoLU in float64 of what is read gives the neurons.
#[test]
fn inputs_of_the_toys_neurons() {
    let folder = root().join("datasets/toy");
    let golden = Golden::read(&folder.join("golden.safetensors"));
    let options = Options { site: Some(Site::MlpPre), ..Options::default() };
    let model = Model::load("toy", folder.to_str().unwrap(), &options, &()).unwrap();
    for layer in 0..2 {
        for (i, text) in golden.texts.iter().enumerate() {
            let tokens = model.tokenizer().encode(text).unwrap();
            let batch = Batch::new([tokens.as_slice()], model.bos());
            let spec = ReadSpec::new(&model, [(layer, None)]).unwrap();
            let pre = model.run(&batch, &spec, &Cancel::default()).unwrap().remove(0);
            let solu = |row: Vec<f32>| -> Vec<f32> {
                let row: Vec<f64> = row.into_iter().map(f64::from).collect();
                let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = row.iter().map(|x| (x - most).exp()).sum();
                row.iter().map(|x| (x * (x - most).exp() / sum) as f32).collect()
            };
            let rows: Vec<Vec<f32>> = pre.to_vec2().unwrap().into_iter().map(solu).collect();
            let reference = &golden.tensors[&format!("{i}.mlp_mid.{layer}")];
            let wanted = reference.narrow(0, 1, tokens.len()).unwrap();
            close(&Tensor::new(rows, &Device::Cpu).unwrap(), &wanted, &format!("solu of mlp.pre {layer} {text:?}"));
        }
    }
}

#[test]
fn smollm2_matches_transformers_from_its_gguf() {
    let file = match neuroql_requirements::smollm2() {
        Ok(file) => file,
        Err(reason) => return Requirement::SmolLm2.skip(&reason),
    };
    let model = Model::load("smol", file.to_str().unwrap(), &Options::default(), &()).unwrap();
    assert_eq!(model.bos(), None);
    let golden = Golden::read(&root().join("tests/models/smollm2/golden.safetensors"));
    let neurons: Vec<i64> = golden.tensors["neurons"].to_dtype(candle_core::DType::I64).unwrap().to_vec1().unwrap();
    let neurons: Vec<u32> = neurons.into_iter().map(|n| n as u32).collect();
    for (i, text) in golden.texts.iter().enumerate() {
        let ids = golden.tensors[&format!("{i}.ids")].to_dtype(candle_core::DType::I64).unwrap();
        let ids: Vec<u32> =
            ids.flatten_all().unwrap().to_vec1::<i64>().unwrap().into_iter().map(|n| n as u32).collect();
        assert_eq!(model.tokenizer().encode(text).unwrap(), ids, "{text:?}");
    }
    for layer in [0, 7, 15, 29] {
        golden.check(&model, "mlp_post", layer, Some(neurons.clone()));
    }
    verifies(&model, &root().join("tests/models/smollm2/golden.safetensors"), Some(&[0, 7, 15, 29]));
}
