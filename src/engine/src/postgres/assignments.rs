//! Rows that go into tables and files.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::DataFusionError;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, WriteOp, cast};

use super::bpchar;
use super::casts::{CastRule, cast_by};
use super::instants::in_zone;
use super::types::length_of;

/// Gives the instants that a COPY writes into a file the zone of the session.
pub(super) fn copied_in_zone(plan: LogicalPlan, zone: &str) -> Result<LogicalPlan> {
    let LogicalPlan::Copy(mut copy) = plan else { return Ok(plan) };
    if copy.input.schema().fields().iter().all(|field| in_zone(field.data_type(), zone).is_none()) {
        return Ok(LogicalPlan::Copy(copy));
    }
    let columns = copy.input.schema().iter().map(|(qualifier, field)| {
        let column = Expr::from((qualifier, field));
        match in_zone(field.data_type(), zone) {
            Some(local) => cast(column, local).alias_qualified(qualifier.cloned(), field.name()),
            None => column,
        }
    });
    let columns: Vec<_> = columns.collect();
    copy.input = Arc::new(LogicalPlanBuilder::from(Arc::unwrap_or_clone(copy.input)).project(columns)?.build()?);
    Ok(LogicalPlan::Copy(copy))
}

/// Rewrites an INSERT into columns of type `varchar(n)` or `character(n)`, which takes no longer texts, and one of numbers that have had another
/// type than their column since types were coerced.
pub(super) fn assignment(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Dml(mut dml) = plan else { return Ok(Transformed::no(plan)) };
    let target = dml.target.schema();
    let is_other_number =
        |given: &DataType, wanted: &DataType| given != wanted && given.is_numeric() && wanted.is_numeric();
    let is_kept = |(field, given): (&FieldRef, &FieldRef)| {
        length_of(field).is_none() && !is_other_number(given.data_type(), field.data_type())
    };
    let is_insert = matches!(dml.op, WriteOp::Insert(_));
    if !is_insert || target.fields().iter().zip(dml.input.schema().fields()).all(is_kept) {
        return Ok(Transformed::no(LogicalPlan::Dml(dml)));
    }
    let input = Arc::unwrap_or_clone(dml.input);
    let given: Vec<_> = input.schema().fields().iter().map(|field| field.data_type().clone()).collect();
    let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    if columns.len() != target.fields().len() {
        return Err(DataFusionError::Internal("an INSERT has another number of columns than its table".into()));
    }
    let fitted = columns.into_iter().zip(given).zip(target.fields()).map(|((column, given), field)| {
        let fitted = match length_of(field) {
            Some(length) if bpchar::is_bpchar(field) => bpchar::assigned(column, length),
            Some(length) => cast_by(CastRule::Fit(length), Cast::new_from_field(Box::new(column), Arc::clone(field))),
            None if is_other_number(&given, field.data_type()) => cast(column, field.data_type().clone()),
            None => return column,
        };
        fitted.alias(field.name())
    });
    let input = LogicalPlanBuilder::from(input).project(fitted.collect::<Vec<_>>())?.build()?;
    dml.input = Arc::new(input);
    Ok(Transformed::yes(LogicalPlan::Dml(dml)))
}
