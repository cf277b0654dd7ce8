//! Patterns from the samples of a neuron, as Neuron2Graph makes them.

use crate::{Element, Error, Pattern, Result, Symbol, Token};

/// A text that activates the neuron, with what masking its tokens does.
#[derive(Debug, Clone, Copy)]
pub struct Prompt<'a> {
    /// Its tokens.
    pub tokens: &'a [Token],
    /// `[tokens, tokens]`, row k column j: 1 − a_j(token k masked)/a_j(original).
    pub importances: &'a [f32],
    /// `[tokens]`, over the neuron's greatest.
    pub activations: &'a [f32],
}

/// Which tokens of a text keep the importance that they had in the text it was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Inherited {
    /// Of the tokens that activate the neuron only: the first version of Neuron2Graph.
    Activators,
    /// Of all tokens: the version maintained later.
    All,
}

/// How patterns are read off texts.
#[derive(Debug, Clone, Copy)]
pub struct Lines {
    /// A token above it has a pattern. The paper has 0.5.
    pub activation_threshold: f32,
    /// A token above it is part of the patterns that it is important for; others are wildcards. The paper has 0.75.
    pub importance_threshold: f32,
    /// Which importances substituted texts inherit.
    pub inherited: Inherited,
    /// Id of a token that no pattern has, such as that before every text.
    pub special: Option<u32>,
}

impl Lines {
    /// Patterns of a text (the first) and of variants of it in which words are substituted.
    ///
    /// A pattern ends after its last important token. As in Neuron2Graph, that is found by position: for each special
    /// token passed over, the pattern keeps one of the wildcards after it, if there are any. A special token itself
    /// activates nothing.
    ///
    /// # Errors
    /// [`Error::Shape`] if the arrays of a prompt do not fit its tokens.
    pub fn patterns(&self, prompts: &[Prompt]) -> Result<Vec<Pattern>> {
        prompts.iter().try_for_each(Prompt::check)?;
        let Some(original) = prompts.first() else { return Ok(Vec::new()) };
        let mut patterns = Vec::new();
        for prompt in prompts {
            for (activator, activation) in prompt.activations.iter().enumerate() {
                if *activation > self.activation_threshold && !self.is_special(&prompt.tokens[activator]) {
                    let elements = self.line(prompt, original, activator);
                    patterns.push(Pattern { elements, ends: *activation });
                }
            }
        }
        Ok(patterns)
    }

    fn line(&self, prompt: &Prompt, original: &Prompt, activator: usize) -> Vec<Element> {
        let mut elements = Vec::new();
        let mut length = 1;
        for at in (0..=activator).rev().filter(|at| !self.is_special(&prompt.tokens[*at])) {
            let importance = prompt.importance(at, activator);
            let important = importance > self.importance_threshold || self.inherits(original, at, activator);
            if important {
                length = activator - at + 1;
            }
            let token = || Symbol::Token(prompt.tokens[at].clone());
            let symbol = if important || at == activator { token() } else { Symbol::Any };
            elements.push(Element { symbol, importance, activation: prompt.activations[at] });
        }
        elements.truncate(length);
        elements
    }

    fn is_special(&self, token: &Token) -> bool {
        self.special.is_some() && token.id == self.special
    }

    /// Whether the token at the same place of the original text is important. Variants may be longer: tokens beyond
    /// the original's end go by its last one.
    fn inherits(&self, original: &Prompt, at: usize, activator: usize) -> bool {
        let Some(last) = original.tokens.len().checked_sub(1) else { return false };
        let activator = activator.min(last);
        at <= activator
            && (self.inherited == Inherited::All || original.activations[activator] > self.activation_threshold)
            && original.importance(at, activator) > self.importance_threshold
            && !self.is_special(&original.tokens[at])
    }
}

impl Prompt<'_> {
    fn importance(&self, masked: usize, token: usize) -> f32 {
        self.importances[masked * self.tokens.len() + token]
    }

    fn check(&self) -> Result<()> {
        let tokens = self.tokens.len();
        let shape = |what, expected, found| match expected == found {
            true => Ok(()),
            false => Err(Error::Shape { what, expected, found }),
        };
        shape("activations", tokens, self.activations.len())?;
        shape("importances", tokens * tokens, self.importances.len())
    }
}
