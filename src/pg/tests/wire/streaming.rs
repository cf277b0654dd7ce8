//! Tests of results that stream, and of statements that are stopped.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::StreamExt;
use neuroql_pg::Config;
use tokio_postgres::NoTls;

use crate::raw::{self, Raw};
use crate::{ENDLESS, Running, fails, simple, sqlstate};

#[tokio::test(flavor = "multi_thread")]
async fn cancel_requests_stop_statements_at_once() {
    let server = Running::start().await;
    let client = server.connect().await;
    for query in [ENDLESS, "select * from slow_plan", "select * from slow_rows"] {
        for extended in [false, true] {
            let (token, tables) = (client.cancel_token(), Arc::clone(&server.tables));
            let canceller = tokio::spawn(async move {
                tables.until_running(1).await;
                let asked = Instant::now();
                token.cancel_query(NoTls).await.unwrap();
                asked
            });
            let error = if extended {
                client.query(query, &[]).await.map(drop).unwrap_err()
            } else {
                client.simple_query(query).await.map(drop).unwrap_err()
            };
            let took = canceller.await.unwrap().elapsed();
            assert_eq!(sqlstate(&error), "57014", "{query}");
            assert!(took < Duration::from_millis(200), "{query}: {took:?}");
            server.tables.until_running(0).await;
            assert_eq!(simple(&client, "select 1").await, ["1"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statement_timeout_stops_statements() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.simple_query("set statement_timeout = '300ms'").await.unwrap();
    assert_eq!(simple(&client, "show statement_timeout").await, ["300ms"]);
    for query in [ENDLESS, "select * from slow_plan"] {
        let start = Instant::now();
        let error = client.query(query, &[]).await.map(drop).unwrap_err();
        assert_eq!(sqlstate(&error), "57014");
        assert!((300..600).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    }
    assert_eq!(fails(&client, &format!("select 1; {ENDLESS}")).await, "57014");
    client.simple_query("set statement_timeout = 0").await.unwrap();
    assert_eq!(simple(&client, "select 1").await, ["1"]);
    let client = server.try_connect("user=ada options='-c statement_timeout=200'").await.unwrap();
    assert_eq!(fails(&client, ENDLESS).await, "57014");
}

#[tokio::test(flavor = "multi_thread")]
async fn portals_and_cursors_page() {
    let server = Running::start().await;
    let mut client = server.connect().await;
    let transaction = client.transaction().await.unwrap();
    let portal = transaction.bind("select a from generate_series(1, 1000000) t(a)", &[]).await.unwrap();
    for page in 0..3i64 {
        let rows = transaction.query_portal(&portal, 100).await.unwrap();
        assert_eq!(rows.len(), 100);
        assert_eq!(rows[0].get::<_, i64>(0), page * 100 + 1);
    }
    transaction.batch_execute("declare c cursor for select a from generate_series(1, 5) t(a)").await.unwrap();
    let rows = transaction.query("fetch forward 2 from c", &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>(), [1, 2]);
    let rows = transaction.query("fetch all from c", &[]).await.unwrap();
    assert_eq!(rows.len(), 3);
    assert!(transaction.query("fetch 1 from c", &[]).await.unwrap().is_empty());
    transaction.commit().await.unwrap();
    assert_eq!(fails(&client, "fetch 1 from c").await, "34000");
    client.simple_query("begin; declare h cursor with hold for select 7; commit").await.unwrap();
    assert_eq!(simple(&client, "fetch all from h").await, ["7"]);
}

/// The rows and tags are those of PostgreSQL 15.
#[tokio::test(flavor = "multi_thread")]
async fn cursors_take_every_form_of_fetch_and_move() {
    let server = Running::start().await;
    let client = server.connect().await;
    let mut raw = Raw::connect(server.port, "ada");
    // Both connections move alike: one shows the rows, the other the tags.
    for (name, first) in [("c", 1), ("\"Next\"", 1), ("next", 11), ("forward", 21)] {
        let last = first + 4;
        let declare =
            format!("DECLARE {name} SCROLL CURSOR FOR SELECT x FROM generate_series({first}, {last}) AS g(x)");
        if name == "c" {
            client.batch_execute("BEGIN").await.unwrap();
            raw.query("BEGIN");
        }
        client.batch_execute(&declare).await.unwrap();
        assert_eq!(raw.query(&declare).tags(), ["DECLARE CURSOR"]);
    }
    for (statement, rows, tag) in [
        ("FETCH c", &["1"][..], "FETCH 1"),
        ("FETCH FROM c", &["2"], "FETCH 1"),
        ("FETCH IN c", &["3"], "FETCH 1"),
        ("FETCH NEXT c", &["4"], "FETCH 1"),
        ("FETCH 2 c", &["5"], "FETCH 1"),
        ("FETCH c", &[], "FETCH 0"),
        ("FETCH -2 FROM c", &["5", "4"], "FETCH 2"),
        ("MOVE -5 FROM c", &[], "MOVE 3"),
        ("FETCH +2 IN c", &["1", "2"], "FETCH 2"),
        ("FETCH FORWARD FROM c", &["3"], "FETCH 1"),
        ("FETCH BACKWARD c", &["2"], "FETCH 1"),
        ("FETCH BACKWARD - 1 c", &["3"], "FETCH 1"),
        ("FETCH FORWARD -2 FROM c", &["2", "1"], "FETCH 2"),
        ("FETCH ALL c", &["2", "3", "4", "5"], "FETCH 4"),
        ("FETCH BACKWARD -2 FROM c", &[], "FETCH 0"),
        ("FETCH RELATIVE -2 FROM c", &["4"], "FETCH 1"),
        ("FETCH ABSOLUTE -2 FROM c", &["4"], "FETCH 1"),
        ("FETCH RELATIVE +1 c", &["5"], "FETCH 1"),
        ("MOVE ABSOLUTE 0 c", &[], "MOVE 0"),
        ("MOVE c", &[], "MOVE 1"),
        ("MOVE IN c", &[], "MOVE 1"),
        ("MOVE 0 c", &[], "MOVE 1"),
        ("FETCH RELATIVE 0 c", &["2"], "FETCH 1"),
        ("MOVE FORWARD c", &[], "MOVE 1"),
        ("MOVE FORWARD ALL c", &[], "MOVE 2"),
        ("MOVE BACKWARD ALL c", &[], "MOVE 5"),
        ("MOVE ABSOLUTE -9 c", &[], "MOVE 0"),
        ("MOVE LAST IN c", &[], "MOVE 1"),
        ("FETCH PRIOR \"c\"", &["4"], "FETCH 1"),
        ("FETCH FIRST \"c\"", &["1"], "FETCH 1"),
        ("FETCH -- a comment\n - /* another */ 1 /* third */ c", &[], "FETCH 0"),
        ("FETCH +1 \"c\"\n", &["1"], "FETCH 1"),
        ("FETCH \"Next\"", &["1"], "FETCH 1"),
        ("FETCH NEXT \"Next\"", &["2"], "FETCH 1"),
        ("FETCH next", &["11"], "FETCH 1"),
        ("FETCH NEXT next", &["12"], "FETCH 1"),
        ("FETCH FROM next", &["13"], "FETCH 1"),
        ("FETCH FORWARD FORWARD", &["21"], "FETCH 1"),
        ("FETCH FORWARD", &["22"], "FETCH 1"),
        ("FETCH FORWARD 1 FORWARD", &["23"], "FETCH 1"),
    ] {
        assert_eq!(simple(&client, statement).await, rows, "{statement}");
        assert_eq!(raw.query(statement).tags(), [tag], "{statement}");
    }
    // The same by the extended protocol.
    assert_eq!(client.execute("MOVE -1 \"Next\"", &[]).await.unwrap(), 1);
    assert_eq!(fails(&client, "FETCH RELATIVE c").await, "42601");
}

#[tokio::test(flavor = "multi_thread")]
async fn results_of_any_size_take_little_memory() {
    let server = Running::start().await;
    let rows = 3_000_000;
    let query = format!("select a, 'some text to make the row longer' from generate_series(1, {rows}) t(a)");
    for extended in [false, true] {
        let port = server.port;
        let query = query.clone();
        let (received, growth) = tokio::task::spawn_blocking(move || {
            let mut raw = Raw::connect(port, "ada");
            raw.query("select 1");
            let before = raw::resident_bytes();
            let mut peak = before;
            if extended {
                raw.send_extended(&query, 0)
            } else {
                raw.send_query(&query)
            }
            let received = raw.count_rows(|count| {
                if count % 100_000 == 0 {
                    peak = peak.max(raw::resident_bytes());
                }
            });
            (received, peak - before)
        })
        .await
        .unwrap();
        assert_eq!(received, rows);
        assert!(growth < 64 << 20, "extended {extended}: {} MiB", growth >> 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_slows_the_query_down() {
    let server = Running::start().await;
    let mut raw = Raw::connect(server.port, "ada");
    raw.send_query("select * from counted_rows");
    // Buffers of the system take some megabytes, however long that takes on a busy machine.
    let start = Instant::now();
    let made = || server.tables.rows_made.load(Ordering::SeqCst);
    let mut before = usize::MAX;
    while before != made() {
        assert!(start.elapsed() < Duration::from_secs(20), "nobody reads, and rows are made");
        before = made();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(made() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_takes_its_query_along() {
    let server = Running::start().await;
    for query in ["select * from slow_rows", "select * from counted_rows", "select * from slow_plan"] {
        let mut raw = Raw::connect(server.port, "ada");
        raw.send_query(query);
        server.tables.until_running(1).await;
        drop(raw);
        let gone = Instant::now();
        while server.tables.scans_running.load(Ordering::SeqCst) > 0 {
            assert!(gone.elapsed() < Duration::from_secs(1), "{query} still runs");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_goes_down_in_order() {
    let mut server = Running::start_with(Config { grace: Duration::from_secs(2), ..Config::default() }).await;
    let mut idle = Raw::connect(server.port, "ada");
    let busy = server.connect().await;
    let endless = server.connect().await;
    let short = tokio::spawn(async move { busy.simple_query("select * from one_second").await.map(drop) });
    let long = tokio::spawn(async move { endless.simple_query(ENDLESS).await.map(drop) });
    server.tables.until_running(2).await;
    let asked = Instant::now();
    server.stop.take().unwrap().send(()).unwrap();
    assert_eq!(idle.read_to_end().sqlstate().as_deref(), Some("57P01"));
    assert!(server.try_connect("user=ada").await.is_err());
    assert!(short.await.unwrap().is_ok(), "a running statement may finish");
    let error = long.await.unwrap().unwrap_err();
    assert_eq!(sqlstate(&error), "57P01");
    server.task.await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_start_before_they_end() {
    let server = Running::start().await;
    let client = server.connect().await;
    let rows = client.query_raw("select * from slow_rows", Vec::<String>::new()).await.unwrap();
    let mut rows = std::pin::pin!(rows);
    let first = tokio::time::timeout(Duration::from_secs(2), rows.next()).await;
    assert!(first.is_ok(), "the first row waits for the others");
    let all = client.query_raw("select a from generate_series(1, 10) t(a)", Vec::<String>::new());
    drop(all);
}
