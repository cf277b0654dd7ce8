//! Parsing of the text of a query into its statements.
//!
//! Two grammars meet here, in one dialect. `CREATE EXTERNAL TABLE`, `COPY … TO 'file'` and `EXPLAIN` belong to
//! DataFusion's parser, everything else to sqlparser's. Then the parts of a statement that read the Postgres catalog
//! are rewritten, and nothing else of it.

use std::sync::Arc;

use datafusion::error::DataFusionError;
use datafusion::sql::parser::{CopyToSource, DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser as SqlParser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan, Tokenizer};
use datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use datafusion_postgres::pgwire::api::Type;
use neuroql::PostgresDialect;

use crate::encode::copy::CopyFormat;
use crate::sql::positions::{OffsetFinder, character, position_of};
use crate::sql::rewrite::{self, catalog_queries, integers, object_casts, symmetric, syntax};
use crate::sql::sequence_syntax;
use crate::sql::two_phase::{self, TwoPhase};
use crate::sql::unsupported;
use crate::sql::utility::{self, Utility};
use crate::sql::{column_names, limits, table_constraints};
use crate::wire::activity::shown;
use crate::wire::error_response::{SqlError, external};

/// One statement of a query.
#[derive(Debug, Clone)]
pub(crate) struct ParsedStatement {
    pub(crate) statement: Statement,
    /// Names of the columns of the result, if they differ from DataFusion's.
    pub(crate) names: column_names::ColumnNames,
    /// Type of the first parameter, if the planner is not to find it.
    pub(crate) parameter: Option<Type>,
    /// True if the statement looks up objects of the catalog by their names.
    pub(crate) objects: bool,
    /// True for MOVE, a FETCH whose rows are only counted.
    pub(crate) moves: bool,
    pub(crate) two_phase: Option<TwoPhase>,
    /// Format of its rows if it is the query of a `COPY … TO STDOUT`.
    pub(crate) copy: Option<CopyFormat>,
    /// Format of its rows if it is the INSERT of a `COPY … FROM STDIN`. It inserts the rows of its own table, which
    /// those of the client replace.
    pub(crate) copy_from: Option<CopyFormat>,
    /// The constraints of a CREATE TABLE or ALTER TABLE that are not in the statement itself.
    pub(crate) constraints: Option<Arc<table_constraints::NewConstraints>>,
    /// The text of the statement, as far as `pg_stat_activity` shows it; of PREPARE and DECLARE the text of the message.
    pub(crate) text: Arc<str>,
    /// Part that was taken out of it before it was parsed.
    pub(crate) utility: Option<Utility>,
    /// Bytes that the statement and its plan hold, about.
    pub(crate) memory: usize,
}

impl ParsedStatement {
    /// Rewrites a statement for the planner.
    ///
    /// # Errors
    /// Names a part that can neither be planned nor rewritten.
    pub(crate) fn new(mut statement: Statement) -> Result<Self, SqlError> {
        let constraints = table_constraints::take(&mut statement)?;
        rewrite::adapt(&mut statement)?;
        let names = column_names::of_statement(&mut statement)?;
        rewrite::numerals::show_digits(&mut statement);
        syntax::rewrite(&mut statement)?;
        Ok(Self {
            statement,
            names,
            parameter: None,
            objects: false,
            moves: false,
            two_phase: None,
            copy: None,
            copy_from: None,
            text: Arc::default(),
            utility: None,
            constraints,
            memory: 0,
        })
    }

    /// Returns the statement, unless it is one of DataFusion's own.
    pub(crate) fn statement_in_sql(&self) -> Option<&ast::Statement> {
        match &self.statement {
            Statement::Statement(statement) => Some(statement),
            _ => None,
        }
    }
}

/// Parser of queries; made once, because pg-catalog's parser is expensive to make.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    compatible: PostgresCompatibilityParser,
}

