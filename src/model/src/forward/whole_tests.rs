//! Results of whole passes (text that is written, interventions, direct effects, patterns) beside slow ways to the same.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::tests::{families, fixtures, load};
use super::{Cache, Pass, Tap, segments};
use crate::ops::elements;
use crate::weights::{Linear, Unembed};
use crate::{AttentionPass, Batch, Cancel, Model, NormPlace, Sampling, Site};

/// Largest difference allowed, as a share of the largest value.
const SAME: f32 = 1e-5;

fn models() -> impl Iterator<Item = (String, Model)> {
    let folders = [fixtures(), families()].concat().into_iter();
    folders.map(|folder| (folder.display().to_string(), load(&folder, DType::F32, DType::F32, None)))
}

/// Tokens of a text longer than the windows of local attention.
fn text(model: &Model, length: usize) -> Vec<u32> {
    let (vocabulary, length) = (model.config().vocabulary as u32, length.min(model.window() - 2));
    (0..length as u32).map(|i| (i * i * 5 + 3 * i + 2) % vocabulary).collect()
}

fn close(got: &[f32], wanted: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    let scale = wanted.iter().fold(1e-6f32, |most, x| most.max(x.abs()));
    for (i, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        assert!((got - wanted).abs() <= tolerance * scale, "{what}: {got} and {wanted} at {i}, of {scale}");
    }
}

/// Logits after each token, by one pass: `[tokens, vocabulary]`.
fn logits(model: &Model, tokens: &[u32]) -> Vec<Vec<f32>> {
    model.logits(&Batch::of_all(tokens, None), &Cancel::default()).unwrap().to_vec2().unwrap()
}

#[test]
fn a_cache_gives_the_logits_of_a_pass() {
    for (name, model) in models() {
        let tokens = text(&model, 30);
        let wanted = logits(&model, &tokens);
        let (cache, head) = (Cache::new(&model), model.head().unwrap());
        // Several tokens at once, then one after another.
        let (mut position, mut rest) = (0, &tokens[..]);
        for count in [7, 4, 1].into_iter().chain(std::iter::repeat(1)) {
            if rest.is_empty() {
                break;
            }
            let (new, others) = rest.split_at(count.min(rest.len()));
            let got = model.step(new, position, (&cache, &head), &Cancel::default()).unwrap();
            (position, rest) = (position + new.len(), others);
            close(&got, &wanted[position - 1], SAME, &format!("{name} at {position}"));
        }
    }
}

#[test]
fn written_text_is_the_most_probable() {
    for (name, model) in models() {
        let mut tokens = text(&model, 11);
        let count = 12.min(model.window() - tokens.len());
        let written = model.generate(&tokens, count, Sampling::GREEDY, &Cancel::default()).unwrap();
        for token in &written {
            let last = logits(&model, &tokens).pop().unwrap();
            let most = last.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let scale = last.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            assert!(most - last[*token as usize] <= SAME * scale, "{name}");
            tokens.push(*token);
        }
        if written.len() < count {
            let next = model.next_tokens(&Batch::of_all(&tokens, None), 1, &Cancel::default()).unwrap();
            assert!(model.ends().contains(&next.last().unwrap()[0].0), "{name}");
        }
        let draw =
            |seed| model.generate(&tokens[..3], count, Sampling { temperature: 100.0, seed }, &Cancel::default());
        assert_eq!(draw(3).unwrap(), draw(3).unwrap(), "{name}");
        assert!((4..12).any(|seed| draw(seed).unwrap() != draw(3).unwrap()), "{name}");
    }
}

#[test]
fn what_cannot_be_written_is_refused() {
    let (_, model) = models().next().unwrap();
    let cancel = Cancel::default();
    let window = model.window();
    let sampling = |temperature| Sampling { temperature, seed: 0 };
    let long = model.generate(&[1, 2], window - 1, Sampling::GREEDY, &cancel).unwrap_err();
    assert_eq!((long.sqlstate(), long.to_string().contains(&window.to_string())), ("22023", true), "{long}");
    assert!(model.generate(&[1], usize::MAX, Sampling::GREEDY, &cancel).is_err());
    for temperature in [-0.5, f64::NAN, f64::INFINITY] {
        assert!(model.generate(&[1], 1, sampling(temperature), &cancel).is_err(), "{temperature}");
    }
    // The fixture has no BOS.
    assert!(model.generate(&[], 1, Sampling::GREEDY, &cancel).is_err());
    assert_eq!(model.generate(&[], 0, Sampling::GREEDY, &cancel).unwrap(), Vec::<u32>::new());
    cancel.cancel();
    assert_eq!(model.generate(&[1], 3, Sampling::GREEDY, &cancel).unwrap_err().sqlstate(), "57014");
}

