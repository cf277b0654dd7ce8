//! `ARRAY(SELECT v FROM t ORDER BY k)`, which becomes `(SELECT array_agg(v ORDER BY k) FROM t)`, or an array without elements
//! where there are no rows.

use std::ops::ControlFlow;

use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArgumentClause, FunctionArguments, GroupByExpr, Ident, OrderByExpr, OrderByKind, Query,
    Select, SelectItem, SetExpr, TableAlias, TableAliasColumnDef, TableFactor, TableWithJoins, Value, ValueWithSpan,
    VisitMut, visit_expressions, visit_expressions_mut,
};

use neuroql::ARRAY_OF_ROWS;

use crate::sql::column_names::fold;
use crate::sql::rewrite::catalog_queries::select;
use crate::sql::rewrite::{call, is_named};
use crate::wire::error_response::SqlError;

/// Names of the rows of a query, of its values and of what it is ordered by.
const ROWS: &str = "__rows";
const VALUE: &str = "__value";
const KEY: &str = "__key";

/// Makes arrays of the rows of queries. `is_aggregate` knows aggregates by their names.
///
/// # Errors
/// 42601 if a query has several columns, 0A000 for ORDER BY ALL.
pub(crate) fn aggregate(statement: &mut Statement, is_aggregate: &dyn Fn(&str) -> bool) -> Result<(), SqlError> {
    match statement {
        Statement::Statement(inner) => aggregate_in(inner.as_mut(), is_aggregate),
        Statement::Explain(explain) => aggregate(&mut explain.statement, is_aggregate),
        Statement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => aggregate_in(query.as_mut(), is_aggregate),
            CopyToSource::Relation(_) => Ok(()),
        },
        _ => Ok(()),
    }
}

