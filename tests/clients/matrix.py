"""What clients in Python can do: matrix.py PORT USER PASSWORD DATABASE CERTIFICATE [CLIENT]

Prints a line for each client and feature, with tabs between: ok, or the first line of the error. See `run`.
"""

import sys, time, threading, os, math, asyncio, decimal, datetime, uuid

PORT, USER, PW, DB = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
CA = sys.argv[5]
ONLY = sys.argv[6] if len(sys.argv) > 6 else None
HOST = "127.0.0.1"
OUT = []
SER = "SELECT x FROM generate_series(1,100000) AS g(x)"


def cell(client, feature, f, timeout=40):
    r = {}

    def run():
        try:
            v = f()
            r["v"] = "ok" if v in (None, True) else f"ok ({v})"
        except BaseException as e:
            r["v"] = f"FAIL {type(e).__name__}: {str(e).strip().splitlines()[0] if str(e).strip() else repr(e)}"[:300]

    t = threading.Thread(target=run, daemon=True)
    t.start()
    t.join(timeout)
    v = r.get("v", f"FAIL hang > {timeout}s")
    OUT.append((client, feature, v))
    print(f"{client}\t{feature}\t{v}", flush=True)


def want(c):
    return ONLY is None or ONLY == c


# ---------------------------------------------------------------- psycopg 3
if want("psycopg3"):
    import psycopg

    C = "psycopg3"

    def con(**k):
        k.setdefault("autocommit", True)
        return psycopg.connect(host=HOST, port=PORT, user=USER, password=PW, dbname=DB, **{"sslmode": "disable", **k})

    cell(C, "connect password", lambda: con().execute("select 1").fetchone() == (1,))
    cell(
        C,
        "connect TLS verify-full",
        lambda: (
            psycopg.connect(
                f"host=localhost hostaddr=127.0.0.1 port={PORT} user={USER} password={PW} dbname={DB} sslmode=verify-full sslrootcert={CA}"
            ).pgconn.ssl_in_use
        ),
    )
    cell(
        C,
        "channel_binding=require",
        lambda: (
            psycopg.connect(
                f"host=localhost hostaddr=127.0.0.1 port={PORT} user={USER} password={PW} dbname={DB} sslmode=require channel_binding=require"
            )
            and None
        ),
    )

    def intro():
        r = con().execute("select table_name from information_schema.tables where table_schema='toy'").fetchall()
        assert len(r) >= 2
        r = (
            con()
            .execute(
                "select column_name, data_type from information_schema.columns where table_schema='toy' and table_name='neurons' order by ordinal_position"
            )
            .fetchall()
        )
        assert r[0][0] == "layer", r[:2]

    cell(C, "introspect", intro)

    def params(binary):
        c = con()
        vals = [
            (1, "int4"),
            (2**40, "int8"),
            (1.5, "float8"),
            ("hé'llo", "text"),
            (True, "bool"),
            (b"\x00\xff", "bytea"),
            (decimal.Decimal("1.23"), "numeric"),
            (datetime.date(2024, 2, 29), "date"),
            (datetime.datetime(2024, 2, 29, 1, 2, 3, 4), "timestamp"),
            (uuid.UUID(int=5), "uuid"),
            ([1, 2, None], "int4[]"),
            (["a", None, 'q"x'], "text[]"),
            ([1.5, math.inf], "float8[]"),
            (None, "text"),
        ]
        bad = []
        for v, t in vals:
            fmt = "%b" if binary else "%t"
            try:
                r = c.execute(f"select {fmt}::{t}", (v,), binary=binary).fetchone()[0]
                if r != v:
                    bad.append(f"{t}: {v!r} -> {r!r}")
            except Exception as e:
                bad.append(f"{t}: {str(e).splitlines()[0]}")
                c = con()
        assert not bad, "; ".join(bad)

    cell(C, "parameters text", lambda: params(False))
    cell(C, "parameters binary", lambda: params(True))

    def arrays(binary):
        r = (
            con()
            .execute(
                "select array[1,null,3], array['a',null,'NULL','x\"y,{}'], array[1.5::float8,'Infinity'::float8,'NaN'::float8]",
                binary=binary,
            )
            .fetchone()
        )
        assert r[0] == [1, None, 3] and r[1] == ["a", None, "NULL", 'x"y,{}'], r
        assert r[2][1] == math.inf and math.isnan(r[2][2]), r
        r = (
            con()
            .execute("select tokens, activations from toy.examples where layer=1 and neuron=17 limit 1", binary=binary)
            .fetchone()
        )
        assert isinstance(r[0], list) and isinstance(r[1][0], float), r

    cell(C, "arrays+NULL text", lambda: arrays(False))
    cell(C, "arrays+NULL binary", lambda: arrays(True))
    cell(
        C,
        "2-D array",
        lambda: (
            con().execute("select array[array[1,2],array[3,4]]").fetchone()[0] == [[1, 2], [3, 4]]
            or (_ for _ in ()).throw(AssertionError(con().execute("select array[array[1,2],array[3,4]]").fetchone()[0]))
        ),
    )

    def named():
        c = con(autocommit=False)
        with c.cursor("nm") as cur:
            cur.itersize = 1000
            cur.execute(SER)
            n = sum(1 for _ in cur)
            assert n == 100000, n

    cell(C, "named cursor", named)

    def scroll():
        c = con(autocommit=False)
        with c.cursor("nm", scrollable=True) as cur:
            cur.execute(SER)
            cur.fetchmany(10)
            cur.scroll(-5)
            assert cur.fetchone()[0] == 6

    cell(C, "scrollable cursor", scroll)
    cell(C, "stream()", lambda: sum(1 for _ in con().cursor().stream(SER)) == 100000)

    def cancel():
        c = con()
        threading.Timer(0.5, c.cancel).start()
        t = time.time()
        try:
            c.execute("select pg_sleep(20)")
        except psycopg.errors.QueryCanceled:
            pass
        assert time.time() - t < 3
        c.execute("select 1")

    cell(C, "cancel", cancel)

    def err():
        c = con()
        for q, s in [
            ("selec", "42601"),
            ("select * from nix", "42P01"),
            ("select nix from toy.neurons", "42703"),
            ("select 1/0", "22012"),
            ("select 'x'::int", "22P02"),
            ("select nofunc(1)", "42883"),
        ]:
            try:
                c.execute(q)
                assert False, q
            except psycopg.Error as e:
                assert e.sqlstate == s, f"{q}: {e.sqlstate} not {s}: {e}"
        assert c.execute("select 1").fetchone()[0] == 1

    cell(C, "error SQLSTATE + reuse", err)

    def copyto(fmt):
        with (
            con()
            .cursor()
            .copy(f"copy (select layer, neuron from toy.neurons where layer=1 and neuron < 5) to stdout {fmt}") as cp
        ):
            d = b"".join(bytes(x) for x in cp)
        assert len(d) > 10

    cell(C, "COPY TO STDOUT text", lambda: copyto(""))
    cell(C, "COPY TO STDOUT csv", lambda: copyto("(format csv, header)"))
    cell(C, "COPY TO STDOUT binary", lambda: copyto("(format binary)"))

    def copyfrom():
        c = con()
        c.execute("create table cf3(a int, b text)")
        try:
            with c.cursor().copy("copy cf3 from stdin") as cp:
                cp.write_row((1, "x"))
            assert c.execute("select count(*) from cf3").fetchone()[0] == 1
        finally:
            con().execute("drop table cf3")

    cell(C, "COPY FROM STDIN", copyfrom)

    def txn():
        c = con(autocommit=False)
        c.execute("select 1")
        c.commit()
        c.execute("select 1")
        c.rollback()
        with c.transaction():
            c.execute("select 1")
            try:
                with c.transaction():
                    c.execute("select * from nix")
            except psycopg.Error:
                pass
            assert c.execute("select 2").fetchone()[0] == 2

    cell(C, "transaction+savepoint", txn)

    def rollback_undo():
        c = con()
        c.execute("create table rb3(a int)")
        try:
            c.execute("begin")
            c.execute("insert into rb3 values (1)")
            c.execute("rollback")
            n = c.execute("select count(*) from rb3").fetchone()[0]
            assert n == 0, f"row is there after ROLLBACK (count={n})"
        finally:
            con().execute("drop table rb3")

    cell(C, "ROLLBACK undoes INSERT", rollback_undo)

    def notice():
        c = con()
        got = []
        c.add_notice_handler(lambda d: got.append(d.message_primary))
        c.execute("commit")
        assert got, "no notice"

    cell(C, "notice", notice)

    def pipeline():
        c = con()
        with c.pipeline():
            rs = [c.execute("select %s::int", (i,)) for i in range(50)]
        assert [r.fetchone()[0] for r in rs] == list(range(50))

    cell(C, "pipeline", pipeline)

    def prep():
        c = con()
        for i in range(20):
            assert (
                c.execute("select layer from toy.neurons where layer=1 and neuron=%s", (i,), prepare=True).fetchone()[0]
                == 1
            )

    cell(C, "prepared", prep)
    cell(
        C,
        "executemany",
        lambda: con().cursor().executemany("select %s::int", [(i,) for i in range(20)], returning=True),
    )
    cell(C, "LISTEN/NOTIFY", lambda: con().execute("listen ch") and None)

    def to():
        c = con(options="-c statement_timeout=500")
        t = time.time()
        try:
            c.execute("select pg_sleep(20)")
            assert False
        except psycopg.errors.QueryCanceled:
            assert time.time() - t < 2

    cell(C, "statement_timeout via options", to)

    def multi():
        c = con()
        cur = c.execute("select 1; select 2; select 3")
        r = [cur.fetchone()[0]]
        while cur.nextset():
            r.append(cur.fetchone()[0])
        assert r == [1, 2, 3]

    cell(C, "multi-statement", multi)
    cell(C, "temp table", lambda: con().execute("create temp table tt3(a int)") and None)
    cell(
        C,
        "current_database()",
        lambda: (
            con().execute("select current_database(), current_user, inet_server_port(), pg_backend_pid()").fetchone()
            and None
        ),
    )

