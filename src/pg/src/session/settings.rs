//! Settings of a connection that Postgres has and clients set: `SET`, `SHOW`, `RESET`, `set_config()`.
//!
//! DataFusion's own settings (`datafusion.…`) live in the session's configuration instead. A setting that clients send
//! but that changes nothing here is listed all the same, because refusing it would break them; an unknown name is
//! refused with 42704, because it is a typing mistake.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use datafusion_postgres::pgwire::types::format::FormatOptions;

use crate::session::derived_settings::DerivedSettings;
use crate::session::plan_cache::PlanCacheMode;
use crate::session::{date_style, time_zone};
use crate::wire::encodings::Encoding;
use crate::wire::error_response::SqlError;
use neuroql::DateStyle;
use neuroql_access::{User, parse_time};

/// The Postgres release whose behaviour clients may expect.
pub(crate) const SERVER_VERSION: &str = "16.6";

enum SettingKind {
    Text,
    Bool,
    /// A switch that cannot be turned off.
    On,
    Integer(i64, i64),
    Real,
    Milliseconds,
    Choice(&'static [&'static str]),
    Encoding,
    DateStyle,
    TimeZone,
    /// A value that cannot be changed.
    Fixed,
}

struct SettingDefinition {
    name: &'static str,
    default: &'static str,
    kind: SettingKind,
    description: &'static str,
}

const fn define(
    name: &'static str,
    default: &'static str,
    kind: SettingKind,
    description: &'static str,
) -> SettingDefinition {
    SettingDefinition { name, default, kind, description }
}

const ISOLATION: SettingKind =
    SettingKind::Choice(&["read committed", "read uncommitted", "repeatable read", "serializable"]);
const MESSAGES: SettingKind = SettingKind::Choice(&[
    "debug5", "debug4", "debug3", "debug2", "debug1", "debug", "log", "info", "notice", "warning", "error", "fatal",
    "panic",
]);
const HARMLESS: &str = "Accepted for compatibility; changes nothing.";

