//! Predictions of one graph for texts.

use std::ops::ControlFlow;

use crate::columns::{MatchStep, Role};
use crate::graph::MOST_EXPANDED;
use crate::trie::{NONE, Trie};
use crate::walk::Stack;
use crate::{Error, Graph, Result, Semantics, View};

/// Matcher of the patterns of one graph. Making it takes about as long as predicting a few hundred tokens.
#[derive(Debug, Clone)]
pub struct Matcher {
    trie: Trie,
    semantics: Semantics,
    /// End of each node of the trie.
    ends: Vec<PatternEnd>,
}

/// End of a pattern: its prediction and rank.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PatternEnd {
    pub value: f32,
    /// Rank: of the ends that match, the one with the least counts. `NONE` where no pattern ends.
    pub rank: u32,
}

impl PatternEnd {
    pub const NO_MATCH: Self = Self { value: 0.0, rank: NONE };

    #[inline]
    pub fn keep_better(&mut self, other: Self) {
        if other.rank < self.rank {
            *self = other;
        }
    }
}

/// Parts of an [expanded](Graph::expanded) graph: the parent and step of each node, and the activation predicted where
/// a pattern ends.
pub(crate) struct GraphParts {
    pub steps: Vec<(Option<u32>, MatchStep)>,
    pub ends: Vec<Option<f32>>,
}

impl From<&Graph> for GraphParts {
    fn from(graph: &Graph) -> Self {
        let graph = graph.expanded();
        let nodes = graph.nodes();
        Self {
            steps: nodes.iter().map(|node| (node.parent, MatchStep::from(&node.symbol))).collect(),
            ends: nodes.iter().map(|node| node.ends).collect(),
        }
    }
}

impl TryFrom<View<'_>> for GraphParts {
    type Error = crate::Error;

    fn try_from(view: View<'_>) -> Result<Self> {
        view.check()?;
        let (mut parts, mut others) = (Self { steps: Vec::new(), ends: Vec::new() }, Vec::new());
        // Index among the nodes of each row.
        let mut nodes = vec![NONE; view.len()];
        for (row, node) in nodes.iter_mut().enumerate() {
            match view.role(row)? {
                Role::Node(parent) => {
                    *node = parts.steps.len() as u32;
                    parts.steps.push((parent, view.step(row)?));
                    parts.ends.push(view.end(row));
                }
                Role::Alternative(of) => others.push((row, of, view.step(row)?)),
            }
        }
        if others.is_empty() {
            return Ok(parts);
        }
        let place = |row: usize, of: u32| match nodes[of as usize] {
            NONE => Err(Error::Dangling { node: row, parent: of.into(), nodes: view.len() }),
            node => Ok(node),
        };
        for (row, node) in nodes.iter().enumerate().filter(|(_, node)| **node != NONE) {
            let parent = &mut parts.steps[*node as usize].0;
            *parent = parent.map(|of| place(row, of)).transpose()?;
        }
        let mut alternatives: Vec<Vec<MatchStep>> = vec![Vec::new(); parts.steps.len()];
        for (row, of, step) in others {
            let node = place(row, of)? as usize;
            let is_token = |step| matches!(step, MatchStep::Token(_) | MatchStep::Never);
            if !is_token(step) || !is_token(parts.steps[node].1) {
                let reason = format!("row {row} is a further token of row {of}, but one of them is a wildcard");
                return Err(Error::Malformed { format: "columns", reason });
            }
            alternatives[node].push(step);
        }
        parts.expand(&alternatives)
    }
}

impl GraphParts {
    /// Repeats nodes, with all below them, for each of their alternatives.
    fn expand(self, alternatives: &[Vec<MatchStep>]) -> Result<Self> {
        let top = self.steps.len();
        let mut children: Vec<Vec<u32>> = vec![Vec::new(); top + 1];
        for ((parent, _), node) in self.steps.iter().zip(0..) {
            children[parent.map_or(top, |parent| parent as usize)].push(node);
        }
        let mut expanded = Self { steps: Vec::new(), ends: Vec::new() };
        let mut reached = vec![false; top];
        let mut waiting: Vec<(usize, Option<u32>)> = vec![(top, None)];
        while let Some((above, parent)) = waiting.pop() {
            for child in children[above].iter().map(|child| *child as usize) {
                reached[child] = true;
                for step in std::iter::once(self.steps[child].1).chain(alternatives[child].iter().copied()) {
                    if expanded.steps.len() == MOST_EXPANDED {
                        let (what, count) = ("nodes, when each token has its own,", MOST_EXPANDED + 1);
                        return Err(Error::TooLarge { what, count, limit: MOST_EXPANDED });
                    }
                    waiting.push((child, Some(expanded.steps.len() as u32)));
                    expanded.steps.push((parent, step));
                    expanded.ends.push(self.ends[child]);
                }
            }
        }
        match reached.iter().position(|reached| !reached) {
            Some(node) => Err(Error::Cycle(node)),
            None => Ok(expanded),
        }
    }
}

