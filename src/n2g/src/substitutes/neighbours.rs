//! Neighbours of tokens: variants that differ in case or in a leading space, then neighbours in the embedding.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::try_join_all;
use neuroql_model::{Model, Placement, Result};

use crate::QueryRunner;

/// Number of tokens whose neighbours are searched together.
const TOGETHER: usize = 256;

/// Neighbours of tokens, as candidates.
#[derive(Debug)]
pub(super) struct Neighbours {
    /// Tokens by their text in lower case without spaces around it.
    variants: HashMap<String, Vec<u32>>,
    texts: Arc<[String]>,
    /// Neighbours of each learned token, nearest first.
    nearest: HashMap<u32, Vec<u32>>,
}

impl Neighbours {
    /// Makes the variants of a model's tokens.
    pub fn new(model: &Model) -> Self {
        let texts = Arc::clone(model.tokenizer().texts());
        let mut variants: HashMap<String, Vec<u32>> = HashMap::new();
        for (id, text) in texts.iter().enumerate().take(model.config().vocabulary) {
            let word = text.trim().to_lowercase();
            // Fragments of characters have no text to compare.
            if !word.is_empty() && !text.contains('\u{fffd}') {
                variants.entry(word).or_default().push(id as u32);
            }
        }
        Self { variants, texts, nearest: HashMap::new() }
    }

    /// Learns the neighbours of tokens.
    ///
    /// # Errors
    /// Errors of [`Model::nearest_tokens`].
    pub async fn learn(&mut self, runner: &QueryRunner, tokens: impl Iterator<Item = u32>, count: usize) -> Result<()> {
        let mut new: Vec<u32> = tokens.filter(|token| !self.nearest.contains_key(token)).collect();
        new.sort_unstable();
        new.dedup();
        let searches = new.chunks(TOGETHER).map(|tokens| {
            let (model, tokens) = (Arc::clone(runner.model()), tokens.to_vec());
            runner.pool().run(Placement::OneThread.of(runner.model()), move || model.nearest_tokens(&tokens, count))
        });
        let nearest = try_join_all(searches).await?;
        self.nearest.extend(new.into_iter().zip(nearest.into_iter().flatten()));
        Ok(())
    }

    /// Returns candidates in place of a token, the likelier first.
    pub fn of(&self, token: u32, most: usize) -> Vec<u32> {
        let word = self.texts.get(token as usize).map(|text| text.trim().to_lowercase()).unwrap_or_default();
        let variants = self.variants.get(&word).into_iter().flatten();
        let nearest = self.nearest.get(&token).into_iter().flatten();
        let mut candidates: Vec<u32> = Vec::new();
        for candidate in variants.chain(nearest).copied() {
            let named = self.texts.get(candidate as usize).is_some_and(|text| !text.is_empty());
            if named && candidate != token && !candidates.contains(&candidate) && candidates.len() < most {
                candidates.push(candidate);
            }
        }
        candidates
    }
}
