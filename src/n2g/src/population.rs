//! Scores over a dataset as it is, estimated from the text that was run.
//!
//! A neuron seldom fires, so random text has few firing tokens, and examples that activate it have too many. Examples
//! of a dataset are in strata: those that the neuron's examples were chosen from, and the others by the octave of its
//! greatest activation in them. How many tokens each has is known from bounds; tokens that were run count as much as
//! they stand for.

use std::collections::HashSet;

use neuroql_graph::Matcher;

use crate::random::Random;
use crate::{Background, BackgroundActivation, LEAST_THRESHOLD, Sample};

/// Number of strata.
const STRATA: usize = 4;

/// Number of resamples that give an interval.
const RESAMPLES: usize = 200;

/// Share of the resamples left out at each end of an interval.
const TAIL: f64 = 0.025;

/// Sizes of the strata of a neuron's examples of a dataset, in tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Population {
    /// Examples that the neuron's own were chosen from; then others where its greatest activation is at least half of
    /// its greatest of all; at least a quarter; and the rest.
    pub tokens: [u64; STRATA],
    /// Windows of random text, by index, ascending, that are of the first stratum.
    pub chosen: Vec<u32>,
}

impl Population {
    /// Adds an example to its stratum: `peak` is an upper bound of its activations, as a share of the neuron's greatest.
    pub fn add(&mut self, is_chosen: bool, peak: f32, tokens: usize) {
        self.tokens[if is_chosen { 0 } else { stratum(peak) }] += tokens as u64;
    }
}

fn stratum(peak: f32) -> usize {
    match peak {
        _ if peak >= 0.5 => 1,
        _ if peak >= LEAST_THRESHOLD => 2,
        _ => 3,
    }
}

/// Scores over a dataset as it is. Activations on random text that are less than a quarter of the neuron's greatest
/// count as 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PopulationScores {
    /// F1 of firing; `None` if no token fires or is predicted to.
    pub f1: Option<f32>,
    /// Interval of F1 that holds 95 % of bootstrap resamples, drawn within strata.
    pub f1_interval: Option<(f32, f32)>,
    /// Intersection over union of the tokens that fire and that are predicted to, tp/(tp + fp + fn).
    pub iou: Option<f32>,
    /// Precision of firing.
    pub precision: Option<f32>,
    /// Recall of firing.
    pub recall: Option<f32>,
    /// Pearson's correlation of predicted and real activations.
    pub pearson: Option<f32>,
    /// Area under the curve of precision over recall, for all thresholds of the prediction (average precision).
    pub auprc: Option<f32>,
}

/// A token that fires, or is predicted to be active.
struct Event {
    predicted: f32,
    activation: f32,
}

/// A text that was run: its number of tokens, and those of which there is something to say.
struct Run {
    tokens: f64,
    events: Vec<Event>,
}

impl Run {
    fn new(predictions: &[f32], activations: impl Iterator<Item = f32>) -> Self {
        let events = predictions
            .iter()
            .zip(activations)
            .filter(|(predicted, activation)| **predicted > 0.0 || *activation != 0.0);
        let events = events.map(|(predicted, activation)| Event { predicted: *predicted, activation });
        Self { tokens: predictions.len() as f64, events: events.collect() }
    }

    fn counts(&self, threshold: f32) -> Counts {
        let mut counts = Counts::default();
        for event in &self.events {
            match (event.activation >= threshold, event.predicted >= threshold) {
                (true, true) => counts.tp += 1.0,
                (false, true) => counts.fp += 1.0,
                (true, false) => counts.missed += 1.0,
                (false, false) => {}
            }
        }
        counts
    }
}

/// Weights of right, wrong and missed predictions of firing.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    tp: f64,
    fp: f64,
    missed: f64,
}

impl Counts {
    fn add(&mut self, other: Self, weight: f64) {
        self.tp += weight * other.tp;
        self.fp += weight * other.fp;
        self.missed += weight * other.missed;
    }

    fn f1(self) -> Option<f64> {
        ratio(2.0 * self.tp, 2.0 * self.tp + self.fp + self.missed)
    }
}

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// Estimates the scores of a graph over a dataset from held-out examples and random text, as
/// [`score`](crate::score()) takes them. `None` if there is no text to judge by, or none of a stratum and of those above it.
pub fn population_scores(
    matcher: &Matcher,
    held_out: &[Sample],
    background: &Background,
    fired: &[BackgroundActivation],
    seen: &HashSet<i64>,
    threshold: f32,
    population: &Population,
) -> Option<PopulationScores> {
    let strata = strata(matcher, held_out, background, fired, seen, population);
    let weighted = weighted(&strata, population)?;
    let mut all = Counts::default();
    let counts: Vec<(f64, Vec<Counts>)> = weighted
        .iter()
        .map(|(weight, runs)| (*weight, runs.iter().map(|run| run.counts(threshold)).collect()))
        .collect();
    counts.iter().for_each(|(weight, counts)| counts.iter().for_each(|of_run| all.add(*of_run, *weight)));
    let real = |value: Option<f64>| value.map(|value| value as f32);
    Some(PopulationScores {
        f1: real(all.f1()),
        f1_interval: interval(&counts),
        iou: real(ratio(all.tp, all.tp + all.fp + all.missed)),
        precision: real(ratio(all.tp, all.tp + all.fp)),
        recall: real(ratio(all.tp, all.tp + all.missed)),
        pearson: real(pearson(&weighted)),
        auprc: real(auprc(&weighted, threshold)),
    })
}

