//! Columns that a join merges.
//!
//! After `a JOIN b USING (x)` the plain name `x` is the merged column: that of the left table, of the right one in a
//! RIGHT JOIN, and the first of both that is not NULL in a FULL JOIN. `*` has it first, once. DataFusion 55 takes the left
//! column in every join, has the merged column among those of one table in `*`, and calls it ambiguous in `WHERE`
//! (`plan_selection` compares with the filter's own columns). So `USING` becomes `ON` here, and the names of merged
//! columns become those of their tables.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Distinct, ExcludeSelectItem, Expr, GroupByExpr, Ident, Join, JoinConstraint, JoinOperator,
    ObjectName, OrderByExpr, OrderByKind, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr,
    TableFactor, VisitMut, VisitorMut, WildcardAdditionalOptions,
};

use crate::sql::column_names::fold;
use crate::sql::rewrite::call;
use crate::wire::error_response::SqlError;

/// Rewrites each `USING`, and what names the columns that it merges.
///
/// # Errors
/// 0A000 if it cannot be told which tables have a merged column and an outer join makes a difference between them.
pub(crate) fn rewrite(tree: &mut impl VisitMut) -> Result<(), SqlError> {
    match tree.visit(&mut RewriteSelects) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct RewriteSelects;

impl VisitorMut for RewriteSelects {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<SqlError> {
        let SetExpr::Select(select) = query.body.as_mut() else { return ControlFlow::Continue(()) };
        let merged = match merge(select) {
            Ok(Some(merged)) => merged,
            Ok(None) => return ControlFlow::Continue(()),
            Err(error) => return ControlFlow::Break(error),
        };
        if let Some(OrderByKind::Expressions(order)) = query.order_by.as_mut().map(|order| &mut order.kind) {
            let is_output = |name: &Ident| select.projection.iter().any(|item| names(item, name));
            order.iter_mut().for_each(|key| merged.sort_key(key, &is_output));
        }
        ControlFlow::Continue(())
    }

    /// Rewrites the branches of UNION and its like.
    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<SqlError> {
        match merge(select) {
            Ok(_) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

/// Returns true if an output has the name.
fn names(item: &SelectItem, name: &Ident) -> bool {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => fold(alias) == fold(name),
        _ => false,
    }
}

/// A column of `*`.
enum Output {
    Merged(MergedColumn),
    /// The columns of a table, but for those that are merged.
    Table(Option<ObjectName>, Vec<String>),
}

#[derive(Clone)]
struct MergedColumn {
    name: Ident,
    column: Box<Expr>,
}

/// Merged columns of a list of tables.
#[derive(Default)]
struct Merged {
    columns: Vec<MergedColumn>,
}

/// Rewrites the joins of a SELECT and the names in it; returns its merged columns, if there are some.
fn merge(select: &mut Select) -> Result<Option<Merged>, SqlError> {
    let has_using = |join: &Join| matches!(constraint(&join.join_operator), Some(JoinConstraint::Using(_)));
    if !select.from.iter().any(|tables| tables.joins.iter().any(has_using)) {
        return Ok(None);
    }
    let mut all = Merged::default();
    let mut outputs = Vec::new();
    let mut is_known = true;
    for tables in &mut select.from {
        let mut found = Tables::of(&tables.relation);
        for join in &mut tables.joins {
            found.join(join)?;
        }
        is_known &= found.is_known;
        all.columns.extend(found.outputs.iter().filter_map(|output| match output {
            Output::Merged(column) => Some(column.clone()),
            Output::Table(..) => None,
        }));
        outputs.extend(found.outputs);
    }
    let mut projection = Vec::with_capacity(select.projection.len());
    for item in std::mem::take(&mut select.projection) {
        match item {
            SelectItem::Wildcard(options) if is_known && options == WildcardAdditionalOptions::default() => {
                for output in &outputs {
                    projection.push(output.item()?);
                }
            }
            SelectItem::Wildcard(_) => return Err(unknown("*")),
            SelectItem::UnnamedExpr(Expr::Identifier(name)) => projection.push(match all.column(&name) {
                Some(column) => SelectItem::ExprWithAlias { expr: column.clone(), alias: name },
                None => SelectItem::UnnamedExpr(Expr::Identifier(name)),
            }),
            mut item => {
                all.qualify(&mut item);
                projection.push(item);
            }
        }
    }
    select.projection = projection;
    all.qualify(&mut select.selection);
    all.qualify(&mut select.having);
    all.qualify(&mut select.named_window);
    if let Some(Distinct::On(keys)) = &mut select.distinct {
        all.qualify(keys);
    }
    if let GroupByExpr::Expressions(keys, _) = &mut select.group_by {
        all.qualify(keys);
    }
    Ok(Some(all))
}

fn unknown(column: &str) -> SqlError {
    let message = format!("{column} after a JOIN … USING of these tables is not supported");
    SqlError::not_supported(message).with_hint("Give each table a name, and say of which of them each column is.")
}

/// Returns the condition of a join of two tables.
pub(crate) fn constraint(operator: &JoinOperator) -> Option<&JoinConstraint> {
    match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint) => Some(constraint),
        _ => None,
    }
}

/// The sides of a join that can be NULL where the other is not: `(false, true)` in a LEFT JOIN.
fn parts(operator: &mut JoinOperator) -> Option<(&mut JoinConstraint, (bool, bool))> {
    Some(match operator {
        JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) => (constraint, (false, false)),
        JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => (constraint, (false, true)),
        JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => (constraint, (true, false)),
        JoinOperator::FullOuter(constraint) => (constraint, (true, true)),
        _ => return None,
    })
}

