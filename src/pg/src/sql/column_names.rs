//! Names of result columns as Postgres gives them.
//!
//! DataFusion names an expression after its text (`max(toy.activations.activation)`, `Int64(1)`) and refuses two
//! columns of one name; Postgres names it after its outermost function, or `?column?`, and does not mind twins.
//! So expressions get the names of Postgres as aliases, by which an ORDER BY or the query around theirs calls them, and
//! twins further names, which [`original`] takes off.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use datafusion::common::DFSchema;
use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{
    self, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, OrderBy, OrderByExpr, OrderByKind,
    Query, Select, SelectItem, SetExpr, TableFactor, TableWithJoins, Value, VisitMut, VisitorMut, visit_expressions,
    visit_expressions_mut,
};

use crate::session::returning;
use crate::sql::figured_names::{column_name, item_name};
use crate::sql::rewrite::call;
use crate::wire::error_response::SqlError;

/// New names for some columns: counted from the left before a `*`, from the right after it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ColumnNames {
    before: Vec<Option<String>>,
    after: Vec<Option<String>>,
}

impl ColumnNames {
    /// Returns the name for column `index` of `columns`, which DataFusion calls `given`.
    pub(crate) fn name<'a>(&'a self, index: usize, columns: usize, given: &'a str) -> &'a str {
        let from_right = columns - 1 - index;
        let found = match self.before.get(index) {
            Some(found) => Some(found),
            None if from_right < self.after.len() => self.after.get(self.after.len() - 1 - from_right),
            None => None,
        };
        match found {
            Some(Some(name)) => original(name),
            _ => original(given),
        }
    }
}

/// Finds the names, gives them to expressions and makes twins distinct for DataFusion.
///
/// # Errors
/// 42702 if rows are ordered by a name of several outputs.
pub(crate) fn of_statement(statement: &mut Statement) -> Result<ColumnNames, SqlError> {
    name_columns(statement)?;
    Ok(names_of(statement))
}

