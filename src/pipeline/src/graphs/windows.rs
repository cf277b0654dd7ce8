//! Windows of an analysis, cut into examples of graphs.

use std::sync::Arc;

use neuroql_n2g::strongest;
use neuroql_store::StoredExample;

/// Greatest number of tokens of an example. Contexts that graphs are about are much shorter, and attention over longer
/// ones would cost more than it tells.
const WINDOW: usize = 128;

/// The windows of an analysis, of which the store has bounds, and the ranges of examples that are pieces of them.
#[derive(Debug)]
pub(crate) struct Windows {
    /// The document of each window.
    documents: Vec<i64>,
    /// Number of the first piece of each window; at last the number of all pieces.
    first: Vec<usize>,
}

impl Windows {
    /// Cuts windows of `tokens` tokens into examples, and returns both.
    pub fn cut(windows: Arc<Vec<StoredExample>>, tokens: usize) -> (Arc<Vec<StoredExample>>, Self) {
        let documents = windows.iter().map(|window| window.document).collect();
        if tokens <= WINDOW {
            let first = (0..=windows.len()).collect();
            return (windows, Self { documents, first });
        }
        let mut first = vec![0];
        let mut examples = Vec::new();
        for window in windows.iter() {
            examples.extend(pieces(window.document, window.example, &window.tokens, tokens));
            first.push(examples.len());
        }
        (Arc::new(examples), Self { documents, first })
    }

    /// Returns true if each window is an example.
    pub fn are_examples(&self) -> bool {
        self.first.last() == Some(&self.documents.len())
    }

    /// Number of windows.
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// Returns the pieces of the windows in which a neuron is strongest, by its bounds in each.
    pub fn strongest(&self, bounds: &[f32], wanted: usize) -> Vec<usize> {
        let mut windows = strongest(bounds, &self.documents, wanted);
        windows.truncate(wanted);
        windows.into_iter().flat_map(|window| self.first[window]..self.first[window + 1]).collect()
    }
}

/// Cuts an example of a model, whose windows have `window` tokens, into examples of [`WINDOW`] tokens.
pub(crate) fn pieces(
    document: i64,
    example: i64,
    tokens: &[u32],
    window: usize,
) -> impl Iterator<Item = StoredExample> {
    let first = example * window.div_ceil(WINDOW) as i64;
    let piece = move |(i, tokens): (usize, &[u32])| StoredExample {
        document,
        example: first + i as i64,
        tokens: tokens.into(),
    };
    tokens.chunks(WINDOW).enumerate().map(piece)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_windows_are_cut() {
        let window =
            |document, example, tokens: usize| StoredExample { document, example, tokens: vec![7; tokens].into() };
        let windows = Arc::new(vec![window(4, 0, 1000), window(4, 1, 300), window(5, 0, 128), window(6, 0, 1)]);
        let (examples, cut) = Windows::cut(Arc::clone(&windows), 1000);
        let of: Vec<_> = examples.iter().map(|piece| (piece.document, piece.example, piece.tokens.len())).collect();
        assert_eq!(of[..2], [(4, 0, 128), (4, 1, 128)]);
        assert_eq!(of[7..], [(4, 7, 104), (4, 8, 128), (4, 9, 128), (4, 10, 44), (5, 0, 128), (6, 0, 1)]);
        assert!(!cut.are_examples() && cut.len() == 4);
        assert_eq!(cut.strongest(&[0.0, 2.0, 3.0, 1.0], 2), [11, 8, 9, 10]);
        assert_eq!(cut.strongest(&[-1.0, 0.0, 0.5, 0.0], 2), [11]);
        // Short windows stay as they are, without a copy.
        let (examples, uncut) = Windows::cut(Arc::clone(&windows), WINDOW);
        assert!(Arc::ptr_eq(&examples, &windows) && uncut.are_examples());
        assert_eq!(uncut.strongest(&[0.0, 2.0, 3.0, 1.0], 2), [2, 1]);
        assert!(Windows::cut(Arc::default(), 1000).0.is_empty());
    }
}
