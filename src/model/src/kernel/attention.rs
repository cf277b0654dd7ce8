//! Causal self-attention over packed sequences.

use gemm::{Parallelism, gemm};
use rayon::prelude::*;

use super::math::{exp, max, sum};
use super::{PARALLEL_ELEMENTS, vectorised};

/// Queries scored at a time: keys after a block's last query are never multiplied.
const BLOCK: usize = 64;

/// Cosines and sines of rotary positions.
#[derive(Debug)]
pub(crate) struct Rotation {
    /// `[positions, dims / 2]`.
    pub cos: Vec<f32>,
    /// `[positions, dims / 2]`.
    pub sin: Vec<f32>,
    /// Leading dimensions of each head that are rotated.
    pub dims: usize,
    /// Whether dimensions `2i` and `2i + 1` are a pair, rather than `i` and `i + dims/2`.
    pub adjacent_pairs: bool,
}

/// One layer's attention.
pub(crate) struct Attention<'a> {
    pub heads: usize,
    pub kv_heads: usize,
    pub d_head: usize,
    /// Factor on query·key.
    pub scale: f32,
    /// `[(heads + 2·kv_heads)·d_head]`.
    pub bias: Option<&'a [f32]>,
    /// `[positions, (heads + kv_heads)·d_head]`, added to queries and keys (shortformer).
    pub shift: Option<&'a [f32]>,
    pub rotation: Option<&'a Rotation>,
}

impl Attention<'_> {
    /// Columns of a packed row of queries, keys and values.
    fn width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.d_head
    }

    /// `qkv` is `[rows, width]`; sequence `s` owns rows `offsets[s]..offsets[s + 1]`. Returns `[rows, heads·d_head]`.
    pub fn run(&self, qkv: &[f32], offsets: &[usize]) -> Vec<f32> {
        let (width, d_out) = (self.width(), self.heads * self.d_head);
        let mut out = vec![0.0; qkv.len() / width * d_out];
        let mut rest = &mut out[..];
        let mut sequences = Vec::with_capacity(offsets.len());
        for pair in offsets.windows(2) {
            let (mine, others) = std::mem::take(&mut rest).split_at_mut((pair[1] - pair[0]) * d_out);
            sequences.push((&qkv[pair[0] * width..pair[1] * width], mine));
            rest = others;
        }
        if rayon::current_num_threads() == 1 || qkv.len() < PARALLEL_ELEMENTS {
            let mut scratch = Scratch::default();
            sequences.into_iter().for_each(|(qkv, out)| self.sequence(qkv, out, &mut scratch));
        } else {
            sequences
                .into_par_iter()
                .for_each_init(Scratch::default, |scratch, (qkv, out)| self.sequence(qkv, out, scratch));
        }
        out
    }

    fn sequence(&self, qkv: &[f32], out: &mut [f32], scratch: &mut Scratch) {
        let (width, hd, d_out) = (self.width(), self.d_head, self.heads * self.d_head);
        let tokens = qkv.len() / width;
        let rows = &mut scratch.rows;
        rows.clear();
        rows.extend_from_slice(qkv);
        vectorised(
            #[inline(always)]
            || rows.chunks_exact_mut(width).enumerate().for_each(|(position, row)| self.place(position, row)),
        );
        scratch.scores.resize(BLOCK.min(tokens) * tokens, 0.0);
        for first in (0..tokens).step_by(BLOCK) {
            let end = (first + BLOCK).min(tokens);
            for head in 0..self.heads {
                let kv = head * self.kv_heads / self.heads;
                let query = &rows[first * width + head * hd..];
                let key = &rows[(self.heads + kv) * hd..];
                let value = &rows[(self.heads + self.kv_heads + kv) * hd..];
                let scores = &mut scratch.scores[..(end - first) * end];
                let target = &mut out[first * d_out + head * hd..end * d_out];
                multiply(
                    (end - first, end, hd),
                    (scores, end),
                    (query, width as isize, 1),
                    (key, 1, width as isize),
                    self.scale,
                );
                vectorised(
                    #[inline(always)]
                    || {
                        for (i, row) in scores.chunks_exact_mut(end).enumerate() {
                            let (seen, future) = row.split_at_mut(first + i + 1);
                            softmax(seen);
                            future.fill(0.0);
                        }
                    },
                );
                multiply(
                    (end - first, hd, end),
                    (target, d_out),
                    (scores, end as isize, 1),
                    (value, width as isize, 1),
                    1.0,
                );
            }
        }
    }

    /// Adds the biases to one row and rotates its queries and keys to their position.
    #[inline(always)]
    fn place(&self, position: usize, row: &mut [f32]) {
        if let Some(bias) = self.bias {
            row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
        }
        let rotated = (self.heads + self.kv_heads) * self.d_head;
        if let Some(shift) = self.shift {
            let shift = &shift[position * rotated..(position + 1) * rotated];
            row.iter_mut().zip(shift).for_each(|(x, s)| *x += s);
        }
        let Some(rotation) = self.rotation else { return };
        let half = rotation.dims / 2;
        let cos = &rotation.cos[position * half..(position + 1) * half];
        let sin = &rotation.sin[position * half..(position + 1) * half];
        for head in row[..rotated].chunks_exact_mut(self.d_head) {
            let head = &mut head[..rotation.dims];
            if rotation.adjacent_pairs {
                for ((pair, c), s) in head.chunks_exact_mut(2).zip(cos).zip(sin) {
                    let (a, b) = (pair[0], pair[1]);
                    (pair[0], pair[1]) = (a * c - b * s, a * s + b * c);
                }
            } else {
                let (low, high) = head.split_at_mut(half);
                for (((a, b), c), s) in low.iter_mut().zip(high).zip(cos).zip(sin) {
                    (*a, *b) = (*a * c - *b * s, *a * s + *b * c);
                }
            }
        }
    }
}

