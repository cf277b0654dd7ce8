"""Makes tests/models/masked: a tiny BERT and a tiny DistilBERT with random weights, and what transformers says of them.

    pip install torch transformers     # made with 2.15 and 5.23
    python tests/models/make_masked.py

`bert` is model.safetensors with vocab.txt, `distilbert` pytorch_model.bin with tokenizer.json. golden/<name>.safetensors
holds for each text N of its metadata, which has one [MASK], `N.ids` and `N.logits`, those of the masked token, in float64
arithmetic on the weights as they are stored (f32). All is seeded: the same versions write the same files.
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertTokenizerFast,
    DistilBertConfig,
    DistilBertForMaskedLM,
)

ROOT = Path(__file__).parent / "masked"
LETTERS = [chr(c) for c in range(ord("a"), ord("z") + 1)]
WORDS = "the of cat dog house tree blue red green ran sat saw neuron token fires on and river stone".split()
SPECIAL = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = LETTERS + ["##" + letter for letter in LETTERS] + ["##ing", "##ed"]
VOCABULARY = SPECIAL + list("!'(),.-0123456789") + PIECES + WORDS
TEXTS = [
    "The cat [MASK] on the tree.",
    "[MASK]",
    "A neuron fires on the [MASK] token, and 3 dogs ran.",
    "Über-Café [MASK]!",
    "the " * 30 + "[MASK]" + " of" * 12,
]


def random_weights(model, seed):
    """Random values, large enough that no layer is close to linear."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in sorted(model.state_dict().items()):
        if not tensor.is_floating_point():
            continue
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        if "embeddings.weight" in name:
            value = noise
        elif "norm" in name.lower() and name.endswith("weight"):
            value = 1 + 0.3 * noise
        elif tensor.dim() == 1:
            value = 0.5 * noise
        else:
            value = 1.6 * noise / tensor.shape[-1] ** 0.5
        tensor.copy_(value)
    model.tie_weights()


def make(name, model, seed, pickled):
    folder = ROOT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    random_weights(model, seed)
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(VOCABULARY) + "\n")
    tokenizer = BertTokenizerFast(vocab=str(vocabulary), do_lower_case=True)
    assert len(tokenizer) == len(VOCABULARY) == model.config.vocab_size
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if pickled:
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
        vocabulary.unlink()
    golden = {}
    model = model.double().eval()
    for n, text in enumerate(TEXTS):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = model(ids).logits[0]
        (mask,) = (ids[0] == tokenizer.mask_token_id).nonzero()
        golden[f"{n}.ids"] = ids[0].contiguous()
        golden[f"{n}.logits"] = logits[mask[0]].float().contiguous()
    (ROOT / "golden").mkdir(exist_ok=True)
    save_file(golden, ROOT / "golden" / f"{name}.safetensors", {"texts": json.dumps(TEXTS)})


with torch.no_grad():
    common = dict(vocab_size=len(VOCABULARY), max_position_embeddings=48)
    bert = BertConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, layer_norm_eps=1e-3, **common
    )
    make("bert", BertForMaskedLM(bert), 1, pickled=False)
    distilbert = DistilBertConfig(dim=24, n_layers=2, n_heads=3, hidden_dim=40, **common)
    make("distilbert", DistilBertForMaskedLM(distilbert), 2, pickled=True)
