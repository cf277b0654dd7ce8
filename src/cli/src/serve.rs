//! `neuroql serve`.

use std::sync::Arc;

use neuroql::Options;
use neuroql_pg::{Config, Server, TlsFiles};
use neuroql_web::Site;

use crate::arguments::{self, Http, Serve};
use crate::console::{self, Failure};

pub(crate) async fn run(options: Serve) -> Result<(), Failure> {
    let engine = start_engine(&options.engine).await?;
    let client_authorities = options.tls_client_authorities;
    let tls = options.tls_cert.zip(options.tls_key);
    let tls = tls.map(|(certificate, key)| TlsFiles { certificate, key, client_authorities });
    let web = neuroql_web::Config {
        hosts: options.http_hosts,
        cors: options.http_cors,
        tls: tls.clone(),
        allow_unencrypted: options.allow_unencrypted,
        ..neuroql_web::Config::default()
    };
    let config = Config {
        listen: options.listen,
        password_file: options.password_file,
        allowed_locations: options.allowed_locations,
        host_rules: options.host_rules,
        audit_log: options.audit_log,
        tls,
        allow_unencrypted: options.allow_unencrypted,
        max_connections: options.max_connections,
        max_connections_per_user: options.max_connections_per_user,
        statement_timeout: options.statement_timeout,
        max_statement_timeout: options.max_statement_timeout,
        ..Config::default()
    };
    let local = config.password_file.is_none();
    let server = Server::bind(&engine, config).await?;
    let site = match options.http {
        Http::Off => None,
        Http::At(listen) => Some(Site::bind(server.readers(), neuroql_web::Config { listen, ..web }).await?),
        Http::IfFree => match Site::bind(server.readers(), web).await {
            Ok(site) => Some(site),
            // Another neuroql most likely: this one serves Postgres clients only.
            Err(error) if error.is_taken() => {
                console::print(&format!("{error}; choose another port with neuroql serve --http ADDR\n\n"))?;
                None
            }
            Err(error) => return Err(error.into()),
        },
    };
    console::print(&greeting(site.as_ref().map(Site::link).as_deref(), server.local_addr(), local))?;
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let pages = async move {
        let mut stopping = stopping;
        if let Some(site) = site {
            // The sender is dropped when the other server has ended.
            site.run(async move { drop(stopping.wait_for(|stop| *stop).await) }).await;
        }
    };
    let clients = server.run(async move {
        asked_to_stop().await;
        stop.send_replace(true);
    });
    tokio::join!(clients, pages);
    Ok(())
}

/// The engine with the models named on the command line.
pub(crate) async fn start_engine(options: &arguments::Engine) -> Result<neuroql::Engine, Failure> {
    let mut builder = neuroql::Engine::builder().with_progress(Arc::new(console::Bars::default()));
    if let Some(bytes) = options.memory_limit {
        builder = builder.with_memory_limit(bytes);
    }
    if let Some(threads) = options.threads {
        builder = builder.with_threads(usize::from(threads));
    }
    if let Some(location) = &options.store {
        builder = builder.with_store(neuroql::Store::open(location).await.map_err(store_failure)?);
    }
    let engine = builder.build()?;
    engine.restore().await?;
    for (name, location) in &options.models {
        engine.register_model(name, location, Options::default()).await?;
    }
    Ok(engine)
}

pub(crate) fn store_failure(error: neuroql::StoreError) -> Failure {
    Failure { message: error.to_string(), hint: None }
}

/// Text that tells users how to connect.
fn greeting(link: Option<&str>, address: std::net::SocketAddr, local: bool) -> String {
    let explore = link.map_or(String::new(), |link| format!("Explore neurons at\n\n    {link}\n\n"));
    let host = if address.ip().is_unspecified() { "127.0.0.1".into() } else { address.ip().to_string() };
    let user = if local { "neuroql" } else { "USER" };
    format!(
        "\
{explore}neuroql {version} is listening on {address}. Connect with

    psql -h {host} -p {port} -U {user}

and try

    SELECT model, layers, neurons_per_layer FROM models;

    SELECT position, token, activation FROM toy.activations
    WHERE text = 'The President of the United States' AND layer = 1 AND neuron = 17 ORDER BY position;

    SELECT layer, neuron, max(activation) FROM toy.activations
    WHERE text = 'import numpy as np' GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 10;

Stop with Ctrl-C.
",
        version = env!("CARGO_PKG_VERSION"),
        port = address.port(),
    )
}

/// Completes at the first SIGINT or SIGTERM; the second one ends the process at once.
async fn asked_to_stop() {
    signal().await;
    tokio::spawn(async {
        signal().await;
        std::process::exit(130);
    });
}

#[cfg(unix)]
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without handlers the signals keep their usual effect.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(not(unix))]
async fn signal() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::greeting;

    #[test]
    fn the_greeting_can_be_pasted() {
        let text = greeting(Some("http://127.0.0.1:8433/"), "127.0.0.1:5433".parse().unwrap(), true);
        assert!(text.starts_with("Explore neurons at\n\n    http://127.0.0.1:8433/\n"));
        assert!(text.contains("\n    psql -h 127.0.0.1 -p 5433 -U neuroql\n"));
        assert_eq!(text.matches("SELECT").count(), 3);
        assert!(greeting(None, "0.0.0.0:1".parse().unwrap(), false).contains("psql -h 127.0.0.1 -p 1 -U USER"));
    }
}
