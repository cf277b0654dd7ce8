//! Locations against real servers on this machine: a small Hugging Face hub and web server in this file, and moto's S3.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use neuroql_model::Error;
use neuroql_model::checkpoint::Checkpoint;
use neuroql_model::location::{Files, Progress, Remotes, Revision};
use neuroql_requirements::Requirement;
use object_store::aws::AmazonS3Builder;
use object_store::{ObjectStoreExt, PutPayload};
use sha2::{Digest, Sha256};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = "hf_secret";

fn toy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/toy")
}

/// Files of the model, by name.
fn toy_files() -> HashMap<String, Vec<u8>> {
    let read = |name: &str| (name.to_owned(), std::fs::read(toy().join(name)).unwrap());
    ["config.json", "tokenizer.json", "model.safetensors"].map(read).into()
}

fn remotes(folder: &Path) -> Remotes {
    Remotes {
        hub_endpoint: "http://127.0.0.1:1".into(),
        hub_cache: folder.join("hub"),
        hub_token: None,
        cache: folder.join("cache"),
        options: Vec::new(),
    }
}

/// Opens fetched files and compares them with the folder that they were served from.
fn check(files: &Files) {
    let fetched = Checkpoint::open(files).unwrap();
    let bytes = std::fs::read(toy().join("model.safetensors")).unwrap();
    let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((fetched.sha256.as_str(), fetched.bytes), (sha256.as_str(), bytes.len() as u64));
    assert_eq!((fetched.bos.id, fetched.bos.prepended), (Some(0), true));
    let embedding = fetched.weights.read("embed.W_E").unwrap();
    assert_eq!(embedding.dims(), [4096, 128]);
}

fn reason(result: Result<Files, Error>) -> String {
    match result {
        Err(error @ Error::Location { .. }) => error.to_string(),
        other => panic!("expected Error::Location, got {other:?}"),
    }
}

/// Progress that records each file.
#[derive(Default)]
struct Heard(Mutex<Vec<Download>>);

#[derive(Debug)]
struct Download {
    name: String,
    size: Option<u64>,
    received: u64,
    finished: bool,
}

impl Progress for Heard {
    fn begin(&self, what: &str, bytes: Option<u64>) {
        self.0.lock().unwrap().push(Download { name: what.into(), size: bytes, received: 0, finished: false });
    }

    fn advance(&self, bytes: u64) {
        self.0.lock().unwrap().last_mut().unwrap().received += bytes;
    }

    fn finish(&self) {
        self.0.lock().unwrap().last_mut().unwrap().finished = true;
    }
}

impl Heard {
    /// Checks that each file was announced with its size, arrived whole and was finished.
    fn check(&self, count: usize) {
        let heard = self.0.lock().unwrap();
        assert_eq!(heard.len(), count, "{heard:?}");
        for Download { name, size, received, finished } in heard.iter() {
            let expected = std::fs::metadata(toy().join(name)).unwrap().len();
            assert!(*size == Some(expected) && *received == expected && *finished, "{heard:?}");
        }
    }
}

// A server with two interfaces: a hub under /api and /<repository>/resolve, plain files under /files.

struct Request {
    method: String,
    path: String,
    headers: HashMap<String, String>,
}

struct Server {
    address: String,
    files: Mutex<HashMap<String, Vec<u8>>>,
    log: Mutex<Vec<String>>,
}

