//! `VALUES` in an INSERT: inside an `INSERT … SELECT`, where the planner takes them for rows of the table, and `DEFAULT`,
//! which it takes for a column.

use std::ops::ControlFlow;
use std::sync::LazyLock;

use datafusion::sql::sqlparser::ast::{Expr, Query, SetExpr, Statement, TableFactor, Values, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::wire::error_response::SqlError;

/// Rewrites every VALUES but the statement's own to `SELECT * FROM (VALUES …)`, which is planned by itself.
pub(crate) fn isolate_values(statement: &mut Statement) {
    let Statement::Insert(insert) = statement else { return };
    let Some(source) = &mut insert.source else { return };
    if let SetExpr::Values(values) = source.body.as_mut() {
        let _ = values.visit(&mut IsolateValues);
        if let Some(with) = &mut source.with {
            let _ = with.visit(&mut IsolateValues);
        }
    } else {
        let _ = source.visit(&mut IsolateValues);
    }
}

/// Leaves out the columns of which `VALUES` have nothing but `DEFAULT`: that is what the others get.
///
/// # Errors
/// 0A000 if a column has a value in one row and `DEFAULT` in another, or if the columns are not named.
pub(crate) fn leave_out_defaults(statement: &mut Statement) -> Result<(), SqlError> {
    let Statement::Insert(insert) = statement else { return Ok(()) };
    let Some(SetExpr::Values(values)) = insert.source.as_mut().map(|source| source.body.as_mut()) else {
        return Ok(());
    };
    let is_default = |value: &Expr| matches!(value, Expr::Identifier(name) if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("default"));
    if !values.rows.iter().any(|row| row.iter().any(is_default)) {
        return Ok(());
    }
    let refused = |message: &str| Err(SqlError::not_supported(message));
    if insert.columns.is_empty() {
        return refused("DEFAULT in an INSERT that does not name its columns is not supported");
    }
    for column in (0..insert.columns.len()).rev() {
        let defaults = values.rows.iter().filter(|row| row.get(column).is_some_and(is_default)).count();
        if defaults == 0 {
            continue;
        }
        if defaults < values.rows.len() || insert.columns.len() == 1 {
            return refused("DEFAULT beside values, or in place of all of them, is not supported");
        }
        insert.columns.remove(column);
        values.rows.iter_mut().for_each(|row| {
            row.remove(column);
        });
    }
    Ok(())
}

struct IsolateValues;

impl VisitorMut for IsolateValues {
    type Break = ();

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        isolate(&mut query.body);
        ControlFlow::Continue(())
    }
}

fn isolate(body: &mut SetExpr) {
    match body {
        SetExpr::SetOperation { left, right, .. } => {
            isolate(left);
            isolate(right);
        }
        SetExpr::Values(values) => {
            if let Some(mut template) = TEMPLATE.clone()
                && let Some(place) = values_of(&mut template)
            {
                std::mem::swap(place, values);
                *body = *template.body;
            }
        }
        _ => {}
    }
}

/// The query that VALUES are put into. They are not written and parsed again: sqlparser writes `''` in a text as one quote.
static TEMPLATE: LazyLock<Option<Query>> = LazyLock::new(|| {
    let text = "SELECT * FROM (VALUES (1)) AS \"*VALUES*\"";
    Parser::new(&PostgreSqlDialect {}).try_with_sql(text).and_then(|mut parser| parser.parse_query()).ok().map(|it| *it)
});

/// Returns the VALUES of the template.
fn values_of(template: &mut Query) -> Option<&mut Values> {
    let SetExpr::Select(select) = template.body.as_mut() else { return None };
    let TableFactor::Derived { subquery, .. } = &mut select.from.first_mut()?.relation else { return None };
    match subquery.body.as_mut() {
        SetExpr::Values(values) => Some(values),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn isolated(text: &str) -> String {
        let mut statement = Parser::parse_sql(&PostgreSqlDialect {}, text).unwrap().remove(0);
        isolate_values(&mut statement);
        statement.to_string()
    }

    #[test]
    fn columns_of_defaults_are_left_out() {
        let left = |text: &str| {
            let mut statement = Parser::parse_sql(&PostgreSqlDialect {}, text).unwrap().remove(0);
            leave_out_defaults(&mut statement).map(|()| statement.to_string()).map_err(|error| error.sqlstate)
        };
        let found = left("INSERT INTO t (a, b, c) VALUES (DEFAULT, 1, default), (DEFAULT, 2, DEFAULT)");
        assert_eq!(found.unwrap(), "INSERT INTO t (b) VALUES (1), (2)");
        let own = "INSERT INTO t (a, b) VALUES (\"default\", 'DEFAULT')";
        assert_eq!(left(own).unwrap(), own);
        for text in ["t VALUES (DEFAULT, 1)", "t (a, b) VALUES (1, 1), (1, DEFAULT)", "t (a) VALUES (DEFAULT)"] {
            assert_eq!(left(&format!("INSERT INTO {text}")).unwrap_err(), "0A000", "{text}");
        }
    }

    #[test]
    fn only_the_rows_of_the_table_stay() {
        let own = "INSERT INTO t VALUES (1), (2)";
        assert_eq!(isolated(own), own);
        assert_eq!(
            isolated("INSERT INTO t WITH v(x) AS (VALUES (7)) SELECT x FROM v"),
            "INSERT INTO t WITH v (x) AS (SELECT * FROM (VALUES (7)) AS \"*VALUES*\") SELECT x FROM v"
        );
        let within = isolated("INSERT INTO t SELECT 1 WHERE 1 IN (VALUES (1)) UNION ALL VALUES (2)");
        assert_eq!(within.matches("SELECT * FROM (VALUES").count(), 2, "{within}");
    }
}
