//! Activations of every family against float64 references of Hugging Face transformers (and JAX for the toy).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use neuroql_model::{Batch, Cancel, Model, Options, Probe, Site};
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
        let probe = Probe::new(model, [(layer, neurons)]).unwrap();
        let tokens: Vec<Vec<u32>> = self.texts.iter().map(|t| model.tokenizer().encode(t).unwrap()).collect();
        let batch = Batch::new(tokens.iter().map(Vec::as_slice), model.bos());
        let got = model.run(&batch, &probe, &Cancel::default()).unwrap().remove(0);
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

    /// The tokens predicted after each text, all as one batch.
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
}
