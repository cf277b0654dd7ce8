#!/usr/bin/env bash
# Writes a store as a program leaves it, for a trial of the programs that come after: tests/stores/make.sh NEUROQL FOLDER,
# as in `tests/stores/make.sh target/debug/neuroql tests/stores/with_tokenizers`. The folder must not exist.
#
# Registers models/gpt2 from a folder that is gone afterwards, keeps a view, analyses two of its three documents at layer 0
# and keeps two graphs with their index. The folder's expected.parquet has the program's rows of `expected.sql`.
set -euo pipefail
neuroql=$(realpath "$1")
target=$2
[[ ! -e $target ]] || { echo "$target exists" >&2; exit 1; }
here=$(cd "$(dirname "$0")" && pwd)

# Registrations name absolute paths: one that has nothing to do with this machine.
model=/tmp/neuroql-store-model
[[ ! -e $model ]] || { echo "$model exists" >&2; exit 1; }
trap 'rm -r "$model"' EXIT
mkdir "$model"
cp "$here/../models/gpt2/"{config.json,model.safetensors,tokenizer.json} "$model"

sql() { "$neuroql" query --store "$target" "$@"; }
sql "CREATE EXTERNAL TABLE small STORED AS MODEL LOCATION '$model' OPTIONS ('bos' 'true')"
sql "CREATE VIEW few AS SELECT column1 AS document, column2 AS text FROM (VALUES
    (0, 'def add(a, b): return a + b'), (1, 'The President of the United States'), (2, 'import numpy as np')) AS t"
sql "SELECT * FROM analyze('small', 'few', layers => '0', k => 1, documents => 2)"
sql "INSERT INTO small.graphs SELECT * FROM build_graphs('small', dataset => 'few', layer => 0, neurons => '3', method => 'token')"
sql "INSERT INTO small.graphs (layer, neuron, reason, method) VALUES (0, 7, 'none', 'mine')"
# The index of graphs is stored when it is first read.
sql "SELECT neuron, pattern FROM search(query => 'add', model => 'small')"
sql --format parquet --out "$target/expected.parquet" --file "$here/expected.sql"