/// Tables joined so far.
struct Tables {
    outputs: Vec<Output>,
    /// False if a `USING` is left to the planner.
    is_known: bool,
}

impl Tables {
    fn of(table: &TableFactor) -> Self {
        Self { outputs: vec![Output::Table(table_name(table), Vec::new())], is_known: true }
    }

    fn join(&mut self, join: &mut Join) -> Result<(), SqlError> {
        let right = table_name(&join.relation);
        let Some((constraint, nullable)) = parts(&mut join.join_operator) else {
            self.outputs.push(Output::Table(right, Vec::new()));
            return Ok(());
        };
        let names = match constraint {
            JoinConstraint::Using(names) => {
                names.iter().filter_map(|name| name.0.last()?.as_ident().cloned()).collect::<Vec<_>>()
            }
            JoinConstraint::On(condition) => {
                self.merged().qualify(condition);
                Vec::new()
            }
            _ => Vec::new(),
        };
        if names.is_empty() {
            self.outputs.push(Output::Table(right, Vec::new()));
            return Ok(());
        }
        let pairs: Option<Vec<_>> =
            names.iter().map(|name| Some((self.left(name)?, column(right.as_ref()?, name)))).collect();
        let Some(pairs) = pairs else {
            // The planner takes the column of the left table.
            let name = names.first().map(|name| name.value.clone()).unwrap_or_default();
            self.is_known = false;
            self.outputs.push(Output::Table(right, Vec::new()));
            return if nullable.0 { Err(unknown(&format!("\"{name}\""))) } else { Ok(()) };
        };
        let equal = |(left, right): &(Expr, Expr)| Expr::BinaryOp {
            left: Box::new(left.clone()),
            op: BinaryOperator::Eq,
            right: Box::new(right.clone()),
        };
        let and =
            |left, right| Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::And, right: Box::new(right) };
        if let Some(condition) = pairs.iter().map(equal).reduce(and) {
            *constraint = JoinConstraint::On(condition);
        }
        let merged = names.iter().zip(pairs).map(|(name, (left, right))| {
            let column = match nullable {
                (true, true) => call("coalesce", vec![left, right]),
                (true, false) => right,
                (false, _) => left,
            };
            MergedColumn { name: name.clone(), column: Box::new(column) }
        });
        let folded: Vec<_> = names.iter().map(fold).collect();
        let is_alone = self.outputs.len() == 1;
        let mut outputs: Vec<_> = merged.map(Output::Merged).collect();
        for mut output in std::mem::take(&mut self.outputs) {
            match &mut output {
                Output::Merged(column) if folded.contains(&fold(&column.name)) => continue,
                // A name that was merged before is excluded already.
                Output::Table(_, excluded) if is_alone => excluded.clone_from(&folded),
                _ => {}
            }
            outputs.push(output);
        }
        outputs.push(Output::Table(right, folded));
        self.outputs = outputs;
        Ok(())
    }

    /// Returns the columns that are merged so far.
    fn merged(&self) -> Merged {
        let columns = self.outputs.iter().filter_map(|output| match output {
            Output::Merged(column) => Some(column.clone()),
            Output::Table(..) => None,
        });
        Merged { columns: columns.collect() }
    }

    /// Returns a column of the tables so far. Of several tables it is unknown which has it, if they were not joined by
    /// it.
    fn left(&self, name: &Ident) -> Option<Expr> {
        if let Some(found) = self.merged().column(name) {
            return Some(found.clone());
        }
        match self.outputs.as_slice() {
            [Output::Table(Some(table), _)] => Some(column(table, name)),
            _ => None,
        }
    }
}

impl Output {
    /// Returns the item of a SELECT that has these columns.
    fn item(&self) -> Result<SelectItem, SqlError> {
        match self {
            Self::Merged(MergedColumn { name, column }) => {
                Ok(SelectItem::ExprWithAlias { expr: column.as_ref().clone(), alias: name.clone() })
            }
            Self::Table(Some(table), excluded) => {
                let names = excluded.iter().map(|name| ObjectName::from(vec![Ident::with_quote('"', name)]));
                let opt_exclude = (!excluded.is_empty()).then(|| ExcludeSelectItem::Multiple(names.collect()));
                let options = WildcardAdditionalOptions { opt_exclude, ..Default::default() };
                Ok(SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(table.clone()), options))
            }
            Self::Table(None, _) => Err(unknown("*")),
        }
    }
}