impl Parser {
    /// Returns all statements of a query, or the first syntax error: nothing runs unless everything can be read.
    pub(crate) fn parse(&self, query: &str) -> Result<Vec<ParsedStatement>, SqlError> {
        if let Some((query, parameter)) = rewrite::replacement(query) {
            let mut statements = self.parse(query)?;
            statements.iter_mut().for_each(|parsed| parsed.parameter = Some(parameter.clone()));
            return Ok(statements);
        }
        let mut statements = Vec::new();
        let mut whole: Option<Arc<str>> = None;
        for piece in split(query)? {
            let failed = |error: DataFusionError| {
                let position = position_of(&error, &query[piece.start..piece.end])
                    .map(|within| query[..piece.start].chars().count() + within);
                SqlError::from(error).with_position(position)
            };
            let (read, utility) = utility::take(&query[piece.start..piece.end], &piece.words).map_err(failed)?;
            let read = symmetric::mark(&read).map_err(failed)?;
            let found = self.parse_piece(&read, &piece.words).map_err(failed)?;
            // What is listed with its whole text is listed with that of its message.
            let text: Arc<str> = match piece.words.first().map(String::as_str) {
                Some("PREPARE" | "DECLARE") => Arc::clone(whole.get_or_insert_with(|| query.into())),
                _ => shown(&query[piece.start..piece.end]).into(),
            };
            for mut found in found {
                let is_explained = matches!(found.statement, Statement::Explain(_));
                let memory = limits::memory_of_plan(piece.end - piece.start, piece.tokens, is_explained);
                symmetric::rewrite(&mut found.statement);
                utility::mark(&mut found.statement, utility.as_ref())?;
                check_limits(&found.statement)?;
                unsupported::check(&found.statement)?;
                statements.push(ParsedStatement {
                    text: Arc::clone(&text),
                    utility: utility.clone(),
                    memory,
                    objects: found.objects,
                    moves: found.moves,
                    two_phase: found.two_phase,
                    copy: found.copy,
                    copy_from: found.copy_from,
                    ..ParsedStatement::new(found.statement)?
                });
            }
        }
        Ok(statements)
    }

    fn parse_piece(&self, text: &str, words: &[String]) -> Result<Vec<RawStatement>, DataFusionError> {
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        if let Some(two_phase) = two_phase::read(&words, text) {
            let found = without_copy(two_phase::placeholder()).map_err(external)?;
            return Ok(vec![RawStatement { two_phase: Some(two_phase), ..found }]);
        }
        let statements: Vec<Statement> = match words.first() {
            Some(&"CREATE") if words.contains(&"EXTERNAL") => of_datafusion(text)?,
            Some(&"COPY") => match of_datafusion(text) {
                Err(_) if is_copy_stream(text) => of_postgres(text)?,
                parsed => parsed?,
            },
            Some(&"EXPLAIN") => of_datafusion(&with_explain_format(text))?,
            _ => of_postgres(text)?,
        };
        let rewritten = |statement| {
            let mut found = without_copy(statement).map_err(external)?;
            found.objects = self.rewrite(&mut found.statement, text);
            found.moves = words.first() == Some(&"MOVE");
            Ok(found)
        };
        statements.into_iter().map(rewritten).collect()
    }

    /// Rewrites the parts of a statement, or of the one inside an EXPLAIN, that read the catalog; returns true if it
    /// looks up objects by their names.
    fn rewrite(&self, statement: &mut Statement, text: &str) -> bool {
        match statement {
            Statement::Statement(inner) => {
                let objects = object_casts::rewrite(inner.as_mut());
                catalog_queries::rewrite(inner, text, &self.compatible);
                objects
            }
            Statement::Explain(explain) => self.rewrite(&mut explain.statement, text),
            Statement::CopyTo(copy) => {
                let CopyToSource::Query(query) = &mut copy.source else { return false };
                let objects = object_casts::rewrite(query.as_mut());
                catalog_queries::rewrite_parts(query, &self.compatible);
                objects
            }
            _ => false,
        }
    }
}

