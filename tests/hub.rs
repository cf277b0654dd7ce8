//! Checkpoints of training: revisions of a repository on a small Hugging Face hub of this process, and the queries that
//! follow a neuron over them.

#![expect(clippy::print_stderr, reason = "a child says to its parent how it ended")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, ExitCode};

use datafusion::prelude::SessionContext;
use libtest_mimic::Trial;
use neuroql::{Engine, Store};

use crate::answers::{Cell, cells, rows};
use crate::golden;
use crate::server::Error;
use crate::timing;

/// Revisions: their commits, and by how much the neurons of their first layer differ from those of `main`.
const REVISIONS: [(&str, &str, f32); 3] =
    [("step1000", "1111", 0.25), ("step4000-tokens8B", "4444", 0.5), ("main", "ffff", 1.0)];

/// The matrix that differs.
const MATRIX: &str = "model.layers.0.mlp.up_proj.weight";

/// One trial for the hub.
pub fn trials() -> Vec<Trial> {
    vec![timing::test("hub::checkpoints", || Ok(checkpoints()?))]
}

/// Files of the hub: by commit and name.
type Files = BTreeMap<(&'static str, &'static str), Vec<u8>>;

fn files() -> Result<Files, Error> {
    let folder = golden::root().join("tests/models/llama");
    let mut files = Files::new();
    for (_, commit, factor) in REVISIONS {
        for name in ["config.json", "tokenizer.json"] {
            files.insert((commit, name), fs::read(folder.join(name))?);
        }
        let mut weights = fs::read(folder.join("model.safetensors"))?;
        let (header, metadata) = safetensors::SafeTensors::read_metadata(&weights)?;
        let (first, last) = metadata.info(MATRIX).ok_or("no such matrix")?.data_offsets;
        for number in weights[8 + header..][first..last].as_chunks_mut::<4>().0 {
            *number = (f32::from_le_bytes(*number) * factor).to_le_bytes();
        }
        files.insert((commit, "model.safetensors"), weights);
    }
    Ok(files)
}

/// Answers one request: of the files of a revision, or for a file of it.
fn answer(mut stream: TcpStream, files: &Files) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    let first = lines.next()?.ok()?;
    let mut range = None;
    for line in lines {
        let line = line.ok()?.to_lowercase();
        if line.is_empty() {
            break;
        }
        range = line.strip_prefix("range: bytes=").map(str::to_owned).or(range);
    }
    let path = first.split(' ').nth(1)?;
    let commit = |name: &str| REVISIONS.iter().find(|(known, ..)| *known == name).map(|(_, commit, _)| *commit);
    let found = if let Some(revision) = path.strip_prefix("/api/models/org/tiny/revision/") {
        commit(revision).map(|commit| {
            let of = files.keys().filter(|(of, _)| *of == commit);
            let siblings: Vec<_> = of.map(|(_, name)| serde_json::json!({ "rfilename": name })).collect();
            (commit, serde_json::json!({ "sha": commit, "siblings": siblings }).to_string().into_bytes())
        })
    } else {
        path.strip_prefix("/org/tiny/resolve/").and_then(|rest| {
            let (revision, name) = rest.split_once('/')?;
            let commit = commit(revision)?;
            let of = |(of, known): &(&'static str, &'static str)| *of == commit && *known == name;
            files.iter().find(|(key, _)| of(key)).map(|(_, file)| (commit, file.clone()))
        })
    };
    let (status, head, body) = match found {
        None => ("404 Not Found", String::new(), Vec::new()),
        Some((commit, body)) => {
            // The ETag names the file in the cache, so it must differ where files do.
            let tag = format!("ETag: \"{commit}-{}\"\r\nX-Repo-Commit: {commit}\r\n", path.rsplit('/').next()?);
            match range.as_deref().and_then(|range| range.split_once('-')) {
                None => ("200 OK", tag, body),
                Some((from, to)) => {
                    let from: usize = from.parse().ok()?;
                    let to = to.parse().map_or(body.len() - 1, |to: usize| to.min(body.len() - 1));
                    let range = format!("{tag}Content-Range: bytes {from}-{to}/{}\r\n", body.len());
                    ("206 Partial Content", range, body[from..=to].to_vec())
                }
            }
        }
    };
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\n{head}Content-Length: {length}\r\nConnection: close\r\n\r\n").ok()?;
    if !first.starts_with("HEAD") {
        stream.write_all(&body).ok()?;
    }
    Some(())
}

const CHILD: &str = "NEUROQL_TEST_HUB_STORE";

/// Starts a process whose hub is this one, as the hub is named by the environment.
fn checkpoints() -> Result<(), Error> {
    let files = files()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(stream, &files);
        }
    });
    let folder = tempfile::tempdir()?;
    let mut process = Command::new(std::env::current_exe()?);
    process.env(CHILD, folder.path().join("store")).env("HF_ENDPOINT", endpoint).env("HF_HOME", folder.path());
    process.env("NO_PROXY", "127.0.0.1").env_remove("HF_TOKEN");
    let output = process.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains(PASSED), "{said}");
    Ok(())
}

