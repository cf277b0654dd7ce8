//! Types of operators, decided when a statement is planned.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Case, Cast, Placeholder};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, GetFieldAccess, Operator, ScalarUDF, binary_expr, cast, lit};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::casts::{CastRule, cast_by};
use super::decimal;
use super::interval_products::product;
use super::microseconds::at_least_micros;
use super::mixed_moments::with_micros;
use super::mixed_types::meet;
use super::overlap::overlap;
use super::quotients::quotient;
use super::refusal::{refusal, type_name};
use super::uuids;

/// Gives operands the types that Postgres gives them.
#[derive(Debug)]
pub(super) struct OperatorTypePlanner {
    /// The function that EXTRACT is planned as.
    pub(super) part: Option<Arc<ScalarUDF>>,
    /// The function that POSITION is planned as.
    pub(super) position: Option<Arc<ScalarUDF>>,
    /// True if two arrays have an element in common.
    pub(super) any: Arc<ScalarUDF>,
    /// The function that SUBSTRING is planned as.
    pub(super) substr: Arc<ScalarUDF>,
}

impl ExprPlanner for OperatorTypePlanner {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        use BinaryOperator as Op;
        let RawBinaryExpr { op, left, right } = expr;
        let (left, right) = (matched_case(left, schema)?, matched_case(right, schema)?);
        // Conditions are long, and are of no values.
        let (left, right) = match op {
            Op::And | Op::Or => (left, right),
            _ => uuids::operands(&op, left, right, schema)?,
        };
        let is_arithmetic = matches!(op, Op::Plus | Op::Minus | Op::Multiply | Op::Divide | Op::Modulo);
        let is_bitwise = matches!(
            op,
            Op::BitwiseAnd
                | Op::BitwiseOr
                | Op::BitwiseXor
                | Op::PGBitwiseXor
                | Op::PGBitwiseShiftLeft
                | Op::PGBitwiseShiftRight
        );
        if matches!(op, Op::Eq | Op::NotEq | Op::Lt | Op::LtEq | Op::Gt | Op::GtEq) {
            let (left, right) = constants(left, right, schema);
            let (left, right) = compared(left, right, schema);
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        }
        if matches!(op, Op::And | Op::Or) {
            let (left, right) = (typed(left, &DataType::Boolean), typed(right, &DataType::Boolean));
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        }
        if op == Op::StringConcat {
            let (left, right) = lists(left, right, schema);
            let is_text = |other: &Expr| {
                let data_type = other.get_type(schema).unwrap_or(DataType::Null);
                !data_type.is_nested() && !matches!(data_type, DataType::Binary)
            };
            let left = if is_text(&right) { typed(left, &DataType::Utf8) } else { left };
            let right = if is_text(&left) { typed(right, &DataType::Utf8) } else { right };
            let (left, right) = bytes(left, right, schema)?;
            let (left, right) = arrays(left, right, schema);
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        }
        let (left, right) = match op {
            Op::PGBitwiseShiftLeft | Op::PGBitwiseShiftRight => (left, counted(right)),
            Op::PGOverlap => lists(left, right, schema),
            _ => (left, right),
        };
        if op == Op::PGOverlap {
            let (left, right) = arrays(left, right, schema);
            return Ok(PlannerResult::Planned(overlap(&self.any, left, right)));
        }
        if !is_arithmetic && !is_bitwise {
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        }
        if let Some(number) = decimal::combined(&op, &left, &right) {
            return Ok(PlannerResult::Planned(number));
        }
        let (left, right) = moments(&op, left, right, schema);
        let right = as_operand(&op, right, &left, schema);
        let left = as_operand(&op, left, &right, schema);
        let (Ok(left_type), Ok(right_type)) = (left.get_type(schema), right.get_type(schema)) else {
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        };
        if let (Op::Minus, DataType::Timestamp(..), DataType::Timestamp(..)) = (&op, &left_type, &right_type) {
            let between = Box::new(binary_expr(left, Operator::Minus, right));
            let cast = Cast::new(between, DataType::Interval(IntervalUnit::MonthDayNano));
            return Ok(PlannerResult::Planned(cast_by(CastRule::Between, cast)));
        }
        if let (Op::Minus, DataType::Date32, DataType::Date32) = (&op, &left_type, &right_type) {
            return Ok(PlannerResult::Planned(cast(binary_expr(left, Operator::Minus, right), DataType::Int32)));
        }
        if let Some(product) = product(&op, (&left, &left_type), (&right, &right_type)) {
            return Ok(PlannerResult::Planned(product));
        }
        if op == Op::Divide
            && let Some(quotient) = quotient((left.clone(), &left_type), (right.clone(), &right_type))
        {
            return Ok(PlannerResult::Planned(quotient));
        }
        let is_integer = |it: &DataType| matches!(it, DataType::Int16 | DataType::Int32 | DataType::Int64);
        let (left, right) = if is_integer(&left_type) && is_integer(&right_type) {
            (as_integer(left), as_integer(right))
        } else {
            match (&left_type, &right_type) {
                // `real` beside any other number is `double precision`.
                (DataType::Float32, other) if is_integer(other) || other.is_decimal() => {
                    (cast(left, DataType::Float64), right)
                }
                (other, DataType::Float32) if is_integer(other) || other.is_decimal() => {
                    (left, cast(right, DataType::Float64))
                }
                (DataType::Date32, DataType::Interval(_)) => (cast(left, midnight()), right),
                (DataType::Interval(_), DataType::Date32) => (left, cast(right, midnight())),
                // An instant in whole seconds, of `timestamp(0)`, would take whole seconds of an interval only.
                (DataType::Timestamp(unit, zone), DataType::Interval(_)) if *unit != at_least_micros(*unit) => {
                    (cast(left, DataType::Timestamp(TimeUnit::Microsecond, zone.clone())), right)
                }
                (DataType::Interval(_), DataType::Timestamp(unit, zone)) if *unit != at_least_micros(*unit) => {
                    (left, cast(right, DataType::Timestamp(TimeUnit::Microsecond, zone.clone())))
                }
                (DataType::Date32, DataType::Time64(_)) if op == Op::Plus => {
                    (cast(left, midnight()), since_midnight(right))
                }
                (DataType::Time64(_), DataType::Date32) if op == Op::Plus => {
                    (since_midnight(left), cast(right, midnight()))
                }
                _ => (left, right),
            }
        };
        Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }))
    }

    fn plan_array_literal(&self, mut exprs: Vec<Expr>, schema: &DFSchema) -> Result<PlannerResult<Vec<Expr>>> {
        meet("ARRAY", None, schema, exprs.iter_mut())?;
        Ok(PlannerResult::Original(exprs))
    }

    fn plan_substring(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(self.substr.call(args)))
    }

    fn plan_position(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        match &self.position {
            Some(position) => Ok(PlannerResult::Planned(position.call(args))),
            None => Ok(PlannerResult::Original(args)),
        }
    }

    fn plan_extract(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        match &self.part {
            Some(part) => Ok(PlannerResult::Planned(part.call(args))),
            None => Ok(PlannerResult::Original(args)),
        }
    }

    /// Subscripts count from 1; there is nothing before.
    fn plan_field_access(
        &self,
        access: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let RawFieldAccessExpr { expr, field_access } = access;
        let is_list = matches!(expr.get_type(schema), Ok(DataType::List(_)));
        let field_access = match field_access {
            GetFieldAccess::ListIndex { key } if is_list => {
                GetFieldAccess::ListIndex { key: Box::new(subscript(*key)) }
            }
            GetFieldAccess::ListRange { start, stop, stride } if is_list => GetFieldAccess::ListRange {
                start: Box::new(at_least(1, *start)),
                stop: Box::new(at_least(0, *stop)),
                stride,
            },
            other => other,
        };
        Ok(PlannerResult::Original(RawFieldAccessExpr { expr, field_access }))
    }
}

