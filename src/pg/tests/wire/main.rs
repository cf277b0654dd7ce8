//! A server on a real socket, and clients that behave, misbehave and vanish.

mod raw;
mod tables;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use neuroql_pg::{Config, Server, TlsFiles};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::raw::Raw;
use crate::tables::Tables;

/// A query that runs for hours.
const ENDLESS: &str = "select count(*) from generate_series(1, 100000000000) a";

struct Running {
    port: u16,
    tables: Arc<Tables>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Running {
    async fn start() -> Self {
        Self::start_with(Config::default()).await
    }

    async fn start_with(config: Config) -> Self {
        let engine = neuroql::Engine::builder().build().unwrap();
        let tables = Tables::register(&engine.session());
        let config = Config { listen: "127.0.0.1:0".into(), ..config };
        let server = Server::bind(&engine, config).await.unwrap();
        let port = server.local_addr().port();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self { port, tables, stop: Some(stop), task }
    }

    async fn connect(&self) -> Client {
        self.try_connect("user=ada").await.unwrap()
    }

    async fn try_connect(&self, config: &str) -> Result<Client, tokio_postgres::Error> {
        let config = format!("host=127.0.0.1 port={} {config}", self.port);
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

/// The first column of every row, through the simple protocol.
async fn simple(client: &Client, query: &str) -> Vec<String> {
    let messages = client.simple_query(query).await.unwrap();
    let value = |message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_string()),
        _ => None,
    };
    messages.into_iter().filter_map(value).collect()
}

fn sqlstate(error: &tokio_postgres::Error) -> &str {
    error.code().map_or("none", |code| code.code())
}

async fn fails(client: &Client, query: &str) -> String {
    match client.simple_query(query).await {
        Ok(_) => panic!("{query} succeeds"),
        Err(error) => sqlstate(&error).to_string(),
    }
}

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
    // Types nobody declares: from a comparison, from a function, and text where nothing is known.
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
        .query_one("select count(*) from (values (1), (2)) t(a) where a = any($1)", &[&vec![2i64, 3]])
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
    // Results come as they are ready, not all at the end.
    raw.send_query(&format!("select 1; {ENDLESS}"));
    let first = raw.read_until(b'C');
    assert_eq!(first.tags(), ["SELECT 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_requests_stop_statements_at_once() {
    let server = Running::start().await;
    let client = server.connect().await;
    for query in [ENDLESS, "select * from slow_plan", "select * from slow_rows"] {
        for extended in [false, true] {
            let token = client.cancel_token();
            let canceller = tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(300)).await;
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
        ("copy t from stdin", "0A000"),
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

const USERS: &str = "ada:secret:superuser\nbob:p\u{e4}ss\n";

fn password_file(folder: &Path) -> PathBuf {
    let file = folder.join("users");
    std::fs::write(&file, USERS).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let password_file = Some(password_file(folder.path()));
    let server = Running::start_with(Config { password_file, ..Config::default() }).await;
    let client = server.try_connect("user=ada password=secret").await.unwrap();
    assert_eq!(simple(&client, "select current_user").await, ["ada"]);
    assert_eq!(simple(&client, "select rolname from pg_roles order by 1").await, ["ada", "bob"]);
    server.try_connect("user=bob password=p\u{e4}ss").await.unwrap();
    for wrong in ["user=ada password=wrong", "user=eve password=secret", "user=bob password=secret"] {
        let error = server.try_connect(wrong).await.expect_err(wrong);
        assert_eq!(sqlstate(&error), "28P01", "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_superusers_change_anything() {
    let folder = tempfile::tempdir().unwrap();
    let password_file = Some(password_file(folder.path()));
    let server = Running::start_with(Config { password_file, ..Config::default() }).await;
    let ada = server.try_connect("user=ada password=secret").await.unwrap();
    let bob = server.try_connect("user=bob password=p\u{e4}ss").await.unwrap();
    ada.simple_query("create table t as select 1 as a; create view v as select a from t").await.unwrap();
    let target = folder.path().join("out.parquet");
    let target = target.display();
    let forbidden = [
        "create table x(a int)".to_string(),
        "create table x as select 1".into(),
        "create view x as select 1".into(),
        "create schema x".into(),
        "create database x".into(),
        "create external table x stored as csv location '/etc/passwd'".into(),
        "insert into t values (2)".into(),
        "delete from t".into(),
        "update t set a = 2".into(),
        "drop table t".into(),
        "drop view v".into(),
        format!("copy (select 1) to '{target}'"),
        format!("copy t to '{target}'"),
        "explain analyze insert into t values (2)".into(),
        "explain (analyze) delete from t".into(),
        format!("explain analyze copy (select 1) to '{target}'"),
        "prepare p as insert into t values (2)".into(),
        "prepare p as delete from t".into(),
        "set datafusion.runtime.memory_limit = '1M'".into(),
        "reset datafusion.runtime.memory_limit".into(),
    ];
    for query in &forbidden {
        assert_eq!(fails(&bob, query).await, "42501", "{query}");
        let error = bob.query(query.as_str(), &[]).await.map(drop).expect_err(query);
        assert_eq!(sqlstate(&error), "42501", "{query}");
    }
    assert!(!folder.path().join("out.parquet").exists());
    let allowed = [
        "select * from t",
        "select * from v",
        "explain analyze select * from t",
        "prepare q as select a from t",
        "execute q",
        "set datafusion.execution.batch_size = 100",
        "set statement_timeout = 1000",
        "show all",
        "begin; select 1; rollback",
        "select table_name from information_schema.tables",
        "select relname from pg_class",
        "select rolname from pg_roles",
        "select * from information_schema.df_settings",
    ];
    for query in allowed {
        assert!(bob.simple_query(query).await.is_ok(), "{query}");
    }
    assert_eq!(simple(&ada, "select count(*) from t").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn unsafe_configurations_do_not_start() {
    let engine = neuroql::Engine::builder().build().unwrap();
    let refused = async |config: Config| match Server::bind(&engine, config).await {
        Ok(_) => panic!("the server starts"),
        Err(error) => error.to_string(),
    };
    let listen = |listen: &str| Config { listen: listen.into(), ..Config::default() };
    assert!(refused(listen("0.0.0.0:0")).await.contains("password file"));
    assert!(refused(listen("[::]:0")).await.contains("password file"));
    assert!(refused(listen("nonsense")).await.contains("cannot listen"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(refused(listen(&taken.local_addr().unwrap().to_string())).await.contains("another server"));

    let pem = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name);
    let tls = |certificate: &Path, key: &Path| Config {
        tls: Some(TlsFiles { certificate: certificate.into(), key: key.into() }),
        ..listen("127.0.0.1:0")
    };
    let garbage = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(garbage.path(), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
    assert!(refused(tls(&pem("ec.pem"), Path::new("/nowhere"))).await.contains("/nowhere"));
    assert!(refused(tls(Path::new("/nowhere"), &pem("ec-sec1.key"))).await.contains("/nowhere"));
    assert!(refused(tls(&pem("ec.pem"), garbage.path())).await.contains("TLS"));
    assert!(refused(tls(garbage.path(), &pem("ec-sec1.key"))).await.contains("no certificate"));
    assert!(refused(tls(&pem("ec.pem"), &pem("rsa-pkcs1.key"))).await.contains("does not fit"));
    for (certificate, key) in [("ec.pem", "ec-pkcs8.key"), ("ec.pem", "ec-sec1.key"), ("rsa.pem", "rsa-pkcs1.key")] {
        assert!(Server::bind(&engine, tls(&pem(certificate), &pem(key))).await.is_ok(), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_connections() {
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

    let pem = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name);
    let tls = Some(TlsFiles { certificate: pem("ec.pem"), key: pem("ec-pkcs8.key") });
    let server = Running::start_with(Config { tls, ..Config::default() }).await;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pem("ec.pem")).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    for direct in [false, true] {
        config.alpn_protocols = if direct { vec![b"postgresql".to_vec()] } else { Vec::new() };
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config.clone()));
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
        if !direct {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'S');
        }
        let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
        let mut options = tokio_postgres::Config::new();
        options.user("ada").ssl_mode(tokio_postgres::config::SslMode::Disable);
        let (client, connection) = options.connect_raw(stream, NoTls).await.unwrap();
        tokio::spawn(connection);
        assert_eq!(simple(&client, "select 1").await, ["1"]);
    }
    // Without encryption from this machine: allowed.
    assert_eq!(simple(&server.connect().await, "select 1").await, ["1"]);
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
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(server.tables.scans_running.load(Ordering::SeqCst), 1, "{query}");
        drop(raw);
        let gone = Instant::now();
        while server.tables.scans_running.load(Ordering::SeqCst) > 0 {
            assert!(gone.elapsed() < Duration::from_secs(1), "{query} still runs");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_clients_are_told_so() {
    let server = Running::start_with(Config { max_connections: 2, ..Config::default() }).await;
    let one = server.connect().await;
    let two = server.connect().await;
    let error = server.try_connect("user=ada").await.err().unwrap();
    assert_eq!(sqlstate(&error), "53300");
    // A cancel request needs no place of its own.
    let token = one.cancel_token();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        token.cancel_query(NoTls).await.unwrap();
    });
    assert_eq!(fails(&one, ENDLESS).await, "57014");
    drop(two);
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.connect().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_goes_down_in_order() {
    let mut server = Running::start_with(Config { grace: Duration::from_secs(2), ..Config::default() }).await;
    let mut idle = Raw::connect(server.port, "ada");
    let busy = server.connect().await;
    let endless = server.connect().await;
    let short = tokio::spawn(async move { busy.simple_query("select * from one_second").await.map(drop) });
    let long = tokio::spawn(async move { endless.simple_query(ENDLESS).await.map(drop) });
    tokio::time::sleep(Duration::from_millis(300)).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn pg_catalog_is_there() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.simple_query("create table t(a int, b text)").await.unwrap();
    assert_eq!(simple(&client, "select nspname from pg_namespace where nspname = 'public'").await, ["public"]);
    assert_eq!(simple(&client, "select rolname from pg_roles").await, ["neuroql"]);
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
async fn garbage_at_the_door_harms_nobody() {
    use proptest::prelude::*;
    use proptest::test_runner::{Config as Cases, TestRunner};

    let server = Running::start().await;
    let port = server.port;
    tokio::task::spawn_blocking(move || {
        let packet = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            // Plausible headers with any length and rest.
            (
                any::<i32>(),
                prop_oneof![Just(196_608), Just(80_877_102), Just(80_877_103), any::<i32>()],
                proptest::collection::vec(any::<u8>(), 0..100)
            )
                .prop_map(|(length, code, rest)| [&length.to_be_bytes()[..], &code.to_be_bytes(), &rest].concat()),
            // A client that was let in and then talks nonsense.
            (any::<u8>(), any::<i32>(), proptest::collection::vec(any::<u8>(), 0..100)).prop_map(
                |(kind, length, rest)| [&raw::startup("ada")[..], &[kind], &length.to_be_bytes(), &rest].concat()
            ),
            (
                prop_oneof![Just(b'Q'), Just(b'P'), Just(b'B'), Just(b'E'), Just(b'D'), Just(b'C'), Just(b'p')],
                proptest::collection::vec(any::<u8>(), 0..60)
            )
                .prop_map(|(kind, rest)| {
                    let length = i32::try_from(rest.len()).unwrap() + 4;
                    [&raw::startup("ada")[..], &[kind], &length.to_be_bytes(), &rest].concat()
                }),
        ];
        let mut runner = TestRunner::new(Cases { cases: 256, failure_persistence: None, ..Cases::default() });
        runner
            .run(&packet, |bytes| {
                raw::throw(port, &bytes);
                Ok(())
            })
            .unwrap();
        let mut raw = Raw::connect(port, "ada");
        assert_eq!(raw.query("select 1").tags(), ["SELECT 1"]);
    })
    .await
    .unwrap();
}
