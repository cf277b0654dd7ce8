//! Commands, which begin with a backslash.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use clap::ValueEnum;

use crate::shell::input::Input;
use crate::shell::layout::Mode;
use crate::shell::screen::Output;
use crate::shell::splitter::Splitter;
use crate::shell::{Done, Shell, Stop, describe};

/// Commands, as they are typed, and what they do.
pub(crate) const COMMANDS: [(&str, &str); 17] = [
    ("\\?", "show this list"),
    ("\\q", "leave (Ctrl-D does, too)"),
    ("\\d [PATTERN]", "list tables and views, or describe those of a name: \\d toy.neurons"),
    ("\\dt [PATTERN]", "list tables: \\dt toy.*"),
    ("\\dv [PATTERN]", "list views"),
    ("\\dn [PATTERN]", "list schemas; each model has one"),
    ("\\df[+] [PATTERN]", "list functions, with + also what they do: \\df+ token*"),
    ("\\timing [on|off]", "show how long statements take"),
    ("\\x [on|off]", "show each row of a table as a record"),
    ("\\mode [MODE]", "table, csv, tsv, json, jsonl, markdown or line"),
    ("\\pset null [TEXT]", "show NULL as TEXT"),
    ("\\pset pager [on|off]", "show long results with $PAGER"),
    ("\\i FILE", "run the statements of a file"),
    ("\\o [FILE]", "write results to a file, or here again"),
    ("\\g, \\gx", "run the statement before it; \\gx shows records"),
    ("\\p, \\r", "print or forget the statement that has begun"),
    ("\\echo [TEXT]", "print a text"),
];

/// Commands of psql that are not here, and what to do instead.
const ELSEWHERE: [(&str, &str); 8] = [
    ("copy", "use COPY … TO STDOUT with \\o FILE, or CREATE EXTERNAL TABLE for a file to read"),
    ("e", "the lines of a statement can be edited at the prompt"),
    ("c", "there is one database"),
    ("connect", "there is one database"),
    ("set", "variables are not supported; use PREPARE and EXECUTE"),
    ("l", "there is one database; \\dn lists its schemas"),
    ("du", "neuroql shell has one user, a superuser"),
    ("h", "see https://www.postgresql.org/docs/current/sql-commands.html"),
];

/// Commands of other programs that newcomers type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Newcomer {
    /// `help`.
    Help,
    /// `exit` or `quit`.
    Quit,
    /// A command that begins with a dot.
    Dot,
}

/// Recognizes words that are no SQL but would be taken for the start of a statement.
pub(crate) fn newcomer(text: &str) -> Option<Newcomer> {
    match text.trim().trim_end_matches(';').trim_end() {
        "help" | ".help" | "?" => Some(Newcomer::Help),
        "exit" | "quit" | ".exit" | ".quit" | ".q" => Some(Newcomer::Quit),
        text if text.starts_with('.') && text[1..].starts_with(|letter: char| letter.is_ascii_lowercase()) => {
            Some(Newcomer::Dot)
        }
        _ => None,
    }
}

impl Shell {
    /// Answers a newcomer.
    pub(crate) fn answer(&mut self, newcomer: Newcomer) -> Result<Done, Stop> {
        match newcomer {
            Newcomer::Quit => return Ok(Done::Quit),
            Newcomer::Help => self.print(&help())?,
            Newcomer::Dot => self.say("commands begin with a backslash here: \\? lists them\n")?,
        }
        Ok(Done::Good)
    }

