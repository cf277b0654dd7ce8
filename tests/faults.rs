//! Tests of bad input: each gives its rows or an error with an SQLSTATE, and the server keeps serving.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use datafusion::dataframe::DataFrame;
use libtest_mimic::Trial;
use neuroql::Engine;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::{Client, NoTls};

use crate::golden;
use crate::server::{self, Error};
use crate::timing;

/// One trial per kind of bad input.
pub fn trials() -> Vec<Trial> {
    vec![
        timing::test("faults::broken_models", || Ok(broken_models()?)),
        timing::test("faults::strange_texts", || Ok(strange_texts()?)),
        timing::test("faults::too_much", || Ok(too_much()?)),
        timing::test("faults::cancel", || Ok(cancel()?)),
        timing::test("faults::long_functions", || Ok(long_functions()?)),
        timing::test("faults::vanishing_clients", || Ok(vanishing_clients()?)),
        timing::test("faults::garbage_on_the_socket", || Ok(garbage_on_the_socket()?)),
    ]
}

/// Returns the SQLSTATE of a statement that must fail.
async fn state_of(client: &Client, sql: &str) -> Result<String, Error> {
    match client.batch_execute(sql).await {
        Ok(()) => Err(format!("no error: {sql}").into()),
        Err(error) => {
            let error = error.as_db_error().ok_or_else(|| format!("{sql}: {error}"))?;
            assert!(!error.message().is_empty() && !error.message().contains("panic"), "{sql}: {}", error.message());
            Ok(error.code().code().to_owned())
        }
    }
}

async fn still_serves(client: &Client) -> Result<(), Error> {
    let row = client.query_one("SELECT activation('toy', 0, 0, 'x')", &[]).await?;
    assert_eq!(row.try_get::<_, Vec<f32>>(0)?.len(), 1);
    Ok(())
}

