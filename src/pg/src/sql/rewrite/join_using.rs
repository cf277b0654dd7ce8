//! Columns that a join merges.
//!
//! After `a JOIN b USING (x)` the plain name `x` in `WHERE` is the merged column. DataFusion 55 knows that in `SELECT`,
//! `GROUP BY` and `ORDER BY`, and calls it ambiguous in `WHERE` (`plan_selection` compares with the filter's own
//! columns).

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, JoinConstraint,
    JoinOperator, ObjectName, Query, Select, TableFactor, TableWithJoins, VisitMut, VisitorMut,
};

use crate::sql::column_names::fold;

/// Adds the table to merged columns in each `WHERE`.
pub(crate) fn qualify(tree: &mut impl VisitMut) {
    let _: ControlFlow<()> = tree.visit(&mut Selects);
}

struct Selects;

impl VisitorMut for Selects {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        of_select(select);
        ControlFlow::Continue(())
    }
}

fn of_select(select: &mut Select) {
    let Some(filter) = &mut select.selection else { return };
    let columns: HashMap<String, Expr> = select.from.iter().flat_map(merged).collect();
    if !columns.is_empty() {
        let _: ControlFlow<()> = filter.visit(&mut Names { columns, depth: 0 });
    }
}

/// Returns the merged columns of joins by their names, each as an expression; columns without a known one are left out.
fn merged(tables: &TableWithJoins) -> HashMap<String, Expr> {
    let mut columns: HashMap<String, Expr> = HashMap::new();
    for (number, join) in tables.joins.iter().enumerate() {
        let (constraint, outer) = match &join.join_operator {
            JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) => (constraint, (false, false)),
            JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => (constraint, (true, false)),
            JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => (constraint, (false, true)),
            JoinOperator::FullOuter(constraint) => (constraint, (true, true)),
            _ => continue,
        };
        let JoinConstraint::Using(names) = constraint else { continue };
        for name in names {
            let Some(name) = name.0.last().and_then(|part| part.as_ident()) else { continue };
            // Of several tables to the left it is unknown which has the column, if they were not joined by it too.
            let left = columns.remove(&fold(name)).or_else(|| (number == 0).then(|| column(&tables.relation, name))?);
            let right = column(&join.relation, name);
            let of_both = match (outer, left, right) {
                ((true, true), Some(left), Some(right)) => Some(coalesce(left, right)),
                ((true, false), left, _) => left,
                ((false, true), _, right) => right,
                ((false, false), left, right) => left.or(right),
                _ => None,
            };
            columns.extend(of_both.map(|column| (fold(name), column)));
        }
    }
    columns
}

/// Returns a table's column, if the table has a name.
fn column(table: &TableFactor, name: &Ident) -> Option<Expr> {
    let alias = match table {
        TableFactor::Table { alias, .. } | TableFactor::Derived { alias, .. } | TableFactor::Function { alias, .. } => {
            alias
        }
        _ => return None,
    };
    let mut parts = match (alias, table) {
        (Some(alias), _) => vec![alias.name.clone()],
        (None, TableFactor::Table { name, .. }) => {
            name.0.iter().map(|part| part.as_ident().cloned()).collect::<Option<Vec<_>>>()?
        }
        _ => return None,
    };
    parts.push(name.clone());
    Some(Expr::CompoundIdentifier(parts))
}

fn coalesce(left: Expr, right: Expr) -> Expr {
    let argument = |expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr));
    let args = vec![argument(left), argument(right)];
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new("coalesce")]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// Replaces plain names in an expression, but not in its subqueries: they may be columns there.
struct Names {
    columns: HashMap<String, Expr>,
    depth: usize,
}

impl VisitorMut for Names {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let (0, Expr::Identifier(name)) = (self.depth, &*expr)
            && let Some(column) = self.columns.get(&fold(name))
        {
            *expr = column.clone();
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use crate::sql::parse::Parser;

    fn filter(joins: &str) -> String {
        let query = format!("SELECT x FROM {joins} WHERE x = y AND x IN (SELECT x FROM c)");
        let statement = Parser::default().parse(&query).unwrap().remove(0).statement.to_string();
        statement.split_once(" WHERE ").unwrap().1.to_owned()
    }

    #[test]
    fn merged_columns_are_qualified() {
        let all = " = y AND a.x IN (SELECT x FROM c)";
        assert_eq!(filter("a JOIN b USING (x)"), format!("a.x{all}"));
        assert_eq!(filter("t a LEFT JOIN b USING (X, z)"), format!("a.x{all}").replace("a.x", "a.X"));
        assert_eq!(filter("b RIGHT JOIN s.a USING (x)"), format!("s.a.x{all}").replace(" a.x", " s.a.x"));
        assert_eq!(filter("a JOIN b USING (x) JOIN c USING (x)"), format!("a.x{all}"));
        assert_eq!(filter("c JOIN b ON c.z = b.z JOIN a USING (x)"), format!("a.x{all}"));
        assert_eq!(
            filter("a FULL JOIN b USING (x)"),
            "coalesce(a.x, b.x) = y AND coalesce(a.x, b.x) IN (SELECT x FROM c)"
        );
    }

    #[test]
    fn what_cannot_be_told_is_left() {
        for joins in
            ["a, b", "a JOIN b ON a.x = b.x", "c JOIN b ON c.z = b.z LEFT JOIN a USING (x)", "a JOIN b USING (z)"]
        {
            assert_eq!(filter(joins), "x = y AND x IN (SELECT x FROM c)", "{joins}");
        }
    }
}
