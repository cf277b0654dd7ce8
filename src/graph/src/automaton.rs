//! Predictions of all graphs of a layer for texts, in one pass.

use std::collections::HashMap;

use crate::columns::MatchStep;
use crate::matcher::{GraphParts, PatternEnd, ranks};
use crate::trie::{NONE, Trie};
use crate::walk::Stack;
use crate::{Graph, Matcher, Result, Semantics, View};

/// Matcher of many graphs at once. Work on a token depends on how many of them fire on it, and prefixes that their
/// patterns share are matched once.
#[derive(Debug, Clone)]
pub struct Automaton {
    graphs: usize,
    kind: Strategy,
}

#[derive(Debug, Clone)]
enum Strategy {
    /// One trie of the patterns of all graphs, for semantics in which all matches count.
    Merged(MergedTrie),
    /// One matcher a graph, for semantics in which the path depends on the graph; those with the activator are walked.
    Each(SeparateMatchers),
}

/// Predictions of the graphs that match a text, as sparse rows of tokens.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Predictions {
    /// Offsets of the rows, `[tokens + 1]`: the start of each token's, and the end of the last; empty before first use.
    pub starts: Vec<usize>,
    /// Indices of graphs, distinct within a token; their order is arbitrary but deterministic.
    pub graphs: Vec<u32>,
    /// Activations predicted, over the neuron's greatest.
    pub values: Vec<f32>,
}

impl Predictions {
    /// Indices of the graphs that match at a token, with the activations that they predict.
    pub fn at(&self, token: usize) -> impl Iterator<Item = (u32, f32)> + '_ {
        let range = self.starts[token]..self.starts[token + 1];
        self.graphs[range.clone()].iter().copied().zip(self.values[range].iter().copied())
    }
}

impl Automaton {
    /// Makes an automaton of graphs in columns; their indices are their order.
    ///
    /// # Errors
    /// Errors of [`Matcher::new`].
    pub fn new<'a>(graphs: impl IntoIterator<Item = View<'a>>, semantics: Semantics) -> Result<Self> {
        Self::of_parts(graphs.into_iter().map(GraphParts::try_from), semantics)
    }

    /// Makes an automaton of graphs; their indices are their order.
    ///
    /// # Errors
    /// Errors of [`Matcher::of`].
    pub fn of<'a>(graphs: impl IntoIterator<Item = &'a Graph>, semantics: Semantics) -> Result<Self> {
        Self::of_parts(graphs.into_iter().map(|graph| Ok(graph.into())), semantics)
    }

    fn of_parts(graphs: impl Iterator<Item = Result<GraphParts>>, semantics: Semantics) -> Result<Self> {
        match semantics {
            Semantics::Longest | Semantics::Max => {
                let mut merging = MergedTrieBuilder::default();
                graphs.into_iter().try_for_each(|parts| merging.add(&parts?, semantics))?;
                Ok(Self { graphs: merging.graphs as usize, kind: Strategy::Merged(merging.finish()?) })
            }
            Semantics::Greedy | Semantics::Shortest => {
                let matchers: Vec<_> =
                    graphs.map(|parts| Matcher::of_parts(&parts?, semantics)).collect::<Result<_>>()?;
                Ok(Self { graphs: matchers.len(), kind: Strategy::Each(SeparateMatchers::new(matchers)) })
            }
        }
    }

    /// Number of graphs.
    pub fn len(&self) -> usize {
        self.graphs
    }

    /// Returns true if there are no graphs.
    pub fn is_empty(&self) -> bool {
        self.graphs == 0
    }

    /// Replaces `out` by the predictions of the graphs for a text.
    pub fn simulate(&self, tokens: &[u32], out: &mut Predictions) {
        out.graphs.clear();
        out.values.clear();
        out.starts.clear();
        out.starts.push(0);
        let mut scratch = self.scratch();
        for at in 0..tokens.len() {
            self.predict(&tokens[..=at], &mut scratch);
            out.graphs.extend(&scratch.matched);
            out.values.extend(scratch.matched.iter().map(|graph| scratch.best[*graph as usize].value));
            out.starts.push(out.graphs.len());
            scratch.clear();
        }
    }

    /// Replaces `out` by the predictions of the graphs for a text: `[tokens, graphs]`, 0 where nothing matches.
    pub fn simulate_dense(&self, tokens: &[u32], out: &mut Vec<f32>) {
        out.clear();
        out.resize(tokens.len() * self.graphs, 0.0);
        let mut scratch = self.scratch();
        for at in 0..tokens.len() {
            self.predict(&tokens[..=at], &mut scratch);
            let row = &mut out[at * self.graphs..][..self.graphs];
            for graph in &scratch.matched {
                row[*graph as usize] = scratch.best[*graph as usize].value;
            }
            scratch.clear();
        }
    }

    fn scratch(&self) -> Scratch {
        Scratch { stack: Stack::default(), best: vec![PatternEnd::NO_MATCH; self.graphs], matched: Vec::new() }
    }

    #[inline]
    fn predict(&self, text: &[u32], scratch: &mut Scratch) {
        match &self.kind {
            Strategy::Merged(merged) => merged.predict(text, scratch),
            Strategy::Each(each) => each.predict(text, scratch),
        }
    }
}

