//! Tests of limits that keep clients from harming others: depth, width, settings, time, places.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use neuroql_pg::Config;

use crate::access::{BOB, password_file};
use crate::raw;
use crate::{ENDLESS, Running, fails, simple, sqlstate};

#[tokio::test(flavor = "multi_thread")]
async fn deep_and_wide_statements_are_refused() {
    let server = Running::start().await;
    let client = server.connect().await;
    let from = |count: usize| (0..count).map(|i| format!("models a{i}")).collect::<Vec<_>>().join(", ");
    let doubled = |times: usize| {
        let ctes = (1..=times).map(|i| format!("c{i} as (select * from c{0} union all select * from c{0})", i - 1));
        let ctes: Vec<_> = std::iter::once("c0 as (select 1 as a)".to_owned()).chain(ctes).collect();
        format!("with {} select count(*) from c{times}", ctes.join(", "))
    };
    for (code, sql) in [
        ("54001", format!("select 1{}", " is null".repeat(40_000))),
        ("54001", format!("select true{}", " is true".repeat(200_000))),
        ("54001", format!("select now(){}", " at time zone 'UTC'".repeat(40_000))),
        ("54001", format!("select 1{}", " between 1 and 1".repeat(40_000))),
        ("54001", format!("select a{} from (select 1 as a) t", "[1]".repeat(40_000))),
        ("54001", format!("{}select 1", "explain ".repeat(40_000))),
        ("54001", format!("{}select 1", "prepare p as ".repeat(40_000))),
        ("54011", format!("select {}", vec!["1"; 20_000].join(","))),
        ("54001", format!("select 1 from {}", from(1000))),
        ("54001", doubled(20)),
    ] {
        assert_eq!(fails(&client, &sql).await, code, "{}", &sql[..60]);
    }
    assert_eq!(simple(&client, &doubled(7)).await, ["128"]);
    // Statements as deep as is allowed, in every phase, on any thread.
    let deep = format!("select 1{} as a", " is null".repeat(2_900));
    assert_eq!(simple(&client, &deep).await, ["f"]);
    client.simple_query("set statement_timeout = 30").await.unwrap();
    for _ in 0..5 {
        let _ = client.simple_query(&format!("select a{} from (select 1 as a) t", " + a".repeat(2_900))).await;
    }
    client.simple_query("reset statement_timeout").await.unwrap();
    assert_eq!(simple(&client, "select 1").await, ["1"]);
}

