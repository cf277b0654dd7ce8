//! WITH before INSERT, UPDATE and DELETE: the queries stand in the places of their names.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    FromTable, Ident, ObjectName, ObjectNamePart, Query, SetExpr, Statement, TableAlias, TableAliasColumnDef,
    TableFactor, VisitMut, VisitorMut, With,
};

use crate::sql::column_names::fold;
use crate::wire::error_response::SqlError;

/// Makes a query whose body is a change of rows that change.
///
/// # Errors
/// 0A000 for MERGE, for a change inside of WITH, and for WITH RECURSIVE before UPDATE and DELETE.
pub(crate) fn unwrap(statement: &mut Statement) -> Result<(), SqlError> {
    let query = match statement {
        Statement::Prepare { statement, .. } => return unwrap(statement),
        Statement::Query(query) => query,
        _ => return Ok(()),
    };
    if let Some(with) = &query.with
        && let Some(name) = with.cte_tables.iter().find(|table| change_of(&table.query).is_some())
    {
        let message = format!("the change of rows \"{}\" in WITH is not supported", fold(&name.alias.name));
        return Err(SqlError::not_supported(message));
    }
    let Some(change) = change_of(query) else { return Ok(()) };
    let mut change = change.clone();
    if let Some(with) = query.with.take() {
        inline(&mut change, with)?;
    }
    *statement = change;
    Ok(())
}

fn change_of(query: &Query) -> Option<&Statement> {
    match query.body.as_ref() {
        SetExpr::Insert(change) | SetExpr::Update(change) | SetExpr::Delete(change) | SetExpr::Merge(change) => {
            Some(change)
        }
        _ => None,
    }
}

fn inline(change: &mut Statement, with: With) -> Result<(), SqlError> {
    let is_recursive = with.recursive;
    let mut queries = Inlined { queries: HashMap::new(), hidden: Vec::new() };
    for table in with.cte_tables.iter().filter(|_| !is_recursive) {
        let mut query = table.query.as_ref().clone();
        queries.put(&mut query);
        queries.queries.insert(fold(&table.alias.name), (query, table.alias.columns.clone()));
    }
    match change {
        Statement::Insert(insert) => {
            match &mut insert.source {
                Some(source) if source.with.is_none() => source.with = Some(with),
                Some(_) if is_recursive => return Err(recursive("INSERT … WITH")),
                Some(source) => queries.put(source.as_mut()),
                None => {}
            }
            queries.put(&mut insert.on);
            queries.put(&mut insert.returning);
        }
        Statement::Update(_) if is_recursive => return Err(recursive("UPDATE")),
        Statement::Update(update) => {
            queries.put(&mut update.from);
            queries.put(&mut update.assignments);
            queries.put(&mut update.selection);
            queries.put(&mut update.returning);
        }
        Statement::Delete(_) if is_recursive => return Err(recursive("DELETE")),
        Statement::Delete(delete) => {
            queries.put(&mut delete.using);
            queries.put(&mut delete.selection);
            queries.put(&mut delete.returning);
            let (FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) = &mut delete.from;
            // The first is the table whose rows are deleted.
            tables.iter_mut().skip(1).for_each(|table| queries.put(table));
        }
        _ => return Err(SqlError::not_supported("MERGE is not supported")),
    }
    Ok(())
}

fn recursive(change: &str) -> SqlError {
    SqlError::not_supported(format!("WITH RECURSIVE before {change} is not supported"))
}

/// Queries by their names, with the names of their columns.
struct Inlined {
    queries: HashMap<String, (Query, Vec<TableAliasColumnDef>)>,
    /// Names that queries have in the queries being visited.
    hidden: Vec<Vec<String>>,
}

impl Inlined {
    fn put(&mut self, tree: &mut impl VisitMut) {
        let _: ControlFlow<()> = tree.visit(self);
    }

    fn query(&self, name: &ObjectName) -> Option<(Ident, &(Query, Vec<TableAliasColumnDef>))> {
        let [ObjectNamePart::Identifier(name)] = name.0.as_slice() else { return None };
        let folded = fold(name);
        let found = self.queries.get(&folded)?;
        (!self.hidden.iter().flatten().any(|hidden| *hidden == folded)).then(|| (name.clone(), found))
    }
}

impl VisitorMut for Inlined {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let tables = query.with.iter().flat_map(|with| &with.cte_tables);
        self.hidden.push(tables.map(|table| fold(&table.alias.name)).collect());
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.hidden.pop();
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, alias, args: None, .. } = table
            && let Some((name, (query, columns))) = self.query(name)
        {
            let given = alias.take();
            let mut alias = given.unwrap_or(TableAlias { explicit: true, name, columns: Vec::new(), at: None });
            let further = columns.get(alias.columns.len()..).unwrap_or_default();
            alias.columns.extend_from_slice(further);
            *table = TableFactor::Derived {
                lateral: false,
                subquery: Box::new(query.clone()),
                alias: Some(alias),
                sample: None,
            };
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::parser::Parser;
    use neuroql::PostgresDialect;

    use super::*;

    fn unwrapped(text: &str) -> Result<String, SqlError> {
        let mut statement = Parser::parse_sql(&PostgresDialect, text).unwrap().pop().unwrap();
        unwrap(&mut statement)?;
        Ok(statement.to_string())
    }

    #[test]
    fn queries_stand_in_the_places_of_their_names() {
        for (written, becomes) in [
            (
                "WITH q AS (SELECT 1 AS a) INSERT INTO t SELECT a FROM q",
                "INSERT INTO t WITH q AS (SELECT 1 AS a) SELECT a FROM q",
            ),
            (
                "WITH q(x) AS (SELECT 1), r AS (SELECT x FROM q) UPDATE q SET a = r.x FROM r WHERE q.b IN (SELECT x FROM q AS s)",
                "UPDATE q SET a = r.x FROM (SELECT x FROM (SELECT 1) AS q (x)) AS r WHERE q.b IN (SELECT x FROM (SELECT 1) AS s (x))",
            ),
            (
                "WITH q AS (SELECT 1 AS a) DELETE FROM t USING q WHERE t.a = (WITH q AS (SELECT 2 AS a) SELECT a FROM q)",
                "DELETE FROM t USING (SELECT 1 AS a) AS q WHERE t.a = (WITH q AS (SELECT 2 AS a) SELECT a FROM q)",
            ),
            ("WITH q AS (SELECT 1 AS a) SELECT a FROM q", "WITH q AS (SELECT 1 AS a) SELECT a FROM q"),
        ] {
            assert_eq!(unwrapped(written).unwrap(), becomes);
        }
        for refused in [
            "WITH q AS (DELETE FROM t RETURNING a) SELECT a FROM q",
            "WITH RECURSIVE q AS (SELECT 1 AS a) DELETE FROM t USING q",
        ] {
            assert_eq!(unwrapped(refused).unwrap_err().sqlstate, "0A000");
        }
    }
}
