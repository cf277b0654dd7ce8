//! Tests of the catalog's tables of a session, of prepared transactions, and of the names of databases.

use tokio_postgres::types::Type;

use crate::privileges::Lab;
use crate::{Running, fails, simple, sqlstate};

#[tokio::test(flavor = "multi_thread")]
async fn statements_and_cursors_are_listed() {
    let server = Running::start().await;
    let client = server.connect().await;
    assert_eq!(simple(&client, "select count(*) from pg_prepared_statements").await, ["0"]);
    client.batch_execute("prepare a(int, double precision, text[]) as select $1").await.unwrap();
    let typed = client.prepare_typed("select $1 + 1", &[Type::INT8]).await.unwrap();
    let listed = "select statement || ' ' || from_sql::text from pg_prepared_statements order by from_sql";
    assert_eq!(
        simple(&client, listed).await,
        ["select $1 + 1 false", "prepare a(int, double precision, text[]) as select $1 true"]
    );
    let types = "select parameter_types from pg_prepared_statements where name = 'a'";
    assert_eq!(simple(&client, types).await, ["{integer,\"double precision\",text[]}"]);
    let fresh = "select count(*) from pg_prepared_statements where prepare_time > now() - interval '1 hour'";
    assert_eq!(simple(&client, fresh).await, ["2"]);
    for _ in 0..3 {
        client.query(&typed, &[&1i64]).await.unwrap();
    }
    let counts = "select generic_plans + custom_plans from pg_prepared_statements where not from_sql";
    assert_eq!(simple(&client, counts).await, ["3"]);
    // A statement that reads the list may be prepared itself.
    client.batch_execute("prepare b as select count(*) from pg_prepared_statements").await.unwrap();
    assert_eq!(simple(&client, "execute b").await, ["3"]);
    client.batch_execute("deallocate a").await.unwrap();
    assert_eq!(simple(&client, "execute b").await, ["2"]);
    let other = server.connect().await;
    assert_eq!(simple(&other, "select count(*) from pg_prepared_statements").await, ["0"]);

    client
        .batch_execute("begin; declare c cursor for select 1; declare d scroll cursor with hold for select 2")
        .await
        .unwrap();
    let cursors = "select name || ' ' || is_holdable::text || ' ' || is_binary::text || ' ' || is_scrollable::text from pg_cursors order by name";
    assert_eq!(simple(&client, cursors).await, ["c false false false", "d true false true"]);
    client.batch_execute("commit").await.unwrap();
    assert_eq!(simple(&client, cursors).await, ["d true false true"]);
    client.batch_execute("close all").await.unwrap();
    assert_eq!(simple(&client, "select count(*) from pg_cursors").await, ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_listed() {
    let server = Running::start().await;
    let client = server.connect().await;
    assert_eq!(simple(&client, "select usename from pg_user").await, ["neuroql"]);
    assert_eq!(simple(&client, "select usesuper from pg_shadow").await, ["t"]);
    assert_eq!(simple(&client, "select passwd from pg_user").await, ["********"]);
    assert_eq!(simple(&client, "select passwd from pg_shadow").await, ["NULL"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_transaction_is_prepared() {
    let server = Running::start().await;
    let client = server.connect().await;
    assert_eq!(simple(&client, "show max_prepared_transactions").await, ["0"]);
    assert_eq!(simple(&client, "select count(*) from pg_prepared_xacts").await, ["0"]);
    client.batch_execute("create table t (a int)").await.unwrap();
    client.batch_execute("begin; insert into t values (1)").await.unwrap();
    assert_eq!(fails(&client, "commit prepared 'x'").await, "25001");
    assert_eq!(fails(&client, "commit prepared 'x'").await, "25P02");
    client.batch_execute("prepare transaction 'x'").await.unwrap();
    assert_eq!(simple(&client, "select count(*) from t").await, ["0"]);
    client.batch_execute("begin; insert into t values (1)").await.unwrap();
    assert_eq!(fails(&client, "prepare transaction 'x'").await, "55000");
    // The transaction has ended.
    assert_eq!(simple(&client, "select count(*) from t").await, ["0"]);
    client.batch_execute("prepare transaction 'x'").await.unwrap();
    assert_eq!(fails(&client, "rollback prepared 'x'").await, "42704");
    assert_eq!(fails(&client, "prepare transaction x").await, "42601");
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_have_names() {
    let server = Running::start().await;
    for config in ["user=ada", "user=ada dbname=ada", "user=ada dbname=neuroql", "user=ada dbname=postgres"] {
        assert!(server.try_connect(config).await.is_ok(), "{config}");
    }
    let error = server.try_connect("user=ada dbname=nosuchdb").await.err().unwrap();
    assert_eq!(sqlstate(&error), "3D000");
    assert_eq!(error.as_db_error().unwrap().message(), "database \"nosuchdb\" does not exist");
    let client = server.connect().await;
    client.batch_execute("create database nosuchdb").await.unwrap();
    assert!(server.try_connect("user=ada dbname=nosuchdb").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_outlast_resets() {
    let lab = Lab::start().await;
    lab.ada.batch_execute("revoke usage on schema toy from public").await.unwrap();
    for reset in ["reset all", "discard all"] {
        lab.bob.batch_execute(reset).await.unwrap();
        assert_eq!(fails(&lab.bob, "select tokenize('toy', 'a b')").await, "42501", "{reset}");
    }
    assert_eq!(fails(&lab.bob, "select usename from pg_shadow").await, "42501");
    assert_eq!(simple(&lab.bob, "select count(*) from pg_user").await, ["4"]);
}
