//! Tests of roles, owners, grants and the password file that a running server follows.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use neuroql::Role;
use neuroql_access::{PasswordFile, User};
use neuroql_pg::Config;
use tempfile::TempDir;
use tokio_postgres::Client;

use crate::{Running, fails, simple, sqlstate};

/// A server with a superuser ada, analysts ann and abe, and a reader bob.
pub struct Lab {
    pub server: Running,
    pub folder: TempDir,
    pub ada: Client,
    pub ann: Client,
    pub abe: Client,
    pub bob: Client,
}

impl Lab {
    pub async fn start() -> Self {
        Self::start_with(Config::default()).await
    }

    /// Starts the lab, in which analysts may register from a folder `data`.
    pub async fn start_with(config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users");
        std::fs::write(&file, "ada:ada:superuser\nann:ann:analyst\nabe:abe:analyst\nbob:bob\n").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("texts.csv"), "text\nimport numpy\n").unwrap();
        let allowed_locations = vec![data.to_str().unwrap().to_owned(), bundled().to_str().unwrap().to_owned()];
        let server = Running::start_with(Config { password_file: Some(file), allowed_locations, ..config }).await;
        let connect = async |name: &str| server.try_connect(&format!("user={name} password={name}")).await.unwrap();
        let (ada, ann, abe, bob) =
            (connect("ada").await, connect("ann").await, connect("abe").await, connect("bob").await);
        Self { server, folder, ada, ann, abe, bob }
    }

    pub fn users(&self) -> PathBuf {
        self.folder.path().join("users")
    }

    /// Registers the bundled model a second time.
    pub async fn second_model(&self, client: &Client, name: &str) {
        let location = bundled();
        let create = format!("create external table {name} stored as model location '{}'", location.display());
        client.batch_execute(&create).await.unwrap();
    }
}

/// The folder of the bundled model.
pub fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/toy").canonicalize().unwrap()
}