#[test]
fn replaced_neurons_are_those_without_their_weights() {
    for (name, model) in models() {
        let (tokens, last) = (text(&model, 14), model.config().layers - 1);
        let plain = model.predictions(&tokens, &[], &Cancel::default()).unwrap();
        for (row, (prediction, logits)) in plain.iter().zip(logits(&model, &tokens)).enumerate() {
            assert_eq!(prediction.next, tokens.get(row + 1).copied());
            let sum: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
            if let Some(next) = prediction.next {
                let loss = sum.ln() - f64::from(logits[next as usize]);
                assert!((f64::from(prediction.loss.unwrap()) - loss).abs() <= 1e-4 * loss.abs().max(1.0), "{name}");
                assert_eq!(prediction.logit, Some(logits[next as usize]), "{name}");
            }
        }
        // In a network whose neurons are read before another norm, W_out does not follow them alone.
        if model.site() != Site::MlpPost {
            continue;
        }
        let neurons = [(0, 3u32), (last, 1), (last, 4)];
        let got = model.predictions(&tokens, &neurons.map(|(l, n)| (l, n, 0.0)), &Cancel::default()).unwrap();
        let mut model = model;
        for (layer, neuron) in neurons {
            let out = &mut model.weights_mut().layers[layer].mlp_out;
            let mut rows = out.matrix().unwrap().to_vec2::<f32>().unwrap();
            rows[neuron as usize].fill(0.0);
            *out = Linear::new(Tensor::new(rows, &Device::Cpu).unwrap(), out.bias.clone());
        }
        let wanted = model.predictions(&tokens, &[], &Cancel::default()).unwrap();
        let of = |all: &[crate::Prediction]| all.iter().filter_map(|p| p.logit).collect::<Vec<_>>();
        close(&of(&got), &of(&wanted), SAME, &name);
        assert!(of(&got) != of(&plain), "{name}");
    }
}

#[test]
fn values_are_replaced_at_every_site() {
    let (_, model) = models().find(|(name, _)| name.ends_with("qwen3")).unwrap();
    let tokens = text(&model, 12);
    for site in Site::ALL.into_iter().filter(|site| model.config().check_site(*site).is_ok()) {
        let folder = families().into_iter().find(|folder| folder.ends_with("qwen3")).unwrap();
        let model = load(&folder, DType::F32, DType::F32, Some(site));
        let read = crate::ReadSpec::new(&model, [(1, Some(vec![2]))]).unwrap();
        let batch = Batch::of_all(&tokens, None);
        let own = model.run(&batch, &read, &Cancel::default()).unwrap().remove(0);
        let own = elements(&own).unwrap();
        let with = |value: f32| {
            let all = model.predictions(&tokens, &[(1, 2, value)], &Cancel::default()).unwrap();
            all.into_iter().map(|p| p.logit.unwrap_or_default()).collect::<Vec<_>>()
        };
        let plain = model.predictions(&tokens, &[], &Cancel::default()).unwrap();
        let plain: Vec<f32> = plain.into_iter().map(|p| p.logit.unwrap_or_default()).collect();
        // The first token attends to itself only: its own value changes nothing there, another one does.
        close(&with(own[0])[..1], &plain[..1], SAME, site.name());
        assert!((with(own[0] + 5.0)[0] - plain[0]).abs() > 1e-4, "{site}");
    }
}

/// Logit of a token less that of another, without biases, of what is added to the residual stream `x` before the last
/// norm, which divides by what it divides by on `x`.
struct Logit {
    direction: Vec<f64>,
}

impl Logit {
    fn new(model: &Model, x: &[f64], tokens: [usize; 2]) -> Self {
        let (config, weights) = (model.config(), model.weights());
        let count = x.len() as f64;
        let layer_norm = config.final_norm.kind == crate::NormKind::Layer;
        let mean = |x: &[f64]| if layer_norm { x.iter().sum::<f64>() / count } else { 0.0 };
        let own = mean(x);
        let divisor = match config.final_norm.kind {
            crate::NormKind::None => 1.0,
            _ => (x.iter().map(|x| (x - own).powi(2)).sum::<f64>() / count + f64::from(config.final_norm.eps)).sqrt(),
        };
        let column = |token: usize| match &weights.unembed {
            Unembed::Tied => elements(&weights.embed.get(token).unwrap()).unwrap(),
            Unembed::Matrix(linear) => elements(&linear.matrix().unwrap().narrow(1, token, 1).unwrap()).unwrap(),
            Unembed::Missing => unreachable!(),
        };
        let [own, against] = tokens.map(column);
        let gain = weights.final_norm.weight.as_ref().map(|gain| elements(gain).unwrap());
        let gain = |i: usize| gain.as_ref().map_or(1.0, |gain| f64::from(gain[i]));
        let scaled = |i: usize| f64::from(own[i] - against[i]) * f64::from(config.logit_scale) * gain(i) / divisor;
        let direction: Vec<f64> = (0..x.len()).map(scaled).collect();
        // A product with x less its mean is one with the direction less its own.
        let mean = mean(&direction);
        Self { direction: direction.into_iter().map(|x| x - mean).collect() }
    }

