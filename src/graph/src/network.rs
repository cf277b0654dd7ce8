//! The structure of a network of similar neurons.

use petgraph::Directed;
use petgraph::csr::Csr;
use petgraph::unionfind::UnionFind;

use crate::components::numbered;
use crate::{Error, Result};

/// Greatest number of iterations of PageRank.
const MOST_ITERATIONS: usize = 10_000;

/// Network of similar nodes, named by keys: an undirected weighted graph without loops.
///
/// ```
/// use neuroql_graph::Network;
///
/// let network = Network::new([(10, 20, 0.9), (20, 30, 0.5), (40, 50, 1.0)])?;
/// assert_eq!(network.keys(), [10, 20, 30, 40, 50]);
/// assert_eq!(network.components(), [0, 0, 0, 1, 1]);
/// assert_eq!(network.clusters(0.9), [0, 0, 1, 2, 2]);
/// assert_eq!(network.degrees()[1].neighbours, 2);
/// let rank = network.page_rank(0.85)?;
/// assert!(rank[1] > rank[0] && rank[0] > rank[2]);
/// # Ok::<(), neuroql_graph::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Network {
    keys: Vec<u64>,
    /// Edges, each in both directions.
    edges: Csr<(), f64, Directed, u32>,
}

/// Degree of a node of a network, without and with weights.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Degree {
    /// Number of its neighbours.
    pub neighbours: u32,
    /// Sum of the weights of its edges.
    pub weight: f64,
}

impl Network {
    /// Makes a network of edges. Their direction does not matter; of those between the same two nodes, the one of the
    /// greatest weight counts. An edge from a node to itself only adds the node.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for weights that are not positive or not finite; [`Error::TooLarge`] for more than 2³² − 1
    /// nodes.
    pub fn new(edges: impl IntoIterator<Item = (u64, u64, f64)>) -> Result<Self> {
        let mut both: Vec<(u64, u64, f64)> = Vec::new();
        for (a, b, weight) in edges {
            if !weight.is_finite() || weight <= 0.0 {
                let value = weight.to_string();
                return Err(Error::OutOfRange { what: "the weight of an edge", value, allowed: "positive and finite" });
            }
            both.extend([(a, b, weight), (b, a, weight)]);
        }
        both.sort_unstable_by(|one, other| {
            (one.0, one.1).cmp(&(other.0, other.1)).then_with(|| other.2.total_cmp(&one.2))
        });
        both.dedup_by_key(|(from, to, _)| (*from, *to));
        let mut keys: Vec<u64> = both.iter().map(|(from, _, _)| *from).collect();
        keys.dedup();
        if u32::try_from(keys.len()).is_err() {
            return Err(Error::TooLarge { what: "things", count: keys.len(), limit: u32::MAX as usize });
        }
        // All keys of edges are in `keys`.
        let place = |key: u64| keys.partition_point(|known| *known < key) as u32;
        let edges = both.iter().filter(|(from, to, _)| from != to);
        let edges: Vec<_> = edges.map(|(from, to, weight)| (place(*from), place(*to), *weight)).collect();
        let mut network = Csr::from_sorted_edges(&edges).expect("sorted by keys, and so by places, and distinct");
        while network.node_count() < keys.len() {
            network.add_node(());
        }
        Ok(Self { keys, edges: network })
    }

    /// Keys of the nodes, ascending. All other results are in their order.
    pub fn keys(&self) -> &[u64] {
        &self.keys
    }

    /// Degree of each node.
    pub fn degrees(&self) -> Vec<Degree> {
        let degree = |node| {
            let weights = self.edges.edges_slice(node);
            Degree { neighbours: weights.len() as u32, weight: weights.iter().sum() }
        };
        self.nodes().map(degree).collect()
    }

    /// Component of each node: those that edges connect, directly or not, are in one. Components are numbered from 0 in
    /// the order of their first keys.
    pub fn components(&self) -> Vec<u32> {
        self.clusters(0.0)
    }

    /// Cluster of each node: its component when edges of less than `threshold` are left out (single linkage).
    pub fn clusters(&self, threshold: f64) -> Vec<u32> {
        let mut sets: UnionFind<u32> = UnionFind::new(self.keys.len());
        for node in self.nodes() {
            let edges = self.edges.neighbors_slice(node).iter().zip(self.edges.edges_slice(node));
            for (neighbour, _) in edges.filter(|(_, weight)| **weight >= threshold) {
                sets.union(node, *neighbour);
            }
        }
        numbered(self.nodes().map(|node| sets.find_mut(node)))
    }

    /// Weighted PageRank of each node (Brin and Page 1998): the share of time of a random walker there, who follows an
    /// edge, chosen by weight, with probability `damping` (0.85 is usual), and else, or if there is none, jumps to any
    /// node. Sums to 1. Power iteration until the ranks change by less than 10⁻¹² altogether.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if the damping is not from 0 to less than 1.
    pub fn page_rank(&self, damping: f64) -> Result<Vec<f64>> {
        if !(0.0..1.0).contains(&damping) {
            let value = damping.to_string();
            return Err(Error::OutOfRange { what: "the damping", value, allowed: "from 0 to less than 1" });
        }
        let count = self.keys.len() as f64;
        let weights: Vec<f64> = self.degrees().into_iter().map(|degree| degree.weight).collect();
        let mut ranks = vec![count.recip(); self.keys.len()];
        for _ in 0..MOST_ITERATIONS {
            let lonely: f64 =
                ranks.iter().zip(&weights).filter(|(_, weight)| **weight == 0.0).map(|(rank, _)| rank).sum();
            let anywhere = (1.0 - damping + damping * lonely) / count;
            let per_weight: Vec<f64> = ranks.iter().zip(&weights).map(|(rank, weight)| rank / weight).collect();
            let next = self.nodes().map(|node| {
                let edges = self.edges.neighbors_slice(node).iter().zip(self.edges.edges_slice(node));
                anywhere + damping * edges.map(|(from, weight)| per_weight[*from as usize] * weight).sum::<f64>()
            });
            let next: Vec<f64> = next.collect();
            let change: f64 = ranks.iter().zip(&next).map(|(old, new)| (old - new).abs()).sum();
            ranks = next;
            if change < 1e-12 {
                break;
            }
        }
        Ok(ranks)
    }

    fn nodes(&self) -> std::ops::Range<u32> {
        0..self.keys.len() as u32
    }
}
