//! `(VALUES …)` as a table.

use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::sql::sqlparser::ast::{Query, SetExpr, TableFactor, Values};

use super::operators::as_integer;

/// Plans `FROM (VALUES …)` by itself. DataFusion takes every VALUES in an INSERT, however deep, for rows of its table.
#[derive(Debug)]
pub(super) struct Rows;

impl RelationPlanner for Rows {
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
        let mut rows = Vec::with_capacity(values.rows.len());
        for row in &values.rows {
            let cells = row.content.iter().map(|cell| Ok(as_integer(context.sql_to_expr(cell.clone(), &schema)?)));
            rows.push(cells.collect::<Result<Vec<_>>>()?);
        }
        let plan = LogicalPlanBuilder::values(rows)?.build()?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias.clone()))))
    }
}

/// The rows of a query that is nothing but VALUES.
fn only_values(query: &Query) -> Option<&Values> {
    let Query { with: None, body, order_by: None, limit_clause: None, fetch: None, .. } = query else { return None };
    match &**body {
        SetExpr::Values(values) => Some(values),
        SetExpr::Query(query) => only_values(query),
        _ => None,
    }
}
