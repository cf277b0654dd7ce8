//! Matrix products, by the gemm crate.

use gemm::{Parallelism, gemm};

use rayon::prelude::*;

use super::PARALLEL_ELEMENTS;

/// Elements of a matrix from which on a product of one row with it runs on several threads: reading it takes longer than
/// waking them.
const PARALLEL_WEIGHTS: usize = 1 << 18;

/// Columns of which blocks of products of one row are multiples: 16 registers of 16 numbers.
const COLUMNS: usize = 256;

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
    let threads = super::threads();
    if m == 1 && threads > 1 && k * n >= PARALLEL_WEIGHTS {
        return by_columns(lhs, rhs, (k, n), threads);
    }
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

/// Computes `lhs[1, k] · rhs[k, n]`, whose time is that of reading `rhs`, by blocks of columns on all threads. Blocks begin
/// where the registers of the whole product do, so numbers are those of one thread.
fn by_columns(lhs: &[f32], rhs: &[f32], (k, n): (usize, usize), threads: usize) -> Vec<f32> {
    let mut out = vec![0.0; n];
    let block = n.div_ceil(threads).next_multiple_of(COLUMNS);
    out.par_chunks_mut(block).enumerate().for_each(|(number, out)| {
        let (columns, rows) = (out.len(), out.len());
        let rhs = Operand { data: &rhs[number * block..], rows: n, columns: 1 };
        multiply((1, columns, k), (out, rows), Operand { data: lhs, rows: k, columns: 1 }, rhs, 1.0);
    });
    out
}

/// Computes `lhs[m, k] · rhs[k, columns]` for blocks of `width` columns of a contiguous `rhs[k, n]`, which begin at
/// `firsts`: `[m, blocks·width]`, the blocks side by side.
pub(crate) fn matmul_columns(
    lhs: &[f32],
    rhs: &[f32],
    (m, k, n): (usize, usize, usize),
    (firsts, width): (&[usize], usize),
) -> Vec<f32> {
    let all = firsts.len() * width;
    let mut out = vec![0.0; m * all];
    if m == 0 || all == 0 || k == 0 {
        return out;
    }
    let threads = super::threads();
    let parallelism =
        if threads > 1 && m * width >= PARALLEL_ELEMENTS { Parallelism::Rayon(threads) } else { Parallelism::None };
    for (block, first) in firsts.iter().enumerate() {
        assert!(first + width <= n);
        let lhs = Operand { data: lhs, rows: k, columns: 1 };
        let rhs = Operand { data: &rhs[*first..], rows: n, columns: 1 };
        // SAFETY: the last element that is written, row m - 1 and column (block + 1)·width - 1, is inside `out`.
        unsafe { product((m, width, k), (out[block * width..].as_mut_ptr(), all), lhs, rhs, 1.0, parallelism) };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_same_product_on_any_number_of_threads() {
        for (k, n) in [(576, 1536), (300, 4099), (2048, 260), (4096, 64)] {
            let number = |i: usize| ((i * 7919 % 2011) as f32 - 1000.0) / 997.0;
            let lhs: Vec<f32> = (0..k).map(number).collect();
            let rhs: Vec<f32> = (0..k * n).map(|i| number(i + 13)).collect();
            let on = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| matmul(&lhs, &rhs, (1, k, n)))
            };
            let one = on(1);
            assert!([2, 3, 5].into_iter().all(|threads| on(threads) == one), "{k} {n}");
            let exact = |j: usize| (0..k).map(|i| f64::from(lhs[i]) * f64::from(rhs[i * n + j])).sum::<f64>();
            assert!((0..n).all(|j| (exact(j) - f64::from(one[j])).abs() <= 1e-3), "{k} {n}");
        }
    }
}
