//! The dialect statements are read in.

use std::any::TypeId;

use datafusion::sql::sqlparser::ast::{
    CastKind, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName,
    TypedString, UnaryOperator,
};
use datafusion::sql::sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::postgres::ranges::RangeType;

/// PostgreSQL's dialect with the operators grouped as PostgreSQL groups them.
///
/// sqlparser reads all of `b AND c` as the right side of `a IS DISTINCT FROM b AND c`; in Postgres `IS` binds tighter
/// than `NOT`, `AND` and `OR`. The comparison is put in parentheses, so that its text is read alike by everybody.
#[derive(Debug, Clone, Copy, Default)]
pub struct PostgresDialect;

/// Hands methods over to sqlparser's dialect.
macro_rules! as_postgres {
    ($($method:ident($($argument:ident: $kind:ty),*) -> $result:ty;)*) => {
        $(fn $method(&self, $($argument: $kind),*) -> $result {
            PostgreSqlDialect {}.$method($($argument),*)
        })*
    };
}

impl Dialect for PostgresDialect {
    fn dialect(&self) -> TypeId {
        TypeId::of::<PostgreSqlDialect>()
    }

    /// Parses a sign, which binds tighter than `^`: `-2 ^ 2` is 4; and `trim`, of which sqlparser loses the side in
    /// `trim(LEADING a, b)`; and constants such as `inet '::1'`.
    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        if is_trim(parser) {
            return Some(trim(parser));
        }
        if is_typed_range(parser) {
            return Some(typed_range(parser));
        }
        if is_network(parser) {
            return Some(network(parser));
        }
        let op = match parser.peek_token_ref().token {
            Token::Minus => UnaryOperator::Minus,
            Token::Plus => UnaryOperator::Plus,
            _ => return None,
        };
        parser.next_token();
        let operand = parser.parse_subexpr(self.prec_value(Precedence::Caret));
        Some(operand.map(|operand| {
            let signed = Expr::UnaryOp { op, expr: Box::new(operand) };
            // Its text is read alike by everybody.
            let is_raised = parser.peek_token_ref().token == Token::Caret;
            if is_raised { Expr::Nested(Box::new(signed)) } else { signed }
        }))
    }

    fn parse_infix(&self, parser: &mut Parser, expr: &Expr, precedence: u8) -> Option<Result<Expr, ParserError>> {
        let build = if parser.parse_keywords(&[Keyword::IS, Keyword::DISTINCT, Keyword::FROM]) {
            Expr::IsDistinctFrom
        } else if parser.parse_keywords(&[Keyword::IS, Keyword::NOT, Keyword::DISTINCT, Keyword::FROM]) {
            Expr::IsNotDistinctFrom
        } else {
            return PostgreSqlDialect {}.parse_infix(parser, expr, precedence);
        };
        Some(right_side(parser, precedence).map(|right| {
            let comparison = build(Box::new(expr.clone()), Box::new(right));
            Expr::Nested(Box::new(comparison))
        }))
    }

    /// Returns true: `'a'` and `'b'` on two lines are `'ab'`.
    fn supports_string_literal_concatenation_with_newline(&self) -> bool {
        true
    }

    /// Returns true: `* EXCLUDE (a)` is what the columns of a join become that others are merged of.
    fn supports_select_wildcard_exclude(&self) -> bool {
        true
    }

    as_postgres! {
        identifier_quote_style(identifier: &str) -> Option<char>;
        is_delimited_identifier_start(letter: char) -> bool;
        is_identifier_start(letter: char) -> bool;
        is_identifier_part(letter: char) -> bool;
        supports_unicode_string_literal() -> bool;
        is_reserved_for_identifier(keyword: Keyword) -> bool;
        is_custom_operator_part(letter: char) -> bool;
        get_next_precedence(parser: &Parser) -> Option<Result<u8, ParserError>>;
        supports_filter_during_aggregation() -> bool;
        supports_group_by_expr() -> bool;
        prec_value(precedence: Precedence) -> u8;
        allow_extract_custom() -> bool;
        allow_extract_single_quotes() -> bool;
        supports_create_index_with_clause() -> bool;
        supports_explain_with_utility_options() -> bool;
        supports_listen_notify() -> bool;
        supports_factorial_operator() -> bool;
        supports_bitwise_shift_operators() -> bool;
        supports_comment_on() -> bool;
        supports_load_extension() -> bool;
        supports_named_fn_args_with_colon_operator() -> bool;
        supports_named_fn_args_with_expr_name() -> bool;
        supports_empty_projections() -> bool;
        supports_nested_comments() -> bool;
        supports_string_escape_constant() -> bool;
        supports_numeric_literal_underscores() -> bool;
        supports_array_typedef_with_brackets() -> bool;
        supports_geometric_types() -> bool;
        supports_set_names() -> bool;
        supports_alter_column_type_using() -> bool;
        supports_notnull_operator() -> bool;
        supports_interval_options() -> bool;
        supports_insert_table_alias() -> bool;
        supports_create_table_like_parenthesized() -> bool;
        supports_select_wildcard_with_alias() -> bool;
        supports_comma_separated_trim() -> bool;
        supports_xml_expressions() -> bool;
        supports_comment_optimizer_hint() -> bool;
    }
}

