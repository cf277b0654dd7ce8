//! Tests of `uuid` as a type of columns, of parameters and of results. Answers are those of PostgreSQL 15.

use bytes::Bytes;
use futures::{SinkExt, TryStreamExt};
use tokio_postgres::Client;

use crate::raw::{Answer, Raw};
use crate::{Running, fails, lines, simple};

const A: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
const B: &str = "b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
const ZERO: &str = "00000000-0000-0000-0000-000000000000";

/// Returns the 16 bytes of a value.
fn bytes_of(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

/// Returns the binary form of an array.
fn array_of(items: &[Option<&str>]) -> Vec<u8> {
    let mut array = Vec::new();
    for word in [1, i32::from(items.contains(&None)), 2950, items.len() as i32, 1] {
        array.extend(word.to_be_bytes());
    }
    for item in items {
        match item {
            Some(item) => {
                array.extend(16i32.to_be_bytes());
                array.extend(bytes_of(item));
            }
            None => array.extend((-1i32).to_be_bytes()),
        }
    }
    array
}

async fn run(client: &Client, statement: &str) {
    client.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

/// Creates a table with some values.
async fn fill(client: &Client) {
    run(client, "CREATE TABLE ids (u uuid PRIMARY KEY, n int, other uuid)").await;
    run(client, &format!("INSERT INTO ids VALUES ('{}', 1, NULL), (uuid '{{{B}}}', 2, '{A}')", A.to_uppercase())).await;
    run(client, &format!("INSERT INTO ids (n, u) SELECT 3, '{ZERO}'")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_hold_values() {
    let server = Running::start().await;
    let client = server.connect().await;
    fill(&client).await;
    let all = "SELECT u, n, other FROM ids ORDER BY u";
    assert_eq!(lines(&client, all).await, [format!("{ZERO}|3|NULL"), format!("{A}|1|NULL"), format!("{B}|2|{A}")]);
    for statement in [
        format!("UPDATE ids SET other = '{}' WHERE n = 1", B.to_uppercase()),
        "UPDATE ids SET other = u WHERE n = 3".to_owned(),
        "UPDATE ids SET other = nullif(other, u)".to_owned(),
        format!("DELETE FROM ids WHERE u = '{{{B}}}'"),
        "INSERT INTO ids SELECT other, 4, u FROM ids WHERE n = 1".to_owned(),
        format!("EXPLAIN INSERT INTO ids VALUES ('{ZERO}', 5)"),
        // A value goes into a text.
        "CREATE TABLE texts (t text, v varchar(40), n int)".to_owned(),
        format!("INSERT INTO texts VALUES (uuid '{A}', uuid '{A}', 1)"),
        "INSERT INTO texts SELECT u, NULL, n FROM ids WHERE n = 3".to_owned(),
        "UPDATE texts SET v = (SELECT u FROM ids WHERE n = 1) WHERE n = 3".to_owned(),
    ] {
        run(&client, &statement).await;
    }
    assert_eq!(lines(&client, all).await, [format!("{ZERO}|3|NULL"), format!("{A}|1|{B}"), format!("{B}|4|{A}")]);
    assert_eq!(lines(&client, "SELECT t, v FROM texts ORDER BY n").await, [format!("{A}|{A}"), format!("{ZERO}|{A}")]);
    for (statement, sqlstate) in [
        ("INSERT INTO ids VALUES ('x', 5)".to_owned(), "22P02"),
        ("UPDATE ids SET u = 'x'".into(), "22P02"),
        ("INSERT INTO ids SELECT 'x', 5".into(), "22P02"),
        (format!("INSERT INTO ids VALUES ('{A}'::text, 5)"), "42804"),
        ("INSERT INTO ids VALUES (1, 5)".into(), "42804"),
        ("INSERT INTO ids SELECT t, 5 FROM texts".into(), "42804"),
        ("UPDATE ids SET u = n".into(), "42804"),
        ("UPDATE ids SET n = u".into(), "42804"),
        (format!("INSERT INTO ids VALUES ('{A}', 5)"), "23505"),
        ("INSERT INTO ids VALUES (NULL, 5)".into(), "23502"),
        ("CREATE TABLE t1 (u uuid DEFAULT 'x')".into(), "22P02"),
        ("CREATE TABLE t2 (u uuid DEFAULT 1)".into(), "42804"),
        ("CREATE TABLE t3 (u uuid) AS SELECT 'x'".into(), "42601"),
    ] {
        assert_eq!(fails(&client, &statement).await, sqlstate, "{statement}");
    }
    assert_eq!(simple(&client, "SELECT count(*) FROM ids").await, ["3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_made_with_values() {
    let server = Running::start().await;
    let client = server.connect().await;
    fill(&client).await;
    for statement in [
        format!("CREATE TABLE filled (n int, u uuid DEFAULT '{}', v uuid DEFAULT uuid '{ZERO}')", A.to_uppercase()),
        "INSERT INTO filled (n) VALUES (1)".to_owned(),
        "INSERT INTO filled VALUES (2, DEFAULT, NULL)".to_owned(),
        "INSERT INTO filled (n) SELECT 3".to_owned(),
        "UPDATE filled SET u = DEFAULT, v = u WHERE n = 3".to_owned(),
        "CREATE TABLE made AS SELECT u, ARRAY[u, other] AS pair FROM ids".to_owned(),
        "CREATE VIEW seen AS SELECT u, coalesce(other, u) AS o, CASE WHEN n = 1 THEN u END AS c FROM ids".to_owned(),
        "CREATE TABLE refers (u uuid REFERENCES ids (u), UNIQUE (u))".to_owned(),
        format!("INSERT INTO refers VALUES ('{A}'), (NULL)"),
        "CREATE TABLE checked (u uuid CHECK (u > '00000000-0000-0000-0000-000000000001'))".to_owned(),
        format!("INSERT INTO checked VALUES ('{A}')"),
    ] {
        run(&client, &statement).await;
    }
    assert_eq!(
        lines(&client, "SELECT * FROM filled ORDER BY n").await,
        [format!("1|{A}|{ZERO}"), format!("2|{A}|NULL"), format!("3|{A}|{A}")]
    );
    assert_eq!(
        lines(&client, "SELECT pair, pg_typeof(pair), pg_typeof(u) FROM made ORDER BY u LIMIT 1").await,
        [format!("{{{ZERO},NULL}}|uuid[]|uuid")]
    );
    assert_eq!(
        lines(&client, "SELECT u, o, c, pg_typeof(o), pg_typeof(c) FROM seen ORDER BY u").await,
        [format!("{ZERO}|{ZERO}|NULL|uuid|uuid"), format!("{A}|{A}|{A}|uuid|uuid"), format!("{B}|{A}|NULL|uuid|uuid")]
    );
    for (statement, sqlstate) in [
        ("INSERT INTO refers VALUES ('c0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11')".to_owned(), "23503"),
        (format!("INSERT INTO refers VALUES ('{A}')"), "23505"),
        (format!("INSERT INTO checked VALUES ('{ZERO}')"), "23514"),
    ] {
        assert_eq!(fails(&client, &statement).await, sqlstate, "{statement}");
    }
    let of_columns = "SELECT column_name, data_type, udt_name FROM information_schema.columns \
                      WHERE table_name IN ('made', 'seen') ORDER BY table_name, ordinal_position";
    assert_eq!(
        lines(&client, of_columns).await,
        ["u|uuid|uuid", "pair|ARRAY|_uuid", "u|uuid|uuid", "o|uuid|uuid", "c|uuid|uuid"]
    );
    let of_attributes = "SELECT atttypid, format_type(atttypid, atttypmod) FROM pg_attribute \
                         WHERE attrelid = 'made'::regclass AND attnum > 0 ORDER BY attnum";
    assert_eq!(lines(&client, of_attributes).await, ["2950|uuid", "2951|uuid[]"]);
    let of_types = "SELECT typname, typlen, typarray, typelem FROM pg_type WHERE oid IN (2950, 2951) ORDER BY oid";
    assert_eq!(lines(&client, of_types).await, ["uuid|16|2951|0", "_uuid|-1|0|2950"]);
}

/// Outputs over the table of [`fill`], ordered by their numbers `n`.
const TYPED: &[&str] = &[
    "u",
    "other",
    "coalesce(other, u)",
    "coalesce(other, '00000000000000000000000000000000')",
    "nullif(u, other)",
    "greatest(u, other)",
    "least(u, NULL)",
    "CASE WHEN n = 1 THEN u END",
    "CASE WHEN n = 1 THEN '00000000000000000000000000000000' ELSE u END",
    "(SELECT x.u FROM ids x WHERE x.n = 1)",
    "lag(u) OVER (ORDER BY n)",
    "lead(u, 1, '00000000000000000000000000000000') OVER (ORDER BY n)",
    "first_value(u) OVER (ORDER BY u)",
    "last_value(u) OVER (ORDER BY u)",
    "(ARRAY[u, other])[2]",
    "u::text::uuid",
    "upper(u::text)::uuid",
    "CAST(u::varchar AS pg_catalog.uuid)",
];

#[tokio::test(flavor = "multi_thread")]
async fn expressions_are_of_the_type() {
    let server = Running::start().await;
    let client = server.connect().await;
    fill(&client).await;
    let mut raw = Raw::connect(server.port, "ada");
    for output in TYPED {
        let answer = raw.query(&format!("SELECT {output} AS x FROM ids ORDER BY n"));
        assert_eq!((answer.sqlstate(), answer.columns()), (None, vec![(2950, 16, -1)]), "{output}");
        assert_eq!(lines(&client, &format!("SELECT pg_typeof({output}) FROM ids LIMIT 1")).await, ["uuid"], "{output}");
    }
    for (condition, expected) in [
        (format!("u IS DISTINCT FROM '{{{A}}}'"), vec!["2", "3"]),
        (format!("'{}' IS NOT DISTINCT FROM u", A.to_uppercase()), vec!["1"]),
        (format!("other IS DISTINCT FROM '{A}'"), vec!["1", "3"]),
        (format!("u = ANY ('{{{},NULL}}')", A.to_uppercase()), vec!["1"]),
        (format!("'{{{A}}}' = ANY (ARRAY[u, other])"), vec!["1", "2"]),
        ("u <> ALL (ARRAY[other, other])".to_owned(), vec!["2"]),
        ("u > ALL (SELECT other FROM ids WHERE other IS NOT NULL)".to_owned(), vec!["2"]),
        (format!("(u, n) = (uuid '{A}', 1)"), vec!["1"]),
    ] {
        let query = format!("SELECT n FROM ids WHERE {condition} ORDER BY n");
        assert_eq!(simple(&client, &query).await, expected, "{query}");
    }
    for (query, kind) in [
        ("SELECT u FROM ids UNION SELECT NULL", 2950),
        ("SELECT NULL UNION ALL SELECT u FROM ids", 2950),
        ("SELECT u FROM ids EXCEPT SELECT other FROM ids", 2950),
        ("WITH t AS (SELECT u FROM ids), s AS (SELECT * FROM t) SELECT u FROM s ORDER BY u", 2950),
        ("VALUES (NULL), (uuid 'a0eebc999c0b4ef8bb6d6bb9bd380a11'), ('b0eebc999c0b4ef8bb6d6bb9bd380a11')", 2950),
        ("SELECT x FROM unnest(ARRAY[uuid 'a0eebc999c0b4ef8bb6d6bb9bd380a11']) t(x)", 2950),
        ("SELECT array_agg(u ORDER BY u) FROM ids", 2951),
        ("SELECT array_agg(u) OVER (ORDER BY u) FROM ids", 2951),
        ("SELECT array_cat(ARRAY[u], ARRAY[other]) FROM ids", 2951),
        ("SELECT u || ARRAY[other] FROM ids", 2951),
        ("SELECT ARRAY[ARRAY[u], ARRAY[other]] FROM ids", 2951),
        ("SELECT '{}'::uuid[]", 2951),
        ("SELECT u::text FROM ids", 25),
        ("SELECT ARRAY[u]::text[] FROM ids", 1009),
        ("SELECT u || 'x' FROM ids", 25),
    ] {
        let answer = raw.query(query);
        assert_eq!((answer.sqlstate(), answer.column_type()), (None, Some(kind)), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_sent_and_taken_in_both_forms() {
    let server = Running::start().await;
    let client = server.connect().await;
    fill(&client).await;
    let mut raw = Raw::connect(server.port, "ada");
    let is = |answer: &Answer, text: &str, query: &str| {
        assert_eq!((answer.sqlstate(), answer.value().as_deref()), (None, Some(text)), "{query}");
    };
    // The type is declared, or follows from what is beside the parameter.
    let upper = A.to_uppercase();
    for query in [
        "SELECT n FROM ids WHERE u = $1",
        "SELECT n FROM ids WHERE u IN ($1)",
        "SELECT n FROM ids WHERE $1 = u AND u BETWEEN $1 AND $1",
        "SELECT n FROM ids WHERE u = $1::uuid",
        "SELECT n FROM ids WHERE u IS NOT DISTINCT FROM $1",
        "SELECT n FROM ids WHERE coalesce(u, $1) = $1",
        "SELECT CASE WHEN u = $1 THEN n END FROM ids ORDER BY n",
        "SELECT n FROM ids WHERE $1 = ANY (ARRAY[u])",
        "SELECT x.n FROM ids x JOIN ids y ON x.u = y.other AND x.u = $1",
        "SELECT n FROM ids WHERE u IN (SELECT $1::uuid)",
    ] {
        is(&raw.query_with(query, 0, 0, upper.as_bytes()), "1", query);
        is(&raw.query_with(query, 2950, 1, &bytes_of(A)), "1", query);
        assert_eq!(raw.query_with(query, 0, 0, b"x").sqlstate().as_deref(), Some("22P02"), "{query}");
        assert_eq!(raw.query_with(query, 2950, 1, b"x").sqlstate().as_deref(), Some("22P03"), "{query}");
    }
    let array = format!("{{{upper},NULL}}");
    for query in ["SELECT n FROM ids WHERE u = ANY ($1)", "SELECT n FROM ids WHERE NOT u <> ALL ($1::uuid[])"] {
        is(&raw.query_with(query, 0, 0, array.as_bytes()), "1", query);
        is(&raw.query_with(query, 2951, 1, &array_of(&[Some(A), None])), "1", query);
        assert_eq!(raw.query_with(query, 0, 0, b"{x}").sqlstate().as_deref(), Some("22P02"), "{query}");
    }
    is(&raw.query_with("SELECT $1::uuid", 25, 0, upper.as_bytes()), A, "a text that is cast");
    is(&raw.query_with("SELECT $1::uuid::text", 0, 0, upper.as_bytes()), A, "a value as text");
    is(
        &raw.query_with("SELECT $1::uuid[]", 2951, 1, &array_of(&[None, Some(B)])),
        &format!("{{NULL,{B}}}"),
        "an array",
    );
    assert_eq!(raw.query_with("SELECT 1 FROM ids WHERE u = $1", 25, 0, b"x").sqlstate().as_deref(), Some("42883"));
    for (query, kind, format, value, sqlstate) in [
        ("INSERT INTO ids (u) VALUES ($1)", 0, 0, b"{c0eebc999c0b4ef8bb6d6bb9bd380a11}".as_slice(), None),
        ("INSERT INTO ids (u) VALUES ($1)", 2950, 1, &[7; 16], None),
        ("INSERT INTO ids (u) SELECT $1", 0, 0, b"d0eebc999c0b4ef8bb6d6bb9bd380a11", None),
        ("UPDATE ids SET other = $1", 0, 0, b"d0eebc999c0b4ef8bb6d6bb9bd380a11", None),
        ("INSERT INTO ids (u) VALUES ($1)", 0, 0, b"x", Some("22P02")),
        ("INSERT INTO ids (u) VALUES ($1)", 25, 0, A.as_bytes(), Some("42804")),
        ("INSERT INTO ids (u) VALUES ($1)", 17, 1, &[7; 16], Some("42804")),
    ] {
        assert_eq!(raw.query_with(query, kind, format, value).sqlstate().as_deref(), sqlstate, "{query} {value:?}");
    }
    assert_eq!(simple(&client, "SELECT count(*) FROM ids").await, ["6"]);
    // Results in the binary form.
    let rows = client.query(&format!("SELECT uuid '{A}', ARRAY[uuid '{B}', NULL], '{{}}'::uuid[]"), &[]).await.unwrap();
    let sent: Vec<Vec<u8>> = (0..3).map(|place| rows[0].get::<_, Sent>(place).0).collect();
    let empty = [0i32, 0, 2950].map(i32::to_be_bytes).concat();
    assert_eq!(sent, [bytes_of(A), array_of(&[Some(B), None]), empty]);
    let nested = client.query(&format!("SELECT ARRAY[ARRAY[uuid '{A}']]"), &[]).await.unwrap();
    let words = [2i32, 0, 2950, 1, 1, 1, 1, 16].map(i32::to_be_bytes).concat();
    assert_eq!(nested[0].get::<_, Sent>(0).0, [words, bytes_of(A)].concat());
    assert_eq!(simple(&client, &format!("SELECT ROW(uuid '{A}', NULL::uuid)")).await, [format!("({A},)")]);
    assert_eq!(simple(&client, &format!("SELECT ARRAY[ARRAY[uuid '{A}']]")).await, [format!("{{{{{A}}}}}")]);
}

/// A value as it is sent.
struct Sent(Vec<u8>);

impl<'a> tokio_postgres::types::FromSql<'a> for Sent {
    fn from_sql(
        _: &tokio_postgres::types::Type,
        raw: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(_: &tokio_postgres::types::Type) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_copied() {
    let server = Running::start().await;
    let client = server.connect().await;
    run(&client, "CREATE TABLE ids (u uuid, a uuid[])").await;
    let copy = async |statement: &str, data: Vec<u8>| {
        let sink = client.copy_in(statement).await.unwrap();
        futures::pin_mut!(sink);
        sink.send(Bytes::from(data)).await.unwrap();
        sink.finish().await
    };
    let copied = async |statement: &str| {
        let parts: Vec<_> = client.copy_out(statement).await.unwrap().try_collect().await.unwrap();
        parts.concat()
    };
    let text = format!("{}\t{{{B},NULL}}\n\\N\t{{}}\n", A.to_uppercase());
    assert_eq!(copy("COPY ids FROM STDIN", text.into_bytes()).await.unwrap(), 2);
    let csv = format!("{{{B}}},\"{{{A}}}\"\n,\n");
    assert_eq!(copy("COPY ids FROM STDIN (FORMAT csv)", csv.into_bytes()).await.unwrap(), 2);
    let binary = copied("COPY (SELECT u, a FROM ids ORDER BY u) TO STDOUT (FORMAT binary)").await;
    assert_eq!(copy("COPY ids FROM STDIN (FORMAT binary)", binary).await.unwrap(), 4);
    let found = copied("COPY (SELECT DISTINCT u, a FROM ids ORDER BY u, a) TO STDOUT").await;
    let expected = format!("{A}\t{{{B},NULL}}\n{B}\t{{{A}}}\n\\N\t{{}}\n\\N\t\\N\n");
    assert_eq!(String::from_utf8(found).unwrap(), expected);
    let found = copied("COPY (SELECT u, a FROM ids WHERE u IS NOT NULL GROUP BY u, a ORDER BY u) TO STDOUT CSV").await;
    assert_eq!(String::from_utf8(found).unwrap(), format!("{A},\"{{{B},NULL}}\"\n{B},{{{A}}}\n"));
    let row = [&[0, 1, 0, 0, 0, 16][..], &bytes_of(A), &[0xff, 0xff]].concat();
    assert!(copied(&format!("COPY (SELECT uuid '{A}') TO STDOUT (FORMAT binary)")).await.ends_with(&row));
    let wrong = copy("COPY ids (u) FROM STDIN", b"x\n".to_vec()).await.unwrap_err();
    assert_eq!(crate::sqlstate(&wrong), "22P02");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_uses_are_refused() {
    let server = Running::start().await;
    let client = server.connect().await;
    fill(&client).await;
    for (query, sqlstate) in [
        ("SELECT max(u) FROM ids", "42883"),
        ("SELECT min(u) OVER () FROM ids", "42883"),
        ("SELECT sum(u) FROM ids", "42883"),
        ("SELECT u = n FROM ids", "42883"),
        ("SELECT u = u::text FROM ids", "42883"),
        ("SELECT u IN (u::text) FROM ids", "42883"),
        ("SELECT n FROM ids WHERE u IN (SELECT u::text FROM ids)", "42883"),
        ("SELECT u = ''::bytea FROM ids", "42883"),
        ("SELECT u || u FROM ids", "42883"),
        ("SELECT u LIKE 'a%' FROM ids", "42883"),
        ("SELECT u ~ 'a' FROM ids", "42883"),
        ("SELECT string_agg(u, ',') FROM ids", "42883"),
        ("SELECT upper(u) FROM ids", "42883"),
        ("SELECT length(u) FROM ids", "42883"),
        ("SELECT coalesce(u, u::text) FROM ids", "42804"),
        ("SELECT CASE WHEN n = 1 THEN u ELSE 'x' END FROM ids", "22P02"),
        ("SELECT CASE WHEN n = 1 THEN u ELSE u::text END FROM ids", "42804"),
        ("SELECT u FROM ids UNION SELECT u::text FROM ids", "42804"),
        ("SELECT u::int FROM ids", "42846"),
        ("SELECT u::bytea FROM ids", "42846"),
        ("SELECT n::uuid FROM ids", "42846"),
        ("SELECT 1 FROM ids x JOIN (SELECT u::text AS u FROM ids) y USING (u)", "42883"),
        ("SELECT count(*) OVER (ORDER BY u RANGE 1 PRECEDING) FROM ids", "0A000"),
        ("COPY (SELECT u FROM ids) TO '/tmp/refused.csv'", "0A000"),
    ] {
        assert_eq!(fails(&client, query).await, sqlstate, "{query}");
    }
}
