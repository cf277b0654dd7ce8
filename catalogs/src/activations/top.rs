//! The greatest activations of each neuron.
//!
//! `row_number() OVER (PARTITION BY layer, neuron ORDER BY activation DESC) <= k` is DataFusion's `PartitionedTopKExec`.
//! [`TopOfEachInScan`] tells the scan below it how many rows of each neuron matter, so that a scan that knows bounds runs
//! only the examples that may hold one of them.

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

use super::bounded::Visit;
use super::source::ActivationSource;

/// The rule; it belongs after all of DataFusion's own.
#[derive(Debug, Default)]
pub struct TopOfEachInScan;

impl PhysicalOptimizerRule for TopOfEachInScan {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let Some((k, visit)) = asked(&node) else { return Ok(Transformed::no(node)) };
            let children: Vec<_> = node.children().into_iter().cloned().collect();
            let [input] = children.as_slice() else { return Ok(Transformed::no(node)) };
            match told(input, k, visit)? {
                Some(input) => Ok(Transformed::yes(replace_children_if_necessary(node, vec![input])?)),
                None => Ok(Transformed::no(node)),
            }
        })
        .data()
    }

    fn name(&self) -> &str {
        "top_of_each_in_scan"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// How many rows of each neuron an operator keeps, and of which end.
fn asked(node: &Arc<dyn ExecutionPlan>) -> Option<(usize, Visit)> {
    let top = node.downcast_ref::<PartitionedTopKExec>()?;
    let is = |expr: &Arc<dyn PhysicalExpr>, names: &[&str]| {
        expr.downcast_ref::<Column>().is_some_and(|column| names.contains(&column.name()))
    };
    let (keys, order) = top.expr().split_at_checked(top.partition_prefix_len())?;
    // A key beside the neuron would make more partitions, whose tops are not those of the neuron.
    let of_neurons = keys.iter().all(|key| is(&key.expr, &["layer", "neuron"]));
    let first = order.first().filter(|first| of_neurons && is(&first.expr, &["activation"]))?;
    Some((top.fetch(), if first.options.descending { Visit::Descending } else { Visit::Ascending }))
}

/// The plan with its scan told; only operators that pass every row on may lie between.
fn told(node: &Arc<dyn ExecutionPlan>, k: usize, visit: Visit) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(scan) = node.downcast_ref::<DataSourceExec>() {
        let source = scan.data_source().downcast_ref::<ActivationSource>();
        let source = source.filter(|source| source.returns_every_value());
        return Ok(source.map(|source| DataSourceExec::from_data_source(source.with_top_of_each(k, visit)) as _));
    }
    let passes = node.is::<RepartitionExec>() || node.is::<CoalescePartitionsExec>() || node.is::<CooperativeExec>();
    let children: Vec<_> = node.children().into_iter().cloned().collect();
    match children.as_slice() {
        [input] if passes => match told(input, k, visit)? {
            Some(input) => Ok(Some(replace_children_if_necessary(Arc::clone(node), vec![input])?)),
            None => Ok(None),
        },
        _ => Ok(None),
    }
}
