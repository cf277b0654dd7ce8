"""Analyses, and queries answered by them, beside plain scans and DuckDB over materialised Parquet.

Prints one JSON line per measurement.
"""

import argparse
import json
import math
import random
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg
from server import Server

TOP = """
    SELECT document, position, token, activation FROM {model}.activations
    WHERE dataset = '{dataset}' AND layer = {layer} AND neuron = {neuron}{filter} ORDER BY activation {order}
"""

# What is asked of a neuron: the first is among the tokens that an analysis keeps, the others need bounds.
QUESTIONS = {
    "top 20": {"filter": "", "order": "DESC LIMIT 20"},
    "top 100": {"filter": "", "order": "DESC LIMIT 100"},
    "top 20 of a quarter of the documents": {"filter": " AND document % 4 = 1", "order": "DESC LIMIT 20"},
    "least 20": {"filter": "", "order": "LIMIT 20"},
}


def report(name: str, **figures: object) -> None:
    rounded = {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in figures.items()}
    print(json.dumps({"name": name} | rounded), flush=True)


def timed(connection: psycopg.Connection, sql: str) -> tuple[float, list]:
    start = time.perf_counter()
    rows = connection.execute(sql).fetchall()
    return time.perf_counter() - start, rows


def folder_bytes(*folders: Path) -> int:
    return sum(file.stat().st_size for folder in folders for file in folder.rglob("*.parquet"))


def analyse(server: Server, store: Path, model: str, dataset: str, layers: str, neurons: int) -> None:
    """Time of an analysis beside the same forward passes with nothing kept but each neuron's maximum."""
    with server.connect() as connection:
        tokens = connection.execute(
            f"SELECT count(*) FROM {model}.activations WHERE dataset = '{dataset}' AND layer = 0 AND neuron = 0"
        ).fetchone()[0]
        first, last = layers.split("-")
        bare = f"SELECT layer, neuron, max(activation) FROM {model}.activations WHERE dataset = '{dataset}' AND layer BETWEEN {first} AND {last} GROUP BY 1, 2"
        forward = min(timed(connection, bare)[0] for _ in range(2 if model == "toy" else 1))
        seconds, steps = timed(connection, f"SELECT * FROM analyze(model => '{model}', dataset => '{dataset}', layers => '{layers}')")
        dense = 2 * tokens * neurons
        index = folder_bytes(store / "bounds", store / "contexts")
        report(
            f"analyze {model}, layers {layers}",
            tokens=tokens,
            seconds=seconds,
            tokens_per_second=tokens / seconds,
            forward_seconds=forward,
            ratio=seconds / forward,
            commits=len(steps) - 1,
            peak_rss_mb=server.peak_rss_mb(),
            index_mb=index / 1e6,
            index_share_of_fp16=index / dense,
            store_mb=folder_bytes(store) / 1e6,
        )


def top_k(server: Server, model: str, analysed: str, plain: str, layer: int, width: int, count: int, scans: int) -> None:
    """Exact top tokens of random neurons, by what was kept and by bounds, and by scans of the same documents."""
    neurons = random.Random(1).sample(range(width), count)
    with server.connect() as connection:
        for name, question in QUESTIONS.items():
            sql = lambda dataset, neuron: TOP.format(model=model, dataset=dataset, layer=layer, neuron=neuron, **question)
            connection.execute(sql(analysed, 0)).fetchall()
            ratios, bounded, scanned, runs = [], [], [], []
            for i, neuron in enumerate(neurons):
                fast, rows = timed(connection, sql(analysed, neuron))
                bounded.append(fast)
                plan = str(connection.execute("EXPLAIN ANALYZE " + sql(analysed, neuron)).fetchall())
                runs.append(sum(int(float(n) * {"": 1, "K": 1e3, "M": 1e6}[unit]) for n, unit in re.findall(r"tokens_run=([\d.]+) ?([KM]?)", plan)))
                if i < scans:
                    slow, expected = timed(connection, sql(plain, neuron))
                    assert all(math.isclose(a[3], b[3], rel_tol=1e-5, abs_tol=1e-6) for a, b in zip(rows, expected, strict=True)), neuron
                    scanned.append(slow)
            scan = statistics.median(scanned)
            ratios = [scan / fast for fast in bounded]
            report(
                f"{name} of a random neuron, {model} layer {layer}",
                neurons=count,
                bounds_ms=1000 * statistics.median(bounded),
                slowest_bounds_ms=1000 * max(bounded),
                tokens_run=statistics.median(runs),
                most_tokens_run=max(runs),
                scan_s=scan,
                median_ratio=statistics.median(ratios),
                least_ratio=min(ratios),
            )


