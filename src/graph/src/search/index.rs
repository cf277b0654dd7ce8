//! Interface of the index that a search reads.

use super::Role;

/// An inverted index of graphs: for each token, the graphs that have it.
///
/// Graphs have ordinals from 0 to below their number, which is below 2³² − 1. The [`postings`](super::postings) of
/// graph `i` are in the lists of their keys under ordinal `i`. Answers are borrowed columns, such as those of a table
/// in memory: nothing is decoded or copied in a search.
pub trait Index {
    /// F1 score of each graph by ordinal, which orders graphs of equal score; NaN if unknown.
    fn f1s(&self) -> &[f32];

    /// Lists of all texts that have this key, in both roles; in any order, each at most once.
    fn lookup(&self, key: &str) -> Vec<PostingList<'_>>;

    /// Lists of all texts whose key starts with `prefix`, in both roles; in any order, each at most once.
    fn lookup_prefix(&self, prefix: &str) -> Vec<PostingList<'_>>;
}

/// Posting list: the graphs that have a token in a role. Columns are of one length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PostingList<'a> {
    /// Text of the token.
    pub text: &'a str,
    /// Role of the token.
    pub role: Role,
    /// Ordinals of the graphs, strictly ascending.
    pub ordinals: &'a [u32],
    /// [`Score::activation`](super::Score::activation) of the token in each graph; finite, −0 does not occur.
    pub activations: &'a [f32],
    /// [`Score::importance`](super::Score::importance) of the token in each graph; finite, −0 does not occur.
    pub importances: &'a [f32],
}
