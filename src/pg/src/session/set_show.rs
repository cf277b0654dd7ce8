//! SET, SHOW, RESET and DISCARD.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::config::{ConfigEntry, ConfigOptions};
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{LogicalPlan, ResetVariable, Statement as PlanStatement};
use datafusion::sql::sqlparser::ast::{
    ContextModifier, DiscardObject, Expr, Ident, Interval, Reset, Set, UnaryOperator, Value, ValueWithSpan,
};
use datafusion_postgres::pgwire::messages::response::TransactionStatus;

use crate::encode::column::Columns;
use crate::session::commands::transaction_modes;
use crate::session::result_stream::{ResultRows, isolated};
use crate::session::{CommandTag, Outcome, Session};
use crate::sql::column_names::ColumnNames;
use crate::wire::error_response::{Failure, SqlError};

use crate::session::settings;

pub(crate) async fn set(session: &mut Session, set: &Set) -> Result<Outcome, Failure> {
    match set {
        Set::SingleAssignment { scope, hivevar: false, variable, values } => {
            let local = *scope == Some(ContextModifier::Local);
            assign(session, &unquoted(&variable.to_string()), value_text(values).as_deref(), local).await?;
        }
        Set::SetTimeZone { local, value } => {
            let value = value_text(std::slice::from_ref(value)).filter(|zone| !zone.eq_ignore_ascii_case("local"));
            assign(session, "TimeZone", value.as_deref(), *local).await?;
        }
        Set::SetNames { charset_name, .. } => {
            assign(session, "client_encoding", Some(&charset_name.value), false).await?;
        }
        Set::SetTransaction { modes, session: true, .. } => {
            for (name, value) in transaction_modes(modes) {
                session.settings().set(&format!("default_{name}"), Some(value), false)?;
            }
        }
        Set::SetTransaction { modes, .. } => {
            for (name, value) in transaction_modes(modes) {
                session.settings().transaction_mode(name, value);
            }
        }
        Set::SetRole { role_name: None, .. } => {}
        Set::SetRole { role_name: Some(name), .. } if name.value == session.user.name => {}
        Set::SetRole { .. } | Set::SetSessionAuthorization(_) => {
            return Err(SqlError::not_supported("changing the user of a connection is not supported").into());
        }
        other => return Err(SqlError::not_supported(format!("{other} is not supported")).into()),
    }
    Ok(Outcome::done("SET"))
}

async fn assign(session: &mut Session, name: &str, value: Option<&str>, local: bool) -> Result<(), SqlError> {
    if !is_engine_setting(session, name) {
        return session.settings().set(name, value, local);
    }
    let name = name.to_ascii_lowercase();
    match value {
        Some(value) => {
            let entry = engine_settings(session).into_iter().find(|entry| entry.key == name);
            let value = engine_value(value, entry.and_then(|entry| entry.value).as_deref());
            session.set_engine(&name, value).await
        }
        None => reset_engine(session, &name).await,
    }
}

/// Converts a value to DataFusion's spelling: its switches are `true` and `false`, Postgres' are `on` and `off` as
/// well.
fn engine_value(value: &str, current: Option<&str>) -> String {
    let switch = matches!(current, Some("true" | "false"));
    match value.to_ascii_lowercase().as_str() {
        "on" | "yes" | "true" | "1" if switch => "true".into(),
        "off" | "no" | "false" | "0" if switch => "false".into(),
        _ => value.into(),
    }
}

/// Returns the value as text, `None` for DEFAULT.
fn value_text(values: &[Expr]) -> Option<String> {
    let one = |value: &Expr| match value {
        Expr::Value(ValueWithSpan { value, .. }) => match value {
            Value::Number(number, _) => number.clone(),
            Value::Boolean(value) => if *value { "on" } else { "off" }.into(),
            other => other.clone().into_string().unwrap_or_else(|| other.to_string()),
        },
        Expr::Identifier(name) => name.value.clone(),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => format!("-{expr}"),
        Expr::Interval(interval) => interval_text(interval),
        other => unquoted(&other.to_string()),
    };
    match values {
        [Expr::Identifier(name)] if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("default") => None,
        values => Some(values.iter().map(one).collect::<Vec<_>>().join(", ")),
    }
}

/// Returns an interval as a time zone is set to it: `INTERVAL '-2 HOUR'`.
fn interval_text(interval: &Interval) -> String {
    let text = unquoted(&interval.value.to_string());
    match (&interval.leading_field, &interval.last_field) {
        (Some(unit), None) if text.parse::<f64>().is_ok() => format!("INTERVAL '{text} {unit}'"),
        _ => format!("INTERVAL '{text}'"),
    }
}

/// Returns true for a setting of DataFusion or of an extension of it: the part before the dot is a prefix of settings.
fn is_engine_setting(session: &Session, name: &str) -> bool {
    let Some((space, _)) = name.split_once('.').filter(|_| !settings::is_defined(name)) else { return false };
    let space = format!("{}.", space.to_ascii_lowercase());
    engine_settings(session).iter().any(|entry| entry.key.starts_with(&space))
}

fn engine_settings(session: &Session) -> Vec<ConfigEntry> {
    let state = session.context.state();
    let mut entries = settings_of(&state);
    entries.extend(state.runtime_env().config_entries());
    entries
}

