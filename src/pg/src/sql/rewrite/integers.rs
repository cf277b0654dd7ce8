//! Whole numbers in a statement: `integer` in Postgres if they are small enough, `bigint` for the planner.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    DataType, Expr, Query, SelectItem, SetExpr, UnaryOperator, Value, ValueWithSpan, Values, VisitMut, VisitorMut,
};

use crate::sql::rewrite::cast;

/// Makes numbers in VALUES `integer` that stand in a column with values which are cast to it, or to `smallint`: the type of
/// the column is then that of Postgres.
pub(crate) fn narrow_values(tree: &mut impl VisitMut) {
    let _: ControlFlow<()> = tree.visit(&mut NarrowValues);
}

struct NarrowValues;

impl VisitorMut for NarrowValues {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        narrow_arms(&mut query.body);
        ControlFlow::Continue(())
    }
}

fn narrow_arms(body: &mut SetExpr) {
    match body {
        SetExpr::SetOperation { left, right, .. } => {
            narrow_arms(left);
            narrow_arms(right);
        }
        SetExpr::Values(values) => narrow_columns(values, |cells| cells.iter().any(|cell| is_cast(cell))),
        _ => {}
    }
}

/// Makes numbers `integer` that a query returns as they are: who reads a binary copy of its rows is not told their types.
pub(crate) fn narrow_outputs(query: &mut Query) {
    narrow_body(&mut query.body);
}

fn narrow_body(body: &mut SetExpr) {
    match body {
        SetExpr::SetOperation { left, right, .. } => {
            narrow_body(left);
            narrow_body(right);
        }
        SetExpr::Query(query) => narrow_outputs(query),
        SetExpr::Values(values) => narrow_columns(values, |_| true),
        SetExpr::Select(select) => {
            for output in &mut select.projection {
                if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = output {
                    narrow(expr);
                }
            }
        }
        _ => {}
    }
}

/// Narrows the numbers in the columns that `is_chosen`, if other values in them are NULL or cast to small types.
fn narrow_columns(values: &mut Values, is_chosen: impl Fn(&[&Expr]) -> bool) {
    for column in 0..values.rows.first().map_or(0, |row| row.content.len()) {
        let cells: Vec<&Expr> = values.rows.iter().filter_map(|row| row.content.get(column)).collect();
        if is_chosen(&cells) && cells.iter().all(|cell| is_small(cell)) {
            values.rows.iter_mut().filter_map(|row| row.content.get_mut(column)).for_each(narrow);
        }
    }
}

fn narrow(expr: &mut Expr) {
    if is_number(expr) {
        let number = std::mem::replace(expr, Expr::value(Value::Null));
        *expr = cast(number, DataType::Integer(None));
    }
}

fn is_small(expr: &Expr) -> bool {
    is_cast(expr) || is_number(expr) || matches!(expr, Expr::Value(ValueWithSpan { value: Value::Null, .. }))
}

fn is_number(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_number(inner),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => is_number(expr),
        Expr::Value(ValueWithSpan { value: Value::Number(text, _), .. }) => text.parse::<i32>().is_ok(),
        _ => false,
    }
}

fn is_cast(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_cast(inner),
        Expr::Cast { data_type, array: false, .. } => matches!(
            data_type,
            DataType::SmallInt(_) | DataType::Int2(_) | DataType::Int(_) | DataType::Int4(_) | DataType::Integer(_)
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::ast::Statement;
    use datafusion::sql::sqlparser::parser::Parser;
    use neuroql::PostgresDialect;

    use super::*;

    fn parsed(text: &str) -> Statement {
        Parser::parse_sql(&PostgresDialect, text).unwrap().remove(0)
    }

    #[test]
    fn numbers_beside_integers_are_integers() {
        for (written, read) in [
            ("VALUES (1::INT, 1), (-2, 2)", "VALUES (1::INT, 1), (CAST(-2 AS INTEGER), 2)"),
            ("VALUES (1::INT), (3000000000)", "VALUES (1::INT), (3000000000)"),
            ("VALUES (1::INT), (x)", "VALUES (1::INT), (x)"),
            ("VALUES (1::BIGINT), (2)", "VALUES (1::BIGINT), (2)"),
            (
                "SELECT * FROM (VALUES (NULL::SMALLINT), (2), (NULL)) AS t",
                "SELECT * FROM (VALUES (NULL::SMALLINT), (CAST(2 AS INTEGER)), (NULL)) AS t",
            ),
        ] {
            let mut statement = parsed(written);
            narrow_values(&mut statement);
            assert_eq!(statement.to_string(), read);
        }
    }

    #[test]
    fn outputs_are_integers() {
        for (written, read) in [
            (
                "SELECT 1, (2) AS a, 1 + 1, 1.5, x",
                "SELECT CAST(1 AS INTEGER), CAST((2) AS INTEGER) AS a, 1 + 1, 1.5, x",
            ),
            ("VALUES (1, 1), (2, 3000000000)", "VALUES (CAST(1 AS INTEGER), 1), (CAST(2 AS INTEGER), 3000000000)"),
            ("SELECT 1 UNION SELECT 2", "SELECT CAST(1 AS INTEGER) UNION SELECT CAST(2 AS INTEGER)"),
        ] {
            let Statement::Query(mut query) = parsed(written) else { panic!("{written}") };
            narrow_outputs(&mut query);
            assert_eq!(query.to_string(), read);
        }
    }
}
