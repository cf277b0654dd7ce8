//! WordPiece tokenizer of BERT, as it was published: `vocab.txt`.

use std::path::Path;

use serde_json::Value as Json;
use tokenizers::decoders::wordpiece::WordPiece as Decoder;
use tokenizers::models::bpe::Vocab;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::bert::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{AddedToken, Tokenizer};

use super::{corrupt, guarded, read_file};
use crate::Result;

const FORMAT: &str = "vocab.txt";

/// Reads one token a line; `said` is `tokenizer_config.json`, which may set `do_lower_case` (true by default).
pub(super) fn from_vocab(path: &Path, said: &Json) -> Result<Tokenizer> {
    let text = String::from_utf8(read_file(path)?).map_err(|e| corrupt(path, FORMAT, e))?;
    let vocabulary: Vocab = text.lines().map(|line| line.trim_end_matches('\r').to_owned()).zip(0..).collect();
    let flag = |name: &str| said[name].as_bool();
    let lowercase = flag("do_lower_case").unwrap_or(true);
    let normalizer =
        BertNormalizer::new(true, flag("tokenize_chinese_chars").unwrap_or(true), flag("strip_accents"), lowercase);
    let names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let special: Vec<AddedToken> = names
        .into_iter()
        .filter(|name| vocabulary.contains_key(*name))
        .map(|name| AddedToken::from(name, true))
        .collect();
    guarded(path, FORMAT, || {
        let wrong = |e: tokenizers::Error| corrupt(path, FORMAT, e);
        let pieces = WordPiece::builder().vocab(vocabulary).unk_token("[UNK]".into()).build().map_err(wrong)?;
        let mut tokenizer = Tokenizer::new(pieces);
        tokenizer.with_normalizer(Some(normalizer)).map_err(wrong)?;
        tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
        tokenizer.with_decoder(Some(Decoder::default()));
        tokenizer.add_special_tokens(special).map_err(wrong)?;
        Ok(tokenizer)
    })
}
