//! The method `neuroql`.
//!
//! Like Neuron2Graph it prunes, measures importance and makes patterns; unlike it,
//! - every firing token of a sample has a pattern, not only the greatest;
//! - contexts are pruned by exact search, one token at a time, on token ids;
//! - importance is measured with tokens drawn at random in place of the masked one;
//! - the importance threshold, and whether gaps vary in length, are chosen for each neuron by leaving out one sample at
//!   a time, with random text as negative examples (see `choose_patterns.rs`);
//! - other tokens, such as those of the neuron's other patterns, those of random text on which it is active, neighbours in
//!   the embedding and predictions of the model, are tried in place of activators and important tokens, and kept if the
//!   neuron really fires on them;
//! - such a token is also put in the patterns of other thresholds, if these are right often enough;
//! - patterns are not generalised, and matching backtracks where a more exact path fails;
//! - of the graph that these make, the nodes stay that are worth more than they cost, judged by the firing tokens that
//!   they find in the samples and in random text, and by the false alarms there (see [`neuroql_graph::prune`]).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures::future::join_all;
use neuroql_graph::prune::{FiringText, Size, by_support, by_texts};
use neuroql_graph::{Builder, Element, Graph, Pattern, Policy, Symbol};
use neuroql_model::Placement;

use super::TokenTexts;
use super::choose_patterns::{CandidatePattern, Firing, LabelledText, LabelledTexts, choose, ways};
use super::compact_pattern::{CompactPattern, PatternStep, covers, places, replaced};
use super::substituted::{VerifiedSubstitute, substitute};
use crate::prune::{Pivot, exact};
use crate::saliency::by_draws;
use crate::substitutes::Sources;
use crate::{Background, BackgroundActivation, Options, QueryRunner, Result, Task, Window};

/// Least precision of a pattern from a substitute, if it occurs at all. (Predictions that are right more often than
/// half of F1 increase F1.)
const LEAST_PRECISION: f32 = 0.2;

/// Prior of the precision of a pattern with a substitute, with the weight of one token.
const PRIOR: f32 = 0.3;

/// Greatest number of cached judgements of patterns: many substitutes in long contexts give millions of patterns.
const MOST_REMEMBERED: usize = 100_000;

/// Fits graphs, as the module describes.
pub(crate) async fn fit(
    runner: &QueryRunner,
    tasks: &[Arc<Task>],
    background: &Arc<Background>,
    fired: &[Arc<[BackgroundActivation]>],
    words: &TokenTexts,
    sources: &mut Sources,
    options: &Options,
) -> Result<Vec<Result<Graph>>> {
    let firings = firings(runner, tasks, background, options).await?;
    let fits = tasks.iter().zip(firings).zip(fired).map(|((task, firings), fired)| {
        let (task, background, fired) = (Arc::clone(task), Arc::clone(background), Arc::clone(fired));
        let (fire_threshold, size) = (options.fire_threshold, size(options));
        let fit = move || Ok(Fit::new(task, firings, background, fired, fire_threshold, size));
        runner.pool().run(Placement::OneThread, fit)
    });
    // A neuron that cannot be fitted does not stop the others.
    let (mut fitted, mut failed) = (Vec::new(), Vec::new());
    for fit in join_all(fits).await {
        failed.push(fit.map(|fit| fitted.push(fit)).err());
    }
    let substituted = substitute(runner, &fitted, sources, options).await?;
    let graphs = fitted.into_iter().zip(substituted).map(|(fit, lines)| {
        let words = words.clone();
        runner.pool().run(Placement::OneThread, move || Ok(fit.graph(lines, &words)))
    });
    let mut graphs = join_all(graphs).await.into_iter().map(|graph| graph?);
    let outcome = |failed: Option<neuroql_model::Error>| match failed {
        Some(error) => Some(Err(error.into())),
        None => graphs.next(),
    };
    Ok(failed.into_iter().filter_map(outcome).collect())
}

/// Size of a graph; `None` to keep all that is found.
fn size(options: &Options) -> Option<Size> {
    match options.max_nodes {
        None => Some(Size::Knee),
        Some(0) => None,
        Some(most) => Some(Size::Nodes(most)),
    }
}

