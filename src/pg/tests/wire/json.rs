//! Tests of `json` and `jsonb` as types of columns, and of their operators and functions. Answers are those of PostgreSQL 15.

use bytes::Bytes;
use futures::{SinkExt, TryStreamExt};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::raw::Raw;
use crate::{Running, fails, simple};

/// Returns the columns of every row, joined by `|`.
async fn rows(client: &Client, query: &str) -> Vec<String> {
    let messages = client.simple_query(query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => {
            let columns: Vec<_> = (0..row.len()).map(|place| row.get(place).unwrap_or("NULL").to_owned()).collect();
            Some(columns.join("|"))
        }
        _ => None,
    };
    messages.into_iter().filter_map(row).collect()
}

/// Creates a table with some values.
async fn fill(client: &Client) {
    client
        .batch_execute(
            "CREATE TABLE docs (id int, a json, b jsonb); \
             INSERT INTO docs VALUES (1, '{\"x\" :1}', '{\"b\":1, \"a\":2, \"b\": 3.0}'), (2, NULL, 'null'), \
             (3, 'null', NULL); \
             INSERT INTO docs SELECT 5, '{\"k\":1}'::jsonb, ' {\"k\" : 1} '::json",
        )
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_hold_values() {
    let server = Running::start().await;
    let client = server.connect().await;
    fill(&client).await;
    let all = "SELECT id, a, b FROM docs ORDER BY id";
    let filled = ["1|{\"x\" :1}|{\"a\": 2, \"b\": 3.0}", "2|NULL|null", "3|null|NULL", "5|{\"k\": 1}|{\"k\": 1}"];
    assert_eq!(rows(&client, all).await, filled);
    let found = client.query(all, &[]).await.unwrap();
    let types: Vec<_> = found[0].columns().iter().map(|column| column.type_().clone()).collect();
    assert_eq!(types, [Type::INT4, Type::JSON, Type::JSONB]);
    for statement in [
        "UPDATE docs SET b = '{\"n\": [1,2]}' WHERE id = 2",
        "UPDATE docs SET b = a, a = b WHERE id = 1",
        "UPDATE docs SET b = CASE WHEN id = 3 THEN '[1]' ELSE b END",
        "UPDATE docs SET a = coalesce(NULL, b::json) WHERE id = 3",
    ] {
        client.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    let changed =
        ["1|{\"a\": 2, \"b\": 3.0}|{\"x\": 1}", "2|NULL|{\"n\": [1, 2]}", "3|[1]|[1]", "5|{\"k\": 1}|{\"k\": 1}"];
    assert_eq!(rows(&client, all).await, changed);
    for (statement, sqlstate) in [
        ("INSERT INTO docs VALUES (4, '{x', '1')", "22P02"),
        ("INSERT INTO docs VALUES (4, '', '1')", "22P02"),
        ("INSERT INTO docs VALUES (4, '1', '\"\\u0000\"')", "22P05"),
        ("INSERT INTO docs VALUES (4, 1, '1')", "42804"),
        ("INSERT INTO docs VALUES (4, '1'::text, '1')", "42804"),
        ("INSERT INTO docs SELECT 6, 'x', '1'", "22P02"),
        ("INSERT INTO docs (id, b) SELECT 7, '{\"a\":1}' UNION ALL SELECT 8, '2'", "42804"),
        ("UPDATE docs SET b = id", "42804"),
        ("UPDATE docs SET id = b", "42804"),
        ("CREATE TABLE t3 (a json PRIMARY KEY)", "42704"),
        ("CREATE TABLE t5 (a jsonb DEFAULT '{x')", "22P02"),
        ("CREATE TABLE t6 (a json[])", "0A000"),
        ("CREATE TABLE t7 (a jsonb) AS SELECT 'x'", "42601"),
    ] {
        assert_eq!(fails(&client, statement).await, sqlstate, "{statement}");
    }
    assert_eq!(rows(&client, all).await, changed);
}

#[tokio::test(flavor = "multi_thread")]
async fn catalogs_name_the_types() {
    let server = Running::start().await;
    let client = server.connect().await;
    fill(&client).await;
    client.batch_execute("CREATE VIEW seen AS SELECT id, b -> 'k' AS k, a FROM docs").await.unwrap();
    client.batch_execute("CREATE TABLE kept AS SELECT b, a, '{\"z\":1,\"y\":2}'::jsonb AS c FROM docs").await.unwrap();
    client.batch_execute("CREATE TABLE filled (a jsonb DEFAULT '{\"b\":1,\"a\":2}', c int)").await.unwrap();
    client.batch_execute("INSERT INTO filled (c) VALUES (1)").await.unwrap();
    assert_eq!(rows(&client, "SELECT * FROM filled").await, ["{\"a\": 2, \"b\": 1}|1"]);
    assert_eq!(rows(&client, "SELECT DISTINCT c::text, pg_typeof(c) FROM kept").await, ["{\"y\": 2, \"z\": 1}|jsonb"]);
    assert_eq!(
        rows(&client, "SELECT pg_typeof(k), pg_typeof(a), k, a FROM seen WHERE id = 5").await,
        ["jsonb|json|1|{\"k\": 1}"]
    );
    let of_columns = "SELECT data_type, udt_name, character_octet_length FROM information_schema.columns \
                      WHERE table_name = 'docs' ORDER BY ordinal_position";
    assert_eq!(rows(&client, of_columns).await, ["integer|int4|NULL", "json|json|NULL", "jsonb|jsonb|NULL"]);
    let of_attributes = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute \
                         WHERE attrelid = 'docs'::regclass AND attnum > 0 ORDER BY attnum";
    assert_eq!(simple(&client, of_attributes).await, ["integer", "json", "jsonb"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_and_copies_go_into_columns() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE docs (a json, b jsonb)").await.unwrap();
    let mut raw = Raw::connect(server.port, "ada");
    for (query, kind, format, value, sqlstate) in [
        ("INSERT INTO docs (a) VALUES ($1)", 0, 0, b"{\"b\" :1}".as_slice(), None),
        ("INSERT INTO docs (b) VALUES ($1)", 0, 0, b"{\"b\" :1, \"a\":2}", None),
        ("INSERT INTO docs (b) VALUES ($1)", 3802, 1, b"\x01[1 ]", None),
        ("INSERT INTO docs (a) VALUES ($1)", 114, 1, b"[1 ]", None),
        ("INSERT INTO docs (b) VALUES ($1)", 114, 0, b"[2 ]", None),
        ("INSERT INTO docs (b) SELECT $1", 0, 0, b"[3 ]", None),
        ("INSERT INTO docs (b) VALUES ($1)", 3802, 1, b"\x02[1 ]", Some("22P03")),
        ("INSERT INTO docs (b) VALUES ($1)", 0, 0, b"{x", Some("22P02")),
        ("INSERT INTO docs (b) VALUES ($1)", 25, 0, b"{}", Some("42804")),
        ("INSERT INTO docs (b) VALUES ($1)", 23, 0, b"1", Some("42804")),
    ] {
        assert_eq!(raw.query_with(query, kind, format, value).sqlstate().as_deref(), sqlstate, "{query} {value:?}");
    }
    let inserted = ["NULL|[1]", "NULL|[2]", "NULL|[3]", "NULL|{\"a\": 2, \"b\": 1}", "[1 ]|NULL", "{\"b\" :1}|NULL"];
    let mut found = rows(&client, "SELECT a, b FROM docs").await;
    found.sort();
    assert_eq!(found, inserted);
    // A parameter beside a column is of its type.
    for (query, value, expected) in [
        ("SELECT count(*) FROM docs WHERE b = $1", b"{\"b\":1.0,\"a\":2}".as_slice(), "1"),
        ("SELECT count(*) FROM docs WHERE b @> $1", b"{\"a\":2}", "1"),
        ("SELECT b ->> $1 FROM docs WHERE b ? 'a'", b"b", "1"),
        ("SELECT jsonb_typeof($1)", b"{}", "object"),
        ("SELECT $1::jsonb -> 'a'", b"{\"a\":[1 ]}", "[1]"),
        ("SELECT ($1::json) -> 'a'", b"{\"a\":[1 ]}", "[1 ]"),
        ("SELECT CASE WHEN true THEN $1::jsonb ELSE '1' END", b"[1 ]", "[1]"),
        ("SELECT b #>> $1 FROM docs WHERE b ? 'a'", b"{a}", "2"),
        ("SELECT jsonb_set('{\"a\":1}', '{a}', $1)", b"[2 ]", "{\"a\": [2]}"),
    ] {
        let answer = raw.query_with(query, 0, 0, value);
        assert_eq!((answer.sqlstate(), answer.value().as_deref()), (None, Some(expected)), "{query}");
    }
    assert_eq!(raw.query_with("SELECT '[1,2]'::jsonb -> $1", 23, 0, b"1").value().as_deref(), Some("2"));
    assert_eq!(raw.query_with("SELECT '[1,2]'::jsonb -> $1", 20, 0, b"1").sqlstate().as_deref(), Some("42883"));
    client.batch_execute("DELETE FROM docs").await.unwrap();
    let sink = client.copy_in("COPY docs FROM STDIN").await.unwrap();
    futures::pin_mut!(sink);
    sink.send(Bytes::from_static(b"{\"b\" :1}\t{\"b\" :1, \"a\":2}\n\\N\tnull\n")).await.unwrap();
    assert_eq!(sink.finish().await.unwrap(), 2);
    let copied = client.copy_out("COPY docs TO STDOUT").await.unwrap();
    let parts: Vec<_> = copied.try_collect().await.unwrap();
    let text = String::from_utf8(parts.concat()).unwrap();
    assert_eq!(text, "{\"b\" :1}\t{\"a\": 2, \"b\": 1}\n\\N\tnull\n");
    let sink = client.copy_in("COPY docs FROM STDIN").await.unwrap();
    futures::pin_mut!(sink);
    sink.send(Bytes::from_static(b"{x\tnull\n")).await.unwrap();
    assert_eq!(crate::sqlstate(&sink.finish().await.unwrap_err()), "22P02");
}

/// A query of one column, and its value.
const ANSWERS: &[(&str, &str)] = &[
    ("'{\"a\": [1,  2], \"a\": { \"x\" :1 }}'::json -> 'a'", "{ \"x\" :1 }"),
    ("'[1,2,3]'::json -> -1", "3"),
    ("'[1,2,3]'::jsonb -> -4", "NULL"),
    ("'5'::jsonb -> 0", "5"),
    ("'5'::json -> 0", "NULL"),
    ("'[1,2]'::json -> 'a'", "NULL"),
    ("'[null]'::json -> 0", "null"),
    ("'[null]'::json ->> 0", "NULL"),
    ("'[\"x\\\"y\"]'::json ->> 0", "x\"y"),
    ("'[1.50]'::json ->> 0", "1.50"),
    ("'{}'::jsonb -> NULL", "NULL"),
    ("NULL::json -> 'a'", "NULL"),
    ("'{\"a\":[1,{\"b\":2}]}'::json #> '{a,1,b}'", "2"),
    ("'{\"a\":[1,{\"b\":2}]}'::json #>> '{a,-1,b}'", "2"),
    ("'{\"a\":[1,{\"b\":2}]}'::jsonb #> array['a','1']", "{\"b\": 2}"),
    ("'{\"a\":[1,2]}'::jsonb #> '{a,x}'", "NULL"),
    ("' {\"a\": 1} '::json #> '{}'", "{\"a\": 1}"),
    ("'\"s\"'::jsonb #>> '{}'", "s"),
    ("'{\"a\":{\"b\":1}}'::jsonb -> 'a' -> 'b'", "1"),
    ("('{\"a\":{\"b\":[7]}}'::jsonb)['a']['b'][0]", "7"),
    ("'{\"a\":1}'::jsonb ->> 'a' || 'x'", "1x"),
    ("json_typeof('[1]'::json -> 0)", "number"),
    ("jsonb_array_length('[1,2]')", "2"),
    ("json_extract_path('{\"a\":{\"b\":[1,2]}}', 'a', 'b', '1')", "2"),
    ("jsonb_extract_path_text('{\"a\":\"x\"}', 'a')", "x"),
    ("to_json('a'::text)", "\"a\""),
    ("to_json(array[1,2])", "[1,2]"),
    ("to_jsonb(array['a',NULL])", "[\"a\", null]"),
    ("to_json('2020-01-01 10:00:00.5'::timestamp)", "\"2020-01-01T10:00:00.5\""),
    ("to_json('{\"a\":  1}'::json)", "{\"a\":  1}"),
    ("to_jsonb('{\"b\":1, \"a\":  1}'::json)", "{\"a\": 1, \"b\": 1}"),
    ("to_jsonb(1e20::float8)", "100000000000000000000"),
    ("to_json(NULL::int)", "NULL"),
    ("json_build_object('a', 1, 'b', NULL, 'c', 'x')", "{\"a\" : 1, \"b\" : null, \"c\" : \"x\"}"),
    ("json_build_object()", "{}"),
    ("jsonb_build_array()", "[]"),
    ("json_build_array(1, 'a', NULL, true, '{\"x\": 1}'::json)", "[1, \"a\", null, true, {\"x\": 1}]"),
    ("jsonb_build_object('b', 1, 'a', NULL, 'a', 'x')", "{\"a\": \"x\", \"b\": 1}"),
    ("jsonb_build_object(1, 2)", "{\"1\": 2}"),
    ("row_to_json(row(1,'a'))", "{\"f1\":1,\"f2\":\"a\"}"),
    ("jsonb_set('{\"a\":1}', '{b}', '2')", "{\"a\": 1, \"b\": 2}"),
    ("jsonb_set('[1,2]', '{5}', '3', false)", "[1, 2]"),
    ("'{\"a\":1,\"b\":2}'::jsonb @> '{\"b\":2}'", "t"),
    ("'{\"b\":2}'::jsonb <@ '{\"a\":1,\"b\":2}'", "t"),
    ("'{\"a\":1}'::jsonb ? 'a'", "t"),
    ("'{\"a\":1}'::jsonb ?| array['x','a']", "t"),
    ("'{\"a\":1}'::jsonb ?& array['x','a']", "f"),
    ("array[1,2] @> array[1]", "t"),
    ("'1'::jsonb = '1.0'::jsonb", "t"),
    ("'{\"a\":1}'::jsonb = '{\"a\":1.0}'", "t"),
    ("'1'::jsonb <> '2'", "t"),
    ("'1'::jsonb IS DISTINCT FROM '1.00'", "f"),
    ("'1'::jsonb IN ('1.0', '2')", "t"),
    ("'1'::jsonb NOT IN ('2'::jsonb)", "t"),
    ("'1'::jsonb = NULL", "NULL"),
    ("'1.5'::jsonb::int", "2"),
    ("'2.5'::jsonb::int", "3"),
    ("'1.25'::jsonb::float8", "1.25"),
    ("'1e2'::jsonb::bigint", "100"),
    ("'true'::jsonb::bool", "t"),
    ("'1.25'::jsonb::numeric(5,1)", "1.3"),
    ("'{\"b\":1, \"a\":2}'::json::jsonb", "{\"a\": 2, \"b\": 1}"),
    ("'{\"b\":1}'::jsonb::json", "{\"b\": 1}"),
    ("upper('[\"a\"]')::jsonb", "[\"A\"]"),
    ("pg_typeof('1'::json -> 'a')", "json"),
    ("pg_typeof('1'::jsonb #>> '{}')", "text"),
    ("pg_typeof(json_build_object())", "json"),
    ("pg_typeof(CASE WHEN true THEN '1'::jsonb END)", "jsonb"),
    ("CASE WHEN false THEN '1'::json ELSE '[2 ]' END", "[2 ]"),
    ("coalesce(NULL, '1'::json, '{\"a\":2}')", "1"),
];

#[tokio::test(flavor = "multi_thread")]
async fn expressions_answer_as_postgres() {
    let server = Running::start().await;
    let client = server.connect().await;
    for (expression, expected) in ANSWERS {
        let query = format!("SELECT {expression}");
        assert_eq!(rows(&client, &query).await, [*expected], "{query}");
        let prepared = client.query(&query, &[]).await.unwrap_or_else(|error| panic!("{query}: {error}"));
        assert_eq!(prepared.len(), 1, "{query}");
    }
    for (expression, kind) in [
        ("'[1]'::json -> 0", Type::JSON),
        ("'[1]'::jsonb -> 0", Type::JSONB),
        ("'[1]'::jsonb ->> 0", Type::TEXT),
        ("CASE WHEN true THEN '[1]'::jsonb ELSE '2' END", Type::JSONB),
        ("coalesce('[1]'::json, NULL)", Type::JSON),
        ("(SELECT x.c FROM (SELECT CASE WHEN true THEN '1'::jsonb END AS c) x)", Type::JSONB),
        ("(SELECT jsonb_agg(1))", Type::JSONB),
        ("jsonb_array_length('[]')", Type::INT4),
        ("'1'::jsonb @> '1'", Type::BOOL),
        ("upper('1')::json", Type::JSON),
    ] {
        let row = client.query_one(&format!("SELECT {expression}"), &[]).await.unwrap();
        assert_eq!(*row.columns()[0].type_(), kind, "{expression}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_keep_the_types() {
    let server = Running::start().await;
    let client = server.connect().await;
    fill(&client).await;
    for (query, expected) in [
        ("SELECT id FROM docs WHERE b = '{\"k\":1.0}'", ["5"].as_slice()),
        ("SELECT id FROM docs WHERE b @> '{\"k\":1}' OR b @> 'null' ORDER BY id", &["2", "5"]),
        (
            "SELECT j ->> 'k' FROM (SELECT b AS j FROM docs WHERE id = 5 UNION ALL SELECT NULL) t WHERE j IS NOT NULL",
            &["1"],
        ),
        ("SELECT x.j -> 'k' FROM (SELECT coalesce(b, '{}') AS j FROM docs WHERE id = 5) x", &["1"]),
        (
            "WITH t AS (SELECT CASE WHEN id = 5 THEN b END AS j FROM docs) SELECT j FROM t WHERE j IS NOT NULL",
            &["{\"k\": 1}"],
        ),
        ("SELECT sum((b ->> 'k')::int) FROM docs", &["1"]),
        ("SELECT sum((b -> 'k')::int) FROM docs", &["1"]),
        ("SELECT json_agg(b ORDER BY id) FROM docs WHERE id IN (1, 5)", &["[{\"a\": 2, \"b\": 3.0}, {\"k\": 1}]"]),
        ("SELECT jsonb_agg(id ORDER BY id DESC) FROM docs", &["[5, 3, 2, 1]"]),
        ("SELECT json_agg(id) FROM docs WHERE false", &["NULL"]),
        ("SELECT id % 2, jsonb_agg(id ORDER BY id) FROM docs GROUP BY 1 ORDER BY 1", &["0|[2]", "1|[1, 3, 5]"]),
        ("SELECT json_agg(array[id] ORDER BY id) FROM docs WHERE id < 3", &["[[1], \n [2]]"]),
        ("SELECT json_agg(id) FILTER (WHERE id = 3) -> 0 FROM docs", &["3"]),
        ("SELECT x.id FROM docs x JOIN docs y ON x.id = y.id AND x.b ->> 'k' = y.b ->> 'k'", &["5"]),
        ("SELECT (b -> 'a') IS NULL, count(*) FROM docs GROUP BY 1 ORDER BY 2", &["f|1", "t|3"]),
        ("SELECT count(b), count(*) FROM docs", &["3|4"]),
        // What a condition keeps away does not fail.
        (
            "SELECT count(*) FROM (VALUES ('[1]'::jsonb), ('{}'), ('5')) t(j) \
             WHERE jsonb_typeof(j) = 'array' AND jsonb_array_length(j) > 0",
            &["1"],
        ),
        ("SELECT j FROM (VALUES ('1'::jsonb), ('\"x\"')) t(j) WHERE jsonb_typeof(j) = 'number' AND j::int > 0", &["1"]),
        (
            "SELECT count(CASE WHEN jsonb_typeof(j) = 'boolean' THEN j::boolean END) \
             FROM (VALUES ('true'::jsonb), ('1')) t(j)",
            &["1"],
        ),
    ] {
        assert_eq!(rows(&client, query).await, expected, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_is_an_error() {
    let server = Running::start().await;
    let client = server.connect().await;
    fill(&client).await;
    for (expression, sqlstate) in [
        ("'{\"a\":1}' -> 'a'", "42725"),
        ("'x'::text -> 'a'", "42883"),
        ("'[1]'::json -> 0::bigint", "42883"),
        ("'[1]'::json -> 0.5", "42883"),
        ("'{\"a\":\"\\u0000\",\"b\":1}'::json -> 'b'", "22P05"),
        ("'{\"a\":\"\\ud800\",\"b\":1}'::json -> 'b'", "22P02"),
        ("json_typeof('x')", "22P02"),
        ("json_typeof('a'::text)", "42883"),
        ("json_typeof('{}'::jsonb)", "42883"),
        ("json_array_length('{}')", "22023"),
        ("jsonb_array_length('5')", "22023"),
        ("jsonb_extract_path('{}')", "42883"),
        ("('{\"a\":1}'::json)['a']", "42804"),
        ("to_json('a')", "42804"),
        ("json_build_object('a')", "22023"),
        ("json_build_object(NULL, 1)", "22023"),
        ("jsonb_build_object('{}'::json, 1)", "22023"),
        ("jsonb_set('5', '{a}', '2')", "22023"),
        ("jsonb_set('[1]', '{a}', '2')", "22P02"),
        ("'1'::json @> '1'", "42883"),
        ("'{\"a\":1}'::json ? 'a'", "42883"),
        ("'1'::jsonb @> 'a'::text", "42883"),
        ("'1'::json = '1'::json", "42883"),
        ("'1'::json = '1'", "42883"),
        ("'1'::json IS DISTINCT FROM '1'::json", "42883"),
        ("'1'::jsonb = '1'::json", "42883"),
        ("'1'::jsonb = 1", "0A000"),
        ("'1'::jsonb < '2'", "0A000"),
        ("'\"1\"'::jsonb::int", "22023"),
        ("'null'::jsonb::bool", "22023"),
        ("'1'::jsonb::bool", "22023"),
        ("'99999999999'::jsonb::int", "22003"),
        ("'1'::json::int", "42846"),
        ("'1'::jsonb::date", "42846"),
        ("1::jsonb", "42846"),
        ("true::json", "42846"),
        ("upper('{')::jsonb", "22P02"),
        ("'[1]'::json[]", "0A000"),
        ("CASE WHEN true THEN '1'::json ELSE '2'::jsonb END", "42846"),
        ("CASE WHEN true THEN '1'::json ELSE '{' END", "22P02"),
        ("CASE WHEN true THEN '1'::json ELSE 'a'::text END", "42804"),
        ("coalesce('1'::json, '{')", "22P02"),
        ("nullif('1'::jsonb, '1')", "0A000"),
        ("greatest('1'::jsonb, '2')", "0A000"),
        ("max('1'::jsonb)", "0A000"),
        ("count(DISTINCT '1'::json)", "42883"),
        ("json_agg(DISTINCT 1)", "0A000"),
        ("json_agg(1) OVER ()", "0A000"),
        ("to_json(now())", "0A000"),
        ("'[1]'::jsonb || '2'::text", "0A000"),
        ("'[1]'::jsonb || '['", "22P02"),
        ("'{}'::json || '{}'::json", "0A000"),
        ("array['1'::jsonb]", "0A000"),
    ] {
        let query = format!("SELECT {expression}");
        assert_eq!(fails(&client, &query).await, sqlstate, "{query}");
    }
    for (query, sqlstate) in [
        ("SELECT a FROM docs ORDER BY a", "42883"),
        ("SELECT a FROM docs GROUP BY a", "42883"),
        ("SELECT DISTINCT a FROM docs", "42883"),
        ("SELECT b FROM docs ORDER BY b", "0A000"),
        ("SELECT b FROM docs GROUP BY b", "0A000"),
        ("SELECT a FROM docs UNION ALL SELECT b FROM docs", "0A000"),
        ("SELECT upper(a) FROM docs", "0A000"),
        ("SELECT lag(b) OVER (ORDER BY id) FROM docs", "0A000"),
        ("COPY docs TO '/tmp/refused.parquet'", "0A000"),
    ] {
        assert_eq!(fails(&client, query).await, sqlstate, "{query}");
    }
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    assert_eq!(fails(&client, &format!("INSERT INTO docs (b) VALUES ('{deep}')")).await, "54001");
    client.batch_execute(&format!("INSERT INTO docs (id, a) VALUES (9, '{deep}')")).await.unwrap();
    assert_eq!(fails(&client, "SELECT a::jsonb FROM docs WHERE id = 9").await, "54001");
    assert_eq!(fails(&client, "SELECT json_strip_nulls(a) FROM docs WHERE id = 9").await, "54001");
    assert_eq!(simple(&client, "SELECT length((a -> 0)::text) FROM docs WHERE id = 9").await, ["1998"]);
}
