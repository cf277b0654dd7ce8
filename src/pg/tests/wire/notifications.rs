//! Tests of LISTEN and NOTIFY, and of numbers of transactions.

use crate::raw::Raw;
use crate::{Running, fails, simple};

#[tokio::test(flavor = "multi_thread")]
async fn messages_reach_who_listens() {
    let server = Running::start().await;
    let port = server.port;
    tokio::task::spawn_blocking(move || {
        let (mut one, mut two) = (Raw::connect(port, "ada"), Raw::connect(port, "ada"));
        let sender = two.query("select pg_backend_pid()").value().unwrap();
        let of = |channel: &str, payload: &str| (sender.clone(), channel.to_owned(), payload.to_owned());
        assert_eq!(one.query("listen a; listen \"B c\"").tags(), ["LISTEN", "LISTEN"]);
        assert_eq!(one.query("select string_agg(c, ' ' order by c) from pg_listening_channels() c").value().unwrap(), "B c a");
        // A client that waits gets them at once.
        assert_eq!(two.query("notify a, 'x'; notify A; notify \"B c\", 'y'; notify d").tags().len(), 4);
        let mut found = Vec::new();
        while found.len() < 3 {
            found.extend(one.read_until(b'A').notifications());
        }
        assert_eq!(found, [of("a", "x"), of("a", ""), of("B c", "y")]);
        // A transaction sends them when it commits, each once.
        two.query("begin; notify a, '1'; notify a, '1'; savepoint s; notify a, '2'; rollback to s; select pg_notify('a', '3')");
        assert!(one.query("select 1").notifications().is_empty());
        two.query("commit");
        let mut found = one.query("select 1").notifications();
        while found.len() < 2 {
            found.extend(one.read_until(b'A').notifications());
        }
        assert_eq!(found, [of("a", "1"), of("a", "3")]);
        two.query("begin; notify a, 'undone'; rollback");
        two.query("notify a, 'undone'; select 1/0");
        // They wait for the end of the reader's transaction, and those of a session for itself come with its answer.
        one.query("begin");
        two.query("notify a, 'late'");
        assert!(one.query("select 1").notifications().is_empty());
        assert_eq!(one.query("commit").notifications(), [of("a", "late")]);
        let own = one.query("notify a, 'own'").notifications();
        assert_eq!((own.len(), own[0].2.as_str()), (1, "own"));
        one.query("unlisten a");
        one.query("begin; listen d; rollback");
        two.query("notify a; notify d; notify \"B c\"");
        assert_eq!(one.read_until(b'A').notifications(), [of("B c", "")]);
        one.query("discard all");
        assert_eq!(one.query("select count(*) from pg_listening_channels()").value().unwrap(), "0");
    })
    .await
    .unwrap();
    let client = server.connect().await;
    for (query, code) in [
        ("select pg_notify('', 'x')", "22023"),
        ("select pg_notify(repeat('x', 64), 'x')", "22023"),
        ("select pg_notify('x', repeat('x', 8000))", "22023"),
        ("notify x, 1", "42601"),
    ] {
        assert_eq!(fails(&client, query).await, code, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_have_numbers() {
    let server = Running::start().await;
    let client = server.connect().await;
    let number = async |query: &str| simple(&client, query).await.pop().unwrap().parse::<i64>().unwrap();
    let first = number("begin; select txid_current()").await;
    assert_eq!(number("select txid_current()").await, first);
    assert!(number("commit; select txid_current()").await > first);
    assert_eq!(simple(&client, "select txid_current() = txid_current()").await, ["t"]);
    let other = server.connect().await;
    assert_ne!(simple(&other, "select txid_current()").await, simple(&client, "select txid_current()").await);
}
