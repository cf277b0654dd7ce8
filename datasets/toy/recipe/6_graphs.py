"""Packs the graphs of all neurons of the toy into the file that is compiled into the binary.

    pip install deltalake pyarrow
    neuroql build toy --rebuild --store STORE
    python 6_graphs.py STORE ../graphs
"""

import sys
from pathlib import Path

import pyarrow.parquet as pq
from deltalake import DeltaTable

store, target = Path(sys.argv[1]), Path(sys.argv[2])
target.mkdir(parents=True, exist_ok=True)
table = DeltaTable(store / "graphs").to_pyarrow_table(filters=[("model", "=", "toy"), ("method", "=", "neuroql")])
table = table.sort_by([("layer", "ascending"), ("neuron", "ascending")])
path = target / "graphs.parquet"
pq.write_table(table, path, compression="zstd", compression_level=19)
print(path, len(table), path.stat().st_size)
