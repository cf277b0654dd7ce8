//! Users for whom nothing is loaded.

/// Marks sessions of users for whom no model is loaded: an extension of their
/// [`SessionConfig`](datafusion::prelude::SessionConfig). What a plan says of its parameters only its execution knows, so
/// this cannot be checked on the logical plan.
#[derive(Debug)]
pub struct Guest;
