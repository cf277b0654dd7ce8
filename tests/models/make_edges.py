"""Makes tests/models/edges.json and edges.safetensors: what transformers makes of odd configurations and tensors.

    pip install torch transformers     # made with 2.15 and 5.24
    python tests/models/make_edges.py

A case takes a network of this folder (`of`), changes its config.json (`set`, `remove`, and text that goes
in as it is, `raw`) and its tensors (`ones` adds
tensors of ones by name and shape, `drop` removes some, `rename` replaces the beginning of each name), and is loaded by
transformers in float64, with eager attention or that of `attention`. edges.safetensors holds `<case>`, the input of the MLP's output projection at the last layer, one
row a token of `IDS`, and `<case> logits`, those after the last token, for cases about heads: none where transformers reports
the head as missing. `src/model/tests/edges.rs` checks them all.
"""

import json
import os
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import AutoModelForCausalLM, logging  # noqa: E402

logging.set_verbosity_error()
ROOT = Path(__file__).parent
IDS = [0, 17, 3, 3, 42, 9, 60]
OUTPUTS = {"gpt2": ("transformer.h", "mlp.c_proj"), "gpt_neox": ("gpt_neox.layers", "mlp.dense_4h_to_h"),
           "falcon": ("transformer.h", "mlp.dense_4h_to_h")}
# Modules whose outputs are the activations: output matrices that are cut into slices are not called.
GELU = {"bloom": ("transformer.h", "mlp.gelu_impl")}
PLAIN, MISTRAL, QWEN2, NEOX, GPT2 = "variants/llama_llama3", "variants/mistral", "variants/qwen2", "variants/gpt_neox_serial", "gpt2"


def cases():
    found = []

    def add(name, of, set={}, **rest):
        found.append({"name": name, "of": of, "set": set} | rest)

    linear, default = {"rope_type": "linear", "factor": 4.0}, {"rope_type": "default"}
    yarn = {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 16, "beta_fast": 2.0, "beta_slow": 0.25}
    gone = {"remove": ["rope_parameters", "rope_scaling", "rope_theta", "rotary_pct", "rotary_emb_base"]}
    for kind, of in {"llama": PLAIN, "mistral": MISTRAL, "qwen2": QWEN2, "gpt_neox": NEOX}.items():
        rope = lambda name, **keys: add(f"{kind} {name}", of, keys, **gone)
        rope("nothing said of rope")
        rope("rope_scaling beside rope_parameters", rope_scaling=linear | {"rope_theta": 700.0},
             rope_parameters=default | {"rope_theta": 500.0})
        rope("rope_scaling without a base", rope_scaling=linear, rope_parameters=default | {"rope_theta": 500.0}, rope_theta=300.0)
        rope("empty rope_scaling", rope_scaling={}, rope_parameters=linear | {"rope_theta": 500.0}, rope_theta=300.0)
        rope("null rope_scaling", rope_scaling=None, rope_parameters=default | {"rope_theta": 500.0})
        rope("base outside", rope_parameters=default, rope_theta=500.0, rotary_emb_base=300.0)
        rope("old base only", rotary_emb_base=300.0)
        rope("new base only", rope_theta=300.0)
        rope("type against rope_type", rope_scaling={"type": "linear", "rope_type": "default", "factor": 3.0})
        rope("old type", rope_scaling={"type": "linear", "factor": 3.0})
        rope("factor without a type", rope_scaling={"factor": 3.0})
        rope("partial_rotary_factor", partial_rotary_factor=0.5)
        rope("rotary_pct", rotary_pct=0.5)
        rope("partial_rotary_factor inside", rope_parameters=default | {"partial_rotary_factor": 0.5})
        rope("original context in both places", rope_scaling=yarn, original_max_position_embeddings=8)
        rope("original context outside", rope_scaling={k: v for k, v in yarn.items() if "max" not in k},
             original_max_position_embeddings=8)
        rope("yarn with zero betas", rope_scaling=yarn | {"beta_fast": None, "beta_slow": None, "attention_factor": 1.3})
    for name, value in [("a share scaled", 0.5), ("a share that rounds down", 0.6)]:
        add(f"gpt_neox {name}", NEOX, {"rope_scaling": linear | {"partial_rotary_factor": value}}, **gone)
    add("llama share of one", PLAIN, {"rope_scaling": linear, "partial_rotary_factor": 1.0}, **gone)
    # Biases that the network does not have.
    tensors = {of: load(of) for of in [PLAIN, MISTRAL, QWEN2, NEOX, GPT2]}
    for kind, of in {"llama": PLAIN, "mistral": MISTRAL, "qwen2": QWEN2, "gpt_neox": NEOX, "gpt2": GPT2}.items():
        stray = {}
        for name, tensor in tensors[of].items():
            bias = name.removesuffix("weight") + "bias"
            wanted = any(part in name for part in ["proj", "norm", "query_key_value", "attention.dense", "lm_head", "embed_out"])
            if name.endswith("weight") and bias not in tensors[of] and wanted:
                stray[bias] = [tensor.shape[0]]
        if kind == "gpt2":
            stray["lm_head.bias"] = [tensors[of]["transformer.wte.weight"].shape[0]]
        add(f"{kind} stray biases", of, ones=stray, head=True)
    attention = [f"model.layers.{l}.self_attn.{p}_proj.bias" for l in range(2) for p in "qkvo"]
    mlp = [f"model.layers.{l}.mlp.{p}_proj.bias" for l in range(2) for p in ["gate", "up", "down"]]
    shape = lambda name: [tensors[PLAIN][name.replace("bias", "weight")].shape[0]]
    both = {name: shape(name) for name in attention + mlp}
    add("llama biases of attention only", PLAIN, {"attention_bias": True}, ones=both)
    add("llama biases of the mlp only", PLAIN, {"mlp_bias": True}, ones=both)
    add("gpt_neox with its biases", NEOX, {"attention_bias": True},
        ones={n.replace("weight", "bias"): [t.shape[0]] for n, t in tensors[NEOX].items() if "attention" in n and t.dim() == 2})
    # Base models, and heads that are there or not.
    for kind, of, prefix, head in [("llama", PLAIN, "model.", "lm_head"), ("mistral", MISTRAL, "model.", "lm_head"),
                                   ("qwen2", QWEN2, "model.", "lm_head"), ("gpt_neox", NEOX, "gpt_neox.", "embed_out"),
                                   ("gpt2", GPT2, "transformer.", "lm_head")]:
        has = f"{head}.weight" in tensors[of]
        embedding = next(t for n, t in tensors[of].items() if any(e in n for e in ["embed_tokens", "embed_in", "wte"]))
        drop = {"drop": [f"{head}.weight"]} if has else {}
        with_head = {} if has else {"ones": {f"{head}.weight": list(embedding.shape)}}
        bare = {"rename": [prefix, ""], "head": True}
        silent = {"remove": ["tie_word_embeddings"], "head": True}
        add(f"{kind} base model", of, {"tie_word_embeddings": False}, **drop, **bare)
        add(f"{kind} base model with a head", of, {"tie_word_embeddings": False}, **with_head, **bare)
        add(f"{kind} tied base model", of, {"tie_word_embeddings": True}, **drop, **bare)
        add(f"{kind} without a head, silent", of, **drop, **silent)
        add(f"{kind} tied with a head of its own", of, {"tie_word_embeddings": True}, **with_head, head=True)
    add("gpt_neox with the new name", NEOX, rename=["embed_out", "lm_head"], head=True)
    add("llama with numbers of Python", PLAIN, raw='"a": NaN, "b": [Infinity, {"c": -Infinity}], "d": "NaN, \\"Infinity"')
    add("llama with a sliding window", PLAIN, {"sliding_window": 2, "use_sliding_window": True})
    add("qwen2 with a window that nothing uses", QWEN2, {"sliding_window": 2, "use_sliding_window": True, "max_window_layers": 2})
    add("qwen2 with a window switched off", QWEN2, {"sliding_window": 2, "max_window_layers": 0})
    add("mistral without a window", MISTRAL, {"sliding_window": None})
    add("mistral silent about its window", MISTRAL, remove=["sliding_window"])
    # By sdpa, transformers' default: its eager path adds ALiBi both to the scores and to the mask.
    add("falcon with ALiBi", "families/falcon", {"alibi": True}, attention="sdpa", head=True)
    add("bloom in slices", "families/bloom", {"pretraining_tp": 2, "slow_but_exact": True}, head=True)
    add("bloom of slices", "families/bloom", {"pretraining_tp": 2, "slow_but_exact": False}, head=True)
    return found


