//! Circuits of a neuron: against float64 references of PyTorch, and different functions against each other.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use neuroql_model::{Cancel, Connection, Error, LogitEffect, Model, Options, Site, Via};
use serde::Deserialize;

/// Largest |a − reference| allowed, as a share of the greatest |reference| of a list.
const TOLERANCE: f64 = 2e-5;

/// References by name: `tests/models/circuits.json`, by `tests/models/make_circuits.py`.
type Golden = HashMap<String, Vec<Reference>>;

#[derive(Deserialize)]
struct Reference {
    layer: usize,
    neuron: u32,
    promoted: Vec<(u32, f64)>,
    suppressed: Vec<(u32, f64)>,
    /// Token, activation and its inputs: one number, or gate and up.
    inputs: Vec<Vec<f64>>,
    from: Vec<(usize, u32, String, f64, f64)>,
    to: Vec<(usize, u32, String, f64, f64)>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn load(folder: &str, site: Option<Site>) -> Model {
    let options = Options { site, bos: Some(false), ..Options::default() };
    let tokenizer = root().join("tests/models/variants/tokenizer.json");
    let tokenizer = folder.contains("variants").then(|| tokenizer.to_str().unwrap().to_owned());
    Model::load("m", root().join(folder).to_str().unwrap(), &Options { tokenizer, ..options }, &()).unwrap()
}

/// Compares ranked lists of (item, numbers). Neighbours whose first numbers are too close for f32 may change places.
fn same<T: PartialEq + std::fmt::Debug>(got: &[(T, Vec<f64>)], wanted: &[(T, Vec<f64>)], what: &str) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    let scale = wanted.iter().map(|(_, numbers)| numbers[0].abs()).fold(0.0, f64::max);
    for (got, (thing, wanted)) in got.iter().zip(wanted) {
        assert!((got.1[0] - wanted[0]).abs() <= TOLERANCE * scale, "{what}: {got:?}, not {thing:?} {wanted:?}");
        if got.0 != *thing {
            continue;
        }
        assert_eq!(got.1.len(), wanted.len(), "{what}");
        for (a, b) in got.1.iter().zip(wanted) {
            assert!((a - b).abs() <= TOLERANCE * b.abs().max(1.0), "{what}: {got:?}, not {thing:?} {wanted:?}");
        }
    }
    let agree = got.iter().zip(wanted).filter(|(got, wanted)| got.0 == wanted.0).count();
    assert!(agree + 2 >= got.len(), "{what}: {got:?}, not {wanted:?}");
}

fn check(name: &str, folder: &str, site: Option<Site>) {
    let golden = std::fs::read_to_string(root().join("tests/models/circuits.json")).unwrap();
    let references = serde_json::from_str::<Golden>(&golden).unwrap().remove(name).unwrap();
    let (model, cancel) = (load(folder, site), Cancel::default());
    assert_eq!(references.len(), 3 * model.config().layers, "{name}");
    for Reference { layer, neuron, promoted, suppressed, inputs, from, to } in references {
        let what = |part: &str| format!("{name} {layer}.{neuron} {part}");
        let k = promoted.len();

        let effects = model.logit_effects(layer, &[neuron], k, &cancel).unwrap().remove(0);
        let effect = |e: &LogitEffect| (e.token, vec![f64::from(e.effect)]);
        let reference = |list: Vec<(u32, f64)>| list.into_iter().map(|(t, e)| (t, vec![e])).collect::<Vec<_>>();
        let list = |effects: &[LogitEffect]| effects.iter().map(effect).collect::<Vec<_>>();
        same(&list(&effects.promoted), &reference(promoted), &what("promotes"));
        same(&list(&effects.suppressed), &reference(suppressed), &what("suppresses"));

        let tokens = model.input_tokens(layer, &[neuron], k, &cancel).unwrap().remove(0);
        let tokens: Vec<_> = tokens
            .into_iter()
            .map(|t| {
                (
                    t.token,
                    [Some(t.activation), Some(t.pre_activation), t.up].into_iter().flatten().map(f64::from).collect(),
                )
            })
            .collect();
        let inputs: Vec<_> = inputs.into_iter().map(|row| (row[0] as u32, row[1..].to_vec())).collect();
        same(&tokens, &inputs, &what("is driven by"));

        let connections = model.connections(layer, neuron, k, &cancel).unwrap();
        // Ranked by size.
        let list = |connections: &[Connection]| {
            let numbers = |c: &Connection| vec![c.weight.abs().into(), c.weight.into(), c.cosine.unwrap().into()];
            connections.iter().map(|c| ((c.layer, c.neuron, c.via.to_string()), numbers(c))).collect::<Vec<_>>()
        };
        let reference = |list: Vec<(usize, u32, String, f64, f64)>| {
            list.into_iter().map(|(l, n, via, w, c)| ((l, n, via), vec![w.abs(), w, c])).collect::<Vec<_>>()
        };
        same(&list(&connections.from), &reference(from), &what("is fed by"));
        same(&list(&connections.to), &reference(to), &what("feeds"));
    }
}

