//! Plans of prepared statements, kept from one execution to the next.
//!
//! Postgres' `plan_cache_mode` decides: `auto` keeps the plan of a statement that runs a second time, since most run
//! once.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::scalar::ScalarValue;
use neuroql::ReusablePlan;

use crate::session::PreparedStatement;

/// The state of the plan of a prepared statement.
#[derive(Debug, Default)]
enum PlanState {
    #[default]
    New,
    /// The statement ran once, with a plan that was not kept.
    Ran,
    /// The plan cannot be kept.
    Unfit,
    Kept(Box<ReusablePlan>),
    /// A portal is running the plan.
    InUse,
}

/// Cache of the plan of a prepared statement.
#[derive(Debug, Default)]
pub(crate) struct PlanCache {
    state: Mutex<PlanState>,
    /// Numbers of executions with a kept plan, and with one of their own.
    kept: AtomicI64,
    own: AtomicI64,
}

/// Mode of keeping plans: the setting `plan_cache_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlanCacheMode {
    Auto,
    Always,
    Never,
}

impl PlanCacheMode {
    /// Reads a value of `plan_cache_mode`.
    pub(crate) fn of(setting: &str) -> Self {
        match setting {
            "force_generic_plan" => Self::Always,
            "force_custom_plan" => Self::Never,
            _ => Self::Auto,
        }
    }
}

/// The plan that an execution of a statement uses.
#[derive(Debug)]
pub(crate) enum PlanChoice {
    Cached(Box<ReusablePlan>),
    /// Plan the statement and keep the plan.
    Cache,
    /// Plan the statement and drop the plan after the run.
    Uncached,
}

impl PlanCache {
    /// Returns the plan to use. After `Cached` and `Cache` no other execution has the plan until its [`PlanGuard`] is
    /// dropped.
    pub(crate) fn choose(&self, mode: PlanCacheMode) -> PlanChoice {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match (std::mem::replace(&mut *state, PlanState::InUse), mode) {
            (PlanState::Kept(plan), PlanCacheMode::Auto | PlanCacheMode::Always) => PlanChoice::Cached(plan),
            (PlanState::New | PlanState::Ran, PlanCacheMode::Always) | (PlanState::Ran, PlanCacheMode::Auto) => {
                PlanChoice::Cache
            }
            (PlanState::New, _) => {
                *state = PlanState::Ran;
                PlanChoice::Uncached
            }
            (other, _) => {
                *state = other;
                PlanChoice::Uncached
            }
        }
    }

    /// Counts an execution.
    pub(crate) fn count(&self, with_kept_plan: bool) {
        let count = if with_kept_plan { &self.kept } else { &self.own };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the numbers of executions with a kept plan, and with one of their own.
    pub(crate) fn counts(&self) -> (i64, i64) {
        (self.kept.load(Ordering::Relaxed), self.own.load(Ordering::Relaxed))
    }

    /// Takes over the numbers of executions.
    pub(crate) fn count_as(&self, other: &Self) {
        let (kept, own) = other.counts();
        self.kept.store(kept, Ordering::Relaxed);
        self.own.store(own, Ordering::Relaxed);
    }

    fn set(&self, new: PlanState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = new;
    }
}

/// The use of a statement's plan by one execution.
pub(crate) struct PlanGuard {
    prepared: Arc<PreparedStatement>,
    plan: Option<Box<ReusablePlan>>,
}

impl PlanGuard {
    /// Creates the guard after [`PlanChoice::Cached`].
    pub(crate) fn new(prepared: &Arc<PreparedStatement>, plan: Box<ReusablePlan>) -> Self {
        Self { prepared: Arc::clone(prepared), plan: Some(plan) }
    }

    /// Creates the guard after [`PlanChoice::Cache`], while there is no plan yet.
    pub(crate) fn planning(prepared: &Arc<PreparedStatement>) -> Self {
        Self { prepared: Arc::clone(prepared), plan: None }
    }

    /// Sets the plan that was made; `None` if the statement's plan cannot be kept.
    pub(crate) fn planned(&mut self, plan: Option<ReusablePlan>) {
        match plan {
            Some(plan) => self.plan = Some(Box::new(plan)),
            None => self.prepared.plans.set(PlanState::Unfit),
        }
    }

    /// Returns true if there is a plan for these values.
    pub(crate) fn takes(&self, values: &[ScalarValue]) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.takes(values))
    }

    /// Returns true if the plan may run on a thread that others wait for.
    pub(crate) fn is_quick(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.is_quick())
    }

    /// Starts the query, if [`PlanGuard::takes`] returns true.
    pub(crate) fn execute(&mut self, values: &[ScalarValue]) -> Result<SendableRecordBatchStream, DataFusionError> {
        match &mut self.plan {
            Some(plan) => plan.execute(values.to_vec()),
            None => datafusion::common::internal_err!("there is no plan"),
        }
    }

    /// Keeps the plan after all its rows, or before it was used, unless another is to be made.
    pub(crate) fn give_back(mut self) {
        if let Some(plan) = self.plan.take().filter(|plan| !plan.is_worn_out()) {
            self.prepared.plans.set(PlanState::Kept(plan));
        }
    }
}

impl Drop for PlanGuard {
    /// Drops a plan that ended half-way, since its operators may still run: the next execution makes another.
    fn drop(&mut self) {
        let mut state = self.prepared.plans.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, PlanState::InUse) {
            *state = PlanState::Ran;
        }
    }
}