def lookups(server: Server, connections: int = 16, seconds: int = 5, rate: int | None = None) -> None:
    """Point look-ups of statistics and examples by pgbench, as fast as it can or at a rate of all clients together."""
    script = r"""
\set layer random(0, 1)
\set neuron random(0, 511)
SELECT mean, kurtosis, density FROM toy.neurons WHERE layer = :layer AND neuron = :neuron;
SELECT rank, document, position, activation, tokens FROM toy.examples WHERE layer = :layer AND neuron = :neuron;
"""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "lookups.sql"
        file.write_text(script)
        command = ["pgbench", "-n", "-h", "127.0.0.1", "-p", str(server.port), "-U", "neuroql", "-M", "prepared"]
        command += ["-f", file, "-c", str(connections), "-j", "2", "-T", str(seconds), "-l", "--log-prefix", f"{folder}/log"]
        if rate is not None:
            command += ["-R", str(rate)]
        subprocess.run([*command, "neuroql"], check=True, capture_output=True)
        # Microseconds of both queries together; a client that waits for its turn at a rate waits without a query.
        lines = [line.split() for log in Path(folder).glob("log*") for line in log.read_text().splitlines()]
    times = sorted((int(line[2]) - (int(line[6]) if rate is not None else 0)) / 2000 for line in lines)
    report(
        f"look-ups, {connections} connections, " + ("no pause" if rate is None else f"{2 * rate} a second"),
        p50_ms=times[len(times) // 2],
        p99_ms=times[int(len(times) * 0.99)],
        per_second=2 * len(times) / seconds,
    )


def materialised(server: Server, folder: Path, neurons: int) -> None:
    """DuckDB over a Parquet file with every activation of some neurons of layer 1."""
    import duckdb

    file = folder / "activations.parquet"
    with server.connect() as connection:
        seconds, _ = timed_copy(
            connection,
            f"COPY (SELECT neuron, document, example, position, activation FROM toy.activations WHERE dataset = 'corpus' AND layer = 1 AND neuron < {neurons}) TO '{file}' STORED AS PARQUET",
        )
        times, own = [], []
        for neuron in random.Random(2).sample(range(neurons), min(10, neurons)):
            start = time.perf_counter()
            rows = duckdb.sql(f"SELECT document, position, activation FROM '{file}' WHERE neuron = {neuron} ORDER BY activation DESC LIMIT 20").fetchall()
            times.append(time.perf_counter() - start)
            fast, mine = timed(connection, TOP.format(model="toy", dataset="corpus", layer=1, neuron=neuron, **QUESTIONS["top 20"]))
            own.append(fast)
            # A product of other columns rounds differently.
            assert all(math.isclose(a[2], b[3], rel_tol=1e-5) for a, b in zip(rows, mine, strict=True)), neuron
    report(
        "top 20 of a neuron, DuckDB over materialised Parquet",
        neurons=neurons,
        write_seconds=seconds,
        file_mb=file.stat().st_size / 1e6,
        duckdb_ms=1000 * statistics.median(times),
        neuroql_ms=1000 * statistics.median(own),
    )


def timed_copy(connection: psycopg.Connection, sql: str) -> tuple[float, None]:
    start = time.perf_counter()
    connection.execute(sql)
    return time.perf_counter() - start, None


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--neuroql", type=Path, required=True)
    arguments.add_argument("--gguf", type=Path, help="SmolLM2-135M-Instruct.Q4_1.gguf; without it only the toy runs")
    arguments.add_argument("--windows", type=int, nargs="+", default=[1024, 128], help="tokens of an example of SmolLM2")
    arguments.add_argument("--neurons", type=int, default=25, help="random neurons to look for")
    options = arguments.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        store = folder / "toy"
        with Server(options.neuroql, store=store) as server:
            with server.connect() as connection:
                connection.execute("CREATE TABLE plain AS SELECT document, text FROM corpus")
                connection.execute("CREATE TABLE fresh AS SELECT document, text FROM corpus")
            analyse(server, store, "toy", "fresh", "0-1", 1024)
            top_k(server, "toy", "corpus", "plain", 1, 512, options.neurons, 5)
            top_k(server, "toy", "corpus", "plain", 0, 512, options.neurons, 5)
            lookups(server, seconds=2)
            lookups(server, rate=150)
            lookups(server)
            materialised(server, folder, 64)
        for window in options.windows if options.gguf else []:
            store = folder / f"smol-{window}"
            with Server(options.neuroql, store=store) as server:
                with server.connect() as connection:
                    connection.execute(f"CREATE EXTERNAL TABLE smol STORED AS MODEL LOCATION '{options.gguf}' OPTIONS ('window' '{window}')")
                    for table in ("slice", "plain"):
                        connection.execute(f"CREATE TABLE {table} AS SELECT document, substr(text, 1, 9000) AS text FROM corpus WHERE document < 60")
                analyse(server, store, "smol", "slice", "15-15", 1536)
                top_k(server, "smol", "slice", "plain", 15, 1536, min(options.neurons, 9), 1)
            shutil.rmtree(store)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
