//! Tests of statements, their answers and errors.

use tokio_postgres::{Client, SimpleQueryMessage};

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
        ("set standard_conforming_strings = off", "0A000"),
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

#[tokio::test(flavor = "multi_thread")]
async fn functions_in_from_are_tables_as_in_postgres() {
    let server = Running::start().await;
    let client = server.connect().await;
    for (query, columns, values) in [
        ("select g from generate_series(1, 2) as g", vec!["g"], vec!["1", "2"]),
        ("select g.g from generate_series(1, 2) g", vec!["g"], vec!["1", "2"]),
        ("select * from generate_series(1, 1) as \"G\"", vec!["G"], vec!["1"]),
        ("select x from generate_series(1, 2) as g(x)", vec!["x"], vec!["1", "2"]),
        ("select generate_series from GENERATE_SERIES(1, 2)", vec!["generate_series"], vec!["1", "2"]),
        (
            "select count(*) from generate_series(1, 3) a join generate_series(2, 4) b on a = b",
            vec!["count"],
            vec!["2"],
        ),
        ("select a from generate_series(1, 3) a join (values (2)) v(a) using (a) group by a", vec!["a"], vec!["2"]),
        (
            "select d::date::text as d from generate_series(timestamp '2024-01-01', timestamp '2024-01-02', \
             interval '1 day') d",
            vec!["d"],
            vec!["2024-01-01", "2024-01-02"],
        ),
        ("select x from unnest(array[1, 2]) as x", vec!["x"], vec!["1", "2"]),
        ("select unnest from unnest(array[1])", vec!["unnest"], vec!["1"]),
        ("select * from pg_catalog.unnest(array['a']) u", vec!["u"], vec!["a"]),
        ("select * from upper('a') as result", vec!["result"], vec!["A"]),
        ("select * from abs(-3)", vec!["abs"], vec!["3"]),
        ("select abs.abs + 1 as a from abs(-3)", vec!["a"], vec!["4"]),
        ("select x is not null as b from now() as n(x)", vec!["b"], vec!["t"]),
        ("select * from pg_catalog.lower('A') l, length('abc')", vec!["l", "length"], vec!["a"]),
        ("select * from mod(5, 3)", vec!["mod"], vec!["2"]),
        ("select upper from upper('a') where upper = 'A'", vec!["upper"], vec!["A"]),
    ] {
        assert_eq!(simple(&client, query).await, values, "{query}");
        let statement = client.prepare(query).await.unwrap();
        let names: Vec<_> = statement.columns().iter().map(|column| column.name()).collect();
        assert_eq!(names, columns, "{query}");
    }
    let row = client.query_one("select u from upper($1) u", &[&"x"]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "X");
    client
        .batch_execute("create view from_function as select * from upper('a') u, generate_series(1, 2)")
        .await
        .unwrap();
    assert_eq!(simple(&client, "select u || generate_series from from_function order by 1").await, ["A1", "A2"]);
    for (query, code) in [
        ("select value from generate_series(1, 2)", "42703"),
        ("select x from upper('a') x, (select 1) y(x)", "42702"),
        ("select * from no_such('a') as u", "42883"),
    ] {
        assert_eq!(fails(&client, query).await, code, "{query}");
    }
    // The table functions of models have columns of their own.
    assert_eq!(simple(&client, "select count(neuron) from top_neurons('toy', 'import', k => 1) t").await.len(), 1);
}

/// Returns rows with all their columns.
async fn rows_of(client: &Client, query: &str) -> Vec<Vec<Option<String>>> {
    let messages = client.simple_query(query).await.unwrap();
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect()),
        _ => None,
    };
    messages.iter().filter_map(row).collect()
}

