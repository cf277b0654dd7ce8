//! Values that only a superuser sees: locations of files and options to open them. Statements that create tables hold
//! paths, URLs with passwords and keys.

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableScan, lit, when};
use datafusion::scalar::ScalarValue;
use neuroql::superuser_columns;

use crate::Role;

/// The columns of `information_schema.views`, which `SHOW CREATE TABLE` reads too. It has a row for each table.
const VIEWS: [&str; 4] = ["table_catalog", "table_schema", "table_name", "definition"];

/// Replaces values by NULL that the user may not see. Statements that define views stay visible.
///
/// # Errors
/// Returns an error if the plan cannot be built.
pub fn conceal(plan: LogicalPlan, role: &Role) -> Result<LogicalPlan> {
    if role.superuser {
        return Ok(plan);
    }
    let concealed = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::TableScan(scan) => without_secrets(scan),
        // Nodes above have other expressions below them, with the same names and types.
        node => Ok(Transformed::no(node)),
    })?;
    Ok(concealed.data)
}

fn without_secrets(scan: TableScan) -> Result<Transformed<LogicalPlan>> {
    let is_views = scan.source.schema().fields().iter().map(|field| field.name().as_str()).eq(VIEWS);
    let node = LogicalPlan::TableScan(scan);
    let hidden = superuser_columns(&node);
    if !is_views && hidden.is_empty() {
        return Ok(Transformed::no(node));
    }
    let mut found = false;
    let columns =
        node.schema().columns().into_iter().zip(node.schema().fields().iter().cloned()).map(|(column, field)| {
            let (relation, name) = (column.relation.clone(), column.name.clone());
            let value = Expr::Column(column);
            let shown = if hidden.contains(&name.as_str()) {
                lit(ScalarValue::try_from(field.data_type())?)
            } else if is_views && name == "definition" {
                let is_table = value.clone().ilike(lit("create%external table%"));
                when(is_table, lit(ScalarValue::try_from(field.data_type())?)).otherwise(value)?
            } else {
                return Ok(value);
            };
            found = true;
            Ok(shown.alias_qualified(relation, name))
        });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    match found {
        true => Ok(Transformed::yes(LogicalPlanBuilder::from(node).project(columns)?.build()?)),
        false => Ok(Transformed::no(node)),
    }
}
