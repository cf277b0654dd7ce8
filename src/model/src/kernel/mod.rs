//! CPU versions of the operations in [`crate::ops`], on plain slices of f32.
//!
//! Inner loops are written so that the compiler vectorises them and are compiled for AVX-512, AVX2 and the baseline by
//! [`pulp`], which picks one at run time. That works only for code inlined into what pulp calls: everything an inner
//! loop uses is an `#[inline(always)]` function, never a closure. Sums keep [`LANES`] partial results on every
//! processor, so that results do not depend on it, and no kernel reads across rows, so that they do not depend on
//! threads or batches either.

mod attention;
mod bf16;
mod math;
mod matmul;
mod rows;
mod threads;

pub(crate) use attention::{Attention, QkNorm, Rotation, Segments};
pub(crate) use bf16::{Blocks, Instructions};
pub(crate) use matmul::{matmul, matmul_columns};
pub(crate) use rows::{activate, add_bias, gate, norm};
pub(crate) use threads::{on_one_thread, threads};

/// Number of partial results of a sum or maximum: one AVX-512 register.
const LANES: usize = 16;

/// Number of elements below which a second thread costs more than it saves.
const PARALLEL_ELEMENTS: usize = 1 << 15;