static DEFINITIONS: &[SettingDefinition] = &[
    define("application_name", "", SettingKind::Text, "Name of the client program."),
    define("array_nulls", "on", SettingKind::Bool, HARMLESS),
    define("backslash_quote", "safe_encoding", SettingKind::Text, HARMLESS),
    define("bytea_output", "hex", SettingKind::Choice(&["hex", "escape"]), "Text form of bytea values."),
    define("check_function_bodies", "on", SettingKind::Bool, HARMLESS),
    define("client_encoding", "UTF8", SettingKind::Encoding, "Encoding of the client's texts."),
    define("client_min_messages", "notice", MESSAGES, HARMLESS),
    define("constraint_exclusion", "partition", SettingKind::Text, HARMLESS),
    define("cursor_tuple_fraction", "0.1", SettingKind::Real, HARMLESS),
    define(
        "DateStyle",
        "ISO, MDY",
        SettingKind::DateStyle,
        "Text form of dates, and the order of the parts of those that do not tell it.",
    ),
    define("default_table_access_method", "heap", SettingKind::Text, HARMLESS),
    define("default_tablespace", "", SettingKind::Text, HARMLESS),
    define("default_transaction_deferrable", "off", SettingKind::Bool, HARMLESS),
    define("default_transaction_isolation", "read committed", ISOLATION, "Level that transactions say they have."),
    define("default_transaction_read_only", "off", SettingKind::Bool, "Whether transactions start read-only."),
    define("enable_seqscan", "on", SettingKind::Bool, HARMLESS),
    define("escape_string_warning", "on", SettingKind::Bool, HARMLESS),
    define("extra_float_digits", "1", SettingKind::Integer(-15, 3), "Digits of floating-point numbers as text."),
    define("force_parallel_mode", "off", SettingKind::Text, HARMLESS),
    define("geqo", "on", SettingKind::Bool, HARMLESS),
    define(
        "idle_in_transaction_session_timeout",
        "0",
        SettingKind::Milliseconds,
        "Longest time between statements of a transaction; 0 is no limit.",
    ),
    define(
        "idle_session_timeout",
        "0",
        SettingKind::Milliseconds,
        "Longest time without a statement outside of transactions; 0 is no limit.",
    ),
    define("in_hot_standby", "off", SettingKind::Fixed, "Whether this is a standby server."),
    define("integer_datetimes", "on", SettingKind::Fixed, "Whether timestamps are integers on the wire."),
    define(
        "IntervalStyle",
        "postgres",
        SettingKind::Choice(&["postgres", "iso_8601", "sql_standard", "postgres_verbose"]),
        "Text form of intervals.",
    ),
    define("is_superuser", "off", SettingKind::Fixed, "Whether the user may change data."),
    define("jit", "off", SettingKind::Bool, HARMLESS),
    define("lc_collate", "C", SettingKind::Fixed, "Order of strings."),
    define("lc_ctype", "C.UTF-8", SettingKind::Fixed, "Character classes."),
    define("lc_messages", "C", SettingKind::Text, HARMLESS),
    define("lc_monetary", "C", SettingKind::Text, HARMLESS),
    define("lc_numeric", "C", SettingKind::Text, HARMLESS),
    define("lc_time", "C", SettingKind::Text, HARMLESS),
    define("lock_timeout", "0", SettingKind::Milliseconds, HARMLESS),
    define("max_identifier_length", "63", SettingKind::Fixed, "Longest name."),
    define("max_index_keys", "32", SettingKind::Fixed, "Most columns of an index."),
    define("max_prepared_transactions", "0", SettingKind::Fixed, "Most transactions that are prepared."),
    define("neuroql.progress", "off", SettingKind::Bool, "Whether a long SELECT reports its progress each second."),
    define(
        "plan_cache_mode",
        "auto",
        SettingKind::Choice(&["auto", "force_generic_plan", "force_custom_plan"]),
        "Whether the plan of a prepared statement is kept: from its second execution on, from the first, or never.",
    ),
    define("quote_all_identifiers", "off", SettingKind::Bool, HARMLESS),
    define("row_security", "on", SettingKind::Bool, HARMLESS),
    define(
        "search_path",
        "\"$user\", public",
        SettingKind::Text,
        "Schema of unqualified names: the first that exists.",
    ),
    define("server_encoding", "UTF8", SettingKind::Fixed, "Encoding of the server."),
    define("server_version", SERVER_VERSION, SettingKind::Fixed, "Version of Postgres this server behaves like."),
    define("server_version_num", "160006", SettingKind::Fixed, "The same as a number."),
    define("session_authorization", "", SettingKind::Fixed, "Name of the user."),
    define("standard_conforming_strings", "on", SettingKind::On, "Backslashes in strings are ordinary; always on."),
    define("statement_timeout", "0", SettingKind::Milliseconds, "Longest time a statement may run; 0 is no limit."),
    define("synchronous_commit", "on", SettingKind::Text, HARMLESS),
    define("synchronize_seqscans", "on", SettingKind::Bool, HARMLESS),
    define("TimeZone", "UTC", SettingKind::TimeZone, "Time zone of timestamps."),
    define("transaction_deferrable", "off", SettingKind::Bool, HARMLESS),
    define("transaction_isolation", "read committed", ISOLATION, HARMLESS),
    define("transaction_read_only", "off", SettingKind::Bool, "Whether this transaction is read-only."),
    define("transaction_timeout", "0", SettingKind::Milliseconds, "Longest time of a transaction; 0 is no limit."),
    define("work_mem", "4MB", SettingKind::Text, HARMLESS),
    define("xmloption", "content", SettingKind::Text, HARMLESS),
];

/// Settings whose value a client gets at once when it changes.
pub(crate) const REPORTED: &[&str] = &[
    "application_name",
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "in_hot_standby",
    "integer_datetimes",
    "IntervalStyle",
    "is_superuser",
    "server_encoding",
    "server_version",
    "session_authorization",
    "standard_conforming_strings",
    "TimeZone",
];

type Values = BTreeMap<String, String>;

/// Greatest number of bytes of names and values that a session may set.
const MOST_BYTES: usize = 1 << 20;

