//! Comparison of activations that others have published with those of a model.

use candle_core::Device;

use super::{greater, largest_difference};
use crate::{Activation, Batch, Cancel, Model, ReadSpec, Result};

/// Difference up to which published activations are those of the model, as a share of the greatest of both: published
/// digits are often four.
const TOLERANCE: f32 = 2e-3;

/// Difference up to which published activations differ by rounding only, as a share of the greatest of both.
const ROUNDING: f32 = 1e-4;

/// A text and the activations of one neuron on it, as somebody has published them.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishedText {
    /// The layer.
    pub layer: usize,
    /// The neuron.
    pub neuron: u32,
    /// Ids of the tokens; `None` for a token whose text is not that of exactly one token of the model.
    pub tokens: Vec<Option<u32>>,
    /// An activation a token.
    pub activations: Vec<f32>,
    /// True if the first token is that of the beginning of a text.
    pub has_bos: bool,
}

/// The answer of a model to a published text. Differences and numbers are of the way of running the text that is nearest to
/// what was published.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PublishedComparison {
    /// Number of tokens that were compared.
    pub compared: usize,
    /// Greatest published activation among them.
    pub published: Option<f32>,
    /// The model's activation at the same token.
    pub recomputed: Option<f32>,
    /// Largest difference between a published activation and the model's.
    pub difference: Option<f32>,
    /// Factor between the model's activations and the published ones, by least squares.
    pub scale: Option<f32>,
    /// Reason that they differ; `None` if they do not.
    pub reason: Option<String>,
}

/// A way of running a text.
struct Run {
    /// Activations of the tokens that are compared.
    values: Vec<f32>,
    /// Reason that they differ from the text run as it was published.
    reason: Option<String>,
}

impl Model {
    /// Runs a published text as it is, and with or without a token of the beginning or with a fast GELU if that explains
    /// more, and compares the activations. A token of the beginning is not compared.
    ///
    /// # Errors
    /// Errors of [`Model::run`]; [`Error::OutOfRange`](crate::Error::OutOfRange) for a layer or neuron that the model
    /// does not have.
    pub fn compare_published(&self, text: &PublishedText, cancel: &Cancel) -> Result<PublishedComparison> {
        self.check_layer(text.layer as i64)?;
        self.check_neuron(text.neuron.into())?;
        let first = usize::from(text.has_bos);
        let refused = |reason: String| Ok(PublishedComparison { reason: Some(reason), ..Default::default() });
        if text.tokens.len() != text.activations.len() {
            return refused(format!("{} tokens have {} activations", text.tokens.len(), text.activations.len()));
        }
        let published = text.activations.get(first..).unwrap_or_default();
        let unknown = text.tokens.iter().filter(|token| token.is_none()).count();
        if unknown > 0 {
            return refused(format!(
                "{unknown} of {} tokens are not exactly one token of the model",
                text.tokens.len()
            ));
        }
        let ids: Vec<u32> = text.tokens.iter().flatten().copied().collect();
        if published.is_empty() {
            return refused("the text has no tokens".into());
        }
        let ids_run = &ids[first..];
        let longest = self.longest();
        let fits = |bos: Option<u32>| ids_run.len() + usize::from(bos.is_some()) <= longest;
        let as_published = text.has_bos.then(|| ids[0]);
        if !fits(as_published) {
            return refused(format!("the text has {} tokens, and the model's window {}", ids_run.len(), self.window()));
        }
        let place = (text.layer, text.neuron);
        let mut ways = vec![(as_published, None)];
        if text.has_bos {
            ways.push((None, Some("the model ran without the token of the beginning that is published")));
        } else if let Some(bos) = self.bos().filter(|bos| fits(Some(*bos))) {
            let reason = "the model ran with a token of the beginning, which is not published";
            ways.push((Some(bos), Some(reason)));
        }
        let own = nearest(published, &self.runs_of(ids_run, place, &ways, cancel)?);
        let limit = ROUNDING * published.iter().fold(0.0, |most, value: &f32| greater(most, value.abs()));
        let is_rounded = explains(&own) && own.difference.is_some_and(|difference| difference <= limit);
        if is_rounded || !matches!(self.config().activation, Activation::Gelu | Activation::GeluTanh) {
            return Ok(own);
        }
        let mut fast = self.with_activation(Activation::QuickGelu).runs_of(ids_run, place, &ways, cancel)?;
        let activation = self.config().activation;
        for run in &mut fast {
            let reason =
                format!("published activations are of a fast GELU, x·sigmoid(1.702·x), and the model has {activation}");
            run.reason = Some(run.reason.take().map_or(reason.clone(), |other| format!("{reason}; {other}")));
        }
        Ok(better(own, nearest(published, &fast), activation))
    }

