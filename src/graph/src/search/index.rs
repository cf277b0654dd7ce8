//! The interface of an index that a search needs.

use super::Role;

/// An inverted index of graphs: for each token, the graphs that have it.
///
/// Graphs have ordinals from 0 to below their number, which is below 2³² − 1. What [`postings`](super::postings) says
/// of graph `i` stands in the lists of its keys under ordinal `i`. Answers are borrowed columns, such as those of a
/// table in memory: nothing is decoded or copied in a search.
pub trait Index {
    /// The F1 score of each graph by ordinal, which decides between graphs that answer equally well; NaN where it is
    /// not known.
    fn f1s(&self) -> &[f32];

    /// The lists of all texts that have this key, in both roles; in any order, each at most once.
    fn lookup(&self, key: &str) -> Vec<PostingList<'_>>;

    /// The lists of all texts whose key starts with `prefix`, in both roles; in any order, each at most once.
    fn lookup_prefix(&self, prefix: &str) -> Vec<PostingList<'_>>;
}

/// The graphs that have a token in a role. Columns are of one length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PostingList<'a> {
    /// The token's text.
    pub text: &'a str,
    /// Its role.
    pub role: Role,
    /// Ordinals of the graphs, strictly ascending.
    pub ordinals: &'a [u32],
    /// [`Score::activation`](super::Score::activation) in each of them; finite, −0 does not occur.
    pub activations: &'a [f32],
    /// [`Score::importance`](super::Score::importance) in each of them; finite, −0 does not occur.
    pub importances: &'a [f32],
}
