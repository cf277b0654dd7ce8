//! Similarity of two graphs.

use std::collections::{BTreeSet, HashSet};
use std::str::FromStr;

use crate::token_key::SymbolIdentity;
use crate::{Error, Graph, Kind, Matcher, Pattern, Result, Semantics, Signature, Symbol};

/// Own activation, over the neuron's greatest, above which a token of a graph is activating in Neuron2Graph.
const ACTIVATING: f32 = 0.5;

/// Greatest number of tokens of the patterns of two graphs that give the texts to compare them on: texts and
/// predictions for them are held in memory.
const MOST_TOKENS: usize = 16 << 20;

/// Methods of comparing two graphs. All give a number from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Similarity {
    /// Tokens by role, as Neuron2Graph compares (`find_similar`). A node whose own activation is over 0.5 is
    /// activating, other ones are important; wildcards do not count. For each role that either graph has, the number of
    /// tokens of both over that of the graph that has more; the least of the roles. Graphs of 0.9 or more are called
    /// similar there, except that two graphs without important tokens can be similar here. Symmetric.
    Tokens,
    /// Share of the first graph's patterns, by weight, that the second has too: see [`Signature::contained_in`].
    /// Not symmetric.
    Containment,
    /// Weighted Jaccard similarity of the patterns: see [`Signature::similarity`]. Symmetric.
    #[default]
    Patterns,
    /// Correlation of their predictions for texts: see [`behaviour`]. The texts are, for each pattern of either, the
    /// shortest that it matches; both graphs must be of one vocabulary. Symmetric.
    Behaviour,
}

impl Similarity {
    /// All methods.
    pub const ALL: [Self; 4] = [Self::Tokens, Self::Containment, Self::Patterns, Self::Behaviour];

    /// Name of the method in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Containment => "containment",
            Self::Patterns => "patterns",
            Self::Behaviour => "behaviour",
        }
    }
}

impl FromStr for Similarity {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|similarity| similarity.name() == name).ok_or_else(|| Error::Unknown {
            what: "way to compare graphs",
            name: name.to_owned(),
            known: Self::ALL.map(Self::name).join(", "),
        })
    }
}

/// Similarity of two graphs, from 0 to 1. `None` if it is undefined: if neither has any tokens, patterns or activations
/// to compare, and for the containment of a graph without patterns.
///
/// ```
/// use neuroql_graph::{Graph, Node, Similarity, Symbol, similarity};
///
/// let node = |parent, token: &str, ends| {
///     Node { parent, symbol: Symbol::token(1, token), importance: 1.0, activation: 1.0, ends, support: 1 }
/// };
/// let cat = Graph::new(vec![node(None, " cat", Some(0.5))])?;
/// let pets = Graph::new(vec![node(None, " cat", Some(0.75)), node(None, " dog", Some(0.25))])?;
/// assert_eq!(similarity(&cat, &pets, Similarity::Patterns)?, Some(0.5));
/// assert_eq!(similarity(&cat, &pets, Similarity::Containment)?, Some(1.0));
/// assert_eq!(similarity(&pets, &cat, Similarity::Containment)?, Some(0.75));
/// assert_eq!(similarity(&Graph::default(), &Graph::default(), Similarity::Tokens)?, None);
/// # Ok::<(), neuroql_graph::Error>(())
/// ```
///
/// # Errors
/// Errors of [`behaviour`], and [`Error::TooLarge`] if it has too many texts to compare on; the other ways have none.
pub fn similarity(a: &Graph, b: &Graph, method: Similarity) -> Result<Option<f64>> {
    similarity_while(a, b, method, &|| true)
}

/// Computes [`similarity`] while `go_on`, which is called often where it may take long, returns true.
///
/// # Errors
/// Errors of [`similarity`] and [`Error::Interrupted`].
pub fn similarity_while(a: &Graph, b: &Graph, method: Similarity, go_on: &dyn Fn() -> bool) -> Result<Option<f64>> {
    let (a, b) = (a.expanded(), b.expanded());
    let (a, b) = (&*a, &*b);
    match method {
        Similarity::Tokens => Ok(tokens(a, b)),
        Similarity::Containment => Ok(Signature::of(a).contained_in(&Signature::of(b))),
        Similarity::Patterns => Ok(Signature::of(a).similarity(&Signature::of(b))),
        Similarity::Behaviour => {
            let texts = own_texts(a, b)?;
            behaviour_while(a, b, &texts.iter().map(Vec::as_slice).collect::<Vec<_>>(), go_on)
        }
    }
}

