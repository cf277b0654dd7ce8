//! Components of a graph, which share no context: a neuron with several is polysemantic.

use std::collections::HashMap;

use petgraph::unionfind::UnionFind;

use crate::{Graph, Symbol, Token};

/// Component of each node, from 0 in the order of their first activators. Activators are in one component if the same
/// token is context of both, wherever it is in their patterns, or if a third is in one with both; one without context
/// tokens is alone, and one with alternatives is one. Nodes below an activator are in its component.
pub fn components(graph: &Graph) -> Vec<u32> {
    let activators = activators(graph);
    let mut joined = UnionFind::new(activators.len());
    let mut first_with: HashMap<&Token, u32> = HashMap::new();
    for ((node, i), activator) in graph.nodes().iter().zip(0..).zip(&activators) {
        if let (Symbol::Token(token), Some(_)) = (&node.symbol, node.parent) {
            for token in std::iter::once(token).chain(graph.alternatives_of(i).iter().map(|other| &other.token)) {
                let first = *first_with.entry(token).or_insert(*activator);
                joined.union(first, *activator);
            }
        }
    }
    numbered(activators.iter().map(|activator| joined.find_mut(*activator)))
}

/// Numbers sets from 0 in the order in which their representatives first come.
pub(crate) fn numbered(sets: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut numbers: HashMap<u32, u32> = HashMap::new();
    let number = |set| {
        let next = numbers.len() as u32;
        *numbers.entry(set).or_insert(next)
    };
    sets.map(number).collect()
}

/// Number of components of a graph.
pub fn component_count(graph: &Graph) -> u32 {
    components(graph).into_iter().max().map_or(0, |last| last + 1)
}

/// Activator of each node: the node of depth 0 above it.
fn activators(graph: &Graph) -> Vec<u32> {
    let mut activators: Vec<u32> = Vec::with_capacity(graph.nodes().len());
    for (i, node) in (0..).zip(graph.nodes()) {
        activators.push(node.parent.map_or(i, |parent| activators[parent as usize]));
    }
    activators
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Alternative, Node};

    #[test]
    fn shared_context_joins() {
        // Activators a to f with their context; x joins a and c, y joins c and e.
        let graph = |patterns: &[&str]| {
            let mut nodes: Vec<Node> = Vec::new();
            for pattern in patterns {
                for (depth, letter) in pattern.chars().enumerate() {
                    let symbol = match letter {
                        '*' => Symbol::Any,
                        letter => Symbol::token(letter as u32, letter.to_string()),
                    };
                    let parent = (depth > 0).then(|| nodes.len() as u32 - 1);
                    nodes.push(Node { parent, symbol, importance: 1.0, activation: 1.0, ends: None, support: 1 });
                }
            }
            Graph::new(nodes).unwrap()
        };
        assert_eq!(
            components(&graph(&["ax", "b", "cy*x", "d*z", "e*y", "f*"])),
            [0, 0, 1, 0, 0, 0, 0, 2, 2, 2, 0, 0, 0, 3, 3]
        );
        assert_eq!(component_count(&graph(&["ax", "b", "cy*x", "d*z", "e*y", "f*"])), 4);
        // An activator is not context.
        assert_eq!(component_count(&graph(&["ab", "b"])), 2);
        assert_eq!(component_count(&graph(&[])), 0);
    }

    #[test]
    fn further_tokens_join_too() {
        let node = |parent, id: u32| {
            let symbol = Symbol::token(id, id.to_string());
            Node { parent, symbol, importance: 1.0, activation: 1.0, ends: None, support: 1 }
        };
        let other = |node, id: u32| {
            let token = Token { id: Some(id), text: id.to_string().into() };
            Alternative { node, token, importance: 1.0, activation: 1.0, support: 1 }
        };
        // 1 or 2 alone; 3 after 5 or 6; 4 after 6.
        let nodes = vec![node(None, 1), node(None, 3), node(Some(1), 5), node(None, 4), node(Some(3), 6)];
        let graph = Graph::with_alternatives(nodes, vec![other(0, 2), other(2, 6)]).unwrap();
        assert_eq!(components(&graph), [0, 1, 1, 1, 1]);
    }
}