/// The server's limits on the time of statements.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Timeouts {
    /// Limit of statements in sessions that do not set it.
    pub(crate) default: Option<Duration>,
    /// Greatest limit that users who are not superusers may set.
    pub(crate) most: Option<Duration>,
}

/// The settings of one connection.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Values that are set, by name in lower case; others have their default.
    values: Values,
    /// The values that RESET goes back to: those of the startup packet.
    initial: Values,
    transaction: Option<TransactionSettings>,
    /// Greatest time that a statement may run, whatever is set.
    most: Option<Duration>,
    /// True if a value has changed since the session last looked.
    pub(crate) changed: bool,
    /// Values that follow from those set, once they were asked for.
    derived: OnceLock<DerivedSettings>,
}

/// A setting as `pg_settings` lists it: times are numbers of milliseconds.
pub(crate) struct ListedSetting {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    pub(crate) unit: Option<&'static str>,
    pub(crate) description: &'static str,
    /// Name of the type of its values.
    pub(crate) kind: &'static str,
    /// True if it cannot be changed.
    pub(crate) fixed: bool,
    /// Source of the value.
    pub(crate) source: &'static str,
    /// Least and greatest number.
    pub(crate) range: Option<(i64, i64)>,
    pub(crate) choices: Option<&'static [&'static str]>,
    pub(crate) default: String,
    /// The value that RESET goes back to.
    pub(crate) initial: String,
}

#[derive(Debug, Clone)]
struct TransactionSettings {
    /// Values before the transaction, for ROLLBACK.
    before: Values,
    /// Values hidden by SET LOCAL, for COMMIT.
    hidden: BTreeMap<String, Option<String>>,
}

impl Settings {
    pub(crate) fn new(user: &User, timeouts: &Timeouts) -> Self {
        let mut initial = Values::new();
        initial.insert("session_authorization".into(), user.name.clone());
        initial.insert("is_superuser".into(), if user.is_superuser() { "on" } else { "off" }.into());
        if let Some(default) = user.limits.statement_timeout.or(timeouts.default) {
            initial.insert("statement_timeout".into(), spell_milliseconds(default.as_millis() as u64));
        }
        let most = user.limits.max_statement_timeout.or(timeouts.most.filter(|_| !user.is_superuser()));
        Self { values: initial.clone(), initial, transaction: None, most, changed: true, derived: OnceLock::new() }
    }

    /// Sets a value that RESET keeps.
    pub(crate) fn initialize(&mut self, name: &str, value: &str) -> Result<(), SqlError> {
        self.set(name, Some(value), false)?;
        self.initial = self.values.clone();
        Ok(())
    }

    fn mark_changed(&mut self) {
        self.changed = true;
        self.derived = OnceLock::new();
    }

    fn derived(&self) -> &DerivedSettings {
        self.derived.get_or_init(|| {
            let name =
                if self.transaction.is_some() { "transaction_read_only" } else { "default_transaction_read_only" };
            let zone = time_zone::zone(&self.value("TimeZone"));
            let mut options = FormatOptions::default();
            options.bytea_output = self.value("bytea_output");
            options.interval_style = self.value("IntervalStyle");
            options.time_zone = zone.clone();
            options.date_style = self.date_style().spell();
            options.extra_float_digits = self.value("extra_float_digits").parse().unwrap_or(1);
            DerivedSettings {
                zone,
                format_options: Arc::new(options),
                read_only: self.value(name) == "on",
                reports_progress: self.value("neuroql.progress") == "on",
                plan_cache_mode: PlanCacheMode::of(&self.value("plan_cache_mode")),
                application_name: self.value("application_name"),
            }
        })
    }

    /// Returns the name as Postgres spells it, and the value.
    pub(crate) fn get(&self, name: &str) -> Option<(String, String)> {
        let key = name.to_ascii_lowercase();
        let value = match key.as_str() {
            // Each statement outside of a block is a transaction, with the default isolation of transactions.
            "transaction_isolation" => {
                self.values.get(&key).or_else(|| self.values.get("default_transaction_isolation"))
            }
            _ => self.values.get(&key),
        };
        match (definition(&key), value) {
            (Some(found), Some(value)) => Some((found.name.into(), value.clone())),
            (Some(found), None) => Some((found.name.into(), found.default.into())),
            (None, Some(value)) => Some((key, value.clone())),
            (None, None) => None,
        }
    }

