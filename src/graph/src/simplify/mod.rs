//! Simplifies a graph for drawing: small enough to be read, and with no pattern that the trie does not have.
//!
//! Neuron2Graph draws one node for each token of a depth, whatever is below it, and so shows patterns that it never
//! learned. Here nodes become one only where the same contexts follow both of them, as in a minimal automaton, so each
//! path from an activator to a complete node is a pattern of the trie. Wildcards take no room: the number of skipped
//! tokens is noted at the token after them.

mod branches;
mod lattice;

use std::borrow::Cow;
use std::collections::HashMap;

use self::branches::Branches;
use self::lattice::{MergeRule, lattice};
use crate::{Graph, Symbol, Token};

/// Greatest number of drawn tokens of a pattern, wildcards not counted; tokens farther from the activator are drawn as
/// [`DisplayKind::Rest`].
const LONGEST: usize = 24;

/// A graph as it is drawn.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Display {
    /// The nodes: each after those that it leads to.
    pub nodes: Vec<DisplayNode>,
    /// Number of complete patterns of the graph that are not drawn to their end.
    pub hidden: usize,
}

/// A drawn node.
#[derive(Debug, Clone, PartialEq)]
pub struct DisplayNode {
    /// Kind of the nodes that it stands for.
    pub kind: DisplayKind,
    /// Its tokens, any of which continues the same patterns; none unless it is an activator or a context.
    pub tokens: Vec<DisplayToken>,
    /// Number of tokens of the text between it and the nodes that it leads to.
    pub skip: Skip,
    /// Column: the number of nodes between it and the end of the text, 0 for activators.
    pub depth: u32,
    /// True if a pattern ends at it.
    pub complete: bool,
    /// Numbers of all of its tokens together.
    pub weight: Weight,
    /// Nodes that it leads to, one column nearer to the activator: places in [`Display::nodes`], ascending.
    pub towards: Vec<u32>,
}

/// Kind of a drawn node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DisplayKind {
    /// Tokens on which the neuron fires.
    Activator,
    /// Tokens before the activator that matter.
    Context,
    /// A number of tokens that do not matter, with no token before them that does.
    Wildcard(Skip),
    /// The start of the text.
    Start,
    /// The rest of patterns that are too long to be drawn.
    Rest,
}

/// A token of a drawn node.
#[derive(Debug, Clone, PartialEq)]
pub struct DisplayToken {
    /// The token.
    pub token: Token,
    /// Numbers of the token.
    pub weight: Weight,
}

/// The numbers of all nodes of the graph that are drawn as one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weight {
    /// The greatest importance.
    pub importance: f32,
    /// The greatest activation, over the neuron's greatest.
    pub activation: f32,
    /// The least and the greatest activation predicted where a pattern ends, over the neuron's greatest.
    pub ends: Option<(f32, f32)>,
    /// Number of patterns that they were learned from.
    pub support: u32,
}

impl Weight {
    fn and(self, other: Self) -> Self {
        Self {
            importance: self.importance.max(other.importance),
            activation: self.activation.max(other.activation),
            ends: match (self.ends, other.ends) {
                (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
                (a, b) => a.or(b),
            },
            support: self.support.saturating_add(other.support),
        }
    }
}

/// Number of skipped tokens, as a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Skip {
    /// Least number.
    pub least: u32,
    /// Greatest number.
    pub most: u32,
}

impl Skip {
    fn and(self, other: Self) -> Self {
        // Patterns have at most 4,096 parts that skip at most 65,535 tokens each.
        Self { least: self.least + other.least, most: self.most + other.most }
    }

    /// Returns true if no token is skipped.
    pub fn is_none(self) -> bool {
        self.most == 0
    }
}