# ---------------------------------------------------------------- psycopg2
if want("psycopg2"):
    import psycopg2, psycopg2.extras, io

    C = "psycopg2"

    def con(**k):
        return psycopg2.connect(host=HOST, port=PORT, user=USER, password=PW, dbname=DB, **{"sslmode": "disable", **k})

    def q(c, s, a=None):
        cur = c.cursor()
        cur.execute(s, a)
        return cur

    cell(C, "connect password", lambda: q(con(), "select 1").fetchone() == (1,))
    cell(
        C,
        "connect TLS verify-full",
        lambda: (
            psycopg2.connect(
                f"host=localhost hostaddr=127.0.0.1 port={PORT} user={USER} password={PW} dbname={DB} sslmode=verify-full sslrootcert={CA}"
            )
            and None
        ),
    )

    def intro():
        assert q(con(), "select table_name from information_schema.tables where table_schema='toy'").fetchall()

    cell(C, "introspect", intro)

    def params():
        c = con()
        bad = []
        for v in [
            1,
            2**40,
            1.5,
            "hé'llo",
            True,
            decimal.Decimal("1.23"),
            datetime.date(2024, 2, 29),
            datetime.datetime(2024, 2, 29, 1, 2, 3, 4),
            [1, 2, None],
            ["a", None, 'q"x'],
            None,
        ]:
            try:
                r = q(c, "select %s", (v,)).fetchone()[0]
                if r != v and float(r or 0) != v:
                    bad.append(f"{v!r} -> {r!r}")
            except Exception as e:
                bad.append(f"{v!r}: {str(e).splitlines()[0]}")
                c = con()
        try:
            r = bytes(q(c, "select %s", (psycopg2.Binary(b"\x00\xff"),)).fetchone()[0])
            assert r == b"\x00\xff", r
        except Exception as e:
            bad.append(f"bytea: {str(e).splitlines()[0]}")
        assert not bad, "; ".join(bad)

    cell(C, "parameters text", params)

    def arrays():
        r = q(con(), "select array[1,null,3], array['a',null,'NULL','x\"y,{}']").fetchone()
        assert r == ([1, None, 3], ["a", None, "NULL", 'x"y,{}']), r
        r = q(con(), "select tokens, activations from toy.examples where layer=1 and neuron=17 limit 1").fetchone()
        assert isinstance(r[0], list) and isinstance(r[1][0], float), r

    cell(C, "arrays+NULL text", arrays)

    def named():
        c = con()
        cur = c.cursor("nm")
        cur.itersize = 1000
        cur.execute(SER)
        assert sum(1 for _ in cur) == 100000

    cell(C, "named cursor", named)

    def hold():
        c = con()
        cur = c.cursor("nmh", withhold=True)
        cur.execute(SER)
        c.commit()
        assert len(cur.fetchmany(10)) == 10
        cur.close()

    cell(C, "WITH HOLD cursor", hold)

    def scroll():
        c = con()
        cur = c.cursor("nm", scrollable=True)
        cur.execute(SER)
        cur.fetchmany(10)
        cur.scroll(-5)
        assert cur.fetchone()[0] == 6

    cell(C, "scrollable cursor", scroll)

    def cancel():
        c = con()
        threading.Timer(0.5, c.cancel).start()
        t = time.time()
        try:
            q(c, "select pg_sleep(20)")
            assert False
        except psycopg2.extensions.QueryCanceledError:
            pass
        assert time.time() - t < 3
        c.rollback()
        q(c, "select 1")

    cell(C, "cancel", cancel)

    def err():
        c = con()
        try:
            q(c, "select * from nix")
            assert False
        except psycopg2.Error as e:
            assert e.pgcode == "42P01", e.pgcode
        try:
            q(c, "select 1")
            assert False
        except psycopg2.Error as e:
            assert e.pgcode == "25P02", e.pgcode
        c.rollback()
        assert q(c, "select 1").fetchone()[0] == 1

    cell(C, "error SQLSTATE + reuse", err)

    def copyto():
        b = io.StringIO()
        con().cursor().copy_expert(
            "copy (select layer, neuron from toy.neurons where layer=1 and neuron<5) to stdout csv header", b
        )
        assert len(b.getvalue()) > 10

    cell(C, "COPY TO STDOUT csv", copyto)

    def txn():
        c = con()
        q(c, "select 1")
        c.commit()
        q(c, "savepoint a")
        try:
            q(c, "select * from nix")
        except psycopg2.Error:
            pass
        q(c, "rollback to savepoint a")
        assert q(c, "select 2").fetchone()[0] == 2
        c.rollback()

    cell(C, "transaction+savepoint", txn)

    def notice():
        c = con()
        c.autocommit = True
        q(c, "commit")
        assert c.notices

    cell(C, "notice", notice)
    cell(
        C,
        "executemany / execute_values",
        lambda: psycopg2.extras.execute_values(
            con().cursor(), "select * from (values %s) v(a)", [(i,) for i in range(20)]
        ),
    )

