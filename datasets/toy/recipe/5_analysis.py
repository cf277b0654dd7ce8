"""Packs an analysis of the toy over its corpus into the files that are compiled into the binary.

    pip install deltalake pyarrow
    neuroql analyze toy --table again=../corpus.parquet --dataset again --store STORE
    python 5_analysis.py STORE ../analysis

The corpus goes by another name because its analysis is there already.
"""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

store, target = Path(sys.argv[1]), Path(sys.argv[2])
target.mkdir(parents=True, exist_ok=True)
for name, order in {"neurons": ["layer", "neuron"], "bounds": ["layer", "segment", "neuron"], "contexts": ["segment", "number"]}.items():
    table = DeltaTable(store / name).to_pyarrow_table(filters=[("model", "=", "toy"), ("dataset", "=", "again")])
    table = table.sort_by([(column, "ascending") for column in order])
    table = table.set_column(table.schema.get_field_index("dataset"), "dataset", pa.array(["corpus"] * len(table)))
    # Plain strings and lists, whatever the reader made of them.
    plain = pa.schema([pa.field(f.name, pa.string() if pa.types.is_large_string(f.type) or pa.types.is_dictionary(f.type) else f.type) for f in table.schema])
    path = target / f"{name}.parquet"
    options = {}
    if name == "bounds":
        codes = ["upper", "lower"]
        options = {"use_dictionary": [column for column in plain.names if column not in codes], "write_statistics": False}
    pq.write_table(table.cast(plain), path, compression="zstd", compression_level=19, **options)
    print(path, path.stat().st_size)