def load(of):
    tensors = {}
    for file in sorted((ROOT / of).glob("model*.safetensors")):
        tensors |= load_file(file)
    return tensors


def run(case):
    config = json.loads((ROOT / case["of"] / "config.json").read_text())
    for key in case.get("remove", []):
        config.pop(key, None)
    config |= case["set"]
    tensors = {name: tensor for name, tensor in load(case["of"]).items() if name not in case.get("drop", [])}
    tensors |= {name: torch.ones(shape) for name, shape in case.get("ones", {}).items()}
    if "rename" in case:
        old, new = case["rename"]
        tensors = {new + name.removeprefix(old) if name.startswith(old) else name: t for name, t in tensors.items()}
    with tempfile.TemporaryDirectory() as folder:
        text = json.dumps(config)[:-1] + (", " + case["raw"] if "raw" in case else "") + "}"
        (Path(folder) / "config.json").write_text(text)
        save_file({name: t.contiguous() for name, t in tensors.items()}, Path(folder) / "model.safetensors", {"format": "pt"})
        model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64,
                                                           attn_implementation=case.get("attention", "eager"),
                                                           output_loading_info=True)
    kind = config["model_type"]
    blocks, module = GELU.get(kind) or OUTPUTS.get(kind, ("model.layers", "mlp.down_proj"))
    seen = {}
    for layer, block in enumerate(model.eval().get_submodule(blocks)):
        keep = lambda _, inputs, layer=layer: seen.update({layer: inputs[0][0]})
        made = lambda _, inputs, output, layer=layer: seen.update({layer: output[0]})
        module_of = block.get_submodule(module)
        module_of.register_forward_hook(made) if kind in GELU else module_of.register_forward_pre_hook(keep)
    with torch.no_grad():
        logits = model(torch.tensor([IDS]), use_cache=False).logits
    missing = sorted(info["missing_keys"])
    golden = {case["name"]: seen[max(seen)]}
    assert missing in ([], ["lm_head.weight"]), (case["name"], missing)
    if case.get("head") and not missing:
        golden[f"{case['name']} logits"] = logits[0, -1]
    return golden


def main():
    golden, done = {}, cases()
    for case in done:
        golden |= {name: value.float().contiguous() for name, value in run(case).items()}
    save_file(golden, ROOT / "edges.safetensors")
    lines = ",\n".join(json.dumps(case) for case in done)
    (ROOT / "edges.json").write_text(f'{{"ids": {IDS}, "cases": [\n{lines}\n]}}\n')
    print(len(done), "cases,", (ROOT / "edges.safetensors").stat().st_size // 1000, "kB")


if __name__ == "__main__":
    main()
