//! Neuron graph: the trie.

use std::collections::HashMap;
use std::sync::Arc;

use crate::{Error, Result};

/// Greatest number of nodes of a graph.
pub const MOST_NODES: usize = 16 << 20;

/// Greatest number of tokens of a pattern, wildcards counted.
pub const DEEPEST: usize = 4096;

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

/// A neuron graph: nodes in depth-first order, children of a node distinct.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Graph {
    nodes: Vec<Node>,
}

impl Graph {
    /// Makes a graph of nodes in any order. They are put in depth-first order, in which siblings keep theirs.
    ///
    /// # Errors
    /// [`Error::Dangling`], [`Error::Cycle`], [`Error::Duplicate`], [`Error::TooLarge`], [`Error::NotFinite`].
    pub fn new(nodes: Vec<Node>) -> Result<Self> {
        let too_large = |what, count, limit| Error::TooLarge { what, count, limit };
        if nodes.len() > MOST_NODES {
            return Err(too_large("nodes", nodes.len(), MOST_NODES));
        }
        let mut children: Vec<Vec<u32>> = vec![Vec::new(); nodes.len() + 1];
        let mut seen: HashMap<(Option<u32>, &Symbol), usize> = HashMap::with_capacity(nodes.len());
        for (i, node) in nodes.iter().enumerate() {
            node.check(i)?;
            let parent = node.parent.map_or(nodes.len(), |parent| parent as usize);
            if node.parent.is_some() && parent >= nodes.len() {
                return Err(Error::Dangling { node: i, parent: parent as i64, nodes: nodes.len() });
            }
            if let Some(first) = seen.insert((node.parent, &node.symbol), i) {
                return Err(Error::Duplicate { first, second: i });
            }
            children[parent].push(i as u32);
        }
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
        drop(seen);
        let mut nodes: Vec<Option<Node>> = nodes.into_iter().map(Some).collect();
        let take = |(old, parent): (u32, Option<u32>)| nodes[old as usize].take().map(|node| Node { parent, ..node });
        Ok(Self { nodes: order.into_iter().filter_map(take).collect() })
    }

    /// The nodes, depth first: each after its parent, and before its next sibling all nodes below it.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
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
        for node in &mut self.nodes {
            if let Symbol::Token(token) = &mut node.symbol {
                token.id = id(&token.text);
            }
        }
    }
}

impl Node {
    fn check(&self, node: usize) -> Result<()> {
        let numbers =
            [("importance", Some(self.importance)), ("activation", Some(self.activation)), ("ends", self.ends)];
        for (what, value) in numbers {
            if let Some(value) = value.filter(|value| !value.is_finite()) {
                return Err(Error::NotFinite { node, what, value: value.to_string() });
            }
        }
        Ok(())
    }
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
