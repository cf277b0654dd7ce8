use neuroql_requirements::Requirement;
use serde_json::json;

use super::gguf::Gguf;
use super::tests::{data, mapped, small_gguf};
use super::tokenizer::Words;
use super::*;

fn golden(name: &str) -> Vec<(String, Vec<u32>)> {
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(data(name)).unwrap()).unwrap();
    let ids = |row: &serde_json::Value| serde_json::from_value(row["ids"].clone()).unwrap();
    rows.iter().map(|row| (row["text"].as_str().unwrap().to_owned(), ids(row))).collect()
}

/// Compares ids with those of the sentencepiece library for a vocabulary that it trained (BPE, byte fallback).
#[test]
fn sentencepiece_vocabulary_encodes_as_sentencepiece_does() {
    let file = data("sentencepiece.gguf");
    let (metadata, _) = Gguf::open(&file, Bytes::map(&file).unwrap()).unwrap();
    let words = gguf_vocabulary::from_gguf(&file, &metadata).unwrap();
    assert_eq!((words.bos.id, words.bos.prepended), (Some(1), true));
    for (text, ids) in golden("sentencepiece-tokens.json") {
        assert_eq!(words.tokenizer.encode(text.as_str(), false).unwrap().get_ids(), ids, "{text:?}");
        assert_eq!(words.tokenizer.decode(&ids, false).unwrap(), text);
    }
    let named = words.tokenizer.encode("</s><|tool|>", false).unwrap();
    assert_eq!(named.get_tokens(), ["</s>", "<|tool|>"]);
}

/// Compares ids with those of Python's tokenizers for SmolLM2's vocabulary and the steps of its tokenizer.json (single
/// digits, then GPT-2). transformers' own reading of the file agrees but for digits that are not ASCII, because it
/// leaves out the first step.
#[test]
fn smollm2_encodes_as_transformers_does() {
    let file = match neuroql_requirements::smollm2() {
        Ok(file) => file,
        Err(reason) => return Requirement::SmolLm2.skip(&reason),
    };
    let (metadata, source) = Gguf::open(&file, Bytes::map(&file).unwrap()).unwrap();
    assert_eq!(source.names().len(), 272);
    let words = gguf_vocabulary::from_gguf(&file, &metadata).unwrap();
    assert_eq!((words.bos.id, words.bos.prepended), (Some(1), false));
    for (text, ids) in golden("smollm2-tokens.json") {
        assert_eq!(words.tokenizer.encode(text.as_str(), false).unwrap().get_ids(), ids, "{text:?}");
        assert_eq!(words.tokenizer.decode(&ids, false).unwrap(), text);
    }
}

#[test]
fn unknown_tokenizers_are_refused_by_name() {
    let with = |key: &str, value: &str| {
        let (mut metadata, _) = Gguf::open(Path::new("x"), mapped(&small_gguf())).unwrap();
        metadata.insert(key.into(), gguf_file::Value::String(value.into()));
        gguf_vocabulary::from_gguf(Path::new("x"), &metadata).map(|_| ())
    };
    assert!(with("tokenizer.ggml.pre", "qwen2").is_ok());
    for (key, value) in [("tokenizer.ggml.pre", "chameleon"), ("tokenizer.ggml.model", "t5")] {
        assert!(matches!(with(key, value), Err(Error::Unsupported { value: named, .. }) if named == value));
    }
}

