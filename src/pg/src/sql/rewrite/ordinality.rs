//! `WITH ORDINALITY`, which numbers the rows of functions that return sets.
//!
//! `unnest(a) WITH ORDINALITY AS t(x, n)` is `unnest(a, generate_series(1, cardinality(a))) AS t(x, n)`. The array is
//! evaluated twice, so one of a function such as `random` is left as it is, and refused.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    DataType, Expr, FunctionArg, FunctionArguments, Ident, ObjectName, TableAlias, TableAliasColumnDef, TableFactor,
    Value, visit_expressions,
};

use crate::sql::rewrite::{call, cast, from_functions, function_syntax, is_named};

/// Functions of other values at each call.
const VOLATILE: [&str; 6] = ["random", "gen_random_uuid", "clock_timestamp", "timeofday", "nextval", "setval"];

/// Returns the table of a call WITH ORDINALITY as an `unnest` of arrays, the last of which has the numbers of rows; `None`
/// of other tables, and where the arrays are not known.
pub(crate) fn numbered(table: &TableFactor) -> Option<TableFactor> {
    let (mut arrays, lengths, name, alias) = match table {
        TableFactor::UNNEST { alias, array_exprs, with_ordinality: true, .. } => {
            (array_exprs.clone(), cardinalities(array_exprs), "unnest".to_owned(), alias)
        }
        TableFactor::Table { name, args: Some(arguments), alias, with_ordinality: true, .. }
            if arguments.settings.is_none() =>
        {
            let (arrays, lengths, name) = of_call(name, &arguments.args)?;
            (arrays, lengths, name, alias)
        }
        TableFactor::Function { name, args, alias, with_ordinality: true, .. } => {
            let (arrays, lengths, name) = of_call(name, args)?;
            (arrays, lengths, name, alias)
        }
        _ => return None,
    };
    if arrays.iter().any(is_volatile) {
        return None;
    }
    let count = arrays.len();
    let alias = numbered_alias(alias.as_ref(), &name, count)?;
    let last = match <[Expr; 1]>::try_from(lengths) {
        Ok([length]) => length,
        Err(lengths) => call("greatest", lengths),
    };
    arrays.push(call("generate_series", vec![number("1"), last]));
    Some(TableFactor::UNNEST {
        alias: Some(alias),
        array_exprs: arrays,
        with_offset: false,
        with_offset_alias: None,
        with_ordinality: false,
    })
}

/// Returns the arrays of a function that returns a set, their lengths and its name.
fn of_call(name: &ObjectName, arguments: &[FunctionArg]) -> Option<(Vec<Expr>, Vec<Expr>, String)> {
    let values = arguments.iter().map(function_syntax::value).collect::<Option<Vec<_>>>()?;
    let function = from_functions::name_of(name)?;
    let array = match function.as_str() {
        "unnest" if !values.is_empty() => {
            let lengths = cardinalities(&values);
            return Some((values, lengths, function));
        }
        "generate_series" => call("generate_series", values),
        "generate_subscripts" => super::positions(&values)?,
        _ => call(function_syntax::set(name)?.1, values),
    };
    let length = cast(call("array_length", vec![array.clone()]), DataType::BigInt(None));
    Some((vec![array], vec![length], function))
}

/// Returns how many values each array has in all of its dimensions.
fn cardinalities(arrays: &[Expr]) -> Vec<Expr> {
    let of = |array: &Expr| cast(call("cardinality", vec![array.clone()]), DataType::BigInt(None));
    arrays.iter().map(of).collect()
}

/// Returns the alias with a name for each column; `None` if the columns of several arrays have none.
fn numbered_alias(alias: Option<&TableAlias>, function: &str, arrays: usize) -> Option<TableAlias> {
    let column = |name: Ident| TableAliasColumnDef { name, data_type: None };
    let mut alias = alias.cloned().unwrap_or_else(|| TableAlias {
        explicit: true,
        name: Ident::with_quote('"', function),
        columns: Vec::new(),
        at: None,
    });
    if alias.columns.is_empty() && arrays == 1 {
        alias.columns.push(column(alias.name.clone()));
    }
    if alias.columns.len() == arrays {
        alias.columns.push(column(Ident::with_quote('"', "ordinality")));
    }
    (alias.columns.len() > arrays).then_some(alias)
}

fn is_volatile(array: &Expr) -> bool {
    let found = visit_expressions(array, |part| match part {
        Expr::Function(function)
            if VOLATILE.iter().any(|name| is_named(function, name))
                || matches!(function.args, FunctionArguments::Subquery(_)) =>
        {
            ControlFlow::Break(())
        }
        Expr::Subquery(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

fn number(digits: &str) -> Expr {
    Expr::value(Value::Number(digits.into(), false))
}
