//! Functions with a syntax of their own, and those that return sets, as calls that the planner reads.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName,
    TableFactor, TimezoneInfo, UnaryOperator, Value, ValueWithSpan,
};

use crate::sql::rewrite::{call, cast, is_named, json_sets, positions};

/// Functions that return sets, and those of the same rows as arrays.
const SETS: [(&str, &str); 3] = [
    ("regexp_matches", "pg_regexp_matches"),
    ("regexp_split_to_table", "regexp_split_to_array"),
    ("string_to_table", "string_to_array"),
];

/// The function of the positions of an array.
const SUBSCRIPTS: &str = "generate_subscripts";

/// Returns the name of a function that returns a set, and that of the function of the array.
pub(super) fn set(function: &ObjectName) -> Option<(&'static str, &'static str)> {
    let name = &function.0.last()?.as_ident()?.value;
    SETS.into_iter().find(|(set, _)| name.eq_ignore_ascii_case(set))
}

/// Returns the table of a function that returns a set as `unnest` of an array, and the name of its column if it has no other.
pub(crate) fn unnested(table: &TableFactor) -> Option<(TableFactor, &'static str)> {
    let (name, arguments, alias) = match table {
        TableFactor::Table { name, args: Some(arguments), alias, with_ordinality: false, .. }
            if arguments.settings.is_none() =>
        {
            (name, &arguments.args, alias)
        }
        TableFactor::Function { name, args, alias, with_ordinality: false, .. } => (name, args, alias),
        _ => return None,
    };
    let arguments = arguments.iter().map(value).collect::<Option<Vec<_>>>()?;
    let (set, array) = match name.0.last()?.as_ident()? {
        name if name.value.eq_ignore_ascii_case(SUBSCRIPTS) => (SUBSCRIPTS, positions(&arguments)?),
        _ => set(name).map(|(set, array)| (set, call(array, arguments)))?,
    };
    let unnest = TableFactor::UNNEST {
        alias: alias.clone(),
        array_exprs: vec![array],
        with_offset: false,
        with_offset_alias: None,
        with_ordinality: false,
    };
    Some((unnest, set))
}

/// Returns the value of an argument without a name.
pub(super) fn value(argument: &FunctionArg) -> Option<Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Some(value.clone()),
        _ => None,
    }
}

/// Rewrites an expression in place.
pub(crate) fn rewrite(expr: &mut Expr) {
    let taken = |expr: &mut Expr| std::mem::replace(expr, Expr::value(Value::Null));
    let text = |text: &str| Expr::value(Value::SingleQuotedString(text.to_owned()));
    let rewritten = match expr {
        Expr::Value(ValueWithSpan { value, .. }) => {
            if let Value::UnicodeStringLiteral(letters) = value {
                let letters = std::mem::take(letters);
                // Quotation marks in a text that is written out again are read alike by everybody in this form only.
                *value = match letters.contains('\'') {
                    true => Value::EscapedStringLiteral(letters),
                    false => Value::SingleQuotedString(letters),
                };
            }
            return;
        }
        Expr::IsNormalized { expr: of, form, negated } => {
            let form = form.as_ref().map_or("NFC".to_owned(), ToString::to_string);
            let found = call("is_normalized", vec![taken(of), text(&form)]);
            match negated {
                true => Expr::Nested(Box::new(Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(found) })),
                false => found,
            }
        }
        Expr::BinaryOp { left, op: BinaryOperator::Overlaps, right } => {
            let (Some([start, end]), Some([other, last])) = (pair(left), pair(right)) else { return };
            call("overlaps", vec![start, end, other, last])
        }
        Expr::Function(function) => match called(function) {
            Some(rewritten) => rewritten,
            None => return,
        },
        _ => return,
    };
    *expr = rewritten;
}

/// Returns the two values of `(a, b)` or `ROW(a, b)`.
fn pair(row: &Expr) -> Option<[Expr; 2]> {
    match row {
        Expr::Tuple(values) => <[Expr; 2]>::try_from(values.clone()).ok(),
        Expr::Function(function) if is_named(function, "row") => {
            let FunctionArguments::List(list) = &function.args else { return None };
            let values = list.args.iter().map(value).collect::<Option<Vec<_>>>()?;
            <[Expr; 2]>::try_from(values).ok()
        }
        _ => None,
    }
}

