//! Vocabulary of a GGUF file.

use std::path::Path;

use candle_core::quantized::gguf_file::Value;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::{NFC, Prepend, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, DecoderWrapper, Tokenizer};

use super::gguf::{Metadata, integer};
use super::splitting::Splitting;
use super::tokenizer::{Words, parse_merges};
use super::{bos, corrupt, guarded};
use crate::{Error, Result};

/// Greatest length of a token, in bytes, for which merges are reconstructed; SentencePiece makes none near it.
const MAX_MERGED: usize = 256;

/// Builds the tokenizer that a GGUF file describes.
pub(super) fn from_gguf(file: &Path, metadata: &Metadata) -> Result<Words> {
    let vocabulary = Vocabulary::read(file, metadata)?;
    let kind = text(metadata, "tokenizer.ggml.model").unwrap_or_default();
    let (mut tokenizer, prepends) = guarded(file, "GGUF", || match kind {
        "gpt2" => vocabulary.byte_level(metadata),
        "llama" => Ok((vocabulary.sentence_piece(metadata)?, true)),
        _ => Err(Error::Unsupported {
            what: "tokenizer",
            value: kind.into(),
            supported: "gpt2, llama (the option tokenizer names a tokenizer.json instead)".into(),
        }),
    })?;
    let token = |id: usize| AddedToken::from(vocabulary.tokens[id], true);
    let of_kind = |kinds: &[u64]| -> Vec<AddedToken> {
        (0..vocabulary.tokens.len())
            .filter(|&id| kinds.contains(&vocabulary.kinds.get(id).copied().unwrap_or(Vocabulary::NORMAL)))
            .map(token)
            .collect()
    };
    guarded(file, "GGUF", || {
        let plain = of_kind(&[Vocabulary::USER_DEFINED]).into_iter().map(|token| token.special(false));
        tokenizer.add_tokens(plain).map_err(|e| vocabulary.wrong(e))?;
        let special = of_kind(&[Vocabulary::UNKNOWN, Vocabulary::CONTROL]);
        tokenizer.add_special_tokens(special).map_err(|e| vocabulary.wrong(e))?;
        Ok(())
    })?;
    let bos = bos::of_gguf(metadata, vocabulary.tokens.len(), kind == "llama", prepends);
    Ok(Words { tokenizer, bos: bos.map_err(|reason| vocabulary.wrong(reason))? })
}

fn text<'a>(metadata: &'a Metadata, key: &str) -> Option<&'a str> {
    match metadata.get(key)? {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// The vocabulary of a GGUF file.
struct Vocabulary<'a> {
    file: &'a Path,
    tokens: Vec<&'a str>,
    /// Kind of each token, ggml's `llama_token_type`; may be shorter than `tokens`.
    kinds: Vec<u64>,
}

impl<'a> Vocabulary<'a> {
    const NORMAL: u64 = 1;
    const UNKNOWN: u64 = 2;
    const CONTROL: u64 = 3;
    const USER_DEFINED: u64 = 4;

    fn read(file: &'a Path, metadata: &'a Metadata) -> Result<Self> {
        let mut vocabulary = Self { file, tokens: Vec::new(), kinds: Vec::new() };
        vocabulary.tokens = vocabulary.strings(metadata, "tokenizer.ggml.tokens")?;
        if let Some(Value::Array(kinds)) = metadata.get("tokenizer.ggml.token_type") {
            vocabulary.kinds = kinds.iter().map(|kind| integer(kind).unwrap_or(Self::NORMAL)).collect();
        }
        Ok(vocabulary)
    }

    fn strings(&self, metadata: &'a Metadata, key: &str) -> Result<Vec<&'a str>> {
        let Some(Value::Array(values)) = metadata.get(key) else {
            return Err(self.wrong(format!("it lacks {key} (the option tokenizer names a tokenizer.json instead)")));
        };
        let text = |value: &'a Value| match value {
            Value::String(text) => Ok(text.as_str()),
            _ => Err(self.wrong(format!("{key} holds something other than text"))),
        };
        values.iter().map(text).collect()
    }

    fn ids(&self) -> Vocab {
        self.tokens.iter().zip(0..).map(|(token, id)| (token.to_string(), id)).collect()
    }

    fn wrong(&self, reason: impl std::fmt::Display) -> Error {
        corrupt(self.file, "GGUF", reason)
    }

