//! Values that every statement asks of a session's settings, computed once for those that are set.

use std::sync::Arc;

use datafusion_postgres::pgwire::types::format::FormatOptions;

use crate::session::plan_cache::PlanCacheMode;

/// Values that follow from those of the settings.
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

#[cfg(test)]
mod tests {
    use neuroql_access::User;

    use super::*;
    use crate::session::settings::{Settings, Timeouts};

    #[test]
    fn what_follows_from_values_follows_their_changes() {
        let user = User::new("ada", neuroql::Role::Reader);
        let mut settings = Settings::new(&user, &Timeouts::default());
        let options = Arc::clone(settings.format_options());
        assert!(Arc::ptr_eq(&options, settings.format_options()));
        assert_eq!((settings.zone(), settings.read_only(), settings.application_name()), ("UTC".into(), false, ""));
        settings.begin();
        settings.set("TimeZone", Some("Europe/Berlin"), true).unwrap();
        settings.set("transaction_read_only", Some("on"), true).unwrap();
        assert_eq!((settings.zone(), settings.read_only()), ("Europe/Berlin".into(), true));
        assert_eq!(settings.format_options().time_zone, "Europe/Berlin");
        settings.commit();
        assert_eq!((settings.zone(), settings.read_only()), ("UTC".into(), false));
        settings.set("default_transaction_read_only", Some("on"), false).unwrap();
        settings.set("application_name", Some("psql"), false).unwrap();
        settings.set("plan_cache_mode", Some("force_custom_plan"), false).unwrap();
        assert_eq!((settings.read_only(), settings.application_name()), (true, "psql"));
        assert_eq!(settings.plan_cache_mode(), PlanCacheMode::Never);
        settings.begin();
        assert!(settings.read_only());
        settings.roll_back();
        settings.reset_all();
        assert_eq!((settings.read_only(), settings.plan_cache_mode()), (false, PlanCacheMode::Auto));
    }
}
