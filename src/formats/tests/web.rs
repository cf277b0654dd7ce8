//! Published data on web servers: answers that are whole, missing, cut, late, elsewhere, endless or no HTTP at all.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use neuroql_formats::neuroscope::Neuroscope;
use neuroql_formats::openai::OpenAi;
use neuroql_formats::{Error, Item, LayerSelection, Request, Result, Source, Table, WebFolder};

/// Time that a server has for a file in these tests.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Behaviour of a server towards a request.
enum Reply {
    Whole(Vec<u8>),
    /// Another status, with further lines of the head.
    Status(&'static str, String),
    /// Declares more bytes than it sends.
    Cut(Vec<u8>),
    /// Declares this many bytes and sends some of them.
    Declared(u64),
    /// Sends chunks without end.
    Endless,
    /// Sends a byte from time to time.
    Trickle,
    /// Sends nothing.
    Silent,
    /// Sends lines of a head without end.
    EndlessHead,
    /// Sends what is no HTTP.
    Garbage,
    /// Closes the connection.
    Close,
}

/// A way of answering, by the path.
type Answering = Box<dyn Fn(&str) -> Reply + Send + Sync>;

/// A server that answers by a function of the path, and the paths that it was asked for.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

fn serve(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let (log, reply) = (Arc::clone(&asked), Arc::new(reply));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (log, reply) = (Arc::clone(&log), Arc::clone(&reply));
            // The client may go away at any time.
            std::thread::spawn(move || answer(&stream.unwrap(), &log, &*reply).unwrap_or(()));
        }
    });
    Server { address, asked }
}

fn answer(mut stream: &TcpStream, log: &Mutex<Vec<String>>, reply: &dyn Fn(&str) -> Reply) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or(Ok(String::new()))?;
    for line in &mut lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    log.lock().unwrap().push(path.clone());
    let head = |length: u64| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    match reply(&path) {
        Reply::Whole(body) => {
            stream.write_all(head(body.len() as u64).as_bytes())?;
            stream.write_all(&body)
        }
        Reply::Status(status, lines) => {
            write!(stream, "HTTP/1.1 {status}\r\n{lines}Content-Length: 4\r\nConnection: close\r\n\r\nno.\n")
        }
        Reply::Cut(body) => {
            stream.write_all(head(body.len() as u64 + 100).as_bytes())?;
            stream.write_all(&body)
        }
        Reply::Declared(length) => {
            stream.write_all(head(length).as_bytes())?;
            stream.write_all(b"{\"neuron_id\": ")
        }
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            let chunk = [b"10000\r\n".to_vec(), vec![b' '; 1 << 16], b"\r\n".to_vec()].concat();
            loop {
                stream.write_all(&chunk)?;
            }
        }
        Reply::Trickle => {
            stream.write_all(head(1000).as_bytes())?;
            loop {
                stream.write_all(b" ")?;
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Reply::Silent => {
            std::thread::sleep(20 * TIMEOUT);
            Ok(())
        }
        Reply::EndlessHead => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
            loop {
                stream.write_all(b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n")?;
            }
        }
        Reply::Garbage => stream.write_all(b"\x00\xffSSH-2.0-nothing of the web\r\n\r\n"),
        Reply::Close => Ok(()),
    }
}

fn sample(path: &str) -> Option<Vec<u8>> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/formats").join(path.trim_start_matches('/')))
        .ok()
}

fn samples(path: &str) -> Reply {
    sample(path).map_or(Reply::Status("404 Not Found", String::new()), Reply::Whole)
}

fn folder(server: &Server, path: &str) -> WebFolder {
    WebFolder::new(&format!("{}{path}", server.address), TIMEOUT).unwrap()
}

