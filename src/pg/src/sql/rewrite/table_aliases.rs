//! Tables with the name of a column: `SELECT (SELECT max(x.b) FROM t x WHERE x.b < a.b) FROM t a`, where `t` has a column `a`.
//!
//! DataFusion looks for a column of the query with that name, and for a field of it, before it looks for a table of the query
//! around it. Names before a column are tables in Postgres.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ExprSchema;
use datafusion::error::Result;
use datafusion::logical_expr::{self, LogicalPlan};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName, ObjectNamePart, SelectItem, SelectItemQualifiedWildcardKind, TableAlias, TableFactor,
    VisitMut, VisitorMut,
};

use neuroql::has_expression;

use crate::sql::column_names::fold;

/// Gives the tables of a statement that columns are qualified with names that no column has; returns true if there are some.
pub(crate) fn rename(statement: &mut Statement) -> bool {
    let Statement::Statement(inner) = statement else { return false };
    let mut qualifiers = Qualifiers::default();
    let _: ControlFlow<()> = inner.visit(&mut qualifiers);
    let mut renamed = Renamed { names: qualifiers.found.difference(&qualifiers.qualified).cloned().collect() };
    let _: ControlFlow<()> = inner.visit(&mut renamed);
    !renamed.names.is_empty()
}

/// Returns true if a plan reads a field of a column that has none.
///
/// # Errors
/// If a query inside of it cannot be visited.
pub(crate) fn accesses_no_field(plan: &LogicalPlan) -> Result<bool> {
    has_expression(plan, |part, node| {
        let logical_expr::Expr::ScalarFunction(call) = part else { return false };
        let of = call.args.first().and_then(logical_expr::Expr::try_as_col).filter(|_| call.name() == "get_field");
        let field = of.and_then(|column| {
            node.inputs().into_iter().find_map(|input| input.schema().field_from_column(column).ok())
        });
        field
            .is_some_and(|field| !matches!(field.data_type(), DataType::Struct(_) | DataType::Map(..) | DataType::Null))
    })
}

/// Names that stand before those of columns.
#[derive(Default)]
struct Qualifiers {
    found: HashSet<String>,
    /// Names that stand behind a schema.
    qualified: HashSet<String>,
}

impl VisitorMut for Qualifiers {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [table, _] => _ = self.found.insert(fold(table)),
                parts => self.qualified.extend(parts.iter().rev().skip(1).map(fold)),
            },
            Expr::QualifiedWildcard(name, _) => self.found.extend(single(name).map(fold)),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn single(name: &ObjectName) -> Option<&Ident> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(name)] => Some(name),
        _ => None,
    }
}

struct Renamed {
    names: HashSet<String>,
}

impl Renamed {
    fn of(&self, name: &Ident) -> Option<Ident> {
        let name = fold(name);
        self.names.contains(&name).then(|| Ident::with_quote('"', format!("__{name}")))
    }

    fn change(&self, name: &mut Ident) {
        if let Some(new) = self.of(name) {
            *name = new;
        }
    }
}

impl VisitorMut for Renamed {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::CompoundIdentifier(parts) if parts.len() == 2 => self.change(&mut parts[0]),
            Expr::QualifiedWildcard(ObjectName(parts), _) => {
                if let [ObjectNamePart::Identifier(name)] = parts.as_mut_slice() {
                    self.change(name);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut datafusion::sql::sqlparser::ast::Select) -> ControlFlow<()> {
        for item in &mut select.projection {
            if let SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(ObjectName(parts)), _) =
                item
                && let [ObjectNamePart::Identifier(name)] = parts.as_mut_slice()
            {
                self.change(name);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<()> {
        match table {
            TableFactor::Table { name, alias, args: None, .. } => match alias {
                Some(alias) => self.change(&mut alias.name),
                None => {
                    let last = name.0.last().and_then(ObjectNamePart::as_ident);
                    *alias = last.and_then(|name| self.of(name)).map(|name| TableAlias {
                        explicit: true,
                        name,
                        columns: Vec::new(),
                        at: None,
                    });
                }
            },
            TableFactor::Derived { alias: Some(alias), .. } => self.change(&mut alias.name),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;

    #[test]
    fn tables_are_renamed_with_the_columns_they_stand_before() {
        for (written, becomes) in [
            (
                "SELECT (SELECT max(x.b) FROM t x WHERE x.b < a.b) FROM t a",
                "SELECT (SELECT max(\"__x\".b) FROM t \"__x\" WHERE \"__x\".b < \"__a\".b) FROM t \"__a\"",
            ),
            ("SELECT a.b, a.* FROM a, b", "SELECT \"__a\".b, \"__a\".* FROM a AS \"__a\", b"),
            ("SELECT x.b FROM (SELECT b FROM t) x", "SELECT \"__x\".b FROM (SELECT b FROM t) \"__x\""),
            ("SELECT s.a.b, a.b FROM s.a", "SELECT s.a.b, a.b FROM s.a"),
            ("SELECT b FROM a", "SELECT b FROM a"),
        ] {
            let mut statement = DFParser::parse_sql(written).unwrap().pop_front().unwrap();
            assert_eq!(rename(&mut statement), written != becomes, "{written}");
            assert_eq!(statement.to_string(), becomes);
        }
    }
}