fn aggregate_in(tree: &mut impl VisitMut, is_aggregate: &dyn Fn(&str) -> bool) -> Result<(), SqlError> {
    let changed = visit_expressions_mut(tree, |expr| {
        if let Expr::Function(function) = expr
            && is_named(function, "array")
            && let FunctionArguments::Subquery(query) = &function.args
        {
            let array = match array_of(query.as_ref().clone(), is_aggregate) {
                Ok(array) => array,
                Err(error) => return ControlFlow::Break(error),
            };
            *expr = call(ARRAY_OF_ROWS, vec![Expr::Subquery(Box::new(array))]);
        }
        ControlFlow::Continue(())
    });
    match changed {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Returns the query of the array of a query's values.
fn array_of(mut query: Query, is_aggregate: &dyn Fn(&str) -> bool) -> Result<Query, SqlError> {
    let is_limited = query.limit_clause.is_some() || query.fetch.is_some();
    let keys = match query.order_by.as_ref().map(|order| &order.kind) {
        Some(OrderByKind::Expressions(keys)) => keys.clone(),
        Some(OrderByKind::All(_)) => {
            return Err(SqlError::not_supported("ORDER BY ALL is not supported in ARRAY(SELECT …)"));
        }
        None => Vec::new(),
    };
    let place = |key: &OrderByExpr| match &key.expr {
        Expr::Value(ValueWithSpan { value: Value::Number(place, _), .. }) => Some(place.clone()),
        _ => None,
    };
    if let Some(place) = keys.iter().filter_map(place).find(|place| place != "1") {
        return Err(SqlError::error("42P10", format!("ORDER BY position {place} is not in select list")));
    }
    if let SetExpr::Select(select) = query.body.as_mut() {
        let (value, name) = match select.projection.as_slice() {
            [SelectItem::UnnamedExpr(value)] => (value.clone(), None),
            [SelectItem::ExprWithAlias { expr, alias }] => (expr.clone(), Some(fold(alias))),
            [_] if keys.is_empty() => return Ok(of_rows(query, Vec::new(), Vec::new())),
            [_] => {
                return Err(SqlError::not_supported("ARRAY(SELECT * … ORDER BY …) is not supported; name the column"));
            }
            _ => return Err(SqlError::error("42601", "subquery must return only one column")),
        };
        let keys: Vec<OrderByExpr> = keys.iter().map(|key| of_value(key.clone(), &value, name.as_deref())).collect();
        if !is_limited && is_plain(select, &value, is_aggregate) {
            select.projection = vec![SelectItem::UnnamedExpr(array_agg(value, keys))];
            query.order_by = None;
            return Ok(query);
        }
        if select.distinct.is_none() {
            let names = (1..=keys.len()).map(|place| Ident::new(format!("{KEY}{place}")));
            let names: Vec<Ident> = names.collect();
            let items = keys.iter().zip(&names);
            let items =
                items.map(|(key, name)| SelectItem::ExprWithAlias { expr: key.expr.clone(), alias: name.clone() });
            select.projection.extend(items);
            return Ok(of_rows(query, keys, names));
        }
    }
    // Rows that differ, and those of several queries, are ordered by their values.
    let names = vec![Ident::new(VALUE); keys.len()];
    Ok(of_rows(query, keys, names))
}

/// Returns a key as an expression of the rows below a select list: it may name the value by its place or its name.
fn of_value(mut key: OrderByExpr, value: &Expr, name: Option<&str>) -> OrderByExpr {
    let is_it = match &key.expr {
        Expr::Value(place) => place.value == Value::Number("1".to_owned(), false),
        Expr::Identifier(found) => name == Some(fold(found).as_str()),
        _ => false,
    };
    if is_it {
        key.expr = value.clone();
    }
    key
}

/// Returns true for a select list of one value for each row of FROM.
fn is_plain(select: &Select, value: &Expr, is_aggregate: &dyn Fn(&str) -> bool) -> bool {
    let is_grouped = match &select.group_by {
        GroupByExpr::Expressions(keys, modifiers) => !keys.is_empty() || !modifiers.is_empty(),
        GroupByExpr::All(_) => true,
    };
    let is_of_rows = visit_expressions(value, |part| match part {
        Expr::Function(function) => {
            let name = function.name.0.last().and_then(|part| part.as_ident()).map(fold).unwrap_or_default();
            let is_row = function.over.is_none() && !is_aggregate(&name);
            if is_row { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        }
        _ => ControlFlow::Continue(()),
    });
    !select.from.is_empty()
        && select.distinct.is_none()
        && select.having.is_none()
        && select.qualify.is_none()
        && !is_grouped
        && is_of_rows.is_continue()
}

/// Returns the query of the array of the first column of a query. `names` are those of the columns it is ordered by.
fn of_rows(query: Query, mut keys: Vec<OrderByExpr>, names: Vec<Ident>) -> Query {
    let column = |name: &Ident| Expr::CompoundIdentifier(vec![Ident::new(ROWS), name.clone()]);
    let value = Ident::new(VALUE);
    let mut columns = vec![value.clone()];
    for (key, name) in keys.iter_mut().zip(names) {
        key.expr = column(&name);
        if name != value {
            columns.push(name);
        }
    }
    let columns = columns.into_iter().map(|name| TableAliasColumnDef { name, data_type: None }).collect();
    let alias = Some(TableAlias { explicit: true, name: Ident::new(ROWS), columns, at: None });
    let rows = TableFactor::Derived { lateral: false, subquery: Box::new(query), alias, sample: None };
    let mut array = select(vec![array_agg(column(&value), keys)]);
    if let SetExpr::Select(select) = array.body.as_mut() {
        select.from.push(TableWithJoins { relation: rows, joins: Vec::new() });
    }
    array
}

fn array_agg(value: Expr, keys: Vec<OrderByExpr>) -> Expr {
    let mut call = call("array_agg", vec![value]);
    if let Expr::Function(Function { args: FunctionArguments::List(list), .. }) = &mut call
        && !keys.is_empty()
    {
        list.clauses.push(FunctionArgumentClause::OrderBy(keys));
    }
    call
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;

    fn rewritten(text: &str) -> Result<String, SqlError> {
        let mut statement = DFParser::parse_sql(text).unwrap().pop_front().unwrap();
        aggregate(&mut statement, &|name| name == "max")?;
        Ok(statement.to_string())
    }

    #[test]
    fn arrays_of_rows_are_aggregates() {
        for (written, becomes) in [
            (
                "SELECT ARRAY(SELECT a + 1 FROM t WHERE b)",
                "SELECT neuroql_array_of_rows((SELECT array_agg(a + 1) FROM t WHERE b))",
            ),
            (
                "SELECT ARRAY(SELECT a AS x FROM t ORDER BY b DESC, 1, x)",
                "SELECT neuroql_array_of_rows((SELECT array_agg(a ORDER BY b DESC, a, a) FROM t))",
            ),
            (
                "SELECT ARRAY(SELECT max(a) FROM t GROUP BY b ORDER BY b LIMIT 2)",
                "SELECT neuroql_array_of_rows((SELECT array_agg(__rows.__value ORDER BY __rows.__key1) FROM \
                 (SELECT max(a), b AS __key1 FROM t GROUP BY b ORDER BY b LIMIT 2) AS __rows (__value, __key1)))",
            ),
            (
                "SELECT ARRAY(SELECT DISTINCT a FROM t ORDER BY a DESC)",
                "SELECT neuroql_array_of_rows((SELECT array_agg(__rows.__value ORDER BY __rows.__value DESC) FROM \
                 (SELECT DISTINCT a FROM t ORDER BY a DESC) AS __rows (__value)))",
            ),
            (
                "SELECT ARRAY(VALUES (1), (2))",
                "SELECT neuroql_array_of_rows((SELECT array_agg(__rows.__value) FROM (VALUES (1), (2)) AS __rows (__value)))",
            ),
        ] {
            assert_eq!(rewritten(written).unwrap(), becomes);
        }
        assert!(rewritten("SELECT ARRAY(SELECT a, b FROM t)").is_err_and(|error| error.sqlstate == "42601"));
        assert!(rewritten("SELECT ARRAY(SELECT a FROM t ORDER BY 2)").is_err_and(|error| error.sqlstate == "42P10"));
    }
}
