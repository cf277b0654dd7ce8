"""Makes a table of the cells that `matrix.py` and `matrix.js` print. Ends with 1 if one of them failed."""

import re
import sys
from collections import Counter
from pathlib import Path

# Errors that name what there is not.
REFUSED = re.compile(r"not supported|NotSupported|FeatureNotSupported|0A000")


def outcome(said: str) -> str:
    if said.startswith("ok"):
        return "ok"
    return "refused" if REFUSED.search(said) else "FAIL"


def main() -> None:
    cells = [line.rstrip("\n").split("\t", 2) for line in Path(sys.argv[1]).open(encoding="utf8")]
    width = max(len(feature) for _, feature, _ in cells)
    clients: dict[str, Counter[str]] = {}
    for client, feature, said in cells:
        found = outcome(said)
        clients.setdefault(client, Counter())[found] += 1
        said = "ok" if found == "ok" else said.replace("FAIL", found, 1)
        print(f"{client:20} {feature:{width}} {said}")
    print()
    print("| client | ok | refused | FAIL |\n|---|---|---|---|")
    for client, counts in clients.items():
        print(f"| {client} | {counts['ok']} | {counts['refused']} | {counts['FAIL']} |")
    sys.exit(any(counts["FAIL"] for counts in clients.values()))


if __name__ == "__main__":
    main()
