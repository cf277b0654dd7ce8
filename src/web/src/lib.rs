//! The explorer: pages about the neurons of models, and JSON for programs, over HTTP.
//!
//! | module | holds |
//! |---|---|
//! | `server`, `connection` | sockets, TLS, connections |
//! | `guard` | which requests are answered at all: hosts, other sites, users |
//! | `sessions` | logins |
//! | `query` | statements of a request, and their limits |
//! | `pages` | HTML, from the templates in `templates/` |
//! | `v1` | JSON, CSV, Arrow and Parquet for programs |
//! | `deepdecipher` | the JSON of DeepDecipher's server |
//!
//! Every page is made of statements that it shows. They run in sessions of `neuroql-pg` that only read.

mod arrow_json;
mod assets;
mod connection;
mod deepdecipher;
mod error;
mod facts;
mod guard;
mod pages;
mod parameters;
mod query;
mod routes;
mod server;
mod sessions;
mod sql_text;
mod v1;

pub use server::{Config, Error, Site};

#[cfg(test)]
mod tests;