/// Checks that truncated, malformed and hostile checkpoints are refused when they are registered.
#[tokio::main]
async fn broken_models() -> Result<(), Error> {
    let running = server::start(Engine::builder().build()?).await?;
    let client = running.connect().await?;
    let scratch = tempfile::tempdir()?;
    let good = golden::root().join("tests/models/gpt2");
    let weights = fs::read(good.join("model.safetensors"))?;
    let config = fs::read_to_string(good.join("config.json"))?;
    let marker = scratch.path().join("executed");

    let huge_header = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    let overlapping = {
        let header = br#"{"wte.weight":{"dtype":"F32","shape":[4096,48],"data_offsets":[0,18446744073709551615]}}"#;
        [&(header.len() as u64).to_le_bytes()[..], header].concat()
    };
    let gguf = |tensors: u64, keys: u64| {
        [b"GGUF", &3_u32.to_le_bytes()[..], &tensors.to_le_bytes(), &keys.to_le_bytes(), &[0xff; 40]].concat()
    };
    // A pickle that runs a command when an unpickler obeys it: os.system("touch …").
    let pickle = format!("cos\nsystem\n(S'touch {}'\ntR.", marker.display()).into_bytes();

    let broken: Vec<(&str, &str, Vec<u8>)> = vec![
        ("empty", "model.safetensors", Vec::new()),
        ("short", "model.safetensors", weights[..5].to_vec()),
        ("half_header", "model.safetensors", weights[..200].to_vec()),
        ("half_file", "model.safetensors", weights[..weights.len() / 2].to_vec()),
        ("huge_header", "model.safetensors", huge_header),
        ("overlapping", "model.safetensors", overlapping),
        ("noise", "model.safetensors", (0..5000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()),
        ("pickle", "pytorch_model.bin", pickle),
        ("pickle_noise", "pytorch_model.bin", vec![0x80; 1000]),
        ("gguf_empty", "model.gguf", b"GGUF".to_vec()),
        ("gguf_huge", "model.gguf", gguf(u64::MAX, u64::MAX)),
        ("gguf_many", "model.gguf", gguf(1 << 40, 1)),
        ("gguf_nothing", "model.gguf", gguf(0, 0)),
        ("config_no_json", "config.json", b"{\"model_type\": ".to_vec()),
        ("config_other", "config.json", config.replace("\"gpt2\"", "\"mamba\"").into_bytes()),
        ("config_activation", "config.json", config.replace("gelu_new", "swoosh").into_bytes()),
        ("config_wider", "config.json", config.replace("\"n_embd\": 48", "\"n_embd\": 96").into_bytes()),
        ("config_deeper", "config.json", config.replace("\"n_layer\": 3", "\"n_layer\": 4000000000").into_bytes()),
        ("config_heads", "config.json", config.replace("\"n_head\": 4", "\"n_head\": 0").into_bytes()),
        ("tokenizer_noise", "tokenizer.json", b"[1, 2".to_vec()),
    ];
    for (name, file, content) in broken {
        let folder = scratch.path().join(name);
        fs::create_dir(&folder)?;
        for part in ["config.json", "tokenizer.json"] {
            fs::copy(good.join(part), folder.join(part))?;
        }
        if matches!(file, "config.json" | "tokenizer.json") {
            fs::copy(good.join("model.safetensors"), folder.join("model.safetensors"))?;
        }
        fs::write(folder.join(file), content)?;
        let location = if file.ends_with("gguf") { folder.join(file) } else { folder };
        let state = state_of(&client, &register(name, &location)).await?;
        let expected: &[&str] = match name {
            "config_other" | "config_activation" => &["0A000"],
            _ => &["XX001", "22023", "22000", "58P01", "0A000"],
        };
        assert!(expected.contains(&state.as_str()), "{name}: SQLSTATE {state}");
        assert!(!marker.exists(), "{name} executed code");
        still_serves(&client).await?;
    }
    let rows = client.query("SELECT model FROM models", &[]).await?;
    assert_eq!(rows.len(), 1, "a broken model was half registered");

    // The good checkpoint of the same kind loads, so the failures above are those of the damage.
    client.batch_execute(&register("good", &good)).await?;
    running.stop().await
}

fn register(name: &str, location: &Path) -> String {
    format!("CREATE EXTERNAL TABLE {name} STORED AS MODEL LOCATION '{}'", location.display())
}

/// Checks texts that are empty, have NULs or are not UTF-8, and one of 10 MB.
#[tokio::main]
async fn strange_texts() -> Result<(), Error> {
    let running = server::start(Engine::builder().build()?).await?;
    let client = running.connect().await?;
    let count = "SELECT count(*) FROM toy.activations WHERE text = $1 AND layer = 0 AND neuron = 0";
    for (text, tokens) in [("", 0), (" ", 1), ("\n", 1), ("\u{10FFFF}", 4), ("\u{FEFF}x", 4), ("🦀", 4)] {
        let row = client.query_one(count, &[&text]).await?;
        assert_eq!(row.get::<_, i64>(0), tokens, "{text:?}");
    }
    assert_eq!(client.query_one(count, &[&None::<&str>]).await?.get::<_, i64>(0), 0);

    // Postgres text holds no NUL; both an error and a result are fine.
    match client.query_one(count, &[&"a\0b"]).await {
        Ok(row) => assert_eq!(row.get::<_, i64>(0), 3),
        Err(error) => assert_eq!(error.code().map(|state| state.code()), Some("22021")),
    }
    still_serves(&client).await?;

    // A lone surrogate, as UTF-8 bytes that no UTF-8 decoder accepts, in a statement of the simple protocol.
    let mut socket = logged_in(running.port).await?;
    let statement = b"SELECT tokenize('toy', '\xed\xa0\x80')\0";
    socket.write_all(&[b"Q", &(statement.len() as u32 + 4).to_be_bytes()[..], statement].concat()).await?;
    let mut answer = vec![0; 4096];
    let length = tokio::time::timeout(Duration::from_secs(30), socket.read(&mut answer)).await??;
    assert!(length == 0 || answer[0] == b'E' || answer[0] == b'T', "{:?}", &answer[..length]);
    still_serves(&client).await?;

    let long = "word ".repeat(2_000_000);
    let row = client.query_one("SELECT CAST(array_length(tokenize('toy', $1)) AS int)", &[&long]).await?;
    assert_eq!(row.get::<_, i32>(0), 2_000_001);
    let first = "SELECT token FROM toy.activations WHERE text = $1 AND layer = 0 AND neuron = 0 AND example = 0 AND position = 0";
    assert_eq!(client.query_one(first, &[&long]).await?.get::<_, String>(0), "word");
    client.batch_execute("SET statement_timeout = '2s'").await?;
    if let Err(error) = client.query_one(count, &[&long]).await {
        assert_eq!(error.code().map(|state| state.code()), Some("57014"), "{error}");
    }
    client.batch_execute("SET statement_timeout = 0").await?;
    still_serves(&client).await?;
    running.stop().await
}

/// Returns a connection after its start-up, to send what no client would.
async fn logged_in(port: u16) -> Result<TcpStream, Error> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
    let parameters = b"user\0neuroql\0database\0neuroql\0\0";
    let length = parameters.len() as u32 + 8;
    socket.write_all(&[&length.to_be_bytes()[..], &196_608_u32.to_be_bytes(), parameters].concat()).await?;
    let (mut seen, mut part) = (Vec::new(), [0; 1024]);
    // ReadyForQuery: Z, length 5, idle.
    while !seen.ends_with(b"Z\0\0\0\x05I") {
        let length = socket.read(&mut part).await?;
        if length == 0 {
            return Err("the server closed the connection".into());
        }
        seen.extend_from_slice(&part[..length]);
    }
    Ok(socket)
}

