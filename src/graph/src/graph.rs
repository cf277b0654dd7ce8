//! Neuron graph: the trie.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::{Error, Result};

/// Greatest number of nodes of a graph.
pub const MOST_NODES: usize = 16 << 20;

/// Greatest number of tokens of a pattern, wildcards counted.
pub const DEEPEST: usize = 4096;

/// Greatest number of nodes of a graph with alternatives when it is [expanded](Graph::expanded): a few nodes with many
/// alternatives above each other stand for very many.
pub const MOST_EXPANDED: usize = 1 << 18;

/// A token of a vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token {
    /// Its id; `None` for a token read from a file that has texts only, until [`Graph::bind`].
    pub id: Option<u32>,
    /// Its text, spaces included; bytes that are no UTF-8 are replaced.
    pub text: Arc<str>,
}

/// The symbol of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Symbol {
    /// This token and no other.
    Token(Token),
    /// Any one token.
    Any,
    /// A gap of any tokens, from none up to this number. (Not in Neuron2Graph, whose gaps have fixed lengths.)
    Gap(u16),
    /// The start of the text, before its first token: the start anchor of the OpenAI variant.
    Start,
}

impl Symbol {
    /// Makes the symbol of a token.
    pub fn token(id: u32, text: impl Into<Arc<str>>) -> Self {
        Self::Token(Token { id: Some(id), text: text.into() })
    }
}

/// Kinds of node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A token on which the neuron fires, of depth 0.
    Activator,
    /// A token before the activator that matters.
    Context,
    /// A wildcard: one token, or a gap of several, that do not matter, or the start of the text.
    Wildcard,
}

impl Kind {
    /// Name of the kind in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Activator => "activator",
            Self::Context => "context",
            Self::Wildcard => "wildcard",
        }
    }
}

/// A node of the trie.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The node one token nearer to the activator; `None` at depth 0.
    pub parent: Option<u32>,
    /// The symbol that it matches.
    pub symbol: Symbol,
    /// Share of the activation that is lost when the token is masked: 1 − a(masked)/a(original).
    pub importance: f32,
    /// The neuron's own activation on the token, over the neuron's greatest.
    pub activation: f32,
    /// Predicted activation, over the neuron's greatest, if a pattern ends here.
    pub ends: Option<f32>,
    /// Number of patterns that it was learned from.
    pub support: u32,
}

/// A further token of a node. A node with alternatives matches its own token and each of theirs, with the same nodes
/// below it and the same prediction.
#[derive(Debug, Clone, PartialEq)]
pub struct Alternative {
    /// The node.
    pub node: u32,
    /// The token.
    pub token: Token,
    /// Importance, as in [`Node`].
    pub importance: f32,
    /// The neuron's own activation on the token, as in [`Node`].
    pub activation: f32,
    /// Number of patterns with the token that the node was learned from.
    pub support: u32,
}

/// A neuron graph: nodes in depth-first order, tokens and wildcards of the children of a node distinct.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    /// In the order of their nodes.
    alternatives: Vec<Alternative>,
}

impl Graph {
    /// Makes a graph of nodes in any order. They are put in depth-first order, in which siblings keep theirs.
    ///
    /// # Errors
    /// [`Error::Dangling`], [`Error::Cycle`], [`Error::Duplicate`], [`Error::TooLarge`], [`Error::NotFinite`].
    pub fn new(nodes: Vec<Node>) -> Result<Self> {
        Self::with_alternatives(nodes, Vec::new())
    }

