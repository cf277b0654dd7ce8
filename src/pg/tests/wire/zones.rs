//! Tests of the time zone of a session, where it changes while statements and cursors are kept. Answers are those of
//! PostgreSQL 15.

use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::types::Type;

use crate::raw::{Raw, message};
use crate::{Running, fails, simple};

const ROWS: &str = "create table zz(id int, tz timestamptz); \
                    insert into zz values (1, '2024-01-01 05:30+00'), (2, '2024-07-01 22:30+00')";

#[tokio::test(flavor = "multi_thread")]
async fn prepared_statements_follow_the_time_zone() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.batch_execute(ROWS).await.unwrap();
    client
        .batch_execute(
            "prepare p as select tz::text from zz order by id; \
             prepare q as select id from zz where tz = '2024-01-01 05:30'; \
             prepare d as select count(*) from zz where tz::date = date '2024-07-02'; \
             prepare k as select timestamptz '2024-01-01'; \
             prepare l as select '2024-01-01 12:00'::timestamptz::text; \
             prepare o(timestamptz) as select $1::text from zz where tz > $1",
        )
        .await
        .unwrap();
    let typed =
        client.prepare("select date_trunc('day', tz)::text from zz where tz >= $1::text::timestamptz order by 1").await;
    let typed = typed.unwrap();
    for (zone, p, d, k, l, o, cut) in [
        (
            "UTC",
            ["2024-01-01 05:30:00+00", "2024-07-01 22:30:00+00"],
            "0",
            "2024-01-01 00:00:00+00",
            "2024-01-01 12:00:00+00",
            "2024-07-01 00:00:00+00",
            "2024-07-01 00:00:00+00",
        ),
        (
            "Asia/Tokyo",
            ["2024-01-01 14:30:00+09", "2024-07-02 07:30:00+09"],
            "1",
            "2024-01-01 09:00:00+09",
            "2024-01-01 21:00:00+09",
            "2024-07-01 00:00:00+09",
            "2024-07-02 00:00:00+09",
        ),
        (
            "America/New_York",
            ["2024-01-01 00:30:00-05", "2024-07-01 18:30:00-04"],
            "0",
            "2023-12-31 19:00:00-05",
            "2024-01-01 07:00:00-05",
            "2024-07-01 00:00:00-04",
            "2024-07-01 00:00:00-04",
        ),
    ] {
        client.batch_execute(&format!("set timezone = '{zone}'")).await.unwrap();
        // A plan is kept from the second execution on.
        for _ in 0..3 {
            assert_eq!(simple(&client, "execute p").await, p, "{zone}");
            assert_eq!(simple(&client, "execute q").await, ["1"], "{zone}");
            assert_eq!(simple(&client, "execute d").await, [d], "{zone}");
            assert_eq!(simple(&client, "execute k").await, [k], "{zone}");
            assert_eq!(simple(&client, "execute l").await, [l], "{zone}");
            assert_eq!(simple(&client, "execute o('2024-07-01')").await, [o], "{zone}");
            let rows = client.query(&typed, &[&"2024-06-30"]).await.unwrap();
            assert_eq!(rows.iter().map(|row| row.get::<_, &str>(0)).collect::<Vec<_>>(), [cut], "{zone}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cursors_and_composite_values_follow_the_time_zone() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.batch_execute(ROWS).await.unwrap();
    client.batch_execute("set timezone = 'America/New_York'").await.unwrap();
    let query =
        "select row(tz, tz::date, 1.50::numeric(5,2), null::date) as a, array[array[tz]] as b from zz where id = 1";
    let answer = client.simple_query(query).await.unwrap();
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((row.get(0), row.get(1))),
        _ => None,
    });
    let record = "(\"2024-01-01 00:30:00-05\",2024-01-01,1.50,)";
    assert_eq!(row, Some((Some(record), Some("{{\"2024-01-01 00:30:00-05\"}}"))));
    client.batch_execute("begin; declare c cursor for select tz from zz order by id").await.unwrap();
    assert_eq!(simple(&client, "fetch c").await, ["2024-01-01 00:30:00-05"]);
    client.batch_execute("set timezone = 'Asia/Tokyo'").await.unwrap();
    assert_eq!(simple(&client, "fetch c").await, ["2024-07-02 07:30:00+09"]);
    client.batch_execute("commit; begin; declare c cursor for select tz::text from zz order by id").await.unwrap();
    assert_eq!(simple(&client, "fetch c").await, ["2024-01-01 14:30:00+09"]);
    client.batch_execute("set timezone = 'UTC'").await.unwrap();
    // Postgres would go on in the other zone, from a row on that depends on its plan.
    assert_eq!(fails(&client, "fetch c").await, "0A000");
    client.batch_execute("rollback").await.unwrap();
    assert_eq!(simple(&client, "show timezone").await, ["Asia/Tokyo"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn elements_of_arrays_have_the_types_of_parameters() {
    let server = Running::start().await;
    let client = server.connect().await;
    let letters = vec!["a", "b", "c"];
    for declared in [vec![Type::TEXT_ARRAY], vec![Type::TEXT_ARRAY, Type::INT4, Type::TEXT]] {
        let statement = client.prepare_typed("select array[($1)[$2], $3]", &declared).await.unwrap();
        assert_eq!(statement.params(), [Type::TEXT_ARRAY, Type::INT4, Type::TEXT]);
        assert_eq!(*statement.columns()[0].type_(), Type::TEXT_ARRAY);
        for (place, found) in [(2, Some("b")), (0, None), (-2, None), (9, None)] {
            let row = client.query_one(&statement, &[&letters, &place, &"z"]).await.unwrap();
            assert_eq!(row.get::<_, Vec<Option<&str>>>(0), [found, Some("z")], "{place}");
        }
    }
    let statement = "select array[abs($1), 1::int], array[null::int, abs($1), null], array[$1 + 1, 2::int]";
    let statement = client.prepare_typed(statement, &[Type::INT4]).await.unwrap();
    assert!(statement.columns().iter().all(|column| *column.type_() == Type::INT4_ARRAY));
    let row = client.query_one(&statement, &[&-3i32]).await.unwrap();
    let numbers = |place: usize| row.get::<_, Vec<Option<i32>>>(place);
    assert_eq!(
        [numbers(0), numbers(1), numbers(2)],
        [vec![Some(3), Some(1)], vec![None, Some(3), None], vec![Some(-2), Some(2)]]
    );
    client.batch_execute("prepare f(date, date) as select array[($1 - $2), 8::int]").await.unwrap();
    assert_eq!(simple(&client, "execute f('2024-01-05', '2024-01-01')").await, ["{4,8}"]);
    client.batch_execute("prepare g(text[], int, text) as select array[($1)[$2], $3]").await.unwrap();
    assert_eq!(simple(&client, "execute g(array['a', 'b', 'c'], -2, 'z')").await, ["{NULL,z}"]);
    assert_eq!(simple(&client, "with c as (select 1 as x) select array[(select x from c), 2]").await, ["{1,2}"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_have_the_digits_of_postgres() {
    let server = Running::start().await;
    let client = server.connect().await;
    client
        .batch_execute(
            "prepare a(numeric) as select (round($1::numeric, 3))::text; \
             prepare b(numeric, int) as select round($1, $2) || ''; \
             prepare c(numeric) as select (sign($1::numeric))::text; \
             prepare d(numeric) as select trunc($1, 1)",
        )
        .await
        .unwrap();
    for (statement, text) in [
        ("execute a(1.10)", "1.100"),
        ("execute b(1.5, 3)", "1.500"),
        ("execute b(1.25, 1)", "1.3"),
        ("execute c(0.1)", "1"),
        ("execute c(-7)", "-1"),
        ("execute d(1.19)", "1.1"),
    ] {
        assert_eq!(simple(&client, statement).await, [text], "{statement}");
    }
    // They would be 46 digits.
    assert_eq!(fails(&client, "execute b(99999999999999999999999999999999999999, 8)").await, "22003");
    for number in ["1e400", "-1e400", "1e-400", "1e400::numeric", "1e400::float8"] {
        assert_eq!(fails(&client, &format!("select {number}")).await, "22003", "{number}");
    }
    client.batch_execute("create table nf(i int, n numeric(10, 4), f float8, r real)").await.unwrap();
    for (expression, kind) in [
        ("coalesce(n, f)", Type::FLOAT8),
        ("greatest(r, n)", Type::FLOAT4),
        ("nullif(n, f)", Type::FLOAT8),
        ("coalesce(n, 0.5)", Type::NUMERIC),
        ("coalesce(n, f) / 2", Type::FLOAT8),
        ("round(i, 2)", Type::NUMERIC),
        ("date_trunc('day', date '2024-01-01')", Type::TIMESTAMPTZ),
        ("length((select string_agg(v, ',') from (values ('a')) t(v)))", Type::INT4),
    ] {
        let statement = client.prepare(&format!("select {expression} from nf")).await.unwrap();
        assert_eq!(*statement.columns()[0].type_(), kind, "{expression}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_have_the_types_of_postgres() {
    let server = Running::start().await;
    let client = server.connect().await;
    client
        .batch_execute(
            "create view zc as select 1::int as id, 1.5::numeric(38,15) as n, array[1::int] as a, 'x'::text as b, \
             1.5::float8 as c, timestamptz '2024-01-01' as d, 1.5::numeric as e, true as f",
        )
        .await
        .unwrap();
    let query = "select concat_ws(',', column_name, data_type, numeric_precision, numeric_scale, datetime_precision, udt_name) \
                 from information_schema.columns where table_name = 'zc' order by ordinal_position";
    let expected = [
        "id,integer,32,0,int4",
        "n,numeric,38,15,numeric",
        "a,ARRAY,_int4",
        "b,text,text",
        "c,double precision,53,float8",
        "d,timestamp with time zone,6,timestamptz",
        "e,numeric,numeric",
        "f,boolean,bool",
    ];
    assert_eq!(simple(&client, query).await, expected);
    let query = "select columns.data_type from information_schema.columns where columns.table_name = 'zc' and column_name = 'n'";
    assert_eq!(simple(&client, query).await, ["numeric"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn portals_follow_the_time_zone_or_are_refused() {
    let server = Running::start().await;
    let mut raw = Raw::connect(server.port, "ada");
    for query in [ROWS, "set timezone = 'UTC'", "begin"] {
        assert_eq!(raw.query(query).sqlstate(), None, "{query}");
    }
    let execute = |name: &str| message(b'E', &[name.as_bytes(), &[0], &1i32.to_be_bytes()].concat());
    let sync = || message(b'S', &[]);
    for (name, query) in [("a", "select tz from zz order by id"), ("b", "select tz::text from zz order by id")] {
        let parse = message(b'P', format!("{name}\0{query}\0\0\0").as_bytes());
        let bind = message(b'B', format!("{name}\0{name}\0\0\0\0\0\0\0").as_bytes());
        let answer = raw.exchange(&[parse, bind, execute(name), sync()]);
        assert_eq!(answer.value().as_deref(), Some("2024-01-01 05:30:00+00"), "{query}");
    }
    assert_eq!(raw.query("set timezone = 'Asia/Tokyo'").sqlstate(), None);
    let rest = raw.exchange(&[execute("a"), sync()]);
    assert_eq!(rest.value().as_deref(), Some("2024-07-02 07:30:00+09"));
    // Its texts were made in the other time zone.
    assert_eq!(raw.exchange(&[execute("b"), sync()]).sqlstate().as_deref(), Some("0A000"));
}