fn name_columns(statement: &mut Statement) -> Result<(), SqlError> {
    let named = match statement {
        Statement::Statement(inner) => {
            // The names of an INSERT's columns are those of its table.
            let outermost = !matches!(**inner, ast::Statement::Query(_) | ast::Statement::Declare { .. });
            inner.visit(&mut NamedColumns { depth: usize::from(outermost) })
        }
        Statement::Explain(explain) => return name_columns(&mut explain.statement),
        Statement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => query.visit(&mut NamedColumns { depth: 0 }),
            CopyToSource::Relation(_) => ControlFlow::Continue(()),
        },
        _ => ControlFlow::Continue(()),
    };
    match named {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

fn names_of(statement: &mut Statement) -> ColumnNames {
    let query = match statement {
        Statement::Statement(inner) => match inner.as_mut() {
            ast::Statement::Query(query) => query,
            ast::Statement::Declare { stmts } => match stmts.first_mut().and_then(|one| one.for_query.as_mut()) {
                Some(query) => query,
                None => return ColumnNames::default(),
            },
            ast::Statement::Prepare { statement, .. } => match statement.as_mut() {
                ast::Statement::Query(query) => query,
                change => return of_change(change),
            },
            change => return of_change(change),
        },
        _ => return ColumnNames::default(),
    };
    of_query(query)
}

/// Finds the names of the columns of RETURNING.
fn of_change(change: &mut ast::Statement) -> ColumnNames {
    returning::items(change).map(|items| of_items(items, true)).unwrap_or_default()
}

/// Names the columns of queries, and makes those of queries in others distinct.
struct NamedColumns {
    /// Queries around the next one.
    depth: usize,
}

impl VisitorMut for NamedColumns {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<SqlError> {
        if let Err(error) = name_expressions(query, self.depth == 0) {
            return ControlFlow::Break(error);
        }
        if let (1.., SetExpr::Select(select)) = (self.depth, query.body.as_mut()) {
            make_distinct(&mut select.projection);
        }
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<SqlError> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

/// Gives expressions that are outputs of a query the names that Postgres gives them. Outputs of the outermost query may have
/// other names.
fn name_expressions(query: &mut Query, is_outermost: bool) -> Result<(), SqlError> {
    let mut body = query.body.as_mut();
    let select = loop {
        match body {
            SetExpr::Select(select) => break select,
            SetExpr::SetOperation { left, .. } => body = left.as_mut(),
            _ => return Ok(()),
        }
    };
    let names = Outputs::of(&select.projection);
    let mut no_keys = Vec::new();
    let keys = match &mut query.order_by {
        Some(OrderBy { kind: OrderByKind::Expressions(keys), .. }) => keys,
        _ => &mut no_keys,
    };
    for key in keys.iter() {
        if let Expr::Identifier(name) = &key.expr
            && names.are_different(&fold(name))
        {
            return Err(SqlError::error("42702", format!("ORDER BY \"{}\" is ambiguous", fold(name))));
        }
    }
    let mut read = read_by_keys(keys);
    read.retain(|name| names.count(name) > 0);
    if !is_outermost && let Some(table) = only_table(select) {
        qualify_keys(keys, &table, &read);
    }
    let mut renamed: HashMap<String, Ident> = HashMap::new();
    for (index, item) in select.projection.iter_mut().enumerate() {
        let Some(name) = item_name(item) else { continue };
        let is_read = read.contains(&name);
        let is_only = names.count(&name) == 1;
        match item {
            SelectItem::UnnamedExpr(expr) if column_name(expr).is_none() => {
                let alias = if is_only && !is_read { Ident::with_quote('"', name) } else { twin(index, &name) };
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
            }
            SelectItem::ExprWithAlias { expr, alias }
                if is_outermost && is_read && is_only && column_name(expr).as_ref() != Some(&name) =>
            {
                *alias = twin(index, &name);
                renamed.insert(name, alias.clone());
            }
            _ => {}
        }
    }
    for key in keys.iter_mut() {
        if let Expr::Identifier(name) = &key.expr
            && let Some(alias) = renamed.get(&fold(name))
        {
            key.expr = Expr::Identifier(alias.clone());
        }
    }
    Ok(())
}

/// How many outputs of a query have each name, and whether they are different expressions.
struct Outputs(HashMap<String, (usize, bool)>);

impl Outputs {
    fn of(items: &[SelectItem]) -> Self {
        let mut firsts: HashMap<String, &Expr> = HashMap::new();
        let mut names: HashMap<String, (usize, bool)> = HashMap::new();
        for item in items {
            let (Some(name), SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) =
                (item_name(item), item)
            else {
                continue;
            };
            let first = *firsts.entry(name.clone()).or_insert(expr);
            let (count, differ) = names.entry(name).or_default();
            *count += 1;
            *differ |= !is_same(first, expr);
        }
        Self(names)
    }

    fn count(&self, name: &str) -> usize {
        self.0.get(name).map_or(0, |(count, _)| *count)
    }

    fn are_different(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|(_, differ)| *differ)
    }
}

/// Returns true for equal expressions, and for a column written with its table and without.
fn is_same(one: &Expr, other: &Expr) -> bool {
    match (one, other) {
        (Expr::Identifier(name), Expr::CompoundIdentifier(parts))
        | (Expr::CompoundIdentifier(parts), Expr::Identifier(name)) => {
            parts.last().is_some_and(|last| fold(last) == fold(name))
        }
        (one, other) => one == other,
    }
}

/// Returns the names of columns that rows are ordered by in expressions. There they are columns of tables, whatever outputs are
/// called.
fn read_by_keys(keys: &[OrderByExpr]) -> HashSet<String> {
    let mut read = HashSet::new();
    for key in keys.iter().filter(|key| !matches!(key.expr, Expr::Identifier(_))) {
        let _: ControlFlow<()> = visit_expressions(&key.expr, |part| {
            if let Expr::Identifier(column) = part {
                read.insert(fold(column));
            }
            ControlFlow::Continue(())
        });
    }
    read
}

/// Has expressions that rows are ordered by read columns of a table, so that the planner does not take them for outputs.
fn qualify_keys(keys: &mut [OrderByExpr], table: &Ident, columns: &HashSet<String>) {
    for key in keys.iter_mut().filter(|key| !matches!(key.expr, Expr::Identifier(_))) {
        let _: ControlFlow<()> = visit_expressions_mut(&mut key.expr, |part| {
            if let Expr::Identifier(column) = part
                && columns.contains(&fold(column))
            {
                *part = Expr::CompoundIdentifier(vec![table.clone(), column.clone()]);
            }
            ControlFlow::Continue(())
        });
    }
}

/// Returns the name of the table of a query that has one.
fn only_table(select: &Select) -> Option<Ident> {
    let [TableWithJoins { relation, joins }] = select.from.as_slice() else { return None };
    if !joins.is_empty() {
        return None;
    }
    match relation {
        TableFactor::Table { alias: Some(alias), args: None, .. } | TableFactor::Derived { alias: Some(alias), .. } => {
            Some(alias.name.clone())
        }
        TableFactor::Table { name, alias: None, args: None, .. } => name.0.last()?.as_ident().cloned(),
        _ => None,
    }
}

/// Returns true if the outputs of a statement's query become the columns of a table or view.
pub(crate) fn makes_columns(statement: &Statement) -> bool {
    let Statement::Statement(inner) = statement else { return false };
    matches!(**inner, ast::Statement::CreateTable(_) | ast::Statement::CreateView(_))
}

/// Gives each expression that is an output an alias, so that all are distinct to DataFusion, and so each column beside a `*` in
/// the outermost query.
pub(crate) fn alias_expressions(statement: &mut Statement) {
    match statement {
        Statement::Statement(inner) => {
            if let ast::Statement::Query(query) = inner.as_mut() {
                alias_columns(query);
            }
            let _: ControlFlow<()> = inner.visit(&mut AliasExpressions);
        }
        Statement::Explain(explain) => alias_expressions(&mut explain.statement),
        Statement::CopyTo(copy) => {
            if let CopyToSource::Query(query) = &mut copy.source {
                alias_columns(query);
                let _: ControlFlow<()> = query.visit(&mut AliasExpressions);
            }
        }
        _ => {}
    }
}

/// Gives aliases to the columns that are written beside a `*`, which may have them, too.
fn alias_columns(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let is_wildcard = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    if !select.projection.iter().any(is_wildcard) {
        return;
    }
    for (index, item) in select.projection.iter_mut().enumerate() {
        let Some(name) = item_name(item) else { continue };
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: twin(index, &name) };
        }
    }
}