# ---------------------------------------------------------------- asyncpg
if want("asyncpg"):
    import asyncpg, ssl

    C = "asyncpg"

    async def con(**k):
        return await asyncpg.connect(host=HOST, port=PORT, user=USER, password=PW, database=DB, **{"ssl": False, **k})

    def go(f):
        return lambda: asyncio.run(asyncio.wait_for(f(), 30))

    async def f():
        c = await con()
        assert await c.fetchval("select 1") == 1

    cell(C, "connect password", go(f))

    async def f():
        ctx = ssl.create_default_context(cafile=CA)
        c = await con(ssl=ctx)
        assert await c.fetchval("select 1") == 1

    cell(C, "connect TLS verify-full", go(f))

    async def f():
        ctx = ssl.create_default_context(cafile=CA)
        c = await con(ssl=ctx, direct_tls=True)
        assert await c.fetchval("select 1") == 1

    cell(C, "direct TLS", go(f))

    async def f():
        c = await con()
        assert await c.fetch("select table_name from information_schema.tables where table_schema=$1", "toy")

    cell(C, "introspect", go(f))

    async def f():
        bad = []
        c = await con()
        for v, t in [
            (1, "int4"),
            (2**40, "int8"),
            (1.5, "float8"),
            ("hé'llo", "text"),
            (True, "bool"),
            (b"\x00\xff", "bytea"),
            (decimal.Decimal("1.23"), "numeric"),
            (datetime.date(2024, 2, 29), "date"),
            (datetime.datetime(2024, 2, 29, 1, 2, 3, 4), "timestamp"),
            (datetime.datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=datetime.timezone.utc), "timestamptz"),
            (datetime.timedelta(seconds=5), "interval"),
            (datetime.time(1, 2, 3), "time"),
            (uuid.UUID(int=5), "uuid"),
            ('{"a": 1}', "json"),
            ('{"a": 1}', "jsonb"),
            ([1, 2, None], "int4[]"),
            (["a", None, 'q"x'], "text[]"),
            ([1.5, math.inf], "float8[]"),
            ([True, None], "bool[]"),
            ([uuid.UUID(int=5)], "uuid[]"),
            (None, "text"),
        ]:
            try:
                r = await c.fetchval(f"select $1::{t}", v)
                if r != v:
                    bad.append(f"{t}: {v!r} -> {r!r}")
            except Exception as e:
                bad.append(f"{t}: {str(e).splitlines()[0]}")
                c = await con()
        assert not bad, "; ".join(bad)

    cell(C, "parameters binary", go(f))

    async def f():
        c = await con()
        r = await c.fetchrow("select array[1,null,3], array['a',null,'NULL','x\"y,{}']")
        assert tuple(r) == ([1, None, 3], ["a", None, "NULL", 'x"y,{}']), r
        r = await c.fetchrow("select tokens, activations from toy.examples where layer=1 and neuron=17 limit 1")
        assert isinstance(r[0], list) and isinstance(r[1][0], float)

    cell(C, "arrays+NULL binary", go(f))

    async def f():
        c = await con()
        r = await c.fetchval("select graph from toy.graphs where layer=1 and neuron=17 limit 1")
        return type(r[0]).__name__ if isinstance(r, list) else type(r).__name__

    cell(C, "graph (record[])", go(f))

    async def f():
        c = await con()
        r = await c.fetchval("select array[array[1,2],array[3,4]]")
        assert r == [[1, 2], [3, 4]], r

    cell(C, "2-D array", go(f))

    async def f():
        c = await con()
        n = 0
        async with c.transaction():
            async for _ in c.cursor(SER, prefetch=1000):
                n += 1
        assert n == 100000

    cell(C, "cursor paging", go(f))

    async def f():
        c = await con()
        t = time.time()
        try:
            await c.fetchval("select pg_sleep(20.0)", timeout=0.5)
            assert False
        except asyncio.TimeoutError:
            pass
        assert await c.fetchval("select 1") == 1
        assert time.time() - t < 3

    cell(C, "timeout -> cancel -> reuse", go(f))

    async def f():
        c = await con()
        try:
            await c.fetch("select * from nix")
            assert False
        except asyncpg.UndefinedTableError:
            pass
        assert await c.fetchval("select 1") == 1

    cell(C, "error SQLSTATE + reuse", go(f))

    async def f():
        import io

        b = io.BytesIO()
        c = await con()
        await c.copy_from_query(
            "select layer, neuron from toy.neurons where layer=1 and neuron<5", output=b, format="csv"
        )
        assert b.tell() > 5

    cell(C, "COPY TO STDOUT csv", go(f))

    async def f():
        c = await con()
        await c.execute("create table cfa(a int, b text)")
        try:
            await c.copy_records_to_table("cfa", records=[(1, "x")])
        finally:
            await (await con()).execute("drop table cfa")

    cell(C, "COPY FROM (records)", go(f))

    async def f():
        c = await con()
        async with c.transaction():
            try:
                async with c.transaction():
                    await c.fetch("select * from nix")
            except asyncpg.PostgresError:
                pass
            assert await c.fetchval("select 2") == 2
        async with c.transaction(isolation="repeatable_read", readonly=True):
            await c.fetchval("select 1")

    cell(C, "transaction+savepoint", go(f))

    async def f():
        c = await con()
        got = []
        c.add_log_listener(lambda _, m: got.append(m))
        await c.execute("commit")
        await asyncio.sleep(0.1)
        assert got

    cell(C, "notice", go(f))

    async def f():
        async with asyncpg.create_pool(
            host=HOST, port=PORT, user=USER, password=PW, database=DB, min_size=2, max_size=4, ssl=False
        ) as p:
            for _ in range(10):
                async with p.acquire() as c:
                    await c.fetchval("select 1")

    cell(C, "pool acquire/release (reset)", go(f))

    async def f():
        c = await con()
        await c.execute("create table ema(a int, b text)")
        try:
            await c.executemany("insert into ema values ($1,$2)", [(i, str(i)) for i in range(50)])
            assert await c.fetchval("select count(*) from ema") == 50
        finally:
            await c.execute("drop table ema")

    cell(C, "executemany INSERT", go(f))

    async def f():
        c = await con()
        await c.add_listener("ch", lambda *a: None)

    cell(C, "LISTEN/NOTIFY", go(f))

