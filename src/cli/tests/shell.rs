//! `neuroql shell`: the same output as psql, exit codes, files, and a person at a terminal.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use neuroql_requirements::{Requirement, succeeds};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Runs a program with standard input.
fn run(command: &mut Command, input: &str) -> Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().ok_or("no input")?;
    let input = input.to_string();
    // A program that ends early does not read all.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output()?;
    writer.join().map_err(|_| "the writer panicked")?;
    Ok(output)
}

fn shell(arguments: &[&str], input: &str) -> Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_neuroql"));
    run(command.arg("shell").args(arguments).env_remove("NEUROQL_STORE"), input)
}

/// Runs a script that has to work; returns its output.
fn printed(arguments: &[&str], input: &str) -> Result<String> {
    let output = shell(arguments, input)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{input}\n{errors}");
    Ok(String::from_utf8(output.stdout)?)
}

/// A server, ended when it is dropped.
struct Server {
    child: Child,
    port: String,
}

impl Server {
    fn start() -> Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_neuroql"));
        command.args(["serve", "--listen", "127.0.0.1:0"]).env_remove("NEUROQL_STORE").stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let mut server = Self { child, port: String::new() };
        for line in lines {
            if let Some((_, rest)) = line?.split_once("psql -h 127.0.0.1 -p ") {
                server.port = rest.split(' ').next().unwrap_or_default().into();
                return Ok(server);
            }
        }
        Err("the server does not say where it listens".into())
    }

    fn psql(&self, arguments: &[&str], input: &str) -> Result<Output> {
        let mut command = Command::new("psql");
        command.args(["-X", "-h", "127.0.0.1", "-U", "neuroql", "-v", "ON_ERROR_STOP=1", "-p", &self.port]);
        run(command.args(arguments).env("PGCLIENTENCODING", "UTF8"), input)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Statements that work, in which the shell and psql should not differ.
const SCRIPT: &str = r#"
-- a comment
SELECT 1 AS a, 'x' AS "B c", NULL AS n, 2.50::numeric AS d, true AS t, ARRAY[1, NULL, 3] AS arr;
SELECT 'wide: 漢字' AS "größe", E'two\nlines' AS "a
b", E'tab\there' AS c, E'\x01 bell' AS x, 12345678901234 AS n
UNION ALL SELECT '', 'ë', '', '', 1 ORDER BY n;
SELECT 1 AS a WHERE false;
SELECT ';' AS s, $$it's; $$ AS d, /* ; */ 3 AS c;
CREATE TABLE shell_t(a int, b text);
INSERT INTO shell_t VALUES (1, 'one'), (2, NULL), (-30, 'a longer text');
BEGIN; COMMIT;
COMMIT;
\pset null '∅'
SELECT * FROM shell_t ORDER BY a; SELECT count(*) FROM shell_t
;
\x
SELECT a, b AS "a name that is long", E'x\nyz' AS m FROM shell_t ORDER BY a;
SELECT 1 AS a WHERE false;
SELECT 'a text that is much longer than the name of its column' AS c;
\x off
\echo some  text
SELECT 1 AS first\; SELECT 2 AS second;
SELECT * FROM (VALUES (1), (2)) t(v) \g
SELECT * FROM (VALUES (1), (2)) t(v) \gx
\pset format csv
SELECT b, 'a "quoted", text' AS q, E'l1\nl2' AS l FROM shell_t ORDER BY a;
\pset format aligned
COPY (SELECT a, b FROM shell_t ORDER BY a) TO STDOUT;
COPY (SELECT a, b FROM shell_t ORDER BY a) TO STDOUT WITH (FORMAT csv, HEADER);
COPY shell_t FROM STDIN;
7	seven
8	\N
\.
SELECT count(*), sum(a) FROM shell_t;
\dt
\dt toy.n*
\dn
SELECT position, token, round(activation::numeric, 3) AS r FROM toy.activations
WHERE text = 'The President' AND layer = 1 AND neuron = 17 ORDER BY position;
SELECT 1 AS unfinished"#;

/// Statements that fail.
const FAILURES: [&str; 7] = [
    "SELECT 1 AS a;\nSELECT * FROM nothing;\nSELECT 2 AS b;\n",
    "SELECT\n  1,\n  nothing\nFROM models;\n",
    "SELECT 1 +* 2;\n",
    "SELECT '漢字', \t nothing, 'a long text of some eighty letters that goes on and on beyond the end of the line' FROM models;\n",
    "SELECT count(*) FROM models WHERE lenght(model) = 'a long text that goes on and on' AND nothing > 1;\n",
    "SELECT 1/0;\n",
    "BEGIN;\nSELECT 'x'::int;\nCOMMIT;\n",
];

#[test]
fn output_is_that_of_psql() -> Result<()> {
    if let Err(reason) = succeeds("psql", &["--version"], Path::new(".")) {
        Requirement::Psql.skip(&reason);
        return Ok(());
    }
    let server = Server::start()?;
    for script in FAILURES.into_iter().chain([SCRIPT]) {
        let (ours, theirs) = (shell(&[], script)?, server.psql(&[], script)?);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(text(&ours.stdout), text(&theirs.stdout), "{script}");
        assert_eq!(text(&ours.stderr), text(&theirs.stderr), "{script}");
        assert_eq!(ours.status.success(), theirs.status.success(), "{script}");
    }
    // Errors in files say where.
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("a.sql");
    std::fs::write(&file, "SELECT 1;\n\nSELECT nothing\nFROM models;\n")?;
    let file = file.to_string_lossy();
    let (ours, theirs) = (shell(&["-f", &file], "")?, server.psql(&["-f", &file], "")?);
    let ours = String::from_utf8(ours.stderr)?;
    assert!(ours.starts_with(&format!("neuroql:{file}:4: ERROR: ")), "{ours}");
    assert_eq!(ours.replacen("neuroql:", "psql:", 1), String::from_utf8(theirs.stderr)?);
    Ok(())
}

#[test]
fn modes_files_and_exit_codes() -> Result<()> {
    let sql = "SELECT 1 AS n, 'a|b' AS t, ARRAY[1.5, NULL] AS a, NULL AS e;";
    assert_eq!(printed(&["--mode", "json"], sql)?, "[{\"n\":1,\"t\":\"a|b\",\"a\":[1.5,null],\"e\":null}]\n");
    assert_eq!(
        printed(&["--mode", "markdown", "-c", sql], "")?,
        "| n | t | a | e |\n|--:|---|---|---|\n| 1 | a\\|b | {1.5,NULL} |  |\n"
    );

    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    std::fs::write(path("inner.sql"), "INSERT INTO t VALUES (2);\n")?;
    std::fs::write(path("outer.sql"), format!("CREATE TABLE t(a int);\n\\i {}\n", path("inner.sql")))?;
    let arguments = ["-q", "-f", &path("outer.sql"), "-c", "\\mode csv", "-c", &format!("\\o {}", path("out.csv"))];
    let more = ["-c", "SELECT sum(a) AS s FROM t", "-c", "\\o", "-c", "SELECT 'here' AS w"];
    assert_eq!(printed(&[&arguments[..], &more].concat(), "")?, "w\nhere\n");
    assert_eq!(std::fs::read_to_string(path("out.csv"))?, "s\n2\n");

    // A table names its columns and what they hold; a long result is streamed.
    let columns = printed(&["-c", "\\d toy.neurons"], "")?;
    assert!(columns.contains("Table \"toy.neurons\"") && columns.contains("kurtosis of the activation"), "{columns}");
    let rows = printed(&["-q", "--mode", "tsv"], "SELECT n FROM generate_series(1, 200000) g(n);")?;
    assert_eq!((rows.lines().count(), rows.lines().last()), (200_001, Some("200000")));

    for (arguments, expected) in [
        (&["-c", "SELECT nothing", "-c", "SELECT 1"][..], "ERROR:  "),
        (&["-c", "\\nothing"], "error: invalid command \\nothing"),
        (&["-c", "\\copy t to x"], "error: \\copy is not supported here"),
        (&["-f", &path("missing.sql")], "error: cannot read "),
        (&["-c", "\\d nothing"], "Did not find any relation named \"nothing\"."),
    ] {
        let output = shell(arguments, "")?;
        let errors = String::from_utf8(output.stderr)?;
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{arguments:?}");
        assert!(errors.starts_with(expected), "{errors}");
    }
    let output = shell(&[], "SELECT 'a\0b';")?;
    assert_eq!((output.status.code(), &output.stderr[..]), (Some(1), &b"error: SQL may not hold a byte 0\n"[..]));
    Ok(())
}

/// A person types: a statement over two lines, one that takes long and is stopped, a name to complete, Ctrl-D.
const PERSON: &str = r#"
import os, pty, re, select, sys, time
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], [sys.argv[1], "shell"])
seen = b""
def until(pattern, seconds=60):
    global seen
    deadline = time.time() + seconds
    while not re.search(pattern, seen, re.S):
        ready = select.select([terminal], [], [], max(0, deadline - time.time()))[0]
        try:
            data = os.read(terminal, 65536) if ready else b""
        except OSError:
            data = b""
        if not data:
            sys.exit("no %r in %r" % (pattern, seen))
        seen += data
    seen = seen[re.search(pattern, seen, re.S).end():]
