//! Orders of SELECT DISTINCT by expressions of its list.
//!
//! DataFusion looks for them after it has put columns in the place of aggregates, and finds none, so that their places in the list
//! stand for them.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Distinct, Expr, OrderByKind, Query, SelectItem, SetExpr, Value, VisitMut, VisitorMut,
};

/// Puts places in the list of a SELECT DISTINCT in place of its expressions in ORDER BY.
pub(crate) fn rewrite(tree: &mut impl VisitMut) {
    let _: ControlFlow<()> = tree.visit(&mut Orders);
}

struct Orders;

impl VisitorMut for Orders {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let SetExpr::Select(select) = query.body.as_ref() else { return ControlFlow::Continue(()) };
        let Some(Distinct::Distinct) = select.distinct else { return ControlFlow::Continue(()) };
        let items = select.projection.iter().map(|item| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr.to_string()),
            _ => None,
        });
        let Some(items) = items.collect::<Option<Vec<_>>>() else { return ControlFlow::Continue(()) };
        let Some(order) = &mut query.order_by else { return ControlFlow::Continue(()) };
        let OrderByKind::Expressions(keys) = &mut order.kind else { return ControlFlow::Continue(()) };
        for key in keys {
            if matches!(key.expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_)) {
                continue;
            }
            let text = key.expr.to_string();
            if let Some(place) = items.iter().position(|item| *item == text) {
                key.expr = Expr::value(Value::Number((place + 1).to_string(), false));
            }
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    #[test]
    fn expressions_become_places() {
        for (text, rewritten) in [
            ("SELECT DISTINCT a + 1, b FROM t ORDER BY a + 1 DESC", "SELECT DISTINCT a + 1, b FROM t ORDER BY 1 DESC"),
            (
                "SELECT DISTINCT max(a) AS m FROM t ORDER BY max(a), m",
                "SELECT DISTINCT max(a) AS m FROM t ORDER BY 1, m",
            ),
            ("SELECT DISTINCT a FROM t ORDER BY a, b + 1", "SELECT DISTINCT a FROM t ORDER BY a, b + 1"),
            ("SELECT DISTINCT *, a + 1 FROM t ORDER BY a + 1", "SELECT DISTINCT *, a + 1 FROM t ORDER BY a + 1"),
            ("SELECT a + 1 FROM t ORDER BY a + 1", "SELECT a + 1 FROM t ORDER BY a + 1"),
        ] {
            let mut statement = Parser::parse_sql(&PostgreSqlDialect {}, text).unwrap().remove(0);
            rewrite(&mut statement);
            assert_eq!(statement.to_string(), rewritten);
        }
    }
}
