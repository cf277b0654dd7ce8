//! Published data on a web server, of a fast GELU, and kept in a store.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Float32Type;
use datafusion::prelude::SessionContext;
use libtest_mimic::Trial;
use neuroql::{Engine, Store};

use crate::answers::{cells, rows};
use crate::golden;
use crate::server::Error;
use crate::timing;

/// One trial per matter.
pub fn trials() -> Vec<Trial> {
    vec![
        timing::test("imports::web", || Ok(web()?)),
        timing::test("imports::fast_gelu", || Ok(fast_gelu()?)),
        timing::test("imports::examples_stay", || Ok(examples_stay()?)),
    ]
}

/// A web server with the files of a folder.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
    is_up: Arc<AtomicBool>,
}

impl Server {
    fn start(folder: &Path) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = format!("http://{}", listener.local_addr()?);
        let (asked, is_up) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(AtomicBool::new(true)));
        let (log, up, folder) = (Arc::clone(&asked), Arc::clone(&is_up), folder.to_owned());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                if !up.load(Ordering::SeqCst) {
                    continue;
                }
                let lines = BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
                let head: Vec<String> = lines.collect();
                let path = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
                let answer = match std::fs::read(folder.join(path.trim_start_matches('/'))) {
                    Ok(body) => {
                        let head =
                            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                        [head.into_bytes(), body].concat()
                    }
                    Err(_) => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
                };
                log.lock().unwrap_or_else(PoisonError::into_inner).push(path);
                // The client may be gone.
                let _ = stream.write_all(&answer);
            }
        });
        Ok(Self { address, asked, is_up })
    }

    /// Paths that were asked for since the last call.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The error of a statement: its SQLSTATE and message.
async fn error(context: &SessionContext, sql: &str) -> String {
    let outcome = match context.sql(sql).await {
        Ok(frame) => frame.collect().await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(_) => "none".to_owned(),
        Err(error) => format!("{}: {}", neuroql::sqlstate(&error), neuroql::diagnose(&error).message),
    }
}

async fn said(context: &SessionContext, sql: &str) -> Result<String, Error> {
    Ok(format!("{:?}", cells(context, sql).await?))
}

async fn engine(store: &Path) -> Result<Engine, Error> {
    let engine = Engine::builder().with_store(Store::open(&store.to_string_lossy()).await?).build()?;
    engine.restore().await?;
    Ok(engine)
}

fn tiny() -> String {
    let folder = golden::root().join("tests/formats/model");
    format!("CREATE EXTERNAL TABLE tiny STORED AS MODEL LOCATION '{}'", folder.display())
}

