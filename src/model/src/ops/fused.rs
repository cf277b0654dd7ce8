//! Attention by fused kernels. Each single operation of candle would read and write all values, and a GPU is bound by
//! memory here.
//!
//! One kernel makes the heads of a group's pieces of rows of a batch, with their biases, positions and the scale; one
//! makes patterns of scores in place, without the keys that a query does not attend to; one gathers heads into rows.

#[cfg(feature = "cuda")]
use super::cuda as kernels;
#[cfg(not(feature = "cuda"))]
use super::tests::loops as kernels;

use candle_core::{DType, Tensor};

use super::Attention;
use super::packing::{CausalMask, Group, Packing, Rows};
use crate::kernel::Rotation;
use crate::{Config, Error, Result};

/// Arguments for making heads of packed queries, keys or values, for the pieces of a group.
pub(super) struct Heads<'a> {
    /// Packed queries, keys and values, `[rows, (heads + 2·kv_heads)·d_head]`.
    pub qkv: &'a Tensor,
    pub rows: &'a Rows,
    pub pieces: usize,
    /// Number of tokens of each piece, padding included.
    pub tokens: usize,
    /// Bias, as wide as a row of `qkv`.
    pub bias: Option<&'a Tensor>,
    /// Vectors added by position (shortformer), `[positions, (heads + kv_heads)·d_head]`.
    pub shift: Option<&'a Tensor>,
    /// Position of each row.
    pub positions: &'a Tensor,
    /// Rotation of heads, with its cosines and sines, f32 `[positions, dims / 2]`.
    pub rotation: Option<(&'a Rotation, &'a [Tensor; 2])>,
    /// First head and number of heads.
    pub first: usize,
    pub count: usize,
    pub d_head: usize,
    pub scale: f32,
}

/// Runs attention on `[rows, (heads + 2·kv_heads)·d_head]`; returns `[rows, heads·d_head]`.
pub(super) fn attention(attention: &Attention, packing: &Packing, qkv: &Tensor) -> Result<Tensor> {
    let Config { heads, d_head, .. } = *attention.config;
    let mut mixed = Vec::with_capacity(packing.groups.len());
    for group in &packing.groups {
        mixed.push(of_group(attention, packing, group, qkv)?);
    }
    kernels::gather(&mixed, &packing.groups, (qkv.dim(0)?, heads, d_head))
}

/// Mixed values of the queries of a group: `[pieces, heads, queries, d_head]`.
fn of_group(attention: &Attention, packing: &Packing, group: &Group, qkv: &Tensor) -> Result<Tensor> {
    let Config { heads, kv_heads, d_head, .. } = *attention.config;
    let Group { pieces, queries, keys, .. } = *group;
    let CausalMask::Before(before) = &group.mask else {
        return Err(Error::Internal("a batch was packed for other kernels".into()));
    };
    let rotation = match attention.rotary() {
        Some((_, rotary)) => Some((&rotary.rotation, rotary.tables(qkv.device(), DType::F32)?)),
        None => None,
    };
    let of_queries = Heads {
        qkv,
        rows: &group.query_rows,
        pieces,
        tokens: queries,
        bias: attention.bias,
        shift: attention.shift,
        positions: &packing.positions,
        rotation,
        first: 0,
        count: heads,
        d_head,
        scale: attention.scale(),
    };
    let key_rows = group.key_rows.as_ref().unwrap_or(&group.query_rows);
    let of_keys = Heads { rows: key_rows, tokens: keys, first: heads, count: kv_heads, scale: 1.0, ..of_queries };
    let of_values = Heads { first: heads + kv_heads, shift: None, rotation: None, ..of_keys };
    // Heads that share keys are contiguous, so they are one taller matrix.
    let taller = (pieces, kv_heads, heads / kv_heads * queries, d_head);
    let q = kernels::place(&of_queries)?.reshape(taller)?;
    let scores = q.matmul(&kernels::place(&of_keys)?.t()?)?;
    kernels::soften(&scores, before, (heads, queries, keys))?;
    Ok(scores.matmul(&kernels::place(&of_values)?)?.reshape((pieces, heads, queries, d_head))?)
}
