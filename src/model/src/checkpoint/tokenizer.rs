//! Tokenizers of Hugging Face: `tokenizer.json`, `vocab.json` with `merges.txt`, or `vocab.txt`, read with the files
//! beside them as AutoTokenizer of transformers 5.24 reads them.

use std::path::Path;

use serde_json::Value as Json;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::{AddedToken, Tokenizer};

use super::bos::{self, Bos};
use super::classes::{Beside, Class, END_OF_TEXT};
use super::{corrupt, guarded, parse_json, read_file, read_json, wordpiece};
use crate::{Error, Result};

/// A tokenizer without truncation and padding, and its BOS.
pub(super) struct Words {
    pub(super) tokenizer: Tokenizer,
    pub(super) bos: Bos,
}

/// Names of the files beside a tokenizer that are read with it, if they are there.
pub(super) const BESIDE: [&str; 3] = ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"];

/// Reads `tokenizer.json`, or `vocab.json` or `vocab.txt` with the files beside it, for the model that `config.json`
/// describes.
pub(super) fn from_files(path: &Path, config: &Json) -> Result<Words> {
    let beside = |name: &str| {
        let path = path.with_file_name(name);
        if path.is_file() { read_json(&path) } else { Ok(Json::Null) }
    };
    let [said, special, added] = BESIDE.map(beside);
    let beside = Beside { said: said?, special: special?, added: added? };
    match path.file_name().and_then(|name| name.to_str()) {
        Some("vocab.json") => from_vocab(path, config, &beside),
        Some("vocab.txt") => {
            let tokenizer = wordpiece::from_vocab(path, &beside.said)?;
            Ok(Words { tokenizer, bos: bos::of_folder(config, bos::Said::default()) })
        }
        _ => from_json(path, &read_file(path)?, config, &beside),
    }
}

/// Reads the bytes of a `tokenizer.json`; truncation and padding in it are dropped, texts are windowed elsewhere.
pub(super) fn from_json(file: &Path, bytes: &[u8], config: &Json, beside: &Beside) -> Result<Words> {
    const BYTE_LEVEL: &[u8] = br#""ByteLevel""#;
    guarded(file, "tokenizer", || {
        let wrong = |e: tokenizers::Error| corrupt(file, "tokenizer", e);
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(wrong)?;
        tokenizer.with_padding(None).with_truncation(None).map_err(wrong)?;
        let byte_level = || bytes.windows(BYTE_LEVEL.len()).any(|window| window == BYTE_LEVEL);
        let class = Class::of(config, &beside.said, byte_level);
        let known = class.known(&tokenizer);
        let own: Vec<(u32, AddedToken)> = tokenizer.get_added_tokens_decoder().into_iter().collect();
        if let Some(rebuilt) = class.rebuilt(&tokenizer, &beside.said).map_err(wrong)? {
            tokenizer = rebuilt;
        }
        beside.add_to(&mut tokenizer, class, own).map_err(wrong)?;
        let begins = bos::begins(&tokenizer).map_err(wrong)?;
        let bos = bos::of_folder(config, said(&tokenizer, config, beside, class, &known, begins));
        Ok(Words { tokenizer, bos })
    })
}

/// Tokens that begin and end a sequence, by the tokenizer and its files; `known` are those of its class that its
/// vocabulary has.
fn said(
    tokenizer: &Tokenizer,
    config: &Json,
    beside: &Beside,
    class: Class,
    known: &[&str],
    begins: Vec<u32>,
) -> bos::Said {
    // A class may name a token that the model has no embedding for.
    let embedded = |text: &str, id: &u32| match config["vocab_size"].as_u64() {
        Some(size) => u64::from(*id) < size,
        None => known.contains(&text),
    };
    let named = |key: &str| {
        let (text, explicit) = beside.text(class, key)?;
        tokenizer.token_to_id(&text).filter(|id| explicit || embedded(&text, id))
    };
    let end = || tokenizer.token_to_id(END_OF_TEXT).filter(|id| embedded(END_OF_TEXT, id));
    bos::Said { begins, own: named("bos_token"), end: named("eos_token").or_else(end) }
}

/// Reads byte-level BPE as GPT-2 published it, with the pre-tokenizer of the model's own tokenizer.
fn from_vocab(path: &Path, config: &Json, beside: &Beside) -> Result<Words> {
    const FORMAT: &str = "vocab.json";
    let wrong = |reason: String| corrupt(path, FORMAT, reason);
    let class = Class::of_vocabulary(config, &beside.said).ok_or_else(|| Error::Unsupported {
        what: "tokenizer of vocab.json and merges.txt",
        value: match (Class::name(config, &beside.said), config["model_type"].as_str()) {
            (Some(class), _) => class.into(),
            (None, model) => format!("no tokenizer_class, model_type {}", model.unwrap_or("unknown")),
        },
        supported: "GPT2Tokenizer, GPTNeoXTokenizer, Qwen2Tokenizer; tokenizer.json for all others \
                    (the option tokenizer names one elsewhere)"
            .into(),
    })?;
    let vocab: Vocab = match parse_json(path, &read_file(path)?)? {
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
    guarded(path, FORMAT, || {
        let wrong = |e: tokenizers::Error| corrupt(path, FORMAT, e);
        let bpe = BPE::builder().vocab_and_merges(vocab, merges).build().map_err(wrong)?;
        let plain = Tokenizer::new(bpe);
        let known = class.known(&plain);
        let mut tokenizer = class.rebuilt(&plain, &beside.said).map_err(wrong)?.unwrap_or(plain);
        beside.add_to(&mut tokenizer, class, Vec::new()).map_err(wrong)?;
        let mut said = said(&tokenizer, config, beside, class, &known, Vec::new());
        if beside.said["add_bos_token"].as_bool().unwrap_or(false) {
            said.begins.extend(said.own);
        }
        Ok(Words { tokenizer, bos: bos::of_folder(config, said) })
    })
}

/// Parses merges: the two sides of each line.
pub(super) fn parse_merges<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Merges, String> {
    let pair = |line: &'a str| line.split_once(' ').ok_or_else(|| format!("\"{line}\" is no pair of tokens"));
    lines.map(|line| pair(line).map(|(left, right)| (left.to_owned(), right.to_owned()))).collect()
}
