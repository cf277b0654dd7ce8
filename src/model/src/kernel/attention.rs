//! Causal self-attention over packed sequences, which may share prefixes.

use std::ops::Range;

use rayon::prelude::*;

use super::PARALLEL_ELEMENTS;
use super::math::{exp, max, sum};
use super::matmul::{Operand, multiply};

/// Number of queries scored at a time: keys after a block's last query are never multiplied.
const BLOCK: usize = 64;

/// Cosines and sines of rotary positions.
#[derive(Debug)]
pub(crate) struct Rotation {
    /// Cosines, `[positions, dims / 2]`.
    pub cos: Vec<f32>,
    /// Sines, `[positions, dims / 2]`.
    pub sin: Vec<f32>,
    /// Number of leading dimensions of each head that are rotated.
    pub dims: usize,
    /// True if dimensions `2i` and `2i + 1` are a pair, rather than `i` and `i + dims/2`.
    pub adjacent_pairs: bool,
}

/// Segments of the rows of a batch: a tree, whose paths are the sequences, which may share prefixes.
#[derive(Clone, Copy)]
pub(crate) struct Segments<'a> {
    /// Segment `s` owns rows `offsets[s]..offsets[s + 1]`.
    pub offsets: &'a [usize],
    /// The row that each segment follows, of an earlier segment; `None` where a sequence begins.
    pub parents: &'a [Option<u32>],
    /// Position of each row in its sequences.
    pub positions: &'a [u32],
}

impl Segments<'_> {
    /// Rows before a segment in its sequence, in order.
    pub fn before(&self, mut segment: usize) -> Vec<Range<usize>> {
        let mut path = Vec::new();
        while let Some(last) = self.parents[segment] {
            let last = last as usize;
            segment = self.offsets.partition_point(|start| *start <= last) - 1;
            path.push(self.offsets[segment]..last + 1);
        }
        path.reverse();
        path
    }
}

/// Attention of one layer.
pub(crate) struct Attention<'a> {
    pub heads: usize,
    pub kv_heads: usize,
    pub d_head: usize,
    /// Factor on query·key.
    pub scale: f32,
    /// Bias of queries, keys and values, `[(heads + 2·kv_heads)·d_head]`.
    pub bias: Option<&'a [f32]>,
    /// Vectors added to queries and keys by position (shortformer), `[positions, (heads + kv_heads)·d_head]`.
    pub shift: Option<&'a [f32]>,
    pub rotation: Option<&'a Rotation>,
}

impl Attention<'_> {
    /// Width of a packed row of queries, keys and values.
    fn width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.d_head
    }

    /// Runs attention on `qkv`, `[rows, width]`. Returns `[rows, heads·d_head]`.
    pub fn run(&self, qkv: &[f32], segments: &Segments) -> Vec<f32> {
        let (width, d_out) = (self.width(), self.heads * self.d_head);
        let mut rows = qkv.to_vec();
        let mut out = vec![0.0; qkv.len() / width * d_out];
        let mut rest = &mut out[..];
        let mut work = Vec::with_capacity(segments.parents.len());
        for (segment, pair) in segments.offsets.windows(2).enumerate() {
            let (mine, others) = std::mem::take(&mut rest).split_at_mut((pair[1] - pair[0]) * d_out);
            work.push((segment, mine));
            rest = others;
        }
        let threads = rayon::current_num_threads();
        if threads == 1 || qkv.len() < PARALLEL_ELEMENTS {
            pulp::Arch::new().dispatch(Place { attention: self, rows: &mut rows, positions: segments.positions });
            let mut scratch = Scratch::default();
            work.into_iter().for_each(|(segment, out)| self.segment(&rows, segments, segment, out, &mut scratch));
        } else {
            let block = segments.positions.len().div_ceil(4 * threads);
            rows.par_chunks_mut(block * width)
                .zip(segments.positions.par_chunks(block))
                .for_each(|(rows, positions)| pulp::Arch::new().dispatch(Place { attention: self, rows, positions }));
            work.into_par_iter().for_each_init(Scratch::default, |scratch, (segment, out)| {
                self.segment(&rows, segments, segment, out, scratch);
            });
        }
        out
    }

    /// Computes the mixed values of the tokens of a segment; `rows` have their biases and positions.
    fn segment(&self, rows: &[f32], segments: &Segments, segment: usize, out: &mut [f32], scratch: &mut Scratch) {
        let (width, hd, d_out) = (self.width(), self.d_head, self.heads * self.d_head);
        let own = segments.offsets[segment]..segments.offsets[segment + 1];
        let tokens = own.len();
        let queries = &rows[own.start * width..own.end * width];
        let Scratch { keys, scores, parent } = scratch;
        // Keys and values of all tokens that the last one attends to, and their stride.
        let (keys, stride, before) = match segments.parents[segment] {
            None => (&queries[d_out..], width, 0),
            Some(last) => {
                let pairs = width - d_out;
                let before = segments.positions[last as usize] as usize + 1;
                // Segments that branch off at one token come one after another, and reuse the keys before it.
                if *parent != Some(last) {
                    keys.clear();
                    for rows_before in segments.before(segment) {
                        let rows = &rows[rows_before.start * width..rows_before.end * width];
                        rows.chunks_exact(width).for_each(|row| keys.extend_from_slice(&row[d_out..]));
                    }
                    *parent = Some(last);
                }
                keys.truncate(before * pairs);
                queries.chunks_exact(width).for_each(|row| keys.extend_from_slice(&row[d_out..]));
                (&keys[..], pairs, before)
            }
        };
        scores.resize(BLOCK.min(tokens) * (before + tokens), 0.0);
        for first in (0..tokens).step_by(BLOCK) {
            let end = (first + BLOCK).min(tokens);
            let seen = before + end;
            for head in 0..self.heads {
                let kv = head * self.kv_heads / self.heads;
                let query = Operand { data: &queries[first * width + head * hd..], rows: width, columns: 1 };
                // Transposed by its strides.
                let key = Operand { data: &keys[kv * hd..], rows: 1, columns: stride };
                let value = Operand { data: &keys[(self.kv_heads + kv) * hd..], rows: stride, columns: 1 };
                let scores = &mut scores[..(end - first) * seen];
                let target = &mut out[first * d_out + head * hd..end * d_out];
                multiply((end - first, seen, hd), (scores, seen), query, key, self.scale);
                pulp::Arch::new().dispatch(CausalSoftmax { scores, first: before + first, end: seen });
                let pattern = Operand { data: scores, rows: seen, columns: 1 };
                multiply((end - first, hd, seen), (target, d_out), pattern, value, 1.0);
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

/// Buffers reused from one segment to the next.
#[derive(Default)]
struct Scratch {
    /// Keys and values of the tokens before a segment, then of its own.
    keys: Vec<f32>,
    scores: Vec<f32>,
    /// The token that the last segment follows.
    parent: Option<u32>,
}

/// Adds the biases to rows and rotates their queries and keys to their positions.
struct Place<'a> {
    attention: &'a Attention<'a>,
    rows: &'a mut [f32],
    positions: &'a [u32],
}

impl pulp::WithSimd for Place<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        for (row, position) in self.rows.chunks_exact_mut(self.attention.width()).zip(self.positions) {
            self.attention.place(*position as usize, row);
        }
    }
}

/// Softmax over the keys that each query attends to: rows `first..` of scores, `end` keys wide.
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