    /// Part of the logit that is the bias of the last norm.
    fn bias(&self, model: &Model, tokens: [usize; 2]) -> f64 {
        let Some(bias) = &model.weights().final_norm.bias else { return 0.0 };
        let bias = elements(bias).unwrap();
        let column = |token: usize| match &model.weights().unembed {
            Unembed::Tied => elements(&model.weights().embed.get(token).unwrap()).unwrap(),
            Unembed::Matrix(linear) => elements(&linear.matrix().unwrap().narrow(1, token, 1).unwrap()).unwrap(),
            Unembed::Missing => unreachable!(),
        };
        let [own, against] = tokens.map(column);
        let all = bias.iter().zip(own).zip(against);
        all.map(|((bias, own), against)| f64::from(*bias) * f64::from(own - against)).sum::<f64>()
            * f64::from(model.config().logit_scale)
    }

    fn of(&self, added: &[f32]) -> f64 {
        self.direction.iter().zip(added).map(|(d, x)| d * f64::from(*x)).sum()
    }
}

#[test]
fn direct_effects_are_those_of_what_is_added_under_a_frozen_norm() {
    for (name, model) in models() {
        let (tokens, config) = (text(&model, 13), model.config());
        let effects = model.logit_attribution(&tokens, (5, Some(9)), &Cancel::default());
        if config.norm_place != NormPlace::Before {
            assert_eq!(effects.unwrap_err().sqlstate(), "0A000", "{name}");
            continue;
        }
        let effects = effects.unwrap();
        let (batch, sites) = (Batch::of_all(&tokens, None), [Site::AttnOut, Site::MlpOut]);
        let mut added: Vec<Vec<Vec<f32>>> = Vec::new();
        let last = |x: &Tensor| x.to_vec2::<f32>().unwrap().pop().unwrap();
        let tap = |_| Ok(Tap::of(&sites, None, None));
        let x = model
            .through_blocks(&batch, &Cancel::default(), None, tap, |_, tap| {
                added.push(tap.found.iter().map(last).collect());
                Ok(())
            })
            .unwrap();
        let x: Vec<f64> = last(&x).into_iter().map(f64::from).collect();
        let logit = Logit::new(&model, &x, [5, 9]);
        let mut sum = 0.0;
        for (l, (layer, added)) in model.weights().layers.iter().zip(&added).enumerate() {
            let (attention, mlp) = (&added[0], &added[1]);
            sum += logit.of(attention) + logit.of(mlp);
            let bias = |bias: &Option<Tensor>| bias.as_ref().map_or(0.0, |bias| logit.of(&elements(bias).unwrap()));
            let total = |effects: &[f32]| effects.iter().map(|x| f64::from(*x)).sum::<f64>();
            // Biases of experts are weighed by the router, and a norm takes biases with it.
            let heads = logit.of(attention) - bias(&layer.out.bias);
            let near = |got: f64, wanted: f64| (got - wanted).abs() <= 1e-5 + 1e-4 * wanted.abs();
            assert!(near(total(&effects[l].heads), heads), "{name} {l}: {:?} {heads}", effects[l].heads);
            if layer.extras.expert_bias.is_none() {
                let neurons = logit.of(mlp) - bias(&layer.mlp_out.bias);
                assert!(near(total(&effects[l].neurons), neurons), "{name} {l}: {neurons}");
            }
            if config.post_norm.is_some() || config.is_mixture(l) {
                continue;
            }
            let written = layer.mlp_out.matrix().unwrap().to_vec2::<f32>().unwrap();
            for neuron in [0, 1, config.width(l) - 1] {
                let activation = f64::from(effects[l].activations[neuron]);
                let (got, wanted) = (f64::from(effects[l].neurons[neuron]), activation * logit.of(&written[neuron]));
                assert!(near(got, wanted), "{name} {l} {neuron}: {got} {wanted}");
            }
        }
        // Of the embedding and of all that is added, the logits are made.
        let logits = logits(&model, &tokens).pop().unwrap();
        let uncapped = |x: f32| config.logit_cap.map_or(x, |cap| cap * (x / cap).atanh());
        let bias = match &model.weights().unembed {
            Unembed::Matrix(linear) => linear.bias.as_ref().map(|bias| elements(bias).unwrap()),
            _ => None,
        };
        let bias = |token: usize| bias.as_ref().map_or(0.0, |bias| bias[token] * config.logit_scale);
        let own = |token: usize| f64::from(uncapped(logits[token]) - bias(token));
        let wanted = own(5) - own(9) - logit.bias(&model, [5, 9]);
        let got = sum + logit.of(&last(&model.embed(&batch).unwrap()));
        let scale = logits.iter().fold(1.0f32, |most, x| most.max(x.abs()));
        assert!((got - wanted).abs() <= 1e-4 * f64::from(scale), "{name}: {got} and {wanted} of {scale}");
    }
}

