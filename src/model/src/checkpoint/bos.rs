//! BOS: the token that begins a sequence, and whether it is prepended to every text. Only this module decides it.
//!
//! The option `bos` decides whether it is prepended, if it is given. Else, in this order:
//!
//! | files | which token | whether it is prepended |
//! |---|---|---|
//! | Hugging Face, `tokenizer.json` | the one its post-processor puts first; else the tokenizer's own `bos_token`; else `bos_token_id` of `config.json` | if the post-processor puts it first |
//! | Hugging Face, `vocab.json` and `merges.txt` | the tokenizer's own `bos_token`; else `bos_token_id` of `config.json` | if `tokenizer_config.json` has `add_bos_token: true` |
//! | GPT-2 | the same; else its `eos_token`; else `<\|endoftext\|>` | always, as in TransformerLens |
//! | HookedTransformer | the same as GPT-2 | unless `config.json` has `default_prepend_bos: false` |
//! | GGUF | `tokenizer.ggml.bos_token_id`; else 1 with the tokenizer `llama` | `tokenizer.ggml.add_bos_token`; else with `llama`, and with `gpt2` for the pre-tokenizers of Llama 3 and Tekken |
//!
//! The tokenizer's own `bos_token` is that of `special_tokens_map.json` (read where `tokenizer_config.json` has no
//! `added_tokens_decoder`), else of `tokenizer_config.json`, else of the tokenizer's class. With a `tokenizer.json`,
//! `add_bos_token` changes nothing, and the class `GPTNeoXTokenizer` drops the post-processor. These are the rules of
//! AutoTokenizer of transformers 5.24 and of `llama_vocab::impl::load` of llama.cpp. `generation_config.json` is about
//! generating and never read.

use candle_core::quantized::gguf_file::Value;
use serde_json::Value as Json;
use tokenizers::tokenizer::Token;
use tokenizers::{Encoding, Tokenizer};

use super::gguf::{Metadata, integer};
use crate::{Error, Result};

/// BOS: the token that begins a sequence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bos {
    /// The token, if the files name one.
    pub id: Option<u32>,
    /// True if it goes before every text by default.
    pub prepended: bool,
    /// Tokens that the tokenizer puts before every text if they are several, which this crate does not support.
    pub several: Vec<u32>,
}

impl Bos {
    /// Resolves the token that goes before every text, given the option `bos`.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] if no token is known or the tokenizer prepends several.
    pub(crate) fn resolve(&self, asked: Option<bool>) -> Result<Option<u32>> {
        let wrong = |reason: String| Err(Error::InvalidOption { option: "bos".into(), reason });
        match (asked, self.id) {
            (None, _) if !self.several.is_empty() => wrong(format!(
                "the tokenizer puts {} tokens ({:?}) before every text, and one is supported; \
                 'true' prepends BOS alone and 'false' nothing",
                self.several.len(),
                self.several
            )),
            (asked, id) => match (asked.unwrap_or(self.prepended), id) {
                (false, _) => Ok(None),
                (true, Some(bos)) => Ok(Some(bos)),
                (true, None) => wrong("the checkpoint does not say which token begins a sequence; use 'false'".into()),
            },
        }
    }
}

/// Special tokens named by the files of a Hugging Face tokenizer.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Tokens that the tokenizer puts before every text by itself.
    pub(super) begins: Vec<u32>,
    /// Its own `bos_token`.
    pub(super) own: Option<u32>,
    /// Its `eos_token`, or `<|endoftext|>`, which TransformerLens takes if there is no BOS.
    pub(super) end: Option<u32>,
}

/// Returns the BOS of a folder.
pub(super) fn of_folder(config: &Json, said: Said) -> Bos {
    let Said { begins, own, end } = said;
    let (gpt2, hooked) = (config["model_type"] == "gpt2", hooked(config));
    let id = |value: &Json| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let configured = id(&config["bos_token_id"]).or_else(|| id(&config["bos_token_id"][0]));
    let known = begins.first().copied().or(own).or(configured).or(end.filter(|_| gpt2 || hooked));
    let prepended = if hooked {
        // TransformerLens decides by the model and not by its tokenizer.
        config["default_prepend_bos"].as_bool().unwrap_or(true)
    } else {
        gpt2 || !begins.is_empty()
    };
    let several = if begins.len() > 1 && prepended { begins } else { Vec::new() };
    Bos { id: known, prepended, several }
}

/// Returns the BOS of a GGUF file; `tokens` is the size of its vocabulary and `default` whether llama.cpp prepends BOS
/// if the file does not say.
pub(super) fn of_gguf(metadata: &Metadata, tokens: usize, sentence_piece: bool, default: bool) -> Result<Bos, String> {
    let id = match metadata.get("tokenizer.ggml.bos_token_id") {
        Some(value) => match integer(value).and_then(|id| u32::try_from(id).ok()) {
            Some(id) if (id as usize) < tokens => Some(id),
            _ => return Err("the BOS token lies outside the vocabulary".into()),
        },
        None => (sentence_piece && tokens > 1).then_some(1),
    };
    let prepended = match metadata.get("tokenizer.ggml.add_bos_token") {
        Some(Value::Bool(add)) => *add,
        Some(other) => return Err(format!("tokenizer.ggml.add_bos_token is {other:?}, expected true or false")),
        None => default,
    };
    Ok(Bos { id, prepended, several: Vec::new() })
}

/// Returns the tokens that the post-processor of a tokenizer puts before a text.
pub(super) fn begins(tokenizer: &Tokenizer) -> tokenizers::Result<Vec<u32>> {
    // A text of one token that no vocabulary has, so that tokens before it can be told from those after it.
    let text = Encoding::from_tokens(vec![Token::new(u32::MAX, "text".into(), (0, 4))], 0);
    let processed = tokenizer.post_process(text, None, true)?;
    let ids = processed.get_ids();
    let before = ids.iter().position(|id| *id == u32::MAX).unwrap_or(0);
    Ok(ids[..before].to_vec())
}

/// Returns true for the configuration of a HookedTransformer; the published ones have no `model_type`.
pub(super) fn hooked(config: &Json) -> bool {
    match config["model_type"].as_str() {
        Some(kind) => kind == "hooked_transformer",
        None => config.get("act_fn").is_some() && config.get("d_vocab").is_some(),
    }
}