    fn value(&self, name: &str) -> String {
        self.get(name).map(|(_, value)| value).unwrap_or_default()
    }

    /// Sets a value as `SET` does; `None` is `DEFAULT`.
    pub(crate) fn set(&mut self, name: &str, value: Option<&str>, local: bool) -> Result<(), SqlError> {
        let key = name.to_ascii_lowercase();
        let value = match (definition(&key), value) {
            (Some(found), _) if matches!(found.kind, SettingKind::Fixed) => {
                return Err(SqlError::error("55P02", format!("parameter \"{}\" cannot be changed", found.name)));
            }
            (Some(found), Some(value)) if matches!(found.kind, SettingKind::DateStyle) => {
                let reset = self.initial.get(&key).map_or(found.default, String::as_str);
                let spelt = date_style::spelt(value, &self.value(found.name), reset);
                Some(spelt.ok_or_else(|| found.invalid(value))?)
            }
            (Some(found), Some(value)) => Some(found.check(value)?),
            // Only SET changes settings of the engine, not set_config() or the startup packet.
            (None, _) if key.starts_with("datafusion.") || key.starts_with("neuroql.") => {
                return Err(SqlError::not_supported(format!("\"{name}\" can be set by SET only")));
            }
            // A name with a dot belongs to a program that keeps its own values here.
            (None, Some(value)) if key.contains('.') => Some(value.to_string()),
            (None, _) if !key.contains('.') => return Err(unknown(name)),
            (_, None) | (None, Some(_)) => self.initial.get(&key).cloned(),
        };
        let held: usize = self.values.iter().map(|(name, value)| name.len() + value.len()).sum();
        if held + key.len() + value.as_ref().map_or(0, String::len) > MOST_BYTES {
            return Err(SqlError::error("53400", format!("settings of a session take {MOST_BYTES} bytes at most")));
        }
        match &mut self.transaction {
            Some(transaction) if local => {
                transaction.hidden.entry(key.clone()).or_insert_with(|| self.values.get(&key).cloned());
            }
            // SET LOCAL outside a transaction ends with its own statement.
            None if local => return Ok(()),
            Some(transaction) => {
                transaction.hidden.remove(&key);
            }
            None => {}
        }
        match value {
            Some(value) => self.values.insert(key, value),
            None => self.values.remove(&key),
        };
        self.mark_changed();
        Ok(())
    }

    /// Resets all values, as `RESET ALL` does.
    pub(crate) fn reset_all(&mut self) {
        self.values = self.initial.clone();
        self.mark_changed();
    }

    /// Returns name, value and description of all settings, as `SHOW ALL` does.
    pub(crate) fn all(&self) -> Vec<(String, String, String)> {
        let known =
            DEFINITIONS.iter().map(|found| (found.name.into(), self.value(found.name), found.description.into()));
        let custom = self.values.iter().filter(|(key, _)| definition(key).is_none());
        known.chain(custom.map(|(key, value)| (key.clone(), value.clone(), String::new()))).collect()
    }

    /// Returns the settings for `pg_settings`; values that programs keep here are not among them, as in Postgres.
    pub(crate) fn listed(&self) -> Vec<ListedSetting> {
        DEFINITIONS.iter().map(|found| self.listed_setting(found)).collect()
    }

