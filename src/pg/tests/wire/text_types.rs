//! Tests of `timetz`, `inet`, `cidr` and `macaddr`, whose values are texts, and of arrays of arrays as texts. Answers are those of
//! PostgreSQL 15.

use futures::{SinkExt, TryStreamExt};

use crate::raw::Raw;
use crate::{Running, fails, lines};

#[tokio::test(flavor = "multi_thread")]
async fn times_have_zones() {
    let server = Running::start().await;
    let client = server.connect().await;
    for (query, expected) in [
        (
            "SELECT '10:20:30.000040-02:00'::timetz, '24:00'::timetz, time with time zone '12:30 PST'",
            "10:20:30.00004-02|24:00:00+00|12:30:00-08",
        ),
        (
            "SELECT '10:00+02'::timetz::text, '10:00+02'::timetz || 'x', concat('10:00+02'::timetz)",
            "10:00:00+02|10:00:00+02x|10:00:00+02",
        ),
        ("SELECT '10:00+02'::timetz = '10:00:00+02:00', '10:00+02'::timetz = '09:00+01'::timetz", "t|f"),
        ("SELECT '10:00+02'::timetz IN ('09:00+01', '10:00+02'), NULL::timetz IS NULL", "t|t"),
        ("SELECT pg_typeof('10:00+02'::timetz)", "time with time zone"),
        ("SELECT count(*), x FROM (VALUES ('10:00+02'::timetz), ('10:00:00+02:00')) v(x) GROUP BY x", "2|10:00:00+02"),
    ] {
        assert_eq!(lines(&client, query).await, [expected], "{query}");
    }
    client.batch_execute("SET timezone = '-02:00'").await.unwrap();
    assert_eq!(lines(&client, "SELECT '03:04:05.000006'::timetz").await, ["03:04:05.000006+02"]);
    client.batch_execute("SET timezone = 'Asia/Kolkata'").await.unwrap();
    assert_eq!(lines(&client, "SELECT '03:04'::timetz").await, ["03:04:00+05:30"]);
    for (query, code) in [
        ("SELECT 'x'::timetz", "22007"),
        ("SELECT '12:30 Europe/Berlin'::timetz", "22007"),
        ("SELECT '24:00:01'::timetz", "22008"),
        ("SELECT '12:30+16'::timetz", "22009"),
        // Postgres orders by what clocks of UTC show.
        ("SELECT '10:00+02'::timetz < '09:00+01'::timetz", "0A000"),
        ("SELECT x FROM (VALUES ('10:00+02'::timetz)) v(x) ORDER BY x", "0A000"),
        ("SELECT max('10:00+02'::timetz)", "0A000"),
        ("SELECT '10:00+02'::timetz = '10:00'", "0A000"),
    ] {
        assert_eq!(fails(&client, query).await, code, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_have_prefixes() {
    let server = Running::start().await;
    let client = server.connect().await;
    for (query, expected) in [
        (
            "SELECT '1.2.3.4'::inet, '10/8'::inet, inet '::FFFF:1.2.3.4', '::1:2'::inet",
            "1.2.3.4|10.0.0.0/8|::ffff:1.2.3.4|::0.1.0.2",
        ),
        ("SELECT '1.2.3.4'::inet::text, '::1'::inet::text, '1.2.3.4'::cidr::text", "1.2.3.4/32|::1/128|1.2.3.4/32"),
        ("SELECT '192.168'::cidr, '224'::cidr, '2001:db8::/32'::cidr", "192.168.0.0/24|224.0.0.0/4|2001:db8::/32"),
        ("SELECT '08002b:010203'::macaddr, '8-0-2B-1-2-3'::macaddr || 'x'", "08:00:2b:01:02:03|08:00:2b:01:02:03x"),
        (
            "SELECT '1.2.3.4/32'::inet = '1.2.3.4', '1.2.3.4/31'::inet = '1.2.3.4'::inet, '1.2.3.4'::inet IS DISTINCT FROM NULL",
            "t|f|t",
        ),
        (
            "SELECT host('1.2.3.4/24'::inet), masklen('::1'::inet), family('10/8'::cidr), host(NULL)",
            "1.2.3.4|128|4|NULL",
        ),
        ("SELECT '08:00:2b:01:02:03'::macaddr < '08:00:2b:01:02:04', concat('1.2.3.4'::inet)", "t|1.2.3.4"),
        ("SELECT x FROM (VALUES ('b::'::inet), ('a::')) v(x) WHERE masklen(x) = 128 AND x = 'a::/128'", "a::"),
    ] {
        assert_eq!(lines(&client, query).await, [expected], "{query}");
    }
    for (query, code) in [
        ("SELECT '1.2.3.4/33'::inet", "22P02"),
        ("SELECT '1.2.3.4/24'::cidr", "22P02"),
        ("SELECT '08:00:2b:01:02:300'::macaddr", "22003"),
        ("SELECT '1.2.3.4'::inet < '1.2.3.5'::inet", "0A000"),
        ("SELECT '1.2.3.4'::inet = '1.2.3.4'::cidr", "0A000"),
        ("SELECT x FROM (VALUES ('b::'::inet)) v(x) ORDER BY x", "0A000"),
        ("SELECT '1.2.3.4'::inet || 'x'", "0A000"),
        ("SELECT host('08:00:2b:01:02:03'::macaddr)", "42883"),
        ("SELECT host('1.2.3.4')", "0A000"),
    ] {
        assert_eq!(fails(&client, query).await, code, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_hold_values() {
    let server = Running::start().await;
    let client = server.connect().await;
    client
        .batch_execute(
            "SET timezone = '-02:00'; \
             CREATE TABLE kept (id int, t timetz, i inet DEFAULT '10/8', c cidr, m macaddr, s text); \
             INSERT INTO kept VALUES (1, '10:00', '1.2.3.4', '10', '08002b010203', '1.2.3.4'::inet), \
             (2, '11:00+01'::timetz, '::1'::inet, '::1'::cidr, NULL, NULL); \
             INSERT INTO kept (id, t) SELECT 3, '12:00'; \
             UPDATE kept SET m = '8-0-2B-1-2-4', i = i, s = i WHERE id = 2; \
             INSERT INTO kept (id, i, s) SELECT 4, i, i FROM kept WHERE id = 1",
        )
        .await
        .unwrap();
    let sink = client.copy_in("COPY kept (id, t, i) FROM STDIN").await.unwrap();
    futures::pin_mut!(sink);
    sink.send(bytes::Bytes::from_static(b"5\t9:00-03\tFE80::/10\n")).await.unwrap();
    sink.finish().await.unwrap();
    let all = [
        "1|10:00:00+02|1.2.3.4|10.0.0.0/8|08:00:2b:01:02:03|1.2.3.4/32",
        "2|11:00:00+01|::1|::1/128|08:00:2b:01:02:04|::1/128",
        "3|12:00:00+02|10.0.0.0/8|NULL|NULL|NULL",
        "4|NULL|1.2.3.4|NULL|NULL|1.2.3.4/32",
        "5|09:00:00-03|fe80::/10|NULL|NULL|NULL",
    ];
    assert_eq!(lines(&client, "SELECT * FROM kept ORDER BY id").await, all);
    for (query, expected) in [
        ("SELECT id FROM kept WHERE i = '::1/128' OR t = '12:00+02' ORDER BY id", vec!["2", "3"]),
        ("SELECT count(*) FROM kept x JOIN kept y ON x.i = y.i", vec!["7"]),
        ("SELECT m FROM kept WHERE m IS NOT NULL ORDER BY m DESC LIMIT 1", vec!["08:00:2b:01:02:04"]),
        ("SELECT host(i), masklen(c) FROM kept WHERE id = 1", vec!["1.2.3.4|8"]),
        ("SELECT s::inet FROM kept WHERE id = 1", vec!["1.2.3.4"]),
        (
            "SELECT data_type FROM information_schema.columns WHERE table_name = 'kept' AND column_name IN ('t', 'i') \
             ORDER BY ordinal_position",
            vec!["time with time zone", "inet"],
        ),
    ] {
        assert_eq!(lines(&client, query).await, expected, "{query}");
    }
    for (statement, code) in [
        ("INSERT INTO kept (i) VALUES ('1.2.3.4/33')", "22P02"),
        ("INSERT INTO kept (i) SELECT 'x'", "22P02"),
        ("INSERT INTO kept (i) VALUES ('1.2.3.4'::text)", "42804"),
        ("INSERT INTO kept (t) SELECT s FROM kept", "42804"),
        ("UPDATE kept SET i = 1", "42804"),
        ("SELECT id FROM kept ORDER BY i", "0A000"),
        ("SELECT max(t) FROM kept", "0A000"),
        ("SELECT s::timetz FROM kept", "22007"),
        ("CREATE TABLE keyed (i inet PRIMARY KEY)", "0A000"),
        ("CREATE TABLE wrong (i inet DEFAULT 'x')", "22P02"),
    ] {
        assert_eq!(fails(&client, statement).await, code, "{statement}");
    }
}

/// Compares with what the functions that send values return in PostgreSQL 15.
#[tokio::test(flavor = "multi_thread")]
async fn values_are_sent_in_binary_form() {
    let server = Running::start().await;
    let client = server.connect().await;
    for (value, hex) in [
        ("'10:00+02'::timetz", "0000000861c46800ffffe3e0"),
        ("'24:00-08'::timetz", "000000141dd7600000007080"),
        ("'1.2.3.4/24'::inet", "0218000401020304"),
        ("'::1'::cidr", "0380011000000000000000000000000000000001"),
        ("'08:00:2b:01:02:03'::macaddr", "08002b010203"),
    ] {
        let query = format!("COPY (SELECT {value}) TO STDOUT (FORMAT binary)");
        let parts: Vec<_> = client.copy_out(&query).await.unwrap().try_collect().await.unwrap();
        let found: String = parts.concat().iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(found.ends_with(&format!("{:08x}{hex}ffff", hex.len() / 2)), "{query}: {found}");
    }
    let mut raw = Raw::connect(server.port, "ada");
    for (query, oid, sent, expected) in [
        ("SELECT $1::timetz", 1266, "10:00", "10:00:00+00"),
        ("SELECT $1::inet", 869, "10/8", "10.0.0.0/8"),
        ("SELECT $1::cidr", 650, "10", "10.0.0.0/8"),
        ("SELECT $1::macaddr", 829, "08002b010203", "08:00:2b:01:02:03"),
        ("SELECT $1::inet::text", 25, "1.2.3.4", "1.2.3.4/32"),
        ("SELECT $1::inet = '1.2.3.4'::inet", 16, "1.2.3.4/32", "t"),
        ("SELECT $1::inet[]", 1041, "{1.2.3.4/24,NULL}", "{1.2.3.4/24,NULL}"),
    ] {
        let answer = raw.query_with(query, 0, 0, sent.as_bytes());
        assert_eq!(answer.sqlstate(), None, "{query}");
        assert_eq!((answer.column_type(), answer.value().as_deref()), (Some(oid), Some(expected)), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn arrays_have_dimensions() {
    let server = Running::start().await;
    let client = server.connect().await;
    for (query, expected) in [
        ("SELECT '{{a,b},{c,NULL}}'::text[]", "{{a,b},{c,NULL}}"),
        ("SELECT '{{1,2},{3,4}}'::int[] = ARRAY[[1,2],[3,4]]", "t"),
        ("SELECT '{{{1},{2}}}'::int[][]::text, '{1,2}'::int[][]", "{{{1},{2}}}|{1,2}"),
        ("SELECT ('{{1,2},{3,4}}'::int[])[2][1]", "3"),
        ("SELECT '{\"{a\",b}'::text[]", "{\"{a\",b}"),
    ] {
        assert_eq!(lines(&client, query).await, [expected], "{query}");
    }
    for (query, code) in [
        ("SELECT '{{1,2},{3}}'::int[]", "22P02"),
        ("SELECT '{{1},2}'::int[]", "22P02"),
        ("SELECT '{{1},{x}}'::int[]", "22P02"),
        ("SELECT '[2:3]={1,2}'::int[]", "0A000"),
        ("SELECT '[x'::int[]", "22P02"),
    ] {
        assert_eq!(fails(&client, query).await, code, "{query}");
    }
}
