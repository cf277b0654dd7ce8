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
    self, Expr, Ident, OrderBy, OrderByKind, Query, Select, SelectItem, SetExpr, Value, VisitMut, VisitorMut,
    visit_expressions, visit_expressions_mut,
};

use crate::catalog::object_functions::WRITES;
use crate::catalog::objects::ObjectKind;
use crate::session::returning;
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

/// Finds the names, and makes twins distinct for DataFusion.
pub(crate) fn of_statement(statement: &mut Statement) -> ColumnNames {
    if let Statement::Statement(inner) = statement {
        // The names of an INSERT's columns are those of its table.
        let outermost = usize::from(!matches!(**inner, ast::Statement::Query(_) | ast::Statement::Declare { .. }));
        let _: ControlFlow<()> = inner.visit(&mut NamedColumns { depth: outermost });
    }
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
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        name_expressions(query);
        if let (1.., SetExpr::Select(select)) = (self.depth, query.body.as_mut()) {
            make_distinct(&mut select.projection);
        }
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

/// Gives expressions that are outputs of a query the names that Postgres gives them.
fn name_expressions(query: &mut Query) {
    // An expression that the rows are ordered by is one of columns of tables, whatever outputs are called.
    let mut taken = HashSet::new();
    if let Some(OrderBy { kind: OrderByKind::Expressions(keys), .. }) = &query.order_by {
        for key in keys.iter().filter(|key| !matches!(key.expr, Expr::Identifier(_))) {
            let _: ControlFlow<()> = visit_expressions(&key.expr, |part| {
                if let Expr::Identifier(name) = part {
                    taken.insert(fold(name));
                }
                ControlFlow::Continue(())
            });
        }
    }
    let mut body = query.body.as_mut();
    let items = loop {
        match body {
            SetExpr::Select(select) => break &mut select.projection,
            SetExpr::SetOperation { left, .. } => body = left.as_mut(),
            _ => return,
        }
    };
    let is_column = |expr: &Expr| matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
    let mut names: HashMap<String, usize> = HashMap::new();
    for name in items.iter().filter_map(item_name) {
        *names.entry(name).or_default() += 1;
    }
    for (index, item) in items.iter_mut().enumerate() {
        let Some(name) = item_name(item) else { continue };
        if let SelectItem::UnnamedExpr(expr) = item
            && !is_column(expr)
        {
            let is_only = names.get(&name) == Some(&1) && !taken.contains(&name);
            let alias = if is_only { Ident::with_quote('"', name) } else { twin(index, &name) };
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
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
        make_distinct(&mut select.projection);
        let mut columns = HashSet::new();
        for (index, item) in select.projection.iter_mut().enumerate() {
            let Some(name) = item_name(item) else { continue };
            let SelectItem::UnnamedExpr(expr) = item else { continue };
            // A column may be written with its table and without.
            if !matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) || !columns.insert(name.clone()) {
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: twin(index, &name) };
            }
        }
        ControlFlow::Continue(())
    }
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

/// What an output that is called as another one is named begins with, before its place and what it is called.
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

/// Returns the name of a column; `None` if DataFusion's is right, or stands for more than one column.
pub(crate) fn item_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::UnnamedExpr(expr) => Some(expr_name(expr).unwrap_or_else(|| "?column?".into())),
        SelectItem::ExprWithAlias { alias, .. } => Some(fold(alias)),
        _ => None,
    }
}

/// Names an expression as Postgres' `FigureColname` does.
fn expr_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(fold(name)),
        Expr::CompoundIdentifier(parts) => parts.last().map(fold),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => expr_name(inner),
        Expr::CompoundFieldAccess { root, access_chain } => match access_chain.last() {
            Some(ast::AccessExpr::Dot(Expr::Identifier(name))) => Some(fold(name)),
            _ => expr_name(root),
        },
        Expr::Function(function) => match function.name.0.last() {
            // A function that replaces a cast is named as the cast.
            Some(ast::ObjectNamePart::Identifier(name)) => Some(match (fold(name), only_argument(function)) {
                (name, Some(argument)) if name.starts_with(WRITES) => {
                    expr_name(argument).unwrap_or_else(|| "text".into())
                }
                (name, None) if name == "get_field" => field_name(function).unwrap_or(name),
                (name, Some(argument)) if ObjectKind::of(&name).is_some() => expr_name(argument).unwrap_or(name),
                (name, _) => name,
            }),
            _ => None,
        },
        Expr::Cast { expr, data_type, .. } => Some(name_in_cast(expr).unwrap_or_else(|| type_name(data_type))),
        Expr::Case { else_result, .. } => {
            Some(else_result.as_deref().and_then(column_name).unwrap_or_else(|| "case".into()))
        }
        Expr::Array(_) => Some("array".into()),
        Expr::Exists { .. } => Some("exists".into()),
        Expr::Extract { .. } => Some("extract".into()),
        Expr::Substring { .. } => Some("substring".into()),
        Expr::Trim { .. } => Some("btrim".into()),
        Expr::Position { .. } => Some("position".into()),
        Expr::Ceil { .. } => Some("ceil".into()),
        Expr::Floor { .. } => Some("floor".into()),
        Expr::AtTimeZone { .. } => Some("timezone".into()),
        Expr::Interval(_) => Some("interval".into()),
        Expr::TypedString(typed) => Some(type_name(&typed.data_type)),
        Expr::Subquery(query) => match query.body.as_ref() {
            SetExpr::Select(select) => select.projection.first().and_then(item_name),
            _ => None,
        },
        _ => None,
    }
}

