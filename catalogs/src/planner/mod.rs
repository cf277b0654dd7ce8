//! Rules of the planner, and the estimates of EXPLAIN.

pub(crate) mod aggregate_pushdown;
pub(crate) mod check_text_filters;
pub(crate) mod contents;
pub(crate) mod estimate;
pub(crate) mod guard_ambiguous_filters;
pub(crate) mod reusable;
pub(crate) mod time_slices;
pub(crate) mod top_k_pushdown;
