//! End-to-end tests: SQL files run three ways, real clients, embedding, faults.
//!
//! `cargo test -p neuroql-tests` runs all, `cargo test -p neuroql-tests -- slt::activations` some.

mod analysis;
mod answers;
mod browser;
mod cell;
mod clients;
mod cookbook;
mod embedding;
mod faults;
mod files;
mod golden;
mod graphs;
mod held;
mod hub;
mod imports;
mod memory;
mod original;
mod postgres;
mod pushdown;
mod readings;
mod robustness;
mod server;
mod slt;
mod stores;
mod timing;

use std::process::ExitCode;

use libtest_mimic::Arguments;

/// Allocator that counts, so that tests can read the bytes in use.
#[global_allocator]
static ALLOCATED: memory::CountingAllocator = memory::CountingAllocator::new();

fn main() -> ExitCode {
    if let Some(code) = analysis::child()
        .or_else(graphs::child)
        .or_else(hub::child)
        .or_else(stores::child)
        .or_else(|| memory::child(&ALLOCATED))
    {
        return code;
    }
    let arguments = Arguments::from_args();
    if let Err(error) = golden::write_all() {
        panic!("reference values: {error}");
    }
    let trials = [
        slt::trials(),
        clients::trials(),
        browser::trials(),
        cookbook::trials(),
        embedding::trials(),
        pushdown::trials(),
        analysis::trials(),
        stores::trials(),
        graphs::trials(),
        original::trials(),
        faults::trials(),
        files::trials(),
        held::trials(),
        hub::trials(),
        imports::trials(),
        memory::trials(),
        readings::trials(),
        robustness::trials(),
        postgres::trials(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    timing::print_slowest();
    conclusion.exit_code()
}
