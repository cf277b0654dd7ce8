//! Choice of patterns by their predictions on text that they were not made from.
//!
//! A firing token and the importance of its context give a pattern for each importance threshold: low thresholds make
//! long patterns, which miss many tokens, high ones short patterns, which fire too often. The best one differs between
//! neurons. Each way is judged by leaving out one sample at a time: a token of a sample counts as predicted if a
//! pattern that came from another sample matches there. Random text counts too, with less weight.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::compact_pattern::{CompactPattern, PatternStep, compact_pattern, matches};

/// Importance thresholds, the preferred one first.
const THRESHOLDS: [f32; 8] = [0.3, 0.4, 0.25, 0.5, 0.75, 0.2, 0.1, f32::INFINITY];

/// Least gain of F1 by which a way is preferred to those before it.
const MARGIN: f32 = 0.005;

/// Least gain, in right predictions, by which another way is taken for one activator.
const CLEARLY: f32 = 0.5;

/// Weight of a token of random text; one of an activating example has 1.
const RANDOM_WEIGHT: f32 = 0.1;

/// Firing: a token on which the neuron fires, with the context that it needs.
#[derive(Debug, Clone)]
pub(crate) struct Firing {
    /// Index of its sample.
    pub sample: usize,
    /// Position in the sample at which its context starts.
    pub start: usize,
    /// Tokens of the context and, last, the token itself.
    pub tokens: Vec<u32>,
    /// Importances of the tokens, `[tokens]`.
    pub importances: Vec<f32>,
    /// Activation, over the neuron's greatest.
    pub activation: f32,
}

/// Labelled text: the positions where the neuron fires are known.
#[derive(Debug, Clone)]
pub(crate) struct LabelledText<'a> {
    /// Tokens of the text.
    pub tokens: &'a [u32],
    /// Positions where it fires, ascending.
    pub fires: Vec<u32>,
    /// Index of the sample; `None` for random text.
    pub sample: Option<usize>,
}

/// A pattern and the firings that it was made from.
#[derive(Debug, Clone)]
pub(crate) struct CandidatePattern {
    /// The pattern.
    pub line: CompactPattern,
    /// Indices of the firings.
    pub from: Vec<usize>,
}

/// An occurrence of a token that may be an activator.
#[derive(Debug, Clone, Copy)]
struct Occurrence {
    text: usize,
    position: usize,
    fires: bool,
}

/// Labelled texts, indexed by token.
pub(crate) struct LabelledTexts<'a> {
    texts: &'a [LabelledText<'a>],
    places: HashMap<u32, Vec<Occurrence>>,
    /// Weight of all firing tokens.
    positives: f32,
}

