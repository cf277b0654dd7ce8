"""Look-ups while an analysis commits to a store that is slow: S3 (moto) behind a proxy that delays each request.

One connection asks for single neurons by a prepared statement: first alone, then while another runs an analysis whose commits take
`--delay` seconds a request. Prints one JSON line for each: look-ups, median, p99 and longest in milliseconds. moto is a Python
server on the same processors, so the analysis also takes time of its own.
"""

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from server import ROOT, Server

LOOK_UP = "SELECT neuron, tokens, max_activation FROM toy.neurons WHERE layer = %s AND neuron = %s"
DOCUMENTS = ROOT / "src/model/data/toy/corpus.parquet"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


async def forward(port: int, target: int, delay: float) -> None:
    """Forwards connections to `target`; what a client sends waits for `delay` seconds first."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
        try:
            while data := await reader.read(1 << 16):
                await asyncio.sleep(delay)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(copy(reader, upstream[1], delay), copy(upstream[0], writer, 0))

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    await server.serve_forever()


def make_bucket(port: int) -> None:
    """Waits for the server and makes a bucket in it."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT")
    for _ in range(300):
        try:
            urllib.request.urlopen(request, timeout=10)
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise SystemExit("moto does not answer")


def look_up(server: Server, until: threading.Event, least: int) -> list[float]:
    """Looks neurons up until the event is set, but `least` times; returns the milliseconds of each."""
    times = []
    with server.connect() as connection, connection.cursor() as cursor:
        connection.prepare_threshold = 0
        while len(times) < least or not until.is_set():
            start = time.perf_counter()
            cursor.execute(LOOK_UP, (len(times) % 2, len(times) % 512)).fetchall()
            times.append(1000 * (time.perf_counter() - start))
    return times


def report(what: str, times: list[float], **more: float) -> None:
    times = sorted(times)
    values = {"median_ms": times[len(times) // 2], "p99_ms": times[len(times) * 99 // 100], "longest_ms": times[-1]}
    print(json.dumps({"look-ups": what, "count": len(times), **{k: round(v, 2) for k, v in (values | more).items()}}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/neuroql")
    parser.add_argument("--python", default=sys.executable, help="a Python that has moto[server]")
    parser.add_argument("--delay", type=float, default=0.5)
    parser.add_argument("--documents", type=int, default=200)
    arguments = parser.parse_args()
    target, port = free_port(), free_port()
    command = [arguments.python, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(target)]
    moto = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.environ |= {
        "AWS_ENDPOINT": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
    }
    try:
        make_bucket(target)
        run = threading.Thread(target=lambda: asyncio.run(forward(port, target, arguments.delay)), daemon=True)
        run.start()
        with Server(arguments.binary, store="s3://bucket/store") as server:
            with server.connect() as connection:
                connection.execute(f"SELECT * FROM analyze(model => 'toy', documents => {arguments.documents // 10})")
            idle = threading.Event()
            idle.set()
            report("alone", look_up(server, idle, 2000))
            done, took = threading.Event(), 0.0

            def analyze() -> None:
                nonlocal took
                try:
                    with server.connect() as connection:
                        start = time.perf_counter()
                        connection.execute(
                            f"SELECT * FROM analyze(model => 'toy', documents => {arguments.documents})"
                        )
                        took = time.perf_counter() - start
                finally:
                    done.set()

            writer = threading.Thread(target=analyze)
            writer.start()
            times = look_up(server, done, 1)
            writer.join()
            report("beside an analysis", times, analysis_s=took)
    finally:
        moto.terminate()


if __name__ == "__main__":
    main()
