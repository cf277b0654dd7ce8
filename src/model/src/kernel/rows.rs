//! Operations on each row of a `[rows, width]` matrix.

use rayon::prelude::*;

use super::math::{exp, gelu, gelu_tanh, max, silu, sum};
use super::{PARALLEL_ELEMENTS, vectorised};
use crate::{Activation, Norm, NormKind};

/// Calls `f` with the index of each row and the row, on several threads where it pays.
fn for_rows(data: &mut [f32], width: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    if width == 0 {
        return;
    }
    let threads = rayon::current_num_threads();
    if threads == 1 || data.len() < PARALLEL_ELEMENTS {
        return vectorised(|| data.chunks_exact_mut(width).enumerate().for_each(|(i, row)| f(i, row)));
    }
    let rows = (data.len() / width).div_ceil(4 * threads);
    data.par_chunks_mut(rows * width).enumerate().for_each(|(block, chunk)| {
        vectorised(|| chunk.chunks_exact_mut(width).enumerate().for_each(|(i, row)| f(block * rows + i, row)));
    });
}

/// `x ← act(x + bias)` in place.
pub(crate) fn activate(x: &mut [f32], width: usize, bias: Option<&[f32]>, activation: Activation) {
    match activation {
        Activation::Gelu => map(x, width, bias, gelu),
        Activation::GeluTanh => map(x, width, bias, gelu_tanh),
        Activation::Silu => map(x, width, bias, silu),
        Activation::Relu => map(x, width, bias, |x| if x > 0.0 { x } else { 0.0 }),
        Activation::Solu | Activation::SoluLn => solu(x, width, bias),
    }
}

fn map(x: &mut [f32], width: usize, bias: Option<&[f32]>, f: impl Fn(f32) -> f32 + Sync) {
    match bias {
        Some(bias) => for_rows(
            x,
            width,
            #[inline(always)]
            |_, row| row.iter_mut().zip(bias).for_each(|(x, b)| *x = f(*x + b)),
        ),
        None => for_rows(
            x,
            width,
            #[inline(always)]
            |_, row| row.iter_mut().for_each(|x| *x = f(*x)),
        ),
    }
}

/// `x ← (x + bias)·softmax(x + bias)` over each row, in place.
fn solu(x: &mut [f32], width: usize, bias: Option<&[f32]>) {
    for_rows(
        x,
        width,
        #[inline(always)]
        |_, row| {
            if let Some(bias) = bias {
                row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
            }
            let top = max(row);
            let total = sum(row, |x| exp(x - top));
            row.iter_mut().for_each(|x| *x *= exp(*x - top) / total);
        },
    );
}

/// `[rows, 2·width]`, gate first, to `act(gate)·up` of `[rows, width]`.
pub(crate) fn gate(x: &[f32], width: usize, bias: Option<&[f32]>, activation: Activation) -> Vec<f32> {
    fn apply(x: &[f32], width: usize, bias: Option<&[f32]>, f: impl Fn(f32) -> f32 + Sync) -> Vec<f32> {
        let mut out = vec![0.0; x.len() / 2];
        let bias = bias.map(|b| b.split_at(width));
        for_rows(
            &mut out,
            width,
            #[inline(always)]
            |i, row| {
                let (gate, up) = x[2 * i * width..2 * (i + 1) * width].split_at(width);
                match bias {
                    None => row.iter_mut().zip(gate).zip(up).for_each(|((o, g), u)| *o = f(*g) * u),
                    Some((bias_gate, bias_up)) => {
                        let biases = bias_gate.iter().zip(bias_up);
                        row.iter_mut()
                            .zip(gate.iter().zip(up))
                            .zip(biases)
                            .for_each(|((o, (g, u)), (bg, bu))| *o = f(*g + bg) * (u + bu));
                    }
                }
            },
        );
        out
    }
    match activation {
        Activation::Gelu => apply(x, width, bias, gelu),
        Activation::GeluTanh => apply(x, width, bias, gelu_tanh),
        Activation::Relu => apply(x, width, bias, |x| if x > 0.0 { x } else { 0.0 }),
        // SoLU is never gated; the configuration of every family rules it out.
        Activation::Silu | Activation::Solu | Activation::SoluLn => apply(x, width, bias, silu),
    }
}

/// Each row normalised, then times `weight` plus `bias`.
pub(crate) fn norm(x: &[f32], width: usize, norm: Norm, weight: Option<&[f32]>, bias: Option<&[f32]>) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    for_rows(
        &mut out,
        width,
        #[inline(always)]
        |i, row| {
            let source = &x[i * width..(i + 1) * width];
            let mean = match norm.kind {
                NormKind::Layer => sum(source, |x| x) / width as f32,
                NormKind::Rms | NormKind::None => 0.0,
            };
            let scale = match norm.kind {
                NormKind::None => 1.0,
                NormKind::Layer | NormKind::Rms => {
                    let square = sum(source, |x| (x - mean) * (x - mean)) / width as f32;
                    1.0 / (square + norm.eps).sqrt()
                }
            };
            row.iter_mut().zip(source).for_each(|(o, x)| *o = (x - mean) * scale);
            if let Some(weight) = weight {
                row.iter_mut().zip(weight).for_each(|(o, w)| *o *= w);
            }
            if let Some(bias) = bias {
                row.iter_mut().zip(bias).for_each(|(o, b)| *o += b);
            }
        },
    );
    out
}

/// `x ← x + y + bias`, in place.
pub(crate) fn add_bias(x: &mut [f32], y: &[f32], width: usize, bias: Option<&[f32]>) {
    for_rows(
        x,
        width,
        #[inline(always)]
        |i, row| {
            let y = &y[i * width..(i + 1) * width];
            match bias {
                Some(bias) => row.iter_mut().zip(y.iter().zip(bias)).for_each(|(x, (y, b))| *x += y + b),
                None => row.iter_mut().zip(y).for_each(|(x, y)| *x += y),
            }
        },
    );
}