impl Merged {
    fn column(&self, name: &Ident) -> Option<&Expr> {
        self.columns.iter().find(|column| fold(&column.name) == fold(name)).map(|column| column.column.as_ref())
    }

    /// Replaces the plain names of merged columns.
    fn qualify(&self, tree: &mut impl VisitMut) {
        let _: ControlFlow<()> = tree.visit(&mut QualifyNames { merged: self, depth: 0 });
    }

    /// Replaces names in a key of ORDER BY, in which a plain name is that of an output before it is one of a table.
    fn sort_key(&self, key: &mut OrderByExpr, is_output: &dyn Fn(&Ident) -> bool) {
        match &key.expr {
            Expr::Identifier(name) if is_output(name) => {}
            _ => self.qualify(&mut key.expr),
        }
    }
}

/// Returns the name by which the columns of a table are qualified.
fn table_name(table: &TableFactor) -> Option<ObjectName> {
    match table {
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::Function { alias: Some(alias), .. }
        | TableFactor::UNNEST { alias: Some(alias), .. } => Some(ObjectName::from(vec![alias.name.clone()])),
        TableFactor::Table { name, args: None, .. } => Some(name.clone()),
        _ => None,
    }
}

fn column(table: &ObjectName, name: &Ident) -> Expr {
    let parts = table.0.iter().filter_map(|part| part.as_ident().cloned()).chain([name.clone()]);
    Expr::CompoundIdentifier(parts.collect())
}

/// Replaces plain names in an expression, but not in its subqueries: they may be columns there.
struct QualifyNames<'a> {
    merged: &'a Merged,
    depth: usize,
}

impl VisitorMut for QualifyNames<'_> {
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
            && let Some(column) = self.merged.column(name)
        {
            *expr = column.clone();
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use crate::sql::parse::Parser;
    use crate::sql::rewrite::rewritten;

    fn refused(query: &str) -> String {
        Parser::default().parse(query).unwrap_err().sqlstate.into_owned()
    }

    #[test]
    fn merged_columns_are_those_of_their_tables() {
        for (written, read) in [
            (
                "SELECT x, max(x) FROM a JOIN b USING (x) WHERE x = y AND x IN (SELECT x FROM c) GROUP BY x",
                "SELECT a.x AS x, max(a.x) FROM a JOIN b ON a.x = b.x WHERE a.x = y AND a.x IN (SELECT x FROM c) \
                 GROUP BY a.x",
            ),
            (
                "SELECT x + 1 FROM t a LEFT JOIN b USING (X, z) ORDER BY x, z",
                "SELECT a.X + 1 FROM t a LEFT JOIN b ON a.X = b.X AND a.z = b.z ORDER BY a.X, a.z",
            ),
            (
                "SELECT x FROM b RIGHT JOIN s.a USING (x) ORDER BY x, x + 1",
                "SELECT s.a.x AS x FROM b RIGHT JOIN s.a ON b.x = s.a.x ORDER BY x, s.a.x + 1",
            ),
            (
                "SELECT x FROM a FULL JOIN b USING (x) JOIN c USING (x) JOIN d ON d.y = x",
                "SELECT coalesce(a.x, b.x) AS x FROM a FULL JOIN b ON a.x = b.x JOIN c ON coalesce(a.x, b.x) = c.x \
                 JOIN d ON d.y = coalesce(a.x, b.x)",
            ),
            (
                "SELECT *, y FROM a FULL JOIN b USING (x)",
                "SELECT coalesce(a.x, b.x) AS x, a.* EXCLUDE (\"x\"), b.* EXCLUDE (\"x\"), y FROM a FULL JOIN b ON a.x = b.x",
            ),
            (
                "SELECT * FROM a JOIN b USING (x) JOIN c USING (x), d",
                "SELECT a.x AS x, a.* EXCLUDE (\"x\"), b.* EXCLUDE (\"x\"), c.* EXCLUDE (\"x\"), d.* \
                 FROM a JOIN b ON a.x = b.x JOIN c ON a.x = c.x, d",
            ),
            // Which of c and b has x is not known; the planner takes the left one.
            (
                "SELECT x FROM c JOIN b ON c.z = b.z LEFT JOIN a USING (x)",
                "SELECT x FROM c JOIN b ON c.z = b.z LEFT JOIN a USING(x)",
            ),
            ("SELECT * FROM a JOIN b ON a.x = b.x", "SELECT * FROM a JOIN b ON a.x = b.x"),
        ] {
            assert_eq!(rewritten(written), read);
        }
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        assert_eq!(refused("SELECT x FROM c JOIN b ON c.z = b.z RIGHT JOIN a USING (x)"), "0A000");
        assert_eq!(refused("SELECT x FROM c JOIN b ON c.z = b.z FULL JOIN a USING (x)"), "0A000");
        assert_eq!(refused("SELECT * FROM c JOIN b USING (z) JOIN a USING (x)"), "0A000");
    }
}
