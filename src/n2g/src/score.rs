//! Scores of a graph's predictions.

use std::collections::{HashMap, HashSet};

use neuroql_graph::Matcher;

use crate::{Background, BackgroundActivation, Sample};

/// Scores of a graph on text that it was not made from. Firing, real and predicted, is an activation of at least the
/// threshold, as a share of the neuron's greatest.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores {
    /// Precision: of the tokens predicted to fire, the share that does; `None` if none is predicted.
    pub precision: Option<f32>,
    /// Recall: of the tokens that fire, the share that is predicted; `None` if none fires.
    pub recall: Option<f32>,
    /// F1, the harmonic mean of these, 2·tp/(2·tp + fp + fn); `None` if no token fires or is predicted to.
    pub f1: Option<f32>,
    /// Accuracy: the share of tokens with the right prediction.
    pub accuracy: Option<f32>,
    /// Explained share of the variance of activations, 1 − Σ(a − p)²/Σ(a − ā)², which Neuron2Graph calls correlation.
    /// Negative if the mean would predict better; `None` if activations are constant.
    pub r2: Option<f32>,
    /// Pearson's correlation of predicted and real activations; `None` if either is constant.
    pub pearson: Option<f32>,
    /// Number of tokens that fire, on activating examples.
    pub positives: u64,
    /// Number of tokens scored, on activating examples.
    pub tokens: u64,
    /// Precision on random text.
    pub random_precision: Option<f32>,
    /// Recall on random text.
    pub random_recall: Option<f32>,
    /// Number of tokens that fire on random text.
    pub random_positives: u64,
    /// Number of tokens that are predicted to fire on random text.
    pub random_predictions: u64,
    /// Number of tokens of random text scored.
    pub random_tokens: u64,
    /// Predictions beside real activations, on activating examples.
    pub calibration: Calibration,
    /// Predictions beside real activations, on random text, where activations of less than a quarter of the neuron's
    /// greatest count as 0.
    pub random_calibration: Calibration,
}

/// Real activations where each tenth of the greatest activation is predicted: up to 0.1 (but not 0), 0.2 … 1. More
/// than 1 counts as the last.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Calibration {
    /// Number of tokens of each tenth.
    pub tokens: [u64; 10],
    sums: [f64; 10],
}

impl Calibration {
    fn add(&mut self, activation: f32, predicted: f32) {
        if predicted > 0.0 {
            // Rounding must not take 0.3 to the tenth above it.
            let tenth = ((f64::from(predicted) * 10.0 - 1e-6).ceil() as usize).clamp(1, 10) - 1;
            self.tokens[tenth] += 1;
            self.sums[tenth] += f64::from(activation);
        }
    }

    /// Mean real activation of each tenth; `None` where nothing is predicted.
    pub fn activations(&self) -> [Option<f32>; 10] {
        std::array::from_fn(|i| (self.tokens[i] > 0).then(|| (self.sums[i] / self.tokens[i] as f64) as f32))
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    tp: u64,
    fp: u64,
    r#fn: u64,
}

impl Counts {
    fn add(&mut self, fires: bool, predicted: bool) {
        self.tp += u64::from(fires && predicted);
        self.fp += u64::from(!fires && predicted);
        self.r#fn += u64::from(fires && !predicted);
    }

    fn precision(self) -> Option<f32> {
        ratio(self.tp, self.tp + self.fp)
    }