/// Gives the results of a CASE one type, which an operator asks for.
fn matched_case(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    match expr {
        Expr::Case(mut case) => {
            let results = case.when_then_expr.iter_mut().map(|(_, then)| then.as_mut());
            meet("CASE", None, schema, results.chain(case.else_expr.as_deref_mut()))?;
            Ok(Expr::Case(case))
        }
        other => Ok(other),
    }
}

/// Gives a parameter of which nothing is known a type.
fn typed(expr: Expr, data_type: &DataType) -> Expr {
    match expr {
        Expr::Placeholder(Placeholder { id, field: None }) => {
            Expr::Placeholder(Placeholder { id, field: Some(Arc::new(Field::new("", data_type.clone(), true))) })
        }
        other => other,
    }
}

/// Makes a parameter of which nothing is known an `integer`, as a subscript is.
fn counted(key: Expr) -> Expr {
    typed(key, &DataType::Int32)
}

/// Gives parameters types beside moments: a parameter of which nothing is known is a date where a date is subtracted
/// from it or it from one, and an interval where it is added to a timestamp.
fn moments(op: &BinaryOperator, left: Expr, right: Expr, schema: &DFSchema) -> (Expr, Expr) {
    let (left_type, right_type) = (left.get_type(schema).ok(), right.get_type(schema).ok());
    let beside = |side: Expr, other: Option<DataType>| match (op, other) {
        (BinaryOperator::Minus, Some(DataType::Date32)) => typed(side, &DataType::Date32),
        (BinaryOperator::Plus, Some(DataType::Timestamp(..))) => {
            typed(side, &DataType::Interval(IntervalUnit::MonthDayNano))
        }
        _ => side,
    };
    (beside(left, right_type), beside(right, left_type))
}

