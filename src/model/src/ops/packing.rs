//! Packing of a batch for attention by products of stacked matrices: computed, and sent to the device, once for all
//! layers of a pass.
//!
//! Sequences have different lengths and may share prefixes, so segments are cut into *pieces* of at most [`QUERIES`]
//! tokens, and pieces of like size are stacked in a *group*, padded to its longest. A piece attends to the tokens
//! before it in its sequence and to its own up to each query. Padding repeats rows of the piece: as keys they are
//! masked, as queries they are computed and dropped.

use std::sync::OnceLock;

use candle_core::{DType, Device, Tensor};

use crate::Result;
use crate::kernel::{Rotation, Segments};

/// Greatest number of queries of a piece. Of longer segments, later pieces attend to more keys than earlier ones.
const QUERIES: usize = 512;

/// Number of products of a query and a key that padding may add to a group, in place of the launch of another.
const SLACK: usize = 1 << 19;

/// Greatest number of scores of a group, over all heads: half a gigabyte of f32.
const SCORES: usize = 1 << 27;

/// Rotary tables, on the host and, after the first use, on a device.
#[derive(Debug)]
pub(crate) struct Rotary {
    pub rotation: Rotation,
    /// Cosines and sines, `[positions, dims / 2]`.
    tables: OnceLock<[Tensor; 2]>,
}

impl Rotary {
    pub fn new(rotation: Rotation) -> Self {
        Self { rotation, tables: OnceLock::new() }
    }

    /// Returns the tables on the device. All calls must give the same device and dtype.
    pub fn tables(&self, device: &Device, dtype: DType) -> Result<&[Tensor; 2]> {
        if let Some(tables) = self.tables.get() {
            return Ok(tables);
        }
        let pairs = self.rotation.dims / 2;
        let table = |values: &[f32]| {
            let shape = (values.len() / pairs.max(1), pairs);
            Tensor::from_slice(values, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)
        };
        let tables = [table(&self.rotation.cos)?, table(&self.rotation.sin)?];
        Ok(self.tables.get_or_init(|| tables))
    }
}

/// A packed batch.
#[derive(Debug)]
pub(crate) struct Packing {
    pub plan: Plan,
    pub groups: Vec<Group>,
    /// Index of each row of the batch in the rows of all groups, end to end; `None` if they are in place, or if kernels
    /// gather them.
    pub places: Option<Tensor>,
    /// Position of each row.
    pub positions: Tensor,
    /// Cosines and sines of each row, `[rows, dims / 2]`, of each rotary table; kernels take them from the tables.
    pub turns: Vec<[Tensor; 2]>,
}

/// Group of pieces of similar size.
#[derive(Debug)]
pub(crate) struct Group {
    pub pieces: usize,
    /// Number of queries of each piece, padding included.
    pub queries: usize,
    /// Number of keys of each piece, padding included.
    pub keys: usize,
    pub query_rows: Rows,
    /// Rows of keys; `None` if they are the query rows.
    pub key_rows: Option<Rows>,
    pub mask: CausalMask,
    /// Mask of local layers, as [`CausalMask::Mask`], if there are any.
    pub local_mask: Option<Tensor>,
    /// Positions of keys, `[pieces·keys]`; those of padding are some positions of the piece.
    pub key_positions: Vec<u32>,
    /// Positions of queries, `[pieces·queries]`.
    pub query_positions: Vec<u32>,
}

/// Causal mask of a group: the keys that its queries attend to.
#[derive(Debug)]
pub(crate) enum CausalMask {
    /// Addend to scores, 0 where a query attends to a key and else −∞: `[pieces or 1, 1, queries, keys]`.
    Mask(Tensor),
    /// Number of tokens before each piece, `[pieces]`; a query attends to these and to its own up to itself.
    #[cfg(any(test, feature = "cuda"))]
    Before(Tensor),
}

/// Implementation that a batch is packed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Candle's operations.
    Composed,
    /// Kernels of a GPU.
    #[cfg(any(test, feature = "cuda"))]
    Fused,
}

/// Rows of a batch.
#[derive(Debug)]
pub(crate) enum Rows {
    /// Contiguous rows, from this one on.
    From(usize),
    Indices(Tensor),
}

impl Rows {
    /// Selects these rows of a contiguous matrix.
    pub fn of(&self, x: &Tensor, count: usize) -> Result<Tensor> {
        Ok(match self {
            Self::From(first) => x.narrow(0, *first, count)?,
            Self::Indices(indices) => x.index_select(indices, 0)?,
        })
    }

    fn new(rows: Vec<u32>, device: &Device) -> Result<Self> {
        if rows.windows(2).all(|pair| pair[0] + 1 == pair[1]) {
            return Ok(Self::From(rows.first().map_or(0, |first| *first as usize)));
        }
        let count = rows.len();
        Ok(Self::Indices(Tensor::from_vec(rows, count, device)?))
    }
}

/// Piece: at most [`QUERIES`] tokens of a segment.
struct Piece {
    segment: usize,
    /// Rows of the piece: `first..end`.
    first: usize,
    end: usize,
    /// Number of tokens before its first in its sequence.
    before: usize,
}

impl Piece {
    fn queries(&self) -> usize {
        self.end - self.first
    }

    fn keys(&self) -> usize {
        self.before + self.queries()
    }
}

