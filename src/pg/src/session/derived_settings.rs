//! What every statement asks of a session's settings, computed once for the values that are set.

use std::sync::Arc;

use datafusion_postgres::pgwire::types::format::FormatOptions;

use crate::session::plan_cache::PlanCacheMode;

/// What follows from the values of the settings.
#[derive(Debug, Clone)]
pub(crate) struct DerivedSettings {
    /// The engine's time zone.
    pub(super) zone: String,
    /// Options by which values become text.
    pub(super) format_options: Arc<FormatOptions>,
    /// True if statements that change something are refused.
    pub(super) read_only: bool,
    /// True if statements report their progress.
    pub(super) reports_progress: bool,
    pub(super) plan_cache_mode: PlanCacheMode,
    pub(super) application_name: String,
}
