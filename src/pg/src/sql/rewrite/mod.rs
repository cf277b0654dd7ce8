//! Rewrites of SQL that Postgres understands and DataFusion's planner does not.

pub(crate) mod array_dimensions;
pub(crate) mod array_literals;
pub(crate) mod array_subqueries;
pub(crate) mod catalog_queries;
pub(crate) mod change_queries;
pub(crate) mod distinct_orders;
pub(crate) mod from_functions;
pub(crate) mod function_syntax;
pub(crate) mod generated_columns;
pub(crate) mod inserts;
pub(crate) mod integers;
pub(crate) mod interval_arguments;
pub(crate) mod intervals;
pub(crate) mod join_using;
pub(crate) mod json_sets;
pub(crate) mod literal_casts;
pub(crate) mod negated_exists;
pub(crate) mod numbers;
pub(crate) mod numerals;
pub(crate) mod object_casts;
pub(crate) mod ordinality;
pub(crate) mod parameter_casts;
pub(crate) mod partitions;
pub(crate) mod recursive_terms;
pub(crate) mod row_values;
pub(crate) mod scalar_subqueries;
pub(crate) mod sequences;
pub(crate) mod symmetric;
pub(crate) mod syntax;
pub(crate) mod table_aliases;
pub(crate) mod tuple_assignments;
pub(crate) mod windows;

use std::ops::ControlFlow;

use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{
    self, AccessExpr, ArrayElemTypeDef, BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName, TableFactor, Value, ValueWithSpan,
    VisitMut, VisitorMut, visit_expressions_mut,
};
use datafusion_postgres::pgwire::api::Type;

use crate::sql::column_names::fold;
use crate::wire::error_response::SqlError;

/// Returns a replacement for asyncpg's query about types that it does not know (every array): a recursive query over
/// the whole catalog, which DataFusion cannot plan. The replacement asks the same about ranges and enums, and about
/// arrays of plain types and of these.
pub(crate) fn replacement(query: &str) -> Option<(&'static str, Type)> {
    let asks = query.starts_with("WITH RECURSIVE typeinfo_tree(") && query.contains("= any($1::oid[])");
    asks.then_some((TYPES_FOR_ASYNCPG, Type::OID_ARRAY))
}

const TYPES_FOR_ASYNCPG: &str = "\
SELECT t.oid, CASE WHEN t.oid < 16384 THEN 'pg_catalog' ELSE 'public' END AS ns, t.typname AS name, t.typtype AS kind, \
NULL::int AS basetype, t.typelem AS elemtype, ',' AS elemdelim, r.rngsubtype AS range_subtype, \
NULL::text[] AS attrtypoids, NULL::text[] AS attrnames, 0::int AS depth, NULL::text AS basetype_name, \
e.typname AS elemtype_name, NULL::text AS range_subtype_name \
FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem \
LEFT JOIN (SELECT rngtypid AS oid, rngsubtype FROM pg_catalog.pg_range \
UNION ALL SELECT rngmultitypid, rngsubtype FROM pg_catalog.pg_range) r ON r.oid = t.oid \
WHERE t.oid = ANY($1) OR t.typtype IN ('e', 'r', 'm') AND t.typarray = ANY($1) ORDER BY t.typelem";

/// Rewrites a statement in place.
///
/// # Errors
/// 0A000 if a part of it can neither be planned nor rewritten.
pub(crate) fn adapt(statement: &mut Statement) -> Result<(), SqlError> {
    match statement {
        Statement::Statement(inner) => {
            change_queries::unwrap(inner.as_mut())?;
            negated_exists::rewrite(inner.as_mut());
            tuple_assignments::rewrite(inner.as_mut())?;
            row_values::rewrite(inner.as_mut())?;
            array_literals::rewrite(inner.as_mut())?;
            if !matches!(inner.as_ref(), ast::Statement::Set(_)) {
                intervals::rewrite(inner.as_mut())?;
            }
            generated_columns::rewrite(inner.as_mut())?;
            generated_columns::mark_defaults(inner.as_mut());
            inserts::isolate_values(inner.as_mut());
            integers::narrow_values(inner.as_mut());
            numbers::keep_digits(inner.as_mut());
            array_dimensions::give_dimensions(inner.as_mut());
            from_functions::name_columns(inner.as_mut());
            recursive_terms::repeat_casts(inner.as_mut());
            join_using::rewrite(inner.as_mut())?;
            distinct_orders::rewrite(inner.as_mut());
            let _ = inner.visit(&mut UnqualifyFunctions);
            adapt_expressions(inner.as_mut());
        }
        Statement::Explain(explain) => adapt(&mut explain.statement)?,
        Statement::CopyTo(copy) => {
            if let CopyToSource::Query(query) = &mut copy.source {
                negated_exists::rewrite(query.as_mut());
                row_values::rewrite(query.as_mut())?;
                array_literals::rewrite(query.as_mut())?;
                intervals::rewrite(query.as_mut())?;
                array_dimensions::give_dimensions(query.as_mut());
                from_functions::name_columns(query.as_mut());
                recursive_terms::repeat_casts(query.as_mut());
                join_using::rewrite(query.as_mut())?;
                distinct_orders::rewrite(query.as_mut());
                let _ = query.visit(&mut UnqualifyFunctions);
                adapt_expressions(query.as_mut());
            }
        }
        _ => {}
    }
    Ok(())
}

