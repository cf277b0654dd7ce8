//! One type for values that stand together, where DataFusion takes the type of the first.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ExprSchema;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::type_coercion::binary::type_union_resolution;
use datafusion::logical_expr::{Expr, ExprSchemable, cast};

use super::uuids;

/// Kinds of types that do not mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Number,
    Text,
    Truth,
    Moment,
    Time,
    Span,
    Bytes,
    Uuid,
    List,
    Other,
}

pub(super) fn class(data_type: &DataType) -> Class {
    match data_type {
        DataType::Dictionary(_, values) => class(values),
        DataType::Boolean => Class::Truth,
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => Class::Moment,
        DataType::Time32(_) | DataType::Time64(_) => Class::Time,
        DataType::Interval(_) | DataType::Duration(_) => Class::Span,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Class::Bytes,
        uuid if uuids::is_uuid(uuid) => Class::Uuid,
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => Class::List,
        other if other.is_string() => Class::Text,
        other if other.is_numeric() => Class::Number,
        _ => Class::Other,
    }
}

/// Gives the results of each CASE of an expression their common type. The planner finds the type of a CASE, and with it that of a
/// column of VALUES, in its first result.
///
/// # Errors
/// Those of walking the expression.
pub fn cast_case_results(expr: Expr, schema: &dyn ExprSchema) -> Result<Expr> {
    expr.transform_up(|part| match part {
        Expr::Case(mut case) => {
            let changed = cast_to_common(results(&mut case), schema);
            Ok(Transformed::new_transformed(Expr::Case(case), changed))
        }
        other => Ok(Transformed::no(other)),
    })
    .data()
}

/// Returns the results of a CASE.
pub(super) fn results(case: &mut Case) -> impl Iterator<Item = &mut Expr> {
    let thens = case.when_then_expr.iter_mut().map(|(_, then)| then.as_mut());
    thens.chain(case.else_expr.as_deref_mut())
}

/// Casts numbers, moments, and arrays of numbers to the type that holds all of them; returns true if some are cast.
pub(super) fn cast_to_common<'a>(exprs: impl Iterator<Item = &'a mut Expr>, schema: &dyn ExprSchema) -> bool {
    let exprs: Vec<&mut Expr> = exprs.collect();
    // What has no type yet is left to the planner.
    let Ok(types) = exprs.iter().map(|expr| expr.get_type(schema)).collect::<Result<Vec<_>>>() else { return false };
    let typed: Vec<DataType> = types.iter().filter(|found| !found.is_null()).cloned().collect();
    let is_one_kind = typed.iter().all(is_number) || typed.iter().all(is_moment);
    if !is_one_kind || typed.windows(2).all(|pair| pair[0] == pair[1]) {
        return false;
    }
    let Some(common) = type_union_resolution(&typed) else { return false };
    for (expr, found) in exprs.into_iter().zip(types) {
        if !found.is_null() && found != common {
            *expr = cast(std::mem::take(expr), common.clone());
        }
    }
    true
}

/// Returns the types that the arguments of a function have, which are to be of one type: texts and NULL are of that of the others,
/// and rules refuse texts that are no constants. DataFusion has no type for moments beside a text, nor for `bytea` beside NULL.
pub(super) fn of_one_type(
    types: &[DataType],
    coerced: impl Fn(&[DataType]) -> Result<Vec<DataType>>,
) -> Result<Vec<DataType>> {
    if let Some(types) = uuids::of_one_type(types) {
        return Ok(types);
    }
    let told: Vec<DataType> = types.iter().filter(|it| !it.is_string() && !it.is_null()).cloned().collect();
    match told.split_first() {
        None => coerced(types),
        // Rules refuse those that do not mix.
        Some((first, others))
            if others.iter().all(|other| other == first) || !told.iter().all(|it| mixes(it, first)) =>
        {
            Ok(vec![first.clone(); types.len()])
        }
        Some(_) => match coerced(&told)?.first() {
            Some(common) => Ok(vec![common.clone(); types.len()]),
            None => coerced(types),
        },
    }
}

fn mixes(one: &DataType, other: &DataType) -> bool {
    let is_any = |found: &DataType| matches!(class(found), Class::Other | Class::List);
    is_any(one) || is_any(other) || class(one) == class(other)
}

fn is_number(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) => is_number(item.data_type()),
        other => other.is_numeric(),
    }
}

fn is_moment(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Date32 | DataType::Timestamp(..))
}

#[cfg(test)]
mod tests {
    use datafusion::common::DFSchema;
    use datafusion::logical_expr::lit;
    use datafusion::scalar::ScalarValue;

    use super::*;

    #[test]
    fn results_have_one_type() {
        let schema = DFSchema::empty();
        let case = |first: Expr, other: Expr| {
            Expr::Case(Case::new(None, vec![(Box::new(lit(false)), Box::new(first))], Some(Box::new(other))))
        };
        let type_of = |first: Expr, other: Expr| {
            let case = case(first, other);
            cast_case_results(case, &schema).unwrap().get_type(&schema).unwrap()
        };
        assert_eq!(type_of(lit(1), lit(2.75)), DataType::Float64);
        assert_eq!(type_of(lit(ScalarValue::Null), lit(1)), DataType::Int32);
        let decimal = |value, scale| lit(ScalarValue::Decimal128(Some(value), 5, scale));
        assert_eq!(type_of(decimal(11, 1), decimal(2255, 3)), DataType::Decimal128(7, 3));
        let inner = case(lit(1), lit(2_i64));
        assert_eq!(type_of(lit(1_i16), inner), DataType::Int64);
        // Texts beside others are the planner's.
        assert_eq!(type_of(lit("x"), lit(1)), DataType::Utf8);
    }
}
