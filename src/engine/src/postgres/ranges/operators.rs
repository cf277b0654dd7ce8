//! Operators of ranges and multiranges, planned as functions, and arrays of such values.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, Operator};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::super::refusal::{refusal, type_name};
use super::functions::{Operand, RangeFunction, RangeOperator, Task};
use super::point::Element;
use super::{RangeType, array, compared, depends_on_zone, kind_of, read};

/// Plans what is written with ranges.
#[derive(Debug)]
pub(super) struct RangePlanner;

impl ExprPlanner for RangePlanner {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let kinds = (kind_of(&expr.left, schema), kind_of(&expr.right, schema));
        if kinds == (None, None) {
            return Ok(PlannerResult::Original(expr));
        }
        if let Some(op) = comparison(&expr.op) {
            let RawBinaryExpr { op: written, left, right } = expr;
            let (kind, left, right) = alike(&written.to_string(), left, right, schema)?;
            return Ok(PlannerResult::Planned(compared(kind, left, op, right)));
        }
        let (op, is_turned) = match &expr.op {
            BinaryOperator::AtArrow => (RangeOperator::Contains, false),
            BinaryOperator::ArrowAt => (RangeOperator::Contains, true),
            BinaryOperator::PGOverlap => (RangeOperator::Overlaps, false),
            BinaryOperator::PGBitwiseShiftLeft => (RangeOperator::Before, false),
            BinaryOperator::PGBitwiseShiftRight => (RangeOperator::After, false),
            BinaryOperator::Plus => (RangeOperator::Union, false),
            BinaryOperator::Minus => (RangeOperator::Difference, false),
            BinaryOperator::Multiply => (RangeOperator::Intersection, false),
            BinaryOperator::AndLt => (RangeOperator::NotRight, false),
            BinaryOperator::AndGt => (RangeOperator::NotLeft, false),
            BinaryOperator::Custom(name) if name == "-|-" => (RangeOperator::Adjacent, false),
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let written = expr.op.to_string();
        let missing = missing(&written, &expr.left, &expr.right, schema);
        let (outer, inner) = if is_turned { (expr.right, expr.left) } else { (expr.left, expr.right) };
        planned(op, outer, inner, schema)?.map(PlannerResult::Planned).ok_or(missing)
    }

    /// Plans `ARRAY[…]` of these values.
    fn plan_array_literal(&self, exprs: Vec<Expr>, schema: &DFSchema) -> Result<PlannerResult<Vec<Expr>>> {
        let Some(kind) = exprs.iter().find_map(|item| kind_of(item, schema)) else {
            return Ok(PlannerResult::Original(exprs));
        };
        if kind.is_array {
            return Err(refusal("0A000", format!("arrays of arrays of type {} are not supported", kind.item().name())));
        }
        let items = exprs.into_iter().map(|item| match kind_of(&item, schema) {
            Some(found) if found == kind => Ok(item),
            Some(found) => {
                let message = format!("ARRAY could not convert type {} to {}", found.shown(), kind.name());
                Err(refusal("42846", message))
            }
            None => untyped(item, kind)?.map_err(|item| {
                let found = shown(&item, schema);
                refusal("42804", format!("ARRAY types {} and {found} cannot be matched", kind.name()))
            }),
        });
        Ok(PlannerResult::Planned(array(kind, items.collect::<Result<Vec<_>>>()?)))
    }
}

fn comparison(op: &BinaryOperator) -> Option<Operator> {
    Some(match op {
        BinaryOperator::Eq => Operator::Eq,
        BinaryOperator::NotEq => Operator::NotEq,
        BinaryOperator::Lt => Operator::Lt,
        BinaryOperator::LtEq => Operator::LtEq,
        BinaryOperator::Gt => Operator::Gt,
        BinaryOperator::GtEq => Operator::GtEq,
        _ => return None,
    })
}

/// Returns the type of two values, and the values as such: a text without a type is read as one.
fn alike(op: &str, left: Expr, right: Expr, schema: &DFSchema) -> Result<(RangeType, Expr, Expr)> {
    let refused = |left: &Expr, right: &Expr, kind: RangeType| {
        let is_text = |expr: &Expr| {
            kind_of(expr, schema).is_none() && expr.get_type(schema).is_ok_and(|found| found == kind.data_type())
        };
        match is_text(left) || is_text(right) {
            // It may be a value whose type is not known yet.
            true => {
                let message = format!("operators of {} and a text are not supported; cast the text", kind.shown());
                refusal("0A000", message)
            }
            false => missing(op, left, right, schema),
        }
    };
    match (kind_of(&left, schema), kind_of(&right, schema)) {
        (Some(one), Some(other)) if one == other => Ok((one, left, right)),
        (Some(kind), None) => match untyped(right, kind)? {
            Ok(right) => Ok((kind, left, right)),
            Err(right) => Err(refused(&left, &right, kind)),
        },
        (None, Some(kind)) => match untyped(left, kind)? {
            Ok(left) => Ok((kind, left, right)),
            Err(left) => Err(refused(&left, &right, kind)),
        },
        _ => Err(missing(op, &left, &right, schema)),
    }
}

