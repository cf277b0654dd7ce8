"""Makes tests/models/circuits.json: what the weights alone say of some neurons, in float64.

    pip install torch transformers transformer_lens     # made with 2.15, 5.23 and 3.9
    python tests/models/make_circuits.py

For each network and some neurons of every layer: the tokens they promote and suppress, the tokens that drive them, the
neurons that feed them and those they feed. Weights are read, and norms, MLPs and activation functions run, by Hugging
Face transformers and TransformerLens; the folding of norms is written out below, and where TransformerLens can fold a
network itself (LN with weights) its W_out @ W_U and W_out @ W_in have to agree.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformers import AutoModelForCausalLM

ROOT = Path(__file__).parent
K = 6
HUGGING_FACE = {"gpt2": ROOT / "gpt2", "gpt_neox": ROOT / "gpt_neox", "llama": ROOT / "llama",
                "qwen2": ROOT / "variants/qwen2"}
# name: folder and site
HOOKED = {
    "toy": (ROOT / "../../datasets/toy", "mid"),
    "toy_post": (ROOT / "../../datasets/toy", "post"),
    "hooked_rms_solu_ln": (ROOT / "variants/hooked_rms_solu_ln", "mid"),
    "hooked_shortformer": (ROOT / "variants/hooked_shortformer", "post"),
    "hooked_rotary": (ROOT / "variants/hooked_rotary", "post"),
    "hooked_rotary_adjacent": (ROOT / "variants/hooked_rotary_adjacent", "post"),
}


def centre(x, kind):
    return x - x.mean(-1, keepdim=True) if kind == "layer" else x


class HuggingFace:
    """transformers; matrices are turned to [in, out]."""

    def __init__(self, folder):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
        family = model.config.model_type
        self.kind = "layer" if family in ("gpt2", "gpt_neox") else "rms"
        self.final_kind = self.kind
        blocks, norm, names, final, embed = {
            "gpt2": ("transformer.h", "ln_2", ["mlp.c_fc"], "transformer.ln_f", "transformer.wte"),
            "gpt_neox": ("gpt_neox.layers", "post_attention_layernorm", ["mlp.dense_h_to_4h"],
                         "gpt_neox.final_layer_norm", "gpt_neox.embed_in"),
        }.get(family, ("model.layers", "post_attention_layernorm", ["mlp.gate_proj", "mlp.up_proj"], "model.norm",
                       "model.embed_tokens"))
        output = {"gpt2": "mlp.c_proj", "gpt_neox": "mlp.dense_4h_to_h"}.get(family, "mlp.down_proj")
        matrix = lambda module: module.weight if type(module).__name__ == "Conv1D" else module.weight.T
        self.unembed = matrix(model.get_output_embeddings())
        self.final_gain = model.get_submodule(final).weight
        self.via = ["in"] if len(names) == 1 else ["gate", "up"]
        self.layers = []
        for block in model.get_submodule(blocks):
            pre, post = {}, {}
            hooks = [block.get_submodule(name).register_forward_hook(
                lambda _, __, out, name=name: pre.update({name: out})) for name in names]
            hooks.append(block.get_submodule(output).register_forward_pre_hook(
                lambda _, inputs: post.update({0: inputs[0]})))
            block.mlp(block.get_submodule(norm)(model.get_submodule(embed).weight))
            for hook in hooks:
                hook.remove()
            self.layers.append({
                "gain": block.get_submodule(norm).weight, "reads": [matrix(block.get_submodule(n)) for n in names],
                "write": matrix(block.get_submodule(output)), "pre": [pre[n] for n in names], "activation": post[0],
            })


class Hooked:
    """TransformerLens."""

    def __init__(self, folder, site):
        config = json.loads((folder / "config.json").read_text())
        if "normalization" in config:  # the older key
            config["normalization_type"] = config["normalization"]
        known = set(HookedTransformerConfig.__dataclass_fields__) - {"dtype", "model_type"}
        config = {k: v for k, v in config.items() if k in known}
        config = HookedTransformerConfig(**config, dtype=torch.float64, device="cpu")
        state = {k: v.double() for k, v in load_file(folder / "model.safetensors").items() if v.is_floating_point()}
        model = HookedTransformer(config)
        model.load_state_dict(state, strict=False)
        kinds = {"LN": "layer", "LNPre": "layer", "RMS": "rms", "RMSPre": "rms", None: "none"}
        self.kind = kinds[config.normalization_type]
        self.final_kind = "rms" if config.final_rms and self.kind == "layer" else self.kind
        affine = config.normalization_type in ("LN", "RMS")
        ones = torch.ones(config.d_model, dtype=torch.float64)
        self.unembed = model.unembed.W_U.clone()
        self.final_gain = model.ln_final.w.clone() if affine else ones
        self.via = ["in"]
        self.layers = []
        for block in model.blocks:
            values = {}
            hooks = [(f"hook_{name}", lambda value, hook, name=name: values.update({name: value}))
                     for name in ("pre", "mid", "post") if hasattr(block.mlp, f"hook_{name}")]
            for name, hook in hooks:
                getattr(block.mlp, name).add_hook(hook)
            block.mlp(block.ln2(model.W_E[None]))
            for name, _ in hooks:
                getattr(block.mlp, name).remove_hooks()
            write = block.mlp.W_out.clone()
            if site == "mid":  # what is read there goes through a LayerNorm over the neurons first
                write = write * getattr(block.mlp.ln, "w", torch.ones(config.d_mlp))[:, None]
                write = write - write.mean(0, keepdim=True)
            self.layers.append({
                "gain": block.ln2.w.clone() if affine else ones, "reads": [block.mlp.W_in.clone()], "write": write,
                "pre": [values["pre"][0]], "activation": values[site][0],
            })
        self.folded = None
        # TransformerLens folds the LayerNorm of solu_ln as well, so its matrices are those of mlp.mid.
        if config.normalization_type == "LN" and (config.act_fn != "solu_ln" or site == "mid"):
            model.load_and_process_state_dict(model.state_dict(), fold_ln=True, center_writing_weights=True,
                                              center_unembed=True, fold_value_biases=False)
            self.folded = model


def effects(network, layer):
    written = centre(network.layers[layer]["write"], network.final_kind) * network.final_gain
    effects = written @ network.unembed
    return effects - effects.mean(-1, keepdim=True)


def connections(network, writer, reader):
    """Weights and cosines, [via, writers, readers]."""
    reads = [centre(network.layers[reader]["gain"] * read.T, network.kind) for read in network.layers[reader]["reads"]]
    written = centre(network.layers[writer]["write"], network.kind)
    weights = torch.stack([written @ read.T for read in reads])
    lengths = torch.stack([written.norm(dim=-1)[:, None] * read.norm(dim=-1) for read in reads])
    return weights, weights / lengths


def strongest(network, found):
    """`found` are (layer, weights [via, neurons], cosines)."""
    rows = []
    for layer, weights, cosines in found:
        via = weights.abs().argmax(0)
        for neuron, v in enumerate(via.tolist()):
            rows.append((layer, neuron, network.via[v], weights[v, neuron].item(), cosines[v, neuron].item()))
    return sorted(rows, key=lambda row: -abs(row[3]))[:K]


def top(values, k):
    return sorted(range(len(values)), key=lambda i: -values[i])[:k]


def describe(network):
    generator = torch.Generator().manual_seed(7)
    out = []
    layers = range(len(network.layers))
    for layer in layers:
        own, logits = network.layers[layer], effects(network, layer)
        for neuron in torch.randperm(own["write"].shape[0], generator=generator)[:3].tolist():
            effect, activation = logits[neuron].tolist(), own["activation"][:, neuron].tolist()
            before = [(e, *(m[:, :, neuron] for m in connections(network, e, layer))) for e in range(layer)]
            after = [(l, *(m[:, neuron] for m in connections(network, layer, l))) for l in layers[layer + 1:]]
            out.append({
                "layer": layer, "neuron": neuron,
                "promoted": [[t, effect[t]] for t in top(effect, K)],
                "suppressed": [[t, effect[t]] for t in top([-e for e in effect], K)],
                "inputs": [[t, activation[t], *(p[t, neuron].item() for p in own["pre"])] for t in top(activation, K)],
                "from": strongest(network, before),
                "to": strongest(network, after),
            })
    return out


def agree(network):
    """What TransformerLens makes of the same weights; it rounds to f32 on the way."""
    folded = network.folded
    for layer, block in enumerate(folded.blocks):
        assert torch.allclose(block.mlp.W_out @ folded.W_U, effects(network, layer), atol=1e-6)
        for later in range(layer + 1, len(folded.blocks)):
            weights, _ = connections(network, layer, later)
            assert torch.allclose(block.mlp.W_out @ folded.blocks[later].mlp.W_in, weights[0], atol=1e-6)


def rounded(value):
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(v) for v in value]
    return float(f"{value:.8g}") if isinstance(value, float) else value


@torch.no_grad()
def main():
    networks = {name: lambda f=folder: HuggingFace(f) for name, folder in HUGGING_FACE.items()}
    networks |= {name: lambda f=folder, s=site: Hooked(f, s) for name, (folder, site) in HOOKED.items()}
    lines = []
    for name, load in networks.items():
        network = load()
        if getattr(network, "folded", None) is not None:
            agree(network)
            print(f"{name}: as TransformerLens")
        lines.append(f"{json.dumps(name)}: [\n" + ",\n".join(json.dumps(rounded(n)) for n in describe(network)) + "\n]")
    (ROOT / "circuits.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