impl Server {
    fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = Arc::new(Self { address, files: Mutex::new(toy_files()), log: Mutex::new(Vec::new()) });
        let serving = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                std::thread::spawn(move || serving.answer(stream));
            }
        });
        server
    }

    fn answer(&self, mut stream: TcpStream) {
        let Some(request) = read_request(&stream) else { return };
        self.log.lock().unwrap().push(format!("{} {}", request.method, request.path));
        let (status, mut headers, body) = self.respond(&request);
        headers.push(("Content-Length".into(), body.len().to_string()));
        headers.push(("Connection".into(), "close".into()));
        let mut head = format!("HTTP/1.1 {status}\r\n");
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        let _ = stream.write_all(format!("{head}\r\n").as_bytes());
        if request.method != "HEAD" {
            let _ = stream.write_all(&body);
        }
    }

    fn respond(&self, request: &Request) -> (&'static str, Vec<(String, String)>, Vec<u8>) {
        const NOT_FOUND: (&str, Vec<(String, String)>, Vec<u8>) = ("404 Not Found", Vec::new(), Vec::new());
        let files = self.files.lock().unwrap();
        if let Some(name) = request.path.strip_prefix("/files/") {
            return files.get(name).map_or(NOT_FOUND, |file| body(request, file, &etag(file)));
        }
        // Large files are redirected here, to a signed address, so without the token.
        if let Some(name) = request.path.strip_prefix("/storage/") {
            return files.get(name).map_or(NOT_FOUND, |file| body(request, file, &etag(file)));
        }
        if request.headers.get("authorization").map(String::as_str) != Some(&format!("Bearer {TOKEN}")) {
            return ("401 Unauthorized", Vec::new(), Vec::new());
        }
        if let Some(revision) = request.path.strip_prefix("/api/models/org/toy/revision/") {
            if !["main", "v1"].contains(&revision) {
                return NOT_FOUND;
            }
            let siblings: Vec<_> = files.keys().map(|name| serde_json::json!({"rfilename": name})).collect();
            let info = serde_json::json!({"sha": COMMIT, "siblings": siblings}).to_string();
            return ("200 OK", Vec::new(), info.into_bytes());
        }
        let name = ["main", "v1"].iter().find_map(|revision| {
            request.path.strip_prefix("/org/toy/resolve/")?.strip_prefix(revision)?.strip_prefix('/')
        });
        let Some((name, file)) = name.and_then(|name| Some((name, files.get(name)?))) else { return NOT_FOUND };
        let commit = ("X-Repo-Commit".to_owned(), COMMIT.to_owned());
        if name.ends_with(".safetensors") {
            let linked = ("X-Linked-Etag".to_owned(), format!("\"{}\"", etag(file)));
            let location = ("Location".to_owned(), format!("{}/storage/{name}", self.address));
            return ("302 Found", vec![commit, linked, location], Vec::new());
        }
        // Small files are named by a git hash, which is shorter.
        let (status, mut headers, bytes) = body(request, file, &etag(file)[..40]);
        headers.push(commit);
        (status, headers, bytes)
    }

    fn count(&self, request: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|line| line.contains(request)).count()
    }
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    Some(Request { method, path, headers })
}

