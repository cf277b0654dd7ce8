//! Tests that values of parameters arrive as they were sent.

use futures::TryStreamExt;
use serde_json::Value;

use crate::raw::Raw;
use crate::{Running, fails, simple};

/// A type's name and number, a text of it, and PostgreSQL 15's answer to it: `SELECT $1` of that type, the parameter
/// and the answer as text.
const VALUES: &str = include_str!("values.jsonl");

/// Values that are refused by name, although Postgres knows them: Arrow has no such values.
const REFUSED: [(&str, &str); 11] = [
    ("numeric", "NaN"),
    ("numeric[]", "{NaN}"),
    ("numeric", "1e400000"),
    ("date", "infinity"),
    ("time", "24:00:00"),
    ("time", "23:59:60"),
    ("timestamp", "infinity"),
    ("text[]", "{{a,b},{c,d}}"),
    ("text[]", "[0:1]={a,b}"),
    ("oid", "4294967295"),
    ("oid", "-1"),
];

/// Lists of decimals, which have one scale here, and the same numbers with more zeros at their end.
const SCALED: [(&str, &str); 3] = [
    ("{1.5,1.25,3.75}", "{1.5000000000,1.2500000000,3.7500000000}"),
    ("{1,NULL,0.001}", "{1.0000000000,NULL,0.0010000000}"),
    ("{100,2.5}", "{100.0000000000,2.5000000000}"),
];