/// Returns a text, NULL or a parameter without a type as a value of the type; `Err` has another expression as it is.
fn untyped(expr: Expr, kind: RangeType) -> Result<std::result::Result<Expr, Expr>> {
    Ok(match expr {
        Expr::Literal(ScalarValue::Null, _) => Ok(read(Expr::Literal(ScalarValue::Utf8(None), None), kind)),
        Expr::Literal(ScalarValue::Utf8(None), None) => Ok(read(Expr::Literal(ScalarValue::Utf8(None), None), kind)),
        Expr::Literal(ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)), None) => {
            let depends = match kind.is_array {
                true => kind.element == Element::Tstz,
                false => depends_on_zone(kind, &text),
            };
            if depends {
                let name = kind.name();
                let message =
                    format!("'{text}' is not supported here without its time zone; write it behind, or ::{name}");
                return Err(refusal("0A000", message));
            }
            Ok(read(Expr::Literal(ScalarValue::Utf8(Some(text)), None), kind))
        }
        Expr::Placeholder(Placeholder { id, field: None }) => {
            Ok(Expr::Placeholder(Placeholder { id, field: Some(kind.field("")) }))
        }
        other => Err(other),
    })
}

/// Returns an operator's call; `None` if there is no such operator.
fn planned(op: RangeOperator, left: Expr, right: Expr, schema: &DFSchema) -> Result<Option<Expr>> {
    let kinds = (kind_of(&left, schema), kind_of(&right, schema));
    let is_whole = |kind: Option<RangeType>| kind.is_none_or(|kind| !kind.is_array);
    if !is_whole(kinds.0) || !is_whole(kinds.1) {
        return Err(refusal("0A000", "operators of arrays of ranges but comparisons are not supported"));
    }
    let call = |left: (Operand, Expr), right: (Operand, Expr)| {
        Ok(Some(RangeFunction::call(Task::Operator(op, left.0, right.0), vec![left.1, right.1])))
    };
    match kinds {
        (Some(one), Some(other)) => {
            let fits = if op.is_closed() { one == other } else { one.element == other.element };
            if fits { call((Operand::Range(one), left), (Operand::Range(other), right)) } else { Ok(None) }
        }
        (Some(kind), None) => match untyped(right, kind)? {
            Ok(right) => call((Operand::Range(kind), left), (Operand::Range(kind), right)),
            Err(right) if op == RangeOperator::Contains && is_of(&right, kind.element, schema) => {
                call((Operand::Range(kind), left), (Operand::Element(kind.element), right))
            }
            Err(right) => of_text(&right, kind, schema),
        },
        (None, Some(kind)) => match untyped(left, kind)? {
            Ok(left) => call((Operand::Range(kind), left), (Operand::Range(kind), right)),
            Err(left) => of_text(&left, kind, schema),
        },
        (None, None) => Ok(None),
    }
}

/// Refuses a text beside a value, which may be one whose type is not known yet.
fn of_text(expr: &Expr, kind: RangeType, schema: &DFSchema) -> Result<Option<Expr>> {
    match expr.get_type(schema) {
        Ok(found) if found.is_string() => {
            let message = format!("operators of {} and a text are not supported; cast the text", kind.shown());
            Err(refusal("0A000", message))
        }
        _ => Ok(None),
    }
}

/// Returns true if an expression has values of a type that bounds are of.
fn is_of(expr: &Expr, element: Element, schema: &DFSchema) -> bool {
    let is_small = match expr {
        Expr::Literal(ScalarValue::Int64(Some(number)), None) => Some(i32::try_from(*number).is_ok()),
        Expr::Negative(inner) => match inner.as_ref() {
            Expr::Literal(ScalarValue::Int64(Some(number)), None) => Some(i32::try_from(-*number).is_ok()),
            _ => None,
        },
        _ => None,
    };
    let is_constant = |expr: &Expr| match expr {
        Expr::Negative(inner) => matches!(inner.as_ref(), Expr::Literal(_, None)),
        other => matches!(other, Expr::Literal(_, None)),
    };
    match (element, expr.get_type(schema)) {
        (Element::Int4, Ok(DataType::Int32)) => true,
        // The planner takes sums of integers for `bigint`.
        (Element::Int4, Ok(DataType::Int64)) => is_small != Some(false),
        (Element::Int8, Ok(DataType::Int64)) => is_small != Some(true),
        (Element::Num, Ok(DataType::Decimal128(..))) => true,
        (Element::Num, Ok(DataType::Float64)) => is_constant(expr),
        (Element::Date, Ok(DataType::Date32)) => true,
        (Element::Ts, Ok(DataType::Timestamp(_, None))) => true,
        (Element::Tstz, Ok(DataType::Timestamp(_, Some(_)))) => true,
        _ => false,
    }
}

/// Returns the error of an operator that does not exist.
fn missing(op: &str, left: &Expr, right: &Expr, schema: &DFSchema) -> DataFusionError {
    let message = format!("operator does not exist: {} {op} {}", shown(left, schema), shown(right, schema));
    refusal("42883", message)
}

/// Returns the name of an expression's type.
fn shown(expr: &Expr, schema: &DFSchema) -> String {
    match expr {
        Expr::Literal(ScalarValue::Int64(Some(number)), None) if i32::try_from(*number).is_ok() => "integer".into(),
        Expr::Literal(ScalarValue::Float64(_), None) => "numeric".into(),
        _ => match expr.to_field(schema) {
            Ok((_, field)) => RangeType::of(&field).map_or_else(|| type_name(field.data_type()), RangeType::shown),
            Err(_) => "unknown".into(),
        },
    }
}
