"""What the tests of other projects say of a server. See `suites`, which calls this file in three ways:

- pytest loads it as a plugin, which writes an object of JSON for each report to the file $OUTCOMES;
- suites.py prepare PORT makes the database and schemas that tests want;
- suites.py table FOLDER compares the reports SUITE-postgresql and SUITE-neuroql in a folder.
"""

import json
import os
import re
import sys
from collections import Counter
from pathlib import Path

# Errors that name what there is not: a feature, an object, a function.
REFUSED = {"0A000", "42704", "42883"}

# SQLSTATE and message of the error that was seen last.
LAST: list[str | None] = [None, "?"]


def errors(error: BaseException | None):
    """Yields an error and those that led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        if isinstance(original := getattr(error, "orig", None), BaseException):
            yield original
        for part in getattr(error, "exceptions", ()):
            yield from errors(part)
        error = error.__cause__ or error.__context__


def of_server(error: BaseException) -> tuple[str, str] | None:
    """Returns the SQLSTATE and the message of the first error of the server that led to an error."""
    for cause in reversed(list(errors(error))):
        fields = cause.args[0] if cause.args and isinstance(cause.args, tuple) else None
        if isinstance(fields, dict) and "C" in fields:
            return fields["C"], fields.get("M", "")
        if state := getattr(cause, "sqlstate", None):
            return state, str(cause).split("\n")[0]
    return None


def pytest_runtest_makereport(item, call):
    # The report that pytest makes next is of this call.
    if call.excinfo is not None:
        error = call.excinfo.value
        line = str(error).strip().split("\n")[0]
        LAST[:] = of_server(error) or (None, f"{type(error).__name__}: {line}")


def pytest_runtest_logreport(report):
    outcome = {"test": report.nodeid, "outcome": report.outcome}
    if report.outcome == "failed":
        outcome["error"] = list(LAST)
    with open(os.environ["OUTCOMES"], "a", encoding="utf8") as file:
        file.write(json.dumps(outcome) + "\n")


def prepare(port: int) -> None:
    import psycopg

    address = f"host=127.0.0.1 port={port} user=postgres"
    with psycopg.connect(f"{address} dbname=postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE suites")
    with psycopg.connect(f"{address} dbname=suites", autocommit=True) as connection:
        connection.execute("CREATE SCHEMA test_schema")
        connection.execute("CREATE SCHEMA test_schema_2")


def outcomes(path: Path) -> dict[str, dict]:
    """Reads the outcome of each test: failed if one of its reports says so, else skipped, else passed."""
    found: dict[str, dict] = {}
    order = ["passed", "skipped", "failed"]
    for line in path.open(encoding="utf8"):
        said = json.loads(line)
        # SQLAlchemy puts the version of the server into names.
        name = re.sub(r"(?<=\+psycopg)_\d+_\d+(?=::)", "", said.pop("test"))
        before = found.setdefault(name, said)
        if order.index(said["outcome"]) > order.index(before["outcome"]):
            found[name] = said
    return found


def table(folder: Path) -> None:
    rows, reasons = [], []
    for path in sorted(folder.glob("*-postgresql")):
        suite = path.name.removesuffix("-postgresql")
        neuroql = outcomes(folder / f"{suite}-neuroql")
        base = [name for name, said in outcomes(path).items() if said["outcome"] == "passed"]
        counts: Counter[str] = Counter()
        causes: Counter[tuple[str, str]] = Counter()
        examples: dict[tuple[str, str], str] = {}
        for name in base:
            said = neuroql.get(name, {"outcome": "skipped"})
            outcome = said["outcome"]
            if outcome == "failed":
                state, message = said["error"]
                outcome = "refused" if state in REFUSED else "error" if state else "otherwise"
                # Names, texts and numbers aside, equal messages are one reason.
                key = state or "-", re.sub(r"\d+", "N", re.sub(r"""(["'])[^"']{0,80}\1""", r"\1…\1", message))[:140]
                causes[key] += 1
                examples.setdefault(key, name)
            counts[outcome] += 1
        shown = [len(base)] + [counts[key] for key in ("passed", "refused", "error", "otherwise", "skipped")]
        rows.append(f"| {suite} | {' | '.join(map(str, shown))} |")
        reasons.append(f"\n{suite}:")
        reasons += [f"{count:5} {' '.join(key)}\n      {examples[key]}" for key, count in causes.most_common(60)]
    print("\n".join(reasons))
    print()
    heads = ["suite", "pass on PostgreSQL", "of these on neuroql"]
    heads += ["refused", "another error", "another answer", "skipped"]
    print(f"| {' | '.join(heads)} |")
    print("|---" * len(heads) + "|")
    print("\n".join(rows))


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(int(sys.argv[2]))
    else:
        table(Path(sys.argv[2]))
