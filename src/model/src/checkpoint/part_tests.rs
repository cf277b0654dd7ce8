//! Tests of long texts, which are tokenized in parts.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tokenizers::normalizers::{NFC, Replace};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::punctuation::Punctuation;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior};

use super::splitting::Splitting;
use super::*;
use crate::{Cancel, Tokenizer};

/// Parts of texts that might be cut wrongly, `¦` between them: words, contractions, digits, white space, letters that compose
/// with what is beside them, characters of several bytes, added tokens.
const FRAGMENTS: [&str; 4] = [
    "a¦b¦Z¦the¦ the¦word¦in¦'s¦'S¦'ll¦n't¦'¦’¦0¦9¦12¦1234¦٣¦²¦Ⅷ¦ ¦ ¦ ¦ ¦  ¦   ¦\n¦\n\n¦ \n¦\r\n¦\t¦\u{A0}¦\u{3000}¦\u{2028}¦\u{85}",
    "\u{200B}¦\u{301}¦\u{338}¦é¦e\u{301}¦Å¦ß¦ſ¦İ¦Ǆ¦ﬁ¦ａ¦Ω¦я¦Я¦ש¦ب¦\u{958}¦क¦ก¦\u{E33}¦中¦文字¦が¦か\u{3099}¦\u{3099}¦カ¦글",
    "\u{1100}\u{1161}\u{11A8}¦😀¦👩\u{200D}🚀¦▁¦▁▁¦a▁¦<¦=¦>¦,¦.¦...¦!?¦!!¦_¦__¦-¦/¦//¦[¦]¦{¦\"¦(¦)¦|¦，¦。¦、¦\0¦\u{1C}",
    "<s>¦</s>¦<unk>¦<|endoftext|>¦<|end_of|>¦<mask>¦ <mask> ¦[X]",
];

fn fragments() -> Vec<&'static str> {
    FRAGMENTS.iter().flat_map(|line| line.split('¦')).collect()
}

fn bases() -> Json {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/tokenizers.json");
    let fixture: Json = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    fixture["bases"].clone()
}

fn made(json: &Json) -> tokenizers::Tokenizer {
    tokenizers::Tokenizer::from_bytes(json.to_string()).unwrap()
}

/// Byte-level BPE that splits text by patterns, one after another.
fn split_by(bases: &Json, patterns: &[&str]) -> tokenizers::Tokenizer {
    let split = |pattern: &&str| {
        let pattern = SplitPattern::Regex((*pattern).to_owned());
        PreTokenizerWrapper::from(Split::new(pattern, SplitDelimiterBehavior::Isolated, false).unwrap())
    };
    let mut steps: Vec<PreTokenizerWrapper> = patterns.iter().map(split).collect();
    steps.push(ByteLevel::new(false, true, false).into());
    let mut tokenizer = made(&bases["byte_level"]);
    tokenizer.with_pre_tokenizer(Some(Sequence::new(steps)));
    tokenizer
}

