//! Statements of PostgreSQL that sqlparser does not read, and words that it does not know: they are taken out of the
//! text before it is parsed, and blanks stand in their place.

use std::borrow::Cow;

use datafusion::error::DataFusionError;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::helpers::stmt_create_table::CreateTableBuilder;
use datafusion::sql::sqlparser::ast::{self, Ident, ObjectName, Query};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};
use neuroql::PostgresDialect;

use crate::sql::alter_sequence::{self, AlterSequence};
use crate::sql::positions::OffsetFinder;
use crate::wire::error_response::{SqlError, external};

/// A part that was taken out of a statement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Utility {
    /// `VACUUM` of relations; of all if it names none.
    Vacuum(Vec<Target>),
    /// `ANALYZE` of relations; of all if it names none.
    Analyze(Vec<Target>),
    /// `REFRESH MATERIALIZED VIEW`.
    Refresh { name: ObjectName, populated: bool, concurrently: bool },
    /// `COMMENT ON CONSTRAINT name ON table IS comment`.
    CommentOnConstraint { name: Ident, table: ObjectName, comment: Option<String> },
    /// `[NOT] DEFERRABLE` of a transaction.
    Deferrable(bool),
    /// `UNLOGGED` of a table.
    Unlogged,
    /// `WITH NO DATA` of a query that fills a table.
    WithoutData,
    /// `CONCURRENTLY` of a DROP INDEX.
    Concurrently,
    /// `ALTER SEQUENCE`.
    AlterSequence(Box<AlterSequence>),
}

/// A relation, and columns of it.
pub(crate) type Target = (ObjectName, Vec<Ident>);

/// Takes out of a statement what sqlparser does not read. `words` are its first words, in capitals. A statement that is taken
/// out in whole leaves a `VACUUM`.
///
/// # Errors
/// 42601 if the part cannot be read.
pub(super) fn take<'a>(text: &'a str, words: &[String]) -> Result<(Cow<'a, str>, Option<Utility>), DataFusionError> {
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    Ok(match words.as_slice() {
        ["VACUUM", ..] => (Cow::Borrowed("VACUUM"), Some(whole(text, vacuum)?)),
        ["ANALYZE" | "ANALYSE", ..] => (Cow::Borrowed("VACUUM"), Some(whole(text, analyze)?)),
        ["REFRESH", ..] => (Cow::Borrowed("VACUUM"), Some(whole(text, refresh)?)),
        ["ALTER", "SEQUENCE", ..] => {
            let altered = whole(text, |parser| Ok(Utility::AlterSequence(Box::new(alter_sequence::parse(parser)?))))?;
            (Cow::Borrowed("VACUUM"), Some(altered))
        }
        ["COMMENT", "ON", "CONSTRAINT", ..] => {
            check_comment(text)?;
            (Cow::Borrowed("VACUUM"), Some(whole(text, comment_on_constraint)?))
        }
        ["COMMENT", ..] => {
            check_comment(text)?;
            (Cow::Borrowed(text), None)
        }
        ["BEGIN" | "START", ..] | ["SET", "TRANSACTION" | "SESSION" | "LOCAL", ..] => deferrable(text)?,
        ["CREATE", "UNLOGGED", "TABLE", ..] => {
            let (rest, utility) = without_data(text)?;
            if utility.is_some() {
                return Err(refused("CREATE UNLOGGED TABLE … WITH NO DATA is not supported"));
            }
            let rest = with_blanks(&rest, |tokens| tokens.get(1).map(|word| vec![word.clone()]))?;
            (Cow::Owned(rest.into_owned()), Some(Utility::Unlogged))
        }
        ["DROP", "INDEX", "CONCURRENTLY", ..] => {
            let rest = with_blanks(text, |tokens| tokens.get(2).map(|word| vec![word.clone()]))?;
            (rest, Some(Utility::Concurrently))
        }
        ["CREATE", "TRANSIENT", ..] => return Err(syntax_error("transient")),
        ["CREATE", ..] => without_data(text)?,
        // sqlparser reads no SELECT without columns and tables.
        ["SELECT"] if text.trim().eq_ignore_ascii_case("select") => ("SELECT FROM (SELECT 1) AS one".into(), None),
        _ => (Cow::Borrowed(text), None),
    })
}

