//! Tests of the state of sessions: kept apart from others, and across statements.

use futures::TryStreamExt;
use neuroql_pg::Config;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::access::{BOB, password_file};
use crate::raw::Raw;
use crate::{ENDLESS, Running, fails, simple};

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_private() {
    let server = Running::start().await;
    let (one, two) = (server.connect().await, server.connect().await);
    one.simple_query(
        "set datafusion.execution.batch_size = 17; set application_name = 'one'; set time zone 'Europe/Berlin'",
    )
    .await
    .unwrap();
    one.simple_query("prepare p as select 1").await.unwrap();
    assert_eq!(simple(&one, "show datafusion.execution.batch_size").await, ["17"]);
    assert_ne!(simple(&two, "show datafusion.execution.batch_size").await, ["17"]);
    assert_eq!(simple(&one, "select current_setting('application_name')").await, ["one"]);
    assert_eq!(simple(&two, "select current_setting('application_name')").await, [""]);
    assert_eq!(simple(&one, "show time zone").await, ["Europe/Berlin"]);
    assert_eq!(simple(&two, "show timezone").await, ["UTC"]);
    assert_eq!(fails(&two, "execute p").await, "26000");
    // Tables are everybody's.
    one.simple_query("create table shared as select 1 as a").await.unwrap();
    assert_eq!(simple(&two, "select a from shared").await, ["1"]);
    one.simple_query("reset datafusion.execution.batch_size; discard all").await.unwrap();
    assert_ne!(simple(&one, "show datafusion.execution.batch_size").await, ["17"]);
    assert_eq!(simple(&one, "show time zone").await, ["UTC"]);
    assert_eq!(fails(&one, "execute p").await, "26000");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_and_search_path() {
    let server = Running::start().await;
    let client = server.connect().await;
    assert_eq!(simple(&client, "show server_version").await, ["16.6"]);
    assert_eq!(simple(&client, "select current_user").await, ["neuroql"]);
    assert_eq!(simple(&client, "select current_database()").await, ["neuroql"]);
    assert!(simple(&client, "show all").await.len() > 50);
    for harmless in ["extra_float_digits = 3", "client_min_messages to warning", "datestyle = iso", "my.own = 'x'"] {
        client.simple_query(&format!("set {harmless}")).await.unwrap();
    }
    client.simple_query("create schema elsewhere; create table elsewhere.t as select 5 as a").await.unwrap();
    assert_eq!(fails(&client, "select a from t").await, "42P01");
    client.simple_query("set search_path to elsewhere, public").await.unwrap();
    assert_eq!(simple(&client, "select a from t").await, ["5"]);
    assert_eq!(simple(&client, "select current_schema()").await, ["elsewhere"]);
    client.simple_query("begin; set local search_path = public").await.unwrap();
    assert_eq!(simple(&client, "select current_schema()").await, ["public"]);
    client.simple_query("commit").await.unwrap();
    assert_eq!(simple(&client, "select current_schema()").await, ["elsewhere"]);
    assert_eq!(simple(&client, "select set_config('search_path', 'public', false)").await, ["public"]);
    assert_eq!(fails(&client, "select a from t").await, "42P01");
}

/// Distances count to the west in texts, to the east in numbers and intervals.
#[tokio::test(flavor = "multi_thread")]
async fn time_zones_are_set_as_in_postgres() {
    let server = Running::start().await;
    let client = server.connect().await;
    for (zone, shown, time, east) in [
        ("timezone to '-02:00'", "-02:00", "2000-01-01 02:00:00+02", 7200),
        ("timezone to '2:00'", "2:00", "1999-12-31 22:00:00-02", -7200),
        ("timezone = -2", "<-02>+02", "1999-12-31 22:00:00-02", -7200),
        ("timezone to '2'", "<+02>-02", "2000-01-01 02:00:00+02", 7200),
        ("time zone -2.5", "<-02:30>+02:30", "1999-12-31 21:30:00-02:30", -9000),
        ("time zone 5.5", "<+05:30>-05:30", "2000-01-01 05:30:00+05:30", 19800),
        ("time zone interval '-02:00' hour to minute", "<-02>+02", "1999-12-31 22:00:00-02", -7200),
        ("time zone interval '-02:30' hour to minute", "<-02:30>+02:30", "1999-12-31 21:30:00-02:30", -9000),
        ("time zone 'foobar+3:30'", "FOOBAR+3:30", "1999-12-31 20:30:00-03:30", -12600),
        ("timezone to '<+02>-02'", "<+02>-02", "2000-01-01 02:00:00+02", 7200),
        ("time zone 'UTC-3:15'", "UTC-3:15", "2000-01-01 03:15:00+03:15", 11700),
        ("timezone to 'Etc/GMT+5'", "Etc/GMT+5", "1999-12-31 19:00:00-05", -18000),
        ("time zone 'europe/berlin'", "Europe/Berlin", "2000-01-01 01:00:00+01", 3600),
        ("time zone utc", "UTC", "2000-01-01 00:00:00+00", 0),
        ("time zone local", "UTC", "2000-01-01 00:00:00+00", 0),
    ] {
        client.batch_execute(&format!("set {zone}")).await.unwrap();
        assert_eq!(simple(&client, "show timezone").await, [shown], "{zone}");
        assert_eq!(simple(&client, "select timestamptz '2000-01-01 00:00+00'").await, [time], "{zone}");
        // 2000-01-01 12:00 is so many seconds after 1970 in UTC.
        let seconds = "select extract(epoch from timestamptz '2000-01-01 12:00')::int8";
        assert_eq!(simple(&client, seconds).await, [(946_728_000 - east).to_string()], "{zone}");
    }
    for (zone, sqlstate) in [
        ("timezone to '+0200'", "22023"),
        ("timezone to 'z'", "22023"),
        ("time zone 200", "22023"),
        ("time zone interval '1 month'", "22023"),
        ("timezone to 'FOO5BAR'", "0A000"),
        ("timezone to '25:00'", "0A000"),
    ] {
        assert_eq!(fails(&client, &format!("set {zone}")).await, sqlstate, "{zone}");
        assert_eq!(simple(&client, "show timezone").await, ["UTC"], "{zone}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_listed() {
    let server = Running::start().await;
    let client = server.connect().await;
    let other = server.connect().await;
    let setting = |name: &str| format!("SELECT setting FROM pg_catalog.pg_settings WHERE name = '{name}'");
    assert_eq!(simple(&client, &setting("max_index_keys")).await, ["32"]);
    let named = client.prepare("SELECT setting FROM pg_settings WHERE name = $1").await.unwrap();
    for name in ["notebook", "report"] {
        client.batch_execute(&format!("SET application_name = '{name}'")).await.unwrap();
        assert_eq!(simple(&client, &setting("application_name")).await, [name]);
        let row = client.query_one(&named, &[&"application_name"]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), name);
        assert_eq!(simple(&other, &setting("application_name")).await, [""], "settings of another session");
    }
    client.batch_execute("BEGIN; SET LOCAL application_name = 'local'").await.unwrap();
    assert_eq!(simple(&client, &setting("application_name")).await, ["local"]);
    client.batch_execute("ROLLBACK; SET statement_timeout = '2min'").await.unwrap();
    assert_eq!(simple(&client, &setting("application_name")).await, ["report"]);
    let whole = "SELECT concat_ws('|', setting, unit, context, vartype, source, min_val, max_val, boot_val, reset_val) \
                 FROM pg_settings WHERE name = 'statement_timeout'";
    assert_eq!(simple(&client, whole).await, ["120000|ms|user|integer|session|0|2147483647|0|0"]);
    let choices = "SELECT enumvals FROM pg_settings WHERE name = 'bytea_output'";
    assert_eq!(simple(&client, choices).await, ["{hex,escape}"]);
    assert_eq!(simple(&client, "SELECT count(*) > 50 FROM pg_settings").await, ["t"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_have_the_isolation_that_is_set() {
    let server = Running::start().await;
    let client = server.connect().await;
    let shown = async || simple(&client, "show transaction isolation level").await.join("");
    assert_eq!(shown().await, "read committed");
    client.batch_execute("set session characteristics as transaction isolation level serializable").await.unwrap();
    assert_eq!(shown().await, "serializable");
    client.batch_execute("begin").await.unwrap();
    assert_eq!(shown().await, "serializable");
    client.batch_execute("commit; begin isolation level repeatable read").await.unwrap();
    assert_eq!(shown().await, "repeatable read");
    client.batch_execute("rollback").await.unwrap();
    assert_eq!(shown().await, "serializable");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_cancelled_and_ended_by_number() {
    let folder = tempfile::tempdir().unwrap();
    let password_file = Some(password_file(folder.path()));
    let server = Running::start_with(Config { password_file, ..Config::default() }).await;
    let ada = server.try_connect("user=ada password=secret").await.unwrap();
    let (bob, other) = (server.try_connect(BOB).await.unwrap(), server.try_connect(BOB).await.unwrap());
    let number = async |client: &Client| simple(client, "select pg_backend_pid()").await.join("");
    let (of_ada, of_bob) = (number(&ada).await, number(&bob).await);
    let running = tokio::spawn(async move {
        let code = fails(&bob, ENDLESS).await;
        (bob, code)
    });
    server.tables.until_running(1).await;
    assert_eq!(simple(&other, &format!("select pg_cancel_backend({of_bob})")).await, ["t"]);
    let (bob, code) = running.await.unwrap();
    assert_eq!(code, "57014");
    assert_eq!(fails(&other, &format!("select pg_cancel_backend({of_ada})")).await, "42501");
    assert_eq!(simple(&ada, "select pg_cancel_backend(1000000)").await, ["f"]);
    assert_eq!(simple(&bob, "select 1").await, ["1"]);
    assert_eq!(simple(&ada, &format!("select pg_terminate_backend({of_bob})")).await, ["t"]);
    assert!(bob.simple_query("select 1").await.is_err());
    assert_eq!(simple(&ada, &format!("select pg_terminate_backend({of_bob})")).await, ["f"]);
    let number = of_bob.parse::<i32>().unwrap();
    for function in ["pg_terminate_backend", "pg_cancel_backend"] {
        let ended = ada.prepare(&format!("select {function}($1)")).await.unwrap();
        assert_eq!(ended.params(), [Type::INT4]);
        assert!(!ada.query_one(&ended, &[&number]).await.unwrap().get::<_, bool>(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_keep_their_status() {
    let server = Running::start().await;
    let mut raw = Raw::connect(server.port, "ada");
    let statuses = [
        ("select 1", 'I'),
        ("begin", 'T'),
        ("select 1", 'T'),
        ("savepoint a", 'T'),
        ("select 1/0", 'E'),
        ("select 1", 'E'),
        ("rollback to savepoint a", 'T'),
        ("select * from nowhere", 'E'),
        ("commit", 'I'),
        ("begin read only", 'T'),
        ("create table t(a int)", 'E'),
        ("rollback", 'I'),
    ];
    for (query, status) in statuses {
        assert_eq!(raw.query(query).status(), Some(status), "{query}");
    }
    raw.query("begin; select 1/0");
    assert_eq!(raw.query("select 1").sqlstate().as_deref(), Some("25P02"));
    assert_eq!(raw.query("commit").tags(), ["ROLLBACK"]);
    assert_eq!(raw.query("begin read only; create table t(a int)").sqlstate().as_deref(), Some("25006"));
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_statements_see_new_tables() {
    let server = Running::start().await;
    let (one, two) = (server.connect().await, server.connect().await);
    one.simple_query("create table t as select 1::int as a").await.unwrap();
    let statement = one.prepare("select a from t where a > $1").await.unwrap();
    assert_eq!(one.query(&statement, &[&0i32]).await.unwrap().len(), 1);
    two.simple_query("drop table t; create table t as select 2::int as a union all select 3::int").await.unwrap();
    assert_eq!(one.query(&statement, &[&0i32]).await.unwrap().len(), 2);
    two.simple_query("drop table t; create table t as select 'x' as a").await.unwrap();
    assert!(one.query(&statement, &[&0i32]).await.is_err());
    one.simple_query("prepare p(int, text) as select $1 + 1, $2").await.unwrap();
    assert_eq!(simple(&one, "execute p(1 + 1, 'x')").await, ["3"]);
    assert_eq!(fails(&one, "execute p(1)").await, "42601");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_can_be_parameters() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.simple_query("create table t as select g::int as a from generate_series(1, 10) g").await.unwrap();
    let query = "select a from t where a > $3 order by a limit $1 offset $2";
    let rows = client.query(query, &[&2i64, &1i64, &3i32]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get::<_, i32>(0)).collect::<Vec<_>>(), [5, 6]);
    let rows = client.query("select a from t order by a limit $1", &[&None::<i64>]).await.unwrap();
    assert_eq!(rows.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn merged_columns_can_be_filtered() {
    let server = Running::start().await;
    let client = server.connect().await;
    client
        .simple_query("create table t as values (1, 2), (2, 3); create table u as values (1, 'a'), (3, 'b')")
        .await
        .unwrap();
    let inner = "select concat_ws(',', column1, u.column2) from t join u using (column1) where column1 < 3";
    assert_eq!(simple(&client, inner).await, ["1,a"]);
    let full = "select count(*) from t full join u using (column1) where column1 > 1 and column1 in (select 3)";
    assert_eq!(simple(&client, full).await, ["1"]);
    assert_eq!(fails(&client, "select 1 from t, u where column1 = 1").await, "42702");
}

/// Checks records as `psql` of Postgres 15 shows them.
#[tokio::test(flavor = "multi_thread")]
async fn records_are_written_as_postgres_writes_them() {
    let server = Running::start().await;
    let client = server.connect().await;
    let record = "named_struct('a', null::int, 'b', '', 'c', 1.0::real, 'd', 'x y')";
    assert_eq!(simple(&client, &format!("select {record}")).await, ["(,\"\",1,\"x y\")"]);
    assert_eq!(simple(&client, "select format_type(2287, -1) || format_type(23, -1)").await, ["record[]integer"]);
    let array = r#"{"(,\"\",1,\"x y\")",NULL}"#;
    assert_eq!(simple(&client, &format!("select array[{record}, null]")).await, [array]);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_inner_queries_may_be_alike() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.simple_query("create table t(a int, b int); insert into t select 1, 1").await.unwrap();
    let query =
        "with x(a, b) as (select 2, 2) select concat_ws(',', t.a, t.b, x.a, x.b, y.d) from t, x, (select 3, 3) y(c, d)";
    assert_eq!(simple(&client, query).await, ["1,1,2,2,3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pg_catalog_is_there() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.simple_query("create table t(a int, b text)").await.unwrap();
    assert_eq!(simple(&client, "select nspname from pg_namespace where nspname = 'public'").await, ["public"]);
    assert_eq!(simple(&client, "select rolname from pg_roles").await, ["neuroql"]);
    let numbers = "select atttypid, attrelid, relnamespace from pg_attribute a join pg_class c on a.attrelid = c.oid
                   where relname = 't' and attname = 'a'";
    let statement = client.prepare(numbers).await.unwrap();
    assert!(statement.columns().iter().all(|column| *column.type_() == tokio_postgres::types::Type::OID));
    assert_eq!(simple(&client, numbers).await, ["23"]);
    assert_eq!(simple(&client, "select attname from pg_attribute a join pg_class c on a.attrelid = c.oid where relname = 't' and attnum > 0 order by attnum").await, ["a", "b"]);
    assert_eq!(simple(&client, "select pg_is_in_recovery()").await, ["f"]);
    assert_eq!(simple(&client, "select pg_advisory_unlock_all(); close all; unlisten *; reset all").await, ["NULL"]);
    let rows: Vec<_> = client
        .query_raw("select typname from pg_type where oid = $1", [25u32])
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(rows[0].get::<_, &str>(0), "text");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let password_file = Some(password_file(folder.path()));
    let server = Running::start_with(Config { password_file, ..Config::default() }).await;
    let ada = server.try_connect("user=ada password=secret").await.unwrap();
    let bob = server.try_connect(BOB).await.unwrap();
    let listed = "SELECT concat_ws('|', state, query, xact_start IS NOT NULL) FROM pg_stat_activity \
                  WHERE usename = 'bob'";
    simple(&bob, "SET application_name = 'notebook'").await;
    assert_eq!(simple(&ada, listed).await, ["idle|SET application_name = 'notebook'|f"]);
    let named = "SELECT concat_ws('|', application_name, client_port > 0, client_addr) FROM pg_stat_activity WHERE usename = 'bob'";
    assert_eq!(simple(&ada, named).await, ["notebook|t|127.0.0.1"]);
    simple(&bob, "BEGIN").await;
    assert_eq!(simple(&ada, listed).await, ["idle in transaction|BEGIN|t"]);
    assert!(bob.query("SELECT 1 / 0", &[]).await.is_err());
    assert_eq!(simple(&ada, listed).await, ["idle in transaction (aborted)|SELECT 1 / 0|t"]);
    simple(&bob, "ROLLBACK").await;
    // A statement that runs, found and ended by its number.
    let slow = tokio::spawn(async move {
        let code = fails(&bob, ENDLESS).await;
        (bob, code)
    });
    let pid = "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND usename = 'bob'";
    let found = loop {
        if let [pid] = &simple(&ada, pid).await[..] {
            break pid.clone();
        }
    };
    assert_eq!(simple(&ada, &format!("SELECT pg_cancel_backend({found})")).await, ["t"]);
    let (bob, code) = slow.await.unwrap();
    assert_eq!(code, "57014");
    // Others' statements are not for everybody, one's own are. A prepared statement reads them anew.
    let others =
        "SELECT concat_ws('|', query, state IS NULL, client_addr IS NULL) FROM pg_stat_activity WHERE usename = 'ada'";
    assert_eq!(simple(&bob, others).await, ["<insufficient privilege>|t|t"]);
    let own = bob.prepare("SELECT query FROM pg_stat_activity WHERE usename = $1").await.unwrap();
    for _ in 0..8 {
        let rows = bob.query(&own, &[&"bob"]).await.unwrap();
        assert!(rows[0].get::<_, &str>(0).starts_with("SELECT query FROM"), "{rows:?}");
    }
    assert_eq!(simple(&ada, "TABLE models").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_and_tables_are_described() {
    let server = Running::start().await;
    let client = server.connect().await;
    // As psql's \df+ asks.
    let function = |name: &str| {
        format!(
            "SELECT n.nspname, pg_catalog.pg_get_function_result(p.oid), pg_catalog.pg_get_function_arguments(p.oid), \
             p.prokind, pg_catalog.obj_description(p.oid, 'pg_proc') \
             FROM pg_catalog.pg_proc p LEFT JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
             WHERE p.proname OPERATOR(pg_catalog.~) '^({name})$' COLLATE pg_catalog.default"
        )
    };
    let rows = |messages: Vec<SimpleQueryMessage>| -> Vec<Vec<String>> {
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).unwrap_or("NULL").to_owned()).collect())
            }
            _ => None,
        };
        messages.into_iter().filter_map(row).collect()
    };
    let simulate = rows(client.simple_query(&function("simulate")).await.unwrap());
    assert_eq!(simulate.len(), 1);
    assert_eq!(simulate[0][..4], ["public", "real[]", "graph, tokens [, semantics]", "f"]);
    assert!(simulate[0][4].starts_with("The activation that a neuron graph predicts"), "{simulate:?}");
    let search = rows(client.simple_query(&function("search")).await.unwrap());
    assert!(search[0][1].starts_with("TABLE(model text, layer integer,"), "{search:?}");
    assert_eq!(search[0][2], "model text DEFAULT NULL, query text");
    let interval = rows(client.simple_query(&function("bootstrap_interval")).await.unwrap());
    assert_eq!(interval[0][3], "a");
    // Functions of another server are not listed, those that types name are.
    let count = |name: &str| format!("SELECT count(*) FROM pg_proc WHERE proname = '{name}'");
    assert_eq!(simple(&client, &count("pg_stat_reset")).await, ["0"]);
    assert_eq!(simple(&client, &count("int4recv")).await, ["1"]);
    let own = "SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE nspname = 'public'
               AND proargnames IS NULL";
    assert_eq!(simple(&client, own).await, ["0"]);
    // As psql's \d+ asks.
    let column = "SELECT pg_catalog.col_description(a.attrelid, a.attnum) FROM pg_catalog.pg_attribute a \
                  WHERE a.attrelid = 'public.graphs'::regclass AND a.attname = 'f1'";
    assert_eq!(simple(&client, column).await, ["harmonic mean of precision and recall"]);
    let table = "SELECT obj_description('models'::regclass, 'pg_class')";
    assert!(simple(&client, table).await[0].starts_with("Registered models"));
    client.simple_query("CREATE TABLE own(f1 int)").await.unwrap();
    assert_eq!(
        simple(&client, "SELECT obj_description('own'::regclass), col_description('own'::regclass, 1)").await,
        ["NULL"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn long_statements_report_their_progress() {
    let server = Running::start().await;
    let config = format!("host=127.0.0.1 port={} user=ada", server.port);
    let (client, mut connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    let (sender, mut notices) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let tokio_postgres::AsyncMessage::Notice(notice) = message {
                let _ = sender.send(format!("{}: {}", notice.severity(), notice.message()));
            }
        }
    });
    client.batch_execute("set statement_timeout = '2500ms'").await.unwrap();
    let long = "select count(*) from generate_series(1, 100000000000)";
    assert_eq!(fails(&client, long).await, "57014");
    assert!(notices.try_recv().is_err());

    client.batch_execute("set neuroql.progress = on").await.unwrap();
    assert_eq!(simple(&client, "show neuroql.progress").await, ["on"]);
    assert_eq!(fails(&client, long).await, "57014");
    let first = notices.try_recv().unwrap();
    assert!(first.starts_with("NOTICE: 00:00:01, ") && first.ends_with(" rows read"), "{first}");
    while notices.try_recv().is_ok() {}
    let copy = client.copy_out(&format!("copy ({long}) to stdout")).await.unwrap();
    assert!(Box::pin(copy).try_collect::<Vec<_>>().await.is_err());
    assert!(notices.try_recv().is_ok());
    assert_eq!(fails(&client, "set neuroql.progress = maybe").await, "22023");
    client.batch_execute("reset neuroql.progress").await.unwrap();
    assert_eq!(simple(&client, "show neuroql.progress").await, ["off"]);
}