impl<'a> LabelledTexts<'a> {
    /// Indexes texts by the tokens that may be activators.
    pub fn new(texts: &'a [LabelledText<'a>], activators: &BTreeSet<u32>) -> Self {
        let mut places: HashMap<u32, Vec<Occurrence>> = HashMap::new();
        let mut positives = 0.0;
        for (number, text) in texts.iter().enumerate() {
            positives += text.fires.len() as f32 * text.weight();
            for (position, token) in text.tokens.iter().enumerate().filter(|(_, token)| activators.contains(token)) {
                let fires = text.fires.binary_search(&(position as u32)).is_ok();
                places.entry(*token).or_default().push(Occurrence { text: number, position, fires });
            }
        }
        Self { texts, places, positives }
    }

    /// Weights of the right and of the wrong predictions of one pattern.
    pub fn judge(&self, line: &[PatternStep]) -> (f32, f32) {
        let (mut right, mut wrong) = (0.0, 0.0);
        for place in self.places(line).iter().filter(|place| self.matches(line, place)) {
            let weight = self.texts[place.text].weight();
            if place.fires { right += weight } else { wrong += weight }
        }
        (right, wrong)
    }

    fn places(&self, line: &[PatternStep]) -> &[Occurrence] {
        match line.first() {
            Some(PatternStep::Token(token)) => self.places.get(token).map_or(&[], Vec::as_slice),
            _ => &[],
        }
    }

    fn matches(&self, line: &[PatternStep], place: &Occurrence) -> bool {
        matches(line, self.texts[place.text].tokens, place.position)
    }

    /// Weights of the right and of the wrong predictions by activator, each sample predicted by the patterns of the
    /// others (leave-one-out).
    fn left_out(&self, found: &[CandidatePattern], firings: &[Firing]) -> BTreeMap<u32, (f32, f32)> {
        let mut predicted: BTreeMap<u32, BTreeMap<(usize, usize), bool>> = BTreeMap::new();
        for CandidatePattern { line, from } in found {
            let Some(PatternStep::Token(activator)) = line.first() else { continue };
            let predicted = predicted.entry(*activator).or_default();
            for place in self.places(line) {
                let sample = self.texts[place.text].sample;
                let foreign = from.iter().any(|firing| Some(firings[*firing].sample) != sample);
                if foreign && self.matches(line, place) {
                    predicted.insert((place.text, place.position), place.fires);
                }
            }
        }
        let sum = |places: BTreeMap<(usize, usize), bool>| {
            let (mut right, mut wrong) = (0.0, 0.0);
            for ((text, _), fires) in places {
                let weight = self.texts[text].weight();
                if fires { right += weight } else { wrong += weight }
            }
            (right, wrong)
        };
        predicted.into_iter().map(|(activator, places)| (activator, sum(places))).collect()
    }

    fn f1(&self, right: f32, wrong: f32) -> f32 {
        let all = self.positives + right + wrong;
        if all > 0.0 { 2.0 * right / all } else { 0.0 }
    }
}

impl LabelledText<'_> {
    fn weight(&self) -> f32 {
        if self.sample.is_some() { 1.0 } else { RANDOM_WEIGHT }
    }
}

/// Patterns made in one way, and their weights.
struct PatternSet {
    found: Vec<CandidatePattern>,
    judged: BTreeMap<u32, (f32, f32)>,
}

/// Chooses the patterns of the best way, and returns its F1; an activator for which another way is clearly better has
/// the patterns of that one.
pub(crate) fn choose(firings: &[Firing], texts: &LabelledTexts) -> (Vec<CandidatePattern>, f32) {
    let mut ways: Vec<PatternSet> = Vec::new();
    let mut best: Option<(f32, usize)> = None;
    for threshold in THRESHOLDS {
        for gaps in [false, true] {
            let found = lines(firings, threshold, gaps);
            if gaps && !found.iter().any(|found| found.line.iter().any(|step| matches!(step, PatternStep::Gap(_)))) {
                continue;
            }
            let judged = texts.left_out(&found, firings);
            let (right, wrong) = judged.values().fold((0.0, 0.0), |(r, w), (right, wrong)| (r + right, w + wrong));
            let f1 = texts.f1(right, wrong);
            if best.is_none_or(|(most, _)| f1 > most + MARGIN) {
                best = Some((f1, ways.len()));
            }
            ways.push(PatternSet { found, judged });
        }
    }
    let Some((f1, best)) = best else { return (Vec::new(), 0.0) };
    // At the greatest F1 = 2·right/(positives + right + wrong), each activator maximises right − F1/2·(right + wrong).
    let gain = |(right, wrong): (f32, f32)| right - f1 / 2.0 * (right + wrong);
    let gain = |way: &PatternSet, activator: u32| gain(way.judged.get(&activator).copied().unwrap_or_default());
    let activators: BTreeSet<u32> = firings.iter().filter_map(|firing| firing.tokens.last().copied()).collect();
    let mut chosen = Vec::new();
    for activator in activators {
        let mut way = &ways[best];
        let least = gain(way, activator) + CLEARLY;
        let others = ways.iter().filter(|way| gain(way, activator) > least);
        if let Some(better) = others.max_by(|a, b| gain(a, activator).total_cmp(&gain(b, activator))) {
            way = better;
        }
        chosen.extend(
            way.found.iter().filter(|found| found.line.first() == Some(&PatternStep::Token(activator))).cloned(),
        );
    }
    (chosen, f1)
}

