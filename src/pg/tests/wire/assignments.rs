//! Tests of values that INSERT and UPDATE put into columns of other types. Answers are those of PostgreSQL 15.

use bytes::Bytes;
use futures::SinkExt;
use tokio_postgres::types::Type;

use crate::raw::{Answer, Raw};
use crate::{Running, fails, simple, sqlstate};

/// The type of a column, the number of the type that a parameter is declared with (0 for none), its text, and the text in the
/// column or the SQLSTATE, in the time zone of New York.
const PARAMETERS: &[(&str, u32, &str, &str)] = &[
    ("int2", 21, "7", "7"),
    ("int2", 1700, "7.5", "8"),
    ("int4", 701, "2.5", "2"),
    ("int4", 701, "3.5", "4"),
    ("int4", 1700, "2.5", "3"),
    ("int4", 20, "5000000000", "22003"),
    ("int4", 700, "1e10", "22003"),
    ("int8", 25, "abc", "42804"),
    ("int8", 1043, "1", "42804"),
    ("int8", 16, "t", "42804"),
    ("int8", 1114, "2020-01-02 03:04:05", "42804"),
    ("int8", 0, "7", "7"),
    ("int8", 0, "x", "22P02"),
    ("int8", 26, "7", "7"),
    ("int2", 26, "7", "42804"),
    ("numeric(8,4)", 701, "7.25", "7.2500"),
    ("numeric(8,4)", 23, "7", "7.0000"),
    ("numeric(8,4)", 20, "5000000000", "22003"),
    ("numeric(8,4)", 1700, "7.25", "7.2500"),
    ("numeric(8,4)", 0, "7.25", "7.2500"),
    ("numeric(20,12)", 1700, "0.123456789012", "0.123456789012"),
    ("real", 701, "7.25", "7.25"),
    ("real", 23, "7", "7"),
    ("real", 701, "1e300", "22003"),
    ("float8", 1700, "7.25", "7.25"),
    ("float8", 25, "1", "42804"),
    ("text", 23, "7", "7"),
    ("text", 16, "t", "true"),
    ("text", 1700, "7.25", "7.25"),
    ("text", 1082, "2020-01-02", "2020-01-02"),
    ("text", 1184, "2020-01-02 03:04:05+00", "2020-01-01 22:04:05-05"),
    ("text", 17, "\\x41", "\\x41"),
    ("text", 1007, "{1,2}", "{1,2}"),
    ("text", 2950, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("text", 3802, "{\"a\":1}", "{\"a\": 1}"),
    ("varchar(3)", 25, "abcd", "22001"),
    ("varchar(3)", 25, "ab  ", "ab "),
    ("varchar(3)", 23, "7", "7"),
    ("varchar(3)", 16, "t", "22001"),
    ("bool", 23, "1", "42804"),
    ("bool", 25, "t", "42804"),
    ("bool", 0, "yes", "t"),
    ("date", 1114, "2020-01-02 03:04:05", "2020-01-02"),
    ("date", 1184, "2020-01-02 03:04:05+00", "2020-01-01"),
    ("date", 25, "2020-01-02", "42804"),
    ("timestamp", 1082, "2020-01-02", "2020-01-02 00:00:00"),
    ("timestamp", 1184, "2020-01-02 03:04:05+00", "2020-01-01 22:04:05"),
    ("timestamp", 25, "2020-01-02", "42804"),
    ("timestamp(0)", 1114, "2020-01-02 03:04:05.6", "2020-01-02 03:04:06"),
    ("timestamptz", 1114, "2020-01-02 03:04:05", "2020-01-02 03:04:05-05"),
    ("timestamptz", 1082, "2020-01-02", "2020-01-02 00:00:00-05"),
    ("timestamptz", 0, "2020-01-02 03:04:05", "2020-01-02 03:04:05-05"),
    ("timestamptz", 1184, "2020-01-02 03:04:05+00", "2020-01-01 22:04:05-05"),
    ("time", 1114, "2020-01-02 03:04:05", "03:04:05"),
    ("time", 1184, "2020-01-02 03:04:05+00", "22:04:05"),
    ("time", 20, "7", "42804"),
    ("interval", 1186, "1 day 02:00:00", "1 day 02:00:00"),
    ("interval", 25, "1 day", "42804"),
    ("bytea", 25, "x", "42804"),
    ("bytea", 23, "7", "42804"),
    ("bytea", 0, "\\x0041", "\\x0041"),
    ("int8[]", 1007, "{1,NULL}", "{1,NULL}"),
    ("int4[]", 1022, "{7.25,NULL}", "{7,NULL}"),
    ("numeric(8,2)[]", 1016, "{7}", "{7.00}"),
    ("int8[]", 1009, "{1}", "42804"),
    ("int8[]", 23, "7", "42804"),
    ("text[]", 1016, "{7}", "{7}"),
    ("int8[]", 0, "{1,2}", "{1,2}"),
    ("int4", 2950, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "42804"),
    ("int4", 114, "1", "42804"),
];

/// The type of a column, an expression, and the text in the column or the SQLSTATE.
const EXPRESSIONS: &[(&str, &str, &str)] = &[
    ("int4", "2.5", "3"),
    ("int4", "-2.5", "-3"),
    ("int4", "'5'", "5"),
    ("int4", "'5'::text", "42804"),
    ("int4", "true", "42804"),
    ("bool", "1", "42804"),
    ("bool", "'yes'", "t"),
    ("int4", "(select '5')", "42804"),
    ("int4", "case when true then '5' end", "42804"),
    ("int4", "date '2020-01-02' - date '2020-01-01'", "1"),
    ("numeric(5,2)", "1.255", "1.26"),
    ("text", "1.5", "1.5"),
    ("int8[]", "array['1']", "42804"),
    ("int8[]", "array[1,null]", "{1,NULL}"),
    ("int8[]", "'{1,2}'", "{1,2}"),
    ("interval", "timestamp '2020-01-02' - timestamp '2020-01-01'", "1 day"),
    ("timestamptz", "timestamp '2020-01-02 03:04:05'", "2020-01-02 03:04:05-05"),
    ("timestamp", "timestamptz '2020-01-02 03:04:05+00'", "2020-01-01 22:04:05"),
    ("timestamptz", "'2020-01-02 03:04:05'", "2020-01-02 03:04:05-05"),
    ("int4", "coalesce(null, 5)", "5"),
    ("text", "case when true then 1 end", "1"),
    ("int4", "now()", "42804"),
    ("int4", "'x'", "22P02"),
    ("varchar(3)", "'abcd'", "22001"),
    ("varchar(3)", "'a' || 'bc'", "abc"),
    ("int2", "40000", "22003"),
    ("int4", "3000000000", "22003"),
    ("text", "true", "true"),
    ("date", "'2020-01-02'", "2020-01-02"),
    ("int8", "'2020-01-02'::date", "42804"),
    ("float8", "1", "1"),
    ("text", "1::int4", "1"),
    ("bytea", "'abc'", "\\x616263"),
    ("bytea", "'abc'::text", "42804"),
    ("int4", "length('abc')", "3"),
    ("int4", "time '01:02'", "42804"),
    ("int4", "interval '1 day'", "42804"),
    ("numeric(8,4)", "date '2020-01-02'", "42804"),
    ("int8", "array[1]", "42804"),
    ("time", "'7'", "22007"),
    ("time", "'123015'", "12:30:15"),
    ("interval", "'1 day 2:00'", "1 day 02:00:00"),
    ("numeric(8,2)", "'1e2'", "100.00"),
    ("date", "'Feb 29, 2024'", "2024-02-29"),
    ("timestamp", "'2024-02-29 24:00'", "2024-03-01 00:00:00"),
];

/// Makes a table of a column `x`, changes it, and returns what is in it, or the SQLSTATE.
fn outcome(raw: &mut Raw, column: &str, is_update: bool, change: impl FnOnce(&mut Raw) -> Answer) -> String {
    let rows = if is_update { "; insert into a values (null)" } else { "" };
    let made = raw.query(&format!("drop table if exists a; create table a (x {column}){rows}"));
    assert_eq!(made.sqlstate(), None, "{column}");
    let sqlstate = change(raw).sqlstate();
    let found = raw.query("select x from a where x is not null");
    assert_eq!(found.sqlstate(), None, "{column}");
    match sqlstate {
        Some(sqlstate) => {
            assert_eq!(found.value(), None, "{column}");
            sqlstate
        }
        None => found.value().unwrap_or_else(|| "NULL".into()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_become_values_of_the_column() {
    let server = Running::start().await;
    let mut raw = Raw::connect(server.port, "ada");
    raw.query("set timezone = 'America/New_York'");
    let mut wrong = Vec::new();
    for (column, kind, sent, expected) in PARAMETERS {
        for statement in [
            "insert into a values ($1)",
            "insert into a (x) values (null), ($1)",
            "insert into a select $1",
            "update a set x = $1",
        ] {
            let change = |raw: &mut Raw| raw.query_with(statement, *kind, 0, sent.as_bytes());
            let found = outcome(&mut raw, column, statement.starts_with("update"), change);
            if found != *expected {
                wrong.push(format!("{statement} into {column} of {kind} {sent}: {found} instead of {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn expressions_become_values_of_the_column() {
    let server = Running::start().await;
    let mut raw = Raw::connect(server.port, "ada");
    let mut wrong = Vec::new();
    for (column, expression, expected) in EXPRESSIONS {
        for statement in [
            format!("insert into a values ({expression})"),
            format!("insert into a values (null), ({expression})"),
            format!("insert into a select {expression}"),
            format!("insert into a (x) select {expression} limit 1"),
            format!("update a set x = {expression}"),
        ] {
            // The table is made in another time zone.
            raw.query("set timezone = 'UTC'");
            let change = |raw: &mut Raw| {
                raw.query("set timezone = 'America/New_York'");
                raw.query(&statement)
            };
            let found = outcome(&mut raw, column, statement.starts_with("update"), change);
            if found != *expected {
                wrong.push(format!("{statement} into {column}: {found} instead of {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_send_values_of_their_own_types() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.batch_execute("create table m (a numeric(8,2), b real, c text default 'd', d int8)").await.unwrap();
    let insert = "insert into m (d, b, a) values ($1, $2, $3), (1, '2.5', null), ($1, $2, 7)";
    let insert = client.prepare_typed(insert, &[Type::INT4, Type::FLOAT8, Type::INT2]).await.unwrap();
    for mode in ["auto", "force_generic_plan", "force_custom_plan"] {
        client.batch_execute(&format!("delete from m; set plan_cache_mode = {mode}")).await.unwrap();
        for _ in 0..3 {
            assert_eq!(client.execute(&insert, &[&7i32, &7.25f64, &3i16]).await.unwrap(), 3);
        }
        let rows = "select concat_ws(',', a, b, c, d) from m where a = a or a is null order by a, d limit 3";
        assert_eq!(simple(&client, rows).await, ["3.00,7.25,d,7"; 3]);
        assert_eq!(simple(&client, "select sum(a) from m").await, ["30.00"]);
    }
    // Names for the same parameter.
    client.batch_execute("create table n (a int, b numeric(5,2))").await.unwrap();
    let both = client.prepare_typed("insert into n (b, a) values ($1, $1)", &[Type::FLOAT8]).await.unwrap();
    client.execute(&both, &[&2.5f64]).await.unwrap();
    assert_eq!(simple(&client, "select concat(a, ' ', b) from n").await, ["2 2.50"]);
    assert_eq!(client.prepare("insert into n values ($1, $1)").await.unwrap_err().code().unwrap().code(), "42P08");
    let update = client.prepare("update n set b = $1 where a = $1").await.unwrap();
    assert_eq!(update.params(), [Type::INT4]);
    assert_eq!(client.execute(&update, &[&2i32]).await.unwrap(), 1);
    assert_eq!(simple(&client, "select b from n").await, ["2.00"]);

    client.batch_execute("prepare i(int, text) as insert into m (a, c) values ($1, $2)").await.unwrap();
    client.batch_execute("delete from m; execute i(5, 'x'); execute i(2 + 3, upper('x'))").await.unwrap();
    assert_eq!(simple(&client, "select concat(a, c) from m order by c").await, ["5.00X", "5.00x"]);
    assert_eq!(fails(&client, "prepare j(text) as insert into m (d) values ($1)").await, "42804");
    assert_eq!(fails(&client, "explain insert into m (d) values ('x'::text)").await, "42804");
    // Elsewhere the type of a parameter counts, too.
    let items = client.prepare_typed("select array[1, $1]", &[Type::FLOAT8]).await.unwrap();
    let row = client.query_one(&items, &[&7.25f64]).await.unwrap();
    assert_eq!(row.get::<_, Vec<f64>>(0), [1.0, 7.25]);
}

#[tokio::test(flavor = "multi_thread")]
async fn copied_rows_are_of_the_column_types() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.batch_execute("create table c (a numeric(8,4), b timestamptz, c varchar(3))").await.unwrap();
    client.batch_execute("set timezone = 'Asia/Tokyo'").await.unwrap();
    for (row, copied) in [
        ("7.25\t2020-01-02 03:04:05\tabc\n", Ok(1)),
        ("1\t2020-01-02\tabcd\n", Err("22001")),
        ("x\t\t\n", Err("22P02")),
    ] {
        let sink = client.copy_in::<_, Bytes>("copy c from stdin").await.unwrap();
        futures::pin_mut!(sink);
        sink.send(Bytes::from(row)).await.unwrap();
        assert_eq!(sink.finish().await.map_err(|error| sqlstate(&error).to_owned()), copied.map_err(str::to_owned));
    }
    assert_eq!(simple(&client, "select a from c where a = a").await, ["7.2500"]);
    assert_eq!(simple(&client, "select b from c where b = b").await, ["2020-01-02 03:04:05+09"]);
}