/// Buffers reused from one sequence to the next.
#[derive(Default)]
struct Scratch {
    rows: Vec<f32>,
    scores: Vec<f32>,
}

#[inline(always)]
fn softmax(row: &mut [f32]) {
    let top = max(row);
    row.iter_mut().for_each(|x| *x = exp(*x - top));
    let scale = 1.0 / sum(row, |x| x);
    row.iter_mut().for_each(|x| *x *= scale);
}

/// `dst[m, n] ← factor · lhs[m, k] · rhs[k, n]`; operands are a slice, the stride of a row and the stride of a column.
fn multiply(
    (m, n, k): (usize, usize, usize),
    (dst, dst_rows): (&mut [f32], usize),
    (lhs, lhs_rows, lhs_columns): (&[f32], isize, isize),
    (rhs, rhs_rows, rhs_columns): (&[f32], isize, isize),
    factor: f32,
) {
    let reach = |rows: usize, columns: usize, row: isize, column: isize| {
        (rows - 1) * row.unsigned_abs() + (columns - 1) * column.unsigned_abs()
    };
    assert!(m > 0 && n > 0 && k > 0);
    assert!(reach(m, n, dst_rows as isize, 1) < dst.len());
    assert!(reach(m, k, lhs_rows, lhs_columns) < lhs.len());
    assert!(reach(k, n, rhs_rows, rhs_columns) < rhs.len());
    // SAFETY: the assertions above keep the last element that each operand's strides reach inside its slice, strides
    // are not negative, and `dst` is borrowed exclusively.
    unsafe {
        gemm(
            m,
            n,
            k,
            dst.as_mut_ptr(),
            1,
            dst_rows as isize,
            false,
            lhs.as_ptr(),
            lhs_columns,
            lhs_rows,
            rhs.as_ptr(),
            rhs_columns,
            rhs_rows,
            0.0,
            factor,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