    /// Makes a graph of nodes in any order, some of which have further tokens. Errors count alternatives after the nodes.
    ///
    /// ```
    /// use neuroql_graph::{Alternative, Graph, Matcher, Node, Semantics, Symbol, Token};
    ///
    /// let symbol = Symbol::token(7, " cat");
    /// let node = Node { parent: None, symbol, importance: 1.0, activation: 0.9, ends: Some(0.8), support: 2 };
    /// let token = Token { id: Some(9), text: " dog".into() };
    /// let dog = Alternative { node: 0, token, importance: 1.0, activation: 0.7, support: 1 };
    /// let pets = Graph::with_alternatives(vec![node], vec![dog])?;
    /// let mut predicted = Vec::new();
    /// Matcher::of(&pets, Semantics::Longest)?.simulate(&[9, 8, 7], &mut predicted);
    /// assert_eq!(predicted, [0.8, 0.0, 0.8]);
    /// # Ok::<(), neuroql_graph::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`new`](Self::new); [`Error::Malformed`] for alternatives of a wildcard; [`Error::TooLarge`] if the graph
    /// without alternatives has more than [`MOST_EXPANDED`] nodes.
    pub fn with_alternatives(nodes: Vec<Node>, alternatives: Vec<Alternative>) -> Result<Self> {
        let too_large = |what, count, limit| Error::TooLarge { what, count, limit };
        if nodes.len().max(alternatives.len()) > MOST_NODES {
            return Err(too_large("nodes", nodes.len().max(alternatives.len()), MOST_NODES));
        }
        let mut children: Vec<Vec<u32>> = vec![Vec::new(); nodes.len() + 1];
        let mut seen: HashMap<(Option<u32>, &Symbol), usize> = HashMap::with_capacity(nodes.len());
        for (i, node) in nodes.iter().enumerate() {
            check(i, node.importance, node.activation, node.ends)?;
            let parent = node.parent.map_or(nodes.len(), |parent| parent as usize);
            if node.parent.is_some() && parent >= nodes.len() {
                return Err(Error::Dangling { node: i, parent: parent as i64, nodes: nodes.len() });
            }
            if let Some(first) = seen.insert((node.parent, &node.symbol), i) {
                return Err(Error::Duplicate { first, second: i });
            }
            children[parent].push(i as u32);
        }
        let symbols: Vec<Symbol> = alternatives.iter().map(|other| Symbol::Token(other.token.clone())).collect();
        for (i, (other, symbol)) in (nodes.len()..).zip(alternatives.iter().zip(&symbols)) {
            check(i, other.importance, other.activation, None)?;
            let Some(node) = nodes.get(other.node as usize) else {
                return Err(Error::Dangling { node: i, parent: other.node.into(), nodes: nodes.len() });
            };
            if !matches!(node.symbol, Symbol::Token(_)) {
                let reason = format!("node {} is a wildcard and has another token", other.node);
                return Err(Error::Malformed { format: "graph", reason });
            }
            if let Some(first) = seen.insert((node.parent, symbol), i) {
                return Err(Error::Duplicate { first, second: i });
            }
        }
        drop(seen);
        let mut order = Vec::with_capacity(nodes.len());
        let mut stack: Vec<(u32, Option<u32>, usize)> =
            children[nodes.len()].iter().rev().map(|root| (*root, None, 0)).collect();
        let mut depth_reached = 0;
        while let Some((old, parent, depth)) = stack.pop() {
            depth_reached = depth_reached.max(depth);
            let new = order.len() as u32;
            order.push((old, parent));
            stack.extend(children[old as usize].iter().rev().map(|child| (*child, Some(new), depth + 1)));
        }
        if depth_reached >= DEEPEST {
            return Err(too_large("patterns of length", depth_reached + 1, DEEPEST));
        }
        if order.len() < nodes.len() {
            let mut reached = vec![false; nodes.len()];
            order.iter().for_each(|(old, _)| reached[*old as usize] = true);
            return Err(Error::Cycle(reached.iter().position(|reached| !reached).unwrap_or_default()));
        }
        let mut places = vec![0; nodes.len()];
        (0..).zip(&order).for_each(|(new, (old, _))| places[*old as usize] = new);
        let moved = |other: Alternative| Alternative { node: places[other.node as usize], ..other };
        let mut alternatives: Vec<Alternative> = alternatives.into_iter().map(moved).collect();
        alternatives.sort_by_key(|other| other.node);
        let mut nodes: Vec<Option<Node>> = nodes.into_iter().map(Some).collect();
        let take = |(old, parent): (u32, Option<u32>)| nodes[old as usize].take().map(|node| Node { parent, ..node });
        let graph = Self { nodes: order.into_iter().filter_map(take).collect(), alternatives };
        match graph.expanded_len() {
            count if count > MOST_EXPANDED && !graph.alternatives.is_empty() => {
                Err(too_large("nodes, when each token has its own,", count, MOST_EXPANDED))
            }
            _ => Ok(graph),
        }
    }

    /// The nodes, depth first: each after its parent, and before its next sibling all nodes below it.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Further tokens of nodes, in the order of these.
    pub fn alternatives(&self) -> &[Alternative] {
        &self.alternatives
    }

    /// Further tokens of a node.
    pub fn alternatives_of(&self, node: u32) -> &[Alternative] {
        let first = self.alternatives.partition_point(|other| other.node < node);
        let count = self.alternatives[first..].partition_point(|other| other.node == node);
        &self.alternatives[first..first + count]
    }