/// Checks queries of more than fits: a memory limit ends them with 53200, or a timeout with 57014.
#[tokio::main]
async fn too_much() -> Result<(), Error> {
    let running = server::start(Engine::builder().with_memory_limit(64 << 20).build()?).await?;
    let client = running.connect().await?;
    for hungry in [
        "SELECT array_agg(activation) FROM toy.activations WHERE dataset = 'corpus'",
        "SELECT count(*) FROM toy.activations a JOIN toy.activations b USING (position, neuron) \
         WHERE a.dataset = 'corpus' AND b.dataset = 'corpus' AND a.layer = 0 AND b.layer = 1",
    ] {
        assert_eq!(state_of(&client, hungry).await?, "53200", "{hungry}");
        still_serves(&client).await?;
    }

    client.batch_execute("SET statement_timeout = '3s'").await?;
    let start = Instant::now();
    let product = "SELECT sum(array_length(activation('toy', 0, CAST(n % 512 AS int), text))) FROM generate_series(1, 1000000) t(n), corpus";
    let state = state_of(&client, product).await?;
    assert!(["53200", "57014"].contains(&state.as_str()), "{state}");
    assert!(start.elapsed() < Duration::from_secs(10), "the timeout of 3 s took {:?}", start.elapsed());
    client.batch_execute("RESET statement_timeout").await?;
    still_serves(&client).await?;
    running.stop().await
}

/// Checks that a cancel request stops a running forward pass.
#[tokio::main]
async fn cancel() -> Result<(), Error> {
    let running = server::start(Engine::builder().build()?).await?;
    let client = running.connect().await?;
    let token = client.cancel_token();
    let slow = "SELECT max(activation) FROM toy.activations WHERE dataset = 'corpus'";
    let other = running.connect().await?;
    let cancelled = tokio::spawn(async move {
        server::until_active(&other, "max(activation)").await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let start = Instant::now();
        token.cancel_query(NoTls).await?;
        Ok::<_, Error>(start)
    });
    assert_eq!(state_of(&client, slow).await?, "57014");
    let waited = cancelled.await??.elapsed();
    // 200 ms is the promise of the release build on an idle machine; tests run unoptimised and side by side.
    assert!(waited < Duration::from_secs(5), "cancelling took {waited:?}");
    still_serves(&client).await?;

    client.batch_execute("SET statement_timeout = 300").await?;
    let start = Instant::now();
    assert_eq!(state_of(&client, slow).await?, "57014");
    assert!(start.elapsed() < Duration::from_secs(6), "the timeout of 0.3 s took {:?}", start.elapsed());
    running.stop().await
}

