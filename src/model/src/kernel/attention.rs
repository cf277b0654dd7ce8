//! Causal self-attention over packed sequences.

use rayon::prelude::*;

use super::PARALLEL_ELEMENTS;
use super::math::{exp, max, sum};
use super::matmul::{Operand, multiply};

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
        pulp::Arch::new().dispatch(Place { attention: self, rows });
        scratch.scores.resize(BLOCK.min(tokens) * tokens, 0.0);
        for first in (0..tokens).step_by(BLOCK) {
            let end = (first + BLOCK).min(tokens);
            for head in 0..self.heads {
                let kv = head * self.kv_heads / self.heads;
                let query = Operand { data: &rows[first * width + head * hd..], rows: width, columns: 1 };
                // Transposed by its strides.
                let key = Operand { data: &rows[(self.heads + kv) * hd..], rows: 1, columns: width };
                let value = &rows[(self.heads + self.kv_heads + kv) * hd..];
                let value = Operand { data: value, rows: width, columns: 1 };
                let scores = &mut scratch.scores[..(end - first) * end];
                let target = &mut out[first * d_out + head * hd..end * d_out];
                multiply((end - first, end, hd), (scores, end), query, key, self.scale);
                pulp::Arch::new().dispatch(CausalSoftmax { scores, first, end });
                let pattern = Operand { data: scores, rows: end, columns: 1 };
                multiply((end - first, hd, end), (target, d_out), pattern, value, 1.0);
            }
        }
    }

    /// Adds the biases to one row and rotates its queries and keys to their position.
    #[inline(always)]
    fn place(&self, position: usize, row: &mut [f32]) {
        if let Some(bias) = self.bias {
            for (x, b) in row.iter_mut().zip(bias) {
                *x += b;
            }
        }
        let rotated = (self.heads + self.kv_heads) * self.d_head;
        if let Some(shift) = self.shift {
            let shift = &shift[position * rotated..(position + 1) * rotated];
            for (x, s) in row.iter_mut().zip(shift) {
                *x += s;
            }
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

/// Adds the biases to all rows of a sequence and rotates their queries and keys.
struct Place<'a> {
    attention: &'a Attention<'a>,
    rows: &'a mut [f32],
}

impl pulp::WithSimd for Place<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        for (position, row) in self.rows.chunks_exact_mut(self.attention.width()).enumerate() {
            self.attention.place(position, row);
        }
    }
}

/// Softmax over what each query may see: rows `first..` of scores, `end` keys wide.
struct CausalSoftmax<'a> {
    scores: &'a mut [f32],
    first: usize,
    end: usize,
}

impl pulp::WithSimd for CausalSoftmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        for (i, row) in self.scores.chunks_exact_mut(self.end).enumerate() {
            let (seen, future) = row.split_at_mut(self.first + i + 1);
            softmax(seen);
            future.fill(0.0);
        }
    }
}

#[inline(always)]
fn softmax(row: &mut [f32]) {
    let top = max(row);
    for x in row.iter_mut() {
        *x = exp(*x - top);
    }
    let scale = 1.0 / sum(row);
    for x in row.iter_mut() {
        *x *= scale;
    }
}