def send(text):
    os.write(terminal, text)
PROMPT = rb"neuroql=# "
until(PROMPT)
send(b"SELECT 40 +\r")
until(rb"neuroql=# SELECT 40 \+\r?\n")
send(b"2 AS answer;\r")
until(rb" answer \r?\n--------\r?\n +42\r?\n\(1 row\)")
until(PROMPT)
send(b"SELECT 1 +* 2;\r")
until(rb"ERROR:  .*LINE 1: SELECT 1 \+\* 2;\r?\n +\^")
until(PROMPT)
send(b"SELECT count(*) FROM generate_series(1, 1000000000000) t(n) WHERE n % 7 = 8;\r")
until(rb"\d\.\d s .*Ctrl-C ends the statement")
send(b"\x03")
until(rb"canceling statement due to user request")
until(PROMPT)
send(b"SELECT model, layers FROM mode\t")
until(rb"models")
send(b";\r")
until(rb" toy +\| +2")
until(PROMPT)
send(b"SELECT 1 +")
send(b"\x03")
until(PROMPT)
send(b"BEGIN;\r")
until(rb"neuroql=\*# ")
send(b"ROLLBACK;\r")
until(PROMPT)
send(b".tables\r")
until(rb"begin with a backslash here")
until(PROMPT)
send(b"\x04")
status = None
for _ in range(300):
    done, status = os.waitpid(pid, os.WNOHANG)
    if done:
        break
    time.sleep(0.1)
else:
    sys.exit("it does not end")
sys.exit(os.waitstatus_to_exitcode(status))
"#;

#[cfg(unix)]
#[test]
fn a_person_at_a_terminal() -> Result<()> {
    if let Err(reason) = succeeds("python3", &["-c", "import pty"], Path::new(".")) {
        Requirement::Python.skip(&reason);
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let history = folder.path().join("kept/history");
    let mut command = Command::new("python3");
    command.args(["-c", PERSON, env!("CARGO_BIN_EXE_neuroql")]).env("TERM", "xterm").env("NEUROQL_HISTORY", &history);
    let output = run(command.env_remove("NEUROQL_STORE").env_remove("PAGER"), "")?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let kept = std::fs::read_to_string(history)?;
    assert!(
        kept.contains("SELECT 40 +\\n2 AS answer;") && kept.contains("SELECT model, layers FROM models;"),
        "{kept}"
    );
    Ok(())
}
