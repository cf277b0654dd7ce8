#!/usr/bin/env bash
# All benchmarks against the release binary: tests/bench/run.sh [RUNS]. Keep the machine idle meanwhile.
set -euo pipefail
cd "$(dirname "$0")"

runs=${1:-5}
cache=${XDG_CACHE_HOME:-$HOME/.cache}
python=$cache/neuroql-tests/bench-venv/bin/python
gguf=$cache/neuroql/SmolLM2-135M-Instruct.Q4_1.gguf
target=$(cargo metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')

[[ -f $gguf ]] || { echo "$gguf is missing: .ci/run downloads it" >&2; exit 1; }
if [[ ! -x $python ]]; then
    python3 -m venv "$cache/neuroql-tests/bench-venv"
    "$python" -m pip install -q -r requirements.txt
fi
cargo build --release --bin neuroql

lscpu | grep -E '^(Model name|CPU\(s\))'
export PYTHONDONTWRITEBYTECODE=1 PYTHONWARNINGS=ignore
"$python" forward.py --neuroql "$target/release/neuroql" --gguf "$gguf" --runs "$runs"
"$python" latency.py --neuroql "$target/release/neuroql" --gguf "$gguf" --runs "$runs"
"$python" lookups.py --neuroql "$target/release/neuroql"
"$python" imports.py --neuroql "$target/release/neuroql"
"$python" pages.py --neuroql "$target/release/neuroql" --gguf "$gguf"
