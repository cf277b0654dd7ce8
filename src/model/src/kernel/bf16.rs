//! Products with matrices of bf16, on processors that have instructions for them.
//!
//! A matrix is kept in blocks, in the order in which both instruction sets read it, and is rounded once. Rows that are
//! multiplied with it are f32 and rounded to the nearest bf16 as they are used; products are exact, and sums are f32. A
//! sum adds up in one order whatever the number of rows or threads, so results do not depend on these.

use std::sync::OnceLock;

use half::bf16;
use rayon::prelude::*;

use super::PARALLEL_ELEMENTS;

/// Columns of a block: one register of sums.
const COLUMNS: usize = 16;
/// Rows of a block: those that one instruction of AMX adds up.
const DEPTH: usize = 32;
/// Numbers of a block.
const BLOCK: usize = COLUMNS * DEPTH;
/// Rows of the left side that are multiplied together.
const ROWS: usize = 16;
/// Numbers of the left side that are rounded at a time: half of a second-level cache.
const LEFT: usize = 1 << 19;

/// Instructions for products of bf16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instructions {
    /// `tdpbf16ps` of AMX-BF16.
    Amx,
    /// `vdpbf16ps` of AVX512-BF16.
    Avx512,
}

impl Instructions {
    /// The fastest instructions that this processor has and the operating system allows; `None` if it has none.
    pub fn detected() -> Option<Self> {
        static FOUND: OnceLock<Option<Instructions>> = OnceLock::new();
        *FOUND.get_or_init(|| {
            #[cfg(target_arch = "x86_64")]
            if x86::has_avx512() {
                return Some(if x86::has_amx() { Self::Amx } else { Self::Avx512 });
            }
            None
        })
    }
}

/// A matrix of bf16 in blocks: `[out / 16, in / 32, 16, 16, 2]`, the last three of a pair of rows, a column and a row of the
/// pair. Missing rows and columns are zeros; the number of columns is padded to a multiple of 32.
#[derive(Debug, Clone)]
pub(crate) struct Blocks {
    values: std::sync::Arc<[bf16]>,
    d_in: usize,
    d_out: usize,
    instructions: Instructions,
}

impl Blocks {
    /// Rounds a contiguous `[d_in, d_out]`.
    pub fn new(matrix: &[f32], (d_in, d_out): (usize, usize), instructions: Instructions) -> Self {
        assert_eq!(matrix.len(), d_in * d_out);
        Self::of((d_in, d_out), instructions, |row, column| bf16::from_f32(matrix[row * d_out + column]))
    }

    /// Makes blocks of the numbers that `number` gives for a row and a column.
    fn of((d_in, d_out): (usize, usize), instructions: Instructions, number: impl Fn(usize, usize) -> bf16) -> Self {
        let steps = d_in.div_ceil(DEPTH);
        let mut values = vec![bf16::ZERO; steps * d_out.next_multiple_of(2 * COLUMNS) * DEPTH];
        for (block, values) in values.chunks_exact_mut(BLOCK).enumerate() {
            let (column, row) = (block / steps * COLUMNS, block % steps * DEPTH);
            for (i, value) in values.iter_mut().enumerate() {
                let (row, column) = (row + i / (2 * COLUMNS) * 2 + i % 2, column + i / 2 % COLUMNS);
                if row < d_in && column < d_out {
                    *value = number(row, column);
                }
            }
        }
        Self { values: values.into(), d_in, d_out, instructions }
    }

    /// Returns a matrix of some columns. Their products are those of the whole matrix, to the last bit.
    pub fn columns(&self, columns: &[u32]) -> Self {
        let shape = (self.d_in, columns.len());
        Self::of(shape, self.instructions, |row, column| self.number(row, columns[column] as usize))
    }

    /// Number of rows and of columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.d_in, self.d_out)
    }

    /// Returns the matrix, `[d_in, d_out]`.
    pub fn matrix(&self) -> Vec<bf16> {
        let numbers = |row| (0..self.d_out).map(move |column| self.number(row, column));
        (0..self.d_in).flat_map(numbers).collect()
    }

    fn number(&self, row: usize, column: usize) -> bf16 {
        let block = column / COLUMNS * self.steps() + row / DEPTH;
        let within = row % DEPTH / 2 * 2 * COLUMNS + column % COLUMNS * 2 + row % 2;
        self.values[block * BLOCK + within]
    }

    /// Number of blocks of a column of blocks.
    fn steps(&self) -> usize {
        self.d_in.div_ceil(DEPTH)
    }

    /// Computes `lhs[rows, d_in] · self` as a new `[rows, d_out]`.
    pub fn multiply(&self, lhs: &[f32], rows: usize) -> Vec<f32> {
        assert_eq!(lhs.len(), rows * self.d_in);
        let mut out = vec![0.0; rows * self.d_out];
        if out.is_empty() || self.d_in == 0 {
            return out;
        }
        let threads = super::threads();
        let work = rows.next_multiple_of(ROWS) * self.d_in * self.d_out / 16;
        if threads == 1 || work < PARALLEL_ELEMENTS * 64 {
            self.rows(lhs, &mut out, 0..self.d_out);
        } else if rows >= 2 * ROWS * threads {
            let part = rows.div_ceil(threads).next_multiple_of(2 * ROWS);
            out.par_chunks_mut(part * self.d_out)
                .zip(lhs.par_chunks(part * self.d_in))
                .for_each(|(out, lhs)| self.rows(lhs, out, 0..self.d_out));
        } else {
            // Few rows: the time is that of reading the matrix, by parts of its columns.
            let part = self.d_out.div_ceil(threads).next_multiple_of(2 * COLUMNS);
            let parts: Vec<_> =
                (0..self.d_out).step_by(part).map(|first| first..self.d_out.min(first + part)).collect();
            let parts: Vec<(std::ops::Range<usize>, Vec<f32>)> = parts
                .into_par_iter()
                .map(|columns| {
                    let mut out = vec![0.0; rows * columns.len()];
                    self.rows(lhs, &mut out, columns.clone());
                    (columns, out)
                })
                .collect();
            for (columns, values) in parts {
                for (to, from) in out.chunks_exact_mut(self.d_out).zip(values.chunks_exact(columns.len())) {
                    to[columns.clone()].copy_from_slice(from);
                }
            }
        }
        out
    }

    /// Computes some columns, which begin at a multiple of 32, on this thread: `out[rows, columns]`.
    fn rows(&self, lhs: &[f32], out: &mut [f32], columns: std::ops::Range<usize>) {
        let steps = self.steps();
        let some = (LEFT / (steps * DEPTH) / (2 * ROWS) * (2 * ROWS)).max(2 * ROWS);
        let first = columns.start / COLUMNS * steps * BLOCK;
        let blocks = &self.values[first..][..columns.len().next_multiple_of(2 * COLUMNS) * steps * DEPTH];
        let mut left = Vec::new();
        for (lhs, out) in lhs.chunks(some * self.d_in).zip(out.chunks_mut(some * columns.len())) {
            let part = Part { steps, columns: columns.len(), blocks, d_in: self.d_in };
            #[cfg(target_arch = "x86_64")]
            x86::multiply(self.instructions, &part, lhs, out, &mut left);
            #[cfg(not(target_arch = "x86_64"))]
            let _ = (&part, lhs, out, &mut left, self.instructions);
        }
    }
}

/// Blocks of some columns.
struct Part<'a> {
    /// Blocks of a column of blocks.
    steps: usize,
    columns: usize,
    blocks: &'a [bf16],
    d_in: usize,
}

#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(all(test, target_arch = "x86_64"))]
mod tests;
