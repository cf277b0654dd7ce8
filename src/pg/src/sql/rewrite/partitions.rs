//! psql asks which foreign keys reference a table or one of those that it is a partition of. There are no partitions.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Query, SelectItem, SetExpr, SetOperator, SetQuantifier, Value, VisitMut, visit_expressions_mut,
};

use crate::sql::rewrite::is_named;

/// Writes `a IN (SELECT pg_partition_ancestors(b) UNION ALL VALUES (c))` as `a IN (c)`.
pub(crate) fn leave_out(tree: &mut impl VisitMut) {
    let _ = visit_expressions_mut(tree, |expr| {
        if let Expr::InSubquery { expr: value, subquery, negated } = expr
            && let Some(list) = values_beside_ancestors(subquery)
        {
            let value = std::mem::replace(value, Box::new(Expr::value(Value::Null)));
            *expr = Expr::InList { expr: value, list, negated: *negated };
        }
        ControlFlow::<()>::Continue(())
    });
}

fn values_beside_ancestors(query: &Query) -> Option<Vec<Expr>> {
    let SetExpr::SetOperation { op: SetOperator::Union, set_quantifier: SetQuantifier::All, left, right } =
        query.body.as_ref()
    else {
        return None;
    };
    let (SetExpr::Select(select), SetExpr::Values(values)) = (left.as_ref(), right.as_ref()) else { return None };
    let [SelectItem::UnnamedExpr(Expr::Function(function))] = select.projection.as_slice() else { return None };
    if !is_named(function, "pg_partition_ancestors") || !select.from.is_empty() || select.selection.is_some() {
        return None;
    }
    let one = |row: &[Expr]| match row {
        [value] => Some(value.clone()),
        _ => None,
    };
    values.rows.iter().map(|row| one(&row.content)).collect()
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::parser::Parser;
    use neuroql::PostgresDialect;

    use super::*;

    #[test]
    fn a_table_is_no_partition() {
        let query = "SELECT 1 FROM c WHERE r IN (SELECT pg_catalog.pg_partition_ancestors('1') UNION ALL VALUES ('1'::regclass))";
        let rewritten = |sql: &str| {
            let mut statement = Parser::parse_sql(&PostgresDialect, sql).unwrap().remove(0);
            leave_out(&mut statement);
            statement.to_string()
        };
        assert_eq!(rewritten(query), "SELECT 1 FROM c WHERE r IN ('1'::REGCLASS)");
        let other = "SELECT 1 FROM c WHERE r IN (SELECT a UNION ALL VALUES (1))";
        assert_eq!(rewritten(other), other);
    }
}