/// Numbers of rows, and reasons of rejects.
fn read(source: &dyn Source, table: Table, layers: &[u32], neurons: &[u32]) -> Result<(usize, Vec<String>)> {
    let neurons: Arc<[u32]> = neurons.into();
    let of_layer = |layer: &u32| LayerSelection { layer: *layer, neurons: Some(Arc::clone(&neurons)) };
    let selection = layers.iter().map(of_layer).collect();
    let (mut rows, mut rejects) = (0, Vec::new());
    let mut sink = |item| {
        match item {
            Item::Row(_) => rows += 1,
            Item::Reject(reject) => rejects.push(format!("{}: {}", reject.location, reject.reason)),
        }
        ControlFlow::Continue(())
    };
    source.scan(&Request { table, selection, columns: &["activation", "mean", "explanation"] }, &mut sink)?;
    Ok((rows, rejects))
}

#[test]
fn a_neuron_is_one_file() {
    let server = serve(samples);
    let source = OpenAi::web(folder(&server, "/openai_neuron_explainer/data"), None, None);
    let local =
        OpenAi::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/formats/openai_neuron_explainer"));
    let local = local.unwrap();
    for table in source.tables() {
        assert_eq!(read(&source, table, &[1], &[17]).unwrap(), read(&local, table, &[1], &[17]).unwrap(), "{table:?}");
    }
    server.asked.lock().unwrap().clear();
    assert!(read(&source, Table::Examples, &[1], &[17]).unwrap().0 > 0);
    assert_eq!(*server.asked.lock().unwrap(), ["/openai_neuron_explainer/data/collated-activations/1/17.json"]);

    // Several come in order, and files that are not there are named.
    let (rows, rejects) = read(&source, Table::Neurons, &[0, 1], &(0..20).collect::<Vec<_>>()).unwrap();
    assert_eq!((rows, rejects.len()), (3, 37));
    assert!(rejects[0].ends_with("collated-activations/0/0.json: the server has no such file"), "{}", rejects[0]);

    let pages = Neuroscope::web(folder(&server, "/neuroscope/tiny-gpt2/"), Some(2), Some(3));
    assert_eq!(pages.description().name.as_deref(), Some("tiny-gpt2"));
    assert_eq!(pages.layers().unwrap(), [0, 1]);
    assert_eq!(read(&pages, Table::Examples, &[0, 1], &[0, 1, 2]).unwrap(), (24, vec![]));
    assert_eq!(read(&pages, Table::Neurons, &[0], &[2]).unwrap(), (1, vec![]));
}

#[test]
fn files_have_to_be_named() {
    let server = serve(samples);
    let source = OpenAi::web(folder(&server, "/data/"), None, None);
    assert_eq!((source.layers().unwrap().len(), source.width()), (4096, 1 << 20));
    let many: Vec<u32> = (0..513).collect();
    for (layers, neurons) in [(&[0, 1][..], Some(&many[..])), (&[0], None)] {
        let neurons: Option<Arc<[u32]>> = neurons.map(Arc::from);
        let of_layer = |layer: &u32| LayerSelection { layer: *layer, neurons: neurons.clone() };
        for table in [Table::Neurons, Table::Examples] {
            let request = Request { table, selection: layers.iter().map(of_layer).collect(), columns: &[] };
            let error = source.scan(&request, &mut |_| ControlFlow::Continue(())).unwrap_err();
            assert_eq!(error.sqlstate(), "54000");
            assert!(
                error.to_string().contains("add WHERE layer = … AND neuron = …, for at most 1024 neurons"),
                "{error}"
            );
        }
    }
    assert!(server.asked.lock().unwrap().is_empty());
}

