//! `neuroql user`: passwords come from standard input, and the file keeps verifiers of them.

#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn user(arguments: &[&str], file: &Path, rest: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_neuroql"));
    command.arg("user").args(arguments).arg(file).args(rest);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that fails before it reads closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn succeeds(arguments: &[&str], file: &Path, rest: &[&str], input: &str) -> String {
    let done = user(arguments, file, rest, input);
    assert!(done.status.success(), "{rest:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn fails(arguments: &[&str], file: &Path, rest: &[&str], input: &str) -> String {
    let done = user(arguments, file, rest, input);
    assert!(!done.status.success(), "{rest:?}");
    String::from_utf8(done.stderr).unwrap()
}

#[test]
fn users_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users");
    assert!(fails(&["list"], &file, &[], "").contains("users"));
    succeeds(&["add"], &file, &["ada", "--role", "superuser"], "s\u{e4}cret\n");
    succeeds(&["add"], &file, &["ann", "--role=analyst", "--max-connections=4", "--statement-timeout=5min"], "x\r\n");
    succeeds(&["add"], &file, &["bob"], "hunter2");
    assert_eq!(
        succeeds(&["list"], &file, &[], ""),
        "ada  superuser\nann  analyst  max_connections=4 statement_timeout=300000ms\nbob  reader\n"
    );
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.lines().all(|line| line.contains(":SCRAM-SHA-256$4096:")) && !text.contains("hunter2"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let read = neuroql_access::Users::read(&file).unwrap();
    assert!(read.authenticate("ada", "s\u{e4}cret").is_some() && read.authenticate("ann", "x").is_some());
    assert!(read.authenticate("bob", "hunter2").is_some());

    succeeds(&["password"], &file, &["bob"], "other\n");
    assert!(read.authenticate("bob", "other").is_some() && read.authenticate("bob", "hunter2").is_none());
    succeeds(&["remove"], &file, &["bob"], "");
    assert!(read.authenticate("bob", "other").is_none());

    let before = std::fs::read_to_string(&file).unwrap();
    for (command, rest, input, reason) in [
        ("add", &["ada"][..], "x\n", "exists"),
        ("add", &["eve"], "\n", "empty"),
        ("add", &["eve"], "", "empty"),
        ("add", &["a:b"], "x\n", "colon"),
        ("add", &["public"], "x\n", "all users"),
        ("add", &["eve", "--role", "admin"], "x\n", "not a role"),
        ("add", &["eve", "--max-connections", "0"], "x\n", "from 1"),
        ("remove", &["eve"], "", "no user \"eve\""),
        ("password", &["eve"], "x\n", "no user \"eve\""),
    ] {
        let error = fails(&[command], &file, rest, input);
        assert!(error.contains(reason), "{command} {rest:?}: {error}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);

    // Plain passwords, as administrators write them, are listed as such.
    std::fs::write(&file, "eve:plain:superuser\n").unwrap();
    assert!(succeeds(&["list"], &file, &[], "").contains("plain password"));
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    assert!(fails(&["list"], &file, &[], "").contains("chmod 600"));
}