/// Returns what a call becomes; `None` if it stays or was changed in place.
fn called(function: &mut Function) -> Option<Expr> {
    if function.over.is_some() || function.filter.is_some() {
        return None;
    }
    let is_quoted = function.name.0.last().and_then(|part| part.as_ident()).is_some_and(|it| it.quote_style.is_some());
    let has_no_list = matches!(function.args, FunctionArguments::None);
    for (name, to) in [
        ("localtimestamp", local_timestamp as fn(Option<u64>) -> DataType),
        ("localtime", |places| DataType::Time(places, TimezoneInfo::None)),
    ] {
        if is_named(function, name) && !is_quoted {
            let places = if has_no_list { None } else { Some(places(function)?) };
            return Some(cast(call("now", Vec::new()), to(places)));
        }
    }
    if is_named(function, "transaction_timestamp") || is_named(function, "statement_timestamp") {
        function.name = ObjectName::from(vec![Ident::new("now")]);
        return None;
    }
    if is_named(function, "normalize") {
        normalized(function);
        return None;
    }
    if let Some(rows) = json_sets::called(function) {
        return Some(rows);
    }
    let FunctionArguments::List(list) = &function.args else { return None };
    if is_named(function, SUBSCRIPTS) {
        let arguments = list.args.iter().map(value).collect::<Option<Vec<_>>>()?;
        return Some(call("unnest", vec![positions(&arguments)?]));
    }
    let (_, array) = set(&function.name)?;
    let arguments = list.args.iter().map(value).collect::<Option<Vec<_>>>()?;
    Some(call("unnest", vec![call(array, arguments)]))
}

fn local_timestamp(places: Option<u64>) -> DataType {
    DataType::Timestamp(places, TimezoneInfo::None)
}

/// Returns the one argument of `localtimestamp(3)`.
fn places(function: &Function) -> Option<u64> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let [
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(ValueWithSpan {
            value: Value::Number(places, _), ..
        }))),
    ] = list.args.as_slice()
    else {
        return None;
    };
    places.parse().ok()
}

/// Makes a text of the form in `normalize(text, NFC)`.
fn normalized(function: &mut Function) {
    let FunctionArguments::List(list) = &mut function.args else { return };
    if let [_, FunctionArg::Unnamed(FunctionArgExpr::Expr(form))] = list.args.as_mut_slice()
        && let Expr::Identifier(name) = form
        && name.quote_style.is_none()
        && ["NFC", "NFD", "NFKC", "NFKD"].iter().any(|known| name.value.eq_ignore_ascii_case(known))
    {
        let name = name.value.to_ascii_uppercase();
        *form = Expr::value(Value::SingleQuotedString(name));
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::parser::Parser;
    use neuroql::PostgresDialect;

    use super::*;

    fn rewritten(text: &str) -> String {
        let mut expr = Parser::new(&PostgresDialect).try_with_sql(text).unwrap().parse_expr().unwrap();
        rewrite(&mut expr);
        expr.to_string()
    }

    #[test]
    fn calls_are_read() {
        for (written, read) in [
            ("U&'d\\0061t'", "'dat'"),
            ("a IS NORMALIZED", "is_normalized(a, 'NFC')"),
            ("a IS NOT NFKD NORMALIZED", "(NOT is_normalized(a, 'NFKD'))"),
            ("(a, b) OVERLAPS (c, d)", "overlaps(a, b, c, d)"),
            ("normalize(a, nfd)", "normalize(a, 'NFD')"),
            ("normalize(a, \"nfd\")", "normalize(a, \"nfd\")"),
            ("localtimestamp", "CAST(now() AS TIMESTAMP)"),
            ("localtimestamp(3)", "CAST(now() AS TIMESTAMP(3))"),
            ("localtime", "CAST(now() AS TIME)"),
            ("statement_timestamp()", "now()"),
            ("regexp_split_to_table(a, 'b')", "unnest(regexp_split_to_array(a, 'b'))"),
            ("regexp_matches(a, 'b', 'g')", "unnest(pg_regexp_matches(a, 'b', 'g'))"),
            ("generate_subscripts(a, 2)", "unnest(range(1, CAST(array_length(a, 2) AS BIGINT) + 1))"),
            ("generate_subscripts(a, 1, true)", "unnest(range(CAST(array_length(a, 1) AS BIGINT), 0, -1))"),
            ("generate_subscripts(i.indkey, 1)", "unnest(range(0, CAST(array_length(i.indkey) AS BIGINT)))"),
        ] {
            assert_eq!(rewritten(written), read, "{written}");
        }
    }
}
