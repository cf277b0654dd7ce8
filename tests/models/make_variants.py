"""Makes tests/models/variants: tiny networks with random weights, and what their reference programs say of them.

    pip install torch transformers transformer_lens     # made with 2.15, 5.23 and 3.9
    python tests/models/make_variants.py [name...]

One folder a variant, each with several features of its family at once (see VARIANTS). A folder holds config.json and the
weights in one of the formats that neuroql reads. golden/<variant>.safetensors (apart, as a folder's safetensors count as
weights) holds for each token sequence N `N.ids`, `N.mlp_post.L` (and `N.mlp_mid.L` in solu_ln models) of every layer L,
one row a token, and `N.last_logits`. No BOS is added; the last sequence is as long as the context. Where
config.other.json exists it says the same in another spelling, which is checked here too.

The numbers come from Hugging Face transformers and TransformerLens in float64 on the weights as they are stored (f32).
transformers reads the folder itself, so files it would not accept never become a fixture. All is seeded: the same
versions write the same files.
"""

import json
import re
import shutil
import sys
import zlib
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions.neel_solu_old import convert_neel_solu_old_weights
from transformers import AutoConfig, AutoModelForCausalLM, GPT2TokenizerFast

ROOT = Path(__file__).parent / "variants"
SPECIAL = "<|endoftext|>"
# One token a printable ASCII character, after BOS; 'Ġ' is the space of byte-level BPE.
CHARACTERS = [SPECIAL, "Ġ"] + [chr(c) for c in range(ord("!"), ord("~") + 1)]
VOCABULARY = len(CHARACTERS)
MERGES = ["Ġ t", "h e", "Ġt he", "i n", "a n", "an d", "Ġ and"]
TEXTS = ["the neuron and the token", " in and", "<|endoftext|>thin ink"]


# ---------------------------------------------------------------------------------------------------------------------
# Weights


def random_weights(state, seed):
    """Random values for every float tensor, large enough that no layer is close to linear."""
    generator = torch.Generator().manual_seed(seed)
    out = {}
    for name, tensor in state.items():
        if not tensor.is_floating_point() or re.search(r"IGNORE|rotary_|inv_freq|masked_bias|attn\.bias$", name):
            out[name] = tensor
            continue
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        if re.search(r"(W_E|W_pos|wte|wpe|embed_in|embed_tokens)(\.weight)?$", name):
            value = noise
        elif re.search(r"(ln_?\w*|norm\w*)\.(w|weight)$", name):
            value = 1 + 0.3 * noise
        elif tensor.dim() == 1 or re.search(r"\.b_[QKV]$", name):
            value = 0.5 * noise
        else:
            # [.., in, out] in TransformerLens and Conv1D, [out, in] in nn.Linear.
            fan_in = tensor.shape[-2] if "W_" in name or ".c_" in name else tensor.shape[-1]
            value = 1.6 * noise / fan_in**0.5
        out[name] = value.float()
    return out


def sequences(context, seed):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda n: torch.randint(0, VOCABULARY, (n,), generator=generator)
    return [torch.cat([torch.tensor([0]), draw(6)]), draw(1), draw(context)]


def write_golden(folder, golden, metadata=None):
    tensors = {k: v.detach().to(torch.int64 if k.endswith(".ids") else torch.float32).contiguous() for k, v in golden.items()}
    for name, tensor in tensors.items():
        assert tensor.dtype == torch.int64 or tensor.isfinite().all() and tensor.abs().max() > 1e-3, name
    save_file(tensors, ROOT / "golden" / f"{folder.name}.safetensors", metadata)


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1) + "\n")


# ---------------------------------------------------------------------------------------------------------------------
# TransformerLens


