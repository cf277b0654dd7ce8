//! Values of `json` and `jsonb` in expressions: casts of them and to them, what has one type of several, equality, and
//! arguments of their functions.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Constraint, DFSchema};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{BinaryExpr, Case, Cast, InList, Placeholder, ScalarFunction};
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::logical_expr::{CreateMemoryTable, DdlStatement, Expr, ExprSchemable, Operator, cast};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{ArrayElemTypeDef, DataType as SqlType};
use datafusion_postgres::pgwire::api::Type;
use neuroql::Refusal;
use neuroql::json::{self, JsonArgument, JsonKind};

use crate::catalog::own_types;
use crate::decode;
use crate::encode::column;
use crate::sql::marks::{is_array, kind_of, lost, of_field};
use crate::sql::range_values;
use crate::sql::rewrite::literal_casts;
use crate::sql::text_types;
use crate::wire::error_response::{SqlError, external};

/// Plans `json`, `jsonb` and other types whose values are texts, and leaves other types to the engine's planner.
#[derive(Debug)]
pub(crate) struct JsonTypes<P> {
    next: P,
}

impl<P> JsonTypes<P> {
    pub(crate) fn before(next: P) -> Self {
        Self { next }
    }
}

impl<P: TypePlanner> TypePlanner for JsonTypes<P> {
    fn plan_type_field(&self, sql_type: &SqlType) -> Result<Option<FieldRef>> {
        if let SqlType::Array(ArrayElemTypeDef::SquareBracket(item, _) | ArrayElemTypeDef::AngleBracket(item)) =
            sql_type
            && self.plan_type_field(item)?.is_some_and(|item| of_field(&item).is_some())
        {
            return Err(Refusal::error("0A000", format!("type {sql_type} is not supported for columns and casts")));
        }
        let kind = literal_casts::kind_of(sql_type);
        if kind == Some(Type::UUID) {
            return self.next.plan_type_field(&SqlType::Uuid);
        }
        match (kind.as_ref().and_then(of_type), kind.as_ref().and_then(text_types::field_of)) {
            (Some(kind), _) => Ok(Some(kind.field(""))),
            (None, Some(field)) => Ok(Some(field)),
            (None, None) => self.next.plan_type_field(sql_type),
        }
    }
}

/// Returns which of the two a type is.
pub(crate) fn of_type(kind: &Type) -> Option<JsonKind> {
    match *kind {
        Type::JSON => Some(JsonKind::Json),
        Type::JSONB => Some(JsonKind::Jsonb),
        _ => None,
    }
}

fn type_of(kind: JsonKind) -> Type {
    match kind {
        JsonKind::Json => Type::JSON,
        JsonKind::Jsonb => Type::JSONB,
    }
}

/// Returns true for a text or NULL that has no type yet.
pub(super) fn is_unknown(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Null | ScalarValue::Utf8(_) | ScalarValue::Utf8View(_), None))
}

/// Returns a text without a type as a value of the type.
fn read(expr: Expr, kind: JsonKind) -> Result<Expr> {
    let text = match &expr {
        Expr::Literal(ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)), None) => text,
        _ => return Ok(expr),
    };
    let value = decode::from_text(&type_of(kind), text, "UTC").map_err(external)?;
    Ok(Expr::Literal(value, Some(FieldMetadata::from(column::mark(&type_of(kind))))))
}