/// Firing tokens that patterns are made of, with the importances of their contexts.
async fn firings(
    runner: &QueryRunner,
    tasks: &[Arc<Task>],
    background: &Background,
    options: &Options,
) -> Result<Vec<Vec<Firing>>> {
    let mut pivots = Vec::new();
    let mut samples = Vec::new();
    let mut owners = Vec::new();
    for (owner, task) in tasks.iter().enumerate() {
        let mut own = Vec::new();
        for (number, sample) in task.train.iter().enumerate() {
            let fires = sample.activations.iter().enumerate().filter(|(_, a)| **a >= options.activation_threshold);
            own.extend(fires.map(|(position, a)| (*a, number, position)));
        }
        own.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        own.truncate(options.most_firings);
        for (_, number, position) in own {
            let sample = &task.train[number];
            samples.push(number);
            owners.push(owner);
            pivots.push(Pivot { neuron: task.neuron, max_activation: task.max_activation, sample, position });
        }
    }
    let pruned = exact(runner, &pivots, options.keep, options.cutoff).await?;
    let train = background.windows.iter().filter(|window| Background::is_train(window.document));
    let random: Vec<u32> = train.flat_map(|window| window.tokens.iter().copied()).collect();
    let own = |task: &Arc<Task>| task.train.iter().flat_map(|sample| sample.tokens.iter().copied()).collect();
    // All random text of a dataset of few documents may be for judging.
    let drawn: Vec<Vec<u32>> = if random.is_empty() { tasks.iter().map(own).collect() } else { Vec::new() };
    let texts = pivots.iter().zip(&owners).zip(&pruned).map(|((pivot, owner), pruned)| {
        let drawn = drawn.get(*owner).unwrap_or(&random);
        (pivot.neuron, pruned, drawn.as_slice())
    });
    let importances = by_draws(runner, &texts.collect::<Vec<_>>(), options.draws).await?;
    let mut all = pivots.iter().zip(samples).zip(pruned.into_iter().zip(importances)).peekable();
    let firings = tasks.iter().map(|task| {
        let mut own = Vec::new();
        while let Some(((pivot, sample), (pruned, importances))) =
            all.next_if(|((pivot, _), _)| pivot.neuron == task.neuron)
        {
            let activation = pivot.sample.activations[pivot.position];
            let start = pivot.position + 1 - pruned.tokens.len();
            own.push(Firing { sample, start, tokens: pruned.tokens, importances, activation });
        }
        own
    });
    Ok(firings.collect())
}

/// Fit of a neuron: its chosen patterns.
pub(crate) struct Fit {
    pub task: Arc<Task>,
    pub firings: Vec<Firing>,
    pub found: Vec<CandidatePattern>,
    /// F1 of the patterns, on text that they were not made from.
    f1: f32,
    background: Arc<Background>,
    fired: Arc<[BackgroundActivation]>,
    fire_threshold: f32,
    /// Size of the graph; `None` to keep all that is found.
    size: Option<Size>,
}

impl Fit {
    fn new(
        task: Arc<Task>,
        firings: Vec<Firing>,
        background: Arc<Background>,
        fired: Arc<[BackgroundActivation]>,
        fire_threshold: f32,
        size: Option<Size>,
    ) -> Self {
        let mut fit = Self { task, firings, found: Vec::new(), f1: 0.0, background, fired, fire_threshold, size };
        let activators = fit.firings.iter().filter_map(|firing| firing.tokens.last().copied()).collect();
        (fit.found, fit.f1) = choose(&fit.firings, &LabelledTexts::new(&fit.labelled(), &activators));
        fit
    }

