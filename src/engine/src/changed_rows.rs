//! The rows that an UPDATE or DELETE of a table in memory changes.

use datafusion::common::not_impl_err;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::{MemTable, source_as_provider};
use datafusion::error::Result;
use datafusion::logical_expr::{DmlStatement, LogicalPlan, LogicalPlanBuilder, WriteOp, lit};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// Keeps UPDATE and DELETE of tables in memory to the rows of their condition.
///
/// DataFusion hands such a table the filters that are left of the optimised plan: of a condition that is never true, and of a
/// subquery, none, so that all rows would change. Here the first changes none, and the second is refused.
#[derive(Debug)]
pub(crate) struct ChangedRows;

impl OptimizerRule for ChangedRows {
    fn name(&self) -> &str {
        "changed_rows"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match &plan {
            LogicalPlan::Dml(change @ DmlStatement { op: WriteOp::Update | WriteOp::Delete, .. })
                if is_in_memory(change) && is_empty(change)? =>
            {
                let name = change.output_schema.field(0).name().clone();
                let none = LogicalPlanBuilder::empty(true).project([lit(0u64).alias(name)])?.build()?;
                Ok(Transformed::yes(none))
            }
            _ => Ok(Transformed::no(plan)),
        }
    }
}

fn is_in_memory(change: &DmlStatement) -> bool {
    source_as_provider(&change.target).is_ok_and(|table| table.downcast_ref::<MemTable>().is_some())
}

/// Returns true if no row passes the condition.
///
/// # Errors
/// If the condition is none of each row by itself.
fn is_empty(change: &DmlStatement) -> Result<bool> {
    let mut is_empty = false;
    change.input.apply(|node| match node {
        LogicalPlan::EmptyRelation(_) => {
            is_empty = true;
            Ok(TreeNodeRecursion::Continue)
        }
        LogicalPlan::Projection(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::TableScan(_) => Ok(TreeNodeRecursion::Continue),
        _ => not_impl_err!("{} with a subquery is not supported for a table in memory", change.op),
    })?;
    Ok(is_empty)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::AsArray;
    use datafusion::arrow::datatypes::{Int64Type, UInt64Type};
    use datafusion::execution::SessionStateBuilder;
    use datafusion::prelude::SessionContext;

    use super::*;

    #[tokio::test]
    async fn changes_the_rows_of_the_condition() {
        let state =
            SessionStateBuilder::new().with_default_features().with_optimizer_rule(Arc::new(ChangedRows)).build();
        let context = SessionContext::new_with_state(state);
        let run = async |sql: &str| context.sql(sql).await?.collect().await;
        run("CREATE TABLE t (a BIGINT, b TEXT) AS VALUES (1, 'x'), (2, 'y'), (3, NULL)").await.unwrap();
        for (sql, count) in [
            ("DELETE FROM t WHERE b = NULL", 0),
            ("DELETE FROM t WHERE a > 1 AND false", 0),
            ("UPDATE t SET a = a + 1 WHERE b < NULL", 0),
            ("UPDATE t SET b = 'z' WHERE a = 2", 1),
            ("DELETE FROM t WHERE a = 1", 1),
        ] {
            let batches = run(sql).await.unwrap();
            assert_eq!(batches[0].column(0).as_primitive::<UInt64Type>().value(0), count, "{sql}");
        }
        for sql in [
            "DELETE FROM t WHERE a IN (SELECT 9)",
            "DELETE FROM t WHERE EXISTS (SELECT 1 FROM t u WHERE u.a = t.a + 7)",
            "UPDATE t SET b = 'w' WHERE a NOT IN (SELECT a FROM t)",
        ] {
            assert!(run(sql).await.is_err(), "{sql}");
        }
        let left = run("SELECT count(*) FROM t WHERE b IS DISTINCT FROM 'w'").await.unwrap();
        assert_eq!(left[0].column(0).as_primitive::<Int64Type>().value(0), 2);
        assert_eq!(run("DELETE FROM t").await.unwrap()[0].column(0).as_primitive::<UInt64Type>().value(0), 2);
    }
}
