//! Fits graphs to samples: one file a method.

mod baselines;
pub(crate) mod choose_patterns;
pub(crate) mod compact_pattern;
mod n2g;
pub mod neuroql;
mod openai;
mod substituted;

pub(crate) use baselines::baseline;
pub(crate) use n2g::fit as n2g;
pub(crate) use openai::fit as openai;

use std::sync::Arc;

use neuroql_graph::Token;

/// Texts of tokens by id.
#[derive(Debug, Clone)]
pub(crate) struct TokenTexts(Arc<[String]>);

impl TokenTexts {
    pub fn new(texts: Arc<[String]>) -> Self {
        Self(texts)
    }

    pub fn token(&self, id: u32) -> Token {
        Token { id: Some(id), text: self.0.get(id as usize).map_or("", String::as_str).into() }
    }
}
