//! Compositions of candle's operations, for any device and number type: they run where there is no kernel, and kernels
//! are tested against them. Norms, softmax and products add up in f32 for all number types.

use candle_core::{D, DType, Tensor};
use candle_nn::ops::{layer_norm, rms_norm, softmax_last_dim};
use candle_nn::rotary_emb::{rope, rope_i};

use super::Attention;
use super::packing::{CausalMask, Group, Packing};
use crate::weights::NormWeights;
use crate::{Activation, Config, Error, Norm, NormKind, QkNorm, Result};

pub(super) fn norm(x: &Tensor, norm: Norm, weights: &NormWeights) -> Result<Tensor> {
    // One launch if candle has a fused norm, which computes in f32.
    match (norm.kind, &weights.weight, &weights.bias) {
        (NormKind::Layer, Some(weight), Some(bias)) => return Ok(layer_norm(x, weight, bias, norm.eps)?),
        (NormKind::Rms, Some(weight), None) => return Ok(rms_norm(x, weight, norm.eps)?),
        (NormKind::None, ..) => return Ok(x.clone()),
        _ => {}
    }
    let dtype = x.dtype();
    let x = x.to_dtype(DType::F32)?;
    let centred = if norm.kind == NormKind::Layer { x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)? } else { x };
    let square = (centred.sqr()?.mean_keepdim(D::Minus1)? + f64::from(norm.eps))?;
    let mut out = centred.broadcast_div(&square.sqrt()?)?;
    if let Some(weight) = &weights.weight {
        out = out.broadcast_mul(&weight.to_dtype(DType::F32)?)?;
    }
    if let Some(bias) = &weights.bias {
        out = out.broadcast_add(&bias.to_dtype(DType::F32)?)?;
    }
    Ok(out.to_dtype(dtype)?)
}

pub(super) fn activate(x: &Tensor, config: &Config, bias: Option<&Tensor>) -> Result<Tensor> {
    let x = add_optional(x, bias)?;
    let act = |x: &Tensor| {
        Ok(match config.activation {
            Activation::Gelu => wide(x, Tensor::gelu_erf)?,
            Activation::GeluTanh => wide(x, Tensor::gelu)?,
            Activation::QuickGelu => wide(x, |x| x / ((x * -1.702)?.exp()? + 1.0)?)?,
            Activation::Relu => x.relu()?,
            Activation::Silu => wide(x, Tensor::silu)?,
            // The clamped gates, which are always gated, come first.
            Activation::Solu | Activation::SoluLn | Activation::ClampedSwiglu { .. } => {
                wide(x, |x| x * softmax_last_dim(x)?)?
            }
        })
    };
    if let Activation::ClampedSwiglu { alpha, limit } = config.activation {
        let (width, dtype, limit) = (x.dim(1)? / 2, x.dtype(), f64::from(limit));
        let x = x.to_dtype(DType::F32)?;
        let gate = x.narrow(1, 0, width)?.contiguous()?.minimum(limit)?;
        let up = x.narrow(1, width, width)?.contiguous()?.minimum(limit)?.maximum(-limit)?;
        let gate = (&gate / ((&gate * f64::from(-alpha))?.exp()? + 1.0)?)?;
        return Ok((gate * (up + 1.0)?)?.to_dtype(dtype)?);
    }
    if config.gated {
        let width = x.dim(1)? / 2;
        let gate = act(&x.narrow(1, 0, width)?.contiguous()?)?;
        return Ok((gate * x.narrow(1, width, width)?)?);
    }
    act(&x)
}

/// Applies a function in f32, as it would round after each of its steps in 16 bits.
fn wide(x: &Tensor, f: impl Fn(&Tensor) -> candle_core::Result<Tensor>) -> candle_core::Result<Tensor> {
    f(&x.to_dtype(DType::F32)?)?.to_dtype(x.dtype())
}

pub(super) fn add(x: &Tensor, y: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    add_optional(&(x + y)?, bias)
}

fn add_optional(x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    Ok(match bias {
        Some(bias) => x.broadcast_add(bias)?,
        None => x.clone(),
    })
}

/// Computes softmax over the last dimension, in f32, as GPUs do for all number types.
fn softmax(x: &Tensor) -> candle_core::Result<Tensor> {
    if x.device().is_cpu() { wide(x, softmax_last_dim) } else { softmax_last_dim(x) }
}

