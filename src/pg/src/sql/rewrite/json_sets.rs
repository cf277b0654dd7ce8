//! Functions of JSON that return sets: `jsonb_array_elements(a) AS e` is `LATERAL (SELECT CAST(unnest(…) AS JSONB) AS value) e`.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    DataType, Expr, Function, FunctionArg, FunctionArguments, Ident, ObjectName, OrderByKind, Query, SelectItem,
    SetExpr, TableAlias, TableAliasColumnDef, TableFactor, Value, VisitMut, visit_expressions_mut,
};

use crate::sql::column_names::fold;
use crate::sql::rewrite::{call, cast, from_functions, function_syntax};

/// Rows of these functions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rows {
    /// `json_array_elements`: a column `value`.
    Elements,
    /// `json_object_keys`: a column of the name of the function.
    Keys,
    /// `json_each`: columns `key` and `value`.
    Members,
}

/// A function that returns a set.
struct Set {
    name: &'static str,
    rows: Rows,
    /// Type of the column `value`, if that is no text.
    kind: Option<DataType>,
    /// Functions of the arrays of columns.
    arrays: &'static [&'static str],
}

/// Returns the function of a name.
fn set(name: &ObjectName) -> Option<Set> {
    use DataType::{JSON, JSONB};
    let name = from_functions::name_of(name)?;
    let (name, rows, kind, arrays): (_, _, _, &'static [&'static str]) = match name.as_str() {
        "json_array_elements" => ("json_array_elements", Rows::Elements, Some(JSON), &["pg_json_array_elements"]),
        "jsonb_array_elements" => ("jsonb_array_elements", Rows::Elements, Some(JSONB), &["pg_jsonb_array_elements"]),
        "json_array_elements_text" => {
            ("json_array_elements_text", Rows::Elements, None, &["pg_json_array_elements_text"])
        }
        "jsonb_array_elements_text" => {
            ("jsonb_array_elements_text", Rows::Elements, None, &["pg_jsonb_array_elements_text"])
        }
        "json_object_keys" => ("json_object_keys", Rows::Keys, None, &["pg_json_object_keys"]),
        "jsonb_object_keys" => ("jsonb_object_keys", Rows::Keys, None, &["pg_jsonb_object_keys"]),
        "json_each" => ("json_each", Rows::Members, Some(JSON), &["pg_json_object_keys", "pg_json_each"]),
        "jsonb_each" => ("jsonb_each", Rows::Members, Some(JSONB), &["pg_jsonb_object_keys", "pg_jsonb_each"]),
        "json_each_text" => ("json_each_text", Rows::Members, None, &["pg_json_object_keys", "pg_json_each_text"]),
        "jsonb_each_text" => ("jsonb_each_text", Rows::Members, None, &["pg_jsonb_object_keys", "pg_jsonb_each_text"]),
        _ => return None,
    };
    Some(Set { name, rows, kind, arrays })
}

impl Set {
    /// Returns the values of the last column.
    fn values(&self, array: Expr) -> Expr {
        let values = call("unnest", vec![array]);
        match &self.kind {
            Some(kind) => cast(values, kind.clone()),
            None => values,
        }
    }

    /// Returns the columns of the rows of a value.
    fn columns(&self, value: &Expr) -> Vec<Expr> {
        let arrays = self.arrays.iter().map(|array| call(array, vec![value.clone()]));
        let mut columns: Vec<Expr> = arrays.map(|array| call("unnest", vec![array])).collect();
        if let (Some(last), Some(array)) = (columns.last_mut(), self.arrays.last()) {
            *last = self.values(call(array, vec![value.clone()]));
        }
        columns
    }
}

/// Returns a call outside of FROM as its rows; `None` of other calls, and of those whose rows have two columns.
pub(super) fn called(function: &Function) -> Option<Expr> {
    let set = set(&function.name).filter(|set| set.rows != Rows::Members)?;
    let FunctionArguments::List(list) = &function.args else { return None };
    let [value] = list.args.as_slice() else { return None };
    set.columns(&function_syntax::value(value)?).pop()
}

/// Returns the table of a call, with a column `ordinality` if it has WITH ORDINALITY.
pub(crate) fn table(table: &TableFactor) -> Option<TableFactor> {
    let (name, arguments, alias, is_numbered) = of_table(table)?;
    let set = set(name)?;
    let [value] = arguments else { return None };
    let value = function_syntax::value(value)?;
    let lateral = from_functions::has_columns(&value);
    let mut columns = set.columns(&value);
    let mut alias = alias.cloned().unwrap_or_else(|| TableAlias {
        explicit: true,
        name: Ident::with_quote('"', set.name),
        columns: Vec::new(),
        at: None,
    });
    let mut names: Vec<Ident> = match set.rows {
        Rows::Elements => vec![quoted("value")],
        Rows::Keys => vec![alias.name.clone()],
        Rows::Members => vec![quoted("key"), quoted("value")],
    };
    if is_numbered {
        let length = call("array_length", vec![call(set.arrays[0], vec![value])]);
        let first = Expr::value(Value::Number("1".into(), false));
        let numbers = call("generate_series", vec![first, cast(length, DataType::BigInt(None))]);
        columns.push(call("unnest", vec![numbers]));
        names.push(quoted("ordinality"));
    }
    let given = alias.columns.len();
    let column = |name: &Ident| TableAliasColumnDef { name: name.clone(), data_type: None };
    alias.columns.extend(names.iter().skip(given).map(column));
    let subquery = Box::new(query(columns, &names));
    Some(TableFactor::Derived { lateral, subquery, alias: Some(alias), sample: None })
}

fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}

