//! Predictions: tokens that the model itself expects at a place, given the text before it.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::try_join_all;
use neuroql_model::{Batch, Placement, Result};

use super::{CONTEXT, TokenPlace};
use crate::QueryRunner;

/// Greatest number of tokens of a forward pass.
const TOKENS: usize = 1024;

/// Predicts the most probable tokens at each place, at most `most`, its own left out. A place with no token before it
/// has none.
///
/// # Errors
/// Errors of [`neuroql_model::Model::next_tokens`].
pub(super) async fn predicted(runner: &QueryRunner, places: &[TokenPlace<'_>], most: usize) -> Result<Vec<Vec<u32>>> {
    let model = runner.model();
    let room = CONTEXT.min(model.window());
    let prefix = |place: &TokenPlace| {
        let tokens = [place.before, &place.tokens[..place.at]].concat();
        tokens[tokens.len().saturating_sub(room)..].to_vec()
    };
    let prefixes: Vec<Vec<u32>> = places.iter().map(prefix).collect();
    let mut numbers: HashMap<&[u32], usize> = HashMap::new();
    let mut passes: Vec<Batch> = Vec::new();
    for prefix in prefixes.iter().filter(|prefix| !prefix.is_empty() || model.bos().is_some()) {
        let number = numbers.len();
        if numbers.contains_key(prefix.as_slice()) {
            continue;
        }
        numbers.insert(prefix, number);
        match passes.last_mut() {
            Some(pass) if pass.tokens() + prefix.len() < TOKENS => pass.push_last(prefix),
            _ => {
                let mut pass = Batch::new([], model.bos());
                pass.push_last(prefix);
                passes.push(pass);
            }
        }
    }
    let runs = passes.into_iter().map(|pass| {
        let (model, cancel) = (Arc::clone(model), runner.cancel().clone());
        // One more than `most`, as the own token is usually among them.
        runner.pool().run(Placement::OneThread.of(runner.model()), move || model.next_tokens(&pass, most + 1, &cancel))
    });
    let next: Vec<Vec<(u32, f32)>> = try_join_all(runs).await?.into_iter().flatten().collect();
    let texts = model.tokenizer().texts();
    let candidates = places.iter().zip(&prefixes).map(|(place, prefix)| {
        let next = numbers.get(prefix.as_slice()).map_or(&[][..], |number| &next[*number]);
        let own = place.tokens[place.at];
        let fits = |token: &u32| {
            let named = texts.get(*token as usize).is_some_and(|text| !text.is_empty());
            named && *token != own && Some(*token) != model.bos()
        };
        next.iter().map(|(token, _)| *token).filter(fits).take(most).collect()
    });
    Ok(candidates.collect())
}
