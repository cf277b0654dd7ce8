//! Pre-tokenizers of byte-level BPE, which split text into words, by llama.cpp's names.

use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{PreTokenizerWrapper, SplitDelimiterBehavior};

use crate::{Error, Result};

/// A kind of pre-tokenizer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Splitting {
    /// Default of llama.cpp, for a file that names none.
    Default,
    Gpt2,
    /// Single digits, then GPT-2.
    Digits,
    Qwen2,
    Llama3,
    Smaug,
    Tekken,
    Gpt4o,
}

impl Splitting {
    const NAMES: [(&str, Self); 22] = [
        ("default", Self::Default),
        ("gpt-2", Self::Gpt2),
        ("gpt2", Self::Gpt2),
        ("phi-2", Self::Gpt2),
        ("mpt", Self::Gpt2),
        ("olmo", Self::Gpt2),
        ("smollm", Self::Digits),
        ("starcoder", Self::Digits),
        ("refact", Self::Digits),
        ("command-r", Self::Digits),
        ("codeshell", Self::Digits),
        ("qwen2", Self::Qwen2),
        ("deepseek-r1-qwen", Self::Qwen2),
        ("llama-bpe", Self::Llama3),
        ("llama3", Self::Llama3),
        ("llama-v3", Self::Llama3),
        ("falcon3", Self::Llama3),
        ("pixtral", Self::Llama3),
        ("midm-2.0", Self::Llama3),
        ("smaug-bpe", Self::Smaug),
        ("tekken", Self::Tekken),
        ("gpt-4o", Self::Gpt4o),
    ];

    /// The pre-tokenizer of `tokenizer.ggml.pre`.
    pub(super) fn named(name: &str) -> Result<Self> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, splitting)| *splitting).ok_or_else(|| Error::Unsupported {
            what: "pre-tokenizer",
            value: name.into(),
            supported: Self::NAMES.map(|(known, _)| known).join(", ")
                + " (the option tokenizer names a tokenizer.json instead)",
        })
    }

    /// Returns true if a word that is a token is taken whole, without its merges.
    pub(super) fn whole_words(self) -> bool {
        matches!(self, Self::Llama3 | Self::Tekken | Self::Gpt4o)
    }

    /// Returns true if llama.cpp prepends BOS when the file does not say (`llama_vocab::impl::load`).
    pub(super) fn begins_with_bos(self) -> bool {
        matches!(self, Self::Llama3 | Self::Tekken)
    }

    /// Builds the pre-tokenizer; `prefix` puts a space before a word that has none.
    pub(super) fn pre_tokenizer(self, prefix: bool) -> tokenizers::Result<PreTokenizerWrapper> {
        // The patterns are those in the tokenizer.json of the architectures' first models; that of Default is llama.cpp's.
        let patterns: &[&str] = match self {
            Self::Gpt2 => return Ok(ByteLevel::new(prefix, true, true).into()),
            Self::Digits => {
                let steps = vec![Digits::new(true).into(), ByteLevel::new(prefix, true, true).into()];
                return Ok(Sequence::new(steps).into());
            }
            Self::Default => &[
                r"[\p{P}\$\+<=>\^~\|]+",
                r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
                r"\p{N}+",
                r"[0-9][0-9][0-9]",
            ],
            Self::Qwen2 => &[concat!(
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
                r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            )],
            Self::Llama3 | Self::Smaug => &[concat!(
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
                r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            )],
            Self::Tekken => &[concat!(
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
                r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}",
                r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            )],
            // o200k_base of tiktoken.
            Self::Gpt4o => &[concat!(
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
                r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
                r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            )],
        };
        let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
        for pattern in patterns {
            let pattern = SplitPattern::Regex((*pattern).into());
            steps.push(Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?.into());
        }
        steps.push(ByteLevel::new(prefix, true, false).into());
        Ok(Sequence::new(steps).into())
    }
}
