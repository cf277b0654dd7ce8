"""Start, load and point-query times of the neuroql binary, and the aggregate over all activations of the corpus.

Prints one JSON line per measurement: medians over the runs.
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from server import Server

# Ten tokens of the toy.
TEXT = "The President of the United States said that the the"
POINT = "SELECT activation('toy', 1, 17, {})"
AGGREGATE = """
    SELECT layer, neuron, max(activation), avg(activation) FROM toy.activations WHERE dataset = 'corpus' GROUP BY 1, 2
"""


def report(name: str, values: list[float], unit: str, **more: object) -> None:
    median = statistics.median(values)
    line = {"name": name, "median": float(f"{median:.4g}"), "unit": unit, "runs": len(values)}
    print(json.dumps(line | {"least": float(f"{min(values):.4g}"), "most": float(f"{max(values):.4g}")} | more), flush=True)


def cold_start(binary: Path, runs: int) -> None:
    """From spawning the process to its first answer, by command and over the wire."""
    answered, connected = [], []
    for _ in range(runs):
        start = time.perf_counter()
        command = [binary, "query", "--format", "csv", POINT.format(f"'{TEXT}'")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        answered.append(1000 * (time.perf_counter() - start))
        with Server(binary) as server, server.connect() as connection:
            connection.execute(POINT.format("%s"), (TEXT,)).fetchone()
            connected.append(1000 * (time.perf_counter() - server.started))
    report("cold start, neuroql query", answered, "ms")
    report("cold start, server to first psycopg answer", connected, "ms")


def load(binary: Path, gguf: Path, runs: int) -> None:
    """Registering SmolLM2 in a running server, and the server's peak memory after it and after a first query."""
    seconds, loaded, asked = [], [], []
    for _ in range(runs):
        with Server(binary) as server, server.connect() as connection:
            start = time.perf_counter()
            connection.execute(f"CREATE EXTERNAL TABLE smol STORED AS MODEL LOCATION '{gguf}'")
            seconds.append(time.perf_counter() - start)
            loaded.append(server.peak_rss_mb())
            connection.execute("SELECT token FROM smol.activations WHERE text = 'a b c' AND layer = 29 LIMIT 1").fetchall()
            asked.append(server.peak_rss_mb())
    report("SmolLM2 load", seconds, "s")
    report("SmolLM2 load, peak RSS", loaded, "MB")
    report("SmolLM2 load and first query, peak RSS", asked, "MB")


def point_queries(binary: Path, runs: int) -> None:
    """Prepared statements one after another over one connection."""
    with Server(binary) as server, server.connect() as connection:
        count = "SELECT array_length(tokenize('toy', %s))"
        assert connection.execute(count, (TEXT,)).fetchone()[0] == 10, "the text has not ten tokens"
        rates = []
        for _ in range(runs):
            start, done = time.perf_counter(), 0
            while time.perf_counter() - start < 3:
                connection.execute(POINT.format("%s"), (TEXT,), prepare=True).fetchone()
                done += 1
            rates.append(done / (time.perf_counter() - start))
        report("point queries, psycopg prepared", rates, "1/s")
        if shutil.which("pgbench"):
            report("point queries, pgbench -M prepared", [pgbench(server.port) for _ in range(runs)], "1/s")


def pgbench(port: int) -> float:
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write("\\set layer random(0, 1)\n\\set neuron random(0, 511)\n")
        script.write(f"SELECT activation('toy', :layer, :neuron, '{TEXT}');\n")
        script.flush()
        command = ["pgbench", "-h", "127.0.0.1", "-p", str(port), "-U", "neuroql", "-n", "-M", "prepared"]
        command += ["-c", "1", "-T", "3", "-f", script.name, "neuroql"]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(re.search(r"tps = ([\d.]+)", output)[1])


def aggregate(binary: Path, runs: int) -> None:
    """Every activation of the corpus, aggregated per neuron: about a billion values."""
    with Server(binary) as server, server.connect() as connection:
        tokens = connection.execute("SELECT sum(array_length(tokenize('toy', text))) FROM corpus").fetchone()[0]
        seconds = []
        for _ in range(runs):
            start = time.perf_counter()
            assert len(connection.execute(AGGREGATE).fetchall()) == 1024
            seconds.append(time.perf_counter() - start)
        rate = round(int(tokens) / statistics.median(seconds))
        report("corpus aggregate", seconds, "s", tokens=int(tokens), tokens_per_s=rate, peak_rss_mb=round(server.peak_rss_mb()))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--neuroql", type=Path, required=True, help="the release binary")
    arguments.add_argument("--gguf", type=Path, help="SmolLM2-135M-Instruct.Q4_1.gguf")
    arguments.add_argument("--runs", type=int, default=5)
    options = arguments.parse_args()
    cold_start(options.neuroql, options.runs)
    if options.gguf:
        load(options.neuroql, options.gguf, options.runs)
    point_queries(options.neuroql, options.runs)
    aggregate(options.neuroql, options.runs)


if __name__ == "__main__":
    main()
