//! Statements made from a seed, asked of a real PostgreSQL and of neuroql by each way of the protocol: the answers are
//! equal in values and types, or neuroql refuses with an SQLSTATE.
//!
//! `NEUROQL_DIFFERENTIAL_STATEMENTS` (3000) and `NEUROQL_DIFFERENTIAL_SEED` (1) choose how many and which;
//! `NEUROQL_DIFFERENTIAL_ONLY` runs the statement of one index.

mod allowed;
mod cluster;
mod compare;
mod expressions;
mod statements;
mod tree;
mod trial;
mod values;
mod wire;

use libtest_mimic::{Completion, Failed, Trial};
use neuroql::Engine;
use neuroql_requirements::Requirement;

use crate::server;

pub use trial::{Options, run};

/// The trial.
pub fn trials() -> Vec<Trial> {
    vec![Trial::ignorable_test("postgres::differential", differential)]
}

fn differential() -> Result<Completion, Failed> {
    let programs = match cluster::installed() {
        Ok(programs) => programs,
        Err(reason) => return Ok(Completion::ignored_with(Requirement::Postgres.missing(&reason)?)),
    };
    let cluster = cluster::Cluster::start(&programs)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let running = runtime.block_on(async { server::start(Engine::builder().build()?).await })?;
    let report = run(cluster.port, running.port, &Options::from_environment()?)?;
    runtime.block_on(running.stop())?;
    println!("{report}");
    if report.failures.is_empty() { Ok(Completion::Completed) } else { Err("answers differ".into()) }
}
