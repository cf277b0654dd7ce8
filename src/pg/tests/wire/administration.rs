//! Tests of what an administrator sets: host rules, limits of users, the audit log; and of what others do not see.

use std::time::Duration;

use neuroql_pg::Config;
use tokio_postgres::NoTls;

use crate::privileges::{Lab, bundled};
use crate::{ENDLESS, Running, fails, simple, sqlstate};

/// Starts a server with these users.
async fn with_users(folder: &std::path::Path, users: &str, config: Config) -> Running {
    use std::os::unix::fs::PermissionsExt;
    let file = folder.join("users");
    std::fs::write(&file, users).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    Running::start_with(Config { password_file: Some(file), ..config }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn host_rules_decide_who_may_connect() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("hosts");
    std::fs::write(
        &rules,
        "host all bob all reject\nhost lab ann 127.0.0.0/8 scram-sha-256\nhostssl all all all scram-sha-256\n",
    )
    .unwrap();
    let config = Config { host_rules: Some(rules.clone()), ..Config::default() };
    let server = with_users(folder.path(), "ann:ann:analyst\nbob:bob:superuser\n", config.clone()).await;
    assert!(server.try_connect("user=ann password=ann dbname=lab").await.is_ok());
    for (client, message) in [
        ("user=bob password=bob dbname=lab", "host rules reject connection for host \"127.0.0.1\", user \"bob\""),
        (
            "user=ann password=ann dbname=other",
            "no host rule for host \"127.0.0.1\", user \"ann\", database \"other\", no encryption",
        ),
        ("user=ann password=ann", "database \"ann\""),
    ] {
        let error = server.try_connect(client).await.err().unwrap();
        assert_eq!(sqlstate(&error), "28000", "{client}");
        assert!(error.as_db_error().unwrap().message().contains(message), "{client}: {error:?}");
    }
    std::fs::write(&rules, "host all all all trust\n").unwrap();
    let engine = neuroql::Engine::builder().build().unwrap();
    let listen = Config { listen: "127.0.0.1:0".into(), ..config };
    let error = neuroql_pg::Server::bind(&engine, listen).await.err().unwrap().to_string();
    assert!(error.contains("line 1") && error.contains("trust"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_a_user() {
    let folder = tempfile::tempdir().unwrap();
    let users = "ada:ada:superuser\nann:ann:analyst,max_connections=3,max_statements=1,statement_timeout=20s,max_statement_timeout=1min\n\
                 bob:bob:reader,memory=2MB\n";
    let server =
        with_users(folder.path(), users, Config { max_connections_per_user: Some(2), ..Config::default() }).await;
    let connect = async |name: &str| server.try_connect(&format!("user={name} password={name}")).await;
    let (one, two, three) =
        (connect("ann").await.unwrap(), connect("ann").await.unwrap(), connect("ann").await.unwrap());
    assert_eq!(sqlstate(&connect("ann").await.err().unwrap()), "53300");
    let _bobs = (connect("bob").await.unwrap(), connect("bob").await.unwrap());
    assert_eq!(sqlstate(&connect("bob").await.err().unwrap()), "53300");

    assert_eq!(simple(&one, "show statement_timeout").await, ["20s"]);
    one.batch_execute("set statement_timeout = 0").await.unwrap();

    // One statement at a time: the second waits, as long as it may run.
    let token = one.cancel_token();
    let running = tokio::spawn(async move { fails(&one, ENDLESS).await });
    server.tables.until_running(1).await;
    two.batch_execute("set statement_timeout = '300ms'").await.unwrap();
    assert_eq!(fails(&two, "select 1").await, "57014");
    assert_eq!(simple(&two, "show statement_timeout").await, ["300ms"]);
    let waiting = async {
        two.batch_execute("set statement_timeout = '20s'").await.and(two.query("select 1", &[]).await.map(drop))
    };
    let (waited, ()) = tokio::join!(waiting, async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        token.cancel_query(NoTls).await.unwrap();
    });
    waited.unwrap();
    assert_eq!(running.await.unwrap(), "57014");

    // A transaction that others may wait for does not wait for them.
    two.batch_execute("create table t as select 1 as a; begin; insert into t values (2)").await.unwrap();
    let insert = tokio::spawn(async move { three.batch_execute("insert into t values (3)").await.map(|()| three) });
    tokio::time::timeout(Duration::from_secs(15), async {
        two.batch_execute("insert into t values (4); commit").await.unwrap();
        insert.await.unwrap().unwrap();
    })
    .await
    .unwrap();
    assert_eq!(simple(&two, "select count(*) from t").await, ["4"]);

    let join = "select count(*) from generate_series(1, 1000000) a(x) join generate_series(1, 1000000) b(y) on x = y";
    assert_eq!(fails(&_bobs.0, join).await, "53200");
    assert_eq!(simple(&connect("ada").await.unwrap(), join).await, ["1000000"]);
    assert_eq!(simple(&_bobs.0, "select 1").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_tells_who_did_what() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.log");
    let lab = Lab::start_with(Config { audit_log: Some(file.clone()), ..Config::default() }).await;
    lab.server.try_connect("user=bob password=hunter2").await.err().unwrap();
    let path = lab.folder.path().display();
    for (client, sql) in [
        (&lab.bob, "drop table toy".to_owned()),
        (&lab.bob, "explain analyze create table x as select 'hunter2' as a".to_owned()),
        (&lab.ann, "create external table texts stored as csv location 's3://me:hunter2@bucket/x'".to_owned()),
        (
            &lab.ann,
            format!(
                "create external table texts stored as csv location '{path}/data/texts.csv' options ('format.has_header' 'true')"
            ),
        ),
        (&lab.ann, "create view \"V \u{e4}\" as select 'hunter2' as a".to_owned()),
        (&lab.ada, "revoke usage on schema toy from public".to_owned()),
        (&lab.bob, "select * from toy.neurons".to_owned()),
        (&lab.bob, "select tokenize('toy', 'hunter2')".to_owned()),
        (&lab.ann, "drop table texts".to_owned()),
        (&lab.bob, "select * from nothing".to_owned()),
    ] {
        let _ = client.simple_query(&sql).await;
    }
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("hunter2"), "{text}");
    let events: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told = events.iter().map(|event| {
        let field = |name: &str| event[name].as_str().unwrap_or_default();
        assert!(field("client").starts_with("127.0.0.1:") && field("time").starts_with("20"), "{event}");
        let what = match field("event") {
            "changed" => format!("{} {}", field("command"), field("object")),
            "log_in_failed" | "refused" => field("sqlstate").to_owned(),
            _ => String::new(),
        };
        format!("{} {} {what}", field("user"), field("event"))
    });
    let told: Vec<_> = told.collect();
    assert_eq!(
        told[4..],
        [
            "bob log_in_failed 28P01",
            "bob refused 42501",
            "bob refused 42501",
            "ann refused 42501",
            "ann changed CREATE EXTERNAL TABLE public.texts",
            "ann changed CREATE VIEW public.V \u{e4}",
            "ada changed REVOKE toy from public",
            "bob refused 42501",
            "bob refused 42501",
            "ann changed DROP TABLE public.texts",
        ]
    );
    let mut log_ins = told[..4].to_vec();
    log_ins.sort();
    assert_eq!(log_ins, ["abe log_in ", "ada log_in ", "ann log_in ", "bob log_in "]);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_no_paths() {
    let lab = Lab::start().await;
    let folder = lab.folder.path().join("secret-place");
    std::fs::create_dir(&folder).unwrap();
    for file in ["a", "b"] {
        std::fs::write(folder.join(format!("{file}.csv")), "text\nx\n").unwrap();
    }
    let create = format!(
        "create external table hidden stored as csv location '{}/' options ('format.has_header' 'true')",
        folder.display()
    );
    lab.ada.batch_execute(&create).await.unwrap();
    for sql in [
        "explain select * from hidden",
        "explain verbose select * from hidden where text = 'x'",
        "explain analyze select * from hidden order by text",
        "explain (format tree) select * from hidden",
    ] {
        let rows = async |client: &tokio_postgres::Client| {
            let messages = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            let texts = messages.iter().filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).filter_map(|c| row.get(c)).collect::<String>())
                }
                _ => None,
            });
            texts.collect::<Vec<_>>().join("\n")
        };
        let (seen, hidden) = (rows(&lab.ada).await, rows(&lab.bob).await);
        assert!(!hidden.contains("secret-place"), "{sql}: {hidden}");
        assert_eq!(seen.contains("file_groups"), hidden.contains("file_groups"), "{sql}");
        assert_eq!(seen.lines().count(), hidden.lines().count(), "{sql}");
    }
    assert!(simple(&lab.ada, "explain select * from hidden").await.len() > 1);
    // Errors of files that are gone.
    let gone = format!("create external table gone stored as parquet location '{}/c.parquet'", folder.display());
    std::fs::copy(bundled().join("corpus.parquet"), folder.join("c.parquet")).unwrap();
    lab.ada.batch_execute(&gone).await.unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let message = async |client: &tokio_postgres::Client, sql: &str| match client.simple_query(sql).await {
        Ok(_) => String::new(),
        Err(error) => error.as_db_error().unwrap().message().to_owned(),
    };
    let mut told = 0;
    for sql in ["select * from gone", "select count(*) from gone where text = 'x'", "select * from hidden"] {
        told += usize::from(message(&lab.ada, sql).await.contains("secret-place"));
        let hidden = message(&lab.bob, sql).await;
        assert!(!hidden.contains("secret-place"), "{hidden}");
    }
    assert!(told > 0, "no error names a file");
}