    /// Runs tokens in several ways: after a token of the beginning or without one, with a reason for each way.
    fn runs_of(
        &self,
        ids: &[u32],
        (layer, neuron): (usize, u32),
        ways: &[(Option<u32>, Option<&str>)],
        cancel: &Cancel,
    ) -> Result<Vec<Run>> {
        let spec = ReadSpec::new(self, [(layer, Some(vec![neuron]))])?;
        let run = |(bos, reason): &(Option<u32>, Option<&str>)| {
            let batch = Batch::new([ids], *bos);
            let values = self.run(&batch, &spec, cancel)?.remove(0);
            let values = values.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?;
            Ok(Run { values, reason: reason.map(str::to_owned) })
        };
        ways.iter().map(run).collect()
    }
}

/// Returns what is said of the model with a fast GELU if that is nearer to what was published.
fn better(own: PublishedComparison, fast: PublishedComparison, activation: Activation) -> PublishedComparison {
    let is_nearer = fast.difference.zip(own.difference).is_some_and(|(fast, own)| 2.0 * fast < own);
    match explains(&fast) {
        true if is_nearer || !explains(&own) => fast,
        false if is_nearer && !explains(&own) => {
            let reason = format!(
                "a fast GELU, x·sigmoid(1.702·x), fits better than the model's {activation}, which differs by {}; not the whole \
                 difference is explained",
                own.difference.unwrap_or(f32::NAN)
            );
            PublishedComparison { reason: Some(reason), ..fast }
        }
        _ => own,
    }
}

/// Compares published activations with each run, and returns what the nearest one says.
fn nearest(published: &[f32], runs: &[Run]) -> PublishedComparison {
    let all: Vec<PublishedComparison> = runs.iter().map(|run| compare(published, run)).collect();
    let distance = |found: &PublishedComparison| found.difference.unwrap_or(f32::NAN);
    // The first is the text as it was published, so a reason is given only if it does not hold.
    let nearest = || all.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
    let best = all.iter().find(|found| explains(found)).or_else(nearest);
    best.cloned().unwrap_or_default()
}

/// Returns true if a comparison leaves no difference unexplained.
fn explains(found: &PublishedComparison) -> bool {
    found.reason.as_deref() != Some(UNEXPLAINED)
}

/// Reason of a difference that nothing known explains.
const UNEXPLAINED: &str = "none of the known reasons: another model or activation function, or a text that was cut";