/// Texts that were run, by stratum.
fn strata(
    matcher: &Matcher,
    held_out: &[Sample],
    background: &Background,
    fired: &[BackgroundActivation],
    seen: &HashSet<i64>,
    population: &Population,
) -> [Vec<Run>; STRATA] {
    let mut strata: [Vec<Run>; STRATA] = Default::default();
    let mut predictions = Vec::new();
    for sample in held_out {
        predictions.clear();
        matcher.simulate(&sample.tokens, &mut predictions);
        strata[0].push(Run::new(&predictions, sample.activations.iter().copied()));
    }
    let mut rest = fired;
    for (number, window) in (0u32..).zip(&background.windows) {
        let (own, others) = rest.split_at(rest.partition_point(|fired| fired.window <= number));
        rest = others;
        let is_chosen = population.chosen.binary_search(&number).is_ok();
        if is_chosen || Background::is_train(window.document) || seen.contains(&window.document) {
            continue;
        }
        predictions.clear();
        matcher.simulate(&window.tokens, &mut predictions);
        let mut activations = vec![0.0; window.tokens.len()];
        own.iter().for_each(|fired| activations[fired.position as usize] = fired.activation);
        let peak = own.iter().map(|fired| fired.activation).fold(0.0, f32::max);
        strata[stratum(peak)].push(Run::new(&predictions, activations.into_iter()));
    }
    strata
}

/// Runs with the number of tokens of the dataset that a token of theirs stands for. A stratum without runs is one with
/// that of the next stronger activations.
fn weighted<'a>(strata: &'a [Vec<Run>; STRATA], population: &Population) -> Option<Vec<(f64, &'a [Run])>> {
    let mut weighted: Vec<(f64, f64, &[Run])> = Vec::new();
    for (runs, tokens) in strata.iter().zip(population.tokens) {
        let run: f64 = runs.iter().map(|run| run.tokens).sum();
        if run > 0.0 {
            weighted.push((tokens as f64, run, runs));
        } else if tokens > 0 {
            weighted.last_mut()?.0 += tokens as f64;
        }
    }
    (!weighted.is_empty()).then(|| weighted.into_iter().map(|(stand, run, runs)| (stand / run, runs)).collect())
}

fn interval(strata: &[(f64, Vec<Counts>)]) -> Option<(f32, f32)> {
    let mut random = Random::new(0);
    let resample = |_| {
        let mut all = Counts::default();
        for (weight, counts) in strata {
            (0..counts.len()).for_each(|_| all.add(counts[random.below(counts.len())], *weight));
        }
        all.f1()
    };
    let mut resamples: Vec<f64> = (0..RESAMPLES).filter_map(resample).collect();
    resamples.sort_by(f64::total_cmp);
    let last = resamples.len().checked_sub(1)?;
    let at = |share: f64| resamples[(share * last as f64).round() as usize] as f32;
    Some((at(TAIL), at(1.0 - TAIL)))
}

fn pearson(strata: &[(f64, &[Run])]) -> Option<f64> {
    let (mut n, mut a, mut p, mut aa, mut pp, mut ap) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    for (weight, runs) in strata {
        for run in *runs {
            n += weight * run.tokens;
            for event in &run.events {
                let (activation, predicted) = (f64::from(event.activation), f64::from(event.predicted));
                a += weight * activation;
                p += weight * predicted;
                aa += weight * activation * activation;
                pp += weight * predicted * predicted;
                ap += weight * activation * predicted;
            }
        }
    }
    // Most tokens are 0, so constants other than 0 do not come up; rounding may leave them a little.
    let (variance_a, variance_p) = (aa - a * a / n, pp - p * p / n);
    let least = |squares: f64| 1e-12 * squares;
    (variance_a > least(aa) && variance_p > least(pp)).then(|| (ap - a * p / n) / (variance_a * variance_p).sqrt())
}