# ---------------------------------------------------------------- pg8000
if want("pg8000"):
    import pg8000.dbapi, pg8000.native, ssl

    C = "pg8000"

    def con(**k):
        return pg8000.native.Connection(USER, host=HOST, port=PORT, password=PW, database=DB, **k)

    cell(C, "connect password", lambda: con().run("select 1") == [[1]])
    cell(
        C,
        "connect TLS verify-full",
        lambda: con(ssl_context=ssl.create_default_context(cafile=CA)).run("select 1") == [[1]],
    )
    cell(
        C,
        "introspect",
        lambda: con().run("select table_name from information_schema.tables where table_schema=:s", s="toy") and None,
    )

    def params():
        bad = []
        c = con()
        for v, t in [
            (1, "int4"),
            (2**40, "int8"),
            (1.5, "float8"),
            ("hé'llo", "text"),
            (True, "bool"),
            (b"\x00\xff", "bytea"),
            (decimal.Decimal("1.23"), "numeric"),
            (datetime.date(2024, 2, 29), "date"),
            (datetime.datetime(2024, 2, 29, 1, 2, 3, 4), "timestamp"),
            (uuid.UUID(int=5), "uuid"),
            ([1, 2, None], "int4[]"),
            (["a", None, 'q"x'], "text[]"),
            (None, "text"),
        ]:
            try:
                r = c.run(f"select cast(:v as {t})", v=v)[0][0]
                if r != v:
                    bad.append(f"{t}: {v!r} -> {r!r}")
            except Exception as e:
                bad.append(f"{t}: {str(e)[:100]}")
                c = con()
        assert not bad, "; ".join(bad)

    cell(C, "parameters text", params)

    def arrays():
        r = con().run("select array[1,null,3], array['a',null,'NULL','x\"y,{}']")[0]
        assert r == [[1, None, 3], ["a", None, "NULL", 'x"y,{}']], r
        r = con().run("select tokens, activations from toy.examples where layer=1 and neuron=17 limit 1")[0]
        assert isinstance(r[0], list) and isinstance(r[1][0], float), r

    cell(C, "arrays+NULL text", arrays)

    def err():
        c = con()
        try:
            c.run("select * from nix")
            assert False
        except pg8000.native.DatabaseError as e:
            assert e.args[0]["C"] == "42P01", e
        assert c.run("select 1") == [[1]]

    cell(C, "error SQLSTATE + reuse", err)

    def copyto():
        import io

        b = io.BytesIO()
        con().run(
            "copy (select layer, neuron from toy.neurons where layer=1 and neuron<5) to stdout with (format csv)",
            stream=b,
        )
        assert b.tell() > 5

    cell(C, "COPY TO STDOUT csv", copyto)

    def txn():
        c = con()
        c.run("start transaction")
        c.run("savepoint a")
        try:
            c.run("select * from nix")
        except Exception:
            pass
        c.run("rollback to savepoint a")
        assert c.run("select 2") == [[2]]
        c.run("commit")

    cell(C, "transaction+savepoint", txn)

    def notice():
        c = con()
        c.run("commit")
        assert len(c.notices)

    cell(C, "notice", notice)

    def prep():
        c = con()
        p = c.prepare("select cast(:v as int)")
        assert [p.run(v=i)[0][0] for i in range(5)] == list(range(5))
        p.close()

    cell(C, "prepared", prep)
    cell(
        C,
        "dbapi",
        lambda: (
            pg8000.dbapi.connect(user=USER, host=HOST, port=PORT, password=PW, database=DB)
            .cursor()
            .execute("select %s", (1,))
            and None
        ),
    )

