//! Pruning: the part of a graph, of few nodes, that is worth the most.
//!
//! Ends of patterns are kept, each with the nodes on its path. An end is worth the firing tokens of labelled
//! text that it finds and no other end kept before it does, less [`FALSE_ALARM`] for each such token that does not fire
//! ([`by_texts`]). An end of which the text says nothing is worth 1/100 of a firing token for each pattern that it was learned from.
//! Ends are taken greedily, by worth for what they cost: [`COST`] for each node that they add and for each token or
//! wildcard, until the next one is worth less. Tokens that end patterns after the same nodes and predict about the
//! same are alternatives of one node, and so are others in the end, where the same nodes are below them; merged nodes
//! predict their mean.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use crate::algebra::complete;
use crate::matcher::GraphParts;
use crate::merge::{merged, range};
use crate::trie::Trie;
use crate::walk::Stack;
use crate::{Graph, Node, Result, Symbol};

/// Cost of a node, and of a token, in firing tokens that are found. Either takes about as many bits as saying at which of
/// a million tokens of text a neuron fires, so it pays to keep one that finds one firing token in a text some 256 times as
/// long as that which patterns are judged by.
pub const COST: f64 = 1.0 / 256.0;

/// Cost of a false alarm, in firing tokens that are found: among the few tokens that are predicted to fire, the wrong
/// one is named by half a bit or a bit, a firing token that was missed, among all tokens, by 15 to 20.
pub const FALSE_ALARM: f64 = 1.0 / 32.0;

/// Worth of an end of which the text says nothing, for each pattern that it was learned from.
const SEEN: f64 = 1.0 / 100.0;

/// Greatest number of patterns for which such an end is worth more; with more, the text would have had it.
const MOST_SEEN: f64 = 20.0;

/// Greatest number of passes over all ends. What is worth little at first may be worth more when others are kept.
const PASSES: usize = 4;

/// Greatest number of times that a graph is pruned anew because merged nodes leave room for others.
const ROUNDS: usize = 8;

/// Text on which it is known where the neuron fires.
#[derive(Debug, Clone, Copy)]
pub struct FiringText<'a> {
    /// Its tokens.
    pub tokens: &'a [u32],
    /// Positions where the neuron fires, ascending.
    pub fires: &'a [u32],
}

/// Size of a pruned graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Size {
    /// At most this number of nodes, as long as they are worth more than their tokens.
    Nodes(usize),
    /// As many nodes as are worth more than what they and their tokens cost.
    Knee,
}

/// Prunes a graph by text on which it is known where the neuron fires, as the module says. A graph whose patterns are
/// all worthless is empty.
///
/// # Errors
/// [`Error::Duplicate`](crate::Error::Duplicate) if siblings have the same token id.
pub fn by_texts(graph: &Graph, texts: &[FiringText], size: Size) -> Result<Graph> {
    let graph = graph.expanded();
    let evidence = Evidence::read(&graph, texts)?;
    let unseen = |node: &Node| SEEN * (f64::from(node.support) + tie(node)).min(MOST_SEEN);
    pruned(&graph, &evidence, &unseen, size)
}

/// Prunes a graph to at most `most` nodes without text: ends are worth the patterns that they were learned from. A
/// graph that has no more nodes stays as it is.
///
/// ```
/// use neuroql_graph::{Graph, Node, Symbol, prune};
///
/// let node = |id, token: &str, ends, support| Node {
///     parent: None, symbol: Symbol::token(id, token), importance: 1.0, activation: 1.0, ends: Some(ends), support,
/// };
/// let pets = Graph::new(vec![node(1, " cat", 0.5, 2), node(2, " dog", 0.9, 7)])?;
/// assert_eq!(prune::by_support(&pets, 1)?, Graph::new(vec![node(2, " dog", 0.9, 7)])?);
/// # Ok::<(), neuroql_graph::Error>(())
/// ```
///
/// # Errors
/// None: the result is a part of the graph. (That of [`Graph::new`] is passed on.)
pub fn by_support(graph: &Graph, most: usize) -> Result<Graph> {
    if graph.nodes().len() <= most {
        return Ok(graph.clone());
    }
    let graph = graph.expanded();
    let evidence = Evidence { starts: vec![0; graph.nodes().len() + 1], ..Evidence::default() };
    let unseen = |node: &Node| f64::from(node.support.max(1)) + tie(node);
    pruned(&graph, &evidence, &unseen, Size::Nodes(most))
}

