//! The operations written with candle's own, for any device and number type: slower on a CPU, obvious to read.

use candle_core::{D, Tensor};
use candle_nn::ops::softmax_last_dim;

use super::Attention;
use crate::kernel::Rotation;
use crate::weights::NormWeights;
use crate::{Activation, Config, Norm, NormKind, Result};

pub(super) fn norm(x: &Tensor, norm: Norm, weights: &NormWeights) -> Result<Tensor> {
    let centred = match norm.kind {
        NormKind::Layer => x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?,
        NormKind::Rms | NormKind::None => x.clone(),
    };
    let mut out = match norm.kind {
        NormKind::None => centred,
        NormKind::Layer | NormKind::Rms => {
            let square = (centred.sqr()?.mean_keepdim(D::Minus1)? + f64::from(norm.eps))?;
            centred.broadcast_div(&square.sqrt()?)?
        }
    };
    if let Some(weight) = &weights.weight {
        out = out.broadcast_mul(weight)?;
    }
    if let Some(bias) = &weights.bias {
        out = out.broadcast_add(bias)?;
    }
    Ok(out)
}

pub(super) fn activate(x: &Tensor, config: &Config, bias: Option<&Tensor>) -> Result<Tensor> {
    let x = add_optional(x, bias)?;
    let act = |x: &Tensor| {
        Ok(match config.activation {
            Activation::Gelu => x.gelu_erf()?,
            Activation::GeluTanh => x.gelu()?,
            Activation::Relu => x.relu()?,
            Activation::Silu => x.silu()?,
            Activation::Solu | Activation::SoluLn => (x * softmax_last_dim(x)?)?,
        })
    };
    if config.gated {
        let width = x.dim(1)? / 2;
        let gate = act(&x.narrow(1, 0, width)?.contiguous()?)?;
        return Ok((gate * x.narrow(1, width, width)?)?);
    }
    act(&x)
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

/// One segment at a time, with all that comes before it in its sequence.
pub(super) fn attention(attention: &Attention, qkv: &Tensor) -> Result<Tensor> {
    let Config { heads, kv_heads, d_head, .. } = *attention.config;
    let qkv = add_optional(qkv, attention.bias)?;
    let offsets = attention.segments.offsets;
    let mut outputs = Vec::with_capacity(offsets.len());
    for (segment, pair) in offsets.windows(2).enumerate() {
        let before = attention.segments.before(segment);
        let rows: Vec<u32> = before.into_iter().flatten().chain(pair[0]..pair[1]).map(|row| row as u32).collect();
        let tokens = rows.len();
        let rows = qkv.index_select(&Tensor::from_vec(rows, tokens, qkv.device())?, 0)?;
        let mut mixed = rows.narrow(1, 0, (heads + kv_heads) * d_head)?;
        if let Some(shift) = attention.shift {
            mixed = (mixed + shift.narrow(0, 0, tokens)?)?;
        }
        // [heads, tokens, d_head]
        let split = |x: Tensor, count: usize| x.reshape((tokens, count, d_head))?.transpose(0, 1)?.contiguous();
        let mut q = split(mixed.narrow(1, 0, heads * d_head)?, heads)?;
        let mut k = split(mixed.narrow(1, heads * d_head, kv_heads * d_head)?, kv_heads)?;
        let v = split(rows.narrow(1, (heads + kv_heads) * d_head, kv_heads * d_head)?, kv_heads)?;
        if let Some(rotation) = attention.rotation {
            q = rotate(&q, rotation)?;
            k = rotate(&k, rotation)?;
        }
        let repeat = |x: Tensor| {
            let shared = x.unsqueeze(1)?.expand((kv_heads, heads / kv_heads, tokens, d_head))?;
            shared.reshape((heads, tokens, d_head))
        };
        let scores = (q.matmul(&repeat(k)?.t()?)? * f64::from(attention.scale()))?;
        let mask: Vec<f32> =
            (0..tokens * tokens).map(|i| if i % tokens <= i / tokens { 0.0 } else { f32::NEG_INFINITY }).collect();
        let mask = Tensor::from_vec(mask, (tokens, tokens), qkv.device())?.to_dtype(qkv.dtype())?;
        let pattern = softmax_last_dim(&scores.broadcast_add(&mask)?)?;
        let mixed = pattern.matmul(&repeat(v)?)?.transpose(0, 1)?.reshape((tokens, heads * d_head))?;
        let own = pair[1] - pair[0];
        outputs.push(mixed.narrow(0, tokens - own, own)?);
    }
    Ok(Tensor::cat(&outputs, 0)?)
}

/// Rotates `[heads, tokens, d_head]`.
fn rotate(x: &Tensor, rotation: &Rotation) -> Result<Tensor> {
    let (heads, tokens, d_head) = x.dims3()?;
    let half = rotation.dims / 2;
    let table = |values: &[f32]| {
        Tensor::from_slice(&values[..tokens * half], (1, tokens, half), x.device())?.to_dtype(x.dtype())
    };
    let (cos, sin) = (table(&rotation.cos)?, table(&rotation.sin)?);
    let turned = x.narrow(2, 0, rotation.dims)?;
    let (a, b) = if rotation.adjacent_pairs {
        let pairs = turned.reshape((heads, tokens, half, 2))?;
        (pairs.narrow(3, 0, 1)?.squeeze(3)?, pairs.narrow(3, 1, 1)?.squeeze(3)?)
    } else {
        (turned.narrow(2, 0, half)?, turned.narrow(2, half, half)?)
    };
    let low = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let high = (a.broadcast_mul(&sin)? + b.broadcast_mul(&cos)?)?;
    let turned = if rotation.adjacent_pairs {
        Tensor::stack(&[low, high], 3)?.reshape((heads, tokens, rotation.dims))?
    } else {
        Tensor::cat(&[low, high], 2)?
    };
    let rest = x.narrow(2, rotation.dims, d_head - rotation.dims)?;
    Ok(if rotation.dims == d_head { turned } else { Tensor::cat(&[turned, rest], 2)? })
}
