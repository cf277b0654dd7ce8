"""Published data: a made-up database of DeepDecipher with 36,864 neurons, and a tree of OpenAI's files of 307,200.

Prints one JSON line per measurement. The files are made first, in a folder that is removed afterwards unless --folder names
one, where they stay for the next run (the tree takes 1.3 GB and some minutes).
"""

import argparse
import json
import random
import shutil
import sqlite3
import statistics
import struct
import tempfile
import time
from pathlib import Path

from server import ROOT, Server

LAYERS, WIDTH = 12, 3072
TREE_LAYERS, TREE_WIDTH = 48, 6400
SAMPLE = ROOT / "tests/formats/deepdecipher/data.db"


def report(name: str, values: list[float], unit: str, **more: object) -> None:
    line = {"name": name, "median": float(f"{statistics.median(values):.4g}"), "unit": unit, "runs": len(values)}
    print(json.dumps(line | {"least": float(f"{min(values):.4g}"), "most": float(f"{max(values):.4g}")} | more), flush=True)


def varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def text(value: str) -> bytes:
    return varint(len(value.encode())) + value.encode()


def items(values: list[bytes]) -> bytes:
    return varint(len(values)) + b"".join(values)


def real(value: float) -> bytes:
    return struct.pack("<f", value)


def snappy(raw: bytes) -> bytes:
    """A block of literals."""
    out = bytearray(varint(len(raw)))
    for start in range(0, len(raw), 1 << 16):
        piece = raw[start : start + (1 << 16)]
        out += bytes([61 << 2]) + (len(piece) - 1).to_bytes(2, "little") + piece
    return bytes(out)


def words(count: int) -> list[str]:
    source = random.Random(7)
    return [" " + "".join(source.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(source.randint(2, 8))) for _ in range(count)]


def page(layer: int, neuron: int, source: random.Random, vocabulary: list[str]) -> bytes:
    def one(rank: int) -> bytes:
        tokens = ["<|endoftext|>"] + source.choices(vocabulary, k=63)
        values = [source.random() for _ in tokens]
        peak = source.randrange(1, 64)
        values[peak] = 5.0 - rank
        numbers = [-5.0, 5.0, min(values), max(values)]
        head = b"".join(map(real, numbers)) + varint(source.randrange(1_000_000)) + varint(peak)
        return head + items([text(token) for token in tokens]) + items([real(value) for value in values])

    return varint(layer) + varint(neuron) + items([one(rank) for rank in range(4)])


def graph(source: random.Random, vocabulary: list[str]) -> bytes:
    activators, contexts = source.randint(1, 8), source.randint(0, 24)
    nodes = []
    # A node of the context comes before an activator, so the activator requires it.
    required = [[] for _ in range(activators)]
    for context in range(contexts):
        required[source.randrange(activators)].append(activators + context)
    for number in range(activators + contexts):
        before = required[number] if number < activators else []
        token = text(f'"{source.choice(vocabulary)}"')
        nodes.append(token + items([varint(one) for one in before]) + real(source.random()))
    return items([varint(end) for end in (0, 0, activators, activators + contexts)]) + items(nodes)


def make_database(path: Path) -> None:
    source, vocabulary = random.Random(1), words(5000)
    database = sqlite3.connect(path)
    with sqlite3.connect(f"file:{SAMPLE}?mode=ro", uri=True) as sample:
        for (statement,) in sample.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite%' ORDER BY type DESC"):
            database.execute(statement)
    database.execute("INSERT INTO model VALUES (1, 'made-up', ?, ?, 'gelu', 100, 'made-up')", (LAYERS, WIDTH))
    kinds = ["Neuroscope", "NeuronExplainer", "Neuron2Graph", "NeuronStore"]
    for number, kind in enumerate(kinds, 1):
        arguments = real(0.4) if kind == "NeuronStore" else b""
        database.execute("INSERT INTO data_type VALUES (?, ?, ?, ?)", (number, kind.lower(), kind, arguments))
        database.execute("INSERT INTO model_data_type VALUES (1, ?)", (number,))
    for layer in range(LAYERS):
        rows = []
        for neuron in range(WIDTH):
            near = [(source.randrange(LAYERS), source.randrange(WIDTH)) for _ in range(3)]
            similar = items([varint(a) + varint(b) + real(0.5) for a, b in near])
            explained = text(f" words such as{source.choice(vocabulary)}") + real(source.random())
            values = [snappy(page(layer, neuron, source, vocabulary)), snappy(explained), snappy(graph(source, vocabulary)), similar]
            rows += [(1, number, layer, neuron, value) for number, value in enumerate(values, 1)]
        database.executemany("INSERT INTO neuron_data VALUES (?, ?, ?, ?, ?)", rows)
    database.commit()
    database.close()


