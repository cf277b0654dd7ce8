"""Makes GGUF files of some networks of `families` and `variants`, by the rules of llama.cpp's convert_hf_to_gguf.py; their
reference values are those of the folders. Experts of gpt-oss are quantised to MXFP4, and every layer of Qwen3-MoE is a mixture,
so these two have values of their own beside them (`*.safetensors`), of transformers in float64 on the weights as the package
gguf reads them back. Needs the packages gguf, torch, safetensors and transformers.

    python tests/models/make_gguf.py [name...]
"""

import json
import sys
from pathlib import Path

import gguf
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

FAMILIES = Path(__file__).parent / "families"
VARIANTS = Path(__file__).parent / "variants"
MADE = Path(__file__).parent / "gguf"

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
    "mlp.router": "ffn_gate_inp",
    "block_sparse_moe.gate": "ffn_gate_inp",
}
SANDWICH = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
# Experts with a matrix each, by the last part of its name.
EXPERTS = {
    "w1": "ffn_gate_exps",
    "w2": "ffn_down_exps",
    "w3": "ffn_up_exps",
    "gate_proj": "ffn_gate_exps",
    "down_proj": "ffn_down_exps",
    "up_proj": "ffn_up_exps",
}


def permuted(weight, heads):
    """Rows of a head as pairs of neighbours, as LlamaModel.permute does."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def metadata(writer, config, architecture):
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    if config.get("head_dim"):
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
    rope = config.get("rope_parameters") or config["rope_scaling"] | {"rope_theta": config["rope_theta"]}
    writer.add_rope_freq_base(rope.get("full_attention", rope)["rope_theta"])
    if rope.get("rope_type") == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        writer.add_rope_scaling_yarn_beta_fast(rope["beta_fast"])
        writer.add_rope_scaling_yarn_beta_slow(rope["beta_slow"])
    if "rms_norm_eps" in config:
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    if "norm_epsilon" in config:
        writer.add_layer_norm_eps(config["norm_epsilon"])
    if config.get("sliding_window"):
        writer.add_sliding_window(config["sliding_window"])
    if config.get("attn_logit_softcapping"):
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
    if config.get("final_logit_softcapping"):
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if architecture == "granite":
        writer.add_attention_scale(config["attention_multiplier"])
        writer.add_embedding_scale(config["embedding_multiplier"])
        writer.add_residual_scale(config["residual_multiplier"])
        writer.add_logit_scale(config["logits_scaling"])
    experts = config.get("num_local_experts") or config.get("num_experts")
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config["num_experts_per_tok"])
    if architecture == "gpt-oss":
        writer.add_expert_feed_forward_length(config["intermediate_size"])
    if "moe_intermediate_size" in config:
        writer.add_expert_feed_forward_length(config["moe_intermediate_size"])


def tensors(state, config, architecture):
    """Names and weights of a GGUF file, f32."""
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    names = NAMES | (SANDWICH if architecture in ("gemma2", "gemma3", "olmo2") else {})
    if architecture == "gpt-oss":
        names = names | {"post_attention_layernorm": "post_attention_norm"}
    stacks = {}
    for name, weight in state.items():
        weight = weight.float()
        stem, ending = name.rsplit(".", 1)
        parts = stem.split(".")
        layer = f"blk.{parts[2]}." if "layers" in parts else ""
        own = ".".join(parts[3:]) if layer else stem
        if ending == "sinks":
            yield f"{layer}attn_sinks.weight", weight
        elif ending.startswith("gate_up_proj") and architecture == "gpt-oss":
            # [experts, in, gate and up in turn], or [experts, gate and up in turn]
            ending = "bias" if ending.endswith("bias") else "weight"
            for which, part in [("gate", weight[..., ::2]), ("up", weight[..., 1::2])]:
                yield f"{layer}ffn_{which}_exps.{ending}", part.mT.contiguous() if ending == "weight" else part.contiguous()
        elif ending.startswith("down_proj") and architecture == "gpt-oss":
            ending = "bias" if ending.endswith("bias") else "weight"
            yield f"{layer}ffn_down_exps.{ending}", weight.mT.contiguous() if ending == "weight" else weight
        elif ending in ("gate_up_proj", "down_proj"):  # as transformers keeps experts in memory: [experts, out, in]
            halves = {"ffn_gate_exps": 0, "ffn_up_exps": 1} if ending == "gate_up_proj" else {"ffn_down_exps": 0}
            for stacked, half in halves.items():
                yield f"{layer}{stacked}.weight", weight.chunk(len(halves), 1)[half].contiguous()
        elif "experts" in parts:
            stack = stacks.setdefault(f"{layer}{EXPERTS[parts[-1]]}.weight", {})
            stack[int(parts[-2])] = weight
        else:
            if architecture.startswith("gemma") and own.endswith("norm"):
                weight = weight + 1
            if architecture in ("granite", "llama") and own in ("self_attn.q_proj", "self_attn.k_proj"):
                weight = permuted(weight, heads if own == "self_attn.q_proj" else kv_heads)
            if architecture == "gemma2" and own == "self_attn.q_proj":
                # The format has no scale of scores: llama.cpp takes that of the width of heads.
                weight = weight * (config["head_dim"] / config["query_pre_attn_scalar"]) ** 0.5
            yield f"{layer}{names[own]}.{ending}", weight
    for name, stack in stacks.items():
        yield name, torch.stack([stack[e] for e in range(len(stack))])


def make(name, architecture, config, state):
    """Writes a file; returns the weights that are read back, by their names in it."""
    writer = gguf.GGUFWriter(MADE / f"{name}.gguf", architecture)
    metadata(writer, config, architecture)
    read = {}
    for name, weight in tensors(state, config, architecture):
        if architecture == "gpt-oss" and name.endswith("_exps.weight"):
            kind = gguf.GGMLQuantizationType.MXFP4
            data = gguf.quantize(weight.numpy(), kind)
            read[name] = torch.from_numpy(gguf.dequantize(data, kind))
            writer.add_tensor(name, data, raw_dtype=kind)
        elif name.endswith("weight") and weight.dim() > 1 and torch.equal(weight, weight.bfloat16().float()):
            data = weight.to(torch.bfloat16).view(torch.int16).numpy().view("uint8")
            writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType.BF16)
        else:
            writer.add_tensor(name, weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read


def expert_values(model, layer, h):
    """Activations of a mixture for its input, experts side by side, 0 where a token is routed elsewhere; and its output."""
    config, mlp = model.config, layer.mlp
    k = config.num_experts_per_tok
    experts, post, output = mlp.experts, [], torch.zeros_like(h)
    if config.model_type == "gpt_oss":
        scores, chosen = (h @ mlp.router.weight.T + mlp.router.bias).topk(k)
        weights = scores.softmax(-1)
    else:
        scores, chosen = (h @ mlp.gate.weight.T).softmax(-1).topk(k)
        weights = scores / scores.sum(-1, keepdim=True)
    for e in range(len(experts.gate_up_proj)):
        weight = (weights * (chosen == e)).sum(-1, keepdim=True)
        routed = (chosen == e).any(-1, keepdim=True)
        if config.model_type == "gpt_oss":
            both = h @ experts.gate_up_proj[e] + experts.gate_up_proj_bias[e]
            gate, up = both[..., ::2].clamp(max=7.0), both[..., 1::2].clamp(-7.0, 7.0)
            value = (up + 1) * gate * torch.sigmoid(1.702 * gate)
            written = value @ experts.down_proj[e] + experts.down_proj_bias[e]
        else:
            gate, up = (h @ experts.gate_up_proj[e].T).chunk(2, -1)
            value = torch.nn.functional.silu(gate) * up
            written = value @ experts.down_proj[e].T
        post.append(value * routed)
        output += written * weight
    return torch.cat(post, -1), output


def golden(name, model, sequences):
    """Writes values of a mixture in float64."""
    # Kernels of grouped products have no float64.
    model.set_experts_implementation("eager")
    values = {}
    for n, ids in enumerate(sequences):
        seen, hooks = {}, []
        for l, layer in enumerate(model.model.layers):
            keep = lambda _, inputs, output, l=l: seen.update({l: (inputs[0], output)})
            hooks.append(layer.mlp.register_forward_hook(keep))
        with torch.no_grad():
            logits = model(ids[None], use_cache=False).logits
            for l, layer in enumerate(model.model.layers):
                inputs, output = seen[l]
                output = output[0] if isinstance(output, tuple) else output
                post, own = expert_values(model, layer, inputs.reshape(-1, inputs.shape[-1]))
                assert (own - output.reshape(own.shape)).abs().max() < 1e-6 * own.abs().max(), (name, l)
                values[f"{n}.mlp_post.{l}"] = post.float()
        [hook.remove() for hook in hooks]
        values |= {f"{n}.ids": ids, f"{n}.last_logits": logits[0, -1].float()}
    save_file({key: value.contiguous() for key, value in values.items()}, MADE / f"{name}.safetensors")


def folder(path, architecture):
    config = json.loads((path / "config.json").read_text())
    return config, make(path.name, architecture, config, load_file(path / "model.safetensors"))


def of_family(name, architecture=None):
    folder(FAMILIES / name, architecture or name)


def gpt_oss():
    path = FAMILIES / "gpt_oss"
    config, state = json.loads((path / "config.json").read_text()), load_file(path / "model.safetensors")
    # 64 of the 72 neurons of each expert, as blocks are of 32.
    config["intermediate_size"] = width = 64
    for name, weight in state.items():
        if "gate_up_proj" in name:
            state[name] = weight[..., : 2 * width].contiguous()
        elif name.endswith("down_proj"):
            state[name] = weight[:, :width].contiguous()
    read = make("gpt_oss", "gpt-oss", config, state)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), attn_implementation="eager").eval().double()
    model.load_state_dict(state)
    for l, layer in enumerate(model.model.layers):
        gate, up, down = (read[f"blk.{l}.ffn_{part}_exps.weight"].double().mT for part in ("gate", "up", "down"))
        layer.mlp.experts.gate_up_proj.data = torch.stack([gate, up], -1).flatten(-2)
        layer.mlp.experts.down_proj.data = down.contiguous()
    reference = load_file(path / "golden.safetensors")
    golden("gpt_oss", model, [reference[f"{n}.ids"].long() for n in range(2)])


def qwen3moe():
    config = json.loads((FAMILIES / "qwen3_moe" / "config.json").read_text())
    config |= {"mlp_only_layers": [], "decoder_sparse_step": 1, "norm_topk_prob": True}
    torch.manual_seed(24)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), attn_implementation="eager").eval()
    state = model.state_dict()
    for name, weight in state.items():
        # Large enough that no layer is close to linear, and exact in bf16.
        noise = torch.randn(weight.shape) * (0.3 if weight.dim() == 1 else weight.shape[-1] ** -0.5)
        weight.copy_((noise + (weight.dim() == 1)).bfloat16())
    make("qwen3moe", "qwen3moe", config, state)
    reference = load_file(FAMILIES / "qwen3_moe" / "golden.safetensors")
    golden("qwen3moe", model.double(), [reference[f"{n}.ids"].long() for n in range(2)])


FILES = {name: lambda name=name: of_family(name) for name in ["qwen3", "gemma", "gemma2", "olmo2", "granite", "starcoder2"]}
FILES |= {
    "mixtral": lambda: of_family("mixtral", "llama"),
    "olmoe": lambda: of_family("olmoe"),
    "qwen3moe": qwen3moe,
    "gpt_oss": gpt_oss,
    "llama_yarn": lambda: folder(VARIANTS / "llama_yarn", "llama"),
}
MADE.mkdir(exist_ok=True)
for name in sys.argv[1:] or FILES:
    FILES[name]()
