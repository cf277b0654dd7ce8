//! Tests of the files of `queries/` and `queries/papers/`: each describes its result, runs as it is, and has rows.

use std::fs;
use std::path::Path;

use libtest_mimic::{Failed, Trial};
use neuroql::Engine;

use crate::golden;
use crate::server::Error;
use crate::timing;

/// One trial per file.
pub fn trials() -> Vec<Trial> {
    let folder = golden::root().join("queries");
    let of = |folder| fs::read_dir(folder).expect("queries exists").flatten().map(|file| file.path());
    let mut files: Vec<_> = of(folder.join("papers")).chain(of(folder)).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    let trial = |file: std::path::PathBuf| {
        let name = file.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        timing::test(format!("queries::{name}"), move || Ok::<(), Failed>(run(&file)?))
    };
    files.into_iter().map(trial).collect()
}

#[tokio::main]
async fn run(file: &Path) -> Result<(), Error> {
    let sql = fs::read_to_string(file)?;
    assert!(sql.starts_with("-- "), "a comment says what is found");
    let name = file.file_name().ok_or("no name")?.to_string_lossy();
    let readme = fs::read_to_string(golden::root().join("queries/README.md"))?;
    assert!(readme.contains(&*name), "queries/README.md does not list {name}");
    let context = Engine::builder().build()?.session();
    let rows = context.sql(&sql).await?.collect().await?;
    assert!(rows.iter().any(|rows| rows.num_rows() > 0), "nothing is found");
    Ok(())
}