    /// Builds byte-level BPE with explicit merges; also returns whether BOS goes before texts if the file does not say.
    fn byte_level(&self, metadata: &'a Metadata) -> Result<(Tokenizer, bool)> {
        let merges = self.strings(metadata, "tokenizer.ggml.merges")?;
        let merges = parse_merges(merges.into_iter()).map_err(|reason| self.wrong(reason))?;
        let pre = text(metadata, "tokenizer.ggml.pre").unwrap_or("default");
        let splitting = Splitting::named(pre)?;
        let bpe = BPE::builder().vocab_and_merges(self.ids(), merges).ignore_merges(splitting.whole_words());
        let mut tokenizer = Tokenizer::new(bpe.build().map_err(|e| self.wrong(e))?);
        let pre_tokenizer = splitting.pre_tokenizer(false).map_err(|e| Error::Internal(e.to_string()))?;
        tokenizer.with_pre_tokenizer(Some(pre_tokenizer));
        if splitting == Splitting::Qwen2 {
            tokenizer.with_normalizer(Some(NFC)).map_err(|e| self.wrong(e))?;
        }
        tokenizer.with_decoder(Some(ByteLevel::default()));
        Ok((tokenizer, splitting.begins_with_bos()))
    }

    /// Builds SentencePiece BPE. GGUF keeps the score of each token; the merges are those that make one token of two,
    /// the best result first, as in transformers' conversion of such vocabularies.
    fn sentence_piece(&self, metadata: &'a Metadata) -> Result<Tokenizer> {
        let scores: Vec<f32> = match metadata.get("tokenizer.ggml.scores") {
            Some(Value::Array(scores)) => {
                scores.iter().map(|score| if let Value::F32(score) = score { *score } else { 0.0 }).collect()
            }
            _ => return Err(self.wrong("it lacks tokenizer.ggml.scores")),
        };
        let (vocab, score) = (self.ids(), |id: usize| scores.get(id).copied().unwrap_or(0.0));
        let mut merges = Vec::new();
        for (id, token) in self.tokens.iter().enumerate() {
            let kind = self.kinds.get(id).copied().unwrap_or(Self::NORMAL);
            if token.len() > MAX_MERGED || !matches!(kind, Self::NORMAL | Self::USER_DEFINED) {
                continue;
            }
            let pieces = token.char_indices().skip(1).map(|(at, _)| token.split_at(at));
            let mut pairs: Vec<_> = pieces
                .filter_map(|(left, right)| {
                    Some((left, right, *vocab.get(left)? as usize, *vocab.get(right)? as usize))
                })
                .collect();
            pairs.sort_by(|a, b| score(b.2).total_cmp(&score(a.2)).then(score(b.3).total_cmp(&score(a.3))));
            merges.extend(pairs.into_iter().map(|(left, right, ..)| (score(id), left, right)));
        }
        merges.sort_by(|a, b| b.0.total_cmp(&a.0));
        let merges: Merges = merges.into_iter().map(|(_, left, right)| (left.to_owned(), right.to_owned())).collect();
        let mut bpe = BPE::builder().vocab_and_merges(vocab, merges).fuse_unk(true).byte_fallback(true);
        let unknown = metadata.get("tokenizer.ggml.unknown_token_id").and_then(integer).unwrap_or(0);
        if let Some(unknown) = usize::try_from(unknown).ok().and_then(|id| self.tokens.get(id)) {
            bpe = bpe.unk_token(unknown.to_string());
        }
        let mut tokenizer = Tokenizer::new(bpe.build().map_err(|e| self.wrong(e))?);
        let prefix = !matches!(metadata.get("tokenizer.ggml.add_space_prefix"), Some(Value::Bool(false)));
        let spaces = |from: &str, to: &str| Replace::new(from, to).map_err(|e| Error::Internal(e.to_string()));
        let mut normalizers = vec![spaces(" ", "▁")?.into()];
        let mut decoders: Vec<DecoderWrapper> =
            vec![spaces("▁", " ")?.into(), ByteFallback::new().into(), Fuse::new().into()];
        if prefix {
            normalizers.insert(0, Prepend::new("▁".into()).into());
            decoders.push(Strip::new(' ', 1, 0).into());
        }
        tokenizer.with_normalizer(Some(Normalizers::new(normalizers))).map_err(|e| self.wrong(e))?;
        tokenizer.with_decoder(Some(Decoders::new(decoders)));
        Ok(tokenizer)
    }
}