/// Checks that long planning keeps nobody else waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planning_keeps_nobody_waiting() {
    let server = Running::start().await;
    let others = server.connect().await;
    let mut planners = Vec::new();
    for _ in 0..4 {
        let client = server.connect().await;
        client.simple_query("set statement_timeout = '3s'").await.unwrap();
        let list = (0..60_000).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
        let sql = format!("select count(*) from generate_series(1, 10) t(a) where a in ({list})");
        planners.push(tokio::spawn(async move { drop(client.simple_query(&sql).await) }));
    }
    let mut longest = Duration::ZERO;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        let begun = Instant::now();
        assert_eq!(simple(&others, "select 1").await, ["1"]);
        longest = longest.max(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for planner in planners {
        planner.await.unwrap();
    }
    assert!(longest < Duration::from_millis(1500), "{longest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_have_ranges() {
    let folder = tempfile::tempdir().unwrap();
    let password_file = Some(password_file(folder.path()));
    let server = Running::start_with(Config { password_file, ..Config::default() }).await;
    let ada = server.try_connect("user=ada password=secret").await.unwrap();
    let bob = server.try_connect(BOB).await.unwrap();
    for client in [&ada, &bob] {
        for (name, value) in [
            ("execution.batch_size", "1000000000000000"),
            ("execution.batch_size", "0"),
            ("execution.batch_size", "-1"),
            ("execution.target_partitions", "100000"),
            ("optimizer.max_passes", "1000000000"),
        ] {
            assert_eq!(fails(client, &format!("set datafusion.{name} = {value}")).await, "22023", "{name} = {value}");
        }
        client.simple_query("set datafusion.execution.batch_size = 100").await.unwrap();
        client.simple_query("set datafusion.execution.target_partitions = 3").await.unwrap();
        client.simple_query("set datafusion.optimizer.prefer_hash_join = off").await.unwrap();
        assert_eq!(simple(client, "select count(*) from generate_series(1, 1000)").await, ["1000"]);
        client.simple_query("set search_path = toy; set timezone = 'Europe/Berlin'; reset all").await.unwrap();
        assert_eq!(fails(client, "select set_config('datafusion.runtime.memory_limit', '1M', false)").await, "22023");
        assert_eq!(fails(client, "set nonsense.runtime = 1; set datafusion.runtime.nonsense = 1").await.len(), 5);
    }
    for name in ["runtime.memory_limit", "catalog.location", "catalog.default_schema", "sql_parser.dialect"] {
        assert_eq!(fails(&bob, &format!("set datafusion.{name} = 'x'")).await, "42501", "{name}");
    }
    for name in ["optimizer.max_passes", "execution.time_zone", "runtime.memory_limit"] {
        let code = if name == "optimizer.max_passes" { "none" } else { "42501" };
        let reset = bob.simple_query(&format!("reset datafusion.{name}")).await;
        assert_eq!(reset.err().as_ref().map_or("none", sqlstate), code, "{name}");
    }
    let huge = "x".repeat(2 << 20);
    assert_eq!(fails(&bob, &format!("set a.b = '{huge}'")).await, "53400");
    assert_eq!(fails(&bob, &format!("set application_name = '{huge}'")).await, "53400");
}

#[tokio::test(flavor = "multi_thread")]
async fn places_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let password_file = Some(password_file(folder.path()));
    let config = Config { password_file, max_connections: 6, max_connections_per_user: Some(2), ..Config::default() };
    let server = Running::start_with(config).await;
    // Peers that say nothing are in nobody's way.
    let silent: Vec<_> = (0..400).map(|_| std::net::TcpStream::connect(("127.0.0.1", server.port)).unwrap()).collect();
    let bobs = [server.try_connect(BOB).await.unwrap(), server.try_connect(BOB).await.unwrap()];
    assert_eq!(sqlstate(&server.try_connect(BOB).await.err().unwrap()), "53300");
    let mut adas = Vec::new();
    for _ in 0..4 {
        adas.push(server.try_connect("user=ada password=secret").await.unwrap());
    }
    assert_eq!(sqlstate(&server.try_connect("user=ada password=secret").await.err().unwrap()), "53300");
    // Cancel requests find their way.
    let (token, tables) = (bobs[0].cancel_token(), Arc::clone(&server.tables));
    let cancelled = tokio::spawn(async move {
        tables.until_running(1).await;
        token.cancel_query(tokio_postgres::NoTls).await.unwrap();
    });
    assert_eq!(fails(&bobs[0], ENDLESS).await, "57014");
    cancelled.await.unwrap();
    drop((silent, bobs));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_are_slow() {
    let folder = tempfile::tempdir().unwrap();
    let password_file = Some(password_file(folder.path()));
    let server = Running::start_with(Config { password_file, ..Config::default() }).await;
    let start = Instant::now();
    for _ in 0..5 {
        assert_eq!(sqlstate(&server.try_connect("user=bob password=x").await.err().unwrap()), "28P01");
    }
    assert!(start.elapsed() >= Duration::from_millis(100 + 200 + 400 + 800), "{:?}", start.elapsed());
    let start = Instant::now();
    server.try_connect(BOB).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_clients_are_sent_away() {
    let server = Running::start().await;
    let gone = async |settings: &str, code: &str| {
        let mut raw = tokio::task::spawn_blocking({
            let port = server.port;
            move || raw::Raw::connect(port, "ada")
        })
        .await
        .unwrap();
        let settings = settings.to_owned();
        let start = Instant::now();
        let answer = tokio::task::spawn_blocking(move || {
            raw.query(&settings);
            raw.read_to_end()
        })
        .await
        .unwrap();
        assert_eq!(answer.sqlstate().as_deref(), Some(code));
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    };
    gone("set idle_session_timeout = 300", "57P05").await;
    gone("set idle_in_transaction_session_timeout = 300; begin", "25P03").await;
    gone("set transaction_timeout = 300; begin", "25P04").await;
    gone("set transaction_timeout = 300; set idle_in_transaction_session_timeout = '1min'; begin", "25P04").await;
    // A statement that goes on longer than its transaction may.
    let client = server.connect().await;
    client.simple_query("set transaction_timeout = '500ms'; begin").await.unwrap();
    let start = Instant::now();
    assert!(client.simple_query(ENDLESS).await.is_err());
    assert!(start.elapsed() < Duration::from_secs(5));
    // Without a transaction there is no such limit, and none at all where nothing is set.
    let client = server.connect().await;
    client.simple_query("set transaction_timeout = '1ms'; select 1").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let sql = "reset transaction_timeout; set idle_in_transaction_session_timeout = '1min'; begin; select 1; commit";
    client.simple_query(sql).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_end_when_the_server_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let password_file = Some(password_file(folder.path()));
    let config = Config {
        password_file,
        statement_timeout: Some(Duration::from_millis(200)),
        max_statement_timeout: Some(Duration::from_millis(400)),
        ..Config::default()
    };
    let server = Running::start_with(config).await;
    let bob = server.try_connect(BOB).await.unwrap();
    assert_eq!(simple(&bob, "show statement_timeout").await, ["200ms"]);
    assert_eq!(fails(&bob, ENDLESS).await, "57014");
    for longer in ["0", "'1h'"] {
        bob.simple_query(&format!("set statement_timeout = {longer}")).await.unwrap();
        let start = Instant::now();
        assert_eq!(fails(&bob, ENDLESS).await, "57014");
        assert!(start.elapsed() < Duration::from_secs(5));
    }
    bob.simple_query("reset statement_timeout").await.unwrap();
    assert_eq!(simple(&bob, "show statement_timeout").await, ["200ms"]);
}

/// Checks that a client that vanishes is noticed, although unread messages hide it.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_pipelines_and_vanishes_is_noticed() {
    let server = Running::start().await;
    let port = server.port;
    let stream = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        stream.write_all(&raw::startup("ada")).unwrap();
        stream.write_all(&raw::message(b'Q', format!("{ENDLESS}\0").as_bytes())).unwrap();
        let more = raw::message(b'Q', &[b"select 1 -- ".as_slice(), &vec![b'x'; 100_000], b"\0"].concat());
        while stream.write_all(&more).is_ok() {}
        stream
    })
    .await
    .unwrap();
    let Running { tables, stop, task, .. } = server;
    tables.until_running(1).await;
    let start = Instant::now();
    drop(stream);
    tables.until_running(0).await;
    // A server goes down at once if nothing runs, and after five seconds if something does.
    stop.unwrap().send(()).unwrap();
    task.await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

