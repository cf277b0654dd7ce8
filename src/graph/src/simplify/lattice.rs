//! Merges nodes of a trie that the same contexts follow.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::Hash;

use super::branches::{Branch, Branches, END};
use super::{DisplayKind, DisplayNode, DisplayToken, Skip, Trie, Weight};
use crate::{Graph, Symbol, Token};

/// Rule for merging the tokens that lead to the same node and that the same contexts follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MergeRule {
    /// Tokens of nodes that have the same tokens in the graph.
    Tokens,
    /// Tokens that differ in case or space only.
    Variants,
    /// Tokens of about the same strength.
    Alike,
    /// All tokens.
    Siblings,
}

/// Properties that merged nodes have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Shape {
    depth: u32,
    kind: DisplayKind,
    skip: Skip,
    complete: bool,
    /// Number of the set of classes that follow.
    below: u32,
}

/// Nodes that are drawn as one.
#[derive(Debug)]
pub(super) struct NodeClass {
    shape: Shape,
    /// Token and weight of each member; one without a token for nodes that have none.
    members: Vec<(Option<Token>, Weight)>,
    /// Classes that follow it, made earlier.
    below: Vec<u32>,
    /// Index of its first branch.
    first: u32,
    /// Number of complete patterns that end here.
    pub patterns: usize,
}

/// Numbering of distinct keys.
struct Numbering<K>(HashMap<K, u32>);

impl<K: Hash + Eq> Numbering<K> {
    /// Number of a key, and true if it is new.
    fn of(&mut self, key: K) -> (u32, bool) {
        let next = self.0.len() as u32;
        let number = *self.0.entry(key).or_insert(next);
        (number, number == next)
    }
}

/// A node whose class waits for its siblings.
struct Sibling {
    shape: Shape,
    /// Number of the group that is merged.
    name: u32,
    word: u32,
    branch: u32,
}

/// Classes of the kept nodes of a trie; `None` if there are more than `limit`.
pub(super) fn lattice(trie: Trie, kept: &[u32], joined: MergeRule, limit: usize) -> Option<Vec<NodeClass>> {
    let Trie { graph, branches, tokens } = trie;
    let mut lattice = Lattice { graph, branches, limit, classes: Vec::new(), known: Numbering(HashMap::new()) };
    let (mut sets, mut words, mut names) =
        (Numbering(HashMap::new()), Numbering(HashMap::new()), Numbering(HashMap::new()));
    let mut sets_by_number: Vec<Vec<u32>> = Vec::new();
    let mut waiting: HashMap<u32, Vec<Sibling>> = HashMap::new();
    // Backwards in depth-first order: nodes that follow a node come before it.
    for branch in kept.iter().rev().copied() {
        let set = lattice.join(waiting.remove(&branch).unwrap_or_default(), &sets_by_number)?;
        let (below, new) = sets.of(set.clone());
        if new {
            sets_by_number.push(set);
        }
        let Branch { parent, node, kind, skip, depth, weight, .. } = branches[branch as usize];
        let complete = weight.ends.is_some() && kind != DisplayKind::Rest;
        let shape = Shape { depth, kind, skip, complete, below };
        let token = lattice.token(node, kind);
        let word = words.of(token).0;
        let name = match (joined, token) {
            (MergeRule::Siblings, _) => 0,
            (MergeRule::Tokens, Some(_)) => tokens[node as usize],
            (MergeRule::Alike, Some(_)) => band(strength(kind, weight)),
            (MergeRule::Variants, Some(token)) => names.of(token.text.trim().to_lowercase()).0,
            _ => word,
        };
        waiting.entry(parent).or_default().push(Sibling { shape, name, word, branch });
    }
    lattice.join(waiting.remove(&END).unwrap_or_default(), &sets_by_number)?;
    Some(lattice.classes)
}

struct Lattice<'a> {
    graph: &'a Graph,
    branches: &'a Branches,
    limit: usize,
    classes: Vec<NodeClass>,
    known: Numbering<(Shape, Vec<u32>)>,
}

