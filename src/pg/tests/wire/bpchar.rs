//! Tests of `character(n)`: its values have their blanks on the wire, its type has an oid and a modifier, and parameters are of
//! the type where they are in Postgres. Answers are those of PostgreSQL 15.

use bytes::Bytes;
use futures::{SinkExt, TryStreamExt};
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use crate::raw::Raw;
use crate::{Running, fails, lines};

/// Creates a table with some values.
async fn fill(client: &Client) {
    client
        .batch_execute(
            "CREATE TABLE padded (id int, c char(4), b bpchar, x text); \
             INSERT INTO padded VALUES (1, 'ab', 'ab ', 'ab '), (2, 'b', 'b', 'b'), (3, NULL, NULL, NULL)",
        )
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn values_have_their_blanks() {
    let server = Running::start().await;
    let client = server.connect().await;
    fill(&client).await;
    let all = "SELECT c, b FROM padded ORDER BY id";
    assert_eq!(lines(&client, all).await, ["ab  |ab ", "b   |b", "NULL|NULL"]);
    // In binary form, too.
    let rows = client.query(all, &[]).await.unwrap();
    let value = |row: usize, column: usize| rows[row].get::<_, Option<String>>(column);
    assert_eq!((value(0, 0).as_deref(), value(0, 1).as_deref()), (Some("ab  "), Some("ab ")));
    assert_eq!((value(1, 0).as_deref(), value(2, 0)), (Some("b   "), None));
    for (expression, expected) in [
        ("'ab'::char(4)", "ab  "),
        ("'abcdef'::char(4)", "abcd"),
        ("'ab'::bpchar", "ab"),
        ("'ab '::bpchar", "ab "),
        ("'ab'::char(2)::char(3)", "ab "),
        ("12::char(3)", "12 "),
        ("coalesce(NULL::char(3), 'x')", "x"),
        ("CASE WHEN true THEN 'a'::char(3) ELSE 'x' END", "a  "),
        ("(SELECT max(c) FROM padded)", "b   "),
        ("(SELECT min(c) || '|' FROM padded)", "ab|"),
        ("'x'::nchar(2)", "x "),
    ] {
        assert_eq!(lines(&client, &format!("SELECT {expression}")).await, [expected], "{expression}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn results_have_the_type() {
    let server = Running::start().await;
    let client = server.connect().await;
    fill(&client).await;
    for (query, name, kind, modifier) in [
        ("SELECT c FROM padded", "c", Type::BPCHAR, 8),
        ("SELECT b FROM padded", "b", Type::BPCHAR, -1),
        ("SELECT c AS k FROM (SELECT c FROM padded ORDER BY c LIMIT 1) t", "k", Type::BPCHAR, 8),
        ("SELECT 'ab'::char(3)", "bpchar", Type::BPCHAR, 7),
        ("SELECT 'ab'::character", "bpchar", Type::BPCHAR, 5),
        ("SELECT c::char(2) FROM padded", "c", Type::BPCHAR, 6),
        ("SELECT c::bpchar FROM padded", "c", Type::BPCHAR, -1),
        ("SELECT coalesce(c, 'x') FROM padded", "coalesce", Type::BPCHAR, -1),
        ("SELECT coalesce(c, c) FROM padded", "coalesce", Type::BPCHAR, 8),
        ("SELECT CASE WHEN id = 1 THEN c END FROM padded", "case", Type::BPCHAR, -1),
        ("SELECT CASE WHEN id = 1 THEN c ELSE c END FROM padded", "c", Type::BPCHAR, 8),
        ("SELECT max(c) FROM padded", "max", Type::BPCHAR, -1),
        ("SELECT (SELECT c FROM padded LIMIT 1) AS s", "s", Type::BPCHAR, 8),
        ("SELECT DISTINCT c FROM padded", "c", Type::BPCHAR, 8),
        ("SELECT c FROM padded GROUP BY c", "c", Type::BPCHAR, 8),
        ("SELECT c FROM padded UNION ALL SELECT c FROM padded", "c", Type::BPCHAR, 8),
        ("SELECT c FROM padded UNION ALL SELECT b FROM padded", "c", Type::BPCHAR, -1),
        ("VALUES ('a'::char(2)), ('b'::char(2))", "column1", Type::BPCHAR, 6),
        ("SELECT c || 'x' AS t FROM padded", "t", Type::TEXT, -1),
        ("SELECT c::text FROM padded", "c", Type::TEXT, -1),
        ("SELECT c::varchar(3) FROM padded", "c", Type::VARCHAR, 7),
        ("SELECT upper(c) FROM padded", "upper", Type::TEXT, -1),
        ("SELECT coalesce(x, c) AS t FROM padded", "t", Type::TEXT, -1),
        ("UPDATE padded SET c = 'zz' WHERE false RETURNING c", "c", Type::BPCHAR, 8),
    ] {
        let prepared = client.prepare(query).await.unwrap_or_else(|error| panic!("{query}: {error:?}"));
        let column = &prepared.columns()[0];
        assert_eq!((column.name(), column.type_()), (name, &kind), "{query}");
        assert_eq!(column.type_modifier(), modifier, "{query}");
    }
    let mut raw = Raw::connect(server.port, "ada");
    assert_eq!(raw.query("SELECT c, b FROM padded").columns(), [(1042, -1, 8), (1042, -1, -1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn catalogs_name_the_type() {
    let server = Running::start().await;
    let client = server.connect().await;
    fill(&client).await;
    let attributes = "SELECT attname, atttypid, atttypmod, format_type(atttypid, atttypmod) FROM pg_attribute \
                      WHERE attrelid = 'padded'::regclass AND attnum > 1 ORDER BY attnum";
    assert_eq!(lines(&client, attributes).await, ["c|1042|8|character(4)", "b|1042|-1|bpchar", "x|25|-1|text"]);
    let columns = "SELECT data_type, udt_name, character_maximum_length, character_octet_length \
                   FROM information_schema.columns WHERE table_name = 'padded' AND column_name IN ('c', 'b') \
                   ORDER BY ordinal_position";
    assert_eq!(lines(&client, columns).await, ["character|bpchar|4|16", "character|bpchar|NULL|1073741824"]);
    let names = "SELECT format_type(1042, 5), format_type(1042, -1), format_type(1042, NULL), format_type(1014, 8), \
                 format_type(1014, -1)";
    assert_eq!(lines(&client, names).await, ["character(1)|bpchar|character|character(4)[]|bpchar[]"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_have_the_type_of_postgres() {
    let server = Running::start().await;
    let client = server.connect().await;
    fill(&client).await;
    for (query, expected) in [
        ("SELECT id FROM padded WHERE c = $1", vec![Type::BPCHAR]),
        ("SELECT id FROM padded WHERE $1 = c", vec![Type::BPCHAR]),
        ("SELECT id FROM padded WHERE c LIKE $1", vec![Type::TEXT]),
        ("SELECT id FROM padded WHERE c ~ $1", vec![Type::TEXT]),
        ("SELECT c || $1 FROM padded", vec![Type::TEXT]),
        ("SELECT $1::char(4)", vec![Type::BPCHAR]),
        ("SELECT $1::bpchar, $2::character, $3::character(3)", vec![Type::BPCHAR, Type::BPCHAR, Type::BPCHAR]),
        ("SELECT id FROM padded WHERE c = ANY($1)", vec![Type::BPCHAR_ARRAY]),
        ("INSERT INTO padded VALUES (1, $1, $2, $3)", vec![Type::BPCHAR, Type::BPCHAR, Type::TEXT]),
        ("UPDATE padded SET c = $1 WHERE b = $2", vec![Type::BPCHAR, Type::BPCHAR]),
        ("SELECT id FROM padded WHERE c IN ($1, $2)", vec![Type::BPCHAR, Type::BPCHAR]),
        ("SELECT id FROM padded WHERE c BETWEEN $1 AND $2", vec![Type::BPCHAR, Type::BPCHAR]),
        ("SELECT coalesce(c, $1) FROM padded", vec![Type::BPCHAR]),
        ("SELECT CASE WHEN id = 1 THEN c ELSE $1 END FROM padded", vec![Type::BPCHAR]),
        ("SELECT nullif(c, $1) FROM padded", vec![Type::BPCHAR]),
        ("SELECT id FROM padded WHERE c = $1::text", vec![Type::TEXT]),
    ] {
        let prepared = client.prepare(query).await.unwrap_or_else(|error| panic!("{query}: {error:?}"));
        assert_eq!(prepared.params(), expected, "{query}");
    }
    // The values of parameters in binary form.
    let ids = async |query: &str, parameter: &(dyn ToSql + Sync)| {
        let rows = client.query(query, &[parameter]).await.unwrap_or_else(|error| panic!("{query}: {error:?}"));
        rows.iter().map(|row| row.get::<_, i32>(0)).collect::<Vec<_>>()
    };
    for value in ["ab", "ab ", "ab  ", "ab       "] {
        assert_eq!(ids("SELECT id FROM padded WHERE c = $1", &value).await, [1], "{value}");
        assert_eq!(ids("SELECT id FROM padded WHERE $1 = b", &value).await, [1], "{value}");
        assert_eq!(ids("SELECT id FROM padded WHERE c = ANY($1)", &vec![value, "q"]).await, [1], "{value}");
        let as_text = ids("SELECT id FROM padded WHERE c = $1::text", &value).await;
        assert_eq!(as_text.len(), usize::from(value == "ab"), "{value}");
    }
    assert_eq!(ids("SELECT id FROM padded WHERE c < $1 ORDER BY id", &"b ").await, [1]);
    assert_eq!(ids("SELECT id FROM padded WHERE c LIKE $1", &"ab").await, [0; 0]);
    assert_eq!(ids("SELECT id FROM padded WHERE c LIKE $1", &"ab  ").await, [1]);
    let row = client.query_one("SELECT $1::char(4), c || $2 FROM padded WHERE id = 1", &[&"xyzabc", &"z "]).await;
    let row = row.unwrap();
    assert_eq!((row.get::<_, String>(0).as_str(), row.get::<_, String>(1).as_str()), ("xyza", "abz "));
    // And in text, of several types.
    let mut raw = Raw::connect(server.port, "ada");
    for (kind, value, is_found) in [(0, "ab ", true), (1042, "ab ", true), (25, "ab ", false), (1043, "ab", true)] {
        let answer = raw.query_with("SELECT id FROM padded WHERE c = $1", kind, 0, value.as_bytes());
        assert_eq!(answer.value().is_some(), is_found, "{kind} {value}");
    }
    client.batch_execute("PREPARE p(char(4)) AS SELECT id FROM padded WHERE c = $1").await.unwrap();
    assert_eq!(lines(&client, "EXECUTE p('b ')").await, ["2"]);
    client.batch_execute("PREPARE q(text) AS SELECT $1 || '|'").await.unwrap();
    assert_eq!(lines(&client, "EXECUTE q('x'::char(4))").await, ["x|"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_take_what_fits() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE fixed (c char(2) PRIMARY KEY, d character DEFAULT 'x')").await.unwrap();
    let insert = "INSERT INTO fixed (c) VALUES ($1) RETURNING c, d";
    let row = client.query_one(insert, &[&"a"]).await.unwrap();
    assert_eq!((row.get::<_, String>(0).as_str(), row.get::<_, String>(1).as_str()), ("a ", "x"));
    let row = client.query_one(insert, &[&"bc   "]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "bc");
    for (value, code) in [("abc", "22001"), ("a", "23505"), ("a   ", "23505")] {
        let error = client.query(insert, &[&value]).await.unwrap_err();
        assert_eq!(error.code().map(|code| code.code().to_owned()).as_deref(), Some(code), "{value}");
    }
    let changed = client.query_one("UPDATE fixed SET d = $1 WHERE c = $2 RETURNING d", &[&"z  ", &"a "]).await.unwrap();
    assert_eq!(changed.get::<_, String>(0), "z");
    assert_eq!(lines(&client, "DELETE FROM fixed WHERE c = 'a' RETURNING c").await, ["a "]);
    assert_eq!(fails(&client, "UPDATE fixed SET d = 'zz'").await, "22001");
    // Defaults of the type.
    let table = "CREATE TABLE defaults (id int, t text DEFAULT 'a'::char(3), c char(4) DEFAULT 'abc'::char(2), \
                 b bpchar DEFAULT 'a'::char(3))";
    client.batch_execute(table).await.unwrap();
    client.batch_execute("INSERT INTO defaults (id) VALUES (1); INSERT INTO defaults (id) SELECT 2").await.unwrap();
    client.batch_execute("INSERT INTO defaults VALUES (3, DEFAULT, DEFAULT, DEFAULT)").await.unwrap();
    assert_eq!(lines(&client, "SELECT t, c, b FROM defaults").await, ["a|ab  |a  "; 3]);
    client.batch_execute("CREATE TABLE texts (id int, t text DEFAULT 'a'::char(3))").await.unwrap();
    client.batch_execute("INSERT INTO texts (id) VALUES (1); UPDATE texts SET t = DEFAULT").await.unwrap();
    assert_eq!(lines(&client, "SELECT t FROM texts").await, ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_have_their_blanks() {
    let server = Running::start().await;
    let client = server.connect().await;
    fill(&client).await;
    let read = async |query: &str| {
        let pieces = client.copy_out(query).await.unwrap_or_else(|error| panic!("{query}: {error:?}"));
        let pieces: Vec<Bytes> = pieces.try_collect().await.unwrap();
        pieces.concat()
    };
    assert_eq!(read("COPY padded (c, b) TO STDOUT").await, b"ab  \tab \nb   \tb\n\\N\t\\N\n");
    assert_eq!(read("COPY (SELECT c FROM padded WHERE id < 3) TO STDOUT (FORMAT csv)").await, b"ab  \nb   \n");
    let binary = read("COPY (SELECT c FROM padded WHERE id = 1) TO STDOUT (FORMAT binary)").await;
    assert!(binary.windows(8).any(|bytes| bytes == b"\0\0\0\x04ab  "), "{binary:?}");
    let write = async |query: &str, data: Vec<u8>| {
        let sink = client.copy_in::<_, Bytes>(query).await.unwrap_or_else(|error| panic!("{query}: {error:?}"));
        let mut sink = std::pin::pin!(sink);
        sink.send(data.into()).await.unwrap();
        sink.as_mut().finish().await
    };
    write("COPY padded (id, c, b) FROM STDIN", b"4\tx\tx \n5\ty       \t\n".to_vec()).await.unwrap();
    write("COPY padded (c) FROM STDIN (FORMAT binary)", binary).await.unwrap();
    let filled = "SELECT c, b FROM padded WHERE id > 3 OR id IS NULL ORDER BY id NULLS LAST";
    assert_eq!(lines(&client, filled).await, ["x   |x ", "y   |", "ab  |NULL"]);
    let error = write("COPY padded (id, c) FROM STDIN", b"6\tabcde\n".to_vec()).await.unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("22001"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_is_an_error() {
    let server = Running::start().await;
    let client = server.connect().await;
    fill(&client).await;
    client.batch_execute("CREATE TABLE parents (c char(4) PRIMARY KEY)").await.unwrap();
    for (statement, sqlstate) in [
        ("CREATE TABLE t (c char(0))", "22023"),
        ("CREATE TABLE t (c bpchar(10485761))", "22023"),
        ("CREATE TABLE t (c bpchar PRIMARY KEY)", "0A000"),
        ("ALTER TABLE padded ADD UNIQUE (b)", "0A000"),
        ("CREATE UNIQUE INDEX ON padded (b)", "0A000"),
        ("CREATE TABLE t (c char(2)) AS SELECT 'x'", "42601"),
        ("CREATE TABLE t (c char(3) REFERENCES parents)", "0A000"),
        ("CREATE TABLE t (c char(4)[])", "0A000"),
        ("SELECT array_agg(c) FROM padded", "0A000"),
        ("SELECT lag(c) OVER (ORDER BY id) FROM padded", "0A000"),
        ("SELECT greatest(c, 'x') FROM padded", "0A000"),
        ("SELECT greatest('a'::char(3), 'b')", "0A000"),
        ("SELECT max(b) FROM padded", "0A000"),
        ("SELECT b FROM padded GROUP BY b", "0A000"),
        ("SELECT c FROM padded UNION ALL SELECT x FROM padded", "0A000"),
        ("SELECT c FROM padded GROUP BY GROUPING SETS ((c), ())", "0A000"),
        ("SELECT id FROM padded WHERE c = 1", "42883"),
        ("SELECT c + 1 FROM padded", "42883"),
        ("SELECT c IN ('a', 1) FROM padded", "42883"),
        ("SELECT c BETWEEN 'a' AND 1 FROM padded", "42883"),
        ("SELECT nullif(c, 1) FROM padded", "42883"),
        ("SELECT CASE WHEN id = 1 THEN c ELSE 1 END FROM padded", "42804"),
        ("INSERT INTO padded (id) SELECT c FROM padded", "42804"),
    ] {
        assert_eq!(fails(&client, statement).await, sqlstate, "{statement}");
    }
    client.batch_execute("CREATE TABLE children (c char(4) REFERENCES parents)").await.unwrap();
    client.batch_execute("INSERT INTO parents VALUES ('a'); INSERT INTO children VALUES ('a  ')").await.unwrap();
    assert_eq!(fails(&client, "INSERT INTO children VALUES ('b')").await, "23503");
}
