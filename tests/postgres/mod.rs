//! Statements made from a seed, asked of a real PostgreSQL and of neuroql by each way of the protocol: the answers are
//! equal in values and types, or neuroql refuses with an SQLSTATE.
//!
//! `NEUROQL_DIFFERENTIAL_STATEMENTS` (3000) and `NEUROQL_DIFFERENTIAL_SEED` (1) choose how many and which,
//! `NEUROQL_DIFFERENTIAL_ONLY` the statement of one index, as a failure prints it. A run ends after
//! `NEUROQL_DIFFERENTIAL_SECONDS`, or after `NEUROQL_DIFFERENTIAL_FAILURES` (10) kinds of failures.
//! `NEUROQL_DIFFERENTIAL_SERVER` is the port of a server on this machine to ask instead of one of this program's own,
//! such as one of a release build. `NEUROQL_DIFFERENTIAL_INVALID=1` prints what PostgreSQL itself refuses.

#![expect(clippy::print_stdout, reason = "the report of a run is its output")]

mod allowed;
mod cluster;
mod compare;
mod expressions;
mod statements;
mod tree;
mod trial;
mod values;
mod wire;
mod wrappers;

use libtest_mimic::{Completion, Failed, Trial};
use neuroql::Engine;
use neuroql_requirements::Requirement;

use crate::server;
use crate::timing;

pub use trial::{Options, run};

/// The trial.
pub fn trials() -> Vec<Trial> {
    vec![timing::ignorable_test("postgres::differential", differential)]
}

fn differential() -> Result<Completion, Failed> {
    let programs = match cluster::installed() {
        Ok(programs) => programs,
        Err(reason) => return Ok(Completion::ignored_with(Requirement::Postgres.missing(&reason)?)),
    };
    let cluster = cluster::Cluster::start(&programs)?;
    let options = Options::from_environment()?;
    let report = match std::env::var("NEUROQL_DIFFERENTIAL_SERVER") {
        Ok(port) => run(cluster.port, port.parse()?, &options)?,
        Err(_) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            let running = runtime.block_on(async { server::start(Engine::builder().build()?).await })?;
            let report = run(cluster.port, running.port, &options)?;
            runtime.block_on(running.stop())?;
            report
        }
    };
    println!("{report}");
    if !report.failures.is_empty() {
        return Err("answers differ".into());
    }
    // Otherwise the trial would pass if neuroql refused all statements.
    let asked = report.equal + report.allowed + report.refused();
    if options.only.is_none() && report.equal * 2 < asked {
        return Err(format!("only {} of {asked} answers are equal", report.equal).into());
    }
    Ok(Completion::Completed)
}
