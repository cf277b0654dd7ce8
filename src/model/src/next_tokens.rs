//! Predictions of next tokens, by the network's logits, with and without interventions.

use candle_core::{D, Tensor};

use crate::forward::{Edit, Tap};
use crate::neighbours::greatest;
use crate::{Batch, Cancel, Error, Model, Result};

/// Number of rows whose logits are computed at once: a vocabulary of 150,000 tokens takes 40 MB for them.
const ROWS: usize = 64;

/// Prediction of the token that follows another in a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The token that follows; `None` after the last one.
    pub next: Option<u32>,
    /// Logit of that token.
    pub logit: Option<f32>,
    /// Loss: −ln of the probability of that token.
    pub loss: Option<f32>,
    /// The most probable token, of equal ones the lower id.
    pub most_probable: u32,
}

impl Model {
    /// Predicts the `count` most probable next tokens after each row of the batch, with their probabilities, the most
    /// probable first, of equal ones that of the lower id.
    ///
    /// # Errors
    /// Errors of [`Model::logits`].
    pub fn next_tokens(&self, batch: &Batch, count: usize, cancel: &Cancel) -> Result<Vec<Vec<(u32, f32)>>> {
        if batch.is_empty() || count == 0 {
            return Ok(vec![Vec::new(); batch.rows()]);
        }
        let mut next = Vec::with_capacity(batch.rows());
        self.each_row(&self.final_residual(batch, cancel)?, cancel, |row| {
            let probability = |id: u32| (id, (row.logits[id as usize] - row.most).exp() / row.sum);
            next.push(greatest(row.logits, |_| true, count).into_iter().map(probability).collect());
        })?;
        Ok(next)
    }

    /// Predictions after BOS, if there is one, and after each token of one example; `values` are set at the model's site,
    /// on all tokens, BOS among them: layers, neurons and what their activations are replaced by.
    ///
    /// In a mixture of experts, neurons are replaced on the tokens that are routed to their experts.
    ///
    /// # Errors
    /// Errors of [`Model::logits`]; [`Error::OutOfRange`] for a layer or neuron that is not there,
    /// [`Error::TooLong`] for an example longer than the window.
    pub fn predictions(
        &self,
        tokens: &[u32],
        values: &[(usize, u32, f32)],
        cancel: &Cancel,
    ) -> Result<Vec<Prediction>> {
        self.check_length(tokens.len())?;
        let mut edits: Vec<Edit> =
            (0..self.config().layers).map(|_| Edit { site: self.site(), values: Vec::new() }).collect();
        for (layer, neuron, value) in values {
            self.layer(*layer, &[*neuron])?;
            edits[*layer].values.push((*neuron, *value));
        }
        let batch = Batch::of_all(tokens, self.bos());
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let edit = |l: usize| Some(&edits[l]).filter(|edit| !edit.values.is_empty());
        let x = self.through_blocks(&batch, cancel, None, |l| Ok(Tap::editing(edit(l))), |_, _| Ok(()))?;
        let x = self.final_rows(x, &batch)?;
        let mut next = batch.tokens.iter().skip(1).copied();
        let mut predictions = Vec::with_capacity(batch.rows());
        self.each_row(&x, cancel, |row| {
            let next = next.next();
            let logit = next.map(|id| row.logits[id as usize]);
            predictions.push(Prediction {
                next,
                logit,
                loss: logit.map(|logit| row.sum.ln() - (logit - row.most)),
                most_probable: greatest(row.logits, |_| true, 1).first().copied().unwrap_or_default(),
            });
        })?;
        Ok(predictions)
    }

    /// Refuses an example that is longer than the window.
    ///
    /// # Errors
    /// [`Error::TooLong`].
    pub fn check_length(&self, tokens: usize) -> Result<()> {
        if tokens <= self.window() {
            return Ok(());
        }
        Err(Error::TooLong { tokens, window: self.window(), model: self.name().into() })
    }

    /// Computes logits of rows of the residual stream after the last norm, and calls `each` with them.
    fn each_row(&self, x: &Tensor, cancel: &Cancel, mut each: impl FnMut(Row)) -> Result<()> {
        let (head, all) = (self.head()?, x.dim(0)?);
        for first in (0..all).step_by(ROWS) {
            cancel.check()?;
            let rows = ROWS.min(all - first);
            let logits = head.logits(&x.narrow(0, first, rows)?.contiguous()?)?;
            // Softmax does not change the order, so only its sum is computed.
            let most = logits.max_keepdim(D::Minus1)?;
            let sums = logits.broadcast_sub(&most)?.exp()?.sum(D::Minus1)?.to_vec1::<f32>()?;
            let most = most.squeeze(1)?.to_vec1::<f32>()?;
            for ((logits, most), sum) in logits.to_vec2::<f32>()?.into_iter().zip(most).zip(sums) {
                each(Row { logits: &logits, most, sum });
            }
        }
        Ok(())
    }
}

/// Logits of a row: the greatest, and the sum of `exp(logit − greatest)`.
struct Row<'a> {
    logits: &'a [f32],
    most: f32,
    sum: f32,
}
