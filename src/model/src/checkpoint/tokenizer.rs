//! Tokenizers: `tokenizer.json`, `vocab.json` with `merges.txt`, `vocab.txt`, or the vocabulary inside a GGUF file.

use std::path::Path;

use candle_core::quantized::gguf_file::Value;
use serde_json::Value as Json;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::{NFC, Prepend, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, DecoderWrapper, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer};

use super::gguf::{Metadata, integer};
use super::{corrupt, guarded, json, read_file, read_json, wordpiece};
use crate::{Error, Result};

/// Longest token, in bytes, for which merges are reconstructed; SentencePiece makes none near it.
const MAX_MERGED: usize = 256;

/// A tokenizer and what its files say about the token that begins a sequence.
pub(super) struct Words {
    pub(super) tokenizer: Tokenizer,
    pub(super) bos: Option<u32>,
    pub(super) add_bos: bool,
}

/// Reads `tokenizer.json`, or `vocab.json` or `vocab.txt` with what lies beside it, and finds BOS with the help of
/// `config.json`.
pub(super) fn from_files(path: &Path, config: &Json) -> Result<Words> {
    let beside = |name: &str| {
        let path = path.with_file_name(name);
        if path.is_file() { read_json(&path).map(Some) } else { Ok(None) }
    };
    let said = beside("tokenizer_config.json")?;
    let words = match path.file_name().and_then(|name| name.to_str()) {
        Some("vocab.json") => from_vocab(path, beside("added_tokens.json")?, beside("special_tokens_map.json")?)?,
        Some("vocab.txt") => wordpiece::from_vocab(path, said.as_ref())?,
        _ => from_json(path, &read_file(path)?)?,
    };
    words.settle(config, said.as_ref())
}

/// Reads the bytes of a `tokenizer.json`; truncation and padding in it are dropped, texts are windowed elsewhere.
pub(super) fn from_json(file: &Path, bytes: &[u8]) -> Result<Words> {
    guarded(file, "tokenizer", || {
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|e| corrupt(file, "tokenizer", e))?;
        tokenizer.with_padding(None).with_truncation(None).map_err(|e| corrupt(file, "tokenizer", e))?;
        // A post-processor that begins the empty text with a token does so to every text.
        let empty = tokenizer.encode("", true).map_err(|e| corrupt(file, "tokenizer", e))?;
        let bos = empty.get_ids().first().copied();
        Ok(Words { tokenizer, bos, add_bos: bos.is_some() })
    })
}

impl Words {
    /// Settles which token is BOS and whether it is prepended, from what `config.json` and `tokenizer_config.json`
    /// say; before, `bos` and `add_bos` are what the post-processor does.
    pub(super) fn settle(mut self, config: &Json, tokenizer_config: Option<&Json>) -> Result<Self> {
        let said = tokenizer_config.unwrap_or(&Json::Null);
        let id = |value: &Json| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let named = |value: &Json| self.tokenizer.token_to_id(content(value)?);
        let configured = id(&config["bos_token_id"]).or_else(|| id(&config["bos_token_id"][0]));
        let bos = configured.or_else(|| named(&said["bos_token"])).or_else(|| named(&config["bos_token"]));
        let begins = self.add_bos && (bos.is_none() || bos == self.bos);
        self.add_bos = if hooked(config) {
            // TransformerLens decides by the model and not by its tokenizer.
            config["default_prepend_bos"].as_bool().unwrap_or(true)
        } else {
            // GPT-2's files are silent; TransformerLens and Neuron2Graph prepend BOS to it.
            said["add_bos_token"].as_bool().unwrap_or(begins || config["model_type"] == "gpt2")
        };
        self.bos = bos.or(self.bos);
        self.add_bos &= self.bos.is_some();
        Ok(self)
    }
}