/// Returns true before `inet '…'` and its like, which sqlparser knows of types in its grammar only.
fn is_network(parser: &Parser) -> bool {
    let Token::Word(word) = &parser.peek_token_ref().token else { return false };
    let is_type = ["inet", "cidr", "macaddr"].iter().any(|name| word.value.eq_ignore_ascii_case(name));
    let text = &parser.peek_nth_token_ref(1).token;
    is_type && word.quote_style.is_none() && matches!(text, Token::SingleQuotedString(_))
}

fn network(parser: &mut Parser) -> Result<Expr, ParserError> {
    let data_type = parser.parse_data_type()?;
    Ok(Expr::TypedString(TypedString { data_type, value: parser.parse_value()?, uses_odbc_syntax: false }))
}

fn is_trim(parser: &Parser) -> bool {
    let Token::Word(word) = &parser.peek_token_ref().token else { return false };
    word.keyword == Keyword::TRIM && word.quote_style.is_none() && parser.peek_nth_token_ref(1).token == Token::LParen
}

/// Returns true before `int4range '…'` and its like, which sqlparser takes for a column and its alias.
fn is_typed_range(parser: &Parser) -> bool {
    let Token::Word(word) = &parser.peek_token_ref().token else { return false };
    word.quote_style.is_none()
        && matches!(parser.peek_nth_token_ref(1).token, Token::SingleQuotedString(_))
        && RangeType::named(&word.value.to_lowercase()).is_some_and(|kind| !kind.is_array)
}

fn typed_range(parser: &mut Parser) -> Result<Expr, ParserError> {
    let data_type = parser.parse_data_type()?;
    let expr = Box::new(Expr::Value(parser.parse_value()?));
    Ok(Expr::Cast { kind: CastKind::DoubleColon, expr, data_type, array: false, format: None })
}

/// Parses `trim([BOTH | LEADING | TRAILING] [characters] FROM text)` and `trim([side] text [, characters])` as the call of a
/// function.
fn trim(parser: &mut Parser) -> Result<Expr, ParserError> {
    parser.next_token();
    parser.expect_token(&Token::LParen)?;
    let name = match parser.parse_one_of_keywords(&[Keyword::BOTH, Keyword::LEADING, Keyword::TRAILING]) {
        Some(Keyword::LEADING) => "ltrim",
        Some(Keyword::TRAILING) => "rtrim",
        _ => "btrim",
    };
    let mut args = Vec::new();
    if !parser.peek_keyword(Keyword::FROM) {
        args = parser.parse_comma_separated(Parser::parse_expr)?;
    }
    if args.len() < 2 && parser.parse_keyword(Keyword::FROM) {
        let texts = parser.parse_comma_separated(Parser::parse_expr)?;
        args.splice(..0, texts);
    }
    parser.expect_token(&Token::RParen)?;
    let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
    Ok(Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    }))
}

