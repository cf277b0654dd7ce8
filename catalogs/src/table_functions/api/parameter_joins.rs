//! Conditions on the columns of parameters that give the parameters no value.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::source_as_provider;
use datafusion::error::Result;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use super::TableFunctionProvider;
use super::parameters::given;
use crate::Error;

/// Refuses joins, and conditions that stay above a table function, on the column of a parameter that has no value from
/// the query: a table function is computed for one value, so they would compare its default.
#[derive(Debug)]
pub struct CheckParameterJoins;

impl OptimizerRule for CheckParameterJoins {
    fn name(&self) -> &str {
        "values_of_parameters_given"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match &plan {
            LogicalPlan::Join(join) => {
                let on = join.on.iter().flat_map(|(left, right)| [left, right]);
                for condition in on.chain(&join.filter) {
                    for column in condition.column_refs() {
                        check(&join.left, column)?;
                        check(&join.right, column)?;
                    }
                }
            }
            LogicalPlan::Filter(filter) => {
                for part in split_conjunction(&filter.predicate) {
                    // A comparison with a constant reaches the scan, which checks it.
                    if has_subquery(part) {
                        for column in part.column_refs() {
                            check(&filter.input, column)?;
                        }
                    }
                }
            }
            _ => {}
        }
        Ok(Transformed::no(plan))
    }
}

fn has_subquery(expr: &Expr) -> bool {
    let is_subquery = |expr: &Expr| Ok(matches!(expr, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_)));
    expr.exists(is_subquery).unwrap_or(true)
}

/// Returns an error if a column of the plan is that of a parameter without a value.
fn check(plan: &LogicalPlan, column: &Column) -> Result<()> {
    if plan.schema().maybe_index_of_column(column).is_none() {
        return Ok(());
    }
    match plan {
        LogicalPlan::TableScan(scan) => of_scan(scan, column),
        LogicalPlan::Filter(filter) => {
            let is_given = split_conjunction(&filter.predicate).iter().any(|part| given(part, &column.name).is_some());
            if is_given { Ok(()) } else { check(&filter.input, column) }
        }
        LogicalPlan::SubqueryAlias(alias) => match plan.schema().maybe_index_of_column(column) {
            Some(index) => check(&alias.input, &Column::from(alias.input.schema().qualified_field(index))),
            None => Ok(()),
        },
        LogicalPlan::Projection(projection) => {
            let index = plan.schema().maybe_index_of_column(column);
            match index.map(|index| plain(&projection.expr[index])) {
                Some(Expr::Column(inner)) => check(&projection.input, inner),
                _ => Ok(()),
            }
        }
        LogicalPlan::Union(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Unnest(_) => Ok(()),
        other => other.inputs().into_iter().try_for_each(|input| check(input, column)),
    }
}

/// An expression without its alias and cast.
fn plain(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => plain(&alias.expr),
        Expr::Cast(cast) => plain(&cast.expr),
        other => other,
    }
}

fn of_scan(scan: &TableScan, column: &Column) -> Result<()> {
    let Ok(provider) = source_as_provider(&scan.source) else { return Ok(()) };
    let Some(table) = provider.downcast_ref::<TableFunctionProvider>() else { return Ok(()) };
    let function = Arc::clone(&table.function);
    let Some(parameter) = function.parameters().into_iter().find(|parameter| parameter.column == column.name) else {
        return Ok(());
    };
    if scan.filters.iter().any(|filter| given(filter, parameter.column).is_some()) {
        return Ok(());
    }
    // An output of the same name describes the row, whatever the parameter is.
    if function.outputs().iter().any(|field| field.name() == parameter.column) {
        return Ok(());
    }
    let (function, parameter) = (function.name(), parameter.name);
    let reason = format!(
        "takes one value, as in \"{function}({parameter} => …)\", and cannot take those of a join or a subquery"
    );
    Err(Error::InvalidParameter { function, parameter: parameter.into(), reason }.into())
}
