//! Patterns as products of sets: those that differ in one token are one line, with alternatives in its place.

use std::collections::HashMap;

use crate::{Node, Symbol, Token};

/// Greatest number of tokens and wildcards of the patterns that are joined. Others are lines of their own.
const MOST_JOINED: usize = 100_000;

/// Greatest difference of what the patterns of a line predict.
const RANGE: f32 = 0.25;

/// Greatest number of times that all places of patterns are tried.
const SWEEPS: usize = 16;

/// Place of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// One of a set of tokens, by its number.
    OneOf(u32),
    Any,
    Gap(u16),
    Start,
}

/// Line: patterns that have the same tokens but for alternatives, any of which may stand in its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    /// Places from the activator to the left.
    pub places: Vec<Place>,
    /// Least and greatest activation that the patterns predict; `None` for paths at which none ends.
    pub ends: Option<(f32, f32)>,
    /// Number of the patterns.
    pub patterns: usize,
    /// Number of patterns of texts that they were learned from.
    support: u64,
    /// Sum of a hash of each place, from which that of a line without one of them is made.
    hash: u64,
}

/// Lines of a graph, those that predict the most first.
pub(super) struct Products<'a> {
    pub lines: Vec<Line>,
    sets: Vec<Vec<u32>>,
    numbers: HashMap<Vec<u32>, u32>,
    tokens: Vec<&'a Token>,
}

impl<'a> Products<'a> {
    /// Makes the lines of the patterns that end at some nodes, the strongest first, as many as may be joined. Each
    /// pattern is in one line, and a line stands for no others.
    pub fn new(nodes: &'a [Node], patterns: &[usize]) -> Self {
        let mut products = Self { lines: Vec::new(), sets: Vec::new(), numbers: HashMap::new(), tokens: Vec::new() };
        let mut known: HashMap<&Token, u32> = HashMap::new();
        let mut left = MOST_JOINED;
        let mut depths: Vec<u32> = Vec::with_capacity(nodes.len());
        for node in nodes {
            depths.push(node.parent.map_or(1, |parent| depths[parent as usize] + 1));
        }
        for pattern in patterns {
            let Some(less) = left.checked_sub(depths[*pattern] as usize) else { break };
            left = less;
            let mut places = Vec::with_capacity(depths[*pattern] as usize);
            let mut next = Some(*pattern);
            while let Some(at) = next {
                let place = match &nodes[at].symbol {
                    Symbol::Any => Place::Any,
                    Symbol::Gap(most) => Place::Gap(*most),
                    Symbol::Start => Place::Start,
                    Symbol::Token(token) => {
                        let number = *known.entry(token).or_insert_with(|| {
                            products.tokens.push(token);
                            products.tokens.len() as u32 - 1
                        });
                        Place::OneOf(products.set(vec![number]))
                    }
                };
                places.push(place);
                next = nodes[at].parent.map(|parent| parent as usize);
            }
            places.reverse();
            let hash = places.iter().enumerate().fold(0, |sum: u64, (at, place)| sum.wrapping_add(hash(at, *place)));
            let Node { ends, support, .. } = nodes[*pattern];
            let ends = ends.map(|ends| (ends, ends));
            products.lines.push(Line { places, ends, patterns: 1, support: u64::from(support), hash });
        }
        products.join();
        products
    }

    /// Tokens of a set, by their text.
    pub fn tokens(&self, set: u32) -> Vec<&'a Token> {
        let mut tokens: Vec<&Token> =
            self.sets[set as usize].iter().map(|token| self.tokens[*token as usize]).collect();
        tokens.sort_by(|a, b| a.text.cmp(&b.text).then(a.id.cmp(&b.id)));
        tokens
    }

    fn set(&mut self, tokens: Vec<u32>) -> u32 {
        if let Some(number) = self.numbers.get(&tokens) {
            return *number;
        }
        let number = self.sets.len() as u32;
        self.sets.push(tokens.clone());
        self.numbers.insert(tokens, number);
        number
    }

    fn join(&mut self) {
        // Lines that are joined have the same length.
        let mut lengths: HashMap<usize, Vec<Line>> = HashMap::new();
        let mut order: Vec<usize> = Vec::new();
        for line in std::mem::take(&mut self.lines) {
            let length = line.places.len();
            let alike = lengths.entry(length).or_default();
            if alike.is_empty() {
                order.push(length);
            }
            alike.push(line);
        }
        for length in order {
            let mut alike = lengths.remove(&length).unwrap_or_default();
            for _ in 0..SWEEPS {
                let before = alike.len();
                // What stands farthest from the activator tells least.
                for at in (0..length).rev() {
                    if alike.len() > 1 {
                        alike = self.joined(alike, at);
                    }
                }
                if alike.len() == before {
                    break;
                }
            }
            self.lines.append(&mut alike);
        }
        let ends = |line: &Line| line.ends.map_or(f32::NEG_INFINITY, |ends| ends.1);
        // A stable sort: ties stay as they are.
        self.lines.sort_by(|a, b| ends(b).total_cmp(&ends(a)).then_with(|| b.support.cmp(&a.support)));
    }

    /// Joins the lines that differ in one place only.
    fn joined(&mut self, lines: Vec<Line>, at: usize) -> Vec<Line> {
        let mut first: HashMap<(u64, bool), usize> = HashMap::new();
        let mut joined: Vec<Line> = Vec::with_capacity(lines.len());
        // Tokens that are added to the set of a line.
        let mut added: Vec<Vec<u32>> = Vec::with_capacity(lines.len());
        for line in lines {
            if let Place::OneOf(set) = line.places[at] {
                let key = (line.hash.wrapping_sub(hash(at, line.places[at])), line.ends.is_some());
                let place = first.insert(key, joined.len()).unwrap_or(joined.len());
                if place < joined.len() && joined[place].is_beside(&line, at) {
                    first.insert(key, place);
                    added[place].extend_from_slice(&self.sets[set as usize]);
                    joined[place].add(&line);
                    continue;
                }
            }
            joined.push(line);
            added.push(Vec::new());
        }
        for (line, mut tokens) in joined.iter_mut().zip(added) {
            let (Place::OneOf(set), false) = (line.places[at], tokens.is_empty()) else { continue };
            tokens.extend_from_slice(&self.sets[set as usize]);
            tokens.sort_unstable();
            let place = Place::OneOf(self.set(tokens));
            line.hash = line.hash.wrapping_sub(hash(at, line.places[at])).wrapping_add(hash(at, place));
            line.places[at] = place;
        }
        joined
    }
}