/// Returns an expression that has `json` or `jsonb` in it as one that answers as Postgres does.
///
/// # Errors
/// 22P02 for a text that is no JSON, 42846 for casts that do not exist.
pub(super) fn settled(part: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let json_of = |expr: &Expr| kind_of(expr, schema).as_ref().and_then(of_type);
    match part {
        Expr::Cast(cast) => cast_of(cast, schema),
        Expr::Case(mut case) => {
            let kind = results(&case).find_map(json_of);
            let Some(kind) = kind else { return Ok(Transformed::no(Expr::Case(case))) };
            let thens = case.when_then_expr.iter_mut().map(|(_, then)| then);
            for result in thens.chain(case.else_expr.as_mut()) {
                **result = one_of(std::mem::take(result.as_mut()), kind, "CASE/WHEN", schema)?;
            }
            Ok(Transformed::yes(json::typed(Expr::Case(case), kind)))
        }
        Expr::ScalarFunction(mut call) if call.name() == "coalesce" => match call.args.iter().find_map(json_of) {
            None => Ok(Transformed::no(Expr::ScalarFunction(call))),
            Some(kind) => {
                for arg in &mut call.args {
                    *arg = one_of(std::mem::take(arg), kind, "COALESCE", schema)?;
                }
                Ok(Transformed::yes(json::typed(Expr::ScalarFunction(call), kind)))
            }
        },
        Expr::ScalarFunction(mut call) if json::is_repeated(&call) => Ok(Transformed::yes(call.args.swap_remove(0))),
        // What the functions do with a value depends on its type, whatever became of its column when it runs.
        Expr::ScalarFunction(mut call) if reads_type(&call) => {
            let mut changed = false;
            for arg in call.args.iter_mut().filter(|arg| !matches!(arg, Expr::ScalarFunction(_))) {
                if let Some(kind) = json_of(arg) {
                    *arg = json::typed(std::mem::take(arg), kind);
                    changed = true;
                }
            }
            Ok(Transformed::new_transformed(Expr::ScalarFunction(call), changed))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let kinds = (json_of(&left), json_of(&right));
            let (left_kind, right_kind) = kinds;
            let is_jsonb = match kinds {
                (Some(JsonKind::Jsonb), Some(JsonKind::Jsonb)) => true,
                (Some(JsonKind::Jsonb), None) => is_unknown(&right),
                (None, Some(JsonKind::Jsonb)) => is_unknown(&left),
                _ => false,
            };
            if !is_jsonb {
                return Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })));
            }
            let side = |side: Box<Expr>, kind: Option<JsonKind>| match kind {
                Some(_) => Ok(*side),
                None => read(*side, JsonKind::Jsonb),
            };
            use Operator::{ArrowAt, AtArrow, Eq, IsDistinctFrom, IsNotDistinctFrom, NotEq};
            Ok(match op {
                Eq | NotEq | IsDistinctFrom | IsNotDistinctFrom => {
                    let left = Box::new(json::equality_key(side(left, left_kind)?));
                    let right = Box::new(json::equality_key(side(right, right_kind)?));
                    Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right }))
                }
                AtArrow => Transformed::yes(json::contains(side(left, left_kind)?, side(right, right_kind)?)),
                ArrowAt => Transformed::yes(json::contains(side(right, right_kind)?, side(left, left_kind)?)),
                _ => Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })),
            })
        }
        Expr::InList(InList { expr, list, negated }) if json_of(&expr) == Some(JsonKind::Jsonb) => {
            let is_alike = |item: &Expr| json_of(item) == Some(JsonKind::Jsonb) || is_unknown(item);
            if !list.iter().all(is_alike) {
                return Ok(Transformed::no(Expr::InList(InList { expr, list, negated })));
            }
            let key = |item: Expr| Ok(json::equality_key(read(item, JsonKind::Jsonb)?));
            let list = list.into_iter().map(key).collect::<Result<Vec<_>>>()?;
            let expr = Box::new(json::equality_key(*expr));
            Ok(Transformed::yes(Expr::InList(InList { expr, list, negated })))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Returns true for a function whose value depends on the types of its arguments.
fn reads_type(call: &ScalarFunction) -> bool {
    let is_any = |wanted: &JsonArgument| matches!(wanted, JsonArgument::Any | JsonArgument::Either);
    call.name() == "pg_typeof" || json::arguments_of(call).is_some_and(|(wanted, _)| wanted.iter().any(is_any))
}

/// Returns the results of a CASE.
pub(super) fn results(case: &Case) -> impl Iterator<Item = &Expr> + Clone {
    case.when_then_expr.iter().map(|(_, then)| then.as_ref()).chain(case.else_expr.as_deref())
}

/// Returns a value that stands beside one of the type as a value of it.
fn one_of(value: Expr, kind: JsonKind, place: &str, schema: &DFSchema) -> Result<Expr> {
    match kind_of(&value, schema) {
        Some(found) if found == type_of(kind) => Ok(value),
        Some(found) => {
            let (found, wanted) = (decode::name(&found), kind.name());
            let message = format!("{place} could not convert type {found} to {wanted}");
            Err(external(SqlError::error("42846", message)))
        }
        None if is_unknown(&value) => read(value, kind),
        None if matches!(value, Expr::Placeholder(Placeholder { field: None, .. })) => Ok(value),
        None if value.get_type(schema).is_ok_and(|found| found.is_null()) => Ok(value),
        None => {
            let message = format!("{place} types {} and {} cannot be matched", kind.name(), type_name(&value, schema));
            Err(external(SqlError::error("42804", message)))
        }
    }
}

fn cast_of(cast: Cast, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let from = kind_of(&cast.expr, schema);
    let refused = |from: &str, to: &str| external(SqlError::error("42846", format!("cannot cast type {from} to {to}")));
    if let Some(to) = JsonKind::of(&cast.field) {
        let found = cast.expr.get_type(schema).unwrap_or(DataType::Null);
        let text = match &found {
            DataType::Utf8 | DataType::Null => Some(false),
            found if found.is_string() => Some(true),
            DataType::Dictionary(_, values) if values.is_string() => Some(true),
            _ => None,
        };
        return match from.as_ref().map(|from| (from, of_type(from))) {
            Some((_, Some(from))) if from == to => Ok(Transformed::yes(*cast.expr)),
            Some((_, Some(_))) => Ok(Transformed::yes(json::read(*cast.expr, to))),
            Some((from, None)) => Err(refused(&decode::name(from), to.name())),
            None => match text {
                Some(false) => Ok(Transformed::yes(json::read(*cast.expr, to))),
                Some(true) => {
                    let text = self::cast(*cast.expr, DataType::Utf8);
                    Ok(Transformed::yes(json::read(text, to)))
                }
                None => Err(refused(&type_name(&cast.expr, schema), to.name())),
            },
        };
    }
    let Some(kind) = from.as_ref().and_then(of_type) else { return Ok(Transformed::no(Expr::Cast(cast))) };
    let to = cast.field.data_type();
    let number = match (kind, to) {
        (_, to) if to.is_string() => return Ok(Transformed::no(Expr::Cast(cast))),
        (JsonKind::Jsonb, DataType::Boolean) => return Ok(Transformed::yes(json::boolean(*cast.expr))),
        (JsonKind::Jsonb, DataType::Int16) => "smallint",
        (JsonKind::Jsonb, DataType::Int32) => "integer",
        (JsonKind::Jsonb, DataType::Int64) => "bigint",
        (JsonKind::Jsonb, DataType::Float32) => "real",
        (JsonKind::Jsonb, DataType::Float64) => "double precision",
        (JsonKind::Jsonb, DataType::Decimal128(..)) => "numeric",
        (kind, to) => {
            let name = column::marked(&cast.field).or_else(|| column::pg_type(to));
            let name = name.map_or_else(|| to.to_string(), |name| decode::name(&name));
            return Err(refused(kind.name(), &name));
        }
    };
    let is_integer = to.is_integer();
    let text = json::number_text(*cast.expr, number);
    // A number is rounded as a `numeric` is.
    let text = if is_integer { self::cast(text, DataType::Decimal128(38, 10)) } else { text };
    Ok(Transformed::yes(Expr::Cast(Cast { expr: Box::new(text), field: cast.field })))
}

/// Returns the name of an expression's type, as errors have it.
pub(super) fn type_name(expr: &Expr, schema: &DFSchema) -> String {
    if let Some(kind) = kind_of(expr, schema) {
        return decode::name(&kind);
    }
    match expr {
        _ if is_unknown(expr) => "unknown".into(),
        Expr::Literal(ScalarValue::Int64(Some(number)), None) if i32::try_from(*number).is_ok() => "integer".into(),
        Expr::Literal(ScalarValue::Float64(_), None) => "numeric".into(),
        _ => match expr.get_type(schema) {
            Ok(found) if found.is_null() => "unknown".into(),
            Ok(found) => column::pg_type(&found).map_or_else(|| found.to_string(), |kind| decode::name(&kind)),
            Err(_) => "unknown".into(),
        },
    }
}

/// Returns the types of parameters among the arguments of a call of these functions.
pub(super) fn argument_types(call: &ScalarFunction) -> Option<Vec<Option<FieldRef>>> {
    let (wanted, _) = json::arguments_of(call)?;
    let plain =
        |data_type: DataType| Some(Arc::new(datafusion::arrow::datatypes::Field::new("argument", data_type, true)));
    let field = |place: usize| match wanted.get(place).or(wanted.last())? {
        JsonArgument::Of(kind) => Some(kind.field("argument")),
        JsonArgument::Text | JsonArgument::Key => plain(DataType::Utf8),
        JsonArgument::Texts => plain(DataType::new_list(DataType::Utf8, true)),
        JsonArgument::Boolean => plain(DataType::Boolean),
        JsonArgument::Either | JsonArgument::Any => None,
    };
    Some((0..call.args.len()).map(field).collect())
}

/// Checks the arguments of a call, if it is one of these functions.
///
/// # Errors
/// 42883 and its like if there is no such function or operator, 0A000 for what is not supported.
pub(super) fn check_call(call: &ScalarFunction, schema: &DFSchema) -> Option<Result<(), SqlError>> {
    let (wanted, operator) = json::arguments_of(call)?;
    let polymorphic = matches!(call.name(), "to_json" | "to_jsonb");
    if polymorphic && call.args.first().is_some_and(is_unknown) {
        let message = "could not determine polymorphic type because input has type unknown";
        return Some(Err(SqlError::error("42804", message)));
    }
    for (place, arg) in call.args.iter().enumerate() {
        let kind = kind_of(arg, schema);
        let data_type = arg.get_type(schema).unwrap_or(DataType::Null);
        let is_text = |found: &DataType| found.is_string() || found.is_null();
        let plain = kind.is_none();
        let fits = match wanted.get(place).or(wanted.last()) {
            Some(JsonArgument::Of(wanted)) => {
                kind.as_ref() == Some(&type_of(*wanted)) || plain && (is_unknown(arg) || data_type.is_null())
            }
            Some(JsonArgument::Either) => kind.as_ref().and_then(of_type).is_some(),
            Some(JsonArgument::Text) => plain && is_text(&data_type),
            Some(JsonArgument::Key) => match arg {
                Expr::Literal(ScalarValue::Int64(Some(number)), None) => i32::try_from(*number).is_ok(),
                Expr::Negative(inner) => matches!(**inner, Expr::Literal(ScalarValue::Int64(_), None)),
                _ => plain && (is_text(&data_type) || matches!(data_type, DataType::Int16 | DataType::Int32)),
            },
            Some(JsonArgument::Texts) => match &data_type {
                DataType::List(item) => plain && is_text(item.data_type()),
                _ => plain && (is_unknown(arg) || data_type.is_null()),
            },
            Some(JsonArgument::Boolean) => data_type.is_null() || data_type == DataType::Boolean || is_unknown(arg),
            Some(JsonArgument::Any) => match &kind {
                Some(kind) if is_array(kind) || range_values::is_of_moments(kind) || own_types::is_composite(kind) => {
                    return Some(Err(lost(kind, "functions of JSON")));
                }
                _ => true,
            },
            None => true,
        };
        if !fits {
            return Some(Err(missing(call, operator, schema)));
        }
    }
    Some(Ok(()))
}

/// Returns the error of a function or operator that does not exist.
fn missing(call: &ScalarFunction, operator: Option<&str>, schema: &DFSchema) -> SqlError {
    let types: Vec<_> = call.args.iter().map(|arg| type_name(arg, schema)).collect();
    let hint = "No operator or function matches the given types. You might need to add explicit type casts.";
    match (operator, types.as_slice()) {
        (Some(operator), [left, right]) if left == "unknown" && right == "unknown" => {
            SqlError::error("42725", format!("operator is not unique: unknown {operator} unknown")).with_hint(hint)
        }
        (Some(operator), [left, right]) => {
            SqlError::error("42883", format!("operator does not exist: {left} {operator} {right}")).with_hint(hint)
        }
        _ => {
            let message = format!("function {}({}) does not exist", call.name(), types.join(", "));
            SqlError::error("42883", message).with_hint(hint)
        }
    }
}

/// Checks a CASE: its results have one type, which is tested by nothing.
pub(super) fn check_case(case: &Case, schema: &DFSchema) -> Result<(), SqlError> {
    let mut tested = case.expr.as_deref().into_iter().chain(case.when_then_expr.iter().map(|(when, _)| when.as_ref()));
    if let Some(found) = tested.find_map(|expr| kind_of(expr, schema)) {
        return Err(lost(&found, "CASE"));
    }
    check_alike(results(case), "CASE", schema)
}

/// Checks that values are of `json`, or all of `jsonb`, or NULL.
pub(super) fn check_alike<'a>(
    values: impl Iterator<Item = &'a Expr> + Clone,
    place: &str,
    schema: &DFSchema,
) -> Result<(), SqlError> {
    let Some(kind) = values.clone().find_map(|value| kind_of(value, schema)) else { return Ok(()) };
    let is_alike = |value: &Expr| match kind_of(value, schema) {
        Some(found) => found == kind,
        None => {
            value.get_type(schema).is_ok_and(|found| found.is_null())
                || matches!(value, Expr::Literal(value, _) if value.is_null())
        }
    };
    let passes = of_type(&kind).is_some() || range_values::is_range(&kind) || own_types::is_own(&kind);
    match passes && values.clone().all(is_alike) {
        true => Ok(()),
        false => Err(lost(&kind, place)),
    }
}