fn compare(published: &[f32], run: &Run) -> PublishedComparison {
    let values = &run.values;
    let difference = largest_difference(published, values);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let square = dot(values, values);
    let scale = (square > 0.0).then(|| (dot(published, values) / square) as f32);
    let largest = |values: &[f32]| values.iter().fold(0.0, |most, value: &f32| greater(most, value.abs()));
    let limit = TOLERANCE * largest(published).max(largest(values));
    let scaled = scale.filter(|scale| *scale > 0.0).map(|scale| {
        let scaled: Vec<f32> = values.iter().map(|value| scale * value).collect();
        largest_difference(published, &scaled) <= TOLERANCE * largest(published)
    });
    let reason = match (difference <= limit, scaled, scale) {
        (true, ..) => run.reason.clone(),
        (false, Some(true), Some(scale)) => {
            let units = format!("published activations are {scale} times those of the model");
            Some(run.reason.as_ref().map_or(units.clone(), |reason| format!("{reason}; {units}")))
        }
        _ => Some(UNEXPLAINED.to_owned()),
    };
    let at = (0..published.len()).max_by(|a, b| published[*a].total_cmp(&published[*b]));
    PublishedComparison {
        compared: published.len(),
        published: at.map(|at| published[at]),
        recomputed: at.map(|at| values[at]),
        difference: Some(difference),
        scale,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Options;

    fn model() -> Model {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/formats/model");
        Model::load("tiny", folder.to_str().unwrap(), &Options::default(), &()).unwrap()
    }

    /// A text with the model's own activations of a neuron, run with or without BOS.
    fn published(model: &Model, has_bos: bool, ran_with_bos: bool) -> PublishedText {
        let ids = model.tokenizer().encode("The river froze.").unwrap();
        let spec = ReadSpec::new(model, [(1, Some(vec![5]))]).unwrap();
        let batch = Batch::new([ids.as_slice()], model.bos().filter(|_| ran_with_bos));
        let mut activations: Vec<f32> =
            model.run(&batch, &spec, &Cancel::default()).unwrap()[0].flatten_all().unwrap().to_vec1().unwrap();
        let mut tokens: Vec<Option<u32>> = ids.into_iter().map(Some).collect();
        if has_bos {
            tokens.insert(0, model.bos());
            activations.insert(0, 99.0);
        }
        PublishedText { layer: 1, neuron: 5, tokens, activations, has_bos }
    }

    #[test]
    fn known_reasons_are_told() {
        let (model, cancel) = (model(), Cancel::default());
        let compare = |text: &PublishedText| model.compare_published(text, &cancel).unwrap();
        for (has_bos, ran_with_bos, reason) in [
            (true, true, None),
            (false, false, None),
            (true, false, Some("without the token of the beginning")),
            (false, true, Some("with a token of the beginning")),
        ] {
            let text = published(&model, has_bos, ran_with_bos);
            let found = compare(&text);
            assert!(found.difference.unwrap() < 1e-5, "{found:?}");
            assert!((found.scale.unwrap() - 1.0).abs() < 1e-5);
            assert_eq!(found.published, found.recomputed);
            assert_eq!(found.compared, text.tokens.len() - usize::from(has_bos));
            match reason {
                None => assert_eq!(found.reason, None),
                Some(part) => assert!(found.reason.unwrap().contains(part)),
            }
            let tenfold = PublishedText { activations: text.activations.iter().map(|a| 10.0 * a).collect(), ..text };
            let found = compare(&tenfold);
            assert!((found.scale.unwrap() - 10.0).abs() < 1e-3, "{found:?}");
            assert!(found.reason.unwrap().contains("times those of the model"));
        }
    }

    #[test]
    fn a_fast_gelu_is_told() {
        let (model, cancel) = (model(), Cancel::default());
        let fast = model.with_activation(Activation::QuickGelu);
        let compare = |text: &PublishedText| model.compare_published(text, &cancel).unwrap();
        for (has_bos, ran_with_bos, also) in
            [(false, false, ""), (true, true, ""), (false, true, "with a token of the beginning")]
        {
            let text = published(&fast, has_bos, ran_with_bos);
            let found = compare(&text);
            let reason = found.reason.unwrap();
            assert!(
                reason.contains("of a fast GELU") && reason.contains("gelu_new") && reason.contains(also),
                "{reason}"
            );
            assert!(found.difference.unwrap() < 1e-5);
            // The same digits as OpenAI's files have.
            let rounded = |activation: &f32| format!("{activation:.3}").parse().unwrap();
            let text = PublishedText { activations: text.activations.iter().map(rounded).collect(), ..text };
            assert!(compare(&text).reason.unwrap().contains("of a fast GELU"));
        }
        // With noise that hides neither the difference nor all of it.
        let mut text = published(&fast, false, false);
        let own = compare(&PublishedText { activations: text.activations.clone(), ..published(&model, false, false) });
        assert!(own.reason.unwrap().contains("of a fast GELU"));
        let apart = published(&model, false, false).activations;
        let difference = largest_difference(&text.activations, &apart);
        text.activations[2] += 0.3 * difference;
        let greatest = text.activations.iter().fold(0.0, |most, value: &f32| greater(most, value.abs()));
        let said = compare(&text).reason;
        if 0.3 * difference > TOLERANCE * greatest {
            assert!(said.clone().unwrap().contains("fits better"), "{said:?}");
        } else {
            assert!(said.clone().unwrap().contains("of a fast GELU"), "{said:?}");
        }
        // The model's own activations are nobody else's, and no other model has a fast GELU instead.
        assert_eq!(compare(&published(&model, false, false)).reason, None);
        assert_eq!(fast.compare_published(&published(&fast, false, false), &cancel).unwrap().reason, None);
        let unlike = fast.compare_published(&published(&model, false, false), &cancel).unwrap();
        assert!(unlike.reason.unwrap().contains("none of the known reasons"));
    }

    #[test]
    fn what_cannot_be_compared_says_why() {
        let (model, cancel) = (model(), Cancel::default());
        let text = published(&model, true, true);
        let reason = |text: PublishedText| model.compare_published(&text, &cancel).unwrap().reason.unwrap_or_default();
        let mut other = text.clone();
        other.activations[3] += 1.0;
        assert!(reason(other.clone()).contains("none of the known reasons"));
        other.activations[3] = f32::NAN;
        assert!(reason(other).contains("none of the known reasons"));
        let mut other = text.clone();
        other.tokens[2] = None;
        assert!(reason(other).contains("1 of 9 tokens"));
        let mut other = text.clone();
        other.activations.pop();
        assert!(reason(other).contains("9 tokens have 8 activations"));
        let none = PublishedText { tokens: vec![], activations: vec![], has_bos: false, ..text.clone() };
        assert!(reason(none).contains("no tokens"));
        let long = PublishedText { tokens: vec![Some(5); 70], activations: vec![0.0; 70], ..text.clone() };
        assert!(reason(long).contains("the model's window"));
        assert!(model.compare_published(&PublishedText { layer: 2, ..text.clone() }, &cancel).is_err());
        assert!(model.compare_published(&PublishedText { neuron: 96, ..text }, &cancel).is_err());
    }
}