    /// Labelled texts to judge patterns on: samples to learn from, and random text to learn from, without held-out
    /// documents.
    fn labelled(&self) -> Vec<LabelledText<'_>> {
        let fires = |activations: &[f32]| -> Vec<u32> {
            let fires = activations.iter().enumerate().filter(|(_, a)| **a >= self.fire_threshold);
            fires.map(|(position, _)| position as u32).collect()
        };
        let samples = self.task.train.iter().enumerate().map(|(number, sample)| LabelledText {
            tokens: &sample.tokens,
            fires: fires(&sample.activations),
            sample: Some(number),
        });
        let mut labelled: Vec<LabelledText> = samples.collect();
        for (window, fired) in self.random() {
            let fires = fired.iter().filter(|fired| fired.activation >= self.fire_threshold);
            let fires = fires.map(|fired| fired.position).collect();
            labelled.push(LabelledText { tokens: &window.tokens, fires, sample: None });
        }
        labelled
    }

    /// Random text to learn from, without held-out documents, with the tokens on which the neuron is active.
    fn random(&self) -> impl Iterator<Item = (&Window, &[BackgroundActivation])> {
        let judged: BTreeSet<i64> = self.task.held_out.iter().map(|sample| sample.document).collect();
        let mut rest = &self.fired[..];
        let windows = self.background.windows.iter().enumerate().map(move |(number, window)| {
            let (own, others) = rest.split_at(rest.partition_point(|fired| fired.window as usize <= number));
            rest = others;
            (window, own)
        });
        windows.filter(move |(window, _)| Background::is_train(window.document) && !judged.contains(&window.document))
    }

    /// Tokens of random text on which the neuron is active, the strongest first.
    pub fn active(&self) -> Vec<u32> {
        let mut active: Vec<(f32, u32)> = Vec::new();
        for (window, fired) in self.random() {
            active.extend(fired.iter().map(|fired| (fired.activation, window.tokens[fired.position as usize])));
        }
        active.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        active.into_iter().map(|(_, token)| token).collect()
    }

    /// Makes the graph of its patterns and of the substitutes that are right often enough.
    fn graph(self, substituted: Vec<VerifiedSubstitute>, words: &TokenTexts) -> Result<Graph> {
        let mut builder = Builder::new(Policy::Max);
        for found in &self.found {
            let mean = found.from.iter().map(|i| self.firings[*i].activation).sum::<f32>() / found.from.len() as f32;
            for firing in &found.from {
                builder.insert(&self.pattern(&found.line, *firing, mean, words))?;
            }
        }
        self.insert(&mut builder, &substituted, words)?;
        let graph = builder.build()?;
        let Some(size) = self.size else { return Ok(graph) };
        let labelled = self.labelled();
        let texts = labelled.iter().map(|text| FiringText { tokens: text.tokens, fires: &text.fires });
        let pruned = by_texts(&graph, &texts.collect::<Vec<_>>(), size)?;
        if !pruned.is_empty() || graph.is_empty() {
            return Ok(pruned);
        }
        // Patterns that are all worth little are better than none: the shortest that was learned from most.
        let most = if let Size::Nodes(most) = size { most } else { graph.nodes().len() };
        for count in 1..=most.min(graph.nodes().len()) {
            let best = by_support(&graph, count)?;
            if !best.is_empty() {
                return Ok(best);
            }
        }
        Ok(pruned)
    }

    /// Adds the patterns of substitutes.
    fn insert(&self, builder: &mut Builder, substituted: &[VerifiedSubstitute], words: &TokenTexts) -> Result<()> {
        let known: HashSet<&CompactPattern> = self.found.iter().map(|found| &found.line).collect();
        let activators: BTreeSet<u32> = substituted.iter().filter_map(|tried| activator(&tried.line)).collect();
        let labelled = self.labelled();
        let texts = LabelledTexts::new(&labelled, &activators);
        let ways: Vec<Vec<CompactPattern>> = self.firings.iter().map(ways).collect();
        let mut judged: HashMap<CompactPattern, (f32, f32)> = HashMap::new();
        for VerifiedSubstitute { line, firing, at, token, activation } in substituted {
            let length = self.firings[*firing].tokens.len();
            let mut kept: Vec<CompactPattern> = Vec::new();
            for way in ways[*firing].iter().filter_map(|way| replaced(way, length, *at, *token)) {
                if kept.iter().any(|wider| covers(wider, &way)) {
                    continue;
                }
                let is_known = known.contains(&way);
                if !is_known {
                    if judged.len() >= MOST_REMEMBERED {
                        judged.clear();
                    }
                    let judged = *judged.entry(way.clone()).or_insert_with(|| texts.judge(&way));
                    if !(way == *line && self.is_seldom_wrong(judged) || self.is_likely_right(judged)) {
                        continue;
                    }
                    builder.insert(&self.pattern(&way, *firing, *activation, words))?;
                }
                kept.push(way);
            }
        }
        Ok(())
    }

    /// Returns true if a pattern of the chosen way is right often enough with a substitute.
    fn is_seldom_wrong(&self, (right, wrong): (f32, f32)) -> bool {
        wrong == 0.0 || right / (right + wrong) >= (self.f1 / 2.0).max(LEAST_PRECISION)
    }

    /// Returns true if a pattern of another way is right often enough: it is there for the substitute only, and must be
    /// as good as the neuron's patterns.
    fn is_likely_right(&self, (right, wrong): (f32, f32)) -> bool {
        (right + PRIOR) / (right + wrong + 1.0) >= self.f1.max(LEAST_PRECISION)
    }

    /// Makes a pattern with the numbers of the firing that it came from.
    fn pattern(&self, line: &CompactPattern, firing: usize, ends: f32, words: &TokenTexts) -> Pattern {
        let firing = &self.firings[firing];
        let last = firing.tokens.len() - 1;
        let element = |(step, at): (&PatternStep, usize)| {
            let importance = firing.importances[at];
            let activation = if at == last { ends } else { 0.0 };
            match step {
                PatternStep::Token(token) => {
                    Element { symbol: Symbol::Token(words.token(*token)), importance, activation }
                }
                PatternStep::Any => Element { symbol: Symbol::Any, importance, activation },
                PatternStep::Gap(most) => Element { symbol: Symbol::Gap(*most), importance: 0.0, activation: 0.0 },
            }
        };
        Pattern { elements: line.iter().zip(places(line, firing.tokens.len())).map(element).collect(), ends }
    }
}