/// Tokenizers whose texts are cut, by name.
static KINDS: LazyLock<Vec<(String, Tokenizer)>> = LazyLock::new(|| {
    let bases = bases();
    let mut kinds = Vec::new();
    for name in ["default", "gpt-2", "smollm", "qwen2", "llama-bpe", "tekken", "gpt-4o"] {
        for prefix in [false, true] {
            let mut tokenizer = made(&bases["byte_level"]);
            tokenizer.with_pre_tokenizer(Some(Splitting::named(name).unwrap().pre_tokenizer(prefix).unwrap()));
            kinds.push((format!("{name}, prefix {prefix}"), tokenizer));
        }
    }
    let mut composed = made(&bases["byte_level"]);
    composed.with_normalizer(Some(NFC)).unwrap();
    kinds.push(("NFC".to_owned(), composed));
    let mut falcon = made(&bases["byte_level"]);
    falcon.with_pre_tokenizer(Some(Sequence::new(vec![
        Punctuation::new(SplitDelimiterBehavior::Contiguous).into(),
        ByteLevel::new(false, true, true).into(),
        Digits::new(false).into(),
    ])));
    kinds.push(("Falcon".to_owned(), falcon));
    let possessive = concat!(
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+",
        r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s*[\r\n]|\s+(?!\S)|\s+"
    );
    kinds.push(("cl100k_base".to_owned(), split_by(&bases, &[possessive])));
    // Letters and digits are in different patterns.
    let deep_seek = [
        r"\p{N}{1,3}",
        "[一-龥ぁ-ゟ゠-ヿ]+",
        concat!(
            r"[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+",
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        ),
    ];
    kinds.push(("DeepSeek".to_owned(), split_by(&bases, &deep_seek)));
    kinds.push(("SentencePiece".to_owned(), made(&bases["sentence_piece"])));
    // Gemma 3 has this token; its mark is after no letter.
    let mut gemma = bases["sentence_piece"].clone();
    gemma["model"]["vocab"][">▁</"] = json!(399);
    let mut gemma = made(&gemma);
    gemma.with_normalizer(Some(Replace::new(" ", "▁").unwrap())).unwrap();
    let spaces = SplitPattern::String(" ".to_owned());
    gemma.with_pre_tokenizer(Some(Split::new(spaces, SplitDelimiterBehavior::MergedWithPrevious, false).unwrap()));
    kinds.push(("Gemma".to_owned(), gemma));
    for scheme in [PrependScheme::First, PrependScheme::Always, PrependScheme::Never] {
        for split in [false, true] {
            let mut tokenizer = made(&bases["sentence_piece"]);
            tokenizer.with_normalizer(None::<NormalizerWrapper>).unwrap();
            tokenizer.with_pre_tokenizer(Some(Metaspace::new('▁', scheme, split)));
            kinds.push((format!("Metaspace, prepends {scheme}, splits {split}"), tokenizer));
        }
    }
    for (name, mut tokenizer) in kinds.clone() {
        let special = [
            AddedToken::from("<mask>", true).lstrip(true).rstrip(true),
            AddedToken::from("[X]", true).lstrip(true),
            AddedToken::from("<|end_of|>", true),
        ];
        tokenizer.add_special_tokens(special).unwrap();
        tokenizer.add_tokens([AddedToken::from("!!", false), AddedToken::from("  ", false)]).unwrap();
        kinds.push((format!("{name}, with added tokens"), tokenizer));
    }
    kinds.into_iter().map(|(name, tokenizer)| (name, Tokenizer::new(tokenizer, 400))).collect()
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn tokens_of_parts_are_those_of_the_text(
        fragments in proptest::collection::vec(prop::sample::select(fragments()), 0..40),
    ) {
        let text = fragments.concat();
        let encode = |tokenizer: &Tokenizer, least| tokenizer.encode_in_parts(&text, least, &Cancel::default()).unwrap();
        for (name, tokenizer) in KINDS.iter() {
            prop_assert_eq!(encode(tokenizer, 1), encode(tokenizer, usize::MAX), "{}: {:?}", name, text);
        }
    }
}

#[test]
fn texts_are_cut_between_words() {
    for (name, tokenizer) in KINDS.iter() {
        let rest = if name.starts_with("SentencePiece") { "cat sat" } else { " cat sat" };
        assert_eq!(tokenizer.first_part("The cat sat", 1).unwrap(), ("The", rest), "{name}");
        assert_eq!(tokenizer.first_part("The cat sat", 5).unwrap().0, "The cat", "{name}");
        assert_eq!(tokenizer.first_part("ThecatsatT", 1).unwrap(), ("ThecatsatT", ""), "{name}");
    }
    let of = |name: &str| &KINDS.iter().find(|(known, _)| known == name).unwrap().1;
    for name in ["gpt-2, prefix false", "llama-bpe, prefix false", "gpt-4o, prefix true", "default, prefix false"] {
        assert_eq!(of(name).first_part("中文，字", 1).unwrap(), ("中文", "，字"), "{name}");
        assert_eq!(of(name).first_part("12.34", 1).unwrap(), ("12", ".34"), "{name}");
        assert_eq!(of(name).first_part("key_1\nb", 1).unwrap(), ("key", "_1\nb"), "{name}");
    }
    // The text of an added token is not cut; nor is a text before what a prefix would be put before.
    let added = "llama-bpe, prefix false, with added tokens";
    assert_eq!(of(added).first_part("<|end_of|>key_1\nb", 1).unwrap(), ("<|end_of|>key_1", "\nb"));
    assert_eq!(of("gpt-2, prefix true").first_part("a,b c", 1).unwrap(), ("a,b", " c"));
}

#[test]
fn texts_are_whole_where_cuts_are_not_known_to_be_right() {
    let bases = bases();
    let uncut = |name: &str, tokenizer: tokenizers::Tokenizer| {
        let tokenizer = Tokenizer::new(tokenizer, 400);
        assert_eq!(tokenizer.first_part("The cat sat", 1).unwrap(), ("The cat sat", ""), "{name}");
    };
    // Matches that hold a space, look around, leave out letters or a letter alone, or are empty; a look-ahead that is none.
    for pattern in [
        r"[\p{L} ]+|\p{N}+",
        r"\p{L}+ ?|\p{N}+",
        r"\p{L}+\b|\p{N}+|\W+",
        r"(?<=\s)\p{L}+|\p{L}+|\p{N}+",
        r"\p{L}+(?=\s)|\p{L}+|\p{N}+",
        r"\p{L}+(?!\S)|\p{L}+|\p{N}+",
        r"[[:ascii:]&&[^ ,]]+",
        r"\p{L}*",
        r"[(?!\S)]+",
        r"[(?!\S)]+|\p{L}+|\p{N}+|\s+(?!\S)",
        r"\p{L}?+\p{L}|\p{N}+",
    ] {
        uncut(pattern, split_by(&bases, &[pattern]));
    }
    let words = SplitPattern::Regex(r" ?\p{L}+| ?\p{N}+".to_owned());
    let words = Split::new(words, SplitDelimiterBehavior::Isolated, false).unwrap();
    let mut first = made(&bases["byte_level"]);
    let mark = Metaspace::new('▁', PrependScheme::First, false);
    first.with_pre_tokenizer(Some(Sequence::new(vec![words.into(), mark.into()])));
    uncut("a mark before the first word", first);
    let with = |base: &str, change: &dyn Fn(&mut Json)| {
        let mut json = bases[base].clone();
        change(&mut json);
        made(&json)
    };
    uncut("no pre-tokenizer", with("byte_level", &|json| json["pre_tokenizer"] = Json::Null));
    uncut("lower case", with("byte_level", &|json| json["normalizer"] = json!({"type": "Lowercase"})));
    uncut("words by themselves", with("sentence_piece", &|json| json["model"]["ignore_merges"] = json!(true)));
    for token in ["a▁", "<0xE4>▁", "<unk>▁a"] {
        uncut(token, with("sentence_piece", &|json| json["model"]["vocab"][token] = json!(399)));
    }
    let mut single = made(&bases["byte_level"]);
    single.add_special_tokens([AddedToken::from("x", true).single_word(true)]).unwrap();
    uncut("a token that looks around", single);
    // What follows such a token has a space before it, beside its own.
    let mut user = made(&bases["sentence_piece"]);
    user.add_special_tokens([AddedToken::from("@user", true)]).unwrap();
    uncut("a token that ends with a letter", user);
}

#[test]
fn a_long_text_that_cannot_be_cut_is_refused() {
    let tokenizer = &KINDS[2].1;
    let long = "a".repeat((8 << 20) + 1);
    for refused in [tokenizer.encode(&long).map(|ids| ids.len()), tokenizer.encoding_bytes(&long)] {
        let refused = refused.unwrap_err();
        assert!(matches!(refused, Error::Uncut { limit } if limit + 1 == long.len()));
        assert_eq!(refused.sqlstate(), "54000");
    }
    assert!(tokenizer.encoding_bytes(&long[1..]).unwrap() > 400 << 20);
    let words = "word ".repeat(1 << 18);
    assert_eq!(tokenizer.encode(&words[..50_000]).unwrap().len(), tokenizer.encode("word ").unwrap().len() * 10_000);
    assert!((8 * words.len()..8 * words.len() + (8 << 20)).contains(&tokenizer.encoding_bytes(&words).unwrap()));
    assert_eq!(tokenizer.encoding_bytes("").unwrap(), 0);
    let cancel = Cancel::default();
    cancel.cancel();
    assert!(matches!(tokenizer.encode_cancellable("a", &cancel), Err(Error::Cancelled)));
}