/// Gives parameters types beside arrays: one of which nothing is known is an array.
fn lists(left: Expr, right: Expr, schema: &DFSchema) -> (Expr, Expr) {
    let beside = |side: Expr, other: Option<DataType>| match other {
        Some(list @ DataType::List(_)) => typed(side, &list),
        _ => side,
    };
    let (left_type, right_type) = (left.get_type(schema).ok(), right.get_type(schema).ok());
    (beside(left, right_type), beside(right, left_type))
}

/// Returns a subscript that is `NULL` if it is below 1.
fn subscript(key: Expr) -> Expr {
    let key = counted(key);
    match key {
        Expr::Literal(ScalarValue::Int64(Some(1..)), None) => key,
        Expr::Literal(ScalarValue::Int64(Some(_)), None) => Expr::Literal(ScalarValue::Int64(None), None),
        key => Expr::Case(Case {
            expr: None,
            when_then_expr: vec![(Box::new(key.clone().gt(lit(0i64))), Box::new(key))],
            else_expr: None,
        }),
    }
}

/// Returns the greater of `least` and a subscript.
fn at_least(least: i64, key: Expr) -> Expr {
    match counted(key) {
        Expr::Literal(ScalarValue::Int64(Some(value)), None) => lit(value.max(least)),
        key => Expr::Case(Case {
            expr: None,
            when_then_expr: vec![(Box::new(key.clone().lt(lit(least))), Box::new(lit(least)))],
            else_expr: Some(Box::new(key)),
        }),
    }
}

