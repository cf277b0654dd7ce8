//! Next tokens by the network's own logits.

use candle_core::D;

use crate::neighbours::greatest;
use crate::{Batch, Cancel, Model, Result};

/// Rows whose logits are computed at once: a vocabulary of 150,000 tokens takes 40 MB for them.
const ROWS: usize = 64;

impl Model {
    /// For each row of the batch the `count` tokens that the network holds most probable after it, the most probable
    /// first, of equal ones that of the lower id; each with its probability.
    ///
    /// # Errors
    /// As [`Model::logits`].
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
            // Softmax does not change the order, and its sum is all that is needed of it.
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
