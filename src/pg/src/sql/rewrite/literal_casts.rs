//! Literals of the types `uuid`, `json`, `jsonb`, `timetz`, `inet` and ranges, which the planner reads otherwise or not:
//! `'…'::uuid`, `CAST(NULL AS json)`, `jsonb '…'`.
//!
//! Their text is read here, as Postgres does before it plans a statement, and each becomes the call of a function of
//! [`literals`]. In statements that keep the types of their columns, such as CREATE VIEW, and in arguments of functions
//! in FROM they stay as they are, and the planner reads those of `uuid` and refuses others.

use std::ops::ControlFlow;

use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    self, CastKind, DataType, DollarQuotedString, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Query,
    SetExpr, TableFactor, TimezoneInfo, TypedString, UnaryOperator, Value, ValueWithSpan, VisitMut, VisitorMut,
};
use datafusion_postgres::pgwire::api::Type;

use crate::decode;
use crate::sql::column_names::fold;
use crate::sql::literals;
use crate::sql::rewrite::{call, is_named};
use crate::wire::error_response::SqlError;

/// Makes calls of the literals of a statement; returns true if there are any. `zone` is that of times and instants that name none.
///
/// # Errors
/// 22P02 and its like if a text is no value of its type.
pub(crate) fn take(statement: &mut Statement, zone: &str) -> Result<bool, SqlError> {
    match statement {
        Statement::Statement(inner) => {
            let inserts = match &**inner {
                ast::Statement::Insert(_) => true,
                ast::Statement::Query(_) | ast::Statement::Update(_) | ast::Statement::Delete(_) => false,
                _ => return Ok(false),
            };
            let mut literals = LiteralCasts { inserts, depth: 0, arguments: 0, found: false, zone };
            match inner.visit(&mut literals) {
                ControlFlow::Break(error) => Err(error),
                ControlFlow::Continue(()) => Ok(literals.found),
            }
        }
        Statement::Explain(explain) => take(&mut explain.statement, zone),
        _ => Ok(false),
    }
}

struct LiteralCasts<'a> {
    /// True if the outermost query is the source of an INSERT.
    inserts: bool,
    /// Queries around the next one.
    depth: usize,
    /// Functions in FROM around the next expression, which take any text.
    arguments: usize,
    found: bool,
    zone: &'a str,
}

impl VisitorMut for LiteralCasts<'_> {
    type Break = SqlError;

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<SqlError> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<SqlError> {
        self.depth -= 1;
        // The rows of an INSERT have the types of its table's columns, each by itself.
        if self.depth == 0 && self.inserts {
            return ControlFlow::Continue(());
        }
        match unify(&mut query.body, self.zone) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn pre_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<SqlError> {
        self.arguments += usize::from(is_function(table));
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<SqlError> {
        self.arguments -= usize::from(is_function(table));
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        if self.arguments > 0 {
            return ControlFlow::Continue(());
        }
        if let Err(error) = write_bounds(expr, self.zone) {
            return ControlFlow::Break(error);
        }
        if let Some(inner) = same_again(expr) {
            *expr = inner;
            return ControlFlow::Continue(());
        }
        let Some((kind, text)) = literal(expr) else { return ControlFlow::Continue(()) };
        match read(&kind, text, self.zone) {
            Ok(read) => {
                *expr = read;
                self.found = true;
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error),
        }
    }
}

/// Writes numbers that are bounds of a `numrange` as texts, which keep their digits, and instants that are bounds of a `tstzrange`
/// with their distance from UTC.
fn write_bounds(expr: &mut Expr, zone: &str) -> Result<(), SqlError> {
    let Expr::Function(function) = expr else { return Ok(()) };
    let of_instants = is_named(function, "tstzrange");
    if !of_instants && !is_named(function, "numrange") {
        return Ok(());
    }
    let FunctionArguments::List(list) = &mut function.args else { return Ok(()) };
    // A text by itself is a range.
    if list.args.len() < 2 {
        return Ok(());
    }
    for arg in list.args.iter_mut().take(2) {
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(bound)) = arg else { continue };
        if of_instants {
            if let Some(Some(text)) = untyped(bound) {
                let instant = neuroql::ranges::instant(text, zone)?;
                *bound = Expr::value(Value::SingleQuotedString(instant));
            }
            continue;
        }
        let text = match bound {
            Expr::Value(ValueWithSpan { value: Value::Number(text, _), .. }) => text.clone(),
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
                Expr::Value(ValueWithSpan { value: Value::Number(text, _), .. }) => format!("-{text}"),
                _ => continue,
            },
            _ => continue,
        };
        if text.bytes().all(|letter| letter.is_ascii_digit() || matches!(letter, b'.' | b'-' | b'+' | b'e' | b'E')) {
            *bound = Expr::value(Value::SingleQuotedString(text));
        }
    }
    Ok(())
}

/// Returns true for a function in FROM.
pub(crate) fn is_function(table: &TableFactor) -> bool {
    matches!(
        table,
        TableFactor::Table { args: Some(_), .. }
            | TableFactor::Function { .. }
            | TableFactor::TableFunction { .. }
            | TableFactor::UNNEST { .. }
    )
}

