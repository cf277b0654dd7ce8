//! Values that only a superuser sees: locations of files and options to open them. Statements that create tables hold
//! paths, URLs with passwords and keys.

use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableScan, lit, when};
use datafusion::scalar::ScalarValue;
use neuroql::superuser_columns;

use crate::User;

/// The columns of `information_schema.views`, which `SHOW CREATE TABLE` reads too. It has a row for each table.
const VIEWS: [&str; 4] = ["table_catalog", "table_schema", "table_name", "definition"];

/// Replaces values by NULL that the user may not see, and leaves out the rows of `information_schema` on schemas that the
/// user may not use, as Postgres does. Statements that define views stay visible.
///
/// # Errors
/// Returns an error if the plan cannot be built.
pub(crate) fn conceal(plan: LogicalPlan, user: &User, hidden: &[String]) -> Result<LogicalPlan> {
    if user.is_superuser() {
        return Ok(plan);
    }
    let concealed = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::TableScan(scan) => {
            let of_schema = schema_column(&scan).filter(|_| !hidden.is_empty());
            let concealed = without_secrets(scan)?;
            let Some(column) = of_schema else { return Ok(concealed) };
            let names = hidden.iter().map(|name| lit(name.as_str())).collect();
            let shown = Expr::Column(column).in_list(names, true);
            Ok(Transformed::yes(LogicalPlanBuilder::from(concealed.data).filter(shown)?.build()?))
        }
        // Nodes above have other expressions below them, with the same names and types.
        node => Ok(Transformed::no(node)),
    })?;
    Ok(concealed.data)
}

/// Returns the column of the schema that a row of a table of `information_schema` is about. These tables are known by
/// their first columns, which no table of a user can have the type of.
fn schema_column(scan: &TableScan) -> Option<Column> {
    let table = source_as_provider(&scan.source).ok().filter(|table| table.is::<StreamingTable>())?;
    let first: Vec<String> = table.schema().fields().iter().take(2).map(|field| field.name().clone()).collect();
    match [first.first()?.as_str(), first.get(1)?.as_str()] {
        ["table_catalog", name @ "table_schema"]
        | ["constraint_catalog", name @ "constraint_schema"]
        | ["catalog_name", name @ "schema_name"] => {
            scan.projected_schema.columns().into_iter().find(|column| column.name == name)
        }
        _ => None,
    }
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
