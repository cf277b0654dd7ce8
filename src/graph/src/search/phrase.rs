//! Matching of phrases, which tokens next to each other spell.

use super::best::BestPatterns;
use super::normalize::{fold, trimmed};
use super::{Form, Index, PostingList, Role, Score, Term};
use crate::{Graph, Symbol};

/// Extent to which a text spells a phrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SpellingMatch {
    All,
    Beginning,
    Other,
}

impl Term {
    /// The text that tokens must spell.
    pub(super) fn spelling(&self) -> &str {
        if self.form() == Form::Exact { self.text() } else { self.key() }
    }

    /// The text that a token adds to a spelling.
    fn piece(&self, text: &str) -> String {
        if self.form() == Form::Exact { text.to_owned() } else { fold(text) }
    }

    fn spelled(&self, text: &str) -> SpellingMatch {
        let (wanted, start) = (self.spelling(), text.trim_start());
        let (all, beginning) = match self.form() {
            Form::Exact => (text == wanted, wanted.starts_with(text)),
            Form::Normalized => (start.trim_end() == wanted, wanted.starts_with(start)),
            Form::Prefix => (start.starts_with(wanted), wanted.starts_with(start)),
        };
        match (all, beginning) {
            (true, _) => SpellingMatch::All,
            (_, true) => SpellingMatch::Beginning,
            _ => SpellingMatch::Other,
        }
    }

    /// Returns true if a run may start with a piece: a blank one at its start would add nothing.
    fn may_start(&self, piece: &str) -> bool {
        let blank = if self.form() == Form::Exact { piece } else { piece.trim() };
        !blank.is_empty()
    }

    /// Returns true if the cut between a piece of the spelling and the rest is needed beside cuts elsewhere: where
    /// spaces do not count, those after a word can as well be before the next.
    pub(super) fn may_cut(&self, piece: &str, rest: &str) -> bool {
        let is_between = piece.ends_with(char::is_whitespace) && !rest.starts_with(char::is_whitespace);
        self.form() == Form::Exact || !is_between || piece.trim().is_empty()
    }

    /// Lists of the tokens that are a piece of the spelling and not its last.
    pub(super) fn lists_of_piece<'a, I: Index + ?Sized>(&self, index: &'a I, piece: &str) -> Vec<PostingList<'a>> {
        if self.form() != Form::Exact {
            return index.lookup(trimmed(piece));
        }
        let mut lists = index.lookup(&super::normalize(piece));
        lists.retain(|list| list.text == piece);
        lists
    }

    /// Lists of the tokens that are the last piece of the spelling.
    pub(super) fn lists_of_last<'a, I: Index + ?Sized>(&self, index: &'a I, piece: &str) -> Vec<PostingList<'a>> {
        let mut lists = match self.form() {
            Form::Prefix => index.lookup_prefix(trimmed(piece)),
            _ => self.lists_of_piece(index, piece),
        };
        lists.retain(|list| self.takes_role(list.role));
        lists
    }
}

/// Score of the best run of nodes that spells a phrase, and its first node in reading order, which is the deepest.
///
/// A run has no wildcards, and ends with the token that completes the phrase: its role is the run's, which is as
/// important as its least important token.
pub(super) fn best_run(graph: &Graph, best: &BestPatterns, term: &Term) -> Option<(Score, u32)> {
    let nodes = graph.nodes();
    let mut found: Option<(Score, u32)> = None;
    for start in 0..nodes.len() as u32 {
        let (mut spelled, mut importance) = (String::new(), f32::INFINITY);
        let mut next = Some(start);
        while let Some(node) = next.map(|at| &nodes[at as usize]) {
            let (Symbol::Token(token), Some(role)) = (&node.symbol, Role::of(node)) else { break };
            let piece = term.piece(&token.text);
            if spelled.is_empty() && !term.may_start(&piece) {
                break;
            }
            spelled.push_str(&piece);
            importance = importance.min(node.importance + 0.0);
            match term.spelled(&spelled) {
                SpellingMatch::All => {
                    let score = Score { role, activation: best.activation(start), importance };
                    if term.takes_role(role) && found.is_none_or(|(best, _)| score > best) {
                        found = Some((score, start));
                    }
                    break;
                }
                SpellingMatch::Beginning => next = node.parent,
                SpellingMatch::Other => break,
            }
        }
    }
    found
}