/// Whether this is the configuration of a HookedTransformer; the published ones carry no `model_type`.
fn hooked(config: &Json) -> bool {
    match config["model_type"].as_str() {
        Some(kind) => kind == "hooked_transformer",
        None => config.get("act_fn").is_some() && config.get("d_vocab").is_some(),
    }
}

/// The text of a token that is written as a string or as an object.
fn content(token: &Json) -> Option<&str> {
    token.as_str().or_else(|| token["content"].as_str())
}

/// Byte-level BPE as GPT-2 published it.
fn from_vocab(path: &Path, added: Option<Json>, special: Option<Json>) -> Result<Words> {
    const FORMAT: &str = "vocab.json";
    let wrong = |reason: String| corrupt(path, FORMAT, reason);
    let vocab: Vocab = match json(path, &read_file(path)?)? {
        Json::Object(tokens) => tokens
            .into_iter()
            .map(|(token, id)| Some((token, u32::try_from(id.as_u64()?).ok()?)))
            .collect::<Option<_>>()
            .ok_or_else(|| wrong("an id is no 32-bit integer".into()))?,
        _ => return Err(wrong("it is no object".into())),
    };
    let merges_path = path.with_file_name("merges.txt");
    if !merges_path.is_file() {
        let location = path.parent().unwrap_or(path).display().to_string();
        return Err(Error::MissingFile { location, wanted: "merges.txt (it belongs to vocab.json)".into() });
    }
    let merges = String::from_utf8(read_file(&merges_path)?).map_err(|e| corrupt(&merges_path, "merges.txt", e))?;
    let lines = merges.lines().filter(|line| !line.is_empty() && !line.starts_with("#version"));
    let merges = parse_merges(lines).map_err(|reason| corrupt(&merges_path, "merges.txt", reason))?;
    let mut names: Vec<AddedToken> = Vec::new();
    if let Some(Json::Object(added)) = added {
        let mut added: Vec<_> = added.into_iter().collect();
        // New tokens get the next free ids in the order they are added.
        added.sort_by_key(|(_, id)| id.as_u64());
        names.extend(added.into_iter().map(|(name, _)| AddedToken::from(name, false).normalized(false)));
    }
    let mut specials = vec!["<|endoftext|>".to_owned()];
    if let Some(Json::Object(special)) = special {
        specials.extend(special.values().filter_map(content).map(str::to_owned));
    }
    // A name that the vocabulary lacks would become a new token that the model has no embedding for.
    specials.retain(|name| vocab.contains_key(name) || names.iter().any(|token| &token.content == name));
    let specials: Vec<_> = specials.into_iter().map(|name| AddedToken::from(name, true)).collect();
    guarded(path, FORMAT, || {
        let bpe = BPE::builder().vocab_and_merges(vocab, merges).build().map_err(|e| wrong(e.to_string()))?;
        let mut tokenizer = Tokenizer::new(bpe);
        tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
        tokenizer.with_decoder(Some(ByteLevel::default()));
        tokenizer.add_tokens(names).map_err(|e| wrong(e.to_string()))?;
        tokenizer.add_special_tokens(specials).map_err(|e| wrong(e.to_string()))?;
        Ok(Words { tokenizer, bos: None, add_bos: false })
    })
}

fn parse_merges<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Merges, String> {
    let pair = |line: &'a str| line.split_once(' ').ok_or_else(|| format!("\"{line}\" is no pair of tokens"));
    lines.map(|line| pair(line).map(|(left, right)| (left.to_owned(), right.to_owned()))).collect()
}