fn etag(file: &[u8]) -> String {
    Sha256::digest(file).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Response body: the file, or the requested range of it.
fn body(request: &Request, file: &[u8], etag: &str) -> (&'static str, Vec<(String, String)>, Vec<u8>) {
    let mut headers = vec![("ETag".into(), format!("\"{etag}\"")), ("Accept-Ranges".into(), "bytes".into())];
    let Some(range) = request.headers.get("range").and_then(|range| range.strip_prefix("bytes=")) else {
        return ("200 OK", headers, file.to_vec());
    };
    let (start, end) = range.split_once('-').unwrap();
    let start: usize = start.parse().unwrap();
    let end = end.parse().map_or(file.len(), |end: usize| end + 1);
    headers.push(("Content-Range".into(), format!("bytes {start}-{}/{}", end - 1, file.len())));
    ("206 Partial Content", headers, file[start..end].to_vec())
}

#[test]
fn local_files_and_folders() {
    let folder = toy().canonicalize().unwrap();
    let remotes = remotes(Path::new("unused"));
    let fetch = |location: &str| remotes.fetch(location, None, &());
    let text = folder.display().to_string();
    let files = fetch(&text).unwrap();
    check(&files);
    assert_eq!(files.location, text);
    for same in [format!("file://{text}"), format!("{text}/model.safetensors"), format!("{text}/")] {
        let other = fetch(&same).unwrap();
        assert_eq!(
            (&other.weights, &other.config, &other.tokenizer),
            (&files.weights, &files.config, &files.tokenizer)
        );
    }
    for missing in ["/nowhere/at/all", "file:///nowhere", "gopher://host/x"] {
        assert!(reason(fetch(missing)).contains(missing));
    }
    assert!(reason(fetch(&format!("{text}/README.md"))).contains("no weight file"));
}

#[test]
fn folders_of_every_layout() {
    let folder = tempfile::tempdir().unwrap();
    let remotes = remotes(folder.path());
    let location = folder.path().display().to_string();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let remove = |name: &str| std::fs::remove_file(folder.path().join(name)).unwrap();
    let found = || -> Vec<String> {
        let files = remotes.fetch(&location, None, &()).unwrap();
        files.weights.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    };
    let missing = |wanted: &str| match remotes.fetch(&location, None, &()) {
        Err(Error::MissingFile { wanted: said, .. }) => assert!(said.contains(wanted), "{said}"),
        other => panic!("{other:?}"),
    };
    missing("model.safetensors");
    // Files from the last choice to the first.
    write("a.gguf", "");
    assert_eq!(found(), ["a.gguf"]);
    write("b.gguf", "");
    assert!(reason(remotes.fetch(&location, None, &())).contains("a.gguf, b.gguf"));
    write("my_final.pth", "");
    missing("config.json");
    write("config.json", "{}");
    assert_eq!(found(), ["my_final.pth"]);
    write("model_final.pth", "");
    assert_eq!(found(), ["model_final.pth"]);
    write("other.safetensors", "");
    assert_eq!(found(), ["other.safetensors"]);
    write("another.safetensors", "");
    assert!(reason(remotes.fetch(&location, None, &())).contains("another.safetensors, other.safetensors"));
    remove("another.safetensors");
    remove("other.safetensors");
    write("weights-00001-of-00002.safetensors", "");
    missing("part 2 of 2 of weights");
    write("weights-00002-of-00002.safetensors", "");
    assert_eq!(found(), ["weights-00001-of-00002.safetensors", "weights-00002-of-00002.safetensors"]);
    let index = |ending: &str| {
        format!(r#"{{"weight_map": {{"x": "part-2.{ending}", "y": "part-1.{ending}", "z": "part-2.{ending}"}}}}"#)
    };
    // An index without its parts is no model, even beside other files; beside the single file, it is left over from an
    // earlier save and ignored. transformers has this order.
    for (single, ending) in [("pytorch_model.bin", "bin"), ("model.safetensors", "safetensors")] {
        let (first, second) = (format!("part-1.{ending}"), format!("part-2.{ending}"));
        write(&format!("{single}.index.json"), &index(ending));
        write(&first, "");
        missing(&second);
        write(single, "");
        assert_eq!(found(), [single]);
        write(&second, "");
        assert_eq!(found(), [single]);
        remove(single);
        assert_eq!(found(), [first, second]);
        write(single, "");
    }
    // A file that config.json names wins over all.
    write("config.json", r#"{"transformers_weights": "part-2.safetensors", "x": NaN}"#);
    assert_eq!(found(), ["part-2.safetensors"]);
    write("config.json", r#"{"transformers_weights": "../part-2.safetensors"}"#);
    assert_eq!(found(), ["model.safetensors"]);
    remove("model.safetensors");
    for hostile in
        [r#"{"weight_map": {"x": "../../secret.bin"}}"#, r#"{"weight_map": {"x": "/etc/passwd"}}"#, "{}", "{"]
    {
        write("model.safetensors.index.json", hostile);
        assert!(matches!(remotes.fetch(&location, None, &()), Err(Error::Corrupt { .. })), "{hostile}");
    }
}

#[test]
fn what_is_no_model_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let remotes = remotes(folder.path());
    let location = folder.path().display().to_string();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let refused = |what: &str| match remotes.fetch(&location, None, &()) {
        Err(error @ Error::Unsupported { .. }) => assert!(error.to_string().contains(what), "{error}"),
        other => panic!("{what}: {other:?}"),
    };
    write("config.json", "{}");
    write("adapter_model.safetensors", "");
    refused("adapter_model.safetensors");
    write("model.safetensors", "");
    for name in ["tokenizer.model", "tekken.json", "spiece.model"] {
        write(name, "");
        refused(name);
        std::fs::remove_file(folder.path().join(name)).unwrap();
    }
    write("tokenizer.model", "");
    write("tokenizer.json", "");
    assert_eq!(remotes.fetch(&location, None, &()).unwrap().weights.len(), 1);
    // With it, transformers loads another model, depending on installed packages.
    write("adapter_config.json", "{}");
    refused("adapter_config.json");
}

/// Checks that Git LFS pointers, which clones without git-lfs have in place of large files, are refused.
#[test]
fn git_lfs_pointers_are_named_whatever_file_they_stand_for() {
    let pointer = "version https://git-lfs.github.com/spec/v1\n\
                   oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";
    let names = [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.gguf",
        "model_final.pth",
    ];
    for name in names.into_iter().chain(["model.safetensors.index.json", "pytorch_model.bin", "vocab.json"]) {
        let folder = tempfile::tempdir().unwrap();
        for (file, bytes) in toy_files() {
            let weights = ["gguf", "pth", "bin", "index.json"].iter().any(|end| name.ends_with(end));
            let replaced = weights && file == "model.safetensors" || name == "vocab.json" && file == "tokenizer.json";
            if !replaced {
                std::fs::write(folder.path().join(file), bytes).unwrap();
            }
        }
        std::fs::write(folder.path().join(name), pointer).unwrap();
        let location = folder.path().display().to_string();
        let opened = remotes(folder.path()).fetch(&location, None, &()).and_then(|files| Checkpoint::open(&files));
        let error = opened.map(drop).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{name}: {error:?}");
        let text = error.to_string();
        assert!(text.contains(name) && text.contains("Git LFS pointer"), "{name}: {text}");
    }
}

#[test]
fn a_tokenizer_from_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let remotes = remotes(folder.path());
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(toy().join(name), folder.path().join(name)).unwrap();
    }
    let location = folder.path().display().to_string();
    let without = remotes.fetch(&location, None, &()).unwrap();
    assert!(
        matches!(Checkpoint::open(&without), Err(Error::MissingFile { wanted, .. }) if wanted.contains("tokenizer"))
    );
    for place in [toy(), toy().join("tokenizer.json")] {
        check(&remotes.fetch(&location, Some(&place.display().to_string()), &()).unwrap());
    }
    assert!(matches!(remotes.fetch(&location, Some(&location), &()), Err(Error::MissingFile { .. })));
}

#[test]
fn the_hub() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let anonymous = Remotes { hub_endpoint: server.address.clone(), ..remotes(folder.path()) };
    let said = reason(anonymous.fetch("hf://org/toy", None, &()));
    assert!(said.contains("401") && said.contains("HF_TOKEN"), "{said}");
    let remotes = Remotes { hub_token: Some(TOKEN.into()), ..anonymous.clone() };

    let heard = Heard::default();
    let files = remotes.fetch("hf://org/toy", None, &heard).unwrap();
    check(&files);
    heard.check(3);
    assert!(files.weights[0].starts_with(folder.path().join("hub/models--org--toy/snapshots").join(COMMIT)));
    let revision = |name: &str| Some(Revision { name: name.into(), commit: COMMIT.into() });
    assert_eq!(files.revision, revision("main"));

    // A second fetch asks for the commit only.
    let asked = server.log.lock().unwrap().len();
    assert_eq!(remotes.fetch("hf://org/toy", None, &()).unwrap(), files);
    assert_eq!(server.log.lock().unwrap().len(), asked + 1);
    // Another name of the same commit, and one file of it.
    let tagged = remotes.fetch("hf://org/toy@v1", None, &()).unwrap();
    check(&tagged);
    assert_eq!(tagged.revision, revision("v1"));
    check(&remotes.fetch("hf://org/toy/model.safetensors", None, &()).unwrap());
    assert_eq!(server.count("GET /storage/"), 3); // its headers, before and within hf-hub, then the file

    // A damaged copy is noticed and replaced.
    let blob = files.weights[0].canonicalize().unwrap();
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[1_000_000] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    check(&remotes.fetch("hf://org/toy", None, &()).unwrap());
    assert_eq!(server.count("GET /storage/"), 6);

    for missing in ["hf://org/none", "hf://org/toy@v9"] {
        assert!(reason(remotes.fetch(missing, None, &())).contains("404"));
    }
    assert!(reason(remotes.fetch("hf://org/toy/none.gguf", None, &())).contains("no such file"));
    assert!(reason(remotes.fetch("hf://", None, &())).contains("org/name"));

    // Without a hub the cache still serves.
    let offline = Remotes { hub_endpoint: "http://127.0.0.1:1".into(), ..remotes.clone() };
    let cached = offline.fetch("hf://org/toy", None, &()).unwrap();
    check(&cached);
    assert_eq!(cached.revision, revision("main"));

    // A repository without a tokenizer names the one it uses, as those of TransformerLens do.
    let mut config: serde_json::Value = serde_json::from_slice(&toy_files()["config.json"]).unwrap();
    config["tokenizer_name"] = "org/toy".into();
    let fresh = Remotes { hub_cache: folder.path().join("fresh/hub"), ..remotes.clone() };
    server.files.lock().unwrap().insert("config.json".into(), config.to_string().into_bytes());
    check(&fresh.fetch("hf://org/toy", None, &()).unwrap());
}

#[test]
fn web_servers() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let remotes = remotes(folder.path());
    let location = format!("{}/files", server.address);

    let heard = Heard::default();
    let files = remotes.fetch(&location, None, &heard).unwrap();
    check(&files);
    heard.check(3);
    assert!(files.weights[0].starts_with(folder.path().join("cache/objects")));

    // Unchanged files are not downloaded again, whole folder or single file.
    let again = remotes.fetch(&location, None, &()).unwrap();
    assert_eq!(again, files);
    let single = remotes.fetch(&format!("{location}/model.safetensors"), None, &()).unwrap();
    assert_eq!(single.weights, files.weights);
    assert_eq!(server.count("GET /files/"), 3);

    // A damaged copy, a missing copy, a damaged record: each is downloaded again.
    let copy = &files.weights[0];
    let mut bytes = std::fs::read(copy).unwrap();
    bytes[1_000_000] ^= 1;
    std::fs::write(copy, bytes).unwrap();
    check(&remotes.fetch(&location, None, &()).unwrap());
    assert_eq!(server.count("GET /files/model.safetensors"), 2);
    std::fs::remove_file(copy).unwrap();
    check(&remotes.fetch(&location, None, &()).unwrap());
    assert_eq!(server.count("GET /files/model.safetensors"), 3);
    std::fs::write(copy.with_file_name("model.safetensors.origin.json"), "{").unwrap();
    check(&remotes.fetch(&location, None, &()).unwrap());
    assert_eq!(server.count("GET /files/model.safetensors"), 4);

    // So is one that has changed at its source.
    server.files.lock().unwrap().insert("config.json".into(), b"{\"model_type\": \"new\"}".to_vec());
    let changed = remotes.fetch(&location, None, &()).unwrap();
    assert!(std::fs::read_to_string(changed.config.unwrap()).unwrap().contains("new"));
    assert_eq!(server.count("GET /files/config.json"), 2);

    // Nothing half-written is left lying about.
    let left = std::fs::read_dir(copy.parent().unwrap()).unwrap().count();
    assert_eq!(left, 6, "three files and their records");

    let missing = remotes.fetch(&format!("{}/files/none", server.address), None, &());
    assert!(matches!(missing, Err(Error::MissingFile { .. })), "{missing:?}");
    assert!(reason(remotes.fetch(&format!("{location}/none.gguf"), None, &())).contains("no such file"));
    assert!(reason(remotes.fetch("http://127.0.0.1:1/model", None, &())).contains("127.0.0.1:1"));
}

