"""Error of PyTorch in bf16: activations at each site beside those of f32, as `cargo bench -p neuroql-model --bench precision`
prints them for neuroql.

    python tests/bench/precision.py MODEL.gguf TEXT_FILE [TOKENS] [LAYER...]
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def activations(model, tokens: torch.Tensor, layers: list[int]) -> dict[tuple[str, int], torch.Tensor]:
    found: dict[tuple[str, int], list[torch.Tensor]] = {}
    hooks = []
    for l in layers:
        block = model.model.layers[l]
        keep = lambda name, l=l: lambda value: found.setdefault((name, l), []).append(value.flatten(0, -2).float())
        of_input = lambda module, keep: module.register_forward_pre_hook(lambda _, inputs: keep(inputs[0]))
        of_output = lambda module, keep: module.register_forward_hook(lambda _, __, output: keep(output))
        hooks += [
            of_input(block.self_attn.o_proj, keep("attn.z")),
            of_input(block.post_attention_layernorm, keep("resid_mid")),
            of_output(block.mlp.gate_proj, keep("mlp.pre")),
            of_input(block.mlp.down_proj, keep("mlp.post")),
            of_output(block.mlp.down_proj, keep("mlp_out")),
            block.register_forward_hook(
                lambda _, __, output, keep=keep("resid_post"): keep(output[0] if isinstance(output, tuple) else output)
            ),
        ]
    with torch.inference_mode():
        for part in tokens.split(4):
            model.model(input_ids=part, use_cache=False)
    for hook in hooks:
        hook.remove()
    return {key: torch.cat(values) for key, values in found.items()}


def main() -> None:
    file, text = Path(sys.argv[1]), Path(sys.argv[2]).read_text()
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 1016
    layers = [int(l) for l in sys.argv[4:]]
    source = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    ids = AutoTokenizer.from_pretrained(**source)(text, add_special_tokens=False)["input_ids"]
    tokens = torch.tensor(ids[: count // 127 * 127]).reshape(-1, 127)
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32).eval()
    layers = layers or [len(model.model.layers) - 1]
    exact = activations(model, tokens, layers)
    rounded = activations(model.to(torch.bfloat16), tokens, layers)
    for (site, layer), wanted in exact.items():
        difference = rounded[site, layer] - wanted
        rms = (difference.double().square().sum() / wanted.double().square().sum()).sqrt()
        print(json.dumps({"site": site, "layer": layer, "rms": f"{rms:.2e}", "max": f"{difference.abs().max() / wanted.abs().max():.2e}"}))


main()
