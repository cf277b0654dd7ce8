//! Matrix products, by the gemm crate.

use gemm::{Parallelism, gemm};

use super::PARALLEL_ELEMENTS;

/// An operand: its elements, and the strides of a row and of a column.
#[derive(Clone, Copy)]
pub(super) struct Operand<'a> {
    pub data: &'a [f32],
    pub rows: usize,
    pub columns: usize,
}

/// Computes `lhs[m, k] · rhs[k, n]`, both contiguous, as a new `[m, n]`.
///
/// candle's own product makes the same call, but counts the machine's processors each time, which takes longer than a
/// small product, and clears the result first.
pub(crate) fn matmul(lhs: &[f32], rhs: &[f32], (m, k, n): (usize, usize, usize)) -> Vec<f32> {
    if m == 0 || n == 0 || k == 0 {
        return vec![0.0; m * n];
    }
    let threads = rayon::current_num_threads();
    let parallelism =
        if threads > 1 && m * n >= PARALLEL_ELEMENTS { Parallelism::Rayon(threads) } else { Parallelism::None };
    let mut out = Vec::with_capacity(m * n);
    let (lhs, rhs) = (Operand { data: lhs, rows: k, columns: 1 }, Operand { data: rhs, rows: n, columns: 1 });
    // SAFETY: the vector has room for m·n elements, all of which the product writes, with rows n apart.
    unsafe {
        product((m, n, k), (out.as_mut_ptr(), n), lhs, rhs, 1.0, parallelism);
        out.set_len(m * n);
    }
    out
}

/// Computes `dst[m, n] ← factor · lhs[m, k] · rhs[k, n]` on this thread; rows of `dst` are `dst_rows` apart.
pub(super) fn multiply(
    (m, n, k): (usize, usize, usize),
    (dst, dst_rows): (&mut [f32], usize),
    lhs: Operand,
    rhs: Operand,
    factor: f32,
) {
    assert!((m - 1) * dst_rows + n <= dst.len());
    // SAFETY: the assertion keeps the last element that is written inside `dst`, which is borrowed exclusively.
    unsafe { product((m, n, k), (dst.as_mut_ptr(), dst_rows), lhs, rhs, factor, Parallelism::None) }
}

/// # Safety
/// `dst` must be valid for writes of `(m − 1)·dst_rows + n` elements; they need not be initialised.
unsafe fn product(
    (m, n, k): (usize, usize, usize),
    (dst, dst_rows): (*mut f32, usize),
    lhs: Operand,
    rhs: Operand,
    factor: f32,
    parallelism: Parallelism,
) {
    let reach =
        |operand: Operand, rows: usize, columns: usize| (rows - 1) * operand.rows + (columns - 1) * operand.columns;
    assert!(m > 0 && n > 0 && k > 0);
    assert!(reach(lhs, m, k) < lhs.data.len());
    assert!(reach(rhs, k, n) < rhs.data.len());
    // SAFETY: the assertions keep the last element that the strides reach inside the slices; the caller vouches for
    // `dst`, which is not read.
    unsafe {
        gemm(
            m,
            n,
            k,
            dst,
            1,
            dst_rows as isize,
            false,
            lhs.data.as_ptr(),
            lhs.columns as isize,
            lhs.rows as isize,
            rhs.data.as_ptr(),
            rhs.columns as isize,
            rhs.rows as isize,
            0.0,
            factor,
            false,
            false,
            false,
            parallelism,
        );
    }
}
