//! The prompt: editing, history, completion.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Helper};

use crate::shell::commands;
use crate::shell::completion::{self, Names, Suggestions};
use crate::shell::input::Line;
use crate::shell::screen::Size;
use crate::shell::splitter::{Splitter, is_complete};

/// Environment variable that names the file of the history; empty keeps none.
const HISTORY: &str = "NEUROQL_HISTORY";

/// Statements in the history.
const REMEMBERED: usize = 2000;

/// Reads the names that there are, when they are first needed.
pub(crate) type NameReader = Box<dyn Fn() -> Names + Send + Sync>;

/// The editor of a line, or of the lines of a statement.
pub(crate) struct Editor {
    editor: rustyline::Editor<Assistant, FileHistory>,
    history: Option<PathBuf>,
}

impl Editor {
    /// Opens the terminal and the history.
    pub(crate) fn new(names: NameReader) -> io::Result<Self> {
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .max_history_size(REMEMBERED)
            .and_then(|config| config.history_ignore_dups(true))
            .map_err(io_error)?
            .history_ignore_space(true)
            .auto_add_history(false)
            .build();
        let mut editor = rustyline::Editor::with_config(config).map_err(io_error)?;
        editor.set_helper(Some(Assistant {
            names,
            known: Mutex::new(None),
            files: FilenameCompleter::new(),
            begun: None,
        }));
        let history = history_file();
        if let Some(file) = &history {
            // It is not there the first time.
            let _ = editor.load_history(file);
        }
        Ok(Self { editor, history })
    }

    /// Reads lines up to the end of a statement or a command. `begun` is the statement that they go on with.
    pub(crate) fn read(&mut self, prompt: &str, begun: &Splitter) -> io::Result<Line> {
        if let Some(assistant) = self.editor.helper_mut() {
            assistant.begun = Some(begun.clone());
        }
        match self.editor.readline(prompt) {
            Ok(text) => {
                self.remember(&text);
                Ok(Line::Text(text))
            }
            Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
            Err(ReadlineError::Eof) => Ok(Line::End),
            Err(error) => Err(io_error(error)),
        }
    }

    /// Reads a line that is no SQL; it is not kept in the history.
    pub(crate) fn read_data(&mut self, prompt: &str) -> io::Result<Line> {
        if let Some(assistant) = self.editor.helper_mut() {
            assistant.begun = None;
        }
        match self.editor.readline(prompt) {
            Ok(text) => Ok(Line::Text(text)),
            Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
            Err(ReadlineError::Eof) => Ok(Line::End),
            Err(error) => Err(io_error(error)),
        }
    }

    /// Forgets which names there are, so that they are read again.
    pub(crate) fn forget_names(&mut self) {
        if let Some(assistant) = self.editor.helper_mut() {
            *assistant.known.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Returns the size of the terminal.
    pub(crate) fn size(&mut self) -> Option<Size> {
        let (columns, lines) = self.editor.dimensions()?;
        Some(Size { lines: usize::from(lines), columns: usize::from(columns) })
    }

    fn remember(&mut self, text: &str) {
        let text = text.trim_end();
        // A history that cannot be written is no reason to stop.
        if matches!(self.editor.add_history_entry(text), Ok(true))
            && let Some(file) = &self.history
            && file.parent().is_some_and(|folder| fs::create_dir_all(folder).is_ok())
        {
            let _ = self.editor.append_history(file);
        }
    }
}

/// Returns the file that keeps what was typed.
fn history_file() -> Option<PathBuf> {
    match std::env::var_os(HISTORY) {
        Some(file) => (!file.is_empty()).then(|| file.into()),
        None => Some(dirs::data_dir()?.join("neuroql").join("history")),
    }
}

fn io_error(error: ReadlineError) -> io::Error {
    match error {
        ReadlineError::Io(error) => error,
        other => io::Error::other(other),
    }
}

/// Help at the prompt.
struct Assistant {
    names: NameReader,
    /// The names, once they are read.
    known: Mutex<Option<Names>>,
    files: FilenameCompleter,
    /// The statement that the lines go on with; `None` if they are data.
    begun: Option<Splitter>,
}

impl Helper for Assistant {}

impl Hinter for Assistant {
    type Hint = String;
}

impl Highlighter for Assistant {}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        let text = context.input();
        let is_whole = |begun: &Splitter| {
            begun.is_empty() && commands::newcomer(text).is_some() || is_complete(begun.clone(), text)
        };
        Ok(match self.begun.as_ref().is_none_or(is_whole) {
            true => ValidationResult::Valid(None),
            false => ValidationResult::Incomplete,
        })
    }
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, position: usize, context: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let Some(begun) = &self.begun else { return Ok((position, Vec::new())) };
        let before = &line[..position];
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let names = known.get_or_insert_with(|| (self.names)());
        let text = format!("{}{before}", begun.text());
        match completion::suggest(&text, &line[position..], names) {
            Suggestions::Files => self.files.complete(line, position, context),
            Suggestions::Words { length, words } => {
                let pairs = words.into_iter().map(|word| Pair { display: word.trim_end().into(), replacement: word });
                Ok((position - length, pairs.collect()))
            }
        }
    }
}