# ---------------------------------------------------------------- SQLAlchemy, pandas, polars, ibis
URLS = {d: f"postgresql+{d}://{USER}:{PW}@{HOST}:{PORT}/{DB}" for d in ("psycopg", "psycopg2", "pg8000", "asyncpg")}
if want("sqlalchemy"):
    import sqlalchemy as sa

    for d in ("psycopg", "psycopg2", "pg8000"):
        C = f"SQLAlchemy+{d}"
        eng = sa.create_engine(URLS[d])
        cell(C, "connect password", lambda: eng.connect().execute(sa.text("select 1")).scalar() == 1)

        def intro():
            i = sa.inspect(eng)
            assert "toy" in i.get_schema_names()
            assert "neurons" in i.get_table_names("toy") + i.get_view_names("toy")
            cols = i.get_columns("neurons", "toy")
            assert {"layer", "neuron"} <= {c["name"] for c in cols}
            i.get_pk_constraint("neurons", "toy")
            i.get_foreign_keys("neurons", "toy")
            i.get_indexes("neurons", "toy")
            i.get_unique_constraints("neurons", "toy")
            i.get_check_constraints("neurons", "toy")
            i.get_table_comment("neurons", "toy")
            i.get_enums()
            i.get_sequence_names()
            i.get_view_names()
            i.get_materialized_view_names()
            i.get_temp_table_names()
            return ", ".join(f"{c['name']} {c['type']}" for c in cols[:4])

        cell(C, "introspect (inspector, all)", intro)

        def refl():
            m = sa.MetaData()
            m.reflect(eng, schema="toy", views=True)
            return f"{len(m.tables)} tables"

        cell(C, "metadata.reflect", refl)

        def ddl():
            m = sa.MetaData()
            t = sa.Table(
                "sa_t",
                m,
                sa.Column("id", sa.Integer, primary_key=True),
                sa.Column("a", sa.String(20)),
                sa.Column("f", sa.Float),
                sa.Column("d", sa.DateTime),
                sa.Column("n", sa.Numeric(10, 2)),
            )
            try:
                m.create_all(eng)
                with eng.begin() as c:
                    c.execute(
                        t.insert(),
                        [
                            {
                                "id": 1,
                                "a": "x",
                                "f": 1.5,
                                "d": datetime.datetime(2024, 1, 1),
                                "n": decimal.Decimal("1.25"),
                            },
                            {"id": 2, "a": None, "f": None, "d": None, "n": None},
                        ],
                    )
                with eng.connect() as c:
                    r = c.execute(sa.select(t).order_by(t.c.id)).all()
                    assert len(r) == 2 and r[0].n == decimal.Decimal("1.25"), r
                with eng.begin() as c:
                    c.execute(t.update().where(t.c.id == 1).values(a="z"))
                    c.execute(t.delete().where(t.c.id == 2))
            finally:
                m.drop_all(eng)

        cell(C, "DDL+DML via core", ddl)

        def stream():
            with eng.connect().execution_options(stream_results=True, max_row_buffer=1000) as c:
                assert sum(1 for _ in c.execute(sa.text(SER))) == 100000

        cell(C, "stream_results", stream)

        def sp():
            with eng.connect() as c:
                with c.begin():
                    try:
                        with c.begin_nested():
                            c.execute(sa.text("select * from nix"))
                    except sa.exc.DBAPIError:
                        pass
                    assert c.execute(sa.text("select 2")).scalar() == 2

        cell(C, "transaction+savepoint", sp)

        def iso():
            with eng.connect().execution_options(isolation_level="SERIALIZABLE") as c:
                assert c.get_isolation_level() == "SERIALIZABLE", c.get_isolation_level()

        cell(C, "isolation level", iso)
        eng.dispose()
    C = "SQLAlchemy+asyncpg"

    async def f():
        from sqlalchemy.ext.asyncio import create_async_engine

        e = create_async_engine(URLS["asyncpg"])
        async with e.connect() as c:
            assert (await c.execute(sa.text("select 1"))).scalar() == 1
        async with e.connect() as c:
            r = await c.run_sync(lambda s: sa.inspect(s).get_columns("neurons", "toy"))
            assert r
        await e.dispose()

    cell(C, "connect+introspect", lambda: asyncio.run(f()))
