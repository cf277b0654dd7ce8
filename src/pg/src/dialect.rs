//! SQL that Postgres understands and DataFusion's planner does not, said in another way.

use std::ops::ControlFlow;

use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentList, FunctionArguments, GroupByExpr, Ident, ObjectName, Query, SelectItem, SetExpr, TableFactor,
    Value, ValueWithSpan, VisitMut, visit_expressions, visit_expressions_mut,
};
use datafusion_postgres::pgwire::api::Type;

use crate::{inserts, numbers, using};

/// What asyncpg asks about types it does not know (every array): a recursive query over the whole catalog, which
/// DataFusion cannot plan. This asks the same about the types there are here, arrays of plain types.
pub(crate) fn replacement(query: &str) -> Option<(&'static str, Type)> {
    let asks = query.starts_with("WITH RECURSIVE typeinfo_tree(") && query.contains("= any($1::oid[])");
    asks.then_some((TYPES_FOR_ASYNCPG, Type::OID_ARRAY))
}

const TYPES_FOR_ASYNCPG: &str = "\
SELECT t.oid, 'pg_catalog' AS ns, t.typname AS name, t.typtype AS kind, NULL::int AS basetype, t.typelem AS elemtype, \
',' AS elemdelim, NULL::int AS range_subtype, NULL::text[] AS attrtypoids, NULL::text[] AS attrnames, 0::int AS depth, \
NULL::text AS basetype_name, e.typname AS elemtype_name, NULL::text AS range_subtype_name \
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_type e ON e.oid = t.typelem WHERE t.oid = ANY($1)";

/// Rewrites a statement in place.
pub(crate) fn adapt(statement: &mut Statement) {
    match statement {
        Statement::Statement(inner) => {
            inserts::isolate_values(inner.as_mut());
            numbers::keep_digits(inner.as_mut());
            using::qualify(inner.as_mut());
            adapt_expressions(inner.as_mut());
        }
        Statement::Explain(explain) => adapt(&mut explain.statement),
        Statement::CopyTo(copy) => {
            if let CopyToSource::Query(query) = &mut copy.source {
                adapt_expressions(query.as_mut());
            }
        }
        _ => {}
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
            Expr::Subquery(query) if reads_empty_catalog(query) => *expr = null_text(),
            Expr::Subquery(query) => aggregate_catalog_lookup(query),
            Expr::Function(function) if is_named(function, "array") => {
                if let FunctionArguments::Subquery(query) = &function.args
                    && reads_empty_catalog(query)
                {
                    let texts = DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(DataType::Text), None));
                    *expr = cast(Expr::value(Value::Null), texts);
                }
            }
            Expr::Function(function) if is_named(function, "generate_subscripts") => {
                if let FunctionArguments::List(arguments) = &function.args
                    && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(array))) = arguments.args.first()
                {
                    *expr = subscripts(array.clone());
                }
            }
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
}

fn is_named(function: &Function, name: &str) -> bool {
    let last = function.name.0.last().and_then(|part| part.as_ident());
    last.is_some_and(|last| last.value.eq_ignore_ascii_case(name))
}

/// Whether a subquery asks for what neuroql has none of: defaults, sequences, collations, role memberships, indexes,
/// policies. Drivers ask in ways DataFusion cannot plan.
fn reads_empty_catalog(query: &Query) -> bool {
    const EMPTY: [&str; 9] = [
        "pg_attrdef",
        "pg_sequence",
        "pg_collation",
        "pg_auth_members",
        "pg_constraint",
        "pg_index",
        "pg_policy",
        "pg_inherits",
        "pg_publication_rel",
    ];
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    let is_empty = |table: &TableFactor| match table {
        // What psql makes of a table's storage options.
        TableFactor::Table { args: Some(_), .. } | TableFactor::UNNEST { .. } => {
            table.to_string().contains("reloptions")
        }
        TableFactor::Table { name, .. } => {
            name.0.last().and_then(|part| part.as_ident()).is_some_and(|name| EMPTY.contains(&name.value.as_str()))
        }
        _ => false,
    };
    select.from.iter().any(|from| is_empty(&from.relation) || from.joins.iter().any(|join| is_empty(&join.relation)))
}

