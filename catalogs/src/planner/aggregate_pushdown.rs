//! Aggregates by neuron move into the scan.
//!
//! `SELECT layer, neuron, max(activation) … GROUP BY layer, neuron` over a corpus would hash a row for each neuron of
//! each token. The first half of such an aggregate (DataFusion's partial mode) is a reduction of the columns of the
//! activation matrix instead: [`AggregatePushdown`] replaces it by a scan that yields, for each batch, one row a neuron
//! with the partial states, which the second half merges as it would merge any others. `FILTER (WHERE activation > x)`
//! goes along. On a single partition DataFusion plans no halves; the rule makes them where the first one can move.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column, Literal};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::scalar::ScalarValue;
use neuroql_analysis::ValueRange;

use crate::tables::activations::partial_aggregate::{PartialAggregate, StateColumn, Statistic};
use crate::tables::activations::source::ActivationSource;

/// Physical optimizer rule; it belongs after all of DataFusion's own.
#[derive(Debug, Default)]
pub struct AggregatePushdown;

impl PhysicalOptimizerRule for AggregatePushdown {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_down(|node| {
            Ok(match moved(&node).or_else(|| halved(&node)) {
                Some(scan) => Transformed::yes(scan),
                None => Transformed::no(node),
            })
        })
        .data()
    }

    fn name(&self) -> &str {
        "aggregate_in_scan"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Splits an aggregate that was planned in one piece: its final half over a scan that does the work of the partial
/// half, if it can.
fn halved(node: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    let aggregate = node.downcast_ref::<AggregateExec>().filter(|a| *a.mode() == AggregateMode::Single)?;
    let half = |mode, group, filters, input: &Arc<dyn ExecutionPlan>| {
        let functions = aggregate.aggr_expr().to_vec();
        AggregateExec::try_new(mode, group, functions, filters, Arc::clone(input), aggregate.input_schema()).ok()
    };
    let (group, filters) = (aggregate.group_expr(), aggregate.filter_expr());
    let first = half(AggregateMode::Partial, group.clone(), filters.to_vec(), aggregate.input())?;
    let scan = moved(&(Arc::new(first.with_limit_options(aggregate.limit_options())) as _))?;
    let second = half(AggregateMode::Final, group.as_final(), vec![None; filters.len()], &scan)?;
    (second.schema() == aggregate.schema()).then(|| Arc::new(second) as _)
}

/// The scan that does the work of a partial aggregate, if it can.
fn moved(node: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    let aggregate = node.downcast_ref::<AggregateExec>()?;
    let plain = *aggregate.mode() == AggregateMode::Partial
        && !aggregate.group_expr().has_grouping_set()
        && aggregate.limit_options().is_none();
    let (input, projected) = input(aggregate.input());
    let source = input.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref::<ActivationSource>()?;
    if !plain || !source.returns_every_value() {
        return None;
    }
    let mut outputs = Vec::new();
    for (expr, _) in aggregate.group_expr().expr() {
        let expr = resolved(expr, projected)?;
        outputs.push(StateColumn::always(match expr.downcast_ref::<Column>()?.name() {
            "layer" => Statistic::Layer,
            "neuron" => Statistic::Neuron,
            _ => return None,
        }));
    }
    for (function, filter) in aggregate.aggr_expr().iter().zip(aggregate.filter_expr()) {
        let condition = match filter {
            Some(filter) => condition(&resolved(filter, projected)?)?,
            None => ValueRange::ALWAYS,
        };
        outputs.extend(states(function, projected)?.into_iter().map(|statistic| StateColumn { statistic, condition }));
    }
    let partial = PartialAggregate { outputs, schema: aggregate.schema() };
    // A reduction whose types are not those that the final half expects does not move.
    let types = partial.outputs.iter().map(|output| output.statistic.data_type());
    let fits = partial.schema.fields().iter().map(|f| f.data_type()).eq(types);
    fits.then(|| DataSourceExec::from_data_source(source.with_partial(partial)) as _)
}

/// Expressions of a projection between aggregate and scan; casts are often computed there once for all.
type Projected<'a> = Option<&'a [ProjectionExpr]>;

/// The scan below an aggregate, and the projection between them.
fn input(node: &Arc<dyn ExecutionPlan>) -> (&Arc<dyn ExecutionPlan>, Projected<'_>) {
    if let Some(cooperative) = node.downcast_ref::<CooperativeExec>() {
        return input(cooperative.input());
    }
    match node.downcast_ref::<ProjectionExec>().map(|projection| (input(projection.input()), projection.expr())) {
        Some(((scan, None), projected)) => (scan, Some(projected)),
        _ => (node, None),
    }
}

/// An expression in the columns of the scan.
fn resolved(expr: &Arc<dyn PhysicalExpr>, projected: Projected<'_>) -> Option<Arc<dyn PhysicalExpr>> {
    let Some(projected) = projected else { return Some(Arc::clone(expr)) };
    let replaced = Arc::clone(expr).transform_down(|node| {
        Ok(match node.downcast_ref::<Column>().and_then(|column| projected.get(column.index())) {
            Some(source) => Transformed::new(Arc::clone(&source.expr), true, TreeNodeRecursion::Jump),
            None => Transformed::no(node),
        })
    });
    replaced.data().ok()
}

/// The columns of an aggregate's state, as DataFusion's accumulators lay them out.
fn states(function: &AggregateFunctionExpr, projected: Projected<'_>) -> Option<Vec<Statistic>> {
    if function.is_distinct() || !function.order_bys().is_empty() {
        return None;
    }
    let arguments = function.expressions();
    let [argument] = arguments.as_slice() else { return None };
    let argument = resolved(argument, projected)?;
    let value = of_activation(&argument);
    Some(match (function.fun().name(), value) {
        ("max", Some(DataType::Float32)) => vec![Statistic::Max],
        ("min", Some(DataType::Float32)) => vec![Statistic::Min],
        ("sum", Some(DataType::Float64)) => vec![Statistic::Sum],
        ("avg", Some(DataType::Float64)) => vec![Statistic::CountUnsigned, Statistic::Sum],
        ("stddev" | "stddev_pop" | "var" | "var_pop", Some(DataType::Float64)) => {
            vec![Statistic::CountUnsigned, Statistic::Mean, Statistic::M2]
        }
        ("count", Some(_)) => vec![Statistic::Count],
        ("count", None) if argument.downcast_ref::<Literal>().is_some_and(|l| !l.value().is_null()) => {
            vec![Statistic::Count]
        }
        _ => return None,
    })
}

/// Returns the data type of an expression that is the column `activation` or a cast of it; `None` for any other.
fn of_activation(expr: &Arc<dyn PhysicalExpr>) -> Option<DataType> {
    if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        return of_activation(cast.expr()).map(|_| cast.cast_type().clone());
    }
    (expr.downcast_ref::<Column>()?.name() == "activation").then_some(DataType::Float32)
}

