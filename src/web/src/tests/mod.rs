//! Tests of requests, without sockets but those of `connections`.

#![allow(clippy::unwrap_used)]

mod connections;
mod contract;
mod explorer;
mod programs;
mod safety;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use neuroql::Engine;
use neuroql_access::Users;
use neuroql_pg::Readers;
use tower::ServiceExt;

use crate::guard::Peer;
use crate::routes::router;
use crate::server::{Config, shared};

const ADDRESS: &str = "127.0.0.1:8433";

/// The bundled model, the published data of DeepDecipher's sample, and a model with hostile tokens.
async fn engine() -> Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    static MAKING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _alone = MAKING.lock().await;
    if let Some(engine) = ENGINE.get() {
        return engine.clone();
    }
    let engine = Engine::builder().build().unwrap();
    let session = engine.session();
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/formats/deepdecipher/data.db");
    let openai = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/formats/openai_neuron_explainer");
    for sql in [
        format!("CREATE EXTERNAL TABLE dd STORED AS DEEPDECIPHER LOCATION '{sample}'"),
        format!("CREATE EXTERNAL TABLE oai STORED AS OPENAI_NEURONS LOCATION '{openai}'"),
        // A name that needs quotes in SQL, escapes in HTML and in addresses.
        format!("CREATE EXTERNAL TABLE \"<b>'&%2F \u{202e}x\" STORED AS DEEPDECIPHER LOCATION '{sample}'"),
    ] {
        session.sql(&sql).await.unwrap().collect().await.unwrap();
    }
    ENGINE.get_or_init(|| engine).clone()
}

/// Sessions of users over the engine.
async fn readers(users: Option<Users>) -> Readers {
    match users {
        Some(users) => Readers::with_users(&engine().await, users).unwrap(),
        None => Readers::new(&engine().await).unwrap(),
    }
}

/// An answer to a request.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    fn header(&self, name: impl header::AsHeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A client of a site.
struct Client(Router);

impl Client {
    async fn new() -> Self {
        Self::with(Config::default(), None).await
    }

    async fn with(config: Config, users: Option<Users>) -> Self {
        let address: SocketAddr = ADDRESS.parse().unwrap();
        Self(router(Arc::new(shared(readers(users).await, address, false, config).unwrap())))
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", ADDRESS);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::from(body.to_owned())).unwrap();
        request.extensions_mut().insert(Peer(([127, 0, 0, 1], 50000).into()));
        let response = self.0.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 64 << 20).await.unwrap().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    /// Returns a page that must be there.
    async fn page(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        answer.text().to_owned()
    }

    async fn query(&self, body: serde_json::Value) -> Answer {
        self.send("POST", "/v1/query", &[("content-type", "application/json")], &body.to_string()).await
    }
}
