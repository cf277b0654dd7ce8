//! Embeddings of graphs: vectors whose cosine follows the similarity of the graphs.

use std::collections::BTreeMap;

use crate::token_key::path_hashes;
use crate::{Error, Graph, Result, Symbol};

/// Number of numbers of an embedding if none is given.
pub const DIMENSIONS: usize = 256;

/// Greatest number of numbers of an embedding.
pub const MOST_DIMENSIONS: usize = 4096;

/// Embedding of a graph: a vector of length 1 with this number of numbers. `None` if the graph predicts nothing.
///
/// Each pattern is a random direction, the same in all graphs, taken from the hash of its symbols, which is pinned:
/// embeddings may be stored, and compared with those of other versions of this program. Its weight is the activation
/// that it predicts, as far as that differs from what the shorter patterns on its path predict; half of that is also
/// the weight of the pattern without its last symbol, a quarter that of the pattern without its last two, and so on.
/// So graphs with the same activators are similar even if the contexts differ. The cosine of two embeddings estimates
/// Σ √(u·v) / √(Σu · Σv) over the weights u and v of their patterns, with an error of about 1/√`dimensions`. Graphs
/// that predict the same for all texts have equal embeddings if they have no wildcards. Numbers of nodes that predict
/// nothing (importance, activation, support) do not count, nor does the order of nodes.
///
/// ```
/// use neuroql_graph::{Graph, Node, Symbol, embedding};
///
/// let node = |parent, token: &str, ends| {
///     Node { parent, symbol: Symbol::token(1, token), importance: 1.0, activation: 1.0, ends, support: 1 }
/// };
/// let cat = Graph::new(vec![node(None, " cat", Some(0.5))])?;
/// // A longer pattern that predicts the same changes no prediction.
/// let same = Graph::new(vec![node(None, " cat", Some(0.5)), node(Some(0), " a", Some(0.5))])?;
/// assert_eq!(embedding(&cat, 4)?, embedding(&same, 4)?);
/// assert_eq!(embedding(&Graph::default(), 4)?, None);
/// # Ok::<(), neuroql_graph::Error>(())
/// ```
///
/// # Errors
/// [`Error::OutOfRange`] unless there are 1 to [`MOST_DIMENSIONS`] dimensions.
pub fn embedding(graph: &Graph, dimensions: usize) -> Result<Option<Vec<f32>>> {
    if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
        let value = dimensions.to_string();
        return Err(Error::OutOfRange { what: "the number of dimensions", value, allowed: "1 to 4096" });
    }
    let mut sums = vec![0.0f64; dimensions];
    for (hash, weight) in weights(&graph.expanded()) {
        let weight = weight.abs().sqrt().copysign(weight);
        let mut bits = Bits::new(hash);
        for sums in sums.chunks_mut(64) {
            let mut signs = bits.next();
            for sum in sums {
                *sum += if signs & 1 == 1 { weight } else { -weight };
                signs >>= 1;
            }
        }
    }
    let length = sums.iter().map(|sum| sum * sum).sum::<f64>().sqrt();
    Ok((length > 0.0).then(|| sums.iter().map(|sum| (sum / length) as f32).collect()))
}

/// Patterns by their hashes, with their weights: what each changes of the activation that the shorter patterns on its
/// path predict, and half of the weight of each pattern that is longer by one. Those without weight are left out.
fn weights(graph: &Graph) -> BTreeMap<u64, f64> {
    let nodes = graph.nodes();
    let has_wildcards = with_wildcards(graph);
    let mut predicted: Vec<f32> = Vec::with_capacity(nodes.len());
    let mut weights: Vec<f64> = Vec::with_capacity(nodes.len());
    for (node, has_wildcards) in nodes.iter().zip(has_wildcards) {
        let before = node.parent.map_or(0.0, |parent| predicted[parent as usize]);
        let ends = node.ends.unwrap_or(before);
        predicted.push(ends);
        weights.push(match (node.ends, has_wildcards) {
            // Beside wildcards another pattern, of a length in between, may be what it takes the place of.
            (Some(ends), true) => ends.into(),
            _ => f64::from(ends) - f64::from(before),
        });
    }
    let hashes = path_hashes(graph);
    // Sums do not depend on the order of siblings, nor on those without weight.
    let mut below: Vec<Vec<(u64, f64)>> = vec![Vec::new(); nodes.len()];
    let mut of_patterns = BTreeMap::new();
    for (at, node) in nodes.iter().enumerate().rev() {
        let mut longer = std::mem::take(&mut below[at]);
        longer.sort_unstable_by_key(|(hash, _)| *hash);
        let weight = weights[at] + longer.iter().map(|(_, weight)| weight / 2.0).sum::<f64>();
        if weight != 0.0 {
            of_patterns.insert(hashes[at], weight);
            if let Some(parent) = node.parent {
                below[parent as usize].push((hashes[at], weight));
            }
        }
    }
    of_patterns
}

/// Returns for each node whether a wildcard is in the tree of its activator, or is an activator itself.
fn with_wildcards(graph: &Graph) -> Vec<bool> {
    let nodes = graph.nodes();
    let is_wildcard = |symbol: &Symbol| !matches!(symbol, Symbol::Token(_) | Symbol::Start);
    let everywhere = nodes.iter().any(|node| node.parent.is_none() && is_wildcard(&node.symbol));
    let mut activators: Vec<usize> = Vec::with_capacity(nodes.len());
    let mut wild = vec![everywhere; nodes.len()];
    for (at, node) in nodes.iter().enumerate() {
        let activator = node.parent.map_or(at, |parent| activators[parent as usize]);
        activators.push(activator);
        wild[activator] |= is_wildcard(&node.symbol);
    }
    activators.into_iter().map(|activator| wild[activator]).collect()
}