fn auprc(strata: &[(f64, &[Run])], threshold: f32) -> Option<f64> {
    let (mut tokens, mut positives) = (0.0, 0.0);
    let mut predicted: Vec<(f32, bool, f64)> = Vec::new();
    for (weight, runs) in strata {
        for run in *runs {
            tokens += weight * run.tokens;
            for event in &run.events {
                let fires = event.activation >= threshold;
                positives += if fires { *weight } else { 0.0 };
                if event.predicted > 0.0 {
                    predicted.push((event.predicted, fires, *weight));
                }
            }
        }
    }
    if positives <= 0.0 {
        return None;
    }
    predicted.sort_by(|one, other| other.0.total_cmp(&one.0));
    let (mut area, mut right, mut all) = (0.0, 0.0, 0.0);
    for same in predicted.chunk_by(|one, other| one.0 == other.0) {
        let found: f64 = same.iter().filter(|(_, fires, _)| *fires).map(|(.., weight)| weight).sum();
        right += found;
        all += same.iter().map(|(.., weight)| weight).sum::<f64>();
        area += found * right / all;
    }
    // All other tokens have the same prediction: 0.
    area += (positives - right) * positives / tokens;
    Some(area / positives)
}

#[cfg(test)]
mod tests {
    use neuroql_graph::{Graph, Node, Semantics, Symbol};

    use super::*;
    use crate::Window;

    fn matcher(of: &[(u32, f32)]) -> Matcher {
        let node = |(id, ends): &(u32, f32)| Node {
            parent: None,
            symbol: Symbol::token(*id, id.to_string()),
            importance: 1.0,
            activation: 1.0,
            ends: Some(*ends),
            support: 1,
        };
        Matcher::of(&Graph::new(of.iter().map(node).collect()).unwrap(), Semantics::Longest).unwrap()
    }

    /// Token 1 fires in all, 2 in held-out examples only; random text has 2 often.
    fn scores(of: &[(u32, f32)]) -> PopulationScores {
        let judging: Vec<i64> = (0..).filter(|d| !Background::is_train(*d)).take(2).collect();
        let window = |document, tokens: &[u32]| Window { document, tokens: tokens.into() };
        let background = Background {
            windows: vec![
                window(judging[0], &[1, 2, 3, 3]),
                window(judging[1], &[2, 3, 3, 3]),
                window(judging[1], &[2, 2, 2, 2]),
            ],
        };
        let fired = [BackgroundActivation { window: 0, position: 0, activation: 0.75 }];
        let held_out = [Sample { document: -7, example: 0, tokens: [1, 2].into(), activations: vec![1.0, 0.5] }];
        // The last window is of the first stratum, so it stands for nothing.
        let population = Population { tokens: [2, 40, 0, 400], chosen: vec![2] };
        let seen = HashSet::new();
        population_scores(&matcher(of), &held_out, &background, &fired, &seen, 0.5, &population).unwrap()
    }

    #[test]
    fn tokens_count_as_much_as_they_stand_for() {
        // A token of the first stratum stands for itself, of the second for 10, of the last for 100.
        let both = scores(&[(1, 0.9), (2, 0.6)]);
        let close = |found: Option<f32>, wanted: f64| {
            assert!((f64::from(found.unwrap()) - wanted).abs() < 1e-6, "{found:?} {wanted}")
        };
        let (tp, fp) = (1.0 + 1.0 + 10.0, 10.0 + 100.0);
        close(both.precision, tp / (tp + fp));
        close(both.recall, 1.0);
        close(both.f1, 2.0 * tp / (2.0 * tp + fp));
        close(both.iou, tp / (tp + fp));
        // At .9 all is right, 11 of 12; at .6 the other one is found.
        close(both.auprc, (11.0 * 1.0 + 1.0 * tp / (tp + fp)) / 12.0);
        let (low, high) = both.f1_interval.unwrap();
        assert!(low <= both.f1.unwrap() && both.f1.unwrap() <= high);
        let right = scores(&[(1, 0.9)]);
        close(right.f1, 22.0 / 23.0);
        // The twelfth is among tokens that are all predicted to be 0, where 12 of 442 fire.
        close(right.auprc, (11.0 + 12.0 / 442.0) / 12.0);
        assert!(right.pearson > both.pearson && right.iou > both.iou);
    }

    #[test]
    fn what_was_not_run_has_no_scores() {
        let population = Population { tokens: [2, 0, 0, 5], chosen: Vec::new() };
        let of = |held_out: &[Sample]| {
            population_scores(
                &matcher(&[(1, 0.9)]),
                held_out,
                &Background::default(),
                &[],
                &HashSet::new(),
                0.5,
                &population,
            )
        };
        assert_eq!(of(&[]), None);
        let silent = Sample { document: 0, example: 0, tokens: [3, 4].into(), activations: vec![0.0, 0.0] };
        let silent = of(&[silent]).unwrap();
        assert_eq!((silent.f1, silent.auprc, silent.pearson, silent.f1_interval), (None, None, None, None));
    }
}