impl Line {
    /// Returns true if the other line has other alternatives in one place, otherwise the same places, and predicts about
    /// the same.
    fn is_beside(&self, other: &Self, at: usize) -> bool {
        let range = joined_ends(self.ends, other.ends).map_or(0.0, |(least, most)| most - least);
        if range > RANGE {
            return false;
        }
        let sets = matches!((self.places[at], other.places[at]), (Place::OneOf(_), Place::OneOf(_)));
        sets && self.places[..at] == other.places[..at] && self.places[at + 1..] == other.places[at + 1..]
    }

    fn add(&mut self, other: &Self) {
        self.ends = joined_ends(self.ends, other.ends);
        self.patterns += other.patterns;
        self.support = self.support.saturating_add(other.support);
    }
}

fn joined_ends(one: Option<(f32, f32)>, other: Option<(f32, f32)>) -> Option<(f32, f32)> {
    one.zip(other).map(|(a, b)| (a.0.min(b.0), a.1.max(b.1)))
}

/// Hash of a place of a line.
fn hash(at: usize, place: Place) -> u64 {
    let (kind, value) = match place {
        Place::OneOf(set) => (0, u64::from(set)),
        Place::Any => (1, 0),
        Place::Gap(most) => (2, u64::from(most)),
        Place::Start => (3, 0),
    };
    let mut mixed = (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (4 * value + kind);
    for factor in [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb] {
        mixed = (mixed ^ (mixed >> 31)).wrapping_mul(factor);
    }
    mixed ^ (mixed >> 29)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::Graph;

    fn symbols() -> impl Strategy<Value = Symbol> {
        prop_oneof![
            8 => (0..4_u32).prop_map(|id| Symbol::token(id, id.to_string())),
            1 => Just(Symbol::Any),
            1 => (0..3_u16).prop_map(Symbol::Gap),
            1 => Just(Symbol::Start),
        ]
    }

    proptest! {
        /// Checks that each pattern is in one line, and that lines have no others.
        #[test]
        fn lines_are_the_patterns(paths in vec((vec(symbols(), 1..4), any::<bool>()), 0..60)) {
            let mut nodes: Vec<Node> = Vec::new();
            for (path, ends) in &paths {
                let mut parent = None;
                for symbol in path {
                    let known = nodes.iter().position(|node| (node.parent, &node.symbol) == (parent, symbol));
                    let at = known.unwrap_or(nodes.len());
                    if at == nodes.len() {
                        let symbol = symbol.clone();
                        nodes.push(Node { parent, symbol, importance: 1.0, activation: 1.0, ends: None, support: 1 });
                    }
                    parent = Some(at as u32);
                }
                if let (Some(last), true) = (parent, *ends) {
                    nodes[last as usize].ends = Some(path.len() as f32 / 4.0);
                }
            }
            let graph = Graph::new(nodes).unwrap();
            let tips: Vec<usize> = (0..graph.nodes().len()).filter(|at| graph.nodes()[*at].ends.is_some()).collect();
            let products = Products::new(graph.nodes(), &tips);
            let mut expanded = Vec::new();
            for line in &products.lines {
                let mut all: Vec<Vec<Symbol>> = vec![Vec::new()];
                for place in &line.places {
                    let symbols: Vec<Symbol> = match place {
                        Place::Any => vec![Symbol::Any],
                        Place::Gap(most) => vec![Symbol::Gap(*most)],
                        Place::Start => vec![Symbol::Start],
                        Place::OneOf(set) => {
                            products.tokens(*set).into_iter().map(|token| Symbol::Token(token.clone())).collect()
                        }
                    };
                    all = all.iter().flat_map(|path| symbols.iter().map(|s| [path, &[s.clone()][..]].concat())).collect();
                }
                prop_assert_eq!(all.len(), line.patterns);
                prop_assert_eq!(line.ends, Some((line.places.len() as f32 / 4.0, line.places.len() as f32 / 4.0)));
                expanded.extend(all.iter().map(|path| format!("{path:?}")));
            }
            let path = |tip: &usize| {
                let up = std::iter::successors(Some(*tip), |at| graph.nodes()[*at].parent.map(|at| at as usize));
                let mut path: Vec<Symbol> = up.map(|at| graph.nodes()[at].symbol.clone()).collect();
                path.reverse();
                format!("{path:?}")
            };
            let wanted: BTreeSet<String> = tips.iter().map(path).collect();
            prop_assert_eq!(expanded.len(), wanted.len());
            prop_assert_eq!(expanded.into_iter().collect::<BTreeSet<_>>(), wanted);
        }
    }
}