/// Checks that prepared statements, portals and cursors are counted to the memory limit.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_keeps_is_memory() {
    let server = Running::start_limited(64 << 20).await;
    let client = server.connect().await;
    let long = format!("select length('{}')", "x".repeat(1 << 20));
    let mut kept = 0;
    let failed = loop {
        match client.simple_query(&format!("prepare p{kept} as {long}")).await {
            Ok(_) => kept += 1,
            Err(error) => break sqlstate(&error).to_owned(),
        }
        assert!(kept < 100, "prepared statements are not counted");
    };
    assert_eq!(failed, "53200");
    assert!((10..100).contains(&kept), "{kept}");
    // Others are not served less.
    assert_eq!(simple(&server.connect().await, "select 1").await, ["1"]);
    client.batch_execute("deallocate all").await.unwrap();
    client.batch_execute(&format!("prepare again as {long}")).await.unwrap();
    // EXPLAIN holds a text of the plan for each rule of the planner.
    assert_eq!(fails(&client, &format!("explain {long}")).await, "53200");

    client.batch_execute("begin").await.unwrap();
    let mut cursors = 0;
    let failed = loop {
        match client.simple_query(&format!("declare c{cursors} cursor for {long}")).await {
            Ok(_) => cursors += 1,
            Err(error) => break sqlstate(&error).to_owned(),
        }
        assert!(cursors < 100, "cursors are not counted");
    };
    assert_eq!(failed, "53200");
    client.batch_execute("rollback").await.unwrap();
    assert_eq!(simple(&client, "execute again").await, ["1048576"]);
}