/// Checks a statement that creates something of values which are kept as text.
///
/// # Errors
/// 0A000 for columns of types that tables have not, 42704 for keys of `json`.
pub(super) fn check_ddl(ddl: &DdlStatement) -> Result<(), SqlError> {
    let place = "columns of tables, views and files";
    let has_columns = |kind: &Type| {
        let is_kept = *kind == Type::BPCHAR || range_values::is_range(kind) || text_types::is_own(kind);
        of_type(kind).is_some() || is_kept || own_types::is_of_labels(kind)
    };
    let others = |field: &FieldRef| of_field(field).filter(|kind| !has_columns(kind));
    match ddl {
        DdlStatement::CreateMemoryTable(table) => {
            let fields = table.input.schema().fields();
            if let Some(kind) = fields.iter().find_map(others) {
                return Err(lost(&kind, place));
            }
            for constraint in table.constraints.iter() {
                let (Constraint::PrimaryKey(columns) | Constraint::Unique(columns)) = constraint;
                // Values of `character(n)` and of enums are equal if their texts are.
                let is_refused = |field: &&FieldRef| match of_field(field) {
                    Some(Type::BPCHAR) => column::length_of(field).is_none(),
                    Some(kind) => !own_types::is_enum(&kind),
                    None => false,
                };
                match columns.iter().find_map(|column| of_field(fields.get(*column).filter(is_refused)?)) {
                    Some(Type::JSON) => {
                        let message = "data type json has no default operator class for access method \"btree\"";
                        return Err(SqlError::error("42704", message));
                    }
                    Some(kind) => return Err(lost(&kind, "keys")),
                    None => {}
                }
            }
            Ok(())
        }
        DdlStatement::CreateView(view) => match view.input.schema().fields().iter().find_map(others) {
            Some(kind) => Err(lost(&kind, place)),
            None => Ok(()),
        },
        DdlStatement::CreateExternalTable(table) => {
            match table.schema.fields().iter().find_map(|field| of_field(field)) {
                Some(kind) => Err(lost(&kind, "columns of tables over files")),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Reads the defaults of columns of these types.
///
/// # Errors
/// 22P02 for a text that is no JSON, 0A000 for a default that is no constant.
pub(super) fn read_defaults(table: &mut CreateMemoryTable) -> Result<()> {
    for (name, default) in &mut table.column_defaults {
        let Ok(field) = table.input.schema().field_with_unqualified_name(name) else { continue };
        if let Some(kind) = of_field(field).filter(text_types::is_own) {
            text_types::read_default(default, &kind)?;
            continue;
        }
        let Some(kind) = JsonKind::of(field) else { continue };
        let constant = match &*default {
            Expr::Cast(cast) if JsonKind::of(&cast.field) == Some(kind) => cast.expr.as_ref(),
            other => other,
        };
        if !is_unknown(constant) {
            let message = format!("a default of type {} that is no constant is not supported", kind.name());
            return Err(external(SqlError::not_supported(message)));
        }
        *default = match read(constant.clone(), kind)? {
            Expr::Literal(value, _) => Expr::Literal(value, None),
            other => other,
        };
    }
    Ok(())
}

/// Returns the error of `json = json` and its like.
pub(super) fn no_equality(left: Option<&Type>, right: Option<&Type>) -> SqlError {
    let name = |kind: Option<&Type>| kind.map_or_else(|| "unknown".into(), decode::name);
    SqlError::error("42883", format!("operator does not exist: {} = {}", name(left), name(right)))
}

/// Returns the error of a group, or an order, of values that have none.
pub(super) fn no_order(operator: &str, kind: &Type) -> SqlError {
    SqlError::error("42883", format!("could not identify an {operator} operator for type {}", decode::name(kind)))
}