struct AliasExpressions;

impl VisitorMut for AliasExpressions {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        tell_casts(&mut select.projection);
        make_distinct(&mut select.projection);
        let mut columns = HashSet::new();
        for (index, item) in select.projection.iter_mut().enumerate() {
            let Some(name) = item_name(item) else { continue };
            let is_distinct = match &*item {
                // A column may be written with its table and without.
                SelectItem::UnnamedExpr(expr) => column_name(expr).is_some() && columns.insert(name.clone()),
                SelectItem::ExprWithAlias { expr, .. } => {
                    column_name(expr).as_ref() != Some(&name) || columns.insert(name.clone())
                }
                _ => true,
            };
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item
                && !is_distinct
            {
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: twin(index, &name) };
            }
        }
        ControlFlow::Continue(())
    }
}

/// Makes calls that differ in casts only distinct: DataFusion's name of `sum(a::bigint)` is that of `sum(a)`.
fn tell_casts(items: &mut Vec<SelectItem>) {
    let mut calls: HashMap<String, Vec<String>> = HashMap::new();
    let _: ControlFlow<()> = visit_expressions_mut(items, |part| {
        let Expr::Function(_) = part else { return ControlFlow::Continue(()) };
        let (key, text) = (text_without_casts(part), part.to_string());
        let others = calls.entry(key).or_default();
        let place = others.iter().position(|other| *other == text).unwrap_or_else(|| {
            others.push(text);
            others.len() - 1
        });
        if let Expr::Function(Function { args: FunctionArguments::List(list), .. }) = part {
            for argument in &mut list.args {
                if let FunctionArg::Unnamed(FunctionArgExpr::Expr(cast @ Expr::Cast { .. })) = argument {
                    *cast = (0..place).fold(cast.clone(), |inner, _| call("coalesce", vec![inner]));
                }
            }
        }
        ControlFlow::Continue(())
    });
}

/// Returns the error of a table or view that would have two columns of one name.
///
/// # Errors
/// 42701 if it would.
pub(crate) fn check_columns(schema: &DFSchema) -> Result<(), SqlError> {
    match schema.fields().iter().find(|field| field.name().starts_with(TWIN)) {
        Some(field) => {
            let message = format!("column \"{}\" specified more than once", original(field.name()));
            Err(SqlError::error("42701", message))
        }
        None => Ok(()),
    }
}

