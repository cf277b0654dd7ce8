//! Tests of logins and permissions.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use neuroql_pg::{Config, Server, TlsFiles};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::{Client, NoTls};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::raw::{self, Raw};
use crate::{ENDLESS, Running, fails, simple, sqlstate};

/// Parameters of bob's connections.
pub const BOB: &str = "user=bob password=p\u{e4}ss";

const USERS: &str = "ada:secret:superuser\nbob:p\u{e4}ss\n";

pub fn password_file(folder: &Path) -> PathBuf {
    let file = folder.join("users");
    std::fs::write(&file, USERS).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let password_file = Some(password_file(folder.path()));
    let server = Running::start_with(Config { password_file, ..Config::default() }).await;
    let client = server.try_connect("user=ada password=secret").await.unwrap();
    assert_eq!(simple(&client, "select current_user").await, ["ada"]);
    assert_eq!(simple(&client, "select rolname from pg_roles order by 1").await, ["ada", "bob"]);
    server.try_connect("user=bob password=p\u{e4}ss").await.unwrap();
    for wrong in ["user=ada password=wrong", "user=eve password=secret", "user=bob password=secret"] {
        let error = server.try_connect(wrong).await.expect_err(wrong);
        assert_eq!(sqlstate(&error), "28P01", "{wrong}");
    }
}

