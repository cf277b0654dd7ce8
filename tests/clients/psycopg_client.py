"""psycopg 3: text and binary results, server-side parameters, prepared statements, arrays, errors, transactions."""

import os

import psycopg
from psycopg import sql

# golden.safetensors, text 0 ("The President of the United States said that"), layer 1, neuron 17, first six tokens.
TEXT = "The President of the United States"
NEURON_17 = [0.001736, 0.001867, -0.000079, 0.006867, 0.00259, -0.000127]
TOKENS = [711, 2454, 287, 265, 961, 801]


def near(found: list[float], expected: list[float]) -> bool:
    return len(found) == len(expected) and all(abs(a - b) < 1e-5 for a, b in zip(found, expected))


def results(connection: psycopg.Connection, binary: bool) -> None:
    def all_of(query: str, *parameters: object) -> list[tuple]:
        return connection.execute(query, parameters, binary=binary).fetchall()

    assert all_of("SELECT model, layers, parameters FROM models") == [("toy", 2, 1467904)]
    query = "SELECT position, token, activation FROM toy.activations WHERE text = %s AND layer = %s AND neuron = %s ORDER BY position"
    rows = all_of(query, TEXT, 1, 17)
    assert [row[0] for row in rows] == list(range(6))
    assert [row[1] for row in rows] == ["The", " President", " of", " the", " United", " States"]
    assert near([row[2] for row in rows], NEURON_17), rows

    # Arrays both ways, NULLs, and types of literals.
    assert all_of("SELECT tokenize('toy', %s), tokens('toy', %s)", TEXT, "the the") == [(TOKENS, ["the", " the"])]
    assert all_of("SELECT detokenize('toy', %s)", TOKENS) == [(TEXT,)]
    (activations,) = all_of("SELECT activation('toy', %s, %s, %s)", 1, 17, TEXT)[0]
    assert near(activations, NEURON_17), activations
    assert all_of("SELECT activation('toy', 1, 17, %s::text)", None) == [(None,)]
    assert all_of("SELECT %s::int, %s::bigint, %s::real, %s::float8, %s::text, %s::bool", 1, 2**40, 0.5, 0.25, "é", True) == [
        (1, 2**40, 0.5, 0.25, "é", True)
    ]
    assert all_of("SELECT count(*) FROM toy.activations WHERE text = ANY(%s) AND layer = 0 AND neuron = 1", ["x", "the the"]) == [(3,)]
    neurons = all_of("SELECT count(*) FROM toy.activations WHERE text = 'x' AND neuron = ANY(%s)", [1, 2, 600])
    assert neurons == [(4,)], neurons
    assert all_of("SELECT neuron FROM top_neurons(model => %s, text => %s, k => %s)", "toy", "import numpy as np", 3) == [(5,), (13,), (76,)]
    assert len(all_of("SELECT layer FROM toy.activations WHERE text = 'x' LIMIT %s", 2)) == 2


def prepared(connection: psycopg.Connection) -> None:
    query = "SELECT array_length(activation('toy', 1, 17, %s))"
    lengths = [connection.execute(query, (text,), prepare=True).fetchone()[0] for text in ["x", TEXT, "the the"] * 5]
    assert lengths == [1, 6, 2] * 5, lengths
    with connection.cursor() as cursor:
        cursor.executemany("SELECT array_length(tokenize('toy', %s))", [("x",), (TEXT,)], returning=True)
        lengths = [cursor.fetchone()[0]]
        while cursor.nextset():
            lengths.append(cursor.fetchone()[0])
        assert lengths == [1, 6], lengths
        cursor.execute("CREATE TABLE seen (a int, b text)")
        cursor.executemany("INSERT INTO seen VALUES (%s, %s)", [(1, "x"), (2, None), (3, "é")])
        assert cursor.execute("SELECT a, b FROM seen ORDER BY a").fetchall() == [(1, "x"), (2, None), (3, "é")]
        cursor.execute("DROP TABLE seen")
        assert cursor.statusmessage == "DROP TABLE", cursor.statusmessage


def streaming(connection: psycopg.Connection) -> None:
    query = "SELECT layer, neuron, position, activation FROM toy.activations WHERE text = %s"
    with connection.cursor() as cursor:
        assert sum(1 for _ in cursor.stream(query, (TEXT,))) == 6 * 1024
        first = next(iter(cursor.stream("SELECT layer FROM toy.activations")))
        assert first in [(0,), (1,)], first
    # The corpus was not run to its end for that one row: the connection is free again.
    assert connection.execute("SELECT 1").fetchone() == (1,)


def columns(connection: psycopg.Connection) -> None:
    cursor = connection.execute("SELECT document, token, activation, w_in FROM toy.activations JOIN toy.weights USING (layer, neuron) LIMIT 0")
    assert [(column.name, column.type_code) for column in cursor.description] == [
        ("document", 20),
        ("token", 25),
        ("activation", 700),
        ("w_in", 1021),
    ]


def errors(connection: psycopg.Connection) -> None:
    for query, parameters, state in [
        ("SELECT * FROM nothing", (), "42P01"),
        ("SELECT activation('toy', %s, 0, 'x')", (9,), "22003"),
        ("SELECT activation(%s, 0, 0, 'x')", ("nothing",), "42P01"),
        ("SELEC 1", (), "42601"),
        ("SELECT 1 / %s::int", (0,), "22012"),
    ]:
        try:
            connection.execute(query, parameters)
        except psycopg.Error as error:
            assert error.sqlstate == state, (query, error.sqlstate, str(error))
        else:
            raise AssertionError(f"{query} is no error")
        assert connection.execute("SELECT 1").fetchone() == (1,)


def model(connection: psycopg.Connection) -> None:
    name, location = sql.Identifier("psycopg_llama"), os.environ["MODELS"] + "/llama"
    connection.execute(sql.SQL("CREATE EXTERNAL TABLE {} STORED AS MODEL LOCATION {}").format(name, sql.Literal(location)))
    assert connection.execute("SELECT count(*) FROM psycopg_llama").fetchone() == (432,)
    connection.execute(sql.SQL("DROP TABLE {}").format(name))


with psycopg.connect(autocommit=True) as connection:
    results(connection, binary=False)
    results(connection, binary=True)
    prepared(connection)
    streaming(connection)
    columns(connection)
    errors(connection)
    model(connection)

# Not autocommit: psycopg sends BEGIN and COMMIT itself, and ROLLBACK after an error.
with psycopg.connect() as connection:
    assert connection.execute("SELECT layers FROM models").fetchone() == (2,)
    connection.commit()
    try:
        connection.execute("SELECT * FROM nothing")
    except psycopg.errors.UndefinedTable:
        connection.rollback()
    assert connection.execute("SELECT 1").fetchone() == (1,)

print("ok")