/// Prefix of the alias of an output that another one is called like; its place and its name follow.
const TWIN: &str = "\u{f8ff}twin ";

/// Returns a name for an output that no other has.
fn twin(index: usize, name: &str) -> Ident {
    Ident::with_quote('"', format!("{TWIN}{index} {name}"))
}

/// Returns what an output is called.
pub(crate) fn original(name: &str) -> &str {
    match name.strip_prefix(TWIN).and_then(|rest| rest.split_once(' ')) {
        Some((_, name)) => name,
        // pg-catalog's parser renames columns that also hide behind a `*`.
        None => name.strip_prefix("__alias_").unwrap_or(name),
    }
}

/// Returns true if an expression compares with ANY or ALL of a subquery. The planner makes a join of it, whose column
/// has another name than the expression.
fn compares_with_subquery(expr: &Expr) -> bool {
    let found = visit_expressions(expr, |part| match part {
        Expr::AnyOp { right, .. } | Expr::AllOp { right, .. } if is_subquery(right) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

fn is_subquery(expr: &Expr) -> bool {
    match expr {
        Expr::Subquery(_) => true,
        Expr::Nested(inner) => is_subquery(inner),
        _ => false,
    }
}

fn of_query(query: &mut Query) -> ColumnNames {
    let mut body = query.body.as_mut();
    let mut nested = false;
    let items = loop {
        match body {
            SetExpr::Select(select) => break &mut select.projection,
            SetExpr::Query(inner) => body = inner.body.as_mut(),
            // Both arms of a UNION must keep the names DataFusion matches them by.
            SetExpr::SetOperation { left, .. } => {
                nested = true;
                body = left.as_mut();
            }
            _ => return ColumnNames::default(),
        }
    };
    of_items(items, !nested)
}

/// Finds the names of outputs, which are made distinct if they need not keep theirs.
fn of_items(items: &mut [SelectItem], distinct: bool) -> ColumnNames {
    let is_wildcard = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    let names: Vec<_> = items.iter().map(item_name).collect();
    let (first, last) = (items.iter().position(is_wildcard), items.iter().rposition(is_wildcard));
    if distinct {
        make_distinct(items);
    }
    match (first, last) {
        (Some(first), Some(last)) => ColumnNames { before: names[..first].to_vec(), after: names[last + 1..].to_vec() },
        _ => ColumnNames { before: names, after: Vec::new() },
    }
}

/// Gives every later one of equal columns an alias of its own, and those that the planner names otherwise later.
fn make_distinct(items: &mut [SelectItem]) {
    let mut seen = HashSet::new();
    for (index, item) in items.iter_mut().enumerate() {
        let Some(name) = item_name(item) else { continue };
        let (key, expr) = match &*item {
            SelectItem::UnnamedExpr(expr) => (text_without_casts(expr), expr.clone()),
            // The planner takes a column with its own name as an alias for the column.
            SelectItem::ExprWithAlias { expr: expr @ Expr::CompoundIdentifier(parts), alias }
                if parts.last().is_some_and(|column| fold(column) == fold(alias)) =>
            {
                (text_without_casts(expr), expr.clone())
            }
            SelectItem::ExprWithAlias { expr, alias } => (fold(alias), expr.clone()),
            _ => continue,
        };
        if !seen.insert(key) || matches!(item, SelectItem::UnnamedExpr(_)) && compares_with_subquery(&expr) {
            *item = SelectItem::ExprWithAlias { expr, alias: twin(index, &name) };
        }
    }
}

/// Returns the text of an expression without its casts and the subqueries of EXISTS and IN, which DataFusion's
/// names leave out.
fn text_without_casts(expr: &Expr) -> String {
    let mut expr = expr.clone();
    let _ = visit_expressions_mut(&mut expr, |part| {
        while let Expr::Cast { expr: inner, .. } | Expr::Nested(inner) = part {
            *part = std::mem::replace(inner, Expr::value(Value::Null));
        }
        let without = match part {
            Expr::Exists { negated, .. } => Some(format!("exists {negated}")),
            Expr::InSubquery { expr, negated, .. } => Some(format!("{expr} in {negated}")),
            _ => None,
        };
        if let Some(name) = without {
            *part = Expr::Identifier(Ident::new(name));
        }
        ControlFlow::<()>::Continue(())
    });
    expr.to_string()
}

/// Returns a name as the planner reads it: in lower case unless quoted. Letters that are not of ASCII stay, as in PostgreSQL.
pub(crate) fn fold(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_ascii_lowercase() }
}

#[cfg(test)]
mod tests {
    use super::{TWIN, original};
    use crate::sql::parse::Parser;

    fn names(query: &str, given: &[&str]) -> Vec<String> {
        let parsed = Parser::default().parse(query).unwrap().remove(0);
        given.iter().enumerate().map(|(i, name)| parsed.names.name(i, given.len(), name).to_string()).collect()
    }

    #[test]
    fn only_letters_of_ascii_become_small() {
        assert_eq!(names("select 1 AS ÄX, \"ÄX\" from t", &["given"; 2]), ["Äx", "ÄX"]);
    }

    /// Checks names that PostgreSQL 15 gives.
    #[test]
    fn stars_keep_the_names_of_their_columns() {
        assert_eq!(names("select 1, *, count(*) from t", &["x", "a", "b", "y"]), ["?column?", "a", "b", "count"]);
        assert_eq!(names("select * from t", &["a", "__alias_b"]), ["a", "b"]);
        assert_eq!(names("select 1 union all select 2", &["x"]), ["?column?"]);
    }

    /// Shows what twins are called behind a `~`.
    fn shown(text: &str) -> String {
        let statement = Parser::default().parse(text).unwrap().remove(0).statement;
        statement.to_string().replace(TWIN, "~")
    }

    #[test]
    fn expressions_are_named() {
        for (written, becomes) in [
            ("SELECT upper(a), b, a + 1 FROM t", "SELECT upper(a) AS \"upper\", b, a + 1 AS \"?column?\" FROM t"),
            ("SELECT * FROM (SELECT count(*) FROM t) AS x", "SELECT * FROM (SELECT count(*) AS \"count\" FROM t) AS x"),
            ("SELECT max(a) FROM t UNION SELECT 1", "SELECT max(a) AS \"max\" FROM t UNION SELECT 1"),
            ("CREATE VIEW v AS SELECT count(*) FROM t", "CREATE VIEW v AS SELECT count(*) AS \"count\" FROM t"),
            ("SELECT a, a::text FROM t", "SELECT a, a::TEXT AS \"~1 a\" FROM t"),
            // A key is an output by its name only.
            ("SELECT -a AS a FROM t ORDER BY a, a + 1", "SELECT -a AS \"~0 a\" FROM t ORDER BY \"~0 a\", a + 1"),
            (
                "SELECT x.a FROM (SELECT -a AS a FROM t ORDER BY a + 1) AS x",
                "SELECT x.a FROM (SELECT -a AS a FROM t ORDER BY t.a + 1) AS x",
            ),
            ("SELECT a::text FROM t, u ORDER BY abs(a)", "SELECT a::TEXT AS \"~0 a\" FROM t, u ORDER BY abs(a)"),
        ] {
            assert_eq!(shown(written), becomes);
        }
    }

    #[test]
    fn twins_in_queries_of_statements_become_distinct() {
        assert_eq!(shown("insert into t select a, a from u"), "INSERT INTO t SELECT a, a AS \"~1 a\" FROM u");
        let nested = shown("with x as (select a, a from t) select a from x, (select b, b from t) y(c, d)");
        assert!(nested.contains("a, a AS \"~1 a\"") && nested.contains("b, b AS \"~1 b\""), "{nested}");
        let nested = shown("select * from (select 1, 2) x");
        assert!(nested.contains("1 AS \"~0 ?column?\", 2 AS \"~1 ?column?\""), "{nested}");
        assert_eq!(
            shown("create view v as select a, a as a from t").split("AS SELECT ").nth(1),
            Some("a, a AS \"~1 a\" FROM t")
        );
        assert_eq!(original(&format!("{TWIN}12 a b")), "a b");
    }

    #[test]
    fn twins_become_distinct() {
        assert_eq!(shown("select 1 a, 2 a, b, b"), "SELECT 1 AS a, 2 AS \"~1 a\", b, b AS \"~3 b\"");
        let parsed = Parser::default().parse("select 1 a, 2 a, 3").unwrap().remove(0);
        assert_eq!(parsed.names.name(1, 3, "x"), "a");
        assert_eq!(parsed.names.name(2, 3, "x"), "?column?");
    }
}