/// Returns DataFusion's settings and those of its extensions, to which it adds the part before the dot.
fn settings_of(state: &SessionState) -> Vec<ConfigEntry> {
    let options = state.config_options();
    let mut entries = options.entries();
    entries.retain(|entry| entry.key.starts_with("datafusion."));
    for (space, extension) in options.extensions.iter() {
        let named = |entry: ConfigEntry| ConfigEntry { key: format!("{space}.{}", entry.key), ..entry };
        entries.extend(extension.entries().into_iter().map(named));
    }
    entries
}

pub(crate) async fn reset(session: &mut Session, reset: &Reset) -> Result<Outcome, Failure> {
    match reset {
        Reset::ALL => reset_all(session),
        Reset::ConfigurationParameter(name) => assign(session, &unquoted(&name.to_string()), None, false).await?,
    }
    Ok(Outcome::done("RESET"))
}

fn reset_all(session: &mut Session) {
    session.settings().reset_all();
    let mut options = ConfigOptions::clone(session.base.state().config_options());
    options.extensions.insert(session.base.permissions.rights(&session.user));
    *session.context.state_ref().write().config_mut().options_mut() = options;
    session.settings_version += 1;
    session.forget_applied();
}

/// Resets a setting to the value that sessions start with.
async fn reset_engine(session: &mut Session, name: &str) -> Result<(), SqlError> {
    let entry = settings_of(session.base.state()).into_iter().find(|entry| entry.key == name);
    if let Some(value) = entry.and_then(|entry| entry.value) {
        return session.set_engine(name, value).await;
    }
    let plan = LogicalPlan::Statement(PlanStatement::ResetVariable(ResetVariable { variable: name.to_string() }));
    session.base.permissions.check(&plan, &session.user, false, &session.context)?;
    session.settings_version += 1;
    let context = session.context.clone();
    isolated(async move { context.execute_logical_plan(plan).await.map(drop) }).await
}

pub(crate) async fn discard(session: &mut Session, what: &DiscardObject) -> Result<Outcome, Failure> {
    if matches!(what, DiscardObject::ALL) {
        if session.status != TransactionStatus::Idle {
            return Err(SqlError::error("25001", "DISCARD ALL cannot run inside a transaction block").into());
        }
        session.portals.clear();
        session.prepared.clear();
        session.transaction.notifications.unlisten_all()?;
        reset_all(session);
    }
    if matches!(what, DiscardObject::ALL | DiscardObject::SEQUENCES) {
        session.sequences.forget();
    }
    if matches!(what, DiscardObject::ALL | DiscardObject::TEMP) {
        if session.status != TransactionStatus::Idle {
            return Err(SqlError::error("25001", "DISCARD TEMP cannot run inside a transaction block").into());
        }
        session.temporary.clear()?;
        session.base.catalog_changed();
    }
    Ok(Outcome::Done(format!("DISCARD {what}")))
}

/// Returns the name of the setting of a SHOW, in lower case.
fn shown(variable: &[Ident]) -> String {
    let words: Vec<_> = variable.iter().map(|word| word.value.to_ascii_lowercase()).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["time", "zone"] => "timezone".into(),
        ["transaction", "isolation", "level"] => "transaction_isolation".into(),
        ["session", "authorization"] => "session_authorization".into(),
        words => words.join("."),
    }
}

/// Returns name and value of a setting.
fn find(session: &Session, name: &str) -> Result<(String, String), SqlError> {
    if let Some(found) = session.settings().get(name) {
        return Ok(found);
    }
    match engine_settings(session).into_iter().find(|entry| entry.key.eq_ignore_ascii_case(name)) {
        Some(entry) => Ok((entry.key, entry.value.unwrap_or_default())),
        None => Err(settings::unknown(name)),
    }
}

pub(crate) fn show(session: &Session, variable: &[Ident]) -> Result<Outcome, SqlError> {
    let name = shown(variable);
    let name = name.as_str();
    let columns: Vec<Vec<String>> = if name == "all" {
        let mut all = session.settings().all();
        all.extend(engine_settings(session).into_iter().map(|entry| {
            // DataFusion's descriptions are paragraphs; a terminal wants a line.
            let description = entry.description.split_inclusive(". ").next().unwrap_or_default();
            (entry.key, entry.value.unwrap_or_default(), description.trim_end().to_string())
        }));
        let (names, (values, descriptions)) =
            all.into_iter().map(|(name, value, description)| (name, (value, description))).unzip();
        vec![names, values, descriptions]
    } else {
        vec![vec![find(session, name)?.1]]
    };
    let columns = columns.into_iter().enumerate().map(|(index, values)| {
        let values: ArrayRef = Arc::new(StringArray::from(values));
        (index.to_string(), values)
    });
    let batch = RecordBatch::try_from_iter(columns).map_err(DataFusionError::from)?;
    Ok(Outcome::Rows(ResultRows::of(batch), CommandTag::SHOW))
}

/// Returns the columns of a SHOW.
pub(crate) fn columns(session: &Session, variable: &[Ident]) -> Result<Columns, SqlError> {
    Ok(match shown(variable).as_str() {
        "all" => text_columns(&["name", "setting", "description"]),
        name => text_columns(&[&find(session, name)?.0]),
    })
}

fn text_columns(names: &[&str]) -> Columns {
    let fields: Vec<_> = names.iter().map(|name| Field::new(*name, DataType::Utf8, false)).collect();
    Columns::new(&Schema::new(fields), &ColumnNames::default())
}

/// Returns a name or string without its quotes; a name without quotes in lower case.
pub(crate) fn unquoted(text: &str) -> String {
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return inner.to_string();
        }
    }
    text.to_lowercase()
}
