//! Patterns from the samples of a neuron, as Neuron2Graph makes them.

use crate::{Element, Error, Pattern, Result, Symbol, Token};

/// A text that activates the neuron, with the effects of masking its tokens.
#[derive(Debug, Clone, Copy)]
pub struct Prompt<'a> {
    /// Its tokens.
    pub tokens: &'a [Token],
    /// Importances, `[tokens, tokens]`, row k column j: 1 − a_j(token k masked)/a_j(original).
    pub importances: &'a [f32],
    /// Activations, `[tokens]`, over the neuron's greatest.
    pub activations: &'a [f32],
}

/// Scope of the importances that a substituted text inherits from the original text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Inherited {
    /// Importances for tokens that activate the neuron, as in the first version of Neuron2Graph.
    Activators,
    /// Importances for all tokens, as in the version maintained later.
    All,
}

/// Extractor of patterns from texts, with its settings.
#[derive(Debug, Clone, Copy)]
pub struct PatternExtractor {
    /// Activation above which a token has a pattern. The paper has 0.5.
    pub activation_threshold: f32,
    /// Importance above which a token is part of a pattern; others are wildcards. The paper has 0.75.
    pub importance_threshold: f32,
    /// Scope of the importances that substituted texts inherit.
    pub inherited: Inherited,
    /// Id of a token that is left out of patterns, such as BOS.
    pub special: Option<u32>,
}

impl PatternExtractor {
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

    /// Returns true if the token at the same place of the original text is important. Variants may be longer: tokens
    /// beyond the original's end inherit from its last one.
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

#[cfg(test)]
mod tests {
    use super::*;

    const SPECIAL: u32 = '#' as u32;

    /// A text whose tokens are letters: tokens, importances (0 for all but the last token), activations.
    struct OwnedPrompt(Vec<Token>, Vec<f32>, Vec<f32>);

    fn prompt(text: &str, importances: &[f32], activations: &[f32]) -> OwnedPrompt {
        let tokens: Vec<_> =
            text.chars().map(|letter| Token { id: Some(letter as u32), text: letter.to_string().into() }).collect();
        let mut all = vec![0.0; tokens.len() * tokens.len()];
        for (masked, importance) in importances.iter().enumerate() {
            all[(masked + 1) * tokens.len() - 1] = *importance;
        }
        OwnedPrompt(tokens, all, activations.to_vec())
    }

    fn read(prompts: &[OwnedPrompt], inherited: Inherited) -> Vec<String> {
        let prompts: Vec<_> = prompts
            .iter()
            .map(|OwnedPrompt(tokens, importances, activations)| Prompt { tokens, importances, activations })
            .collect();
        let lines = PatternExtractor {
            activation_threshold: 0.5,
            importance_threshold: 0.75,
            inherited,
            special: Some(SPECIAL),
        };
        let letter = |element: &Element| match &element.symbol {
            Symbol::Token(token) => token.text.to_string(),
            _ => "*".to_owned(),
        };
        let patterns = lines.patterns(&prompts).unwrap();
        patterns.iter().map(|pattern| pattern.elements.iter().map(letter).collect()).collect()
    }

    #[test]
    fn patterns_end_after_their_last_important_token() {
        let both = |prompts: &[OwnedPrompt]| {
            let all = read(prompts, Inherited::All);
            assert_eq!(all, read(prompts, Inherited::Activators));
            all
        };
        assert_eq!(both(&[prompt("abcd", &[0.0, 0.8, 0.75, 0.9], &[0.0, 0.5, 0.0, 0.6])]), ["d*b"]);
        assert_eq!(both(&[prompt("abcd", &[0.0; 4], &[0.0, 0.6, 0.0, 0.6])]), ["b", "d"]);
        // The special token is passed over, but its place counts; it activates nothing.
        assert_eq!(both(&[prompt("xxb#d", &[0.0, 0.0, 0.8, 0.9, 0.9], &[0.0, 0.0, 0.0, 0.9, 0.6])]), ["db*"]);
        assert!(both(&[]).is_empty());
    }

    #[test]
    fn variants_inherit_importance_by_place() {
        let original = |activation| prompt("abc", &[0.9, 0.0, 0.9], &[0.0, 0.0, activation]);
        let variant = || prompt("xyz", &[0.0; 3], &[0.0, 0.0, 0.6]);
        assert_eq!(read(&[original(0.6), variant()], Inherited::Activators), ["c*a", "z*x"]);
        assert_eq!(read(&[original(0.4), variant()], Inherited::All), ["z*x"]);
        assert_eq!(read(&[original(0.4), variant()], Inherited::Activators), ["z"]);
        // Tokens beyond the original's end inherit from its last.
        let longer = prompt("vxyz", &[0.0; 4], &[0.0, 0.0, 0.0, 0.6]);
        assert_eq!(read(&[original(0.6), longer], Inherited::All), ["c*a", "zy*v"]);
    }

    #[test]
    fn arrays_must_fit() {
        let OwnedPrompt(tokens, importances, activations) = prompt("ab", &[0.0; 2], &[0.0; 2]);
        let lines = PatternExtractor {
            activation_threshold: 0.5,
            importance_threshold: 0.75,
            inherited: Inherited::All,
            special: None,
        };
        let short = Prompt { tokens: &tokens, importances: &importances[1..], activations: &activations };
        assert_eq!(lines.patterns(&[short]), Err(Error::Shape { what: "importances", expected: 4, found: 3 }));
    }
}
