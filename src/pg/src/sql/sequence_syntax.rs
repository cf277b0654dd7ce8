//! Syntax of sequences and identity columns that sqlparser does not read: options in any order, and OVERRIDING.

use datafusion::error::DataFusionError;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, Ident};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use neuroql::PostgresDialect;

/// Which values an INSERT gives identity columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Overriding {
    /// No others than their own, if they are `GENERATED ALWAYS`.
    #[default]
    Nothing,
    /// Those of the statement.
    SystemValue,
    /// Their own, whatever the statement has.
    UserValue,
}

/// Names under which [`put`] keeps it in a statement, in a clause of Hive that PostgreSQL does not have.
const SYSTEM_VALUE: &str = "OVERRIDING SYSTEM VALUE";
const USER_VALUE: &str = "OVERRIDING USER VALUE";

/// Reads statements, the first word of which tells whether there is something that sqlparser does not read.
///
/// # Errors
/// If they cannot be read.
pub(crate) fn parse(mut tokens: Vec<TokenWithSpan>) -> Result<Vec<ast::Statement>, DataFusionError> {
    let first = tokens.iter().find(|token| !is_space(token));
    let (creates, inserts) = first.map_or((false, false), |token| (is_word(token, "CREATE"), is_word(token, "INSERT")));
    if creates {
        sort_options(&mut tokens)?;
    }
    let overriding = if inserts { take(&mut tokens) } else { Overriding::Nothing };
    let mut statements = Parser::new(&PostgresDialect).with_tokens_with_locations(tokens).parse_statements()?;
    put(&mut statements, overriding);
    Ok(statements)
}

/// Takes `OVERRIDING … VALUE` out of an INSERT.
fn take(tokens: &mut Vec<TokenWithSpan>) -> Overriding {
    let mut depth = 0_usize;
    let places: Vec<usize> = (0..tokens.len()).filter(|place| !is_space(&tokens[*place])).collect();
    for (index, place) in places.iter().enumerate() {
        match &tokens[*place].token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            // Values and queries come after it.
            Token::Word(word)
                if depth == 0 && matches!(word.keyword, Keyword::VALUES | Keyword::SELECT | Keyword::WITH) =>
            {
                return Overriding::Nothing;
            }
            _ if depth == 0 && is_word(&tokens[*place], "OVERRIDING") => {
                let next = |ahead: usize| places.get(index + ahead).map(|place| &tokens[*place]);
                let is = |ahead: usize, word: &str| next(ahead).is_some_and(|token| is_word(token, word));
                let found = match (is(1, "SYSTEM"), is(1, "USER"), is(2, "VALUE")) {
                    (true, _, true) => Overriding::SystemValue,
                    (_, true, true) => Overriding::UserValue,
                    _ => return Overriding::Nothing,
                };
                let last = places.get(index + 2).copied().unwrap_or(*place);
                tokens.drain(*place..=last);
                return found;
            }
            _ => {}
        }
    }
    Overriding::Nothing
}

/// Keeps what [`take`] has found in the statement.
fn put(statements: &mut [ast::Statement], overriding: Overriding) {
    let name = match overriding {
        Overriding::Nothing => return,
        Overriding::SystemValue => SYSTEM_VALUE,
        Overriding::UserValue => USER_VALUE,
    };
    if let [ast::Statement::Insert(insert)] = statements {
        insert.after_columns = vec![Ident::with_quote('"', name)];
    }
}

/// Takes it out of the statement.
pub(crate) fn taken(statement: &mut Statement) -> Overriding {
    match statement {
        Statement::Explain(explain) => taken(&mut explain.statement),
        Statement::Statement(inner) => match inner.as_mut() {
            ast::Statement::Insert(insert) => {
                let found = match insert.after_columns.first().map(|name| name.value.as_str()) {
                    Some(SYSTEM_VALUE) => Overriding::SystemValue,
                    Some(USER_VALUE) => Overriding::UserValue,
                    _ => return Overriding::Nothing,
                };
                insert.after_columns.clear();
                found
            }
            _ => Overriding::Nothing,
        },
        _ => Overriding::Nothing,
    }
}

/// Puts the options of sequences in a CREATE statement into the order in which sqlparser reads them.
///
/// # Errors
/// If there is one twice.
fn sort_options(tokens: &mut Vec<TokenWithSpan>) -> Result<(), ParserError> {
    let words: Vec<usize> = (0..tokens.len()).filter(|place| !is_space(&tokens[*place])).collect();
    let is = |index: usize, word: &str| words.get(index).is_some_and(|place| is_word(&tokens[*place], word));
    let mut at = 1;
    while is(at, "TEMP") || is(at, "TEMPORARY") {
        at += 1;
    }
    if is(at, "SEQUENCE") {
        tokens.retain(|token| !is_space(token));
        let is = |place: usize, word: &str| tokens.get(place).is_some_and(|token| is_word(token, word));
        let mut name = if is(at + 1, "IF") { at + 4 } else { at + 1 };
        while tokens.get(name + 1).is_some_and(|token| token.token == Token::Period) {
            name += 2;
        }
        let begin = (name + 1).min(tokens.len());
        return sort(tokens, begin, tokens.len());
    }
    // From the last one on, so that places stay.
    let identities: Vec<usize> =
        (2..words.len()).filter(|index| is(index - 1, "AS") && is(*index, "IDENTITY")).collect();
    for identity in identities.into_iter().rev() {
        let Some(open) = words.get(identity + 1).copied().filter(|open| tokens[*open].token == Token::LParen) else {
            continue;
        };
        let end = (open..tokens.len()).find(|end| tokens[*end].token == Token::RParen).unwrap_or(tokens.len());
        sort(tokens, open + 1, end)?;
    }
    Ok(())
}

