//! `neuroql build`, killed while it works.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const NEURONS: u64 = 512;

fn neuroql(store: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_neuroql"));
    command.args(arguments).arg("--store").arg(store).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// Number of rows that the store has itself, and of neurons that have one.
fn kept(store: &Path) -> Result<(u64, u64)> {
    let sql = "SELECT count(*), count(DISTINCT neuron) FROM toy.graphs WHERE method = 'token'";
    let output = neuroql(store, &["query", "--format", "csv", sql]).output()?;
    let text = String::from_utf8(output.stdout)?;
    let row = text.lines().last().ok_or("no rows")?;
    let (rows, neurons) = row.split_once(',').ok_or_else(|| format!("no row: {text}"))?;
    Ok((rows.parse()?, neurons.parse()?))
}

/// Checks that graphs that were committed are kept, and that the next run goes on from there.
#[test]
fn killed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let build = ["build", "toy", "--method", "token", "--layer", "0"];
    let mut seen = 0;
    for _ in 0..2 {
        let mut process = neuroql(folder.path(), &build).stdout(Stdio::null()).spawn()?;
        let started = Instant::now();
        while kept(folder.path())?.0 <= seen && process.try_wait()?.is_none() {
            assert!(started.elapsed() < Duration::from_secs(300), "nothing is committed");
        }
        process.kill()?;
        process.wait()?;
        let (rows, neurons) = kept(folder.path())?;
        assert!(rows == neurons && rows >= seen, "{rows} rows of {neurons} neurons, {seen} before");
        seen = rows.min(NEURONS - 1);
    }
    assert!(seen > 0);
    for _ in 0..2 {
        assert!(neuroql(folder.path(), &build).stdout(Stdio::null()).status()?.success());
        assert_eq!(kept(folder.path())?, (NEURONS, NEURONS));
    }
    Ok(())
}
