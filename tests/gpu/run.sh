#!/usr/bin/env bash
# Everything that needs a GPU, in one go and within ten minutes: tests/gpu/run.sh [--device cuda:0] [options of
# examples/gpu], one table at the end. With `--device cpu --layers 2` it tries itself on any machine.
#
# PROBE and NEUROQL name programs that were built elsewhere (tests/gpu/build.sh --release -p neuroql-model --example gpu,
# and tests/gpu/build.sh); the first is built if it is not named, without the second analyze and build_graphs are left
# out. PYTHON is a Python with torch and transformers; without them the PyTorch half is left out.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
device=cuda:0 dtypes=f32,bf16,f16 folder=${TMPDIR:-/tmp}/neuroql-gpu tokens= window=256
options=("$@")
while [ $# -gt 0 ]; do
    case $1 in
        --device) device=$2 ;;
        --dtypes) dtypes=$2 ;;
        --folder) folder=$2 ;;
        --tokens) tokens=$2 ;;
        --window) window=$2 ;;
    esac
    shift 2
done
# PyTorch wants the number.
[ "$device" = cuda ] && device=cuda:0
if [ "$device" = cpu ]; then tokens=${tokens:-2048}; else tokens=${tokens:-1000000}; fi

if [ -z "${PROBE:-}" ]; then
    target=$(cargo metadata --no-deps --format-version 1 --manifest-path "$root/Cargo.toml" |
        sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
    if [ "$device" = cpu ]; then
        cargo build --release --manifest-path "$root/Cargo.toml" -p neuroql-model --example gpu
    else
        "$here/build.sh" --release -p neuroql-model --example gpu
    fi
    PROBE=$target/release/examples/gpu
fi
results=$(mktemp)
trap 'rm -f "$results"' EXIT
"$PROBE" "${options[@]}" | tee -a "$results"

python=${PYTHON:-python3}

"$python" "$here/torch_side.py" --device "$device" --dtypes "$dtypes" --folder "$folder" --tokens "$tokens" \
    --window "$window" | tee -a "$results" || echo "the PyTorch half was left out" >&2

# Through SQL, on the bundled network and its corpus.
sql() { # what, dtype, unit, statement that gives one number of units
    local start end amount
    start=$(date +%s.%N)
    amount=$("$NEUROQL" query --format csv "CREATE EXTERNAL TABLE probed STORED AS MODEL LOCATION '$root/datasets/toy'
        OPTIONS ('device' '$device', 'dtype' '$2'); $4" | tail -n 1)
    end=$(date +%s.%N)
    awk -v what="$1" -v dtype="$2" -v unit="$3" -v amount="$amount" -v seconds="$(echo "$end $start" | awk '{print $1 - $2}')" \
        'BEGIN { printf "%s\ttoy\t%s\t%.1f\t%s/s\tthrough SQL, start included\n", what, dtype, amount / seconds, unit }' |
        tee -a "$results"
}
if [ -n "${NEUROQL:-}" ]; then
    for dtype in ${dtypes//,/ }; do
        sql analyze "$dtype" tokens \
            "SELECT max(tokens) FROM analyze(model => 'probed', dataset => 'corpus')" || echo "analyze failed" >&2
        sql build_graphs "$dtype" neurons \
            "SELECT count(*) FROM build_graphs(model => 'probed', layer => 1, neurons => '0-31')" || echo "build_graphs failed" >&2
    done
else
    echo "analyze and build_graphs were left out: NEUROQL does not name a program" >&2
fi

echo
if [ "$device" != cpu ]; then nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || true; fi
{
    printf 'what\tnetwork\tdtype\tnumber\tunit\tremark\n'
    cat "$results"
} | awk -F'\t' '{ printf "%-28s %-9s %-5s %12s %-12s %s\n", $1, $2, $3, $4, $5, $6 }'
if grep -q "TOO FAR" "$results"; then exit 1; fi