/// Reads an example whose file is answered in some way.
fn answered(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Result<(usize, Vec<String>)> {
    let server = serve(reply);
    let start = Instant::now();
    let result = read(&OpenAi::web(folder(&server, "/data/"), None, None), Table::Examples, &[0], &[3]);
    assert!(start.elapsed() < 3 * TIMEOUT, "it took {:?}", start.elapsed());
    result
}

#[test]
fn answers_that_are_not_the_file() {
    let record = || sample("openai_neuron_explainer/data/collated-activations/0/3.json").unwrap();
    let (rows, rejects) = answered(move |_| Reply::Whole(record())).unwrap();
    assert!(rows > 10 && rejects.is_empty(), "{rejects:?}");
    let half = move || record()[..1000].to_vec();
    let cases: [(Answering, &str); 9] = [
        (Box::new(move |_| Reply::Cut(half())), "it ended after 1000 bytes"),
        (Box::new(move |_| Reply::Whole(half())), "EOF while parsing"),
        (Box::new(|_| Reply::Whole(b"<html>Please log in</html>".to_vec())), "expected value"),
        (Box::new(|_| Reply::Whole(Vec::new())), "EOF while parsing"),
        (Box::new(|_| Reply::Whole(b"{\"x\":".repeat(1 << 20))), "EOF while parsing"),
        (Box::new(|_| Reply::Declared(1 << 40)), "it is larger than 16777216 bytes"),
        (Box::new(|_| Reply::Endless), "it is larger than 16777216 bytes"),
        (Box::new(|_| Reply::Status("403 Forbidden", String::new())), "the server answers 403 Forbidden"),
        (Box::new(|_| Reply::Status("503 Service Unavailable", String::new())), "the server answers 503"),
    ];
    for (reply, reason) in cases {
        let (rows, rejects) = answered(reply).unwrap();
        assert_eq!((rows, rejects.len()), (0, 1), "{reason}: {rejects:?}");
        assert!(rejects[0].contains(reason), "{reason}: {}", rejects[0]);
    }
    for reply in [|| Reply::EndlessHead, || Reply::Garbage] {
        match answered(move |_| reply()) {
            Ok((0, rejects)) => assert_eq!(rejects.len(), 1, "{rejects:?}"),
            Ok((rows, _)) => panic!("{rows} rows"),
            Err(error) => assert!(matches!(error, Error::Unreachable { .. }), "{error}"),
        }
    }
}

#[test]
fn servers_that_do_not_answer_end_the_query() {
    for reply in [|| Reply::Silent, || Reply::Trickle] {
        let error = answered(move |_| reply()).unwrap_err();
        assert_eq!(error.sqlstate(), "58030");
        assert!(error.to_string().contains("did not send the file within 2s"), "{error}");
    }
    let error = answered(|_| Reply::Close).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    // Nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let folder = WebFolder::new(&format!("http://127.0.0.1:{port}/"), TIMEOUT).unwrap();
    let error = read(&OpenAi::web(folder, None, None), Table::Explanations, &[0], &[0]).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

#[test]
fn redirections() {
    let lead = |to: String| Reply::Status("302 Found", format!("Location: {to}\r\n"));
    let record = || sample("openai_neuron_explainer/data/collated-activations/0/3.json").unwrap();
    let (rows, rejects) = answered(move |path| match path {
        "/moved/3.json" => Reply::Whole(record()),
        _ => lead("/moved/3.json".into()),
    })
    .unwrap();
    assert!(rows > 0 && rejects.is_empty());
    let refused = |reply: fn() -> Reply, reason: &str| {
        let (rows, rejects) = answered(move |_| reply()).unwrap();
        assert!(rows == 0 && rejects.len() == 1 && rejects[0].contains(reason), "{rejects:?}");
    };
    refused(|| Reply::Status("302 Found", "Location: http://169.254.169.254/latest\r\n".into()), "another server");
    refused(|| Reply::Status("302 Found", "Location: file:///etc/passwd\r\n".into()), "another server");
    refused(|| Reply::Status("302 Found", "Location: /again\r\n".into()), "redirects more than 3 times");
    refused(|| Reply::Status("302 Found", String::new()), "does not say where it leads");
    refused(|| Reply::Status("302 Found", "Location: http://[\r\n".into()), "redirects to no address");
}
