//! Merging: siblings below which the same patterns follow become one node with [alternatives](Alternative).

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::{Alternative, Graph, Node, Result, Symbol};

/// Ranges of predictions, of which merged nodes have one: of 0.5 or more and less than 0.75, and so on.
const RANGE: f32 = 0.25;

/// Number of the range of a prediction. 1, the greatest activation, is in the range before it.
pub(crate) fn range(ends: f32) -> i32 {
    let range = (ends / RANGE).floor() as i32;
    if ends == 1.0 { range - 1 } else { range }
}

/// Merges siblings that are tokens, whose patterns end in the same range of predictions, and below which the same nodes
/// follow. The merged node predicts their mean, weighted by support; of a token that several nodes have, the greatest
/// numbers and the sum of the supports count. Its own token is the one of the greatest support.
///
/// # Errors
/// None: the result expands to no more nodes than the graph. (That of [`Graph::with_alternatives`] is passed on.)
pub(crate) fn merged(graph: &Graph) -> Result<Graph> {
    let graph = graph.expanded();
    let siblings = Siblings::new(&graph);
    let (mut nodes, mut alternatives) = (Vec::new(), Vec::new());
    let top = graph.nodes().len();
    // Nodes that become one and their new parent, the next one last.
    let mut waiting: Vec<(Vec<u32>, Option<u32>)> = Vec::new();
    let push = |waiting: &mut Vec<_>, above: &[u32], parent| {
        waiting.extend(siblings.groups(above).into_iter().rev().map(|group| (group, parent)));
    };
    push(&mut waiting, &[top as u32], None);
    while let Some((group, parent)) = waiting.pop() {
        let new = nodes.len() as u32;
        let mut members = siblings.members(&group);
        let first = members.remove(0);
        nodes.push(Node { parent, ends: siblings.mean_end(&group), ..first });
        alternatives.extend(members.into_iter().filter_map(
            |Node { symbol, importance, activation, support, .. }| {
                let Symbol::Token(token) = symbol else { return None };
                Some(Alternative { node: new, token, importance, activation, support })
            },
        ));
        push(&mut waiting, &group, Some(new));
    }
    Graph::with_alternatives(nodes, alternatives)
}

/// Range of the prediction of a node, and the symbols and classes of its children, sorted.
type Continuation = (Option<i32>, Vec<(u32, u32)>);

/// The nodes of a graph by what follows them.
struct Siblings<'a> {
    nodes: &'a [Node],
    /// Children of each node; those of none come last.
    children: Vec<Vec<u32>>,
    /// Number of each node's symbol.
    symbols: Vec<u32>,
    /// Class of each node: nodes of one class end in the same range, and the same symbols of the same classes follow.
    classes: Vec<u32>,
}

impl<'a> Siblings<'a> {
    fn new(graph: &'a Graph) -> Self {
        let nodes = graph.nodes();
        let mut children: Vec<Vec<u32>> = vec![Vec::new(); nodes.len() + 1];
        let mut known: HashMap<&Symbol, u32> = HashMap::new();
        let mut symbols = Vec::with_capacity(nodes.len());
        for (node, i) in nodes.iter().zip(0..) {
            children[node.parent.map_or(nodes.len(), |parent| parent as usize)].push(i);
            let next = known.len() as u32;
            symbols.push(*known.entry(&node.symbol).or_insert(next));
        }
        let mut numbers: HashMap<Continuation, u32> = HashMap::new();
        let mut classes = vec![0; nodes.len()];
        for i in (0..nodes.len()).rev() {
            let mut below: Vec<(u32, u32)> =
                children[i].iter().map(|child| (symbols[*child as usize], classes[*child as usize])).collect();
            below.sort_unstable();
            let next = numbers.len() as u32;
            classes[i] = *numbers.entry((nodes[i].ends.map(range), below)).or_insert(next);
        }
        Self { nodes, children, symbols, classes }
    }

    /// The children of some nodes, in groups of those that become one, in the order of their first.
    fn groups(&self, above: &[u32]) -> Vec<Vec<u32>> {
        let mut places: HashMap<(u32, Option<u32>), usize> = HashMap::new();
        let mut groups: Vec<Vec<u32>> = Vec::new();
        for child in above.iter().flat_map(|node| &self.children[*node as usize]) {
            let at = *child as usize;
            let wildcard = (!matches!(self.nodes[at].symbol, Symbol::Token(_))).then(|| self.symbols[at]);
            let place = *places.entry((self.classes[at], wildcard)).or_insert(groups.len());
            if place == groups.len() {
                groups.push(Vec::new());
            }
            groups[place].push(*child);
        }
        groups
    }