if want("pandas"):
    import pandas as pd, sqlalchemy as sa

    eng = sa.create_engine(URLS["psycopg"])
    C = "pandas"
    cell(
        C,
        "read_sql",
        lambda: (
            len(
                pd.read_sql(
                    sa.text("select layer, neuron, kurtosis from toy.neurons where layer = :l"), eng, params={"l": 1}
                )
            )
            == 512
        ),
    )
    cell(C, "read_sql_table", lambda: len(pd.read_sql_table("neurons", eng, schema="toy")) == 1024)

    def tosql():
        try:
            pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [1.5, float("nan")]}).to_sql(
                "pdt", eng, index=False, if_exists="replace"
            )
            r = pd.read_sql("select * from pdt order by a", eng)
            assert len(r) == 2 and r["b"][1] is None or pd.isna(r["b"][1])
        finally:
            with eng.begin() as c:
                c.execute(sa.text("drop table if exists pdt"))

    cell(C, "to_sql", tosql)
if want("polars"):
    import polars as pl, sqlalchemy as sa

    C = "polars"
    uri = f"postgresql://{USER}:{PW}@{HOST}:{PORT}/{DB}"
    cell(
        C,
        "read_database (SQLAlchemy)",
        lambda: (
            pl.read_database(
                "select layer, neuron, kurtosis from toy.neurons where layer=1", sa.create_engine(URLS["psycopg"])
            ).height
            == 512
        ),
    )
    cell(
        C,
        "read_database (arrays)",
        lambda: str(
            pl.read_database(
                "select tokens, activations from toy.examples where layer=1 and neuron=17",
                sa.create_engine(URLS["psycopg"]),
            ).schema
        ),
    )
    cell(
        C,
        "read_database_uri connectorx",
        lambda: (
            pl.read_database_uri(
                "select layer, neuron, kurtosis from toy.neurons where layer=1", uri, engine="connectorx"
            ).height
            == 512
        ),
    )
    cell(
        C,
        "connectorx arrays",
        lambda: str(
            pl.read_database_uri(
                "select tokens, activations from toy.examples where layer=1 and neuron=17", uri, engine="connectorx"
            ).schema
        ),
    )
    cell(
        C,
        "connectorx partition_on",
        lambda: (
            pl.read_database_uri(
                "select neuron, kurtosis from toy.neurons where layer=1",
                uri,
                engine="connectorx",
                partition_on="neuron",
                partition_num=3,
            ).height
            == 512
        ),
    )
    cell(
        C,
        "read_database_uri adbc",
        lambda: (
            pl.read_database_uri(
                "select layer, neuron, kurtosis from toy.neurons where layer=1", uri, engine="adbc"
            ).height
            == 512
        ),
    )
