//! Tests of indexes, comments, materialized views and the smaller statements about tables. What is expected is what
//! PostgreSQL 15 answers to the same statements, but for expressions of indexes and queries of views, which are written as they
//! are read here.

use tokio_postgres::Client;

use crate::privileges::Lab;
use crate::{Running, fails, lines, simple};

/// Checks the SQLSTATEs of statements, and the messages of those that have one.
async fn refused(client: &Client, cases: &[(&str, &str, &str)]) {
    for (statement, sqlstate, message) in cases {
        let error = match client.simple_query(statement).await {
            Ok(_) => panic!("{statement} succeeds"),
            Err(error) => error.as_db_error().unwrap().clone(),
        };
        assert_eq!(error.code().code(), *sqlstate, "{statement}: {}", error.message());
        if !message.is_empty() {
            assert_eq!(error.message(), *message, "{statement}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn temporary_tables_end_with_their_transaction() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.batch_execute("begin; create temp table a (a int) on commit drop; insert into a values (1)").await.unwrap();
    assert_eq!(simple(&client, "select a from a").await, ["1"]);
    client.batch_execute("commit").await.unwrap();
    assert_eq!(fails(&client, "select * from a").await, "42P01");
    // Without a block it goes at once: the statements of a message are a transaction.
    client.batch_execute("create temp table a (a int) on commit drop").await.unwrap();
    assert_eq!(fails(&client, "select * from a").await, "42P01");
    client.execute("create temp table a (a int) on commit drop", &[]).await.unwrap();
    assert_eq!(fails(&client, "select * from a").await, "42P01");
    let all = "create temp table a (a int) on commit drop; insert into a values (7); select a from a";
    assert_eq!(simple(&client, all).await, ["7"]);

    client.batch_execute("begin; create temp table a on commit drop as select 1 as x").await.unwrap();
    assert_eq!(simple(&client, "select x from a").await, ["1"]);
    client.batch_execute("rollback; create temp table a (b int)").await.unwrap();
    assert_eq!(simple(&client, "select count(b) from a").await, ["0"]);
    // A table of that name that came later stays.
    client
        .batch_execute(
            "begin; create temp table c (a int) on commit drop; drop table c; create temp table c (b int); commit",
        )
        .await
        .unwrap();
    assert_eq!(simple(&client, "select count(b) from c").await, ["0"]);

    client
        .batch_execute("begin; create temp table d (a int) on commit delete rows; insert into d values (1)")
        .await
        .unwrap();
    assert_eq!(simple(&client, "select a from d").await, ["1"]);
    client.batch_execute("commit").await.unwrap();
    assert_eq!(simple(&client, "select count(*) from d").await, ["0"]);
    client.batch_execute("insert into d values (3)").await.unwrap();
    assert_eq!(simple(&client, "select count(*) from d").await, ["0"]);
    client
        .batch_execute("create global temporary table e (a int) on commit preserve rows; insert into e values (1)")
        .await
        .unwrap();
    assert_eq!(simple(&client, "select a from e").await, ["1"]);
    refused(
        &client,
        &[
            ("create table f (a int) on commit drop", "42P16", "ON COMMIT can only be used on temporary tables"),
            ("create unlogged temp table f (a int)", "42601", ""),
            ("create transient table f (a int)", "42601", ""),
        ],
    )
    .await;
    client.batch_execute("create unlogged table u (a int primary key); insert into u values (1)").await.unwrap();
    let persistence = "select relname, relpersistence from pg_class where relname in ('u', 'u_pkey', 'e') order by 1";
    assert_eq!(lines(&client, persistence).await, ["e|t", "u|u", "u_pkey|u"]);
    client.batch_execute("create table n as select 1 as a, 'x' as b with no data").await.unwrap();
    assert_eq!(simple(&client, "select count(a) + count(b) from n").await, ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_tables_are_dropped_and_emptied_together() {
    let server = Running::start().await;
    let client = server.connect().await;
    client
        .batch_execute("create table a (a int); create table b (a int); create view v as select 1 as x")
        .await
        .unwrap();
    refused(
        &client,
        &[
            ("drop table a, nothing", "42P01", "table \"nothing\" does not exist"),
            ("drop table a, v", "42809", "\"v\" is not a table"),
            ("drop view v, a", "42809", "\"a\" is not a view"),
            ("drop view v, w", "42P01", "view \"w\" does not exist"),
            ("drop table nothing.a", "3F000", "schema \"nothing\" does not exist"),
            ("truncate nothing", "42P01", "relation \"nothing\" does not exist"),
            ("truncate v", "42809", "\"v\" is not a table"),
            ("truncate a, nothing", "42P01", ""),
            ("truncate toy.graphs", "0A000", ""),
        ],
    )
    .await;
    client.batch_execute("insert into a values (1), (2); insert into b values (3)").await.unwrap();
    client.batch_execute("begin; truncate table only a, b * restart identity restrict").await.unwrap();
    assert_eq!(simple(&client, "select count(*) from a union all select count(*) from b").await, ["0", "0"]);
    let other = server.connect().await;
    assert_eq!(simple(&other, "select count(*) from a").await, ["2"]);
    client.batch_execute("rollback").await.unwrap();
    assert_eq!(simple(&client, "select count(*) from a").await, ["2"]);
    client.batch_execute("truncate a, a; truncate b continue identity").await.unwrap();
    assert_eq!(simple(&other, "select count(*) from a").await, ["0"]);

    client.batch_execute("begin; drop table a, b; rollback; select a from a; drop table a, a").await.unwrap();
    client.batch_execute("drop table if exists a, nothing, b, nowhere.c; drop view if exists v, w").await.unwrap();
    assert_eq!(fails(&client, "select * from b").await, "42P01");
    assert_eq!(fails(&client, "select * from v").await, "42P01");
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_may_be_deferrable() {
    let server = Running::start().await;
    let client = server.connect().await;
    for (begin, deferrable, isolation) in [
        ("begin deferrable", "on", "read committed"),
        ("begin isolation level serializable read only, not deferrable", "off", "serializable"),
        ("start transaction isolation level serializable, read only, deferrable", "on", "serializable"),
        ("begin; set transaction isolation level repeatable read, deferrable", "on", "repeatable read"),
        ("begin; set transaction not deferrable", "off", "read committed"),
    ] {
        client.batch_execute(begin).await.unwrap();
        assert_eq!(simple(&client, "show transaction_deferrable").await, [deferrable], "{begin}");
        assert_eq!(simple(&client, "show transaction_isolation").await, [isolation], "{begin}");
        client.batch_execute("rollback").await.unwrap();
    }
    client.batch_execute("set session characteristics as transaction deferrable; begin").await.unwrap();
    assert_eq!(simple(&client, "show transaction_deferrable").await, ["on"]);
    assert_eq!(simple(&client, "show default_transaction_deferrable").await, ["on"]);
    client.batch_execute("commit").await.unwrap();
    assert_eq!(fails(&client, "begin deferrable,").await, "42601");

    client.batch_execute("create table t (a int); create view v as select 1 as x").await.unwrap();
    client.batch_execute("insert into t values (1)").await.unwrap();
    for statement in [
        "vacuum",
        "vacuum t",
        "vacuum full t",
        "vacuum (verbose, full off) t",
        "vacuum analyze t",
        "vacuum v",
        "analyze",
        "analyze verbose t (a)",
        "analyze t, v",
        "begin; analyze t; commit",
    ] {
        client.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    assert_eq!(simple(&client, "select a from t").await, ["1"]);
    refused(
        &client,
        &[
            ("vacuum nothing", "42P01", "relation \"nothing\" does not exist"),
            ("analyze t (b)", "42703", "column \"b\" of relation \"t\" does not exist"),
            ("vacuum (nothing) t", "42601", ""),
        ],
    )
    .await;
    client.batch_execute("begin").await.unwrap();
    refused(&client, &[("vacuum", "25001", "VACUUM cannot run inside a transaction block")]).await;
    client.batch_execute("rollback").await.unwrap();
    let rows = client.query("select from generate_series(1, 3)", &[]).await.unwrap();
    assert_eq!((rows.len(), rows[0].len()), (3, 0));
    assert_eq!(client.query("select", &[]).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn comments_are_kept_with_what_they_are_on() {
    let server = Running::start().await;
    let client = server.connect().await;
    let create = "create table t (a int primary key, b text, c int, \"Ü x\" int, constraint uc unique (c)); \
                  create view v as select 1 as x; create index ti on t (b); \
                  comment on table t is 'it''s'; comment on column t.b is 'bb'; comment on column public.t.a is 'aa'; \
                  comment on view v is 'vv'; comment on column v.x is 'vx'; comment on constraint uc on t is 'cc'; \
                  comment on index t_pkey is 'ii'; comment on index ti is 'tt'; comment on column t.\"Ü x\" is E'a\\nb'";
    client.batch_execute(create).await.unwrap();
    let texts = "select obj_description('t'::regclass), obj_description('t'::regclass, 'pg_class'), \
                 col_description('t'::regclass, 2), col_description('t'::regclass, 4), obj_description('v'::regclass), \
                 col_description('v'::regclass, 1), obj_description('ti'::regclass)";
    assert_eq!(lines(&client, texts).await, ["it's|it's|bb|a\nb|vv|vx|tt"]);
    let constraints = "select conname, obj_description(oid), obj_description(oid, 'pg_constraint'), \
                       obj_description(oid, 'pg_class') from pg_constraint order by conname";
    assert_eq!(lines(&client, constraints).await, ["t_pkey|NULL|NULL|NULL", "uc|cc|cc|NULL"]);
    let listed = "select d.objsubid, d.description, c.relname from pg_description d join pg_class c on c.oid = d.objoid \
                  where d.classoid = 'pg_class'::regclass and c.relname in ('t', 'v', 't_pkey') order by 2";
    let expected = ["4|a\nb|t", "1|aa|t", "2|bb|t", "0|ii|t_pkey", "0|it's|t", "0|vv|v", "1|vx|v"];
    assert_eq!(lines(&client, listed).await, expected);
    refused(
        &client,
        &[
            ("comment on table nothing is 'x'", "42P01", "relation \"nothing\" does not exist"),
            ("comment on column t.nothing is 'x'", "42703", "column \"nothing\" of relation \"t\" does not exist"),
            ("comment on table v is 'x'", "42809", "\"v\" is not a table"),
            ("comment on view t is 'x'", "42809", "\"t\" is not a view"),
            ("comment on constraint no on t is 'x'", "42704", "constraint \"no\" for table \"t\" does not exist"),
            ("comment on index t is 'x'", "42809", "\"t\" is not an index"),
            ("comment on index nothing is 'x'", "42P01", "relation \"nothing\" does not exist"),
            ("comment on column b is 'x'", "42601", "column name must be qualified"),
            ("comment on table toy.graphs is 'x'", "42501", ""),
            ("comment on table models is 'x'", "42501", ""),
            ("comment on table pg_class is 'x'", "42P01", ""),
            ("comment on table pg_catalog.pg_class is 'x'", "42501", ""),
            ("comment on schema public is 'x'", "0A000", ""),
            ("comment on table t is other", "42601", ""),
            ("comment on constraint uc on t is \"other\"", "42601", ""),
            ("comment on database neuroql is 'x'", "0A000", ""),
        ],
    )
    .await;
    client
        .batch_execute("begin; comment on table t is 'other'; savepoint s; comment on column t.b is null")
        .await
        .unwrap();
    let two = "select obj_description('t'::regclass), col_description('t'::regclass, 2)";
    assert_eq!(lines(&client, two).await, ["other|NULL"]);
    client.batch_execute("rollback to s").await.unwrap();
    assert_eq!(lines(&client, two).await, ["other|bb"]);
    client.batch_execute("rollback").await.unwrap();
    assert_eq!(lines(&client, two).await, ["it's|bb"]);
    client.batch_execute("comment on table t is ''; create or replace view v as select 2 as x, 3 as y").await.unwrap();
    assert_eq!(lines(&client, two).await, ["NULL|bb"]);
    assert_eq!(simple(&client, "select obj_description('v'::regclass)").await, ["vv"]);
    client.batch_execute("begin; drop table t; create table t (a int, b text)").await.unwrap();
    assert_eq!(lines(&client, two).await, ["NULL|NULL"]);
    client.batch_execute("rollback").await.unwrap();
    assert_eq!(lines(&client, two).await, ["NULL|bb"]);
    assert!(simple(&client, "select obj_description('models'::regclass)").await[0].starts_with("Registered models"));

    let lab = Lab::start().await;
    lab.ann.batch_execute("create table mine (a int)").await.unwrap();
    lab.ann.batch_execute("comment on table mine is 'x'; create index mi on mine (a)").await.unwrap();
    for statement in ["comment on table mine is 'y'", "create index on mine (a)", "drop index mi", "truncate mine"] {
        assert_eq!(fails(&lab.abe, statement).await, "42501", "{statement}");
        assert_eq!(fails(&lab.bob, statement).await, "42501", "{statement}");
        let read_only = format!("begin read only; {statement}");
        assert_eq!(fails(&lab.ann, &read_only).await, "25006", "{statement}");
        lab.ann.batch_execute("rollback").await.unwrap();
    }
    lab.ada.batch_execute("comment on table mine is 'y'; drop index mi").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_are_listed() {
    let server = Running::start().await;
    let client = server.connect().await;
    let create = "create table t (a int primary key, b text, c int, \"Ü x\" int); create view v as select 1 as x; \
        create index on t (b); create index on t (b); create index on t (b, c); create index on t using hash (c); \
        create index i1 on t (b desc, c nulls first) include (a); \
        create index i2 on t (c asc nulls first, a desc nulls last) where c > 3; create index i3 on t (lower(b)); \
        create index on t ((c + a)); create index on t (lower(b), upper(b), (c + 1), (c + 2)); \
        create unique index u1 on t (c, b); create index on t (\"Ü x\"); create index i5 on t (a, a)";
    client.batch_execute(create).await.unwrap();
    client
        .batch_execute("create index concurrently if not exists i6 on t using btree (b text_pattern_ops)")
        .await
        .unwrap();
    client.batch_execute("create index if not exists i6 on t (c)").await.unwrap();
    let names = "select indexname from pg_indexes where tablename = 't' and schemaname = 'public' order by 1";
    let expected = [
        "i1",
        "i2",
        "i3",
        "i5",
        "i6",
        "t_b_c_idx",
        "t_b_idx",
        "t_b_idx1",
        "t_c_idx",
        "t_expr_idx",
        "t_lower_upper_expr_expr1_idx",
        "t_pkey",
        "t_Ü x_idx",
        "u1",
    ];
    assert_eq!(simple(&client, names).await, expected);
    let definitions = "select indexdef from pg_indexes where indexname in \
                       ('i1', 'i2', 'i3', 'i6', 't_c_idx', 't_pkey', 't_Ü x_idx', 'u1', 't_expr_idx') order by indexname";
    assert_eq!(
        simple(&client, definitions).await,
        [
            "CREATE INDEX i1 ON public.t USING btree (b DESC, c NULLS FIRST) INCLUDE (a)",
            "CREATE INDEX i2 ON public.t USING btree (c NULLS FIRST, a DESC NULLS LAST) WHERE (c > 3)",
            "CREATE INDEX i3 ON public.t USING btree (lower(b))",
            "CREATE INDEX i6 ON public.t USING btree (b text_pattern_ops)",
            "CREATE INDEX t_c_idx ON public.t USING hash (c)",
            "CREATE INDEX t_expr_idx ON public.t USING btree (((c + a)))",
            "CREATE UNIQUE INDEX t_pkey ON public.t USING btree (a)",
            "CREATE INDEX \"t_Ü x_idx\" ON public.t USING btree (\"Ü x\")",
            "CREATE UNIQUE INDEX u1 ON public.t USING btree (c, b)",
        ]
    );
    let rows = "select c.relname, i.indnatts, i.indnkeyatts, i.indisunique, i.indisprimary, i.indkey, i.indoption, \
                pg_get_expr(i.indpred, i.indrelid), pg_get_expr(i.indexprs, i.indrelid), i.indcollation, am.amname \
                from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am am on am.oid = c.relam \
                where i.indrelid = 't'::regclass and c.relname in ('i1', 'i2', 'i3', 't_c_idx', 'u1', 't_expr_idx') \
                order by c.relname";
    assert_eq!(
        lines(&client, rows).await,
        [
            "i1|3|2|f|f|2 3 1|3 2|NULL|NULL|{100,0}|btree",
            "i2|2|2|f|f|3 1|2 1|(c > 3)|NULL|{0,0}|btree",
            "i3|1|1|f|f|0|0|NULL|lower(b)|{100}|btree",
            "t_c_idx|1|1|f|f|3|0|NULL|NULL|{0}|hash",
            "t_expr_idx|1|1|f|f|0|0|NULL|(c + a)|{0}|btree",
            "u1|2|2|t|f|3 2|0 0|NULL|NULL|{0,100}|btree",
        ]
    );
    let columns = "select c.relname, a.attname, a.attnum, format_type(a.atttypid, a.atttypmod) from pg_attribute a \
                   join pg_class c on c.oid = a.attrelid where c.relname in ('i1', 'i3', 'i5', 't_expr_idx') order by 1, 3";
    assert_eq!(
        lines(&client, columns).await,
        [
            "i1|b|1|text",
            "i1|c|2|integer",
            "i1|a|3|integer",
            "i3|lower|1|text",
            "i5|a|1|integer",
            "i5|a1|2|integer",
            "t_expr_idx|expr|1|integer",
        ]
    );
    let parts = "select pg_get_indexdef('i1'::regclass, 1, true), pg_get_indexdef('i1'::regclass, 3, true), \
                 pg_get_indexdef('i1'::regclass, 4, true), pg_get_indexdef('i3'::regclass, 1, true), \
                 pg_get_indexdef('t_expr_idx'::regclass, 1, true)";
    assert_eq!(lines(&client, parts).await, ["b|a||lower(b)|(c + a)"]);
    // Constraints are those of the table alone, and numbers are one object's.
    assert_eq!(simple(&client, "select conname from pg_constraint").await, ["t_pkey"]);
    let collisions = "select oid from pg_class group by oid having count(*) > 1";
    assert_eq!(lines(&client, collisions).await, Vec::<String>::new());
    refused(
        &client,
        &[
            ("create index i5 on t (c)", "42P07", "relation \"i5\" already exists"),
            ("create index t on t (c)", "42P07", "relation \"t\" already exists"),
            ("create index t_pkey on t (c)", "42P07", "relation \"t_pkey\" already exists"),
            ("create table i5 (a int)", "42P07", "relation \"i5\" already exists"),
            ("create view i5 as select 1", "42P07", "relation \"i5\" already exists"),
            ("create index i9 on nothing (a)", "42P01", "relation \"nothing\" does not exist"),
            ("create index i9 on t (nothing)", "42703", "column \"nothing\" does not exist"),
            ("create index i9 on v (x)", "42809", "cannot create index on relation \"v\""),
            ("create index public.i9 on t (c)", "42601", ""),
            ("create index i9 on t using gin (c)", "0A000", ""),
            (
                "create index on t using hash (c, a)",
                "0A000",
                "access method \"hash\" does not support multicolumn indexes",
            ),
            (
                "create unique index on t using hash (c)",
                "0A000",
                "access method \"hash\" does not support unique indexes",
            ),
            ("create unique index on t (b) where c > 1", "0A000", ""),
            ("create unique index on t (lower(b))", "0A000", ""),
            ("create unique index on t (b) nulls not distinct", "0A000", ""),
            ("create index on t (a) with (fillfactor = 70)", "0A000", ""),
            ("create index on t (a text_pattern_ops)", "42804", ""),
            ("create index on t (a) where sum(c) > 1", "0A000", ""),
            ("create index on t (random())", "42P17", "functions in index expression must be marked IMMUTABLE"),
            ("create index on toy.graphs (layer)", "0A000", ""),
            ("drop index nothing", "42704", "index \"nothing\" does not exist"),
            ("drop index t", "42809", "\"t\" is not an index"),
            ("drop table i5", "42809", "\"i5\" is not a table"),
            ("drop index t_pkey", "2BP01", "cannot drop index t_pkey because constraint t_pkey on table t requires it"),
            ("drop index i1, nothing", "42704", ""),
        ],
    )
    .await;
    client.batch_execute("begin").await.unwrap();
    assert_eq!(fails(&client, "create index concurrently i9 on t (a)").await, "25001");
    client.batch_execute("rollback; begin").await.unwrap();
    assert_eq!(fails(&client, "drop index concurrently i5").await, "25001");
    client
        .batch_execute("rollback; drop index i1, public.i2; drop index concurrently i3; drop index if exists i1")
        .await
        .unwrap();
    let left = "select count(*) from pg_class where relname in ('i1', 'i2', 'i3', 'i5')";
    assert_eq!(simple(&client, left).await, ["1"]);
    client.batch_execute("begin; drop index i5; rollback").await.unwrap();
    assert_eq!(simple(&client, left).await, ["1"]);
    client.batch_execute("drop table t").await.unwrap();
    assert_eq!(simple(&client, "select count(*) from pg_indexes").await, ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn unique_indexes_hold() {
    let server = Running::start().await;
    let client = server.connect().await;
    client
        .batch_execute("create table w (a int, b text); insert into w values (1, 'x'), (2, null), (3, null)")
        .await
        .unwrap();
    client.batch_execute("create unique index wu on w (b)").await.unwrap();
    let taken = "duplicate key value violates unique constraint \"wu\"";
    refused(
        &client,
        &[("insert into w values (4, 'x')", "23505", taken), ("update w set b = 'x' where a = 2", "23505", taken)],
    )
    .await;
    client.batch_execute("insert into w values (5, null), (6, 'y')").await.unwrap();
    client.batch_execute("begin; drop index wu; insert into w values (4, 'x'); rollback").await.unwrap();
    refused(&client, &[("insert into w values (4, 'x')", "23505", taken)]).await;
    client.batch_execute("begin; create unique index on w (a)").await.unwrap();
    let taken = "duplicate key value violates unique constraint \"w_a_idx\"";
    refused(&client, &[("insert into w values (1, 'z')", "23505", taken)]).await;
    client.batch_execute("rollback; insert into w values (1, 'z'), (1, 'q')").await.unwrap();
    refused(&client, &[("create unique index w3 on w (a)", "23505", "could not create unique index \"w3\"")]).await;
    assert_eq!(simple(&client, "select count(*) from pg_indexes").await, ["1"]);
    client.batch_execute("drop index wu; insert into w values (4, 'x')").await.unwrap();
    assert_eq!(simple(&client, "select count(*) from w where b = 'x'").await, ["2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn materialized_views_keep_their_rows() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.batch_execute("create table b (a int, c text); insert into b values (1, 'x'), (2, 'y')").await.unwrap();
    client.batch_execute("create materialized view m as select a, c as d from b").await.unwrap();
    assert_eq!(lines(&client, "select * from m order by a").await, ["1|x", "2|y"]);
    client.batch_execute("insert into b values (3, 'z')").await.unwrap();
    assert_eq!(simple(&client, "select count(*) from m").await, ["2"]);
    client.batch_execute("refresh materialized view m").await.unwrap();
    assert_eq!(simple(&client, "select max(d) from m").await, ["z"]);
    let changed = "cannot change materialized view \"m\"";
    refused(
        &client,
        &[
            ("insert into m values (1, 'q')", "42809", changed),
            ("update m set a = 1", "42809", changed),
            ("delete from m", "42809", changed),
            ("truncate m", "42809", "\"m\" is not a table"),
            ("drop table m", "42809", "\"m\" is not a table"),
            ("drop view m", "42809", "\"m\" is not a view"),
            ("comment on table m is 'x'", "42809", "\"m\" is not a table"),
            ("create or replace view m as select 1 as a", "42809", "\"m\" is not a view"),
            ("create materialized view m as select 1", "42P07", ""),
            ("refresh materialized view nothing", "42P01", "relation \"nothing\" does not exist"),
            ("refresh materialized view b", "0A000", "\"b\" is not a materialized view"),
            (
                "refresh materialized view concurrently m",
                "55000",
                "cannot refresh materialized view \"public.m\" concurrently",
            ),
            ("drop materialized view b", "42809", "\"b\" is not a materialized view"),
            ("drop materialized view nothing", "42P01", "materialized view \"nothing\" does not exist"),
            ("create temp materialized view n as select 1", "42601", ""),
            ("create or replace materialized view n as select 1", "42601", ""),
        ],
    )
    .await;
    client
        .batch_execute(
            "comment on materialized view m is 'mm'; create unique index mu on m (a); \
             refresh materialized view concurrently m; create materialized view if not exists m as select 1; \
             create materialized view m0 as select a from b with no data; \
             create materialized view m2 (x, y) as select a, c from b with data",
        )
        .await
        .unwrap();
    assert_eq!(simple(&client, "select obj_description('m'::regclass)").await, ["mm"]);
    assert_eq!(lines(&client, "select x, y from m2 where x = 1").await, ["1|x"]);
    let error = client.simple_query("select * from m0").await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!((error.code().code(), error.message()), ("55000", "materialized view \"m0\" has not been populated"));
    let listed = "select matviewname, ispopulated, hasindexes, definition, schemaname from pg_matviews order by 1";
    assert_eq!(
        lines(&client, listed).await,
        [
            "m|t|t| SELECT a, c AS d FROM b;|public",
            "m0|f|f| SELECT a FROM b;|public",
            "m2|t|f| SELECT * FROM (SELECT a, c FROM b) AS whole (x, y);|public",
        ]
    );
    let classes =
        "select relname, relkind, relispopulated from pg_class where relname like 'm_' or relname = 'm' order by 1";
    assert_eq!(lines(&client, classes).await, ["m|m|t", "m0|m|f", "m2|m|t", "mu|i|t"]);
    client.batch_execute("refresh materialized view m0").await.unwrap();
    assert_eq!(simple(&client, "select count(*) from m0").await, ["3"]);
    client.batch_execute("refresh materialized view m0 with no data").await.unwrap();
    assert_eq!(fails(&client, "select * from m0").await, "55000");
    client.batch_execute("begin; insert into b values (9, 'n'); refresh materialized view m2").await.unwrap();
    assert_eq!(simple(&client, "select count(*) from m2").await, ["4"]);
    client.batch_execute("rollback").await.unwrap();
    assert_eq!(simple(&client, "select count(*) from m2").await, ["3"]);
    client.batch_execute("begin; create materialized view m5 as select 1 as x; rollback").await.unwrap();
    assert_eq!(fails(&client, "select * from m5").await, "42P01");
    client.batch_execute("drop materialized view m, m0, m2; drop materialized view if exists m").await.unwrap();
    assert_eq!(simple(&client, "select count(*) from pg_matviews").await, ["0"]);

    client.batch_execute("create view vv as select a, 'it''s' as c from b where a > 1").await.unwrap();
    let text = " SELECT a, E'it\\'s' AS c FROM b WHERE a > 1;";
    assert_eq!(simple(&client, "select pg_get_viewdef('vv'::regclass, true)").await, [text]);
    assert_eq!(simple(&client, "select pg_get_viewdef('b'::regclass)").await, ["NULL"]);
    assert_eq!(lines(&client, "select viewname, definition from pg_views").await, [format!("vv|{text}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlalchemy_finds_indexes_and_comments() {
    let server = Running::start().await;
    let client = server.connect().await;
    client
        .batch_execute(
            "create table sat (a int primary key, b text, c int unique); \
             create index sai on sat (b desc, lower(b)) include (c) where c > 3; create unique index sau on sat (b); \
             comment on table sat is 'tt'; create materialized view samv as select a from sat; \
             create view savv as select 1 as x",
        )
        .await
        .unwrap();
    let oid = simple(&client, "select 'sat'::regclass::oid").await.remove(0);
    let indexes = format!(
        "SELECT pg_catalog.pg_index.indrelid, pg_catalog.pg_class.relname, pg_catalog.pg_index.indisunique, pg_catalog.pg_index.indisvalid, pg_catalog.pg_constraint.conrelid IS NOT NULL AS has_constraint, pg_catalog.pg_index.indoption, pg_catalog.pg_class.reloptions, pg_catalog.pg_class.relam, CASE WHEN (pg_catalog.pg_index.indpred IS NOT NULL) THEN pg_catalog.pg_get_expr(pg_catalog.pg_index.indpred, pg_catalog.pg_index.indrelid) END AS filter_definition, pg_catalog.pg_index.indnkeyatts, pg_catalog.pg_index.indnullsnotdistinct, idx_cols.elements, idx_cols.elements_is_expr FROM pg_catalog.pg_index JOIN pg_catalog.pg_class ON pg_catalog.pg_index.indexrelid = pg_catalog.pg_class.oid LEFT OUTER JOIN (SELECT idx_attr.indexrelid AS indexrelid, min(idx_attr.indrelid) AS min_1, array_agg(idx_attr.element ORDER BY idx_attr.ord) AS elements, array_agg(idx_attr.is_expr ORDER BY idx_attr.ord) AS elements_is_expr, array_agg(idx_attr.att_opclass ORDER BY idx_attr.ord) AS elements_opclass FROM (SELECT idx.indexrelid AS indexrelid, idx.indrelid AS indrelid, idx.ord AS ord, CASE WHEN (idx.attnum = 0::INTEGER) THEN pg_catalog.pg_get_indexdef(idx.indexrelid, idx.ord + 1::INTEGER, true) ELSE CAST(pg_catalog.pg_attribute.attname AS TEXT) END AS element, idx.attnum = 0::INTEGER AS is_expr, CAST(idx.att_opclass AS BIGINT) AS att_opclass FROM (SELECT pg_catalog.pg_index.indexrelid AS indexrelid, pg_catalog.pg_index.indrelid AS indrelid, unnest(pg_catalog.pg_index.indkey) AS attnum, unnest(pg_catalog.pg_index.indclass) AS att_opclass, generate_subscripts(pg_catalog.pg_index.indkey, 1::INTEGER) AS ord FROM pg_catalog.pg_index WHERE NOT pg_catalog.pg_index.indisprimary AND pg_catalog.pg_index.indrelid IN ({oid})) AS idx LEFT OUTER JOIN pg_catalog.pg_attribute ON pg_catalog.pg_attribute.attnum = idx.attnum AND pg_catalog.pg_attribute.attrelid = idx.indrelid WHERE idx.indrelid IN ({oid})) AS idx_attr GROUP BY idx_attr.indexrelid) AS idx_cols ON pg_catalog.pg_index.indexrelid = idx_cols.indexrelid LEFT OUTER JOIN pg_catalog.pg_constraint ON pg_catalog.pg_index.indrelid = pg_catalog.pg_constraint.conrelid AND pg_catalog.pg_index.indexrelid = pg_catalog.pg_constraint.conindid AND pg_catalog.pg_constraint.contype = ANY (ARRAY['p'::VARCHAR, 'u'::VARCHAR, 'x'::VARCHAR]) WHERE pg_catalog.pg_index.indrelid IN ({oid}) AND NOT pg_catalog.pg_index.indisprimary ORDER BY pg_catalog.pg_index.indrelid, pg_catalog.pg_class.relname"
    );
    assert_eq!(
        lines(&client, &indexes).await,
        [
            format!("{oid}|sai|f|t|f|3 0|NULL|403|(c > 3)|2|f|{{b,lower(b),c}}|{{f,t,f}}"),
            format!("{oid}|sat_c_key|t|t|t|0|NULL|403|NULL|1|f|{{c}}|{{f}}"),
            format!("{oid}|sau|t|t|f|0|NULL|403|NULL|1|f|{{b}}|{{f}}"),
        ]
    );
    let comment = "SELECT pg_catalog.pg_class.relname, pg_catalog.pg_description.description FROM pg_catalog.pg_class LEFT OUTER JOIN pg_catalog.pg_description ON pg_catalog.pg_class.oid = pg_catalog.pg_description.objoid AND pg_catalog.pg_description.objsubid = 0::INTEGER AND pg_catalog.pg_description.classoid = CAST('pg_catalog.pg_class' AS REGCLASS) JOIN pg_catalog.pg_namespace ON pg_catalog.pg_namespace.oid = pg_catalog.pg_class.relnamespace WHERE pg_catalog.pg_class.relkind = ANY (ARRAY['r'::VARCHAR, 'p'::VARCHAR, 'f'::VARCHAR, 'v'::VARCHAR, 'm'::VARCHAR]) AND pg_catalog.pg_table_is_visible(pg_catalog.pg_class.oid) AND pg_catalog.pg_namespace.nspname != 'pg_catalog'::VARCHAR AND pg_catalog.pg_class.relname IN ('sat'::VARCHAR)";
    assert_eq!(lines(&client, comment).await, ["sat|tt"]);
    let views = "SELECT pg_catalog.pg_class.relname FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON pg_catalog.pg_namespace.oid = pg_catalog.pg_class.relnamespace WHERE pg_catalog.pg_class.relkind = ANY (ARRAY['m'::VARCHAR]) AND pg_catalog.pg_class.relpersistence != 't'::VARCHAR AND pg_catalog.pg_table_is_visible(pg_catalog.pg_class.oid) AND pg_catalog.pg_namespace.nspname != 'pg_catalog'::VARCHAR";
    assert_eq!(lines(&client, views).await, ["samv"]);
    let text = |name: &str| {
        format!(
            "SELECT pg_catalog.pg_get_viewdef(pg_catalog.pg_class.oid) AS pg_get_viewdef_1 FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON pg_catalog.pg_namespace.oid = pg_catalog.pg_class.relnamespace WHERE pg_catalog.pg_class.relname = '{name}'::VARCHAR AND pg_catalog.pg_class.relkind = ANY (ARRAY['v'::VARCHAR, 'm'::VARCHAR]) AND pg_catalog.pg_table_is_visible(pg_catalog.pg_class.oid) AND pg_catalog.pg_namespace.nspname != 'pg_catalog'::VARCHAR"
        )
    };
    assert_eq!(lines(&client, &text("savv")).await, [" SELECT 1 AS x;"]);
    assert_eq!(lines(&client, &text("samv")).await, [" SELECT a FROM sat;"]);
}
