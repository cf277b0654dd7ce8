//! Tests of temporary tables.

use crate::privileges::Lab;
use crate::{Running, fails, simple};

#[tokio::test(flavor = "multi_thread")]
async fn temporary_tables_are_of_their_session() {
    let server = Running::start().await;
    let (one, two) = (server.connect().await, server.connect().await);
    one.batch_execute("create table kept (a int); insert into kept values (1)").await.unwrap();

    one.batch_execute("create temporary table mine (a int, b text) on commit preserve rows").await.unwrap();
    one.batch_execute("insert into mine values (1, 'x'), (2, null); update mine set b = 'y' where a = 2")
        .await
        .unwrap();
    one.batch_execute("create temp table pg_temp.counted as select count(*) as n from mine").await.unwrap();
    assert_eq!(simple(&one, "select concat(a, ',', b) from mine order by a").await, ["1,x", "2,y"]);
    assert_eq!(simple(&one, "select n from counted").await, ["2"]);
    let rows = one.query("select a from mine where b = $1", &[&"y"]).await.unwrap();
    assert_eq!(rows[0].get::<_, i32>(0), 2);
    let listed = "select concat(table_schema, '.', table_name) from information_schema.tables where table_name in ('mine', 'kept') order by table_name";
    assert_eq!(simple(&one, listed).await, ["public.kept", "pg_temp.mine"]);

    // The catalog lists it, as ibis and psql ask for it.
    let attributes = "select a.attname from pg_attribute a join pg_class c on a.attrelid = c.oid \
                      join pg_namespace n on c.relnamespace = n.oid where a.attnum > 0 and c.relname = 'mine' \
                      and n.nspname = (select nspname from pg_namespace where oid = pg_my_temp_schema()) order by a.attnum";
    assert_eq!(simple(&one, attributes).await, ["a", "b"]);
    assert_eq!(simple(&two, attributes).await, Vec::<String>::new());
    assert_eq!(simple(&one, "select 'mine'::regclass::text").await.len(), 1);
    assert_eq!(simple(&one, "select count(*) from pg_class where relname in ('mine', 'kept')").await, ["2"]);
    assert_eq!(simple(&two, "select count(*) from pg_class where relname in ('mine', 'kept')").await, ["1"]);
    let persistence = "select relpersistence from pg_class where relname in ('mine', 'kept') order by relname";
    assert_eq!(simple(&one, persistence).await, ["p", "t"]);

    // Another session neither sees it nor is in its way.
    assert_eq!(fails(&two, "select * from mine").await, "42P01");
    assert_eq!(fails(&two, "select * from pg_temp.mine").await, "42P01");
    two.batch_execute("create temp table mine (c text); insert into mine values ('of two')").await.unwrap();
    assert_eq!(simple(&two, "select c from mine").await, ["of two"]);
    assert_eq!(simple(&one, "select count(*) from mine").await, ["2"]);

    // It hides a table of the same name, which only its schema tells apart: refused.
    one.batch_execute("create temp table kept (z text)").await.unwrap();
    assert_eq!(simple(&one, "select count(*) from kept").await, ["0"]);
    for statement in ["select * from public.kept", "explain select * from public.kept", "drop table public.kept"] {
        assert_eq!(fails(&one, statement).await, "0A000", "{statement}");
    }
    assert_eq!(simple(&two, "select a from kept").await, ["1"]);
    one.batch_execute("drop table kept").await.unwrap();
    assert_eq!(simple(&one, "select a from kept").await, ["1"]);

    // Views over it go with it, others may not be over it.
    assert_eq!(fails(&one, "create view lasting as select * from mine").await, "0A000");
    assert_eq!(fails(&one, "create view lasting as select 1 where exists (select * from pg_temp.mine)").await, "0A000");
    one.batch_execute("create temp view passing as select a from mine where b = 'x'").await.unwrap();
    assert_eq!(simple(&one, "select a from passing").await, ["1"]);
    assert_eq!(fails(&two, "select a from passing").await, "42P01");

    // Wherever other names are looked for.
    one.batch_execute("set search_path = toy").await.unwrap();
    assert_eq!(simple(&one, "select count(*) from mine").await, ["2"]);
    assert_eq!(simple(&one, "select count(*) > 0 from neurons").await, ["t"]);
    one.batch_execute("set search_path = public").await.unwrap();

    for (statement, code) in [
        ("create temp table mine (a int)", "42P07"),
        ("create temp table public.other (a int)", "42P16"),
        ("create table other (a int) on commit drop", "42P16"),
        ("drop table other", "42P01"),
    ] {
        assert_eq!(fails(&one, statement).await, code, "{statement}");
    }
    one.batch_execute("create temp table if not exists mine (a int)").await.unwrap();
    assert_eq!(simple(&one, "select count(*) from mine").await, ["2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_visible_by_the_search_path() {
    let server = Running::start().await;
    let client = server.connect().await;
    client
        .batch_execute(
            "create schema apart; create table apart.hidden (a int); create table apart.kept (a int); \
             create table kept (a int); create temp table mine (a int)",
        )
        .await
        .unwrap();
    let visible = "select pg_table_is_visible(c.oid) from pg_class c join pg_namespace n on n.oid = c.relnamespace \
                   where relname in ('hidden', 'kept', 'mine', 'pg_class') order by nspname, relname";
    assert_eq!(simple(&client, visible).await, ["f", "f", "t", "t", "t"]);
    client.batch_execute("set search_path = apart, public").await.unwrap();
    assert_eq!(simple(&client, visible).await, ["t", "t", "t", "t", "f"]);
    assert_eq!(simple(&client, "select pg_catalog.pg_table_is_visible(0)").await, ["NULL"]);
    // As psql lists tables.
    client.batch_execute("reset search_path").await.unwrap();
    let listed = "select c.relname from pg_catalog.pg_class c where c.relkind = 'r' and c.relname in ('hidden', 'kept') \
                  and pg_catalog.pg_table_is_visible(c.oid)";
    assert_eq!(simple(&client, listed).await, ["kept"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn temporary_tables_come_and_go() {
    let server = Running::start().await;
    let client = server.connect().await;
    client
        .batch_execute("create table kept (a int); create temp table mine (a int); insert into mine values (1)")
        .await
        .unwrap();

    // A transaction takes its changes back, where they were.
    client
        .batch_execute("begin; insert into mine values (2); drop table mine; create temp table other (a int)")
        .await
        .unwrap();
    assert_eq!(fails(&client, "select * from mine").await, "42P01");
    client.batch_execute("rollback").await.unwrap();
    assert_eq!(simple(&client, "select a from mine").await, ["1"]);
    assert_eq!(simple(&client, "select a from pg_temp.mine").await, ["1"]);
    assert_eq!(fails(&client, "select * from public.mine").await, "0A000");
    assert_eq!(fails(&client, "select * from other").await, "42P01");

    // A prepared statement follows its name.
    let read = client.prepare("select * from kept").await.unwrap();
    assert_eq!(client.query(&read, &[]).await.unwrap().len(), 0);
    client.batch_execute("create temp table kept (a int); insert into kept values (1), (2)").await.unwrap();
    assert_eq!(client.query(&read, &[]).await.unwrap().len(), 2);

    assert_eq!(fails(&client, "begin; discard temp").await, "25001");
    client.batch_execute("rollback; discard temp").await.unwrap();
    assert_eq!(fails(&client, "select * from mine").await, "42P01");
    assert_eq!(client.query(&read, &[]).await.unwrap().len(), 0);
    client.batch_execute("create temp table mine (a int); discard all; create temp table mine (a int)").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn analysts_have_temporary_tables() {
    let lab = Lab::start().await;
    lab.ann.batch_execute("create temp table mine (a int); insert into mine values (1)").await.unwrap();
    assert_eq!(simple(&lab.ann, "select a from mine").await, ["1"]);
    lab.ann.batch_execute("delete from mine; drop table mine; create temp view v as select 1").await.unwrap();
    assert_eq!(fails(&lab.bob, "create temp table mine (a int)").await, "42501");
    // One that hides the table of another user does not give its rights.
    lab.abe.batch_execute("create table shared (a int)").await.unwrap();
    lab.ann
        .batch_execute("create temp table shared (a int); insert into shared values (1); drop table shared")
        .await
        .unwrap();
    assert_eq!(fails(&lab.ann, "insert into shared values (1)").await, "42501");
    assert_eq!(fails(&lab.ann, "drop table shared").await, "42501");
    assert!(!std::fs::read_to_string(lab.users()).unwrap().contains("pg_temp"));
}
