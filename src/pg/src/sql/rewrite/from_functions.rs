//! Functions in FROM.
//!
//! In PostgreSQL the one column of a function in FROM has the name of the alias, or of the function if there is none, and
//! a function that returns a value is a table of one row. DataFusion calls the column of a series `value` and that of
//! `unnest` after its text, and has table functions only in FROM.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::LazyLock;

use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, Expr, FunctionArg, FunctionArgExpr, GroupByExpr, Ident, ObjectName, Query, Select,
    SelectFlavor, SelectItem, SetExpr, TableAlias, TableAliasColumnDef, TableFactor, TableFunctionArgs, UnaryOperator,
    Value, ValueWithSpan, VisitMut, VisitorMut, visit_expressions,
};
use neuroql::table_function_documentation;

use crate::catalog::sequences::sequence;
use crate::sql::column_names::fold;
use crate::sql::rewrite::{self, function_syntax, json_sets, ordinality, syntax};
use crate::wire::error_response::SqlError;

/// Table functions of the planner with one column.
const SERIES: [&str; 2] = ["generate_series", "range"];

/// The function of the channels that a session listens to.
pub(crate) const CHANNELS: &str = "pg_listening_channels";

/// Functions that have rows in PostgreSQL and are values here.
const SETS: [&str; 2] = ["_pg_expandarray", "pg_partition_ancestors"];

/// The names of neuroql's table functions, which the planner knows by themselves.
static TABLE_FUNCTIONS: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| table_function_documentation().iter().map(|function| function.name).collect());

/// Names the columns of series and of `unnest`.
pub(crate) fn name_columns(tree: &mut impl VisitMut) {
    let _ = tree.visit(&mut NameColumns);
}