/// Prunes a graph without alternatives; `unseen` is the worth of ends without evidence.
fn pruned(graph: &Graph, evidence: &Evidence, unseen: &dyn Fn(&Node) -> f64, size: Size) -> Result<Graph> {
    let prune = |room: Option<usize>| {
        let kept = Pruning::new(graph, evidence, unseen, room).keep();
        let nodes = graph.nodes().iter().zip(kept);
        merged(&complete(
            nodes.map(|(node, kept)| Node { ends: node.ends.filter(|_| kept), ..node.clone() }).collect(),
        )?)
    };
    let most = match size {
        Size::Knee => return prune(None),
        Size::Nodes(most) => most,
    };
    let (mut best, mut room) = (prune(Some(most))?, most);
    for _ in 1..ROUNDS {
        let left = most - best.nodes().len();
        if left == 0 {
            break;
        }
        room += left;
        let wider = prune(Some(room))?;
        if wider.nodes().len() > most || wider == best {
            break;
        }
        best = wider;
    }
    Ok(best)
}

/// Part of a pattern's worth that decides between those learned from as many: how much the last token matters.
fn tie(node: &Node) -> f64 {
    0.9 * f64::from(node.importance).clamp(0.0, 1.0)
}

/// Places of a text at which patterns end, by the nodes that they end at.
#[derive(Default)]
struct Evidence {
    /// True for the places where the neuron fires.
    fires: Vec<bool>,
    /// Offsets into `places`: the start of each node's, and the end of the last.
    starts: Vec<u32>,
    places: Vec<u32>,
}

impl Evidence {
    fn read(graph: &Graph, texts: &[FiringText]) -> Result<Self> {
        let parts = GraphParts::from(graph);
        let (trie, of_nodes) = Trie::new(&parts.steps)?;
        let mut nodes = vec![None; trie.len()];
        for (node, place) in (0..).zip(&of_nodes) {
            nodes[*place as usize] = parts.ends[node as usize].map(|_| node);
        }
        let (mut fires, mut found, mut stack) = (Vec::new(), Vec::new(), Stack::default());
        for text in texts {
            let mut firing = text.fires.iter().peekable();
            for (at, token) in text.tokens.iter().enumerate() {
                let is_firing = firing.next_if(|position| **position as usize == at).is_some();
                if !trie.fires_on(*token) {
                    continue;
                }
                let (place, before) = (fires.len() as u32, found.len());
                trie.visit_all(&text.tokens[..=at], &mut stack, |at| {
                    found.extend(nodes[at as usize].map(|node: u32| (node, place)));
                });
                if found.len() > before {
                    fires.push(is_firing);
                }
            }
        }
        let mut starts = vec![0; graph.nodes().len() + 1];
        found.iter().for_each(|(node, _)| starts[*node as usize + 1] += 1);
        for node in 1..starts.len() {
            starts[node] += starts[node - 1];
        }
        // Places stay in order within a node.
        let (mut next, mut places) = (starts.clone(), vec![0; found.len()]);
        for (node, place) in found {
            let next = &mut next[node as usize];
            places[*next as usize] = place;
            *next += 1;
        }
        Ok(Self { fires, starts, places })
    }

    fn of(&self, node: usize) -> &[u32] {
        &self.places[self.starts[node] as usize..self.starts[node + 1] as usize]
    }
}

/// An end that may be kept.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Offer {
    /// Its worth for what it costs.
    ratio: f64,
    /// True if it is worth more than it must be.
    pays: bool,
    node: u32,
}

impl Eq for Offer {}

