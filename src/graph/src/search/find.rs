//! Search in one graph.

use super::best::BestPatterns;
use super::phrase::best_run;
use super::{Form, Posting, Query, Score, Term, postings};
use crate::Graph;
use crate::draw::pattern_text;

/// Hit of a query in a graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// Score of the hit: of a conjunction, that of the worst term; of alternatives, that of the best.
    pub score: Score,
    /// The node of the [expanded](Graph::expanded) graph of the token, or of the first token in reading order of a phrase.
    pub node: u32,
    /// The pattern through the node that predicts the most, as [`draw::text`](crate::draw::text()) writes it.
    pub pattern: String,
}

/// Evidence that a graph matches a query.
#[derive(Debug, Clone, PartialEq)]
pub enum Evidence {
    /// A hit: a token of the query is in the graph.
    Present(Hit),
    /// A match by NOT alone: the tokens that the query excludes are not in the graph.
    Absent,
}

impl Evidence {
    /// The hit; `None` if the match is by NOT alone.
    pub fn hit(&self) -> Option<&Hit> {
        match self {
            Self::Present(hit) => Some(hit),
            Self::Absent => None,
        }
    }

    /// The hit as [`hit`](Self::hit) returns it, owned.
    pub fn into_hit(self) -> Option<Hit> {
        match self {
            Self::Present(hit) => Some(hit),
            Self::Absent => None,
        }
    }
}

/// A graph to search in, with its postings and best patterns.
struct SearchableGraph<'a> {
    graph: &'a Graph,
    best: BestPatterns,
    postings: Vec<Posting>,
}

impl Query {
    /// Evidence that a graph matches; `None` if it does not. Defines the results of [`search`](Self::search).
    ///
    /// ```
    /// use neuroql_graph::formats::paths;
    /// use neuroql_graph::search::{Query, Role};
    ///
    /// let graph = paths::parse(
    ///     r#"[[{"token": " States", "importance": 1.0, "activation": 0.9},
    ///          {"token": " United", "importance": 0.8, "activation": 0.1},
    ///          {"token": "**END**", "importance": 0.0, "activation": 0.9}]]"#,
    /// )?;
    /// let evidence = "\"united states\" NOT kingdom".parse::<Query>()?.find(&graph);
    /// let hit = evidence.as_ref().and_then(|evidence| evidence.hit()).unwrap();
    /// assert_eq!((hit.score.role, hit.score.importance), (Role::Activating, 0.8));
    /// assert_eq!(hit.pattern, "\" United\" \" States\" → 0.90");
    /// # Ok::<(), neuroql_graph::Error>(())
    /// ```
    pub fn find(&self, graph: &Graph) -> Option<Evidence> {
        let graph = &graph.expanded();
        let searched = SearchableGraph { graph, best: BestPatterns::of(graph), postings: postings(graph) };
        Some(match self.place(&searched)? {
            None => Evidence::Absent,
            Some((score, node)) => {
                let pattern = pattern_text(graph, searched.best.end(node));
                Evidence::Present(Hit { score, node, pattern })
            }
        })
    }

    /// Score and node of the hit, `Some(None)` for a match by NOT alone; `None` if the graph does not match.
    fn place(&self, searched: &SearchableGraph) -> Option<Option<(Score, u32)>> {
        match self {
            Self::Term(term) => term.place(searched).map(Some),
            Self::Not(part) => part.place(searched).is_none().then_some(None),
            Self::And(parts) => {
                let places = parts.iter().map(|part| part.place(searched)).collect::<Option<Vec<_>>>()?;
                Some(places.into_iter().flatten().min_by_key(|(score, _)| *score))
            }
            Self::Or(parts) => {
                let places = parts.iter().filter_map(|part| part.place(searched));
                // The first of the best.
                places.reduce(|one, other| if score(other) > score(one) { other } else { one })
            }
        }
    }
}

fn score(place: Option<(Score, u32)>) -> Option<Score> {
    place.map(|(score, _)| score)
}

impl Term {
    fn place(&self, searched: &SearchableGraph) -> Option<(Score, u32)> {
        if self.is_phrase() {
            return best_run(searched.graph, &searched.best, self);
        }
        let mut found: Option<(Score, u32)> = None;
        for posting in &searched.postings {
            let is_meant = self.takes_role(posting.score.role) && self.takes_token(&posting.key, &posting.text);
            if is_meant && found.is_none_or(|(best, _)| posting.score > best) {
                found = Some((posting.score, posting.node));
            }
        }
        found
    }

    /// Returns true if a token matches the text of a term that is no phrase.
    pub(super) fn takes_token(&self, key: &str, text: &str) -> bool {
        match self.form() {
            Form::Normalized => key == self.key(),
            Form::Prefix => key.starts_with(self.key()),
            Form::Exact => text == self.text(),
        }
    }
}