async fn runs(client: &Client, sql: &str) {
    client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

async fn denied(client: &Client, sql: &str) {
    assert_eq!(fails(client, sql).await, "42501", "{sql}");
    let error = client.query(sql, &[]).await.map(drop).expect_err(sql);
    assert_eq!(sqlstate(&error), "42501", "{sql}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_file_is_followed() {
    let lab = Lab::start().await;
    let log_in = async |name: &str, password: &str| {
        lab.server.try_connect(&format!("user={name} password={password}")).await.map_err(|e| sqlstate(&e).to_owned())
    };
    assert_eq!(log_in("eve", "secret").await.err().as_deref(), Some("28P01"));
    PasswordFile::edit(&lab.users(), false, |users| users.add(User::new("eve", Role::Analyst), "secret")).unwrap();
    let eve = log_in("eve", "secret").await.unwrap();
    runs(&eve, "create table of_eve as select 1 as a").await;
    assert_eq!(simple(&lab.bob, "select rolname from pg_roles order by 1").await, ["abe", "ada", "ann", "bob", "eve"]);
    PasswordFile::edit(&lab.users(), false, |users| users.set_password("eve", "other")).unwrap();
    assert_eq!(log_in("eve", "secret").await.err().as_deref(), Some("28P01"));
    log_in("eve", "other").await.unwrap();
    PasswordFile::edit(&lab.users(), false, |users| users.remove("eve")).unwrap();
    assert_eq!(log_in("eve", "other").await.err().as_deref(), Some("28P01"));
    // A file that cannot be read changes nothing.
    let text = std::fs::read_to_string(lab.users()).unwrap();
    std::fs::write(lab.users(), "nonsense").unwrap();
    log_in("bob", "bob").await.unwrap();
    std::fs::write(lab.users(), text).unwrap();
    log_in("bob", "bob").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn analysts_own_what_they_create() {
    let lab = Lab::start().await;
    let Lab { ada, ann, abe, bob, .. } = &lab;
    runs(ada, "create table of_ada as select 1 as a").await;
    runs(ann, "create table t (a int)").await;
    runs(ann, "insert into t values (1), (2)").await;
    runs(ann, "update t set a = 3 where a = 2").await;
    runs(ann, "delete from t where a = 1").await;
    runs(ann, "create view v as select a from t").await;
    for other in [abe, bob] {
        assert_eq!(simple(other, "select a from v").await, ["3"]);
        for sql in [
            "insert into t values (9)",
            "update t set a = 9",
            "delete from t",
            "drop table t",
            "drop view v",
            "explain analyze delete from t",
            "prepare p as insert into t values (9)",
        ] {
            denied(other, sql).await;
        }
    }
    for sql in [
        "create or replace table t as select 9 as a",
        "create or replace view v as select 9 as a",
        "create or replace view of_ada as select 9 as a",
        "drop table of_ada",
        "insert into of_ada values (9)",
        "create schema s",
        "create database d",
        "copy t to '/tmp/of_abe.csv'",
        "set datafusion.runtime.memory_limit = '1M'",
        "grant usage on schema toy to abe",
    ] {
        denied(abe, sql).await;
    }
    // A table that is there already is not taken over.
    runs(abe, "create table if not exists t as select 9 as a").await;
    denied(abe, "drop table t").await;
    assert_eq!(simple(abe, "select a from t").await, ["3"]);
    runs(ann, "create or replace table t as select 4 as a").await;
    runs(ann, "drop view v; drop table t").await;
    runs(abe, "create table t as select 5 as a").await;
    denied(ann, "drop table t").await;
    runs(ada, "create or replace table t as select 6 as a").await;
    denied(abe, "drop table t").await;
    // What a transaction dropped comes back with its owner.
    runs(ann, "create table u as select 1 as a").await;
    runs(ann, "begin; drop table u; rollback").await;
    assert_eq!(fails(ann, "drop table u; select 1 / 0").await, "22012");
    runs(ann, "insert into u values (2)").await;
    // Owners outlive the server.
    let kept = PasswordFile::read(&lab.users()).unwrap();
    assert_eq!(kept.privileges().owner("public", "u").map(String::as_str), Some("ann"));
    assert_eq!(kept.privileges().owner("public", "t"), None);
    assert_eq!(kept.privileges().owner("public", "v"), None);
    runs(ann, "begin read only").await;
    assert_eq!(fails(ann, "insert into u values (3)").await, "25006");
    runs(ann, "rollback").await;
    denied(bob, "create table x as select 1 as a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_create_a_table_at_once_do_not_share_it() {
    let lab = Lab::start().await;
    for round in 0..10 {
        let create = format!("create table if not exists race_{round} as select 1 as a");
        let (one, other) = tokio::join!(lab.ann.simple_query(&create), lab.abe.simple_query(&create));
        assert!(one.is_ok() && other.is_ok());
        let insert = format!("insert into race_{round} values (2)");
        let (one, other) = tokio::join!(lab.ann.simple_query(&insert), lab.abe.simple_query(&insert));
        assert!(one.is_ok() != other.is_ok(), "{round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn analysts_register_from_allowed_locations() {
    let lab = Lab::start().await;
    let Lab { ada, ann, abe, bob, folder, .. } = &lab;
    let data = folder.path().join("data");
    let data = data.to_str().unwrap();
    std::fs::write(folder.path().join("secret.csv"), "text\nsecret\n").unwrap();
    std::os::unix::fs::symlink(folder.path().join("secret.csv"), format!("{data}/link.csv")).unwrap();
    let texts = format!(
        "create external table texts stored as csv location '{data}/texts.csv' options ('format.has_header' 'true')"
    );
    denied(bob, &texts).await;
    runs(ann, &texts).await;
    assert_eq!(simple(bob, "select text from texts").await, ["import numpy"]);
    denied(ann, "insert into texts values ('x')").await;
    for location in [
        "/etc/passwd",
        &format!("{data}/../secret.csv"),
        &format!("{data}/link.csv"),
        &format!("{data}/"),
        &format!("file://{data}/%2e%2e/secret.csv"),
        "/no/such/file.csv",
        "https://127.0.0.1:1/x.csv",
    ] {
        let csv = format!("create external table x stored as csv location '{location}'");
        denied(ann, &csv).await;
        let model = format!("create external table x stored as model location '{location}'");
        denied(ann, &model).await;
    }
    let model = bundled();
    let elsewhere = format!(
        "create external table m stored as model location '{}' options ('tokenizer' '/etc/passwd')",
        model.display()
    );
    denied(ann, &elsewhere).await;
    lab.second_model(ann, "of_ann").await;
    assert_eq!(simple(bob, "select count(*) from of_ann.neurons where layer = 0").await, ["512"]);
    runs(ann, "insert into of_ann.graphs select * from build_graphs('of_ann', layers => '0', neurons => '1', method => 'token')")
        .await;
    denied(bob, "insert into of_ann.graphs select * from of_ann.graphs").await;
    denied(abe, "delete from of_ann.graphs").await;
    denied(abe, "drop table of_ann").await;
    denied(ann, "delete from toy.graphs").await;
    runs(ann, "delete from of_ann.graphs").await;
    runs(ann, "select * from analyze('of_ann', 'texts', layers => '0')").await;
    denied(bob, "select * from analyze('of_ann', 'texts', layers => '0')").await;
    runs(ann, "drop table of_ann; drop table texts").await;
    runs(ada, &format!("create external table secret stored as csv location '{}/secret.csv'", folder.path().display()))
        .await;
}

/// Checks that a model whose use is revoked is refused wherever it is named, and left out where all models are read.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_model_is_refused_everywhere() {
    let lab = Lab::start().await;
    let Lab { ada, ann, bob, .. } = &lab;
    lab.second_model(ada, "smol").await;
    runs(ada, "create view of_smol as select neuron from smol.neurons where layer = 0").await;
    runs(ada, "create view tokens_of_smol as select tokenize('smol', 'import') as ids").await;
    runs(ada, "create view top_of_smol as select neuron from top_neurons('smol', 'import', k => 1)").await;
    runs(bob, "prepare look (int) as select count(*) from smol.neurons where layer = $1").await;
    runs(bob, "prepare run as select activation('smol', 0, 1, 'import')").await;
    let kept = bob.prepare("select neuron from smol.neurons where layer = $1 and neuron = $2").await.unwrap();
    for _ in 0..3 {
        assert_eq!(bob.query(&kept, &[&1i32, &2i32]).await.unwrap().len(), 1);
    }
    runs(bob, "execute look(0); execute run").await;
    let queries = [
        "select * from smol.neurons",
        "select * from smol",
        "select * from smol.vocabulary limit 1",
        "select * from smol.weights limit 1",
        "select * from smol.activations where text = 'import'",
        "select * from smol.graphs",
        "explain select * from smol.neurons",
        "select * from of_smol",
        "select * from tokens_of_smol",
        "select * from top_of_smol",
        "select 1 where exists (select 1 from smol.neurons)",
        "with s as (select * from smol.neurons) select count(*) from s",
        "select activation('smol', 0, 1, 'import')",
        "select activation(m, 0, 1, 'import') from (values ('smol')) t(m)",
        "select generate('smol', 'import', 2)",
        "select generate(m, 'import', 2) from (values ('smol')) t(m)",
        "select tokenize('smol', 'import')",
        "select tokens('smol', 'import')",
        "select detokenize('smol', array[1])",
        "select * from top_neurons('smol', 'import')",
        "select * from top_neurons where model = 'smol' and text = 'import'",
        "select * from next_tokens('smol', 'import')",
        "select * from loss('smol', 'import')",
        "select * from search(model => 'smol', query => 'activating:import')",
        "select * from search where of_model = 'smol' and query = 'activating:import'",
        "select * from similar_neurons('smol', 1, 480)",
        "select * from similar_neurons('toy', 1, 480, other => 'smol')",
        "select * from similar_pairs('smol')",
        "select * from similar_pairs('toy', other => 'smol')",
        "select * from neuron_graph('smol', 1, 480)",
        "select * from build_graphs('smol', layers => '0', neurons => '1', method => 'token')",
        "select * from evaluate_graphs('smol')",
        "select * from simulate_graphs('smol', 'import')",
        "select * from verify_model('smol')",
        "select * from correlations('smol', layers => '0')",
        "select * from correlations('toy', other => 'smol', layers => '0', other_layers => '0')",
        "execute look(0)",
        "execute run",
    ];
    runs(ada, "revoke usage on schema smol from public").await;
    for sql in queries {
        assert_eq!(fails(bob, sql).await, "42501", "{sql}");
    }
    assert_eq!(sqlstate(&bob.query(&kept, &[&1i32, &2i32]).await.unwrap_err()), "42501");
    denied(ann, "insert into smol.graphs select * from toy.graphs where false").await;
    let counted = [
        ("select count(*) from models", "1"),
        ("select count(distinct model) from neurons", "1"),
        ("select count(distinct model) from activations where text = 'import'", "1"),
        ("select count(distinct model) from search(query => 'activating:import')", "1"),
        ("select count(*) from information_schema.tables where table_schema = 'smol'", "0"),
        ("select count(*) from information_schema.columns where table_schema = 'smol'", "0"),
        ("select count(*) from information_schema.schemata where schema_name = 'smol'", "0"),
    ];
    for (sql, count) in counted {
        assert_eq!(simple(bob, sql).await, [count], "{sql}");
        // No graph of it was kept.
        if !sql.contains("search") {
            assert_ne!(simple(ada, sql).await, [count], "{sql}");
        }
    }
    let error = bob.simple_query("select tokenize('nothing', 'x')").await.unwrap_err();
    assert!(!error.as_db_error().unwrap().message().contains("smol"));
    // Superusers use every model, and a grant is one of a user.
    runs(ada, "select * from of_smol limit 1").await;
    runs(ada, "grant usage on schema smol to bob").await;
    for sql in [
        "select * from of_smol",
        "select * from tokens_of_smol",
        "select * from top_of_smol",
        "execute look(0)",
        "execute run",
    ] {
        runs(bob, sql).await;
    }
    assert_eq!(bob.query(&kept, &[&1i32, &2i32]).await.unwrap().len(), 1);
    denied(ann, "select * from smol.neurons").await;
    // The password file keeps it.
    let file = PasswordFile::read(&lab.users()).unwrap();
    let hidden = |name: &str| file.privileges().hidden(file.user(name).unwrap());
    assert_eq!((hidden("ann"), hidden("bob")), (vec!["smol".to_owned()], vec![]));
    runs(ada, "revoke all on schema smol from bob").await;
    denied(bob, "select * from smol.neurons").await;
    runs(ada, "grant all privileges on schema smol to public").await;
    runs(bob, "select * from smol.neurons limit 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_are_refused_by_name() {
    let lab = Lab::start().await;
    let ada = &lab.ada;
    for (sql, expected) in [
        ("grant usage on schema nothing to bob", "3F000"),
        ("grant usage on schema public to bob", "0A000"),
        ("grant usage on schema toy to nobody", "42704"),
        ("grant select on schema toy to bob", "0LP01"),
        ("grant select on models to bob", "0A000"),
        ("grant select on all tables in schema toy to bob", "0A000"),
        ("grant usage on schema toy to bob with grant option", "0A000"),
        ("grant usage on schema toy, nothing to bob", "3F000"),
    ] {
        assert_eq!(fails(ada, sql).await, expected, "{sql}");
    }
    assert_eq!(fails(ada, "begin; revoke usage on schema toy from public").await, "25001");
    runs(ada, "rollback").await;
    runs(ada, "set default_transaction_read_only = on").await;
    assert_eq!(fails(ada, "revoke usage on schema toy from public").await, "25006");
    denied(&lab.bob, "revoke usage on schema toy from public").await;
    let open = Running::start().await;
    assert_eq!(fails(&open.connect().await, "revoke usage on schema toy from public").await, "55000");
    assert_eq!(PasswordFile::read(&lab.users()).unwrap().privileges(), &neuroql_access::Privileges::default());
}

/// Checks that a table or model of a later server does not belong to who owned its name before.
#[tokio::test(flavor = "multi_thread")]
async fn owners_of_what_is_gone_are_forgotten() {
    let lab = Lab::start().await;
    lab.second_model(&lab.ann, "smol").await;
    runs(&lab.ann, "create table t as select 1 as a").await;
    let owner = |table: &str| {
        let file = PasswordFile::read(&lab.users()).unwrap();
        file.privileges().owner("public", table).cloned()
    };
    assert_eq!((owner("smol").as_deref(), owner("t").as_deref()), (Some("ann"), Some("ann")));
    let engine = neuroql::Engine::builder().build().unwrap();
    engine.register_model("smol", bundled().to_str().unwrap(), neuroql::Options::default()).await.unwrap();
    let config = Config { password_file: Some(lab.users()), ..Config::default() };
    let later = Running::over(engine, config).await;
    assert_eq!((owner("smol"), owner("t")), (None, None));
    let ann = later.try_connect("user=ann password=ann").await.unwrap();
    denied(&ann, "drop table smol").await;
    runs(&lab.ann, "drop table smol").await;
}