/// Sorts the options between two places.
fn sort(tokens: &mut Vec<TokenWithSpan>, begin: usize, end: usize) -> Result<(), ParserError> {
    let end = (begin..end).find(|place| matches!(tokens[*place].token, Token::EOF | Token::SemiColon)).unwrap_or(end);
    let given: Vec<TokenWithSpan> = tokens[begin..end].iter().filter(|token| !is_space(token)).cloned().collect();
    let mut options: Vec<(usize, Vec<TokenWithSpan>)> = Vec::new();
    let mut place = 0;
    while let Some(token) = given.get(place) {
        place += 1;
        match (rank(&given, place - 1), options.last_mut()) {
            (Some(rank), _) => {
                if options.iter().any(|(known, _)| *known == rank) {
                    return Err(ParserError::ParserError("conflicting or redundant options".into()));
                }
                let mut option = vec![token.clone()];
                if is_word(token, "NO") {
                    option.extend(given.get(place).cloned());
                    place += 1;
                }
                options.push((rank, option));
            }
            (None, Some((_, option))) => option.push(token.clone()),
            // The parser says what is wrong.
            (None, None) => return Ok(()),
        }
    }
    options.sort_by_key(|(rank, _)| *rank);
    tokens.splice(begin..end, options.into_iter().flat_map(|(_, option)| option));
    Ok(())
}

/// Returns the place of an option in the order of sqlparser, if one begins here.
fn rank(tokens: &[TokenWithSpan], place: usize) -> Option<usize> {
    const ORDER: [&str; 8] = ["AS", "INCREMENT", "MINVALUE", "MAXVALUE", "START", "CACHE", "CYCLE", "OWNED"];
    let token = tokens.get(place)?;
    if is_word(token, "NO") {
        let next = tokens.get(place + 1)?;
        return ORDER.iter().position(|word| matches!(*word, "MINVALUE" | "MAXVALUE" | "CYCLE") && is_word(next, word));
    }
    ORDER.iter().position(|word| is_word(token, word))
}

fn is_space(token: &TokenWithSpan) -> bool {
    matches!(token.token, Token::Whitespace(_))
}

fn is_word(token: &TokenWithSpan, word: &str) -> bool {
    matches!(&token.token, Token::Word(found) if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    use super::*;

    fn tokens(text: &str) -> Vec<TokenWithSpan> {
        Tokenizer::new(&PostgresDialect, text).tokenize_with_location().unwrap()
    }

    fn sorted(text: &str) -> Result<String, ParserError> {
        let mut tokens = tokens(text);
        sort_options(&mut tokens)?;
        let parsed = Parser::new(&PostgresDialect).with_tokens_with_locations(tokens).parse_statements()?;
        Ok(parsed[0].to_string())
    }

    #[test]
    fn options_are_read_in_any_order() {
        for (given, read) in [
            ("CREATE SEQUENCE s START WITH 5 INCREMENT BY 2", "CREATE SEQUENCE s INCREMENT BY 2 START WITH 5"),
            (
                "CREATE SEQUENCE s CYCLE NO MINVALUE MAXVALUE -1 INCREMENT -1 AS int OWNED BY t.c CACHE 3",
                "CREATE SEQUENCE s AS INT INCREMENT -1 NO MINVALUE MAXVALUE -1 CACHE 3 CYCLE OWNED BY t.c",
            ),
            ("CREATE SEQUENCE IF NOT EXISTS a.s", "CREATE SEQUENCE IF NOT EXISTS a.s"),
            (
                "CREATE SEQUENCE IF NOT EXISTS a.start START 2 CACHE 3",
                "CREATE SEQUENCE IF NOT EXISTS a.start START 2 CACHE 3",
            ),
            ("CREATE TEMP SEQUENCE start START 3", "CREATE TEMPORARY SEQUENCE start START 3"),
            ("CREATE SEQUENCE s NO CYCLE START 3 ;", "CREATE SEQUENCE s START 3 NO CYCLE"),
        ] {
            assert_eq!(sorted(given).unwrap(), read);
        }
        let table = "CREATE TABLE t (a INT GENERATED ALWAYS AS IDENTITY (CYCLE START WITH 4), b INT)";
        assert!(sorted(table).unwrap().contains("START WITH 4 CYCLE"), "{:?}", sorted(table));
        assert!(sorted("CREATE SEQUENCE s INCREMENT 1 INCREMENT 2").is_err());
        assert!(sorted("CREATE SEQUENCE s NONSENSE 1").is_err());
        assert_eq!(sorted("CREATE TABLE t (start INT)").unwrap(), "CREATE TABLE t (start INT)");
    }

    #[test]
    fn overriding_is_taken_out() {
        for (text, rest, overriding) in [
            ("INSERT INTO t OVERRIDING SYSTEM VALUE VALUES (1)", "INSERT INTO t VALUES (1)", Overriding::SystemValue),
            ("insert into t (a) overriding user value select 1", "INSERT INTO t (a) SELECT 1", Overriding::UserValue),
            ("INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (1)", Overriding::Nothing),
            ("INSERT INTO t (overriding) VALUES (1)", "INSERT INTO t (overriding) VALUES (1)", Overriding::Nothing),
        ] {
            let mut tokens = tokens(text);
            let found = take(&mut tokens);
            assert_eq!(found, overriding, "{text}");
            let mut parsed =
                Parser::new(&PostgresDialect).with_tokens_with_locations(tokens).parse_statements().unwrap();
            assert_eq!(parsed[0].to_string(), rest);
            put(&mut parsed, found);
            let mut statement = Statement::Statement(Box::new(parsed.remove(0)));
            assert_eq!((taken(&mut statement), taken(&mut statement)), (overriding, Overriding::Nothing));
        }
    }
}
