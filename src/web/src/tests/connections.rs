//! Requests over sockets.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use neuroql::Engine;
use neuroql_pg::Readers;

use crate::server::{Config, Site};

async fn start(readers: Readers) -> (std::net::SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let config = Config { listen: "127.0.0.1:0".into(), ..Config::default() };
    let site = Site::bind(readers, config).await.unwrap();
    let address = site.local_addr();
    assert_eq!(site.link(), format!("http://{address}/"));
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(site.run(async { drop(stopped.await) }));
    (address, stop, task)
}

/// Returns true if a request runs a statement.
async fn running(readers: &Readers) -> bool {
    let watcher = readers.session("reader", ([127, 0, 0, 1], 1).into(), "watch", Duration::from_secs(30)).await;
    let sql = "SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = 'neuroql explorer'";
    let batch = watcher.unwrap().query(sql, &[]).await.unwrap().next().await.unwrap().unwrap();
    format!("{:?}", batch.column(0)).contains('1')
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_and_a_closed_one_ends_its_statement() {
    let readers = Readers::new(&Engine::builder().build().unwrap()).unwrap();
    let (address, stop, task) = start(readers.clone()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]).to_lowercase();
    assert!(answer.starts_with("http/1.1 200 ok") && answer.contains("content-security-policy"), "{answer}");

    let body = "{\"sql\": \"SELECT count(*) FROM generate_series(1, 100000000000)\"}";
    let request = format!(
        "POST /v1/query HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let wait_for = async |wanted: bool| {
        for _ in 0..300 {
            if running(&readers).await == wanted {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    };
    assert!(wait_for(true).await, "the statement does not run");
    drop(stream);
    assert!(wait_for(false).await, "the statement goes on");

    // A head that does not end is not waited for, and one that is too long is refused.
    let mut long = TcpStream::connect(address).await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nHost: {address}\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    // The server may close while this is still being sent.
    let _ = long.write_all(head.as_bytes()).await;
    let mut said = Vec::new();
    let _ = long.read_to_end(&mut said).await;
    assert!(!String::from_utf8_lossy(&said).starts_with("HTTP/1.1 200"));
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap();
}