/// Reduces names of functions to their last part, and adds parentheses to functions written without them.
struct UnqualifyFunctions;

impl VisitorMut for UnqualifyFunctions {
    type Break = ();

    fn pre_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } = table {
            unqualify(name);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(function) => {
                unqualify(&mut function.name);
                if matches!(function.args, FunctionArguments::None) && is_named(function, "current_catalog") {
                    *expr = call("current_database", Vec::new());
                }
            }
            Expr::Identifier(name) if name.quote_style.is_none() && fold(name) == "current_schema" => {
                *expr = call("current_schema", Vec::new());
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn unqualify(name: &mut ObjectName) {
    if let [schema, function] = name.0.as_slice()
        && schema.as_ident().is_some_and(|schema| matches!(fold(schema).as_str(), "pg_catalog" | "information_schema"))
    {
        name.0 = vec![function.clone()];
    }
}

fn adapt_expressions(tree: &mut impl VisitMut) {
    let _ = visit_expressions_mut(tree, |expr| {
        match expr {
            Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => {
                if let Some(ValueWithSpan { value: Value::SingleQuotedString(escape), .. }) = escape_char
                    && escape != "\\"
                {
                    let escape = std::mem::take(escape);
                    *escape_char = None;
                    escape_with_backslash(pattern, &escape);
                }
            }
            Expr::Value(ValueWithSpan { value, .. }) => write_unmistakably(value),
            Expr::CompoundFieldAccess { root, access_chain } => {
                if let (Some(array), [AccessExpr::Dot(Expr::Identifier(field))]) =
                    (expanded(root), access_chain.as_slice())
                {
                    match fold(field).as_str() {
                        "n" => *expr = call("unnest", vec![range(number("1"), length(vec![array.clone()]))]),
                        "x" => *expr = call("unnest", vec![array.clone()]),
                        _ => {}
                    }
                } else if matches!(root.as_ref(), Expr::Nested(_)) {
                    // `(composite).field`, which the planner knows of columns only.
                    let fields = access_chain.iter().map(|access| match access {
                        AccessExpr::Dot(Expr::Identifier(field)) => Some(fold(field)),
                        _ => None,
                    });
                    if let Some(fields) = fields.collect::<Option<Vec<_>>>() {
                        let root = std::mem::replace(root.as_mut(), Expr::value(Value::Null));
                        let field =
                            |of, field| call("get_field", vec![of, Expr::value(Value::SingleQuotedString(field))]);
                        *expr = fields.into_iter().fold(root, field);
                    }
                }
            }
            Expr::Function(function) if is_named(function, "_pg_expandarray") => {
                let inner = std::mem::replace(expr, Expr::value(Value::Null));
                *expr = call("unnest", vec![inner]);
            }
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
}

pub(crate) fn is_named(function: &Function, name: &str) -> bool {
    let last = function.name.0.last().and_then(|part| part.as_ident());
    last.is_some_and(|last| last.value.eq_ignore_ascii_case(name))
}

pub(crate) fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

pub(crate) fn array_of(item: DataType) -> DataType {
    DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(item), None))
}

/// Marks text as `E'…'` if sqlparser would take its quotation marks for escaped ones when it writes it: a view is kept
/// as the text of its statement.
fn write_unmistakably(value: &mut Value) {
    if let Value::SingleQuotedString(text) = value
        && (text.contains("''") || text.contains("\\'"))
    {
        *value = Value::EscapedStringLiteral(std::mem::take(text));
    }
}

/// Returns the array that `unnest(_pg_expandarray(array))` expands.
fn expanded(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::Nested(inner) => expanded(inner),
        Expr::Function(function) if is_named(function, "unnest") || is_named(function, "_pg_expandarray") => {
            let FunctionArguments::List(list) = &function.args else { return None };
            let [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))] = list.args.as_slice() else { return None };
            if is_named(function, "unnest") {
                expanded(argument).filter(|_| matches!(argument, Expr::Function(_)))
            } else {
                Some(argument)
            }
        }
        _ => None,
    }
}

/// Returns the array of the rows of `generate_subscripts(array, dimension [, reverse])`, whose positions are counted from 1, or
/// from 0 for a vector of an index; `None` if the last argument is no constant.
fn positions(arguments: &[Expr]) -> Option<Expr> {
    let (array, dimension, is_reversed) = match arguments {
        [array, dimension] => (array, dimension, false),
        [array, dimension, Expr::Value(ValueWithSpan { value: Value::Boolean(reverse), .. })] => {
            (array, dimension, *reverse)
        }
        _ => return None,
    };
    if catalog_queries::is_vector(array) {
        let count = length(vec![array.clone()]);
        return (!is_reversed).then(|| call("range", vec![number("0"), count]));
    }
    let last = length(vec![array.clone(), dimension.clone()]);
    Some(match is_reversed {
        true => call("range", vec![last, number("0"), number("-1")]),
        false => range(number("1"), last),
    })
}

