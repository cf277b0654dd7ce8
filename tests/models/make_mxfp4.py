"""Makes families/gpt_oss_mxfp4: a tiny gpt-oss whose experts are in MXFP4, as Hugging Face stores them (uint8 blocks and
scales), and its values as those of the other families.

    pip install torch transformers     # made with 2.15 and 5.24
    python tests/models/make_mxfp4.py

Packed experts are random bytes: transformers dequantises them when it loads the folder (`Mxfp4Config(dequantize=True)`), and
golden.safetensors has what it makes of those of the last layer too, `dequantised.gate_up_proj` and `dequantised.down_proj`, which
bf16 holds exactly.
"""

import json
import os
import shutil
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import AutoConfig, AutoModelForCausalLM, Mxfp4Config  # noqa: E402

FAMILIES = Path(__file__).parent / "families"
MADE = FAMILIES / "gpt_oss_mxfp4"
LAYERS, WIDTH = 2, 64
# As in openai/gpt-oss-20b.
QUANTISATION = {
    "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"],
    "quant_method": "mxfp4",
}


def checkpoint():
    """Writes config.json and model.safetensors."""
    config = json.loads((FAMILIES / "gpt_oss" / "config.json").read_text())
    config |= {"intermediate_size": WIDTH, "num_hidden_layers": LAYERS, "layer_types": config["layer_types"][:LAYERS]}
    torch.manual_seed(25)
    state = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)).state_dict()
    tensors = {}
    for name, weight in state.items():
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            experts, width, rows = weight.shape
            # All codes, and a spread of exponents around weights of the usual size.
            tensors[f"{name}_blocks"] = torch.randint(0, 256, (experts, rows, width // 32, 16), dtype=torch.uint8)
            tensors[f"{name}_scales"] = torch.randint(119, 124, (experts, rows, width // 32), dtype=torch.uint8)
        else:
            norm = name.endswith("norm.weight")
            size = 0.3 if weight.dim() == 1 or name.endswith("bias") else weight.shape[-1] ** -0.5
            size = 0.5 if "embed" in name else size
            tensors[name] = (torch.randn(weight.shape) * size + norm).bfloat16()
    config["quantization_config"] = QUANTISATION
    (MADE / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(tensors, MADE / "model.safetensors", {"format": "pt"})


def expert_values(mlp, h):
    """Activations of the experts for their input, side by side, 0 where a token is routed elsewhere; and their sum."""
    _, scores, chosen = mlp.router(h)
    experts, post, output = mlp.experts, [], torch.zeros_like(h)
    for e in range(experts.num_experts):
        weight = (scores * (chosen == e)).sum(-1, keepdim=True)
        value = experts._apply_gate(h @ experts.gate_up_proj[e] + experts.gate_up_proj_bias[e])
        post.append(value * (chosen == e).any(-1, keepdim=True))
        output += (value @ experts.down_proj[e] + experts.down_proj_bias[e]) * weight
    return torch.cat(post, -1), output


def golden():
    """Writes the values of transformers in float64."""
    model, info = AutoModelForCausalLM.from_pretrained(
        MADE, dtype=torch.float32, attn_implementation="eager", quantization_config=Mxfp4Config(dequantize=True),
        output_loading_info=True)
    assert not any(info[key] for key in ["missing_keys", "unexpected_keys", "mismatched_keys"]), info
    model = model.eval().double()
    # Kernels of grouped products have no float64.
    model.set_experts_implementation("eager")
    values = {}
    for matrix in ["gate_up_proj", "down_proj"]:
        exact = getattr(model.model.layers[-1].mlp.experts, matrix).detach()
        values[f"dequantised.{matrix}"] = exact.bfloat16()
        assert torch.equal(values[f"dequantised.{matrix}"].double(), exact)
    source = FAMILIES / "gpt_oss" / "golden.safetensors"
    sequences = load_file(source)
    for n in range(2):
        ids, seen = sequences[f"{n}.ids"], {}
        keep = lambda key: lambda _, inputs, output=None: seen.update({key: (inputs, output)})
        hooks = []
        for l, layer in enumerate(model.model.layers):
            hooks.append(layer.mlp.register_forward_hook(keep(("mlp", l))))
            hooks.append(layer.self_attn.o_proj.register_forward_hook(keep(("z", l))))
            hooks.append(layer.register_forward_hook(keep(("layer", l))))
        with torch.no_grad():
            logits = model(ids.long()[None], use_cache=False).logits
            for l, layer in enumerate(model.model.layers):
                (h, *_), output = seen["mlp", l]
                post, own = expert_values(layer.mlp, h[0])
                output = output[0] if isinstance(output, tuple) else output
                assert (own - output.reshape(own.shape)).abs().max() < 1e-6 * own.abs().max(), l
                (before, *_), after = seen["layer", l]
                after = after[0] if isinstance(after, tuple) else after
                if l == 0:
                    values[f"{n}.resid_pre.0"] = before[0].float()
                values[f"{n}.mlp_post.{l}"] = post.float()
                values[f"{n}.z.{l}"] = seen["z", l][0][0][0].float()
                values[f"{n}.resid_post.{l}"] = after.reshape(own.shape).float()
        [hook.remove() for hook in hooks]
        values |= {f"{n}.ids": ids, f"{n}.last_logits": logits[0, -1].float()}
    with safe_open(source, "pt") as file:
        texts = file.metadata()["texts"]
    note = "float64, eager; BOS id 0 prepended; experts dequantised by transformers"
    metadata = {"transformers": transformers.__version__, "note": note, "texts": texts}
    save_file({key: value.contiguous() for key, value in values.items()}, MADE / "golden.safetensors", metadata)


def main():
    shutil.rmtree(MADE, ignore_errors=True)
    MADE.mkdir()
    checkpoint()
    golden()
    print(sum(file.stat().st_size for file in MADE.iterdir()) // 1000, "kB")


if __name__ == "__main__":
    main()
