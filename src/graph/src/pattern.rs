//! Patterns: what a trie is made of and falls apart into.

use crate::{Graph, Node, Symbol};

/// One step of a pattern.
#[derive(Debug, Clone, PartialEq)]
pub struct Element {
    /// The thing it stands for.
    pub symbol: Symbol,
    /// Share of the activation that is lost when the token is masked: 1 − a(masked)/a(original).
    pub importance: f32,
    /// The neuron's own activation on the token, over the neuron's greatest.
    pub activation: f32,
}

/// A way in which a neuron fires: the activator first, then its context from right to left.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    /// Its steps; a pattern without any is none.
    pub elements: Vec<Element>,
    /// Activation predicted where it matches, over the neuron's greatest.
    pub ends: f32,
}

impl From<&Node> for Element {
    fn from(node: &Node) -> Self {
        Self { symbol: node.symbol.clone(), importance: node.importance, activation: node.activation }
    }
}

impl Graph {
    /// Nodes of each pattern, the activator first and the one where the pattern ends last; in the graph's order.
    pub fn paths(&self) -> impl Iterator<Item = Vec<u32>> + '_ {
        let ends = self.nodes().iter().enumerate().filter(|(_, node)| node.ends.is_some());
        ends.map(|(end, _)| {
            let up = std::iter::successors(Some(end as u32), |node| self.nodes()[*node as usize].parent);
            let mut path: Vec<u32> = up.collect();
            path.reverse();
            path
        })
    }

    /// The patterns in it, in the graph's order. The trie of them is the graph, save for support and for nodes below
    /// which no pattern ends.
    pub fn to_patterns(&self) -> impl Iterator<Item = Pattern> + '_ {
        self.paths().map(|path| {
            let ends = path.last().and_then(|end| self.nodes()[*end as usize].ends).unwrap_or_default();
            Pattern { elements: path.iter().map(|node| (&self.nodes()[*node as usize]).into()).collect(), ends }
        })
    }
}
