//! Types of operators, decided when a statement is planned.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Case, Cast};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, GetFieldAccess, Operator, ScalarUDF, binary_expr, cast, lit};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::casts::{Rule, cast_by};
use super::decimal;
use super::refusal::{refusal, type_name};

/// Gives operands the types that Postgres gives them.
#[derive(Debug)]
pub(super) struct Operands {
    /// What EXTRACT is planned as.
    pub(super) part: Option<Arc<ScalarUDF>>,
}

impl ExprPlanner for Operands {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        use BinaryOperator as Op;
        let RawBinaryExpr { op, left, right } = expr;
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
        if op == Op::StringConcat {
            let (left, right) = bytes(left, right, schema)?;
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        }
        if !is_arithmetic && !is_bitwise {
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        }
        if let Some(number) = decimal::combined(&op, &left, &right) {
            return Ok(PlannerResult::Planned(number));
        }
        let (Ok(left_type), Ok(right_type)) = (left.get_type(schema), right.get_type(schema)) else {
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        };
        if let (Op::Minus, DataType::Timestamp(..), DataType::Timestamp(..)) = (&op, &left_type, &right_type) {
            let between = Box::new(binary_expr(left, Operator::Minus, right));
            let cast = Cast::new(between, DataType::Interval(IntervalUnit::MonthDayNano));
            return Ok(PlannerResult::Planned(cast_by(Rule::Between, cast)));
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
                _ => (left, right),
            }
        };
        Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }))
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

/// `NULL` for a subscript below 1.
fn subscript(key: Expr) -> Expr {
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

/// The greater of both.
fn at_least(least: i64, key: Expr) -> Expr {
    match key {
        Expr::Literal(ScalarValue::Int64(Some(value)), None) => lit(value.max(least)),
        key => Expr::Case(Case {
            expr: None,
            when_then_expr: vec![(Box::new(key.clone().lt(lit(least))), Box::new(lit(least)))],
            else_expr: Some(Box::new(key)),
        }),
    }
}

/// Both sides of `||` as bytes if one of them is.
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

fn midnight() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, None)
}

/// A constant as `integer`, if it fits.
pub(super) fn as_integer(expr: Expr) -> Expr {
    match expr {
        Expr::Literal(ScalarValue::Int64(Some(value)), None) => match i32::try_from(value) {
            Ok(value) => lit(value),
            Err(_) => lit(value),
        },
        other => other,
    }
}