/// A statement before its rewrites, with the options of a COPY.
struct RawStatement {
    statement: Statement,
    objects: bool,
    moves: bool,
    two_phase: Option<TwoPhase>,
    copy: Option<CopyFormat>,
    copy_from: Option<CopyFormat>,
}

/// Returns the query of a `COPY … TO STDOUT` or the INSERT of a `COPY … FROM STDIN`; any other statement as it is.
fn without_copy(statement: Statement) -> Result<RawStatement, SqlError> {
    let found = |statement| {
        let (objects, moves, two_phase, copy, copy_from) = (false, false, None, None, None);
        RawStatement { statement, objects, moves, two_phase, copy, copy_from }
    };
    let Statement::Statement(inner) = statement else { return Ok(found(statement)) };
    let ast::Statement::Copy { source, to, target, options, legacy_options, .. } = *inner else {
        return Ok(found(Statement::Statement(inner)));
    };
    let wanted = if to { ast::CopyTarget::Stdout } else { ast::CopyTarget::Stdin };
    if target != wanted {
        let message =
            "COPY of files of the server is not supported like this; use COPY … TO 'file', or CREATE EXTERNAL TABLE";
        return Err(SqlError::not_supported(message));
    }
    let format = CopyFormat::of(&options, &legacy_options)?;
    let parsed = |text: &str| {
        let parsed = SqlParser::parse_sql(&PostgresDialect, text).map_err(DataFusionError::from)?;
        let missing = || SqlError::error("XX000", "internal error: COPY without a query");
        parsed.into_iter().next().ok_or_else(missing)
    };
    let statement = match source {
        ast::CopySource::Query(mut query) if to => {
            if format.is_binary() {
                integers::narrow_outputs(&mut query);
            }
            ast::Statement::Query(query)
        }
        ast::CopySource::Query(_) => {
            return Err(SqlError::error("42601", "syntax error: COPY (query) FROM is not supported"));
        }
        ast::CopySource::Table { table_name, columns } => {
            let columns: Vec<_> = columns.iter().map(ToString::to_string).collect();
            let named = if columns.is_empty() { String::new() } else { format!("({})", columns.join(", ")) };
            let columns = if columns.is_empty() { "*".into() } else { columns.join(", ") };
            match to {
                true => parsed(&format!("SELECT {columns} FROM {table_name}"))?,
                false => parsed(&format!("INSERT INTO {table_name} {named} SELECT {columns} FROM {table_name}"))?,
            }
        }
    };
    let (copy, copy_from) = if to { (Some(format), None) } else { (None, Some(format)) };
    Ok(RawStatement { copy, copy_from, ..found(Statement::Statement(Box::new(statement))) })
}

/// Checks the [`limits`] of a statement.
fn check_limits(statement: &Statement) -> Result<(), SqlError> {
    match statement {
        Statement::Statement(inner) => limits::check(inner.as_ref()),
        Statement::Explain(explain) => check_limits(&explain.statement),
        Statement::CopyTo(copy) => match &copy.source {
            CopyToSource::Query(query) => limits::check(query.as_ref()),
            CopyToSource::Relation(_) => Ok(()),
        },
        _ => Ok(()),
    }
}

fn of_datafusion(text: &str) -> Result<Vec<Statement>, DataFusionError> {
    let statements = DFParserBuilder::new(text).with_dialect(&PostgresDialect).build()?.parse_statements()?;
    Ok(statements.into())
}