fn refused(message: &str) -> DataFusionError {
    external(SqlError::not_supported(message))
}

fn syntax_error(word: &str) -> DataFusionError {
    external(SqlError::error("42601", format!("syntax error at or near \"{word}\"")))
}

/// Reads a whole statement.
fn whole(
    text: &str,
    read: impl FnOnce(&mut Parser) -> Result<Utility, ParserError>,
) -> Result<Utility, DataFusionError> {
    let mut parser = Parser::new(&PostgresDialect).try_with_sql(text)?;
    parser.next_token();
    let utility = read(&mut parser)?;
    parser.expect_token(&Token::EOF)?;
    Ok(utility)
}

/// Reads a word that is no keyword of sqlparser; true if it is there.
fn word(parser: &mut Parser, wanted: &str) -> bool {
    let found = match &parser.peek_token_ref().token {
        Token::Word(word) => word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted),
        _ => false,
    };
    if found {
        parser.next_token();
    }
    found
}

fn vacuum(parser: &mut Parser) -> Result<Utility, ParserError> {
    const OPTIONS: [&str; 11] = [
        "full",
        "freeze",
        "verbose",
        "analyze",
        "disable_page_skipping",
        "skip_locked",
        "index_cleanup",
        "process_toast",
        "truncate",
        "parallel",
        "process_main",
    ];
    if !options(parser, &OPTIONS)? {
        for option in ["FULL", "FREEZE", "VERBOSE", "ANALYZE"] {
            word(parser, option);
        }
    }
    Ok(Utility::Vacuum(targets(parser)?))
}

fn analyze(parser: &mut Parser) -> Result<Utility, ParserError> {
    if !options(parser, &["verbose", "skip_locked"])? {
        word(parser, "VERBOSE");
    }
    Ok(Utility::Analyze(targets(parser)?))
}

/// Reads options in parentheses, which say how and not what is done; false if there are none.
fn options(parser: &mut Parser, known: &[&str]) -> Result<bool, ParserError> {
    if !parser.consume_token(&Token::LParen) {
        return Ok(false);
    }
    parser.parse_comma_separated(|parser| {
        if !known.iter().any(|option| word(parser, option)) {
            return parser.expected_ref("an option", parser.peek_token_ref());
        }
        if matches!(parser.peek_token_ref().token, Token::Word(_) | Token::Number(..) | Token::SingleQuotedString(_)) {
            parser.next_token();
        }
        Ok(())
    })?;
    parser.expect_token(&Token::RParen)?;
    Ok(true)
}

fn targets(parser: &mut Parser) -> Result<Vec<Target>, ParserError> {
    if parser.peek_token_ref().token == Token::EOF {
        return Ok(Vec::new());
    }
    parser.parse_comma_separated(|parser| {
        let name = parser.parse_object_name(false)?;
        let mut columns = Vec::new();
        if parser.consume_token(&Token::LParen) {
            columns = parser.parse_comma_separated(|parser| parser.parse_identifier())?;
            parser.expect_token(&Token::RParen)?;
        }
        Ok((name, columns))
    })
}

fn refresh(parser: &mut Parser) -> Result<Utility, ParserError> {
    parser.expect_keyword_is(Keyword::MATERIALIZED)?;
    parser.expect_keyword_is(Keyword::VIEW)?;
    let concurrently = word(parser, "CONCURRENTLY");
    let name = parser.parse_object_name(false)?;
    let mut populated = true;
    if word(parser, "WITH") {
        populated = !word(parser, "NO");
        if !word(parser, "DATA") {
            return parser.expected_ref("DATA", parser.peek_token_ref());
        }
    }
    Ok(Utility::Refresh { name, populated, concurrently })
}

fn comment_on_constraint(parser: &mut Parser) -> Result<Utility, ParserError> {
    // ON CONSTRAINT
    parser.next_token();
    parser.next_token();
    let name = parser.parse_identifier()?;
    parser.expect_keyword_is(Keyword::ON)?;
    let table = parser.parse_object_name(false)?;
    parser.expect_keyword_is(Keyword::IS)?;
    let comment = if word(parser, "NULL") { None } else { Some(parser.parse_literal_string()?) };
    Ok(Utility::CommentOnConstraint { name, table, comment })
}