    /// The graph with a node for each token, which matches the same and predicts the same: nodes with alternatives and
    /// all below them are repeated. Borrowed if there are no alternatives.
    pub fn expanded(&self) -> Cow<'_, Self> {
        match self.alternatives.is_empty() {
            true => Cow::Borrowed(self),
            false => Cow::Owned(self.expand().0),
        }
    }

    /// Makes the [expanded](Self::expanded) graph, with the node that each of its nodes comes from.
    pub(crate) fn expand(&self) -> (Self, Vec<u32>) {
        let top = self.nodes.len();
        let mut children: Vec<Vec<u32>> = vec![Vec::new(); top + 1];
        for (node, i) in self.nodes.iter().zip(0..) {
            children[node.parent.map_or(top, |parent| parent as usize)].push(i);
        }
        let mut nodes: Vec<Node> = Vec::with_capacity(self.expanded_len());
        let mut origins: Vec<u32> = Vec::with_capacity(self.expanded_len());
        // Nodes to write, the next one last, with the new parent and the token, if it is not the node's own.
        let mut waiting: Vec<(u32, Option<u32>, Option<&Alternative>)> = Vec::new();
        let push = |waiting: &mut Vec<_>, above: usize, parent: Option<u32>| {
            for child in children[above].iter().rev() {
                waiting.extend(self.alternatives_of(*child).iter().rev().map(|other| (*child, parent, Some(other))));
                waiting.push((*child, parent, None));
            }
        };
        push(&mut waiting, top, None);
        while let Some((old, parent, other)) = waiting.pop() {
            let node = &self.nodes[old as usize];
            push(&mut waiting, old as usize, Some(nodes.len() as u32));
            origins.push(old);
            nodes.push(match other {
                None => Node { parent, ..node.clone() },
                Some(Alternative { token, importance, activation, support, .. }) => Node {
                    parent,
                    symbol: Symbol::Token(token.clone()),
                    importance: *importance,
                    activation: *activation,
                    ends: node.ends,
                    support: *support,
                },
            });
        }
        (Self { nodes, alternatives: Vec::new() }, origins)
    }

    /// Returns true if the graph has no node: the neuron fires on nothing that is known.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Number of complete patterns.
    pub fn patterns(&self) -> usize {
        self.nodes.iter().filter(|node| node.ends.is_some()).count()
    }

    /// Depth of each node; activators have 0.
    pub fn depths(&self) -> Vec<u32> {
        let mut depths: Vec<u32> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            depths.push(node.parent.map_or(0, |parent| depths[parent as usize] + 1));
        }
        depths
    }

    /// Kind of a node.
    pub fn kind(&self, node: &Node) -> Kind {
        match (&node.symbol, node.parent) {
            (Symbol::Token(_), None) => Kind::Activator,
            (Symbol::Token(_), Some(_)) => Kind::Context,
            (Symbol::Any | Symbol::Gap(_) | Symbol::Start, _) => Kind::Wildcard,
        }
    }

    /// Gives tokens the ids that a vocabulary has for their texts; those it does not know lose theirs and match nothing.
    pub fn bind(&mut self, id: impl Fn(&str) -> Option<u32>) {
        for token in self.tokens_mut() {
            token.id = id(&token.text);
        }
    }

    /// Tokens of nodes, then those of alternatives.
    fn tokens_mut(&mut self) -> impl Iterator<Item = &mut Token> {
        let of_nodes = self.nodes.iter_mut().filter_map(|node| match &mut node.symbol {
            Symbol::Token(token) => Some(token),
            Symbol::Any | Symbol::Gap(_) | Symbol::Start => None,
        });
        of_nodes.chain(self.alternatives.iter_mut().map(|other| &mut other.token))
    }

    /// Number of nodes of the [expanded](Self::expanded) graph.
    fn expanded_len(&self) -> usize {
        let mut below = vec![0_usize; self.nodes.len() + 1];
        for (i, node) in self.nodes.iter().enumerate().rev() {
            let tokens = 1 + self.alternatives_of(i as u32).len();
            let own = below[i].saturating_add(1).saturating_mul(tokens);
            let above = &mut below[node.parent.map_or(self.nodes.len(), |parent| parent as usize)];
            *above = above.saturating_add(own);
        }
        below[self.nodes.len()]
    }
}

