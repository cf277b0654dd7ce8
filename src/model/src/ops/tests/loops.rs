//! Loops over f32 on the CPU in place of a GPU's kernels for attention, to test the calls of the kernels without a GPU.
//! `tests/gpu/ops.cpp` tests the kernels.

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Tensor};

use crate::Result;
use crate::ops::fused::Heads;
use crate::ops::packing::{Group, Rows};

fn rows(rows: &Rows, count: usize) -> Vec<usize> {
    match rows {
        Rows::From(first) => (*first..first + count).collect(),
        Rows::Indices(indices) => indices.to_vec1::<u32>().unwrap().into_iter().map(|row| row as usize).collect(),
    }
}

pub(crate) fn place(of: &Heads) -> Result<Tensor> {
    let qkv = of.qkv.to_vec2::<f32>()?;
    let bias = of.bias.map(|bias| bias.to_vec1::<f32>().unwrap());
    let shift = of.shift.map(|shift| shift.to_vec2::<f32>().unwrap());
    let positions = of.positions.to_vec1::<u32>()?;
    let turns = of.rotation.map(|(_, [cos, sin])| [cos.to_vec2::<f32>().unwrap(), sin.to_vec2::<f32>().unwrap()]);
    let mut out = vec![0.0; of.pieces * of.count * of.tokens * of.d_head];
    for (i, row) in rows(of.rows, of.pieces * of.tokens).into_iter().enumerate() {
        let position = positions[row] as usize;
        for head in 0..of.count {
            let columns = (of.first + head) * of.d_head..(of.first + head + 1) * of.d_head;
            let value = |c: usize| {
                qkv[row][c] + bias.as_ref().map_or(0.0, |b| b[c]) + shift.as_ref().map_or(0.0, |s| s[position][c])
            };
            let mut values: Vec<f32> = columns.map(value).collect();
            if let (Some((rotation, _)), Some([cos, sin])) = (of.rotation, &turns) {
                for pair in 0..rotation.dims / 2 {
                    let (a, b) = match rotation.adjacent_pairs {
                        true => (2 * pair, 2 * pair + 1),
                        false => (pair, pair + rotation.dims / 2),
                    };
                    let (c, s) = (cos[position][pair], sin[position][pair]);
                    (values[a], values[b]) = (values[a] * c - values[b] * s, values[b] * c + values[a] * s);
                }
            }
            let (piece, token) = (i / of.tokens, i % of.tokens);
            let first = ((piece * of.count + head) * of.tokens + token) * of.d_head;
            out[first..first + of.d_head].iter_mut().zip(values).for_each(|(out, value)| *out = value * of.scale);
        }
    }
    Ok(Tensor::from_vec(out, (of.pieces, of.count, of.tokens, of.d_head), &Device::Cpu)?)
}

pub(crate) fn soften(scores: &Tensor, before: &Tensor, (heads, queries, keys): (usize, usize, usize)) -> Result<()> {
    Ok(scores.inplace_op1(&Soften { before: before.to_vec1()?, heads, queries, keys })?)
}

struct Soften {
    before: Vec<u32>,
    heads: usize,
    queries: usize,
    keys: usize,
}

impl InplaceOp1 for Soften {
    fn name(&self) -> &'static str {
        "soften"
    }

    fn cpu_fwd(&self, scores: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let CpuStorage::F32(scores) = scores else { candle_core::bail!("expected f32") };
        assert_eq!(layout.contiguous_offsets(), Some((0, scores.len())));
        assert_eq!(scores.len(), self.before.len() * self.heads * self.queries * self.keys);
        for (row, scores) in scores.chunks_mut(self.keys).enumerate() {
            let before = self.before[row / self.queries / self.heads] as usize;
            let (seen, hidden) = scores.split_at_mut(self.keys.min(before + row % self.queries + 1));
            let top = seen.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f32 = seen.iter().map(|x| (x - top).exp()).sum();
            seen.iter_mut().for_each(|x| *x = (*x - top).exp() / sum);
            hidden.fill(0.0);
        }
        Ok(())
    }
}

pub(crate) fn gather(mixed: &[Tensor], groups: &[Group], shape: (usize, usize, usize)) -> Result<Tensor> {
    let (count, heads, d_head) = shape;
    // Rows that nothing is written to stay NaN.
    let mut out = vec![f32::NAN; count * heads * d_head];
    for (mixed, group) in mixed.iter().zip(groups) {
        let mixed: Vec<f32> = mixed.flatten_all()?.to_vec1()?;
        let rows = rows(&group.query_rows, group.pieces * group.queries);
        for (i, row) in rows.iter().enumerate() {
            let (piece, query) = (i / group.queries, i % group.queries);
            if query > 0 && rows[i - 1] == *row {
                continue;
            }
            for head in 0..heads {
                let from = ((piece * heads + head) * group.queries + query) * d_head;
                let to = (row * heads + head) * d_head;
                out[to..to + d_head].copy_from_slice(&mixed[from..from + d_head]);
            }
        }
    }
    Ok(Tensor::from_vec(out, (count, heads * d_head), &Device::Cpu)?)
}
