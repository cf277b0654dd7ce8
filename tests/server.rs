//! A server inside the test process, on a port of its own.

use std::time::{Duration, Instant};

use neuroql::Engine;
use neuroql_pg::{Config, Server};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

/// Error of a test.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// A server that listens; [`Running::stop`] shuts it down.
pub struct Running {
    /// Port on 127.0.0.1.
    pub port: u16,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Starts a server over `engine`.
pub async fn start(engine: Engine) -> Result<Running, Error> {
    let server = Server::bind(&engine, Config { listen: "127.0.0.1:0".into(), ..Config::default() }).await?;
    let port = server.local_addr().port();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(server.run(async { drop(stopped.await) }));
    Ok(Running { port, stop, task })
}

impl Running {
    /// Connects as the superuser.
    pub async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        let address = format!("host=127.0.0.1 port={} user=neuroql dbname=neuroql", self.port);
        let (client, connection) = tokio_postgres::connect(&address, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Shuts the server down; a panic of its task is an error.
    pub async fn stop(self) -> Result<(), Error> {
        // The server may have ended by itself; the task then says how.
        let _ = self.stop.send(());
        Ok(self.task.await?)
    }
}

/// Waits until a session runs a statement with this text, which another client sees.
pub async fn until_active(client: &Client, text: &str) -> Result<(), Error> {
    let query =
        "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND strpos(query, $1) > 0";
    let start = Instant::now();
    while client.query(query, &[&text]).await?.is_empty() {
        if start.elapsed() > Duration::from_secs(60) {
            return Err(format!("nobody runs {text}").into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
