//! Casts in the terms that a recursive query adds to its first one.
//!
//! DataFusion casts the columns of these terms to the types of the first, and the engine refuses those that lose something
//! by it, as Postgres refuses other types. So that it does not take a cast of the statement for one of the planner, the
//! statement's are written twice.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    DataType, Expr, Query, SelectItem, SetExpr, SetOperator, Value, VisitMut, VisitorMut,
};

use crate::sql::rewrite::cast;

/// Writes the casts of columns of recursive terms twice.
pub(crate) fn repeat_casts(tree: &mut impl VisitMut) {
    let _: ControlFlow<()> = tree.visit(&mut RepeatCasts);
}

struct RepeatCasts;

impl VisitorMut for RepeatCasts {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let tables = query.with.iter_mut().filter(|with| with.recursive).flat_map(|with| &mut with.cte_tables);
        for table in tables {
            if let SetExpr::SetOperation { op: SetOperator::Union, right, .. } = table.query.body.as_mut() {
                of_term(right);
            }
        }
        ControlFlow::Continue(())
    }
}

fn of_term(term: &mut SetExpr) {
    match term {
        SetExpr::Query(query) => of_term(&mut query.body),
        SetExpr::Select(select) => {
            for item in &mut select.projection {
                let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else { continue };
                if let Some(data_type) = cast_once(expr).cloned() {
                    let inner = std::mem::replace(expr, Expr::value(Value::Null));
                    *expr = cast(inner, data_type);
                }
            }
        }
        _ => {}
    }
}

/// Returns the type of a cast that is not written twice.
fn cast_once(expr: &Expr) -> Option<&DataType> {
    match expr {
        Expr::Nested(inner) => cast_once(inner),
        Expr::Cast { expr: inner, data_type, .. } => match inner.as_ref() {
            Expr::Cast { data_type: again, .. } if again == data_type => None,
            _ => Some(data_type),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::sql::rewrite::rewritten;

    #[test]
    fn casts_of_recursive_terms_are_written_twice() {
        for (written, read) in [
            (
                "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT CAST(x / 2 AS INT) FROM r) SELECT x FROM r",
                "WITH RECURSIVE r (x) AS (SELECT 1 UNION ALL SELECT CAST(CAST(x / 2 AS INT) AS INT) FROM r) SELECT x FROM r",
            ),
            (
                "WITH r(x) AS (SELECT 1 UNION ALL SELECT CAST('2' AS INT)) SELECT x FROM r",
                "WITH r (x) AS (SELECT 1 UNION ALL SELECT CAST('2' AS INT)) SELECT x FROM r",
            ),
        ] {
            let once = rewritten(written);
            assert_eq!(once, read);
            assert_eq!(rewritten(&once), read, "again");
        }
    }
}
