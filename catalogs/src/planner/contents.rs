//! Identity of the rows that a plan reads, found without reading them.

use std::any::Any;
use std::sync::{Arc, Weak};

use datafusion::arrow::array::Array;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::{DataSource, DataSourceExec};
use datafusion::logical_expr::Volatility;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use neuroql_pipeline::Contents;

use crate::planner::time_slices::TimeSlicedExec;

/// The identity of a plan's rows: plans with equal contents yield equal rows in the same order.
#[derive(Debug, Clone)]
pub(crate) struct PlanContents {
    /// The operator, in its own description.
    node: String,
    expressions: Vec<Arc<dyn PhysicalExpr>>,
    source: Source,
    inputs: Vec<PlanContents>,
}

/// The columns of a batch, as long as somebody holds them.
type WeakColumns = Vec<Weak<dyn Array>>;

/// Source of the rows of an operator.
#[derive(Debug, Clone)]
enum Source {
    Inputs,
    /// Files with size, time and version of each.
    Files(Vec<String>),
    /// The columns that are read of each batch, which never change. They are compared by their addresses in memory; no
    /// other column has the address of one that is known here.
    Memory(Vec<WeakColumns>),
}

impl PlanContents {
    /// Returns the identity of a plan's rows; `None` if it is not known, or rows may differ from one reading to the
    /// next.
    pub fn of(plan: &Arc<dyn ExecutionPlan>) -> Option<Self> {
        let source = match plan.downcast_ref::<DataSourceExec>() {
            Some(scan) => Source::of(scan.data_source().as_ref())?,
            None if is_plain(plan) => Source::Inputs,
            None => return None,
        };
        let mut expressions = Vec::new();
        let walked = plan.apply_expressions(&mut |expr| {
            expressions.push(Arc::clone(expr));
            Ok(TreeNodeRecursion::Continue)
        });
        if walked.is_err() || !expressions.iter().all(is_immutable) {
            return None;
        }
        let inputs = plan.children().into_iter().map(Self::of).collect::<Option<_>>()?;
        Some(Self { node: displayable(plan.as_ref()).one_line().to_string(), expressions, source, inputs })
    }
}

impl PartialEq for PlanContents {
    fn eq(&self, other: &Self) -> bool {
        self.node == other.node
            && self.source == other.source
            && self.expressions == other.expressions
            && self.inputs == other.inputs
    }
}

impl Contents for PlanContents {
    fn is_same(&self, other: &dyn Contents) -> bool {
        (other as &dyn Any).downcast_ref::<Self>().is_some_and(|other| self == other)
    }
}

impl Source {
    fn of(source: &dyn DataSource) -> Option<Self> {
        if let Some(files) = source.downcast_ref::<FileScanConfig>() {
            let files = files.file_groups.iter().flat_map(|group| group.files()).map(|file| {
                let meta = &file.object_meta;
                let range = file.range.as_ref().map(|range| (range.start, range.end));
                format!(
                    "{}{} {} {} {:?} {:?} {range:?}",
                    files.object_store_url, meta.location, meta.size, meta.last_modified, meta.e_tag, meta.version
                )
            });
            return Some(Self::Files(files.collect()));
        }
        let memory = source.downcast_ref::<MemorySourceConfig>()?;
        let batches = memory.partitions().iter().flatten().map(|batch| match memory.projection() {
            Some(columns) => columns.iter().map(|column| Arc::downgrade(batch.column(*column))).collect(),
            None => batch.columns().iter().map(Arc::downgrade).collect(),
        });
        Some(Self::Memory(batches.collect()))
    }
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Inputs, Self::Inputs) => true,
            (Self::Files(files), Self::Files(others)) => files == others,
            (Self::Memory(batches), Self::Memory(others)) => {
                let same = |(columns, others): (&WeakColumns, &WeakColumns)| {
                    columns.len() == others.len() && columns.iter().zip(others).all(|(a, b)| a.ptr_eq(b))
                };
                batches.len() == others.len() && batches.iter().zip(others).all(same)
            }
            _ => false,
        }
    }
}

/// Returns true if an operator yields the same rows in the same order whenever its inputs do.
fn is_plain(plan: &Arc<dyn ExecutionPlan>) -> bool {
    // Of several partitions, whichever is ready first comes first.
    let one_input = || plan.children().iter().all(|input| input.properties().partitioning.partition_count() == 1);
    plan.is::<ProjectionExec>()
        || plan.is::<FilterExec>()
        || plan.is::<UnionExec>()
        || plan.is::<CooperativeExec>()
        || plan.is::<TimeSlicedExec>()
        || plan.is::<LocalLimitExec>()
        || (plan.is::<CoalescePartitionsExec>() || plan.is::<GlobalLimitExec>()) && one_input()
}

/// Returns true if an expression always has the same value for a row: it calls no function whose answers may change,
/// with time or with registrations.
fn is_immutable(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let mut immutable = true;
    let walked = expr.apply(|expr| {
        let function = expr.downcast_ref::<ScalarFunctionExpr>();
        immutable &= !expr.is_volatile_node()
            && function.is_none_or(|function| function.fun().signature().volatility == Volatility::Immutable);
        Ok(if immutable { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    walked.is_ok() && immutable
}