def hooked(folder, seed, config, weights="safetensors", old=False):
    """`config` is written as it is; `old` stores the weights as the first SoLU models did (see Names in hooked.rs)."""
    config = {"n_layers": 2, "d_model": 16, "n_heads": 4, "d_head": 4, "d_mlp": 48, "n_ctx": 24, "d_vocab": VOCABULARY,
              "attn_only": False} | config
    known = {k: v for k, v in config.items() if k not in ("normalization", "shortformer_pos", "ln_eps", "tokenizer_name")}
    if "normalization" in config:  # as convert_neel_model_config of TransformerLens does
        known["normalization_type"] = config["normalization"]
    if "shortformer_pos" in config:
        known["positional_embedding_type"] = "shortformer" if config["shortformer_pos"] else "standard"
    model = HookedTransformer(HookedTransformerConfig(**known, dtype=torch.float64, device="cpu"))
    state = random_weights(model.state_dict(), seed)
    if old:
        stored = {re.sub(r"\bln_final\b|\bln(?=\d|\b)", "norm", k): v for k, v in state.items()}
        swap = lambda k: k.endswith("W_pos") or "W_" in k
        stored = {k: v.transpose(-2, -1).contiguous() if swap(k) else v for k, v in stored.items()}
        assert {k: v.shape for k, v in convert_neel_solu_old_weights(stored, model.cfg).items()} == \
            {k: v.shape for k, v in state.items()}
        assert all(torch.equal(v, state[k]) for k, v in convert_neel_solu_old_weights(stored, model.cfg).items())
    else:
        stored = dict(state)
    model.load_state_dict({k: v.double() if v.is_floating_point() else v for k, v in state.items()})
    context = known["n_ctx"]
    if weights == "safetensors":
        save_file({k: v.float().clone() if v.is_floating_point() else v for k, v in stored.items()}, folder / "model.safetensors")
    else:
        # TransformerLens of the time kept the whole causal mask.
        for layer in range(config["n_layers"]):
            stored[f"blocks.{layer}.attn.mask"] = torch.tril(torch.ones(context, context, dtype=torch.bool))
            stored[f"blocks.{layer}.attn.IGNORE"] = torch.tensor(-1e5)
        torch.save(stored, folder / weights)
    write_json(folder / "config.json", config)
    golden = {}
    for n, ids in enumerate(sequences(context, seed)):
        logits, cache = model.run_with_cache(ids[None])
        golden |= {f"{n}.ids": ids, f"{n}.last_logits": logits[0, -1]}
        for layer in range(config["n_layers"]):
            for site in ["post", "mid"] if config["act_fn"] == "solu_ln" else ["post"]:
                golden[f"{n}.mlp_{site}.{layer}"] = cache[f"blocks.{layer}.mlp.hook_{site}"][0]
    write_golden(folder, golden)


# ---------------------------------------------------------------------------------------------------------------------
# Hugging Face transformers

OUTPUTS = {"gpt2": ("transformer.h", "mlp.c_proj"), "gpt_neox": ("gpt_neox.layers", "mlp.dense_4h_to_h")}


def reference(folder, config_file, sequences):
    """Runs transformers on the folder with one of its configurations."""
    config = AutoConfig.for_model(**json.loads((folder / config_file).read_text()))
    model = AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=torch.float64, attn_implementation="eager").eval()
    blocks, output = OUTPUTS.get(config.model_type, ("model.layers", "mlp.down_proj"))
    golden = {}
    for n, ids in enumerate(sequences):
        seen, hooks = {}, []
        for layer, block in enumerate(model.get_submodule(blocks)):
            keep = lambda _, inputs, layer=layer: seen.update({layer: inputs[0][0]})
            hooks.append(block.get_submodule(output).register_forward_pre_hook(keep))
        with torch.no_grad():
            logits = model(ids[None], use_cache=False).logits
        for hook in hooks:
            hook.remove()
        golden |= {f"{n}.ids": ids, f"{n}.last_logits": logits[0, -1]}
        golden |= {f"{n}.mlp_post.{layer}": value for layer, value in seen.items()}
    return golden


