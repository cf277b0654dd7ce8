//! `VALUES` inside an `INSERT … SELECT`, which the planner takes for rows of the table.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Query, SetExpr, Statement, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

/// Rewrites every VALUES but the statement's own to `SELECT * FROM (VALUES …)`, which is planned by itself.
pub(crate) fn isolate_values(statement: &mut Statement) {
    let Statement::Insert(insert) = statement else { return };
    let Some(source) = &mut insert.source else { return };
    if let SetExpr::Values(values) = source.body.as_mut() {
        let _ = values.visit(&mut Isolate);
        if let Some(with) = &mut source.with {
            let _ = with.visit(&mut Isolate);
        }
    } else {
        let _ = source.visit(&mut Isolate);
    }
}

struct Isolate;

impl VisitorMut for Isolate {
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
        // This is written and parsed again: the tree of a SELECT has too many fields to name here.
        SetExpr::Values(values) => {
            let text = format!("SELECT * FROM ({values}) AS \"*VALUES*\"");
            let parsed = Parser::new(&PostgreSqlDialect {}).try_with_sql(&text).and_then(|mut it| it.parse_query());
            if let Ok(query) = parsed {
                *body = *query.body;
            }
        }
        _ => {}
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
