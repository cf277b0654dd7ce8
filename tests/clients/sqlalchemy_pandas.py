"""SQLAlchemy on psycopg: engine, inspector, parameters; pandas reads queries with it."""

import os

import pandas
from sqlalchemy import MetaData, Table, bindparam, create_engine, func, inspect, select, text

engine = create_engine(f"postgresql+psycopg://neuroql@{os.environ['PGHOST']}:{os.environ['PGPORT']}/neuroql")

inspector = inspect(engine)
assert {"public", "toy"} <= set(inspector.get_schema_names()), inspector.get_schema_names()
names = set(inspector.get_table_names(schema="toy")) | set(inspector.get_view_names(schema="toy"))
assert {"activations", "neurons", "vocabulary", "weights"} <= names, names
assert "corpus" in inspector.get_table_names(), inspector.get_table_names()
assert inspector.has_table("activations", schema="toy")
columns = {column["name"]: str(column["type"]) for column in inspector.get_columns("activations", schema="toy")}
assert columns == {
    "dataset": "TEXT",
    "document": "BIGINT",
    "example": "BIGINT",
    "text": "TEXT",
    "position": "INTEGER",
    "token_id": "INTEGER",
    "token": "TEXT",
    "layer": "INTEGER",
    "neuron": "INTEGER",
    "activation": "REAL",
}, columns

with engine.connect() as connection:
    query = text("SELECT max(activation) FROM toy.activations WHERE text = :text AND layer = 1 AND neuron = 5")
    peak = connection.execute(query, {"text": "import numpy as np"}).scalar_one()
    assert abs(peak - 0.363912) < 1e-5, peak

    # A table reflected from the catalogue, used in the expression language.
    activations = Table("activations", MetaData(), schema="toy", autoload_with=engine)
    query = (
        select(activations.c.neuron, func.max(activations.c.activation).label("peak"))
        .where(activations.c.text == bindparam("text"), activations.c.layer == 1)
        .group_by(activations.c.neuron)
        .order_by(text("peak DESC"))
        .limit(3)
    )
    assert [row.neuron for row in connection.execute(query, {"text": "import numpy as np"})] == [5, 13, 76]

frame = pandas.read_sql(
    text("SELECT position, token, activation FROM toy.activations WHERE text = :text AND layer = 1 AND neuron = 5 ORDER BY position"),
    engine,
    params={"text": "import numpy as np"},
)
assert frame["token"].tolist() == ["import", " num", "py", " as", " n", "p"], frame
assert frame["position"].dtype.kind == "i" and frame["activation"].dtype.kind == "f", frame.dtypes
assert frame["activation"].idxmax() == 4, frame

frame = pandas.read_sql("SELECT * FROM models", engine)
assert frame.loc[0, "model"] == "toy" and frame.loc[0, "layers"] == 2, frame

frame = pandas.read_sql_table("neurons", engine, schema="toy")
assert len(frame) == 1024 and frame["mean"].notna().all(), frame

chunks = pandas.read_sql("SELECT layer, neuron, activation FROM toy.activations WHERE text = 'x'", engine, chunksize=100)
assert sum(len(chunk) for chunk in chunks) == 1024

print("ok")
