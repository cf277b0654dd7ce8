//! Postings of a graph.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::best::BestPatterns;
use super::{Role, Score, normalize};
use crate::{Graph, Symbol};

/// Posting: a token of a graph in one of its roles.
#[derive(Debug, Clone, PartialEq)]
pub struct Posting {
    /// Its [normalised](normalize) text.
    pub key: String,
    /// Its text.
    pub text: Arc<str>,
    /// The node of the [expanded](Graph::expanded) graph that has it in this role and is on the pattern that predicts the most; the first of several.
    pub node: u32,
    /// Its role, with the greatest activation and the greatest importance of all nodes that have it in this role.
    pub score: Score,
}

/// Postings of a graph: its tokens, once for each of their roles, in the order of key, text and role.
///
/// ```
/// use neuroql_graph::formats::paths;
/// use neuroql_graph::search::{Role, postings};
///
/// let graph = paths::parse(
///     r#"[[{"token": " dog", "importance": 1.0, "activation": 0.9},
///          {"token": " Hot", "importance": 0.8, "activation": 0.1},
///          {"token": "**END**", "importance": 0.0, "activation": 0.9}]]"#,
/// )?;
/// let found: Vec<_> = postings(&graph).into_iter().map(|posting| (posting.key, posting.score.role)).collect();
/// assert_eq!(found, [("dog".to_owned(), Role::Activating), ("hot".to_owned(), Role::Important)]);
/// # Ok::<(), neuroql_graph::Error>(())
/// ```
pub fn postings(graph: &Graph) -> Vec<Posting> {
    let graph = graph.expanded();
    let best = BestPatterns::of(&graph);
    let mut merged: BTreeMap<(&Arc<str>, Role), (u32, Score)> = BTreeMap::new();
    for (node, at) in graph.nodes().iter().zip(0u32..) {
        let (Symbol::Token(token), Some(role)) = (&node.symbol, Role::of(node)) else { continue };
        let score = Score { role, activation: best.activation(at), importance: node.importance + 0.0 };
        let (first, merged) = merged.entry((&token.text, role)).or_insert((at, score));
        if score.activation > merged.activation {
            *first = at;
        }
        merged.activation = merged.activation.max(score.activation);
        merged.importance = merged.importance.max(score.importance);
    }
    let posting = |((text, _), (node, score)): ((&Arc<str>, Role), (u32, Score))| Posting {
        key: normalize(text),
        text: text.clone(),
        node,
        score,
    };
    let mut postings: Vec<_> = merged.into_iter().map(posting).collect();
    // A stable sort: within a key, texts and roles are in order already.
    postings.sort_by(|one, other| one.key.cmp(&other.key));
    postings
}
