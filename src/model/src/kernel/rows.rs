//! Operations on each row of a `[rows, width]` matrix.

use std::marker::PhantomData;

use rayon::prelude::*;

use super::PARALLEL_ELEMENTS;
use super::math::{exp, gelu, gelu_tanh, max, quick_gelu, silu, sum, sum_of_squares};
use crate::{Activation, Norm, NormKind};

/// Operation on a row; `row` must be `#[inline(always)]`, see the module above.
trait RowOp: Sync {
    /// Applies the operation to a row in place; `scratch` is as long as the row.
    fn row(&self, index: usize, row: &mut [f32], scratch: &mut [f32]);
}

/// Rows and the operation on them.
struct Rows<'a, O> {
    data: &'a mut [f32],
    width: usize,
    /// Index of the first row.
    first: usize,
    op: &'a O,
}

impl<O: RowOp> pulp::WithSimd for Rows<'_, O> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let mut scratch = vec![0.0; self.width];
        for (i, row) in self.data.chunks_exact_mut(self.width).enumerate() {
            self.op.row(self.first + i, row, &mut scratch);
        }
    }
}

/// Applies an operation to each row, on several threads if there are enough elements.
fn for_rows<O: RowOp>(data: &mut [f32], width: usize, op: &O) {
    if width == 0 {
        return;
    }
    let threads = super::threads();
    if threads == 1 || data.len() < PARALLEL_ELEMENTS {
        return pulp::Arch::new().dispatch(Rows { data, width, first: 0, op });
    }
    let rows = (data.len() / width).div_ceil(4 * threads);
    data.par_chunks_mut(rows * width).enumerate().for_each(|(block, data)| {
        pulp::Arch::new().dispatch(Rows { data, width, first: block * rows, op });
    });
}

/// A function of one number.
trait Pointwise: Sync {
    fn of(x: f32) -> f32;
}

macro_rules! pointwise {
    ($($name:ident: $function:expr;)*) => {$(
        struct $name;
        impl Pointwise for $name {
            #[inline(always)]
            fn of(x: f32) -> f32 {
                $function(x)
            }
        }
    )*};
}

pointwise! {
    Gelu: gelu;
    GeluTanh: gelu_tanh;
    QuickGelu: quick_gelu;
    Silu: silu;
    Relu: relu;
}

#[inline(always)]
fn relu(x: f32) -> f32 {
    if x > 0.0 { x } else { 0.0 }
}

/// Computes `x ← act(x + bias)` in place.
pub(crate) fn activate(x: &mut [f32], width: usize, bias: Option<&[f32]>, activation: Activation) {
    match activation {
        Activation::Gelu => for_rows(x, width, &Map::<Gelu>(bias, PhantomData)),
        Activation::GeluTanh => for_rows(x, width, &Map::<GeluTanh>(bias, PhantomData)),
        Activation::QuickGelu => for_rows(x, width, &Map::<QuickGelu>(bias, PhantomData)),
        Activation::Silu => for_rows(x, width, &Map::<Silu>(bias, PhantomData)),
        Activation::Relu => for_rows(x, width, &Map::<Relu>(bias, PhantomData)),
        // The clamped gates are always gated.
        Activation::Solu | Activation::SoluLn | Activation::ClampedSwiglu { .. } => for_rows(x, width, &Solu(bias)),
    }
}

struct Map<'a, P>(Option<&'a [f32]>, PhantomData<P>);

impl<P: Pointwise> RowOp for Map<'_, P> {
    #[inline(always)]
    fn row(&self, _: usize, row: &mut [f32], _: &mut [f32]) {
        match self.0 {
            Some(bias) => {
                for (x, b) in row.iter_mut().zip(bias) {
                    *x = P::of(*x + b);
                }
            }
            None => {
                for x in row {
                    *x = P::of(*x);
                }
            }
        }
    }
}

/// SoLU: `x ← (x + bias)·softmax(x + bias)` over each row.
struct Solu<'a>(Option<&'a [f32]>);

impl RowOp for Solu<'_> {
    #[inline(always)]
    fn row(&self, _: usize, row: &mut [f32], scratch: &mut [f32]) {
        if let Some(bias) = self.0 {
            for (x, b) in row.iter_mut().zip(bias) {
                *x += b;
            }
        }
        let top = max(row);
        for (e, x) in scratch.iter_mut().zip(&*row) {
            *e = exp(*x - top);
        }
        let scale = 1.0 / sum(scratch);
        for (x, e) in row.iter_mut().zip(&*scratch) {
            *x *= *e * scale;
        }
    }
}

