//! Augmentation against a version on strings that follows its description.

use std::path::Path;
use std::sync::Arc;

use futures::executor::block_on;
use neuroql_model::checkpoint::Checkpoint;
use neuroql_model::{Batch, Cancel, Model, Registry};

use super::{Prompt, Sources, TokenPlace};
use crate::masked_lm::bare;
use crate::{Gap, MaskedLm, Method, Options, QueryRunner, Substitutes};

const MOST: usize = 12;

fn toy() -> Arc<Model> {
    let bundle = neuroql_datasets::TOY;
    let checkpoint = Checkpoint::from_bytes(bundle.config, bundle.weights, bundle.tokenizer).unwrap();
    Arc::new(Model::from_checkpoint("toy", "bundled", checkpoint, &neuroql_model::Options::default()).unwrap())
}

fn runner() -> QueryRunner {
    QueryRunner::new(toy(), Arc::new(Registry::new(2).unwrap()), 0, Cancel::default())
}

fn masked_lm() -> Arc<MaskedLm> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/masked/bert");
    Arc::new(MaskedLm::load(folder.to_str().unwrap(), &()).unwrap())
}

fn options(substitutes: Substitutes) -> Options {
    Options { substitutes, max_augmentations: MOST, ..Options::of(Method::N2g) }
}

/// Variants of a text by the description: mask a word, predict it, insert the predictions, tokenise again.
fn naive(runner: &QueryRunner, lm: &Arc<MaskedLm>, text: &str, limit: usize, important: &[&str]) -> Vec<Vec<u32>> {
    let mut starts: Vec<usize> = Vec::new();
    let letter = |c: char| c.is_alphabetic() || c == '\'';
    for (at, c) in text.char_indices() {
        if letter(c) && !text[..at].ends_with(letter) {
            starts.push(at);
        }
    }
    let mut variants = Vec::new();
    for start in starts.into_iter().filter(|start| *start <= limit) {
        let length = text[start..].find(|c| !letter(c)).unwrap_or(text.len() - start);
        let word = &text[start..start + length];
        if !important.contains(&bare(word).as_str()) {
            continue;
        }
        let masked = format!("{}[MASK]{}", &text[..start], &text[start + length..]);
        let (before, after) = masked.split_once("[MASK]").unwrap();
        let gap = Gap { before: before.into(), word: word.into(), after: after.into() };
        let filled = block_on(lm.fill(runner.pool(), &[gap], MOST, 1e-5, &Cancel::default())).unwrap().remove(0);
        for filler in filled {
            let title = word.chars().next().is_some_and(char::is_uppercase);
            let mut filler = filler.text;
            if title {
                let first = filler.find(char::is_alphabetic).unwrap();
                filler = filler[..first].to_owned() + &filler[first..first + 1].to_uppercase() + &filler[first + 1..];
            }
            // In Neuron2Graph, a piece with no space before it keeps its mark.
            let new = masked.replacen("[MASK]", &filler, 1).replace(" ##", "").replace("##", "");
            variants.push(runner.model().tokenizer().encode(&new).unwrap());
        }
    }
    variants
}

#[test]
fn words_are_replaced_as_described() {
    let (runner, lm) = (runner(), masked_lm());
    let texts = runner.model().tokenizer().texts();
    let mut sources = Sources::new(runner.model());
    sources.set_masked_lm(Arc::clone(&lm));
    let encode = |text: &str| runner.model().tokenizer().encode(text).unwrap();
    for (text, words) in [
        (" The house of the people was in the house. After", &[" house", " the", " The"][..]),
        (" and it was a very small house, of the kind", &[" was", " small", " kind"]),
        ("It was not there", &["It"]),
    ] {
        let tokens = encode(text);
        let named = |k: &usize| words.contains(&texts[tokens[*k] as usize].as_str());
        let important: Vec<usize> = (0..tokens.len()).filter(named).collect();
        assert!(important.len() >= words.len(), "{text}");
        // The activator is the third important word from the end, or the only one.
        let pivot = important[important.len().saturating_sub(3)];
        let important: Vec<usize> = important.into_iter().filter(|k| *k <= pivot).collect();
        let limit: usize = tokens[..=pivot].iter().map(|token| texts[*token as usize].len()).sum();
        let bares: Vec<String> = important.iter().map(|k| bare(&texts[tokens[*k] as usize])).collect();
        let bares: Vec<&str> = bares.iter().map(String::as_str).collect();
        let expected = naive(&runner, &lm, text, limit, &bares);
        assert!(expected.len() >= MOST, "{text}");
        let prompt = Prompt { before: &[], tokens: &tokens, pivot, important };
        let got = block_on(sources.variants(&runner, &[prompt], &options(Substitutes::MaskedLm))).unwrap();
        assert_eq!(got, [expected], "{text}");
    }
}