    /// Runs a command. `begun` is the statement before it.
    pub(crate) async fn command(&mut self, text: &str, begun: &mut Splitter, input: &mut Input) -> Result<Done, Stop> {
        let (name, argument) = text[1..].split_once(char::is_whitespace).unwrap_or((&text[1..], ""));
        let argument = argument.trim().trim_end_matches(';').trim_end();
        match name {
            "q" | "quit" => return Ok(Done::Quit),
            "?" | "help" => self.print(&help())?,
            "g" | "gx" if begun.is_empty() => {}
            "g" | "gx" if !argument.is_empty() => {
                return self.refuse(input, &format!("\\{name} takes no argument; use \\o FILE"));
            }
            "g" | "gx" => {
                let expanded = self.style.expanded;
                self.style.expanded |= name == "gx";
                let done = self.statement(&begun.take(), input).await;
                self.style.expanded = expanded;
                return done;
            }
            "p" => self.print(&format!("{}\n", begun.text()))?,
            "r" => {
                begun.take();
                self.note("Query buffer reset (cleared).\n")?;
            }
            "echo" => {
                let words: Vec<_> = argument.split_whitespace().collect();
                self.print(&format!("{}\n", words.join(" ")))?;
            }
            "timing" => match switch(argument, self.timing) {
                Some(timing) => {
                    self.timing = timing;
                    self.note(&format!("Timing is {}.\n", spelled(timing)))?;
                }
                None => return self.refuse(input, &unrecognized("\\timing", argument, "on, off")),
            },
            "x" => match switch(argument, self.style.expanded) {
                Some(expanded) => {
                    self.style.expanded = expanded;
                    self.note(&format!("Expanded display is {}.\n", spelled(expanded)))?;
                }
                None => return self.refuse(input, &unrecognized("\\x", argument, "on, off")),
            },
            "mode" => return self.set_mode(argument, "\\mode", input),
            "pset" => return self.pset(argument, input),
            "i" | "include" if argument.is_empty() => return self.refuse(input, "\\i: missing required argument"),
            "i" | "include" => {
                let mut file = match Input::file(Path::new(&unquoted(argument))) {
                    Ok(file) => file,
                    Err(error) => return self.refuse(input, &format!("{argument}: {error}")),
                };
                // A file may name itself.
                if self.depth >= DEEPEST {
                    return self.refuse(input, &format!("{argument}: files are included more than {DEEPEST} deep"));
                }
                self.depth += 1;
                let done = Box::pin(self.run(&mut file)).await;
                self.depth -= 1;
                return done;
            }
            "o" | "out" => return self.redirect(argument, input),
            _ => match describe::query(name, argument) {
                Some(Ok(wanted)) => return self.describe(wanted).await,
                Some(Err(reason)) => return self.refuse(input, &reason),
                None => return self.refuse(input, &unknown(name)),
            },
        }
        Ok(Done::Good)
    }

    fn set_mode(&mut self, argument: &str, command: &str, input: &Input) -> Result<Done, Stop> {
        if !argument.is_empty() {
            match Mode::from_str(argument, false) {
                Ok(mode) => self.style.mode = mode,
                Err(_) => {
                    let modes = "table, csv, tsv, json, jsonl, markdown, line";
                    return self.refuse(input, &unrecognized(command, argument, modes));
                }
            }
        }
        let mode = self.style.mode.to_possible_value();
        let name = mode.as_ref().map_or("", |mode| mode.get_name());
        self.note(&format!("Output format is {}.\n", if name == "table" { "aligned" } else { name }))?;
        Ok(Done::Good)
    }

    fn pset(&mut self, argument: &str, input: &Input) -> Result<Done, Stop> {
        let (name, value) = argument.split_once(char::is_whitespace).unwrap_or((argument, ""));
        let value = value.trim();
        match name {
            "null" => {
                self.style.null = unquoted(value);
                self.note(&format!("Null display is \"{}\".\n", self.style.null))?;
            }
            "pager" => match switch(value, self.pager) {
                Some(pager) => {
                    self.pager = pager;
                    self.note(if pager { "Pager is used for long output.\n" } else { "Pager usage is off.\n" })?;
                }
                None => return self.refuse(input, &unrecognized("\\pset pager", value, "on, off")),
            },
            "expanded" | "x" => match switch(value, self.style.expanded) {
                Some(expanded) => {
                    self.style.expanded = expanded;
                    self.note(&format!("Expanded display is {}.\n", spelled(expanded)))?;
                }
                None => return self.refuse(input, &unrecognized("\\pset expanded", value, "on, off")),
            },
            "format" => {
                let mode = if value == "aligned" { "table" } else { value };
                return self.set_mode(mode, "\\pset format", input);
            }
            _ => {
                return self.refuse(input, &unrecognized("\\pset", name, "null, pager, expanded, format"));
            }
        }
        Ok(Done::Good)
    }

