//! Aggregates that statistics answer.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

/// Name of DataFusion's rule.
const RULE: &str = "aggregate_statistics";

type PhysicalRule = Arc<dyn PhysicalOptimizerRule + Send + Sync>;

/// DataFusion's rule, which takes the aggregate below one with a FILTER for the same one, and fails: such a plan stays as it is.
#[derive(Debug)]
pub(crate) struct AggregatesFromStatistics(PhysicalRule);

impl AggregatesFromStatistics {
    /// Puts the rule in the place of DataFusion's.
    pub(crate) fn among(rules: &mut [PhysicalRule]) {
        for rule in rules.iter_mut().filter(|rule| rule.name() == RULE) {
            *rule = Arc::new(Self(Arc::clone(rule)));
        }
    }
}

impl PhysicalOptimizerRule for AggregatesFromStatistics {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        match self.0.optimize(Arc::clone(&plan), config) {
            Err(error) if matches!(error.find_root(), DataFusionError::Internal(_)) => Ok(plan),
            optimized => optimized,
        }
    }

    fn name(&self) -> &str {
        RULE
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::AsArray;
    use datafusion::arrow::datatypes::Int64Type;

    #[tokio::test]
    async fn an_aggregate_with_a_filter_is_not_the_one_below() {
        let engine = crate::Engine::builder().build().unwrap();
        for (having, count) in [("WHERE false", 0), ("", 1)] {
            let query = format!(
                "SELECT count(*) FILTER (WHERE n > 0) AS c FROM (SELECT count(*) AS n FROM (VALUES (1)) v(x) {having}) q"
            );
            let batches = engine.session().sql(&query).await.unwrap().collect().await.unwrap();
            assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().value(0), count, "{query}");
        }
    }
}
