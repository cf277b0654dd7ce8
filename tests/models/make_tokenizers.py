"""Makes tests/models/tokenizers.json: small tokenizers in every arrangement of files, and what transformers says of each.

    pip install transformers tokenizers     # made with 5.24 and 0.23
    python tests/models/make_tokenizers.py

`bases` holds two tokenizer.json (byte-level BPE, and BPE as SentencePiece has it). A case (see DEFAULTS for what it leaves
out) has the `base` it starts from,
`patch` (keys of tokenizer.json that it sets), `config` (config.json), `files` (what lies beside) and `layout`: its
tokenizer is written as `tokenizer.json`, or as `vocab.json` with `merges.txt`. `ids` are those that AutoTokenizer gives for
`texts` without special tokens, `begins` those that it puts before a text with them, `bos` is its bos_token_id.
`src/model/src/checkpoint/tokenizer_tests.rs` checks them all.
"""

import copy
import json
import os
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
from transformers import AutoTokenizer, logging  # noqa: E402
from transformers.convert_slow_tokenizer import bytes_to_unicode  # noqa: E402

logging.set_verbosity_error()
END = "<|endoftext|>"


def token(id, content, special=True, **flags):
    return {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": not special, "special": special} | flags


def byte_level():
    names = [END, "<s>", "</s>"] + sorted(bytes_to_unicode().values())
    merges = ["i n", "Ġ in", "1 2", "h e", "Ġ he", "l l", "he ll", "' s", "Ġ t"]
    names += [merge.replace(" ", "") for merge in merges] + ["<t>"]
    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [token(i, names[i]) for i in range(3)],
            "normalizer": None, "pre_tokenizer": step, "post_processor": None, "decoder": step,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                      "vocab": {name: id for id, name in enumerate(names)}, "merges": merges}}


