//! Tokenizer classes of transformers 5.24, some of which split text by their own rules instead of those of
//! `tokenizer.json`, and the tokens that the files beside it add.
//!
//! AutoTokenizer takes the class that `tokenizer_config.json` (or `config.json`) names, or that of the model. Classes
//! with a constructor of their own take the vocabulary and the post-processor of a `tokenizer.json` and nothing else;
//! all others use it as it is.

use serde_json::Value as Json;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{NFC, Replace};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::{AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Tokenizer};

use super::bos::hooked;
use super::splitting::Splitting;

/// Token between the texts that GPT-2 and similar models were trained on.
pub(super) const END_OF_TEXT: &str = "<|endoftext|>";

/// Names of the special tokens of a tokenizer, in transformers' order.
const NAMED: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A tokenizer class of transformers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Class {
    Gpt2,
    GptNeoX,
    Qwen2,
    Llama,
    /// Class that uses `tokenizer.json` as it is.
    Other,
}

impl Class {
    /// Class that AutoTokenizer takes; `byte_level` returns true if there is a `tokenizer.json` of byte-level BPE.
    pub(super) fn of(config: &Json, said: &Json, byte_level: impl FnOnce() -> bool) -> Self {
        let model = config["model_type"].as_str().unwrap_or_default();
        let registered = match model {
            "gpt2" => Some(Self::Gpt2),
            "gpt_neox" => Some(Self::GptNeoX),
            "qwen2" => Some(Self::Qwen2),
            // Classes that use the file as it is.
            "mistral" => Some(Self::Other),
            _ => None,
        };
        let named = Self::name(config, said).map(|name| match name.strip_suffix("Fast").unwrap_or(name) {
            "GPT2Tokenizer" => Self::Gpt2,
            "GPTNeoXTokenizer" => Self::GptNeoX,
            "Qwen2Tokenizer" => Self::Qwen2,
            "LlamaTokenizer" => Self::Llama,
            _ => Self::Other,
        });
        match (named, registered) {
            // Repositories of Qwen2 and Mistral name wrong classes, and those with Llama 3's cut name Llama 2's class.
            (Some(_), Some(class @ (Self::Qwen2 | Self::Other))) => class,
            (Some(Self::Llama), _) if byte_level() => Self::Other,
            (Some(class), _) => class,
            (None, class) => class.unwrap_or(Self::Other),
        }
    }

    /// Name of the class in the files.
    pub(super) fn name<'a>(config: &'a Json, said: &'a Json) -> Option<&'a str> {
        said["tokenizer_class"].as_str().or_else(|| config["tokenizer_class"].as_str())
    }

    /// Class of `vocab.json` with `merges.txt`, or `None` if its pre-tokenizer is not known.
    pub(super) fn of_vocabulary(config: &Json, said: &Json) -> Option<Self> {
        match Self::of(config, said, || false) {
            // OpenAI published GPT-2 without the name of a class.
            Self::Other if Self::name(config, said).is_none() && (config["model_type"].is_null() || hooked(config)) => {
                Some(Self::Gpt2)
            }
            Self::Other | Self::Llama => None,
            class => Some(class),
        }
    }

