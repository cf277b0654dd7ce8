"""Cuts the bundled corpus into documents of one exact token count, so that no side pads or splits anything."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

CORPUS = Path(__file__).resolve().parents[2] / "datasets/toy/corpus.parquet"


def cut(tokenize: Callable[[str], list[int]], length: int, count: int) -> list[str]:
    """`count` pieces of the corpus that tokenise to exactly `length` tokens."""
    pieces: list[str] = []
    for text in pq.read_table(CORPUS, columns=["text"])["text"].to_pylist():
        at = 0
        while at < len(text) and len(pieces) < count:
            # Tokens have at least one character, so some prefix of this slice has `length` of them or the text ends.
            low, high = 1, min(len(text) - at, 12 * length)
            while low < high:
                middle = (low + high) // 2
                if len(tokenize(text[at : at + middle])) < length:
                    low = middle + 1
                else:
                    high = middle
            if len(tokenize(text[at : at + low])) == length:
                pieces.append(text[at : at + low])
            at += low
    if len(pieces) < count:
        raise SystemExit(f"the corpus holds {len(pieces)} pieces of {length} tokens, {count} asked")
    return pieces


def write(texts: list[str], path: Path) -> None:
    documents = pa.array(range(len(texts)), pa.int64())
    pq.write_table(pa.table({"document": documents, "text": pa.array(texts)}), path)