/// Writes the formats of EXPLAIN as DataFusion names them: JSON is `pgjson`, TEXT `indent`.
fn with_explain_format(text: &str) -> String {
    let unchanged = || text.to_owned();
    let Ok(tokens) = Tokenizer::new(&PostgresDialect, text).tokenize_with_location() else { return unchanged() };
    let mut tokens = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_)));
    if !matches!((tokens.next(), tokens.next()), (Some(_), Some(TokenWithSpan { token: Token::LParen, .. }))) {
        return unchanged();
    }
    let options = tokens.take_while(|token| token.token != Token::RParen).collect::<Vec<_>>();
    let word = |token: &TokenWithSpan| match &token.token {
        Token::Word(word) => word.value.to_ascii_uppercase(),
        _ => String::new(),
    };
    let Some(format) = options.windows(2).find(|pair| word(pair[0]) == "FORMAT").map(|pair| pair[1]) else {
        return unchanged();
    };
    let name = match word(format).as_str() {
        "JSON" => "pgjson",
        "TEXT" => "indent",
        _ => return unchanged(),
    };
    let mut offsets = OffsetFinder::of(text);
    let (start, end) = (offsets.offset(format.span.start), offsets.offset(format.span.end));
    format!("{}{name}{}", &text[..start], &text[end..])
}

fn of_postgres(text: &str) -> Result<Vec<Statement>, DataFusionError> {
    let mut tokens = Tokenizer::new(&PostgresDialect, text).tokenize_with_location().map_err(ParserError::from)?;
    if let Some(first) = tokens.iter().position(|token| !matches!(token.token, Token::Whitespace(_)))
        && let Token::Word(word) = &tokens[first].token
        && word.quote_style.is_none()
    {
        match word.keyword {
            Keyword::FETCH => complete_fetch(&mut tokens),
            _ if word.value.eq_ignore_ascii_case("MOVE") => {
                tokens[first].token = Token::make_keyword("FETCH");
                complete_fetch(&mut tokens);
            }
            // ABORT is a ROLLBACK that sqlparser does not know, TABLE t a SELECT * FROM t.
            Keyword::ABORT => tokens[first].token = Token::make_keyword("ROLLBACK"),
            Keyword::TABLE => {
                let span = tokens[first].span;
                let words = [Token::make_keyword("SELECT"), Token::Mul, Token::make_keyword("FROM")];
                tokens.splice(first..=first, words.map(|token| TokenWithSpan { token, span }));
            }
            _ => {}
        }
    }
    let statements = sequence_syntax::parse(tokens)?;
    Ok(statements.into_iter().map(|statement| Statement::Statement(Box::new(statement))).collect())
}

/// Writes a FETCH as sqlparser reads it: the sign is part of the number, a direction without a count has the count 1,
/// and FROM or IN comes before the name. What is no FETCH of PostgreSQL stays for the parser to refuse.
fn complete_fetch(tokens: &mut Vec<TokenWithSpan>) {
    tokens.retain(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF));
    // The number comes first, or after FORWARD and the like.
    for place in [1, 2] {
        if let Some([TokenWithSpan { token: sign, .. }, TokenWithSpan { token: Token::Number(number, long), .. }]) =
            tokens.get(place..place + 2)
        {
            let number = match sign {
                Token::Minus => Token::Number(format!("-{number}"), *long),
                Token::Plus => Token::Number(number.clone(), *long),
                _ => continue,
            };
            tokens[place].token = number;
            tokens.remove(place + 1);
        }
    }
    let read = tokens.as_slice();
    // A quoted word is no keyword.
    let keyword = |place: usize| match read.get(place) {
        Some(TokenWithSpan { token: Token::Word(word), .. }) => Some(word.keyword),
        _ => None,
    };
    let is_number = |place: usize| matches!(read.get(place), Some(TokenWithSpan { token: Token::Number(..), .. }));
    // A direction at the end is the name of a cursor.
    let named = read.len() > 2;
    let (uncounted, name) = match keyword(1) {
        Some(Keyword::ALL) => (None, 2),
        Some(Keyword::NEXT | Keyword::PRIOR | Keyword::FIRST | Keyword::LAST) if named => (None, 2),
        Some(Keyword::ABSOLUTE | Keyword::RELATIVE) if named => (None, 3),
        Some(Keyword::FORWARD | Keyword::BACKWARD) if named => {
            let counted = is_number(2) || keyword(2) == Some(Keyword::ALL);
            ((!counted).then_some(2), 3)
        }
        Some(_) => (Some(1), 2),
        None if is_number(1) => (None, 2),
        None => return,
    };
    if let Some(place) = uncounted {
        insert(tokens, place, Token::Number("1".into(), false));
    }
    let is_name_next = match tokens.get(name).map(|token| &token.token) {
        Some(Token::Word(word)) => !matches!(word.keyword, Keyword::FROM | Keyword::IN),
        Some(_) => false,
        None => true,
    };
    if is_name_next {
        insert(tokens, name, Token::make_keyword("FROM"));
    }
}

