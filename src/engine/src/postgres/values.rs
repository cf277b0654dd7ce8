//! `(VALUES …)` as a table.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{self, Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::AnalyzerRule;
use datafusion::sql::sqlparser::ast::{Query, SetExpr, TableFactor, Values};

use super::common_types::cast_case_results;
use super::mixed_types::{cases_matched, meet};
use super::operators::as_integer;
use crate::plans::subquery_of;

/// Plans `FROM (VALUES …)` by itself. DataFusion takes every VALUES in an INSERT, however deep, for rows of its table.
#[derive(Debug)]
pub(super) struct ValuesPlanner;

impl RelationPlanner for ValuesPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::Derived { lateral: false, subquery, alias, .. } = &relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let Some(values) = only_values(subquery) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let schema = DFSchema::empty();
        let zone = context.context_provider().options().execution.time_zone.clone();
        let zone = zone.as_deref().unwrap_or("UTC");
        let mut rows = Vec::with_capacity(values.rows.len());
        for row in &values.rows {
            let cells = row.content.iter().map(|cell| {
                let cell = as_integer(context.sql_to_expr(cell.clone(), &schema)?);
                cast_case_results(cases_matched(cell, &schema, zone)?, &schema)
            });
            rows.push(cells.collect::<Result<Vec<_>>>()?);
        }
        for column in 0..rows.iter().map(Vec::len).max().unwrap_or(0) {
            meet("VALUES", Some(zone), &schema, rows.iter_mut().filter_map(|row| row.get_mut(column)))?;
        }
        let plan = LogicalPlanBuilder::values(rows)?.build()?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias.clone()))))
    }
}

/// Returns the rows of a query that is nothing but VALUES.
fn only_values(query: &Query) -> Option<&Values> {
    let Query { with: None, body, order_by: None, limit_clause: None, fetch: None, .. } = query else { return None };
    match &**body {
        SetExpr::Values(values) => Some(values),
        SetExpr::Query(query) => only_values(query),
        _ => None,
    }
}

/// Plans VALUES with subqueries as a union of rows: DataFusion evaluates those of a VALUES before it has run them.
#[derive(Debug)]
pub(super) struct SubqueryValues;

impl AnalyzerRule for SubqueryValues {
    fn name(&self) -> &str {
        "postgres_rows_of_subqueries"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Values(values) if values.values.iter().flatten().any(has_subquery) => {
                rows(values).map(Transformed::yes)
            }
            other => Ok(Transformed::no(other)),
        })
        .data()
    }
}

fn has_subquery(expr: &Expr) -> bool {
    expr.exists(|part| Ok(subquery_of(part).is_some())).unwrap_or(true)
}

fn rows(values: logical_expr::Values) -> Result<LogicalPlan> {
    let logical_expr::Values { schema, values } = values;
    let names: Vec<_> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let mut rows = values.into_iter().map(|row| {
        let cells = row.into_iter().zip(&names).map(|(cell, name)| cell.alias(name));
        LogicalPlanBuilder::empty(true).project(cells)
    });
    let Some(first) = rows.next() else { return plan_err!("VALUES has no rows") };
    rows.try_fold(first?, |above, row| above.union(row?.build()?))?.build()
}