#[test]
fn pre_tokenizers_cut_as_their_families_do() {
    let cut = |pre: &str, text: &str| {
        let (mut metadata, _) = Gguf::open(Path::new("x"), mapped(&small_gguf())).unwrap();
        metadata.insert("tokenizer.ggml.pre".into(), gguf_file::Value::String(pre.into()));
        let tokenizer = gguf_vocabulary::from_gguf(Path::new("x"), &metadata).unwrap().tokenizer;
        let mut text = tokenizers::PreTokenizedString::from(text);
        use tokenizers::{OffsetReferential, OffsetType, PreTokenizer};
        tokenizer.get_pre_tokenizer().unwrap().pre_tokenize(&mut text).unwrap();
        let words = text.get_splits(OffsetReferential::Original, OffsetType::Byte);
        words.into_iter().map(|(word, ..)| word.to_owned()).collect::<Vec<_>>().join("|")
    };
    let text = "Hello'Ve 1234\n\n  x'll";
    assert_eq!(cut("gpt-2", text), "Hello|'|Ve|Ġ1234|ĊĊĠ|Ġx|'ll");
    assert_eq!(cut("smollm", text), "Hello|'|Ve|Ġ|1|2|3|4|ĊĊĠ|Ġx|'ll");
    assert_eq!(cut("qwen2", text), "Hello|'Ve|Ġ|1|2|3|4|ĊĊ|Ġ|Ġx|'ll");
    assert_eq!(cut("llama-bpe", text), "Hello|'Ve|Ġ|123|4|ĊĊ|Ġ|Ġx|'ll");
    assert_eq!(cut("tekken", "helloWorld 12"), "hello|World|Ġ|1|2");
    assert_eq!(cut("gpt-4o", "helloWorld's 1234/\n it'll"), "hello|World's|Ġ|123|4|/Ċ|Ġit'll");
}

