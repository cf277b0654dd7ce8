"""Networks with random configurations, as transformers computes them and as neuroql does.

    pip install torch transformers "psycopg[binary]"     # written for 2.15 and 5.24
    neuroql serve --listen 127.0.0.1:5433 &
    python tests/models/switches.py --port 5433 [--count 10] [--seed 1] [--keep folder] [llama falcon …]

Each architecture is given `--count` configurations, in which switches are set by chance. Random weights are saved as
bf16; transformers computes them in float64 (eager attention; Falcon with ALiBi by sdpa), and neuroql registers the folder at
`mlp.post`, `attn.z` and `resid_post` and is compared by `verify_model` and `next_tokens`. Differences above 1e-4 of a layer's largest
value, or of a probability, and refusals are printed. Exits with 1 if there is a difference. What transformers itself cannot run is
counted and left out.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import psycopg  # noqa: E402
import torch  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, logging  # noqa: E402

logging.set_verbosity_error()
logging.disable_progress_bar()
ROOT = Path(__file__).parent / "families"
VOCABULARY, WIDTH, LAYERS = 512, 32, 3
MIXTURES = {"mixtral", "olmoe", "qwen3_moe", "gpt_oss"}
# Blocks, output projection of the MLP, and that of attention.
OTHER_NAMES = {
    "gpt2": ("transformer.h", "mlp.c_proj", "attn.c_proj"),
    "gpt_neo": ("transformer.h", "mlp.c_proj", "attn.attention.out_proj"),
    "gptj": ("transformer.h", "mlp.fc_out", "attn.out_proj"),
    "gpt_neox": ("gpt_neox.layers", "mlp.dense_4h_to_h", "attention.dense"),
    "falcon": ("transformer.h", "mlp.dense_4h_to_h", "self_attention.dense"),
    "bloom": ("transformer.h", "mlp.dense_4h_to_h", "self_attention.dense"),
    "mpt": ("transformer.blocks", "ffn.down_proj", "attn.out_proj"),
    "opt": ("model.decoder.layers", "fc2", "self_attn.out_proj"),
    "phi": ("model.layers", "mlp.fc2", "self_attn.dense"),
    "starcoder2": ("model.layers", "mlp.c_proj", "self_attn.o_proj"),
}
KINDS = ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi", "phi3", "falcon", "mpt", "bloom", "opt",
         "gpt_neo", "gptj", "gpt_neox", "gpt2", "stablelm", "starcoder2", "cohere", "granite", "olmo", "olmo2", "smollm3",
         *sorted(MIXTURES)]


class Chance:
    """Switches that are set by chance."""

    def __init__(self, seed: int):
        self.one_of = random.Random(seed).choice

    def flag(self) -> bool:
        return self.one_of([True, False])

    def activation(self) -> str:
        return self.one_of(["silu", "gelu", "relu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu"])

    def layer_types(self) -> list[str]:
        return [self.one_of(["full_attention", "sliding_attention"]) for _ in range(LAYERS)]

    def rope(self) -> dict:
        kind = self.one_of(["default", "default", "linear", "dynamic", "yarn", "llama3"])
        rope = {"rope_type": kind, "rope_theta": self.one_of([10000.0, 500.0, 1e6])}
        if kind in ("linear", "dynamic", "yarn"):
            rope["factor"] = self.one_of([2.0, 4.0])
        if kind == "yarn":
            more = [{}, {"beta_fast": 16.0, "beta_slow": 2.0}, {"attention_factor": 1.2}, {"mscale": 1.0, "mscale_all_dim": 0.5},
                    {"truncate": False}]
            rope |= {"original_max_position_embeddings": 32} | self.one_of(more)
        if kind == "llama3":
            rope |= {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                     "original_max_position_embeddings": self.one_of([16, 64])}
        return rope

    def of_older(self, kind: str) -> dict:
        """Configurations in keys of their own."""
        one, flag = self.one_of, self.flag
        common = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0, "tie_word_embeddings": flag()}
        wide = common | {"initializer_range": one([0.02, 0.3])}
        match kind:
            case "falcon":
                keys = wide | {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
                               "new_decoder_architecture": flag(), "num_kv_heads": one([1, 2, 4]), "parallel_attn": flag(),
                               "multi_query": flag(), "bias": flag(), "alibi": one([False, False, True]),
                               "ffn_hidden_size": one([72, 128]), "activation": one(["gelu", "relu", "gelu_new"]),
                               "max_position_embeddings": 128}
                if keys["new_decoder_architecture"] and flag():
                    keys["num_ln_in_parallel_attn"] = one([1, 2])
                if not keys["alibi"] and flag():
                    keys["rope_parameters"] = self.rope()
                return keys
            case "mpt":
                attention = {"alibi": True, "qk_ln": one([False, False, True]), "clip_qkv": one([None, 0.5]),
                             "softmax_scale": one([None, 0.2])}
                return wide | {"d_model": WIDTH, "n_heads": one([4, 2]), "n_layers": LAYERS, "max_seq_len": 128, "no_bias": flag(),
                               "expansion_ratio": one([4, 4, 2]), "attn_config": attention, "logit_scale": one([None, None, 0.5])}
            case "bloom":
                return wide | {"hidden_size": WIDTH, "n_layer": LAYERS, "n_head": one([4, 2, 8]), "pretraining_tp": one([1, 2]),
                               "apply_residual_connection_post_layernorm": flag(), "slow_but_exact": flag()}
            case "opt":
                return common | {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "ffn_dim": 72,
                                 "max_position_embeddings": 128, "do_layer_norm_before": flag(), "pad_token_id": 1,
                                 "word_embed_proj_dim": one([WIDTH, 16]), "enable_bias": flag(), "init_std": 0.3,
                                 "activation_function": one(["relu", "gelu", "gelu_new"]), "_remove_final_layer_norm": flag(),
                                 "layer_norm_elementwise_affine": flag()}
            case "gpt_neo":
                kinds = one([[[["global", "local"], 1], [["global"], 1]], [[["local"], 3]], [[["global"], 3]]])
                return wide | {"hidden_size": WIDTH, "num_layers": LAYERS, "num_heads": 4, "attention_types": kinds,
                               "window_size": one([4, 8]), "activation_function": one(["gelu_new", "relu", "gelu"]),
                               "intermediate_size": one([None, 72]), "max_position_embeddings": 128}
            case "gptj":
                return wide | {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4, "rotary_dim": one([2, 4, 8]), "n_positions": 128,
                               "n_inner": one([None, 72]), "activation_function": one(["gelu_new", "relu"])}
            case "gpt2":
                return wide | {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4, "n_inner": one([None, 72]), "n_positions": 128,
                               "scale_attn_weights": flag(), "scale_attn_by_inverse_layer_idx": flag(),
                               "activation_function": one(["gelu_new", "relu", "gelu"])}
        return {}

    def configuration(self, kind: str) -> dict:
        if keys := self.of_older(kind):
            return keys
        one, flag = self.one_of, self.flag
        keys = {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
                "intermediate_size": 72, "max_position_embeddings": 128, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None,
                "initializer_range": one([0.02, 0.3]), "tie_word_embeddings": flag()}
        if kind != "gpt_neox":
            keys["num_key_value_heads"] = one([1, 2, 4])
        if kind not in ("gemma3_text", "phi3", "gpt_oss") and flag():
            keys["rope_parameters"] = self.rope()
        sliding = {"use_sliding_window": flag(), "sliding_window": 4, "max_window_layers": one([0, 1, 2])}
        head = {"head_dim": one([8, 16])}
        bias = {"attention_bias": flag()}
        gate = {"hidden_act": self.activation()}
        window = {"sliding_window": one([None, 4])}
        match kind:
            case "llama":
                keys |= head | bias | gate | {"mlp_bias": flag(), "rms_norm_eps": one([1e-6, 1e-2]), "pretraining_tp": one([1, 2])}
            case "mistral":
                keys |= head | window | gate
            case "qwen2":
                keys |= sliding | gate
            case "qwen3":
                keys |= sliding | head | bias
            case "gemma":
                keys |= head | bias | {"hidden_activation": one([None, self.activation()])}
            case "gemma2" | "gemma3_text":
                keys |= head | bias | {"query_pre_attn_scalar": one([8, 24]), "sliding_window": 4,
                                       "final_logit_softcapping": one([None, 3.0])}
                keys |= one([{}, {"layer_types": self.layer_types()}]) | one([{}, {"hidden_activation": self.activation()}])
                if kind == "gemma2":
                    keys["attn_logit_softcapping"] = one([None, 2.0])
                elif flag():
                    local = {"rope_type": "default", "rope_theta": one([10000.0, 100.0])}
                    keys["rope_parameters"] = {"full_attention": self.rope(), "sliding_attention": local}
            case "phi":
                keys |= gate | {"partial_rotary_factor": one([0.25, 0.5, 1.0]), "qk_layernorm": flag()}
            case "phi3":
                keys |= window | gate | {"partial_rotary_factor": one([0.5, 1.0]), "original_max_position_embeddings": 128}
                if flag():
                    pairs = int(8 * keys["partial_rotary_factor"]) // 2
                    keys["rope_parameters"] = {
                        "rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": keys["partial_rotary_factor"],
                        "original_max_position_embeddings": 64, "short_factor": [1 + 0.1 * i for i in range(pairs)],
                        "long_factor": [2 + 0.3 * i for i in range(pairs)]}
                    keys["original_max_position_embeddings"] = 64
            case "gpt_neox":
                keys |= bias | gate | {"use_parallel_residual": flag(), "rotary_pct": one([0.25, 0.5, 1.0])}
            case "stablelm":
                keys |= gate | {"use_parallel_residual": flag(), "qk_layernorm": flag(), "use_qkv_bias": flag(),
                                "partial_rotary_factor": one([0.25, 0.5, 1.0])}
            case "starcoder2":
                keys |= window | {"use_bias": flag(), "hidden_act": one(["gelu_pytorch_tanh", "relu"]),
                                  "norm_epsilon": one([1e-5, 1e-2])}
            case "cohere":
                keys |= bias | gate | {"use_qk_norm": flag(), "logit_scale": one([0.0625, 0.5, 1.0])}
            case "granite":
                keys |= bias | {"mlp_bias": flag(), "embedding_multiplier": one([1.0, 12.0]), "logits_scaling": one([1.0, 8.0]),
                                "residual_multiplier": one([1.0, 0.22]), "attention_multiplier": one([1.0, 0.0156, 0.3])}
            case "olmo":
                keys |= bias | gate | {"clip_qkv": one([None, 0.3])}
            case "olmo2":
                keys |= bias | gate
            case "smollm3":
                keys |= bias | {"mlp_bias": flag(), "use_sliding_window": flag(), "sliding_window": 4}
                keys |= one([{}, {"no_rope_layers": [one([0, 1]) for _ in range(LAYERS)]}, {"no_rope_layer_interval": 2}])
            case "mixtral":
                keys |= head | window | gate | {"num_local_experts": 4, "num_experts_per_tok": one([1, 2, 3])}
            case "olmoe":
                keys |= bias | {"num_experts": 4, "num_experts_per_tok": one([1, 2]), "norm_topk_prob": flag(),
                                "clip_qkv": one([None, 0.3])}
            case "qwen3_moe":
                keys |= sliding | head | bias | {"num_experts": 4, "num_experts_per_tok": one([1, 2]), "norm_topk_prob": flag(),
                                                 "decoder_sparse_step": one([1, 2]), "mlp_only_layers": one([[], [1]]),
                                                 "moe_intermediate_size": 40}
            case "gpt_oss":
                yarn = {"rope_type": "yarn", "factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": flag(),
                        "original_max_position_embeddings": 32, "rope_theta": 150000.0}
                keys |= head | {"num_local_experts": 4, "num_experts_per_tok": one([1, 2]), "sliding_window": 4}
                keys |= one([{}, {"layer_types": self.layer_types()}]) | one([{}, {"rope_parameters": yarn}])
        return keys


def texts() -> tuple[list[str], list[torch.Tensor]]:
    with safe_open(ROOT / "llama3/golden.safetensors", "pt") as file:
        found = json.loads(file.metadata()["texts"])
        return found, [file.get_tensor(f"{number}.ids") for number in range(len(found))]


def make(kind: str, keys: dict, seed: int, folder: Path) -> None:
    """Saves a network with its values in `golden.safetensors`."""
    torch.manual_seed(seed)
    attention = {"attn_implementation": "sdpa" if keys.get("alibi") else "eager"}
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**keys), **attention)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    model.to(torch.bfloat16).save_pretrained(folder)
    experts = {"experts_implementation": "eager"} if kind in MIXTURES else {}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, **attention, **experts).eval()
    blocks, down, out = OTHER_NAMES.get(kind, ("model.layers", "mlp.down_proj", "self_attn.o_proj"))
    said, ids = texts()
    golden = {}
    for number, tokens in enumerate(ids):
        golden[f"{number}.ids"] = tokens

        def keep(name: str, value: torch.Tensor, tokens=tokens) -> None:
            golden[name] = value.detach().reshape(len(tokens), -1).float().contiguous()

        hooks = []
        for layer, block in enumerate(model.get_submodule(blocks)):
            inputs = [(out, "attn_z")] if kind in MIXTURES else [(out, "attn_z"), (down, "mlp_post")]
            for module, site in inputs:
                before = lambda _, values, name=f"{number}.{site}.{layer}": keep(name, values[0])
                hooks.append(block.get_submodule(module).register_forward_pre_hook(before))
            after = lambda _, values, output, name=f"{number}.resid_post.{layer}": keep(
                name, output[0] if isinstance(output, tuple) else output)
            hooks.append(block.register_forward_hook(after))
        with torch.no_grad():
            golden[f"{number}.last_logits"] = model(tokens[None].long(), use_cache=False).logits[0, -1].float().contiguous()
        for hook in hooks:
            hook.remove()
    save_file(golden, folder / "golden.safetensors", {"texts": json.dumps(said)})


def compare(connection: psycopg.Connection, folder: Path) -> dict[str, float]:
    """Differences by site, and of the probabilities of the likeliest tokens."""
    reference = folder / "golden.safetensors"
    with safe_open(reference, "pt") as file:
        sites = {name.split(".")[1] for name in file.keys()}
        said = json.loads(file.metadata()["texts"])
        logits = [file.get_tensor(f"{number}.last_logits").double() for number in range(len(said))]
    found = {}
    for site, key in [("mlp.post", "mlp_post"), ("attn.z", "attn_z"), ("resid_post", "resid_post")]:
        if key not in sites:
            continue
        connection.execute("DROP TABLE IF EXISTS switched")
        connection.execute(f"CREATE EXTERNAL TABLE switched STORED AS MODEL LOCATION '{folder}' "
                           f"OPTIONS ('tokenizer' '{ROOT / 'tokenizer.json'}', 'site' '{site}', 'bos' 'true')")
        query = f"SELECT max(reference) FROM verify_model('switched', reference => '{reference}')"
        found[key] = connection.execute(query).fetchone()[0]
    differences = []
    for text, expected in zip(said, logits):
        probabilities = torch.softmax(expected, -1)
        query = "SELECT token_id, probability FROM next_tokens('switched', %s, 5)"
        for token, probability in connection.execute(query, (text,)).fetchall():
            differences.append(abs(probability - probabilities[token].item()))
    return found | {"probability": max(differences)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=KINDS)
    parser.add_argument("--port", type=int, default=5433)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for the networks that differ")
    options = parser.parse_args()
    chance, counts = Chance(options.seed), {"equal": 0, "refused": 0, "different": 0, "not run by transformers": 0}
    with psycopg.connect(host="127.0.0.1", port=options.port, user="neuroql", dbname="neuroql", autocommit=True) as connection:
        for kind in options.kinds:
            for number in range(options.count):
                keys = chance.configuration(kind)
                place = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=options.keep))
                outcome, said = "equal", None
                try:
                    make(kind, keys, 1000 * options.seed + number, place)
                except Exception as error:
                    outcome, said = "not run by transformers", f"{type(error).__name__}: {error}"
                else:
                    try:
                        said = compare(connection, place)
                        # A NaN is no equality.
                        if not all(value is not None and value <= 1e-4 for value in said.values()):
                            outcome = "different"
                    except psycopg.Error as error:
                        outcome, said = "refused", str(error).splitlines()[0]
                counts[outcome] += 1
                if outcome in ("refused", "different"):
                    print(f"{outcome}: {kind} {said}\n    {json.dumps(keys)}\n    {place}", flush=True)
                if outcome != "different" or not options.keep:
                    shutil.rmtree(place)
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    sys.exit(counts["different"] > 0)


if __name__ == "__main__":
    main()