/// Builds the tokenizer that a GGUF file describes.
pub(super) fn from_gguf(file: &Path, metadata: &Metadata) -> Result<Words> {
    let vocabulary = Vocabulary::read(file, metadata)?;
    let kind = text(metadata, "tokenizer.ggml.model").unwrap_or_default();
    let (mut tokenizer, prepends) = guarded(file, "GGUF", || match kind {
        "gpt2" => Ok((vocabulary.byte_level(metadata)?, false)),
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
    let bos = metadata.get("tokenizer.ggml.bos_token_id").and_then(integer);
    if bos.is_some_and(|bos| bos >= vocabulary.tokens.len() as u64) {
        return Err(vocabulary.wrong("the BOS token lies outside the vocabulary"));
    }
    let add_bos = match metadata.get("tokenizer.ggml.add_bos_token") {
        Some(Value::Bool(add)) => *add,
        _ => prepends,
    };
    Ok(Words { tokenizer, bos: bos.map(|bos| bos as u32), add_bos: add_bos && bos.is_some() })
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

    /// Byte-level BPE with explicit merges.
    fn byte_level(&self, metadata: &'a Metadata) -> Result<Tokenizer> {
        let merges = self.strings(metadata, "tokenizer.ggml.merges")?;
        let merges = parse_merges(merges.into_iter()).map_err(|reason| self.wrong(reason))?;
        let pre = text(metadata, "tokenizer.ggml.pre").unwrap_or("default");
        let splitting = Splitting::named(pre)?;
        let bpe = BPE::builder().vocab_and_merges(self.ids(), merges).ignore_merges(splitting.whole_words());
        let mut tokenizer = Tokenizer::new(bpe.build().map_err(|e| self.wrong(e))?);
        let pre_tokenizer = splitting.pre_tokenizer().map_err(|e| Error::Internal(e.to_string()))?;
        tokenizer.with_pre_tokenizer(Some(pre_tokenizer));
        if splitting == Splitting::Qwen2 {
            tokenizer.with_normalizer(Some(NFC)).map_err(|e| self.wrong(e))?;
        }
        tokenizer.with_decoder(Some(ByteLevel::default()));
        Ok(tokenizer)
    }

    /// SentencePiece BPE. GGUF keeps the score of each token; the merges are those that make one token of two, the
    /// best result first, as transformers' conversion of such vocabularies has it.
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

/// How a byte-level BPE cuts text into words, behind llama.cpp's names for it.
#[derive(Clone, Copy, PartialEq)]
enum Splitting {
    Gpt2,
    /// GPT-2 after single digits.
    Digits,
    Qwen2,
    Llama3,
    Smaug,
    Tekken,
}

impl Splitting {
    const NAMES: [(&str, Self); 18] = [
        ("default", Self::Gpt2),
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
        ("smaug-bpe", Self::Smaug),
        ("tekken", Self::Tekken),
    ];

    fn named(name: &str) -> Result<Self> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, splitting)| *splitting).ok_or_else(|| Error::Unsupported {
            what: "pre-tokenizer",
            value: name.into(),
            supported: Self::NAMES.map(|(known, _)| known).join(", ")
                + " (the option tokenizer names a tokenizer.json instead)",
        })
    }

    /// Whether a word that is a token is taken whole, without going through its merges.
    fn whole_words(self) -> bool {
        matches!(self, Self::Llama3 | Self::Tekken)
    }

    fn pre_tokenizer(self) -> tokenizers::Result<PreTokenizerWrapper> {
        // The patterns are those in the tokenizer.json of the families' first models.
        let pattern = match self {
            Self::Gpt2 => return Ok(ByteLevel::new(false, true, true).into()),
            Self::Digits => {
                let steps = vec![Digits::new(true).into(), ByteLevel::new(false, true, true).into()];
                return Ok(PreTokenizers::new(steps).into());
            }
            Self::Qwen2 => concat!(
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
                r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            ),
            Self::Llama3 | Self::Smaug => concat!(
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
                r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            ),
            Self::Tekken => concat!(
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
                r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}",
                r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            ),
        };
        let words = Split::new(SplitPattern::Regex(pattern.into()), SplitDelimiterBehavior::Isolated, false)?;
        Ok(PreTokenizers::new(vec![words.into(), ByteLevel::new(false, true, false).into()]).into())
    }
}
