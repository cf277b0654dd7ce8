//! Layout of nodes: columns by depth, in an order with few crossings, each node near those that it is joined to.
//!
//! The crate layout-rs 0.1 draws without a program, but it chooses the columns itself, estimates the width of text from
//! its bytes, and has neither tooltips nor a text colour. Graphs need only this part of it, since their edges join
//! neighbouring columns only.

use crate::DisplayNode;

/// Number of sweeps over the columns in each direction, for the order and for the places.
const SWEEPS: usize = 6;

/// Vertical layout of nodes, in distances from the top.
#[derive(Debug)]
pub(super) struct Layout {
    /// Centre of each node.
    pub centres: Vec<f32>,
    /// Height of the drawing.
    pub height: f32,
}

/// Places nodes of these heights, at least `gap` apart, and unconnected parts `apart`.
pub(super) fn layout(nodes: &[DisplayNode], heights: &[f32], gap: f32, apart: f32) -> Layout {
    let mut from: Vec<Vec<u32>> = vec![Vec::new(); nodes.len()];
    for (i, node) in nodes.iter().enumerate() {
        node.towards.iter().for_each(|to| from[*to as usize].push(i as u32));
    }
    let mut layout = Layout { centres: vec![0.0; nodes.len()], height: 0.0 };
    for part in parts(nodes, &from) {
        let joined = Component { nodes, from: &from, heights, gap };
        let columns = joined.ordered(columns(nodes, &part));
        let centres = joined.places(&columns, &mut layout.centres);
        let shift = layout.height - centres.0 + if layout.height > 0.0 { apart } else { 0.0 };
        part.iter().for_each(|i| layout.centres[*i as usize] += shift);
        layout.height = centres.1 + shift;
    }
    layout
}

/// Connected parts of the drawing, in the order of their first activators; the nodes of a part ascend.
fn parts(nodes: &[DisplayNode], from: &[Vec<u32>]) -> Vec<Vec<u32>> {
    let mut seen = vec![false; nodes.len()];
    let mut parts = Vec::new();
    for start in 0..nodes.len() as u32 {
        let mut part = Vec::new();
        let mut stack = vec![start];
        while let Some(i) = stack.pop() {
            if !std::mem::replace(&mut seen[i as usize], true) {
                part.push(i);
                stack.extend(nodes[i as usize].towards.iter().chain(&from[i as usize]));
            }
        }
        if !part.is_empty() {
            part.sort_unstable();
            parts.push(part);
        }
    }
    parts
}

/// Columns of a part: its nodes by depth, each column in their order.
fn columns(nodes: &[DisplayNode], part: &[u32]) -> Vec<Vec<u32>> {
    let mut columns: Vec<Vec<u32>> = Vec::new();
    for i in part {
        let depth = nodes[*i as usize].depth as usize;
        columns.resize_with(columns.len().max(depth + 1), Vec::new);
        columns[depth].push(*i);
    }
    columns
}

/// A connected part of the drawing.
struct Component<'a> {
    nodes: &'a [DisplayNode],
    /// Nodes that lead to each node, the reverse of [`DisplayNode::towards`].
    from: &'a [Vec<u32>],
    heights: &'a [f32],
    gap: f32,
}