/// Checks that one neuron of a web server is one file, that files have to be named, and that a server that is gone is an
/// error of queries and not of the start.
#[tokio::main]
async fn web() -> Result<(), Error> {
    let formats = golden::root().join("tests/formats");
    let server = Server::start(&formats)?;
    let folder = tempfile::tempdir()?;
    let first = engine(folder.path()).await?;
    let context = first.session();
    rows(&context, &tiny()).await?;
    let oai = format!("{}/openai_neuron_explainer/data/", server.address);
    rows(
        &context,
        &format!("CREATE EXTERNAL TABLE oai STORED AS OPENAI_NEURONS LOCATION '{oai}' OPTIONS ('timeout' '5')"),
    )
    .await?;
    let tied = format!("CREATE EXTERNAL TABLE tied STORED AS OPENAI_NEURONS LOCATION '{oai}' OPTIONS ('model' 'tiny')");
    rows(&context, &tied).await?;
    let pages = format!("{}/neuroscope/tiny-gpt2/", server.address);
    rows(&context, &format!("CREATE EXTERNAL TABLE pages STORED AS NEUROSCOPE LOCATION '{pages}'")).await?;
    let local = formats.join("openai_neuron_explainer");
    let local = format!("CREATE EXTERNAL TABLE local STORED AS OPENAI_NEURONS LOCATION '{}'", local.display());
    rows(&context, &local).await?;
    // Nothing is read before a query asks for it.
    assert_eq!(server.asked(), Vec::<String>::new());

    let explanations = "SELECT explanation, score FROM oai.explanations WHERE layer = 1 AND neuron = 17 ORDER BY score";
    let of_files = said(&context, &explanations.replace("oai.", "local.")).await?;
    assert_eq!(said(&context, explanations).await?, of_files);
    assert_eq!(server.asked(), ["/openai_neuron_explainer/data/explanations/1/17.jsonl"]);
    let texts = "SELECT count(*), max(activation) FROM pages.examples WHERE layer = 0 AND neuron = 1";
    assert!(said(&context, texts).await?.contains("Real(2.734"));
    assert_eq!(server.asked(), ["/neuroscope/tiny-gpt2/0/1.html"]);
    // The model says how many layers there are.
    let everywhere = "SELECT layer, count(*) FROM tied.examples WHERE neuron = 17 GROUP BY layer";
    assert!(said(&context, everywhere).await?.contains("Text(\"1\")"));
    assert_eq!(server.asked().len(), 2);
    let missing = "SELECT reason FROM oai.rejects WHERE layer = 0 AND neuron = 4 AND table_name = 'explanations'";
    assert!(said(&context, missing).await?.contains("the server has no such file"));

    for sql in
        ["SELECT * FROM oai.explanations", "SELECT count(*) FROM oai WHERE layer = 1", "SELECT * FROM pages.examples"]
    {
        let error = error(&context, sql).await;
        assert!(error.starts_with("54000: ") && error.contains("which has no list of its files"), "{sql}: {error}");
    }
    for (location, options, state) in [
        ("https://me:secret@example.org/", "", "22023"),
        ("https://example.org/?sig=x", "", "22023"),
        ("ftp://example.org/", "", "22023"),
        (&*oai, "OPTIONS ('timeout' '0')", "22023"),
        (&*oai, "OPTIONS ('timeout' 'soon')", "22023"),
        ("/nothing", "OPTIONS ('timeout' '5')", "22023"),
    ] {
        let sql = format!("CREATE EXTERNAL TABLE bad STORED AS OPENAI_NEURONS LOCATION '{location}' {options}");
        let error = error(&context, &sql).await;
        assert!(error.starts_with(state) && !error.contains("secret"), "{location}: {error}");
    }
    first.settle().await?;
    drop((context, first));

    // The next process starts without the server.
    server.is_up.store(false, Ordering::SeqCst);
    let context = engine(folder.path()).await?.session();
    let error = error(&context, explanations).await;
    assert!(error.starts_with("58030: ") && error.contains("explanations/1/17.jsonl"), "{error}");
    assert!(said(&context, "SELECT count(*) FROM local.explanations").await?.contains("\"4\""));
    Ok(())
}