/// Checks that a prepared statement, whose plan is kept from its second execution on, has the rows of one with the values in
/// its text, for every table whose plans are kept.
#[tokio::test(flavor = "multi_thread")]
async fn kept_plans_have_the_rows_of_others() {
    let server = Running::start().await;
    let client = server.connect().await;
    for (number, (columns, table, rest)) in [
        ("layer, neuron, max_activation", "toy.neurons", ""),
        ("layer, neuron, rank, document, activation", "toy.examples", "order by rank, quantile"),
        ("layer, neuron, method, nodes", "toy.graphs", "order by method <> 'neuroql', built_at desc"),
        ("layer, neuron, graph_text(graph)", "toy.graphs", "and method = 'neuroql'"),
        ("layer, neuron, node, token", "toy.graph_nodes", "order by node"),
        ("layer, neuron, node, token", "toy.graph_nodes", "and token <> 'x' and parent < 0 order by node"),
        ("model, layer, neuron, density", "neurons", "and model = 'toy'"),
        ("model, layer, neuron, nodes", "graphs", "order by model, method"),
        ("layer, neuron, source, explanation", "toy.explanations", "order by 3"),
    ]
    .into_iter()
    .enumerate()
    {
        let of = |layer: &str, neuron: &str| {
            format!("select {columns} from {table} where layer = {layer} and neuron = {neuron} {rest}")
        };
        let prepare = format!("prepare kept{number}(int, int) as {}", of("$1", "$2"));
        client.batch_execute(&prepare).await.unwrap();
        for (layer, neuron) in [("1", "17"), ("1", "480"), ("0", "3"), ("1", "17"), ("9", "0"), ("0", "511")] {
            let kept = rows_of(&client, &format!("execute kept{number}({layer}, {neuron})")).await;
            assert_eq!(kept, rows_of(&client, &of(layer, neuron)).await, "{} of {layer}:{neuron}", of("$1", "$2"));
        }
    }
    // A model that is a parameter, and other places of parameters.
    for (number, (prepare, values)) in [
        (
            "select model, nodes from graphs where model = $1 and layer = 0 and neuron = 5",
            ["'toy'", "'none'", "'toy'", "null"],
        ),
        (
            "select model, density from neurons where model = $1 and layer = 0 and neuron < 3 order by 2",
            ["'toy'", "'no'", "'toy'", "''"],
        ),
        ("select count(*) from toy.graphs where layer = 1 and neuron in ($1, 17, 18)", ["1", "17", "480", "1"]),
        ("select count(*) from toy.graphs where layer = 1 and neuron between $1 and 20", ["1", "17", "480", "1"]),
        ("select count(*), max(node) from toy.graph_nodes where token = $1", ["' the'", "'import'", "'€'", "' the'"]),
        ("select count(*) from toy.graphs where method = $1", ["'neuroql'", "'n2g'", "'neuroql'", "null"]),
        ("select count(*) from toy.graphs where layer = 1 and nodes > $1", ["1", "50", "1000", "1"]),
        ("select count(*) from toy.examples where layer = 1 and neuron + 0 = $1", ["1", "17", "480", "1"]),
    ]
    .into_iter()
    .enumerate()
    {
        client.batch_execute(&format!("prepare other{number} as {prepare}")).await.unwrap();
        for value in values {
            let kept = rows_of(&client, &format!("execute other{number}({value})")).await;
            assert_eq!(kept, rows_of(&client, &prepare.replace("$1", value)).await, "{prepare}: {value}");
        }
    }
}

/// Checks that texts keep their quotes on every way into a table or view.
#[tokio::test(flavor = "multi_thread")]
async fn quotes_stay_in_tables_and_views() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.batch_execute("create table quoted (id int, a text)").await.unwrap();
    for (id, text) in ["'", "''", "x''", "\\'", "{\"''\",\"\"}", "'''''"].into_iter().enumerate() {
        let sql = text.replace('\'', "''");
        for insert in [
            format!("insert into quoted values ({id}, '{sql}')"),
            format!("insert into quoted select {id}, '{sql}'"),
            format!("insert into quoted select * from (values ({id}, '{sql}')) q(b, c)"),
            format!("insert into quoted with v(b, c) as (values ({id}, '{sql}')) select * from v"),
            format!("insert into quoted values (0, null), ({id}, '{sql}')"),
        ] {
            client.batch_execute("delete from quoted").await.unwrap();
            client.batch_execute(&insert).await.unwrap();
            assert_eq!(simple(&client, "select a from quoted where a is not null").await, [text], "{insert}");
        }
        client.batch_execute(&format!("create or replace view shown as select '{sql}' as a")).await.unwrap();
        assert_eq!(simple(&client, "select a from shown").await, [text]);
    }
    // Sums with a digit more than a numeric has are not cut.
    client.batch_execute("prepare summed as select $1::numeric + v from (values (1)) t(v)").await.unwrap();
    let execute = format!("execute summed('{}')", "9".repeat(38));
    match client.simple_query(&execute).await {
        Err(error) => assert_eq!(sqlstate(&error), "22003"),
        Ok(_) => assert_eq!(simple(&client, &execute).await, [format!("1{}", "0".repeat(38))]),
    }
}
