//! A trie laid out for matching.

use std::ops::Range;

use crate::columns::MatchStep;
use crate::{Error, Result};

/// Index that stands for no node.
pub(crate) const NONE: u32 = u32::MAX;

/// A trie whose nodes are in breadth-first order, siblings in the order of [`MatchStep`]. Node 0 is the root, the
/// parent of the activators.
#[derive(Debug, Clone)]
pub(crate) struct Trie {
    pub nodes: Vec<Node>,
    /// Token id of each node; `NONE` for those that are no token.
    keys: Vec<u32>,
    pub activators: Activators,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    /// First of the children.
    first: u32,
    /// Number of tokens among the children; they come first.
    pub exact: u32,
    /// Number of children.
    children: u32,
    pub start: u32,
    pub any: u32,
    /// First of the gaps among the children, and their number.
    pub gap: u32,
    pub gaps: u32,
    /// Greatest number of tokens that this node takes, if it is a gap.
    pub most: u16,
}

/// Hash table from token ids to nodes of depth 0, at most a quarter full: most look-ups find nothing, and do so at the
/// first slot.
#[derive(Debug, Clone)]
pub(crate) struct Activators {
    slots: Vec<(u32, u32)>,
    shift: u32,
}

impl Trie {
    /// Lays out nodes, given as their parents and steps in any order. Also returns the index in the trie of each given
    /// node.
    pub fn new(steps: &[(Option<u32>, MatchStep)]) -> Result<(Self, Vec<u32>)> {
        let children = Children::new(steps)?;
        // Given nodes in their new order, shifted by the root.
        let mut order: Vec<u32> = Vec::with_capacity(steps.len());
        let mut nodes = Vec::with_capacity(steps.len() + 1);
        let mut siblings: Vec<u32> = Vec::new();
        for new in 0..=steps.len() {
            let Some(old) = new.checked_sub(1).map_or(Some(None), |i| order.get(i).map(|old| Some(*old))) else {
                let mut reached = vec![false; steps.len()];
                order.iter().for_each(|old| reached[*old as usize] = true);
                return Err(Error::Cycle(reached.iter().position(|reached| !reached).unwrap_or_default()));
            };
            siblings.clear();
            siblings.extend(children.of(old));
            siblings.sort_by_key(|child| steps[*child as usize].1);
            let twins = |pair: &&[u32]| {
                let [first, second] = [pair[0], pair[1]].map(|child| steps[child as usize].1);
                first == second && first != MatchStep::Never
            };
            if let Some(pair) = siblings.windows(2).find(twins) {
                return Err(Error::Duplicate { first: pair[0] as usize, second: pair[1] as usize });
            }
            nodes.push(Node::new(old.map(|old| steps[old as usize].1), order.len() as u32 + 1, &siblings, steps));
            order.extend(&siblings);
        }
        let token = |old: &u32| match steps[*old as usize].1 {
            MatchStep::Token(id) => id,
            _ => NONE,
        };
        let keys: Vec<u32> = std::iter::once(NONE).chain(order.iter().map(token)).collect();
        let activators = Activators::new(&keys, nodes[0].first..nodes[0].first + nodes[0].exact);
        let mut places = vec![0; steps.len()];
        (1..).zip(&order).for_each(|(new, old)| places[*old as usize] = new);
        Ok((Self { nodes, keys, activators }, places))
    }

    /// Number of nodes, with the root.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Depth of each node; that of the root is 0.
    pub fn depths(&self) -> Vec<u32> {
        let mut depths = vec![0; self.nodes.len()];
        for (at, node) in self.nodes.iter().enumerate() {
            let depth = depths[at] + 1;
            depths[node.children()].fill(depth);
        }
        depths
    }

