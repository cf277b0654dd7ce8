//! Options of building graphs.

use serde::{Deserialize, Serialize};

use crate::{Error, Method, Result};

/// The least activation, as a share of a neuron's greatest, that may count as firing.
pub const LEAST_THRESHOLD: f32 = 0.25;

/// Most that one of the counts may be.
const MOST: usize = 1000;

/// Most that two which multiply may come to.
const MOST_OF_TWO: usize = 100_000;

/// Where substitutes for important tokens come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Substitutes {
    /// There are none.
    None,
    /// From the model itself: tokens near in its embedding, verified by running it.
    Model,
    /// From the model itself: tokens that it predicts at their place, verified by running it.
    Predictions,
    /// Those of `Model`, then those of `Predictions`, as many of each.
    Both,
    /// Words that a masked language model proposes, as Neuron2Graph has it (paper §3.3).
    MaskedLm,
}

/// Every number of the methods. Names follow Neuron2Graph's code where it has one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// A token whose activation is above this share of the neuron's greatest has a pattern.
    pub activation_threshold: f32,
    /// A context token is part of a pattern if masking it takes more than this share of the activation. (`neuroql`
    /// chooses by itself.)
    pub importance_threshold: f32,
    /// Firing, in scores, is an activation of at least this share of the neuron's greatest.
    pub fire_threshold: f32,
    /// Tokens of a sample whose activation is at least this share of the sample's greatest have patterns; at 1 only the
    /// greatest.
    pub token_activation_threshold: f32,
    /// Share of its activation that the activator must keep on a pruned context.
    pub keep: f32,
    /// Tokens that a pruned context may have.
    pub cutoff: usize,
    /// Lengths of context that are tried are multiples of it.
    pub skip_interval: usize,
    /// Tokens after the activator that stay for the sake of substitutes.
    pub post_context: usize,
    /// The token that others are masked with; by default the model's own mask or padding token, else an underscore.
    pub masking_token: Option<u32>,
    /// Where substitutes come from.
    pub substitutes: Substitutes,
    /// Location of the masked language model that substitutes come from, by default the DistilBERT that Neuron2Graph
    /// asks. Naming one chooses it as their source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masked_lm: Option<String>,
    /// Substitutes tried for a token.
    pub max_augmentations: usize,
    /// Tokens before the activator in the baseline `ngram`.
    pub ngram: usize,
    /// Firing tokens that `neuroql` learns from.
    pub most_firings: usize,
    /// Tokens drawn in place of a masked one by `neuroql`.
    pub draws: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self::of(Method::default())
    }
}

impl Options {
    /// The numbers that a method has if nobody says otherwise: for `n2g` and the baselines those of Neuron2Graph's
    /// driver, for `openai` those of its code.
    pub fn of(method: Method) -> Self {
        let n2g = Self {
            activation_threshold: 0.5,
            importance_threshold: 0.75,
            fire_threshold: 0.5,
            token_activation_threshold: 1.0,
            keep: 0.5,
            cutoff: 30,
            skip_interval: 5,
            post_context: 5,
            masking_token: None,
            substitutes: Substitutes::None,
            masked_lm: None,
            max_augmentations: 5,
            ngram: 5,
            most_firings: 32,
            draws: 3,
        };
        match method {
            Method::N2g | Method::Token | Method::Ngram => n2g,
            Method::Openai => Self { importance_threshold: 0.5, post_context: 0, cutoff: usize::MAX, ..n2g },
            Method::Neuroql => Self {
                keep: 0.8,
                cutoff: 24,
                post_context: 0,
                substitutes: Substitutes::Both,
                max_augmentations: 40,
                ..n2g
            },
        }
    }

