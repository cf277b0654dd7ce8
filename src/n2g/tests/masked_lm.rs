//! Masked language models against transformers; the fixtures come from `tests/models/make_masked.py`.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use futures::executor::block_on;
use neuroql_graph::Graph;
use neuroql_model::checkpoint::Checkpoint;
use neuroql_model::{Cancel, Error, Model, Pool, Registry};
use neuroql_n2g::{
    Background, Filler, Gap, GraphTrainer, MaskedLm, Method, Options, QueryRunner, Sample, Substitutes, Task,
};
use proptest::prelude::*;
use safetensors::SafeTensors;
use tempfile::TempDir;

/// Largest |logit − reference| allowed, as a share of the largest |reference|.
const TOLERANCE: f32 = 1e-5;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/masked").join(name)
}

fn load(folder: &Path) -> Result<MaskedLm, Error> {
    MaskedLm::load(folder.to_str().unwrap(), &())
}

/// Copies a fixture, to change it.
fn copy(name: &str) -> TempDir {
    let copy = TempDir::new().unwrap();
    for entry in fs::read_dir(folder(name)).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

fn edit(folder: &Path, from: &str, to: &str) {
    let file = folder.join("config.json");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(file, text.replace(from, to)).unwrap();
}

/// Gaps of the reference texts, and the logits that transformers gives.
fn golden(name: &str) -> (Vec<Gap>, Tensor) {
    let bytes = fs::read(folder("golden").join(name).with_extension("safetensors")).unwrap();
    let header = SafeTensors::read_metadata(&bytes).unwrap().1;
    let texts: Vec<String> = serde_json::from_str(&header.metadata().as_ref().unwrap()["texts"]).unwrap();
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).unwrap();
    let logits: Vec<&Tensor> = (0..texts.len()).map(|n| &tensors[&format!("{n}.logits")]).collect();
    (texts.iter().map(|text| gap(text)).collect(), Tensor::stack(&logits, 0).unwrap())
}

fn gap(text: &str) -> Gap {
    let (before, after) = text.split_once("[MASK]").unwrap();
    Gap { before: before.into(), word: String::new(), after: after.into() }
}