/// Refuses words in the place of a comment's text, which sqlparser takes for it.
fn check_comment(text: &str) -> Result<(), DataFusionError> {
    let mut wrong = None;
    with_blanks(text, |tokens| {
        if let Some(last) = tokens.last().filter(|last| matches!(last.token, Token::Word(_)) && !is_word(last, "NULL"))
        {
            wrong = Some(last.token.to_string());
        }
        None
    })?;
    wrong.map_or(Ok(()), |word| Err(syntax_error(&word)))
}

/// Takes `[NOT] DEFERRABLE` out of the modes of a transaction, and the comma beside it.
fn deferrable(text: &str) -> Result<(Cow<'_, str>, Option<Utility>), DataFusionError> {
    if !text.to_ascii_uppercase().contains("DEFERRABLE") {
        return Ok((Cow::Borrowed(text), None));
    }
    let mut deferrable = None;
    let rest = with_blanks(text, |tokens| {
        let mut blanks: Vec<TokenWithSpan> = Vec::new();
        let mut first = 0;
        for (place, token) in tokens.iter().enumerate().filter(|(_, token)| is_word(token, "DEFERRABLE")) {
            let negated = place > 0 && is_word(&tokens[place - 1], "NOT");
            deferrable = Some(!negated);
            let start = if negated { place - 1 } else { place };
            let is_comma = |place: usize| tokens.get(place).is_some_and(|token| token.token == Token::Comma);
            if start > first && is_comma(start - 1) {
                blanks.push(tokens[start - 1].clone());
            }
            blanks.extend(tokens[start..place].iter().cloned());
            blanks.push(token.clone());
            first = place + 1;
            let goes_on = tokens.get(place + 2).is_some();
            if blanks.iter().all(|blank| blank.token != Token::Comma) && is_comma(first) && goes_on {
                blanks.push(tokens[first].clone());
                first += 1;
            }
        }
        Some(blanks)
    })?;
    Ok((rest, deferrable.map(Utility::Deferrable)))
}

/// Takes `WITH [NO] DATA` from the end of a statement.
fn without_data(text: &str) -> Result<(Cow<'_, str>, Option<Utility>), DataFusionError> {
    let end = text.trim_end();
    if !end.get(end.len().saturating_sub(4)..).is_some_and(|end| end.eq_ignore_ascii_case("data")) {
        return Ok((Cow::Borrowed(text), None));
    }
    let mut utility = None;
    let rest = with_blanks(text, |tokens| match tokens {
        [.., with, no, data] if is_word(with, "WITH") && is_word(no, "NO") && is_word(data, "DATA") => {
            utility = Some(Utility::WithoutData);
            Some(vec![with.clone(), no.clone(), data.clone()])
        }
        [.., with, data] if is_word(with, "WITH") && is_word(data, "DATA") => Some(vec![with.clone(), data.clone()]),
        _ => None,
    })?;
    Ok((rest, utility))
}

fn is_word(token: &TokenWithSpan, wanted: &str) -> bool {
    matches!(&token.token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted))
}

/// Puts blanks in the place of some tokens, which `choose` returns in their order.
fn with_blanks(
    text: &str,
    choose: impl FnOnce(&[TokenWithSpan]) -> Option<Vec<TokenWithSpan>>,
) -> Result<Cow<'_, str>, DataFusionError> {
    let mut tokens = Tokenizer::new(&PostgresDialect, text).tokenize_with_location().map_err(ParserError::from)?;
    tokens.retain(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF));
    let Some(blanks) = choose(&tokens).filter(|blanks| !blanks.is_empty()) else {
        return Ok(Cow::Borrowed(text));
    };
    let mut places = OffsetFinder::of(text);
    let mut rest = String::with_capacity(text.len());
    for token in blanks {
        let (start, end) = (places.offset(token.span.start), places.offset(token.span.end));
        rest.push_str(&text[rest.len()..start]);
        rest.extend(std::iter::repeat_n(' ', end - start));
    }
    rest.push_str(&text[rest.len()..]);
    Ok(rest.into())
}

// Tables of PostgreSQL that sqlparser's tables stand for, marked by properties that only Snowflake's dialect reads.