    fn redirect(&mut self, argument: &str, input: &Input) -> Result<Done, Stop> {
        if argument.starts_with('|') {
            return self.refuse(input, "\\o: writing to a program is not supported, only to a file");
        }
        self.output.flush()?;
        if argument.is_empty() {
            self.output = Output::stdout();
            return Ok(Done::Good);
        }
        let name = unquoted(argument);
        match File::create(&name) {
            Ok(file) => self.output = Output::File(BufWriter::new(file)),
            Err(error) => return self.refuse(input, &format!("{name}: {error}")),
        }
        Ok(Done::Good)
    }

    /// Reports that a command cannot be run.
    pub(crate) fn refuse(&mut self, input: &Input, reason: &str) -> Result<Done, Stop> {
        self.say(&format!("{}error: {reason}\n", input.place()))?;
        Ok(Done::Failed)
    }

    /// Prints the answer of a command that changes how results are shown.
    fn note(&mut self, text: &str) -> Result<(), Stop> {
        if self.quiet { Ok(()) } else { self.print(text) }
    }
}

/// Greatest depth of files that include files.
const DEEPEST: usize = 20;

fn help() -> String {
    let width = COMMANDS.iter().map(|(usage, _)| usage.len()).max().unwrap_or_default();
    let mut text = String::from(
        "Type SQL that ends with a semicolon, such as\n\n  SELECT model, layers, neurons_per_layer FROM models;\n\nor a \
         command:\n\n",
    );
    for (usage, what) in COMMANDS {
        text.push_str(&format!("  {usage:width$}  {what}\n"));
    }
    text + "\nTab completes names and keywords. Ctrl-C ends a statement.\n"
}

/// Returns what `on` or `off` says; without either the opposite of what is.
fn switch(argument: &str, is: bool) -> Option<bool> {
    match argument {
        "" => Some(!is),
        "on" | "true" | "1" | "yes" => Some(true),
        "off" | "false" | "0" | "no" => Some(false),
        _ => None,
    }
}

fn spelled(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn unrecognized(command: &str, argument: &str, known: &str) -> String {
    format!("{command}: unrecognized value \"{argument}\"; known are {known}")
}

fn unknown(name: &str) -> String {
    match ELSEWHERE.iter().find(|(other, _)| *other == name) {
        Some((_, instead)) => format!("\\{name} is not supported here: {instead}"),
        None => format!("invalid command \\{name}; \\? lists the commands there are"),
    }
}

/// Returns an argument without its quotes.
fn unquoted(argument: &str) -> String {
    match argument.strip_prefix('\'').and_then(|inner| inner.strip_suffix('\'')) {
        Some(inner) => inner.replace("''", "'"),
        None => argument.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newcomers() {
        assert_eq!(newcomer(" help;"), Some(Newcomer::Help));
        assert_eq!(newcomer("exit"), Some(Newcomer::Quit));
        assert_eq!(newcomer(".tables"), Some(Newcomer::Dot));
        assert_eq!(newcomer(".5 + 1"), None);
        assert_eq!(newcomer("select help"), None);
    }

    #[test]
    fn arguments() {
        assert_eq!(unquoted("'it''s'"), "it's");
        assert_eq!(unquoted("a b"), "a b");
        assert_eq!(switch("", true), Some(false));
        assert_eq!(switch("maybe", true), None);
        assert!(unknown("copy").contains("COPY"));
    }
}
