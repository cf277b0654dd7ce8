//! Tests of `DateStyle`. Answers are those of PostgreSQL 15.

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::raw::{Raw, message};
use crate::{Running, fails, simple, sqlstate};

#[tokio::test(flavor = "multi_thread")]
async fn dates_have_the_form_of_the_setting() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.batch_execute("set timezone = 'America/New_York'").await.unwrap();
    for (style, shown, date, moment, instant) in [
        ("ISO", "ISO, MDY", "2000-01-02", "2000-01-02 03:04:05.5", "2000-01-01 22:04:05-05"),
        ("SQL, DMY", "SQL, DMY", "02/01/2000", "02/01/2000 03:04:05.5", "01/01/2000 22:04:05 EST"),
        ("SQL, YMD", "SQL, YMD", "01/02/2000", "01/02/2000 03:04:05.5", "01/01/2000 22:04:05 EST"),
        ("German", "German, DMY", "02.01.2000", "02.01.2000 03:04:05.5", "01.01.2000 22:04:05 EST"),
        ("Postgres", "Postgres, DMY", "02-01-2000", "Sun 02 Jan 03:04:05.5 2000", "Sat 01 Jan 22:04:05 2000 EST"),
        ("MDY", "Postgres, MDY", "01-02-2000", "Sun Jan 02 03:04:05.5 2000", "Sat Jan 01 22:04:05 2000 EST"),
    ] {
        client.batch_execute(&format!("set datestyle = {style}")).await.unwrap();
        assert_eq!(simple(&client, "show datestyle").await, [shown]);
        let values = ["date '2000-01-02'", "timestamp '2000-01-02 03:04:05.5'", "timestamptz '2000-01-02 03:04:05+00'"];
        for (value, expected) in values.iter().zip([date, moment, instant]) {
            assert_eq!(simple(&client, &format!("select {value}")).await, [expected], "{style}");
            assert_eq!(simple(&client, &format!("select ({value})::text")).await, [expected], "{style}");
            assert_eq!(simple(&client, &format!("select 'a' || ({value})")).await, [format!("a{expected}")], "{style}");
        }
        let quoted = if moment.contains(' ') { format!("{{\"{moment}\"}}") } else { format!("{{{moment}}}") };
        assert_eq!(simple(&client, "select array[timestamp '2000-01-02 03:04:05.5']").await, [quoted], "{style}");
        // The binary form is of no style.
        let row = client.query_one("select timestamp '2000-01-01 00:00:01'", &[]).await.unwrap();
        let expected = std::time::UNIX_EPOCH + std::time::Duration::from_secs(946_684_801);
        assert_eq!(row.get::<_, std::time::SystemTime>(0), expected);
    }
    for style in ["nonsense", "'SQL, German'", "'MDY, DMY'"] {
        assert_eq!(fails(&client, &format!("set datestyle = {style}")).await, "22023", "{style}");
    }
    client.batch_execute("set datestyle = 'SQL'; set timezone = '-02:00'").await.unwrap();
    assert_eq!(simple(&client, "select timestamptz '2000-01-02 03:04:05+00'").await, ["01/02/2000 05:04:05 "]);
    client.batch_execute("set timezone = -2.5").await.unwrap();
    assert_eq!(simple(&client, "select timestamptz '2000-01-02 03:04:05+00'").await, ["01/02/2000 00:34:05 -02:30"]);
    assert_eq!(fails(&client, "select array[date '2000-01-02']::text[]").await, "0A000");
    client.batch_execute("reset datestyle").await.unwrap();
    assert_eq!(simple(&client, "select array[date '2000-01-02']::text[]").await, ["{2000-01-02}"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dates_are_read_in_the_order_of_the_setting() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.batch_execute("create table d (d date, t timestamp)").await.unwrap();
    for (order, date, two_digits, month_13) in [
        ("MDY", "2000-01-02", "2003-01-02", "22008"),
        ("DMY", "2000-02-01", "2003-02-01", "2000-01-13"),
        ("YMD", "22008", "2001-02-03", "22008"),
    ] {
        client.batch_execute(&format!("set datestyle = ISO, {order}")).await.unwrap();
        for (text, expected) in [("01/02/2000", date), ("01-02-03", two_digits), ("13.01.2000", month_13)] {
            for query in [
                format!("select '{text}'::date"),
                format!("select date '{text}'"),
                format!("select '{text}'::text::date"),
                format!("select '{text} 00:00'::timestamp::date"),
                format!("delete from d; insert into d values ('{text}', '{text}'); select d from d"),
                format!("delete from d; insert into d values ('{text}', '{text}'); select t::date from d"),
                format!("deallocate all; prepare p(date) as select $1; execute p('{text}')"),
            ] {
                assert_eq!(outcome(&client, &query).await, expected, "{order}: {query}");
            }
        }
    }
}

/// Returns the last value of a query, or the code of its error.
async fn outcome(client: &Client, query: &str) -> String {
    match client.simple_query(query).await {
        Ok(messages) => {
            let rows = messages.iter().filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            });
            rows.last().unwrap_or("NULL").to_owned()
        }
        Err(error) => sqlstate(&error).to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_and_parameters_are_of_the_style() {
    let server = Running::start().await;
    tokio::task::spawn_blocking(move || {
        let mut raw = Raw::connect(server.port, "ada");
        raw.query("create table d (d date); set datestyle = 'SQL, DMY'");
        raw.send_query("copy d from stdin");
        let copied = raw.exchange(&[message(b'd', b"01/02/2000\n31/12/99\n"), message(b'c', b"")]);
        assert_eq!(copied.tags(), ["COPY 2"]);
        assert_eq!(raw.query("select string_agg(d::text, ' ') from d").value().unwrap(), "01/02/2000 31/12/1999");
        raw.query("set datestyle = 'ISO'");
        assert_eq!(raw.query("select min(d) from d").value().unwrap(), "1999-12-31");
        // A parameter of type date as text, and one of type text that is cast.
        assert_eq!(raw.query_with("select $1", 1082, 0, b"01/02/2000").value().unwrap(), "2000-02-01");
        assert_eq!(raw.query_with("select $1::date", 25, 0, b"01/02/2000").value().unwrap(), "2000-02-01");
        assert_eq!(raw.query_with("select $1", 1082, 0, b"01/13/2000").sqlstate().unwrap(), "22008");
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_not_kept() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.batch_execute("set datestyle = DMY; prepare p as select date '01/02/2000'").await.unwrap();
    assert_eq!(simple(&client, "execute p").await, ["2000-02-01"]);
    assert_eq!(fails(&client, "create view v as select date '01/02/2000' as d").await, "0A000");
    client.batch_execute("create view v as select date '2000-02-01' as d, '01/02/2000' as t").await.unwrap();
    client.batch_execute("set datestyle = MDY").await.unwrap();
    assert_eq!(fails(&client, "execute p").await, "0A000");
    client.batch_execute("discard all").await.unwrap();
    assert_eq!(simple(&client, "show datestyle").await, ["ISO, MDY"]);
}
