//! `neuroql shell`: statements and commands from a prompt, a pipe or the command line.
//!
//! The shell is a Postgres client of a session in its own process, so that values, errors and tags are those of psql
//! connected to `neuroql serve`.

mod commands;
mod completion;
mod describe;
mod editor;
mod execute;
mod input;
mod layout;
mod report;
mod screen;
mod splitter;
mod table;

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use neuroql_pg::{Client, ClientError, Event, Local, Transaction};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::block_in_place;

use crate::arguments;
use crate::console::Failure;
use crate::serve::start_engine;
use crate::shell::completion::Names;
use crate::shell::editor::Editor;
use crate::shell::input::{Input, Line};
pub(crate) use crate::shell::layout::Mode;
use crate::shell::layout::Style;
use crate::shell::screen::{Output, Size};
use crate::shell::splitter::{Piece, Splitter};

/// Name by which `pg_stat_activity` knows the sessions of the shell.
const APPLICATION: &str = "neuroql shell";

/// Outcome of a statement or a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    /// Well.
    Good,
    /// With an error, of which the user was told.
    Failed,
    /// With a wish to leave.
    Quit,
}

/// Reasons to end the shell before its input ends.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Nobody reads the results any more.
    Closed,
    /// An error.
    Failure(Failure),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Failure(error.into()),
        }
    }
}

impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Self {
        Self::Failure(error.into())
    }
}

/// The state of a shell.
pub(crate) struct Shell {
    local: Local,
    client: Client,
    style: Style,
    output: Output,
    timing: bool,
    /// True to leave out tags and answers of commands.
    quiet: bool,
    /// True to show long results with a pager.
    pager: bool,
    /// Size of the terminal, if there is one.
    size: Option<Size>,
    is_interactive: bool,
    /// True if names may have come or gone since they were read for completion.
    names_changed: bool,
    /// Number of files that are being read.
    depth: usize,
    interrupts: watch::Receiver<()>,
}

/// Runs the shell. The exit code tells whether it ended at an error, of which the user was told.
pub(crate) async fn run(options: arguments::Shell) -> Result<ExitCode, Failure> {
    let engine = start_engine(&options.engine).await?;
    let local = Local::new(&engine)?;
    let client = local.connect(APPLICATION).await?;
    let has_text = !options.files.is_empty() || !options.commands.is_empty();
    let is_interactive = !has_text && io::stdin().is_terminal() && io::stdout().is_terminal();
    let (interrupted, interrupts) = watch::channel(());
    if is_interactive {
        // The editor puts back what it finds when it reads a line, so this is there before.
        let mut signals = signals()?;
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                interrupted.send_replace(());
            }
        });
    }
    let mut shell = Shell {
        local,
        client,
        style: Style { mode: options.mode, expanded: false, null: String::new() },
        output: Output::stdout(),
        timing: false,
        quiet: options.quiet,
        pager: is_interactive,
        size: None,
        is_interactive,
        names_changed: false,
        depth: 0,
        interrupts,
    };
    let done = shell.run_all(options).await;
    let flushed = shell.output.flush();
    shell.client.close().await;
    engine.settle().await?;
    match done.and_then(|done| Ok(flushed.map(|()| done)?)) {
        Ok(Done::Failed) => Ok(ExitCode::FAILURE),
        // `neuroql shell … | head` is no failure.
        Ok(Done::Good | Done::Quit) | Err(Stop::Closed) => Ok(ExitCode::SUCCESS),
        Err(Stop::Failure(failure)) => Err(failure),
    }
}

/// Begins to listen for Ctrl-C, which from now on does not end the process.
#[cfg(unix)]
fn signals() -> io::Result<tokio::signal::unix::Signal> {
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
}

#[cfg(windows)]
fn signals() -> io::Result<tokio::signal::windows::CtrlC> {
    tokio::signal::windows::ctrl_c()
}

impl Shell {
    async fn run_all(&mut self, options: arguments::Shell) -> Result<Done, Stop> {
        let has_text = !options.files.is_empty() || !options.commands.is_empty();
        for file in options.files {
            let mut input = match file.as_os_str() == "-" {
                true => Input::stdin(io::stdin()),
                false => Input::file(&file).map_err(|error| {
                    let message = format!("cannot read {}: {error}", file.display());
                    Stop::Failure(Failure { message, hint: None })
                })?,
            };
            match self.run(&mut input).await? {
                Done::Good => {}
                done => return Ok(done),
            }
        }
        for text in options.commands {
            match self.run(&mut Input::text(text)).await? {
                Done::Good => {}
                done => return Ok(done),
            }
        }
        if has_text {
            return Ok(Done::Good);
        }
        if !self.is_interactive {
            return self.run(&mut Input::stdin(io::stdin())).await;
        }
        if !self.quiet {
            self.print(&greeting(options.engine.store.as_deref()))?;
        }
        let local = self.local.clone();
        let names = move || block_in_place(|| Handle::current().block_on(names(&local)));
        let mut input = Input::person(Editor::new(Box::new(names))?);
        self.run(&mut input).await
    }

