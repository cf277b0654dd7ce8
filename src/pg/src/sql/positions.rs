//! Places in the text of a query: sqlparser counts lines and columns, PostgreSQL characters.

use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::Location;

/// Finds the byte offsets of locations, which count lines and characters from 1. Only goes forward.
pub(super) struct OffsetFinder<'a> {
    text: &'a str,
    offset: usize,
    line: u64,
    column: u64,
}

impl<'a> OffsetFinder<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self { text, offset: 0, line: 1, column: 1 }
    }

    pub(super) fn offset(&mut self, location: Location) -> usize {
        while (self.line, self.column) < (location.line, location.column)
            && let Some(letter) = self.text[self.offset..].chars().next()
        {
            self.offset += letter.len_utf8();
            (self.line, self.column) = if letter == '\n' { (self.line + 1, 1) } else { (self.line, self.column + 1) };
        }
        self.offset
    }
}

/// Returns the character of a location, counted from 1 as in Postgres.
pub(super) fn character(text: &str, location: Location) -> usize {
    let offset = OffsetFinder::of(text).offset(location);
    text[..offset].chars().count() + 1
}

/// Returns the character of an error, counted from 1. sqlparser has it only in its text: `… at Line: 1, Column: 8`.
pub(super) fn position_of(error: &DataFusionError, text: &str) -> Option<usize> {
    let error = match error {
        DataFusionError::SQL(error, _) => error,
        DataFusionError::Diagnostic(_, inner) | DataFusionError::Context(_, inner) => return position_of(inner, text),
        _ => return None,
    };
    let (ParserError::ParserError(message) | ParserError::TokenizerError(message)) = &**error else { return None };
    let (line, column) = message.rsplit_once(" at Line: ")?.1.split_once(", Column: ")?;
    Some(character(text, Location::new(line.trim().parse().ok()?, column.trim().parse().ok()?)))
}
