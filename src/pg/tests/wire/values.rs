//! Values of parameters arrive as they were sent.

use serde_json::Value;

use crate::Running;
use crate::raw::Raw;

/// A type's name and number, a text of it, and what PostgreSQL 15 makes of it: `SELECT $1` of that type, the parameter
/// and the answer as text.
const VALUES: &str = include_str!("values.jsonl");

/// What is refused by name, although Postgres knows it: Arrow has no such values.
const REFUSED: [(&str, &str); 16] = [
    ("numeric", "NaN"),
    ("numeric[]", "{NaN}"),
    ("numeric", "1e400000"),
    ("date", "infinity"),
    ("time", "24:00:00"),
    ("time", "23:59:60"),
    ("time", "allballs"),
    ("timestamp", "infinity"),
    ("timetz", "12:00+01"),
    ("inet", "127.0.0.1"),
    ("text[]", "{{a,b},{c,d}}"),
    ("text[]", "[0:1]={a,b}"),
    // Decimals of a list have one scale.
    ("numeric[]", "{1.5,1.25,3.75}"),
    ("numeric[]", "{1,NULL,0.001}"),
    ("numeric[]", "{100,2.5}"),
    ("oid", "-1"),
];

#[tokio::test(flavor = "multi_thread")]
async fn text_is_read_as_postgres_reads_it() {
    let server = Running::start().await;
    let mut raw = Raw::connect(server.port, "ada");
    let mut wrong = Vec::new();
    for line in VALUES.lines() {
        let row: Vec<Value> = serde_json::from_str(line).unwrap();
        let text = |index: usize| row[index].as_str().unwrap();
        let (kind, sent, outcome, expected) = (text(0), text(2), text(3), text(4));
        let oid = u32::try_from(row[1].as_u64().unwrap()).unwrap();
        for (query, oid) in [("SELECT $1".to_owned(), oid), (format!("SELECT $1::{kind}"), 0)] {
            // Other casts of the planner's own.
            if oid == 0 && ["char", "name", "bpchar", "oid", "inet", "timetz"].contains(&kind.trim_end_matches("[]")) {
                continue;
            }
            let answer = raw.query_with(&query, oid, 0, sent.as_bytes());
            let got = match answer.sqlstate() {
                Some(sqlstate) => ("error", sqlstate),
                None => ("ok", answer.value().unwrap_or("NULL".into())),
            };
            let refused = REFUSED.contains(&(kind, sent));
            if got != (outcome, expected.to_owned()) && !(refused && got.1 == "0A000") {
                wrong.push(format!("{query} of {kind} {sent:?}: {got:?} instead of {outcome} {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