/// Makes rows of the calls of scalar functions in FROM, which `is_scalar` knows by name: `upper('a') AS x` is
/// `(SELECT upper('a')) AS x(x)`. A call whose arguments name columns is LATERAL: they may be those of tables to its left.
///
/// # Errors
/// Returns what the rewrite of syntax in the arguments does.
pub(crate) fn make_rows(statement: &mut Statement, is_scalar: &dyn Fn(&str) -> bool) -> Result<(), SqlError> {
    let mut rows = MakeRows { is_scalar };
    let found = match statement {
        Statement::Statement(inner) => inner.visit(&mut rows),
        Statement::Explain(explain) => return make_rows(&mut explain.statement, is_scalar),
        Statement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => query.visit(&mut rows),
            CopyToSource::Relation(_) => ControlFlow::Continue(()),
        },
        _ => ControlFlow::Continue(()),
    };
    match found {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct NameColumns;

impl VisitorMut for NameColumns {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        json_sets::name_values(query);
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<()> {
        if let Some(rows) = json_sets::table(table) {
            *table = rows;
        }
        if let Some(numbered) = ordinality::numbered(table) {
            *table = numbered;
        }
        if let Some((unnested, function)) = function_syntax::unnested(table) {
            *table = unnested;
            if let TableFactor::UNNEST { alias, .. } = table {
                name_column(alias, function);
            }
        }
        if let Some(unnested) = unnested(table).or_else(|| series(table)).or_else(|| channels(table)) {
            *table = unnested;
        }
        match table {
            TableFactor::Table { name, args: Some(_), alias, .. } | TableFactor::Function { name, alias, .. } => {
                if let Some(function) = name_of(name).filter(|function| SERIES.contains(&function.as_str())) {
                    name_column(alias, &function);
                    *name = ObjectName::from(vec![Ident::new(function)]);
                }
            }
            TableFactor::UNNEST { alias, array_exprs, .. } => {
                array_exprs.iter_mut().for_each(call_of_columns);
                if array_exprs.len() == 1 {
                    name_column(alias, "unnest");
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

struct MakeRows<'a> {
    is_scalar: &'a dyn Fn(&str) -> bool,
}

impl VisitorMut for MakeRows<'_> {
    type Break = SqlError;

    fn post_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<SqlError> {
        match self.row(table) {
            Ok(Some(row)) => *table = row,
            Ok(None) => {}
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    }
}

impl MakeRows<'_> {
    /// Returns the query that has the value of a call as its row.
    fn row(&self, table: &TableFactor) -> Result<Option<TableFactor>, SqlError> {
        let Some((name, arguments, alias)) = call(table) else { return Ok(None) };
        let Some(function) = name_of(name) else { return Ok(None) };
        if TABLE_FUNCTIONS.contains(function.as_str()) || SETS.contains(&function.as_str()) {
            return Ok(None);
        }
        let lateral = arguments.iter().any(names_columns);
        let mut called = rewrite::call_with(name.clone(), arguments.to_vec());
        syntax::rewrite_expression(&mut called)?;
        let is_value = match &called {
            Expr::Function(function) => name_of(&function.name).is_some_and(|name| (self.is_scalar)(&name)),
            // An operator that a function stands for.
            _ => true,
        };
        if !is_value {
            return Ok(None);
        }
        let mut alias = alias.cloned();
        name_column(&mut alias, &function);
        Ok(Some(TableFactor::Derived {
            lateral,
            subquery: Box::new(query(vec![SelectItem::UnnamedExpr(called)])),
            alias,
            sample: None,
        }))
    }
}

/// Gives the one column of a function the name of the table, and both that of the function if there is no other.
fn name_column(alias: &mut Option<TableAlias>, function: &str) {
    let alias = alias.get_or_insert_with(|| TableAlias {
        explicit: true,
        name: Ident::with_quote('"', function),
        columns: Vec::new(),
        at: None,
    });
    if alias.columns.is_empty() {
        alias.columns.push(TableAliasColumnDef { name: alias.name.clone(), data_type: None });
    }
}

/// Returns the parts of a plain call in FROM.
fn call(table: &TableFactor) -> Option<(&ObjectName, &[FunctionArg], Option<&TableAlias>)> {
    match table {
        TableFactor::Table {
            name,
            args: Some(TableFunctionArgs { args, settings: None }),
            alias,
            with_ordinality: false,
            ..
        }
        | TableFactor::Function { name, args, alias, with_ordinality: false, .. } => {
            Some((name, args.as_slice(), alias.as_ref()))
        }
        _ => None,
    }
}

/// Returns `pg_catalog.unnest(array)` and `LATERAL unnest(array)` as the parser returns `unnest(array)`, which sees the tables
/// to its left, too.
fn unnested(table: &TableFactor) -> Option<TableFactor> {
    let (name, arguments, alias) = call(table)?;
    if name_of(name)? != "unnest" || arguments.is_empty() {
        return None;
    }
    let arrays = arguments.iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(array)) => Some(array.clone()),
        _ => None,
    });
    Some(TableFactor::UNNEST {
        alias: alias.cloned(),
        array_exprs: arrays.collect::<Option<_>>()?,
        with_offset: false,
        with_offset_alias: None,
        with_ordinality: false,
    })
}

/// Returns `generate_series(1, $1)` and `generate_series(1, t.a)` as the rows of an array: the planner's table of a series
/// has constant bounds.
fn series(table: &TableFactor) -> Option<TableFactor> {
    let (name, arguments, alias) = call(table)?;
    let name = name_of(name).filter(|name| SERIES.contains(&name.as_str()))?;
    let of_columns = arguments.iter().any(names_columns);
    let mut has_parameters = false;
    let bounds = arguments.iter().map(|argument| {
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(bound)) = argument else { return None };
        match bound {
            Expr::Value(ValueWithSpan { value: Value::Placeholder(_), .. }) => {
                has_parameters = true;
                let bigint = DataType::BigInt(None);
                let (kind, expr) = (CastKind::DoubleColon, Box::new(bound.clone()));
                Some(Expr::Cast { kind, expr, data_type: bigint, array: false, format: None })
            }
            Expr::Cast { expr, data_type, .. } if is_parameter(expr) && sequence::kind(data_type).is_some() => {
                has_parameters = true;
                Some(bound.clone())
            }
            Expr::Value(ValueWithSpan { value: Value::Number(..), .. }) => Some(bound.clone()),
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } if is_number(expr) => Some(bound.clone()),
            _ => of_columns.then(|| bound.clone()),
        }
    });
    let bounds = bounds.collect::<Option<Vec<_>>>()?;
    if of_columns {
        let mut alias = alias.cloned();
        name_column(&mut alias, &name);
        return Some(TableFactor::UNNEST {
            alias,
            array_exprs: vec![rewrite::call(&name, bounds)],
            with_offset: false,
            with_offset_alias: None,
            with_ordinality: false,
        });
    }
    let of_parameters = has_parameters && name == "generate_series";
    of_parameters.then(|| rows_of_array(rewrite::call("generate_series", bounds), "generate_series", alias))
}

/// Returns `pg_listening_channels()` as the rows of the array that it is here.
fn channels(table: &TableFactor) -> Option<TableFactor> {
    let (name, arguments, alias) = call(table)?;
    if name_of(name)? != CHANNELS || !arguments.is_empty() {
        return None;
    }
    Some(rows_of_array(rewrite::call(CHANNELS, Vec::new()), CHANNELS, alias))
}