impl Packing {
    pub fn new(
        segments: &Segments,
        (heads, window): (usize, Option<usize>),
        rotaries: &[Rotary],
        (device, dtype): (&Device, DType),
        plan: Plan,
    ) -> Result<Self> {
        let mut pieces: Vec<Piece> = Vec::with_capacity(segments.parents.len());
        for (segment, pair) in segments.offsets.windows(2).enumerate() {
            for first in (pair[0]..pair[1]).step_by(QUERIES) {
                let before = segments.positions[first] as usize;
                pieces.push(Piece { segment, first, end: pair[1].min(first + QUERIES), before });
            }
        }
        // A stable sort: pieces of one size stay in the order of their rows.
        pieces.sort_by_key(|piece| std::cmp::Reverse((piece.keys(), piece.queries())));
        let mut groups = Vec::new();
        let mut order: Vec<u32> = vec![0; segments.positions.len()];
        let mut laid = 0;
        let mut rest = &pieces[..];
        while !rest.is_empty() {
            let (group, others) = rest.split_at(fitting(rest, heads));
            rest = others;
            let built = Group::new(group, segments, window, (device, dtype), plan)?;
            for (i, piece) in group.iter().enumerate() {
                for (place, row) in (laid + i * built.queries..).zip(piece.first..piece.end) {
                    order[row] = place as u32;
                }
            }
            laid += built.pieces * built.queries;
            groups.push(built);
        }
        let positions = Tensor::from_slice(segments.positions, order.len(), device)?;
        if plan != Plan::Composed {
            return Ok(Self { plan, groups, places: None, positions, turns: Vec::new() });
        }
        let in_place = laid == order.len() && order.iter().enumerate().all(|(row, place)| row == *place as usize);
        let count = order.len();
        let mut turns = Vec::with_capacity(rotaries.len());
        for rotary in rotaries {
            let [cos, sin] = rotary.tables(device, dtype)?;
            turns.push([cos.index_select(&positions, 0)?, sin.index_select(&positions, 0)?]);
        }
        let places = if in_place { None } else { Some(Tensor::from_vec(order, count, device)?) };
        Ok(Self { plan, groups, places, positions, turns })
    }
}

/// Number of the pieces, longest first, that go into one group: as many as the bounds of padding and memory allow.
fn fitting(pieces: &[Piece], heads: usize) -> usize {
    let keys = pieces[0].keys();
    let (mut queries, mut real) = (0, 0);
    for (i, piece) in pieces.iter().enumerate() {
        queries = queries.max(piece.queries());
        real += piece.queries() * piece.keys();
        let padded = (i + 1) * queries * keys;
        if i > 0 && (padded > real + real / 4 + SLACK || padded * heads > SCORES) {
            return i;
        }
    }
    pieces.len()
}

impl Group {
    fn new(
        pieces: &[Piece],
        segments: &Segments,
        window: Option<usize>,
        (device, dtype): (&Device, DType),
        plan: Plan,
    ) -> Result<Self> {
        let longest = |of: fn(&Piece) -> usize| pieces.iter().map(of).max().unwrap_or(0);
        let (queries, keys) = (longest(Piece::queries), longest(Piece::keys));
        let mut query_rows = Vec::with_capacity(pieces.len() * queries);
        let mut key_rows = Vec::with_capacity(pieces.len() * keys);
        for piece in pieces {
            let last = piece.end - 1;
            query_rows.extend((0..queries).map(|i| last.min(piece.first + i) as u32));
            let own = segments.offsets[piece.segment]..piece.end;
            let before = segments.before(piece.segment).into_iter().flatten();
            let padding = std::iter::repeat(last);
            key_rows.extend(before.chain(own).chain(padding).take(keys).map(|row| row as u32));
        }
        let positions = |rows: &[u32]| rows.iter().map(|row| segments.positions[*row as usize]).collect::<Vec<_>>();
        let (query_positions, key_positions) = (positions(&query_rows), positions(&key_rows));
        let key_rows = if key_rows == query_rows { None } else { Some(Rows::new(key_rows, device)?) };
        let masked = |window| -> Result<Tensor> {
            Ok(mask(pieces, (queries, keys), window)?.to_dtype(dtype)?.to_device(device)?)
        };
        let local_mask = window.map(masked).transpose()?;
        let mask = match plan {
            Plan::Composed => CausalMask::Mask(masked(usize::MAX)?),
            #[cfg(any(test, feature = "cuda"))]
            Plan::Fused => {
                let before = pieces.iter().map(|piece| piece.before as u32).collect();
                CausalMask::Before(Tensor::from_vec(before, pieces.len(), device)?)
            }
        };
        let query_rows = Rows::new(query_rows, device)?;
        Ok(Self {
            pieces: pieces.len(),
            queries,
            keys,
            query_rows,
            key_rows,
            mask,
            local_mask,
            key_positions,
            query_positions,
        })
    }
}

/// Mask of 0 where a query attends to a key, one of the last `window`, and else −∞, f32 on the host:
/// `[pieces or 1, 1, queries, keys]`.
fn mask(pieces: &[Piece], (queries, keys): (usize, usize), window: usize) -> Result<Tensor> {
    // Pieces that begin at the same position share one mask.
    let alike = pieces.iter().all(|piece| piece.before == pieces[0].before);
    let masks = if alike { &pieces[..1] } else { pieces };
    let mut mask = Vec::with_capacity(masks.len() * queries * keys);
    for piece in masks {
        for query in 0..queries {
            let last = piece.before + query;
            let seen = |key: usize| key <= last && last - key < window;
            mask.extend((0..keys).map(|key| if seen(key) { 0.0 } else { f32::NEG_INFINITY }));
        }
    }
    Ok(Tensor::from_vec(mask, (masks.len(), 1, queries, keys), &Device::Cpu)?)
}
