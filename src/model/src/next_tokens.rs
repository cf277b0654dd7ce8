//! Predictions of next tokens, by the network's logits.

use candle_core::D;

use crate::neighbours::greatest;
use crate::{Batch, Cancel, Model, Result};

/// Number of rows whose logits are computed at once: a vocabulary of 150,000 tokens takes 40 MB for them.
const ROWS: usize = 64;

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
        let (x, head) = (self.final_residual(batch, cancel)?, self.head()?);
        let mut next = Vec::with_capacity(batch.rows());
        for first in (0..batch.rows()).step_by(ROWS) {
            cancel.check()?;
            let rows = ROWS.min(batch.rows() - first);
            let logits = head.logits(&x.narrow(0, first, rows)?.contiguous()?)?;
            // Softmax does not change the order, so only its sum is computed.
            let most = logits.max_keepdim(D::Minus1)?;
            let sums = logits.broadcast_sub(&most)?.exp()?.sum(D::Minus1)?.to_vec1::<f32>()?;
            let most = most.squeeze(1)?.to_vec1::<f32>()?;
            for ((logits, most), sum) in logits.to_vec2::<f32>()?.into_iter().zip(most).zip(sums) {
                let probability = |id: u32| (id, (logits[id as usize] - most).exp() / sum);
                next.push(greatest(&logits, |_| true, count).into_iter().map(probability).collect());
            }
        }
        Ok(next)
    }
}