/// The range of activations that a filter lets pass, if it is a range.
fn condition(filter: &Arc<dyn PhysicalExpr>) -> Option<ValueRange> {
    let comparison = filter.downcast_ref::<BinaryExpr>()?;
    let (left, right) = (comparison.left(), comparison.right());
    if *comparison.op() == Operator::And {
        return Some(condition(left)?.and(condition(right)?));
    }
    let (op, number) = match (number(left), number(right)) {
        (None, Some(number)) if is_real(left) => (*comparison.op(), number),
        (Some(number), None) if is_real(right) => (comparison.op().swap()?, number),
        _ => return None,
    };
    Some(match op {
        Operator::Gt => ValueRange::above(number, false),
        Operator::GtEq => ValueRange::above(number, true),
        Operator::Lt => ValueRange::below(number, false),
        Operator::LtEq => ValueRange::below(number, true),
        _ => return None,
    })
}

/// Returns true if an expression is the activation, in a type that has all its values.
fn is_real(expr: &Arc<dyn PhysicalExpr>) -> bool {
    matches!(of_activation(expr), Some(DataType::Float32 | DataType::Float64))
}

fn number(expr: &Arc<dyn PhysicalExpr>) -> Option<f64> {
    match expr.downcast_ref::<Literal>()?.value() {
        ScalarValue::Float32(Some(number)) => Some(f64::from(*number)),
        ScalarValue::Float64(Some(number)) => Some(*number),
        _ => None,
    }
    .filter(|number| number.is_finite())
}
