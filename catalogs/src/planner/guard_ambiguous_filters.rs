//! Filters on columns whose name another column of the same rows has stay where they are.
//!
//! DataFusion 55 finds the column that a filter is about by its name when it pushes filters down a physical plan
//! (`FilterRemapper::try_remap`). Where two columns have the same name, as after a join of a table with itself, it
//! takes the first for both, and the dynamic filter of a join further up then drops rows that belong to the answer.
//! While filters are pushed down, [`GuardAmbiguousFilters`] puts a node that refuses such filters over each one whose
//! columns have the same name.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::internal_err;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::filter_pushdown::{
    ChildFilterDescription, ChildPushdownResult, FilterDescription, FilterPushdownPhase, FilterPushdownPropagation,
};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

/// Beginning of the names of DataFusion's rules that push filters down.
const PUSHES_DOWN: &str = "FilterPushdown";

type PhysicalRule = Arc<dyn PhysicalOptimizerRule + Send + Sync>;

/// A rule that pushes filters down, guarded against taking one column for another of its name.
#[derive(Debug)]
pub struct GuardAmbiguousFilters(PhysicalRule);

impl GuardAmbiguousFilters {
    /// Returns all rules, with those that push filters down guarded.
    pub fn rules(rules: &[PhysicalRule]) -> Vec<PhysicalRule> {
        let guarded = |rule: &PhysicalRule| -> PhysicalRule {
            let any: &dyn std::any::Any = rule.as_ref();
            match rule.name().starts_with(PUSHES_DOWN) && !any.is::<Self>() {
                true => Arc::new(Self(Arc::clone(rule))),
                false => Arc::clone(rule),
            }
        };
        rules.iter().map(guarded).collect()
    }
}

impl PhysicalOptimizerRule for GuardAmbiguousFilters {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let guard = |node: Arc<dyn ExecutionPlan>| match clear_columns(&node) {
            Some(clear) => Ok(Transformed::yes(Arc::new(FilterBarrierExec { input: node, clear: clear.into() }) as _)),
            None => Ok(Transformed::no(node)),
        };
        let guarded = plan.transform_up(guard)?;
        let pushed = self.0.optimize(guarded.data, config)?;
        let bare = |node: Arc<dyn ExecutionPlan>| match node.downcast_ref::<FilterBarrierExec>() {
            Some(refusing) => Ok(Transformed::yes(Arc::clone(&refusing.input))),
            None => Ok(Transformed::no(node)),
        };
        pushed.transform_up(bare).data()
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

/// Returns the indices of the columns with a unique name; `None` if all have one.
fn clear_columns(node: &Arc<dyn ExecutionPlan>) -> Option<Vec<usize>> {
    let schema = node.schema();
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (place, field) in schema.fields().iter().enumerate() {
        places.entry(field.name()).or_default().push(place);
    }
    (places.len() < schema.fields().len())
        .then(|| places.into_values().filter(|places| places.len() == 1).flatten().collect())
}

/// Node that stands over another while filters are pushed down; never executed.
#[derive(Debug)]
struct FilterBarrierExec {
    input: Arc<dyn ExecutionPlan>,
    /// Indices of the only columns that filters may read.
    clear: Arc<[usize]>,
}

impl DisplayAs for FilterBarrierExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ExecutionPlan for FilterBarrierExec {
    fn name(&self) -> &'static str {
        "Refusing"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self { input, clear: Arc::clone(&self.clear) })),
            _ => internal_err!("{} has one child", self.name()),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        internal_err!("{} is not for execution", self.name())
    }

    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterDescription> {
        let clear = self.clear.iter().copied().collect();
        let description = ChildFilterDescription::from_child_with_allowed_indices(&filters, clear, &self.input)?;
        Ok(FilterDescription::new().with_child(description))
    }

    fn handle_child_pushdown_result(
        &self,
        _: FilterPushdownPhase,
        result: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        Ok(FilterPushdownPropagation::if_all(result))
    }
}
