//! Sources of lines: a file, a pipe, the command line, or somebody at a terminal.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Stdin};
use std::path::Path;

use crate::shell::editor::Editor;

/// The next item of a source of lines.
pub(crate) enum Line {
    /// A line, with its line break unless it is the last.
    Text(String),
    /// The user has given up what they were typing.
    Interrupted,
    /// There are no more lines.
    End,
}

/// A source of lines.
pub(crate) enum Input {
    /// Text that is there.
    Script {
        /// Its lines.
        lines: Box<dyn BufRead + Send>,
        /// Name of the file, for messages.
        name: Option<String>,
        /// Number of the line read last, from 1.
        number: usize,
    },
    /// Somebody who types.
    Person {
        /// The prompt.
        editor: Box<Editor>,
        /// Lines that were typed with the one read last.
        typed: VecDeque<String>,
    },
}

impl Input {
    /// Opens a file.
    pub(crate) fn file(path: &Path) -> io::Result<Self> {
        let lines = Box::new(BufReader::new(File::open(path)?));
        Ok(Self::Script { lines, name: Some(path.display().to_string()), number: 0 })
    }

    pub(crate) fn stdin(stdin: Stdin) -> Self {
        Self::Script { lines: Box::new(BufReader::new(stdin)), name: None, number: 0 }
    }

    pub(crate) fn text(text: String) -> Self {
        Self::Script { lines: Box::new(Cursor::new(text)), name: None, number: 0 }
    }

    pub(crate) fn person(editor: Editor) -> Self {
        Self::Person { editor: Box::new(editor), typed: VecDeque::new() }
    }

    /// Returns true if somebody types at a prompt.
    pub(crate) fn is_person(&self) -> bool {
        matches!(self, Self::Person { .. })
    }

    /// Reads a line. `ask` shows a prompt and returns the lines that somebody types; it is called when none are left.
    pub(crate) fn line(&mut self, ask: impl FnOnce(&mut Editor) -> io::Result<Line>) -> io::Result<Line> {
        match self {
            Self::Script { lines, number, .. } => {
                let mut line = Vec::new();
                if lines.read_until(b'\n', &mut line)? == 0 {
                    return Ok(Line::End);
                }
                *number += 1;
                let mut line = String::from_utf8(line).map_err(|_| {
                    io::Error::new(io::ErrorKind::InvalidData, format!("line {number} of the input is not UTF-8"))
                })?;
                // Other editors' mark of UTF-8 is no part of the SQL.
                if *number == 1 && line.starts_with('\u{feff}') {
                    line.remove(0);
                }
                Ok(Line::Text(line))
            }
            Self::Person { editor, typed } => {
                if typed.is_empty() {
                    match ask(editor)? {
                        Line::Text(text) => {
                            typed.extend(text.split_inclusive('\n').map(str::to_owned));
                            match typed.back_mut() {
                                Some(last) => last.push('\n'),
                                None => typed.push_back("\n".into()),
                            }
                        }
                        other => return Ok(other),
                    }
                }
                Ok(typed.pop_front().map_or(Line::End, Line::Text))
            }
        }
    }

    /// Forgets lines that were typed but not read.
    pub(crate) fn forget(&mut self) {
        if let Self::Person { typed, .. } = self {
            typed.clear();
        }
    }

    /// Returns the place of the line read last, as messages begin with it; nothing for standard input.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Script { name: Some(name), number, .. } => format!("neuroql:{name}:{number}: "),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &mut Input) -> Vec<String> {
        let mut lines = Vec::new();
        while let Line::Text(line) = input.line(|_| Ok(Line::End)).unwrap() {
            lines.push(line);
        }
        lines
    }

    #[test]
    fn lines_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sql");
        std::fs::write(&path, "\u{feff}select 1;\r\n\nselect 2").unwrap();
        let mut input = Input::file(&path).unwrap();
        assert_eq!(lines(&mut input), ["select 1;\r\n", "\n", "select 2"]);
        assert_eq!(input.place(), format!("neuroql:{}:3: ", path.display()));
        assert_eq!(lines(&mut Input::text("a\nb".into())), ["a\n", "b"]);
    }

    #[test]
    fn other_encodings_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sql");
        std::fs::write(&path, b"select 1;\nselect '\xfc';").unwrap();
        let mut input = Input::file(&path).unwrap();
        assert!(matches!(input.line(|_| Ok(Line::End)), Ok(Line::Text(_))));
        let error = input.line(|_| Ok(Line::End)).err().unwrap();
        assert_eq!(error.to_string(), "line 2 of the input is not UTF-8");
    }
}