#[test]
fn vocab_json_with_its_companions() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("vocab.json", r#"{"a": 0, "b": 1, "Ġ": 2, "ab": 3, "Ġab": 4, "<|endoftext|>": 5}"#);
    let path = folder.path().join("vocab.json");
    let missing = tokenizer::from_files(&path, &json!({}));
    assert!(matches!(missing, Err(Error::MissingFile { wanted, .. }) if wanted.contains("merges.txt")));
    write("merges.txt", "#version: 0.2\na b\nĠ ab\n");
    write("added_tokens.json", r#"{"<x>": 6}"#);
    write("special_tokens_map.json", r#"{"bos_token": "<|endoftext|>", "pad_token": {"content": "<nowhere>"}}"#);
    write("tokenizer_config.json", r#"{"bos_token": {"content": "<|endoftext|>"}, "add_bos_token": true}"#);
    let words = tokenizer::from_files(&path, &json!({})).unwrap();
    let ids = words.tokenizer.encode("ab ab<|endoftext|><x>a", false).unwrap();
    assert_eq!(ids.get_ids(), [3, 4, 5, 6, 0]);
    assert_eq!((words.bos.id, words.bos.prepended), (Some(5), true));
    // A named token that the vocabulary lacks is added, as in transformers.
    assert_eq!(words.tokenizer.token_to_id("<nowhere>"), Some(7));
}

/// A word-level tokenizer with truncation, padding, and a post-processor that prepends a token if asked to.
fn tokenizer_json(prepends: bool) -> Vec<u8> {
    let post = json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    });
    let padding = json!({"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "?"});
    let truncation = json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
    let tokenizer = json!({
        "version": "1.0", "truncation": truncation, "padding": padding, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": prepends.then_some(post), "decoder": null,
        "model": {"type": "WordLevel", "vocab": {"?": 0, "<s>": 1, "a": 2}, "unk_token": "?"},
    });
    tokenizer.to_string().into_bytes()
}

#[test]
fn truncation_and_padding_are_dropped() {
    let (none, beside) = (json!({}), classes::Beside::default());
    let words = tokenizer::from_json(Path::new("tokenizer.json"), &tokenizer_json(true), &none, &beside).unwrap();
    assert_eq!(words.tokenizer.encode("a a a", false).unwrap().get_ids(), [2, 2, 2]);
    assert_eq!((words.bos.id, words.bos.prepended), (Some(1), true));
}

/// Writes a case of `tests/models/tokenizers.json` to a folder and opens it.
fn opened(bases: &serde_json::Value, case: &serde_json::Value) -> Result<tokenizer::Words> {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    let mut made = bases[case["base"].as_str().unwrap_or("byte_level")].clone();
    for (key, value) in case["patch"].as_object().into_iter().flatten() {
        made[key] = value.clone();
    }
    for (name, content) in case["files"].as_object().into_iter().flatten() {
        write(name, content.to_string());
    }
    let layout = case["layout"].as_str().unwrap_or("tokenizer.json");
    if layout == "vocab.json" {
        let merges = made["model"]["merges"].as_array().unwrap().iter().map(|line| line.as_str().unwrap());
        write("merges.txt", format!("#version: 0.2\n{}\n", merges.collect::<Vec<_>>().join("\n")));
        made = made["model"]["vocab"].clone();
    }
    write(layout, made.to_string());
    tokenizer::from_files(&folder.path().join(layout), &case["config"])
}

/// Compares with transformers' AutoTokenizer on some hundred arrangements of files (`tests/models/make_tokenizers.py`).
#[test]
fn every_arrangement_of_files_is_read_as_transformers_reads_it() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/tokenizers.json");
    let fixture: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let ids = |value: &serde_json::Value| -> Vec<u32> { serde_json::from_value(value.clone()).unwrap() };
    let mut wrong = Vec::new();
    let cases = fixture["cases"].as_array().unwrap();
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let Words { tokenizer, bos } = match opened(&fixture["bases"], case) {
            Ok(words) => words,
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        for (text, wanted) in case["texts"].as_array().unwrap().iter().zip(case["ids"].as_array().unwrap()) {
            let found = tokenizer.encode(text.as_str().unwrap(), false).unwrap().get_ids().to_vec();
            if found != ids(wanted) {
                wrong.push(format!("{name}: {text} gives {found:?}, transformers {wanted}"));
            }
        }
        let begins = if case["begins"].is_null() { Vec::new() } else { ids(&case["begins"]) };
        let own = case["bos"].as_u64().map(|bos| bos as u32);
        // GPT-2 gets BOS as TransformerLens has it.
        let gpt2 = case["config"]["model_type"] == "gpt2";
        let id = begins.first().copied().or(own).or(if gpt2 { Some(0) } else { None });
        let several = if begins.len() > 1 { begins.clone() } else { Vec::new() };
        let wanted = Bos { id, prepended: gpt2 || !begins.is_empty(), several };
        if bos != wanted {
            wrong.push(format!("{name}: {bos:?}, expected {wanted:?}"));
        }
    }
    assert!(cases.len() > 300);
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// Checks the order of precedence that `bos.rs` states, where it goes beyond transformers.
#[test]
fn which_token_is_bos_and_whether_it_is_prepended() {
    let of = |config: serde_json::Value, said: serde_json::Value, special: serde_json::Value, prepends: bool| {
        let beside = classes::Beside { said, special, ..Default::default() };
        let file = Path::new("tokenizer.json");
        let bos = tokenizer::from_json(file, &tokenizer_json(prepends), &config, &beside).unwrap().bos;
        (bos.id, bos.prepended)
    };
    let null = || json!(null);
    // config, tokenizer_config, special_tokens_map, whether the post-processor prepends token 1
    let hooked = json!({"model_type": "hooked_transformer"});
    let (llama, gpt2) = (json!({"model_type": "llama"}), json!({"model_type": "gpt2"}));
    let with = |config: &serde_json::Value, key: &str, value: serde_json::Value| {
        let mut config = config.clone();
        config[key] = value;
        config
    };
    let old = json!({"act_fn": "solu_ln", "d_vocab": 3});
    let table = [
        // config.json comes last for the token, and never decides whether it is prepended.
        (llama.clone(), null(), null(), false, (None, false)),
        (with(&llama, "bos_token_id", json!(2)), null(), null(), false, (Some(2), false)),
        (with(&llama, "bos_token_id", json!([2, 1])), null(), null(), false, (Some(2), false)),
        (with(&llama, "bos_token_id", json!(2)), json!({"bos_token": "<s>"}), null(), false, (Some(1), false)),
        (with(&llama, "bos_token_id", json!(2)), null(), json!({"bos_token": "<s>"}), false, (Some(1), false)),
        (with(&llama, "bos_token_id", json!(2)), null(), null(), true, (Some(1), true)),
        (with(&llama, "bos_token_id", json!(1)), json!({"bos_token": "a"}), null(), true, (Some(1), true)),
        // special_tokens_map.json before tokenizer_config.json, unless the latter lists added tokens.
        (llama.clone(), json!({"bos_token": "<s>"}), json!({"bos_token": "a"}), false, (Some(2), false)),
        (
            llama.clone(),
            json!({"bos_token": "<s>", "added_tokens_decoder": {}}),
            json!({"bos_token": "a"}),
            false,
            (Some(1), false),
        ),
        // add_bos_token has no effect beside a tokenizer.json.
        (llama.clone(), json!({"bos_token": "<s>", "add_bos_token": true}), null(), false, (Some(1), false)),
        (llama, json!({"bos_token": "<s>", "add_bos_token": false}), null(), true, (Some(1), true)),
        // GPT-2: always.
        (with(&gpt2, "bos_token_id", json!(2)), null(), null(), false, (Some(2), true)),
        (with(&gpt2, "bos_token_id", json!(2)), json!({"bos_token": "<s>"}), null(), false, (Some(1), true)),
        (gpt2.clone(), json!({"bos_token": "<s>", "add_bos_token": false}), null(), false, (Some(1), true)),
        (gpt2.clone(), json!({"eos_token": "a"}), null(), false, (Some(2), true)),
        (with(&gpt2, "vocab_size", json!(3)), null(), null(), false, (None, true)),
        (gpt2, json!({"bos_token": "a"}), null(), true, (Some(1), true)),
        // HookedTransformer: unless default_prepend_bos is false.
        (with(&hooked, "bos_token_id", json!(1)), null(), null(), false, (Some(1), true)),
        (with(&hooked, "bos_token_id", json!(1)), json!({"bos_token": "a"}), null(), false, (Some(2), true)),
        (hooked, json!({"eos_token": "a"}), null(), false, (Some(2), true)),
        (with(&old, "default_prepend_bos", json!(false)), json!({"bos_token": "a"}), null(), true, (Some(1), false)),
        (old, null(), null(), true, (Some(1), true)),
    ];
    for (config, said, special, prepends, wanted) in table {
        let case = format!("{config} {said} {special} {prepends}");
        assert_eq!(of(config, said, special, prepends), wanted, "{case}");
    }
}

/// Compares with `llama_vocab::impl::load` of llama.cpp.
#[test]
fn bos_of_gguf_files() {
    use gguf_file::Value::{Bool, I32, String as Text, U32};
    let of = |model: &str, pre: Option<&str>, keys: &[(&str, gguf_file::Value)]| {
        let (mut metadata, _) = if model == "llama" {
            let file = data("sentencepiece.gguf");
            Gguf::open(&file, Bytes::map(&file).unwrap()).unwrap()
        } else {
            Gguf::open(Path::new("x"), mapped(&small_gguf())).unwrap()
        };
        for key in ["pre", "add_bos_token", "bos_token_id"] {
            metadata.remove(&format!("tokenizer.ggml.{key}"));
        }
        metadata.extend(pre.map(|pre| ("tokenizer.ggml.pre".to_owned(), Text(pre.into()))));
        metadata.extend(keys.iter().map(|(key, value)| (format!("tokenizer.ggml.{key}"), value.clone())));
        gguf_vocabulary::from_gguf(Path::new("x"), &metadata).map(|words| (words.bos.id, words.bos.prepended))
    };
    let id = || ("bos_token_id", U32(2));
    let begin = ["llama-bpe", "llama3", "llama-v3", "tekken", "falcon3", "pixtral", "midm-2.0"];
    for pre in begin {
        assert_eq!(of("gpt2", Some(pre), &[id()]).unwrap(), (Some(2), true), "{pre}");
        assert_eq!(of("gpt2", Some(pre), &[id(), ("add_bos_token", Bool(false))]).unwrap(), (Some(2), false), "{pre}");
        assert_eq!(of("gpt2", Some(pre), &[]).unwrap(), (None, true), "{pre}");
    }
    for pre in ["gpt-2", "qwen2", "smollm", "smaug-bpe", "default", "deepseek-r1-qwen", "command-r", "olmo"] {
        assert_eq!(of("gpt2", Some(pre), &[id()]).unwrap(), (Some(2), false), "{pre}");
        assert_eq!(of("gpt2", Some(pre), &[id(), ("add_bos_token", Bool(true))]).unwrap(), (Some(2), true), "{pre}");
    }
    assert_eq!(of("gpt2", None, &[id()]).unwrap(), (Some(2), false));
    assert_eq!(of("llama", None, &[]).unwrap(), (Some(1), true));
    assert_eq!(of("llama", None, &[("bos_token_id", I32(5))]).unwrap(), (Some(5), true));
    assert_eq!(of("llama", None, &[("add_bos_token", Bool(false))]).unwrap(), (Some(1), false));
    for keys in [[("bos_token_id", U32(1 << 20))], [("bos_token_id", I32(-1))], [("add_bos_token", U32(1))]] {
        assert!(matches!(of("gpt2", None, &keys), Err(Error::Corrupt { .. })), "{keys:?}");
    }
}

#[test]
fn the_option_bos_and_what_is_in_its_way() {
    let bos = |id, prepended, several: &[u32]| Bos { id, prepended, several: several.to_vec() };
    assert_eq!(bos(Some(1), true, &[]).resolve(None).unwrap(), Some(1));
    assert_eq!(bos(Some(1), false, &[]).resolve(None).unwrap(), None);
    assert_eq!(bos(Some(1), false, &[]).resolve(Some(true)).unwrap(), Some(1));
    assert_eq!(bos(None, true, &[]).resolve(Some(false)).unwrap(), None);
    assert_eq!(bos(Some(1), true, &[1, 7]).resolve(Some(true)).unwrap(), Some(1));
    assert_eq!(bos(Some(1), true, &[1, 7]).resolve(Some(false)).unwrap(), None);
    for (bos, asked) in
        [(bos(None, true, &[]), None), (bos(None, false, &[]), Some(true)), (bos(Some(1), true, &[1, 7]), None)]
    {
        let error = bos.resolve(asked).unwrap_err();
        assert!(matches!(&error, Error::InvalidOption { option, .. } if option == "bos"), "{error}");
    }
    assert!(bos(Some(1), true, &[1, 7]).resolve(None).unwrap_err().to_string().contains("[1, 7]"));
}

#[test]
fn vocab_json_of_a_class_whose_cut_is_not_known_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("vocab.json"), r#"{"a": 0}"#).unwrap();
    std::fs::write(folder.path().join("merges.txt"), "").unwrap();
    let with = |config: serde_json::Value| {
        let error = tokenizer::from_files(&folder.path().join("vocab.json"), &config).map(drop).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        error.to_string()
    };
    assert!(with(json!({"model_type": "llama"})).contains("model_type llama"));
    assert!(with(json!({"model_type": "mistral", "tokenizer_class": "GPT2Tokenizer"})).contains("GPT2Tokenizer"));
    let text = with(json!({"model_type": "gpt2", "tokenizer_class": "CodeGenTokenizer"}));
    assert!(text.contains("CodeGenTokenizer") && text.contains("Qwen2Tokenizer"), "{text}");
}