/// Returns the rows of an array as a table, whose column has the name of its alias, or else this one.
fn rows_of_array(array: Expr, name: &str, alias: Option<&TableAlias>) -> TableFactor {
    let mut alias = alias.cloned();
    name_column(&mut alias, name);
    let subquery = Box::new(query(vec![SelectItem::UnnamedExpr(rewrite::call("unnest", vec![array]))]));
    TableFactor::Derived { lateral: false, subquery, alias, sample: None }
}

fn is_parameter(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(ValueWithSpan { value: Value::Placeholder(_), .. }))
}

fn is_number(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(ValueWithSpan { value: Value::Number(..), .. }))
}

/// Writes `ARRAY[a, b]` of columns as a call: the planner knows no columns of other tables between the brackets.
fn call_of_columns(array: &mut Expr) {
    if let Expr::Array(literal) = array
        && literal.elem.iter().any(has_columns)
        && !literal.elem.iter().any(|element| matches!(element, Expr::Array(_)))
    {
        let elements = std::mem::take(&mut literal.elem);
        *array = rewrite::call("make_array", elements);
    }
}

/// Returns the name of a function without the schema of those that PostgreSQL has.
pub(super) fn name_of(name: &ObjectName) -> Option<String> {
    let function = match name.0.as_slice() {
        [function] => function,
        [schema, function] if schema.as_ident().is_some_and(|schema| fold(schema) == "pg_catalog") => function,
        _ => return None,
    };
    function.as_ident().map(fold)
}

/// Returns true if an argument may name a column.
fn names_columns(argument: &FunctionArg) -> bool {
    let (FunctionArg::Unnamed(value)
    | FunctionArg::Named { arg: value, .. }
    | FunctionArg::ExprNamed { arg: value, .. }) = argument;
    let FunctionArgExpr::Expr(value) = value else { return true };
    has_columns(value)
}