/// Returns the type and the text of a literal; no text for NULL.
fn literal(expr: &Expr) -> Option<(Type, Option<&str>)> {
    match expr {
        Expr::Cast {
            kind: CastKind::Cast | CastKind::DoubleColon,
            expr: inner,
            data_type,
            array: false,
            format: None,
        } => Some((kind_of(data_type)?, constant(inner)?)),
        Expr::TypedString(TypedString { data_type, value, uses_odbc_syntax: false }) => {
            Some((kind_of(data_type)?, text_of(&value.value)?))
        }
        _ => None,
    }
}

/// Returns the type of these literals that a name means.
pub(crate) fn kind_of(data_type: &DataType) -> Option<Type> {
    match data_type {
        DataType::Uuid => Some(Type::UUID),
        DataType::JSON => Some(Type::JSON),
        DataType::JSONB => Some(Type::JSONB),
        DataType::Time(None, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => Some(Type::TIMETZ),
        DataType::Custom(name, modifiers) if modifiers.is_empty() => {
            let parts: Vec<_> = name.0.iter().map(|part| part.as_ident().map(fold)).collect::<Option<_>>()?;
            let name = match parts.as_slice() {
                [name] => name,
                [schema, name] if schema == "pg_catalog" => name,
                _ => return None,
            };
            literals::kinds().find(|kind| kind.name() == name.as_str())
        }
        _ => None,
    }
}

/// Returns the text of a constant that has no type yet, or is cast to text.
fn constant(expr: &Expr) -> Option<Option<&str>> {
    match expr {
        Expr::Cast {
            kind: CastKind::Cast | CastKind::DoubleColon,
            expr: inner,
            data_type: DataType::Text | DataType::Varchar(None) | DataType::CharacterVarying(None),
            array: false,
            format: None,
        } => constant(inner),
        Expr::Nested(inner) => constant(inner),
        _ => untyped(expr),
    }
}

/// Returns the text of a constant that has no type yet.
fn untyped(expr: &Expr) -> Option<Option<&str>> {
    match expr {
        Expr::Nested(inner) => untyped(inner),
        Expr::Value(ValueWithSpan { value, .. }) => text_of(value),
        _ => None,
    }
}

fn text_of(value: &Value) -> Option<Option<&str>> {
    match value {
        Value::Null => Some(None),
        Value::SingleQuotedString(text)
        | Value::EscapedStringLiteral(text)
        | Value::UnicodeStringLiteral(text)
        | Value::DollarQuotedString(DollarQuotedString { value: text, .. }) => Some(Some(text)),
        _ => None,
    }
}

/// Returns the call for a text.
fn read(kind: &Type, text: Option<&str>, zone: &str) -> Result<Expr, SqlError> {
    let value = match text {
        Some(text) => match decode::from_text(kind, text, zone)? {
            ScalarValue::FixedSizeBinary(_, bytes) => bytes.map(|bytes| neuroql::uuid_text(&bytes)),
            value => value.try_as_str().flatten().map(str::to_owned),
        },
        None => None,
    };
    let argument = value.map_or(Value::Null, Value::SingleQuotedString);
    Ok(call(&literals::function_name(kind), vec![Expr::value(argument)]))
}

/// Returns the type of a literal that is a call already.
fn taken(expr: &Expr) -> Option<Type> {
    match expr {
        Expr::Nested(inner) => taken(inner),
        Expr::Function(function) => {
            let FunctionArguments::List(list) = &function.args else { return None };
            let [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(_)))] = list.args.as_slice() else {
                return None;
            };
            literals::kinds().find(|kind| is_named(function, &literals::function_name(kind)))
        }
        _ => None,
    }
}

/// Takes the literal out of a cast to the type that it has.
fn same_again(expr: &mut Expr) -> Option<Expr> {
    let Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr: inner, data_type, array: false, format: None } =
        expr
    else {
        return None;
    };
    let is_same = taken(inner)? == kind_of(data_type)?;
    is_same.then(|| std::mem::replace(inner.as_mut(), Expr::value(Value::Null)))
}