#[test]
fn other_sources_replace_tokens() {
    let runner = runner();
    let tokens = runner.model().tokenizer().encode(" the house was small").unwrap();
    let mut sources = Sources::new(runner.model());
    let prompt = Prompt { before: &[], tokens: &tokens, pivot: 1, important: vec![0, 1, 2] };
    for source in [Substitutes::Model, Substitutes::Predictions] {
        let variants =
            block_on(sources.variants(&runner, std::slice::from_ref(&prompt), &options(source))).unwrap().remove(0);
        // Tokens up to the activator only, MOST variants of each.
        assert_eq!(variants.len(), 2 * MOST, "{source:?}");
        for (i, variant) in variants.iter().enumerate() {
            let differs: Vec<usize> = (0..tokens.len()).filter(|k| variant[*k] != tokens[*k]).collect();
            assert_eq!(differs, [i / MOST], "{source:?}");
        }
    }
}

#[test]
fn predictions_are_those_after_the_text_before() {
    let runner = runner();
    let model = runner.model();
    let before = model.tokenizer().encode("It was said that the king").unwrap();
    let tokens = model.tokenizer().encode(" of the").unwrap();
    let mut sources = Sources::new(model);
    let places = [
        TokenPlace { before: &[], tokens: &tokens, at: 0 },
        TokenPlace { before: &before, tokens: &tokens, at: 0 },
        TokenPlace { before: &before, tokens: &tokens, at: 1 },
    ];
    let found = block_on(sources.tokens(&runner, &places, &options(Substitutes::Predictions))).unwrap();
    for (place, found) in places.iter().zip(found) {
        let mut batch = Batch::new([], model.bos());
        batch.push_last(&[place.before, &place.tokens[..place.at]].concat());
        let logits = model.logits(&batch, &Cancel::default()).unwrap().to_vec2::<f32>().unwrap().remove(0);
        let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
        ids.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
        ids.retain(|id| *id != place.tokens[place.at] && Some(*id) != model.bos());
        assert_eq!(found, ids[..MOST]);
    }
    let both = block_on(sources.tokens(&runner, &places, &options(Substitutes::Both))).unwrap();
    assert!(both.iter().all(|found| found.len() > MOST && found.len() <= 2 * MOST), "{both:?}");
}

#[test]
fn candidates_of_a_masked_lm_are_single_tokens() {
    let runner = runner();
    let before = runner.model().tokenizer().encode("It was said that").unwrap();
    let tokens = runner.model().tokenizer().encode(" the house, was").unwrap();
    let mut sources = Sources::new(runner.model());
    sources.set_masked_lm(masked_lm());
    let places: Vec<TokenPlace> =
        (0..tokens.len()).map(|at| TokenPlace { before: &before, tokens: &tokens, at }).collect();
    let found = block_on(sources.tokens(&runner, &places, &options(Substitutes::MaskedLm))).unwrap();
    let texts = runner.model().tokenizer().texts();
    for (place, found) in places.iter().zip(found) {
        let own = tokens[place.at];
        assert!(!found.contains(&own) && found.len() <= MOST);
        // Neither a part of a word nor a comma is a word.
        let word = [" the", " was"].contains(&texts[own as usize].as_str());
        assert_eq!(found.is_empty(), !word, "{:?}", texts[own as usize]);
        assert!(found.iter().all(|id| texts[*id as usize].contains(char::is_alphabetic)));
    }
    assert!(tokens.len() >= 4);
}