/// Inserts a token, at the end at most; errors have the position of the one that follows it.
fn insert(tokens: &mut Vec<TokenWithSpan>, place: usize, token: Token) {
    let place = place.min(tokens.len());
    let span = tokens.get(place).or(tokens.last()).map_or_else(Span::empty, |next| next.span);
    tokens.insert(place, TokenWithSpan { token, span });
}

fn is_copy_stream(text: &str) -> bool {
    let upper = text.to_ascii_uppercase();
    upper.contains("STDIN") || upper.contains("STDOUT")
}

/// Greatest length of a chain of operators (a UNION counts for ten): `a + b + c` is a tree as deep as it is long, and
/// code that walks it needs a stack.
const LONGEST_CHAIN: usize = 3000;

/// Counts the operators that may end up inside each other.
#[derive(Default)]
struct NestingCounter {
    /// Number of operators since the last comma, for each open parenthesis.
    levels: Vec<usize>,
    current: usize,
    total: usize,
}

impl NestingCounter {
    fn see(&mut self, token: &Token) -> Result<(), SqlError> {
        match token {
            Token::LParen | Token::LBracket => self.levels.push(std::mem::take(&mut self.current)),
            Token::RParen | Token::RBracket => {
                self.total -= self.current;
                self.current = self.levels.pop().unwrap_or(0);
                // `a[1][1]` is an element of an element.
                if matches!(token, Token::RBracket) {
                    self.count(1);
                }
            }
            Token::Comma => {
                self.total -= self.current;
                self.current = 0;
            }
            Token::Word(word) => match word.keyword {
                Keyword::AND | Keyword::OR | Keyword::NOT | Keyword::WHEN | Keyword::CASE | Keyword::INTERVAL => {
                    self.count(1);
                }
                // These follow an expression and make another of it.
                Keyword::IS
                | Keyword::AT
                | Keyword::BETWEEN
                | Keyword::COLLATE
                | Keyword::IN
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::SIMILAR
                | Keyword::RLIKE
                | Keyword::REGEXP
                | Keyword::NOTNULL
                | Keyword::OVERLAPS
                | Keyword::OPERATOR
                | Keyword::MEMBER => self.count(1),
                // These have statements in them.
                Keyword::EXPLAIN | Keyword::PREPARE | Keyword::DECLARE => self.count(10),
                // Relations take more room than expressions.
                Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::JOIN => self.count(10),
                _ => {}
            },
            Token::Number(..) | Token::SingleQuotedString(_) | Token::Placeholder(_) | Token::Period => {}
            // Every other token joins the expressions to its left and right.
            _ => self.count(1),
        }
        if self.total > LONGEST_CHAIN || self.levels.len() > LONGEST_CHAIN {
            let message = format!("statement is too complex: it has more than {LONGEST_CHAIN} operators in a row");
            return Err(
                SqlError::error("54001", message).with_hint("Use IN (…) or = ANY (…) for long lists of values.")
            );
        }
        Ok(())
    }

    fn count(&mut self, weight: usize) {
        self.current += weight;
        self.total += weight;
    }
}

/// A statement's place in the query, and its first words in capitals.
pub(super) struct StatementSpan {
    pub(super) start: usize,
    pub(super) end: usize,
    words: Vec<String>,
    tokens: usize,
}

