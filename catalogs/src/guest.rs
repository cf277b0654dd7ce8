//! Users who may not load anything.

/// Marks sessions of users for whom no model is loaded: an extension of their
/// [`SessionConfig`](datafusion::prelude::SessionConfig). The values of a plan's parameters are known only at its
/// execution, so this cannot be checked on the logical plan.
#[derive(Debug)]
pub struct Guest;