/// Checks that the numbers of a node or an alternative are finite.
fn check(node: usize, importance: f32, activation: f32, ends: Option<f32>) -> Result<()> {
    for (what, value) in [("importance", Some(importance)), ("activation", Some(activation)), ("ends", ends)] {
        if let Some(value) = value.filter(|value| !value.is_finite()) {
            return Err(Error::NotFinite { node, what, value: value.to_string() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(parent: Option<u32>, id: u32) -> Node {
        let symbol = Symbol::token(id, id.to_string());
        Node { parent, symbol, importance: 1.0, activation: 1.0, ends: None, support: 1 }
    }

    #[test]
    fn nodes_come_depth_first() {
        let graph = Graph::new(vec![node(Some(2), 1), node(None, 2), node(None, 3), node(Some(0), 4)]).unwrap();
        let ids: Vec<_> = graph.nodes().iter().map(|node| node.symbol.clone()).collect();
        assert_eq!(ids, [2, 3, 1, 4].map(|id: u32| Symbol::token(id, id.to_string())));
        assert_eq!(graph.depths(), [0, 0, 1, 2]);
    }

    fn alternative(node: u32, id: u32) -> Alternative {
        let token = Token { id: Some(id), text: id.to_string().into() };
        Alternative { node, token, importance: 0.5, activation: 0.25, support: 3 }
    }

    #[test]
    fn alternatives_stand_for_nodes_of_their_own() {
        // (1 | 5) before (2 | 6 | 7), and 3.
        let nodes = vec![node(None, 3), node(None, 2), node(Some(1), 1)];
        let others = vec![alternative(2, 5), alternative(1, 6), alternative(1, 7)];
        let graph = Graph::with_alternatives(nodes, others).unwrap();
        assert_eq!(graph.alternatives().iter().map(|other| other.node).collect::<Vec<_>>(), [1, 1, 2]);
        let expanded = graph.expanded();
        let paths: Vec<(Option<u32>, Symbol, u32)> =
            expanded.nodes().iter().map(|node| (node.parent, node.symbol.clone(), node.support)).collect();
        let path = |parent, id: u32, support| (parent, Symbol::token(id, id.to_string()), support);
        let wanted = [
            path(None, 3, 1),
            path(None, 2, 1),
            path(Some(1), 1, 1),
            path(Some(1), 5, 3),
            path(None, 6, 3),
            path(Some(4), 1, 1),
            path(Some(4), 5, 3),
            path(None, 7, 3),
            path(Some(7), 1, 1),
            path(Some(7), 5, 3),
        ];
        assert_eq!(paths, wanted);
        assert_eq!((graph.expanded_len(), expanded.expanded_len()), (wanted.len(), wanted.len()));
        assert!(matches!(expanded.expanded(), Cow::Borrowed(_)));
    }

    #[test]
    fn alternatives_are_other_tokens() {
        let two = || vec![node(None, 1), node(None, 2)];
        let refused = |others| Graph::with_alternatives(two(), others).unwrap_err();
        assert_eq!(refused(vec![alternative(0, 2)]), Error::Duplicate { first: 1, second: 2 });
        assert_eq!(refused(vec![alternative(0, 3), alternative(1, 3)]), Error::Duplicate { first: 2, second: 3 });
        assert_eq!(refused(vec![alternative(2, 3)]), Error::Dangling { node: 2, parent: 2, nodes: 2 });
        let any = Node { symbol: Symbol::Any, ..node(None, 0) };
        assert!(matches!(Graph::with_alternatives(vec![any], vec![alternative(0, 3)]), Err(Error::Malformed { .. })));
        // A hundred tokens above each other four times are a hundred million nodes.
        let chain: Vec<Node> = (0..4u32).map(|i| node(i.checked_sub(1), 0)).collect();
        let others = (0..4).flat_map(|at| (1..100).map(move |id| alternative(at, id))).collect();
        assert!(matches!(Graph::with_alternatives(chain, others), Err(Error::TooLarge { .. })));
    }

    #[test]
    fn what_is_no_trie_is_refused() {
        assert_eq!(Graph::new(vec![node(Some(1), 1), node(Some(0), 2)]), Err(Error::Cycle(0)));
        assert_eq!(Graph::new(vec![node(Some(7), 1)]), Err(Error::Dangling { node: 0, parent: 7, nodes: 1 }));
        assert_eq!(Graph::new(vec![node(None, 1), node(None, 1)]), Err(Error::Duplicate { first: 0, second: 1 }));
        let nan = Node { importance: f32::NAN, ..node(None, 1) };
        assert!(matches!(Graph::new(vec![nan]), Err(Error::NotFinite { .. })));
        let chain = (0..5000u32).map(|i| node(i.checked_sub(1), i)).collect();
        assert!(matches!(Graph::new(chain), Err(Error::TooLarge { .. })));
        assert!(Graph::new(Vec::new()).unwrap().is_empty());
    }
}
