"""Pages of the explorer: the toy's neuron page, 64 connections at once, and SmolLM2's page of a text of 128 tokens.

Prints one JSON line per measurement.
"""

import argparse
import http.client
import json
import random
import re
import socket
import statistics
import subprocess
import threading
import time
from pathlib import Path
from urllib.parse import quote

TEXT = """The committee met on Tuesday to discuss the budget for the coming year. Its chair said that the costs of the new bridge had
risen by a third since the spring, and that no more money could be expected from the state. Several members asked whether the works
could be put off until the price of steel fell again. Others pointed out that the old bridge had been closed to lorries for two
years, and that every month of waiting cost the town more than the interest on a loan. In the end they agreed to ask an engineer
from outside for a report, to be read at the next meeting, and went on to the matter of the school roof and of the library."""


def report(name: str, values: list[float], unit: str, **more: object) -> None:
    values = sorted(values)
    at = lambda share: float(f"{values[min(int(share * len(values)), len(values) - 1)]:.4g}")
    line = {"name": name, "median": at(0.5), "p99": at(0.99), "most": at(1), "unit": unit, "runs": len(values)}
    print(json.dumps(line | more), flush=True)


class Site:
    """`neuroql serve` with its pages on a free port."""

    def __init__(self, binary: Path, *options: str):
        ports = []
        for _ in range(2):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                ports.append(free.getsockname()[1])
        self.port = ports[0]
        addresses = ["--http", f"127.0.0.1:{ports[0]}", "--listen", f"127.0.0.1:{ports[1]}"]
        self.process = subprocess.Popen([binary, "serve", *addresses, *options], stdout=subprocess.DEVNULL)
        start = time.perf_counter()
        while True:
            try:
                self.get("/healthz")
                return
            except OSError:
                if self.process.poll() is not None or time.perf_counter() - start > 60:
                    raise
                time.sleep(0.01)

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def get(self, path: str, connection: http.client.HTTPConnection | None = None) -> tuple[float, float, bytes]:
        """Milliseconds to the first byte and to the last one, and the body."""
        used = connection or self.connection()
        start = time.perf_counter()
        used.request("GET", path)
        response = used.getresponse()
        first = time.perf_counter() - start
        body = response.read()
        whole = time.perf_counter() - start
        if connection is None:
            used.close()
        if response.status != 200:
            raise RuntimeError(f"{path}: {response.status}")
        return 1000 * first, 1000 * whole, body

    def __enter__(self) -> "Site":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)


def neuron(source: random.Random) -> str:
    return f"/m/toy/neurons/{source.randrange(2)}/{source.randrange(512)}"


def neuron_pages(site: Site, runs: int) -> None:
    """One after the other; then with the panels that the page asks for when it is there."""
    source, connection = random.Random(1), site.connection()
    for _ in range(20):
        site.get(neuron(source), connection)
    answers = [site.get(neuron(source), connection) for _ in range(runs)]
    report("neuron page, first byte", [first for first, _, _ in answers], "ms")
    report("neuron page, whole", [whole for _, whole, _ in answers], "ms", bytes=round(statistics.median(len(a[2]) for a in answers)))
    complete = []
    for _ in range(max(runs // 5, 1)):
        start = time.perf_counter()
        _, _, body = site.get(neuron(source), connection)
        for panel in re.findall(r'<section class="panel lazy"[^>]*data-src="([^"]+)"', body.decode()):
            site.get(panel.replace("&amp;", "&").replace("&#38;", "&"), connection)
        complete.append(1000 * (time.perf_counter() - start))
    report("neuron page with its later panels", complete, "ms")


def many(site: Site, connections: int, seconds: float) -> None:
    """Random neuron pages over as many connections that stay open."""
    times: list[float] = []
    errors: list[str] = []
    end = time.perf_counter() + seconds

    def client(number: int) -> None:
        source, connection = random.Random(number), site.connection()
        while time.perf_counter() < end:
            try:
                times.append(site.get(neuron(source), connection)[1])
            except Exception as error:
                errors.append(repr(error))
                connection = site.connection()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report(f"{connections} connections for {seconds:.0f} s", times, "ms", per_s=round(len(times) / seconds, 1), errors=len(errors), first_error=errors[:1])


def text_page(binary: Path, gguf: Path, runs: int) -> None:
    with Site(binary, "--model", f"smol={gguf}") as site:
        body = json.dumps({"sql": f"SELECT cardinality(tokenize('smol', $1)) AS n", "parameters": [TEXT]})
        connection = site.connection()
        connection.request("POST", "/v1/query", body, {"Content-Type": "application/json"})
        tokens = json.loads(connection.getresponse().read())["rows"][0][0]
        path = f"/text?model=smol&t={quote(TEXT)}"
        site.get(path)
        report("text page of SmolLM2", [site.get(path)[1] for _ in range(runs)], "ms", tokens=tokens)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--neuroql", type=Path, required=True, help="the release binary")
    arguments.add_argument("--gguf", type=Path, help="SmolLM2-135M-Instruct.Q4_1.gguf")
    arguments.add_argument("--runs", type=int, default=500)
    arguments.add_argument("--seconds", type=float, default=60)
    options = arguments.parse_args()
    with Site(options.neuroql) as site:
        neuron_pages(site, options.runs)
        many(site, 64, options.seconds)
    if options.gguf:
        text_page(options.neuroql, options.gguf, max(options.runs // 20, 3))


if __name__ == "__main__":
    main()
