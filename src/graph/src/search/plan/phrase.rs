//! Candidates for a phrase: graphs that have tokens which may spell it.

use super::cursor::gallop;
use crate::search::{Index, PostingList, Score, Term};

/// Columns of graphs with tokens for the beginning of a phrase, by ordinal, with the least of their tokens' numbers.
#[derive(Clone, Copy)]
struct PhraseColumns<'a> {
    ordinals: &'a [u32],
    activations: &'a [f32],
    importances: &'a [f32],
}

/// A row of [`PhraseColumns`].
#[derive(Clone, Copy)]
struct PhraseRow {
    ordinal: u32,
    activation: f32,
    importance: f32,
}

/// Candidates: graphs with tokens which could spell a phrase, by ordinal, with the greatest score that it can have in
/// each: a run of tokens has the role of its last token, and no greater activation or importance than any of them.
///
/// The phrase is cut into tokens in all ways: a graph that has tokens for all up to some place has them up to another
/// if it has the piece between the two.
pub(super) fn candidates<I: Index + ?Sized>(index: &I, phrase: &Term) -> Vec<(u32, Score)> {
    let cuts = Segmentation::new(index, phrase);
    // For each place: lists of single tokens that spell all before it, and graphs with several tokens that do.
    let mut whole: Vec<Vec<PhraseColumns>> = vec![Vec::new(); cuts.pieces.len()];
    let mut pieced: Vec<Vec<PhraseRow>> = vec![Vec::new(); cuts.pieces.len()];
    let mut found: Vec<(u32, Score)> = Vec::new();
    for (start, pieces) in cuts.pieces.iter().enumerate() {
        let merged = MergedRows::new(std::mem::take(&mut pieced[start]));
        let mut before = std::mem::take(&mut whole[start]);
        before.push(merged.columns());
        for (end, list) in &pieces.inner {
            if start == 0 {
                whole[*end].push(PhraseColumns::of(list));
            } else {
                before.iter().for_each(|before| before.and(PhraseColumns::of(list), |both| pieced[*end].push(both)));
            }
        }
        for list in &pieces.last {
            let columns = PhraseColumns::of(list);
            let mut find = |PhraseRow { ordinal, activation, importance }| {
                found.push((ordinal, Score { role: list.role, activation, importance }));
            };
            if start == 0 {
                (0..columns.ordinals.len()).for_each(|at| find(columns.get(at)));
            } else {
                before.iter().for_each(|before| before.and(columns, &mut find));
            }
        }
    }
    // Stable sorts are fast here: each list is in order.
    found.sort_by(|one, other| one.0.cmp(&other.0).then_with(|| other.1.cmp(&one.1)));
    found.dedup_by_key(|(ordinal, _)| *ordinal);
    found
}

/// Ways to cut a phrase into tokens of the index.
struct Segmentation<'a> {
    /// Pieces by the place where they start, in characters.
    pieces: Vec<SegmentLists<'a>>,
}

/// Pieces of a phrase that start at a place, and after which tokens spell the rest.
#[derive(Default)]
struct SegmentLists<'a> {
    /// Ends of the pieces that end before the phrase does, with the lists of tokens for them.
    inner: Vec<(usize, PostingList<'a>)>,
    /// Lists of tokens for the whole rest of the phrase.
    last: Vec<PostingList<'a>>,
}

impl<'a> Segmentation<'a> {
    fn new<I: Index + ?Sized>(index: &'a I, phrase: &Term) -> Self {
        let text = phrase.spelling();
        let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        let mut pieces: Vec<SegmentLists> = Vec::new();
        pieces.resize_with(places.len(), SegmentLists::default);
        for start in (0..places.len()).rev() {
            let mut inner = Vec::new();
            for end in start + 1..places.len() {
                let (piece, rest) = (&text[places[start]..places[end]], &text[places[end]..]);
                let leads_on = !pieces[end].inner.is_empty() || !pieces[end].last.is_empty();
                if leads_on && phrase.may_cut(piece, rest) {
                    inner.extend(phrase.lists_of_piece(index, piece).into_iter().map(|list| (end, list)));
                }
            }
            pieces[start] = SegmentLists { inner, last: phrase.lists_of_last(index, &text[places[start]..]) };
        }
        Self { pieces }
    }
}

impl<'a> PhraseColumns<'a> {
    fn of(list: &PostingList<'a>) -> Self {
        Self { ordinals: list.ordinals, activations: list.activations, importances: list.importances }
    }

    fn get(&self, at: usize) -> PhraseRow {
        PhraseRow { ordinal: self.ordinals[at], activation: self.activations[at], importance: self.importances[at] }
    }

    /// Intersects two columns by galloping in turns, which takes little longer than reading the shorter one.
    fn and(&self, other: PhraseColumns, mut found: impl FnMut(PhraseRow)) {
        let (mut at, mut to) = (0, 0);
        while let Some(ordinal) = self.ordinals.get(at).copied() {
            to = gallop(other.ordinals, to, ordinal);
            let Some(reached) = other.ordinals.get(to).copied() else { return };
            if reached == ordinal {
                let (one, other) = (self.get(at), other.get(to));
                let activation = one.activation.min(other.activation);
                found(PhraseRow { ordinal, activation, importance: one.importance.min(other.importance) });
            }
            at = gallop(self.ordinals, at, reached.max(ordinal + 1));
        }
    }
}

/// Merged rows: distinct graphs in owned columns, with the greatest of each number.
#[derive(Default)]
struct MergedRows {
    ordinals: Vec<u32>,
    activations: Vec<f32>,
    importances: Vec<f32>,
}

impl MergedRows {
    fn new(mut graphs: Vec<PhraseRow>) -> Self {
        graphs.sort_by_key(|graph| graph.ordinal);
        let mut merged = Self::default();
        for same in graphs.chunk_by(|one, other| one.ordinal == other.ordinal) {
            let greatest = |number: fn(&PhraseRow) -> f32| same.iter().map(number).fold(f32::NEG_INFINITY, f32::max);
            merged.ordinals.push(same[0].ordinal);
            merged.activations.push(greatest(|graph| graph.activation));
            merged.importances.push(greatest(|graph| graph.importance));
        }
        merged
    }

    fn columns(&self) -> PhraseColumns<'_> {
        PhraseColumns { ordinals: &self.ordinals, activations: &self.activations, importances: &self.importances }
    }
}