/// Checks that published activations of a fast GELU are told from the model's own.
#[tokio::main]
async fn fast_gelu() -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let model = golden::root().join("tests/formats/model");
    let quick = folder.path().join("quick");
    std::fs::create_dir(&quick)?;
    for file in std::fs::read_dir(&model)? {
        let file = file?;
        std::fs::copy(file.path(), quick.join(file.file_name()))?;
    }
    let config = std::fs::read_to_string(model.join("config.json"))?;
    assert!(config.contains("\"gelu_new\""));
    std::fs::write(quick.join("config.json"), config.replace("\"gelu_new\"", "\"quick_gelu\""))?;
    let context = Engine::builder().build()?.session();
    rows(&context, &tiny()).await?;
    let quick =
        format!("CREATE EXTERNAL TABLE quick STORED AS MODEL LOCATION '{}' OPTIONS ('bos' 'false')", quick.display());
    rows(&context, &quick).await?;
    assert!(
        said(&context, "SELECT activation_function FROM models WHERE model = 'quick'").await?.contains("quick_gelu")
    );

    let text = "The river froze and the boats stayed.";
    let batches = context
        .sql(&format!("SELECT tokens('quick', '{text}') AS tokens, activation('quick', 1, 5, '{text}') AS activations"))
        .await?
        .collect()
        .await?;
    let list = |name: &str| batches[0][name].as_list::<i32>().value(0);
    let tokens: Vec<_> = list("tokens").as_string::<i32>().iter().flatten().map(str::to_owned).collect();
    let activations = list("activations").as_primitive::<Float32Type>().values().to_vec();
    let published = |neuron: u32, activations: &[f32]| {
        let record = serde_json::json!({ "tokens": tokens, "activations": activations });
        serde_json::json!({
            "neuron_id": { "layer_index": 1, "neuron_index": neuron },
            "random_sample": [],
            "most_positive_activation_records": [record],
        })
    };
    let records = folder.path().join("published/collated-activations/1");
    std::fs::create_dir_all(&records)?;
    std::fs::write(records.join("5.json"), published(5, &activations).to_string())?;
    let wrong: Vec<f32> = activations.iter().map(|activation| activation * activation + 1.0).collect();
    std::fs::write(records.join("6.json"), published(6, &wrong).to_string())?;
    let published = folder.path().join("published");
    let sql = format!("CREATE EXTERNAL TABLE oai STORED AS OPENAI_NEURONS LOCATION '{}'", published.display());
    rows(&context, &sql).await?;
    let reason = |neuron: u32, model: &str| {
        format!("SELECT reason, difference < 1e-5 FROM verify_import('oai', '{model}') WHERE neuron = {neuron}")
    };
    let found = said(&context, &reason(5, "tiny")).await?;
    assert!(found.contains("of a fast GELU, x·sigmoid(1.702·x), and the model has gelu_new"), "{found}");
    assert!(found.contains("true"), "{found}");
    let found = said(&context, &reason(5, "quick")).await?;
    assert!(found.contains("NULL"), "{found}");
    let found = said(&context, &reason(6, "tiny")).await?;
    assert!(found.contains("none of the known reasons"), "{found}");
    Ok(())
}

/// Checks that published examples stay with a model of a store, and with no other model of the same name.
#[tokio::main]
async fn examples_stay() -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let published = golden::root().join("tests/formats/openai_neuron_explainer");
    let context = engine(folder.path()).await?.session();
    rows(&context, &tiny()).await?;
    let oai = format!("CREATE EXTERNAL TABLE oai STORED AS OPENAI_NEURONS LOCATION '{}'", published.display());
    rows(&context, &oai).await?;
    rows(&context, "INSERT INTO tiny.examples SELECT * FROM oai.examples").await?;
    let kept = "SELECT layer, neuron, rank, quantile, position, activation, tokens, activations, source, bos FROM tiny.examples \
                ORDER BY layer, neuron, rank, quantile, activation, array_to_string(tokens, '')";
    let first = said(&context, kept).await?;
    assert!(first.contains("openai"));
    let other = "SELECT count(*) FROM oai.examples o WHERE NOT EXISTS (SELECT 1 FROM tiny.examples e WHERE e.layer = o.layer \
                 AND e.neuron = o.neuron AND e.tokens = o.tokens AND e.activations = o.activations)";
    assert!(said(&context, other).await?.contains("\"0\""));
    drop(context);
    let context = engine(folder.path()).await?.session();
    assert_eq!(said(&context, kept).await?, first);
    // Again, nothing is there twice.
    rows(&context, "INSERT INTO tiny.examples SELECT * FROM oai.examples").await?;
    assert_eq!(said(&context, kept).await?, first);
    rows(&context, "DROP TABLE tiny").await?;
    let other = golden::root().join("tests/models/gpt2");
    rows(&context, &format!("CREATE EXTERNAL TABLE tiny STORED AS MODEL LOCATION '{}'", other.display())).await?;
    assert_eq!(said(&context, kept).await?, "[]");
    Ok(())
}
