//! Substitutes: tokens and words that may activate a neuron like those that were seen.

mod neighbours;
mod predictions;
mod words;

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use futures::channel::oneshot;
use neuroql_model::{Error, Model, Result};

use crate::masked_lm::{Filler, Gap, MaskedLm, bare};
use crate::{Options, QueryRunner, Substitutes};
use neighbours::Neighbours;
use predictions::predicted;
use words::{DecodedText, cased};

/// Masked language model of Neuron2Graph.
const PUBLISHED: &str = "hf://distilbert/distilbert-base-uncased";

/// Least probability of fillers that are tried, as in Neuron2Graph's code.
const LEAST_PROBABILITY: f32 = 1e-5;

/// Greatest number of tokens before a pruned text that candidates depend on.
const CONTEXT: usize = 64;

/// Place of a token of a text that may be substituted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenPlace<'a> {
    /// Tokens before the text.
    pub before: &'a [u32],
    /// Tokens of the text.
    pub tokens: &'a [u32],
    /// Index of the token in the text.
    pub at: usize,
}

/// Prompt: a pruned text to make variants of.
#[derive(Debug, Clone)]
pub(crate) struct Prompt<'a> {
    /// Tokens before the text.
    pub before: &'a [u32],
    /// Tokens of the text.
    pub tokens: &'a [u32],
    /// Index of its greatest activation; tokens after it are not replaced.
    pub pivot: usize,
    /// Indices of the tokens that are important for that, ascending.
    pub important: Vec<usize>,
}

/// Sources of candidates: neighbours of tokens, and the masked language model.
#[derive(Debug)]
pub(crate) struct Sources {
    neighbours: Neighbours,
    masked_lm: Option<Arc<MaskedLm>>,
}

impl Sources {
    /// Makes the sources of a model.
    pub fn new(model: &Model) -> Self {
        Self { neighbours: Neighbours::new(model), masked_lm: None }
    }

    /// Sets a masked language model that is loaded already.
    pub fn set_masked_lm(&mut self, masked_lm: Arc<MaskedLm>) {
        self.masked_lm = Some(masked_lm);
    }

