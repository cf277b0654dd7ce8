//! `SET (a, b) = (1, 2)` of UPDATE and of ON CONFLICT, which is `SET a = 1, b = 2`.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Assignment, AssignmentTarget, Distinct, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    GroupByExpr, OnConflictAction, OnInsert, Query, Select, SelectItem, SetExpr, Statement, visit_expressions,
};

use crate::sql::column_names::fold;
use crate::wire::error_response::SqlError;

/// Assigns each column its own value.
///
/// # Errors
/// 42601 for another number of values than of columns, 0A000 for values that are no row.
pub(crate) fn rewrite(statement: &mut Statement) -> Result<(), SqlError> {
    match statement {
        Statement::Prepare { statement, .. } => rewrite(statement),
        Statement::Update(update) => split(&mut update.assignments),
        Statement::Insert(insert) => match &mut insert.on {
            Some(OnInsert::OnConflict(conflict)) => match &mut conflict.action {
                OnConflictAction::DoUpdate(update) => split(&mut update.assignments),
                OnConflictAction::DoNothing => Ok(()),
            },
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn split(assignments: &mut Vec<Assignment>) -> Result<(), SqlError> {
    if assignments.iter().all(|assignment| matches!(assignment.target, AssignmentTarget::ColumnName(_))) {
        return Ok(());
    }
    for assignment in std::mem::take(assignments) {
        let columns = match assignment.target {
            AssignmentTarget::Tuple(columns) => columns,
            target => {
                assignments.push(Assignment { target, value: assignment.value });
                continue;
            }
        };
        let values = values(assignment.value)?;
        if values.len() != columns.len() {
            return Err(SqlError::error("42601", "number of columns does not match number of values"));
        }
        let each = columns.into_iter().zip(values);
        assignments
            .extend(each.map(|(column, value)| Assignment { target: AssignmentTarget::ColumnName(column), value }));
    }
    Ok(())
}

/// Returns the columns of a row, or of the one row of a query.
fn values(value: Expr) -> Result<Vec<Expr>, SqlError> {
    match value {
        Expr::Tuple(values) => Ok(values),
        Expr::Function(function) if is_row(&function) => match function.args {
            FunctionArguments::List(list) => list
                .args
                .into_iter()
                .map(|argument| match argument {
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Ok(value),
                    _ => Err(SqlError::error("42601", "syntax error in ROW")),
                })
                .collect(),
            _ => Err(SqlError::error("42601", "syntax error in ROW")),
        },
        Expr::Subquery(query) => match columns_of(&query) {
            Some(values) => Ok(values),
            None => Err(SqlError::not_supported("several columns of this subquery in SET are not supported")
                .with_hint("Assign each column a subquery of its own.")),
        },
        _ => {
            let message = "source for a multiple-column UPDATE item must be a sub-SELECT or ROW() expression";
            Err(SqlError::not_supported(message))
        }
    }
}

/// Returns the columns of the one row of a query as subqueries, if each can be asked for alone.
pub(super) fn columns_of(query: &Query) -> Option<Vec<Expr>> {
    let count = columns(query)?;
    (0..count).map(|place| one_column(query, place)).collect()
}

fn is_row(function: &Function) -> bool {
    match function.name.0.as_slice() {
        [name] => name.as_ident().is_some_and(|name| name.quote_style.is_none() && fold(name) == "row"),
        _ => false,
    }
}

/// Aggregates of a query that has one row because of them.
const AGGREGATES: [&str; 10] =
    ["count", "sum", "min", "max", "avg", "bool_and", "bool_or", "every", "string_agg", "array_agg"];

/// Returns the number of columns of a query each of which can be asked for alone: without the others, too, it has the same rows.
fn columns(query: &Query) -> Option<usize> {
    let is_plain = query.order_by.is_none() && query.limit_clause.is_none() && query.fetch.is_none();
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let Select { distinct, projection, having, group_by, .. } = select.as_ref();
    let is_grouped = matches!(group_by, GroupByExpr::Expressions(keys, _) if !keys.is_empty());
    let is_one = |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. });
    let is_all = matches!(distinct, None | Some(Distinct::All));
    let has_call = |item: &SelectItem| calls(item, |_| true);
    let has_aggregate = |item: &SelectItem| calls(item, |name| AGGREGATES.contains(&name));
    let has_same_rows =
        is_grouped || having.is_none() && (!projection.iter().any(has_call) || projection.iter().all(has_aggregate));
    (is_plain && is_all && has_same_rows && projection.iter().all(is_one)).then_some(projection.len())
}

/// Returns true if an output calls a function of such a name.
fn calls(item: &SelectItem, is_wanted: impl Fn(&str) -> bool) -> bool {
    let found = visit_expressions(item, |part| match part {
        Expr::Function(function) => {
            let name = function.name.0.last().and_then(|part| part.as_ident()).map(fold).unwrap_or_default();
            if is_wanted(&name) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

fn one_column(query: &Query, place: usize) -> Option<Expr> {
    let mut query = query.clone();
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    select.projection = vec![select.projection.get(place)?.clone()];
    Some(Expr::Subquery(Box::new(query)))
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::parser::Parser;
    use neuroql::PostgresDialect;

    use super::*;

    fn rewritten(set: &str) -> Result<String, String> {
        let mut statement = Parser::parse_sql(&PostgresDialect, &format!("UPDATE t SET {set}")).unwrap().remove(0);
        rewrite(&mut statement).map_err(|error| error.sqlstate.into_owned())?;
        Ok(statement.to_string().replacen("UPDATE t SET ", "", 1))
    }

    #[test]
    fn columns_get_values_of_their_own() {
        assert_eq!(rewritten("(a, b) = (1, DEFAULT), c = 2").unwrap(), "a = 1, b = DEFAULT, c = 2");
        assert_eq!(rewritten("(a, b) = ROW(1, x + 1)").unwrap(), "a = 1, b = x + 1");
        let found = rewritten("(a, b) = (SELECT max(x), min(y) AS z FROM u WHERE u.k = t.k)").unwrap();
        let expected = "a = (SELECT max(x) FROM u WHERE u.k = t.k), b = (SELECT min(y) AS z FROM u WHERE u.k = t.k)";
        assert_eq!(found, expected);
        assert_eq!(rewritten("(a, b) = (SELECT x, y FROM u)").unwrap(), "a = (SELECT x FROM u), b = (SELECT y FROM u)");
        assert_eq!(rewritten("(a, b) = (SELECT max(x), 1 FROM u)").unwrap_err(), "0A000");
        assert_eq!(rewritten("(a, b) = (1, 2, 3)").unwrap_err(), "42601");
        assert_eq!(rewritten("(a, b) = (SELECT * FROM u)").unwrap_err(), "0A000");
        assert_eq!(rewritten("(a, b) = x").unwrap_err(), "0A000");
    }
}
