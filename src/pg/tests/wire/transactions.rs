//! Tests of changes that ROLLBACK undoes, and of rows that others see meanwhile.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::SinkExt;
use tokio_postgres::Client;

use crate::{Running, fails, lines, simple, sqlstate, until_active};

async fn with_table() -> (Running, Client, Client) {
    let server = Running::start().await;
    let (one, two) = (server.connect().await, server.connect().await);
    one.batch_execute("create table t (a int); insert into t values (1)").await.unwrap();
    (server, one, two)
}

#[tokio::test(flavor = "multi_thread")]
async fn rollback_undoes_changes_of_rows() {
    let (_server, one, two) = with_table().await;
    let rows = "select a from t order by a";
    for change in [
        "insert into t values (2), (3)",
        "insert into t select a + 1 from t; insert into t select a + 1 from t",
        "delete from t where a = 1",
        "update t set a = 7",
        "insert into t values (2); delete from t where a = 1; insert into t values (5)",
    ] {
        one.batch_execute(&format!("begin; {change}")).await.unwrap();
        assert_ne!(simple(&one, rows).await, ["1"], "{change}");
        assert_eq!(simple(&two, rows).await, ["1"], "others see what was committed: {change}");
        one.batch_execute("rollback").await.unwrap();
        for client in [&one, &two] {
            assert_eq!(simple(client, rows).await, ["1"], "{change}");
        }
    }
    one.batch_execute("begin; insert into t values (2); commit").await.unwrap();
    assert_eq!(simple(&two, rows).await, ["1", "2"]);
    // COMMIT rolls back a failed transaction, too.
    one.batch_execute("begin; insert into t values (3)").await.unwrap();
    assert_eq!(fails(&one, "select 1/0").await, "22012");
    one.batch_execute("commit").await.unwrap();
    assert_eq!(simple(&two, rows).await, ["1", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn savepoints_undo_what_came_after_them() {
    let (_server, one, two) = with_table().await;
    let sql = "begin; insert into t values (2); savepoint a; insert into t values (3); savepoint b; delete from t;
               rollback to b; insert into t values (4); rollback to a; insert into t values (5); release a; commit";
    one.batch_execute(sql).await.unwrap();
    assert_eq!(simple(&two, "select a from t order by a").await, ["1", "2", "5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_of_one_message_are_one_transaction() {
    let (_server, one, two) = with_table().await;
    assert_eq!(fails(&one, "insert into t values (2); select 1/0").await, "22012");
    assert_eq!(fails(&one, "create table u (a int); select 1/0").await, "22012");
    assert_eq!(simple(&two, "select a from t").await, ["1"]);
    assert_eq!(fails(&two, "select * from u").await, "42P01");
    one.batch_execute("insert into t values (2); insert into t values (3)").await.unwrap();
    assert_eq!(simple(&two, "select count(*) from t").await, ["3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rollback_undoes_tables_and_views() {
    let (_server, one, two) = with_table().await;
    one.batch_execute("create view v as select 1 as a").await.unwrap();
    let sql = "begin; create table u as select 5 as a; create or replace view v as select 2 as a; drop table t";
    one.batch_execute(sql).await.unwrap();
    assert_eq!(simple(&one, "select a from u").await, ["5"]);
    one.batch_execute("rollback").await.unwrap();
    for client in [&one, &two] {
        assert_eq!(simple(client, "select a from t").await, ["1"]);
        assert_eq!(simple(client, "select a from v").await, ["1"]);
        assert_eq!(fails(client, "select a from u").await, "42P01");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_wait_for_each_other() {
    let (server, one, two) = with_table().await;
    one.batch_execute("create table u (a int); begin; insert into t values (2)").await.unwrap();
    two.batch_execute("set statement_timeout = '200ms'").await.unwrap();
    assert_eq!(fails(&two, "insert into t values (3)").await, "57014");
    two.batch_execute("set statement_timeout = 0; begin; insert into u values (1)").await.unwrap();
    let waits = tokio::spawn(async move {
        let done = two.batch_execute("insert into t values (3)").await;
        (two, done)
    });
    until_active(&one, "insert into t values (3)").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waits.is_finished());
    assert_eq!(fails(&one, "insert into u values (2)").await, "40P01");
    one.batch_execute("rollback").await.unwrap();
    let (two, done) = waits.await.unwrap();
    done.unwrap();
    two.batch_execute("commit").await.unwrap();
    assert_eq!(simple(&one, "select a from t order by a").await, ["1", "3"]);
    // A client that vanishes releases the tables that it changed, and commits nothing.
    let three = server.connect().await;
    three.batch_execute("begin; delete from t").await.unwrap();
    drop(three);
    one.batch_execute("set statement_timeout = '10s'; insert into t values (4)").await.unwrap();
    assert_eq!(simple(&one, "select a from t order by a").await, ["1", "3", "4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_undone_is_refused_in_a_block() {
    let (_server, one, _) = with_table().await;
    let sql = "insert into toy.graphs select * from toy.graphs where layer = 0 and neuron = 0";
    one.batch_execute("begin").await.unwrap();
    assert_eq!(fails(&one, sql).await, "25001");
    one.batch_execute("rollback").await.unwrap();
    one.batch_execute(sql).await.unwrap();
}

async fn copy(client: &Client, sql: &str, pieces: &[&'static [u8]]) -> Result<u64, tokio_postgres::Error> {
    let sink = client.copy_in::<_, Bytes>(sql).await?;
    futures::pin_mut!(sink);
    for piece in pieces {
        sink.send(Bytes::from_static(piece)).await?;
    }
    sink.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_copied_in() {
    let server = Running::start().await;
    let client = server.connect().await;
    let columns = "a int, b text, c double precision, d timestamp, e boolean, f bytea, g numeric(10,2), h int[]";
    client.batch_execute(&format!("create table c ({columns}); create table d ({columns})")).await.unwrap();
    let text: &[&[u8]] = &[
        b"1\tx\\ty\t2.5\t2020-01-02 03:04:05\tt\t\\\\x00ff\t1.25\t{1,NULL,3",
        b"}\n\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\n",
    ];
    assert_eq!(copy(&client, "copy c from stdin", text).await.unwrap(), 2);
    let shown = async |table: &str| lines(&client, &format!("select * from {table} order by a")).await;
    let expected =
        ["1|x\ty|2.5|2020-01-02 03:04:05|t|\\x00ff|1.25|{1,NULL,3}", "NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL"];
    assert_eq!(shown("c").await, expected);
    // Rows copied out and in again, in each format.
    for format in ["text", "csv", "binary"] {
        let parts = client.copy_out(&format!("copy c to stdout with (format {format})")).await.unwrap();
        let parts: Vec<Bytes> = futures::TryStreamExt::try_collect(parts).await.unwrap();
        let sink = client.copy_in::<_, Bytes>(&format!("copy d from stdin with (format {format})")).await.unwrap();
        futures::pin_mut!(sink);
        for part in parts {
            sink.send(part).await.unwrap();
        }
        assert_eq!(sink.finish().await.unwrap(), 2, "{format}");
        assert_eq!(shown("d").await, expected, "{format}");
        client.batch_execute("delete from d").await.unwrap();
    }
    // Some columns, in another order; the rest is NULL.
    assert_eq!(copy(&client, "copy d (b, a) from stdin csv header", &[b"b,a\n\"q,\"\"\",5\n,6\n"]).await.unwrap(), 2);
    assert_eq!(simple(&client, "select b from d order by a").await, ["q,\"", "NULL"]);
    for (sql, piece, code) in [
        ("copy c from stdin", &b"1\n"[..], "22P04"),
        ("copy c (a) from stdin", b"x\n", "22P02"),
        ("copy c (a) from stdin", b"99999999999\n", "22003"),
        ("copy c (b) from stdin", b"\xff\n", "22021"),
        ("copy c (a) from stdin (format binary)", b"nothing of the kind, but long", "22P04"),
        ("copy models from stdin", b"", "0A000"),
        ("copy nothing from stdin", b"", "42P01"),
        ("copy c (nope) from stdin", b"", "42703"),
        ("copy (select 1) from stdin", b"", "42601"),
    ] {
        let error = copy(&client, sql, &[piece]).await.expect_err(sql);
        assert_eq!(sqlstate(&error), code, "{sql}: {error:?}");
        assert_eq!(simple(&client, "select count(*) from c").await, ["2"]);
    }
    let error = copy(&client, "copy c (a, b) from stdin", &[b"1\tx\n2\ty\nz\tw\n"]).await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().where_(), Some("COPY c, line 3, column a"));
    // A copy that the client gives up, and one that is rolled back.
    {
        let sink = client.copy_in::<_, Bytes>("copy c (a) from stdin").await.unwrap();
        futures::pin_mut!(sink);
        sink.send(Bytes::from_static(b"1\n")).await.unwrap();
    }
    assert_eq!(simple(&client, "select count(*) from c").await, ["2"]);
    client.batch_execute("begin").await.unwrap();
    assert_eq!(copy(&client, "copy c (a) from stdin", &[b"1\n2\n\\.\n"]).await.unwrap(), 2);
    client.batch_execute("rollback").await.unwrap();
    assert_eq!(simple(&client, "select count(*) from c").await, ["2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_has_the_time_of_one_statement() {
    let (_server, client, _) = with_table().await;
    client.batch_execute("set statement_timeout = '500ms'").await.unwrap();
    let sink = client.copy_in::<_, Bytes>("copy t from stdin").await.unwrap();
    futures::pin_mut!(sink);
    // Each message comes soon after the one before it.
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1500) {
        if sink.send(Bytes::from("1\n".repeat(8192))).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(sqlstate(&sink.finish().await.unwrap_err()), "57014");
    client.batch_execute("reset statement_timeout").await.unwrap();
    assert_eq!(simple(&client, "select count(*) from t").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_plans_give_the_rows_of_now() {
    let server = Running::start().await;
    let (one, two) = (server.connect().await, server.connect().await);
    let sql = "select neuron, nodes from toy.neurons where layer = $1 and neuron between $2 and $3 order by neuron";
    let all = simple(&one, "select neuron || ':' || nodes from toy.neurons where layer = 1 order by neuron").await;
    for mode in ["auto", "force_generic_plan", "force_custom_plan"] {
        two.batch_execute(&format!("set plan_cache_mode = '{mode}'")).await.unwrap();
        let statement = two.prepare(sql).await.unwrap();
        for first in [0_i32, 100, 7, 500, 511, 600] {
            let rows = two.query(&statement, &[&1_i32, &first, &(first + 2)]).await.unwrap();
            let rows: Vec<String> =
                rows.iter().map(|row| format!("{}:{}", row.get::<_, i32>(0), row.get::<_, i32>(1))).collect();
            let wanted = all.iter().skip(first as usize).take(3).cloned().collect::<Vec<_>>();
            assert_eq!(rows, wanted, "{mode} {first}");
        }
        // NULL and a portal that is left half-way.
        assert!(two.query(&statement, &[&1_i32, &None::<i32>, &2_i32]).await.unwrap().is_empty());
        let limited = two.query(&statement, &[&None::<i32>, &0_i32, &2_i32]).await.unwrap();
        assert!(limited.is_empty());
        assert_eq!(two.query(&statement, &[&0_i32, &0_i32, &511_i32]).await.unwrap().len(), 512);
    }
    // A graph that is added and removed between two executions is seen.
    let statement =
        two.prepare("select method from toy.graphs where layer = $1 and neuron = $2 order by 1").await.unwrap();
    let methods = async || {
        let rows = two.query(&statement, &[&0_i32, &3_i32]).await.unwrap();
        rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>()
    };
    let before = methods().await;
    assert_eq!(methods().await, before);
    let insert = "insert into toy.graphs (layer, neuron, graph, method)
                  select layer, neuron, graph, '~mine' from toy.graphs where layer = 0 and neuron = 3 limit 1";
    one.batch_execute(insert).await.unwrap();
    assert_eq!(methods().await, [&before[..], &["~mine".to_owned()]].concat());
    one.batch_execute("delete from toy.graphs where layer = 0 and neuron = 3 and method = '~mine'").await.unwrap();
    assert_eq!(methods().await, before);
}
