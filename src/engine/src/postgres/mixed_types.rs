//! Texts beside values of other types: Postgres reads a constant as one of them, and refuses anything else. DataFusion
//! makes texts of all.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, JoinType, NullEquality};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Case, ScalarFunction};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, cast};

use super::refusal::{refusal, type_name};

/// Functions whose first argument is a text (or a bytea), which DataFusion makes of numbers, too.
const OF_TEXT: [&str; 17] = [
    "ascii",
    "bit_length",
    "btrim",
    "character_length",
    "initcap",
    "left",
    "lower",
    "lpad",
    "ltrim",
    "octet_length",
    "repeat",
    "reverse",
    "right",
    "rpad",
    "rtrim",
    "split_part",
    "upper",
];

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_text(values),
        other => other.is_string(),
    }
}

/// Returns true for a type of values that are no texts, and are not NULL alone.
fn is_other(data_type: &DataType) -> bool {
    data_type.is_numeric() || data_type.is_temporal() || *data_type == DataType::Boolean
}

/// Checks that a function of texts is not called with another value.
pub(super) fn check_text_function(call: &ScalarFunction, schema: &DFSchema) -> Result<()> {
    let Some(first) = call.args.first().filter(|_| OF_TEXT.contains(&call.name())) else { return Ok(()) };
    match first.get_type(schema) {
        Ok(found) if is_other(&found) => {
            let types = call.args.iter().map(|arg| arg.get_type(schema).map(|found| type_name(&found)));
            let types = types.collect::<Result<Vec<_>>>()?.join(", ");
            let name = if call.name() == "character_length" { "length" } else { call.name() };
            Err(refusal("42883", format!("function {name}({types}) does not exist")))
        }
        _ => Ok(()),
    }
}

/// Reads texts among the results of a CASE as values of the others' type if they are constants.
///
/// # Errors
/// 42804 for other texts.
pub(super) fn results(mut case: Case, schema: &DFSchema) -> Result<Transformed<Case>> {
    let all = || case.when_then_expr.iter().map(|(_, then)| then).chain(&case.else_expr);
    let types: Vec<_> = all().filter_map(|result| result.get_type(schema).ok()).collect();
    let Some(other) = types.iter().find(|found| is_other(found)).filter(|_| types.iter().any(is_text)).cloned() else {
        return Ok(Transformed::no(case));
    };
    let results = case.when_then_expr.iter_mut().map(|(_, then)| then).chain(&mut case.else_expr);
    for result in results {
        match result.get_type(schema) {
            Ok(found) if is_text(&found) => {
                if !matches!(result.as_ref(), Expr::Literal(..)) {
                    return Err(unmatched("CASE", &other, &found));
                }
                **result = cast(std::mem::take(result.as_mut()), other.clone());
            }
            _ => {}
        }
    }
    Ok(Transformed::yes(case))
}

/// Checks that the inputs of a set operation do not have texts in a column where another has other values.
pub(super) fn check_set_operation(plan: &LogicalPlan) -> Result<()> {
    match plan {
        LogicalPlan::Union(union) => {
            let [first, rest @ ..] = union.inputs.as_slice() else { return Ok(()) };
            for input in rest {
                for (one, other) in first.schema().fields().iter().zip(input.schema().fields()) {
                    check_pair("UNION", one.data_type(), other.data_type())?;
                }
            }
            Ok(())
        }
        LogicalPlan::Join(join)
            if join.null_equality == NullEquality::NullEqualsNull
                && matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti) =>
        {
            let name = if join.join_type == JoinType::LeftSemi { "INTERSECT" } else { "EXCEPT" };
            for (left, right) in &join.on {
                check_pair(name, &left.get_type(join.left.schema())?, &right.get_type(join.right.schema())?)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn check_pair(operation: &str, one: &DataType, other: &DataType) -> Result<()> {
    if is_text(one) && is_other(other) || is_other(one) && is_text(other) {
        return Err(unmatched(operation, one, other));
    }
    Ok(())
}

fn unmatched(what: &str, one: &DataType, other: &DataType) -> datafusion::error::DataFusionError {
    refusal("42804", format!("{what} types {} and {} cannot be matched", type_name(one), type_name(other)))
}