/// Returns the name that an expression keeps when it is cast: not that of a type or of a CASE.
fn name_in_cast(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } | Expr::Cast { expr: inner, .. } => name_in_cast(inner),
        Expr::TypedString(_) | Expr::Interval(_) => None,
        Expr::Case { else_result, .. } => else_result.as_deref().and_then(column_name),
        other => expr_name(other),
    }
}

/// Returns the field that `get_field(composite, 'field')` reads.
fn field_name(function: &ast::Function) -> Option<String> {
    let ast::FunctionArguments::List(list) = &function.args else { return None };
    match list.args.last()? {
        ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(Expr::Value(name))) => name.value.clone().into_string(),
        _ => None,
    }
}

fn only_argument(function: &ast::Function) -> Option<&Expr> {
    match &function.args {
        ast::FunctionArguments::List(list) => match list.args.as_slice() {
            [ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(argument))] => Some(argument),
            _ => None,
        },
        _ => None,
    }
}

fn column_name(expr: &Expr) -> Option<String> {
    matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)).then(|| expr_name(expr)).flatten()
}

/// Returns a name as the planner reads it: in lower case unless quoted. Letters that are not of ASCII stay, as in PostgreSQL.
pub(crate) fn fold(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_ascii_lowercase() }
}

fn type_name(data_type: &ast::DataType) -> String {
    match data_type {
        ast::DataType::Custom(name, _) => {
            if let Some(last) = name.0.last().and_then(|part| part.as_ident()) {
                return fold(last);
            }
        }
        ast::DataType::Array(ast::ArrayElemTypeDef::SquareBracket(item, _))
            if matches!(item.as_ref(), ast::DataType::Custom(..)) =>
        {
            return type_name(item);
        }
        _ => {}
    }
    let text = data_type.to_string().to_lowercase();
    let text = text.split('(').next().unwrap_or(&text).trim();
    match text.strip_prefix("pg_catalog.").unwrap_or(text) {
        "int" | "integer" => "int4",
        "bigint" => "int8",
        "smallint" => "int2",
        "real" => "float4",
        "double precision" | "double" | "float" => "float8",
        "boolean" => "bool",
        "character varying" => "varchar",
        "char" | "character" | "nchar" => "bpchar",
        "timestamp with time zone" => "timestamptz",
        "time with time zone" => "timetz",
        other => other.trim_end_matches("[]").trim_matches('"'),
    }
    .to_string()
}

#[cfg(test)]
mod tests {
    use crate::sql::parse::Parser;
    use crate::sql::rewrite::rewritten;

    fn names(query: &str, given: &[&str]) -> Vec<String> {
        let parsed = Parser::default().parse(query).unwrap().remove(0);
        given.iter().enumerate().map(|(i, name)| parsed.names.name(i, given.len(), name).to_string()).collect()
    }

    #[test]
    fn expressions_are_named_as_postgres_does() {
        let query = "select 1, count(*), max(t.a), a, t.b, x.a as \"A\", '1'::int, cast(a as text), case when a then 1 end, array[1], (select max(b)) from t";
        let expected = ["?column?", "count", "max", "a", "b", "A", "int4", "a", "case", "array", "max"];
        assert_eq!(names(query, &["given"; 11]), expected);
    }

    #[test]
    fn only_letters_of_ascii_become_small() {
        assert_eq!(names("select 1 AS ÄX, \"ÄX\" from t", &["given"; 2]), ["Äx", "ÄX"]);
    }

    /// Checks names that PostgreSQL 15 gives.
    #[test]
    fn casts_are_named_after_columns_and_types() {
        let query = "select 'x'::uuid, json '1', null::jsonb, '1'::json::text, ('x')::text::uuid, a::uuid::text, \
                     case when a then 1 end::text, case when a then 1 else b end::text, upper('x')::text, \
                     '1'::pg_catalog.json, '1'::\"json\" from t";
        let expected = ["uuid", "json", "jsonb", "text", "uuid", "a", "text", "b", "upper", "json", "json"];
        assert_eq!(names(query, &["given"; 11]), expected);
    }

    #[test]
    fn stars_keep_the_names_of_their_columns() {
        assert_eq!(names("select 1, *, count(*) from t", &["x", "a", "b", "y"]), ["?column?", "a", "b", "count"]);
        assert_eq!(names("select * from t", &["a", "__alias_b"]), ["a", "b"]);
        assert_eq!(names("select 1 union all select 2", &["x"]), ["?column?"]);
    }

    #[test]
    fn twins_in_queries_of_statements_become_distinct() {
        assert_eq!(rewritten("insert into t select 1, 1"), "INSERT INTO t SELECT 1, 1 AS \"twin 1\"");
        let nested = rewritten("with x(a, b) as (select 1, 1) select a from x, (select 2, 2) y(c, d)");
        assert!(nested.contains("1, 1 AS \"twin 1\"") && nested.contains("2, 2 AS \"twin 1\""), "{nested}");
        assert_eq!(rewritten("create view v as select 1, 1"), "CREATE VIEW v AS SELECT 1, 1");
    }

    #[test]
    fn twins_become_distinct() {
        let parsed = Parser::default().parse("select 1 a, 2 a, 3, 3").unwrap().remove(0);
        assert_eq!(parsed.statement.to_string(), "SELECT 1 AS a, 2 AS \"twin 1\", 3, 3 AS \"twin 3\"");
        assert_eq!(parsed.names.name(1, 4, "twin 1"), "a");
        assert_eq!(parsed.names.name(3, 4, "twin 3"), "?column?");
        let casts = Parser::default().parse("select 1::real, 1::float8, (a + 1::int)::text, a + 1").unwrap().remove(0);
        let distinct = casts.statement.to_string();
        assert!(distinct.contains("\"twin 1\"") && distinct.contains("\"twin 3\""), "{distinct}");
        assert_eq!(casts.names.name(1, 4, "twin 1"), "float8");
    }
}
