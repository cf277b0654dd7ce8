//! Keys that come twice in the order of an aggregate.
//!
//! DataFusion's `first_value` and its like count the keys before equal ones are dropped and compare after, and fail:
//! `SELECT DISTINCT ON (a) … ORDER BY a, coalesce(a, b)`, where `a` is never NULL.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, SortExpr};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// Keeps the first of equal keys; to be run after expressions are simplified.
#[derive(Debug)]
pub(super) struct UniqueOrderKeys;

impl OptimizerRule for UniqueOrderKeys {
    fn name(&self) -> &str {
        "postgres_unique_order_keys"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Aggregate(aggregate) = plan else { return Ok(Transformed::no(plan)) };
        if !aggregate.aggr_expr.iter().any(has_repeated_key) {
            return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
        }
        let Aggregate { input, group_expr, aggr_expr, .. } = aggregate;
        let calls = aggr_expr.into_iter().map(with_unique_keys).collect::<Result<Vec<_>>>()?;
        Ok(Transformed::yes(LogicalPlan::Aggregate(Aggregate::try_new(input, group_expr, calls)?)))
    }
}

fn has_repeated_key(call: &Expr) -> bool {
    match call {
        Expr::Alias(alias) => has_repeated_key(&alias.expr),
        Expr::AggregateFunction(call) => {
            let keys = &call.params.order_by;
            (1..keys.len()).any(|index| is_repeated(keys, index))
        }
        _ => false,
    }
}

fn is_repeated(keys: &[SortExpr], index: usize) -> bool {
    keys[..index].iter().any(|earlier| is_same(earlier, &keys[index]))
}

/// Returns true if two keys have the same values, whatever names simplified expressions have kept.
fn is_same(one: &SortExpr, other: &SortExpr) -> bool {
    let unnamed = |key: &SortExpr| key.expr.clone().unalias_nested().data;
    unnamed(one) == unnamed(other)
}

/// Returns an aggregate of the same name whose keys are all different.
fn with_unique_keys(call: Expr) -> Result<Expr> {
    if !has_repeated_key(&call) {
        return Ok(call);
    }
    let name = call.schema_name().to_string();
    let rewritten = call.transform_down(|part| match part {
        Expr::AggregateFunction(mut call) => {
            let mut keys: Vec<SortExpr> = Vec::with_capacity(call.params.order_by.len());
            for key in std::mem::take(&mut call.params.order_by) {
                if !keys.iter().any(|earlier| is_same(earlier, &key)) {
                    keys.push(key);
                }
            }
            call.params.order_by = keys;
            Ok(Transformed::yes(Expr::AggregateFunction(call)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    rewritten.data.alias_if_changed(name)
}

/// Returns rules with this one after them.
pub(super) fn after(mut rules: Vec<Arc<dyn OptimizerRule + Send + Sync>>) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    rules.push(Arc::new(UniqueOrderKeys));
    rules
}