def sentence_piece():
    names = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + ["▁"] + list("abdehilnostx")
    merges = ["▁ h", "h e", "▁ he", "l l", "▁ a", "i n"]
    names += [merge.replace(" ", "") for merge in merges]
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    decoders = [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
                {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]
    return {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [token(i, names[i]) for i in range(3)],
            "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace]},
            "pre_tokenizer": None, "post_processor": template(["<s>"], []),
            "decoder": {"type": "Sequence", "decoders": decoders},
            "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                      "vocab": {name: id for id, name in enumerate(names)}, "merges": merges}}


def template(before, after):
    ids = {END: 0, "<s>": 1, "</s>": 2}
    special = lambda name: {"SpecialToken": {"id": name, "type_id": 0}}
    single = [special(name) for name in before] + [{"Sequence": {"id": "A", "type_id": 0}}] + [special(n) for n in after]
    return {"type": "TemplateProcessing", "single": single,
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {n: {"id": n, "ids": [ids[n]], "tokens": [n]} for n in before + after}}


BASES = {"byte_level": byte_level(), "sentence_piece": sentence_piece()}
DEFAULTS = {"base": "byte_level", "patch": {}, "files": {}, "layout": "tokenizer.json", "begins": [], "bos": None}
MODELS = ["llama", "mistral", "qwen2", "gpt_neox", "gpt2"]
CUT = ["in 12", " he's 3in", "e\u0301 12", f"a<s>b{END}c", "IT'S  \n\n x"]


def cases():
    add = lambda name, model, **rest: found.append({"name": name, "config": {"model_type": model}} | rest)
    found = []
    # Who says what begins a text.
    byte_post = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    posts = {"nothing": None, "bos": template(["<s>"], []), "eos": template([], [END]), "both": template(["<s>"], ["</s>"]),
             "two": template(["<s>", END], []), "byte level": byte_post,
             "sequence": {"type": "Sequence", "processors": [byte_post, template([END], ["</s>"])]},
             "roberta": {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1], "trim_offsets": True,
                         "add_prefix_space": False},
             "bert": {"type": "BertProcessing", "sep": ["</s>", 2], "cls": [END, 0]}}
    says = {"silent": None, "true": {"add_bos_token": True, "bos_token": "<s>"}, "null": {"bos_token": None},
            "false": {"add_bos_token": False, "add_eos_token": True, "bos_token": "<s>", "eos_token": END},
            "backend": {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "</s>", "add_bos_token": True}}
    for model in MODELS:
        for post in posts if model in ("llama", "gpt_neox") else ["nothing", "bos", "eos"]:
            for said in says:
                files = {"tokenizer_config.json": says[said]} if says[said] else {}
                add(f"bos: {model}, {post}, {said}", model, patch={"post_processor": posts[post]}, files=files, texts=["in"])
    names = {"map": {"special_tokens_map.json": {"bos_token": "</s>"}, "tokenizer_config.json": {"bos_token": "<s>"}},
             "map as object": {"special_tokens_map.json": {"bos_token": token(0, "</s>") | {"special": True}}},
             "map not read": {"special_tokens_map.json": {"bos_token": "</s>"},
                              "tokenizer_config.json": {"bos_token": "<s>", "added_tokens_decoder": {}}},
             "object": {"tokenizer_config.json": {"bos_token": {"__type": "AddedToken", "content": "</s>", "lstrip": False,
                                                                "rstrip": False, "single_word": False, "normalized": False}}}}
    for name, files in names.items():
        for model in ["llama", "qwen2", "gpt_neox", "gpt2"]:
            files = {file: {k: {a: b for a, b in v.items() if a != "id"} if isinstance(v, dict) and "id" in v else v
                            for k, v in content.items()} for file, content in files.items()}
            add(f"bos_token: {name}, {model}", model, files=files, texts=["in"])
    # Which class cuts, with and without a space before the text.
    classes = [None, "PreTrainedTokenizerFast", "GPT2Tokenizer", "GPTNeoXTokenizerFast", "Qwen2TokenizerFast",
               "LlamaTokenizerFast"]
    for model in MODELS:
        for kind in classes:
            for space in (None, True):
                said = ({"tokenizer_class": kind} if kind else {}) | ({"add_prefix_space": True} if space else {})
                add(f"class: {model}, {kind}, {space}", model, files={"tokenizer_config.json": said}, texts=CUT)
    spaced = dict(BASES["byte_level"]["pre_tokenizer"], add_prefix_space=True)
    lower = {"type": "Lowercase"}
    for model in MODELS:
        for said in (None, {"add_prefix_space": False}):
            files = {"tokenizer_config.json": said} if said else {}
            add(f"own space: {model}, {said}", model, patch={"pre_tokenizer": spaced}, files=files, texts=CUT)
        add(f"own normalizer: {model}", model, patch={"normalizer": lower}, texts=CUT)
        add(f"class of config.json: {model}", model, texts=CUT)
        found[-1]["config"]["tokenizer_class"] = "Qwen2Tokenizer"
    spm = ["hell", " he", "  a", "a<s>he", "<s> he", "a<s> b</s>d", "é"]
    for model in ["llama", "mistral", "gpt2"]:
        for said in [None, {}, {"legacy": True}, {"legacy": False}, {"add_prefix_space": False}, {"legacy": True, "add_prefix_space": False}]:
            if model == "gpt2" and said is None:
                continue
            files = {} if said is None else {"tokenizer_config.json": {"tokenizer_class": "LlamaTokenizer"} | said}
            add(f"sentencepiece: {model}, {said}", model, base="sentence_piece", files=files, texts=spm)
    # Tokens that the files beside add.
    spoken = ["a<t>b", "x <t> y", "x<new>y <old> z", "a<s> b", f"x {END} y", "x<T>y", "<t>ab<t>"]
    flags = lambda content, **over: {k: v for k, v in token(0, content, **over).items() if k != "id"}
    decoders = {
        "new": {"269": flags("<new>"), "270": flags("<old>")}, "disordered": {"290": flags("<old>"), "280": flags("<new>")},
        "ordinary": {"269": flags("<new>", special=False)}, "of the vocabulary": {"268": flags("<t>")},
        "conflicting": {"0": flags("<new>"), "1": flags("<t>")}, "strips": {"268": flags("<t>", lstrip=True, rstrip=True)},
        "strips an own one": {"0": flags(END, lstrip=True), "1": flags("<s>", rstrip=True)},
        "words": {"268": flags("<t>", single_word=True)}, "normalized": {"268": flags("<t>", special=False, normalized=True)},
        "empty": {}}
    for model in ["llama", "qwen2", "gpt_neox", "gpt2"]:
        for name, decoder in decoders.items():
            said = {"added_tokens_decoder": decoder}
            add(f"added: {model}, {name}", model, files={"tokenizer_config.json": said}, texts=spoken)
    add("added: normalized and lower case", "llama", patch={"normalizer": lower},
        files={"tokenizer_config.json": {"added_tokens_decoder": decoders["normalized"]}}, texts=spoken)
    others = {
        "added_tokens.json": {"added_tokens.json": {"<old>": 270, "<new>": 269}},
        "special map": {"special_tokens_map.json": {"pad_token": "<new>", "additional_special_tokens": ["<t>"]}},
        "additional": {"tokenizer_config.json": {"additional_special_tokens": ["<new>", "<t>"], "pad_token": "<old>"}},
        "extra": {"tokenizer_config.json": {"extra_special_tokens": {"image_token": "<new>"}}},
        "own names": {"tokenizer_config.json": {"image_token": "<new>", "pad_token": "<t>"}},
        "not split": {"tokenizer_config.json": {"split_special_tokens": True, "pad_token": "<t>"}}}
    for model in ["llama", "qwen2", "gpt_neox", "gpt2"]:
        for name, files in others.items():
            add(f"beside: {model}, {name}", model, files=files, texts=spoken)
    # vocab.json and merges.txt.
    for model, kind in [("gpt2", None), ("gpt2", "GPT2TokenizerFast"), ("gpt_neox", None), ("qwen2", None), ("qwen2", "Qwen2Tokenizer"),
                        ("llama", "GPT2Tokenizer"), ("llama", "Qwen2TokenizerFast"), ("gpt2", "GPTNeoXTokenizerFast")]:
        for said in [{}, {"add_prefix_space": True}, {"add_bos_token": True, "bos_token": "<s>"}, {"add_bos_token": False}]:
            said = said | ({"tokenizer_class": kind} if kind else {})
            add(f"vocab.json: {model}, {said}", model, layout="vocab.json", files={"tokenizer_config.json": said}, texts=CUT)
        for name in ["added_tokens.json", "special map"]:
            files = dict(others[name]) | ({"tokenizer_config.json": {"tokenizer_class": kind}} if kind else {})
            add(f"vocab.json: {model}, {kind}, {name}", model, layout="vocab.json", files=files, texts=spoken)
    return found


def write(folder, case):
    made = copy.deepcopy(BASES[case["base"]]) | case["patch"]
    (folder / "config.json").write_text(json.dumps(case["config"]))
    if case["layout"] == "tokenizer.json":
        (folder / "tokenizer.json").write_text(json.dumps(made))
    else:
        (folder / "vocab.json").write_text(json.dumps(made["model"]["vocab"]))
        (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(made["model"]["merges"]) + "\n")
    for name, content in case["files"].items():
        (folder / name).write_text(json.dumps(content))


def main():
    done = []
    for case in cases():
        case = DEFAULTS | case
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), case)
            try:
                tokenizer = AutoTokenizer.from_pretrained(folder)
            except Exception as error:  # refused there, and so no reference
                print(f"{case['name']}: {type(error).__name__} {error}")
                continue
            case["ids"] = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in case["texts"]]
            text = case["texts"][0]
            whole, bare = tokenizer(text)["input_ids"], case["ids"][0]
            at = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
            case |= {"begins": whole[:at], "bos": tokenizer.bos_token_id}
        done.append({key: value for key, value in case.items() if value != DEFAULTS.get(key)})
    short = {"separators": (",", ":"), "ensure_ascii": False}
    lines = ",\n".join(json.dumps(case, **short) for case in done)
    bases = ",\n".join(f"{json.dumps(name)}:{json.dumps(base, **short)}" for name, base in BASES.items())
    out = Path(__file__).parent / "tokenizers.json"
    out.write_text(f'{{"bases": {{\n{bases}\n}},\n"cases": [\n{lines}\n]}}\n')
    print(f"{len(done)} cases, {out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