#[test]
fn as_pytorch_gpt2() {
    check("gpt2", "tests/models/gpt2", None);
}

#[test]
fn as_pytorch_gpt_neox() {
    check("gpt_neox", "tests/models/gpt_neox", None);
}

#[test]
fn as_pytorch_gated() {
    check("llama", "tests/models/llama", None);
    check("qwen2", "tests/models/variants/qwen2", None);
}

#[test]
fn as_transformer_lens_solu_ln_at_both_sites() {
    check("toy", "datasets/toy", None);
    check("toy_post", "datasets/toy", Some(Site::MlpPost));
    check("hooked_rms_solu_ln", "tests/models/variants/hooked_rms_solu_ln", None);
}

#[test]
fn as_transformer_lens_other_norms() {
    check("hooked_shortformer", "tests/models/variants/hooked_shortformer", None);
    check("hooked_rotary", "tests/models/variants/hooked_rotary", None);
    check("hooked_rotary_adjacent", "tests/models/variants/hooked_rotary_adjacent", None);
}

/// Compares many neurons at once with each alone; products of different shapes are summed in different orders.
#[test]
fn many_at_once() {
    let cancel = Cancel::default();
    for folder in ["tests/models/gpt_neox", "tests/models/llama", "datasets/toy"] {
        let model = load(folder, None);
        let neurons: Vec<u32> = (0..model.config().d_mlp as u32).collect();
        let close = |a: f32, b: f32| (a - b).abs() <= 1e-5 * a.abs().max(1.0);
        let effects = model.logit_effects(1, &neurons, 5, &cancel).unwrap();
        let tokens = model.input_tokens(1, &neurons, 5, &cancel).unwrap();
        let pairs = model.strongest_connections(0, 1, 5, &cancel).unwrap();
        assert_eq!((effects.len(), tokens.len(), pairs.len()), (neurons.len(), neurons.len(), neurons.len()));
        for n in [0, 7, neurons.len() - 1] {
            let alone = model.logit_effects(1, &[n as u32], 5, &cancel).unwrap().remove(0);
            let (all, alone) = (
                effects[n].promoted.iter().chain(&effects[n].suppressed),
                alone.promoted.iter().chain(&alone.suppressed),
            );
            assert!(all.zip(alone).all(|(a, b)| close(a.effect, b.effect)), "{folder} {n}");
            let alone = model.input_tokens(1, &[n as u32], 5, &cancel).unwrap().remove(0);
            assert!(tokens[n].iter().zip(&alone).all(|(a, b)| close(a.activation, b.activation)), "{folder} {n}");
            // Of all neurons that it feeds, those in layer 1.
            let alone = model.connections(0, n as u32, usize::MAX, &cancel).unwrap().to;
            let alone: Vec<_> = alone.into_iter().filter(|c| c.layer == 1).take(5).collect();
            for (a, b) in pairs[n].iter().zip(&alone) {
                assert!(close(a.weight.abs(), b.weight.abs()), "{folder} {n}: {a:?} {b:?}");
                assert!(
                    a.neuron != b.neuron || close(a.cosine.unwrap(), b.cosine.unwrap()),
                    "{folder} {n}: {a:?} {b:?}"
                );
            }
            assert_eq!((pairs[n].len(), alone.len()), (5, 5));
        }
    }
}