impl PartialOrd for Offer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Offer {
    /// The greater ratio first, of equal ones the first node.
    fn cmp(&self, other: &Self) -> Ordering {
        self.ratio.total_cmp(&other.ratio).then(other.node.cmp(&self.node))
    }
}

/// Nodes and tokens that an end adds to those that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Added {
    nodes: usize,
    tokens: usize,
}

/// A graph that is being pruned.
struct Pruning<'a> {
    graph: &'a Graph,
    evidence: &'a Evidence,
    /// Worth of an end without evidence.
    unseen: &'a dyn Fn(&Node) -> f64,
    /// True for the places that a kept end finds.
    found: Vec<bool>,
    /// True for the nodes on the path of a kept end.
    kept: Vec<bool>,
    /// True for the ends that are kept.
    ends: Vec<bool>,
    /// Number of kept children of each node.
    children: Vec<u32>,
    /// Number of kept tokens without kept children, by parent and range of predictions: they are one node.
    leaves: HashMap<LeafKey, u32>,
    /// Number of kept nodes, leaves of a kind counted as one.
    nodes: usize,
    /// Greatest number of nodes; without it, nodes must be worth what they cost.
    room: Option<usize>,
}

/// Parent and range of predictions.
type LeafKey = (Option<u32>, i32);

impl<'a> Pruning<'a> {
    fn new(graph: &'a Graph, evidence: &'a Evidence, unseen: &'a dyn Fn(&Node) -> f64, room: Option<usize>) -> Self {
        let count = graph.nodes().len();
        Self {
            graph,
            evidence,
            unseen,
            found: vec![false; evidence.fires.len()],
            kept: vec![false; count],
            ends: vec![false; count],
            children: vec![0; count],
            leaves: HashMap::new(),
            nodes: 0,
            room,
        }
    }

    /// Chooses ends while they pay and there is room. Returns true for those that are kept.
    fn keep(mut self) -> Vec<bool> {
        for _ in 0..PASSES {
            if !self.pass() {
                break;
            }
        }
        self.ends
    }

    /// Offers each end that is not kept once. Returns true if any was taken.
    fn pass(&mut self) -> bool {
        let ends = self.graph.nodes().iter().zip(&self.ends).enumerate();
        let open = ends.filter(|(_, (node, kept))| node.ends.is_some() && !**kept).map(|(node, _)| node as u32);
        let mut offers: BinaryHeap<Offer> = open.map(|node| self.offer(node)).collect();
        let mut any = false;
        while let Some(offer) = offers.pop() {
            // Others that were kept since may have changed its worth.
            let now = self.offer(offer.node);
            if !now.pays {
                continue;
            }
            if offers.peek().is_some_and(|next| *next > now) {
                offers.push(now);
            } else if self.room.is_none_or(|room| self.nodes + self.added(offer.node).nodes <= room) {
                self.take(offer.node);
                any = true;
            }
        }
        any
    }

    fn offer(&self, node: u32) -> Offer {
        let places = self.evidence.of(node as usize);
        let worth: f64 = match places.is_empty() {
            true => (self.unseen)(&self.graph.nodes()[node as usize]),
            false => {
                let new = places.iter().filter(|place| !self.found[**place as usize]);
                let fires = new.map(|place| f64::from(u8::from(self.evidence.fires[*place as usize])));
                fires.map(|fires| fires - FALSE_ALARM).sum()
            }
        };
        let Added { nodes, tokens } = self.added(node);
        let cost = COST * (nodes + tokens) as f64;
        let pays = worth > if self.room.is_some() { COST * tokens as f64 } else { cost };
        // An end at a node that is kept already costs nothing.
        Offer { ratio: if cost > 0.0 { worth / cost } else { worth * 1e9 }, pays, node }
    }

    /// Nodes that a node adds, and the first of those above it that is kept.
    fn path(&self, node: u32) -> (usize, Option<u32>) {
        let (mut length, mut at) = (0, Some(node));
        while let Some(node) = at.filter(|node| !self.kept[*node as usize]) {
            length += 1;
            at = self.graph.nodes()[node as usize].parent;
        }
        (length, at)
    }

