//! Tests of messages: portals, descriptions of columns, how answers leave. They are those of PostgreSQL 15.

use crate::raw::{Raw, message};
use crate::{ENDLESS, Running, simple};

/// Returns the messages that make a portal of a query.
fn portal(name: &str, query: &str) -> Vec<Vec<u8>> {
    vec![message(b'P', format!("\0{query}\0\0\0").as_bytes()), message(b'B', &[name.as_bytes(), &[0; 8]].concat())]
}

/// Returns the messages that run a portal.
fn execute(name: &str, rows: i32) -> Vec<Vec<u8>> {
    vec![message(b'E', &[name.as_bytes(), &[0], &rows.to_be_bytes()].concat()), message(b'S', b"")]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_outlives_its_failure() {
    let server = Running::start().await;
    let mut raw = Raw::connect(server.port, "ada");
    for (query, timeout, sqlstate) in
        [("select 1 / x from generate_series(0, 1) g(x)", "0", "22012"), (ENDLESS, "300ms", "57014")]
    {
        raw.query(&format!("set statement_timeout = '{timeout}'"));
        raw.query("begin");
        let failed = raw.exchange(&[portal("p", query), execute("p", 0)].concat());
        assert_eq!(failed.sqlstate().as_deref(), Some(sqlstate), "{query}");
        assert_eq!(failed.status(), Some('E'));
        for _ in 0..2 {
            assert_eq!(raw.exchange(&execute("p", 1)).sqlstate().as_deref(), Some("25P02"), "{query}");
        }
        raw.query("rollback");
        assert_eq!(raw.exchange(&execute("p", 1)).sqlstate().as_deref(), Some("34000"), "{query}");
    }
    raw.query("set statement_timeout = 0");
    // The savepoint is younger than the portal.
    raw.query("begin");
    let made = portal("p", "select 1 / x from generate_series(0, 1) g(x)");
    raw.exchange(&[made, vec![message(b'S', b"")]].concat());
    raw.query("savepoint s");
    assert_eq!(raw.exchange(&execute("p", 1)).sqlstate().as_deref(), Some("22012"));
    raw.query("rollback to s");
    assert_eq!(raw.exchange(&execute("p", 1)).sqlstate().as_deref(), Some("55000"));
    assert_eq!(raw.query("rollback").status(), Some('I'));
}

#[tokio::test(flavor = "multi_thread")]
async fn portals_move() {
    let server = Running::start().await;
    let mut raw = Raw::connect(server.port, "ada");
    raw.query("begin");
    let made = portal("p", "select x from generate_series(0, 100) g(x)");
    raw.exchange(&[made, vec![message(b'S', b"")]].concat());
    assert_eq!(raw.query("move forward 42 p").tags(), ["MOVE 42"]);
    assert_eq!(raw.exchange(&execute("p", 1)).value().as_deref(), Some("42"));
    assert_eq!(raw.query("fetch p").value().as_deref(), Some("43"));
    assert_eq!(raw.query("move all p").tags(), ["MOVE 57"]);
    assert_eq!(raw.exchange(&execute("p", 0)).tags(), ["SELECT 0"]);
    raw.query("rollback");
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_described_with_size_and_modifier() {
    let server = Running::start().await;
    let mut raw = Raw::connect(server.port, "ada");
    raw.query("create table d (a varchar(3), b numeric(10,2), c timestamp(0), d numeric(8,2)[], e text)");
    raw.query("create view w as select a as x, b from d");
    for (query, columns) in [
        (
            "select a, b, c, d, e from d",
            &[(1043, -1, 7), (1700, -1, 655_366), (1114, 8, 0), (1231, -1, 524_294), (25, -1, -1)][..],
        ),
        (
            "select a || 'x', b * 2, upper(a), a::text from d",
            &[(25, -1, -1), (1700, -1, -1), (25, -1, -1), (25, -1, -1)],
        ),
        ("select x, b from w union all select a, b from d", &[(1043, -1, 7), (1700, -1, 655_366)]),
        (
            "select 'abcd'::varchar(2), 1.5::numeric(5,1), 1.5::numeric",
            &[(1043, -1, 6), (1700, -1, 327_685), (1700, -1, -1)],
        ),
        (
            "select true, 1::int2, 1::int4, 1::int8, 1::real, 1::float8, 'x'::bytea, array[1::int8]",
            &[
                (16, 1, -1),
                (21, 2, -1),
                (23, 4, -1),
                (20, 8, -1),
                (700, 4, -1),
                (701, 8, -1),
                (17, -1, -1),
                (1016, -1, -1),
            ],
        ),
        (
            "select date '2020-01-02', time '01:02', timestamp '2020-01-02', timestamptz '2020-01-02', interval '1 day'",
            &[(1082, 4, -1), (1083, 8, -1), (1114, 8, -1), (1184, 8, -1), (1186, 16, -1)],
        ),
        ("select pg_sleep(0), 'pg_class'::regclass, row(1)", &[(2278, 4, -1), (2205, 4, -1), (2249, -1, -1)]),
        ("select oid from pg_class limit 1", &[(26, 4, -1)]),
        ("values (1::int2, 1::int4), (2, 3)", &[(23, 4, -1), (23, 4, -1)]),
    ] {
        assert_eq!(raw.query(query).columns(), columns, "{query}");
    }
    let client = server.connect().await;
    let attributes = "select concat_ws(' ', attname, atttypmod, format_type(atttypid, atttypmod)) from pg_attribute \
                      where attrelid = 'd'::regclass and attnum > 0 order by attnum";
    assert_eq!(
        simple(&client, attributes).await,
        [
            "a 7 character varying(3)",
            "b 655366 numeric(10,2)",
            "c 0 timestamp(0) without time zone",
            "d 524294 numeric(8,2)[]",
            "e -1 text"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_answer_leaves_in_one_piece() {
    let server = Running::start().await;
    let mut raw = Raw::connect(server.port, "ada");
    let whole = |bytes: &[u8]| bytes.ends_with(&message(b'Z', b"I"));
    let mut in_one = 0;
    for _ in 0..20 {
        match whole(&raw.first_bytes("select 1")) {
            true => in_one += 1,
            false => drop(raw.read_until(b'Z')),
        }
    }
    // A row may be late on a machine that has much to do.
    assert!(in_one > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_take_many_parameters() {
    const MANY: u16 = 40_000;
    let server = Running::start().await;
    let mut raw = Raw::connect(server.port, "ada");
    let names: Vec<_> = (1..=MANY).map(|index| format!("${index}")).collect();
    let query = format!("\0select 'found' where 7 in ({})\0\0\0", names.join(","));
    let mut bind = vec![0; 4];
    bind.extend(MANY.to_be_bytes());
    (1..=MANY).for_each(|_| bind.extend(b"\0\0\0\x017"));
    bind.extend([0; 2]);
    let messages = [message(b'P', query.as_bytes()), message(b'B', &bind)];
    let answer = raw.exchange(&[messages.to_vec(), execute("", 0)].concat());
    assert_eq!((answer.sqlstate(), answer.value().as_deref()), (None, Some("found")));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_written_as_postgres_writes_them() {
    let server = Running::start().await;
    let client = server.connect().await;
    for (query, text) in [
        ("select row(null, null)", "(,)"),
        ("select row(null)", "()"),
        ("select row(null, 'a', '')", "(,a,\"\")"),
        (
            "select row(1, null, date '2020-01-02', timestamp '2020-01-02 03:04:05')",
            "(1,,2020-01-02,\"2020-01-02 03:04:05\")",
        ),
        ("select row(1.50::numeric(5,2), '\\x41'::bytea, interval '1 day')", "(1.50,\"\\\\x41\",\"1 day\")"),
        ("select row(array[1, null], array[date '2020-01-02'], row(null, 1))", "(\"{1,NULL}\",{2020-01-02},\"(,1)\")"),
        ("select array[row(null, 1)]", "{\"(,1)\"}"),
    ] {
        assert_eq!(simple(&client, query).await, [text], "{query}");
    }
}
