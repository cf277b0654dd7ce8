//! Summaries against a simple, slow version that sees all tokens at once.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use neuroql_analysis::{AFTER, BEFORE, BatchSummary, Columns, Example, LayerBounds, LayerSummary, kept_tokens};
use proptest::prelude::*;

const WIDTH: usize = 3;

/// Corpus: documents of examples of tokens, each token with its values.
type Corpus = Vec<Vec<Vec<[f32; WIDTH]>>>;

fn corpus() -> impl Strategy<Value = Corpus> {
    // Few distinct values, so that there are ties.
    let value = prop_oneof![4 => (-8_i8..8).prop_map(|v| f32::from(v) / 2.0), 1 => -1e4_f32..1e4];
    let token = proptest::array::uniform3(value);
    let example = proptest::collection::vec(token, 1..30);
    let document = proptest::collection::vec(example, 1..4);
    proptest::collection::vec(document, 1..12)
}

/// An example with its place.
struct NaiveExample {
    document: i64,
    example: i64,
    tokens: Vec<u32>,
    values: Vec<[f32; WIDTH]>,
}

fn place(corpus: &Corpus) -> Vec<NaiveExample> {
    let mut next = 0;
    let mut placed = Vec::new();
    for (d, document) in corpus.iter().enumerate() {
        for (e, values) in document.iter().enumerate() {
            let tokens = (next..next + values.len() as u32).collect();
            next += values.len() as u32;
            placed.push(NaiveExample { document: d as i64, example: e as i64, tokens, values: values.clone() });
        }
    }
    placed
}

fn summarise(placed: &[NaiveExample], batch: usize, k: usize) -> LayerSummary {
    let mut summary = LayerSummary::new(1, WIDTH, k);
    let mut before = summary.clone();
    for (i, chunk) in placed.chunks(batch).enumerate() {
        // Like a run that stops and continues after each batch.
        summary = LayerSummary::from_state(1, k, summary.state().to_vec());
        let examples: Vec<Example> =
            chunk.iter().map(|p| Example { document: p.document, example: p.example, tokens: &p.tokens }).collect();
        let values: Vec<f32> = chunk.iter().flat_map(|p| p.values.iter().flatten().copied()).collect();
        let part = BatchSummary::new(&examples, &values, WIDTH);
        // Wanted by an earlier state, as for batches that run in parallel.
        let pairs = [&before, &summary][i % 2].wanted(&part, &examples);
        let columns = Columns::gather(pairs, &examples, &values, WIDTH);
        before = summary.clone();
        summary.merge(&part, &examples, &columns, (i * batch) as u64);
        let bounds = LayerBounds::new(&[part.peaks()], &[part.troughs()], WIDTH);
        for (e, example) in chunk.iter().enumerate() {
            for (n, value) in example.values.iter().flat_map(|row| row.iter().copied().enumerate()) {
                assert!(bounds.lower(n, e) <= value && value <= bounds.upper(n, e));
            }
        }
    }
    summary
}

/// Strongest examples: the best of each document, then others.
fn strongest(placed: &[NaiveExample], neuron: usize, k: usize) -> Vec<(i64, i64, u32, f32)> {
    let mut peaks: Vec<(i64, i64, u32, f32)> = placed
        .iter()
        .map(|p| {
            let max = p.values.iter().map(|row| row[neuron]).fold(f32::NEG_INFINITY, f32::max);
            let position = p.values.iter().position(|row| row[neuron] == max).unwrap() as u32;
            (p.document, p.example, position, max)
        })
        .collect();
    peaks.sort_by(|a, b| b.3.total_cmp(&a.3).then((a.0, a.1).cmp(&(b.0, b.1))));
    let mut seen = BTreeSet::new();
    let (first, further): (Vec<_>, Vec<_>) = peaks.into_iter().partition(|peak| seen.insert(peak.0));
    let mut top: Vec<_> = first.into_iter().chain(further).take(k).collect();
    top.sort_by(|a, b| b.3.total_cmp(&a.3).then((a.0, a.1).cmp(&(b.0, b.1))));
    top
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs()))
}

proptest! {
    #[test]
    fn as_the_naive_version(corpus in corpus(), batch in 1_usize..9, k in 1_usize..6) {
        let placed = place(&corpus);
        let summary = summarise(&placed, batch, k);
        for (n, state) in summary.state().iter().enumerate() {
            let values: Vec<f64> =
                placed.iter().flat_map(|p| p.values.iter().map(|row| f64::from(row[n]))).collect();
            let count = values.len() as f64;
            let mean = values.iter().sum::<f64>() / count;
            let central = |power: i32| values.iter().map(|v| (v - mean).powi(power)).sum::<f64>() / count;
            let scale = central(2).sqrt();
            prop_assert_eq!(state.moments.count, values.len() as u64);
            prop_assert!(close(state.moments.mean, mean));
            prop_assert!(close(state.moments.variance().unwrap(), central(2)));
            if scale > 1e-3 {
                prop_assert!(close(state.moments.skewness().unwrap(), central(3) / scale.powi(3)));
                prop_assert!(close(state.moments.kurtosis().unwrap(), central(4) / scale.powi(4)));
            }
            prop_assert_eq!(f64::from(state.max), values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
            prop_assert_eq!(f64::from(state.min), values.iter().copied().fold(f64::INFINITY, f64::min));
            prop_assert_eq!(state.positive, values.iter().filter(|v| **v > 0.0).count() as u64);
            prop_assert_eq!(state.histogram.iter().sum::<u64>(), values.len() as u64);
            prop_assert_eq!(state.peaks.iter().sum::<u64>(), placed.len() as u64);

            let tokens = |p: &NaiveExample| p.values.iter().map(|row| row[n]).collect::<Vec<_>>();
            let mut all: Vec<(f32, usize, usize)> = Vec::new();
            for (e, example) in placed.iter().enumerate() {
                all.extend(tokens(example).into_iter().enumerate().map(|(position, value)| (value, e, position)));
            }
            all.sort_by(|a, b| b.0.total_cmp(&a.0));
            all.truncate(kept_tokens(k));
            let found = state.strongest.iter().map(|t| (t.activation, t.example as usize, t.position as usize));
            let found: Vec<_> = found.collect();
            prop_assert_eq!(found, all);

            let top = state.selected.top(k);
            let found: Vec<_> = top.iter().map(|p| (p.document, p.example, p.position, p.activation)).collect();
            prop_assert_eq!(found, strongest(&placed, n, k));
            for peak in top.into_iter().chain(state.selected.drawn()) {
                let example = placed.iter().find(|p| (p.document, p.example) == (peak.document, peak.example)).unwrap();
                let position = peak.position as usize;
                let range = position.saturating_sub(BEFORE)..(position + AFTER + 1).min(example.tokens.len());
                let expected: Vec<(u32, f32)> = range.map(|t| (example.tokens[t], example.values[t][n])).collect();
                prop_assert_eq!(peak.around.to_vec(), expected);
            }
        }
    }

    #[test]
    fn batches_do_not_matter_to_what_is_drawn(corpus in corpus(), batch in 1_usize..9) {
        let placed = place(&corpus);
        let (one, other) = (summarise(&placed, batch, 3), summarise(&placed, 1000, 3));
        for (a, b) in one.state().iter().zip(other.state()) {
            prop_assert_eq!(&a.selected, &b.selected);
            prop_assert_eq!(&a.strongest, &b.strongest);
            prop_assert_eq!(&a.histogram, &b.histogram);
        }
    }
}