/// Pearson correlation of the predictions of two graphs of one vocabulary at the tokens of all texts, with
/// [`Semantics::Longest`]; 0 if it is negative, or if one graph predicts the same everywhere. `None` if both do.
/// Symmetric to the last bit.
///
/// # Errors
/// [`Error::Duplicate`] if siblings have the same token id.
pub fn behaviour(a: &Graph, b: &Graph, texts: &[&[u32]]) -> Result<Option<f64>> {
    behaviour_while(a, b, texts, &|| true)
}

/// Computes [`behaviour`] while `go_on` returns true.
///
/// # Errors
/// Errors of [`behaviour`] and [`Error::Interrupted`].
pub fn behaviour_while(a: &Graph, b: &Graph, texts: &[&[u32]], go_on: &dyn Fn() -> bool) -> Result<Option<f64>> {
    let predicted = |graph: &Graph| -> Result<Vec<f32>> {
        let matcher = Matcher::of(graph, Semantics::Longest)?;
        let mut predicted = Vec::with_capacity(texts.iter().map(|text| text.len()).sum());
        texts.iter().try_for_each(|text| matcher.simulate_while(text, &mut predicted, go_on))?;
        Ok(predicted)
    };
    Ok(correlation(&predicted(a)?, &predicted(b)?).map(|correlation| correlation.clamp(0.0, 1.0)))
}

/// Pearson correlation; 0 if one is constant, `None` if both are.
fn correlation(a: &[f32], b: &[f32]) -> Option<f64> {
    let constant = |values: &[f32]| values.windows(2).all(|pair| pair[0] == pair[1]);
    match (constant(a), constant(b)) {
        (true, true) => return None,
        (false, false) => {}
        _ => return Some(0.0),
    }
    let mean = |values: &[f32]| values.iter().copied().map(f64::from).sum::<f64>() / values.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (f64::from(*a) - mean_a, f64::from(*b) - mean_b);
        aa += a * a;
        bb += b * b;
        ab += a * b;
    }
    Some(ab / (aa * bb).sqrt())
}

fn tokens(a: &Graph, b: &Graph) -> Option<f64> {
    let share = |(a, b): (HashSet<SymbolIdentity>, HashSet<SymbolIdentity>)| {
        let most = a.len().max(b.len());
        (most > 0).then(|| a.intersection(&b).count() as f64 / most as f64)
    };
    let [activating, important] = [true, false].map(|activating| share((role(a, activating), role(b, activating))));
    match (activating, important) {
        (Some(activating), Some(important)) => Some(activating.min(important)),
        (activating, important) => activating.or(important),
    }
}

/// Activating tokens of a graph, or its other ones.
fn role(graph: &Graph, activating: bool) -> HashSet<SymbolIdentity<'_>> {
    let nodes = graph.nodes().iter().filter(|node| (node.activation > ACTIVATING) == activating);
    nodes.filter(|node| graph.kind(node) != Kind::Wildcard).map(|node| (&node.symbol).into()).collect()
}

/// The shortest text that each pattern of either graph matches. A wildcard is a token that neither graph has; that
/// token is also before every text whose pattern does not start with the text, and a text by itself.
fn own_texts(a: &Graph, b: &Graph) -> Result<BTreeSet<Vec<u32>>> {
    let ids = [a, b].into_iter().flat_map(Graph::nodes).filter_map(|node| match &node.symbol {
        Symbol::Token(token) => token.id,
        _ => None,
    });
    let other = ids.max().map_or(0, |greatest| greatest.saturating_add(1));
    let patterns = a.to_patterns().chain(b.to_patterns());
    let (mut texts, mut tokens) = (BTreeSet::from([vec![other]]), 0);
    for pattern in patterns {
        tokens += pattern.elements.len();
        if tokens > MOST_TOKENS {
            return Err(Error::TooLarge { what: "patterns with tokens", count: tokens, limit: MOST_TOKENS });
        }
        texts.extend(shortest_text(&pattern, other));
    }
    Ok(texts)
}

/// The shortest text that a pattern matches; `None` if there is none, because a token has no id.
fn shortest_text(pattern: &Pattern, other: u32) -> Option<Vec<u32>> {
    let mut text = Vec::with_capacity(pattern.elements.len() + 1);
    for element in &pattern.elements {
        match &element.symbol {
            Symbol::Token(token) => text.push(token.id?),
            Symbol::Any => text.push(other),
            Symbol::Gap(_) | Symbol::Start => {}
        }
    }
    if pattern.elements.last().is_none_or(|last| last.symbol != Symbol::Start) {
        text.push(other);
    }
    text.reverse();
    Some(text)
}
