//! Tests of ranges and multiranges. Answers and binary forms in the tables beside this file are those of PostgreSQL 15, of a
//! session in UTC.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::{SinkExt, TryStreamExt};
use tokio_postgres::Client;
use tokio_postgres::types::{FromSql, IsNull, Kind, ToSql, Type, to_sql_checked};

use crate::raw::Raw;
use crate::{Running, fails, lines};

/// Expressions, and what they are.
const ANSWERS: &str = include_str!("range_answers.tsv");

/// Types, texts, how these are written, and their binary form in hexadecimal digits.
const FORMS: &str = include_str!("range_forms.tsv");

/// The binary form of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Form(Vec<u8>);

impl FromSql<'_> for Form {
    fn from_sql(_: &Type, bytes: &[u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(bytes.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl ToSql for Form {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// Returns the rows of [`FORMS`].
fn forms() -> Vec<(Type, &'static str, &'static str, Form)> {
    let types: Vec<Type> = [3904, 3926, 3906, 3912, 3908, 3910, 4451, 4536, 4532, 4535, 4533, 4534]
        .into_iter()
        .map(|oid| Type::from_oid(oid).unwrap())
        .collect();
    let row = |line: &'static str| {
        let parts: Vec<&str> = line.split('\t').collect();
        let kind = types.iter().find(|kind| kind.name() == parts[0]).unwrap().clone();
        let bytes = (0..parts[3].len()).step_by(2).map(|at| u8::from_str_radix(&parts[3][at..at + 2], 16).unwrap());
        (kind, parts[1], parts[2], Form(bytes.collect()))
    };
    FORMS.lines().map(row).collect()
}

/// Returns the binary form of an array of one value.
fn array_of(kind: &Type, item: &Form) -> Form {
    let mut bytes = BytesMut::new();
    for word in [1, 0] {
        bytes.put_i32(word);
    }
    bytes.put_u32(kind.oid());
    for word in [1, 1, i32::try_from(item.0.len()).unwrap()] {
        bytes.put_i32(word);
    }
    bytes.extend_from_slice(&item.0);
    Form(bytes.to_vec())
}

async fn array_type(client: &Client, kind: &Type) -> Type {
    let found = lines(client, &format!("SELECT typarray FROM pg_type WHERE oid = {}", kind.oid())).await;
    Type::from_oid(found[0].parse().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn expressions_answer_as_postgres() {
    let server = Running::start().await;
    let client = server.connect().await;
    let mut wrong = Vec::new();
    for line in ANSWERS.lines() {
        let (expression, expected) = line.split_once('\t').unwrap();
        let query = format!("SELECT {expression}");
        match client.simple_query(&query).await {
            Ok(_) => {
                let found = lines(&client, &query).await;
                if found != [expected] {
                    wrong.push(format!("{query}: {found:?} for {expected}"));
                }
                if let Err(error) = client.query(&query, &[]).await {
                    wrong.push(format!("{query}, prepared: {error:?}"));
                }
            }
            Err(error) => wrong.push(format!("{query}: {error:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_those_of_postgres() {
    let server = Running::start().await;
    let client = server.connect().await;
    let mut wrong = Vec::new();
    for (expression, expected) in [
        ("'[1,5'::int4range", "22P02"),
        ("'{[1,5)'::int4multirange", "22P02"),
        ("'x'::int4range", "22P02"),
        ("'[x,2)'::int4range", "22P02"),
        ("'[5,1]'::int4range", "22000"),
        ("'[1,2147483647]'::int4range", "22003"),
        ("'[1,2147483648)'::int4range", "22003"),
        ("'[2000-13-01,)'::daterange", "22008"),
        ("int4range(5, 1)", "22000"),
        ("int4range(1, 5, NULL)", "22000"),
        ("int4range(1, 5, 'x')", "42601"),
        ("int4range(1, 2147483647, '[]')", "22003"),
        ("int4range('1'::text, '5')", "42883"),
        ("int4range(true, false)", "42883"),
        ("int4range(1, 5) + int4range(7, 8)", "22000"),
        ("int4range(1, 9) - int4range(3, 4)", "22000"),
        ("int8range(1, 5) @> 3", "42883"),
        ("numrange(1, 5) @> 2", "42883"),
        ("int4range(1, 5) = int8range(1, 5)", "42883"),
        ("'{[1,3)}'::int4multirange + int4range(2, 4)", "42883"),
        ("daterange('2020-01-01', '2021-01-01') @> '2020-05-01'", "22P02"),
        ("int4range(1, 3)::int", "42846"),
        ("5::int4range", "42846"),
        ("'{[1,2)}'::int4multirange::int4range", "42846"),
        ("int4range(1, 2)::int8range", "42846"),
        ("int4multirange(int4range(1, 2), NULL)", "22004"),
        ("int4multirange('[1,3)')", "22P02"),
        ("array[int4range(1, 2), int8range(1, 2)]", "42846"),
        ("CASE WHEN true THEN int4range(1, 2) ELSE 5 END", "42804"),
        ("isempty(5)", "42883"),
        ("lower_inc('[1,2)'::text)", "42883"),
        ("'{[1,2)}'::int4range[]", "22P02"),
    ] {
        let query = format!("SELECT {expression}");
        match client.simple_query(&query).await {
            Ok(_) => wrong.push(format!("{query} succeeds")),
            Err(error) if crate::sqlstate(&error) == expected => {}
            Err(error) => wrong.push(format!("{query}: {} for {expected}", crate::sqlstate(&error))),
        }
    }
    // What is not supported is refused by name.
    for query in [
        "SELECT max(r) FROM (VALUES (int4range(1, 2))) t(r)",
        "SELECT array_agg(r) FROM (VALUES (int4range(1, 2))) t(r)",
        "SELECT r FROM (VALUES ('[1,2)'::numrange)) t(r) GROUP BY r",
        "SELECT DISTINCT r FROM (VALUES ('[1,2)'::numrange)) t(r)",
        "SELECT row_number() OVER (ORDER BY r) FROM (VALUES (int4range(1, 2))) t(r)",
        "SELECT '[01/02/2000,)'::daterange",
        "SELECT '[NaN,)'::numrange",
        "SELECT lower('[-infinity,)'::daterange)",
        "CREATE VIEW kept AS SELECT tstzrange('2000-01-01', NULL) AS t",
        "CREATE VIEW kept AS SELECT '[2000-01-01,)'::tstzrange AS t",
        "SELECT tstzrange('2000-01-01 00:00+00', NULL) = '[2000-01-01,)'",
        "CREATE TABLE keyed (r int4range PRIMARY KEY)",
        "CREATE TABLE nested (r int4range[][])",
    ] {
        match client.simple_query(query).await {
            Ok(_) => wrong.push(format!("{query} succeeds")),
            Err(error) if crate::sqlstate(&error) == "0A000" => {}
            Err(error) => wrong.push(format!("{query}: {} for 0A000", crate::sqlstate(&error))),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn values_have_the_binary_form_of_postgres() {
    let server = Running::start().await;
    let client = server.connect().await;
    for (kind, text, written, form) in forms() {
        let name = kind.name();
        assert_eq!(lines(&client, &format!("SELECT '{text}'::{name}")).await, [written], "{name} {text}");
        let row = client.query_one(&format!("SELECT '{text}'::{name}"), &[]).await.unwrap();
        assert_eq!((row.columns()[0].type_(), row.get::<_, Form>(0)), (&kind, form.clone()), "{name} {text}");
        // A parameter in the binary form, of a type that is declared, cast, and beside a value.
        let statement = client.prepare_typed("SELECT $1", std::slice::from_ref(&kind)).await.unwrap();
        assert_eq!(client.query_one(&statement, &[&form]).await.unwrap().get::<_, Form>(0), form, "{name} {text}");
        let row = client.query_one(&format!("SELECT $1::{name}, $1::{name}::text"), &[&form]).await.unwrap();
        assert_eq!(row.get::<_, Form>(0), form, "{name} {text}");
        assert_eq!(row.get::<_, String>(1), written, "{name} {text}");
        let row = client.query_one(&format!("SELECT '{text}'::{name} = $1"), &[&form]).await.unwrap();
        assert!(row.get::<_, bool>(0), "{name} {text}");
        // An array of it.
        let (array, of) = (array_of(&kind, &form), array_type(&client, &kind).await);
        let row = client.query_one(&format!("SELECT array['{text}'::{name}]"), &[]).await.unwrap();
        assert_eq!((row.columns()[0].type_(), row.get::<_, Form>(0)), (&of, array.clone()), "{name} {text}");
        let row = client.query_one(&format!("SELECT $1::{name}[]"), &[&array]).await.unwrap();
        assert_eq!((row.columns()[0].type_(), row.get::<_, Form>(0)), (&of, array.clone()), "{name} {text}");
        let row = client.query_one(&format!("SELECT array['{text}'::{name}] = $1"), &[&array]).await.unwrap();
        assert!(row.get::<_, bool>(0), "{name} {text}");
    }
    let mut raw = Raw::connect(server.port, "ada");
    for (kind, value, sqlstate) in [
        (3904, b"".as_slice(), "22P03"),
        (3904, b"\x02\0\0\0\x04", "22P03"),
        (3904, b"\x18x", "22P03"),
        (3904, b"\x02\0\0\0\x04\0\0\0\x02\0\0\0\x04\0\0\0\x01", "22000"),
        (4451, b"\0\0\0\x01", "22P03"),
        (4451, b"\xff\xff\xff\xff", "22P03"),
    ] {
        let answer = raw.query_with("SELECT $1", kind, 1, value);
        assert_eq!(answer.sqlstate().as_deref(), Some(sqlstate), "{value:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_hold_values() {
    let server = Running::start().await;
    let client = server.connect().await;
    client
        .batch_execute(
            "SET TimeZone = 'Europe/Berlin'; \
             CREATE TABLE spans (id int, r int4range DEFAULT '[1,2]', n numrange, t tstzrange, m datemultirange, a daterange[]); \
             INSERT INTO spans VALUES (1, '[1,5]', '[1.0,2)', '[2000-07-01,2000-07-02)', '{[2000-01-01,2000-01-02]}', \
             '{\"[2000-01-01,2000-01-02]\",empty,NULL}'), (2, NULL, NULL, NULL, NULL, NULL), \
             (3, int4range(7, 9), numrange(1, 2), tstzrange('2000-07-01 00:00+00', NULL), '{}', array[daterange(NULL, NULL)]); \
             INSERT INTO spans (id, n) VALUES (4, '[1.00,2.0)'); \
             INSERT INTO spans (id, r, t) SELECT 5, r * '[2,3)', t FROM spans WHERE id = 1",
        )
        .await
        .unwrap();
    let all = "SELECT * FROM spans ORDER BY id";
    let filled = [
        "1|[1,6)|[1.0,2)|[\"2000-07-01 00:00:00+02\",\"2000-07-02 00:00:00+02\")|{[2000-01-01,2000-01-03)}|\
         {\"[2000-01-01,2000-01-03)\",empty,NULL}",
        "2|NULL|NULL|NULL|NULL|NULL",
        "3|[7,9)|[1,2)|[\"2000-07-01 02:00:00+02\",)|{}|{\"(,)\"}",
        "4|[1,3)|[1.00,2.0)|NULL|NULL|NULL",
        "5|[2,3)|NULL|[\"2000-07-01 00:00:00+02\",\"2000-07-02 00:00:00+02\")|NULL|NULL",
    ];
    assert_eq!(lines(&client, all).await, filled);
    client.batch_execute("SET TimeZone = 'UTC'; SET DateStyle = 'German'").await.unwrap();
    for (query, expected) in [
        ("SELECT t FROM spans WHERE id = 1", ["[\"30.06.2000 22:00:00 UTC\",\"01.07.2000 22:00:00 UTC\")"].as_slice()),
        ("SELECT t::text || '!' FROM spans WHERE id = 3", &["[\"01.07.2000 00:00:00 UTC\",)!"]),
        ("SELECT a FROM spans WHERE id = 1", &["{\"[01.01.2000,03.01.2000)\",empty,NULL}"]),
        ("SELECT id FROM spans WHERE id <> 2 ORDER BY r DESC, id", &["3", "5", "1", "4"]),
        ("SELECT id FROM spans WHERE n = '[1,2)' ORDER BY id", &["1", "3", "4"]),
        ("SELECT id FROM spans WHERE r @> 8", &["3"]),
        ("SELECT id FROM spans WHERE t = tstzrange('2000-06-30 22:00', '2000-07-01 22:00') ORDER BY id", &["1", "5"]),
        ("SELECT x.id, y.id FROM spans x JOIN spans y ON x.t = y.t AND x.id < y.id", &["1|5"]),
        ("SELECT t IS NULL, count(*) FROM spans GROUP BY t HAVING count(*) > 1 ORDER BY 1", &["f|2", "t|2"]),
        ("SELECT count(DISTINCT r) FROM spans", &["4"]),
        ("SELECT upper(r) - lower(r) FROM spans WHERE id < 4 ORDER BY id", &["5", "NULL", "2"]),
        ("SELECT id FROM spans WHERE r IN (SELECT r FROM spans WHERE id = 3)", &["3"]),
        ("SELECT u.r FROM (SELECT r FROM spans UNION ALL SELECT 'empty'::int4range) u WHERE isempty(u.r)", &["empty"]),
        (
            "SELECT data_type FROM information_schema.columns WHERE table_name = 'spans' AND ordinal_position > 4 \
          ORDER BY ordinal_position",
            &["datemultirange", "ARRAY"],
        ),
        (
            "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'spans'::regclass AND attnum > 1 \
          ORDER BY attnum",
            &["int4range", "numrange", "tstzrange", "datemultirange", "daterange[]"],
        ),
    ] {
        assert_eq!(lines(&client, query).await, expected, "{query}");
    }
    client
        .batch_execute("RESET DateStyle; CREATE VIEW seen AS SELECT id, r + '[6,7)' AS r, t FROM spans WHERE id = 1")
        .await
        .unwrap();
    assert_eq!(
        lines(&client, "SELECT r, pg_typeof(r), t FROM seen").await,
        ["[1,7)|int4range|[\"2000-06-30 22:00:00+00\",\"2000-07-01 22:00:00+00\")"]
    );
    client.batch_execute("UPDATE spans SET r = '[2,2]', t = t - '[2000-07-01 00:00+00,)' WHERE id = 1").await.unwrap();
    assert_eq!(
        lines(&client, "SELECT r, t FROM spans WHERE id = 1").await,
        ["[2,3)|[\"2000-06-30 22:00:00+00\",\"2000-07-01 00:00:00+00\")"]
    );
    for (statement, sqlstate) in [
        ("INSERT INTO spans (r) VALUES ('[1,2')", "22P02"),
        ("INSERT INTO spans (r) VALUES ('[2,1)')", "22000"),
        ("INSERT INTO spans (r) VALUES (1)", "42804"),
        ("INSERT INTO spans (r) VALUES ('[1,2)'::int8range)", "42804"),
        ("INSERT INTO spans (r) VALUES ('[1,2)'::text)", "42804"),
        ("UPDATE spans SET id = r", "42804"),
        ("CREATE TABLE other (r int4range DEFAULT '[1,2')", "22P02"),
        ("CREATE TABLE other (r int4range) AS SELECT 'x'", "42601"),
    ] {
        assert_eq!(fails(&client, statement).await, sqlstate, "{statement}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_without_a_type_are_ranges() {
    let server = Running::start().await;
    let mut raw = Raw::connect(server.port, "ada");
    for (query, value, expected) in [
        ("SELECT 'empty'::int4range = $1", b"empty".as_slice(), "t"),
        ("SELECT $1 = int4range(1, 3)", b"[1,2]", "t"),
        ("SELECT int4range(1, 3) @> $1", b"[1,1]", "t"),
        ("SELECT int4range(1, 3) + $1", b"[3,3]", "[1,4)"),
        ("SELECT int4range(1, $1)", b"5", "[1,5)"),
        ("SELECT int4range(1, 3, $1)", b"[]", "[1,4)"),
        ("SELECT daterange($1, NULL)", b"2000-01-01", "[2000-01-01,)"),
        ("SELECT int4multirange($1, int4range(1, 2))", b"[5,6]", "{[1,2),[5,7)}"),
        ("SELECT $1::tstzrange::text", b"[2000-01-01,)", "[\"2000-01-01 00:00:00+00\",)"),
        ("SELECT array['empty'::numrange, '(,)'] = $1", b"{empty,\"(,)\"}", "t"),
        ("SELECT $1::int4range[]", b"{\"[1,2]\"}", "{\"[1,3)\"}"),
        ("SELECT int4range(1, 3) IN ('empty', $1)", b"[1,2]", "t"),
    ] {
        let answer = raw.query_with(query, 0, 0, value);
        assert_eq!((answer.sqlstate(), answer.value().as_deref()), (None, Some(expected)), "{query}");
    }
    for (query, kind, value, expected) in [
        ("SELECT 'empty' = $1", 3904, b"empty".as_slice(), "t"),
        ("SELECT '{empty,\"(,)\"}' = $1", 3907, b"{empty,\"(,)\"}", "t"),
        ("SELECT '{}' = $1", 4451, b"{}", "t"),
        ("SELECT pg_typeof($1)", 4451, b"{}", "int4multirange"),
    ] {
        let answer = raw.query_with(query, kind, 0, value);
        assert_eq!((answer.sqlstate(), answer.value().as_deref()), (None, Some(expected)), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_keep_values() {
    let server = Running::start().await;
    let client = server.connect().await;
    for (place, (kind, text, written, form)) in forms().into_iter().enumerate() {
        let name = kind.name();
        let array = array_of(&kind, &form);
        client.batch_execute(&format!("CREATE TABLE copied{place} (r {name}, a {name}[])")).await.unwrap();
        // One row in the binary format, and one in text.
        let mut data = BytesMut::from(&b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"[..]);
        data.put_i16(2);
        for value in [&form, &array] {
            data.put_i32(i32::try_from(value.0.len()).unwrap());
            data.extend_from_slice(&value.0);
        }
        data.put_i16(-1);
        let binary = data.freeze();
        let sink = client.copy_in(&format!("COPY copied{place} FROM STDIN (FORMAT binary)")).await.unwrap();
        futures::pin_mut!(sink);
        sink.send(binary.clone()).await.unwrap();
        assert_eq!(sink.finish().await.unwrap(), 1, "{name} {text}");
        assert_eq!(lines(&client, &format!("SELECT r FROM copied{place}")).await, [written], "{name} {text}");
        let copied = client.copy_out(&format!("COPY copied{place} TO STDOUT (FORMAT binary)")).await.unwrap();
        let parts: Vec<Bytes> = copied.try_collect().await.unwrap();
        let mut out = BytesMut::new();
        parts.iter().for_each(|part| out.put(part.chunk()));
        assert_eq!(out.freeze(), binary, "{name} {text}");
        let copied = client.copy_out(&format!("COPY copied{place} (r) TO STDOUT")).await.unwrap();
        let parts: Vec<Bytes> = copied.try_collect().await.unwrap();
        assert_eq!(String::from_utf8(parts.concat()).unwrap(), format!("{written}\n"), "{name} {text}");
        let sink = client.copy_in(&format!("COPY copied{place} (r) FROM STDIN")).await.unwrap();
        futures::pin_mut!(sink);
        sink.send(Bytes::from(format!("{text}\n\\N\n"))).await.unwrap();
        assert_eq!(sink.finish().await.unwrap(), 2, "{name} {text}");
        let found = lines(&client, &format!("SELECT r FROM copied{place}")).await;
        assert_eq!(found, [written, written, "NULL"], "{name} {text}");
    }
    let sink = client.copy_in("COPY copied0 (r) FROM STDIN").await.unwrap();
    futures::pin_mut!(sink);
    sink.send(Bytes::from_static(b"[1,2\n")).await.unwrap();
    assert_eq!(crate::sqlstate(&sink.finish().await.unwrap_err()), "22P02");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_find_the_types() {
    let server = Running::start().await;
    let client = server.connect().await;
    let found = "SELECT t.typname, t.oid, t.typarray, r.rngsubtype, r.rngmultitypid FROM pg_type t \
                 JOIN pg_range r ON t.oid = r.rngtypid WHERE t.oid = 'int4range'::regtype";
    assert_eq!(lines(&client, found).await, ["int4range|3904|3905|23|4451"]);
    let found = "SELECT t.typname, t.oid, t.typarray, r.rngtypid FROM pg_type t \
                 JOIN pg_range r ON t.oid = r.rngmultitypid WHERE t.typname = 'tstzmultirange'";
    assert_eq!(lines(&client, found).await, ["tstzmultirange|4534|6153|3910"]);
    let row =
        client.query_one("SELECT int4range(1, 2), '{}'::tsmultirange, array[int8range(1, 2)]", &[]).await.unwrap();
    let types: Vec<_> = row.columns().iter().map(|column| column.type_().clone()).collect();
    assert_eq!(types, [Type::INT4_RANGE, Type::TSMULTI_RANGE, Type::INT8_RANGE_ARRAY]);
    assert!(matches!(types[0].kind(), Kind::Range(of) if *of == Type::INT4));
}
