//! The explorer in a browser: Debian's Chromium, driven by `browser/journeys.mjs` through playwright-core.
//!
//! Screenshots are kept in `browser` in the folder of Cargo's temporary files, or in the folder that
//! `NEUROQL_SCREENSHOTS` names.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::{Completion, Failed, Trial};
use neuroql::Engine;
use neuroql_requirements::{Requirement, succeeds};
use neuroql_web::{Config, Site};
use tokio::sync::watch;

use crate::clients::{installed_for_node, patiently};
use crate::golden;
use crate::timing;

/// Packages of Node.js: the driver, and a checker of accessibility.
const PACKAGES: [&str; 2] = ["playwright-core@1.65.1", "axe-core@4.14.1"];

/// Names of Chromium's program.
const CHROMIUM: [&str; 2] = ["chromium", "chromium-browser"];

/// One trial.
pub fn trials() -> Vec<Trial> {
    vec![timing::ignorable_test("browser::journeys", journeys)]
}

/// Finds Chromium and the packages.
fn browser() -> Result<(&'static str, PathBuf), String> {
    let here = Path::new(".");
    let found = CHROMIUM.into_iter().find(|program| succeeds(program, &["--version"], here).is_ok());
    let program = found.ok_or("chromium cannot be run")?;
    Ok((program, installed_for_node(&PACKAGES)?))
}

#[tokio::main]
async fn journeys() -> Result<Completion, Failed> {
    let (program, modules) = match browser() {
        Ok(found) => found,
        Err(reason) => return Ok(Completion::ignored_with(Requirement::Browser.missing(&reason)?)),
    };
    let engine = Engine::builder().build()?;
    let sample = golden::root().join("tests/formats/deepdecipher/data.db");
    let create = format!("CREATE EXTERNAL TABLE dd STORED AS DEEPDECIPHER LOCATION '{}'", sample.display());
    engine.session().sql(&create).await?.collect().await?;
    let readers = neuroql_pg::Readers::new(&engine)?;
    let mut passwords = tempfile::NamedTempFile::new()?;
    writeln!(passwords, "ada:secret")?;
    let local = Config { listen: "127.0.0.1:0".into(), ..Config::default() };
    let open = Site::bind(readers, local.clone()).await?;
    let users = neuroql_access::Users::read(passwords.path())?;
    let closed = Site::bind(neuroql_pg::Readers::with_users(&engine, users)?, local).await?;
    let links = [open.link(), closed.link()];
    let (stop, stopped) = watch::channel(false);
    let run = |site: Site| {
        let mut stopped = stopped.clone();
        tokio::spawn(site.run(async move { drop(stopped.wait_for(|stop| *stop).await) }))
    };
    let tasks = [run(open), run(closed)];

    let screenshots = std::env::var_os("NEUROQL_SCREENSHOTS")
        .map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser"), PathBuf::from);
    std::fs::create_dir_all(&screenshots)?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser/journeys.mjs");
    let mut command = Command::new("node");
    command
        .arg(script)
        .env("SITE", &links[0])
        .env("CLOSED_SITE", &links[1])
        .env("CHROMIUM", program)
        .env("MODULES", &modules)
        .env("SCREENSHOTS", &screenshots);
    let said = tokio::task::spawn_blocking(move || patiently(command)).await?.map_err(|error| error.to_string())?;
    stop.send_replace(true);
    for task in tasks {
        task.await?;
    }
    match said.ends_with("ok") {
        true => Ok(Completion::Completed),
        false => Err(format!("journeys.mjs did not come to its end\n{said}").into()),
    }
}