    /// Default special tokens of the class, if the files name no others.
    fn defaults(self) -> &'static [(&'static str, &'static str)] {
        const END: &str = END_OF_TEXT;
        match self {
            Self::Gpt2 => &[("bos_token", END), ("eos_token", END), ("unk_token", END)],
            Self::GptNeoX => {
                &[("bos_token", END), ("eos_token", END), ("unk_token", END), ("pad_token", "<|padding|>")]
            }
            Self::Qwen2 => &[("eos_token", END), ("unk_token", END), ("pad_token", END)],
            Self::Llama => &[("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>")],
            Self::Other => &[],
        }
    }

    /// Special tokens of the class, and the end of text of GPT-2, that a vocabulary has before any are added.
    pub(super) fn known(self, tokenizer: &Tokenizer) -> Vec<&'static str> {
        let names = self.defaults().iter().map(|(_, text)| *text).chain([END_OF_TEXT]);
        names.filter(|text| tokenizer.token_to_id(text).is_some()).collect()
    }

    /// Rebuilds the tokenizer from its vocabulary as the class does; `None` if it is no BPE or the class leaves it as
    /// it is.
    pub(super) fn rebuilt(self, tokenizer: &Tokenizer, said: &Json) -> tokenizers::Result<Option<Tokenizer>> {
        let ModelWrapper::BPE(bpe) = tokenizer.get_model() else { return Ok(None) };
        if self == Self::Other {
            return Ok(None);
        }
        let mut model: BPE = bpe.clone();
        (model.dropout, model.unk_token, model.ignore_merges) = (None, None, false);
        (model.continuing_subword_prefix, model.end_of_word_suffix) = (None, None);
        (model.fuse_unk, model.byte_fallback) = (self == Self::Llama, self == Self::Llama);
        let mut new = Tokenizer::new(model);
        let prefix = said["add_prefix_space"].as_bool();
        let (normalizer, pre, decoder) = match self {
            Self::Gpt2 | Self::GptNeoX | Self::Qwen2 => {
                let splitting = if self == Self::Qwen2 { Splitting::Qwen2 } else { Splitting::Gpt2 };
                let normalizer: Option<NormalizerWrapper> = (self != Self::Gpt2).then(|| NFC.into());
                let decoder: DecoderWrapper = ByteLevel::default().into();
                (normalizer, splitting.pre_tokenizer(prefix.unwrap_or(false))?, decoder)
            }
            Self::Llama | Self::Other => {
                let prefix = prefix.unwrap_or(true);
                let scheme = match (prefix, said["legacy"].as_bool().unwrap_or(false)) {
                    (true, true) => PrependScheme::Always,
                    (true, false) => PrependScheme::First,
                    (false, _) => PrependScheme::Never,
                };
                let pre: PreTokenizerWrapper = Metaspace::new('▁', scheme, false).into();
                let mut steps: Vec<DecoderWrapper> =
                    vec![Replace::new("▁", " ")?.into(), ByteFallback::new().into(), Fuse::new().into()];
                if prefix {
                    steps.push(Strip::new(' ', 1, 0).into());
                }
                (None, pre, Decoders::new(steps).into())
            }
        };
        new.with_normalizer(normalizer)?;
        new.with_pre_tokenizer(Some(pre));
        new.with_decoder(Some(decoder));
        // GPTNeoXTokenizer makes its own of `add_bos_token`, which is not read beside a tokenizer.json.
        let post: Option<PostProcessorWrapper> =
            if self == Self::GptNeoX { None } else { tokenizer.get_post_processor().cloned() };
        new.with_post_processor(post);
        Ok(Some(new))
    }
}

/// Contents of the files beside a vocabulary; absent ones are null.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// Contents of `tokenizer_config.json`.
    pub(super) said: Json,
    /// Contents of `special_tokens_map.json`.
    pub(super) special: Json,
    /// Contents of `added_tokens.json`.
    pub(super) added: Json,
}

impl Beside {
    /// The named special token of the files, else of the class, and whether the files name it; null there removes it.
    fn named(&self, class: Class, key: &str) -> Option<(AddedToken, bool)> {
        let special = if self.lists_added() { &Json::Null } else { &self.special };
        match [special, &self.said].into_iter().find_map(|file| file.get(key)) {
            Some(token) => Some((added_token(token, true)?, true)),
            None => {
                let (_, text) = class.defaults().iter().find(|(name, _)| *name == key)?;
                Some((AddedToken::from(*text, true), false))
            }
        }
    }

    /// Text of a named special token, and whether it is from the files.
    pub(super) fn text(&self, class: Class, key: &str) -> Option<(String, bool)> {
        self.named(class, key).map(|(token, explicit)| (token.content, explicit))
    }

