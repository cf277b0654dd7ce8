//! neuroql over the Postgres wire protocol.
//!
//! ```no_run
//! # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! use neuroql_pg::{Config, Server};
//!
//! let engine = neuroql::Engine::builder().build()?;
//! let server = Server::bind(&engine, Config { listen: "127.0.0.1:0".into(), ..Config::default() }).await?;
//! println!("psql -h 127.0.0.1 -p {} -U neuroql", server.local_addr().port());
//! server.run(async { tokio::signal::ctrl_c().await.expect("signals work") }).await;
//! # Ok(()) }
//! ```
//!
//! Read in this order: [`server`](Server) accepts, `startup` lets a client in, `connection` talks to it,
//! `session` runs its statements, `rows` and `output` bring the result back. `attention` interrupts all that,
//! `permissions` says what a user may do. Of pgwire only the messages are used, of datafusion-postgres the encoding
//! of values and the Postgres catalog; the protocol's state lives here, so that every result streams and every
//! statement can be stopped.

use std::io;
use std::path::PathBuf;

use datafusion::error::DataFusionError;
use neuroql::floats;

mod attention;
mod casts;
mod catalog;
mod catalog_queries;
mod connection;
mod dialect;
mod functions;
mod inserts;
mod names;
mod nested;
mod numbers;
mod object_casts;
mod object_functions;
mod objects;
mod output;
mod parameters;
mod parse;
mod passwords;
mod permissions;
mod quotes;
mod records;
mod report;
mod rewrites;
mod rows;
mod scram;
mod server;
mod session;
mod settings;
mod startup;
mod statements;
mod times;
mod tls;
mod using;
mod values;
mod variables;
mod wire;

pub use server::{Config, Server};
pub use tls::TlsFiles;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken, not one of this machine's, or not an address.
    #[error("cannot listen on {address}: {source}{}", listen_hint(.source))]
    Listen {
        /// As configured.
        address: String,
        /// The system's error.
        source: io::Error,
    },
    /// Other machines could connect without a password.
    #[error(
        "{address} can be reached from other machines: give a password file (--password-file), \
         or listen on 127.0.0.1"
    )]
    Exposed {
        /// As configured.
        address: String,
    },
    /// The password file cannot be used.
    #[error("password file {}: {reason}", file.display())]
    PasswordFile {
        /// The file.
        file: PathBuf,
        /// The fault.
        reason: String,
    },
    /// The certificate or the key cannot be used.
    #[error("TLS: {}: {reason}", file.display())]
    Tls {
        /// The file.
        file: PathBuf,
        /// The fault.
        reason: String,
    },
    /// The Postgres catalog could not be set up.
    #[error("cannot set up the Postgres catalog: {0}")]
    Catalog(#[from] DataFusionError),
}

fn listen_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another server runs there, choose another port with --listen",
        _ => "",
    }
}