if want("adbc"):
    import adbc_driver_postgresql.dbapi as ad

    C = "adbc"
    uri = f"postgresql://{USER}:{PW}@{HOST}:{PORT}/{DB}"

    def aq(s, *p):
        with ad.connect(uri) as c, c.cursor() as cur:
            cur.execute(s, *p)
            return cur.fetch_arrow_table()

    cell(
        C, "connect+query", lambda: aq("select layer, neuron, kurtosis from toy.neurons where layer=1").num_rows == 512
    )

    def aqn(s):
        with ad.connect(uri) as c, c.cursor() as cur:
            cur.adbc_statement.set_options(**{"adbc.postgresql.use_copy": "false"})
            cur.execute(s)
            return cur.fetch_arrow_table()

    cell(
        C,
        "query use_copy=false",
        lambda: aqn("select layer, neuron, kurtosis from toy.neurons where layer=1").num_rows == 512,
    )
    cell(
        C,
        "arrays use_copy=false",
        lambda: str(aqn("select tokens, activations from toy.examples where layer=1 and neuron=17").schema),
    )
    cell(C, "parameters", lambda: aq("select neuron from toy.neurons where layer=$1", (1,)).num_rows == 512)
    cell(C, "get_objects", lambda: ad.connect(uri).adbc_get_objects(depth="all").read_all().num_rows)
    cell(
        C,
        "get_table_schema",
        lambda: str(ad.connect(uri).adbc_get_table_schema("neurons", db_schema_filter="toy"))[:60],
    )

    def ingest():
        import pyarrow as pa

        with ad.connect(uri, autocommit=True) as c, c.cursor() as cur:
            cur.adbc_ingest("adt", pa.table({"a": [1, 2]}), mode="create")

    cell(C, "ingest", ingest)
