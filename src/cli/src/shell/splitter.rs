//! Statements and commands out of lines of input, by the rules of psql.

/// A statement or a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// SQL, with the semicolon that ends it.
    Statement(String),
    /// A command, from its backslash to the end of the line.
    Command(String),
}

/// State of the syntax of SQL at the end of the text so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum State {
    #[default]
    Plain,
    /// In a string; `escapes` is true if a backslash takes the character after it along.
    String {
        escapes: bool,
    },
    Identifier,
    /// In a string between two of these, dollar signs included.
    Dollar(String),
    /// In comments this deep.
    Comment(u32),
}

/// Action for a piece of a line.
enum Step {
    /// Its first bytes belong to the statement.
    Take(usize),
    /// Its first bytes belong to nothing.
    Skip(usize),
    /// A statement or a command ends after its first bytes.
    End(Piece, usize),
}

/// Splits lines into statements and commands.
///
/// A statement ends at a semicolon outside strings, quoted identifiers, comments and parentheses. A command begins with
/// a backslash outside strings, quoted identifiers and comments. White space and line comments before a statement are
/// left out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Splitter {
    text: String,
    state: State,
    parentheses: u32,
}

impl Splitter {
    /// Reads `line`, which ends with a line break unless it is the last, up to the end of a piece. Returns the piece,
    /// `None` at the end of the line, and the rest of the line.
    pub(crate) fn scan<'a>(&mut self, line: &'a str) -> (Option<Piece>, &'a str) {
        let mut rest = line;
        while let Some(letter) = rest.chars().next() {
            let length = match std::mem::take(&mut self.state) {
                State::Plain => match self.step(rest, letter) {
                    Step::Take(length) => length,
                    Step::Skip(length) => {
                        rest = &rest[length..];
                        continue;
                    }
                    Step::End(piece, length) => return (Some(piece), &rest[length..]),
                },
                State::String { escapes } => {
                    let length = if escapes && letter == '\\' { two_letters(rest) } else { letter.len_utf8() };
                    if letter != '\'' {
                        self.state = State::String { escapes };
                    }
                    length
                }
                State::Identifier => {
                    if letter != '"' {
                        self.state = State::Identifier;
                    }
                    letter.len_utf8()
                }
                State::Dollar(tag) => {
                    if rest.starts_with(&tag) {
                        tag.len()
                    } else {
                        self.state = State::Dollar(tag);
                        letter.len_utf8()
                    }
                }
                State::Comment(depth) => {
                    let (depth, length) = match rest {
                        _ if rest.starts_with("/*") => (depth + 1, 2),
                        _ if rest.starts_with("*/") => (depth - 1, 2),
                        _ => (depth, letter.len_utf8()),
                    };
                    if depth > 0 {
                        self.state = State::Comment(depth);
                    }
                    length
                }
            };
            self.text.push_str(&rest[..length]);
            rest = &rest[length..];
        }
        (None, "")
    }

    /// Says what to do with the text that follows outside strings and comments.
    fn step(&mut self, rest: &str, letter: char) -> Step {
        let line = rest.find('\n').unwrap_or(rest.len());
        match letter {
            ';' if self.parentheses == 0 => {
                self.text.push(';');
                Step::End(Piece::Statement(self.take()), 1)
            }
            '\\' if rest.starts_with("\\;") => {
                self.text.push(';');
                Step::Skip(2)
            }
            '\\' => Step::End(Piece::Command(rest[..line].trim_end().into()), line),
            '\'' => {
                let before = self.text.strip_suffix(['e', 'E']);
                let escapes = before.is_some_and(|before| !before.ends_with(is_in_word));
                self.state = State::String { escapes };
                Step::Take(1)
            }
            '"' => {
                self.state = State::Identifier;
                Step::Take(1)
            }
            '$' if !self.text.ends_with(is_in_word)
                && let Some(tag) = dollar_tag(rest) =>
            {
                self.state = State::Dollar(tag.into());
                Step::Take(tag.len())
            }
            '-' if rest.starts_with("--") && self.text.is_empty() => Step::Skip(line),
            '-' if rest.starts_with("--") => Step::Take(line),
            '/' if rest.starts_with("/*") => {
                self.state = State::Comment(1);
                Step::Take(2)
            }
            '(' => {
                self.parentheses += 1;
                Step::Take(1)
            }
            ')' => {
                self.parentheses = self.parentheses.saturating_sub(1);
                Step::Take(1)
            }
            letter if letter.is_ascii_whitespace() && self.text.is_empty() => Step::Skip(1),
            letter => Step::Take(letter.len_utf8()),
        }
    }

    /// Returns the text of the statement that has begun.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns true if nothing has begun.
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Takes the statement that has begun, whether it is complete or not, and forgets it.
    pub(crate) fn take(&mut self) -> String {
        self.state = State::Plain;
        self.parentheses = 0;
        std::mem::take(&mut self.text)
    }

    /// Returns the letter in prompts that tells what is open: `'`, `"`, `$`, `*` for a comment, `(`, or `-`.
    pub(crate) fn open(&self) -> char {
        match self.state {
            State::String { .. } => '\'',
            State::Identifier => '"',
            State::Dollar(_) => '$',
            State::Comment(_) => '*',
            State::Plain if self.parentheses > 0 => '(',
            State::Plain if self.text.is_empty() => '=',
            State::Plain => '-',
        }
    }
}