#[tokio::test(flavor = "multi_thread")]
async fn text_is_read_as_postgres_reads_it() {
    let server = Running::start().await;
    let mut raw = Raw::connect(server.port, "ada");
    let mut wrong = Vec::new();
    for line in VALUES.lines() {
        let row: Vec<Value> = serde_json::from_str(line).unwrap();
        let text = |index: usize| row[index].as_str().unwrap();
        let (kind, sent, outcome, expected) = (text(0), text(2), text(3), text(4));
        let oid = u32::try_from(row[1].as_u64().unwrap()).unwrap();
        for (query, oid) in [
            ("SELECT $1".to_owned(), oid),
            (format!("SELECT $1::{}", if kind == "char" { "\"char\"" } else { kind }), 0),
        ] {
            let answer = raw.query_with(&query, oid, 0, sent.as_bytes());
            let got = match answer.sqlstate() {
                Some(sqlstate) => ("error", sqlstate),
                None => ("ok", answer.value().unwrap_or("NULL".into())),
            };
            let refused = REFUSED.contains(&(kind, sent));
            let expected =
                SCALED.iter().find(|(text, _)| kind == "numeric[]" && *text == sent).map_or(expected, |(_, text)| text);
            let got = (got.0, got.1.as_str());
            let as_expected = if refused { got == ("error", "0A000") } else { got == (outcome, expected) };
            if !as_expected {
                wrong.push(format!("{query} of {kind} {sent:?}: {got:?} instead of {outcome} {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Checks the binary form of values, as Postgres' own `…send` functions write them, and the text of the answer.
#[tokio::test(flavor = "multi_thread")]
async fn binary_is_read_as_postgres_reads_it() {
    let server = Running::start().await;
    let mut raw = Raw::connect(server.port, "ada");
    for (oid, hex, outcome) in [
        (16, "01", "t"),
        (21, "8000", "-32768"),
        (23, "7fffffff", "2147483647"),
        (20, "8000000000000000", "-9223372036854775808"),
        (700, "7fc00000", "NaN"),
        (701, "8000000000000000", "-0"),
        (701, "fff0000000000000", "-Infinity"),
        (25, "61272762", "a''b"),
        (17, "00ff27", "\\x00ff27"),
        (114, "7b2261223a312e307d", "{\"a\":1.0}"),
        (3802, "017b2262223a312c2261223a327d", "{\"a\": 2, \"b\": 1}"),
        (2950, "a0eebc999c0b4ef8bb6d6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        (1082, "00002279", "2024-02-29"),
        (1083, "0000000a7b1a63c0", "12:30:15"),
        (1114, "0002b58330a6c3c0", "2024-02-29 12:30:15"),
        (1184, "0002b58330a6c3c0", "2024-02-29 12:30:15+00"),
        (1186, "000000036c97ca88000000030000000e", "1 year 2 mons 3 days 04:05:06.789"),
        // 12345.6789, -0.001, 100000000, NaN.
        (1700, "0003000100000004000109291a85", "12345.6789"),
        (1700, "0001ffff40000003000a", "-0.001"),
        (1700, "00010002000000000001", "100000000"),
        (1700, "00000000c0000000", "0A000"),
        // {a''b,"",NULL}, {1.5,1.25,3.75}, {}.
        (1009, "00000001000000010000001900000003000000010000000461272762 00000000 ffffffff", "{a''b,\"\",NULL}"),
        (
            1231,
            "0000000100000000000006a40000000300000001 \
             0000000c 0002000000000001 00011388 0000000c 0002000000000002 000109c4 0000000c 0002000000000002 00031d4c",
            "{1.5000000000,1.2500000000,3.7500000000}",
        ),
        (1007, "000000000000000000000017", "{}"),
        (1007, "000000020000000000000017", "0A000"),
        (23, "00", "22P03"),
        (25, "ff", "22021"),
        (25, "6100", "22021"),
        (1082, "7fffffff", "0A000"),
        (1266, "00", "22P03"),
        (1266, "0000000861c46800ffffe3e0", "10:00:00+02"),
        (1266, "000000141dd7600000007080", "24:00:00-08"),
        (1266, "000000141dd7600100007080", "22008"),
        (1266, "0000000000000000000f0000", "22009"),
        (869, "0218000401020304", "1.2.3.4/24"),
        (869, "0220000401020304", "1.2.3.4"),
        (869, "0221000401020304", "22P03"),
        (650, "0380011000000000000000000000000000000001", "::1/128"),
        (829, "08002b010203", "08:00:2b:01:02:03"),
    ] {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        let bytes: Vec<u8> = digits.chunks(2).map(pair).collect();
        let answer = raw.query_with("SELECT $1", oid, 1, &bytes);
        let got = answer.sqlstate().or_else(|| answer.value()).unwrap_or("NULL".into());
        assert_eq!(got, outcome, "{oid} {hex}");
        if answer.sqlstate().is_none() {
            assert_eq!(answer.column_type(), Some(oid));
        }
    }
}

/// Checks statements against the data that PostgreSQL 15 sends for them.
#[tokio::test(flavor = "multi_thread")]
async fn copies_are_those_of_postgres() {
    let server = Running::start().await;
    let client = server.connect().await;
    for (sql, expected) in [
        ("copy (select 1 as a, 'x' as b, null::text as c) to stdout", "1\tx\t\\N\n"),
        (
            r#"copy (select E'a\tb\nc\\d\re\b\f' as t, 2.5::float8 as "Q q", array[1,null,3] as r, true as y) to stdout"#,
            "a\\tb\\nc\\\\d\\re\\b\\f\t2.5\t{1,NULL,3}\tt\n",
        ),
        (
            r#"copy (select E'a\tb' as t, 'c,"d' as u, '' as v, null::text as w, E'new\nline' as n) to stdout
               with (format csv, header)"#,
            "t,u,v,w,n\na\tb,\"c,\"\"d\",\"\",,\"new\nline\"\n",
        ),
        (r"copy (select '\.' as t) to stdout with csv", "\"\\.\"\n"),
        (
            "copy (select 'a' as a, 'it''s' as b) to stdout
             with (format csv, quote '''', delimiter ';', force_quote (a))",
            "'a';'it''s'\n",
        ),
        (r#"copy (select 'a"b\c' as a) to stdout with (format csv, escape '\')"#, "\"a\\\"b\\\\c\"\n"),
        ("copy (select 'N' as a, null::int as b) to stdout with (null 'N', delimiter '|')", "N|N\n"),
        ("copy (select 'x|y' as a, 'b' as b) to stdout (delimiter '|', header true)", "a|b\nx\\|y|b\n"),
        ("copy (values (1,'ä€😀'),(2,null)) to stdout with csv header", "column1,column2\n1,ä€😀\n2,\n"),
        ("copy (select 1 where false) to stdout", ""),
        (
            r"copy (select date '2020-01-02' as d, timestamp '2020-01-02 03:04:05.678' as t,
              interval '1 day 2 hours' as i, '\x00ff'::bytea as b) to stdout",
            "2020-01-02\t2020-01-02 03:04:05.678\t1 day 02:00:00\t\\\\x00ff\n",
        ),
    ] {
        let copied = client.copy_out(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let parts: Vec<_> = copied.try_collect().await.unwrap();
        assert_eq!(String::from_utf8_lossy(&parts.concat()), expected, "{sql}");
    }
    let sql = "copy (select 1::int as a, 'abc'::text as b, null::text as c, 2.5::float8 as d, array[1,2]::int[] as e) \
               to stdout with (format binary)";
    let parts: Vec<_> = client.copy_out(sql).await.unwrap().try_collect().await.unwrap();
    let expected = "5047434f50590aff0d0a0000000000000000000005000000040000000100000003616263ffffffff00000008400400000000\
                    00000000002400000001000000000000001700000002000000010000000400000001000000040000\
                    0002ffff";
    // The header and the first row in one message, the second in another, which is the end.
    assert_eq!(parts.len(), 2);
    let found: String = parts.concat().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(found, expected);
    for (query, end) in [
        ("values (1::int, 'x'::text), (2, null)", "00020000000400000002ffffffffffff"),
        ("select 2, -1", "0002000000040000000200000004ffffffffffff"),
        ("values (1), (3000000000)", "00010000000800000000b2d05e00ffff"),
    ] {
        let copied = client.copy_out(&format!("copy ({query}) to stdout (format binary)")).await.unwrap();
        let parts: Vec<_> = copied.try_collect().await.unwrap();
        let found: String = parts.concat().iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(found.ends_with(end), "{query}: {found}");
    }
    let parts: Vec<_> =
        client.copy_out("copy models (model, layers) to stdout").await.unwrap().try_collect().await.unwrap();
    assert_eq!(parts.concat(), b"toy\t2\n");
    let rows = "copy (select a, 'some text' as b from generate_series(1, 300000) t(a)) to stdout";
    let parts: Vec<_> = client.copy_out(rows).await.unwrap().try_collect().await.unwrap();
    assert_eq!(parts.concat().iter().filter(|byte| **byte == b'\n').count(), 300_000);
    for (sql, code) in [
        ("copy (select 1) to stdout with (format nope)", "22023"),
        ("copy (select 1) to stdout with (format binary, header)", "0A000"),
        ("copy (select 1) to stdout with (delimiter 'a')", "22023"),
        ("copy (select 1) to stdout with (quote '\"')", "0A000"),
        ("copy nothing to stdout", "42P01"),
    ] {
        assert_eq!(fails(&client, sql).await, code, "{sql}");
    }
    // Between rows.
    let sql = "copy (select 1 / (3 - a) from generate_series(1, 3) t(a)) to stdout";
    let broken = client.copy_out(sql).await.unwrap().try_collect::<Vec<_>>().await;
    assert_eq!(crate::sqlstate(&broken.unwrap_err()), "22012");
    assert_eq!(simple(&client, "select 1").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn numerics_beside_others_keep_their_digits() {
    let server = Running::start().await;
    let mut raw = Raw::connect(server.port, "ada");
    let query = "SELECT c FROM (VALUES ('2.5'::numeric(2,1)), \
                 (CASE WHEN $1::numeric > 5 THEN 2147483647.4::numeric(11,1) ELSE $1::numeric END)) v(c) ORDER BY c LIMIT 1";
    let shown =
        |raw: &mut Raw, query| raw.query_with(query, 0, 0, b"1.10").value().unwrap().trim_end_matches('0').to_owned();
    assert_eq!(shown(&mut raw, query), "1.1");
    let bare = "VALUES ($1::numeric), (CASE WHEN $1::numeric > 5 THEN 2.125::numeric(4,3) ELSE $1::numeric END) ORDER BY 1 LIMIT 1";
    assert_eq!(shown(&mut raw, bare), "1.1");
    let longest = b"99999999999999999999999999999999999999";
    for query in ["SELECT $1::numeric + 9", "SELECT ($1::numeric + 9)::text", "SELECT length(($1::numeric + 9)::text)"]
    {
        assert_eq!(raw.query_with(query, 0, 0, longest).sqlstate().as_deref(), Some("22003"), "{query}");
    }
    assert_eq!(raw.query_with("SELECT $1::numeric - 9", 0, 0, longest).value().unwrap(), "9".repeat(37) + "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_have_the_types_of_those_beside_them() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (id int, k int, ai int[]); INSERT INTO t VALUES (1, 2, '{1}')").await.unwrap();
    for (query, types) in [
        ("SELECT coalesce($1, array_replace($2, k, id)) FROM t", vec!["_int4", "_int4"]),
        ("SELECT coalesce($1, array_remove($2, id)) FROM t", vec!["_int4", "_int4"]),
        ("SELECT 1 FROM t WHERE coalesce($1, id < ANY($2))", vec!["bool", "_int4"]),
        ("SELECT trunc($1, $2) >= $3", vec!["numeric", "int4", "numeric"]),
        ("SELECT trunc($1, $2) + $3", vec!["numeric", "int4", "numeric"]),
        ("SELECT lag(id, 1, $1) OVER (ORDER BY id) FROM t", vec!["int4"]),
    ] {
        let statement = client.prepare(query).await.unwrap();
        let found: Vec<_> = statement.params().iter().map(|found| found.name()).collect();
        assert_eq!(found, types, "{query}");
    }
    // A declared type stays.
    let mut raw = Raw::connect(server.port, "ada");
    for query in ["SELECT round(-$1)", "SELECT round($1 * -1)", "SELECT -round($1)"] {
        assert_eq!(raw.query_with(query, 701, 0, b"2.5").value().unwrap(), "-2", "{query}");
    }
    let answer = raw.query_with("SELECT $1 > trunc(2.5::numeric, 1)", 701, 0, b"2.5000001");
    assert_eq!(answer.value().unwrap(), "t");
}
