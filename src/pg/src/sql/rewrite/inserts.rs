//! `VALUES` in an INSERT: inside an `INSERT … SELECT`, where the planner takes them for rows of the table, `DEFAULT VALUES`, and
//! those of the first columns alone.

use std::ops::ControlFlow;
use std::sync::LazyLock;

use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as DFStatement;
use datafusion::sql::planner::object_name_to_table_reference;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName, Query, SelectItem, SetExpr, Statement, TableFactor, TableObject, Values, VisitMut,
    VisitorMut, visit_expressions,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::sql::rewrite::generated_columns;
use crate::wire::error_response::SqlError;

/// Rewrites VALUES to `SELECT * FROM (VALUES …)`, which neuroql plans itself: those of an INSERT but the statement's own, and
/// elsewhere those with a CASE.
pub(crate) fn isolate_values(statement: &mut Statement) {
    let Statement::Insert(insert) = statement else {
        let _ = statement.visit(&mut IsolateValues { all: false });
        return;
    };
    let Some(source) = &mut insert.source else { return };
    if let SetExpr::Values(values) = source.body.as_mut() {
        let _ = values.visit(&mut IsolateValues { all: true });
        if let Some(with) = &mut source.with {
            let _ = with.visit(&mut IsolateValues { all: true });
        }
    } else {
        let _ = source.visit(&mut IsolateValues { all: true });
    }
}

/// Names the columns of an INSERT that gives values for the first ones only, or for none.
///
/// # Errors
/// 42P01 if the table does not exist.
pub(crate) async fn complete(statement: &mut DFStatement, context: &SessionContext) -> Result<(), SqlError> {
    let mut statement = statement;
    while let DFStatement::Explain(explain) = statement {
        statement = explain.statement.as_mut();
    }
    let DFStatement::Statement(inner) = statement else { return Ok(()) };
    let Statement::Insert(insert) = inner.as_mut() else { return Ok(()) };
    let TableObject::TableName(name) = &insert.table else { return Ok(()) };
    let given = match insert.source.as_mut().map(|source| source.body.as_mut()) {
        None if insert.assignments.is_empty() => None,
        Some(source) if insert.columns.is_empty() => match outputs(source) {
            None => return Ok(()),
            given => given,
        },
        _ => return Ok(()),
    };
    let Ok(table) = object_name_to_table_reference(name.clone(), true) else { return Ok(()) };
    if given.is_some() && !context.table_exist(table.clone())? {
        return Ok(());
    }
    let schema = context.table_provider(table).await?.schema();
    if given.is_some_and(|given| given >= schema.fields().len()) {
        return Ok(());
    }
    let columns = schema.fields().iter().take(given.unwrap_or(1));
    insert.columns = columns.map(|field| ObjectName::from(vec![Ident::with_quote('"', field.name())])).collect();
    if given.is_none() {
        insert.source = DEFAULT_VALUES.clone().map(Box::new);
    }
    Ok(())
}

/// Returns the number of columns of a query, if its text tells it.
fn outputs(body: &SetExpr) -> Option<usize> {
    match body {
        SetExpr::Values(values) => values.rows.first().map(|row| row.content.len()),
        SetExpr::Query(query) => outputs(&query.body),
        SetExpr::SetOperation { left, .. } => outputs(left),
        SetExpr::Select(select) => {
            let is_column =
                |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. });
            select.projection.iter().all(is_column).then_some(select.projection.len())
        }
        _ => None,
    }
}

/// The values of `DEFAULT VALUES`, for one column.
static DEFAULT_VALUES: LazyLock<Option<Query>> = LazyLock::new(|| {
    let text = format!("VALUES ({}())", generated_columns::DEFAULT);
    Parser::new(&PostgreSqlDialect {})
        .try_with_sql(&text)
        .and_then(|mut parser| parser.parse_query())
        .ok()
        .map(|it| *it)
});

struct IsolateValues {
    all: bool,
}

impl VisitorMut for IsolateValues {
    type Break = ();

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        isolate(&mut query.body, self.all);
        ControlFlow::Continue(())
    }
}

fn isolate(body: &mut SetExpr, all: bool) {
    match body {
        SetExpr::SetOperation { left, right, .. } => {
            isolate(left, all);
            isolate(right, all);
        }
        SetExpr::Values(values) if all || has_case(values) => {
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

fn has_case(values: &Values) -> bool {
    visit_expressions(values, |expr| match expr {
        Expr::Case { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
    .is_break()
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

    #[tokio::test]
    async fn columns_are_named() {
        let context = SessionContext::new();
        context.sql("CREATE TABLE t (a INT, \"B\" INT)").await.unwrap();
        for (text, completed) in [
            ("INSERT INTO t DEFAULT VALUES", "INSERT INTO t (\"a\") VALUES (neuroql_default())"),
            ("INSERT INTO t VALUES (1)", "INSERT INTO t (\"a\") VALUES (1)"),
            ("INSERT INTO t VALUES (1, 2)", "INSERT INTO t VALUES (1, 2)"),
            ("INSERT INTO t SELECT 1 UNION SELECT 2", "INSERT INTO t (\"a\") SELECT 1 UNION SELECT 2"),
            ("INSERT INTO t SELECT * FROM t", "INSERT INTO t SELECT * FROM t"),
            ("INSERT INTO t (\"B\") VALUES (1)", "INSERT INTO t (\"B\") VALUES (1)"),
        ] {
            let statement = Parser::parse_sql(&PostgreSqlDialect {}, text).unwrap().remove(0);
            let mut statement = DFStatement::Statement(Box::new(statement));
            complete(&mut statement, &context).await.unwrap();
            assert_eq!(statement.to_string(), completed);
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
