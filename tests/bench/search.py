"""Searching and comparing the graphs of a model of many neurons over psql.

Makes a model of random weights with as many neurons as asked, gives it made-up graphs, and prints one JSON line per
measurement: the first search, which makes the index, the first one after a restart, which reads it, and percentiles.
"""

import argparse
import json
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy
from safetensors.numpy import save_file
from server import ROOT, Server

D_MODEL = 8

SEARCH = "SELECT layer, neuron, activation FROM search('big', %s) LIMIT 10"


def make_model(folder: Path, layers: int, width: int) -> None:
    """A GPT-2 of tiny residual streams and wide MLPs: what is searched depends on the number of neurons only."""
    folder.mkdir(parents=True)
    config = json.loads((ROOT / "tests/models/gpt2/config.json").read_text())
    config |= {"n_embd": D_MODEL, "n_head": 1, "n_inner": width, "n_layer": layers, "n_positions": 64}
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(ROOT / "tests/models/gpt2/tokenizer.json", folder)
    seeded = numpy.random.default_rng(7)
    tensor = lambda *shape: seeded.normal(0, 0.02, shape).astype(numpy.float32)
    weights = {"wte.weight": tensor(config["vocab_size"], D_MODEL), "wpe.weight": tensor(64, D_MODEL)}
    norm = lambda name: {f"{name}.weight": numpy.ones(D_MODEL, numpy.float32), f"{name}.bias": tensor(D_MODEL)}
    for layer in range(layers):
        h = f"h.{layer}"
        weights |= norm(f"{h}.ln_1") | norm(f"{h}.ln_2")
        for name, rows, columns in [
            ("attn.c_attn", D_MODEL, 3 * D_MODEL),
            ("attn.c_proj", D_MODEL, D_MODEL),
            ("mlp.c_fc", D_MODEL, width),
            ("mlp.c_proj", width, D_MODEL),
        ]:
            weights |= {f"{h}.{name}.weight": tensor(rows, columns), f"{h}.{name}.bias": tensor(columns)}
    save_file(weights | norm("ln_f"), folder / "model.safetensors", metadata={"format": "pt"})


def timed(connection, sql: str, arguments: tuple = ()) -> tuple[float, list]:
    start = time.perf_counter()
    rows = connection.execute(sql, arguments).fetchall()
    return time.perf_counter() - start, rows


def report(name: str, **figures: object) -> None:
    rounded = {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in figures.items()}
    print(json.dumps({"name": name} | rounded), flush=True)


def percentiles(name: str, connection, sql: str, questions: list[tuple]) -> None:
    times, found = [], 0
    for question in questions:
        seconds, rows = timed(connection, sql, question)
        times.append(1000 * seconds)
        found += len(rows)
    times.sort()
    report(
        name,
        queries=len(times),
        p50_ms=statistics.median(times),
        p99_ms=times[int(0.99 * (len(times) - 1))],
        most_ms=times[-1],
        rows=found / len(times),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--neuroql", type=Path, required=True)
    parser.add_argument("--synthetic-graphs", type=Path, required=True, help="the example of that name, built")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--width", type=int, default=34_744)
    parser.add_argument("--queries", type=int, default=500)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model, store = Path(folder, "model"), Path(folder, "store")
        make_model(model, arguments.layers, arguments.width)
        start = time.perf_counter()
        subprocess.run([arguments.synthetic_graphs, store, "big", model], check=True, stdout=subprocess.DEVNULL)
        report("graphs written", graphs=arguments.layers * arguments.width, seconds=time.perf_counter() - start)
        for state in ["index made", "index read"]:
            with Server(arguments.neuroql, store=store) as server, server.connect(timeout=600) as connection:
                first, _ = timed(connection, SEARCH, ("the AND of",))
                report(f"first search, {state}", seconds=first, peak_rss_mb=server.peak_rss_mb())
                if state == "index read":
                    ask(connection, arguments)
                    report("server", peak_rss_mb=server.peak_rss_mb())


def ask(connection, arguments: argparse.Namespace) -> None:
    """Percentiles of searches for two tokens of some graphs, with and without the pattern that is shown, and others."""
    tokens = timed(
        connection,
        "SELECT token FROM big.graph_nodes WHERE layer = 3 AND neuron < 200 AND token IS NOT NULL",
    )[1]
    words = [json.dumps(row[0]) for row in tokens]
    chosen = random.Random(7)
    term = lambda: (f"{chosen.choice(words)} {chosen.choice(['AND', 'OR', 'AND NOT'])} {chosen.choice(words)}",)
    percentiles("search, two terms", connection, SEARCH, [term() for _ in range(arguments.queries)])
    shown = SEARCH.replace("activation", "activation, pattern")
    percentiles("search, two terms, with patterns", connection, shown, [term() for _ in range(arguments.queries)])
    place = lambda: (chosen.randrange(arguments.layers), chosen.randrange(arguments.width))
    similar = "SELECT * FROM similar_neurons('big', %s, %s, 10)"
    percentiles("similar_neurons", connection, similar, [place() for _ in range(arguments.queries)])
    graph = "SELECT f1, graph FROM big.graphs WHERE layer = %s AND neuron = %s"
    percentiles("one graph", connection, graph, [place() for _ in range(arguments.queries)])


if __name__ == "__main__":
    main()