/// Returns the array of numbers from the first to the last.
fn range(first: Expr, last: Expr) -> Expr {
    let end = Expr::BinaryOp { left: Box::new(last), op: BinaryOperator::Plus, right: Box::new(number("1")) };
    call("range", vec![first, end])
}

/// Returns `array_length` as a bigint.
fn length(arguments: Vec<Expr>) -> Expr {
    cast(call("array_length", arguments), DataType::BigInt(None))
}

fn number(digits: &str) -> Expr {
    Expr::value(Value::Number(digits.into(), false))
}

/// Rewrites `LIKE 'a/_b' ESCAPE '/'` to `LIKE 'a\_b'`. A doubled escape character stands for itself; without one, a
/// backslash does.
fn escape_with_backslash(pattern: &mut Expr, escape: &str) {
    let doubled = escape.repeat(2);
    let mut steps = vec![("\\", "\\\\")];
    if !escape.is_empty() {
        steps.extend([(doubled.as_str(), "\u{1}"), (escape, "\\"), ("\u{1}", escape)]);
    }
    if let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) = pattern {
        for (from, to) in steps {
            *text = text.replace(from, to);
        }
        return;
    }
    let mut rewritten = std::mem::replace(pattern, Expr::value(Value::Null));
    if matches!(rewritten, Expr::BinaryOp { op: BinaryOperator::StringConcat, .. }) {
        rewritten = Expr::Nested(Box::new(rewritten));
    }
    for (from, to) in steps {
        rewritten = replace(rewritten, from, to);
    }
    *pattern = rewritten;
}

fn replace(text: Expr, from: &str, to: &str) -> Expr {
    let literal = |text: &str| Expr::value(Value::SingleQuotedString(text.into()));
    call("replace", vec![text, literal(from), literal(to)])
}

/// Returns a call of a function with values.
pub(crate) fn call(name: &str, args: Vec<Expr>) -> Expr {
    let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
    call_with(ObjectName::from(vec![Ident::new(name)]), args)
}

/// Returns a call of a function with these arguments.
fn call_with(name: ObjectName, args: Vec<FunctionArg>) -> Expr {
    let args = FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() };
    Expr::Function(Function {
        name,
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(args),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// Returns the statement that a text becomes, without the names that outputs are given.
#[cfg(test)]
pub(super) fn rewritten(text: &str) -> String {
    without_names(&crate::sql::parse::Parser::default().parse(text).unwrap().remove(0).statement.to_string())
}

/// Returns the text of a statement without aliases in quotation marks.
#[cfg(test)]
pub(super) fn without_names(text: &str) -> String {
    let mut parts = text.split(" AS \"");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('"').map_or(part, |(_, rest)| rest))
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
    use neuroql::PostgresDialect;

    use super::rewritten;

    #[test]
    fn like_escapes_become_backslashes() {
        assert_eq!(rewritten("SELECT a LIKE 'x/_%//\\' ESCAPE '/' FROM t"), "SELECT a LIKE 'x\\_%/\\\\' FROM t");
        assert_eq!(rewritten("SELECT a LIKE 'x\\_' ESCAPE '' FROM t"), "SELECT a LIKE 'x\\\\_' FROM t");
        assert_eq!(rewritten("SELECT a LIKE 'x' ESCAPE '\\' FROM t"), "SELECT a LIKE 'x' ESCAPE '\\' FROM t");
        let concatenated = rewritten("SELECT a NOT LIKE $1 || '%' ESCAPE '/' FROM t");
        assert!(concatenated.contains("replace(replace(") && concatenated.contains("($1 || '%')"), "{concatenated}");
    }

    #[test]
    fn functions_of_the_catalog_lose_their_schema() {
        assert_eq!(
            rewritten("SELECT pg_catalog.upper(a), toy.f(a) FROM pg_catalog.generate_series(1, 2) a"),
            "SELECT upper(a), toy.f(a) FROM generate_series(1, 2) a (a)"
        );
        assert_eq!(rewritten("SELECT current_schema, current_catalog"), "SELECT current_schema(), current_database()");
    }

    #[test]
    fn statements_keep_their_meaning_as_text() {
        for text in ["a", "a'b", "a''b", "''", "'''", "\\'", "a\\", "\\''\n", "it''s"] {
            let query = format!("CREATE VIEW v AS SELECT '{}' AS x", text.replace('\'', "''"));
            let once = rewritten(&query);
            assert_eq!(rewritten(&once), once, "{text}");
            let read = Tokenizer::new(&PostgresDialect, &once).tokenize().unwrap();
            let read = read.into_iter().find_map(|token| match token {
                Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => Some(text),
                _ => None,
            });
            assert_eq!(read.as_deref(), Some(text));
        }
    }
}