#[test]
fn patterns_mix_values() {
    for (name, model) in models() {
        let model = Arc::new(model);
        let (tokens, config) = (text(&model, 70), model.config());
        let (batch, cancel) = (Batch::of_all(&tokens, None), Cancel::default());
        let mut passed = AttentionPass::new(&model, &tokens).unwrap();
        let heads: Vec<usize> = (0..config.heads).rev().collect();
        let mut x = model.embed(&batch).unwrap();
        for l in 0..config.layers {
            let patterns = passed.patterns(l, &heads, &cancel).unwrap();
            let layer = &model.weights().layers[l];
            let pass = Pass { batch: &batch, packing: None, cache: None };
            let (mixed, values) = model
                .with_attention((l, layer), &x, pass, |attention, qkv| {
                    let mut values = qkv.to_vec2::<f32>()?;
                    let first = (config.heads + config.kv_heads) * config.d_head;
                    for row in &mut values {
                        if let Some(bias) = &layer.qkv.bias {
                            row.iter_mut().zip(elements(bias)?).for_each(|(x, bias)| *x += bias);
                        }
                        if let Some(clip) = config.qkv_clip {
                            row.iter_mut().for_each(|x| *x = x.clamp(-clip, clip));
                        }
                        row.drain(..first);
                    }
                    Ok((attention.run(qkv)?.to_vec2::<f32>()?, values))
                })
                .unwrap();
            let count = tokens.len();
            for (head, pattern) in heads.iter().zip(patterns.chunks_exact(count * count)) {
                let kv = head * config.kv_heads / config.heads;
                for (query, weights) in pattern.chunks_exact(count).enumerate() {
                    let window = config.window(l).unwrap_or(usize::MAX);
                    let seen = |key: usize| key <= query && query - key < window;
                    assert!(weights.iter().enumerate().all(|(key, w)| seen(key) || *w == 0.0), "{name} {l}");
                    let sum: f32 = weights.iter().sum();
                    assert!(sum <= 1.0 + SAME && (config.sinks || sum >= 1.0 - SAME), "{name} {l}: {sum}");
                    let mix = |j: usize| weights.iter().zip(&values).map(|(w, v)| w * v[kv * config.d_head + j]).sum();
                    let got: Vec<f32> = (0..config.d_head).map(mix).collect();
                    close(&got, &mixed[query][head * config.d_head..][..config.d_head], 1e-4, &format!("{name} {l}"));
                }
            }
            x = model.block((l, layer), x, pass, &mut Tap::none()).unwrap();
        }
        assert_eq!(segments(&batch).longest(), tokens.len());
        // A head of a deeper layer alone, and what is refused.
        let last = config.layers - 1;
        let mut alone = AttentionPass::new(&model, &tokens).unwrap();
        assert_eq!(alone.patterns(last, &[0], &cancel).unwrap().len(), tokens.len() * tokens.len());
        assert!(alone.patterns(last, &[config.heads], &cancel).is_err());
        assert!(alone.patterns(config.layers, &[0], &cancel).is_err());
    }
}

#[test]
fn registrations_share_weights() {
    let folder = families().pop().unwrap();
    let tokenizer = folder.parent().unwrap().join("tokenizer.json").to_str().unwrap().to_owned();
    let options = |site, dtype| crate::Options {
        bos: Some(false),
        tokenizer: Some(tokenizer.clone()),
        site,
        dtype,
        ..crate::Options::default()
    };
    let load = |others: &[Arc<Model>], name: &str, site, dtype| {
        let location = folder.to_str().unwrap();
        Arc::new(Model::load_beside(others, name, location, &options(site, dtype), &()).unwrap())
    };
    let first = load(&[], "first", None, None);
    let second = load(&[Arc::clone(&first)], "second", Some(Site::ResidPost), None);
    let third = load(&[Arc::clone(&first)], "third", None, Some(crate::NumberType::Bf16));
    let embed = |model: &Model| model.weights().embed.id();
    assert_eq!(embed(&first), embed(&second));
    assert_ne!(embed(&first), embed(&third));
    assert_eq!((second.neurons_per_layer(), second.site()), (second.config().d_model, Site::ResidPost));
    assert_ne!(first.version(), second.version());
}
