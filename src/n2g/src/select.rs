//! Selection of the text that a graph is made of.

use std::collections::HashMap;

/// Greatest multiple of the wanted examples that [`strongest`] returns: near-duplicates and overrated ones drop out.
pub const SPARE: usize = 2;

/// Divisor of the wanted examples that gives the most of one document while others have some.
const SHARE: usize = 5;

/// Computes the greatest activation of each neuron in an example, from its activations, `[tokens, width]`.
pub fn peaks(values: &[f32], width: usize) -> Vec<f32> {
    let mut peaks = vec![f32::NEG_INFINITY; width];
    for row in values.chunks_exact(width) {
        peaks.iter_mut().zip(row).for_each(|(peak, value)| *peak = peak.max(*value));
    }
    peaks
}

/// Selects the examples in which a neuron is strongest, by bounds of its greatest activation in each; the greatest
/// bound first, of equal ones the earlier. `documents` has the document of each example. While examples of others are
/// positive too, only a few are of one document, so that there are examples to learn from and to judge by.
pub fn strongest(bounds: &[f32], documents: &[i64], wanted: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..bounds.len()).filter(|i| bounds[*i] > 0.0).collect();
    order.sort_by(|a, b| bounds[*b].total_cmp(&bounds[*a]).then(a.cmp(b)));
    let most = (wanted / SHARE).max(2);
    let mut given: HashMap<i64, usize> = HashMap::new();
    let (first, rest): (Vec<usize>, Vec<usize>) = order.into_iter().partition(|i| {
        let given = given.entry(documents[*i]).or_default();
        *given += 1;
        *given <= most
    });
    let mut chosen: Vec<usize> = first.into_iter().chain(rest).take(SPARE * wanted).collect();
    chosen.sort_by(|a, b| bounds[*b].total_cmp(&bounds[*a]).then(a.cmp(b)));
    chosen
}

/// Selects examples evenly spread over all, with about `tokens` tokens together.
pub fn spread(lengths: impl ExactSizeIterator<Item = usize> + Clone, tokens: usize) -> Vec<usize> {
    let (count, all) = (lengths.len(), lengths.clone().sum::<usize>());
    if all <= tokens {
        return (0..count).collect();
    }
    let mut chosen = Vec::new();
    // An example is taken whenever the taken share of tokens falls behind.
    let (mut seen, mut taken) = (0u128, 0u128);
    for (i, length) in lengths.enumerate() {
        seen += length as u128;
        if taken * (all as u128) < seen * tokens as u128 && taken + length as u128 <= tokens as u128 {
            taken += length as u128;
            chosen.push(i);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_are_of_each_neuron() {
        assert_eq!(peaks(&[1.0, -5.0, 3.0, -7.0, 2.0, -6.0], 2), [3.0, -5.0]);
    }

    #[test]
    fn documents_share() {
        let bounds = [9.0, 8.0, 7.0, 6.0, 0.0, 5.0];
        // Two of document 1 first, then the others, then its rest; examples that are not positive never.
        assert_eq!(strongest(&bounds, &[1, 1, 1, 2, 2, 3], 2), [0, 1, 3, 5]);
        assert_eq!(strongest(&bounds, &[1; 6], 2), [0, 1, 2, 3]);
        assert!(strongest(&[], &[], 5).is_empty());
    }

    #[test]
    fn text_is_spread() {
        assert_eq!(spread([10; 10].into_iter(), 30), [0, 3, 6]);
        assert_eq!(spread([10; 3].into_iter(), 100), [0, 1, 2]);
        assert!(spread([10; 3].into_iter(), 5).is_empty());
        assert!(spread([0usize; 0].into_iter(), 5).is_empty());
    }
}