fn query(columns: Vec<Expr>, names: &[Ident]) -> Query {
    let outputs = columns.into_iter().zip(names);
    from_functions::query(
        outputs.map(|(expr, alias)| SelectItem::ExprWithAlias { expr, alias: alias.clone() }).collect(),
    )
}

/// Returns the parts of a call in FROM, and whether it has WITH ORDINALITY.
fn of_table(table: &TableFactor) -> Option<(&ObjectName, &[FunctionArg], Option<&TableAlias>, bool)> {
    match table {
        TableFactor::Table { name, args: Some(arguments), alias, with_ordinality, .. }
            if arguments.settings.is_none() =>
        {
            Some((name, &arguments.args, alias.as_ref(), *with_ordinality))
        }
        TableFactor::Function { name, args, alias, with_ordinality, .. } => {
            Some((name, args, alias.as_ref(), *with_ordinality))
        }
        _ => None,
    }
}

/// Writes the one column of `jsonb_array_elements(a) AS e` where the name of the table stands for it: `e -> 'x'`.
pub(super) fn name_values(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let mut aliases = Vec::new();
    // A function in FROM sees the tables to its left.
    for from in &mut select.from {
        replace(&mut from.relation, &aliases);
        aliases.extend(element(&from.relation));
        for join in &mut from.joins {
            replace(&mut join.relation, &aliases);
            aliases.extend(element(&join.relation));
            replace(&mut join.join_operator, &aliases);
        }
    }
    if aliases.is_empty() {
        return;
    }
    for output in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) = output
            && let Some(alias) = named(expr, &aliases)
        {
            *output = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
    }
    let from = std::mem::take(&mut select.from);
    replace(select, &aliases);
    select.from = from;
    // A name by itself is that of an output, if there is one.
    let outputs: Vec<String> = select.projection.iter().filter_map(output_name).collect();
    let is_output = |key: &Expr| matches!(key, Expr::Identifier(name) if outputs.contains(&fold(name)));
    if let Some(OrderByKind::Expressions(keys)) = query.order_by.as_mut().map(|order| &mut order.kind) {
        let keys = keys.iter_mut().map(|key| &mut key.expr);
        keys.filter(|key| !is_output(key)).for_each(|key| replace(key, &aliases));
    }
}

/// Returns the name of an output that has one.
fn output_name(output: &SelectItem) -> Option<String> {
    match output {
        SelectItem::ExprWithAlias { alias, .. } => Some(fold(alias)),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(fold(name)),
        _ => None,
    }
}

/// Returns the table whose name an expression is.
fn named(expr: &Expr, aliases: &[Ident]) -> Option<Ident> {
    match expr {
        Expr::Identifier(name) => aliases.iter().find(|alias| fold(alias) == fold(name)).cloned(),
        _ => None,
    }
}

fn replace(tree: &mut impl VisitMut, aliases: &[Ident]) {
    if aliases.is_empty() {
        return;
    }
    let _ = visit_expressions_mut(tree, |expr| {
        if let Some(alias) = named(expr, aliases) {
            *expr = Expr::CompoundIdentifier(vec![alias, quoted("value")]);
        }
        ControlFlow::<()>::Continue(())
    });
}

/// Returns the alias of a call whose one column has another name.
fn element(table: &TableFactor) -> Option<Ident> {
    let (name, _, alias, is_numbered) = of_table(table)?;
    let alias = alias.filter(|alias| alias.columns.is_empty() && !is_numbered)?;
    set(name).filter(|set| set.rows == Rows::Elements)?;
    Some(alias.name.clone())
}

#[cfg(test)]
mod tests {
    use crate::sql::parse::Parser;
    use crate::sql::rewrite::without_names;

    #[test]
    fn rows_are_those_of_arrays() {
        for (written, read) in [
            (
                "SELECT * FROM jsonb_array_elements('[1]') e",
                "SELECT * FROM (SELECT CAST(unnest(pg_jsonb_array_elements('[1]')) AS JSONB) AS \"value\") e (\"value\")",
            ),
            (
                "SELECT e -> 'a', e FROM t, jsonb_array_elements(t.j) e WHERE e IS NOT NULL ORDER BY e ->> 'b', e",
                "SELECT e.\"value\" -> 'a', e.\"value\" AS e FROM t, LATERAL (SELECT CAST(unnest(pg_jsonb_array_elements(t.j)) AS \
                 JSONB) AS \"value\") e (\"value\") WHERE e.\"value\" IS NOT NULL ORDER BY e.\"value\" ->> 'b', e",
            ),
            // The argument is a column of the table to the left.
            (
                "SELECT 1 FROM t, json_array_elements_text(e) e",
                "SELECT 1 FROM t, LATERAL (SELECT unnest(pg_json_array_elements_text(e)) AS \"value\") e (\"value\")",
            ),
            (
                "SELECT k FROM jsonb_object_keys('{}') k",
                "SELECT k FROM (SELECT unnest(pg_jsonb_object_keys('{}')) AS k) k (k)",
            ),
            (
                "SELECT a, b FROM json_each_text('{}') AS x(a, b)",
                "SELECT a, b FROM (SELECT unnest(pg_json_object_keys('{}')) AS \"key\", \
                 unnest(pg_json_each_text('{}')) AS \"value\") AS x (a, b)",
            ),
            (
                "SELECT n FROM json_array_elements_text('[]') WITH ORDINALITY x(a, n)",
                "SELECT n FROM (SELECT unnest(pg_json_array_elements_text('[]')) AS \"value\", unnest(generate_series(1, \
                 CAST(array_length(pg_json_array_elements_text('[]')) AS BIGINT))) AS \"ordinality\") x (a, n)",
            ),
        ] {
            let parsed = Parser::default().parse(written).unwrap().remove(0).statement.to_string();
            assert_eq!(without_names(&parsed), without_names(read), "{written}");
        }
    }
}
