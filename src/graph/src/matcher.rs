//! Predictions of one graph for texts.

use std::ops::ControlFlow;

use crate::columns::MatchStep;
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

/// Parts of a graph: the parent and step of each node, and the activation predicted where a pattern ends.
pub(crate) struct GraphParts {
    pub steps: Vec<(Option<u32>, MatchStep)>,
    pub ends: Vec<Option<f32>>,
}

impl From<&Graph> for GraphParts {
    fn from(graph: &Graph) -> Self {
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
        let steps = (0..view.len()).map(|node| Ok((view.parent(node)?, view.step(node)?))).collect::<Result<_>>()?;
        Ok(Self { steps, ends: (0..view.len()).map(|node| view.end(node)).collect() })
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