/// Casts both sides of `||` to bytes if one of them is.
fn bytes(left: Expr, right: Expr, schema: &DFSchema) -> Result<(Expr, Expr)> {
    let (Ok(left_type), Ok(right_type)) = (left.get_type(schema), right.get_type(schema)) else {
        return Ok((left, right));
    };
    let is_text = |it: &DataType| matches!(it, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let is_literal = |it: &Expr| matches!(it, Expr::Literal(..));
    match (&left_type, &right_type) {
        (DataType::Binary, text) if is_text(text) && is_literal(&right) => Ok((left, cast(right, DataType::Binary))),
        (text, DataType::Binary) if is_text(text) && is_literal(&left) => Ok((cast(left, DataType::Binary), right)),
        (DataType::Binary, DataType::Binary | DataType::Null) | (DataType::Null, DataType::Binary) => Ok((left, right)),
        (DataType::Binary, other) | (other, DataType::Binary) if !other.is_nested() => {
            let message = format!("operator does not exist: {} || {}", type_name(&left_type), type_name(&right_type));
            Err(refusal("42883", message))
        }
        _ => Ok((left, right)),
    }
}

/// Casts a literal beside an array to an array, not an element.
fn arrays(left: Expr, right: Expr, schema: &DFSchema) -> (Expr, Expr) {
    let is_text =
        |it: &Expr| matches!(it, Expr::Literal(ScalarValue::Utf8(Some(_)) | ScalarValue::Utf8View(Some(_)), None));
    // So is NULL, and an array has nothing of it.
    let is_text = |it: &Expr| is_text(it) || matches!(it, Expr::Literal(ScalarValue::Null, None));
    match (left.get_type(schema), right.get_type(schema)) {
        (Ok(list @ DataType::List(_)), _) if is_text(&right) => (left, cast(right, list)),
        (_, Ok(list @ DataType::List(_))) if is_text(&left) => (cast(left, list), right),
        _ => (left, right),
    }
}

/// Casts a text beside a truth value or a moment to one if it is a constant: `indisprimary = 't'`, `day < '2020-01-01'`.
fn constants(left: Expr, right: Expr, schema: &DFSchema) -> (Expr, Expr) {
    match (is_text_constant(&left), is_text_constant(&right)) {
        (false, true) => match type_of_constants(&left, schema) {
            Some(data_type) => (left, cast(right, data_type)),
            None => (left, right),
        },
        (true, false) => match type_of_constants(&right, schema) {
            Some(data_type) => (cast(left, data_type), right),
            None => (left, right),
        },
        _ => (left, right),
    }
}

/// Returns the type of the constants that a value is compared with; `None` if DataFusion's is that of Postgres.
pub(super) fn type_of_constants(value: &Expr, schema: &DFSchema) -> Option<DataType> {
    match value.get_type(schema).ok()? {
        DataType::Boolean => Some(DataType::Boolean),
        // DataFusion would compare nanoseconds, which not all years have.
        moment @ DataType::Timestamp(..) => Some(with_micros(&moment)),
        _ => None,
    }
}

/// Returns true for a constant that is a text.
pub(super) fn is_text_constant(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Utf8(Some(_)) | ScalarValue::Utf8View(Some(_)), _))
}

/// Reads a text without a type as a value of the type of the number beside it, or of the date that it is taken from; `numeric` has no
/// digits here that say how it was written.
fn as_operand(op: &BinaryOperator, text: Expr, other: &Expr, schema: &DFSchema) -> Expr {
    match other.get_type(schema) {
        Ok(number) if is_text_constant(&text) && (number.is_integer() || number.is_floating()) => cast(text, number),
        Ok(DataType::Date32) if is_text_constant(&text) && *op == BinaryOperator::Minus => cast(text, DataType::Date32),
        _ => text,
    }
}

/// Casts both sides of a comparison to `double precision` if one is a floating-point number and the other is not:
/// `numeric` has no NaN here, and `real` not all integers. A constant stays as it is, so that a scan can be asked for
/// it.
fn compared(left: Expr, right: Expr, schema: &DFSchema) -> (Expr, Expr) {
    let is_constant = |it: &Expr| matches!(it, Expr::Literal(..));
    if is_constant(&left) || is_constant(&right) {
        return (left, right);
    }
    let (Ok(left_type), Ok(right_type)) = (left.get_type(schema), right.get_type(schema)) else {
        return (left, right);
    };
    let is_inexact = |it: &DataType| matches!(it, DataType::Float32 | DataType::Float64);
    let is_exact = |it: &DataType| it.is_decimal() || matches!(it, DataType::Int16 | DataType::Int32 | DataType::Int64);
    if is_inexact(&left_type) && is_exact(&right_type) || is_exact(&left_type) && is_inexact(&right_type) {
        let double = |side: Expr, data_type: &DataType| match data_type {
            DataType::Float64 => side,
            _ => cast(side, DataType::Float64),
        };
        return (double(left, &left_type), double(right, &right_type));
    }
    (left, right)
}

fn midnight() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

/// Returns a time as what has passed of its day.
fn since_midnight(time: Expr) -> Expr {
    let micros = cast(cast(time, DataType::Time64(TimeUnit::Microsecond)), DataType::Int64);
    cast(micros, DataType::Duration(TimeUnit::Microsecond))
}

/// Returns a constant as `integer`, if it fits.
pub(super) fn as_integer(expr: Expr) -> Expr {
    match expr {
        Expr::Literal(ScalarValue::Int64(Some(value)), None) => match i32::try_from(value) {
            Ok(value) => lit(value),
            Err(_) => lit(value),
        },
        other => other,
    }
}
