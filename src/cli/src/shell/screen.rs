//! Destinations of results: standard output, a file, or a pager, with a line below them that tells how long a statement takes.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use unicode_width::UnicodeWidthStr;

use crate::console;

/// Time after which a statement has a line that tells of it.
const PATIENCE: Duration = Duration::from_millis(1500);

/// The place of all results until `\o` names another.
pub(crate) enum Output {
    /// Standard output.
    Stdout(BufWriter<Stdout>),
    /// A file.
    File(BufWriter<File>),
}

impl Output {
    pub(crate) fn stdout() -> Self {
        Self::Stdout(BufWriter::new(io::stdout()))
    }

    fn is_terminal(&self) -> bool {
        matches!(self, Self::Stdout(_)) && io::stdout().is_terminal()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(bytes),
            Self::File(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File(out) => out.flush(),
        }
    }
}

/// Lines and columns of a terminal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) lines: usize,
    pub(crate) columns: usize,
}

/// The results of one statement.
pub(crate) struct Screen<'a> {
    out: &'a mut Output,
    /// Size of the terminal if longer results go to a pager.
    size: Option<Size>,
    /// Output that waits until it is known whether it fits the terminal.
    held: Vec<u8>,
    held_lines: usize,
    pager: Option<(Child, ChildStdin)>,
    progress: Progress,
}

impl<'a> Screen<'a> {
    /// Begins the results of a statement. `size` is that of the terminal if longer results go to a pager.
    pub(crate) fn new(out: &'a mut Output, size: Option<Size>) -> Self {
        let size = size.filter(|_| out.is_terminal());
        Self { out, size, held: Vec::new(), held_lines: 0, pager: None, progress: Progress::new() }
    }

    /// Draws the line that tells of the statement, if it is time and no result is on the terminal.
    pub(crate) fn tick(&mut self, rows: usize) -> io::Result<()> {
        self.progress.tick(rows);
        // A reader of a pipe gets what there is.
        if self.out.is_terminal() { Ok(()) } else { self.out.flush() }
    }

    /// Writes to standard error.
    pub(crate) fn say(&mut self, text: &str) -> io::Result<()> {
        self.progress.clear();
        if self.size.is_none() {
            self.out.flush()?;
        }
        io::stderr().write_all(text.as_bytes())
    }

    /// Says in the line below what the statement is at.
    pub(crate) fn note(&mut self, text: &str) {
        self.progress.note = text.lines().next().unwrap_or_default().into();
    }

    /// Ends the results; waits for the pager.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.progress.end();
        match self.pager.take() {
            Some((mut child, pipe)) => {
                drop(pipe);
                child.wait()?;
            }
            None => self.out.write_all(&std::mem::take(&mut self.held))?,
        }
        self.out.flush()
    }
}

impl Write for Screen<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some((_, pipe)) = &mut self.pager {
            return pipe.write(bytes);
        }
        let Some(size) = self.size else {
            if self.out.is_terminal() {
                self.progress.end();
            }
            return self.out.write(bytes);
        };
        let begun = self.held.iter().rposition(|byte| *byte == b'\n').map_or(0, |index| index + 1);
        self.held.extend_from_slice(bytes);
        for line in self.held[begun..].split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            let width = String::from_utf8_lossy(line).trim_end_matches('\n').width();
            self.held_lines += width.div_ceil(size.columns.max(1)).max(1);
        }
        if self.held_lines >= size.lines {
            self.progress.end();
            self.size = None;
            let held = std::mem::take(&mut self.held);
            match pager() {
                Some((child, mut pipe)) => {
                    let written = pipe.write_all(&held);
                    self.pager = Some((child, pipe));
                    written?;
                }
                None => self.out.write_all(&held)?,
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.pager {
            Some((_, pipe)) => pipe.flush(),
            None => self.out.flush(),
        }
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        self.progress.end();
        if let Some((mut child, pipe)) = self.pager.take() {
            drop(pipe);
            // There is nothing to do about a pager that cannot be waited for.
            let _ = child.wait();
        }
    }
}

/// Starts the pager of the environment, or less. `None` if there is none.
fn pager() -> Option<(Child, ChildStdin)> {
    let mut command = match std::env::var("PAGER").ok().filter(|pager| !pager.trim().is_empty()) {
        Some(pager) if cfg!(unix) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", &pager]);
            shell
        }
        Some(pager) => Command::new(pager),
        None => Command::new("less"),
    };
    if std::env::var_os("LESS").is_none() {
        // Lines are cut, not folded; what fits one screen stays on it.
        command.env("LESS", "FRSX");
    }
    let mut child = command.stdin(Stdio::piped()).spawn().ok()?;
    let pipe = child.stdin.take()?;
    Some((child, pipe))
}

/// A line on a terminal's standard error that tells how long a statement takes.
struct Progress {
    started: Instant,
    bar: Option<ProgressBar>,
    note: String,
    /// True once results are in its place.
    has_ended: bool,
}

impl Progress {
    fn new() -> Self {
        let has_ended = !io::stderr().is_terminal();
        Self { started: Instant::now(), bar: None, note: String::new(), has_ended }
    }

    fn tick(&mut self, rows: usize) {
        let elapsed = self.started.elapsed();
        if self.has_ended || elapsed < PATIENCE {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = console::bars().add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                bar.set_style(style);
            }
            bar
        });
        bar.set_message(progress_text(elapsed, rows, &self.note));
        bar.tick();
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            console::bars().remove(&bar);
        }
    }

    fn end(&mut self) {
        self.clear();
        self.has_ended = true;
    }
}

fn progress_text(elapsed: Duration, rows: usize, note: &str) -> String {
    let mut text = format!("{:.1} s", elapsed.as_secs_f64());
    if rows > 0 {
        text.push_str(&format!(", {rows} row{}", if rows == 1 { "" } else { "s" }));
    }
    if !note.is_empty() {
        text.push_str(&format!(", {note}"));
    }
    text + " (Ctrl-C ends the statement)"
}
