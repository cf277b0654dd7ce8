//! Tests of CHECK and FOREIGN KEY of tables in memory, of ALTER TABLE, and of what the catalog says of them. What is
//! expected is what PostgreSQL 15 answers to the same statements.

use std::time::Duration;

use bytes::Bytes;
use futures::SinkExt;
use tokio_postgres::Client;

use crate::{Running, fails, lines, simple, sqlstate, until_active};

/// Runs statements; those with an error expect its SQLSTATE and message.
async fn run(client: &Client, steps: &[(&str, Option<(&str, &str)>)]) {
    for (sql, expected) in steps {
        let found = client.simple_query(sql).await.err();
        let found = found.map(|error| match error.as_db_error() {
            Some(error) => (error.code().code().to_owned(), error.message().to_owned()),
            None => panic!("{sql}: {error}"),
        });
        let found = found.as_ref().map(|(code, message)| (code.as_str(), message.as_str()));
        assert_eq!(found, *expected, "{sql}");
    }
}

const ROW: &str = "23514";

#[tokio::test(flavor = "multi_thread")]
async fn conditions_hold_after_each_statement() {
    let server = Running::start().await;
    let client = server.connect().await;
    run(
        &client,
        &[
            ("create table d (a int check (a > 0), b int, check (a < b), constraint x check (a <> 2))", None),
            ("insert into d values (null, 1), (1, null), (1, 5)", None),
            (
                "insert into d values (5, 9), (0, 1)",
                Some((ROW, "new row for relation \"d\" violates check constraint \"d_a_check\"")),
            ),
            (
                "insert into d values (5, 4)",
                Some((ROW, "new row for relation \"d\" violates check constraint \"d_check\"")),
            ),
            ("insert into d values (2, 4)", Some((ROW, "new row for relation \"d\" violates check constraint \"x\""))),
            (
                "update d set a = a - 1",
                Some((ROW, "new row for relation \"d\" violates check constraint \"d_a_check\"")),
            ),
            (
                "insert into d select a + 1, b from d where b = 5",
                Some((ROW, "new row for relation \"d\" violates check constraint \"x\"")),
            ),
        ],
    )
    .await;
    assert_eq!(lines(&client, "select * from d order by a, b").await, ["1|5", "1|NULL", "NULL|1"]);
    assert_eq!(client.execute("insert into d values ($1, $2)", &[&7, &8]).await.unwrap(), 1);
    let error = client.execute("insert into d values ($1, $2)", &[&-7, &8]).await.unwrap_err();
    assert_eq!(sqlstate(&error), ROW);
    let sink = client.copy_in::<_, Bytes>("copy d from stdin").await.unwrap();
    futures::pin_mut!(sink);
    sink.send(Bytes::from_static(b"3\t4\n-3\t4\n")).await.unwrap();
    assert_eq!(sqlstate(&sink.finish().await.unwrap_err()), ROW);
    assert_eq!(simple(&client, "select count(*) from d").await, ["4"]);
    // Constants are those of the time zone in which the constraint was made.
    run(
        &client,
        &[
            ("set timezone = 'UTC'", None),
            (
                "create table w (a timestamptz check (a > '2020-01-01'), b varchar(3) check (b like 'x%'), c bool check (c), \
                 d int check (d in (1, 2) or d is null), \"E f\" text check (\"E f\" <> ''))",
                None,
            ),
            ("set timezone = 'Asia/Tokyo'", None),
            ("insert into w (a) values ('2020-01-01 08:00:00')", Some((ROW, "new row for relation \"w\" violates check constraint \"w_a_check\""))),
            ("insert into w (b) values ('y')", Some((ROW, "new row for relation \"w\" violates check constraint \"w_b_check\""))),
            ("insert into w (c) values (false)", Some((ROW, "new row for relation \"w\" violates check constraint \"w_c_check\""))),
            ("insert into w (d) values (3)", Some((ROW, "new row for relation \"w\" violates check constraint \"w_d_check\""))),
            ("insert into w (\"E f\") values ('')", Some((ROW, "new row for relation \"w\" violates check constraint \"w_E f_check\""))),
            ("insert into w values ('2020-06-01', 'xy', true, 2, 'é')", None),
            ("create table y (a int primary key check (a > 0), b int check (b > 0))", None),
            (
                "insert into y values (null, -1)",
                Some(("23502", "null value in column \"a\" of relation \"y\" violates not-null constraint")),
            ),
            ("create table z (a int check (10 / a > 1)); insert into z values (null), (2)", None),
            ("insert into z values (0)", Some(("22012", "division by zero"))),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn constraints_that_cannot_be_made_are_refused() {
    let server = Running::start().await;
    let client = server.connect().await;
    client
        .batch_execute("create table p (id int primary key, u text unique, a int, b int, unique (a, b))")
        .await
        .unwrap();
    client
        .batch_execute(
            "create table k (a int); create view v as select 1 as a; create temp table tp (a int primary key)",
        )
        .await
        .unwrap();
    for (columns, code, message) in [
        ("a int check (a > (select 1))", "0A000", "cannot use subquery in check constraint"),
        ("a int check (sum(a) > 1)", "42803", "aggregate functions are not allowed in check constraints"),
        ("a int check (row_number() over () > 1)", "42P20", "window functions are not allowed in check constraints"),
        (
            "a int check (generate_series(1, 2) > 1)",
            "0A000",
            "set-returning functions are not allowed in check constraints",
        ),
        ("a int check (a)", "42804", "argument of CHECK must be type boolean, not type integer"),
        (
            "a int, constraint k check (a > 1), constraint k check (a > 2)",
            "42710",
            "check constraint \"k\" already exists",
        ),
        (
            "a int constraint k primary key, constraint k check (a > 2)",
            "42710",
            "constraint \"k\" for relation \"e\" already exists",
        ),
        ("a int references nope", "42P01", "relation \"nope\" does not exist"),
        ("a int references p (nope)", "42703", "column \"nope\" referenced in foreign key constraint does not exist"),
        (
            "z int, foreign key (q) references p (id)",
            "42703",
            "column \"q\" referenced in foreign key constraint does not exist",
        ),
        (
            "a int references p (a)",
            "42830",
            "there is no unique constraint matching given keys for referenced table \"p\"",
        ),
        ("a text references p (id)", "42804", "foreign key constraint \"e_a_fkey\" cannot be implemented"),
        ("a numeric references p", "42804", "foreign key constraint \"e_a_fkey\" cannot be implemented"),
        ("a float8 references p", "42804", "foreign key constraint \"e_a_fkey\" cannot be implemented"),
        ("a int references k", "42704", "there is no primary key for referenced table \"k\""),
        ("a int references p (a, b)", "42830", "number of referencing and referenced columns for foreign key disagree"),
        (
            "a int, b int, foreign key (a, b) references p (id, id)",
            "42830",
            "foreign key referenced-columns list must not contain duplicates",
        ),
        ("a int references v", "42809", "referenced relation \"v\" is not a table"),
        ("a int references tp", "42P16", "constraints on permanent tables may reference only permanent tables"),
    ] {
        run(&client, &[(&format!("create table e ({columns})"), Some((code, message)))]).await;
        assert_eq!(fails(&client, "select * from e").await, "42P01", "{columns}");
    }
    let message = "constraints on temporary tables may reference only temporary tables";
    run(&client, &[("create temp table e (a int references p)", Some(("42P16", message)))]).await;
    for columns in [
        "a int references p match full",
        "a int references p deferrable initially deferred",
        "a int references p on delete set default",
        "a date unique, b timestamp references e (a)",
    ] {
        assert_eq!(fails(&client, &format!("create table e ({columns})")).await, "0A000", "{columns}");
    }
    assert_eq!(fails(&client, "create table e (a int check (b > 1))").await, "42703");
    assert_eq!(fails(&client, "create table e (a int check (a > $1))").await, "42P02");
    for columns in
        ["a bigint references p, b varchar(5) references p (u)", "a int, b int, foreign key (a, b) references p (b, a)"]
    {
        client.batch_execute(&format!("create table e ({columns}); drop table e")).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_reference_rows_that_are_there() {
    let server = Running::start().await;
    let client = server.connect().await;
    let no_parent = |key: &str| format!("insert or update on table \"c\" violates foreign key constraint \"{key}\"");
    let in_use = "update or delete on table \"p\" violates foreign key constraint \"c_x_fkey\" on table \"c\"";
    run(
        &client,
        &[
            ("create table p (id int primary key, u text unique, a int, b int, unique (a, b))", None),
            ("insert into p values (1, 'a', 1, 1), (2, 'b', 2, 2)", None),
            ("create table c (n int, x bigint references p, z text references p (u), q int, r int, foreign key (q, r) references p (b, a))", None),
            ("insert into c values (1, 1, 'a', 1, 1), (2, null, null, 7, null)", None),
            ("insert into c (x) values (9)", Some(("23503", &no_parent("c_x_fkey")))),
            ("insert into c (x) values (4294967297)", Some(("23503", &no_parent("c_x_fkey")))),
            ("insert into c (z) values ('c')", Some(("23503", &no_parent("c_z_fkey")))),
            ("insert into c (q, r) values (1, 2)", Some(("23503", &no_parent("c_q_r_fkey")))),
            ("update c set x = 3 where n = 2", Some(("23503", &no_parent("c_x_fkey")))),
            ("update c set x = 2 where n = 2", None),
            ("delete from p where id = 1", Some(("23503", in_use))),
            ("update p set id = 7 where id = 1", Some(("23503", in_use))),
            ("update p set u = 'z' where id = 2", None),
            ("truncate p", Some(("0A000", "cannot truncate a table referenced in a foreign key constraint"))),
            ("drop table p", Some(("2BP01", "cannot drop table p because other objects depend on it"))),
            ("delete from c where x = 1", None),
            ("delete from p where id = 1", None),
            ("begin; delete from c; delete from p; rollback", None),
        ],
    )
    .await;
    assert_eq!(lines(&client, "select n, x from c").await, ["2|2"]);
    let sink = client.copy_in::<_, Bytes>("copy c (x) from stdin").await.unwrap();
    futures::pin_mut!(sink);
    sink.send(Bytes::from_static(b"2\n5\n")).await.unwrap();
    assert_eq!(sqlstate(&sink.finish().await.unwrap_err()), "23503");
    assert_eq!(simple(&client, "select count(*) from c").await, ["1"]);
    run(&client, &[("drop table p cascade", None), ("insert into c (x) values (9)", None)]).await;
    let several = "create table p9 (a int primary key); create table c9 (a int references p9 (a)); drop table p9, c9";
    run(&client, &[(several, None)]).await;
    assert_eq!(simple(&client, "select conname from pg_constraint").await, Vec::<String>::new());
    // A key that another row takes is still there, but not for RESTRICT.
    let swapped = "update or delete on table \"s\" violates foreign key constraint \"s2_a_fkey\" on table \"s2\"";
    run(
        &client,
        &[
            ("create table s (id int primary key); insert into s values (1), (2)", None),
            ("create table s1 (a int references s); insert into s1 values (1)", None),
            ("update s set id = 3 - id", None),
            ("create table s2 (a int references s on update restrict); insert into s2 values (1)", None),
            ("update s set id = 3 - id", Some(("23503", swapped))),
            ("update s set id = id", None),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_follow_changes() {
    let server = Running::start().await;
    let client = server.connect().await;
    client
        .batch_execute(
            "create table p (id int primary key, u text unique);
             insert into p values (1, 'a'), (2, 'b'), (3, 'c');
             create table c (a int, b bigint references p on delete cascade on update cascade,
                             c text references p (u) on delete set null on update set null,
                             d int references p on delete restrict on update restrict);
             insert into c values (1, 1, 'a', null), (2, 2, 'b', null), (3, 3, 'c', 3), (4, null, 'b', null);
             delete from p where id = 3;
             update p set id = 10, u = 'z' where id = 1",
        )
        .await
        .unwrap();
    let rows = "select * from c order by a";
    assert_eq!(lines(&client, rows).await, ["1|10|NULL|NULL", "2|2|b|NULL", "4|NULL|b|NULL"]);
    client.batch_execute("begin; savepoint s; delete from p where id = 2").await.unwrap();
    assert_eq!(lines(&client, rows).await, ["1|10|NULL|NULL", "4|NULL|NULL|NULL"]);
    client.batch_execute("rollback to s; commit").await.unwrap();
    assert_eq!(lines(&client, rows).await, ["1|10|NULL|NULL", "2|2|b|NULL", "4|NULL|b|NULL"]);
    // Rows that reference their own table, and chains of them.
    client
        .batch_execute(
            "create table tree (id int primary key, up int references tree on delete cascade on update cascade);
             insert into tree values (2, 1), (1, null), (3, 2), (4, 3);
             update tree set id = id + 10",
        )
        .await
        .unwrap();
    assert_eq!(fails(&client, "insert into tree values (9, 8)").await, "23503");
    assert_eq!(lines(&client, "select * from tree order by id").await, ["11|NULL", "12|11", "13|12", "14|13"]);
    client.batch_execute("delete from tree where id = 12").await.unwrap();
    assert_eq!(lines(&client, "select * from tree").await, ["11|NULL"]);
    // What follows is held to the constraints of its table.
    let message = "null value in column \"a\" of relation \"n\" violates not-null constraint";
    let checked = "new row for relation \"m\" violates check constraint \"m_a_check\"";
    run(
        &client,
        &[
            ("create table n (a int not null references p on delete set null); insert into n values (2)", None),
            ("delete from p where id = 2", Some(("23502", message))),
            ("drop table n", None),
            ("create table m (a int check (a < 50) references p on update cascade); insert into m values (2)", None),
            ("update p set id = 60 where id = 2", Some((ROW, checked))),
            ("update p set id = 40 where id = 2", None),
        ],
    )
    .await;
    assert_eq!(lines(&client, "select a from m").await, ["40"]);
    assert_eq!(lines(&client, rows).await, ["1|10|NULL|NULL", "2|40|b|NULL", "4|NULL|b|NULL"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn constraints_come_and_go_with_their_tables() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.batch_execute("create table p (id int primary key); insert into p values (1)").await.unwrap();
    client.batch_execute("create table c (a int check (a < 5) references p); insert into c values (1)").await.unwrap();
    // The table with the constraints is gone, and back.
    client.batch_execute("begin; drop table c; delete from p; rollback").await.unwrap();
    assert_eq!(fails(&client, "delete from p").await, "23503");
    assert_eq!(fails(&client, "insert into c values (9)").await, ROW);
    client.batch_execute("begin; drop table p cascade; insert into c values (2); rollback").await.unwrap();
    assert_eq!(fails(&client, "insert into c values (2)").await, "23503");
    client.batch_execute("begin; create table o (a int references p); insert into o values (1)").await.unwrap();
    assert_eq!(fails(&client, "delete from p").await, "23503");
    client.batch_execute("rollback; delete from c; delete from p; drop table c").await.unwrap();
    client.batch_execute("create table c (a int); insert into c values (9); drop table p").await.unwrap();
    client.batch_execute("create table if not exists c (a int check (a < 5)); insert into c values (9)").await.unwrap();
    client
        .batch_execute(
            "create temp table t (a int primary key check (a > 0), b int references t); insert into t values (1, 1)",
        )
        .await
        .unwrap();
    assert_eq!(fails(&client, "insert into t values (-1, 1)").await, ROW);
    assert_eq!(fails(&client, "insert into t values (2, 3)").await, "23503");
    let names = "select conname, conkey, confkey from pg_constraint order by 1";
    assert_eq!(lines(&client, names).await, ["t_a_check|{1}|NULL", "t_b_fkey|{2}|{1}", "t_pkey|{1}|NULL"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_two_sessions_break_a_key_together() {
    let server = Running::start().await;
    let (one, two) = (server.connect().await, server.connect().await);
    one.batch_execute("create table p (id int primary key); create table c (a int references p)").await.unwrap();
    for first_is_insert in [true, false] {
        one.batch_execute("delete from c; delete from p; insert into p values (1)").await.unwrap();
        let (insert, delete) = ("insert into c values (1)", "delete from p where id = 1");
        let (first, second) = if first_is_insert { (insert, delete) } else { (delete, insert) };
        for end in ["rollback", "commit"] {
            one.batch_execute(&format!("begin; {first}")).await.unwrap();
            let waits = async {
                two.batch_execute("begin").await.unwrap();
                let done = two.batch_execute(second).await.map_err(|error| sqlstate(&error).to_owned());
                two.batch_execute("rollback").await.unwrap();
                done
            };
            let ends = async {
                until_active(&one, second).await;
                // By then it waits for the table; if not yet, its answer is the same.
                tokio::time::sleep(Duration::from_millis(50)).await;
                one.batch_execute(end).await.unwrap();
            };
            let (done, ()) = tokio::join!(waits, ends);
            let expected = if end == "commit" { Err("23503".to_owned()) } else { Ok(()) };
            assert_eq!(done, expected, "{first}; {end}");
        }
    }
    // Tables that come and go in a transaction, too.
    one.batch_execute("delete from c; delete from p; insert into p values (1); insert into c values (1)")
        .await
        .unwrap();
    for change in ["drop table c", "alter table c drop constraint c_a_fkey"] {
        one.batch_execute(&format!("begin; {change}")).await.unwrap();
        two.batch_execute("set statement_timeout = '200ms'").await.unwrap();
        assert_eq!(fails(&two, "delete from p").await, "57014", "{change}");
        one.batch_execute("rollback").await.unwrap();
        assert_eq!(fails(&two, "delete from p").await, "23503", "{change}");
    }
    // Many at once: none waits for ever, and every row has its parent.
    two.batch_execute("set statement_timeout = 0; delete from c").await.unwrap();
    let mut tasks = Vec::new();
    for worker in 0..4 {
        let client = server.connect().await;
        tasks.push(tokio::spawn(async move {
            for round in 0..20 {
                let id = (worker * 7 + round) % 5;
                for sql in [
                    format!("insert into p values ({id})"),
                    format!("insert into c values ({id})"),
                    format!("delete from p where id = {id}"),
                    format!("delete from c where a = {id}"),
                ] {
                    let error = client.batch_execute(&sql).await.err();
                    let code = error.as_ref().map(sqlstate);
                    assert!(matches!(code, None | Some("23503" | "23505")), "{sql}: {code:?}");
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let orphans = "select c.a from c left join p on p.id = c.a where p.id is null";
    assert_eq!(lines(&one, orphans).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_altered() {
    let server = Running::start().await;
    let client = server.connect().await;
    let names = "select conname from pg_constraint where conrelid = 'd'::regclass order by 1";
    run(
        &client,
        &[
            ("create table p (id int primary key); insert into p values (1)", None),
            ("create table d (a int check (a > 0), b int default 7); insert into d (a) values (null), (1)", None),
            ("alter table d add check (a > 0), add constraint y unique (a)", None),
            ("insert into d (a) values (1)", Some(("23505", "duplicate key value violates unique constraint \"y\""))),
            (
                "alter table d add constraint y check (a > 7)",
                Some(("42710", "constraint \"y\" for relation \"d\" already exists")),
            ),
            (
                "alter table d add constraint z check (a > 7)",
                Some((ROW, "check constraint \"z\" of relation \"d\" is violated by some row")),
            ),
            (
                "alter table d add constraint w primary key (b, a)",
                Some(("23502", "column \"a\" of relation \"d\" contains null values")),
            ),
            ("alter table d add unique (nope)", Some(("42703", "column \"nope\" named in key does not exist"))),
            (
                "alter table d drop constraint nope",
                Some(("42704", "constraint \"nope\" of relation \"d\" does not exist")),
            ),
            ("alter table d drop constraint if exists nope", None),
            ("alter table nope add check (a > 1)", Some(("42P01", "relation \"nope\" does not exist"))),
            ("alter table if exists nope add check (a > 1)", None),
        ],
    )
    .await;
    assert_eq!(simple(&client, names).await, ["d_a_check", "d_a_check1", "y"]);
    client.batch_execute("begin; alter table d drop constraint y, drop constraint d_a_check1").await.unwrap();
    assert_eq!(simple(&client, names).await, ["d_a_check"]);
    client.batch_execute("rollback").await.unwrap();
    assert_eq!(simple(&client, names).await, ["d_a_check", "d_a_check1", "y"]);
    assert_eq!(fails(&client, "insert into d (a) values (1)").await, "23505");
    run(
        &client,
        &[
            ("alter table d drop constraint y, drop constraint d_a_check1", None),
            ("insert into d (a) values (1), (5)", None),
            ("alter table d add unique (a)", Some(("23505", "could not create unique index \"d_a_key\""))),
            (
                "alter table d add foreign key (a) references p",
                Some(("23503", "insert or update on table \"d\" violates foreign key constraint \"d_a_fkey\"")),
            ),
            ("delete from d where a = 5", None),
            ("alter table only d add constraint f foreign key (a) references p", None),
            (
                "insert into d (a) values (5)",
                Some(("23503", "insert or update on table \"d\" violates foreign key constraint \"f\"")),
            ),
            (
                "alter table p drop constraint p_pkey",
                Some(("2BP01", "cannot drop constraint p_pkey on table p because other objects depend on it")),
            ),
            ("alter table d drop constraint f; alter table p drop constraint p_pkey; insert into p values (1)", None),
            ("alter table p add primary key (id)", Some(("23505", "could not create unique index \"p_pkey\""))),
            ("delete from p; alter table p add primary key (id)", None),
            (
                "alter table p add primary key (id)",
                Some(("42P16", "multiple primary keys for table \"p\" are not allowed")),
            ),
        ],
    )
    .await;
    // Defaults of columns are as they were.
    client
        .batch_execute("delete from d; alter table d add primary key (a); insert into d (a) values (3)")
        .await
        .unwrap();
    assert_eq!(lines(&client, "select * from d").await, ["3|7"]);
    for refused in [
        "alter table d add column c int",
        "alter table d add foreign key (a) references p not valid",
        "alter table d drop constraint d_pkey cascade",
        "alter table toy.neurons add check (layer > 0)",
    ] {
        let code = fails(&client, refused).await;
        assert!(matches!(code.as_str(), "0A000" | "42809"), "{refused}: {code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_lists_them() {
    let server = Running::start().await;
    let client = server.connect().await;
    client
        .batch_execute(
            "create table p (id int primary key, u text unique, a int, b int, unique (a, b));
             create table c (a int check (a > 0), b int check (b is not null and b < 10), check (a < b), check (a <> 3),
                             constraint nm check (a < 100 or b in (1, 2)), x int references p, z text references p (u),
                             foreign key (x, b) references p (b, a) on delete cascade on update restrict, check (true))",
        )
        .await
        .unwrap();
    let oid = simple(&client, "select 'p'::regclass::oid").await.remove(0);
    let referenced_by = format!(
        "SELECT conname, conrelid::pg_catalog.regclass AS ontable, pg_catalog.pg_get_constraintdef(oid, true) AS condef \
         FROM pg_catalog.pg_constraint c WHERE confrelid IN (SELECT pg_catalog.pg_partition_ancestors('{oid}') \
         UNION ALL VALUES ('{oid}'::pg_catalog.regclass)) AND contype = 'f' AND conparentid = 0 ORDER BY conname"
    );
    for (query, rows) in [
        (
            "select conname, contype, conkey, confkey, confupdtype, confdeltype, confmatchtype, connoinherit, convalidated, \
             conindid::regclass, confrelid::regclass from pg_constraint where conrelid = 'c'::regclass order by oid",
            &[
                "c_a_check|c|{1}|NULL| | | |f|t|-|-",
                "c_b_check|c|{2}|NULL| | | |f|t|-|-",
                "c_check|c|{1,2}|NULL| | | |f|t|-|-",
                "c_a_check1|c|{1}|NULL| | | |f|t|-|-",
                "nm|c|{1,2}|NULL| | | |f|t|-|-",
                "c_check1|c|NULL|NULL| | | |f|t|-|-",
                "c_x_fkey|f|{3}|{1}|a|a|s|t|t|p_pkey|p",
                "c_z_fkey|f|{4}|{2}|a|a|s|t|t|p_u_key|p",
                "c_x_b_fkey|f|{3,2}|{4,3}|r|c|s|t|t|p_a_b_key|p",
            ][..],
        ),
        (
            "select pg_get_constraintdef(oid), pg_get_constraintdef(oid, true) from pg_constraint \
             where conrelid = 'c'::regclass and contype = 'c' order by oid",
            &[
                "CHECK ((a > 0))|CHECK (a > 0)",
                "CHECK (((b IS NOT NULL) AND (b < 10)))|CHECK (b IS NOT NULL AND b < 10)",
                "CHECK ((a < b))|CHECK (a < b)",
                "CHECK ((a <> 3))|CHECK (a <> 3)",
                "CHECK (((a < 100) OR (b = ANY (ARRAY[1, 2]))))|CHECK (a < 100 OR (b = ANY (ARRAY[1, 2])))",
                "CHECK (true)|CHECK (true)",
            ],
        ),
        (
            referenced_by.as_str(),
            &[
                "c_x_b_fkey|c|FOREIGN KEY (x, b) REFERENCES p(b, a) ON UPDATE RESTRICT ON DELETE CASCADE",
                "c_x_fkey|c|FOREIGN KEY (x) REFERENCES p(id)",
                "c_z_fkey|c|FOREIGN KEY (z) REFERENCES p(u)",
            ],
        ),
        (
            "select relname, relchecks, relhastriggers from pg_class where relname in ('c', 'p') order by 1",
            &["c|6|t", "p|0|t"],
        ),
        (
            "select constraint_name, constraint_type, enforced, nulls_distinct from information_schema.table_constraints \
             where table_name = 'c' and constraint_name not like '%check%' order by 1",
            &[
                "c_x_b_fkey|FOREIGN KEY|YES|NULL",
                "c_x_fkey|FOREIGN KEY|YES|NULL",
                "c_z_fkey|FOREIGN KEY|YES|NULL",
                "nm|CHECK|YES|NULL",
            ],
        ),
        (
            "select constraint_name, unique_constraint_schema, unique_constraint_name, match_option, update_rule, delete_rule \
             from information_schema.referential_constraints order by 1",
            &[
                "c_x_b_fkey|public|p_a_b_key|NONE|RESTRICT|CASCADE",
                "c_x_fkey|public|p_pkey|NONE|NO ACTION|NO ACTION",
                "c_z_fkey|public|p_u_key|NONE|NO ACTION|NO ACTION",
            ],
        ),
        (
            "select constraint_name, check_clause from information_schema.check_constraints \
             where constraint_name in ('c_a_check', 'c_b_check') order by 1",
            &["c_a_check|((a > 0))", "c_b_check|(((b IS NOT NULL) AND (b < 10)))"],
        ),
        (
            "select constraint_name, column_name, ordinal_position, position_in_unique_constraint \
             from information_schema.key_column_usage where table_name = 'c' order by 1, 3",
            &["c_x_b_fkey|x|1|2", "c_x_b_fkey|b|2|1", "c_x_fkey|x|1|1", "c_z_fkey|z|1|1"],
        ),
        (
            "select table_name, column_name, constraint_name from information_schema.constraint_column_usage \
             where constraint_name in ('c_x_b_fkey', 'c_check', 'c_z_fkey') order by 3, 2",
            &["c|a|c_check", "c|b|c_check", "p|a|c_x_b_fkey", "p|b|c_x_b_fkey", "p|u|c_z_fkey"],
        ),
    ] {
        assert_eq!(lines(&client, query).await, rows, "{query}");
    }
    // psql: triggers. SQLAlchemy: get_foreign_keys, get_check_constraints.
    let triggers = format!(
        "SELECT t.tgname, pg_catalog.pg_get_triggerdef(t.oid, true), t.tgenabled, t.tgisinternal, CASE WHEN t.tgparentid != 0 THEN (SELECT u.tgrelid::pg_catalog.regclass FROM pg_catalog.pg_trigger AS u, pg_catalog.pg_partition_ancestors(t.tgrelid) WITH ORDINALITY AS a(relid, depth) WHERE u.tgname = t.tgname AND u.tgrelid = a.relid AND u.tgparentid = 0 ORDER BY a.depth LIMIT 1) END AS parent FROM pg_catalog.pg_trigger t WHERE t.tgrelid = '{oid}' AND (NOT t.tgisinternal OR (t.tgisinternal AND t.tgenabled = 'D') OR EXISTS (SELECT 1 FROM pg_catalog.pg_depend WHERE objid = t.oid AND refclassid = 'pg_catalog.pg_trigger'::pg_catalog.regclass)) ORDER BY 1"
    );
    assert_eq!(lines(&client, &triggers).await, Vec::<String>::new());
    let reflected = |kind: &str| {
        format!(
            "SELECT pg_catalog.pg_class.relname, pg_catalog.pg_constraint.conname, CASE WHEN (pg_catalog.pg_constraint.oid IS NOT NULL) THEN pg_catalog.pg_get_constraintdef(pg_catalog.pg_constraint.oid, true) END AS anon_1, nsp_ref.nspname, pg_catalog.pg_description.description FROM pg_catalog.pg_class LEFT OUTER JOIN pg_catalog.pg_constraint ON pg_catalog.pg_class.oid = pg_catalog.pg_constraint.conrelid AND pg_catalog.pg_constraint.contype = '{kind}' LEFT OUTER JOIN pg_catalog.pg_class AS cls_ref ON cls_ref.oid = pg_catalog.pg_constraint.confrelid LEFT OUTER JOIN pg_catalog.pg_namespace AS nsp_ref ON cls_ref.relnamespace = nsp_ref.oid LEFT OUTER JOIN pg_catalog.pg_description ON pg_catalog.pg_description.objoid = pg_catalog.pg_constraint.oid AND pg_catalog.pg_description.classoid = CAST('pg_catalog.pg_constraint' AS REGCLASS) JOIN pg_catalog.pg_namespace ON pg_catalog.pg_namespace.oid = pg_catalog.pg_class.relnamespace WHERE pg_catalog.pg_class.relkind IN ('r', 'p', 'f', 'v', 'm') AND pg_catalog.pg_table_is_visible(pg_catalog.pg_class.oid) AND pg_catalog.pg_namespace.nspname != 'pg_catalog' AND pg_catalog.pg_class.relname IN ('c', 'p') ORDER BY pg_catalog.pg_class.relname, pg_catalog.pg_constraint.conname"
        )
    };
    assert_eq!(
        lines(&client, &reflected("f")).await,
        [
            "c|c_x_b_fkey|FOREIGN KEY (x, b) REFERENCES p(b, a) ON UPDATE RESTRICT ON DELETE CASCADE|public|NULL",
            "c|c_x_fkey|FOREIGN KEY (x) REFERENCES p(id)|public|NULL",
            "c|c_z_fkey|FOREIGN KEY (z) REFERENCES p(u)|public|NULL",
            "p|NULL|NULL|NULL|NULL",
        ]
    );
    assert_eq!(lines(&client, &reflected("c")).await.len(), 7);
}
