//! Rules of the planner that end when their statement is cancelled.
//!
//! Planning does not pause: a task that is dropped goes on to the end of it. So each rule looks first whether anybody still
//! waits, the logical optimizer's at each node of the plan.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::{AnalyzerRule, ApplyOrder, OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use neuroql_udfs::check_interrupt;

/// A rule that does nothing for a statement that was cancelled.
#[derive(Debug)]
struct CancellableRule<R: ?Sized>(Arc<R>);

impl AnalyzerRule for CancellableRule<dyn AnalyzerRule + Send + Sync> {
    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        check_interrupt(config)?;
        self.0.analyze(plan, config)
    }

    fn name(&self) -> &str {
        self.0.name()
    }
}

impl OptimizerRule for CancellableRule<dyn OptimizerRule + Send + Sync> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        check_interrupt(&config.options())?;
        self.0.rewrite(plan, config)
    }
}

impl PhysicalOptimizerRule for CancellableRule<dyn PhysicalOptimizerRule + Send + Sync> {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        check_interrupt(config)?;
        self.0.optimize(plan, config)
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

/// Wraps all rules of a state, so that they end when their statement is cancelled.
pub(crate) fn stopping(state: SessionState) -> SessionState {
    let analyzers =
        state.analyzer().rules.iter().map(|rule| Arc::new(CancellableRule(Arc::clone(rule))) as _).collect();
    let optimizers =
        state.optimizer().rules.iter().map(|rule| Arc::new(CancellableRule(Arc::clone(rule))) as _).collect();
    let physical =
        state.physical_optimizers().iter().map(|rule| Arc::new(CancellableRule(Arc::clone(rule))) as _).collect();
    SessionStateBuilder::new_from_existing(state)
        .with_analyzer_rules(analyzers)
        .with_optimizer_rules(optimizers)
        .with_physical_optimizer_rules(physical)
        .build()
}