pub(super) fn has_columns(value: &Expr) -> bool {
    let found = visit_expressions(value, |part| match part {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// Returns a query of these outputs.
pub(super) fn query(projection: Vec<SelectItem>) -> Query {
    let select = Select {
        select_token: AttachedToken::empty(),
        optimizer_hints: Vec::new(),
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection,
        exclude: None,
        into: None,
        from: Vec::new(),
        lateral_views: Vec::new(),
        prewhere: None,
        selection: None,
        connect_by: Vec::new(),
        group_by: GroupByExpr::Expressions(Vec::new(), Vec::new()),
        cluster_by: Vec::new(),
        distribute_by: Vec::new(),
        sort_by: Vec::new(),
        having: None,
        named_window: Vec::new(),
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: SelectFlavor::Standard,
    };
    Query {
        with: None,
        body: Box::new(SetExpr::Select(Box::new(select))),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use crate::sql::parse::Parser;
    use crate::sql::rewrite::without_names;

    use super::*;

    fn parsed(query: &str) -> Statement {
        Parser::default().parse(query).unwrap().remove(0).statement
    }

    #[test]
    fn columns_are_named_after_functions() {
        for (written, read) in [
            ("SELECT g FROM generate_series(1, 2) AS g", "SELECT g FROM generate_series(1, 2) AS g (g)"),
            ("SELECT \"G\" FROM range(1, 2) \"G\"", "SELECT \"G\" FROM range(1, 2) \"G\" (\"G\")"),
            (
                "SELECT i FROM generate_series(1, $1) AS i",
                "SELECT i FROM (SELECT unnest(generate_series(1, $1::BIGINT))) AS i (i)",
            ),
            ("SELECT x FROM generate_series(1, 2) AS g(x)", "SELECT x FROM generate_series(1, 2) AS g (x)"),
            (
                "SELECT 1 FROM pg_catalog.GENERATE_SERIES(1, 2)",
                "SELECT 1 FROM generate_series(1, 2) AS \"generate_series\" (\"generate_series\")",
            ),
            (
                "SELECT 1 FROM t WHERE a IN (SELECT g FROM generate_series(1, b) g)",
                "SELECT 1 FROM t WHERE a IN (SELECT g FROM UNNEST(generate_series(1, b)) g (g))",
            ),
            (
                "SELECT a FROM generate_series(1, 2) a JOIN t USING (a)",
                "SELECT a.a AS a FROM generate_series(1, 2) a (a) JOIN t ON a.a = t.a",
            ),
            ("SELECT x FROM unnest(ARRAY[1]) AS x", "SELECT x FROM UNNEST(ARRAY[1]) AS x (x)"),
            ("SELECT unnest FROM unnest(ARRAY[1])", "SELECT unnest FROM UNNEST(ARRAY[1]) AS \"unnest\" (\"unnest\")"),
            ("SELECT 1 FROM pg_catalog.unnest(ARRAY[1]) x", "SELECT 1 FROM UNNEST(ARRAY[1]) x (x)"),
            ("SELECT 1 FROM t, LATERAL unnest(ARRAY[1]) x", "SELECT 1 FROM t, UNNEST(ARRAY[1]) x (x)"),
            ("SELECT 1 FROM t, LATERAL unnest(t.a) x", "SELECT 1 FROM t, UNNEST(t.a) x (x)"),
            ("SELECT 1 FROM t, unnest(ARRAY[t.a, b]) x", "SELECT 1 FROM t, UNNEST(make_array(t.a, b)) x (x)"),
            (
                "SELECT 1 FROM t LEFT JOIN LATERAL pg_catalog.unnest(a, b) AS u(x, y) ON true",
                "SELECT 1 FROM t LEFT JOIN UNNEST(a, b) AS u (x, y) ON true",
            ),
            (
                "SELECT 1 FROM t, generate_series(t.a, $1, 2) x",
                "SELECT 1 FROM t, UNNEST(generate_series(t.a, $1::BIGINT, 2)) x (x)",
            ),
            ("SELECT 1 FROM t, range(0, a) x(y)", "SELECT 1 FROM t, UNNEST(range(0, a)) x (y)"),
            (
                "SELECT 1 FROM t, generate_subscripts(a, 1) x",
                "SELECT 1 FROM t, UNNEST(range(1, CAST(array_length(a, 1) AS BIGINT) + 1)) x (x)",
            ),
            (
                "SELECT 1 FROM t, unnest(t.a) WITH ORDINALITY AS u(x, n)",
                "SELECT 1 FROM t, UNNEST(t.a, generate_series(1, CAST(cardinality(t.a) AS BIGINT))) AS u (x, n)",
            ),
            (
                "SELECT 1 FROM generate_series(5, 6) WITH ORDINALITY",
                "SELECT 1 FROM UNNEST(generate_series(5, 6), generate_series(1, CAST(array_length(generate_series(5, 6)) AS \
                 BIGINT))) AS \"generate_series\" (\"generate_series\", \"ordinality\")",
            ),
            ("SELECT 1 FROM unnest(ARRAY[1], ARRAY[2]) x", "SELECT 1 FROM UNNEST(ARRAY[1], ARRAY[2]) x"),
            ("SELECT 1 FROM top_neurons('toy', 'x') x", "SELECT 1 FROM top_neurons('toy', 'x') x"),
            ("SELECT 1 FROM s.generate_series(1) x", "SELECT 1 FROM s.generate_series(1) x"),
        ] {
            let (once, read) = (parsed(written).to_string(), without_names(read));
            assert_eq!(without_names(&once), read);
            assert_eq!(without_names(&parsed(&once).to_string()), read, "again");
        }
    }

    #[test]
    fn values_are_rows() {
        for (written, read) in [
            ("SELECT * FROM upper('a') AS result", "SELECT * FROM (SELECT upper('a')) AS result (result)"),
            ("SELECT * FROM abs(-3)", "SELECT * FROM (SELECT abs(-3)) AS \"abs\" (\"abs\")"),
            ("SELECT * FROM t, pg_catalog.ABS(1) AS n(x)", "SELECT * FROM t, (SELECT ABS(1)) AS n (x)"),
            ("SELECT * FROM LATERAL abs(1) n", "SELECT * FROM (SELECT abs(1)) n (n)"),
            ("SELECT * FROM mod(5, 3)", "SELECT * FROM (SELECT ((5) % (3))) AS \"mod\" (\"mod\")"),
            (
                "CREATE VIEW v AS SELECT (SELECT a FROM abs(1) a) AS x",
                "CREATE VIEW v AS SELECT (SELECT a FROM (SELECT abs(1)) a (a)) AS x",
            ),
            ("SELECT * FROM t, upper(t.a) u", "SELECT * FROM t, LATERAL (SELECT upper(t.a)) u (u)"),
            ("SELECT * FROM t, LATERAL abs(a) u", "SELECT * FROM t, LATERAL (SELECT abs(a)) u (u)"),
            ("SELECT * FROM no_such(1) u", "SELECT * FROM no_such(1) u"),
            ("SELECT * FROM search('toy', 'x') u", "SELECT * FROM search('toy', 'x') u"),
            ("SELECT * FROM s.abs(1) u", "SELECT * FROM s.abs(1) u"),
            ("SELECT * FROM generate_series(1, 2) g(x)", "SELECT * FROM generate_series(1, 2) g (x)"),
        ] {
            let mut statement = parsed(written);
            make_rows(&mut statement, &|name| matches!(name, "upper" | "abs" | "search")).unwrap();
            assert_eq!(statement.to_string(), read);
        }
    }
}