const PASSED: &str = "checkpoints were followed";

/// Runs as the child process of the trial if this process is one.
pub fn child() -> Option<ExitCode> {
    let store = std::env::var(CHILD).ok()?;
    let runtime = tokio::runtime::Runtime::new().ok()?;
    Some(match runtime.block_on(follow(&store)) {
        Ok(()) => {
            eprintln!("{PASSED}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    })
}

async fn table(context: &SessionContext, sql: &str) -> Result<Vec<Vec<String>>, Error> {
    let text = |cell: &Cell| match cell {
        Cell::Text(text) => text.clone(),
        Cell::Real(number) => number.to_string(),
    };
    Ok(cells(context, sql).await?.iter().map(|row| row.iter().map(text).collect()).collect())
}

/// Registers the revisions, and follows neurons over them.
async fn follow(store: &str) -> Result<(), Error> {
    let engine = Engine::builder().with_store(Store::open(store).await?).build()?;
    let context = engine.session();
    for (name, location) in [("tiny_1000", "@step1000"), ("tiny_4000", "@step4000-tokens8B"), ("tiny", "")] {
        let sql = format!("CREATE EXTERNAL TABLE {name} STORED AS MODEL LOCATION 'hf://org/tiny{location}'");
        rows(&context, &sql).await?;
    }
    let models = "SELECT model, revision, commit_sha, step FROM models WHERE revision IS NOT NULL ORDER BY model";
    let wanted = [
        ["tiny", "main", "ffff", "NULL"],
        ["tiny_1000", "step1000", "1111", "1000"],
        ["tiny_4000", "step4000-tokens8B", "4444", "4000"],
    ];
    assert_eq!(table(&context, models).await?, wanted);
    let versions = "SELECT count(DISTINCT sha256), count(DISTINCT tokenizer_sha256) FROM models WHERE model <> 'toy'";
    assert_eq!(table(&context, versions).await?, [["3", "1"]]);
    let missing = rows(&context, "CREATE EXTERNAL TABLE x STORED AS MODEL LOCATION 'hf://org/tiny@step2000'").await;
    let error = missing.map(drop).expect_err("there is no such revision").to_string();
    assert!(error.contains("step2000") && error.contains("404"), "{error}");

    // Activations of the first layer grow with its matrix, exactly as the factors are powers of two.
    let shares = "SELECT a.model, bool_and(a.activation = f.activation * s.share), count(*)
        FROM activations a JOIN tiny.activations f USING (layer, neuron, position)
        JOIN (VALUES ('tiny_1000', 0.25::real), ('tiny_4000', 0.5::real), ('tiny', 1::real)) AS s(model, share) ON s.model = a.model
        WHERE a.text = 'the neuron' AND f.text = 'the neuron' AND a.layer = 0 AND f.layer = 0
        GROUP BY 1 ORDER BY 1";
    let shares = table(&context, shares).await?;
    assert_eq!(shares.iter().map(|row| &*row[0]).collect::<Vec<_>>(), ["tiny", "tiny_1000", "tiny_4000"]);
    assert!(shares.iter().all(|row| row[1] == "true" && row[2] != "0" && row[2] == shares[0][2]), "{shares:?}");

    // The cookbook's query, over graphs that are built of each.
    rows(&context, "CREATE TABLE words AS SELECT document, text FROM corpus WHERE document < 2").await?;
    for model in ["tiny_1000", "tiny_4000", "tiny"] {
        let sql = format!(
            "INSERT INTO {model}.graphs SELECT * FROM build_graphs(model => '{model}', dataset => 'words', layer => 0, \
             neurons => '3')"
        );
        rows(&context, &sql).await?;
    }
    let query = fs::read_to_string(golden::root().join("queries/training.sql"))?;
    let query = query.replace("a.layer = 1 AND a.neuron = 17", "a.layer = 0 AND a.neuron = 3");
    let found = table(&context, &query).await?;
    let of = |model: &str| found.iter().find(|row| row[0] == model).unwrap_or_else(|| panic!("{model}: {found:?}"));
    assert_eq!([&*of("tiny_1000")[1], &*of("tiny_4000")[1], &*of("tiny")[1]], ["1000", "4000", "NULL"], "{found:?}");
    let peak = |model: &str| of(model)[3].parse::<f32>();
    assert_eq!([peak("tiny_1000")?, peak("tiny_4000")?], [peak("tiny")? * 0.25, peak("tiny")? * 0.5], "{found:?}");

    // Another process finds the same revisions again.
    drop(context);
    engine.settle().await?;
    let engine = Engine::builder().with_store(Store::open(store).await?).build()?;
    engine.restore().await?;
    assert_eq!(table(&engine.session(), models).await?, wanted);
    Ok(())
}