/// Simplifies a graph to at most `max_nodes` drawn nodes (but at least one pattern).
///
/// The result is the first of these with at most an eighth of that, so that drawings of common graphs are taken in
/// at a glance:
/// 1. all patterns, with nodes of the same tokens, gap and contexts as one;
/// 2. also siblings as one, which lead to the same node and which the same contexts follow, if they differ in case or
///    space only;
/// 3. also other siblings of about the same strength: activation of activators, importance of contexts.
///
/// Otherwise siblings of any strength are one, and all patterns are drawn if they fit, else as many as fit: those that
/// predict the most first, then those learned from most, then the graph's order.
///
/// ```
/// use neuroql_graph::{Graph, Node, Symbol, simplify};
///
/// let node = |parent, token: &str, ends| {
///     Node { parent, symbol: Symbol::token(1, token), importance: 1.0, activation: 1.0, ends, support: 1 }
/// };
/// // "import numpy" and "import torch".
/// let graph = Graph::new(vec![
///     node(None, " numpy", None),
///     node(Some(0), "import", Some(0.9)),
///     node(None, " torch", None),
///     node(Some(2), "import", Some(0.8)),
/// ])?;
/// assert_eq!(simplify(&graph, 100).nodes.len(), 3);
/// let small = simplify(&graph, 2);
/// assert_eq!((small.nodes.len(), small.nodes[0].tokens.len(), small.hidden), (2, 2, 0));
/// # Ok::<(), neuroql_graph::Error>(())
/// ```
pub fn simplify(graph: &Graph, max_nodes: usize) -> Display {
    let (expanded, origins) = match graph.alternatives() {
        [] => (Cow::Borrowed(graph), (0..graph.nodes().len() as u32).collect()),
        _ => {
            let (expanded, origins) = graph.expand();
            (Cow::Owned(expanded), origins)
        }
    };
    let tokens = token_sets(graph, &origins);
    let graph = &*expanded;
    let branches = Branches::new(graph, LONGEST);
    let all: Vec<u32> = (0..branches.len() as u32).collect();
    let few = max_nodes / 8;
    let levels = [
        (MergeRule::Tokens, few),
        (MergeRule::Variants, few),
        (MergeRule::Alike, few),
        (MergeRule::Siblings, max_nodes),
    ];
    let trie = Trie { graph, branches: &branches, tokens: &tokens };
    let whole = levels.into_iter().find_map(|(joined, limit)| lattice(trie, &all, joined, limit));
    let classes = whole.unwrap_or_else(|| strongest(trie, max_nodes));
    let drawn: usize = classes.iter().map(|class| class.patterns).sum();
    Display { nodes: lattice::nodes(classes), hidden: graph.patterns() - drawn }
}

/// A graph without alternatives that is drawn.
#[derive(Debug, Clone, Copy)]
struct Trie<'a> {
    graph: &'a Graph,
    branches: &'a Branches,
    /// Number of the set of tokens that each node is one of, as the graph had it.
    tokens: &'a [u32],
}

/// Numbers the sets of tokens of nodes, given for each expanded node the one that it comes from.
fn token_sets(graph: &Graph, origins: &[u32]) -> Vec<u32> {
    let mut numbers: HashMap<Vec<&Token>, u32> = HashMap::new();
    let mut sets: Vec<u32> = Vec::with_capacity(graph.nodes().len());
    for (node, i) in graph.nodes().iter().zip(0..) {
        let own = if let Symbol::Token(token) = &node.symbol { Some(token) } else { None };
        let mut tokens: Vec<&Token> = graph.alternatives_of(i).iter().map(|other| &other.token).chain(own).collect();
        tokens.sort_unstable();
        let next = numbers.len() as u32;
        sets.push(*numbers.entry(tokens).or_insert(next));
    }
    origins.iter().map(|node| sets[*node as usize]).collect()
}

/// Classes of as many patterns as fit, found by doubling their number and then bisecting.
fn strongest(trie: Trie, max_nodes: usize) -> Vec<lattice::NodeClass> {
    let ranked = trie.branches.ranked(trie.graph);
    let fits = |count: usize, limit| {
        let kept = trie.branches.with_paths(&ranked[..count]);
        lattice(trie, &kept, MergeRule::Siblings, limit)
    };
    // One pattern is drawn even if it has too many nodes.
    let (mut best, mut low, mut high) = (fits(1, usize::MAX).unwrap_or_default(), 1, 2);
    while high < ranked.len()
        && let Some(more) = fits(high, max_nodes)
    {
        (best, low, high) = (more, high, 2 * high);
    }
    high = high.min(ranked.len());
    while low + 1 < high {
        let middle = low.midpoint(high);
        match fits(middle, max_nodes) {
            Some(more) => (best, low) = (more, middle),
            None => high = middle,
        }
    }
    best
}
