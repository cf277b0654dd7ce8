#!/usr/bin/env bash
# psql against the server of PGHOST and PGPORT: its commands, and the first queries of a newcomer.
set -euo pipefail

run() { psql -X -A -t -v ON_ERROR_STOP=1 "$@" 2>&1; }

# expect PATTERN COMMAND: some line of the output matches.
expect() {
    local pattern=$1 output
    shift
    output=$(run "$@") || true
    if ! grep -qE -- "$pattern" <<<"$output"; then
        printf 'psql %s\nshould print a line like\n  %s\nand printed\n%s\n' "$*" "$pattern" "$output"
        exit 1
    fi
}

expect '^PostgreSQL [0-9]+' -c 'SELECT version()'
expect '^public\|models\|' -c '\d'
expect '^public\|corpus\|table\|' -c '\dt'
expect '^toy\|activations\|' -c '\dt toy.*'
expect '^toy\|' -c '\dn'
expect '^activation\|real\|' -c '\d toy.activations'
expect '^token_id\|integer\|' -c '\d toy.activations'
expect '^document\|bigint\|' -c '\d toy.activations'
expect '^token\|text\|' -c '\d toy.activations'
expect '^w_in\|real\[\]\|' -c '\d toy.weights'
expect '^neuroql$' -c 'SELECT current_user'
expect 'user "neuroql"' -c '\conninfo'

expect '^toy\|2\|512$' -c 'SELECT model, layers, neurons_per_layer FROM models'
# Values of the reference: golden.safetensors, text 0, layer 1, neuron 17.
expect '^1\| President\|0\.0018' -c "SELECT position, token, activation FROM toy.activations WHERE text = 'The President of the United States' AND layer = 1 AND neuron = 17 ORDER BY position"
expect '^3\| the\|0\.0068' -c "SELECT position, token, activation FROM toy.activations WHERE text = 'The President of the United States' AND layer = 1 AND neuron = 17 ORDER BY position"
expect '^1\|5\|0\.3639' -c "SELECT layer, neuron, max(activation) FROM toy.activations WHERE text = 'import numpy as np' GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 10"
expect '^\(10 rows\)' --no-align --pset=tuples_only=off -c "SELECT layer, neuron, max(activation) FROM toy.activations WHERE text = 'import numpy as np' GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 10"

# A model is registered, asked and dropped; the command tags are real.
expect '^CREATE (EXTERNAL )?TABLE$' -c "CREATE EXTERNAL TABLE psql_gpt2 STORED AS MODEL LOCATION '$MODELS/gpt2'"
expect '^576$' -c "SELECT count(*) FROM psql_gpt2.activations WHERE text = 'x'"
expect '^DROP TABLE$' -c 'DROP TABLE psql_gpt2'
expect 'psql_gpt2' -c 'SELECT * FROM psql_gpt2.neurons'

# EXPLAIN ANALYZE says what was run.
plan=$(run -c "EXPLAIN ANALYZE SELECT * FROM toy.activations WHERE text = 'a b c' AND layer = 0 AND neuron IN (1, 2)")
grep -qiE 'tokens' <<<"$plan" || { printf 'EXPLAIN ANALYZE does not show tokens:\n%s\n' "$plan"; exit 1; }

# Errors carry a code, a position in the script does not stop the session, and several statements run in turn.
expect 'ERROR:  42P01' -v VERBOSITY=verbose -c 'SELECT * FROM nothing'
output=$(psql -X -A -t <<'SQL' 2>&1
SELECT 1 AS first;
SELECT * FROM nothing;
SELECT 2 AS second;
\set text 'import numpy as np'
SELECT count(*) FROM toy.activations WHERE text = :'text' AND layer = 0 AND neuron = 0;
PREPARE peak(text) AS SELECT array_length(activation('toy', 1, 5, $1));
EXECUTE peak('import numpy as np');
SQL
)
expected=$'1\nERROR:  relation "nothing" does not exist'
[[ $output == "$expected"* && $output == *$'\n2\n6\nPREPARE\n6' ]] || { printf 'a script printed\n%s\n' "$output"; exit 1; }
echo ok