    /// Special tokens beside the named ones, in the order in which they are added.
    fn extra(&self) -> Vec<AddedToken> {
        let mut extra = Vec::new();
        let special = if self.lists_added() { &Json::Null } else { &self.special };
        for file in [&self.said, special] {
            let lists = ["extra_special_tokens", "additional_special_tokens"];
            match lists.into_iter().map(|key| &file[key]).find(|list| !list.is_null()) {
                Some(Json::Array(tokens)) => extra.extend(tokens.iter().filter_map(|token| added_token(token, true))),
                Some(Json::Object(tokens)) => {
                    extra.extend(tokens.values().filter_map(|token| added_token(token, true)));
                }
                _ => {}
            }
            let own = file.as_object().into_iter().flatten();
            let own = own.filter(|(key, value)| {
                key.ends_with("_token") && !NAMED.contains(&key.as_str()) && (value.is_string() || value.is_object())
            });
            extra.extend(own.filter_map(|(_, token)| added_token(token, true)));
        }
        extra
    }

    fn lists_added(&self) -> bool {
        self.said.get("added_tokens_decoder").is_some()
    }

    /// Adds the tokens that the files name, as `TokenizersBackend.__init__` does: those with ids in the order of the
    /// ids, then special ones that are still missing. A token of the vocabulary keeps its id, a new one gets the next.
    /// `own` are those of the `tokenizer.json` itself.
    pub(super) fn add_to(
        &self,
        tokenizer: &mut Tokenizer,
        class: Class,
        own: Vec<(u32, AddedToken)>,
    ) -> tokenizers::Result<()> {
        let named: Vec<AddedToken> =
            NAMED.into_iter().filter_map(|key| self.named(class, key).map(|(token, _)| token)).collect();
        let extra = self.extra();
        let special = |text: &str| named.iter().chain(&extra).any(|token| token.content == text);
        let mut numbered: Vec<(u32, AddedToken)> = Vec::new();
        if let Some(Json::Object(listed)) = self.said.get("added_tokens_decoder") {
            let listed = listed.iter().filter_map(|(id, token)| Some((id.parse().ok()?, added_token(token, false)?)));
            numbered.extend(listed);
        } else {
            for (text, id) in self.added.as_object().into_iter().flatten() {
                let Some(id) = id.as_u64().and_then(|id| u32::try_from(id).ok()) else { continue };
                numbered.push((id, AddedToken::from(text.as_str(), special(text))));
            }
            numbered.retain(|(id, _)| own.iter().all(|(other, _)| other != id));
            numbered.extend(own);
        }
        numbered.sort_by_key(|(id, _)| *id);
        let known = |tokenizer: &Tokenizer, text: &str| {
            tokenizer.get_added_vocabulary().get_vocab().contains_key(text)
                || numbered.iter().any(|(_, token)| token.content == text)
        };
        let mut tokens: Vec<AddedToken> = numbered.iter().map(|(_, token)| token.clone()).collect();
        for token in named.iter().chain(&extra) {
            if !known(tokenizer, &token.content) && tokens.iter().all(|other| other.content != token.content) {
                tokens.push(token.clone());
            }
        }
        for token in &mut tokens {
            token.special |= named.iter().any(|name| name.content == token.content);
        }
        tokenizer.add_tokens(tokens)?;
        if class == Class::Qwen2 {
            let again = named.into_iter().chain(extra);
            tokenizer.add_tokens(again.map(|token| AddedToken::from(token.content, true)))?;
        }
        tokenizer.set_encode_special_tokens(self.said["split_special_tokens"].as_bool().unwrap_or(false));
        Ok(())
    }
}

/// Parses a token, which is written as a string or as an object.
fn added_token(token: &Json, special: bool) -> Option<AddedToken> {
    let flag = |name: &str, default: bool| token[name].as_bool().unwrap_or(default);
    match token {
        Json::String(text) => Some(AddedToken::from(text.as_str(), special)),
        Json::Object(_) => {
            let special = flag("special", special);
            let made = AddedToken::from(token["content"].as_str()?, special);
            let made = made.lstrip(flag("lstrip", false)).rstrip(flag("rstrip", false));
            Some(made.single_word(flag("single_word", false)).normalized(flag("normalized", !special)))
        }
        _ => None,
    }
}
