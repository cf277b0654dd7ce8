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
//! | folder | holds |
//! |---|---|
//! | `wire` | sockets, start-up, the simple and the extended protocol, interrupts, error responses |
//! | `session` | one connection's settings, transaction, prepared statements, portals and cursors |
//! | `sql` | parsing, rewriting of what DataFusion does not plan, names of columns, parameters |
//! | `decode` | values that clients send, in text and binary |
//! | `encode` | values that clients are sent |
//! | `catalog` | `pg_catalog` and the functions that clients call |
//! | `client` | sessions of the process itself, without a socket |
//!
//! pgwire provides only the messages, datafusion-postgres the encoding of values and the Postgres catalog; the
//! protocol's state lives here, so that every result streams and every statement can be stopped. Permissions are those
//! of `neuroql-access`.

use std::io;
use std::path::PathBuf;

use datafusion::error::DataFusionError;
use neuroql::floats;

mod catalog;
mod client;
mod decode;
mod encode;
mod session;
mod sql;
mod wire;

pub use client::{
    Canceller, Client, ClientError, Column, Event, Kind, Local, Reader, Readers, Report, Row, Rows, Transaction,
};
pub use wire::server::{Config, Server};
pub use wire::tls::{TlsFiles, acceptor};

/// Errors that keep a server from starting.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken, not one of this machine's, or not an address.
    #[error("cannot listen on {address}: {source}{}", listen_hint(.source))]
    Listen {
        /// Address in the configuration.
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
        /// Address in the configuration.
        address: String,
    },
    /// Traffic with other machines could be read on the way.
    #[error(
        "{address} can be reached from other machines: give a certificate (--tls-cert, --tls-key), or say \
         --allow-unencrypted"
    )]
    Unencrypted {
        /// Address in the configuration.
        address: String,
    },
    /// The password file cannot be used.
    #[error(transparent)]
    Access(#[from] neuroql_access::Error),
    /// A location that analysts may register from does not exist, or is none.
    #[error("--allow-location {0}")]
    Location(String),
    /// The audit log cannot be written.
    #[error("audit log {}: {source}", file.display())]
    Audit {
        /// The file.
        file: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The certificate or the key cannot be used.
    #[error("TLS: {}: {reason}", file.display())]
    Tls {
        /// The file.
        file: PathBuf,
        /// The fault.
        reason: String,
    },
    /// The Postgres catalog could not be set up, or the store could not be read.
    #[error("cannot set up the Postgres catalog: {0}")]
    Catalog(#[from] DataFusionError),
}

fn listen_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another server runs there, choose another port with --listen",
        _ => "",
    }
}