impl<'a> Lattice<'a> {
    fn token(&self, node: u32, kind: DisplayKind) -> Option<&'a Token> {
        match (&self.graph.nodes()[node as usize].symbol, kind) {
            (Symbol::Token(token), DisplayKind::Activator | DisplayKind::Context) => Some(token),
            _ => None,
        }
    }

    /// Classes of the nodes that lead to one node, ascending; `None` if there are too many classes.
    fn join(&mut self, mut siblings: Vec<Sibling>, sets: &[Vec<u32>]) -> Option<Vec<u32>> {
        siblings.sort_by_key(|sibling| (sibling.shape, sibling.name, sibling.word, sibling.branch));
        let mut set = Vec::new();
        for alike in siblings.chunk_by(|a, b| (a.shape, a.name) == (b.shape, b.name)) {
            let mut words: Vec<u32> = alike.iter().map(|sibling| sibling.word).collect();
            // A token comes twice after different wildcards that skip as many tokens.
            words.dedup();
            let (class, new) = self.known.of((alike[0].shape, words));
            if new {
                if self.classes.len() == self.limit {
                    return None;
                }
                self.classes.push(self.class(alike, &sets[alike[0].shape.below as usize]));
            } else {
                self.add(class, alike);
            }
            set.push(class);
        }
        set.sort_unstable();
        set.dedup();
        Some(set)
    }

    fn class(&self, alike: &[Sibling], below: &[u32]) -> NodeClass {
        let token = |first: &Sibling| self.token(self.branches[first.branch as usize].node, first.shape.kind);
        let of_word = |same: &[Sibling]| (token(&same[0]).cloned(), self.weight(same));
        NodeClass {
            shape: alike[0].shape,
            members: alike.chunk_by(|a, b| a.word == b.word).map(of_word).collect(),
            below: below.to_vec(),
            first: alike.iter().map(|sibling| sibling.branch).min().unwrap_or_default(),
            patterns: if alike[0].shape.complete { alike.len() } else { 0 },
        }
    }

    /// Adds nodes to their class, which has the same tokens in the same order.
    fn add(&mut self, class: u32, alike: &[Sibling]) {
        let weights: Vec<Weight> = alike.chunk_by(|a, b| a.word == b.word).map(|same| self.weight(same)).collect();
        let class = &mut self.classes[class as usize];
        for (member, weight) in class.members.iter_mut().zip(weights) {
            member.1 = member.1.and(weight);
        }
        class.first = alike.iter().map(|sibling| sibling.branch).fold(class.first, u32::min);
        class.patterns += if class.shape.complete { alike.len() } else { 0 };
    }

    fn weight(&self, same: &[Sibling]) -> Weight {
        let weight = |sibling: &Sibling| self.branches[sibling.branch as usize].weight;
        same[1..].iter().fold(weight(&same[0]), |sum, sibling| sum.and(weight(sibling)))
    }
}

/// Number that the colour of a node shows.
fn strength(kind: DisplayKind, weight: Weight) -> f32 {
    if kind == DisplayKind::Activator { weight.activation } else { weight.importance }
}

/// Band of strengths whose colours look alike.
fn band(strength: f32) -> u32 {
    // Strengths of nodes are between 0.5 and 1; the cast makes 0 of negative numbers.
    ((strength.min(1.0) - 0.5) * 8.0) as u32
}

/// Nodes to draw, column by column from the activators: these with the strongest first, others in the trie's order.
pub(super) fn nodes(classes: Vec<NodeClass>) -> Vec<DisplayNode> {
    let mut order: Vec<u32> = (0..classes.len() as u32).collect();
    let activation =
        |class: &NodeClass| class.members.iter().map(|member| member.1.activation).fold(f32::MIN, f32::max);
    order.sort_by(|a, b| {
        let [a, b] = [a, b].map(|i| &classes[*i as usize]);
        let by_activation =
            || if a.shape.depth == 0 { activation(b).total_cmp(&activation(a)) } else { Ordering::Equal };
        a.shape.depth.cmp(&b.shape.depth).then_with(by_activation).then_with(|| a.first.cmp(&b.first))
    });
    let mut place = vec![0; classes.len()];
    order.iter().enumerate().for_each(|(new, old)| place[*old as usize] = new as u32);
    let mut towards: Vec<Vec<u32>> = vec![Vec::new(); classes.len()];
    for old in &order {
        for below in &classes[*old as usize].below {
            towards[place[*below as usize] as usize].push(place[*old as usize]);
        }
    }
    let mut classes: Vec<Option<NodeClass>> = classes.into_iter().map(Some).collect();
    let class_of = |old: u32| classes[old as usize].take();
    order.into_iter().filter_map(class_of).zip(towards).map(|(class, towards)| node(class, towards)).collect()
}

fn node(class: NodeClass, towards: Vec<u32>) -> DisplayNode {
    let Shape { depth, kind, skip, complete, .. } = class.shape;
    let (first, others) = class.members.split_first().map_or((None, &[][..]), |(first, others)| (Some(first), others));
    let none = Weight { importance: 0.0, activation: 0.0, ends: None, support: 0 };
    let weight = others.iter().fold(first.map_or(none, |first| first.1), |sum, member| sum.and(member.1));
    let token = |(token, weight): (Option<Token>, Weight)| Some(DisplayToken { token: token?, weight });
    let mut tokens: Vec<DisplayToken> = class.members.into_iter().filter_map(token).collect();
    let by_strength = |a: &DisplayToken, b: &DisplayToken| {
        let by_support = || b.weight.support.cmp(&a.weight.support).then_with(|| a.token.cmp(&b.token));
        strength(kind, b.weight).total_cmp(&strength(kind, a.weight)).then_with(by_support)
    };
    tokens.sort_by(by_strength);
    DisplayNode { kind, tokens, skip, depth, complete, weight, towards }
}
