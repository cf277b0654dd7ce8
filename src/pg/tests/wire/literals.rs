//! Tests of literals of the types `uuid`, `json` and `jsonb`. Answers are those of PostgreSQL 15.

use std::error::Error;

use futures::TryStreamExt;
use tokio_postgres::types::{FromSql, Type};

use crate::raw::Raw;
use crate::{Running, fails, simple};

const UUID: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";

/// A value as it is sent.
struct Sent(Vec<u8>);

impl<'a> FromSql<'a> for Sent {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Returns the binary form of a value.
fn bytes_of(kind: &Type, text: &str) -> Vec<u8> {
    match *kind {
        Type::UUID => {
            let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
            let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            digits.chunks(2).map(pair).collect()
        }
        Type::JSONB => [&[1], text.as_bytes()].concat(),
        _ => text.as_bytes().to_vec(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn literals_have_their_types() {
    let server = Running::start().await;
    let client = server.connect().await;
    let upper = UUID.to_uppercase();
    let short = UUID.replace('-', "");
    for (sql, name, kind, text) in [
        (format!("SELECT '{upper}'::uuid"), "uuid", Type::UUID, Some(UUID)),
        (format!("SELECT CAST('{{{short}}}' AS uuid)"), "uuid", Type::UUID, Some(UUID)),
        (format!("SELECT uuid 'a0ee-{}'", &short[4..]), "uuid", Type::UUID, Some(UUID)),
        (format!("SELECT ('{short}')::text::pg_catalog.uuid"), "uuid", Type::UUID, Some(UUID)),
        (format!("SELECT '{short}'::uuid::uuid AS \"Id\""), "Id", Type::UUID, Some(UUID)),
        ("SELECT CAST(NULL AS uuid)".into(), "uuid", Type::UUID, None),
        ("SELECT NULL::json".into(), "json", Type::JSON, None),
        ("SELECT NULL::jsonb".into(), "jsonb", Type::JSONB, None),
        (
            "SELECT '{\"b\" :1,\"a\":2, \"a\":3.10}'::json".into(),
            "json",
            Type::JSON,
            Some("{\"b\" :1,\"a\":2, \"a\":3.10}"),
        ),
        ("SELECT jsonb '{\"b\" :1,\"a\":2, \"a\":3.10}'".into(), "jsonb", Type::JSONB, Some("{\"a\": 3.10, \"b\": 1}")),
        ("SELECT ' [1e2, \"\\u00e9''\",null ]'::jsonb".into(), "jsonb", Type::JSONB, Some("[100, \"é'\", null]")),
        ("SELECT E'\"a\\\\nb\"'::json".into(), "json", Type::JSON, Some("\"a\\nb\"")),
        ("SELECT json $$\"it's\"$$".into(), "json", Type::JSON, Some("\"it's\"")),
        (format!("SELECT x FROM (SELECT '{short}'::uuid AS x) t"), "x", Type::UUID, Some(UUID)),
        (format!("SELECT uuid FROM (SELECT '{short}'::uuid) t"), "uuid", Type::UUID, Some(UUID)),
        (format!("SELECT * FROM (SELECT '{short}'::uuid) t"), "uuid", Type::UUID, Some(UUID)),
        (format!("SELECT (SELECT '{short}'::uuid)"), "uuid", Type::UUID, Some(UUID)),
        (format!("VALUES ('{short}'::uuid)"), "column1", Type::UUID, Some(UUID)),
        (
            format!(
                "WITH t(x) AS (VALUES (NULL), ('{short}'::uuid), (NULL::uuid)) SELECT x FROM t WHERE x IS NOT NULL"
            ),
            "x",
            Type::UUID,
            Some(UUID),
        ),
        (format!("SELECT x FROM (VALUES ('{short}'), (uuid '{upper}')) t(x) GROUP BY x"), "x", Type::UUID, Some(UUID)),
        (
            format!("SELECT x FROM (SELECT NULL AS x UNION SELECT '{short}'::uuid) t WHERE x IS NOT NULL"),
            "x",
            Type::UUID,
            Some(UUID),
        ),
        (format!("SELECT '{short}'::uuid UNION SELECT '{upper}'::uuid"), "uuid", Type::UUID, Some(UUID)),
        (format!("SELECT DISTINCT '{short}'::uuid AS x ORDER BY x"), "x", Type::UUID, Some(UUID)),
        (
            "SELECT jsonb FROM (SELECT '1'::jsonb UNION ALL SELECT NULL) t WHERE jsonb IS NOT NULL".into(),
            "jsonb",
            Type::JSONB,
            Some("1"),
        ),
        (format!("SELECT '{short}'::uuid::text"), "text", Type::TEXT, Some(UUID)),
        ("SELECT '[1,2]'::jsonb::text".into(), "text", Type::TEXT, Some("[1, 2]")),
    ] {
        assert_eq!(simple(&client, &sql).await, [text.unwrap_or("NULL")], "{sql}");
        let row = client.query_one(&sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let column = &row.columns()[0];
        assert_eq!((column.name(), column.type_()), (name, &kind), "{sql}");
        let sent: Option<Sent> = row.get(0);
        assert_eq!(sent.map(|sent| sent.0), text.map(|text| bytes_of(&kind, text)), "{sql}");
    }
    let twins = client.query_one(&format!("SELECT '{upper}'::uuid, '{short}'::uuid, '1'::json, '1'::jsonb"), &[]).await;
    let names: Vec<_> = twins.unwrap().columns().iter().map(|column| column.name().to_owned()).collect();
    assert_eq!(names, ["uuid", "uuid", "json", "jsonb"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn expressions_of_literals_are_those_of_postgres() {
    let server = Running::start().await;
    let client = server.connect().await;
    let id = format!("'{}'::uuid", UUID.to_uppercase());
    for (sql, expected) in [
        (format!("SELECT pg_typeof({id})"), "uuid"),
        ("SELECT pg_typeof('1'::json)::text || pg_typeof(NULL::jsonb)::text".into(), "jsonjsonb"),
        (format!("SELECT {id} = '{UUID}'"), "t"),
        (format!("SELECT {id} = '{{{}}}'", UUID.to_uppercase()), "t"),
        (format!("SELECT '{}' = {id}", UUID.replace('-', "")), "t"),
        (format!("SELECT {id} < 'b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"), "t"),
        (format!("SELECT {id} IN (NULL, '{}')", UUID.to_uppercase()), "t"),
        (format!("SELECT {id} NOT BETWEEN {id} AND {id}"), "f"),
        (format!("SELECT {id} IS DISTINCT FROM NULL"), "t"),
        (format!("SELECT {id} = NULL"), "NULL"),
        (format!("SELECT {id} IN (SELECT {id})"), "t"),
        (format!("SELECT x.i FROM (SELECT {id} AS i) x JOIN (SELECT {id} AS i) y USING (i)"), UUID),
        (format!("SELECT {id} INTERSECT SELECT {id}"), UUID),
        (format!("SELECT 'x' || {id}"), &format!("x{UUID}")),
        (format!("SELECT concat({id}, '[1 ]'::json)"), &format!("{UUID}[1 ]")),
        ("SELECT length('{\"a\":1}'::jsonb::text)".into(), "8"),
        (format!("SELECT CASE WHEN {id} = {id} THEN 'same' END"), "same"),
        (format!("SELECT count({id}) + count(DISTINCT {id}) + count('1'::json)"), "3"),
        ("SELECT '1'::json IS NULL".into(), "f"),
        (format!("SELECT row_number() OVER (PARTITION BY {id} ORDER BY {id})"), "1"),
        (
            format!(
                "SELECT 1 FROM (SELECT {id} AS i) t WHERE EXISTS (SELECT 1 FROM (SELECT {id} AS j) s WHERE s.j = t.i)"
            ),
            "1",
        ),
        (format!("SELECT 1 WHERE {id} = {id}"), "1"),
    ] {
        assert_eq!(simple(&client, &sql).await, [expected], "{sql}");
        assert_eq!(client.query(&sql, &[]).await.unwrap().len(), 1, "{sql}");
    }
    // Parameters beside them are of their type.
    let mut raw = Raw::connect(server.port, "ada");
    for sql in [
        format!("SELECT {id} = $1"),
        format!("SELECT $1 IN ({id}, NULL)"),
        format!("SELECT $1::uuid = '{}'", UUID.to_uppercase()),
        format!("SELECT x = {id} FROM (SELECT $1::uuid UNION ALL SELECT $1::uuid LIMIT 1) t(x)"),
        format!("SELECT EXISTS (SELECT 1 FROM (SELECT $1::uuid AS x) t WHERE t.x = {id})"),
    ] {
        for text in [UUID.to_owned(), UUID.to_uppercase(), format!("{{{UUID}}}")] {
            let answer = raw.query_with(&sql, 0, 0, text.as_bytes());
            assert_eq!((answer.sqlstate(), answer.value().as_deref()), (None, Some("t")), "{sql} {text}");
        }
        assert_eq!(raw.query_with(&sql, 0, 0, b"x").sqlstate().as_deref(), Some("22P02"), "{sql}");
    }
    let array = format!("{{NULL,{}}}", UUID.to_uppercase());
    for sql in [format!("SELECT {id} = ANY ($1)"), format!("SELECT NOT {id} <> ALL ($1::uuid[])")] {
        assert_eq!(raw.query_with(&sql, 0, 0, array.as_bytes()).value().as_deref(), Some("t"), "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_take_literals() {
    let server = Running::start().await;
    let client = server.connect().await;
    let id = format!("'{}'::uuid", UUID.to_uppercase());
    for statement in [
        "CREATE TABLE lit (a TEXT, i INT)".to_owned(),
        format!("INSERT INTO lit VALUES ({id}, 1), ('hello', 2)"),
        format!("INSERT INTO lit SELECT {id}, 3"),
        "UPDATE lit SET a = '{\"b\":1}'::jsonb WHERE i = 2".into(),
        format!("DELETE FROM lit WHERE i = 3 AND {id} = '{UUID}'"),
        format!("PREPARE p AS SELECT {id}"),
        format!("EXPLAIN SELECT {id}"),
    ] {
        client.batch_execute(&statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    assert_eq!(simple(&client, "SELECT a FROM lit ORDER BY i").await, [UUID, "{\"b\": 1}"]);
    assert_eq!(simple(&client, "EXECUTE p").await, [UUID]);
    client.batch_execute(&format!("BEGIN; DECLARE c CURSOR FOR SELECT {id}")).await.unwrap();
    assert_eq!(simple(&client, "FETCH ALL FROM c").await, [UUID]);
    client.batch_execute("COMMIT").await.unwrap();
    let copied = client.copy_out(&format!("COPY (SELECT {id}, '[1]'::json) TO STDOUT")).await.unwrap();
    let parts: Vec<_> = copied.try_collect().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&parts.concat()), format!("{UUID}\t[1]\n"));
    let copied = client.copy_out(&format!("COPY (SELECT {id}) TO STDOUT (FORMAT binary)")).await.unwrap();
    let parts: Vec<_> = copied.try_collect().await.unwrap();
    let row = [&[0, 1, 0, 0, 0, 16][..], &bytes_of(&Type::UUID, UUID), &[0xff, 0xff]].concat();
    assert!(parts.concat().ends_with(&row));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_places_are_refused() {
    let server = Running::start().await;
    let client = server.connect().await;
    let id = format!("'{UUID}'::uuid");
    client.batch_execute("CREATE TABLE lit (a TEXT, i INT)").await.unwrap();
    for (sql, sqlstate) in [
        ("SELECT 'x'::uuid".to_owned(), "22P02"),
        (format!("SELECT ' {UUID}'::uuid"), "22P02"),
        ("SELECT ''::json".into(), "22P02"),
        ("SELECT '[1,]'::jsonb WHERE false".into(), "22P02"),
        ("SELECT '\"\\u0000\"'::jsonb".into(), "22P05"),
        (format!("SELECT {id} = 'x'"), "22P02"),
        (format!("SELECT * FROM (VALUES ({id}), ('x')) t"), "22P02"),
        (format!("SELECT '{}{}'::jsonb", "[".repeat(1000), "]".repeat(1000)), "54001"),
        ("INSERT INTO lit (i) VALUES ('1'::json)".into(), "42804"),
        ("INSERT INTO lit (i) SELECT '1'::json".into(), "42846"),
        (format!("SELECT a FROM lit WHERE a = {id}"), "42883"),
        (format!("SELECT a FROM lit WHERE EXISTS (SELECT 1 FROM (SELECT {id} AS x) t WHERE t.x = lit.a)"), "42883"),
        (format!("SELECT max({id})"), "42883"),
        (format!("SELECT upper({id})"), "42883"),
        (format!("SELECT {id} LIKE 'a%'"), "42883"),
        (format!("SELECT {id} UNION ALL SELECT 'x'"), "22P02"),
        (format!("SELECT {id} UNION ALL SELECT '1'::json"), "0A000"),
        (format!("SELECT * FROM (VALUES ({id}), (upper('x'))) t"), "42804"),
        ("SELECT DISTINCT '1'::jsonb".into(), "0A000"),
        ("SELECT '1'::json AS x ORDER BY x".into(), "42883"),
        ("SELECT '[1]'::jsonb || '2'::text".into(), "0A000"),
        (format!("SELECT * FROM upper({id})"), "42883"),
        (format!("COPY (SELECT {id} AS a) TO '/tmp/refused.parquet'"), "0A000"),
    ] {
        assert_eq!(fails(&client, &sql).await, sqlstate, "{sql}");
    }
    let message = |error: tokio_postgres::Error| error.as_db_error().map(|error| error.message().to_owned());
    for (sql, expected) in [
        ("SELECT 'x'::uuid", "invalid input syntax for type uuid: \"x\""),
        ("SELECT '{x'::jsonb", "invalid input syntax for type json"),
    ] {
        assert_eq!(client.simple_query(sql).await.err().and_then(message).as_deref(), Some(expected));
    }
    // What a parameter cannot do either.
    let mut raw = Raw::connect(server.port, "ada");
    for (sql, sqlstate) in [("SELECT max($1::uuid)", "42883"), ("SELECT 'x'::text UNION ALL SELECT $1::uuid", "42804")]
    {
        assert_eq!(raw.query_with(sql, 0, 0, UUID.as_bytes()).sqlstate().as_deref(), Some(sqlstate), "{sql}");
    }
    // The server survives what nests deeper than its stack.
    let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
    assert_eq!(raw.query_with("SELECT $1::jsonb", 0, 0, deep.as_bytes()).sqlstate().as_deref(), Some("54001"));
}
