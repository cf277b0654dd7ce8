"""Look-ups in stored rows, beside PostgreSQL with the same rows: pgbench -M prepared at 1, 16, 64 and 200 connections.

The rows are those of the bundled model, copied over by COPY, with an index on layer and neuron. Both servers run at the same
time on the same processors, and take turns. Prints one JSON line per query and number of connections.
"""

import argparse
import json
import os
import pwd
import re
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg
from server import Server

QUERIES = {
    "neuron": "\\set layer random(0, 1)\n\\set neuron random(0, 511)\n"
    "SELECT layer, neuron, max_activation, mean, density, f1 FROM toy.neurons WHERE layer = :layer AND neuron = :neuron;\n",
    "examples": "\\set layer random(0, 1)\n\\set neuron random(0, 511)\n"
    "SELECT rank, activation, tokens FROM toy.examples WHERE layer = :layer AND neuron = :neuron;\n",
    "aggregate": "SELECT layer, count(*), avg(max_activation), max(density) FROM toy.neurons GROUP BY layer;\n",
}

TABLES = {
    "neurons": "layer int, neuron int, max_activation real, mean real, density real, f1 real",
    "examples": "layer int, neuron int, rank int, activation real, tokens text[]",
}


class Postgres:
    """A PostgreSQL of the system in a temporary folder, as a user who is not root."""

    def __init__(self) -> None:
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not programs:
            raise SystemExit("PostgreSQL is not installed")
        self.programs = programs[-1]
        self.folder = Path(tempfile.mkdtemp())
        self.user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        shutil.chown(self.folder, self.user)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.run("initdb", "-D", self.folder / "data", "-U", "neuroql", "-A", "trust", "-E", "UTF8")
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=250"
        self.run("pg_ctl", "-D", self.folder / "data", "-w", "-o", options, "-l", self.folder / "log", "start")

    def run(self, program: str, *arguments: object) -> None:
        command = [str(self.programs / program), *map(str, arguments)]
        if os.getuid() == 0:
            command = ["runuser", "-u", self.user, "--", *command]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")

    def __enter__(self) -> "Postgres":
        return self

    def __exit__(self, *_: object) -> None:
        self.run("pg_ctl", "-D", self.folder / "data", "-m", "fast", "stop")
        shutil.rmtree(self.folder)


def copy_rows(source: psycopg.Connection, postgres: int) -> None:
    with psycopg.connect(host="127.0.0.1", port=postgres, user="neuroql", dbname="postgres", autocommit=True) as target:
        target.execute("CREATE SCHEMA toy")
        for table, columns in TABLES.items():
            names = ", ".join(column.split()[0] for column in columns.split(", "))
            target.execute(f"CREATE TABLE toy.{table} ({columns})")
            with source.cursor().copy(f"COPY (SELECT {names} FROM toy.{table}) TO STDOUT") as rows:
                with target.cursor().copy(f"COPY toy.{table} FROM STDIN") as out:
                    for part in rows:
                        out.write(part)
            target.execute(f"CREATE INDEX ON toy.{table} (layer, neuron)")
        target.execute("VACUUM ANALYZE")


def pgbench(port: int, database: str, script: Path, clients: int, seconds: int) -> tuple[float, float]:
    """Queries a second, and the 99th percentile of their latencies in milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            "pgbench",
            "-h",
            "127.0.0.1",
            "-p",
            str(port),
            "-U",
            "neuroql",
            "-n",
            "-M",
            "prepared",
            "-c",
            str(clients),
        ]
        command += [
            "-j",
            str(min(clients, 2)),
            "-T",
            str(seconds),
            "-f",
            str(script),
            "-l",
            "--log-prefix",
            f"{folder}/l",
            database,
        ]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PGSSLMODE": "disable"})
        if done.returncode:
            raise SystemExit(done.stderr)
        latencies = [int(line.split()[2]) for log in Path(folder).iterdir() for line in log.open()]
    rate = float(re.search(r"tps = ([\d.]+)", done.stdout)[1])
    return rate, statistics.quantiles(latencies, n=100)[98] / 1000


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--neuroql", type=Path, required=True, help="the release binary")
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--seconds", type=int, default=5, help="of each run")
    arguments.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64, 200])
    options = arguments.parse_args()
    with Postgres() as postgres, Server(options.neuroql, options=("--max-connections", "250")) as server:
        with server.connect() as source:
            copy_rows(source, postgres.port)
        for name, text in QUERIES.items():
            script = postgres.folder / f"{name}.sql"
            script.write_text(text)
            for clients in options.connections:
                mine, theirs = [], []
                for _ in range(options.runs):
                    mine.append(pgbench(server.port, "neuroql", script, clients, options.seconds))
                    theirs.append(pgbench(postgres.port, "postgres", script, clients, options.seconds))
                rate = [statistics.median(rate for rate, _ in side) for side in (mine, theirs)]
                late = [statistics.median(late for _, late in side) for side in (mine, theirs)]
                line = {"query": name, "connections": clients, "neuroql": round(rate[0]), "postgres": round(rate[1])}
                line |= {
                    "ratio": round(rate[0] / rate[1], 2),
                    "p99_ms": round(late[0], 2),
                    "postgres_p99_ms": round(late[1], 2),
                }
                print(json.dumps(line | {"rss_mb": round(server.rss_mb())}), flush=True)
        with server.connect() as connection:
            connection.prepare_threshold = None
            rates = []
            for _ in range(500):
                start = time.perf_counter()
                connection.execute(
                    "SELECT max_activation FROM toy.neurons WHERE layer = 1 AND neuron = %s", (7,)
                ).fetchone()
                rates.append(1000 * (time.perf_counter() - start))
            print(
                json.dumps({"query": "neuron, psycopg, not prepared", "median_ms": round(statistics.median(rates), 2)})
            )


if __name__ == "__main__":
    main()
