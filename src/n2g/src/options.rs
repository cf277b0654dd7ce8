//! Options of building graphs.

use serde::{Deserialize, Serialize};

use neuroql_graph::MOST_NODES;

use crate::{Error, Method, Result};

/// Least value of `fire_threshold`, as a share of a neuron's greatest activation.
pub const LEAST_THRESHOLD: f32 = 0.25;

/// Greatest value of a count.
const MOST: usize = 1000;

/// Greatest product of two counts that multiply.
const MOST_OF_TWO: usize = 100_000;

/// Source of substitutes for important tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Substitutes {
    /// No substitutes.
    None,
    /// Tokens near in the embedding of the model, verified by running it.
    Model,
    /// Tokens that the model predicts at their place, verified by running it.
    Predictions,
    /// Substitutes of `Model`, then of `Predictions`, as many of each.
    Both,
    /// Words that a masked language model proposes, as in Neuron2Graph (paper §3.3).
    MaskedLm,
}

/// Options of all methods. Names are those of Neuron2Graph's code if it has the option.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Share of the neuron's greatest activation above which a token has a pattern.
    pub activation_threshold: f32,
    /// Importance above which a context token is part of a pattern: the share of the activation lost by masking it.
    /// (`neuroql` chooses it.)
    pub importance_threshold: f32,
    /// Share of the neuron's greatest activation from which on a token counts as firing, in scores.
    pub fire_threshold: f32,
    /// Share of the sample's greatest activation from which on its tokens have patterns; at 1, only the greatest has.
    pub token_activation_threshold: f32,
    /// Share of its activation that the activator must keep on a pruned context.
    pub keep: f32,
    /// Greatest number of tokens of a pruned context.
    pub cutoff: usize,
    /// Step of the lengths of context that are tried.
    pub skip_interval: usize,
    /// Number of tokens after the activator that are kept for substitutes.
    pub post_context: usize,
    /// Token that others are masked with; by default the model's own mask or padding token, else an underscore.
    pub masking_token: Option<u32>,
    /// Source of substitutes.
    pub substitutes: Substitutes,
    /// Location of the masked language model for substitutes, by default the DistilBERT of Neuron2Graph. Setting it
    /// selects it as their source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masked_lm: Option<String>,
    /// Greatest number of substitutes tried for a token.
    pub max_augmentations: usize,
    /// Number of tokens before the activator in the baseline `ngram`.
    pub ngram: usize,
    /// Greatest number of firing tokens that `neuroql` learns from.
    pub most_firings: usize,
    /// Number of tokens that `neuroql` draws in place of a masked one.
    pub draws: usize,
    /// Greatest number of nodes of a graph of `neuroql`; 0 for all that it finds. By default a node stays if it is
    /// worth more than it costs, see [`neuroql_graph::prune`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_nodes: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self::of(Method::default())
    }
}

impl Options {
    /// Default options of a method: for `n2g` and the baselines those of Neuron2Graph's driver, for `openai` those of
    /// its code.
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
            max_nodes: None,
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

    /// Parses changes to the default options of a method, a JSON object.
    ///
    /// # Errors
    /// [`Error::Option`]: no object, an option that is unknown or that the method does not read, a value out of range.
    pub fn parse(method: Method, changes: &str) -> Result<Self> {
        let wrong = |reason: String| Error::Option { option: "options".into(), reason };
        let changes: serde_json::Value =
            serde_json::from_str(changes).map_err(|e| wrong(format!("is no JSON object: {e}")))?;
        let serde_json::Value::Object(changes) = changes else {
            return Err(wrong("is no JSON object".into()));
        };
        let mut options = serde_json::to_value(Self::of(method)).map_err(|e| wrong(e.to_string()))?;
        if let Some(options) = options.as_object_mut() {
            // All options may be given, those that the method does not read with their default values.
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
        // Weaker activations on random text are not stored.
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
        if let Some(most) = self.max_nodes.filter(|most| *most > MOST_NODES) {
            let reason = format!("is {most}, expected at most {MOST_NODES}");
            return Err(Error::Option { option: "max_nodes".into(), reason });
        }
        if !self.importance_threshold.is_finite() {
            let option = "importance_threshold".into();
            return Err(Error::Option { option, reason: "is too large".into() });
        }
        Ok(self)
    }

    /// Sets `max_nodes`.
    ///
    /// # Errors
    /// [`Error::Option`] if the method does not read it, or it is too large.
    pub fn with_max_nodes(self, method: Method, most: usize) -> Result<Self> {
        if !method.reads().contains(&"max_nodes") {
            let reason = format!("is not one of method \"{method}\"; graph_simplify makes its graphs smaller");
            return Err(Error::Option { option: "max_nodes".into(), reason });
        }
        Self { max_nodes: Some(most), ..self }.check()
    }

    /// Serialises the options as JSON.
    ///
    /// # Errors
    /// [`neuroql_model::Error::Internal`] if they have no JSON form: different options must not be confused.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| {
            neuroql_model::Error::Internal(format!("the options of a graph have no JSON form: {error}")).into()
        })
    }
}
