"""The store's tables, read without neuroql: by the Python package deltalake, by Polars and by DuckDB."""

import math
import os

import duckdb
import polars
import psycopg
from deltalake import DeltaTable

STORE = os.environ["STORE"]

with psycopg.connect("", autocommit=True) as connection:
    connection.execute(
        "CREATE TABLE few AS SELECT document, substr(text, 1, 600) AS text FROM corpus WHERE document < 3"
    )
    steps = connection.execute("SELECT complete, tokens FROM analyze(model => 'toy', dataset => 'few')").fetchall()
    assert steps[-1][0] is True, steps
    answer = connection.execute(
        "SELECT layer, neuron, tokens, mean, kurtosis, max_activation FROM toy.neurons WHERE dataset = 'few'"
        " ORDER BY 1, 2"
    ).fetchall()
    strongest = connection.execute(
        "SELECT document, activation, tokens FROM toy.examples"
        " WHERE dataset = 'few' AND layer = 1 AND neuron = 17 AND rank = 1"
    ).fetchone()
assert len(answer) == 1024, len(answer)

# A graph: " the" after " of", and a neuron that has none.
with psycopg.connect("", autocommit=True) as connection:
    connection.execute(
        "INSERT INTO toy.graphs (layer, neuron, graph, method, f1, reason) SELECT 1, 17, graph_from_nodes(ARRAY["
        "named_struct('parent', -1, 'token_id', NULL, 'token', ' the', 'ends', NULL),"
        "named_struct('parent', 0, 'token_id', NULL, 'token', ' of', 'ends', 0.5)]), 'hand', 0.25, NULL"
        " UNION ALL SELECT 0, 3, NULL, 'hand', NULL, 'never fires'"
    )


def same(rows):
    rows = list(rows)
    assert len(rows) == len(answer), len(rows)
    for found, expected in zip(rows, answer):
        for a, b in zip(found, expected):
            assert a == b or math.isclose(a, b, rel_tol=1e-6), (found, expected)


columns = ["layer", "neuron", "tokens", "mean", "kurtosis", "max_activation"]
table = DeltaTable(f"{STORE}/neurons")
assert table.metadata().partition_columns == ["model", "layer", "dataset"], table.metadata()
frame = table.to_pandas(columns=columns).sort_values(["layer", "neuron"])
same(frame.itertuples(index=False))
same(polars.read_delta(f"{STORE}/neurons").select(columns).sort("layer", "neuron").iter_rows())

neurons = table.to_pyarrow_dataset()
same(duckdb.sql(f"SELECT {', '.join(columns)} FROM neurons ORDER BY layer, neuron").fetchall())
best = duckdb.sql(
    "SELECT e.document, e.activation, e.tokens FROM (SELECT unnest(examples) AS e FROM neurons"
    " WHERE layer = 1 AND neuron = 17) WHERE e.rank = 1"
).fetchall()[0]
assert best[0] == strongest[0] and math.isclose(best[1], strongest[1], rel_tol=1e-6) and best[2] == strongest[2], (best, strongest)

bounds = DeltaTable(f"{STORE}/bounds").to_pyarrow_dataset()
contexts = DeltaTable(f"{STORE}/contexts").to_pyarrow_dataset()
examples = duckdb.sql("SELECT count(*) FROM contexts").fetchall()[0][0]
codes = duckdb.sql("SELECT DISTINCT octet_length(upper), octet_length(lower) FROM bounds").fetchall()
assert codes == [(examples, examples)], (codes, examples)
assert duckdb.sql("SELECT sum(len(token_ids)) FROM contexts").fetchall()[0][0] == answer[0][2]

table = DeltaTable(f"{STORE}/graphs")
assert table.metadata().partition_columns == ["model", "layer"], table.metadata()
frame = table.to_pandas().sort_values("layer")
assert list(frame["reason"].fillna("")) == ["never fires", ""] and list(frame["nodes"])[1] == 2, frame.to_dict()
graphs = table.to_pyarrow_dataset()
nodes = [(-1, 265, " the", None), (0, 287, " of", 0.5)]
exploded = "SELECT n.parent, n.token_id, n.token, n.ends FROM (SELECT unnest(graph) AS n FROM graphs WHERE layer = 1)"
assert duckdb.sql(exploded).fetchall() == nodes, duckdb.sql(exploded).fetchall()
lazily = polars.read_delta(f"{STORE}/graphs").filter(polars.col("layer") == 1).explode("graph").unnest("graph")
assert list(lazily.select("parent", "token_id", "token", "ends").iter_rows()) == nodes, lazily

print("ok")