impl Component<'_> {
    /// Reorders columns by the mean place of the neighbours of nodes, and keeps the order with fewest crossings.
    fn ordered(&self, mut columns: Vec<Vec<u32>>) -> Vec<Vec<u32>> {
        let mut places = vec![0.0; self.nodes.len()];
        let set = |places: &mut Vec<f32>, column: &[u32]| {
            column.iter().enumerate().for_each(|(place, i)| places[*i as usize] = place as f32);
        };
        columns.iter().for_each(|column| set(&mut places, column));
        let mut best = (self.crossings(&columns, &places), columns.clone());
        for sweep in 0..2 * SWEEPS {
            if best.0 == 0 {
                break;
            }
            let outward = sweep % 2 == 0;
            let order: Vec<usize> = if outward {
                (1..columns.len()).collect()
            } else {
                (0..columns.len().saturating_sub(1)).rev().collect()
            };
            for depth in order {
                let near = |i: u32| if outward { &self.nodes[i as usize].towards } else { &self.from[i as usize] };
                let key = |i: &u32| mean(near(*i), &places).unwrap_or(places[*i as usize]);
                let mut keyed: Vec<(f32, u32)> = columns[depth].iter().map(|i| (key(i), *i)).collect();
                keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
                columns[depth] = keyed.into_iter().map(|(_, i)| i).collect();
                set(&mut places, &columns[depth]);
            }
            let crossings = self.crossings(&columns, &places);
            if crossings < best.0 {
                best = (crossings, columns.clone());
            }
        }
        best.1
    }

    /// Number of pairs of edges that cross.
    fn crossings(&self, columns: &[Vec<u32>], places: &[f32]) -> usize {
        let between = |pair: &[Vec<u32>]| {
            // Edges by where they start; each crosses those before it that end farther down. Counted in a Fenwick tree.
            let mut tree = vec![0_usize; pair[0].len() + 1];
            let (mut crossings, mut edges) = (0, 0);
            for i in &pair[1] {
                let mut ends: Vec<usize> =
                    self.nodes[*i as usize].towards.iter().map(|to| places[*to as usize] as usize).collect();
                ends.sort_unstable();
                for end in &ends {
                    let mut at = end + 1;
                    let mut above = 0;
                    while at > 0 {
                        above += tree[at];
                        at &= at - 1;
                    }
                    crossings += edges - above;
                }
                edges += ends.len();
                for end in ends {
                    let mut at = end + 1;
                    while at < tree.len() {
                        tree[at] += 1;
                        at += at & at.wrapping_neg();
                    }
                }
            }
            crossings
        };
        columns.windows(2).map(between).sum()
    }

    /// Sets the centres of nodes in ordered columns; returns the top and the bottom of all.
    fn places(&self, columns: &[Vec<u32>], centres: &mut [f32]) -> (f32, f32) {
        for column in columns {
            let wanted = vec![0.0; column.len()];
            self.place(column, &wanted, centres);
        }
        for sweep in 0..2 * SWEEPS {
            let order: Vec<usize> =
                if sweep % 2 == 0 { (0..columns.len()).rev().collect() } else { (0..columns.len()).collect() };
            for depth in order {
                let wanted: Vec<f32> = columns[depth].iter().map(|i| self.wanted(*i, centres)).collect();
                self.place(&columns[depth], &wanted, centres);
            }
        }
        let extent = |(top, bottom): (f32, f32), i: &u32| {
            let (centre, half) = (centres[*i as usize], self.heights[*i as usize] / 2.0);
            (top.min(centre - half), bottom.max(centre + half))
        };
        columns.iter().flatten().fold((f32::INFINITY, f32::NEG_INFINITY), extent)
    }

    /// Best centre of a node: the middle between the nodes that it leads to and those that lead to it.
    fn wanted(&self, i: u32, centres: &[f32]) -> f32 {
        let sides = [&self.nodes[i as usize].towards, &self.from[i as usize]];
        let means: Vec<f32> = sides.into_iter().filter_map(|near| mean(near, centres)).collect();
        if means.is_empty() { centres[i as usize] } else { means.iter().sum::<f32>() / means.len() as f32 }
    }

    /// Sets the centres of a column's nodes as near to the wanted ones as their order and heights allow: least squares,
    /// by pooling neighbours that would overlap.
    fn place(&self, column: &[u32], wanted: &[f32], centres: &mut [f32]) {
        // Pools: the sum of the wanted places less the room above them, and the number of nodes.
        let mut pools: Vec<(f64, usize)> = Vec::new();
        let mut rooms = Vec::with_capacity(column.len());
        let mut room = 0.0;
        for (place, i) in column.iter().enumerate() {
            if place > 0 {
                let above = self.heights[column[place - 1] as usize];
                room += f64::from(f32::midpoint(above, self.heights[*i as usize]) + self.gap);
            }
            rooms.push(room);
            let mut pool = (f64::from(wanted[place]) - room, 1);
            while let Some(above) = pools.last()
                && above.0 / above.1 as f64 > pool.0 / pool.1 as f64
            {
                pool = (pool.0 + above.0, pool.1 + above.1);
                pools.pop();
            }
            pools.push(pool);
        }
        let starts = pools.iter().flat_map(|pool| std::iter::repeat_n(pool.0 / pool.1 as f64, pool.1));
        for ((i, start), room) in column.iter().zip(starts).zip(rooms) {
            centres[*i as usize] = (start + room) as f32;
        }
    }
}

fn mean(of: &[u32], values: &[f32]) -> Option<f32> {
    let sum: f32 = of.iter().map(|i| values[*i as usize]).sum();
    (!of.is_empty()).then(|| sum / of.len() as f32)
}