/// Checks that users who are not superusers do not see locations of files and options to open them.
#[tokio::test(flavor = "multi_thread")]
async fn only_superusers_see_definitions_of_files() {
    let folder = tempfile::tempdir().unwrap();
    let password_file = Some(password_file(folder.path()));
    let server = Running::start_with(Config { password_file, ..Config::default() }).await;
    let ada = server.try_connect("user=ada password=secret").await.unwrap();
    let bob = server.try_connect(BOB).await.unwrap();
    let file = folder.path().join("secret-place.csv");
    std::fs::write(&file, "text\na\n").unwrap();
    let create = format!(
        "create external table hidden stored as csv location '{}' options ('format.has_header' 'true')",
        file.display()
    );
    ada.batch_execute(&create).await.unwrap();
    ada.batch_execute("create view shown as select text from hidden").await.unwrap();
    ada.batch_execute("create view definitions as select definition from information_schema.views").await.unwrap();
    let queries = [
        "select definition from information_schema.views where table_name = 'hidden'",
        "select v.* from information_schema.views v, (values (1)) t(a) where table_name = 'hidden'",
        "select min(definition) from definitions",
        "show create table hidden",
        "select location from datasets where dataset = 'hidden'",
        "select * from datasets order by location",
        "with d as (select location from datasets) select (select max(location) from d)",
        "select location from models",
    ];
    let all = async |client: &tokio_postgres::Client, sql: &str| {
        let messages = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let values = messages.iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let values = values.flat_map(|row| (0..row.len()).filter_map(|column| row.get(column).map(str::to_owned)));
        values.collect::<Vec<_>>().join(" ")
    };
    for sql in queries {
        let (seen, hidden) = (all(&ada, sql).await, all(&bob, sql).await);
        assert!(seen.contains("secret-place") || seen.contains("bundled"), "{sql}: {seen}");
        assert!(!hidden.contains("secret-place") && !hidden.contains("bundled"), "{sql}: {hidden}");
    }
    assert_eq!(fails(&bob, "prepare p(text) as select $1; execute p((select definition from nothing))").await, "42P01");
    let sql = "prepare q(text) as select $1;
               execute q((select max(definition) from information_schema.views where table_name = 'hidden'))";
    assert_eq!(all(&bob, sql).await, "");
    assert!(
        all(&bob, "select definition from information_schema.views where table_name = 'shown'").await.contains("text")
    );
    assert_eq!(simple(&bob, "select text from hidden").await, ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_superusers_change_anything() {
    let folder = tempfile::tempdir().unwrap();
    let password_file = Some(password_file(folder.path()));
    let server = Running::start_with(Config { password_file, ..Config::default() }).await;
    let ada = server.try_connect("user=ada password=secret").await.unwrap();
    let bob = server.try_connect("user=bob password=p\u{e4}ss").await.unwrap();
    ada.simple_query("create table t as select 1 as a; create view v as select a from t").await.unwrap();
    ada.simple_query("create view progress as select 'x' as text from analyze('toy', 'corpus')").await.unwrap();
    let target = folder.path().join("out.parquet");
    let target = target.display();
    let forbidden = [
        "create table x(a int)".to_string(),
        "create table x as select 1".into(),
        "create view x as select 1".into(),
        "create schema x".into(),
        "create database x".into(),
        "create external table x stored as csv location '/etc/passwd'".into(),
        "insert into t values (2)".into(),
        "delete from t".into(),
        "update t set a = 2".into(),
        "drop table t".into(),
        "drop view v".into(),
        format!("copy (select 1) to '{target}'"),
        format!("copy t to '{target}'"),
        "explain analyze insert into t values (2)".into(),
        "explain (analyze) delete from t".into(),
        format!("explain analyze copy (select 1) to '{target}'"),
        "prepare p as insert into t values (2)".into(),
        "prepare p as delete from t".into(),
        "set datafusion.runtime.memory_limit = '1M'".into(),
        "reset datafusion.runtime.memory_limit".into(),
        "select * from analyze('toy', 'corpus')".into(),
        "explain analyze select * from analyze('toy', 'corpus')".into(),
        "select * from analyze where model = 'toy' and dataset = 'corpus'".into(),
        "select 1 where exists (select 1 from \"neuroql\".public.analyze('toy', 'corpus'))".into(),
        "select * from progress".into(),
        "select count(*) from toy.activations where dataset = 'progress' and layer = 0 and neuron = 0".into(),
        "create external table m stored as model location '/nowhere'".into(),
        "select * from build_graphs('toy', neurons => '0', options => '{\"masked_lm\": \"/nowhere\"}')".into(),
        "select * from verify_model('toy', reference => '/etc/passwd')".into(),
    ];
    for query in &forbidden {
        assert_eq!(fails(&bob, query).await, "42501", "{query}");
        let error = bob.query(query.as_str(), &[]).await.map(drop).expect_err(query);
        assert_eq!(sqlstate(&error), "42501", "{query}");
    }
    assert!(!folder.path().join("out.parquet").exists());
    let allowed = [
        "select * from t",
        "select * from v",
        "explain analyze select * from t",
        "prepare q as select a from t",
        "execute q",
        "set datafusion.execution.batch_size = 100",
        "set statement_timeout = 1000",
        "show all",
        "begin; select 1; rollback",
        "select table_name from information_schema.tables",
        "select relname from pg_class",
        "select rolname from pg_roles",
        "select * from information_schema.df_settings",
        "select * from verify_model('toy')",
    ];
    for query in allowed {
        assert!(bob.simple_query(query).await.is_ok(), "{query}");
    }
    assert_eq!(simple(&ada, "select count(*) from t").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn unsafe_configurations_do_not_start() {
    let engine = neuroql::Engine::builder().build().unwrap();
    let refused = async |config: Config| match Server::bind(&engine, config).await {
        Ok(_) => panic!("the server starts"),
        Err(error) => error.to_string(),
    };
    let listen = |listen: &str| Config { listen: listen.into(), ..Config::default() };
    assert!(refused(listen("0.0.0.0:0")).await.contains("password file"));
    assert!(refused(listen("[::]:0")).await.contains("password file"));
    assert!(refused(listen("nonsense")).await.contains("cannot listen"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(refused(listen(&taken.local_addr().unwrap().to_string())).await.contains("another server"));

    let tls = |certificate: &Path, key: &Path| Config {
        tls: Some(TlsFiles { certificate: certificate.into(), key: key.into(), client_authorities: None }),
        ..listen("127.0.0.1:0")
    };
    let garbage = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(garbage.path(), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
    assert!(refused(tls(&pem("ec.pem"), Path::new("/nowhere"))).await.contains("/nowhere"));
    assert!(refused(tls(Path::new("/nowhere"), &pem("ec-sec1.key"))).await.contains("/nowhere"));
    assert!(refused(tls(&pem("ec.pem"), garbage.path())).await.contains("TLS"));
    assert!(refused(tls(garbage.path(), &pem("ec-sec1.key"))).await.contains("no certificate"));
    assert!(refused(tls(&pem("ec.pem"), &pem("rsa-pkcs1.key"))).await.contains("does not fit"));
    for (certificate, key) in [("ec.pem", "ec-pkcs8.key"), ("ec.pem", "ec-sec1.key"), ("rsa.pem", "rsa-pkcs1.key")] {
        assert!(Server::bind(&engine, tls(&pem(certificate), &pem(key))).await.is_ok(), "{key}");
    }
}

/// Returns the path of a certificate or key.
fn pem(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

/// Connects over TLS, perhaps with a certificate of these files. If `is_direct`, TLS begins without a request for it.
async fn over_tls(
    server: &Running,
    parameters: &str,
    certificate: Option<&str>,
    is_direct: bool,
) -> Result<Client, tokio_postgres::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pem("ec.pem")).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match certificate {
        Some(name) => {
            let chain = vec![CertificateDer::from_pem_file(pem(&format!("{name}.pem"))).unwrap()];
            let key = PrivateKeyDer::from_pem_file(pem(&format!("{name}.key"))).unwrap();
            config.with_client_auth_cert(chain, key).unwrap()
        }
        None => config.with_no_client_auth(),
    };
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    if is_direct {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    } else {
        stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'S');
    }
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    let mut options: tokio_postgres::Config = parameters.parse().unwrap();
    options.ssl_mode(tokio_postgres::config::SslMode::Disable);
    let (client, connection) = options.connect_raw(stream, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_connections() {
    let tls = Some(TlsFiles { certificate: pem("ec.pem"), key: pem("ec-pkcs8.key"), client_authorities: None });
    let server = Running::start_with(Config { tls, ..Config::default() }).await;
    for is_direct in [false, true] {
        let client = over_tls(&server, "user=ada", None, is_direct).await.unwrap();
        assert_eq!(simple(&client, "select 1").await, ["1"]);
    }
    // Without encryption from this machine: allowed.
    assert_eq!(simple(&server.connect().await, "select 1").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_clients() {
    let folder = tempfile::tempdir().unwrap();
    let password_file = folder.path().join("users");
    std::fs::write(&password_file, "ann:secret:analyst\nbob:secret:reader\n").unwrap();
    std::fs::set_permissions(&password_file, PermissionsExt::from_mode(0o600)).unwrap();
    let rules = folder.path().join("hosts");
    let lines = [
        "hostssl one all all cert",
        "hostssl two all all scram-sha-256 clientcert=verify-full",
        "hostssl three all all scram-sha-256 clientcert=verify-ca",
        "hostssl four all all scram-sha-256",
        "host all all all scram-sha-256",
    ];
    std::fs::write(&rules, lines.join("\n")).unwrap();
    let tls = |client_authorities| {
        Some(TlsFiles { certificate: pem("ec.pem"), key: pem("ec-pkcs8.key"), client_authorities })
    };
    let config = Config {
        password_file: Some(password_file),
        host_rules: Some(rules),
        tls: tls(Some(pem("client-ca.pem"))),
        ..Config::default()
    };
    let server = Running::start_with(config.clone()).await;

    let connect = async |parameters: &str, name| over_tls(&server, parameters, name, false).await;
    let ann = Some("client-ann");
    let client = connect("user=ann dbname=one", ann).await.unwrap();
    assert_eq!(simple(&client, "select current_user").await, ["ann"]);
    assert!(connect("user=ann password=secret dbname=two", ann).await.is_ok());
    assert!(connect("user=bob password=secret dbname=three", ann).await.is_ok());
    // Nobody needs one who is not asked for it.
    assert!(connect("user=bob password=secret dbname=four", ann).await.is_ok());
    assert!(connect("user=bob password=secret dbname=four", None).await.is_ok());

    for (parameters, name, code) in [
        ("user=bob dbname=one", ann, "28000"),
        ("user=eve dbname=one", ann, "28000"),
        ("user=ann password=secret dbname=one", None, "28000"),
        ("user=ann password=wrong dbname=two", ann, "28P01"),
        ("user=bob password=secret dbname=two", ann, "28000"),
        ("user=bob password=secret dbname=two", None, "28000"),
        ("user=bob password=wrong dbname=three", ann, "28P01"),
        ("user=bob password=secret dbname=three", None, "28000"),
    ] {
        let error = connect(parameters, name).await.err().unwrap();
        assert_eq!(sqlstate(&error), code, "{parameters} {name:?}");
    }
    // Another authority signed this one: there is no conversation.
    let error = connect("user=ann dbname=one", Some("client-stranger")).await.err().unwrap();
    assert!(error.code().is_none(), "{error}");

    // Rules that ask for certificates nobody could show do not start a server.
    let engine = neuroql::Engine::builder().build().unwrap();
    let start = async |tls| {
        let config = Config { listen: "127.0.0.1:0".into(), tls, ..config.clone() };
        Server::bind(&engine, config).await.err().unwrap().to_string()
    };
    assert!(start(tls(None)).await.contains("--tls-client-ca"));
    assert!(start(tls(Some(pem("ec-sec1.key")))).await.contains("no certificate"));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_clients_are_told_so() {
    let server = Running::start_with(Config { max_connections: 2, ..Config::default() }).await;
    let one = server.connect().await;
    let two = server.connect().await;
    let error = server.try_connect("user=ada").await.err().unwrap();
    assert_eq!(sqlstate(&error), "53300");
    // A cancel request needs no place of its own.
    let (token, tables) = (one.cancel_token(), Arc::clone(&server.tables));
    tokio::spawn(async move {
        tables.until_running(1).await;
        token.cancel_query(NoTls).await.unwrap();
    });
    assert_eq!(fails(&one, ENDLESS).await, "57014");
    drop(two);
    // The server frees the slot when it sees that the client has gone.
    let start = Instant::now();
    while let Err(error) = server.try_connect("user=ada").await {
        assert_eq!(sqlstate(&error), "53300");
        assert!(start.elapsed() < Duration::from_secs(20), "the slot is not freed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_at_the_door_harms_nobody() {
    use proptest::prelude::*;
    use proptest::test_runner::{Config as Cases, TestRunner};

    let server = Running::start().await;
    let port = server.port;
    tokio::task::spawn_blocking(move || {
        let packet = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            // Plausible headers with any length and rest.
            (
                any::<i32>(),
                prop_oneof![Just(196_608), Just(80_877_102), Just(80_877_103), any::<i32>()],
                proptest::collection::vec(any::<u8>(), 0..100)
            )
                .prop_map(|(length, code, rest)| [&length.to_be_bytes()[..], &code.to_be_bytes(), &rest].concat()),
            // A client that was let in and then talks nonsense.
            (any::<u8>(), any::<i32>(), proptest::collection::vec(any::<u8>(), 0..100)).prop_map(
                |(kind, length, rest)| [&raw::startup("ada")[..], &[kind], &length.to_be_bytes(), &rest].concat()
            ),
            (
                prop_oneof![Just(b'Q'), Just(b'P'), Just(b'B'), Just(b'E'), Just(b'D'), Just(b'C'), Just(b'p')],
                proptest::collection::vec(any::<u8>(), 0..60)
            )
                .prop_map(|(kind, rest)| {
                    let length = i32::try_from(rest.len()).unwrap() + 4;
                    [&raw::startup("ada")[..], &[kind], &length.to_be_bytes(), &rest].concat()
                }),
        ];
        let mut runner = TestRunner::new(Cases { cases: 256, failure_persistence: None, ..Cases::default() });
        runner
            .run(&packet, |bytes| {
                raw::throw(port, &bytes);
                Ok(())
            })
            .unwrap();
        let mut raw = Raw::connect(port, "ada");
        assert_eq!(raw.query("select 1").tags(), ["SELECT 1"]);
    })
    .await
    .unwrap();
}