/// Runs attention group by group, each as one batch of products.
pub(super) fn attention(attention: &Attention, packing: &Packing, qkv: &Tensor) -> Result<Tensor> {
    let Config { heads, kv_heads, d_head, .. } = *attention.config;
    let qkv = add_optional(qkv, attention.bias)?;
    let placed = (heads + kv_heads) * d_head;
    // Queries and keys with their positions; those of `qkv` if they need none.
    let mut qk = qkv.clone();
    if let Some(shift) = attention.shift {
        qk = (qk.narrow(1, 0, placed)? + shift.index_select(&packing.positions, 0)?)?;
    }
    if let Some(norm) = attention.config.qk_norm {
        qk = normalise(&qk.narrow(1, 0, placed)?, attention, norm)?;
    }
    let mut qkv = qkv;
    if let Some(clip) = attention.config.qkv_clip.map(f64::from) {
        let clipped = |x: &Tensor| x.minimum(clip)?.maximum(-clip);
        (qk, qkv) = (clipped(&qk)?, clipped(&qkv)?);
    }
    if let Some((number, rotary)) = attention.rotary()
        && let Some(turns) = packing.turns.get(number)
    {
        let x = qk.narrow(1, 0, placed)?.reshape(((), heads + kv_heads, d_head))?;
        let rotation = &rotary.rotation;
        qk = rotate(&x, turns, rotation.dims, rotation.adjacent_pairs)?.reshape(((), placed))?;
    }
    let mut outputs = Vec::with_capacity(packing.groups.len());
    for group in &packing.groups {
        outputs.push(mixed(attention, group, &qk, &qkv)?);
    }
    let output = if outputs.len() == 1 { outputs.remove(0) } else { Tensor::cat(&outputs, 0)? };
    Ok(match &packing.places {
        Some(places) => output.index_select(places, 0)?,
        None => output,
    })
}

/// Mixed values of the queries of a group: `[pieces·queries, heads·d_head]`.
fn mixed(attention: &Attention, group: &Group, qk: &Tensor, qkv: &Tensor) -> Result<Tensor> {
    let Config { heads, kv_heads, d_head, .. } = *attention.config;
    let Group { pieces, queries, keys, .. } = *group;
    #[cfg_attr(not(any(test, feature = "cuda")), expect(irrefutable_let_patterns))]
    let CausalMask::Mask(mask) = &group.mask else {
        return Err(Error::Internal("a batch was packed for other kernels".into()));
    };
    let key_rows = group.key_rows.as_ref().unwrap_or(&group.query_rows);
    let of_queries = group.query_rows.of(qk, pieces * queries)?;
    let of_keys = if group.key_rows.is_some() { key_rows.of(qk, pieces * keys)? } else { of_queries.clone() };
    let of_values = if qk.id() == qkv.id() { of_keys.clone() } else { key_rows.of(qkv, pieces * keys)? };
    // Some heads of packed rows as a view: [pieces, heads, tokens, d_head]
    let split = |x: &Tensor, tokens: usize, first: usize, count: usize| {
        x.reshape((pieces, tokens, (), d_head))?.narrow(2, first, count)?.transpose(1, 2)
    };
    // Scaled as it is copied. Heads that share keys are contiguous, so they are one taller matrix.
    let q = (split(&of_queries, queries, 0, heads)? * f64::from(attention.scale()))?;
    let q = q.contiguous()?.reshape((pieces, kv_heads, heads / kv_heads * queries, d_head))?;
    let k = split(&of_keys, keys, heads, kv_heads)?.contiguous()?;
    let v = split(&of_values, keys, heads + kv_heads, kv_heads)?.contiguous()?;
    let scores = q.matmul(&k.t()?)?.reshape((pieces, heads, queries, keys))?;
    let local = attention.window().and(group.local_mask.as_ref());
    let pattern = pattern(attention, group, scores, local.unwrap_or(mask))?;
    let mixed = pattern.reshape((pieces, kv_heads, heads / kv_heads * queries, keys))?.matmul(&v)?;
    let mixed = mixed.reshape((pieces, heads, queries, d_head))?.transpose(1, 2)?;
    Ok(mixed.contiguous()?.reshape((pieces * queries, heads * d_head))?)
}