/// State of predicting one token.
struct Scratch {
    stack: Stack,
    /// Best end of each graph.
    best: Vec<PatternEnd>,
    /// Indices of the graphs that have a best end.
    matched: Vec<u32>,
}

impl Scratch {
    #[inline]
    fn take(&mut self, graph: u32, end: PatternEnd) {
        let best = &mut self.best[graph as usize];
        if best.rank == NONE {
            self.matched.push(graph);
        }
        best.keep_better(end);
    }

    fn clear(&mut self) {
        self.matched.drain(..).for_each(|graph| self.best[graph as usize] = PatternEnd::NO_MATCH);
    }
}

/// Builder of the one trie of many graphs.
#[derive(Default)]
struct MergedTrieBuilder {
    graphs: u32,
    steps: Vec<(Option<u32>, MatchStep)>,
    known: HashMap<(Option<u32>, MatchStep), u32>,
    /// Ends of patterns: node of the merged trie, index of the graph, and its end there.
    ends: Vec<(u32, u32, PatternEnd)>,
}

#[derive(Debug, Clone)]
struct MergedTrie {
    trie: Trie,
    /// Offsets into `ends`: the start of each node's, and the end of the last.
    starts: Vec<u32>,
    ends: Vec<(u32, PatternEnd)>,
}

impl MergedTrieBuilder {
    fn add(&mut self, parts: &GraphParts, semantics: Semantics) -> Result<()> {
        let (trie, places) = Trie::new(&parts.steps)?;
        let ranks = ranks(&trie, &places, parts, semantics);
        // In the trie's order, parents come before their children.
        let mut order: Vec<u32> = (0..places.len() as u32).collect();
        order.sort_unstable_by_key(|node| places[*node as usize]);
        let mut merged = vec![NONE; places.len()];
        for node in order {
            let node = node as usize;
            let (parent, step) = parts.steps[node];
            let key = (parent.map(|parent| merged[parent as usize]), step);
            let at = *self.known.entry(key).or_insert_with(|| {
                self.steps.push(key);
                self.steps.len() as u32 - 1
            });
            merged[node] = at;
            if let Some(value) = parts.ends[node] {
                self.ends.push((at, self.graphs, PatternEnd { value, rank: ranks[node] }));
            }
        }
        self.graphs += 1;
        Ok(())
    }

    fn finish(self) -> Result<MergedTrie> {
        let (trie, places) = Trie::new(&self.steps)?;
        let mut ends: Vec<_> =
            self.ends.into_iter().map(|(at, graph, end)| (places[at as usize], graph, end)).collect();
        ends.sort_by_key(|(node, ..)| *node);
        let mut starts = vec![0; trie.len() + 1];
        ends.iter().for_each(|(node, ..)| starts[*node as usize + 1] += 1);
        for node in 1..starts.len() {
            starts[node] += starts[node - 1];
        }
        Ok(MergedTrie { trie, starts, ends: ends.into_iter().map(|(_, graph, end)| (graph, end)).collect() })
    }
}

impl MergedTrie {
    #[inline]
    fn predict(&self, text: &[u32], scratch: &mut Scratch) {
        let mut stack = std::mem::take(&mut scratch.stack);
        self.trie.visit_all(text, &mut stack, |node| {
            let range = self.starts[node as usize] as usize..self.starts[node as usize + 1] as usize;
            self.ends[range].iter().for_each(|(graph, end)| scratch.take(*graph, *end));
        });
        scratch.stack = stack;
    }
}

#[derive(Debug, Clone)]
struct SeparateMatchers {
    matchers: Vec<Matcher>,
    by_activator: HashMap<u32, Vec<u32>>,
    /// Indices of the graphs with an activator that is a wildcard.
    always: Vec<u32>,
}

impl SeparateMatchers {
    fn new(matchers: Vec<Matcher>) -> Self {
        let mut by_activator: HashMap<u32, Vec<u32>> = HashMap::new();
        let mut always = Vec::new();
        for (graph, matcher) in (0..).zip(&matchers) {
            if matcher.fires_on_anything() {
                always.push(graph);
                continue;
            }
            matcher.activators().for_each(|token| by_activator.entry(token).or_default().push(graph));
        }
        Self { matchers, by_activator, always }
    }

    fn predict(&self, text: &[u32], scratch: &mut Scratch) {
        let mut stack = std::mem::take(&mut scratch.stack);
        let on_token = text.last().and_then(|token| self.by_activator.get(token));
        for graph in self.always.iter().chain(on_token.into_iter().flatten()) {
            let end = self.matchers[*graph as usize].predict(text, &mut stack);
            if end.rank != NONE {
                scratch.take(*graph, end);
            }
        }
        scratch.stack = stack;
    }
}
