//! Branches: the nodes of a trie that are drawn, without its wildcards.

use super::{DisplayKind, Skip, Weight};
use crate::{Graph, Node, Symbol};

/// Parent of activators.
pub(super) const END: u32 = u32::MAX;

/// A node of the trie that is drawn.
#[derive(Debug, Clone)]
pub(super) struct Branch {
    /// The drawn node that it leads to, or [`END`].
    pub parent: u32,
    /// Index of the node in the trie; for [`DisplayKind::Rest`], that of its first node.
    pub node: u32,
    pub kind: DisplayKind,
    /// Number of tokens between it and its parent.
    pub skip: Skip,
    pub depth: u32,
    /// True if a pattern ends at it, or it is a leaf.
    pub tip: bool,
    pub weight: Weight,
}

/// The drawn nodes of a trie, depth first.
#[derive(Debug)]
pub(super) struct Branches(Vec<Branch>);

impl std::ops::Deref for Branches {
    type Target = [Branch];

    fn deref(&self) -> &[Branch] {
        &self.0
    }
}

impl Branches {
    /// Makes the drawn nodes of a trie: all but the wildcards that only lead from one node to another, and nodes that
    /// are `longest` or more drawn nodes from the end of the text, for which one [`DisplayKind::Rest`] stands.
    pub fn new(graph: &Graph, longest: usize) -> Self {
        let nodes = graph.nodes();
        let mut branches: Vec<Branch> = Vec::with_capacity(nodes.len());
        // Last drawn node on the way to each node of the trie, and the tokens skipped since.
        let mut reached: Vec<(u32, Skip)> = Vec::with_capacity(nodes.len());
        for (i, node) in nodes.iter().enumerate() {
            let (parent, before) = node.parent.map_or((END, Skip::default()), |parent| reached[parent as usize]);
            // Depth first: a child comes right after its parent.
            let followed = nodes.get(i + 1).is_some_and(|next| next.parent == Some(i as u32));
            let tip = node.ends.is_some() || !followed;
            let weight = weight(node);
            let skip = before.and(skipped(&node.symbol));
            let (kind, skip) = match node.symbol {
                Symbol::Token(_) if parent == END => (DisplayKind::Activator, skip),
                Symbol::Token(_) => (DisplayKind::Context, skip),
                Symbol::Start => (DisplayKind::Start, skip),
                // A wildcard activator is drawn, so that all patterns end in the same column.
                _ if tip || parent == END => (DisplayKind::Wildcard(skip), Skip::default()),
                _ => {
                    reached.push((parent, skip));
                    continue;
                }
            };
            let depth = if parent == END { 0 } else { branches[parent as usize].depth + 1 };
            let rest = (depth as usize >= longest).then(|| rest_of(&branches, parent)).flatten();
            if let Some(rest) = rest {
                branches[rest as usize].weight = branches[rest as usize].weight.and(weight);
                reached.push((rest, Skip::default()));
                continue;
            }
            reached.push((branches.len() as u32, Skip::default()));
            let (kind, skip, tip) =
                if depth as usize >= longest { (DisplayKind::Rest, Skip::default(), true) } else { (kind, skip, tip) };
            branches.push(Branch { parent, node: i as u32, kind, skip, depth, tip, weight });
        }
        Self(branches)
    }

    /// Tips, at which a pattern ends or that are leaves, the strongest first.
    pub fn ranked(&self, graph: &Graph) -> Vec<u32> {
        let mut tips: Vec<u32> = (0..self.len() as u32).filter(|i| self[*i as usize].tip).collect();
        let ends = |i: u32| self[i as usize].weight.ends.map_or(f32::NEG_INFINITY, |ends| ends.1);
        let support = |i: u32| graph.nodes()[self[i as usize].node as usize].support;
        tips.sort_by(|a, b| ends(*b).total_cmp(&ends(*a)).then_with(|| support(*b).cmp(&support(*a))));
        tips
    }

    /// The tips and all nodes that they lead to, ascending.
    pub fn with_paths(&self, tips: &[u32]) -> Vec<u32> {
        let mut kept = vec![false; self.len()];
        for tip in tips {
            let mut at = *tip;
            while at != END && !std::mem::replace(&mut kept[at as usize], true) {
                at = self[at as usize].parent;
            }
        }
        (0..self.len() as u32).filter(|i| kept[*i as usize]).collect()
    }
}

fn weight(node: &Node) -> Weight {
    let Node { importance, activation, ends, support, .. } = *node;
    Weight { importance, activation, ends: ends.map(|ends| (ends, ends)), support }
}

fn skipped(symbol: &Symbol) -> Skip {
    match symbol {
        Symbol::Any => Skip { least: 1, most: 1 },
        Symbol::Gap(most) => Skip { least: 0, most: u32::from(*most) },
        Symbol::Token(_) | Symbol::Start => Skip::default(),
    }
}

/// The [`DisplayKind::Rest`] for nodes below a node that is drawn last: the node itself if it is one, else its child.
fn rest_of(branches: &[Branch], parent: u32) -> Option<u32> {
    let is_rest = |i: u32| branches[i as usize].kind == DisplayKind::Rest;
    // A node has one such child at most, which is then the last node made.
    let last = branches.len() as u32 - 1;
    [parent, last].into_iter().find(|i| is_rest(*i) && (*i == parent || branches[*i as usize].parent == parent))
}