fn null_text() -> Expr {
    cast(Expr::value(Value::Null), DataType::Text)
}

fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

/// DataFusion wants a correlated subquery to be an aggregate, so that it has one row. Drivers look up one row of
/// the catalog by its oid; the smallest of one value is that value.
fn aggregate_catalog_lookup(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let in_catalog = |table: &TableFactor| match table {
        TableFactor::Table { name, args: None, .. } => {
            name.0.last().and_then(|part| part.as_ident()).is_some_and(|name| name.value.starts_with("pg_"))
        }
        _ => false,
    };
    let of_catalog = !select.from.is_empty()
        && select
            .from
            .iter()
            .all(|from| in_catalog(&from.relation) && from.joins.iter().all(|join| in_catalog(&join.relation)));
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(by, _) if by.is_empty());
    if !of_catalog || grouped || select.selection.is_none() || select.distinct.is_some() {
        return;
    }
    // With a limit pg-catalog's own rewrite has been here.
    if query.limit_clause.is_some() || query.fetch.is_some() {
        query.limit_clause = None;
        query.fetch = None;
    }
    if let [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] = select.projection.as_mut_slice()
        && !contains_aggregate(expr)
    {
        let inner = std::mem::replace(expr, Expr::value(Value::Null));
        *expr = call("min", vec![inner]);
    }
}

fn contains_aggregate(expr: &Expr) -> bool {
    const AGGREGATES: [&str; 9] =
        ["count", "min", "max", "sum", "avg", "array_agg", "string_agg", "bool_and", "bool_or"];
    let found = visit_expressions(expr, |part| match part {
        Expr::Function(function) if AGGREGATES.iter().any(|name| is_named(function, name)) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// `generate_subscripts(array, 1)` beside an `unnest(array)`: its positions, counted from 1.
fn subscripts(array: Expr) -> Expr {
    let number = |text: &str| Expr::value(Value::Number(text.into(), false));
    let last = Expr::BinaryOp {
        left: Box::new(cast(call("array_length", vec![array]), DataType::BigInt(None))),
        op: BinaryOperator::Plus,
        right: Box::new(number("1")),
    };
    call("unnest", vec![call("range", vec![number("1"), last])])
}

/// `LIKE 'a/_b' ESCAPE '/'` is `LIKE 'a\_b'`. A doubled escape character stands for itself; without one, a
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

fn call(name: &str, args: Vec<Expr>) -> Expr {
    let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
    let args = FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() };
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(args),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use crate::parse::Parser;

    fn adapted(query: &str) -> String {
        Parser::default().parse(query).unwrap().remove(0).statement.to_string()
    }

    #[test]
    fn like_escapes_become_backslashes() {
        assert_eq!(adapted("SELECT a LIKE 'x/_%//\\' ESCAPE '/' FROM t"), "SELECT a LIKE 'x\\_%/\\\\' FROM t");
        assert_eq!(adapted("SELECT a LIKE 'x\\_' ESCAPE '' FROM t"), "SELECT a LIKE 'x\\\\_' FROM t");
        assert_eq!(adapted("SELECT a LIKE 'x' ESCAPE '\\' FROM t"), "SELECT a LIKE 'x' ESCAPE '\\' FROM t");
        let concatenated = adapted("SELECT a NOT LIKE $1 || '%' ESCAPE '/' FROM t");
        assert!(concatenated.contains("replace(replace(") && concatenated.contains("($1 || '%')"), "{concatenated}");
    }

    #[test]
    fn what_the_catalog_lacks_is_null_and_own_tables_stay() {
        let query = "SELECT (SELECT d.adbin FROM pg_attrdef AS d WHERE d.adrelid = a.attrelid) FROM pg_attribute AS a";
        assert!(!adapted(query).contains("pg_attrdef"), "{}", adapted(query));
        let own = "SELECT (SELECT u.a FROM u WHERE u.b = t.b) FROM t";
        assert_eq!(adapted(own), own);
        let subscripts = adapted("SELECT unnest(i), generate_subscripts(i, 1) FROM t");
        assert_eq!(subscripts, "SELECT unnest(i), unnest(range(1, CAST(array_length(i) AS BIGINT) + 1)) FROM t");
    }
}
