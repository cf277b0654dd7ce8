//! Tests of statements, their answers and errors.

use crate::raw::Raw;
use crate::{ENDLESS, Running, fails, simple, sqlstate};

#[tokio::test(flavor = "multi_thread")]
async fn both_protocols_answer() {
    let server = Running::start().await;
    let client = server.connect().await;
    assert_eq!(simple(&client, "select 1 union all select 2 order by 1").await, ["1", "2"]);
    let row =
        client.query_one("select $1::int4, $2::text, $3::float8, null::text", &[&42i32, &"ä", &1.5f64]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 42);
    assert_eq!(row.get::<_, &str>(1), "ä");
    assert_eq!(row.get::<_, f64>(2), 1.5);
    assert_eq!(row.get::<_, Option<&str>>(3), None);
    // Types that nobody declares: from a comparison, from a function, and text if nothing is known.
    let rows = client
        .query("select a from generate_series(1, 10) t(a) where a > $1 order by a limit 2", &[&7i64])
        .await
        .unwrap();
    assert_eq!(rows.iter().map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>(), [8, 9]);
    let row = client.query_one("select upper($1), $2", &[&"x", &"y"]).await.unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("X", "y"));
    // Arrays both ways.
    let (numbers, words) = (vec![Some(1i32), None], vec!["a b", "{c}"]);
    let row = client.query_one("select $1::int[], $2::text[]", &[&numbers, &words]).await.unwrap();
    assert_eq!(row.get::<_, Vec<Option<i32>>>(0), numbers);
    assert_eq!(row.get::<_, Vec<&str>>(1), words);
    let row = client
        .query_one("select count(*) from (values (1), (2)) t(a) where a = any($1)", &[&vec![2i32, 3]])
        .await
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
    // Names are Postgres' own, twins are allowed.
    let row = client.query_one("select count(*), 1 a, 2 a, 3 from (values (1)) t(x)", &[]).await.unwrap();
    assert_eq!(row.columns().iter().map(|column| column.name()).collect::<Vec<_>>(), ["count", "a", "a", "?column?"]);
    assert!(client.query("", &[]).await.unwrap().is_empty());
    assert!(client.simple_query(" ; ").await.is_ok());
    let version = simple(&client, "select version()").await.remove(0);
    assert!(version.starts_with("PostgreSQL 16.6 (neuroql "), "{version}");
}