fn largest(t: &Tensor) -> f32 {
    t.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

#[track_caller]
fn close(got: &Tensor, wanted: &Tensor) {
    assert_eq!(got.dims(), wanted.dims());
    let (error, scale) = (largest(&(got - wanted).unwrap()), largest(wanted));
    // Written so that a NaN fails.
    assert!(error <= TOLERANCE * scale, "off by {error}, largest is {scale}");
}

#[test]
fn logits_match_transformers_whatever_the_batch() {
    for name in ["bert", "distilbert"] {
        let lm = load(&folder(name)).unwrap();
        let (gaps, wanted) = golden(name);
        close(&lm.logits(&gaps).unwrap(), &wanted);
        for (i, gap) in gaps.iter().enumerate() {
            close(&lm.logits(std::slice::from_ref(gap)).unwrap(), &wanted.narrow(0, i, 1).unwrap());
        }
        assert_eq!(lm.logits(&[]).unwrap().dims(), [0, wanted.dim(1).unwrap()]);
    }
}

#[test]
fn first_checkpoints_of_bert_are_read() {
    // Norms have gamma and beta, and there are parts that predict no words.
    let copy = copy("bert");
    let file = copy.path().join("model.safetensors");
    let tensors = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
    let renamed = tensors.into_iter().map(|(name, tensor)| {
        (name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"), tensor)
    });
    let mut renamed: std::collections::HashMap<String, Tensor> = renamed.collect();
    let other = Tensor::zeros((2, 24), candle_core::DType::F32, &Device::Cpu).unwrap();
    renamed.insert("cls.seq_relationship.weight".into(), other);
    candle_core::safetensors::save(&renamed, &file).unwrap();
    let (gaps, wanted) = golden("bert");
    close(&load(copy.path()).unwrap().logits(&gaps).unwrap(), &wanted);
    // Case counts if the tokenizer's configuration disables lower case.
    fs::write(copy.path().join("tokenizer_config.json"), r#"{"do_lower_case": false}"#).unwrap();
    let cased = load(copy.path()).unwrap().logits(&gaps).unwrap();
    assert!(largest(&(cased - wanted).unwrap()) > 0.1);
}

#[test]
fn what_is_no_masked_language_model_is_refused() {
    let refused = |spoil: &dyn Fn(&Path)| {
        let copy = copy("bert");
        spoil(copy.path());
        load(copy.path()).err().unwrap()
    };
    let error = refused(&|folder| edit(folder, "\"bert\"", "\"gpt2\""));
    assert!(matches!(&error, Error::Unsupported { value, .. } if value == "gpt2"), "{error}");
    let error = refused(&|folder| edit(folder, "\"gelu\"", "\"swish\""));
    assert!(matches!(&error, Error::Unsupported { value, .. } if value == "swish"), "{error}");
    let error = refused(&|folder| edit(folder, "\"hidden_size\": 24", "\"hidden_size\": 27"));
    assert!(matches!(error, Error::Weights { .. }), "{error}");
    let error = refused(&|folder| edit(folder, "\"num_attention_heads\": 3", "\"num_attention_heads\": 5"));
    assert!(matches!(error, Error::Config(_)), "{error}");
    let error = refused(&|folder| edit(folder, "\"hidden_size\": 24", "\"hidden_size\": -1"));
    assert!(matches!(error, Error::Config(_)), "{error}");
    let error = refused(&|folder| fs::remove_file(folder.join("vocab.txt")).unwrap());
    assert!(matches!(error, Error::MissingFile { .. }), "{error}");
    let error = refused(&|folder| fs::write(folder.join("vocab.txt"), "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n").unwrap());
    assert!(matches!(error, Error::Tokenizer(_)), "{error}");
    let error = refused(&|folder| fs::write(folder.join("vocab.txt"), b"\xff\xfe").unwrap());
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    // A sentence encoder has no head.
    let error = refused(&|folder| {
        let file = folder.join("model.safetensors");
        let mut tensors = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
        tensors.retain(|name, _| !name.starts_with("cls."));
        candle_core::safetensors::save(&tensors, &file).unwrap();
    });
    assert!(error.to_string().contains("masked language model"), "{error}");
    assert!(matches!(load(Path::new("/nowhere")), Err(Error::Location { .. })));
}

fn fill(lm: &Arc<MaskedLm>, gaps: &[Gap], most: usize, least: f32) -> Vec<Vec<Filler>> {
    block_on(lm.fill(&Pool::new(2).unwrap(), gaps, most, least, &Cancel::default())).unwrap()
}

#[test]
fn fillers_are_the_most_probable_words() {
    let lm = Arc::new(load(&folder("distilbert")).unwrap());
    let (gaps, wanted) = golden("distilbert");
    let probabilities = candle_nn::ops::softmax(&wanted, 1).unwrap().to_vec2::<f32>().unwrap();
    let all = fill(&lm, &gaps, 1000, 0.0);
    for (fillers, probabilities) in all.iter().zip(&probabilities) {
        // 52 letters with and without ##, ##ing, ##ed and 19 words; no digits, signs or [UNK].
        assert_eq!(fillers.len(), 73);
        assert!(fillers.is_sorted_by(|a, b| a.probability >= b.probability));
        for filler in fillers {
            let known = probabilities.iter().any(|p| (p - filler.probability).abs() < 1e-6);
            assert!(known && filler.text.contains(char::is_alphabetic) && !filler.text.contains('['), "{filler:?}");
        }
    }
    for (few, all) in fill(&lm, &gaps, 3, 0.0).iter().zip(&all) {
        assert_eq!(few, &all[..3]);
    }
    // Between the sixth and the seventh: a batch changes probabilities a little.
    let least = (all[0][5].probability + all[0][6].probability) / 2.0;
    let found = fill(&lm, &gaps[..1], 100, least).remove(0);
    let texts = |fillers: &[Filler]| fillers.iter().map(|filler| filler.text.clone()).collect::<Vec<_>>();
    assert_eq!(texts(&found), texts(&all[0][..6]));
    // The original word is not proposed in any spelling.
    let word = &all[0][0].text;
    let without = Gap { word: format!("{}!", word.trim_start_matches('#').to_uppercase()), ..gaps[0].clone() };
    let found = fill(&lm, &[without], 100, 0.0).remove(0);
    assert!(found.iter().all(|filler| filler.text.trim_start_matches('#') != word.trim_start_matches('#')));
    let cancel = Cancel::default();
    cancel.cancel();
    let cancelled = block_on(lm.fill(&Pool::new(1).unwrap(), &gaps, 1, 0.0, &cancel));
    assert!(matches!(cancelled, Err(Error::Cancelled)));
}

#[test]
fn a_text_that_is_too_long_is_read_around_its_gap() {
    let lm = load(&folder("bert")).unwrap();
    // 48 positions: [CLS], 22 tokens, [MASK], 23 tokens, [SEP].
    let long = Gap { before: "cat ".repeat(500) + &"the ".repeat(22), after: " of".repeat(600), ..Gap::default() };
    let short = Gap { before: "the ".repeat(23), after: " of".repeat(22), ..Gap::default() };
    let other = Gap { before: "the ".repeat(22), after: " of".repeat(23), ..Gap::default() };
    let logits = |gap: &Gap| lm.logits(std::slice::from_ref(gap)).unwrap();
    assert!(largest(&(logits(&long) - logits(&short)).unwrap()) > 1e-3);
    let near = Gap { before: "cat ".repeat(500) + &"the ".repeat(23), ..long };
    close(&logits(&near), &logits(&short));
    let after = Gap { before: "the ".repeat(22), after: " of".repeat(600), ..Gap::default() };
    close(&logits(&after), &logits(&other));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_text_is_filled_as_if_it_were_alone(texts in prop::collection::vec((".{0,20}", ".{0,90}"), 1..20)) {
        let lm = Arc::new(load(&folder("distilbert")).unwrap());
        let gaps: Vec<Gap> =
            texts.into_iter().map(|(before, after)| Gap { before, word: String::new(), after }).collect();
        let together = fill(&lm, &gaps, 10, 1e-5);
        for (gap, together) in gaps.iter().zip(together) {
            let alone = fill(&lm, std::slice::from_ref(gap), 10, 1e-5).remove(0);
            prop_assert_eq!(alone.len(), together.len());
            for (a, b) in alone.iter().zip(together) {
                prop_assert!((a.probability - b.probability).abs() <= 1e-5, "{:?} {:?}", a, b);
            }
        }
    }
}

#[test]
fn naming_a_model_chooses_it() {
    let options = Options::parse(Method::N2g, r#"{"masked_lm": "hf://a/b"}"#).unwrap();
    assert_eq!((options.substitutes, options.masked_lm.as_deref()), (Substitutes::MaskedLm, Some("hf://a/b")));
    assert_eq!(Options::parse(Method::N2g, &options.to_json().unwrap()).unwrap(), options);
    let published = Options::parse(Method::N2g, r#"{"substitutes": "masked_lm"}"#).unwrap();
    assert_eq!((published.substitutes, published.masked_lm), (Substitutes::MaskedLm, None));
    assert_eq!(Options::parse(Method::N2g, r#"{"masked_lm": null}"#).unwrap(), Options::of(Method::N2g));
    assert!(!Options::of(Method::Neuroql).to_json().unwrap().contains("masked_lm"));
    for wrong in [r#"{"masked_lm": "hf://a/b", "substitutes": "model"}"#, r#"{"masked_lm": 3}"#] {
        assert!(Options::parse(Method::N2g, wrong).is_err(), "{wrong}");
    }
}

/// Builds graphs of some neurons of the bundled model from a few sentences.
fn graphs(substitutes: &str, lm: Option<&Arc<MaskedLm>>) -> Vec<Graph> {
    let bundle = neuroql_datasets::TOY;
    let checkpoint = Checkpoint::from_bytes(bundle.config, bundle.weights, bundle.tokenizer).unwrap();
    let model = Model::from_checkpoint("toy", "bundled", checkpoint, &neuroql_model::Options::default()).unwrap();
    let (model, registry) = (Arc::new(model), Arc::new(Registry::new(2).unwrap()));
    let neurons: Vec<u32> = (0..8).collect();
    let texts = [
        "The people of the city were not in the house that was built for them.",
        "It was said that the king had been a man of great power in the land.",
        "In the first year of the war, many of the soldiers were sent to the north.",
    ];
    let mut tasks: Vec<Task> = neurons
        .iter()
        .map(|neuron| Task { neuron: *neuron, max_activation: 0.0, train: Vec::new(), held_out: Vec::new() })
        .collect();
    let owned = texts.iter().map(|text| (*text).to_owned()).collect();
    let all = block_on(model.activations(registry.pool(), 1, neurons, owned)).unwrap();
    for (document, (text, activations)) in texts.iter().zip(all).enumerate() {
        let tokens: Arc<[u32]> = model.tokenizer().encode(text).unwrap().into();
        for (task, activations) in tasks.iter_mut().zip(activations) {
            task.max_activation = activations.iter().copied().fold(task.max_activation, f32::max);
            task.train.push(Sample { document: document as i64, example: 0, tokens: tokens.clone(), activations });
        }
    }
    for task in &mut tasks {
        let most = task.max_activation;
        task.train.iter_mut().flat_map(|sample| &mut sample.activations).for_each(|a| *a /= most);
    }
    let runner = QueryRunner::new(model, registry, 1, Cancel::default());
    let mut trainer = GraphTrainer::new(runner.model(), Method::N2g, Options::parse(Method::N2g, substitutes).unwrap());
    if let Some(lm) = lm {
        trainer = trainer.with_masked_lm(Arc::clone(lm));
    }
    let fired = vec![Vec::new(); tasks.len()];
    let built = block_on(trainer.build(&runner, tasks, &Arc::new(Background::default()), fired)).unwrap();
    built.into_iter().map(|built| built.outcome.unwrap().0).collect()
}

#[test]
fn graphs_grow_by_words_of_a_masked_lm() {
    let location = folder("distilbert").to_str().unwrap().to_owned();
    let plain = graphs("{}", None);
    let named = graphs(&format!(r#"{{"masked_lm": "{location}"}}"#), None);
    let lm = Arc::new(load(&folder("distilbert")).unwrap());
    assert_eq!(named, graphs(r#"{"substitutes": "masked_lm"}"#, Some(&lm)));
    let nodes = |graphs: &[Graph]| graphs.iter().map(|graph| graph.nodes().len()).sum::<usize>();
    assert!(nodes(&named) > nodes(&plain), "{} {}", nodes(&named), nodes(&plain));
}