/// Makes a table of a materialized view, and marks a table with what was taken out of its statement.
///
/// # Errors
/// 0A000 for parts of a materialized view that are not supported.
pub(super) fn mark(statement: &mut Statement, utility: Option<&Utility>) -> Result<(), SqlError> {
    let Statement::Statement(inner) = statement else { return Ok(()) };
    if let ast::Statement::CreateView(view) = inner.as_mut()
        && view.materialized
    {
        if view.or_replace || view.temporary {
            return Err(SqlError::error("42601", "syntax error at or near \"materialized\""));
        }
        if view.options != ast::CreateTableOptions::None {
            return Err(SqlError::not_supported("WITH of a materialized view is not supported"));
        }
        let columns = std::mem::take(&mut view.columns).into_iter().map(|column| column.name);
        let query = std::mem::replace(view.query.as_mut(), nothing());
        let query = renamed(query, columns.collect());
        let table = CreateTableBuilder::new(view.name.clone())
            .if_not_exists(view.if_not_exists)
            .query(Some(Box::new(query)))
            .dynamic(true);
        **inner = ast::Statement::CreateTable(table.build());
    }
    let ast::Statement::CreateTable(table) = inner.as_mut() else {
        return match utility {
            Some(Utility::WithoutData) => Err(SqlError::error("42601", "syntax error at or near \"no\"")),
            _ => Ok(()),
        };
    };
    match utility {
        Some(Utility::Unlogged) => table.volatile = true,
        Some(Utility::WithoutData) => {
            if table.query.is_none() {
                return Err(SqlError::error("42601", "syntax error at or near \"no\""));
            }
            table.iceberg = true;
        }
        _ => {}
    }
    Ok(())
}

/// Returns true for the table of a materialized view.
pub(crate) fn is_materialized(table: &ast::CreateTable) -> bool {
    table.dynamic
}

/// Returns true for an unlogged table.
pub(crate) fn is_unlogged(table: &ast::CreateTable) -> bool {
    table.volatile
}

/// Returns true for a table that its query does not fill.
pub(crate) fn is_without_data(table: &ast::CreateTable) -> bool {
    table.iceberg
}

/// Takes the marks from a table, and what the planner does not read, before it is planned.
pub(crate) fn unmark(statement: &mut Statement) {
    let Statement::Statement(inner) = statement else { return };
    let ast::Statement::CreateTable(table) = inner.as_mut() else { return };
    table.on_commit = None;
    table.dynamic = false;
    table.volatile = false;
    if std::mem::take(&mut table.iceberg)
        && let Some(query) = &mut table.query
    {
        let all = std::mem::replace(query.as_mut(), nothing());
        **query = of_none(all);
    }
}

/// Returns a query with other names of its columns.
fn renamed(query: Query, columns: Vec<Ident>) -> Query {
    match columns.is_empty() {
        true => query,
        false => around(query, columns, None),
    }
}

/// Returns a query with the columns of another, and no rows.
fn of_none(query: Query) -> Query {
    around(query, Vec::new(), Some(ast::Expr::value(ast::Value::Boolean(false))))
}

fn nothing() -> Query {
    crate::sql::rewrite::catalog_queries::select(Vec::new())
}

