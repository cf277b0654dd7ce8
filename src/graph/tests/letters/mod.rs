//! Patterns of letters, for tests.

use neuroql_graph::Symbol;

/// Returns the symbol of a letter: `*` is any token, `^` the start of a text, a digit a gap of that many tokens.
pub fn symbol(letter: char) -> Symbol {
    match letter {
        '*' => Symbol::Any,
        '^' => Symbol::Start,
        '1'..='9' => Symbol::Gap(letter as u16 - '0' as u16),
        letter => Symbol::token(letter as u32, letter.to_string()),
    }
}