    /// A method's own numbers, with some of them changed: a JSON object.
    ///
    /// # Errors
    /// [`Error::Option`]: no object, an option that there is not or that the method does not read, a value out of range.
    pub fn parse(method: Method, changes: &str) -> Result<Self> {
        let wrong = |reason: String| Error::Option { option: "options".into(), reason };
        let changes: serde_json::Value =
            serde_json::from_str(changes).map_err(|e| wrong(format!("is no JSON object: {e}")))?;
        let serde_json::Value::Object(changes) = changes else {
            return Err(wrong("is no JSON object".into()));
        };
        let mut options = serde_json::to_value(Self::of(method)).map_err(|e| wrong(e.to_string()))?;
        if let Some(options) = options.as_object_mut() {
            // All options of a method may be given, those that it does not read with the values that they have.
            let none = serde_json::Value::Null;
            let changed = |name: &String| *options.get(name).unwrap_or(&none) != changes[name];
            let is_unread = |name: &&String| !method.reads().contains(&name.as_str()) && changed(name);
            if let Some(unread) = changes.keys().find(is_unread) {
                let reason = format!("is not one of method \"{method}\", which has {}", method.reads().join(", "));
                return Err(Error::Option { option: unread.clone(), reason });
            }
            if changes.get("masked_lm").is_some_and(|location| !location.is_null()) {
                options.insert("substitutes".into(), "masked_lm".into());
            }
            options.extend(changes);
        }
        let options: Self = serde_json::from_value(options).map_err(|e| wrong(format!("has an error: {e}")))?;
        options.check()
    }

    fn check(self) -> Result<Self> {
        let shares = [
            ("activation_threshold", self.activation_threshold),
            ("fire_threshold", self.fire_threshold),
            ("token_activation_threshold", self.token_activation_threshold),
            ("keep", self.keep),
        ];
        // Of weaker activations on random text nothing is remembered.
        if self.fire_threshold < LEAST_THRESHOLD {
            let reason = format!("is {}, expected at least {LEAST_THRESHOLD}", self.fire_threshold);
            return Err(Error::Option { option: "fire_threshold".into(), reason });
        }
        if let Some((name, value)) = shares.into_iter().find(|(_, value)| !(*value > 0.0 && *value <= 1.0)) {
            return Err(Error::Option { option: name.into(), reason: format!("is {value}, expected 0 < x <= 1") });
        }
        if self.masked_lm.is_some() && self.substitutes != Substitutes::MaskedLm {
            let reason = "names a model that is not asked: \"substitutes\" must be \"masked_lm\"".into();
            return Err(Error::Option { option: "masked_lm".into(), reason });
        }
        let counts = [("cutoff", self.cutoff), ("most_firings", self.most_firings), ("draws", self.draws)];
        if let Some((name, _)) = counts.into_iter().find(|(_, value)| *value == 0) {
            return Err(Error::Option { option: name.into(), reason: "is 0, expected at least 1".into() });
        }
        let most = [
            ("most_firings", self.most_firings),
            ("draws", self.draws),
            ("max_augmentations", self.max_augmentations),
            ("ngram", self.ngram),
            ("post_context", self.post_context),
        ];
        if let Some((name, value)) = most.into_iter().find(|(_, value)| *value > MOST) {
            return Err(Error::Option { option: name.into(), reason: format!("is {value}, expected at most {MOST}") });
        }
        let multiply = [("draws", self.draws), ("max_augmentations", self.max_augmentations)];
        if let Some((name, value)) = multiply.into_iter().find(|(_, value)| value * self.most_firings > MOST_OF_TWO) {
            let reason = format!("is {value}, expected at most {MOST_OF_TWO} with \"most_firings\" multiplied");
            return Err(Error::Option { option: name.into(), reason });
        }
        if !self.importance_threshold.is_finite() {
            let option = "importance_threshold".into();
            return Err(Error::Option { option, reason: "is too large".into() });
        }
        Ok(self)
    }

    /// As JSON.
    ///
    /// # Errors
    /// [`neuroql_model::Error::Internal`] if they have no JSON form: results of different options must not look alike.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| {
            neuroql_model::Error::Internal(format!("the options of a graph have no JSON form: {error}")).into()
        })
    }
}
