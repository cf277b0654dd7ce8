//! Product of matrices, by the gemm crate.

use gemm::{Parallelism, gemm};

/// A range of columns of a row-major matrix.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    /// Values of the matrix, `[rows, width]`.
    pub values: &'a [f32],
    pub width: usize,
    /// First column and number of columns.
    pub columns: (usize, usize),
}

/// Computes `out[i, j] = Σ_rows x[row, i]·y[row, j]` on this thread; `out` is `[x's columns, y's columns]`.
pub(super) fn transposed_product(rows: usize, x: Columns, y: Columns, out: &mut [f32]) {
    let (m, n) = (x.columns.1, y.columns.1);
    if rows == 0 || m == 0 || n == 0 {
        return out.fill(0.0);
    }
    assert!(out.len() >= m * n);
    let first = |of: Columns<'_>| {
        let (first, count) = of.columns;
        assert!(first + count <= of.width && (rows - 1) * of.width + first + count <= of.values.len());
        first
    };
    let (x_first, y_first) = (first(x), first(y));
    // SAFETY: the assertions keep the last element that is read inside `x` and `y` and the last that is written inside
    // `out`, which is borrowed exclusively and not read.
    unsafe {
        gemm(
            m,
            n,
            rows,
            out.as_mut_ptr(),
            1,
            n as isize,
            false,
            x.values.as_ptr().add(x_first),
            x.width as isize,
            1,
            y.values.as_ptr().add(y_first),
            1,
            y.width as isize,
            0.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