/// Parses the operand that `IS` compares with. Comparisons with it do not associate: after one there cannot be another.
fn right_side(parser: &mut Parser, precedence: u8) -> Result<Expr, ParserError> {
    let right = parser.parse_subexpr(precedence)?;
    match &parser.peek_token_ref().token {
        Token::Word(word) if matches!(word.keyword, Keyword::IS | Keyword::NOTNULL) => {
            parser.expected_ref("the end of IS DISTINCT FROM", parser.peek_token_ref())
        }
        _ => Ok(right),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grouped(expression: &str) -> Result<String, ParserError> {
        let mut parser = Parser::new(&PostgresDialect).try_with_sql(expression)?;
        let expr = parser.parse_expr()?;
        parser.expect_token(&Token::EOF)?;
        Ok(expr.to_string())
    }

    #[test]
    fn is_distinct_from_binds_as_in_postgres() {
        for (written, read) in [
            ("a IS NOT DISTINCT FROM b AND c", "(a IS NOT DISTINCT FROM b) AND c"),
            ("x AND a IS DISTINCT FROM b OR c", "x AND (a IS DISTINCT FROM b) OR c"),
            ("NOT a IS DISTINCT FROM b AND c", "NOT (a IS DISTINCT FROM b) AND c"),
            ("a = b IS DISTINCT FROM c = d OR e", "(a = b IS DISTINCT FROM c = d) OR e"),
            ("a IS DISTINCT FROM (b AND c)", "(a IS DISTINCT FROM (b AND c))"),
            ("a IS DISTINCT FROM b + 1 AND c", "(a IS DISTINCT FROM b + 1) AND c"),
            ("a IS DISTINCT FROM NOT b AND c", "(a IS DISTINCT FROM NOT b) AND c"),
            ("f(a IS DISTINCT FROM b, c)", "f((a IS DISTINCT FROM b), c)"),
            ("a IS NULL AND b IS NOT TRUE", "a IS NULL AND b IS NOT TRUE"),
            ("-2 ^ 2", "(-2) ^ 2"),
            ("-a * b - -c", "-a * b - -c"),
            ("- x ^ y + 1", "(-x) ^ y + 1"),
            ("-1::int", "-1::INT"),
            ("int4range '[1,2)' = a", "'[1,2)'::int4range = a"),
        ] {
            assert_eq!(grouped(written).unwrap(), read);
            // Its text means the same, to other dialects too.
            let again = Parser::new(&PostgreSqlDialect {}).try_with_sql(read).unwrap().parse_expr().unwrap();
            assert_eq!(again.to_string(), read);
        }
        for (written, read) in [
            ("trim(a)", "btrim(a)"),
            ("TRIM(LEADING a, 'x')", "ltrim(a, 'x')"),
            ("trim(trailing 'x' from a) || b", "rtrim(a, 'x') || b"),
            ("trim(both from a)", "btrim(a)"),
            ("trim(from a)", "btrim(a)"),
            ("trim('x' from a)", "btrim(a, 'x')"),
            ("\"trim\"(a)", "\"trim\"(a)"),
            ("INET '::1' = inet", "INET '::1' = inet"),
            ("macaddr '08002b010203' AND inet", "macaddr '08002b010203' AND inet"),
        ] {
            assert_eq!(grouped(written).unwrap(), read);
        }
        assert!(grouped("trim(a, b from c)").is_err());
        assert!(grouped("a IS DISTINCT FROM b IS NULL").is_err());
        assert!(grouped("a IS DISTINCT FROM b IS DISTINCT FROM c").is_err());
        assert_eq!(grouped("a IS NULL IS NULL").unwrap(), "a IS NULL IS NULL");
    }
}
