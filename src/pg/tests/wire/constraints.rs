//! Tests of PRIMARY KEY, UNIQUE and NOT NULL, and of cursors that move backward.

use tokio_postgres::SimpleQueryMessage;

use crate::{Running, fails, simple};

#[tokio::test(flavor = "multi_thread")]
async fn keys_hold_after_each_statement() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.batch_execute("create table t (a int primary key, b text unique, c float8 not null)").await.unwrap();
    client.batch_execute("insert into t values (1, 'x', 0), (2, null, 0), (3, null, 0)").await.unwrap();
    for (change, sqlstate) in [
        ("insert into t values (1, 'y', 0)", "23505"),
        ("insert into t values (4, 'x', 0)", "23505"),
        ("insert into t values (4, 'y', 0), (4, 'z', 0)", "23505"),
        ("insert into t values (null, 'y', 0)", "23502"),
        ("insert into t values (4, 'y', null)", "23502"),
        ("update t set a = 1", "23505"),
        ("update t set a = null where a = 1", "23502"),
        ("insert into t select a, 'w', 0 from t where a = 3", "23505"),
    ] {
        assert_eq!(fails(&client, change).await, sqlstate, "{change}");
        assert_eq!(simple(&client, "select a from t order by a").await, ["1", "2", "3"], "{change} is taken back");
    }
    client.batch_execute("update t set a = a + 1; insert into t values (1, 'y', 0)").await.unwrap();
    client.batch_execute("begin; insert into t values (9, null, 0); savepoint s").await.unwrap();
    assert_eq!(fails(&client, "insert into t values (9, null, 0)").await, "23505");
    client.batch_execute("rollback to s; commit").await.unwrap();
    assert_eq!(simple(&client, "select a from t order by a").await, ["1", "2", "3", "4", "9"]);
    // DataFusion leaves out what a key makes unnecessary.
    assert_eq!(simple(&client, "select distinct a from t where b = 'y'").await, ["1"]);
    assert_eq!(simple(&client, "select count(*) from (select a, b from t group by a, b) q").await, ["5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn scroll_cursors_move_in_every_direction() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.batch_execute("begin; declare c scroll cursor for select n from generate_series(1, 5) g(n)").await.unwrap();
    for (fetch, rows) in [
        ("fetch 2 from c", &["1", "2"][..]),
        ("fetch prior from c", &["1"]),
        ("fetch prior from c", &[]),
        ("fetch last from c", &["5"]),
        ("fetch absolute 2 from c", &["2"]),
        ("fetch relative 2 from c", &["4"]),
        ("fetch backward 2 from c", &["3", "2"]),
        ("fetch backward all from c", &["1"]),
        ("fetch forward all from c", &["1", "2", "3", "4", "5"]),
        ("fetch first from c", &["1"]),
    ] {
        assert_eq!(simple(&client, fetch).await, rows, "{fetch}");
    }
    let done = client.simple_query("fetch backward 3 from c").await.unwrap();
    assert!(matches!(done.last(), Some(SimpleQueryMessage::CommandComplete(0))));
    for (statement, moved, then) in [
        ("move absolute 2 from c", 1, "3"),
        ("MOVE BACKWARD 2 FROM c", 2, "2"),
        ("move forward all from c", 3, ""),
        ("move absolute 0 from c", 0, "1"),
    ] {
        let done = client.simple_query(statement).await.unwrap();
        assert!(matches!(done.as_slice(), [SimpleQueryMessage::CommandComplete(n)] if *n == moved), "{statement}");
        let rows: Vec<_> = [then].into_iter().filter(|row| !row.is_empty()).collect();
        assert_eq!(simple(&client, "fetch next from c").await, rows, "{statement}");
    }
    // The same by the extended protocol.
    assert_eq!(client.execute("move 2 in c", &[]).await.unwrap(), 2);
    client.batch_execute("declare d no scroll cursor for select 1 union all select 1").await.unwrap();
    client.batch_execute("move next from d").await.unwrap();
    assert_eq!(simple(&client, "fetch all from d").await, ["1"]);
    assert_eq!(fails(&client, "move prior from d").await, "55000");
    client.batch_execute("rollback; begin; declare d no scroll cursor for select 1").await.unwrap();
    assert_eq!(fails(&client, "fetch prior from d").await, "55000");
    client.batch_execute("rollback").await.unwrap();
}
