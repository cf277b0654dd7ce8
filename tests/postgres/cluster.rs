//! A PostgreSQL of the test's own, in a temporary folder, as an unprivileged user.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::server::Error;

/// A running PostgreSQL; it ends with this value.
pub struct Cluster {
    pub port: u16,
    process: Child,
    // The folder is removed after the process has ended.
    _folder: tempfile::TempDir,
}

/// Returns the programs of an installed PostgreSQL, 15 if there are several, or the reason why there is none.
pub fn installed() -> Result<PathBuf, String> {
    let usable = |folder: &Path| folder.join("initdb").exists() && folder.join("postgres").exists();
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = debian
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(version, folder)| *version >= 15 && usable(folder))
        .collect();
    versions.sort();
    if let Some((_, folder)) = versions.into_iter().next() {
        return Ok(folder);
    }
    let answer = Command::new("pg_config").arg("--bindir").output();
    let folder = answer.ok().map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    folder.filter(|folder| usable(folder)).ok_or_else(|| {
        "PostgreSQL 15 is not installed: neither /usr/lib/postgresql nor pg_config knows initdb and postgres".into()
    })
}

impl Cluster {
    /// Makes a cluster and starts it.
    pub fn start(programs: &Path) -> Result<Self, Error> {
        let folder = tempfile::tempdir()?;
        let owner = unprivileged(folder.path())?;
        if let Some((user, group)) = owner {
            chown(folder.path(), Some(user), Some(group))?;
        }
        let data = folder.path().join("data");
        let run = |program: &str| {
            let mut command = Command::new(programs.join(program));
            command.current_dir(folder.path()).stdin(Stdio::null());
            if let Some((user, group)) = owner {
                command.uid(user).gid(group);
            }
            command
        };
        let made = run("initdb")
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync", "--no-instructions"])
            // Texts are compared by their bytes, and letters are those of Unicode.
            .args(["--locale=C", "--lc-ctype=C.UTF-8"])
            .arg("--pgdata")
            .arg(&data)
            .output()?;
        if !made.status.success() {
            return Err(format!("initdb: {}", String::from_utf8_lossy(&made.stderr)).into());
        }
        let log = folder.path().join("log");
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let output = fs::File::create(&log)?;
            let mut process = run("postgres")
                .arg("-D")
                .arg(&data)
                .arg("-k")
                .arg(folder.path())
                .arg("-p")
                .arg(port.to_string())
                .args(SETTINGS.iter().flat_map(|setting| ["-c", setting]))
                .stdout(output.try_clone()?)
                .stderr(output)
                .spawn()?;
            let start = Instant::now();
            // Another program may have taken the port: postgres ends then.
            while process.try_wait()?.is_none() {
                let ready = fs::read_to_string(&log)?.contains("ready to accept connections");
                if ready {
                    return Ok(Self { port, process, _folder: folder });
                }
                if start.elapsed() > Duration::from_secs(60) {
                    stop(&mut process);
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Err(format!("PostgreSQL does not start: {}", fs::read_to_string(&log)?).into())
    }
}

const SETTINGS: [&str; 12] = [
    "listen_addresses=127.0.0.1",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "autovacuum=off",
    "jit=off",
    "max_parallel_workers_per_gather=0",
    "shared_buffers=32MB",
    "timezone=UTC",
    "datestyle=ISO",
    "lc_messages=C",
    "statement_timeout=20s",
];

impl Drop for Cluster {
    fn drop(&mut self) {
        stop(&mut self.process);
    }
}

/// Asks for a fast shutdown, and insists after ten seconds.
fn stop(process: &mut Child) {
    let asked = Command::new("kill").args(["-INT", &process.id().to_string()]).status();
    let start = Instant::now();
    while asked.is_ok() && start.elapsed() < Duration::from_secs(10) {
        if matches!(process.try_wait(), Ok(Some(_)) | Err(_)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = process.kill();
    let _ = process.wait();
}

/// Returns the user and group to run as if the test runs as root, whom PostgreSQL refuses.
fn unprivileged(own: &Path) -> Result<Option<(u32, u32)>, Error> {
    if fs::metadata(own)?.uid() != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    // Debian's package makes a user postgres; elsewhere the user nobody will do.
    for name in ["postgres", "nobody"] {
        let line = users.lines().find(|line| line.split(':').next() == Some(name));
        let fields: Vec<&str> = line.map(|line| line.split(':').collect()).unwrap_or_default();
        if let (Some(user), Some(group)) = (fields.get(2), fields.get(3)) {
            return Ok(Some((user.parse()?, group.parse()?)));
        }
    }
    Err("PostgreSQL does not run as root, and /etc/passwd has neither postgres nor nobody".into())
}
