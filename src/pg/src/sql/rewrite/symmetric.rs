//! `x BETWEEN SYMMETRIC a AND b`, and `EXISTS (SELECT WHERE …)`, which sqlparser does not read.
//!
//! NOT stands in the place of SYMMETRIC while a statement is parsed: PostgreSQL has none behind BETWEEN.

use std::borrow::Cow;
use std::ops::ControlFlow;

use datafusion::error::DataFusionError;
use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, UnaryOperator, Value, VisitMut, visit_expressions_mut};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};
use neuroql::PostgresDialect;

use crate::sql::positions::OffsetFinder;

/// Writes a statement as sqlparser reads it.
///
/// # Errors
/// A syntax error for `BETWEEN NOT`.
pub(crate) fn mark(text: &str) -> Result<Cow<'_, str>, DataFusionError> {
    let upper = text.to_ascii_uppercase();
    if !upper.contains("SYMMETRIC") && !may_follow(&upper, "BETWEEN", "NOT") && !may_follow(&upper, "SELECT", "WHERE") {
        return Ok(Cow::Borrowed(text));
    }
    // What cannot be read is reported by the parser.
    let Ok(tokens) = Tokenizer::new(&PostgresDialect, text).tokenize_with_location() else {
        return Ok(Cow::Borrowed(text));
    };
    let tokens: Vec<_> = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).collect();
    let is_keyword = |token: &TokenWithSpan, wanted: Keyword| match &token.token {
        Token::Word(word) => word.quote_style.is_none() && word.keyword == wanted,
        _ => false,
    };
    let is_word = |token: &TokenWithSpan, wanted: &str| match &token.token {
        Token::Word(word) => word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted),
        _ => false,
    };
    let mut places = OffsetFinder::of(text);
    let (mut marked, mut copied) = (String::new(), 0);
    for (at, token) in tokens.iter().enumerate() {
        let before = |count: usize| at.checked_sub(count).and_then(|at| tokens.get(at));
        if before(1).is_some_and(|token| is_keyword(token, Keyword::BETWEEN)) {
            if is_keyword(token, Keyword::NOT) {
                let message = format!("Expected: an expression, found: NOT{}", token.span.start);
                return Err(ParserError::ParserError(message).into());
            }
            let (is_symmetric, is_asymmetric) = (is_word(token, "SYMMETRIC"), is_word(token, "ASYMMETRIC"));
            if is_symmetric || is_asymmetric {
                let start = places.offset(token.span.start);
                let end = places.offset(token.span.end);
                marked.push_str(&text[copied..start]);
                marked.push_str(if is_symmetric { "NOT      " } else { "          " });
                copied = end;
            }
        } else if is_keyword(token, Keyword::WHERE)
            && before(1).is_some_and(|token| is_keyword(token, Keyword::SELECT))
            && before(2).is_some_and(|token| token.token == Token::LParen)
            && before(3).is_some_and(|token| is_keyword(token, Keyword::EXISTS))
        {
            let start = places.offset(token.span.start);
            marked.push_str(&text[copied..start]);
            marked.push_str("1 ");
            copied = start;
        }
    }
    if copied == 0 {
        return Ok(Cow::Borrowed(text));
    }
    marked.push_str(&text[copied..]);
    Ok(Cow::Owned(marked))
}

/// Returns true if a word may stand behind another one somewhere, perhaps with a comment between them.
fn may_follow(text: &str, first: &str, second: &str) -> bool {
    text.match_indices(first).any(|(at, _)| {
        let rest = text[at + first.len()..].trim_start();
        [second, "/*", "--"].iter().any(|start| rest.starts_with(start))
    })
}

/// Makes two comparisons of each that is symmetric.
pub(crate) fn rewrite(statement: &mut Statement) {
    match statement {
        Statement::Statement(inner) => rewrite_in(inner.as_mut()),
        Statement::Explain(explain) => rewrite(&mut explain.statement),
        Statement::CopyTo(copy) => {
            if let CopyToSource::Query(query) = &mut copy.source {
                rewrite_in(query.as_mut());
            }
        }
        _ => {}
    }
}

fn rewrite_in(tree: &mut impl VisitMut) {
    let _ = visit_expressions_mut(tree, |expr| {
        if let Expr::Between { expr: value, negated, low, high } = expr
            && let Expr::UnaryOp { op: UnaryOperator::Not, expr: one } = low.as_ref()
        {
            let value = grouped(value);
            let (one, other) = (grouped(one), grouped(high));
            let between = |low: &Expr, high: &Expr| {
                Expr::Nested(Box::new(Expr::Between {
                    expr: Box::new(value.clone()),
                    negated: false,
                    low: Box::new(low.clone()),
                    high: Box::new(high.clone()),
                }))
            };
            let (left, right) = (Box::new(between(&one, &other)), Box::new(between(&other, &one)));
            let within = Expr::Nested(Box::new(Expr::BinaryOp { left, op: BinaryOperator::Or, right }));
            *expr = match negated {
                true => {
                    let not = Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(within) };
                    Expr::Nested(Box::new(not))
                }
                false => within,
            };
        }
        ControlFlow::<()>::Continue(())
    });
}

/// Puts a value that is more than a name or a constant into parentheses.
fn grouped(expr: &Expr) -> Expr {
    match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Nested(_) | Expr::Function(_) => expr.clone(),
        Expr::Value(value) if !matches!(value.value, Value::Placeholder(_)) => expr.clone(),
        other => Expr::Nested(Box::new(other.clone())),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn rewritten(text: &str) -> String {
        let marked = mark(text).unwrap();
        let mut statement = Parser::parse_sql(&PostgresDialect, &marked).unwrap().remove(0);
        rewrite_in(&mut statement);
        statement.to_string()
    }

    #[test]
    fn ends_come_in_any_order() {
        let both = "((a BETWEEN 3 AND 1) OR (a BETWEEN 1 AND 3))";
        assert_eq!(rewritten("SELECT a between symmetric 3 AND 1 FROM t"), format!("SELECT {both} FROM t"));
        assert_eq!(
            rewritten("SELECT 'é' FROM t WHERE a NOT BETWEEN SYMMETRIC 3 AND 1 AND b"),
            format!("SELECT 'é' FROM t WHERE (NOT {both}) AND b")
        );
        assert_eq!(
            rewritten("SELECT a BETWEEN SYMMETRIC b + 1 AND c FROM t"),
            "SELECT ((a BETWEEN (b + 1) AND c) OR (a BETWEEN c AND (b + 1))) FROM t"
        );
        assert_eq!(rewritten("SELECT a BETWEEN ASYMMETRIC 1 AND 3"), "SELECT a BETWEEN 1 AND 3");
        assert_eq!(rewritten("SELECT 'BETWEEN SYMMETRIC'"), "SELECT 'BETWEEN SYMMETRIC'");
        assert!(mark("SELECT a BETWEEN NOT b AND c").is_err());
        assert!(mark("SELECT a BETWEEN /* x */ NOT b AND c").is_err());
    }

    #[test]
    fn queries_without_columns_are_read() {
        let found = rewritten("SELECT exists (select where a > 1), EXISTS (SELECT 2 WHERE b)");
        assert_eq!(found, "SELECT EXISTS (SELECT 1 WHERE a > 1), EXISTS (SELECT 2 WHERE b)");
    }
}
