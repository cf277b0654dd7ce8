//! The greatest activations, of all neurons together or of each.
//!
//! `ORDER BY activation DESC LIMIT k` is DataFusion's `SortExec` with a limit, and `row_number() OVER (PARTITION BY
//! layer, neuron ORDER BY activation DESC) <= k` its `PartitionedTopKExec`. [`TopKPushdown`] tells the scan below how
//! many rows matter, so that a scan of an analysed dataset answers from the strongest tokens kept, or runs only the
//! examples that may hold one of these rows.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::partitioned_topk::PartitionedTopKExec;
use datafusion::physical_plan::sorts::sort::SortExec;

use crate::tables::activations::source::ActivationSource;
use neuroql_pipeline::bounds::{ScanOrder, TopK};

/// Physical optimizer rule; it belongs after all of DataFusion's own.
#[derive(Debug, Default)]
pub struct TopKPushdown;

impl PhysicalOptimizerRule for TopKPushdown {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let Some(top) = requested(&node) else { return Ok(Transformed::no(node)) };
            let children: Vec<_> = node.children().into_iter().cloned().collect();
            let [input] = children.as_slice() else { return Ok(Transformed::no(node)) };
            match push_down(input, top)? {
                Some(input) => Ok(Transformed::yes(replace_children_if_necessary(node, vec![input])?)),
                None => Ok(Transformed::no(node)),
            }
        })
        .data()
    }

    fn name(&self) -> &str {
        "top_in_scan"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Returns the rows that an operator keeps, if they are the greatest or least activations.
fn requested(node: &Arc<dyn ExecutionPlan>) -> Option<TopK> {
    let is = |expr: &Arc<dyn PhysicalExpr>, names: &[&str]| {
        expr.downcast_ref::<Column>().is_some_and(|column| names.contains(&column.name()))
    };
    let (keys, order, k, of_each) = if let Some(top) = node.downcast_ref::<PartitionedTopKExec>() {
        let (keys, order) = top.expr().split_at_checked(top.partition_prefix_len())?;
        (keys, order, top.fetch(), true)
    } else {
        let sort = node.downcast_ref::<SortExec>()?;
        (&[][..], &sort.expr()[..], sort.fetch()?, false)
    };
    // A key beside the neuron would make more partitions, whose tops are not those of the neuron.
    let of_neurons = keys.iter().all(|key| is(&key.expr, &["layer", "neuron"]));
    let first = order.first().filter(|first| of_neurons && is(&first.expr, &["activation"]))?;
    let visit = if first.options.descending { ScanOrder::Descending } else { ScanOrder::Ascending };
    Some(TopK { k, visit, of_each })
}

/// Returns the plan with `top` passed to its scan; `None` if an operator between does not pass on every row, or the
/// scan cannot use it.
fn push_down(node: &Arc<dyn ExecutionPlan>, top: TopK) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(scan) = node.downcast_ref::<DataSourceExec>() {
        let source = scan.data_source().downcast_ref::<ActivationSource>();
        return Ok(source
            .and_then(|source| source.with_top(top))
            .map(|source| DataSourceExec::from_data_source(source) as _));
    }
    let passes = node.is::<RepartitionExec>() || node.is::<CoalescePartitionsExec>() || node.is::<CooperativeExec>();
    let children: Vec<_> = node.children().into_iter().cloned().collect();
    match children.as_slice() {
        [input] if passes => match push_down(input, top)? {
            Some(input) => Ok(Some(replace_children_if_necessary(Arc::clone(node), vec![input])?)),
            None => Ok(None),
        },
        _ => Ok(None),
    }
}
