//! Aggregates of columns that the optimizer knows to be never NULL, and the physical plan does not.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;

/// Plans a query without DataFusion's check of the inputs of aggregates if nothing but their nullability is in its way: the
/// optimizer finds that `CASE WHEN NULL THEN x ELSE 1 END` is never NULL where the expression of the physical plan may be.
#[derive(Debug)]
pub(crate) struct NullableInputs {
    inner: Arc<dyn QueryPlanner + Send + Sync>,
}

impl NullableInputs {
    pub(crate) fn before(inner: Arc<dyn QueryPlanner + Send + Sync>) -> Self {
        Self { inner }
    }
}

#[async_trait]
impl QueryPlanner for NullableInputs {
    async fn create_physical_plan(
        &self,
        logical_plan: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let planned = self.inner.create_physical_plan(logical_plan, session).await;
        match (planned, session.as_any().downcast_ref::<SessionState>()) {
            (Err(error), Some(state)) if is_nullability(&error) => {
                let mut state = state.clone();
                state.config_mut().options_mut().execution.skip_physical_aggregate_schema_check = true;
                self.inner.create_physical_plan(logical_plan, &state).await
            }
            (planned, _) => planned,
        }
    }
}

/// Returns true for the error of that check, if each difference that it names is one of nullability.
fn is_nullability(error: &DataFusionError) -> bool {
    let message = error.strip_backtrace();
    let Some((check, differences)) = message.split_once(" Differences: ") else { return false };
    let mut differences = differences.lines().filter_map(|line| line.trim().strip_prefix("- ")).peekable();
    check.ends_with("Physical input schema should be the same as the one converted from logical input schema.")
        && differences.peek().is_some()
        && differences.all(|difference| difference.starts_with("field nullability at index "))
}

#[cfg(test)]
mod tests {
    use datafusion::common::internal_datafusion_err;

    use super::*;

    #[test]
    fn other_differences_are_errors() {
        let check = "Physical input schema should be the same as the one converted from logical input schema.";
        let differs = |lines: &str| is_nullability(&internal_datafusion_err!("{check} Differences: {lines}"));
        let nullability = "\n\t- field nullability at index 0 [c]: (physical) true vs (logical) false";
        assert!(differs(nullability));
        assert!(differs(&nullability.repeat(2)));
        assert!(!differs(&format!("{nullability}\n\t- field name at index 1: (physical) a vs (logical) b")));
        assert!(!differs(""));
        assert!(!is_nullability(&internal_datafusion_err!("another error")));
    }

    #[tokio::test]
    async fn constants_of_nullable_columns_are_grouped() {
        let engine = crate::Engine::builder().build().unwrap();
        let context = engine.session();
        context.sql("CREATE TABLE t AS VALUES (1), (2)").await.unwrap().collect().await.unwrap();
        let query = "SELECT DISTINCT CASE WHEN b.column1 = NULL::int % b.column1 THEN a.column1 ELSE b.column1 END AS c \
                     FROM t a RIGHT JOIN t b ON NULL::boolean ORDER BY c";
        let batches = context.sql(query).await.unwrap().collect().await.unwrap();
        assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 2);
    }
}