    /// Returns the tokens to try at each place, the likelier first.
    ///
    /// # Errors
    /// Errors of [`QueryRunner::ask`] and of [`MaskedLm::load`].
    pub async fn tokens(
        &mut self,
        runner: &QueryRunner,
        places: &[TokenPlace<'_>],
        options: &Options,
    ) -> Result<Vec<Vec<u32>>> {
        match options.substitutes {
            Substitutes::None => Ok(vec![Vec::new(); places.len()]),
            Substitutes::Model => self.near(runner, places, options).await,
            Substitutes::Predictions => predicted(runner, places, options.max_augmentations).await,
            Substitutes::Both => {
                let mut found = self.near(runner, places, options).await?;
                let others = predicted(runner, places, options.max_augmentations).await?;
                for (found, others) in found.iter_mut().zip(others) {
                    let new: Vec<u32> = others.into_iter().filter(|token| !found.contains(token)).collect();
                    found.extend(new);
                }
                Ok(found)
            }
            Substitutes::MaskedLm => self.whole_words(runner, places, options).await,
        }
    }

    /// Makes the variants of each prompt with one important word (by a masked language model) or token (by the model
    /// itself) replaced: Neuron2Graph's augmentation.
    ///
    /// # Errors
    /// Errors of [`Sources::tokens`].
    pub async fn variants(
        &mut self,
        runner: &QueryRunner,
        prompts: &[Prompt<'_>],
        options: &Options,
    ) -> Result<Vec<Vec<Vec<u32>>>> {
        if options.substitutes == Substitutes::MaskedLm {
            return self.words(runner, prompts, options).await;
        }
        let mut places = Vec::new();
        for Prompt { before, tokens, pivot, important } in prompts {
            let upto = important.iter().filter(|at| *at <= pivot);
            places.extend(upto.map(|at| TokenPlace { before, tokens, at: *at }));
        }
        let mut found = self.tokens(runner, &places, options).await?.into_iter();
        let variants = prompts.iter().map(|prompt| {
            let upto = prompt.important.iter().filter(|at| **at <= prompt.pivot);
            let mut variants = Vec::new();
            for (at, candidates) in upto.zip(found.by_ref()) {
                variants.extend(candidates.into_iter().map(|candidate| {
                    let mut tokens = prompt.tokens.to_vec();
                    tokens[*at] = candidate;
                    tokens
                }));
            }
            variants
        });
        Ok(variants.collect())
    }

    async fn near(
        &mut self,
        runner: &QueryRunner,
        places: &[TokenPlace<'_>],
        options: &Options,
    ) -> Result<Vec<Vec<u32>>> {
        let most = options.max_augmentations;
        self.neighbours.learn(runner, places.iter().map(|place| place.tokens[place.at]), most).await?;
        Ok(places.iter().map(|place| self.neighbours.of(place.tokens[place.at], most)).collect())
    }

    /// Returns candidates for tokens that are whole words: fillers that are one token too.
    async fn whole_words(
        &mut self,
        runner: &QueryRunner,
        places: &[TokenPlace<'_>],
        options: &Options,
    ) -> Result<Vec<Vec<u32>>> {
        let model = runner.model();
        let texts = model.tokenizer().texts();
        let mut gaps = Vec::new();
        let mut asked = Vec::new();
        for (i, place) in places.iter().enumerate() {
            let before = &place.before[place.before.len().saturating_sub(CONTEXT)..];
            let tokens = [before, place.tokens].concat();
            let at = before.len() + place.at;
            let text = DecodedText::new(&tokens, texts);
            let word = text.words().into_iter().find(|word| text.tokens_of(word) == (at..at + 1));
            if let Some(word) = word {
                gaps.push(gap(&text, &word));
                asked.push((i, tokens, at, word));
            }
        }
        let mut candidates = vec![Vec::new(); places.len()];
        for ((i, tokens, at, word), fillers) in asked.into_iter().zip(self.fill(runner, &gaps, options).await?) {
            let text = DecodedText::new(&tokens, texts);
            let own: &mut Vec<u32> = &mut candidates[i];
            for filler in fillers {
                let new = text.replaced(&word, &cased(&filler.text, text.get(word.clone())), model)?;
                let one = new.len() == tokens.len() && new[..at] == tokens[..at];
                if one && new[at] != tokens[at] && !own.contains(&new[at]) {
                    own.push(new[at]);
                }
            }
        }
        Ok(candidates)
    }

    /// Makes variants by words, for each occurrence of a word that is as a whole an important token.
    async fn words(
        &mut self,
        runner: &QueryRunner,
        prompts: &[Prompt<'_>],
        options: &Options,
    ) -> Result<Vec<Vec<Vec<u32>>>> {
        let model = runner.model();
        let texts = model.tokenizer().texts();
        let mut gaps = Vec::new();
        let mut asked: Vec<(usize, DecodedText, Range<usize>)> = Vec::new();
        for (i, prompt) in prompts.iter().enumerate() {
            let important: HashSet<String> =
                prompt.important.iter().filter_map(|at| Some(bare(texts.get(prompt.tokens[*at] as usize)?))).collect();
            let text = DecodedText::new(prompt.tokens, texts);
            // As in Neuron2Graph, a word that begins where the activator ends still counts.
            let limit = text.end_of(prompt.pivot);
            for word in text.words().into_iter().take_while(|word| word.start <= limit) {
                if important.contains(&bare(text.get(word.clone()))) {
                    gaps.push(gap(&text, &word));
                    asked.push((i, DecodedText::new(prompt.tokens, texts), word));
                }
            }
        }
        let mut variants = vec![Vec::new(); prompts.len()];
        for ((i, text, word), fillers) in asked.into_iter().zip(self.fill(runner, &gaps, options).await?) {
            for filler in fillers {
                let tokens = text.replaced(&word, &cased(&filler.text, text.get(word.clone())), model)?;
                if tokens.len() <= model.window() {
                    variants[i].push(tokens);
                }
            }
        }
        Ok(variants)
    }

    async fn fill(&mut self, runner: &QueryRunner, gaps: &[Gap], options: &Options) -> Result<Vec<Vec<Filler>>> {
        if gaps.is_empty() {
            return Ok(Vec::new());
        }
        let lm = match &self.masked_lm {
            Some(lm) => Arc::clone(lm),
            None => {
                let location = options.masked_lm.clone().unwrap_or_else(|| PUBLISHED.into());
                let lm = load(location).await?;
                self.masked_lm = Some(Arc::clone(&lm));
                lm
            }
        };
        // Texts of neurons of a layer are often the same.
        let mut numbers: HashMap<&Gap, usize> = HashMap::new();
        let mut distinct: Vec<Gap> = Vec::new();
        let of: Vec<usize> = gaps
            .iter()
            .map(|gap| {
                *numbers.entry(gap).or_insert_with(|| {
                    distinct.push(gap.clone());
                    distinct.len() - 1
                })
            })
            .collect();
        let most = options.max_augmentations;
        let fillers = lm.fill(runner.pool(), &distinct, most, LEAST_PROBABILITY, runner.cancel()).await?;
        Ok(of.into_iter().map(|i| fillers[i].clone()).collect())
    }
}

fn gap(text: &DecodedText, word: &Range<usize>) -> Gap {
    let (before, after) = text.around(word);
    Gap { before: before.into(), word: text.get(word.clone()).into(), after: after.into() }
}

/// Loads a model on a thread of its own, as waiting for a download would block an async task.
async fn load(location: String) -> Result<Arc<MaskedLm>> {
    let (sender, receiver) = oneshot::channel();
    let job = move || {
        // The receiver is gone if the query was cancelled meanwhile.
        let _ = sender.send(MaskedLm::load(&location, &()));
    };
    let thread = std::thread::Builder::new().name("neuroql-load".into()).spawn(job);
    thread.map_err(|e| Error::Internal(format!("cannot start a thread: {e}")))?;
    let loaded = receiver.await.map_err(|_| Error::Internal("loading a masked language model panicked".into()))?;
    loaded.map(Arc::new)
}

#[cfg(test)]
mod tests;