    fn listed_setting(&self, found: &'static SettingDefinition) -> ListedSetting {
        let key = found.name.to_ascii_lowercase();
        let initial = self.initial.get(&key);
        let fixed = matches!(found.kind, SettingKind::Fixed);
        let source = match self.values.get(&key) {
            None => "default",
            Some(_) if fixed => "override",
            set if set == initial => "client",
            Some(_) => "session",
        };
        let (kind, range) = match &found.kind {
            SettingKind::Bool | SettingKind::On => ("bool", None),
            SettingKind::Integer(least, most) => ("integer", Some((*least, *most))),
            SettingKind::Milliseconds => ("integer", Some((0, i64::from(i32::MAX)))),
            SettingKind::Real => ("real", None),
            SettingKind::Choice(_) => ("enum", None),
            SettingKind::Fixed => match found.default.parse::<i64>() {
                Ok(number) => ("integer", Some((number, number))),
                Err(_) if matches!(found.default, "on" | "off") => ("bool", None),
                Err(_) => ("string", None),
            },
            SettingKind::Text | SettingKind::Encoding | SettingKind::DateStyle | SettingKind::TimeZone => {
                ("string", None)
            }
        };
        let choices = match &found.kind {
            SettingKind::Choice(choices) => Some(*choices),
            _ => None,
        };
        let is_time = matches!(found.kind, SettingKind::Milliseconds);
        let spelt = |value: &str| match milliseconds(value).filter(|_| is_time) {
            Some(number) => number.to_string(),
            None => value.to_owned(),
        };
        ListedSetting {
            name: found.name,
            value: spelt(&self.value(found.name)),
            unit: is_time.then_some("ms"),
            description: found.description,
            kind,
            fixed,
            source,
            range,
            choices,
            default: spelt(found.default),
            initial: spelt(initial.map_or(found.default, String::as_str)),
        }
    }

    pub(crate) fn begin(&mut self) {
        if self.transaction.is_none() {
            self.transaction = Some(TransactionSettings { before: self.values.clone(), hidden: BTreeMap::new() });
        }
        let read_only = self.value("default_transaction_read_only");
        self.transaction_mode("transaction_read_only", &read_only);
        let isolation = self.value("default_transaction_isolation");
        self.transaction_mode("transaction_isolation", &isolation);
        let deferrable = self.value("default_transaction_deferrable");
        self.transaction_mode("transaction_deferrable", &deferrable);
    }

    /// Sets a mode of the open transaction, forgotten at its end.
    pub(crate) fn transaction_mode(&mut self, name: &str, value: &str) {
        // The names and values come from this program and are valid.
        let _ = self.set(name, Some(value), true);
    }

    pub(crate) fn commit(&mut self) {
        if let Some(transaction) = self.transaction.take() {
            for (key, value) in transaction.hidden {
                match value {
                    Some(value) => self.values.insert(key, value),
                    None => self.values.remove(&key),
                };
            }
            self.mark_changed();
        }
    }

    pub(crate) fn roll_back(&mut self) {
        if let Some(transaction) = self.transaction.take() {
            self.values = transaction.before;
            self.mark_changed();
        }
    }

    /// Returns the time that a statement may run: the setting, and no longer than the server allows.
    pub(crate) fn statement_timeout(&self) -> Option<Duration> {
        match (self.timeout("statement_timeout"), self.most) {
            (Some(set), Some(most)) => Some(set.min(most)),
            (set, most) => set.or(most),
        }
    }

    /// Returns a setting that is a time; `None` if there is no limit.
    pub(crate) fn timeout(&self, name: &str) -> Option<Duration> {
        let set = self.values.get(name).and_then(|value| milliseconds(value));
        set.filter(|limit| *limit > 0).map(Duration::from_millis)
    }

    /// Returns true if statements that change something are refused.
    pub(crate) fn read_only(&self) -> bool {
        self.derived().read_only
    }

    /// Returns true if statements report their progress.
    pub(crate) fn reports_progress(&self) -> bool {
        self.derived().reports_progress
    }

    /// Returns the mode of keeping plans.
    pub(crate) fn plan_cache_mode(&self) -> PlanCacheMode {
        self.derived().plan_cache_mode
    }

    /// Returns the name that the client gave itself.
    pub(crate) fn application_name(&self) -> &str {
        &self.derived().application_name
    }

    /// Returns the schemas of `search_path`.
    pub(crate) fn search_path(&self) -> Vec<String> {
        self.value("search_path")
            .split(',')
            .map(|name| name.trim().trim_matches('"').to_string())
            .filter(|name| !name.is_empty())
            .collect()
    }

