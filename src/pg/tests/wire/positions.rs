//! Tests of the positions of errors, and of what clients ask of functions. Answers are those of PostgreSQL 15.

use tokio_postgres::error::ErrorPosition;

use crate::{Running, simple};

#[tokio::test(flavor = "multi_thread")]
async fn errors_point_at_names() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.batch_execute("create table t (a int)").await.unwrap();
    for (query, position) in [
        ("select * from nosuch", Some(15)),
        ("select 1; select * from toy.nosuch", Some(25)),
        ("select a, nocol from t", Some(11)),
        ("select 'ä', t.nocol from t", Some(13)),
        ("insert into t (nocol) values (1)", Some(16)),
        ("update t set nocol = 1", Some(14)),
        ("select nosuch(1)", Some(8)),
        ("select * from nosuch(1)", Some(15)),
        ("prepare p as select nocol from t", Some(21)),
        ("drop table nosuch", None),
    ] {
        let error = client.simple_query(query).await.err().unwrap();
        let found = error.as_db_error().unwrap().position().cloned();
        assert_eq!(found, position.map(ErrorPosition::Original), "{query}");
    }
    let error = client.prepare("select nosuch(1)").await.err().unwrap();
    assert_eq!(error.as_db_error().unwrap().position(), Some(&ErrorPosition::Original(8)));
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_bounds_of_series() {
    let server = Running::start().await;
    let client = server.connect().await;
    let rows = client.query("select i from generate_series(1, $1) as i", &[&3i64]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>(), [1, 2, 3]);
    let rows = client.query("select * from generate_series($1::int, 2)", &[&1i32]).await.unwrap();
    assert_eq!((rows.len(), rows[0].columns()[0].name()), (2, "generate_series"));
    client.batch_execute("begin; declare c cursor for select generate_series(1, 2)::int4 as x").await.unwrap();
    assert_eq!(simple(&client, "fetch all c").await, ["1", "2"]);
    client.batch_execute("rollback").await.unwrap();
    let terminate = client.prepare("select pg_terminate_backend($1)").await.unwrap();
    assert_eq!(terminate.params()[0].name(), "int4");
    assert_eq!(simple(&client, "select (interval '1 day' * 1.5)::text").await, ["1 day 12:00:00"]);
    let row = client.query_one("select ($1 * interval '1 second')::text", &[&90.5f64]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "00:01:30.5");
}
