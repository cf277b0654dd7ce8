//! Modifiers of types: precision and scale of `numeric(p, s)`, length of `varchar(n)` and `character(n)`, precision of
//! `timestamp(p)`.
//!
//! As in Postgres, columns of tables and casts have them, and other expressions have not.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::JoinType;
use datafusion::common::metadata::FieldMetadata;
use datafusion::error::Result;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, Projection};
use neuroql::bpchar::{self, BpcharTask};

use crate::session::returning;

/// The modifier of a type that has none.
pub(crate) const NONE: i32 = -1;

/// The key of a field's metadata that holds the `n` of `varchar(n)` or `character(n)`.
const LENGTH: &str = "neuroql.length";

/// Precision and scale of `numeric` without them.
const UNCONSTRAINED: (u8, i8) = (38, 10);

/// Returns the `n` of a field of type `varchar(n)` or `character(n)`.
pub(crate) fn length_of(field: &Field) -> Option<usize> {
    field.metadata().get(LENGTH)?.parse().ok()
}

/// Returns the modifier of a field's type, as `pg_attribute` has it.
pub(crate) fn of_field(field: &Field) -> Option<i32> {
    if let Some(length) = length_of(field) {
        return i32::try_from(length).ok()?.checked_add(4);
    }
    match field.data_type() {
        DataType::Decimal128(precision, scale) if (*precision, *scale) != UNCONSTRAINED => {
            // The scale has eleven bits.
            Some(((i32::from(*precision) << 16) | (i32::from(*scale) & 0x7ff)) + 4)
        }
        DataType::Timestamp(TimeUnit::Second, _) => Some(0),
        DataType::Timestamp(TimeUnit::Millisecond, _) => Some(3),
        DataType::List(item) if matches!(item.data_type(), DataType::Decimal128(..)) => of_field(item),
        _ => None,
    }
}

/// Returns the modifier of each column of a plan that has not been optimized.
pub(crate) fn of_plan(plan: &LogicalPlan) -> Vec<i32> {
    (0..plan.schema().fields().len()).map(|place| of_output(plan, place).unwrap_or(NONE)).collect()
}

/// Returns the query of `CREATE TABLE … AS` with the `n` of `varchar(n)` on the columns that have one and on no others; `None`
/// if it is so. Casts of constants lose theirs when they are computed, and those to text in VALUES keep another's.
pub(crate) fn with_lengths(query: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let (mut outputs, mut changed) = (Vec::new(), false);
    for ((qualifier, field), modifier) in query.schema().iter().zip(of_plan(query)) {
        let column = Expr::from((qualifier, field));
        let length = if modifier == NONE { String::new() } else { (modifier - 4).to_string() };
        let has_length = modifier != NONE || length_of(field).is_some();
        outputs.push(if field.data_type().is_string() && has_length {
            changed = true;
            let metadata = FieldMetadata::from(BTreeMap::from([(LENGTH.to_owned(), length)]));
            column.alias_qualified_with_metadata(qualifier.cloned(), field.name(), Some(metadata))
        } else {
            column
        });
    }
    if !changed {
        return Ok(None);
    }
    Ok(Some(LogicalPlan::Projection(Projection::try_new(outputs, Arc::new(query.clone()))?)))
}

