//! Tests of PRIMARY KEY, UNIQUE and NOT NULL, of keys in the catalog, and of cursors that move backward.

use tokio_postgres::SimpleQueryMessage;

use crate::{Running, fails, lines, simple};

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

const KEYED: &str = "create table ju (a int primary key, b text unique, c int, d int, unique (c, d))";

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_lists_keys() {
    let server = Running::start().await;
    let client = server.connect().await;
    let keys = "select conname from pg_constraint";
    assert_eq!(simple(&client, keys).await, Vec::<String>::new());
    client.batch_execute(KEYED).await.unwrap();
    for (query, rows) in [
        (
            "select conname, contype, condeferrable, convalidated, conkey, confrelid, confupdtype, conislocal, confkey \
             from pg_constraint where conrelid = 'ju'::regclass order by oid",
            &["ju_pkey|p|f|t|{1}|0| |t|NULL", "ju_b_key|u|f|t|{2}|0| |t|NULL", "ju_c_d_key|u|f|t|{3,4}|0| |t|NULL"][..],
        ),
        (
            "select c.relname, i.indnatts, i.indnkeyatts, i.indisunique, i.indisprimary, i.indisexclusion, i.indimmediate, \
             i.indisvalid, i.indisready, i.indislive, i.indkey, i.indcollation, i.indclass, i.indoption, i.indpred \
             from pg_index i join pg_class c on c.oid = i.indexrelid where i.indrelid = 'ju'::regclass order by c.oid",
            &[
                "ju_pkey|1|1|t|t|f|t|t|t|t|1|{0}|{1978}|0|NULL",
                "ju_b_key|1|1|t|f|f|t|t|t|t|2|{100}|{3126}|0|NULL",
                "ju_c_d_key|2|2|t|f|f|t|t|t|t|3 4|{0,0}|{1978,1978}|0 0|NULL",
            ],
        ),
        (
            "select c.relname, n.nspname, c.relkind, c.relnatts, c.relhasindex, am.amname from pg_class c \
             join pg_namespace n on n.oid = c.relnamespace left join pg_am am on am.oid = c.relam \
             where c.relname like 'ju%' order by c.relkind, c.relname",
            &[
                "ju_b_key|public|i|1|f|btree",
                "ju_c_d_key|public|i|2|f|btree",
                "ju_pkey|public|i|1|f|btree",
                "ju|public|r|4|t|NULL",
            ],
        ),
        (
            "select c.relname, a.attname, a.attnum, a.atttypid, a.attnotnull from pg_attribute a \
             join pg_class c on c.oid = a.attrelid where c.relname like 'ju%' order by c.relname, a.attnum",
            &[
                "ju|a|1|23|t",
                "ju|b|2|25|f",
                "ju|c|3|23|f",
                "ju|d|4|23|f",
                "ju_b_key|b|1|25|f",
                "ju_c_d_key|c|1|23|f",
                "ju_c_d_key|d|2|23|f",
                "ju_pkey|a|1|23|f",
            ],
        ),
        (
            "select pg_get_indexdef(i.indexrelid), pg_get_indexdef(i.indexrelid, 1, false), pg_get_constraintdef(c.oid, true) \
             from pg_index i join pg_constraint c on c.conindid = i.indexrelid order by c.oid",
            &[
                "CREATE UNIQUE INDEX ju_pkey ON public.ju USING btree (a)|a|PRIMARY KEY (a)",
                "CREATE UNIQUE INDEX ju_b_key ON public.ju USING btree (b)|b|UNIQUE (b)",
                "CREATE UNIQUE INDEX ju_c_d_key ON public.ju USING btree (c, d)|c|UNIQUE (c, d)",
            ],
        ),
        (
            "select column_name, is_nullable from information_schema.columns where table_name = 'ju' \
             order by ordinal_position limit 2",
            &["a|NO", "b|YES"],
        ),
        (
            "select constraint_schema, constraint_name, table_name, constraint_type, is_deferrable, nulls_distinct \
             from information_schema.table_constraints where table_name = 'ju' order by constraint_name",
            &[
                "public|ju_b_key|ju|UNIQUE|NO|YES",
                "public|ju_c_d_key|ju|UNIQUE|NO|YES",
                "public|ju_pkey|ju|PRIMARY KEY|NO|NULL",
            ],
        ),
        (
            "select tc.constraint_name, kcu.column_name, kcu.ordinal_position, kcu.position_in_unique_constraint, ccu.column_name \
             from information_schema.table_constraints tc join information_schema.key_column_usage kcu \
             on kcu.constraint_name = tc.constraint_name and kcu.table_schema = tc.table_schema \
             join information_schema.constraint_column_usage ccu on ccu.constraint_name = tc.constraint_name \
             and ccu.column_name = kcu.column_name order by tc.constraint_name, kcu.ordinal_position",
            &["ju_b_key|b|1|NULL|b", "ju_c_d_key|c|1|NULL|c", "ju_c_d_key|d|2|NULL|d", "ju_pkey|a|1|NULL|a"],
        ),
    ] {
        assert_eq!(lines(&client, query).await, rows, "{query}");
    }
    // Numbers stay as they are, and other clients see the same.
    let numbers = "select oid, conindid from pg_constraint order by oid";
    let expected = lines(&client, numbers).await;
    client.batch_execute("create table before (a int primary key)").await.unwrap();
    let other = server.connect().await;
    let more = lines(&other, numbers).await;
    assert_eq!(more.len(), 4);
    assert!(expected.iter().all(|row| more.contains(row)), "{expected:?} {more:?}");
    let collisions = "select oid from pg_class group by oid having count(*) > 1";
    assert_eq!(lines(&client, collisions).await, Vec::<String>::new());
    client.batch_execute("drop table ju; drop table before").await.unwrap();
    assert_eq!(simple(&client, keys).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_have_the_names_that_they_were_given() {
    let server = Running::start().await;
    let client = server.connect().await;
    let create = "create table kn (a int constraint mypk primary key, b int constraint \"B\" unique, c int unique, \
                  constraint both_of unique (c, b))";
    client.batch_execute(create).await.unwrap();
    let names = "select conname from pg_constraint where conrelid = 'kn'::regclass order by conname";
    let expected = ["B", "both_of", "kn_c_key", "mypk"];
    assert_eq!(simple(&client, names).await, expected);
    let indexes = "select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid where i.indisprimary";
    assert_eq!(simple(&client, indexes).await, ["mypk"]);
    client.batch_execute("insert into kn values (1, 2, 3)").await.unwrap();
    for (insert, key) in [("(1, 3, 4)", "mypk"), ("(2, 2, 4)", "B"), ("(2, 3, 3)", "kn_c_key")] {
        let error = client.simple_query(&format!("insert into kn values {insert}")).await.unwrap_err();
        let error = error.as_db_error().unwrap();
        let message = format!("duplicate key value violates unique constraint \"{key}\"");
        assert_eq!((error.code().code(), error.message()), ("23505", message.as_str()));
    }
    // They are those of the table that there is.
    client.batch_execute("create table if not exists kn (a int constraint late primary key)").await.unwrap();
    assert_eq!(simple(&client, names).await, expected);
    client.batch_execute("begin; drop table kn; create table kn (a int constraint late primary key)").await.unwrap();
    assert_eq!(simple(&client, names).await, ["late"]);
    client.batch_execute("rollback").await.unwrap();
    assert_eq!(simple(&client, names).await, expected);
    client.batch_execute("create temp table kt (a int, constraint other primary key (a))").await.unwrap();
    let error = client.simple_query("insert into kt values (1), (1)").await.unwrap_err();
    assert!(error.as_db_error().unwrap().message().ends_with("\"other\""), "{error:?}");
    client.batch_execute("drop table kn; create table kn (a int primary key)").await.unwrap();
    assert_eq!(simple(&client, names).await, ["kn_pkey"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn drivers_find_keys() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.batch_execute(KEYED).await.unwrap();
    // pgJDBC: getPrimaryKeys, the keys of an updatable result, getIndexInfo.
    let primary = "SELECT        result.TABLE_CAT,        result.TABLE_SCHEM,        result.TABLE_NAME,        result.COLUMN_NAME,        result.KEY_SEQ,        result.PK_NAME FROM      (SELECT NULL AS TABLE_CAT, n.nspname AS TABLE_SCHEM,   ct.relname AS TABLE_NAME, a.attname AS COLUMN_NAME,   (information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ, ci.relname AS PK_NAME,   information_schema._pg_expandarray(i.indkey) AS KEYS, a.attnum AS A_ATTNUM FROM pg_catalog.pg_class ct   JOIN pg_catalog.pg_attribute a ON (ct.oid = a.attrelid)   JOIN pg_catalog.pg_namespace n ON (ct.relnamespace = n.oid)   JOIN pg_catalog.pg_index i ON ( a.attrelid = i.indrelid)   JOIN pg_catalog.pg_class ci ON (ci.oid = i.indexrelid) WHERE true  AND ct.relname = 'ju' AND i.indisprimary  ) result where  result.A_ATTNUM = (result.KEYS).x  ORDER BY result.table_name, result.pk_name, result.key_seq";
    assert_eq!(lines(&client, primary).await, ["NULL|public|ju|a|1|ju_pkey"]);
    let updatable = "SELECT        result.TABLE_CAT,        result.TABLE_SCHEM,        result.TABLE_NAME,        result.COLUMN_NAME,        result.KEY_SEQ,        result.PK_NAME,        result.IS_NOT_NULL FROM      (SELECT NULL AS TABLE_CAT, n.nspname AS TABLE_SCHEM,   ct.relname AS TABLE_NAME, a.attname AS COLUMN_NAME,   (information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ, ci.relname AS PK_NAME,   information_schema._pg_expandarray(i.indkey) AS KEYS, a.attnum AS A_ATTNUM,   a.attnotnull AS IS_NOT_NULL FROM pg_catalog.pg_class ct   JOIN pg_catalog.pg_attribute a ON (ct.oid = a.attrelid)   JOIN pg_catalog.pg_namespace n ON (ct.relnamespace = n.oid)   JOIN pg_catalog.pg_index i ON ( a.attrelid = i.indrelid)   JOIN pg_catalog.pg_class ci ON (ci.oid = i.indexrelid) WHERE (i.indisprimary OR (     i.indisunique     AND i.indisvalid     AND i.indpred IS NULL     AND i.indexprs IS NULL   ))  AND ct.relname = 'ju' ) result where  result.A_ATTNUM = (result.KEYS).x  ORDER BY result.table_name, result.pk_name, result.key_seq";
    assert_eq!(
        lines(&client, updatable).await,
        [
            "NULL|public|ju|b|1|ju_b_key|f",
            "NULL|public|ju|c|1|ju_c_d_key|f",
            "NULL|public|ju|d|2|ju_c_d_key|f",
            "NULL|public|ju|a|1|ju_pkey|t",
        ]
    );
    let indexes = "SELECT     tmp.NON_UNIQUE,     tmp.INDEX_NAME,     tmp.TYPE,     tmp.ORDINAL_POSITION,     trim(both '\"' from pg_catalog.pg_get_indexdef(tmp.CI_OID, tmp.ORDINAL_POSITION, false)) AS COLUMN_NAME FROM (SELECT NOT i.indisunique AS NON_UNIQUE,   ci.relname AS INDEX_NAME,   CASE i.indisclustered     WHEN true THEN 1    ELSE CASE am.amname       WHEN 'hash' THEN 2      ELSE 3    END   END AS TYPE,   (information_schema._pg_expandarray(i.indkey)).n AS ORDINAL_POSITION,   ci.oid AS CI_OID,   am.amname AS AM_NAME FROM pg_catalog.pg_class ct   JOIN pg_catalog.pg_namespace n ON (ct.relnamespace = n.oid)   JOIN pg_catalog.pg_index i ON (ct.oid = i.indrelid)   JOIN pg_catalog.pg_class ci ON (ci.oid = i.indexrelid)   JOIN pg_catalog.pg_am am ON (ci.relam = am.oid) WHERE true  AND ct.relname = 'ju' AND i.indisunique ) AS tmp ORDER BY NON_UNIQUE, TYPE, INDEX_NAME, ORDINAL_POSITION ";
    assert_eq!(
        lines(&client, indexes).await,
        ["f|ju_b_key|3|1|b", "f|ju_c_d_key|3|1|c", "f|ju_c_d_key|3|2|d", "f|ju_pkey|3|1|a"]
    );
    // psqlODBC: SQLPrimaryKeys.
    let odbc = "select ta.attname, ia.attnum, ic.relname, n.nspname, tc.relname from pg_catalog.pg_attribute ta, pg_catalog.pg_attribute ia, pg_catalog.pg_class tc, pg_catalog.pg_index i, pg_catalog.pg_namespace n, pg_catalog.pg_class ic where tc.relname = 'ju' AND n.nspname = 'public' AND tc.oid = i.indrelid AND n.oid = tc.relnamespace AND i.indisprimary = 't' AND ia.attrelid = i.indexrelid AND ta.attrelid = i.indrelid AND ta.attnum = i.indkey[ia.attnum-1] AND (NOT ta.attisdropped) AND (NOT ia.attisdropped) AND ic.oid = i.indexrelid order by ia.attnum";
    assert_eq!(lines(&client, odbc).await, ["a|1|ju_pkey|public|ju"]);
    // SQLAlchemy: get_pk_constraint and get_unique_constraints.
    let oid = simple(&client, "select 'ju'::regclass::oid").await.remove(0);
    for (kind, rows) in
        [("p", &["{a}|ju_pkey|NULL|1|f"][..]), ("u", &["{b}|ju_b_key|NULL|1|f", "{c,d}|ju_c_d_key|NULL|2|f"])]
    {
        let query = format!(
            "SELECT array_agg(CAST(attr.attname AS TEXT) ORDER BY attr.ord) AS cols, attr.conname, min(attr.description) AS description, min(attr.indnkeyatts) AS indnkeyatts, bool_and(attr.indnullsnotdistinct) AS indnullsnotdistinct FROM (SELECT con.conrelid AS conrelid, con.conname AS conname, con.description AS description, con.ord AS ord, con.indnkeyatts AS indnkeyatts, con.indnullsnotdistinct AS indnullsnotdistinct, pg_catalog.pg_attribute.attname AS attname FROM pg_catalog.pg_attribute JOIN (SELECT pg_catalog.pg_constraint.conrelid AS conrelid, pg_catalog.pg_constraint.conname AS conname, unnest(pg_catalog.pg_index.indkey) AS attnum, generate_subscripts(pg_catalog.pg_index.indkey, 1) AS ord, pg_catalog.pg_index.indnkeyatts AS indnkeyatts, pg_catalog.pg_index.indnullsnotdistinct AS indnullsnotdistinct, pg_catalog.pg_description.description AS description FROM pg_catalog.pg_constraint JOIN pg_catalog.pg_index ON pg_catalog.pg_constraint.conindid = pg_catalog.pg_index.indexrelid LEFT OUTER JOIN pg_catalog.pg_description ON pg_catalog.pg_description.objoid = pg_catalog.pg_constraint.oid AND pg_catalog.pg_description.classoid = CAST('pg_constraint' AS REGCLASS) WHERE pg_catalog.pg_constraint.contype = '{kind}' AND pg_catalog.pg_constraint.conrelid IN ({oid})) AS con ON pg_catalog.pg_attribute.attnum = con.attnum AND pg_catalog.pg_attribute.attrelid = con.conrelid WHERE con.conrelid IN ({oid})) AS attr GROUP BY attr.conrelid, attr.conname ORDER BY attr.conrelid, attr.conname"
        );
        assert_eq!(lines(&client, &query).await, rows, "{kind}");
    }
    // psql: \d.
    let psql = format!(
        "SELECT c2.relname, i.indisprimary, i.indisunique, i.indisclustered, i.indisvalid, pg_catalog.pg_get_indexdef(i.indexrelid, 0, true),\n  pg_catalog.pg_get_constraintdef(con.oid, true), contype, condeferrable, condeferred, i.indisreplident, c2.reltablespace\nFROM pg_catalog.pg_class c, pg_catalog.pg_class c2, pg_catalog.pg_index i\n  LEFT JOIN pg_catalog.pg_constraint con ON (conrelid = i.indrelid AND conindid = i.indexrelid AND contype IN ('p','u','x'))\nWHERE c.oid = '{oid}' AND c.oid = i.indrelid AND i.indexrelid = c2.oid\nORDER BY i.indisprimary DESC, c2.relname;"
    );
    let index = |name: &str, list: &str| format!("CREATE UNIQUE INDEX {name} ON public.ju USING btree ({list})");
    assert_eq!(
        lines(&client, &psql).await,
        [
            format!("ju_pkey|t|t|f|t|{}|PRIMARY KEY (a)|p|f|f|f|0", index("ju_pkey", "a")),
            format!("ju_b_key|f|t|f|t|{}|UNIQUE (b)|u|f|f|f|0", index("ju_b_key", "b")),
            format!("ju_c_d_key|f|t|f|t|{}|UNIQUE (c, d)|u|f|f|f|0", index("ju_c_d_key", "c, d")),
        ]
    );
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
