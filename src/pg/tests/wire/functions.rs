//! Tests of PostgreSQL's functions where the session, a view or a kept plan could change what they give.

use std::collections::HashSet;

use crate::{Running, fails, simple};

/// Compares with values as PostgreSQL 15 shows them.
#[tokio::test(flavor = "multi_thread")]
async fn functions_of_instants_see_the_zone_of_the_session() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.batch_execute("SET TimeZone = 'America/New_York'").await.unwrap();
    for (value, expected) in [
        ("make_timestamptz(2024, 7, 1, 12, 0, 0)", "2024-07-01 12:00:00-04"),
        ("make_timestamptz(2024, 7, 1, 12, 0, 0, 'UTC')", "2024-07-01 08:00:00-04"),
        ("to_timestamp('2024-07-01 12', 'YYYY-MM-DD HH24')", "2024-07-01 12:00:00-04"),
        ("to_char(timestamptz '2024-07-01 12:00+00', 'HH24 OF TZH')", "08 -04 -04"),
        ("age(timestamptz '2024-07-01 00:00-04', timestamptz '2024-06-01 00:00-04')", "1 mon"),
        (
            "(timestamptz '2024-07-01 00:00-04', interval '1 day') OVERLAPS (timestamptz '2024-07-01 23:00-04', interval '1 day')",
            "t",
        ),
        ("localtimestamp = now()::timestamp", "t"),
    ] {
        assert_eq!(simple(&client, &format!("SELECT {value}")).await, [expected], "{value}");
    }
    assert_eq!(fails(&client, "SELECT to_char(timestamptz '2024-07-01 12:00+00', 'TZ')").await, "0A000");
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_are_kept_in_views_and_prepared_statements() {
    let server = Running::start().await;
    let client = server.connect().await;
    for statement in [
        "CREATE VIEW fv AS SELECT concat_ws('|', U&'\\0061', normalize('ﬁ', NFKC), format('%s-%s', 'x', 1), \
         to_char(date '2024-05-06', 'DD Mon'), 'é' IS NFC NORMALIZED) AS v",
        "PREPARE p(text) AS SELECT concat_ws('|', format('%s %I', $1, $1), regexp_split_to_array($1, ',')::text)",
        "PREPARE q(float8) AS SELECT percentile_cont($1) WITHIN GROUP (ORDER BY v) FROM (VALUES (1::float8), (2), (4)) t(v)",
    ] {
        client.batch_execute(statement).await.unwrap();
    }
    assert_eq!(simple(&client, "SELECT v FROM fv").await, ["a|fi|x-1|06 May|t"]);
    for mode in ["auto", "force_generic_plan", "force_custom_plan"] {
        client.batch_execute(&format!("SET plan_cache_mode = {mode}")).await.unwrap();
        for (text, expected) in [("'1,2'", "1,2 \"1,2\"|{1,2}"), ("'a'", "a a|{a}")] {
            assert_eq!(simple(&client, &format!("EXECUTE p({text})")).await, [expected], "{mode}");
        }
        for (share, expected) in [("0.5", "2"), ("0.75", "3"), ("1", "4")] {
            assert_eq!(simple(&client, &format!("EXECUTE q({share})")).await, [expected], "{mode}");
        }
        assert_eq!(fails(&client, "EXECUTE q(2)").await, "22003", "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_clocks_and_of_chance_are_not_kept() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.batch_execute("SET plan_cache_mode = force_generic_plan").await.unwrap();
    for value in ["clock_timestamp()", "gen_random_uuid()", "random()"] {
        client.batch_execute(&format!("DEALLOCATE ALL; PREPARE p AS SELECT {value}")).await.unwrap();
        let mut found = HashSet::new();
        for _ in 0..3 {
            found.extend(simple(&client, "EXECUTE p").await);
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        assert_eq!(found.len(), 3, "{value}");
    }
}