/// Returns `SELECT * FROM (query) AS whole (columns) WHERE selection`.
fn around(query: Query, columns: Vec<Ident>, selection: Option<ast::Expr>) -> Query {
    let mut outer = nothing();
    let columns = columns.into_iter().map(|name| ast::TableAliasColumnDef { name, data_type: None }).collect();
    let alias = ast::TableAlias { explicit: true, name: Ident::new("whole"), columns, at: None };
    if let ast::SetExpr::Select(select) = outer.body.as_mut() {
        select.projection = vec![ast::SelectItem::Wildcard(ast::WildcardAdditionalOptions::default())];
        select.selection = selection;
        let relation =
            ast::TableFactor::Derived { lateral: false, subquery: Box::new(query), alias: Some(alias), sample: None };
        select.from = vec![ast::TableWithJoins { relation, joins: Vec::new() }];
    }
    outer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str) -> (String, Option<Utility>) {
        let words: Vec<_> = text
            .split(|letter: char| !letter.is_alphanumeric() && letter != '_')
            .filter(|word| word.starts_with(char::is_alphabetic))
            .map(str::to_ascii_uppercase)
            .take(5)
            .collect();
        let (rest, utility) = take(text, &words).unwrap();
        (rest.into_owned(), utility)
    }

    #[test]
    fn modes_of_transactions_are_taken_out() {
        for (text, rest, deferrable) in [
            ("BEGIN DEFERRABLE", "BEGIN", Some(true)),
            ("begin not deferrable", "begin", Some(false)),
            ("BEGIN READ ONLY, DEFERRABLE", "BEGIN READ ONLY", Some(true)),
            ("BEGIN DEFERRABLE, READ ONLY", "BEGIN READ ONLY", Some(true)),
            ("BEGIN DEFERRABLE READ ONLY", "BEGIN READ ONLY", Some(true)),
            ("BEGIN READ ONLY, NOT DEFERRABLE, READ WRITE", "BEGIN READ ONLY , READ WRITE", Some(false)),
            ("BEGIN DEFERRABLE,", "BEGIN ,", Some(true)),
            ("SET TRANSACTION DEFERRABLE", "SET TRANSACTION", Some(true)),
            ("BEGIN", "BEGIN", None),
            ("SET x TO deferrable", "SET x TO deferrable", None),
        ] {
            let (found, utility) = taken(text);
            assert_eq!(found.len(), text.len());
            assert_eq!(found.split_whitespace().collect::<Vec<_>>().join(" "), rest);
            assert_eq!(utility, deferrable.map(Utility::Deferrable), "{text}");
        }
    }

    #[test]
    fn statements_are_read() {
        let targets = |text: &str| match taken(text) {
            (rest, Some(Utility::Vacuum(targets) | Utility::Analyze(targets))) if rest == "VACUUM" => {
                targets.iter().map(|(name, columns)| format!("{name}{}", columns.len())).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(targets("VACUUM"), Vec::<String>::new());
        assert_eq!(targets("vacuum full freeze verbose analyze t"), ["t0"]);
        assert_eq!(targets("VACUUM (VERBOSE, FULL off, PARALLEL 2) a, s.b (x, y)"), ["a0", "s.b2"]);
        assert_eq!(targets("ANALYZE VERBOSE \"T\""), ["\"T\"0"]);
        for bad in
            ["VACUUM (nothing) t", "VACUUM t,", "ANALYZE t u", "REFRESH VIEW v", "REFRESH MATERIALIZED VIEW v WITH"]
        {
            let words: Vec<_> = bad.split(' ').map(str::to_owned).collect();
            assert!(take(bad, &words).is_err(), "{bad}");
        }
        let (_, refresh) = taken("REFRESH MATERIALIZED VIEW CONCURRENTLY s.v WITH NO DATA");
        assert!(matches!(refresh, Some(Utility::Refresh { populated: false, concurrently: true, .. })));
        let (_, comment) = taken("COMMENT ON CONSTRAINT c ON s.t IS 'it''s'");
        let Some(Utility::CommentOnConstraint { comment, .. }) = comment else { panic!("{comment:?}") };
        assert_eq!(comment.as_deref(), Some("it's"));
    }

    #[test]
    fn words_of_tables_are_taken_out() {
        let (rest, utility) = taken("CREATE UNLOGGED TABLE t (a int)");
        assert_eq!((rest.as_str(), utility), ("CREATE          TABLE t (a int)", Some(Utility::Unlogged)));
        let (rest, utility) = taken("CREATE TABLE t AS SELECT 'é' WITH NO DATA ");
        assert_eq!((rest.trim_end(), utility), ("CREATE TABLE t AS SELECT 'é'", Some(Utility::WithoutData)));
        let (rest, utility) = taken("CREATE MATERIALIZED VIEW v AS SELECT 1\nWITH DATA");
        assert_eq!((rest.trim_end(), utility), ("CREATE MATERIALIZED VIEW v AS SELECT 1", None));
        let (rest, utility) = taken("CREATE VIEW v AS SELECT a AS data");
        assert_eq!((rest.as_str(), utility), ("CREATE VIEW v AS SELECT a AS data", None));
    }
}