/// Cuts a query at its semicolons, leaving those in strings and comments alone.
pub(super) fn split(query: &str) -> Result<Vec<StatementSpan>, SqlError> {
    let tokens = Tokenizer::new(&PostgresDialect, query).tokenize_with_location().map_err(|error| {
        let position = character(query, error.location);
        let error = DataFusionError::SQL(Box::new(ParserError::TokenizerError(error.message)), None);
        SqlError::from(error).with_position(Some(position))
    })?;
    without_interval_precision(&tokens)?;
    let mut pieces = Vec::new();
    let mut current: Option<StatementSpan> = None;
    let mut depth = NestingCounter::default();
    let mut places = OffsetFinder::of(query);
    let mut before: Option<&TokenWithSpan> = None;
    for token in &tokens {
        // sqlparser reads `0b11` as `0 AS b11`.
        if let (Some(TokenWithSpan { token: Token::Number(number, _), span }), Token::Word(word)) =
            (before, &token.token)
            && span.end == token.span.start
        {
            let message = format!("trailing junk after numeric literal at or near \"{number}{}\"", word.value);
            let position = character(query, span.start);
            return Err(SqlError::error("42601", message).with_position(Some(position)));
        }
        before = Some(token);
        match &token.token {
            Token::Whitespace(_) | Token::EOF => {}
            Token::SemiColon => {
                depth = NestingCounter::default();
                pieces.extend(
                    current.take().map(|piece| StatementSpan { end: places.offset(token.span.start), ..piece }),
                );
            }
            other => {
                depth.see(other)?;
                let piece = current.get_or_insert_with(|| StatementSpan {
                    start: places.offset(token.span.start),
                    end: query.len(),
                    words: Vec::new(),
                    tokens: 0,
                });
                piece.tokens += 1;
                if let Token::Word(word) = other
                    && piece.words.len() < 5
                    && word.quote_style.is_none()
                {
                    piece.words.push(word.value.to_ascii_uppercase());
                }
            }
        }
    }
    pieces.extend(current);
    Ok(pieces)
}