    /// Returns the engine's time zone.
    pub(crate) fn zone(&self) -> String {
        self.derived().zone.clone()
    }

    /// Returns the encoding of the client's texts.
    pub(crate) fn encoding(&self) -> Encoding {
        Encoding::named(&self.value("client_encoding")).unwrap_or_default()
    }

    /// Returns the form of dates, and the order in which they are read.
    pub(crate) fn date_style(&self) -> DateStyle {
        let abbreviation = time_zone::abbreviation(&self.value("TimeZone"));
        DateStyle { abbreviation, ..DateStyle::read(&self.value("DateStyle")) }
    }

    /// Returns the options by which values become text, the same ones until a setting changes.
    pub(crate) fn format_options(&self) -> &Arc<FormatOptions> {
        &self.derived().format_options
    }
}

fn definition(key: &str) -> Option<&'static SettingDefinition> {
    DEFINITIONS.iter().find(|found| found.name.eq_ignore_ascii_case(key))
}

/// Returns true if a setting is one of those above, not one of the engine.
pub(crate) fn is_defined(name: &str) -> bool {
    definition(name).is_some()
}

pub(crate) fn unknown(name: &str) -> SqlError {
    SqlError::error("42704", format!("unrecognized configuration parameter \"{name}\""))
}

impl SettingDefinition {
    /// Returns the value in its usual spelling.
    fn check(&self, value: &str) -> Result<String, SqlError> {
        let value = value.trim();
        let lower = value.to_ascii_lowercase();
        let checked = match &self.kind {
            SettingKind::Text | SettingKind::Fixed => Some(value.to_string()),
            SettingKind::Bool | SettingKind::On => match lower.as_str() {
                "on" | "true" | "t" | "yes" | "y" | "1" => Some("on".into()),
                "off" | "false" | "f" | "no" | "n" | "0" if matches!(self.kind, SettingKind::On) => {
                    return Err(SqlError::not_supported(format!("{} = off is not supported", self.name)));
                }
                "off" | "false" | "f" | "no" | "n" | "0" => Some("off".into()),
                _ => None,
            },
            SettingKind::Integer(least, most) => value
                .parse::<i64>()
                .ok()
                .filter(|number| (least..=most).contains(&number))
                .map(|number| number.to_string()),
            SettingKind::Real => value.parse::<f64>().ok().map(|number| number.to_string()),
            SettingKind::Milliseconds => milliseconds(value).map(spell_milliseconds),
            SettingKind::Choice(choices) => choices.contains(&lower.as_str()).then_some(lower),
            SettingKind::Encoding => match Encoding::named(value.trim_matches('\'')) {
                None if lower.replace(['-', '_'], "") == "muleinternal" => {
                    return Err(SqlError::not_supported("conversion between MULE_INTERNAL and UTF8 is not supported"));
                }
                known => known.map(|known| known.name().into()),
            },
            SettingKind::DateStyle => date_style::spelt(value, self.default, self.default),
            SettingKind::TimeZone => time_zone::spelt(value)?,
        };
        checked.ok_or_else(|| self.invalid(value))
    }

    fn invalid(&self, value: &str) -> SqlError {
        SqlError::error("22023", format!("invalid value for parameter \"{}\": \"{value}\"", self.name))
    }
}

fn milliseconds(text: &str) -> Option<u64> {
    // Postgres' limit, an int4, is that of every time.
    parse_time(text).map(|time| time.as_millis() as u64)
}

