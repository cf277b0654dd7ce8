"""Tokens a second of PyTorch on the networks of random weights that examples/gpu wrote, on the same device.

transformers' model in the same dtype; a hook takes the maxima of the last layer's neurons. What comes after them in
the last block runs too, which is one product of some seventy (GPT-2); the unembedding does not. Plain
and compiled by torch.compile; the better counts. Prints lines as examples/gpu does.
"""

import argparse
import json
import sys
import time
from pathlib import Path

try:
    import torch
    from transformers import AutoModelForCausalLM
except ImportError as missing:
    sys.exit(f"{missing.name} is not installed: `pip install torch transformers` for the PyTorch half")


class Network:
    """A network that runs to its last layer's neurons."""

    def __init__(self, folder: Path, dtype: torch.dtype, device: str):
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device).eval()
        config = self.model.config
        self.vocabulary = config.vocab_size
        if config.model_type == "gpt2":
            self.body, mlp = self.model.transformer, self.model.transformer.h[-1].mlp
            target = mlp.c_proj
        else:
            self.body, mlp = self.model.model, self.model.model.layers[-1].mlp
            target = mlp.down_proj
        self.peak: torch.Tensor | None = None
        target.register_forward_pre_hook(self.keep)

    def keep(self, _module: object, inputs: tuple[torch.Tensor]) -> None:
        most = inputs[0].amax(dim=tuple(range(inputs[0].dim() - 1)))
        self.peak = most if self.peak is None else torch.maximum(self.peak, most)

    def run(self, tokens: torch.Tensor) -> None:
        self.body(input_ids=tokens, use_cache=False)


def rate(run, network: Network, args: argparse.Namespace, batch: int) -> float:
    sync = torch.cuda.synchronize if args.device.startswith("cuda") else lambda: None
    tokens = torch.randint(0, network.vocabulary, (batch, args.window), device=args.device)
    rounds = max(1, args.tokens // (batch * args.window))
    with torch.inference_mode():
        for _ in range(2):
            run(tokens)
        sync()
        start = time.perf_counter()
        for _ in range(rounds):
            run(tokens)
        sync()
    return rounds * batch * args.window / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--dtypes", default="f32,bf16,f16")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--compile", action="store_true", help="also try torch.compile, which takes minutes")
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    dtypes = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
    batches = [32, 128] if args.device.startswith("cuda") else [4]
    for folder in sorted(args.folder.iterdir()):
        if not (folder / "config.json").exists():
            continue
        name = {"gpt2": "gpt2", "llama": "smollm2"}[json.loads((folder / "config.json").read_text())["model_type"]]
        for dtype in args.dtypes.split(","):
            network = Network(folder, dtypes[dtype], args.device)
            ways = [("hook", network.run)]
            if args.compile:
                ways.append(("hook, torch.compile", torch.compile(network.run)))
            best, how = max((rate(run, network, args, batch), f"{way}, batches of {batch}")
                            for way, run in ways for batch in batches)
            print(f"forward (PyTorch {torch.__version__})\t{name}\t{dtype}\t{best:.0f}\ttokens/s\t{how}", flush=True)


if __name__ == "__main__":
    main()
