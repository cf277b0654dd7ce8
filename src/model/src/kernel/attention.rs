//! Causal self-attention over packed sequences, which may share prefixes.

use std::ops::Range;

use rayon::prelude::*;

use super::PARALLEL_ELEMENTS;
use super::math::{exp, max, sum, sum_of_squares, tanh};
use super::matmul::{Operand, multiply};
use crate::{Norm, NormKind};

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
    /// Length of the longest sequence.
    pub fn longest(&self) -> usize {
        self.positions.iter().max().map_or(0, |last| *last as usize + 1)
    }

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
    /// Norm of queries and keys, before their rotation.
    pub qk_norm: Option<QkNorm<'a>>,
    /// Greatest |value| of queries, keys and values, before their rotation.
    pub clip: Option<f32>,
    /// Number of tokens that a query attends to, itself included; `None` for all.
    pub window: Option<usize>,
    /// Soft cap of scores, `c·tanh(x/c)`.
    pub cap: Option<f32>,
    /// Addends to the scores of keys, `[heads, positions]`; only their differences count.
    pub alibi: Option<&'a [f32]>,
    /// Score of no key, `[heads]`.
    pub sinks: Option<&'a [f32]>,
}

/// Norm of queries and keys.
pub(crate) struct QkNorm<'a> {
    pub norm: Norm,
    /// True if it runs over all heads together, false if over each head by itself.
    pub whole: bool,
    /// Weights of queries, then keys: `[(heads + kv_heads)·d_head]`.
    pub weight: Option<&'a [f32]>,
    pub bias: Option<&'a [f32]>,
}

