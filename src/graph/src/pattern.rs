//! Patterns, which a trie is made of.

use crate::{Graph, Node, Symbol};

/// An element of a pattern.
#[derive(Debug, Clone, PartialEq)]
pub struct Element {
    /// The symbol that it matches.
    pub symbol: Symbol,
    /// Share of the activation that is lost when the token is masked: 1 − a(masked)/a(original).
    pub importance: f32,
    /// The neuron's own activation on the token, over the neuron's greatest.
    pub activation: f32,
}

/// A pattern on which a neuron fires: the activator first, then its context from right to left.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    /// Its elements, at least one.
    pub elements: Vec<Element>,
    /// Predicted activation where it matches, over the neuron's greatest.
    pub ends: f32,
}

impl From<&Node> for Element {
    fn from(node: &Node) -> Self {
        Self { symbol: node.symbol.clone(), importance: node.importance, activation: node.activation }
    }
}

impl Graph {
    /// Path of each pattern: its nodes from the activator to its end. Patterns are in the graph's order.
    pub fn paths(&self) -> impl Iterator<Item = Vec<u32>> + '_ {
        let ends = self.nodes().iter().enumerate().filter(|(_, node)| node.ends.is_some());
        ends.map(|(end, _)| {
            let up = std::iter::successors(Some(end as u32), |node| self.nodes()[*node as usize].parent);
            let mut path: Vec<u32> = up.collect();
            path.reverse();
            path
        })
    }

    /// The patterns, in the graph's order, without the alternatives that nodes have: those of all tokens are the patterns
    /// of the [expanded](Self::expanded) graph. A trie built of them is the graph, save for support and for nodes below
    /// which no pattern ends.
    pub fn to_patterns(&self) -> impl Iterator<Item = Pattern> + '_ {
        self.paths().map(|path| {
            let ends = path.last().and_then(|end| self.nodes()[*end as usize].ends).unwrap_or_default();
            Pattern { elements: path.iter().map(|node| (&self.nodes()[*node as usize]).into()).collect(), ends }
        })
    }
}