fn activator(line: &CompactPattern) -> Option<u32> {
    match line.first() {
        Some(PatternStep::Token(token)) => Some(*token),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use neuroql_graph::{Matcher, Semantics};

    use super::*;
    use crate::Sample;

    fn sample(document: i64, tokens: &[u32], fires: &[usize]) -> Sample {
        let activations = (0..tokens.len()).map(|i| if fires.contains(&i) { 1.0 } else { 0.0 }).collect();
        Sample { document, example: 0, tokens: tokens.into(), activations }
    }

    /// Predictions for a neuron that fires on 9 after 1, with 8 verified in the place of 9, judged on two samples.
    fn fires_on(first: Sample, second: Sample, f1: f32, read: &[u32]) -> Vec<bool> {
        let firing = Firing { sample: 0, start: 0, tokens: vec![1, 9], importances: vec![0.35, 1.0], activation: 1.0 };
        let seen = vec![PatternStep::Token(9), PatternStep::Token(1)];
        let fit = Fit {
            task: Arc::new(Task { neuron: 0, max_activation: 1.0, train: vec![first, second], held_out: vec![] }),
            firings: vec![firing],
            found: vec![CandidatePattern { line: seen, from: vec![0] }],
            f1,
            background: Arc::default(),
            fired: [].into(),
            fire_threshold: 0.5,
            size: None,
        };
        let line = vec![PatternStep::Token(8), PatternStep::Token(1)];
        let substituted = vec![VerifiedSubstitute { line, firing: 0, at: 1, token: 8, activation: 0.75 }];
        let words = TokenTexts::new((0..10).map(|i| i.to_string()).collect());
        let graph = fit.graph(substituted, &words).unwrap();
        let mut predicted = Vec::new();
        Matcher::of(&graph, Semantics::Longest).unwrap().simulate(read, &mut predicted);
        predicted.into_iter().map(|p| p >= 0.5).collect()
    }

    #[test]
    fn substitutes_need_no_context_where_they_are_right_without() {
        let read = [8, 1, 8, 1, 9, 9];
        // The neuron also fires on 8 after 2.
        let (first, second) = (sample(0, &[1, 9], &[1]), sample(1, &[2, 8], &[1]));
        assert_eq!(fires_on(first.clone(), second, 0.6, &read), [true, false, true, false, true, false]);
        // It fires on 8 in one of two contexts.
        let unsure = sample(1, &[2, 8, 3, 8], &[1]);
        assert_eq!(fires_on(first.clone(), unsure.clone(), 0.6, &read), [false, false, true, false, true, false]);
        // 8 is right as often as the neuron's patterns.
        assert_eq!(fires_on(first.clone(), unsure, 0.4, &read), [true, false, true, false, true, false]);
        // Without occurrences of 8, it is accepted if the neuron's patterns are bad.
        let unknown = sample(1, &[2, 7], &[1]);
        assert_eq!(fires_on(first.clone(), unknown.clone(), 0.25, &read), [true, false, true, false, true, false]);
        assert_eq!(fires_on(first.clone(), unknown, 0.35, &read), [false, false, true, false, true, false]);
        // It does not fire on 8 after 1.
        let wrong = sample(1, &[1, 8, 1, 8], &[]);
        assert_eq!(fires_on(first, wrong, 0.25, &read), [false, false, false, false, true, false]);
    }
}
