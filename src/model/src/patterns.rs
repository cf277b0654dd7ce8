//! Attention patterns: how much each token of a text attends to each.

use std::sync::Arc;

use candle_core::Tensor;

use crate::{Batch, Cancel, Error, Model, Result};

/// A pass of one example that stops at the attention of layers, one after the other.
#[derive(Debug)]
pub struct AttentionPass {
    model: Arc<Model>,
    batch: Batch,
    /// The residual stream before `layer`.
    x: Option<Tensor>,
    layer: usize,
}

impl AttentionPass {
    /// Begins a pass of one example.
    ///
    /// # Errors
    /// [`Error::TooLong`] for an example longer than the window, [`Error::OutOfRange`] for a token the embedding does not
    /// have.
    pub fn new(model: &Arc<Model>, tokens: &[u32]) -> Result<Self> {
        model.check_length(tokens.len())?;
        let batch = Batch::of_all(tokens, model.bos());
        let x = if batch.is_empty() { None } else { Some(model.embed(&batch)?) };
        Ok(Self { model: Arc::clone(model), batch, x, layer: 0 })
    }

    /// Number of queries and of keys of a pattern: tokens, and BOS, which is the first, if the model prepends it.
    pub fn tokens(&self) -> usize {
        self.batch.tokens()
    }

    /// Goes on to a layer and computes the patterns of some of its heads: `[heads, queries, keys]`, 0 for keys that a query
    /// does not attend to. The weights of a query add up to 1, less what a sink takes (gpt-oss). Neither the values that
    /// they mix nor the MLP of the layer are computed.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a layer or head that is not there, [`Error::Cancelled`], [`Error::Internal`] for a layer
    /// before the last one.
    pub fn patterns(&mut self, layer: usize, heads: &[usize], cancel: &Cancel) -> Result<Vec<f32>> {
        let model = Arc::clone(&self.model);
        model.layer(layer, &[])?;
        let limit = model.config().heads;
        if let Some(head) = heads.iter().find(|head| **head >= limit) {
            return Err(Error::OutOfRange { what: "head", index: *head as i64, limit, model: model.name().into() });
        }
        if layer < self.layer {
            return Err(Error::Internal(format!("layer {layer} was asked for after layer {}", self.layer)));
        }
        let Some(mut x) = self.x.take() else { return Ok(Vec::new()) };
        let layers = self.layer..layer;
        self.layer = layer;
        let patterns;
        (x, patterns) = model.patterns_after(&self.batch, x, layers, heads, cancel)?;
        self.x = Some(x);
        Ok(patterns)
    }
}
