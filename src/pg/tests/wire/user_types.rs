//! Tests of types that users make. Answers are those of PostgreSQL 15.

use bytes::Bytes;
use futures::{SinkExt, TryStreamExt};
use tokio_postgres::Client;
use tokio_postgres::types::Kind;

use crate::privileges::Lab;
use crate::raw::Raw;
use crate::{Running, fails, lines, simple};

/// Creates a type and a table with some values.
async fn fill(client: &Client) {
    client
        .batch_execute(
            "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy'); \
             CREATE TABLE t (id int, m mood, n mood DEFAULT 'ok'); \
             INSERT INTO t VALUES (1, 'happy'), (2, 'sad'), (3, NULL), (4, 'ok')",
        )
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn types_are_created_and_dropped() {
    let server = Running::start().await;
    let client = server.connect().await;
    fill(&client).await;
    client.batch_execute("CREATE TYPE other AS ENUM (); CREATE TABLE of_none (a int)").await.unwrap();
    for (statement, sqlstate) in [
        ("CREATE TYPE mood AS ENUM ('a')", "42710"),
        ("CREATE TYPE t AS ENUM ('a')", "42710"),
        ("CREATE TYPE x AS ENUM ('a', 'a')", "23505"),
        ("CREATE TYPE x AS ENUM ('0123456789012345678901234567890123456789012345678901234567890123')", "42602"),
        ("CREATE TYPE x AS ENUM (a)", "42601"),
        ("CREATE TYPE nos.x AS ENUM ('a')", "3F000"),
        ("CREATE TYPE x AS (a int, a text)", "42701"),
        ("CREATE TYPE x AS (a numeric)", "0A000"),
        ("CREATE TYPE x AS (a varchar(3))", "0A000"),
        ("CREATE TYPE x AS (a nosuch)", "0A000"),
        ("CREATE TYPE x AS RANGE (subtype = int)", "0A000"),
        ("CREATE TYPE x", "0A000"),
        ("CREATE TABLE mood (a int)", "42710"),
        ("CREATE TABLE IF NOT EXISTS mood (a int)", "42710"),
        ("CREATE VIEW mood AS SELECT 1 AS a", "42710"),
        ("CREATE TABLE x (a mood) AS SELECT 'x'", "42601"),
        ("CREATE TABLE x (a nosuch)", "42704"),
        ("CREATE TABLE x (a mood DEFAULT 'zz')", "22P02"),
        ("CREATE TABLE x (a mood[][])", "0A000"),
        ("CREATE TABLE x (a mood[] PRIMARY KEY)", "0A000"),
        ("CREATE TABLE x (a mood, b jsonb, PRIMARY KEY (a, b))", "0A000"),
        ("CREATE TABLE x (a mood[] DEFAULT '{zz}')", "22P02"),
        ("SELECT 'x'::nosuch", "42704"),
        ("SELECT 'x'::nosuch[]", "42704"),
        ("SELECT * FROM mood", "42P01"),
        ("CREATE VIEW x AS SELECT 1::mood AS a", "42846"),
        ("DROP TABLE mood", "42P01"),
        ("DROP TYPE mood", "2BP01"),
        ("DROP TYPE mood CASCADE", "0A000"),
        ("DROP TYPE of_none", "2BP01"),
        ("DROP TYPE text", "2BP01"),
        ("DROP TYPE nothing", "42704"),
        ("DROP TYPE nos.x", "3F000"),
        ("DROP TYPE other, nothing", "42704"),
        ("ALTER TYPE nosuch ADD VALUE 'z'", "42704"),
        ("ALTER TYPE mood ADD VALUE 'ok'", "42710"),
        ("ALTER TYPE mood ADD VALUE 'z' AFTER 'nono'", "22023"),
        ("ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'", "0A000"),
        ("ALTER TYPE mood RENAME TO moods", "0A000"),
        ("BEGIN; ALTER TYPE mood ADD VALUE 'z'", "25001"),
        ("ROLLBACK; SELECT 'z'::mood", "22P02"),
    ] {
        assert_eq!(fails(&client, statement).await, sqlstate, "{statement}");
    }
    client.batch_execute("DROP TYPE IF EXISTS nothing, nos.x, other; DROP TABLE t; DROP TYPE mood").await.unwrap();
    assert_eq!(simple(&client, "SELECT count(*) FROM pg_type WHERE oid >= 16384").await, ["0"]);
    assert_eq!(fails(&client, "SELECT 'ok'::mood").await, "42704");
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_bring_types_back() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.batch_execute("CREATE TYPE kept AS ENUM ('a')").await.unwrap();
    client.batch_execute("BEGIN; CREATE TYPE mood AS ENUM ('b')").await.unwrap();
    client
        .batch_execute("CREATE TABLE t (m mood); INSERT INTO t VALUES ('b'); DROP TYPE kept; ROLLBACK")
        .await
        .unwrap();
    assert_eq!(simple(&client, "SELECT 'a'::kept").await, ["a"]);
    assert_eq!(fails(&client, "SELECT 'b'::mood").await, "42704");
    client.batch_execute("BEGIN; SAVEPOINT s; CREATE TYPE mood AS ENUM ('c'); ROLLBACK TO s; COMMIT").await.unwrap();
    assert_eq!(fails(&client, "SELECT 'c'::mood").await, "42704");
    // Others find it.
    client.batch_execute("CREATE TYPE mood AS ENUM ('d')").await.unwrap();
    let other = server.connect().await;
    assert_eq!(simple(&other, "SELECT 'd'::public.mood").await, ["d"]);
    // One of the session alone.
    client.batch_execute("CREATE TYPE pg_temp.mine AS ENUM ('e'); CREATE TEMP TABLE own (a mine)").await.unwrap();
    client.batch_execute("INSERT INTO own VALUES ('e')").await.unwrap();
    assert_eq!(simple(&client, "SELECT a FROM own WHERE a = 'e'").await, ["e"]);
    assert_eq!(fails(&other, "SELECT 'e'::mine").await, "42704");
    assert_eq!(fails(&client, "CREATE TABLE lasting (a mine)").await, "0A000");
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_hold_labels() {
    let server = Running::start().await;
    let client = server.connect().await;
    fill(&client).await;
    for (statement, sqlstate) in [
        ("INSERT INTO t VALUES (1, 'bad')", "22P02"),
        ("INSERT INTO t VALUES (1, 'Sad')", "22P02"),
        ("INSERT INTO t VALUES (1, 'ok'::text)", "42804"),
        ("INSERT INTO t VALUES (1, 2)", "42804"),
        ("INSERT INTO t SELECT 1, 'bad'", "22P02"),
        ("INSERT INTO t SELECT 1, m::text FROM t", "42804"),
        ("UPDATE t SET m = 'zz'", "22P02"),
        ("UPDATE t SET m = id", "42804"),
        ("UPDATE t SET id = m", "42804"),
    ] {
        assert_eq!(fails(&client, statement).await, sqlstate, "{statement}");
    }
    client.batch_execute("CREATE TABLE texts (a text); INSERT INTO texts SELECT m FROM t WHERE id = 1").await.unwrap();
    assert_eq!(lines(&client, "INSERT INTO t VALUES (5, 'happy') RETURNING m").await, ["happy"]);
    let changed = "UPDATE t SET m = CASE WHEN id = 1 THEN 'sad' ELSE m END WHERE id < 4 RETURNING id, m";
    let mut found = lines(&client, changed).await;
    found.sort();
    assert_eq!(found, ["1|sad", "2|sad", "3|NULL"]);
    client.batch_execute("DELETE FROM t WHERE m = 'sad'; INSERT INTO t SELECT 6, 'sad'::mood").await.unwrap();
    assert_eq!(
        lines(&client, "SELECT * FROM t ORDER BY m, id").await,
        ["6|sad|ok", "4|ok|ok", "5|happy|ok", "3|NULL|ok"]
    );
    client.batch_execute("CREATE TABLE keyed (m mood PRIMARY KEY, CHECK (m < 'happy'))").await.unwrap();
    client.batch_execute("INSERT INTO keyed VALUES ('sad')").await.unwrap();
    assert_eq!(fails(&client, "INSERT INTO keyed VALUES ('sad')").await, "23505");
    assert_eq!(fails(&client, "INSERT INTO keyed VALUES ('happy')").await, "23514");
    assert_eq!(fails(&client, "CREATE TABLE x (a text REFERENCES keyed (m))").await, "42804");
    client
        .batch_execute("CREATE TABLE child (a mood REFERENCES keyed (m)); INSERT INTO child VALUES ('sad')")
        .await
        .unwrap();
    assert_eq!(fails(&client, "INSERT INTO child VALUES ('ok')").await, "23503");
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_hold_arrays_of_labels() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.batch_execute("CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')").await.unwrap();
    client.batch_execute("CREATE TABLE t (id int, a mood[], b mood[] DEFAULT '{ok}', c text[])").await.unwrap();
    client.batch_execute("INSERT INTO t VALUES (1, '{sad,NULL}'), (2, NULL), (3, '{}')").await.unwrap();
    client.batch_execute("INSERT INTO t (id, a, c) SELECT 4, ARRAY['happy']::mood[], '{x}'").await.unwrap();
    let mut raw = Raw::connect(server.port, "ada");
    let insert = "INSERT INTO t (id, a) VALUES (5, $1::mood[])";
    assert_eq!(raw.query_with(insert, 0, 0, b"{ok,sad}").sqlstate(), None);
    assert_eq!(raw.query_with(insert, 0, 0, b"{bad}").sqlstate().as_deref(), Some("22P02"));
    let all =
        ["1|{sad,NULL}|{ok}|NULL", "2|NULL|{ok}|NULL", "3|{}|{ok}|NULL", "4|{happy}|{ok}|{x}", "5|{ok,sad}|{ok}|NULL"];
    assert_eq!(lines(&client, "SELECT * FROM t ORDER BY id").await, all);
    client.batch_execute("UPDATE t SET b = '{happy,sad}' WHERE id = 1; UPDATE t SET c = a WHERE id = 5").await.unwrap();
    for (query, expected) in [
        ("SELECT b, c FROM t WHERE id IN (1, 5) ORDER BY id", "{happy,sad}|NULL {ok}|{ok,sad}"),
        ("SELECT id FROM t WHERE 'sad' = ANY(a) ORDER BY id", "1 5"),
        ("SELECT id FROM t WHERE a = '{happy}'", "4"),
        ("SELECT a[1], pg_typeof(a[1]) FROM t WHERE id = 5", "ok|mood"),
        ("SELECT id FROM t WHERE a[1] < 'happy' ORDER BY a[1]", "1 5"),
        ("SELECT cardinality(a), a::text FROM t WHERE id = 5", "2|{ok,sad}"),
    ] {
        assert_eq!(lines(&client, query).await.join(" "), expected, "{query}");
    }
    for (statement, sqlstate) in [
        ("INSERT INTO t (a) VALUES ('{bad}')", "22P02"),
        ("INSERT INTO t (a) VALUES (ARRAY['sad'])", "42804"),
        ("UPDATE t SET a = c", "42804"),
        ("SELECT a FROM t ORDER BY a", "0A000"),
        ("SELECT id FROM t WHERE a < b", "0A000"),
        ("SELECT max(a) FROM t", "0A000"),
        ("DROP TYPE mood", "2BP01"),
    ] {
        assert_eq!(fails(&client, statement).await, sqlstate, "{statement}");
    }
    let attributes = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute \
                      WHERE attrelid = 't'::regclass AND attnum > 0 ORDER BY attnum";
    assert_eq!(simple(&client, attributes).await, ["integer", "mood[]", "mood[]", "text[]"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_have_their_order() {
    let server = Running::start().await;
    let client = server.connect().await;
    fill(&client).await;
    client.batch_execute("CREATE VIEW v AS SELECT m, 'sad'::mood AS s FROM t WHERE m >= 'ok'").await.unwrap();
    for (query, expected) in [
        ("SELECT m, count(*) FROM t GROUP BY m ORDER BY m DESC", "NULL|1 happy|1 ok|1 sad|1"),
        ("SELECT DISTINCT m FROM t ORDER BY m", "sad ok happy NULL"),
        ("SELECT a.id, b.id FROM t a JOIN t b ON a.m < b.m ORDER BY 1, 2", "2|1 2|4 4|1"),
        ("SELECT a.id FROM t a JOIN t b ON a.m = b.n", "4 4 4 4"),
        ("SELECT min(m), max(m) FROM t", "sad|happy"),
        ("SELECT min(m), max(m) FROM t WHERE false", "NULL|NULL"),
        ("SELECT max(m) FILTER (WHERE id > 1), count(DISTINCT m) FROM t", "ok|3"),
        ("SELECT n, max(m) FROM t GROUP BY n HAVING max(m) > 'ok'", "ok|happy"),
        ("SELECT id FROM t WHERE m IN (SELECT n FROM t)", "4"),
        ("SELECT id FROM t WHERE m IN ('sad', 'happy') ORDER BY id", "1 2"),
        ("SELECT id FROM t WHERE m BETWEEN 'ok' AND 'happy' ORDER BY id", "1 4"),
        ("SELECT id FROM t WHERE m IS DISTINCT FROM 'ok' ORDER BY id", "1 2 3"),
        ("SELECT (SELECT max(m) FROM t)", "happy"),
        ("SELECT m < NULL, m = NULL, NULL > m FROM t WHERE id = 1", "NULL|NULL|NULL"),
        ("SELECT 'sad'::mood < 'ok', 'sad'::mood > 'ok'::mood", "t|f"),
        ("SELECT string_agg(m::text, ',' ORDER BY m DESC) FROM t WHERE m IS NOT NULL", "happy,ok,sad"),
        (
            "SELECT id, row_number() OVER (PARTITION BY n ORDER BY m DESC NULLS LAST) FROM t ORDER BY id",
            "1|1 2|3 3|4 4|2",
        ),
        ("SELECT m, rank() OVER (ORDER BY m) FROM t ORDER BY m", "sad|1 ok|2 happy|3 NULL|4"),
        ("WITH c AS (SELECT m FROM t WHERE m >= 'ok') SELECT * FROM c ORDER BY 1", "ok happy"),
        ("SELECT * FROM v ORDER BY m DESC", "happy|sad ok|sad"),
        ("SELECT m FROM t ORDER BY m LIMIT 1", "sad"),
        (
            "SELECT coalesce(m, 'sad'), CASE WHEN id = 1 THEN 'ok' ELSE m END FROM t ORDER BY id",
            "happy|ok sad|sad sad|NULL ok|ok",
        ),
        ("SELECT CASE m WHEN 'ok' THEN 1 WHEN 'sad' THEN 2 END FROM t ORDER BY id", "NULL 2 NULL 1"),
        ("SELECT 'x' || m, m || 'y' FROM t WHERE id = 1", "xhappy|happyy"),
        ("SELECT concat(m, 'x'), length(m::text), m::text = 'ok' FROM t WHERE id = 4", "okx|2|t"),
        ("SELECT pg_typeof(m), pg_typeof('{sad}'::mood[]), to_json(m) FROM t WHERE id = 1", "mood|mood[]|\"happy\""),
        ("SELECT 'ok'::text::mood, lower('OK')::mood, NULL::mood", "ok|ok|NULL"),
        ("SELECT '{sad,NULL}'::mood[], ARRAY['ok','sad']::mood[]", "{sad,NULL}|{ok,sad}"),
        ("SELECT id FROM t WHERE m = ANY('{sad,ok}'::mood[]) ORDER BY id", "2 4"),
        ("SELECT ARRAY[m, 'ok', NULL] FROM t WHERE id = 1", "{happy,ok,NULL}"),
        ("SELECT m FROM t WHERE id = 1 UNION ALL SELECT n FROM t WHERE id = 2 ORDER BY 1", "ok happy"),
    ] {
        assert_eq!(lines(&client, query).await.join(" "), expected, "{query}");
    }
    client.batch_execute("CREATE TYPE other AS ENUM ('sad'); ").await.unwrap();
    for (expression, sqlstate) in [
        ("m = n::text", "42883"),
        ("m = 'ok'::text", "42883"),
        ("m = 1", "42883"),
        ("m = 'sad'::other", "42883"),
        ("m < 'sad'::other", "42883"),
        ("m IN (n::text)", "42883"),
        ("'ok'::mood < 'sad'::text", "42883"),
        ("m IN (SELECT n::text FROM t)", "42883"),
        ("m = ANY(ARRAY['sad'])", "42883"),
        ("m BETWEEN 'sad'::other AND 'ok'", "42883"),
        ("m > 'x'", "22P02"),
        ("m IN ('zz')", "22P02"),
        ("m::other", "42846"),
        ("m::int", "42846"),
        ("1::mood", "42846"),
        ("true::mood", "42846"),
        ("'x'::mood", "22P02"),
        ("'{x}'::mood[]", "22P02"),
        ("('x' || id::text)::mood", "22P02"),
        ("CASE m WHEN 'zz' THEN 2 END", "22P02"),
        ("CASE WHEN true THEN m ELSE 'a'::text END", "42804"),
        ("coalesce(m, 'zz')", "22P02"),
        ("coalesce(m, 'sad'::other)", "42804"),
        ("upper(m)", "0A000"),
        ("greatest(m, n)", "0A000"),
        ("m LIKE 'a%'", "0A000"),
        ("m > ALL (SELECT n FROM t)", "0A000"),
        ("array_agg(m)", "0A000"),
        ("lag(m) OVER (ORDER BY id)", "0A000"),
        ("max(m) OVER (ORDER BY id)", "0A000"),
        ("count(*) OVER (ORDER BY m RANGE 1 PRECEDING)", "0A000"),
        ("mode() WITHIN GROUP (ORDER BY m)", "0A000"),
        ("ARRAY[m, 'zz']", "22P02"),
        ("ARRAY[m, n::text]", "42804"),
    ] {
        let query = format!("SELECT {expression} FROM t");
        assert_eq!(fails(&client, &query).await, sqlstate, "{query}");
    }
    assert_eq!(fails(&client, "DROP TYPE mood").await, "2BP01");
    client.batch_execute("ALTER TYPE mood ADD VALUE 'meh' BEFORE 'ok'").await.unwrap();
    client
        .batch_execute("ALTER TYPE mood ADD VALUE IF NOT EXISTS 'ok'; INSERT INTO t VALUES (7, 'meh')")
        .await
        .unwrap();
    assert_eq!(simple(&client, "SELECT id FROM t WHERE m < 'ok' ORDER BY m").await, ["2", "7"]);
    assert_eq!(lines(&client, "SELECT m FROM v ORDER BY m").await, ["ok", "happy"]);
    let orders = "SELECT enumlabel, enumsortorder FROM pg_enum ORDER BY 2 LIMIT 3";
    assert_eq!(lines(&client, orders).await, ["sad|1", "sad|1", "meh|1.5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn catalogs_list_types() {
    let server = Running::start().await;
    let client = server.connect().await;
    fill(&client).await;
    client.batch_execute("CREATE TYPE \"Big\" AS ENUM ('é', 'a,b')").await.unwrap();
    let types = "SELECT typname, typlen, typtype, typcategory, typelem <> 0, typarray <> 0 FROM pg_type \
                 WHERE oid >= 16384 ORDER BY oid";
    let expected = ["mood|4|e|E|f|t", "_mood|-1|b|A|t|f", "Big|4|e|E|f|t", "_Big|-1|b|A|t|f"];
    assert_eq!(lines(&client, types).await, expected);
    let labels = "SELECT e.enumlabel, e.enumsortorder FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid \
                  WHERE t.oid = to_regtype('\"Big\"') ORDER BY e.enumsortorder";
    assert_eq!(lines(&client, labels).await, ["é|1", "a,b|2"]);
    let names = "SELECT oid::regtype::text, format_type(typarray, NULL), 'public.mood'::regtype = oid, \
                 to_regtype('mood[]') = typarray FROM pg_type WHERE typname = 'mood'";
    assert_eq!(lines(&client, names).await, ["mood|mood[]|t|t"]);
    assert_eq!(simple(&client, "SELECT to_regtype('big') IS NULL").await, ["t"]);
    let columns = "SELECT data_type, udt_schema, udt_name, column_default FROM information_schema.columns \
                   WHERE table_name = 't' ORDER BY ordinal_position";
    let expected =
        ["integer|pg_catalog|int4|NULL", "USER-DEFINED|public|mood|NULL", "USER-DEFINED|public|mood|'ok'::mood"];
    assert_eq!(lines(&client, columns).await, expected);
    let attributes = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute \
                      WHERE attrelid = 't'::regclass AND attnum > 0 ORDER BY attnum";
    assert_eq!(simple(&client, attributes).await, ["integer", "mood", "mood"]);
    for tables in ["pg_class WHERE relname", "information_schema.tables WHERE table_name", "pg_tables WHERE tablename"]
    {
        assert_eq!(simple(&client, &format!("SELECT count(*) FROM {tables} = 'mood'")).await, ["0"], "{tables}");
    }
    client.batch_execute("CREATE VIEW v AS SELECT 'sad'::mood AS a").await.unwrap();
    let defined = simple(&client, "SELECT pg_get_viewdef('v'::regclass)").await.remove(0);
    assert!(defined.contains("'sad'::mood"), "{defined}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_read_and_send_labels() {
    let server = Running::start().await;
    let client = server.connect().await;
    fill(&client).await;
    // The client asks the catalog what the type is.
    let found = client.query("SELECT m FROM t WHERE id = 1", &[]).await.unwrap();
    let kind = found[0].columns()[0].type_();
    assert_eq!((kind.name(), kind.schema()), ("mood", "public"));
    assert_eq!(*kind.kind(), Kind::Enum(["sad", "ok", "happy"].map(str::to_owned).to_vec()));
    let oids = simple(&client, "SELECT oid FROM pg_type WHERE typname IN ('mood', '_mood') ORDER BY oid").await;
    let oids: Vec<u32> = oids.iter().map(|oid| oid.parse().unwrap()).collect();
    let (oid, array) = (oids[0], oids[1]);
    assert_eq!(kind.oid(), oid);
    let mut raw = Raw::connect(server.port, "ada");
    for (query, kind, format, value, expected) in [
        ("SELECT $1::mood", 0, 0, b"ok".as_slice(), Ok((oid, "ok"))),
        ("SELECT $1::mood", 25, 1, b"ok", Ok((oid, "ok"))),
        ("SELECT $1::mood", oid, 1, b"ok", Ok((oid, "ok"))),
        ("SELECT $1", oid, 0, b"happy", Ok((oid, "happy"))),
        ("SELECT $1::text", oid, 1, b"happy", Ok((25, "happy"))),
        ("SELECT $1", array, 0, b"{happy,sad}", Ok((array, "{happy,sad}"))),
        ("SELECT $1::mood[]", 1009, 0, b"{happy,NULL}", Ok((array, "{happy,NULL}"))),
        ("SELECT $1::text[]", array, 0, b"{happy}", Ok((1009, "{happy}"))),
        ("SELECT id FROM t WHERE m = $1", 0, 0, b"ok", Ok((23, "4"))),
        ("SELECT id FROM t WHERE m = $1", oid, 1, b"ok", Ok((23, "4"))),
        ("SELECT count(*) FROM t WHERE m > $1", 0, 0, b"sad", Ok((20, "2"))),
        ("SELECT id FROM t WHERE m = ANY($1)", array, 0, b"{ok}", Ok((23, "4"))),
        ("SELECT $1::mood", 0, 0, b"bad", Err("22P02")),
        ("SELECT $1::mood", oid, 1, b"bad", Err("22P02")),
        ("SELECT $1::mood[]", 1009, 0, b"{bad}", Err("22P02")),
        ("SELECT id FROM t WHERE m = $1", 25, 0, b"ok", Err("42883")),
        ("SELECT id FROM t WHERE m = $1", 0, 0, b"bad", Err("22P02")),
        ("SELECT $1::mood", 23, 0, b"1", Err("42846")),
        ("SELECT $1", 15_999, 0, b"1", Err("42704")),
        ("INSERT INTO t VALUES (8, $1)", 25, 0, b"ok", Err("42804")),
    ] {
        let answer = raw.query_with(query, kind, format, value);
        let found = match answer.sqlstate() {
            Some(sqlstate) => Err(sqlstate),
            None => Ok((answer.column_type().unwrap(), answer.value().unwrap())),
        };
        let expected = expected.map(|(kind, value)| (kind, value.to_owned())).map_err(str::to_owned);
        assert_eq!(found, expected, "{query} {kind} {format}");
    }
    for (query, kind, format, value) in [
        ("INSERT INTO t VALUES (9, $1)", 0, 0, b"sad".as_slice()),
        ("INSERT INTO t VALUES (9, $1)", oid, 1, b"ok"),
        ("UPDATE t SET m = $1 WHERE id = 3", 0, 0, b"happy"),
    ] {
        assert_eq!(raw.query_with(query, kind, format, value).sqlstate(), None, "{query} {value:?}");
    }
    let all = lines(&client, "SELECT id, m FROM t WHERE id IN (3, 9) ORDER BY id, m").await;
    assert_eq!(all, ["3|happy", "9|sad", "9|ok"]);
    // Prepared statements see labels that come later.
    client.batch_execute("PREPARE p(mood) AS SELECT id FROM t WHERE m = $1 AND id < 3").await.unwrap();
    assert_eq!(simple(&client, "EXECUTE p('sad')").await, ["2"]);
    assert_eq!(fails(&client, "EXECUTE p('nope')").await, "22P02");
    client.batch_execute("ALTER TYPE mood ADD VALUE 'nope'").await.unwrap();
    assert_eq!(simple(&client, "EXECUTE p('nope')").await, Vec::<String>::new());
    client.batch_execute("DELETE FROM t WHERE id > 1").await.unwrap();
    let sink = client.copy_in("COPY t FROM STDIN").await.unwrap();
    futures::pin_mut!(sink);
    sink.send(Bytes::from_static(b"2\tsad\t\\N\n3\tnope\tok\n")).await.unwrap();
    assert_eq!(sink.finish().await.unwrap(), 2);
    let copied = client.copy_out("COPY (SELECT * FROM t ORDER BY m) TO STDOUT").await.unwrap();
    let parts: Vec<_> = copied.try_collect().await.unwrap();
    assert_eq!(String::from_utf8(parts.concat()).unwrap(), "2\tsad\t\\N\n1\thappy\tok\n3\tnope\tok\n");
    let sink = client.copy_in("COPY t FROM STDIN").await.unwrap();
    futures::pin_mut!(sink);
    sink.send(Bytes::from_static(b"2\tbad\tok\n")).await.unwrap();
    assert_eq!(crate::sqlstate(&sink.finish().await.unwrap_err()), "22P02");
}

#[tokio::test(flavor = "multi_thread")]
async fn composite_values_have_fields() {
    let server = Running::start().await;
    let client = server.connect().await;
    client
        .batch_execute(
            "CREATE TYPE comp AS (foo text, bar int8, baz float8); CREATE TYPE mood AS ENUM ('sad', 'ok'); \
             CREATE TYPE outer_comp AS (qux int8, quux comp, m mood)",
        )
        .await
        .unwrap();
    for (expression, expected) in [
        ("'(a,1,2)'::comp", "(a,1,2)"),
        ("' ( a,1 ,2e0 ) '::comp", "(\" a\",1,2)"),
        ("ROW('a', 1, 2)::comp", "(a,1,2)"),
        ("ROW(1, '2'::text, NULL)::comp", "(1,2,)"),
        ("ROW(chr(44), 1, 1.5)::comp::text", "(\",\",1,1.5)"),
        ("ROW(42, ROW('x', 10, 20)::comp, 'ok')::outer_comp", "(42,\"(x,10,20)\",ok)"),
        ("ARRAY[ROW('hello', 10, 30)::comp]", "{\"(hello,10,30)\"}"),
        ("pg_typeof(ROW('a', 1, 2)::comp)", "comp"),
        ("ROW('a', 1, 2)::comp = '(a,1,2)'::comp", "t"),
        ("ROW('a', 1, -0.0::float8)::comp = '(a,1,0)'::comp", "t"),
        ("ROW('a', NULL, 2)::comp = '(a,,2)'::comp", "t"),
        ("ROW('a', 1, 2)::comp <> '(b,1,2)'::comp", "t"),
        ("coalesce(NULL, '(a,1,2)'::comp)", "(a,1,2)"),
    ] {
        let query = format!("SELECT {expression}");
        assert_eq!(simple(&client, &query).await, [expected], "{query}");
    }
    for (expression, sqlstate) in [
        ("'a'::comp", "22P02"),
        ("'(a)'::comp", "22P02"),
        ("'(a,1,2,3)'::comp", "22P02"),
        ("'(a,x,2)'::comp", "22P02"),
        ("'(1,,bad)'::outer_comp", "22P02"),
        ("ROW('a', 1)::comp", "42846"),
        ("ROW('a', 1, 2, 3)::comp", "42846"),
        ("ROW('a', true, 2)::comp", "42846"),
        ("1::comp", "42846"),
        ("'(a,1,2)'::comp::int", "42846"),
        ("'(a,1,2)'::comp = '(a,1,2)'", "0A000"),
        ("'(a,1,2)'::comp < '(a,1,2)'::comp", "0A000"),
        ("'(a,1,2)'::comp = 'a'::text", "42883"),
        ("'(a,1,2)'::comp IS NULL", "0A000"),
        ("to_json('(a,1,2)'::comp)", "0A000"),
        ("max('(a,1,2)'::comp)", "0A000"),
    ] {
        let query = format!("SELECT {expression}");
        assert_eq!(fails(&client, &query).await, sqlstate, "{query}");
    }
    for (statement, sqlstate) in [
        ("CREATE TABLE t (a comp)", "0A000"),
        ("CREATE VIEW v AS SELECT '(a,1,2)'::comp AS a", "0A000"),
        ("SELECT DISTINCT '(a,1,2)'::comp", "0A000"),
        ("ALTER TYPE comp ADD VALUE 'x'", "42809"),
        ("DROP TYPE comp", "2BP01"),
        ("DROP TYPE mood", "2BP01"),
    ] {
        assert_eq!(fails(&client, statement).await, sqlstate, "{statement}");
    }
    // As psycopg asks for the fields.
    let fields = "SELECT a.attname, a.atttypid FROM pg_attribute a JOIN pg_type t ON t.typrelid = a.attrelid \
                  WHERE t.oid = to_regtype('comp') AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
    assert_eq!(lines(&client, fields).await, ["foo|25", "bar|20", "baz|701"]);
    let class = "SELECT relkind, reltype = to_regtype('comp') FROM pg_class WHERE relname = 'comp'";
    assert_eq!(lines(&client, class).await, ["c|t"]);
    let oids = simple(&client, "SELECT oid FROM pg_type WHERE typname = 'comp'").await;
    let oid: u32 = oids[0].parse().unwrap();
    let mut raw = Raw::connect(server.port, "ada");
    let mut bytes = 3_i32.to_be_bytes().to_vec();
    bytes.extend(25_u32.to_be_bytes());
    bytes.extend([0, 0, 0, 1, b'x']);
    bytes.extend(20_u32.to_be_bytes());
    bytes.extend([0, 0, 0, 8]);
    bytes.extend(7_i64.to_be_bytes());
    bytes.extend(701_u32.to_be_bytes());
    bytes.extend((-1_i32).to_be_bytes());
    for (query, kind, format, value, expected) in [
        ("SELECT $1::comp", 0, 0, b"(x,7,)".as_slice(), Ok("(x,7,)")),
        ("SELECT $1::comp", 25, 1, b"(x,7,)", Ok("(x,7,)")),
        ("SELECT $1", oid, 1, &bytes, Ok("(x,7,)")),
        ("SELECT $1 = ROW('x', 7, NULL)::comp", oid, 1, &bytes, Ok("t")),
        ("SELECT $1::text", oid, 0, b"(x,7,)", Ok("(x,7,)")),
        ("SELECT $1::comp", 0, 0, b"(x)", Err("22P02")),
        ("SELECT $1", oid, 1, &bytes[..9], Err("22P03")),
    ] {
        let answer = raw.query_with(query, kind, format, value);
        let found = answer.sqlstate().map_or_else(|| Ok(answer.value().unwrap()), Err);
        assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned), "{query} {kind} {format}");
    }
    client.batch_execute("DROP TYPE comp, outer_comp; DROP TYPE mood").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_creates_tables_creates_types() {
    let lab = Lab::start().await;
    let Lab { ada, ann, abe, bob, .. } = &lab;
    ann.batch_execute("CREATE TYPE mood AS ENUM ('a')").await.unwrap();
    assert_eq!(simple(bob, "SELECT 'a'::mood").await, ["a"]);
    for (client, statement, sqlstate) in [
        (bob, "CREATE TYPE x AS ENUM ('a')", "42501"),
        (bob, "DROP TYPE mood", "42501"),
        (abe, "DROP TYPE mood", "42501"),
        (abe, "ALTER TYPE mood ADD VALUE 'b'", "42501"),
        (ann, "BEGIN READ ONLY; CREATE TYPE x AS ENUM ('a')", "25006"),
    ] {
        assert_eq!(fails(client, statement).await, sqlstate, "{statement}");
    }
    ann.batch_execute("ROLLBACK; ALTER TYPE mood ADD VALUE 'b'; DROP TYPE mood").await.unwrap();
    ada.batch_execute("CREATE TYPE mood AS ENUM ('a')").await.unwrap();
    assert_eq!(fails(ann, "DROP TYPE mood").await, "42501");
}
