//! Tokenizer: text to token ids and back.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use tokenizers::DecoderWrapper;

use crate::speed::Encoded;
use crate::{Cancel, Error, Result};

mod cuts;

use cuts::Cuts;

/// Bytes of a text up to which it is tokenized at once; longer ones are cut, if they may be.
const PART: usize = 16 << 10;

/// Greatest number of bytes that are tokenized at once, which takes seconds.
const LARGEST_PART: usize = 8 << 20;

/// Bytes that tokenizing takes at most for each byte of a part: it keeps its words apart, and where each character comes
/// from. Measured with tokenizers 0.23: 60 to 200 of words, white space or one long word, 300 to 440 of digits or full stops
/// that are words by themselves.
const PART_BYTES: usize = 450;

/// Bytes that token ids take at most for each byte of a text, in a vector that grows.
const ID_BYTES: usize = 8;

/// A tokenizer that never adds special tokens, truncates or pads.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Number of ids, from 0, at least the rows of the embedding.
    size: usize,
    texts: OnceLock<Arc<[String]>>,
    cuts: OnceLock<Cuts>,
    encoded: Encoded,
}

impl Tokenizer {
    /// Makes a tokenizer for an embedding of `vocabulary` rows; ids beyond the tokenizer's own have empty text.
    pub(crate) fn new(inner: tokenizers::Tokenizer, vocabulary: usize) -> Self {
        Self { inner, size: vocabulary, texts: OnceLock::new(), cuts: OnceLock::new(), encoded: Encoded::default() }
    }

    /// Encodes a text as token ids. The text of a special token becomes that token.
    ///
    /// # Errors
    /// [`Error::Tokenizer`]; [`Error::Uncut`] for a long text that cannot be tokenized in parts.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_cancellable(text, &Cancel::default())
    }

    /// Encodes a text as [`Tokenizer::encode`] does, and looks at the flag between the parts of a long one.
    ///
    /// # Errors
    /// Errors of [`Tokenizer::encode`]; [`Error::Cancelled`].
    pub fn encode_cancellable(&self, text: &str, cancel: &Cancel) -> Result<Vec<u32>> {
        self.encode_in_parts(text, PART, cancel)
    }

    /// Encodes a text in parts of at least `least` bytes.
    pub(crate) fn encode_in_parts(&self, text: &str, least: usize, cancel: &Cancel) -> Result<Vec<u32>> {
        let (mut ids, mut rest) = (Vec::new(), text);
        loop {
            cancel.check()?;
            let (part, after) = self.first_part(rest, least)?;
            let encoding = self.inner.encode_fast(part, false).map_err(|e| Error::Tokenizer(e.to_string()))?;
            ids.extend_from_slice(encoding.get_ids());
            if after.is_empty() {
                break;
            }
            rest = after;
        }
        self.encoded.note(text.len(), ids.len());
        Ok(ids)
    }

    /// Returns the first part of a text, of at least `least` bytes if it is longer, and the rest.
    pub(crate) fn first_part<'a>(&self, text: &'a str, least: usize) -> Result<(&'a str, &'a str)> {
        if text.len() <= least {
            return Ok((text, ""));
        }
        let (part, rest) = self.cuts.get_or_init(|| Cuts::of(&self.inner)).first(text, least..=LARGEST_PART);
        match part.len() <= LARGEST_PART {
            true => Ok((part, rest)),
            false => Err(Error::Uncut { limit: LARGEST_PART }),
        }
    }

    /// Upper bound of the bytes that encoding a text takes, its token ids among them.
    ///
    /// # Errors
    /// [`Error::Uncut`].
    pub fn encoding_bytes(&self, text: &str) -> Result<usize> {
        let (mut largest, mut rest) = (0, text);
        while !rest.is_empty() {
            let (part, after) = self.first_part(rest, PART)?;
            largest = largest.max(part.len());
            rest = after;
        }
        Ok(PART_BYTES.saturating_mul(largest).saturating_add(ID_BYTES.saturating_mul(text.len())))
    }

    /// Mean bytes of text a token, over all texts encoded so far; 4 before.
    pub fn bytes_per_token(&self) -> f64 {
        self.encoded.bytes_per_token()
    }

    /// Decodes a sequence of tokens to text; bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// [`Error::TokenId`] for an id outside the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.size) {
            return Err(Error::TokenId { id: *id, vocabulary: self.size });
        }
        self.inner.decode(ids, false).map_err(|e| Error::Tokenizer(e.to_string()))
    }

    /// Text of each token by id, spaces included; a token that holds part of a character shows U+FFFD, as
    /// TransformerLens' `to_str_tokens` does.
    pub fn texts(&self) -> &Arc<[String]> {
        self.texts.get_or_init(|| {
            let bytes = byte_level_alphabet();
            let byte_level = self.is_byte_level();
            let added = self.inner.get_added_tokens_decoder();
            let text = |id: u32| match (added.get(&id), self.inner.id_to_token(id)) {
                (Some(token), _) => token.content.clone(),
                (None, None) => String::new(),
                (None, Some(raw)) if byte_level => {
                    let decoded: Option<Vec<u8>> = raw.chars().map(|c| bytes.get(&c).copied()).collect();
                    decoded.map_or(raw, |bytes| String::from_utf8_lossy(&bytes).into_owned())
                }
                (None, Some(raw)) => sentencepiece_text(&raw),
            };
            (0..self.size as u32).map(text).collect()
        })
    }

    /// Number of token ids.
    pub fn vocabulary(&self) -> usize {
        self.size
    }

    fn is_byte_level(&self) -> bool {
        match self.inner.get_decoder() {
            Some(DecoderWrapper::ByteLevel(_)) => true,
            Some(DecoderWrapper::Sequence(sequence)) => {
                sequence.get_decoders().iter().any(|d| matches!(d, DecoderWrapper::ByteLevel(_)))
            }
            _ => false,
        }
    }
}

/// Text of a SentencePiece token, in which `▁` is a space and `<0x0A>` a byte.
fn sentencepiece_text(raw: &str) -> String {
    let byte = raw.strip_prefix("<0x").and_then(|r| r.strip_suffix('>')).and_then(|h| u8::from_str_radix(h, 16).ok());
    match byte {
        Some(byte) => String::from_utf8_lossy(&[byte]).into_owned(),
        None => raw.replace('▁', " "),
    }
}

/// Alphabet of GPT-2's byte-level BPE, characters to bytes: printable ones stand for themselves, the others follow from
/// U+0100 on.
fn byte_level_alphabet() -> HashMap<char, u8> {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let hidden = (0..=255u8).filter(|b| !printable(*b)).zip('\u{100}'..).map(|(b, c)| (c, b));
    (0..=255u8).filter(|b| printable(*b)).map(|b| (char::from(b), b)).chain(hidden).collect()
}
