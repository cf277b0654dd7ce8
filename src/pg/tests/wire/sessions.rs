//! What a session keeps to itself and across statements.

use futures::TryStreamExt;

use crate::raw::Raw;
use crate::{Running, fails, simple};

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
