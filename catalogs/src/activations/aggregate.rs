//! Aggregates by neuron move into the scan.
//!
//! `SELECT layer, neuron, max(activation) … GROUP BY layer, neuron` over a corpus would hash a row for each neuron of
//! each token. The first half of such an aggregate (DataFusion's partial mode) is a reduction of the columns of the
//! activation matrix instead: [`AggregateInScan`] replaces it by a scan that yields, for each batch, one row a neuron
//! with the partial states, which the second half merges as it would merge any others.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch, UInt64Array,
};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::coop::CooperativeExec;

use super::source::ActivationSource;

/// The rule; it belongs after all of DataFusion's own.
#[derive(Debug, Default)]
pub struct AggregateInScan;

impl PhysicalOptimizerRule for AggregateInScan {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_down(|node| {
            Ok(match moved(&node) {
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

/// The scan that does the work of a partial aggregate, if it can.
fn moved(node: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    let aggregate = node.downcast_ref::<AggregateExec>()?;
    let plain = *aggregate.mode() == AggregateMode::Partial
        && !aggregate.group_expr().has_grouping_set()
        && aggregate.limit_options().is_none()
        && aggregate.filter_expr().iter().all(Option::is_none);
    let input = match aggregate.input().downcast_ref::<CooperativeExec>() {
        Some(cooperative) => cooperative.input(),
        None => aggregate.input(),
    };
    let source = input.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref::<ActivationSource>()?;
    if !plain || !source.returns_every_value() {
        return None;
    }
    let mut outputs = Vec::new();
    for (expr, _) in aggregate.group_expr().expr() {
        outputs.push(match expr.downcast_ref::<Column>()?.name() {
            "layer" => Output::Layer,
            "neuron" => Output::Neuron,
            _ => return None,
        });
    }
    for function in aggregate.aggr_expr() {
        outputs.extend(states(function)?);
    }
    let partial = Partial { outputs, schema: aggregate.schema() };
    // What a reduction cannot yield in the type the second half expects stays where it is.
    let fits = partial.schema.fields().iter().map(|f| f.data_type()).eq(partial.outputs.iter().map(Output::data_type));
    fits.then(|| DataSourceExec::from_data_source(source.with_partial(partial)) as _)
}

/// The columns of an aggregate's state, as DataFusion's accumulators lay them out.
fn states(function: &AggregateFunctionExpr) -> Option<Vec<Output>> {
    if function.is_distinct() || !function.order_bys().is_empty() {
        return None;
    }
    let arguments = function.expressions();
    let [argument] = arguments.as_slice() else { return None };
    let value = of_activation(argument);
    Some(match (function.fun().name(), value) {
        ("max", Some(DataType::Float32)) => vec![Output::Max],
        ("min", Some(DataType::Float32)) => vec![Output::Min],
        ("sum", Some(DataType::Float64)) => vec![Output::Sum],
        ("avg", Some(DataType::Float64)) => vec![Output::CountUnsigned, Output::Sum],
        ("count", Some(_)) => vec![Output::Count],
        ("count", None) if argument.downcast_ref::<Literal>().is_some_and(|l| !l.value().is_null()) => {
            vec![Output::Count]
        }
        _ => return None,
    })
}

/// The type in which an expression is the activation, if that is what it is.
fn of_activation(expr: &Arc<dyn PhysicalExpr>) -> Option<DataType> {
    if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        return of_activation(cast.expr()).map(|_| cast.cast_type().clone());
    }
    (expr.downcast_ref::<Column>()?.name() == "activation").then_some(DataType::Float32)
}

/// A partial aggregate by neuron.
#[derive(Debug, Clone)]
pub(super) struct Partial {
    outputs: Vec<Output>,
    /// Schema of the aggregate it stands for.
    pub schema: SchemaRef,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    Layer,
    Neuron,
    Max,
    Min,
    Sum,
    Count,
    CountUnsigned,
}

impl Output {
    fn data_type(&self) -> &'static DataType {
        match self {
            Output::Layer | Output::Neuron => &DataType::Int32,
            Output::Max | Output::Min => &DataType::Float32,
            Output::Sum => &DataType::Float64,
            Output::Count => &DataType::Int64,
            Output::CountUnsigned => &DataType::UInt64,
        }
    }
}

impl Partial {
    /// What it computes, for EXPLAIN.
    pub fn describe(&self) -> String {
        let states = self.outputs.iter().filter(|o| !matches!(o, Output::Layer | Output::Neuron));
        states.map(|state| format!("{state:?}").to_lowercase()).collect::<Vec<_>>().join(", ")
    }

    /// States of one layer of a batch; `values` is `[tokens, neurons]`.
    pub fn reduce(&self, layer: usize, neurons: &[u32], values: &[f32]) -> Result<RecordBatch> {
        let width = neurons.len();
        let tokens = values.len().checked_div(width).unwrap_or(0);
        let column = |output: &Output| -> ArrayRef {
            match output {
                Output::Layer => Arc::new(Int32Array::from_value(layer as i32, width)),
                Output::Neuron => Arc::new(Int32Array::from_iter_values(neurons.iter().map(|n| *n as i32))),
                Output::Max => Arc::new(Float32Array::from(fold(values, width, f32::NEG_INFINITY, greater))),
                Output::Min => Arc::new(Float32Array::from(fold(values, width, f32::NAN, lesser))),
                Output::Sum => Arc::new(Float64Array::from(fold(values, width, 0.0, |a, b| a + f64::from(b)))),
                Output::Count => Arc::new(Int64Array::from_value(tokens as i64, width)),
                Output::CountUnsigned => Arc::new(UInt64Array::from_value(tokens as u64, width)),
            }
        };
        let columns = self.outputs.iter().map(column).collect();
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

/// The greater of two numbers; NaN, as in SQL, is greater than all others.
#[inline(always)]
fn greater(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

/// The lesser of two numbers, in the same order.
#[inline(always)]
fn lesser(a: f32, b: f32) -> f32 {
    if b < a || a.is_nan() { b } else { a }
}

/// Folds each column of a matrix of this width.
fn fold<T: Copy>(values: &[f32], width: usize, start: T, f: impl Fn(T, f32) -> T) -> Vec<T> {
    let mut out = vec![start; width];
    for row in values.chunks_exact(width.max(1)) {
        out.iter_mut().zip(row).for_each(|(total, value)| *total = f(*total, *value));
    }
    out
}