/// Bits of a pattern's direction: SplitMix64, seeded by its hash. They are part of the format.
struct Bits(u64);

impl Bits {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::{Matcher, Node, Semantics};

    fn node(parent: Option<u32>, symbol: Symbol, ends: Option<f32>) -> Node {
        Node { parent, symbol, importance: 1.0, activation: 1.0, ends, support: 1 }
    }

    fn token(id: u32) -> Symbol {
        Symbol::token(id, format!("token {id}"))
    }

    fn cosine(a: &Graph, b: &Graph, dimensions: usize) -> f64 {
        let [a, b] = [a, b].map(|graph| embedding(graph, dimensions).unwrap().unwrap());
        a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }

    /// A graph of activators, each with its predicted activation.
    fn activators(of: impl IntoIterator<Item = (u32, f32)>) -> Graph {
        Graph::new(of.into_iter().map(|(id, ends)| node(None, token(id), Some(ends))).collect()).unwrap()
    }

    #[test]
    fn cosines_follow_shared_patterns() {
        let of = |from: u32| activators((from..from + 40).map(|id| (id, 0.75)));
        for shared in [0, 10, 20, 30, 40] {
            let cosine = cosine(&of(0), &of(40 - shared), 2048);
            assert!((cosine - f64::from(shared) / 40.0).abs() < 0.08, "{shared} of 40 shared: {cosine}");
        }
    }

    #[test]
    fn embeddings_are_those_that_were_stored() {
        let graph = Graph::new(vec![
            node(None, token(7), None),
            node(Some(0), Symbol::Any, None),
            node(Some(1), token(9), Some(0.5)),
            node(None, token(8), Some(0.75)),
        ]);
        let found = embedding(&graph.unwrap(), 70).unwrap().unwrap();
        // From another program: xxhash.xxh3_64_intdigest of the paths, SplitMix64 of these in whole numbers.
        let stored = [0.083_102_15, -0.083_102_15, -0.025_063_911, -0.199_178_64, -0.001_023_684, -0.199_178_64];
        let same = |(found, stored): (&f32, &f32)| (found - stored).abs() < 1e-6;
        assert!(found[..3].iter().chain(&found[63..66]).zip(&stored).all(same), "{found:?}");
    }

    #[test]
    fn dimensions_are_bounded() {
        let graph = activators([(1, 0.5)]);
        for dimensions in [0, MOST_DIMENSIONS + 1, usize::MAX] {
            assert!(matches!(embedding(&graph, dimensions), Err(Error::OutOfRange { .. })));
        }
        assert_eq!(embedding(&graph, 1).unwrap().map(|one| one[0].abs()), Some(1.0));
        // A prediction of 0 is none.
        assert_eq!(embedding(&activators([(1, 0.0)]), 8).unwrap(), None);
    }

    proptest! {
        #[test]
        fn graphs_that_predict_the_same_are_equal(
            symbols in vec((0..3u32, any::<prop::sample::Index>(), prop::option::of(0..3u8)), 1..12),
            other in vec((0..3u32, any::<prop::sample::Index>(), prop::option::of(0..3u8)), 1..12),
        ) {
            let make = |symbols: Vec<(u32, prop::sample::Index, Option<u8>)>| {
                let mut nodes: Vec<Node> = Vec::new();
                for (id, at, ends) in symbols {
                    let parent = (!nodes.is_empty() && id != 0).then(|| at.index(nodes.len()) as u32);
                    let ends = ends.map(|ends| f32::from(ends) / 4.0);
                    let new = node(parent, token(id), ends);
                    if !nodes.iter().any(|node| (node.parent, &node.symbol) == (new.parent, &new.symbol)) {
                        nodes.push(new);
                    }
                }
                Graph::new(nodes).unwrap()
            };
            // All texts of up to 5 tokens, one of which neither graph has, tell short graphs apart.
            let texts: Vec<Vec<u32>> = (1..=5u32).flat_map(|length| (0..4u32.pow(length)).map(move |text| {
                (0..length).map(|at| text / 4u32.pow(at) % 4).collect()
            })).collect();
            let predicted = |graph: &Graph| {
                let matcher = Matcher::of(graph, Semantics::Longest).unwrap();
                let mut out = Vec::new();
                texts.iter().for_each(|text| matcher.simulate(text, &mut out));
                out
            };
            let (one, other) = (make(symbols), make(other));
            let shallow = |graph: &Graph| graph.depths().iter().all(|depth| *depth < 4);
            if shallow(&one) && shallow(&other) && predicted(&one) == predicted(&other) {
                prop_assert_eq!(embedding(&one, 16).unwrap(), embedding(&other, 16).unwrap());
            }
            // Without the ends that change nothing it predicts the same.
            let mut before: Vec<f32> = Vec::new();
            let less = one.nodes().iter().map(|node| {
                let above = node.parent.map_or(0.0, |parent| before[parent as usize]);
                before.push(node.ends.unwrap_or(above));
                Node { ends: node.ends.filter(|ends| *ends != above), ..node.clone() }
            }).collect();
            let less = Graph::new(less).unwrap();
            prop_assert_eq!(predicted(&one), predicted(&less));
            prop_assert_eq!(embedding(&one, 16).unwrap(), embedding(&less, 16).unwrap());
        }
    }
}
