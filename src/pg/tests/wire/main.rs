//! Tests of a server on a real socket, with clients that behave, misbehave and vanish.

#![allow(clippy::unwrap_used)]

mod access;
mod administration;
mod assignments;
mod bpchar;
mod constraints;
mod date_styles;
mod encodings;
mod functions;
mod json;
mod limits;
mod literals;
mod matrix;
mod notifications;
mod objects;
mod positions;
mod privileges;
mod protocol;
mod ranges;
mod raw;
mod row_changes;
mod sequences;
mod session_tables;
mod sessions;
mod statements;
mod streaming;
mod subqueries;
mod table_constraints;
mod tables;
mod temporary;
mod text_types;
mod transactions;
mod user_types;
mod uuids;
mod values;
mod zones;

use std::sync::Arc;
use std::time::{Duration, Instant};

use neuroql_pg::{Config, Server};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::tables::Tables;

/// A query that runs for hours without a pause. [`Tables::until_running`] sees that it runs by its scan of a table.
const ENDLESS: &str = "select count(*) from generate_series(1, 100000000000) a union all select a from slow_rows";

struct Running {
    port: u16,
    tables: Arc<Tables>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Running {
    async fn start() -> Self {
        Self::start_with(Config::default()).await
    }

    /// Starts a server with a memory limit.
    async fn start_limited(bytes: usize) -> Self {
        Self::over(neuroql::Engine::builder().with_memory_limit(bytes).build().unwrap(), Config::default()).await
    }

    async fn start_with(config: Config) -> Self {
        Self::over(neuroql::Engine::builder().build().unwrap(), config).await
    }

    async fn over(engine: neuroql::Engine, config: Config) -> Self {
        let tables = Tables::register(&engine.session());
        let config = Config { listen: "127.0.0.1:0".into(), ..config };
        let server = Server::bind(&engine, config).await.unwrap();
        let port = server.local_addr().port();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self { port, tables, stop: Some(stop), task }
    }

    async fn connect(&self) -> Client {
        self.try_connect("user=ada").await.unwrap()
    }

    async fn try_connect(&self, config: &str) -> Result<Client, tokio_postgres::Error> {
        let config = format!("host=127.0.0.1 port={} {config}", self.port);
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

/// Returns the rows of a query, their values joined by `|`.
async fn lines(client: &Client, query: &str) -> Vec<String> {
    let messages = client.simple_query(query).await.unwrap_or_else(|error| panic!("{query}: {error:?}"));
    let line = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            let values: Vec<_> = (0..row.len()).map(|at| row.get(at).unwrap_or("NULL")).collect();
            Some(values.join("|"))
        }
        _ => None,
    };
    messages.iter().filter_map(line).collect()
}

/// Returns the first column of every row, through the simple protocol.
async fn simple(client: &Client, query: &str) -> Vec<String> {
    let messages = client.simple_query(query).await.unwrap();
    let value = |message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_string()),
        _ => None,
    };
    messages.into_iter().filter_map(value).collect()
}

fn sqlstate(error: &tokio_postgres::Error) -> &str {
    error.code().map_or("none", |code| code.code())
}

async fn fails(client: &Client, query: &str) -> String {
    match client.simple_query(query).await {
        Ok(_) => panic!("{query} succeeds"),
        Err(error) => sqlstate(&error).to_string(),
    }
}

/// Waits until a session runs this statement, which `client` sees in `pg_stat_activity`.
async fn until_active(client: &Client, statement: &str) {
    let query = format!("select 1 from pg_stat_activity where state = 'active' and query = '{statement}'");
    let start = Instant::now();
    while simple(client, &query).await.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(60), "nobody runs {statement}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