    fn recall(self) -> Option<f32> {
        ratio(self.tp, self.tp + self.r#fn)
    }
}

fn ratio(part: u64, whole: u64) -> Option<f32> {
    (whole > 0).then(|| part as f32 / whole as f32)
}

/// Sums for r² and correlation, in f64.
#[derive(Debug, Default)]
struct Sums {
    n: f64,
    a: f64,
    p: f64,
    aa: f64,
    pp: f64,
    ap: f64,
    /// First pair, to tell constants, to which rounding gives a variance.
    first: Option<(f32, f32)>,
    a_varies: bool,
    p_varies: bool,
}

impl Sums {
    fn add(&mut self, activation: f32, predicted: f32) {
        let (first_a, first_p) = *self.first.get_or_insert((activation, predicted));
        self.a_varies |= activation != first_a;
        self.p_varies |= predicted != first_p;
        let (a, p) = (f64::from(activation), f64::from(predicted));
        self.n += 1.0;
        self.a += a;
        self.p += p;
        self.aa += a * a;
        self.pp += p * p;
        self.ap += a * p;
    }

    fn r2(&self) -> Option<f32> {
        let error = self.aa - 2.0 * self.ap + self.pp;
        let variance = self.aa - self.a * self.a / self.n;
        (self.a_varies && variance > 0.0).then(|| (1.0 - error / variance) as f32)
    }

    fn pearson(&self) -> Option<f32> {
        let covariance = self.ap - self.a * self.p / self.n;
        let variances = (self.aa - self.a * self.a / self.n) * (self.pp - self.p * self.p / self.n);
        (self.a_varies && self.p_varies && variances > 0.0).then(|| (covariance / variances.sqrt()) as f32)
    }
}

/// Scores predictions on held-out examples and on random text; `fired` has the tokens of the latter on which the neuron
/// is active, in order. Text of the documents in `seen` was learned from and does not count.
pub fn score(
    matcher: &Matcher,
    held_out: &[Sample],
    background: &Background,
    fired: &[BackgroundActivation],
    seen: &HashSet<i64>,
    threshold: f32,
) -> Scores {
    let (mut counts, mut sums, mut predictions) = (Counts::default(), Sums::default(), Vec::new());
    let mut calibration = Calibration::default();
    for sample in held_out {
        predictions.clear();
        matcher.simulate(&sample.tokens, &mut predictions);
        for (activation, predicted) in sample.activations.iter().zip(&predictions) {
            counts.add(*activation >= threshold, *predicted >= threshold);
            sums.add(*activation, *predicted);
            calibration.add(*activation, *predicted);
        }
    }
    let tokens = sums.n as u64;
    let (random, random_tokens, random_calibration) = on_background(matcher, background, fired, seen, threshold);
    Scores {
        precision: counts.precision(),
        recall: counts.recall(),
        f1: ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.r#fn),
        accuracy: ratio(tokens - counts.fp - counts.r#fn, tokens),
        r2: sums.r2(),
        pearson: sums.pearson(),
        positives: counts.tp + counts.r#fn,
        tokens,
        random_precision: random.precision(),
        random_recall: random.recall(),
        random_positives: random.tp + random.r#fn,
        random_predictions: random.tp + random.fp,
        random_tokens,
        calibration,
        random_calibration,
    }
}

fn on_background(
    matcher: &Matcher,
    background: &Background,
    fired: &[BackgroundActivation],
    seen: &HashSet<i64>,
    threshold: f32,
) -> (Counts, u64, Calibration) {
    let (mut counts, mut tokens, mut predictions) = (Counts::default(), 0, Vec::new());
    let mut calibration = Calibration::default();
    let mut fired = fired.iter().peekable();
    for (i, window) in background.windows.iter().enumerate() {
        let mut real = HashMap::new();
        while let Some(next) = fired.next_if(|fired| fired.window as usize <= i) {
            real.insert(next.position as usize, next.activation);
        }
        if Background::is_train(window.document) || seen.contains(&window.document) {
            continue;
        }
        tokens += window.tokens.len() as u64;
        predictions.clear();
        matcher.simulate(&window.tokens, &mut predictions);
        for (position, predicted) in predictions.iter().enumerate() {
            let activation = real.get(&position).copied().unwrap_or(0.0);
            counts.add(activation >= threshold, *predicted >= threshold);
            calibration.add(activation, *predicted);
        }
    }
    (counts, tokens, calibration)
}
