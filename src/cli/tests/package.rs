//! The wheel that tests/package makes of the program: pip installs it, and it answers.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use neuroql_requirements::{Requirement, succeeds};

#[test]
fn a_wheel_is_installed_and_answers() {
    let here = Path::new(".");
    if let Err(reason) = succeeds("python3", &["-c", "import venv, ensurepip, tomllib"], here) {
        return Requirement::Python.skip(&reason);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    // A program for debugging is several times as large as the one that is published.
    let stripped = path("neuroql");
    succeeds("strip", &["-o", &stripped, env!("CARGO_BIN_EXE_neuroql")], here).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/package/package.py");
    let script = script.to_string_lossy();
    succeeds("python3", &[&script, &stripped, "--out", &path("dist"), "--only", "wheel", "--level", "1"], here)
        .unwrap();
    let wheels: Vec<_> = std::fs::read_dir(path("dist")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [wheel] = &wheels[..] else { panic!("one wheel: {wheels:?}") };
    let name = wheel.file_name().unwrap().to_string_lossy();
    assert!(name.starts_with("neuroql-0.1.0-py3-none-manylinux_2_"), "{name}");

    succeeds("python3", &["-m", "venv", &path("venv")], here).unwrap();
    let began = Instant::now();
    let python = path("venv/bin/python");
    succeeds(&python, &["-m", "pip", "install", "--no-index", "--no-deps", &wheel.to_string_lossy()], here).unwrap();
    let query = "SELECT count(*) AS n FROM toy.neurons";
    let said = Command::new(path("venv/bin/neuroql")).args(["query", query, "--format", "csv"]).output().unwrap();
    let elapsed = began.elapsed();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "n\n1024\n", "{}", String::from_utf8_lossy(&said.stderr));
    assert!(elapsed < Duration::from_secs(60), "{elapsed:?}");
}

#[test]
fn what_is_no_program_is_refused() {
    let here = Path::new(".");
    if let Err(reason) = succeeds("python3", &["-c", "import tomllib"], here) {
        return Requirement::Python.skip(&reason);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/package/package.py");
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let refused = succeeds("python3", &[&script.to_string_lossy(), manifest], here).unwrap_err();
    assert!(refused.contains("not a 64-bit little-endian ELF program"), "{refused}");
}