def make_tree(folder: Path) -> None:
    source, vocabulary = random.Random(2), words(5000)
    for layer in range(TREE_LAYERS):
        place = folder / "collated-activations" / str(layer)
        place.mkdir(parents=True)
        records = [{"tokens": source.choices(vocabulary, k=64), "activations": [round(source.random(), 4) for _ in range(64)]}]
        rest = json.dumps({"random_sample": [], "mean": 0.1, "variance": 0.2, "most_positive_activation_records": records})[1:]
        for neuron in range(TREE_WIDTH):
            head = f'{{"neuron_id": {{"layer_index": {layer}, "neuron_index": {neuron}}}, '
            (place / f"{neuron}.json").write_text(head + rest)


def timed(connection, statement: str, values: tuple = ()) -> tuple[float, int]:
    start = time.perf_counter()
    rows = connection.execute(statement, values or None, prepare=bool(values)).fetchall()
    return 1000 * (time.perf_counter() - start), len(rows)


def neurons(connection, name: str, statement: str, layers: int, width: int, runs: int, least: int = 1) -> None:
    source, times = random.Random(3), []
    for run in range(runs + 20):
        taken, count = timed(connection, statement, (source.randrange(layers), source.randrange(width)))
        assert count >= least, f"{name}: {count} rows"
        # The first ones plan the statement and open files.
        if run >= 20:
            times.append(taken)
    times.sort()
    report(name, times, "ms", p99=float(f"{times[int(0.99 * len(times))]:.4g}"))


def database(binary: Path, path: Path, runs: int) -> None:
    with Server(binary) as server, server.connect() as connection:
        start = time.perf_counter()
        connection.execute(f"CREATE EXTERNAL TABLE dd STORED AS DEEPDECIPHER LOCATION '{path}'")
        connection.execute("SELECT layer, neuron, graph_text(graph) FROM dd.graphs LIMIT 3").fetchall()
        report("data.db of 36,864 neurons, registered and first query", [time.perf_counter() - start], "s")
        for table in ["neurons", "explanations", "graphs"]:
            taken, _ = timed(connection, f"SELECT count(*) FROM dd.{table}")
            report(f"count(*) of {table}", [taken], "ms")
        for table in ["examples", "explanations", "graphs", "similar", "neurons"]:
            statement = f"SELECT * FROM dd.{table} WHERE layer = %s AND neuron = %s"
            neurons(connection, f"a neuron's {table}", statement, LAYERS, WIDTH, runs)
        query = "SELECT * FROM search('dd', %s) LIMIT 5"
        vocabulary = words(5000)
        first, _ = timed(connection, query, (f"activating:{vocabulary[0].strip()}",))
        report("first search, which indexes all graphs", [first], "ms")
        for role in ["activating:", "any:", "activating:a*"]:
            tokens = [role if role.endswith("*") else role + token.strip() for token in random.Random(4).choices(vocabulary, k=runs)]
            report(f"search {role}", [timed(connection, query, (token,))[0] for token in tokens], "ms")
        report("memory of the server", [server.peak_rss_mb()], "MB")


def tree(binary: Path, folder: Path, runs: int) -> None:
    with Server(binary) as server, server.connect() as connection:
        start = time.perf_counter()
        connection.execute(f"CREATE EXTERNAL TABLE oai STORED AS OPENAI_NEURONS LOCATION '{folder}'")
        report("tree of 307,200 files, registered", [time.perf_counter() - start], "s")
        for table in ["examples", "neurons"]:
            statement = f"SELECT * FROM oai.{table} WHERE layer = %s AND neuron = %s"
            neurons(connection, f"a neuron's {table} of 307,200", statement, TREE_LAYERS, TREE_WIDTH, runs)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--neuroql", type=Path, required=True, help="the release binary")
    arguments.add_argument("--folder", type=Path, help="folder for the files, which stay there")
    arguments.add_argument("--runs", type=int, default=200)
    options = arguments.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "data.db").exists():
        make_database(folder / "data.db")
    if not (folder / "tree").exists():
        make_tree(folder / "making")
        (folder / "making").rename(folder / "tree")
    database(options.neuroql, folder / "data.db", options.runs)
    tree(options.neuroql, folder / "tree", options.runs)
    if options.folder is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