#[tokio::test(flavor = "multi_thread")]
async fn command_tags_are_those_of_postgres() {
    let server = Running::start().await;
    let mut raw = Raw::connect(server.port, "ada");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.parquet");
    for (query, tag) in [
        ("select 1", "SELECT 1"),
        ("create table t(a int, b text)", "CREATE TABLE"),
        ("insert into t values (1, 'x'), (2, 'y')", "INSERT 0 2"),
        ("create view v as select * from t", "CREATE VIEW"),
        ("create schema s", "CREATE SCHEMA"),
        ("explain select 1", "EXPLAIN"),
        ("explain (analyze, verbose) select 1", "EXPLAIN"),
        ("show server_version", "SHOW"),
        ("set application_name = 'x'", "SET"),
        ("set datafusion.execution.batch_size = 100", "SET"),
        ("reset all", "RESET"),
        ("begin", "BEGIN"),
        ("savepoint a", "SAVEPOINT"),
        ("rollback to a", "ROLLBACK"),
        ("release a", "RELEASE"),
        ("declare c cursor for select * from t", "DECLARE CURSOR"),
        ("fetch 1 from c", "FETCH 1"),
        ("close c", "CLOSE CURSOR"),
        ("commit", "COMMIT"),
        ("prepare p(int) as select $1 + 1", "PREPARE"),
        ("execute p(1)", "SELECT 1"),
        ("deallocate all", "DEALLOCATE ALL"),
        ("discard all", "DISCARD ALL"),
        (&format!("copy (select * from t) to '{}'", file.display()), "COPY 2"),
        (&format!("create external table x stored as parquet location '{}'", file.display()), "CREATE TABLE"),
        ("drop table x", "DROP TABLE"),
        ("drop view v", "DROP VIEW"),
        ("drop schema s", "DROP SCHEMA"),
    ] {
        assert_eq!(raw.query(query).tags(), [tag], "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_statements_stop_at_the_first_error() {
    let server = Running::start().await;
    let mut raw = Raw::connect(server.port, "ada");
    let answer = raw.query("select 1; select 2; select * from nowhere; select 3");
    assert_eq!(answer.tags(), ["SELECT 1", "SELECT 1"]);
    assert_eq!(answer.sqlstate().as_deref(), Some("42P01"));
    // A syntax error anywhere means that nothing runs.
    let answer = raw.query("select 1; selekt 2");
    assert!(answer.tags().is_empty());
    assert_eq!(answer.sqlstate().as_deref(), Some("42601"));
    assert_eq!(raw.query("select 1").tags(), ["SELECT 1"]);
    // Results come when they are ready, not all at the end.
    raw.send_query(&format!("select 1; {ENDLESS}"));
    let first = raw.read_until(b'C');
    assert_eq!(first.tags(), ["SELECT 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_a_code_and_leave_the_connection_usable() {
    let server = Running::start().await;
    let client = server.connect().await;
    let cases = [
        ("selekt 1", "42601"),
        ("select (", "42601"),
        ("select * from nowhere", "42P01"),
        ("drop table nowhere", "42P01"),
        ("select nothing from (values (1)) t(a)", "42703"),
        ("select a from (values (1)) t(a), (values (2)) u(a)", "42702"),
        ("select no_such_function(1)", "42883"),
        ("select 1/0", "22012"),
        ("select 'x'::int", "22P02"),
        ("select a, count(*) from (values (1, 2)) t(a, b) group by b", "42803"),
        ("show no_such_setting", "42704"),
        ("set no_such_setting = 1", "42704"),
        ("set datafusion.no.such_setting = 1", "42704"),
        ("select current_setting('no_such_setting')", "42704"),
        ("select set_config('no_such_setting', '1', false)", "42704"),
        ("select set_config('statement_timeout', 'soon', false)", "22023"),
        ("set statement_timeout = 'soon'", "22023"),
        ("set server_version = '1'", "55P02"),
        ("execute nothing", "26000"),
        ("deallocate nothing", "26000"),
        ("fetch 1 from nothing", "34000"),
        ("close nothing", "34000"),
        ("declare c cursor for select 1", "25P01"),
        ("savepoint a", "25P01"),
        ("select $1", "42P02"),
        ("copy nowhere from stdin", "42P01"),
        ("listen x", "0A000"),
        ("create external table x stored as parquet location '/nowhere/at/all.parquet'", "58P01"),
        ("create external table x stored as nonsense location '/x'", "0A000"),
        ("select * from '/etc/passwd'", "42P01"),
        ("select * from panic_plan", "XX000"),
        ("select * from panic_rows", "XX000"),
    ];
    for (query, code) in cases {
        let error = client.simple_query(query).await.map(drop).expect_err(query);
        assert_eq!(sqlstate(&error), code, "{query}: {error:?}");
        let message = error.as_db_error().unwrap().message();
        for noise in ["Error during planning", "External error", "backtrace", "Arrow error", "DataFusion"] {
            assert!(!message.contains(noise), "{query}: {message}");
        }
        assert_eq!(simple(&client, "select 1").await, ["1"], "{query}");
    }
    let error = client.query("select * from nowhere", &[]).await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().message(), "relation \"nowhere\" does not exist");
    let error = client.query("select 1 +", &[]).await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().message(), "syntax error at end of input");
    let error = client.query("select a fro b", &[]).await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().position(), Some(&tokio_postgres::error::ErrorPosition::Original(14)));
    assert_eq!(client.query_one("select 1::int4", &[]).await.unwrap().get::<_, i32>(0), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_and_long_queries_are_answered_or_refused() {
    let server = Running::start().await;
    let client = server.connect().await;
    let deep = format!("select {}1{}", "(".repeat(10_000), ")".repeat(10_000));
    assert_eq!(fails(&client, &deep).await, "54001");
    let sum = format!("select {}", vec!["1"; 2_000].join(" + "));
    assert_eq!(simple(&client, &sum).await, ["2000"]);
    let long = format!("select length('{}')", "x".repeat(10_000_000));
    assert_eq!(simple(&client, &long).await, ["10000000"]);
    let text = "y".repeat(10_000_000);
    assert_eq!(client.query_one("select length($1)", &[&text]).await.unwrap().get::<_, i32>(0), 10_000_000);
    assert_eq!(simple(&client, "select 1").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_in_json_is_one_value() {
    let server = Running::start().await;
    let client = server.connect().await;
    let explain = "explain (format json) select layer, count(*) from toy.neurons where neuron < 3 group by layer";
    let row = client.query_one(explain, &[]).await.unwrap();
    let columns: Vec<_> = row.columns().iter().map(|column| (column.name(), column.type_().name())).collect();
    assert_eq!(columns, [("QUERY PLAN", "json")]);
    let texts = simple(&client, explain).await;
    assert_eq!(texts.len(), 1);
    assert!(texts[0].trim_start().starts_with('[') && texts[0].contains("\"Plan\""), "{}", texts[0]);
    // Other forms keep the kind of the plan beside it.
    assert_eq!(client.query("explain select 1", &[]).await.unwrap()[0].len(), 2);
}
