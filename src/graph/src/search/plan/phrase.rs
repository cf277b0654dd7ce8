//! Graphs that may have a phrase, by the tokens it may be made of.

use super::list::gallop;
use crate::search::{Index, PostingList, Score, Term};

/// A graph that has tokens for the beginning of a phrase, with the least of the greatest that they have.
#[derive(Debug, Clone, Copy)]
struct Reached {
    ordinal: u32,
    activation: f32,
    importance: f32,
}

/// Graphs that have tokens which could spell a phrase, by ordinal, with the greatest score that the phrase can have in
/// each: a run of tokens has the role of its last token, and no greater activation or importance than any of them.
///
/// The phrase is cut into tokens in all ways: a graph that has tokens for all up to some place has them up to another
/// if it has the piece between the two.
pub(super) fn candidates<I: Index + ?Sized>(index: &I, phrase: &Term) -> Vec<(u32, Score)> {
    let text = phrase.spelling();
    let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let mut reached: Vec<Vec<Reached>> = vec![Vec::new(); places.len()];
    let mut found: Vec<(u32, Score)> = Vec::new();
    let last = places.len() - 1;
    for start in 0..last {
        let before = (start > 0).then(|| merged(std::mem::take(&mut reached[start])));
        if before.as_ref().is_some_and(Vec::is_empty) {
            continue;
        }
        let before = before.as_deref();
        for end in start + 1..last {
            for list in phrase.lists_of_piece(index, &text[places[start]..places[end]]) {
                extend(before, &list, |graph| reached[end].push(graph));
            }
        }
        for list in phrase.lists_of_last(index, &text[places[start]..]) {
            extend(before, &list, |Reached { ordinal, activation, importance }| {
                found.push((ordinal, Score { role: list.role, activation, importance }));
            });
        }
    }
    // Stable sorts are fast here: each list is in order.
    found.sort_by(|one, other| one.0.cmp(&other.0).then_with(|| other.1.cmp(&one.1)));
    found.dedup_by_key(|(ordinal, _)| *ordinal);
    found
}

/// Each graph once, with the greatest of each number.
fn merged(mut graphs: Vec<Reached>) -> Vec<Reached> {
    graphs.sort_by_key(|graph| graph.ordinal);
    graphs.dedup_by(|other, first| {
        let same = other.ordinal == first.ordinal;
        if same {
            first.activation = first.activation.max(other.activation);
            first.importance = first.importance.max(other.importance);
        }
        same
    });
    graphs
}

/// The graphs of a list that are among those before, or all if there is nothing before.
fn extend(before: Option<&[Reached]>, list: &PostingList, mut found: impl FnMut(Reached)) {
    let of_list = |at: usize| Reached {
        ordinal: list.ordinals[at],
        activation: list.activations[at],
        importance: list.importances[at],
    };
    let Some(before) = before else {
        (0..list.ordinals.len()).for_each(|at| found(of_list(at)));
        return;
    };
    let (mut one, mut other) = (0, 0);
    // Each goes on to where the other is: it takes no longer than the shorter of the two.
    while let Some(graph) = before.get(one) {
        other = gallop(list.ordinals, other, graph.ordinal, |ordinal| *ordinal);
        if other >= list.ordinals.len() {
            return;
        }
        let piece = of_list(other);
        if piece.ordinal == graph.ordinal {
            let activation = graph.activation.min(piece.activation);
            found(Reached { activation, importance: graph.importance.min(piece.importance), ..piece });
        }
        one = gallop(before, one, piece.ordinal.max(graph.ordinal + 1), |graph| graph.ordinal);
    }
}