/// Computes `act(gate)·up`, `[rows, width]`, of `[rows, 2·width]`, gate first.
pub(crate) fn gate(x: &[f32], width: usize, bias: Option<&[f32]>, activation: Activation) -> Vec<f32> {
    let mut out = vec![0.0; x.len() / 2];
    match activation {
        Activation::Gelu => for_rows(&mut out, width, &Gate::<Gelu>(x, bias, PhantomData)),
        Activation::GeluTanh => for_rows(&mut out, width, &Gate::<GeluTanh>(x, bias, PhantomData)),
        Activation::QuickGelu => for_rows(&mut out, width, &Gate::<QuickGelu>(x, bias, PhantomData)),
        Activation::Relu => for_rows(&mut out, width, &Gate::<Relu>(x, bias, PhantomData)),
        Activation::ClampedSwiglu { alpha, limit } => {
            for_rows(&mut out, width, &ClampedSwiglu { x, bias, alpha, limit });
        }
        // SoLU is never gated; the configuration of every architecture rules it out.
        Activation::Silu | Activation::Solu | Activation::SoluLn => {
            for_rows(&mut out, width, &Gate::<Silu>(x, bias, PhantomData));
        }
    }
    out
}

struct Gate<'a, P>(&'a [f32], Option<&'a [f32]>, PhantomData<P>);

impl<P: Pointwise> RowOp for Gate<'_, P> {
    #[inline(always)]
    fn row(&self, index: usize, row: &mut [f32], _: &mut [f32]) {
        let width = row.len();
        let (gate, up) = self.0[2 * index * width..2 * (index + 1) * width].split_at(width);
        match self.1 {
            None => {
                for ((out, g), u) in row.iter_mut().zip(gate).zip(up) {
                    *out = P::of(*g) * u;
                }
            }
            Some(bias) => {
                let (bias_gate, bias_up) = bias.split_at(width);
                for ((((out, g), u), bg), bu) in row.iter_mut().zip(gate).zip(up).zip(bias_gate).zip(bias_up) {
                    *out = P::of(g + bg) * (u + bu);
                }
            }
        }
    }
}

/// Gates of gpt-oss, see [`Activation::ClampedSwiglu`].
struct ClampedSwiglu<'a> {
    x: &'a [f32],
    bias: Option<&'a [f32]>,
    alpha: f32,
    limit: f32,
}

impl RowOp for ClampedSwiglu<'_> {
    #[inline(always)]
    fn row(&self, index: usize, row: &mut [f32], scratch: &mut [f32]) {
        let width = row.len();
        let (gate, up) = self.x[2 * index * width..2 * (index + 1) * width].split_at(width);
        row.copy_from_slice(gate);
        scratch.copy_from_slice(up);
        if let Some(bias) = self.bias {
            for ((gate, up), (bg, bu)) in row.iter_mut().zip(scratch.iter_mut()).zip(bias.iter().zip(&bias[width..])) {
                *gate += bg;
                *up += bu;
            }
        }
        let limit = self.limit;
        for (out, up) in row.iter_mut().zip(scratch) {
            let gate = if *out > limit { limit } else { *out };
            let up = if *up > limit { limit } else { *up };
            let up = if up < -limit { -limit } else { up };
            *out = gate / (1.0 + exp(-self.alpha * gate)) * (up + 1.0);
        }
    }
}

/// Normalises each row, then multiplies by `weight` and adds `bias`.
pub(crate) fn norm(x: &[f32], width: usize, norm: Norm, weight: Option<&[f32]>, bias: Option<&[f32]>) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    for_rows(&mut out, width, &Normalise { x, norm, weight, bias });
    out
}

struct Normalise<'a> {
    x: &'a [f32],
    norm: Norm,
    weight: Option<&'a [f32]>,
    bias: Option<&'a [f32]>,
}

impl RowOp for Normalise<'_> {
    #[inline(always)]
    fn row(&self, index: usize, row: &mut [f32], _: &mut [f32]) {
        let width = row.len();
        let source = &self.x[index * width..(index + 1) * width];
        let mean = match self.norm.kind {
            NormKind::Layer => sum(source) / width as f32,
            NormKind::Rms | NormKind::None => 0.0,
        };
        let scale = match self.norm.kind {
            NormKind::None => 1.0,
            NormKind::Layer | NormKind::Rms => {
                1.0 / (sum_of_squares(source, mean) / width as f32 + self.norm.eps).sqrt()
            }
        };
        for (out, x) in row.iter_mut().zip(source) {
            *out = (x - mean) * scale;
        }
        if let Some(weight) = self.weight {
            for (out, w) in row.iter_mut().zip(weight) {
                *out *= w;
            }
        }
        if let Some(bias) = self.bias {
            for (out, b) in row.iter_mut().zip(bias) {
                *out += b;
            }
        }
    }
}

/// Computes `x ← x + y + bias` in place.
pub(crate) fn add_bias(x: &mut [f32], y: &[f32], width: usize, bias: Option<&[f32]>) {
    for_rows(x, width, &Add(y, bias));
}

struct Add<'a>(&'a [f32], Option<&'a [f32]>);

impl RowOp for Add<'_> {
    #[inline(always)]
    fn row(&self, index: usize, row: &mut [f32], _: &mut [f32]) {
        let y = &self.0[index * row.len()..(index + 1) * row.len()];
        match self.1 {
            Some(bias) => {
                for ((x, y), b) in row.iter_mut().zip(y).zip(bias) {
                    *x += y + b;
                }
            }
            None => {
                for (x, y) in row.iter_mut().zip(y) {
                    *x += y;
                }
            }
        }
    }
}
