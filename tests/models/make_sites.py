"""Values of the toy at every site by TransformerLens in float64: toy_sites.safetensors, beside this file.

Tensors: `ids` (BOS first) and `{site}.{layer}`, a row for each token.
    python tests/models/make_sites.py      # torch, transformer_lens<4, safetensors, tokenizers
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformer_lens import HookedTransformer, HookedTransformerConfig

HERE = Path(__file__).resolve().parent
TOY = HERE.parent.parent / "datasets/toy"
TEXT = "The President of the United States met him"
# mlp_in is the residual stream that the norm before the MLP reads, whose own hook TransformerLens keeps off by default.
SITES = {
    "resid_pre": "hook_resid_pre",
    "attn.z": "attn.hook_z",
    "attn_out": "hook_attn_out",
    "resid_mid": "hook_resid_mid",
    "mlp_in": "hook_mlp_in",
    "mlp.pre": "mlp.hook_pre",
    "mlp.mid": "mlp.hook_mid",
    "mlp.post": "mlp.hook_post",
    "mlp_out": "hook_mlp_out",
    "resid_post": "hook_resid_post",
}


def main() -> None:
    config = json.loads((TOY / "config.json").read_text())
    wanted = ("n_layers", "d_model", "n_ctx", "d_head", "n_heads", "d_mlp", "d_vocab", "act_fn", "normalization_type")
    model = HookedTransformer(HookedTransformerConfig(**{key: config[key] for key in wanted})).eval()
    model.load_state_dict({name: tensor.float() for name, tensor in load_file(TOY / "model.safetensors").items()}, strict=False)
    model = model.double()
    model.set_use_hook_mlp_in(True)
    ids = [config["bos_token_id"], *Tokenizer.from_file(str(TOY / "tokenizer.json")).encode(TEXT, add_special_tokens=False).ids]
    with torch.inference_mode():
        _, cache = model.run_with_cache(torch.tensor([ids]))
    tensors = {"ids": torch.tensor(ids)}
    for site, hook in SITES.items():
        for layer in range(config["n_layers"]):
            tensors[f"{site}.{layer}"] = cache[f"blocks.{layer}.{hook}"][0].flatten(1).float().contiguous()
    save_file(tensors, HERE / "toy_sites.safetensors")


if __name__ == "__main__":
    main()