/// Distinct patterns of a firing in all ways, wider ones before those that they cover.
pub(crate) fn ways(firing: &Firing) -> Vec<CompactPattern> {
    let lines =
        |threshold| [true, false].map(|gaps| compact_pattern(&firing.tokens, &firing.importances, threshold, gaps));
    let mut ways: Vec<CompactPattern> = THRESHOLDS.into_iter().flat_map(lines).collect();
    let tokens = |line: &CompactPattern| line.iter().filter(|step| matches!(step, PatternStep::Token(_))).count();
    ways.sort_by_key(|line| (tokens(line), line.contains(&PatternStep::Any)));
    ways.dedup();
    ways
}

/// Distinct patterns of firings in one way.
fn lines(firings: &[Firing], threshold: f32, gaps: bool) -> Vec<CandidatePattern> {
    let mut found: BTreeMap<CompactPattern, Vec<usize>> = BTreeMap::new();
    for (i, firing) in firings.iter().enumerate() {
        found.entry(compact_pattern(&firing.tokens, &firing.importances, threshold, gaps)).or_default().push(i);
    }
    found.into_iter().map(|(line, from)| CandidatePattern { line, from }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled<'a>(tokens: &'a [u32], fires: &[u32], sample: Option<usize>) -> LabelledText<'a> {
        LabelledText { tokens, fires: fires.to_vec(), sample }
    }

    fn firing(sample: usize, tokens: &[u32], importances: &[f32]) -> Firing {
        Firing { sample, start: 0, tokens: tokens.to_vec(), importances: importances.to_vec(), activation: 1.0 }
    }

    fn chosen(firings: &[Firing], texts: &[LabelledText]) -> Vec<CompactPattern> {
        let activators = firings.iter().filter_map(|firing| firing.tokens.last().copied()).collect();
        choose(firings, &LabelledTexts::new(texts, &activators)).0.into_iter().map(|found| found.line).collect()
    }

    #[test]
    fn context_is_asked_for_where_it_tells() {
        // 9 fires after 1 only.
        let after_one = [[1, 9], [1, 9], [1, 9]];
        let others: Vec<[u32; 2]> = (2..60).map(|token| [token, 9]).collect();
        let mut texts: Vec<LabelledText> =
            after_one.iter().enumerate().map(|(i, tokens)| labelled(tokens, &[1], Some(i))).collect();
        texts.extend(others.iter().map(|tokens| labelled(tokens, &[], None)));
        let firings: Vec<Firing> = (0..3).map(|i| firing(i, &[1, 9], &[0.35, 1.0])).collect();
        assert_eq!(chosen(&firings, &texts), [vec![PatternStep::Token(9), PatternStep::Token(1)]]);
    }

    #[test]
    fn context_is_not_asked_for_where_it_does_not() {
        // 9 always fires; the token before it is important each time but always another one.
        let tokens: Vec<[u32; 2]> = (1..6).map(|token| [token, 9]).collect();
        let texts: Vec<LabelledText> =
            tokens.iter().enumerate().map(|(i, tokens)| labelled(tokens, &[1], Some(i))).collect();
        let firings: Vec<Firing> = tokens.iter().enumerate().map(|(i, t)| firing(i, t, &[0.6, 1.0])).collect();
        assert_eq!(chosen(&firings, &texts), [vec![PatternStep::Token(9)]]);
    }

    #[test]
    fn a_pattern_is_not_judged_by_where_it_came_from() {
        // Each activator is in one sample only, so leave-one-out has no right prediction.
        let texts = [labelled(&[1], &[0], Some(0)), labelled(&[2], &[0], Some(1))];
        let firings = [firing(0, &[1], &[1.0]), firing(1, &[2], &[1.0])];
        let texts = LabelledTexts::new(&texts, &BTreeSet::from([1, 2]));
        let found = lines(&firings, 0.3, false);
        assert_eq!(texts.left_out(&found, &firings).values().fold(0.0, |sum, (right, _)| sum + right), 0.0);
        assert_eq!(texts.judge(&[PatternStep::Token(1)]), (1.0, 0.0));
        assert!(!choose(&firings, &texts).0.is_empty());
    }

    #[test]
    fn nothing_comes_of_nothing() {
        assert!(chosen(&[], &[]).is_empty());
    }
}