/// S3 server of moto; ends with the test.
struct Moto(Child, u16);

impl Moto {
    /// Starts the server; `None` if it cannot be installed here.
    fn start() -> Option<Self> {
        let python = match neuroql_requirements::moto() {
            Ok(python) => python,
            Err(reason) => {
                Requirement::Moto.skip(&reason);
                return None;
            }
        };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(python)
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let moto = Self(child, port);
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(60), "moto does not answer");
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(moto)
    }

    fn options(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://127.0.0.1:{}", self.1);
        [
            ("AWS_ENDPOINT", endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_REGION", "us-east-1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    fn create_bucket(&self, name: &str) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.1)).unwrap();
        let request =
            format!("PUT /{name} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    fn upload(&self, bucket: &str, key: &str, bytes: Vec<u8>) {
        let builder = AmazonS3Builder::new().with_bucket_name(bucket);
        let builder = self
            .options()
            .into_iter()
            .fold(builder, |builder, (name, value)| builder.with_config(name.to_lowercase().parse().unwrap(), value));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let store = builder.build().unwrap();
        runtime.block_on(store.put(&key.into(), PutPayload::from(bytes))).unwrap();
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn s3() {
    let Some(moto) = Moto::start() else { return };
    moto.create_bucket("models");
    for (name, bytes) in toy_files() {
        moto.upload("models", &format!("some/toy/{name}"), bytes);
    }
    let folder = tempfile::tempdir().unwrap();
    let remotes = Remotes { options: moto.options(), ..remotes(folder.path()) };

    let heard = Heard::default();
    let files = remotes.fetch("s3://models/some/toy/", None, &heard).unwrap();
    check(&files);
    heard.check(3);

    let heard = Heard::default();
    assert_eq!(remotes.fetch("s3://models/some/toy", None, &heard).unwrap().weights, files.weights);
    assert_eq!(remotes.fetch("s3://models/some/toy/model.safetensors", None, &heard).unwrap().weights, files.weights);
    heard.check(0);

    // A damaged copy is replaced; so is an intact one if the object has changed.
    let mut bytes = std::fs::read(&files.weights[0]).unwrap();
    bytes[1_000_000] ^= 1;
    std::fs::write(&files.weights[0], bytes).unwrap();
    let heard = Heard::default();
    check(&remotes.fetch("s3://models/some/toy/", None, &heard).unwrap());
    heard.check(1);
    let mut config = toy_files().remove("config.json").unwrap();
    config.push(b'\n');
    moto.upload("models", "some/toy/config.json", config.clone());
    let changed = remotes.fetch("s3://models/some/toy/", None, &()).unwrap();
    assert_eq!(std::fs::read(changed.config.unwrap()).unwrap(), config);

    // Without a model, without anything, without a bucket, without a server.
    moto.upload("models", "notes/readme.txt", b"x".to_vec());
    let empty = remotes.fetch("s3://models/notes", None, &());
    assert!(matches!(empty, Err(Error::MissingFile { .. })), "{empty:?}");
    assert!(reason(remotes.fetch("s3://models/none", None, &())).contains("no such file"));
    reason(remotes.fetch("s3://nobody/none", None, &()));
    drop(moto);
    let started = Instant::now();
    reason(remotes.fetch("s3://models/some/toy", None, &()));
    assert!(started.elapsed() < Duration::from_secs(30), "a dead server takes {:?}", started.elapsed());
}