/// Checks that functions that never end keep no other client from being served, and end with their statements.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn long_functions() -> Result<(), Error> {
    let engine = Engine::builder().build()?;
    // 4,000 times the same token, each a pattern's end.
    let chain = "(SELECT graph_from_nodes(array_agg(named_struct('parent', CAST(i - 1 AS int), 'token_id', 1, \
                 'token', 'a', 'ends', 0.5) ORDER BY i)) AS g FROM generate_series(0, 3999) s(i))";
    let long = [
        format!(
            "SELECT array_length(simulate(g, array_repeat(1, n))) FROM {chain}, generate_series(4000000, 4000000) t(n)"
        ),
        format!("SELECT graph_similarity(g, g, 'behaviour') FROM {chain}"),
        // DataFusion's column names contain literals in full.
        format!("SELECT array_length(simulate(g, array_repeat(1, 4000000))) FROM {chain}"),
    ];
    for sql in &long[..2] {
        let (state, guard) = neuroql::interruptible(&engine.session());
        let plan = state.create_logical_plan(sql).await?;
        let running = tokio::spawn(async move { DataFrame::new(state, plan).collect().await });
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!running.is_finished(), "it does not take long");
        drop(guard);
        let ended = tokio::time::timeout(Duration::from_secs(10), running).await?.map_err(|e| e.to_string())?;
        assert_eq!(ended.err().map(|error| neuroql::sqlstate(&error)), Some("57014"));
    }

    let running = server::start(engine).await?;
    let mut clients = Vec::new();
    for sql in long.iter().cycle().take(6) {
        let (client, sql) = (running.connect().await?, sql.clone());
        clients.push(tokio::spawn(async move {
            client.batch_execute("SET statement_timeout = '3s'").await.map_err(|e| e.to_string())?;
            state_of(&client, &sql).await.map_err(|e| e.to_string())
        }));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    still_serves(&running.connect().await?).await?;
    assert!(start.elapsed() < Duration::from_secs(10), "another client waited {:?}", start.elapsed());
    for client in clients {
        let state = tokio::time::timeout(Duration::from_secs(30), client).await???;
        assert_eq!(state, "57014");
    }
    running.stop().await
}

/// Checks clients that leave in the middle of a result, without a word.
#[tokio::main]
async fn vanishing_clients() -> Result<(), Error> {
    let running = server::start(Engine::builder().build()?).await?;
    for _ in 0..10 {
        let mut socket = logged_in(running.port).await?;
        let statement = b"SELECT * FROM toy.activations WHERE dataset = 'corpus'\0";
        socket.write_all(&[b"Q", &(statement.len() as u32 + 4).to_be_bytes()[..], statement].concat()).await?;
        let mut some = [0; 100];
        socket.read_exact(&mut some).await?;
        assert_eq!(some[0], b'T');
    }
    let start = Instant::now();
    still_serves(&running.connect().await?).await?;
    assert!(start.elapsed() < Duration::from_secs(10), "abandoned scans still run: {:?}", start.elapsed());
    running.stop().await
}

/// Checks malformed start-up packets.
#[tokio::main]
async fn garbage_on_the_socket() -> Result<(), Error> {
    let running = server::start(Engine::builder().build()?).await?;
    let packets: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        vec![0xff; 64],
        vec![0; 64],
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        [&u32::MAX.to_be_bytes()[..], &196_608_u32.to_be_bytes()].concat(),
        [&9_u32.to_be_bytes()[..], &196_608_u32.to_be_bytes(), &[0]].concat(),
        [&12_u32.to_be_bytes()[..], &196_608_u32.to_be_bytes(), b"user"].concat(),
        [&8_u32.to_be_bytes()[..], &(99_u32 << 16).to_be_bytes()].concat(),
        [&16_u32.to_be_bytes()[..], &80_877_102_u32.to_be_bytes(), &[1; 8]].concat(),
    ];
    let client = running.connect().await?;
    for packet in packets {
        let mut socket = TcpStream::connect(("127.0.0.1", running.port)).await?;
        socket.write_all(&packet).await?;
        socket.shutdown().await?;
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "the server keeps a connection that sent {packet:?}");
    }
    // After the start-up: an unknown message, and one that claims to be 2 GB long.
    for message in [&b"\x01\0\0\0\x04"[..], &b"Q\x7f\xff\xff\xff"[..]] {
        let mut socket = logged_in(running.port).await?;
        socket.write_all(message).await?;
        socket.shutdown().await?;
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "the server keeps a connection that sent {message:?}");
    }
    still_serves(&client).await?;
    running.stop().await
}
