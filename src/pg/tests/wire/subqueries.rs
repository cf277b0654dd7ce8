//! Tests that subqueries and texts stay as they are, whatever they are part of.

use crate::{Running, fails, simple};

const MOST: &str = "SELECT a.k, (SELECT max(b.v) FROM sq_b b WHERE b.k = a.k) AS most FROM sq_a a";

/// Returns the second column of every row.
async fn second(client: &tokio_postgres::Client, query: &str) -> Vec<String> {
    let messages = client.simple_query(query).await.unwrap();
    let value = |message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(1).unwrap_or("NULL").to_string()),
        _ => None,
    };
    messages.into_iter().filter_map(value).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn subqueries_keep_their_values() {
    let server = Running::start().await;
    let client = server.connect().await;
    for statement in [
        "CREATE TABLE sq_a (k INT, t TEXT)".to_owned(),
        "INSERT INTO sq_a VALUES (1, 'one'), (2, 'two'), (3, 'pg_x')".into(),
        "CREATE TABLE sq_b (k INT, v INT)".into(),
        "INSERT INTO sq_b VALUES (1, 10), (1, 11), (2, 20)".into(),
        format!("CREATE VIEW sq_v AS {MOST}"),
        format!("CREATE TABLE sq_c AS {MOST}"),
        "CREATE TABLE sq_d (k INT, most INT)".into(),
        format!("INSERT INTO sq_d {MOST}"),
        format!("PREPARE sq_p AS {MOST} ORDER BY k"),
        "PREPARE sq_q(int) AS SELECT a.k, (SELECT max(b.v) FROM sq_b b WHERE b.k = a.k AND b.v > $1) FROM sq_a a ORDER BY k"
            .into(),
    ] {
        client.batch_execute(&statement).await.unwrap();
    }
    for query in [
        "SELECT * FROM sq_v ORDER BY k".to_owned(),
        "SELECT * FROM sq_c ORDER BY k".into(),
        "SELECT * FROM sq_d ORDER BY k".into(),
        "EXECUTE sq_p".into(),
        "EXECUTE sq_q(10)".into(),
        "EXECUTE sq_q('10')".into(),
        format!("{MOST} WHERE 'pg_x' <> 'information_schema' ORDER BY k -- pg_class"),
        format!("{MOST} WHERE k <= (SELECT count(*) FROM pg_class) ORDER BY k"),
        format!("{MOST} JOIN pg_catalog.pg_namespace n ON n.nspname = 'pg_catalog' ORDER BY a.k"),
        "WITH pg_type AS (SELECT k, v FROM sq_b) \
         SELECT a.k, (SELECT max(b.v) FROM pg_type b WHERE b.k = a.k) FROM sq_a a ORDER BY k"
            .into(),
    ] {
        assert_eq!(second(&client, &query).await, ["11", "20", "NULL"], "{query}");
    }
    client.batch_execute(&format!("BEGIN; DECLARE c CURSOR FOR {MOST} ORDER BY k")).await.unwrap();
    assert_eq!(second(&client, "FETCH ALL FROM c").await, ["11", "20", "NULL"]);
    client.batch_execute("COMMIT").await.unwrap();
    let plan = second(&client, &format!("EXPLAIN {MOST}")).await.join("\n");
    assert!(plan.contains("max(b.v)"), "{plan}");
    client.batch_execute("CREATE TABLE pg_mine (k INT, v INT)").await.unwrap();
    client.batch_execute("INSERT INTO pg_mine VALUES (1, 5), (1, 6), (2, 7)").await.unwrap();
    let own = "SELECT a.k, (SELECT sum(p.v) FROM pg_mine p WHERE p.k = a.k) FROM sq_a a ORDER BY k";
    assert_eq!(second(&client, own).await, ["11", "7", "NULL"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_of_statements_keep_their_quotes() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.batch_execute("CREATE VIEW quotes AS SELECT 'a''''b' AS t, E'x\\\\''y' AS u").await.unwrap();
    assert_eq!(simple(&client, "SELECT t FROM quotes").await, ["a''b"]);
    assert_eq!(simple(&client, "SELECT u FROM quotes").await, ["x\\'y"]);
    client.batch_execute("PREPARE p(text) AS SELECT $1").await.unwrap();
    for (given, text) in [
        ("'a''''b'", "a''b"),
        ("E'a''\\\\''b'", "a'\\'b"),
        ("$$a''b$$", "a''b"),
        ("'a' || '''''b'", "a''b"),
        ("NULL", "NULL"),
        ("''", ""),
    ] {
        assert_eq!(simple(&client, &format!("EXECUTE p({given})")).await, [text], "{given}");
    }
    client.batch_execute("PREPARE i(int) AS SELECT $1 + 1").await.unwrap();
    assert_eq!(simple(&client, "EXECUTE i(2.7)").await, ["4"]);
    assert_eq!(fails(&client, "EXECUTE i('x')").await, "22P02");
    assert_eq!(fails(&client, "EXECUTE i('3000000000')").await, "22003");
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_group_and_switches_are_set_as_in_postgres() {
    let server = Running::start().await;
    let client = server.connect().await;
    for (expression, value) in [
        ("1 IS NOT DISTINCT FROM 1 AND false", "f"),
        ("NOT 1 IS DISTINCT FROM 2 OR true", "t"),
        ("true AND 1 IS DISTINCT FROM 1 OR true", "t"),
    ] {
        assert_eq!(simple(&client, &format!("SELECT {expression}")).await, [value], "{expression}");
    }
    assert_eq!(fails(&client, "SELECT 1 IS DISTINCT FROM 2 IS NULL").await, "42601");
    for (given, shown) in [("true", "true"), ("off", "false"), ("'on'", "true"), ("false", "false")] {
        client.batch_execute(&format!("SET datafusion.execution.collect_statistics = {given}")).await.unwrap();
        assert_eq!(simple(&client, "SHOW datafusion.execution.collect_statistics").await, [shown], "{given}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_the_catalog_go_by_name() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE sq_a (k INT, t TEXT)").await.unwrap();
    for (query, value) in [
        ("SELECT 'sq_a'::regclass", "sq_a"),
        ("SELECT 'toy.activations'::regclass::text", "toy.activations"),
        ("SELECT c.oid::regclass FROM pg_class c WHERE c.oid = 'sq_a'::regclass", "sq_a"),
        ("SELECT to_regclass('nope') IS NULL", "t"),
        ("SELECT pg_typeof(1)", "integer"),
        ("SELECT pg_typeof(ARRAY['a'])::text", "text[]"),
        ("SELECT 'int4'::regtype", "integer"),
        ("SELECT 'text'::regtype::oid", "25"),
        ("SELECT 'array_in'::regproc", "array_in"),
        ("SELECT typinput FROM pg_type WHERE typname = 'bool'", "boolin"),
        ("SELECT count(*) > 0 FROM pg_type WHERE typinput = 'array_in'", "t"),
        ("SELECT (q.k).x + (q.k).n FROM (SELECT information_schema._pg_expandarray(ARRAY[7]) AS k) q", "8"),
        ("SELECT pg_size_pretty(10240)", "10 kB"),
    ] {
        assert_eq!(simple(&client, query).await, [value], "{query}");
    }
    for (query, code) in [
        ("SELECT 'nope'::regclass", "42P01"),
        ("SELECT 'nope'::regtype", "42704"),
        ("SELECT 'nope'::regproc", "42883"),
        ("SELECT 'nope'::regnamespace", "3F000"),
    ] {
        assert_eq!(fails(&client, query).await, code, "{query}");
    }
}