/// Returns the length of the first two characters.
fn two_letters(text: &str) -> usize {
    text.chars().take(2).map(char::len_utf8).sum()
}

/// Returns true for characters of words and numbers.
fn is_in_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_' || letter == '$' || !letter.is_ascii()
}

/// Returns `$$` or `$tag$` at the start of the text.
fn dollar_tag(text: &str) -> Option<&str> {
    let tag = text.strip_prefix('$')?;
    let end = tag.find('$')?;
    let word = &tag[..end];
    let is_word = word.chars().all(|letter| is_in_word(letter) && letter != '$');
    (is_word && !word.starts_with(|letter: char| letter.is_ascii_digit())).then(|| &text[..end + 2])
}

/// Returns true if no statement remains open at the end of the text, or a command ends it.
pub(crate) fn is_complete(mut splitter: Splitter, text: &str) -> bool {
    let mut rest = text;
    let mut last = None;
    while let (Some(piece), more) = splitter.scan(rest) {
        (last, rest) = (Some(piece), more);
    }
    splitter.is_empty() || matches!(last, Some(Piece::Command(_))) && rest.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the pieces of a text given line by line, and what remains.
    fn pieces(text: &str) -> (Vec<String>, String) {
        let mut splitter = Splitter::default();
        let mut found = Vec::new();
        for line in text.split_inclusive('\n') {
            let mut rest = line;
            while let (Some(piece), more) = splitter.scan(rest) {
                found.push(match piece {
                    Piece::Statement(text) | Piece::Command(text) => text,
                });
                rest = more;
            }
        }
        (found, splitter.take())
    }

    #[test]
    fn statements_end_at_semicolons() {
        let (found, rest) = pieces("select 1; select\n 2;  -- three\n;select 3");
        assert_eq!(found, ["select 1;", "select\n 2;", ";"]);
        assert_eq!(rest, "select 3");
    }

    #[test]
    fn semicolons_inside() {
        for whole in [
            "select ';', 'it''s;' ;",
            "select E'\\';', e'\\\\';",
            "select \"a;\"\"b\", \"'\";",
            "select $$;'$$, $x$ ; $$ ; $y$ ;$x$;",
            "select 1 /* ; /* ; */ ; */;",
            "select 1 -- ; '\n;",
            "select (1;\n2);",
            "select 'a\n;b\n';",
            "select type'\\';",
            "select a$1$, b$1$;",
        ] {
            assert_eq!(pieces(whole), (vec![whole.to_string()], String::new()), "{whole}");
        }
        assert_eq!(pieces("select 1\\; select 2;").0, ["select 1; select 2;"]);
        assert_eq!(pieces("select 'größe;';").0, ["select 'größe;';"]);
    }

    #[test]
    fn commands_end_with_their_line() {
        let (found, rest) = pieces("\\timing on \nselect 1 \\g\n'\\n'");
        assert_eq!(found, ["\\timing on", "\\g"]);
        assert_eq!(rest, "select 1 \n'\\n'");
        assert_eq!(pieces("select '\\d';").0, ["select '\\d';"]);
    }

    #[test]
    fn complete_input() {
        let complete = |text: &str| is_complete(Splitter::default(), text);
        for text in ["", "  ", "-- nothing", "select 1;", "select\n1;\n-- end", "\\d toy.neurons", "select 1 \\g"] {
            assert!(complete(text), "{text}");
        }
        for text in ["select 1", "select 1; select", "select '\\d", "/* ", "select $$;", "select (1;"] {
            assert!(!complete(text), "{text}");
        }
    }

    #[test]
    fn what_is_open() {
        let open = |text: &str| {
            let mut splitter = Splitter::default();
            splitter.scan(text);
            splitter.open()
        };
        assert_eq!(["", "a", "'", "\"", "$$", "/*", "(", "(')"].map(open), ['=', '-', '\'', '"', '$', '*', '(', '\'']);
    }
}