    /// Token ids of activators.
    pub fn activators(&self) -> impl Iterator<Item = u32> + '_ {
        self.keys[1..].iter().take(self.nodes[0].exact as usize).copied()
    }

    /// Returns true if there are patterns whose activator is a wildcard.
    pub fn fires_on_anything(&self) -> bool {
        let top = &self.nodes[0];
        top.any != NONE || top.gaps > 0
    }

    /// Returns true if the walk from a token would visit a node.
    pub fn fires_on(&self, token: u32) -> bool {
        self.fires_on_anything() || self.activators.get(token) != NONE
    }

    /// The child of a node, other than node 0, for a token.
    #[inline]
    pub fn exact(&self, node: &Node, token: u32) -> Option<u32> {
        let keys = &self.keys[node.first as usize..][..node.exact as usize];
        // In short lists, linear search is faster than binary search.
        let found = match keys.len() {
            ..=8 => keys.iter().position(|key| *key == token),
            _ => keys.binary_search(&token).ok(),
        };
        found.map(|found| node.first + found as u32)
    }
}

impl Node {
    fn new(step: Option<MatchStep>, first: u32, children: &[u32], steps: &[(Option<u32>, MatchStep)]) -> Self {
        let below = |child: &u32| steps[*child as usize].1;
        let place = |wanted: fn(MatchStep) -> bool| {
            let found = children.iter().position(|child| wanted(below(child)));
            found.map_or(NONE, |found| first + found as u32)
        };
        let count = |wanted: fn(MatchStep) -> bool| children.iter().filter(|child| wanted(below(child))).count();
        Self {
            first,
            exact: count(|step| matches!(step, MatchStep::Token(_))) as u32,
            children: children.len() as u32,
            start: place(|step| step == MatchStep::Start),
            any: place(|step| step == MatchStep::Any),
            gap: place(|step| matches!(step, MatchStep::Gap(_))),
            gaps: count(|step| matches!(step, MatchStep::Gap(_))) as u32,
            most: if let Some(MatchStep::Gap(most)) = step { most } else { 0 },
        }
    }

    fn children(&self) -> Range<usize> {
        self.first as usize..(self.first + self.children) as usize
    }

    pub fn gap_nodes(&self) -> Range<u32> {
        match self.gaps {
            0 => 0..0,
            gaps => self.gap..self.gap + gaps,
        }
    }
}

impl Activators {
    fn new(keys: &[u32], nodes: Range<u32>) -> Self {
        let slots = (nodes.len().max(1) * 4).next_power_of_two();
        let mut this = Self { slots: vec![(0, NONE); slots], shift: 32 - slots.trailing_zeros() };
        for node in nodes {
            let key = keys[node as usize];
            let mut slot = this.slot(key);
            while this.slots[slot].1 != NONE {
                slot = (slot + 1) % slots;
            }
            this.slots[slot] = (key, node);
        }
        this
    }

    #[inline]
    fn slot(&self, key: u32) -> usize {
        (key.wrapping_mul(0x9E37_79B1) >> self.shift) as usize
    }

    /// The node of depth 0 for a token, or `NONE`.
    #[inline]
    pub fn get(&self, token: u32) -> u32 {
        let mut slot = self.slot(token);
        loop {
            let (key, node) = self.slots[slot];
            if key == token || node == NONE {
                return node;
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
    }
}

/// Children of given nodes, in the order given.
struct Children {
    /// Offsets of the children of each parent; the last parent is the root.
    starts: Vec<u32>,
    all: Vec<u32>,
}

impl Children {
    fn new(steps: &[(Option<u32>, MatchStep)]) -> Result<Self> {
        let mut starts = vec![0; steps.len() + 2];
        for (node, (parent, _)) in steps.iter().enumerate() {
            if let Some(parent) = parent.filter(|parent| *parent as usize >= steps.len()) {
                return Err(Error::Dangling { node, parent: parent.into(), nodes: steps.len() });
            }
            starts[parent.map_or(steps.len(), |parent| parent as usize) + 1] += 1;
        }
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        let mut next = starts.clone();
        let mut all = vec![0; steps.len()];
        for (node, (parent, _)) in steps.iter().enumerate() {
            let next = &mut next[parent.map_or(steps.len(), |parent| parent as usize)];
            all[*next as usize] = node as u32;
            *next += 1;
        }
        Ok(Self { starts, all })
    }

    fn of(&self, parent: Option<u32>) -> &[u32] {
        let parent = parent.map_or(self.starts.len() - 2, |parent| parent as usize);
        &self.all[self.starts[parent] as usize..self.starts[parent + 1] as usize]
    }
}
