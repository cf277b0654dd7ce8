//! Tests of sequences, `serial` and identity columns, DEFAULT and RETURNING. What they expect is what PostgreSQL 15 answers.

use std::collections::HashSet;

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::privileges::Lab;
use crate::{Running, fails, simple};

/// Returns rows with their columns between bars, and the number that the command tag ends with.
async fn answer(client: &Client, query: &str) -> (Vec<String>, u64) {
    let messages = client.simple_query(query).await.unwrap_or_else(|error| panic!("{query}: {error:?}"));
    let (mut rows, mut count) = (Vec::new(), 0);
    for message in &messages {
        match message {
            SimpleQueryMessage::Row(row) => {
                let values: Vec<_> = (0..row.len()).map(|at| row.get(at).unwrap_or("NULL")).collect();
                rows.push(values.join("|"));
            }
            SimpleQueryMessage::CommandComplete(changed) => count = *changed,
            _ => {}
        }
    }
    (rows, count)
}

async fn rows(client: &Client, query: &str) -> Vec<String> {
    answer(client, query).await.0
}

async fn answers(client: &Client, expected: &[(&str, &[&str])]) {
    for (query, lines) in expected {
        assert_eq!(rows(client, query).await, *lines, "{query}");
    }
}

async fn refusals(client: &Client, expected: &[(&str, &str)]) {
    for (query, sqlstate) in expected {
        assert_eq!(fails(client, query).await, *sqlstate, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sequences_count() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.batch_execute("create sequence s; create table t (id serial primary key, x text)").await.unwrap();
    client.batch_execute("create sequence if not exists s").await.unwrap();
    refusals(
        &client,
        &[
            ("create sequence s", "42P07"),
            ("create sequence t", "42P07"),
            ("create table s (a int)", "42P07"),
            ("create sequence nosuch.s", "3F000"),
            ("select currval('t_id_seq')", "55000"),
            ("select lastval()", "55000"),
            ("select nextval('nope')", "42P01"),
            ("select nextval('nosuch.s')", "3F000"),
            ("select nextval('t')", "42809"),
            ("select nextval('')", "42602"),
            ("select setval('s', 0)", "22003"),
            ("select setval('nope', 1)", "42P01"),
            ("create sequence e increment by 0", "22023"),
            ("create sequence e start with 4 minvalue 5", "22023"),
            ("create sequence e as smallint maxvalue 100000", "22023"),
            ("create sequence e as text", "22023"),
            ("create sequence e increment 1 increment 2", "42601"),
            ("create sequence e owned by t.nope", "42703"),
            ("create sequence e owned by nope.id", "42P01"),
            ("create sequence e owned by t", "42601"),
            ("drop sequence nope", "42P01"),
            ("drop sequence t", "42809"),
            ("drop table s", "42809"),
            ("drop table if exists s", "42809"),
            ("drop sequence t_id_seq", "2BP01"),
        ],
    )
    .await;
    client
        .batch_execute("drop sequence if exists nope; create sequence c1 as smallint maxvalue 3 cycle")
        .await
        .unwrap();
    client
        .batch_execute("create sequence c2 maxvalue 2; create sequence c3 increment by -1 minvalue -2")
        .await
        .unwrap();
    answers(
        &client,
        &[
            ("select nextval('s'), currval('s'), lastval()", &["1|1|1"]),
            ("select nextval('public.s'::regclass)", &["2"]),
            ("select setval('s', 42)", &["42"]),
            ("select currval('s'), lastval()", &["42|42"]),
            ("select nextval('s')", &["43"]),
            ("select setval('s', 42, false)", &["42"]),
            ("select nextval('s')", &["42"]),
            ("select last_value, log_cnt, is_called from s", &["42|0|t"]),
            ("select nextval('c1') from generate_series(1, 5)", &["1", "2", "3", "1", "2"]),
            ("select nextval(null), currval(null), setval(null, 1), setval('c1', null)", &["NULL|NULL|NULL|NULL"]),
            ("select pg_typeof(nextval('c1'))", &["bigint"]),
        ],
    )
    .await;
    refusals(
        &client,
        &[
            ("select nextval('c2') from generate_series(1, 3)", "2200H"),
            ("select nextval('c3') from generate_series(1, 3)", "2200H"),
            ("begin read only; select nextval('s')", "25006"),
        ],
    )
    .await;
    client.batch_execute("rollback").await.unwrap();
    let row = client.query_one("select nextval($1)", &[&"s"]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 43);
    client.batch_execute("drop sequence s, c1; create sequence \"Up\"").await.unwrap();
    assert_eq!(fails(&client, "select nextval('Up')").await, "42P01");
    assert_eq!(simple(&client, "select nextval('\"Up\"')").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sequences_follow_transactions_and_tables() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.batch_execute("create sequence s").await.unwrap();
    client.batch_execute("begin; select nextval('s'); rollback").await.unwrap();
    assert_eq!(simple(&client, "select nextval('s')").await, ["2"], "a number is not put back");
    client.batch_execute("begin; create sequence r; create table t (id serial); rollback").await.unwrap();
    refusals(&client, &[("select nextval('r')", "42P01"), ("select nextval('t_id_seq')", "42P01")]).await;
    client.batch_execute("create table t (id serial, x text); create sequence o owned by t.x").await.unwrap();
    client.batch_execute("insert into t(x) values ('a')").await.unwrap();
    client.batch_execute("begin; drop table t; rollback").await.unwrap();
    answers(
        &client,
        &[
            ("insert into t(x) values ('b') returning id", &["2"]),
            (
                "select pg_get_serial_sequence('t', 'id'), pg_get_serial_sequence('t', 'x')",
                &["public.t_id_seq|public.o"],
            ),
        ],
    )
    .await;
    refusals(
        &client,
        &[
            ("select pg_get_serial_sequence('t', 'nope')", "42703"),
            ("select pg_get_serial_sequence('nope', 'id')", "42P01"),
        ],
    )
    .await;
    client.batch_execute("drop table t").await.unwrap();
    refusals(&client, &[("select nextval('t_id_seq')", "42P01"), ("select nextval('o')", "42P01")]).await;
    client.batch_execute("create table t_id_seq (a int); create table t (id serial)").await.unwrap();
    assert_eq!(simple(&client, "select pg_get_serial_sequence('t', 'id')").await, ["public.t_id_seq1"]);
    client.batch_execute("create temp table tt (id serial, x int); insert into tt(x) values (7)").await.unwrap();
    answers(
        &client,
        &[("select id, x from tt", &["1|7"]), ("select pg_get_serial_sequence('tt', 'id')", &["pg_temp.tt_id_seq"])],
    )
    .await;
    let other = server.connect().await;
    assert_eq!(fails(&other, "select nextval('tt_id_seq')").await, "42P01");
    client.batch_execute("discard temp").await.unwrap();
    assert_eq!(fails(&client, "select nextval('tt_id_seq')").await, "42P01");
    client.batch_execute("create table e (a int default nextval('t'), b int)").await.unwrap();
    refusals(
        &client,
        &[
            ("create table d (a int default nextval('missing'))", "42P01"),
            ("insert into e(b) values (1)", "42809"),
            ("alter sequence s rename to r", "0A000"),
        ],
    )
    .await;
    client
        .batch_execute("create table d (a int default nextval('s'), b text); insert into d(b) values ('x')")
        .await
        .unwrap();
    client.batch_execute("insert into d(b) select 'y' from generate_series(1, 3)").await.unwrap();
    assert_eq!(simple(&client, "select a from d order by a").await, ["3", "4", "5", "6"]);
    assert_eq!(fails(&client, "drop sequence s").await, "2BP01");
    client.batch_execute("drop table d; drop sequence s").await.unwrap();
    // The defaults of a session's table work in others.
    client.batch_execute("create table u (id bigserial, x text)").await.unwrap();
    drop(client);
    assert_eq!(rows(&other, "insert into u(x) values ('a') returning *").await, ["1|a"]);
    assert_eq!(simple(&other, "select lastval()").await, ["1"]);
    other.batch_execute("create table c (id serial, x text)").await.unwrap();
    let copied = async {
        use futures::SinkExt;
        let sink = other.copy_in::<_, bytes::Bytes>("copy c (x) from stdin").await.unwrap();
        futures::pin_mut!(sink);
        sink.send(bytes::Bytes::from_static(b"a\nb\n")).await.unwrap();
        sink.finish().await.unwrap()
    };
    assert_eq!(copied.await, 2);
    assert_eq!(rows(&other, "select id, x from c order by id").await, ["1|a", "2|b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn returning_has_the_changed_rows() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.batch_execute("create table t (id serial primary key, x text)").await.unwrap();
    for (query, lines, count) in [
        ("insert into t(x) values ('a'), ('b') returning id, x", &["1|a", "2|b"][..], 2),
        ("insert into t(x) values ('c') returning *", &["3|c"], 1),
        ("insert into t(x) values ('d') returning id + 1, upper(x), t.id as y, 1", &["5|D|4|1"], 1),
        ("insert into t default values returning *", &["5|NULL"], 1),
        ("insert into t values (default, 'e') returning id, id", &["6|6"], 1),
        ("update t set x = x || '!' where id < 3 returning id, x", &["1|a!", "2|b!"], 2),
        ("update t as u set x = 'q' where u.id = 4 returning u.*", &["4|q"], 1),
        ("update t set x = default where id = 3 returning x", &["NULL"], 1),
        ("delete from t where id = 1 returning *", &["1|a!"], 1),
        ("delete from t where id = 1 returning *", &[], 0),
        ("insert into t(x) select 'z' || g from generate_series(1, 3) g returning id, x", &["7|z1", "8|z2", "9|z3"], 3),
        ("insert into t(x) select 'z' where false returning id, x", &[], 0),
    ] {
        assert_eq!(answer(&client, query).await, (lines.iter().map(ToString::to_string).collect(), count), "{query}");
    }
    refusals(
        &client,
        &[
            ("insert into t values (null, 'f') returning id", "23502"),
            ("insert into t values (2, 'f') returning id", "23505"),
            ("insert into t(x) values ('a') returning nope", "42703"),
            ("insert into t(x) values ('a') returning count(*)", "42803"),
            ("insert into t(x) values ('a') returning sum(id) over ()", "42P20"),
            ("insert into t(id, x) values (90, 'a') returning 1 / (id - 90)", "22012"),
            ("insert into t(x) values ('a') returning (select max(id) from t)", "0A000"),
            ("with w as (insert into t(x) values ('a') returning id) select * from w", "0A000"),
            ("explain insert into t(x) values ('a') returning id", "0A000"),
        ],
    )
    .await;
    assert_eq!(simple(&client, "select count(*) from t where x = 'a' or id = 90").await, ["0"], "they are taken back");
    // The extended protocol describes the rows.
    let insert = client.prepare("insert into t(x) values ($1) returning id, x, $2 || x as joined").await.unwrap();
    let names: Vec<_> = insert.columns().iter().map(|column| (column.name(), column.type_().name())).collect();
    assert_eq!(names, [("id", "int4"), ("x", "text"), ("joined", "text")]);
    let first: i32 = client.query_one(&insert, &[&"m", &"<"]).await.unwrap().get(0);
    let second = client.query_one(&insert, &[&"n", &"<"]).await.unwrap();
    assert_eq!((second.get::<_, i32>(0), second.get::<_, &str>(2)), (first + 1, "<n"));
    let update = client.query("update t set x = $1 where id = $2 returning id, x", &[&"p", &first]).await.unwrap();
    assert_eq!((update[0].get::<_, i32>(0), update[0].get::<_, &str>(1)), (first, "p"));
    let deleted = client.query("delete from t where id >= $1 returning x", &[&first]).await.unwrap();
    assert_eq!(deleted.iter().map(|row| row.get(0)).collect::<Vec<&str>>(), ["p", "n"]);
    // A portal gives some rows at a time.
    let mut client = server.connect().await;
    let transaction = client.transaction().await.unwrap();
    let portal =
        transaction.bind("insert into t(x) select 'w' from generate_series(1, 5) returning x", &[]).await.unwrap();
    assert_eq!(transaction.query_portal(&portal, 2).await.unwrap().len(), 2);
    assert_eq!(transaction.query_portal(&portal, 2).await.unwrap().len(), 2);
    assert_eq!(transaction.query_portal(&portal, 2).await.unwrap().len(), 1);
    transaction.rollback().await.unwrap();
    assert_eq!(simple(&client, "select count(*) from t where x = 'w'").await, ["0"]);
    client.batch_execute("prepare p(text) as insert into t(x) values ($1) returning x, id > 0").await.unwrap();
    assert_eq!(rows(&client, "execute p('k')").await, ["k|t"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_columns_have_their_own_numbers() {
    let server = Running::start().await;
    let client = server.connect().await;
    let create = "create table i (id int generated always as identity, \
                  b bigint generated by default as identity (start with 10 increment by 5), x text)";
    client.batch_execute(create).await.unwrap();
    answers(
        &client,
        &[
            ("insert into i(x) values ('a') returning *", &["1|10|a"]),
            ("insert into i(id, x) overriding system value values (5, 'a') returning *", &["5|15|a"]),
            ("insert into i(id, b, x) overriding user value values (5, 6, 'a') returning *", &["2|20|a"]),
            ("insert into i(id, x) values (default, 'a') returning *", &["3|25|a"]),
            ("insert into i(b, x) values (7, 'a') returning *", &["4|7|a"]),
            ("insert into i(id, x) values (default, 'm'), (default, 'n') returning id", &["5", "6"]),
            ("insert into i(b, x) values (default, 'o'), (99, 'p') returning b", &["40", "99"]),
            ("insert into i(x, b) overriding user value select 'q', 1 returning b", &["45"]),
        ],
    )
    .await;
    client.batch_execute("update i set id = default where x = 'a'").await.unwrap();
    assert_eq!(simple(&client, "select count(distinct id) from i where id > 9 and x = 'a'").await, ["5"]);
    refusals(
        &client,
        &[
            ("insert into i values (1, 2, 'a')", "428C9"),
            ("insert into i(id, x) values (5, 'a')", "428C9"),
            ("insert into i(id, x) values (default, 'a'), (5, 'a')", "428C9"),
            ("insert into i(id, x) select 5, 'a'", "428C9"),
            ("update i set id = 5", "428C9"),
            ("update i set id = id + 1", "428C9"),
            ("drop sequence i_id_seq", "2BP01"),
            ("create table j (id text generated always as identity)", "22023"),
            ("create table j (id int default 5 generated always as identity)", "42601"),
            ("create table j (id serial default 5)", "42601"),
            ("create table j (id serial null)", "42601"),
            ("create table j (id int, b int generated always as (id * 2) stored)", "0A000"),
        ],
    )
    .await;
    let error = client.query("insert into i(id) values ($1)", &[&5_i32]).await.unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("428C9"));
    client.batch_execute("create table k (id smallserial, x text default 'y', z int)").await.unwrap();
    answers(
        &client,
        &[
            ("insert into k values (default, default, 3), (8, 'w', default) returning *", &["1|y|3", "8|w|NULL"]),
            ("insert into k values (9) returning *", &["9|y|NULL"]),
            ("update k set x = default, id = default where id = 8", &[]),
            ("select id, x from k order by id", &["1|y", "2|y", "9|y"]),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_lists_sequences() {
    let server = Running::start().await;
    let client = server.connect().await;
    client
        .batch_execute(
            "create sequence s; create sequence c as smallint maxvalue 3 cycle; \
             create table t (id serial primary key, x text default 'it''s', n int default -1, m numeric(5,2)); \
             create table i (id int generated always as identity, b bigint generated by default as identity (start 10 increment 5))",
        )
        .await
        .unwrap();
    client.batch_execute("select nextval('c')").await.unwrap();
    answers(
        &client,
        &[
            (
                "select sequencename, data_type, start_value, min_value, max_value, increment_by, cycle, cache_size, last_value \
                 from pg_sequences order by 1",
                &[
                    "c|smallint|1|1|3|1|t|1|1",
                    "i_b_seq|bigint|10|1|9223372036854775807|5|f|1|NULL",
                    "i_id_seq|integer|1|1|2147483647|1|f|1|NULL",
                    "s|bigint|1|1|9223372036854775807|1|f|1|NULL",
                    "t_id_seq|integer|1|1|2147483647|1|f|1|NULL",
                ],
            ),
            (
                "select sequence_name, data_type, numeric_precision, start_value, maximum_value, increment, cycle_option \
                 from information_schema.sequences order by 1",
                &[
                    "c|smallint|16|1|3|1|YES",
                    "s|bigint|64|1|9223372036854775807|1|NO",
                    "t_id_seq|integer|32|1|2147483647|1|NO",
                ],
            ),
            (
                "select s.seqtypid, s.seqstart, s.seqmax, s.seqcycle from pg_sequence s join pg_class c on c.oid = s.seqrelid \
                 where c.relname = 'c' and c.relkind = 'S'",
                &["21|1|3|t"],
            ),
            (
                "select column_name, column_default, is_identity, identity_generation, identity_start, identity_increment, \
                 identity_maximum, identity_minimum, identity_cycle from information_schema.columns \
                 where table_name in ('t', 'i') order by table_name, ordinal_position",
                &[
                    "id|NULL|YES|ALWAYS|1|1|2147483647|1|NO",
                    "b|NULL|YES|BY DEFAULT|10|5|9223372036854775807|1|NO",
                    "id|nextval('t_id_seq'::regclass)|NO|NULL|NULL|NULL|NULL|NULL|NO",
                    "x|'it''s'::text|NO|NULL|NULL|NULL|NULL|NULL|NO",
                    "n|'-1'::integer|NO|NULL|NULL|NULL|NULL|NULL|NO",
                    "m|NULL|NO|NULL|NULL|NULL|NULL|NULL|NO",
                ],
            ),
            (
                "select a.attname, a.attidentity, a.atthasdef, pg_get_expr(d.adbin, d.adrelid) from pg_attribute a \
                 left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum \
                 where a.attrelid = 't'::regclass and a.attnum > 0 order by a.attnum",
                &["id||t|nextval('t_id_seq'::regclass)", "x||t|'it''s'::text", "n||t|'-1'::integer", "m||f|NULL"],
            ),
            (
                "select a.attname, (select pg_get_expr(d.adbin, d.adrelid) from pg_attrdef d where d.adrelid = a.attrelid \
                 and d.adnum = a.attnum and a.atthasdef), a.attidentity from pg_attribute a \
                 where a.attrelid = 'i'::regclass and a.attnum > 0 order by a.attnum",
                &["id|NULL|a", "b|NULL|d"],
            ),
            (
                "select (select pg_get_expr(d.adbin, d.adrelid, true) from pg_attrdef d where d.adrelid = a.attrelid \
                 and d.adnum = a.attnum and a.atthasdef) from pg_attribute a where a.attrelid = 't'::regclass and a.attnum = 1",
                &["nextval('t_id_seq'::regclass)"],
            ),
            (
                "select o.relname, t.relname, d.refobjsubid, d.deptype from pg_depend d join pg_class o on o.oid = d.objid \
                 join pg_class t on t.oid = d.refobjid where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass \
                 and d.refclassid = d.classid order by 1",
                &["i_b_seq|i|2|i", "i_id_seq|i|1|i", "t_id_seq|t|1|a"],
            ),
            ("select table_name from information_schema.tables where table_schema = 'public' and table_name in ('s', 't')", &["t"]),
            ("select tablename from pg_tables where tablename in ('s', 't', 't_id_seq')", &["t"]),
            ("select count(*) from information_schema.columns where table_name = 's'", &["0"]),
            ("select relname from pg_class where relkind = 'S' and pg_table_is_visible(oid) order by 1", &[
                "c", "i_b_seq", "i_id_seq", "s", "t_id_seq",
            ]),
            ("select nextval(c.oid::regclass) from pg_class c where c.relname = 's'", &["1"]),
        ],
    )
    .await;
    // SQLAlchemy's question about identity columns.
    let query = "select pg_attribute.attname, (select json_build_object('always', pg_attribute.attidentity = 'a', \
                 'start', pg_sequence.seqstart, 'cycle', pg_sequence.seqcycle) from pg_catalog.pg_sequence \
                 where pg_attribute.attidentity != '' and pg_sequence.seqrelid = cast(cast(pg_catalog.pg_get_serial_sequence(\
                 cast(cast(pg_attribute.attrelid as regclass) as text), pg_attribute.attname) as regclass) as oid)) \
                 as identity_options from pg_catalog.pg_class left outer join pg_catalog.pg_attribute \
                 on pg_class.oid = pg_attribute.attrelid and pg_attribute.attnum > 0 where pg_class.relname in ('i', 't') \
                 order by pg_class.relname, pg_attribute.attnum";
    let found = rows(&client, query).await;
    assert!(found[0].starts_with("id|{\"always\" : true, \"start\" : 1,"), "{found:?}");
    assert!(found[1].starts_with("b|{\"always\" : false, \"start\" : 10, \"increment\" : 5,"), "{found:?}");
    assert_eq!(found[2..], ["id|NULL", "x|NULL", "n|NULL", "m|NULL"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_number_is_given_once() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.batch_execute("create sequence s; create table t (id serial, who int)").await.unwrap();
    let mut tasks = Vec::new();
    for who in 0..4 {
        let client = server.connect().await;
        tasks.push(tokio::spawn(async move {
            let mut numbers = Vec::new();
            for _ in 0..25 {
                numbers.extend(simple(&client, "select nextval('s') from generate_series(1, 10)").await);
                let last = numbers.last().cloned().unwrap();
                assert_eq!(simple(&client, "select currval('s')").await, [last]);
                client.batch_execute(&format!("insert into t(who) values ({who}), ({who})")).await.unwrap();
            }
            numbers
        }));
    }
    let mut seen = HashSet::new();
    for task in tasks {
        for number in task.await.unwrap() {
            assert!(seen.insert(number.clone()), "{number} was given twice");
        }
    }
    assert_eq!(seen.len(), 1000);
    let found = rows(&client, "select count(distinct id), min(id), max(id) from t").await;
    assert_eq!(found, ["200|1|200"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sequences_belong_to_those_who_create_them() {
    let lab = Lab::start().await;
    let Lab { ada, ann, abe, bob, .. } = &lab;
    ann.batch_execute("create sequence s; create table t (id serial, x text)").await.unwrap();
    ann.batch_execute("insert into t(x) values ('a'); select nextval('s')").await.unwrap();
    for client in [abe, bob] {
        for query in [
            "select nextval('s')",
            "select setval('s', 5)",
            "select nextval('t_id_seq')",
            "insert into t(x) values ('b')",
            "insert into t(x) values ('b') returning id",
            "drop sequence s",
        ] {
            assert_eq!(fails(client, query).await, "42501", "{query}");
        }
    }
    assert_eq!(fails(bob, "create sequence r").await, "42501");
    assert_eq!(simple(bob, "select last_value from s").await, ["1"]);
    assert_eq!(simple(ada, "select nextval('s')").await, ["2"]);
    ann.batch_execute("drop sequence s").await.unwrap();
    abe.batch_execute("create temp sequence s; select nextval('s'); create sequence r; drop sequence r").await.unwrap();
}