/// Reads NULL and texts without a type in VALUES as literals of the type that others in their column have.
fn unify(body: &mut SetExpr, zone: &str) -> Result<(), SqlError> {
    match body {
        SetExpr::SetOperation { left, right, .. } => {
            unify(left, zone)?;
            unify(right, zone)
        }
        SetExpr::Values(values) => {
            for column in 0..values.rows.first().map_or(0, |row| row.content.len()) {
                let mut cells = values.rows.iter().filter_map(|row| row.content.get(column));
                let Some(kind) = cells.find_map(taken) else { continue };
                for cell in values.rows.iter_mut().filter_map(|row| row.content.get_mut(column)) {
                    let Some(text) = untyped(cell) else { continue };
                    *cell = read(&kind, text, zone)?;
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::sql::parse::Parser;

    use super::*;

    const UUID: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";

    /// Returns a statement with its literals as calls, and true if there are any.
    fn rewritten(query: &str) -> Result<(String, bool), SqlError> {
        let mut statement = Parser::default().parse(query)?.remove(0).statement;
        let found = take(&mut statement, "UTC")?;
        Ok((crate::sql::rewrite::without_names(&statement.to_string()), found))
    }

    #[test]
    fn literals_become_calls() {
        for (written, read) in [
            (format!("'{}'::uuid", UUID.to_uppercase()), format!("neuroql_literal_uuid('{UUID}')")),
            (format!("CAST(('{{{UUID}}}') AS uuid)"), format!("neuroql_literal_uuid('{UUID}')")),
            (format!("uuid '{}'", UUID.replace('-', "")), format!("neuroql_literal_uuid('{UUID}')")),
            (format!("'{UUID}'::text::pg_catalog.uuid"), format!("neuroql_literal_uuid('{UUID}')")),
            (format!("E'{UUID}'::\"uuid\"::uuid"), format!("neuroql_literal_uuid('{UUID}')")),
            ("CAST(NULL AS uuid)".into(), "neuroql_literal_uuid(NULL)".into()),
            ("$$[1, 2 ]$$::json".into(), "neuroql_literal_json('[1, 2 ]')".into()),
            ("json '1'::text".into(), "neuroql_literal_json('1')::TEXT".into()),
            (
                "numrange(1.50, -2.0, '[]') = '[1.5,1.5]'::numrange".into(),
                "numrange('1.50', '-2.0', '[]') = neuroql_literal_numrange('[1.5,1.5]')".into(),
            ),
            ("'[1,2]'::int4range".into(), "neuroql_literal_int4range('[1,3)')".into()),
            ("'10:00'::timetz".into(), "neuroql_literal_timetz('10:00:00+00')".into()),
            ("time with time zone '10:00+02'".into(), "neuroql_literal_timetz('10:00:00+02')".into()),
            ("inet '10/8'".into(), "neuroql_literal_inet('10.0.0.0/8')".into()),
            ("'224'::cidr".into(), "neuroql_literal_cidr('224.0.0.0/4')".into()),
            ("'08002b010203'::macaddr".into(), "neuroql_literal_macaddr('08:00:2b:01:02:03')".into()),
            (
                "tstzrange('2000-01-01 10:00', NULL) @> NULL::uuid".into(),
                "tstzrange('2000-01-01 10:00:00+00', NULL) @> neuroql_literal_uuid(NULL)".into(),
            ),
            ("jsonb '{\"b\":1,\"a\":2}'".into(), "neuroql_literal_jsonb('{\"a\": 2, \"b\": 1}')".into()),
        ] {
            let (found, any) = rewritten(&format!("SELECT {written}")).unwrap();
            assert!(any, "{written}");
            assert_eq!(found, format!("SELECT {read}"), "{written}");
        }
    }

    #[test]
    fn other_casts_stay() {
        for query in [
            "SELECT a::UUID FROM t",
            "SELECT 1::JSON",
            "SELECT '1'::VARCHAR(3)::JSON",
            "SELECT '{}'::UUID[]",
            "SELECT upper('x')::JSONB",
            "SELECT 'a'::TEXT, DATE '2020-01-01'",
            "CREATE VIEW v AS SELECT '1'::JSON",
            "CREATE TABLE t AS SELECT 'x'::UUID AS a",
        ] {
            assert_eq!(rewritten(query).unwrap(), (query.to_owned(), false));
        }
        assert!(rewritten("SELECT * FROM search('toy', '1'::JSON) AS s").is_err());
        // A value of one type as another.
        let (found, _) = rewritten("SELECT '1'::json::jsonb").unwrap();
        assert_eq!(found, "SELECT neuroql_literal_json('1')::JSONB");
    }

    #[test]
    fn texts_that_are_no_values_are_refused() {
        for (query, message) in [
            ("SELECT 'x'::uuid", "invalid input syntax for type uuid: \"x\""),
            ("SELECT 1 WHERE json '{x' IS NULL", "invalid input syntax for type json"),
            ("INSERT INTO t VALUES (''::jsonb)", "invalid input syntax for type json"),
        ] {
            let error = rewritten(query).unwrap_err();
            assert_eq!((&*error.sqlstate, error.message.as_str()), ("22P02", message), "{query}");
        }
    }

    #[test]
    fn rows_have_one_type_in_a_column() {
        for (written, read) in [
            (
                "VALUES (NULL, '1'), ('1'::json, '2')",
                "VALUES (neuroql_literal_json(NULL), '1'), (neuroql_literal_json('1'), '2')",
            ),
            ("INSERT INTO t VALUES ('1'::json), ('x')", "INSERT INTO t VALUES (neuroql_literal_json('1')), ('x')"),
        ] {
            assert_eq!(rewritten(written).unwrap().0, read);
        }
        assert_eq!(rewritten("VALUES ('1'::json), ('x')").unwrap_err().sqlstate, "22P02");
    }
}