/// Checks that the connection of a pair is the same from both ends.
#[test]
fn both_ends_agree() {
    let model = load("tests/models/llama", None);
    let all = usize::MAX;
    let there = model.connections(0, 3, all, &Cancel::default()).unwrap().to;
    let there = there.iter().find(|c| (c.layer, c.neuron) == (2, 5)).unwrap();
    let back = model.connections(2, 5, all, &Cancel::default()).unwrap().from;
    let back = back.iter().find(|c| (c.layer, c.neuron) == (0, 3)).unwrap();
    assert_eq!(there.via, back.via);
    assert!((there.weight - back.weight).abs() < 1e-5 && (there.cosine.unwrap() - back.cosine.unwrap()).abs() < 1e-5);
}

#[test]
fn edges() {
    let model = load("tests/models/gpt2", None);
    let cancel = Cancel::default();
    let vocabulary = model.config().vocabulary;
    assert!(model.connections(0, 0, 3, &cancel).unwrap().from.is_empty());
    assert!(model.connections(2, 0, 3, &cancel).unwrap().to.is_empty());
    let plain = model.connections(1, 0, 3, &cancel).unwrap();
    assert!(plain.from.iter().chain(&plain.to).all(|c| c.via == Via::In));
    // Nothing feeds its own or an earlier layer.
    for to in [0, 1] {
        let none = model.strongest_connections(1, to, 3, &cancel).unwrap();
        assert!(none.len() == model.config().d_mlp && none.iter().all(Vec::is_empty));
    }
    assert!(model.logit_effects(0, &[], 3, &cancel).unwrap().is_empty());
    assert!(model.input_tokens(0, &[], 3, &cancel).unwrap().is_empty());
    let none = model.logit_effects(0, &[1], 0, &cancel).unwrap().remove(0);
    assert!(none.promoted.is_empty() && none.suppressed.is_empty());
    // All tokens, whose effects sum to 0.
    let all = model.logit_effects(0, &[1, 1], usize::MAX, &cancel).unwrap();
    assert_eq!(all[0], all[1]);
    assert_eq!(all[0].promoted.len(), vocabulary);
    assert_eq!(all[0].promoted.first(), all[0].suppressed.last());
    assert!(all[0].promoted.iter().map(|e| f64::from(e.effect)).sum::<f64>().abs() < 1e-3);
    assert_eq!(model.input_tokens(0, &[1], usize::MAX, &cancel).unwrap()[0].len(), vocabulary);
}

/// Refuses unknown layers and neurons, and stops when cancelled.
#[test]
fn refused() {
    let model = load("tests/models/gpt2", None);
    let (cancel, cancelled) = (Cancel::default(), Cancel::default());
    cancelled.cancel();
    let (layers, neurons) = (model.config().layers, model.config().d_mlp as u32);
    for (layer, neuron, what) in
        [(layers, 0, "layer"), (0, neurons, "neuron"), (0, u32::MAX, "neuron"), (usize::MAX, 0, "layer")]
    {
        let errors = [
            model.logit_effects(layer, &[0, neuron], 1, &cancel).err(),
            model.input_tokens(layer, &[0, neuron], 1, &cancel).err(),
            model.connections(layer, neuron, 1, &cancel).err(),
            if what == "layer" {
                model.strongest_connections(0, layer, 1, &cancel).err()
            } else {
                model.connections(layer, neuron, 0, &cancel).err()
            },
        ];
        for error in errors {
            assert!(matches!(&error, Some(Error::OutOfRange { what: w, .. }) if *w == what), "{error:?}");
        }
    }
    let errors = [
        model.logit_effects(0, &[0], 1, &cancelled).err(),
        model.input_tokens(0, &[0], 1, &cancelled).err(),
        model.connections(0, 0, 1, &cancelled).err(),
        model.strongest_connections(0, 1, 1, &cancelled).err(),
    ];
    for error in errors {
        assert!(matches!(error, Some(Error::Cancelled)), "{error:?}");
    }
}