/// Refuses `INTERVAL(2) '1.234 s'`, of which sqlparser passes over the precision.
fn without_interval_precision(tokens: &[TokenWithSpan]) -> Result<(), SqlError> {
    let mut tokens = tokens.iter().map(|token| &token.token).filter(|token| !matches!(token, Token::Whitespace(_)));
    while let Some(token) = tokens.next() {
        let mut next = tokens.clone();
        if matches!(token, Token::Word(word) if word.keyword == Keyword::INTERVAL)
            && matches!(next.next(), Some(Token::LParen))
            && matches!(next.next(), Some(Token::Number(..)))
            && matches!(next.next(), Some(Token::RParen))
            && matches!(next.next(), Some(Token::SingleQuotedString(_)))
        {
            return Err(SqlError::not_supported("INTERVAL with a precision before its text is not supported"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Vec<Statement> {
        Parser::default().parse(query).unwrap().into_iter().map(|parsed| parsed.statement).collect()
    }

    #[test]
    fn semicolons_split_statements() {
        assert_eq!(parse("select ';' ; -- no; \n select $$a;b$$;; ; select 3").len(), 3);
        assert_eq!(parse(" ;; /* nothing; */ ").len(), 0);
        assert_eq!(parse("select 'ä';\nselect 'ö'").len(), 2);
    }

    #[test]
    fn statements_of_datafusion_are_read() {
        let query = "CREATE EXTERNAL TABLE smol STORED AS MODEL LOCATION '/m.gguf' OPTIONS ('dtype' 'f32'); \
                     select 1; COPY (select 1) TO 'x.parquet'; explain (analyze, verbose) select 1; \
                     create or replace external table t stored as csv location 'x'";
        let statements = parse(query);
        assert!(matches!(statements[0], Statement::CreateExternalTable(_)));
        assert!(matches!(statements[1], Statement::Statement(_)));
        assert!(matches!(statements[2], Statement::CopyTo(_)));
        assert!(matches!(statements[3], Statement::Explain(_)));
        assert!(matches!(statements[4], Statement::CreateExternalTable(_)));
    }

    #[test]
    fn formats_of_explain_are_those_of_postgres() {
        for (written, read) in [
            ("explain (format json) select 'json'", "explain (format pgjson) select 'json'"),
            ("EXPLAIN (VERBOSE, FORMAT TEXT) SELECT 1", "EXPLAIN (VERBOSE, FORMAT indent) SELECT 1"),
            ("explain (format tree) select 1", "explain (format tree) select 1"),
            ("explain select (format json)", "explain select (format json)"),
        ] {
            assert_eq!(with_explain_format(written), read);
        }
    }

    #[test]
    fn every_form_of_fetch_is_read() {
        for (written, read) in [
            ("FETCH c", "FETCH 1 FROM c"),
            ("FETCH FROM c", "FETCH 1 FROM c"),
            ("fetch in c", "FETCH 1 IN c"),
            ("FETCH 2 c", "FETCH 2 FROM c"),
            ("FETCH 2 IN c", "FETCH 2 IN c"),
            ("FETCH -2 FROM c", "FETCH -2 FROM c"),
            ("FETCH +2 IN c", "FETCH 2 IN c"),
            ("FETCH - /* two */ 2 -- of them\n c", "FETCH -2 FROM c"),
            ("FETCH NEXT c", "FETCH NEXT FROM c"),
            ("FETCH PRIOR FROM c", "FETCH PRIOR FROM c"),
            ("FETCH FIRST IN c", "FETCH FIRST IN c"),
            ("fetch last c", "FETCH LAST FROM c"),
            ("FETCH ALL c", "FETCH ALL FROM c"),
            ("FETCH ALL IN c", "FETCH ALL IN c"),
            ("FETCH FORWARD c", "FETCH FORWARD 1 FROM c"),
            ("FETCH FORWARD FROM c", "FETCH FORWARD 1 FROM c"),
            ("FETCH FORWARD 3 c", "FETCH FORWARD 3 FROM c"),
            ("FETCH FORWARD -2 FROM c", "FETCH FORWARD -2 FROM c"),
            ("FETCH FORWARD ALL c", "FETCH FORWARD ALL FROM c"),
            ("FETCH BACKWARD c", "FETCH BACKWARD 1 FROM c"),
            ("FETCH BACKWARD -2 FROM c", "FETCH BACKWARD -2 FROM c"),
            ("FETCH BACKWARD ALL IN c", "FETCH BACKWARD ALL IN c"),
            ("FETCH RELATIVE -2 FROM c", "FETCH RELATIVE -2 FROM c"),
            ("FETCH RELATIVE +2 c", "FETCH RELATIVE 2 FROM c"),
            ("FETCH ABSOLUTE -2 FROM c", "FETCH ABSOLUTE -2 FROM c"),
            ("FETCH ABSOLUTE 2 c", "FETCH ABSOLUTE 2 FROM c"),
            ("FETCH \"c\"", "FETCH 1 FROM \"c\""),
            ("FETCH -1 \"c\"", "FETCH -1 FROM \"c\""),
            // Cursors whose names are words of the statement.
            ("FETCH \"next\"", "FETCH 1 FROM \"next\""),
            ("FETCH NEXT \"next\"", "FETCH NEXT FROM \"next\""),
            ("FETCH \"from\"", "FETCH 1 FROM \"from\""),
            ("FETCH ALL \"all\"", "FETCH ALL FROM \"all\""),
            ("FETCH FORWARD \"all\"", "FETCH FORWARD 1 FROM \"all\""),
            ("FETCH next", "FETCH 1 FROM next"),
            ("FETCH NEXT next", "FETCH NEXT FROM next"),
            ("FETCH IN next", "FETCH 1 IN next"),
            ("FETCH forward", "FETCH 1 FROM forward"),
            ("FETCH FORWARD forward", "FETCH FORWARD 1 FROM forward"),
        ] {
            assert_eq!(parse(written)[0].to_string(), read, "{written}");
            assert!(!Parser::default().parse(written).unwrap()[0].moves, "{written}");
        }
        for (written, read) in [
            ("MOVE c", "FETCH 1 FROM c"),
            ("move in c", "FETCH 1 IN c"),
            ("MOVE -5 FROM c", "FETCH -5 FROM c"),
            ("MOVE ABSOLUTE 0 c", "FETCH ABSOLUTE 0 FROM c"),
            ("MOVE \"move\"", "FETCH 1 FROM \"move\""),
        ] {
            assert_eq!(parse(written)[0].to_string(), read, "{written}");
            assert!(Parser::default().parse(written).unwrap()[0].moves, "{written}");
        }
        for refused in [
            "FETCH",
            "FETCH ALL",
            "FETCH IN",
            "FETCH NEXT FROM",
            "FETCH RELATIVE c",
            "FETCH RELATIVE FROM c",
            "FETCH ABSOLUTE c",
            "FETCH -c",
            "FETCH - - 1 c",
            "FETCH '1' c",
            "FETCH c c",
            "FETCH 1 -1 c",
            "FETCH 1 FROM c.d",
        ] {
            assert_eq!(Parser::default().parse(refused).unwrap_err().sqlstate, "42601", "{refused}");
        }
    }

    #[test]
    fn endless_chains_are_refused() {
        let refused = |query: String| split(&query).err().map(|error| error.sqlstate.into_owned());
        assert_eq!(refused(format!("select {}", vec!["1"; 5000].join(" + "))).as_deref(), Some("54001"));
        assert_eq!(refused(format!("select {}1", "(1 + ".repeat(5000))).as_deref(), Some("54001"));
        assert_eq!(refused(format!("select {}1", "-".repeat(5000) + " ")).as_deref(), None, "a comment");
        assert_eq!(refused(format!("select 1 in ({})", vec!["1 + 1"; 50_000].join(", "))), None);
        for postfix in [" is null", " is true", " at time zone 'UTC'", "[1]", " collate \"C\"", " between 1 and 2"] {
            assert_eq!(refused(format!("select 1{}", postfix.repeat(5000))).as_deref(), Some("54001"), "{postfix}");
        }
        for prefix in ["explain ", "interval ", "case ", "prepare p as "] {
            assert_eq!(refused(format!("{}select 1", prefix.repeat(5000))).as_deref(), Some("54001"), "{prefix}");
        }
        assert_eq!(refused("select a, b from t where a = 1 and b = 2;".repeat(5000)), None);
    }

    #[test]
    fn syntax_errors_have_a_position() {
        for (query, sqlstate, found) in [
            ("select a fro b", "42601", "near \"b\""),
            ("select 1;\nselekt 2", "42601", "near \"selekt\""),
            ("select (", "42601", "end of input"),
            ("select 'abc", "42601", "Unterminated string"),
            ("copy t from stdin with (format nonsense)", "22023", "nonsense"),
            ("copy (select 1) from stdin", "42601", "COPY"),
            ("copy t to stdout with (format nonsense)", "22023", "nonsense"),
            ("select 0b11", "42601", "\"0b11\""),
            ("select 1a", "42601", "\"1a\""),
            ("select interval (2) '1.234 s'", "0A000", "precision"),
        ] {
            let error = Parser::default().parse(query).unwrap_err();
            assert_eq!(error.sqlstate, sqlstate, "{query}");
            assert!(error.message.contains(found), "{query}: {}", error.message);
        }
        let position = |query| Parser::default().parse(query).unwrap_err().position;
        assert_eq!(position("select a fro b"), Some(14));
        assert_eq!(position("select 'ä';\nselekt 2"), Some(13));
        assert_eq!(position("select 1; select 'abc"), Some(18));
    }
}
