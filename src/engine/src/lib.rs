//! SQL over the neurons of language models: the crate people add.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> datafusion::error::Result<()> {
//! let engine = neuroql::Engine::builder().build()?;
//! let session = engine.session();
//! let sql = "SELECT position, token, activation FROM toy.activations
//!            WHERE text = 'The President of the United States' AND layer = 1 AND neuron = 17
//!            ORDER BY position";
//! let rows = session.sql(sql).await?.collect().await?;
//! assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 6);
//! # Ok(()) }
//! ```
//!
//! [`Engine`] owns models, catalog and memory, and hands out sessions. A program that has a
//! [`SessionContext`](datafusion::prelude::SessionContext) of its own calls [`register_all`] on it instead.

mod dialect;
mod engine;
mod postgres;
mod register;
mod sqlstate;

pub use dialect::PostgresDialect;
pub use engine::{Engine, EngineBuilder};
pub use neuroql_catalogs::{Guest, superuser_relation};
pub use neuroql_model::{CancelOnDrop, Model, Options, Progress, Registry};
pub use neuroql_store::{Error as StoreError, Store};
pub use neuroql_udfs::interruptible;
pub use postgres::{PostgresTypes, Refusal, array_texts, floats};
pub use register::register_all;
pub use sqlstate::{Diagnosis, diagnose, sqlstate};
