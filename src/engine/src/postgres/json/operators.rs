//! Operators, subscripts and aggregates of `json` and `jsonb`, planned as functions.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::expr::{AggregateFunction, Placeholder};
use datafusion::logical_expr::planner::{
    ExprPlanner, PlannerResult, RawAggregateExpr, RawBinaryExpr, RawFieldAccessExpr, RawWindowExpr,
};
use datafusion::logical_expr::{
    AggregateUDF, Expr, ExprSchemable, GetFieldAccess, WindowFunctionDefinition, cast, lit,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::super::refusal::refusal;
use super::JsonKind;
use super::aggregates::{kind_of, not_called};
use super::functions::{JsonFunction, Task};

/// Plans what is written with `json` and `jsonb`.
#[derive(Debug)]
pub(super) struct JsonPlanner {
    pub(super) array_agg: Arc<AggregateUDF>,
}

impl ExprPlanner for JsonPlanner {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        use BinaryOperator as Op;
        let task = match expr.op {
            Op::Arrow => Task::Get { as_text: false },
            Op::LongArrow => Task::Get { as_text: true },
            Op::HashArrow => Task::GetPath { as_text: false },
            Op::HashLongArrow => Task::GetPath { as_text: true },
            Op::AtArrow if !is_of_arrays(&expr, schema) => Task::Contains { within: false },
            Op::ArrowAt if !is_of_arrays(&expr, schema) => Task::Contains { within: true },
            Op::Question => Task::Exists,
            Op::QuestionPipe => Task::ExistsAmong { all: false },
            Op::QuestionAnd => Task::ExistsAmong { all: true },
            Op::HashMinus => Task::DeletePath,
            Op::StringConcat if are_jsonb(&expr, schema) => Task::Concat,
            Op::Minus if is_jsonb(&expr.left, schema) => match expr.right.get_type(schema) {
                Ok(DataType::List(_)) => Task::DeleteKeys,
                _ => Task::Delete,
            },
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let RawBinaryExpr { left, right, .. } = expr;
        let (left, right) = match task {
            Task::Contains { .. } | Task::Concat => (as_jsonb(left), as_jsonb(right)),
            Task::GetPath { .. } | Task::ExistsAmong { .. } | Task::DeletePath => (left, as_texts(right)),
            _ => (left, right),
        };
        Ok(PlannerResult::Planned(JsonFunction::call(task, vec![left, right])))
    }

    /// Plans subscripts of `jsonb`, which are steps of a path.
    fn plan_field_access(
        &self,
        access: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let found = access.expr.to_field(schema).ok().and_then(|(_, field)| JsonKind::of(&field));
        let step = match (found, &access.field_access) {
            (None, _) => return Ok(PlannerResult::Original(access)),
            (Some(JsonKind::Json), _) => {
                let message = "cannot subscript type json because it does not support subscripting";
                return Err(refusal("42804", message));
            }
            (Some(JsonKind::Jsonb), GetFieldAccess::NamedStructField { name }) => match name.try_as_str() {
                Some(Some(name)) => lit(name),
                _ => return Err(refusal("0A000", "this subscript of jsonb is not supported; use ->")),
            },
            (Some(JsonKind::Jsonb), GetFieldAccess::ListIndex { key }) => match key.get_type(schema) {
                Ok(DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null) => (**key).clone(),
                Ok(DataType::Int16 | DataType::Int32 | DataType::Int64) => cast((**key).clone(), DataType::Utf8),
                _ => return Err(refusal("42804", "jsonb subscript must be coercible to either integer or text")),
            },
            (Some(JsonKind::Jsonb), GetFieldAccess::ListRange { .. }) => {
                return Err(refusal("0A000", "jsonb subscript does not support slices"));
            }
        };
        let task = Task::Extract { kind: JsonKind::Jsonb, as_text: false };
        Ok(PlannerResult::Planned(JsonFunction::call(task, vec![access.expr, step])))
    }

    fn plan_aggregate(&self, expr: RawAggregateExpr) -> Result<PlannerResult<RawAggregateExpr>> {
        let Some(kind) = kind_of(expr.func.name()) else { return Ok(PlannerResult::Original(expr)) };
        let name = expr.func.name().to_owned();
        let (false, None, Ok([value])) = (expr.distinct, expr.null_treatment, <[Expr; 1]>::try_from(expr.args)) else {
            return Err(not_called(&name));
        };
        let texts = vec![JsonFunction::call(Task::Element, vec![value])];
        let function = Arc::clone(&self.array_agg);
        let array = AggregateFunction::new_udf(function, texts, false, expr.filter, expr.order_by, None);
        Ok(PlannerResult::Planned(JsonFunction::call(Task::Collect(kind), vec![Expr::AggregateFunction(array)])))
    }

    fn plan_window(&self, expr: RawWindowExpr) -> Result<PlannerResult<RawWindowExpr>> {
        match &expr.func_def {
            WindowFunctionDefinition::AggregateUDF(function) if kind_of(function.name()).is_some() => {
                Err(not_called(function.name()))
            }
            _ => Ok(PlannerResult::Original(expr)),
        }
    }
}

fn is_jsonb(expr: &Expr, schema: &DFSchema) -> bool {
    expr.to_field(schema).is_ok_and(|(_, field)| JsonKind::of(&field) == Some(JsonKind::Jsonb))
}

/// Returns true if both operands are `jsonb`, or one is and the other has no type.
fn are_jsonb(expr: &RawBinaryExpr, schema: &DFSchema) -> bool {
    let (left, right) = (is_jsonb(&expr.left, schema), is_jsonb(&expr.right, schema));
    let has_no_type =
        |side: &Expr| matches!(side, Expr::Literal(..) | Expr::Placeholder(Placeholder { field: None, .. }));
    left && (right || has_no_type(&expr.right)) || right && has_no_type(&expr.left)
}

/// Returns true if one of the operands is an array, or nothing is known of both.
fn is_of_arrays(expr: &RawBinaryExpr, schema: &DFSchema) -> bool {
    let types = [&expr.left, &expr.right].map(|side| side.get_type(schema).unwrap_or(DataType::Null));
    let is_array = |data_type: &DataType| {
        matches!(data_type, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..))
    };
    types.iter().any(is_array) || types.iter().all(DataType::is_null)
}

/// Gives a parameter of which nothing is known the type.
fn as_jsonb(expr: Expr) -> Expr {
    match expr {
        Expr::Placeholder(Placeholder { id, field: None }) => {
            Expr::Placeholder(Placeholder { id, field: Some(JsonKind::Jsonb.field("")) })
        }
        other => other,
    }
}

/// Makes a parameter of which nothing is known an array of texts.
fn as_texts(expr: Expr) -> Expr {
    match expr {
        Expr::Placeholder(Placeholder { id, field: None }) => {
            let texts = datafusion::arrow::datatypes::Field::new("", DataType::new_list(DataType::Utf8, true), true);
            Expr::Placeholder(Placeholder { id, field: Some(Arc::new(texts)) })
        }
        other => other,
    }
}
