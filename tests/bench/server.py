"""A neuroql server for benchmarks: started as a process, talked to with psycopg."""

import re
import socket
import subprocess
import time
from pathlib import Path

import psycopg

ROOT = Path(__file__).resolve().parents[2]


class Server:
    """`neuroql serve` on a free port; use it in a `with` block."""

    def __init__(self, binary: Path, *models: str, store: Path | None = None, options: tuple[str, ...] = ()):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [binary, "serve", "--listen", f"127.0.0.1:{self.port}", *options]
        for model in models:
            command += ["--model", model]
        if store is not None:
            command += ["--store", store]
        self.started = time.perf_counter()
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def connect(self, timeout: float = 60) -> psycopg.Connection:
        while True:
            try:
                return psycopg.connect(
                    f"host=127.0.0.1 port={self.port} user=neuroql dbname=neuroql sslmode=disable", autocommit=True
                )
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.perf_counter() - self.started > timeout:
                    raise
                time.sleep(0.002)

    def peak_rss_mb(self) -> float:
        """Peak resident memory of the server so far (VmHWM), in MB of 10^6 bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e6

    def rss_mb(self) -> float:
        """Resident memory of the server now, in MB of 10^6 bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024 / 1e6

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)
