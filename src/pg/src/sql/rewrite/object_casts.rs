//! Casts to `regclass` and its kin become functions, which know the catalog's objects.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DataType, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Value, ValueWithSpan, VisitMut,
    visit_expressions_mut,
};
use datafusion_postgres::pgwire::api::Type;

use neuroql_access::TEMPORARY;

use crate::catalog::object_functions::WRITES;
use crate::catalog::objects::ObjectKind;
use crate::sql::column_names::fold;
use crate::sql::rewrite::{call, is_named, sequences};

/// Rewrites casts; returns true if there are names to look up or to write.
pub(crate) fn rewrite(tree: &mut impl VisitMut) -> bool {
    sequences::take_casts(tree);
    let mut found = false;
    let _ = visit_expressions_mut(tree, |expr| {
        match expr {
            Expr::Cast { expr: inner, data_type, format: None, array: false, .. } => {
                if let Some(name) = object_type(data_type) {
                    *expr = call(&name, vec![take(inner)]);
                    found = true;
                } else if is_text(data_type)
                    && let Expr::Function(function) = inner.as_ref()
                    && let Some(name) = function.name.0.last().and_then(|part| part.as_ident()).map(fold)
                    && let Some(kind) = written(&name)
                {
                    let writer = format!("{WRITES}{}", kind.wire().name());
                    *expr = call(&writer, vec![take(inner)]);
                }
            }
            Expr::Function(function) => {
                let looks_up = [
                    "to_regclass",
                    "to_regproc",
                    "to_regprocedure",
                    "to_regtype",
                    "to_regnamespace",
                    "to_regrole",
                    "obj_description",
                    "col_description",
                    "pg_get_indexdef",
                    "pg_get_constraintdef",
                    "pg_get_viewdef",
                    "pg_table_is_visible",
                ];
                found |= looks_up.iter().any(|name| is_named(function, name));
                if is_named(function, "pg_typeof") {
                    type_of_literal(function);
                }
                if is_named(function, "pg_my_temp_schema") {
                    let name = Expr::value(Value::SingleQuotedString(TEMPORARY.into()));
                    let none = Expr::value(Value::Number("0".into(), false));
                    *expr = call("coalesce", vec![call("to_regnamespace", vec![name]), none]);
                    found = true;
                }
            }
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
    found
}

fn take(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, Expr::value(Value::Null))
}

/// Returns the name of a type whose values name objects.
fn object_type(data_type: &DataType) -> Option<String> {
    let name = match data_type {
        DataType::Regclass => "regclass".into(),
        DataType::Custom(name, modifiers) if modifiers.is_empty() => {
            let parts: Vec<_> = name.0.iter().map(|part| part.as_ident().map(fold)).collect::<Option<_>>()?;
            match parts.as_slice() {
                [name] => name.clone(),
                [schema, name] if schema == "pg_catalog" => name.clone(),
                _ => return None,
            }
        }
        _ => return None,
    };
    ObjectKind::of(&name).map(|_| name)
}

/// Returns the kind of objects that a function's values name.
fn written(function: &str) -> Option<ObjectKind> {
    match function {
        "pg_typeof" => Some(ObjectKind::Type),
        name => ObjectKind::of(name.strip_prefix("to_").unwrap_or(name)),
    }
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Text | DataType::Varchar(None) | DataType::CharacterVarying(None) | DataType::String(None) => true,
        DataType::Custom(name, _) => {
            matches!(name.to_string().as_str(), "pg_catalog.text" | "name" | "pg_catalog.name")
        }
        _ => false,
    }
}

/// Replaces `pg_typeof` of a literal by its type, since the planner's is another: numbers in the text of a statement
/// are `integer` if they are small enough, and texts have no type yet.
fn type_of_literal(function: &mut datafusion::sql::sqlparser::ast::Function) {
    let FunctionArguments::List(list) = &mut function.args else { return };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))] = list.args.as_mut_slice() else { return };
    let kind = match argument {
        Expr::Value(ValueWithSpan { value: Value::Number(number, _), .. }) => match number.parse::<i64>() {
            Ok(small) if i32::try_from(small).is_ok() => Type::INT4,
            Ok(_) => Type::INT8,
            Err(_) => Type::NUMERIC,
        },
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(_) | Value::Null, .. }) => Type::UNKNOWN,
        _ => return,
    };
    function.name = datafusion::sql::sqlparser::ast::ObjectName::from(vec!["regtype".into()]);
    *argument = Expr::value(Value::Number(kind.oid().to_string(), false));
}

/// Columns of the catalog that name functions.
const FUNCTION_COLUMNS: [&str; 17] = [
    "typinput",
    "typoutput",
    "typreceive",
    "typsend",
    "typmodin",
    "typmodout",
    "typanalyze",
    "typsubscript",
    "prosupport",
    "oprcode",
    "oprrest",
    "oprjoin",
    "amhandler",
    "rngcanonical",
    "rngsubdiff",
    "conproc",
    "tmplinit",
];

/// Makes texts that a query of the catalog compares with columns of functions names of functions.
pub(crate) fn rewrite_comparisons(tree: &mut impl VisitMut) {
    let _ = visit_expressions_mut(tree, |expr| {
        match expr {
            Expr::BinaryOp { left, op: BinaryOperator::Eq | BinaryOperator::NotEq, right } => {
                if is_function_column(left) {
                    name_function(right);
                } else if is_function_column(right) {
                    name_function(left);
                }
            }
            // Drivers cast single letters to a type that is `"char"` there.
            Expr::Cast { data_type, .. } if matches!(data_type, DataType::Char(_) | DataType::Character(_)) => {
                *data_type = DataType::Text;
            }
            Expr::InList { expr, list, .. } if is_function_column(expr) => list.iter_mut().for_each(name_function),
            Expr::Cast { expr: inner, data_type, .. } if is_text(data_type) && is_function_column(inner) => {
                *expr = call(&format!("{WRITES}regproc"), vec![take(inner)]);
            }
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
}

fn is_function_column(expr: &Expr) -> bool {
    let name = match expr {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(parts) => parts.last(),
        _ => None,
    };
    name.is_some_and(|name| FUNCTION_COLUMNS.contains(&fold(name).as_str()))
}

fn name_function(expr: &mut Expr) {
    if matches!(expr, Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(_), .. })) {
        *expr = call("regproc", vec![take(expr)]);
    }
}

#[cfg(test)]
mod tests {
    use crate::sql::rewrite::rewritten;

    #[test]
    fn casts_become_functions() {
        for (written, becomes) in [
            ("SELECT 'toy.x'::regclass::oid", "SELECT regclass('toy.x')::oid"),
            ("SELECT a::pg_catalog.regclass", "SELECT regclass(a)"),
            ("SELECT a::regclass::text", "SELECT neuroql_name_of_regclass(regclass(a))"),
            ("SELECT pg_typeof(a)::text", "SELECT neuroql_name_of_regtype(pg_typeof(a))"),
            ("SELECT pg_typeof(1)", "SELECT regtype(23)"),
            ("SELECT pg_typeof(3000000000)::text", "SELECT neuroql_name_of_regtype(regtype(20))"),
            ("SELECT typinput = 'x' FROM t", "SELECT typinput = 'x' FROM t"),
            ("SELECT typinput = 'x' FROM pg_type", "SELECT typinput = regproc('x') FROM pg_catalog.pg_type"),
            (
                "SELECT t.typinput::text FROM pg_type t",
                "SELECT neuroql_name_of_regproc(t.typinput) FROM pg_catalog.pg_type t",
            ),
        ] {
            assert_eq!(rewritten(written), becomes);
        }
    }
}