def hugging_face(folder, seed, config, other=None, format="safetensors", texts=(), context=None):
    """`other` is the same configuration in the other spelling; `context` is how far sequences go."""
    config = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0} | config
    write_json(folder / "config.json", config)
    parsed = AutoConfig.for_model(**config)
    model = AutoModelForCausalLM.from_config(parsed)
    model.load_state_dict(random_weights(model.state_dict(), seed))
    if format == "pytorch_model.bin":
        state = model.state_dict()
        # Buffers that transformers used to save.
        for layer in range(config["n_layer"]):
            size = config["n_positions"]
            state[f"transformer.h.{layer}.attn.bias"] = torch.tril(torch.ones(size, size, dtype=torch.bool))[None, None]
            state[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
        torch.save(state, folder / format)
    elif format == "sharded":
        model.save_pretrained(folder, max_shard_size="14KB")
        assert (folder / "model.safetensors.index.json").exists()
    else:
        model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    write_json(folder / "config.json", config)  # not as this version would spell it
    inputs, metadata = sequences(context or parsed.max_position_embeddings, seed), {}
    if texts:
        tokenizer = GPT2TokenizerFast.from_pretrained(folder)
        encoded = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        metadata["texts"] = json.dumps(dict(zip(texts, encoded)))
    golden = reference(folder, "config.json", inputs)
    if other is not None:
        changed = {k: v for k, v in config.items() if k not in ("rope_parameters", "rope_scaling", "rope_theta")} | other
        write_json(folder / "config.other.json", changed)
        for name, value in reference(folder, "config.other.json", inputs).items():
            assert torch.equal(value, golden[name]), name
    write_golden(folder, golden, metadata or None)


def gpt2_tokenizer(folder):
    """vocab.json and merges.txt, as OpenAI published them."""
    tokens = CHARACTERS + [merge.replace(" ", "") for merge in MERGES]
    write_json(folder / "vocab.json", {token: id for id, token in enumerate(tokens)})
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n")
    return len(tokens)


def shared_tokenizer():
    """A byte-level tokenizer.json of single characters, for all variants without one of their own."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    special = {"id": 0, "content": SPECIAL, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
               "special": True}
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
             "vocab": {token: id for id, token in enumerate(CHARACTERS)}, "merges": []}
    write_json(ROOT / "tokenizer.json", {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [special],
                                         "normalizer": None, "pre_tokenizer": byte_level, "post_processor": None,
                                         "decoder": byte_level, "model": model})


# ---------------------------------------------------------------------------------------------------------------------
# Variants


def gpt2(folder, seed):
    # Own MLP width and activation, attention scaled by layer, tied unembedding, a pickle with buffers, vocab.json.
    hugging_face(folder, seed, {
        "model_type": "gpt2", "n_embd": 16, "n_head": 2, "n_layer": 3, "n_positions": 24, "n_inner": 40,
        "activation_function": "relu", "scale_attn_by_inverse_layer_idx": True, "layer_norm_epsilon": 1e-3,
        "vocab_size": gpt2_tokenizer(folder),
    }, format="pytorch_model.bin", texts=TEXTS)


NEOX = {"model_type": "gpt_neox", "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 3,
        "intermediate_size": 40, "max_position_embeddings": 24}
LLAMA = {"model_type": "llama", "hidden_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2,
         "num_hidden_layers": 2, "intermediate_size": 40, "max_position_embeddings": 40, "rms_norm_eps": 1e-5}

VARIANTS = {
    # TransformerLens. The oldest keys, a pickle with mask buffers; ln_eps is ignored.
    "hooked_solu_ln": lambda f, s: hooked(f, s, {
        "act_fn": "solu_ln", "normalization": "LN", "ln_eps": 1e-2, "shortformer_pos": False, "tokenizer_name": "none",
    }, weights="model_final.pth"),
    # Old names and transposed matrices; as many positions as dimensions, so that W_pos does not show it.
    "hooked_old": lambda f, s: hooked(f, s, {
        "act_fn": "solu_ln", "normalization": "LN", "final_rms": True, "n_ctx": 16,
    }, weights="model_final.pth", old=True),
    # As solu-6l-pile: nothing but the layout of the matrices shows their age, here not even that of W_in.
    "hooked_old_pre": lambda f, s: hooked(f, s, {
        "act_fn": "solu_ln", "normalization": "LNPre", "final_rms": True, "d_mlp": 16, "n_layers": 3,
    }, weights="solu_final.pth", old=True),
    # The LayerNorm of solu_ln has weights in LN models only.
    "hooked_rms_solu_ln": lambda f, s: hooked(f, s, {
        "act_fn": "solu_ln", "normalization_type": "RMS", "positional_embedding_type": "shortformer",
    }),
    "hooked_shortformer": lambda f, s: hooked(f, s, {
        "act_fn": "solu", "normalization": None, "shortformer_pos": True, "use_attn_scale": False, "attn_scale": 3.0,
    }),
    "hooked_rotary": lambda f, s: hooked(f, s, {
        "act_fn": "gelu", "normalization_type": "LNPre", "final_rms": True, "positional_embedding_type": "rotary",
        "n_heads": 2, "d_head": 8, "rotary_dim": 4, "parallel_attn_mlp": True, "eps": 1e-3,
    }),
    "hooked_rotary_full": lambda f, s: hooked(f, s, {
        "act_fn": "gelu_new", "normalization_type": "RMSPre", "positional_embedding_type": "rotary", "rotary_base": 500,
        "n_heads": 2, "d_head": 6,
    }),
    "hooked_rotary_adjacent": lambda f, s: hooked(f, s, {
        "act_fn": "gelu_fast", "normalization_type": "LN", "positional_embedding_type": "rotary", "d_head": 6,
        "rotary_adjacent_pairs": True, "rotary_dim": 4, "n_key_value_heads": 2, "parallel_attn_mlp": True,
    }),
    "hooked_relu": lambda f, s: hooked(f, s, {
        "act_fn": "relu", "normalization_type": None, "positional_embedding_type": "standard", "attn_scale": 3.0,
        "n_key_value_heads": 4,
    }),
    "hooked_silu": lambda f, s: hooked(f, s, {
        "act_fn": "silu", "normalization_type": "LN", "scale_attn_by_inverse_layer_idx": True, "eps": 1e-2,
        "n_layers": 3, "d_mlp": 32,
    }),
    # transformers.
    "gpt2_bin": gpt2,
    "gpt_neox_serial": lambda f, s: hugging_face(f, s, NEOX | {
        "use_parallel_residual": False, "attention_bias": False, "hidden_act": "gelu_fast", "layer_norm_eps": 1e-3,
        "rotary_pct": 0.5, "rotary_emb_base": 500,
    }, {"rope_parameters": {"rope_type": "default", "rope_theta": 500, "partial_rotary_factor": 0.5}}, format="sharded"),
    "llama_linear": lambda f, s: hugging_face(f, s, LLAMA | {
        "head_dim": 8, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True,
        "rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.5},
    }, {"rope_parameters": {"rope_type": "linear", "factor": 2.5, "rope_theta": 500.0}}),
    "llama_llama3": lambda f, s: hugging_face(f, s, LLAMA | {
        "head_dim": 16, "num_attention_heads": 3, "num_key_value_heads": 1, "hidden_act": "gelu_pytorch_tanh",
        "rope_parameters": LLAMA3 | {"rope_theta": 10000.0},
    }, {"rope_scaling": LLAMA3, "rope_theta": 10000.0}),
    "llama_yarn": lambda f, s: hugging_face(f, s, LLAMA | {
        "head_dim": 12, "attention_bias": True, "rope_theta": 100.0, "rope_scaling": YARN | {"type": "yarn"},
    }, {"rope_parameters": YARN | {"rope_type": "yarn", "rope_theta": 100.0}}),
    # The window ends the context; mscale and fractional bounds of YaRN.
    "mistral": lambda f, s: hugging_face(f, s, LLAMA | {
        "model_type": "mistral", "head_dim": 10, "sliding_window": 20, "tie_word_embeddings": False,
        "rope_parameters": YARN | {"rope_type": "yarn", "rope_theta": 1000.0, "truncate": False, "mscale": 0.8,
                                   "mscale_all_dim": 0.5},
    }, context=20),
    "qwen2": lambda f, s: hugging_face(f, s, LLAMA | {
        "model_type": "qwen2", "tie_word_embeddings": True, "rope_theta": 1000000.0, "sliding_window": 16,
        "use_sliding_window": False, "max_window_layers": 2,
        "rope_scaling": {"type": "dynamic", "factor": 2.0},
    }, {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1000000.0}}),
}
# Wavelengths below 8 are kept, those above 24 divided.
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 3.0,
          "original_max_position_embeddings": 24}
YARN = {"factor": 2.5, "original_max_position_embeddings": 16, "beta_fast": 2.0, "beta_slow": 0.25}


def main():
    (ROOT / "golden").mkdir(parents=True, exist_ok=True)
    shared_tokenizer()
    for name in sys.argv[1:] or VARIANTS:
        folder = ROOT / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        VARIANTS[name](folder, zlib.crc32(name.encode()))
        print(f"{name}: {sum(f.stat().st_size for f in folder.iterdir()) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