/// Writes a time in the largest unit that divides it, as Postgres shows it.
fn spell_milliseconds(value: u64) -> String {
    if value == 0 {
        return "0".into();
    }
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)] {
        if value.is_multiple_of(size) {
            return format!("{}{unit}", value / size);
        }
    }
    format!("{value}ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::new(&User::new("ada", neuroql::Role::Reader), &Timeouts::default())
    }

    #[test]
    fn timeouts_take_units() {
        for (text, value) in [
            ("0", Some(0)),
            ("250", Some(250)),
            ("250ms", Some(250)),
            (" 5 s ", Some(5000)),
            ("1.5min", Some(90_000)),
            ("2h", Some(7_200_000)),
            ("1d", Some(86_400_000)),
            ("900us", Some(1)),
            ("-1", None),
            ("5 parsecs", None),
            ("s", None),
            ("", None),
            ("1e9d", None),
            ("99999999999", None),
        ] {
            assert_eq!(milliseconds(text), value, "{text}");
        }
        for (value, text) in [(0, "0"), (250, "250ms"), (5000, "5s"), (90_000, "90s"), (120_000, "2min")] {
            assert_eq!(spell_milliseconds(value), text);
        }
    }

    #[test]
    fn values_are_checked_and_spelt_as_postgres_does() {
        let mut settings = settings();
        for (name, value, shown) in [
            ("STATEMENT_TIMEOUT", "120000", "2min"),
            ("datestyle", "german, sql", ""),
            ("DateStyle", "german", "German, DMY"),
            ("DateStyle", "iso", "ISO, DMY"),
            ("extra_float_digits", "3", "3"),
            ("extra_float_digits", "9", ""),
            ("timezone", "Europe/Berlin", "Europe/Berlin"),
            ("timezone", "Middle/Earth", ""),
            ("timezone", "-2", "<-02>+02"),
            ("client_encoding", "utf-8", "UTF8"),
            ("client_encoding", "iso-8859-1", "LATIN1"),
            ("client_encoding", "nonsense", ""),
            ("jit", "true", "on"),
            ("server_version", "1", ""),
            ("no_such_thing", "1", ""),
            ("my.thing", "1", "1"),
        ] {
            match settings.set(name, Some(value), false) {
                Ok(()) => assert_eq!(settings.get(name).unwrap().1, shown, "{name}"),
                Err(_) => assert_eq!(shown, "", "{name}"),
            }
        }
        assert_eq!(settings.get("datestyle").unwrap().0, "DateStyle");
        assert_eq!(settings.statement_timeout(), Some(Duration::from_secs(120)));
        settings.reset_all();
        assert_eq!(settings.statement_timeout(), None);
        assert_eq!(settings.get("session_authorization").unwrap().1, "ada");
    }

    #[test]
    fn settings_are_listed_with_their_kinds() {
        let mut settings = settings();
        settings.initialize("application_name", "notebook").unwrap();
        settings.set("statement_timeout", Some("2min"), false).unwrap();
        settings.set("my.thing", Some("1"), false).unwrap();
        let listed = settings.listed();
        assert_eq!(listed.len(), DEFINITIONS.len());
        for (name, value, kind, source, range) in [
            ("application_name", "notebook", "string", "client", None),
            ("statement_timeout", "120000", "integer", "session", Some((0, 2_147_483_647))),
            ("lock_timeout", "0", "integer", "default", Some((0, 2_147_483_647))),
            ("max_index_keys", "32", "integer", "default", Some((32, 32))),
            ("extra_float_digits", "1", "integer", "default", Some((-15, 3))),
            ("integer_datetimes", "on", "bool", "default", None),
            ("session_authorization", "ada", "string", "override", None),
            ("bytea_output", "hex", "enum", "default", None),
        ] {
            let found = listed.iter().find(|found| found.name == name).unwrap();
            let read = (found.value.as_str(), found.kind, found.source, found.range);
            assert_eq!(read, (value, kind, source, range), "{name}");
        }
    }

    #[test]
    fn transactions_undo_settings() {
        let mut settings = settings();
        let shown = |settings: &Settings| settings.get("application_name").unwrap().1;
        settings.set("application_name", Some("a"), false).unwrap();
        settings.begin();
        settings.set("application_name", Some("b"), true).unwrap();
        assert_eq!(shown(&settings), "b");
        settings.commit();
        assert_eq!(shown(&settings), "a");
        settings.begin();
        settings.set("application_name", Some("c"), false).unwrap();
        settings.roll_back();
        assert_eq!(shown(&settings), "a");
        settings.set("application_name", Some("d"), true).unwrap();
        assert_eq!(shown(&settings), "a");
    }
}