fn of_output(plan: &LogicalPlan, place: usize) -> Option<i32> {
    match plan {
        LogicalPlan::Projection(projection) => of_value(projection.expr.get(place)?, &projection.input),
        LogicalPlan::Filter(filter) => of_output(&filter.input, place),
        LogicalPlan::Sort(sort) => of_output(&sort.input, place),
        LogicalPlan::Limit(limit) => of_output(&limit.input, place),
        LogicalPlan::SubqueryAlias(alias) => of_output(&alias.input, place),
        LogicalPlan::Distinct(Distinct::All(input)) => of_output(input, place),
        LogicalPlan::Distinct(Distinct::On(distinct)) => of_value(distinct.select_expr.get(place)?, &distinct.input),
        LogicalPlan::Aggregate(aggregate) => of_value(aggregate.group_expr.get(place)?, &aggregate.input),
        LogicalPlan::Join(join) => {
            let left = join.left.schema().fields().len();
            match join.join_type {
                JoinType::RightSemi | JoinType::RightAnti => of_output(&join.right, place),
                _ if place < left => of_output(&join.left, place),
                _ if place < left + join.right.schema().fields().len() => of_output(&join.right, place - left),
                _ => None,
            }
        }
        LogicalPlan::Union(union) => {
            let mut found = union.inputs.iter().map(|input| of_output(input, place));
            let first = found.next()??;
            found.all(|other| other == Some(first)).then_some(first)
        }
        LogicalPlan::Window(window) if place < window.input.schema().fields().len() => of_output(&window.input, place),
        LogicalPlan::Extension(_) => of_output(returning::parts(plan)?.1, place),
        LogicalPlan::Values(values) if plan.schema().field(place).data_type().is_string() => {
            let mut found = values.values.iter().map(|row| of_value(row.get(place)?, plan));
            let first = found.next()??;
            found.all(|other| other == Some(first)).then_some(first)
        }
        LogicalPlan::TableScan(scan) => match scan.source.get_logical_plan() {
            Some(view) => {
                let place = scan.projection.as_ref().map_or(Some(place), |columns| columns.get(place).copied())?;
                of_output(&view, place)
            }
            None => of_field(scan.projected_schema.fields().get(place)?),
        },
        _ => None,
    }
}

/// Returns the modifier of a value that is computed from rows of a plan.
pub(crate) fn of_value(value: &Expr, input: &LogicalPlan) -> Option<i32> {
    match value {
        Expr::Alias(alias) => of_value(&alias.expr, input),
        Expr::Column(column) => of_output(input, input.schema().maybe_index_of_column(column)?),
        Expr::Cast(cast) => of_field(&cast.field),
        Expr::ScalarSubquery(subquery) => of_output(&subquery.subquery, 0),
        Expr::ScalarFunction(call) => match (bpchar::task_of(call)?, call.args.as_slice()) {
            (BpcharTask::Cast(length), _) => i32::try_from(length).ok()?.checked_add(4),
            (BpcharTask::Typed, [value]) if is_one_of(value) => of_one(value, input),
            _ => None,
        },
        _ => None,
    }
}

/// Returns true for an expression that returns one of several values.
fn is_one_of(value: &Expr) -> bool {
    match value {
        Expr::Case(_) => true,
        Expr::ScalarFunction(call) => call.name() == "coalesce",
        _ => false,
    }
}

/// Returns the modifier that all results of an expression of `character(n)` have.
fn of_one(value: &Expr, input: &LogicalPlan) -> Option<i32> {
    let all = |values: Vec<&Expr>| {
        let first = of_one(values.first()?, input)?;
        values.iter().all(|value| of_one(value, input) == Some(first)).then_some(first)
    };
    match value {
        Expr::Case(case) => {
            let results = case.when_then_expr.iter().map(|(_, then)| then.as_ref());
            all(results.chain([case.else_expr.as_deref()?]).collect())
        }
        Expr::ScalarFunction(call) if is_one_of(value) => all(call.args.iter().collect()),
        Expr::ScalarFunction(call) if bpchar::task_of(call) == Some(BpcharTask::WithBlanks) => {
            of_value(call.args.first()?, input)
        }
        other => of_value(other, input),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::*;

    /// Checks modifiers that PostgreSQL 15 sends.
    #[tokio::test]
    async fn columns_and_casts_have_modifiers() {
        let context = SessionContext::new();
        context.sql("CREATE TABLE t (a numeric(10,2), b int, c timestamp(3))").await.unwrap();
        for (query, expected) in [
            ("SELECT a, b, c, a + a, a::numeric(5,1) AS d FROM t", [655_366, -1, 3, -1, 327_685].as_slice()),
            (
                "SELECT x.*, y.a AS z FROM (SELECT a AS n, max(a) FROM t GROUP BY a) x CROSS JOIN t y",
                &[655_366, -1, 655_366],
            ),
            ("SELECT DISTINCT a FROM t ORDER BY a LIMIT 1", &[655_366]),
            ("SELECT a FROM t UNION ALL SELECT a FROM t", &[655_366]),
            ("SELECT a FROM t UNION ALL SELECT 1.5::numeric(5,1)", &[-1]),
            ("SELECT (SELECT a FROM t), coalesce(a, a) FROM t", &[655_366, -1]),
        ] {
            let plan = context.state().create_logical_plan(query).await.unwrap();
            assert_eq!(of_plan(&plan), expected, "{query}");
        }
    }
}
