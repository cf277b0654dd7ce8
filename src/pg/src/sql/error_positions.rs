//! Places of the names that errors of the planner are about. The query is parsed once more for them, so that they cost nothing
//! without an error.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AssignmentTarget, Expr, Function, Ident, ObjectName, Query, Statement, TableFactor, Visit, Visitor,
};
use datafusion::sql::sqlparser::parser::Parser as SqlParser;
use datafusion::sql::sqlparser::tokenizer::Location;
use neuroql::PostgresDialect;

use crate::sql::column_names::fold;
use crate::sql::parse::split;
use crate::sql::positions::character;
use crate::wire::error_response::SqlError;

/// Greatest number of bytes of a query in which names are looked for.
pub(crate) const LONGEST: usize = 64 << 10;

/// Object that an error says is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Relation,
    Column,
    Function,
}

/// Returns the character of the name that an error of a statement of a query is about, counted from 1; `None` if it is about none, or
/// it is not sure which of several places is the first that PostgreSQL would find.
pub(crate) fn of(query: &str, statement: usize, error: &SqlError) -> Option<usize> {
    let (kind, prefix) = match &*error.sqlstate {
        "42P01" => (Kind::Relation, "relation "),
        "42703" => (Kind::Column, "column "),
        "42883" => (Kind::Function, "function "),
        _ => return None,
    };
    let name = error.message.strip_prefix(prefix)?.strip_suffix(" does not exist")?;
    let name = name.split_once(" of relation ").map_or(name, |(name, _)| name);
    let name = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name);
    let piece = split(query).ok()?.into_iter().nth(statement)?;
    let text = query.get(piece.start..piece.end)?;
    let parsed = SqlParser::parse_sql(&PostgresDialect, text).ok()?;
    let mut finder = Finder { kind, name, places: Vec::new(), queries: 0, tables: 0 };
    for statement in &parsed {
        // PostgreSQL has no place for what other statements name.
        if matches!(
            statement,
            Statement::Query(_)
                | Statement::Insert(_)
                | Statement::Update(_)
                | Statement::Delete(_)
                | Statement::Explain { .. }
                | Statement::Prepare { .. }
                | Statement::Declare { .. }
                | Statement::Copy { .. }
                | Statement::CreateTable(_)
                | Statement::CreateView(_)
        ) {
            finder.look_at(statement);
            let _ = statement.visit(&mut finder);
        }
    }
    let is_sure = finder.places.len() == 1 || finder.queries <= 1 && finder.tables <= 1;
    let place = finder.places.into_iter().min_by_key(|place| (place.line, place.column)).filter(|_| is_sure)?;
    Some(query[..piece.start].chars().count() + character(text, place))
}

struct Finder<'a> {
    kind: Kind,
    name: &'a str,
    places: Vec<Location>,
    queries: usize,
    tables: usize,
}

impl Finder<'_> {
    /// Notes a name if it is the one that is looked for, as a whole or without the schema that the error leaves out.
    fn note(&mut self, parts: &[&Ident]) {
        let Some(first) = parts.first().filter(|first| first.span.start.line > 0) else { return };
        let whole: Vec<_> = parts.iter().map(|part| fold(part)).collect();
        let whole = whole.join(".");
        let is_it = |schema: &str| whole.strip_prefix(schema).is_some_and(|rest| rest == self.name);
        let last_two = parts.len() > 2 && self.kind == Kind::Column && whole.ends_with(&format!(".{}", self.name));
        if ["", "public.", "neuroql.", "neuroql.public."].into_iter().any(is_it) || last_two {
            self.places.push(first.span.start);
        }
    }

    fn note_object(&mut self, name: &ObjectName) {
        let parts: Option<Vec<&Ident>> = name.0.iter().map(|part| part.as_ident()).collect();
        if let Some(parts) = parts {
            self.note(&parts);
        }
    }

    /// Looks at the columns that a statement assigns to.
    fn look_at(&mut self, statement: &Statement) {
        match statement {
            Statement::Insert(insert) if self.kind == Kind::Column => {
                insert.columns.iter().for_each(|column| self.note_object(column));
            }
            Statement::Update(update) if self.kind == Kind::Column => {
                for assignment in &update.assignments {
                    if let AssignmentTarget::ColumnName(column) = &assignment.target {
                        self.note_object(column);
                    }
                }
            }
            Statement::Explain { statement, .. } | Statement::Prepare { statement, .. } => self.look_at(statement),
            _ => {}
        }
    }
}

impl Visitor for Finder<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, _: &TableFactor) -> ControlFlow<()> {
        self.tables += 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        if matches!(self.kind, Kind::Relation | Kind::Function) {
            self.note_object(relation);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match (expr, self.kind) {
            (Expr::Identifier(name), Kind::Column) => self.note(&[name]),
            (Expr::CompoundIdentifier(parts), Kind::Column) => self.note(&parts.iter().collect::<Vec<_>>()),
            (Expr::Function(Function { name, .. }), Kind::Function) => self.note_object(name),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with the positions of PostgreSQL 15.
    #[test]
    fn names_are_found() {
        let relation = |name: &str| SqlError::error("42P01", format!("relation \"{name}\" does not exist"));
        let column = |name: &str| SqlError::error("42703", format!("column {name} does not exist"));
        let function = |name: &str| SqlError::error("42883", format!("function {name} does not exist"));
        for (query, statement, error, position) in [
            ("select * from nosuch", 0, relation("nosuch"), Some(15)),
            ("select 1; select 'ä' from\n toy.NoSuch", 1, relation("toy.nosuch"), Some(28)),
            ("select * from public.nosuch", 0, relation("nosuch"), Some(15)),
            ("select * from \"No Such\"", 0, relation("No Such"), Some(15)),
            ("insert into nosuch values (1)", 0, relation("nosuch"), Some(13)),
            ("update nosuch set a = 1", 0, relation("nosuch"), Some(8)),
            ("explain select * from nosuch", 0, relation("nosuch"), Some(23)),
            ("select a, nocol from t", 0, column("\"nocol\""), Some(11)),
            ("select \"NoCol\" from t", 0, column("\"NoCol\""), Some(8)),
            ("select a from t order by nocol", 0, column("\"nocol\""), Some(26)),
            ("select 1 + t.nocol from t", 0, column("t.nocol"), Some(12)),
            ("select s.t.nocol from s.t", 0, column("t.nocol"), Some(8)),
            ("insert into t (a, nocol) values (1, 2)", 0, column("\"nocol\""), Some(19)),
            ("update t set nocol = 1", 0, column("\"nocol\""), Some(14)),
            ("select nocol, nocol from t", 0, column("\"nocol\""), Some(8)),
            ("select x from a where exists (select x from b)", 0, column("\"x\""), None),
            ("select nosuch(1)", 0, function("nosuch"), Some(8)),
            ("select * from nosuch(1)", 0, function("nosuch"), Some(15)),
            ("drop table nosuch", 0, relation("nosuch"), None),
            ("select 1", 0, relation("nosuch"), None),
            ("select nosuch", 0, SqlError::error("22023", "column nosuch does not exist"), None),
        ] {
            assert_eq!(of(query, statement, &error), position, "{query}");
        }
    }
}
