//! Limits of DISTINCT over rows that are sorted.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;

/// Takes the limit of distinct rows off an aggregate whose input has become sorted since: DataFusion takes it for one by an order, and
/// finds no direction. The limit above it stays. To be run last.
#[derive(Debug)]
pub(crate) struct DistinctLimits;

impl PhysicalOptimizerRule for DistinctLimits {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let unlimited = node.downcast_ref::<AggregateExec>().and_then(|aggregate| {
                let is_without_order = aggregate.limit_options().is_some_and(|limit| limit.descending().is_none());
                let is_misread = is_without_order && !aggregate.is_unordered_unfiltered_group_by_distinct();
                is_misread.then(|| Arc::new(aggregate.with_new_limit_options(None)))
            });
            Ok(match unlimited {
                Some(aggregate) => Transformed::yes(aggregate as Arc<dyn ExecutionPlan>),
                None => Transformed::no(node),
            })
        })
        .data()
    }

    fn name(&self) -> &str {
        "distinct_limits"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn distinct_rows_of_windows_are_limited() {
        let engine = crate::Engine::builder().build().unwrap();
        let query = "SELECT EXISTS ((SELECT x, row_number() OVER (PARTITION BY x) FROM (VALUES ('a'), ('b')) v(x)) \
                     UNION SELECT 'y', 1) AS found";
        let batches = engine.session().sql(query).await.unwrap().collect().await.unwrap();
        assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 1);
    }
}
