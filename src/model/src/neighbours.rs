//! Nearest tokens in the embedding.

use candle_core::{D, DType};

use crate::{Error, Model, Result};

/// Number of tokens whose neighbours are computed at once.
const BATCH: usize = 64;

impl Model {
    /// Finds the `count` nearest tokens of each token by the cosine of their rows of the embedding, nearest first, the
    /// token itself left out; equally near ones in the order of their ids.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a token the embedding does not have.
    pub fn nearest_tokens(&self, tokens: &[u32], count: usize) -> Result<Vec<Vec<u32>>> {
        let vocabulary = self.config().vocabulary;
        if let Some(&token) = tokens.iter().find(|token| **token as usize >= vocabulary) {
            let model = self.name().into();
            return Err(Error::OutOfRange { what: "token id", index: token.into(), limit: vocabulary, model });
        }
        if tokens.is_empty() || count == 0 {
            return Ok(vec![Vec::new(); tokens.len()]);
        }
        let embed = self.weights().embed.to_dtype(DType::F32)?;
        let norms = (embed.sqr()?.sum_keepdim(D::Minus1)?.sqrt()? + 1e-12)?;
        let embed = embed.broadcast_div(&norms)?;
        let mut nearest = Vec::with_capacity(tokens.len());
        for tokens in tokens.chunks(BATCH) {
            let ids = candle_core::Tensor::from_slice(tokens, tokens.len(), self.device())?;
            let cosines = embed.index_select(&ids, 0)?.matmul(&embed.t()?)?.to_vec2::<f32>()?;
            nearest
                .extend(tokens.iter().zip(cosines).map(|(token, cosines)| greatest(&cosines, |id| id != token, count)));
        }
        Ok(nearest)
    }
}

/// Ids of the greatest values, the greatest first, of equal ones the lower id; ids that are not `allowed` left out.
pub(crate) fn greatest(values: &[f32], allowed: impl Fn(&u32) -> bool, count: usize) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..values.len() as u32).filter(allowed).collect();
    let order = |a: &u32, b: &u32| values[*b as usize].total_cmp(&values[*a as usize]).then(a.cmp(b));
    let count = count.min(ids.len());
    if count < ids.len() {
        ids.select_nth_unstable_by(count, order);
        ids.truncate(count);
    }
    ids.sort_by(order);
    ids
}