    fn added(&self, node: u32) -> Added {
        let (tokens, above) = self.path(node);
        let among = |node: u32| self.leaf_key(node).map_or(0, |key| self.leaves.get(&key).copied().unwrap_or(0));
        let nodes = match (tokens, above) {
            (0, _) => return Added::default(),
            (1, _) if among(node) > 0 => 0,
            (path, _) => path,
        };
        // A leaf among others that gets a child becomes a node of its own.
        let parted = above.is_some_and(|above| self.children[above as usize] == 0 && among(above) > 1);
        Added { nodes: nodes + usize::from(parted), tokens }
    }

    /// Key of a node as a leaf; `None` if it is no token.
    fn leaf_key(&self, node: u32) -> Option<LeafKey> {
        let node = &self.graph.nodes()[node as usize];
        matches!(node.symbol, Symbol::Token(_)).then(|| (node.parent, node.ends.map_or(i32::MIN, range)))
    }

    fn take(&mut self, node: u32) {
        self.nodes += self.added(node).nodes;
        self.ends[node as usize] = true;
        self.evidence.of(node as usize).iter().for_each(|place| self.found[*place as usize] = true);
        let (length, above) = self.path(node);
        if length == 0 {
            return;
        }
        if let Some(above) = above {
            if self.children[above as usize] == 0
                && let Some(count) = self.leaf_key(above).and_then(|key| self.leaves.get_mut(&key))
            {
                *count -= 1;
            }
            self.children[above as usize] += 1;
        }
        if let Some(key) = self.leaf_key(node) {
            *self.leaves.entry(key).or_default() += 1;
        }
        let mut at = node;
        self.kept[at as usize] = true;
        while let Some(parent) = self.graph.nodes()[at as usize].parent.filter(|parent| !self.kept[*parent as usize]) {
            self.children[parent as usize] += 1;
            self.kept[parent as usize] = true;
            at = parent;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use std::collections::BTreeSet;

    use crate::{Matcher, Pattern, Semantics};

    fn node(parent: Option<u32>, id: u32, ends: Option<f32>, support: u32) -> Node {
        Node { parent, symbol: Symbol::token(id, id.to_string()), importance: 1.0, activation: 1.0, ends, support }
    }

    /// 1; 2 after 1 and after 3; 4, of which no text says anything.
    fn graph() -> Graph {
        Graph::new(vec![
            node(None, 1, Some(0.5), 1),
            node(None, 2, None, 2),
            node(Some(1), 1, Some(0.6), 1),
            node(Some(1), 3, Some(0.7), 1),
            node(None, 4, Some(0.8), 3),
        ])
        .unwrap()
    }

    fn text<'a>(tokens: &'a [u32], fires: &'a [u32]) -> FiringText<'a> {
        FiringText { tokens, fires }
    }

    /// Tokens of the nodes, each with its alternatives.
    fn ids(graph: &Graph) -> Vec<Vec<u32>> {
        let id = |node: &Node| if let Symbol::Token(token) = &node.symbol { token.id.unwrap() } else { 0 };
        let others = |node| graph.alternatives_of(node).iter().map(|other| other.token.id.unwrap());
        graph.nodes().iter().zip(0..).map(|(node, i)| std::iter::once(id(node)).chain(others(i)).collect()).collect()
    }

    #[test]
    fn the_ends_that_find_most_stay() {
        // 2 after 3 fires thrice, 1 once, 2 after 1 never.
        let texts = [text(&[3, 2, 3, 2, 3, 2], &[1, 3, 5]), text(&[1, 2, 1, 9], &[0])];
        let pruned = |size| ids(&by_texts(&graph(), &texts, size).unwrap());
        assert_eq!(pruned(Size::Nodes(1)), [[1]]);
        // 2 after 3 finds the most for each node, and then no node is left.
        assert_eq!(pruned(Size::Nodes(2)), [[2], [3]]);
        assert_eq!(pruned(Size::Nodes(3)), [[1], [2], [3]]);
        // What is unknown comes last, and what is always wrong never: 2 after 1.
        assert_eq!(pruned(Size::Nodes(4)), [[1], [2], [3], [4]]);
        assert_eq!(pruned(Size::Nodes(99)), [[1], [2], [3], [4]]);
        assert_eq!(pruned(Size::Knee), [[1], [2], [3], [4]]);
        assert!(pruned(Size::Nodes(0)).is_empty());
        assert!(by_texts(&Graph::default(), &texts, Size::Knee).unwrap().is_empty());
    }

    #[test]
    fn what_is_seldom_right_is_worth_less_than_its_node() {
        let wrong: Vec<u32> = [1, 9].repeat(40);
        let pruned = by_texts(&graph(), &[text(&wrong, &[0]), text(&[3, 2], &[1])], Size::Knee).unwrap();
        // What no text tells of, 1 before 2 and 4, stays.
        assert_eq!(ids(&pruned), [vec![2], vec![1, 3], vec![4]]);
        // Once an end has found a place it is worth nothing to others: 2 after 3 is found by 2.
        let wide = Graph::new(vec![node(None, 2, Some(0.5), 1), node(Some(0), 3, Some(0.7), 1)]).unwrap();
        assert_eq!(ids(&by_texts(&wide, &[text(&[3, 2, 1, 2], &[1, 3])], Size::Nodes(9)).unwrap()), [[2]]);
    }

    #[test]
    fn without_text_support_decides() {
        assert_eq!(ids(&by_support(&graph(), 1).unwrap()), [[4]]);
        assert_eq!(ids(&by_support(&graph(), 2).unwrap()), [[1], [4]]);
        assert_eq!(ids(&by_support(&graph(), 4).unwrap()), [vec![1], vec![2], vec![1, 3], vec![4]]);
        assert_eq!(by_support(&graph(), 5).unwrap(), graph());
        assert!(by_support(&graph(), 0).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn a_pruned_graph_is_a_part_of_the_graph(
            symbols in vec((0..4u32, any::<prop::sample::Index>(), any::<bool>(), 1..5u32), 1..40),
            tokens in vec(0..4u32, 1..60),
            fires in vec(any::<bool>(), 60),
            most in 0..30usize,
        ) {
            let mut nodes: Vec<Node> = Vec::new();
            for (id, at, ends, support) in symbols {
                let parent = (!nodes.is_empty() && id != 0).then(|| at.index(nodes.len()) as u32);
                let new = node(parent, id, ends.then_some(0.6), support);
                if !nodes.iter().any(|node| (node.parent, &node.symbol) == (new.parent, &new.symbol)) {
                    nodes.push(new);
                }
            }
            let graph = Graph::new(nodes).unwrap();
            let fires: Vec<u32> = (0..tokens.len() as u32).filter(|at| fires[*at as usize]).collect();
            let texts = [text(&tokens, &fires)];
            let simulated = |graph: &Graph| {
                let mut out = Vec::new();
                Matcher::of(graph, Semantics::Longest).unwrap().simulate(&tokens, &mut out);
                out
            };
            let errors = |graph: &Graph| {
                let wrong = |(at, p): (usize, &f32)| match (fires.contains(&(at as u32)), *p > 0.0) {
                    (true, false) => 1.0,
                    (false, true) => FALSE_ALARM,
                    _ => 0.0,
                };
                simulated(graph).iter().enumerate().map(wrong).sum::<f64>()
            };
            let pruned = by_texts(&graph, &texts, Size::Nodes(most)).unwrap();
            prop_assert!(pruned.nodes().len() <= most);
            let patterns = |graph: &Graph| -> BTreeSet<Vec<Symbol>> {
                let symbols = |pattern: Pattern| pattern.elements.into_iter().map(|element| element.symbol).collect();
                graph.expanded().to_patterns().map(symbols).collect()
            };
            prop_assert!(patterns(&pruned).is_subset(&patterns(&graph)));
            prop_assert!(errors(&pruned) <= errors(&Graph::default()) + 1e-9);
            prop_assert!(by_support(&graph, most).unwrap().nodes().len() <= most);
        }
    }
}
