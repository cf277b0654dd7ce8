//! `PREPARE TRANSACTION`, `COMMIT PREPARED` and `ROLLBACK PREPARED`, which sqlparser does not know.

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use neuroql::PostgresDialect;

/// A statement about a transaction that is prepared, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TwoPhase {
    Prepare,
    Commit(String),
    Rollback(String),
}

/// Reads such a statement, whose first words are these in capitals; `None` for another.
pub(crate) fn read(words: &[&str], text: &str) -> Option<TwoPhase> {
    if !matches!(words, ["PREPARE", "TRANSACTION"] | ["COMMIT" | "ROLLBACK", "PREPARED"]) {
        return None;
    }
    let tokens = Tokenizer::new(&PostgresDialect, text).tokenize().ok()?;
    let tokens: Vec<_> =
        tokens.into_iter().filter(|token| !matches!(token, Token::Whitespace(_) | Token::EOF)).collect();
    let [_, _, name] = <[Token; 3]>::try_from(tokens).ok()?;
    let name = match name {
        Token::SingleQuotedString(name) | Token::EscapedStringLiteral(name) | Token::UnicodeStringLiteral(name) => name,
        Token::DollarQuotedString(quoted) => quoted.value,
        _ => return None,
    };
    Some(match words {
        ["PREPARE", _] => TwoPhase::Prepare,
        ["COMMIT", _] => TwoPhase::Commit(name),
        _ => TwoPhase::Rollback(name),
    })
}

/// Returns the statement as which it goes through the parser: one that may end a failed transaction.
pub(crate) fn placeholder() -> Statement {
    Statement::Statement(Box::new(ast::Statement::Rollback { chain: false, savepoint: None }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        for (text, words, found) in [
            ("prepare transaction 'x'", ["PREPARE", "TRANSACTION"], Some(TwoPhase::Prepare)),
            ("COMMIT PREPARED $$y$$", ["COMMIT", "PREPARED"], Some(TwoPhase::Commit("y".into()))),
            ("rollback /* x */ prepared e'a\\'b'", ["ROLLBACK", "PREPARED"], Some(TwoPhase::Rollback("a'b".into()))),
            ("prepare transaction x", ["PREPARE", "TRANSACTION"], None),
            ("commit prepared", ["COMMIT", "PREPARED"], None),
            ("commit prepared 'x' 'y'", ["COMMIT", "PREPARED"], None),
            ("commit work", ["COMMIT", "WORK"], None),
        ] {
            assert_eq!(read(&words, text), found, "{text}");
        }
    }
}