if want("ibis"):
    import ibis

    C = "ibis"

    def ib():
        c = ibis.postgres.connect(user=USER, password=PW, host=HOST, port=PORT, database=DB)
        return c

    cell(C, "connect", lambda: ib() and None)
    cell(C, "list_tables", lambda: len(ib().list_tables(database="toy")))
    cell(
        C,
        "table().execute",
        lambda: (
            len(
                ib()
                .table("neurons", database="toy")
                .filter(lambda t: t.layer == 1)
                .select("layer", "neuron", "kurtosis")
                .execute()
            )
            == 512
        ),
    )
    cell(
        C,
        "group_by",
        lambda: (
            len(
                ib()
                .table("neurons", database="toy")
                .group_by("layer")
                .aggregate(k=lambda t: t.kurtosis.mean())
                .execute()
            )
            == 2
        ),
    )
    cell(C, "sql()", lambda: len(ib().sql("select layer, neuron from toy.neurons where layer=1").execute()) == 512)
def odbc_driver():
    """Whether psqlODBC is installed, which is a package of the system."""
    try:
        import pyodbc
    except ImportError:
        return False
    return "PostgreSQL Unicode" in pyodbc.drivers()


if want("pyodbc") and odbc_driver():
    import pyodbc

    C = "psqlODBC"

    def con(extra="", **k):
        return pyodbc.connect(
            f"Driver={{PostgreSQL Unicode}};Server={HOST};Port={PORT};Uid={USER};Pwd={PW};Database={DB};{extra}",
            autocommit=True,
            **k,
        )

    cell(C, "connect password", lambda: con().execute("select 1").fetchone()[0] in (1, "1"))
    cell(C, "connect TLS require", lambda: con("sslmode=require").execute("select 1").fetchone()[0] in (1, "1"))
    cell(C, "introspect tables()", lambda: len(list(con().cursor().tables(schema="toy"))))
    cell(C, "introspect columns()", lambda: len(list(con().cursor().columns(table="neurons", schema="toy"))))
    cell(
        C,
        "primaryKeys/statistics",
        lambda: (
            (
                list(con().cursor().primaryKeys("neurons", schema="toy")),
                list(con().cursor().statistics("neurons", schema="toy")),
            )
            and None
        ),
    )
    cell(C, "getTypeInfo", lambda: len(list(con().cursor().getTypeInfo())))
    cell(C, "procedures()", lambda: len(list(con().cursor().procedures())))

    def params():
        bad = []
        c = con()
        for v, t in [
            (1, "int4"),
            (2**40, "int8"),
            (1.5, "float8"),
            ("hello", "text"),
            (True, "bool"),
            (decimal.Decimal("1.23"), "numeric"),
            (datetime.date(2024, 2, 29), "date"),
            (datetime.datetime(2024, 2, 29, 1, 2, 3, 4), "timestamp"),
            (b"\x00\xff", "bytea"),
            (None, "text"),
        ]:
            try:
                r = c.execute(f"select cast(? as {t})", v).fetchone()[0]
                if r != v and str(r) not in (str(v), str(int(v)) if isinstance(v, bool) else ""):
                    bad.append(f"{t}: {v!r} -> {r!r}")
            except Exception as e:
                bad.append(f"{t}: {str(e)[:150]}")
                c = con()
        assert not bad, "; ".join(bad)

    cell(C, "parameters", params)
    cell(
        C,
        "fetch paging (UseDeclareFetch)",
        lambda: sum(1 for _ in con("UseDeclareFetch=1;Fetch=1000;").execute(SER)) == 100000,
    )
    cell(
        C,
        "arrays",
        lambda: str(con().execute("select tokens from toy.examples where layer=1 and neuron=17 limit 1").fetchone()[0])[
            :30
        ],
    )

    def err():
        c = con()
        try:
            c.execute("select * from nix")
            assert False
        except pyodbc.Error as e:
            s = e.args[0]
        assert c.execute("select 1").fetchone()
        return s

    cell(C, "error + reuse", err)

    def to():
        c = con()
        c.timeout = 1
        t = time.time()
        try:
            c.execute("select pg_sleep(10)")
            assert False
        except pyodbc.Error:
            assert time.time() - t < 4

    cell(C, "query timeout", to)

    def txn():
        c = con()
        c.autocommit = False
        c.execute("select 1")
        c.commit()
        c.execute("select 1")
        c.rollback()

    cell(C, "transaction", txn)
if want("jupysql"):
    C = "jupysql"

    def jq():
        from IPython.core.interactiveshell import InteractiveShell

        s = InteractiveShell.instance()
        s.run_line_magic("load_ext", "sql")
        s.run_line_magic("sql", URLS["psycopg"])
        r = s.run_cell_magic("sql", "", "select layer, neuron, kurtosis from toy.neurons where layer=1")
        n = len(r.DataFrame())
        assert n == 512
        s.run_line_magic("sqlcmd", "tables --schema toy")
        s.run_line_magic("sqlcmd", "columns --table neurons --schema toy")
        s.run_line_magic("sqlcmd", "profile --table neurons --schema toy")

    cell(C, "%%sql + sqlcmd", jq)
os._exit(0)