/// Attention pattern of scores `[pieces, heads, queries, keys]`.
fn pattern(attention: &Attention, group: &Group, scores: Tensor, mask: &Tensor) -> Result<Tensor> {
    let Config { heads, score_cap, .. } = *attention.config;
    let sinks = attention.extras.sinks.as_ref();
    if score_cap.is_none() && attention.alibi.is_none() && sinks.is_none() {
        return Ok(softmax(&scores.broadcast_add(mask)?)?);
    }
    let dtype = scores.dtype();
    let Group { pieces, queries, keys, .. } = *group;
    let mut scores = scores.to_dtype(DType::F32)?;
    if let Some(cap) = score_cap.map(f64::from) {
        scores = ((scores / cap)?.tanh()? * cap)?;
    }
    if let Some(table) = attention.alibi {
        let positions = table.len() / heads;
        // Addends by head of some positions: [pieces, heads, tokens]
        let addends = |tokens: &[u32], count: usize| {
            let row = |piece: &[u32], head: usize| -> Vec<f32> {
                piece.iter().map(|position| table[head * positions + *position as usize]).collect()
            };
            let values: Vec<f32> = tokens
                .chunks_exact(count)
                .flat_map(|piece| (0..heads).flat_map(move |head| row(piece, head)))
                .collect();
            Tensor::from_vec(values, (pieces, heads, count), scores.device())
        };
        let (of_keys, of_queries) = (addends(&group.key_positions, keys)?, addends(&group.query_positions, queries)?);
        scores = (scores + of_keys.unsqueeze(2)?.broadcast_sub(&of_queries.unsqueeze(3)?)?)?;
    }
    scores = scores.broadcast_add(&mask.to_dtype(DType::F32)?)?;
    let pattern = match sinks {
        None => softmax_last_dim(&scores)?,
        Some(sinks) => {
            let sinks = sinks.to_dtype(DType::F32)?.reshape((1, heads, 1, 1))?;
            let sinks = sinks.broadcast_as((pieces, heads, queries, 1))?.contiguous()?;
            softmax_last_dim(&Tensor::cat(&[scores, sinks], 3)?)?.narrow(3, 0, keys)?.contiguous()?
        }
    };
    Ok(pattern.to_dtype(dtype)?)
}

/// Normalises queries and keys, `[rows, (heads + kv_heads)·d_head]`.
fn normalise(qk: &Tensor, attention: &Attention, QkNorm { norm: kind, whole }: QkNorm) -> Result<Tensor> {
    let Config { heads, kv_heads, d_head, .. } = *attention.config;
    let (rows, weights) = (qk.dim(0)?, &attention.extras.qk_norm);
    let plain = |x: Tensor| norm(&x, kind, &NormWeights::default());
    let mut out = if whole {
        let queries = plain(qk.narrow(1, 0, heads * d_head)?.contiguous()?)?;
        let keys = plain(qk.narrow(1, heads * d_head, kv_heads * d_head)?.contiguous()?)?;
        Tensor::cat(&[queries, keys], 1)?
    } else {
        plain(qk.contiguous()?.reshape((rows * (heads + kv_heads), d_head))?)?.reshape((rows, ()))?
    };
    if let Some(weight) = &weights.weight {
        out = out.broadcast_mul(weight)?;
    }
    add_optional(&out, weights.bias.as_ref())
}

/// Rotates the first `dims` dimensions of `[rows, heads, d_head]`; `turns` are the cosines and sines of each row.
fn rotate(x: &Tensor, [cos, sin]: &[Tensor; 2], dims: usize, adjacent_pairs: bool) -> Result<Tensor> {
    let (rows, heads, d_head) = x.dims3()?;
    // For candle, each row is a batch of one token, because it has its own position.
    let turned = x.narrow(2, 0, dims)?.contiguous()?.reshape((rows, heads, 1, dims))?;
    let (cos, sin) = (cos.reshape((rows, 1, dims / 2))?, sin.reshape((rows, 1, dims / 2))?);
    let turned = if adjacent_pairs { rope_i(&turned, &cos, &sin)? } else { rope(&turned, &cos, &sin)? };
    let turned = turned.reshape((rows, heads, dims))?;
    Ok(if dims == d_head { turned } else { Tensor::cat(&[turned, x.narrow(2, dims, d_head - dims)?], 2)? })
}
