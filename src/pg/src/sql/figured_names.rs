//! Names of expressions as PostgreSQL's `FigureColname` gives them.

use datafusion::sql::sqlparser::ast::{self, Expr, SelectItem, SetExpr};

use crate::catalog::object_functions::WRITES;
use crate::catalog::objects::ObjectKind;
use crate::sql::column_names::fold;

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
    figured(expr).map(|(name, _)| name)
}

/// How far an expression around another one keeps its name.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Strength {
    /// A cast and a CASE have another name then.
    Weak,
    Strong,
}

fn figured(expr: &Expr) -> Option<(String, Strength)> {
    use Strength::{Strong, Weak};
    let strong = |name: &str| Some((name.to_owned(), Strong));
    let cast = |inner: &Expr, to: String| match figured(inner) {
        Some((name, Strong)) => (name, Strong),
        _ => (to, Weak),
    };
    match expr {
        Expr::Identifier(name) => Some((fold(name), Strong)),
        Expr::CompoundIdentifier(parts) => Some((fold(parts.last()?), Strong)),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => figured(inner),
        Expr::CompoundFieldAccess { root, access_chain } => {
            let field = access_chain.iter().rev().find_map(|access| match access {
                ast::AccessExpr::Dot(Expr::Identifier(name)) => Some((fold(name), Strong)),
                _ => None,
            });
            field.or_else(|| figured(root))
        }
        Expr::Function(function) => {
            let name = fold(function.name.0.last()?.as_ident()?);
            Some(match only_argument(function) {
                // A function that replaces a cast is named as the cast.
                Some(argument) if name.starts_with(WRITES) => cast(argument, "text".into()),
                Some(argument) if ObjectKind::of(&name).is_some() => cast(argument, name),
                None if name == "get_field" => (field_name(function).unwrap_or(name), Strong),
                _ => (name, Strong),
            })
        }
        Expr::Cast { expr, data_type, .. } => Some(cast(expr, type_name(data_type))),
        Expr::TypedString(typed) => Some((type_name(&typed.data_type), Weak)),
        Expr::Interval(_) => Some(("interval".into(), Weak)),
        Expr::Case { else_result, .. } => match else_result.as_deref().and_then(figured) {
            Some((name, Strong)) => Some((name, Strong)),
            _ => Some(("case".into(), Weak)),
        },
        Expr::Array(_) => strong("array"),
        Expr::Tuple(_) => strong("row"),
        Expr::Exists { negated: false, .. } => strong("exists"),
        Expr::Extract { .. } => strong("extract"),
        Expr::Substring { shorthand, .. } => strong(if *shorthand { "substr" } else { "substring" }),
        Expr::Trim { trim_where, .. } => strong(match trim_where {
            Some(ast::TrimWhereField::Leading) => "ltrim",
            Some(ast::TrimWhereField::Trailing) => "rtrim",
            Some(ast::TrimWhereField::Both) | None => "btrim",
        }),
        Expr::Position { .. } => strong("position"),
        Expr::Overlay { .. } => strong("overlay"),
        Expr::Ceil { .. } => strong("ceil"),
        Expr::Floor { .. } => strong("floor"),
        Expr::AtTimeZone { .. } => strong("timezone"),
        Expr::Subquery(query) => {
            let mut body = query.body.as_ref();
            loop {
                body = match body {
                    SetExpr::Select(select) => return Some((select.projection.first().and_then(item_name)?, Strong)),
                    SetExpr::SetOperation { left, .. } => left,
                    SetExpr::Query(inner) => &inner.body,
                    SetExpr::Values(_) => return strong("column1"),
                    _ => return None,
                }
            }
        }
        _ => None,
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

pub(super) fn column_name(expr: &Expr) -> Option<String> {
    matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)).then(|| expr_name(expr)).flatten()
}

fn type_name(data_type: &ast::DataType) -> String {
    match data_type {
        ast::DataType::Custom(name, _) => {
            if let Some(last) = name.0.last().and_then(|part| part.as_ident()) {
                return fold(last);
            }
        }
        ast::DataType::Array(
            ast::ArrayElemTypeDef::SquareBracket(item, _) | ast::ArrayElemTypeDef::AngleBracket(item),
        ) => return type_name(item),
        _ => {}
    }
    let text = data_type.to_string().to_lowercase();
    let text = text.split('(').next().unwrap_or(&text).trim();
    match text.strip_prefix("pg_catalog.").unwrap_or(text) {
        "int" | "integer" => "int4",
        "bigint" => "int8",
        "smallint" => "int2",
        "real" => "float4",
        "decimal" | "dec" => "numeric",
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
    fn casts_are_named_after_columns_and_types() {
        let query = "select 'x'::uuid, json '1', null::jsonb, '1'::json::text, ('x')::text::uuid, a::uuid::text, \
                     case when a then 1 end::text, case when a then 1 else b end::text, upper('x')::text, \
                     '1'::pg_catalog.json, '1'::\"json\" from t";
        let expected = ["uuid", "json", "jsonb", "text", "uuid", "a", "text", "b", "upper", "json", "json"];
        assert_eq!(names(query, &["given"; 11]), expected);
    }
}