impl Matcher {
    /// Makes a matcher of a graph in columns.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for columns of different lengths,
    /// [`Error::Malformed`](crate::Error::Malformed) if one is no symbol, and those of [`Graph::new`] about the trie.
    pub fn new(view: View, semantics: Semantics) -> Result<Self> {
        Self::of_parts(&view.try_into()?, semantics)
    }

    /// Makes a matcher of a graph.
    ///
    /// # Errors
    /// [`Error::Duplicate`](crate::Error::Duplicate) if siblings have the same token id.
    pub fn of(graph: &Graph, semantics: Semantics) -> Result<Self> {
        Self::of_parts(&graph.into(), semantics)
    }

    pub(crate) fn of_parts(parts: &GraphParts, semantics: Semantics) -> Result<Self> {
        let (trie, places) = Trie::new(&parts.steps)?;
        let mut ends = vec![PatternEnd::NO_MATCH; trie.len()];
        let ranks = ranks(&trie, &places, parts, semantics);
        for ((place, end), rank) in places.iter().zip(&parts.ends).zip(ranks) {
            if let Some(value) = *end {
                ends[*place as usize] = PatternEnd { value, rank };
            }
        }
        Ok(Self { trie, semantics, ends })
    }

    /// Appends the predicted activation of each token, over the neuron's greatest; 0 where no pattern matches.
    pub fn simulate(&self, tokens: &[u32], out: &mut Vec<f32>) {
        // Without an interruption there is no error.
        let _ = self.simulate_while(tokens, out, || true);
    }

    /// Appends predictions as [`simulate`](Self::simulate) does while `go_on` returns true. It is called at every token
    /// that may fire: many nodes may match a long text in very many ways.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if `go_on` returns false.
    pub fn simulate_while(&self, tokens: &[u32], out: &mut Vec<f32>, go_on: impl Fn() -> bool) -> Result<()> {
        let mut stack = Stack::default();
        let on_anything = self.trie.fires_on_anything();
        out.reserve(tokens.len());
        for (at, token) in tokens.iter().enumerate() {
            if !on_anything && !self.trie.fires_on(*token) {
                out.push(0.0);
                continue;
            }
            if !go_on() {
                return Err(Error::Interrupted);
            }
            out.push(self.predict(&tokens[..=at], &mut stack).value);
        }
        Ok(())
    }

    /// The best end at the last token of a text, of rank `NONE` if nothing matches.
    pub(crate) fn predict(&self, text: &[u32], stack: &mut Stack) -> PatternEnd {
        let mut best = PatternEnd::NO_MATCH;
        let end = |node: u32| self.ends[node as usize];
        match self.semantics {
            Semantics::Longest | Semantics::Max => {
                self.trie.visit_all(text, stack, |node| best.keep_better(end(node)));
            }
            Semantics::Greedy => self.trie.visit_greedily(text, |node| {
                if end(node).rank != NONE {
                    best = end(node);
                }
                ControlFlow::Continue(())
            }),
            Semantics::Shortest => self.trie.visit_greedily(text, |node| {
                best = end(node);
                if best.rank == NONE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            }),
        }
        best
    }

    /// Token ids of activators.
    pub(crate) fn activators(&self) -> impl Iterator<Item = u32> + '_ {
        self.trie.activators()
    }

    /// Returns true if there are patterns whose activator is a wildcard.
    pub(crate) fn fires_on_anything(&self) -> bool {
        self.trie.fires_on_anything()
    }
}

/// Rank of each given node as an end: among those that match, the least counts. All are distinct.
pub(crate) fn ranks(trie: &Trie, places: &[u32], parts: &GraphParts, semantics: Semantics) -> Vec<u32> {
    let mut best_first: Vec<u32> = (0..places.len() as u32).collect();
    // Nodes of a trie are ordered by depth, then by their parents' order, then by steps: the least is the most exact.
    best_first.sort_unstable_by_key(|node| places[*node as usize]);
    match semantics {
        Semantics::Max => best_first.sort_by(|one, other| {
            let value = |node: u32| parts.ends[node as usize].unwrap_or(f32::NEG_INFINITY);
            value(*other).total_cmp(&value(*one))
        }),
        _ => {
            let depths = trie.depths();
            best_first.sort_by_key(|node| std::cmp::Reverse(depths[places[*node as usize] as usize]));
        }
    }
    let mut ranks = vec![0; places.len()];
    (0..).zip(best_first).for_each(|(rank, node)| ranks[node as usize] = rank);
    ranks
}