impl Attention<'_> {
    /// Returns true if scores need no more than causal softmax.
    fn plain_scores(&self) -> bool {
        self.window.is_none() && self.cap.is_none() && self.alibi.is_none() && self.sinks.is_none()
    }

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
        let threads = super::threads();
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
        let (width, d_out) = (self.width(), self.heads * self.d_head);
        let own = segments.offsets[segment]..segments.offsets[segment + 1];
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
        self.attend(queries, Keys { data: keys, stride, before }, out, scores);
    }

    /// Computes the mixed values of tokens, which follow `keys.before` others; `queries` are their rows.
    fn attend(&self, queries: &[f32], keys: Keys, out: &mut [f32], scores: &mut Vec<f32>) {
        let (width, hd, d_out) = (self.width(), self.d_head, self.heads * self.d_head);
        let tokens = queries.len() / width;
        scores.resize(BLOCK.min(tokens) * (keys.before + tokens), 0.0);
        for first in (0..tokens).step_by(BLOCK) {
            let end = (first + BLOCK).min(tokens);
            let (low, seen) = self.seen(keys.before, first, end);
            for head in 0..self.heads {
                let scores = &mut scores[..(end - first) * seen];
                self.weights(head, queries, keys, first..end, scores);
                let kv = head * self.kv_heads / self.heads;
                let values = &keys.data[low * keys.stride + (self.kv_heads + kv) * hd..];
                let value = Operand { data: values, rows: keys.stride, columns: 1 };
                let target = &mut out[first * d_out + head * hd..end * d_out];
                let pattern = Operand { data: scores, rows: seen, columns: 1 };
                multiply((end - first, hd, seen), (target, d_out), pattern, value, 1.0);
            }
        }
    }

    /// First key that queries `first..end` of tokens after `before` others attend to, and the number of keys from it on up
    /// to the last of them.
    fn seen(&self, before: usize, first: usize, end: usize) -> (usize, usize) {
        let low = self.window.map_or(0, |window| (before + first + 1).saturating_sub(window));
        (low, before + end - low)
    }

    /// Computes the weights of keys for some queries of a head, `[queries, keys]`: the keys are those of
    /// [`Attention::seen`].
    fn weights(&self, head: usize, queries: &[f32], keys: Keys, of: Range<usize>, scores: &mut [f32]) {
        let (width, hd) = (self.width(), self.d_head);
        let (low, seen) = self.seen(keys.before, of.start, of.end);
        let kv = head * self.kv_heads / self.heads;
        let query = Operand { data: &queries[of.start * width + head * hd..], rows: width, columns: 1 };
        // Transposed by its strides.
        let key = Operand { data: &keys.data[low * keys.stride + kv * hd..], rows: 1, columns: keys.stride };
        multiply((of.len(), seen, hd), (scores, seen), query, key, self.scale);
        if self.plain_scores() {
            pulp::Arch::new().dispatch(CausalSoftmax { scores, first: keys.before + of.start, end: seen });
        } else {
            let alibi = self.alibi.map(|table| &table[head * (table.len() / self.heads)..]);
            pulp::Arch::new().dispatch(Softmax {
                scores,
                first: keys.before + of.start,
                low,
                end: seen,
                window: self.window.unwrap_or(usize::MAX),
                cap: self.cap,
                alibi,
                sink: self.sinks.map(|sinks| sinks[head]),
            });
        }
    }

    /// Runs attention for tokens that follow those of a cache of keys and values, `[tokens, 2·kv_heads·d_head]`, to which
    /// it adds theirs. Returns `[rows, heads·d_head]`.
    pub fn run_cached(&self, qkv: &[f32], positions: &[u32], cache: &mut Vec<f32>) -> Vec<f32> {
        let (width, d_out) = (self.width(), self.heads * self.d_head);
        let (mut rows, stride) = (qkv.to_vec(), width - d_out);
        let before = cache.len() / stride;
        pulp::Arch::new().dispatch(Place { attention: self, rows: &mut rows, positions });
        rows.chunks_exact(width).for_each(|row| cache.extend_from_slice(&row[d_out..]));
        let mut out = vec![0.0; positions.len() * d_out];
        self.attend(&rows, Keys { data: cache, stride, before }, &mut out, &mut Vec::new());
        out
    }

    /// Computes the weights by which tokens of one sequence attend to each other, for some heads: `[heads, tokens, tokens]`,
    /// 0 for keys that a query does not attend to.
    pub fn patterns(&self, qkv: &[f32], positions: &[u32], heads: &[usize]) -> Vec<f32> {
        let (width, d_out, tokens) = (self.width(), self.heads * self.d_head, positions.len());
        let mut rows = qkv.to_vec();
        pulp::Arch::new().dispatch(Place { attention: self, rows: &mut rows, positions });
        let keys = Keys { data: &rows[d_out..], stride: width, before: 0 };
        let mut patterns = vec![0.0; heads.len() * tokens * tokens];
        let mut weights = Vec::new();
        for (head, pattern) in heads.iter().zip(patterns.chunks_exact_mut((tokens * tokens).max(1))) {
            for first in (0..tokens).step_by(BLOCK) {
                let end = (first + BLOCK).min(tokens);
                let (low, seen) = self.seen(0, first, end);
                weights.resize((end - first) * seen, 0.0);
                self.weights(*head, &rows, keys, first..end, &mut weights);
                for (query, row) in (first..end).zip(weights.chunks_exact(seen)) {
                    pattern[query * tokens + low..][..seen].copy_from_slice(row);
                }
            }
        }
        patterns
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
        if let Some(norm) = &self.qk_norm {
            let (queries, keys) = (self.heads * self.d_head, self.kv_heads * self.d_head);
            if norm.whole {
                normalise(&mut row[..queries], norm, 0);
                normalise(&mut row[queries..queries + keys], norm, queries);
            } else {
                for (head, values) in row[..rotated].chunks_exact_mut(self.d_head).enumerate() {
                    normalise(values, norm, head * self.d_head);
                }
            }
        }
        if let Some(clip) = self.clip {
            for x in row.iter_mut() {
                *x = if *x > clip { clip } else { *x };
                *x = if *x < -clip { -clip } else { *x };
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

/// Normalises queries or keys whose first weight is number `first`.
#[inline(always)]
fn normalise(values: &mut [f32], norm: &QkNorm, first: usize) {
    let width = values.len();
    let mean = if norm.norm.kind == NormKind::Layer { sum(values) / width as f32 } else { 0.0 };
    let scale = 1.0 / (sum_of_squares(values, mean) / width as f32 + norm.norm.eps).sqrt();
    for x in values.iter_mut() {
        *x = (*x - mean) * scale;
    }
    if let Some(weight) = norm.weight {
        for (x, w) in values.iter_mut().zip(&weight[first..first + width]) {
            *x *= w;
        }
    }
    if let Some(bias) = norm.bias {
        for (x, b) in values.iter_mut().zip(&bias[first..first + width]) {
            *x += b;
        }
    }
}

/// Keys and values of the tokens that queries attend to: rows of keys, then values, that are `stride` apart; those of
/// `before` tokens, then those of the queries'.
#[derive(Clone, Copy)]
struct Keys<'a> {
    data: &'a [f32],
    stride: usize,
    before: usize,
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

/// Softmax with what some architectures add to it: rows of the queries from position `first` on, columns of the `end` keys
/// from position `low` on.
struct Softmax<'a> {
    scores: &'a mut [f32],
    first: usize,
    low: usize,
    end: usize,
    window: usize,
    cap: Option<f32>,
    /// Addends of the head's keys, by position.
    alibi: Option<&'a [f32]>,
    sink: Option<f32>,
}

impl pulp::WithSimd for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        for (i, row) in self.scores.chunks_exact_mut(self.end).enumerate() {
            let query = self.first + i;
            let start = (query + 1).saturating_sub(self.window).max(self.low);
            let (seen, future) = row.split_at_mut(query + 1 - self.low);
            future.fill(0.0);
            let (past, seen) = seen.split_at_mut(start - self.low);
            past.fill(0.0);
            if let Some(cap) = self.cap {
                for x in seen.iter_mut() {
                    *x = cap * tanh(*x / cap);
                }
            }
            if let Some(alibi) = self.alibi {
                let own = alibi[query];
                for (x, key) in seen.iter_mut().zip(&alibi[start..]) {
                    *x += key - own;
                }
            }
            match self.sink {
                None => softmax(seen),
                Some(sink) => {
                    let top = max(seen);
                    let top = if sink > top { sink } else { top };
                    for x in seen.iter_mut() {
                        *x = exp(*x - top);
                    }
                    let scale = 1.0 / (sum(seen) + exp(sink - top));
                    for x in seen.iter_mut() {
                        *x *= scale;
                    }
                }
            }
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