    /// One node for each symbol of a group, that of the greatest support first.
    fn members(&self, group: &[u32]) -> Vec<Node> {
        let mut places: HashMap<u32, usize> = HashMap::new();
        let mut members: Vec<Node> = Vec::new();
        for at in group.iter().map(|node| *node as usize) {
            let node = &self.nodes[at];
            let place = *places.entry(self.symbols[at]).or_insert(members.len());
            match members.get_mut(place) {
                Some(known) => {
                    known.importance = known.importance.max(node.importance);
                    known.activation = known.activation.max(node.activation);
                    known.support = known.support.saturating_add(node.support);
                }
                None => members.push(node.clone()),
            }
        }
        members.sort_by_key(|node| Reverse(node.support));
        members
    }

    /// Mean prediction of a group where it ends, weighted by support; `None` if no pattern ends there.
    fn mean_end(&self, group: &[u32]) -> Option<f32> {
        let (mut sum, mut weights) = (0.0, 0.0);
        for node in group.iter().map(|node| &self.nodes[*node as usize]) {
            let weight = f64::from(node.support.max(1));
            sum += weight * f64::from(node.ends?);
            weights += weight;
        }
        Some((sum / weights) as f32)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::{Matcher, Semantics};

    fn node(parent: Option<u32>, id: u32, ends: Option<f32>, support: u32) -> Node {
        Node { parent, symbol: Symbol::token(id, id.to_string()), importance: 1.0, activation: 1.0, ends, support }
    }

    #[test]
    fn what_the_same_patterns_follow_is_merged() {
        // 2 before 1 and before 3, 4 before 3, 5 alone, 6 as weak as nothing else.
        let graph = Graph::new(vec![
            node(None, 1, None, 1),
            node(Some(0), 2, Some(0.5), 1),
            node(Some(0), 4, Some(0.6), 3),
            node(None, 3, None, 2),
            node(Some(3), 4, Some(0.7), 1),
            node(Some(3), 2, Some(0.7), 1),
            node(None, 5, Some(0.9), 1),
            node(None, 6, Some(0.3), 1),
            node(None, 7, Some(1.0), 1),
        ]);
        let small = merged(&graph.unwrap()).unwrap();
        let id = |symbol: &Symbol| if let Symbol::Token(token) = symbol { token.id.unwrap() } else { 0 };
        let found: Vec<_> = small.nodes().iter().map(|node| (node.parent, id(&node.symbol), node.support)).collect();
        assert_eq!(found, [(None, 3, 2), (Some(0), 4, 4), (None, 5, 1), (None, 6, 1)]);
        let others: Vec<_> =
            small.alternatives().iter().map(|other| (other.node, other.token.id.unwrap(), other.support)).collect();
        assert_eq!(others, [(0, 1, 1), (1, 2, 2), (2, 7, 1)]);
        let ends: Vec<_> = small.nodes().iter().map(|node| node.ends).collect();
        // (0.5 + 3 · 0.6 + 0.7 + 0.7) / 6, and (0.9 + 1) / 2.
        let wanted = [None, Some(3.7 / 6.0), Some(0.95), Some(0.3)];
        let close = |(a, b): (&Option<f32>, &Option<f32>)| (a.unwrap_or(9.0) - b.unwrap_or(9.0)).abs() < 1e-6;
        assert!(ends.iter().zip(&wanted).all(close), "{ends:?}");
        assert_eq!(merged(&small).unwrap().nodes().len(), 4);
        assert!(merged(&Graph::default()).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn merged_graphs_match_the_same(
            symbols in vec((0..5u32, any::<prop::sample::Index>(), 0..4u32, 1..5u32), 1..40),
            text in vec(0..5u32, 1..40),
        ) {
            let mut nodes: Vec<Node> = Vec::new();
            for (id, at, ends, support) in symbols {
                let parent = (!nodes.is_empty() && id != 0).then(|| at.index(nodes.len()) as u32);
                let ends = (ends > 0).then_some(0.3 * ends as f32);
                let symbol = if id == 4 { Symbol::Any } else { Symbol::token(id, id.to_string()) };
                let new = Node { symbol, ..node(parent, id, ends, support) };
                if !nodes.iter().any(|node| (node.parent, &node.symbol) == (new.parent, &new.symbol)) {
                    nodes.push(new);
                }
            }
            let graph = Graph::new(nodes).unwrap();
            let small = merged(&graph).unwrap();
            prop_assert!(small.nodes().len() <= graph.nodes().len());
            prop_assert_eq!(small.expanded().nodes().len(), graph.nodes().len());
            let predicted = |graph: &Graph| {
                let mut out = Vec::new();
                Matcher::of(graph, Semantics::Longest).unwrap().simulate(&text, &mut out);
                out
            };
            for (one, other) in predicted(&graph).into_iter().zip(predicted(&small)) {
                prop_assert_eq!(one > 0.0, other > 0.0);
                prop_assert!((one - other).abs() <= RANGE, "{} {}", one, other);
            }
        }
    }
}