    /// Runs what a source holds: to its end, or to the first error if nobody types it.
    pub(crate) async fn run(&mut self, input: &mut Input) -> Result<Done, Stop> {
        let mut begun = Splitter::default();
        loop {
            let line = match self.line(input, &begun)? {
                Line::Text(line) => line,
                Line::Interrupted => {
                    begun.take();
                    continue;
                }
                Line::End => break,
            };
            let word = commands::newcomer(&line).filter(|_| input.is_person() && begun.is_empty());
            if let Some(word) = word {
                match self.answer(word)? {
                    Done::Quit => return Ok(Done::Quit),
                    _ => continue,
                }
            }
            let mut rest = &line[..];
            loop {
                let (piece, more) = begun.scan(rest);
                rest = more;
                let done = match piece {
                    Some(Piece::Statement(sql)) => self.statement(&sql, input).await?,
                    Some(Piece::Command(text)) => self.command(&text, &mut begun, input).await?,
                    None => break,
                };
                match done {
                    Done::Good => {}
                    Done::Failed if input.is_person() => {}
                    done => return Ok(done),
                }
            }
        }
        if input.is_person() {
            // The shell of the user begins on a line of its own.
            self.print("\n")?;
            return Ok(Done::Quit);
        }
        if begun.is_empty() { Ok(Done::Good) } else { self.statement(&begun.take(), input).await }
    }

    /// Reads a line of SQL or a command.
    fn line(&mut self, input: &mut Input, begun: &Splitter) -> Result<Line, Stop> {
        let mark = match self.client.transaction() {
            Transaction::None => "",
            Transaction::Open => "*",
            Transaction::Failed => "!",
        };
        let prompt = format!("neuroql{}{mark}# ", begun.open());
        self.output.flush()?;
        let names_changed = std::mem::take(&mut self.names_changed);
        let size = &mut self.size;
        Ok(input.line(|editor| {
            if names_changed {
                editor.forget_names();
            }
            let line = block_in_place(|| editor.read(&prompt, begun));
            *size = editor.size();
            line
        })?)
    }

    /// Prints to where results go.
    fn print(&mut self, text: &str) -> Result<(), Stop> {
        Ok(self.output.write_all(text.as_bytes())?)
    }

    /// Prints to standard error.
    fn say(&mut self, text: &str) -> Result<(), Stop> {
        self.output.flush()?;
        Ok(io::stderr().write_all(text.as_bytes())?)
    }
}

fn greeting(store: Option<&str>) -> String {
    let kept = match store {
        Some(store) => format!("Models and results are kept in {store}."),
        None => "Nothing is kept when you leave: --store names a folder that keeps models and results.".into(),
    };
    format!(
        "neuroql {}\n{kept}\nStatements end with a semicolon: SELECT model, layers FROM models;\nType \\? for help, \\q \
         to leave.\n\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// Reads the names in the catalog, in a session of their own. What cannot be read is missing.
async fn names(local: &Local) -> Names {
    let mut names = Names::default();
    let Ok(mut client) = local.connect(APPLICATION).await else { return names };
    let columns = "SELECT table_schema, table_name, column_name FROM information_schema.columns \
                   ORDER BY table_schema, table_name, ordinal_position";
    for row in strings(&mut client, columns).await {
        if let [schema, name, column] = &row[..] {
            names.relations.entry((schema.clone(), name.clone())).or_default().push(column.clone());
        }
    }
    names.functions =
        strings(&mut client, "SELECT DISTINCT proname FROM pg_catalog.pg_proc").await.into_iter().flatten().collect();
    names.models =
        strings(&mut client, "SELECT model FROM models ORDER BY model").await.into_iter().flatten().collect();
    client.close().await;
    names
}

/// Returns the values of a query, nothing if it fails.
async fn strings(client: &mut Client, sql: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    if client.query(sql).await.is_err() {
        return rows;
    }
    while let Ok(Some(event)) = client.next().await {
        if let Event::Row(row) = event {
            rows.push(row.values().map(|value| value.unwrap_or_default().into()).collect());
        }
    }
    rows
}
