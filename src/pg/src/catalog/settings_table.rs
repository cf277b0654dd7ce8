//! `pg_settings`: a row for each setting of the session that reads it.

use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Int32Array, ListBuilder, RecordBatch, StringArray, StringBuilder, new_null_array,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::streaming::PartitionStream;

use crate::catalog::batches::stream_of;
use crate::session::settings::{ListedSetting, Settings};

/// The settings of a session as rows, with PostgreSQL 15's columns. The session that runs the query brings them in the
/// extensions of its configuration, as a `Mutex<Settings>`; without one there are no rows.
#[derive(Debug)]
pub(crate) struct SettingsTable {
    schema: SchemaRef,
}

impl SettingsTable {
    pub(crate) fn new() -> Self {
        let columns = [
            ("name", DataType::Utf8),
            ("setting", DataType::Utf8),
            ("unit", DataType::Utf8),
            ("category", DataType::Utf8),
            ("short_desc", DataType::Utf8),
            ("extra_desc", DataType::Utf8),
            ("context", DataType::Utf8),
            ("vartype", DataType::Utf8),
            ("source", DataType::Utf8),
            ("min_val", DataType::Utf8),
            ("max_val", DataType::Utf8),
            ("enumvals", DataType::new_list(DataType::Utf8, true)),
            ("boot_val", DataType::Utf8),
            ("reset_val", DataType::Utf8),
            ("sourcefile", DataType::Utf8),
            ("sourceline", DataType::Int32),
            ("pending_restart", DataType::Boolean),
        ];
        let fields = columns.map(|(name, data_type)| Field::new(name, data_type, true));
        Self { schema: Arc::new(Schema::new(fields.to_vec())) }
    }

    fn rows(&self, settings: &Settings) -> Result<RecordBatch> {
        let listed = settings.listed();
        let texts = |value: fn(&ListedSetting) -> Option<String>| -> ArrayRef {
            Arc::new(listed.iter().map(value).collect::<StringArray>())
        };
        let columns = self.schema.fields().iter().map(|field| match field.name().as_str() {
            "name" => texts(|setting| Some(setting.name.into())),
            "setting" => texts(|setting| Some(setting.value.clone())),
            "unit" => texts(|setting| setting.unit.map(str::to_owned)),
            "category" => texts(|setting| Some(category(setting).into())),
            "short_desc" => texts(|setting| Some(setting.description.into())),
            "context" => texts(|setting| Some(if setting.fixed { "internal" } else { "user" }.into())),
            "vartype" => texts(|setting| Some(setting.kind.into())),
            "source" => texts(|setting| Some(setting.source.into())),
            "min_val" => texts(|setting| setting.range.map(|(least, _)| least.to_string())),
            "max_val" => texts(|setting| setting.range.map(|(_, most)| most.to_string())),
            "enumvals" => choices(&listed),
            "boot_val" => texts(|setting| Some(setting.default.clone())),
            "reset_val" => texts(|setting| Some(setting.initial.clone())),
            "sourceline" => Arc::new(Int32Array::new_null(listed.len())),
            "pending_restart" => Arc::new(BooleanArray::from(vec![false; listed.len()])),
            _ => new_null_array(field.data_type(), listed.len()),
        });
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns.collect())?)
    }
}

/// Returns the values that each setting may have, if they are listed.
fn choices(listed: &[ListedSetting]) -> ArrayRef {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for setting in listed {
        for choice in setting.choices.unwrap_or_default() {
            lists.values().append_value(choice);
        }
        lists.append(setting.choices.is_some());
    }
    Arc::new(lists.finish())
}

/// Returns PostgreSQL's group of a setting.
fn category(setting: &ListedSetting) -> &'static str {
    match setting.name {
        _ if setting.fixed => "Preset Options",
        name if name.contains('.') => "Customized Options",
        "application_name" => "Reporting and Logging / What to Log",
        "array_nulls"
        | "backslash_quote"
        | "escape_string_warning"
        | "quote_all_identifiers"
        | "standard_conforming_strings"
        | "synchronize_seqscans" => "Version and Platform Compatibility / Previous PostgreSQL Versions",
        "client_encoding" | "DateStyle" | "extra_float_digits" | "IntervalStyle" | "lc_messages" | "lc_monetary"
        | "lc_numeric" | "lc_time" | "TimeZone" => "Client Connection Defaults / Locale and Formatting",
        "constraint_exclusion" | "cursor_tuple_fraction" | "jit" | "plan_cache_mode" => {
            "Query Tuning / Other Planner Options"
        }
        "enable_seqscan" => "Query Tuning / Planner Method Configuration",
        "force_parallel_mode" => "Developer Options",
        "geqo" => "Query Tuning / Genetic Query Optimizer",
        "synchronous_commit" => "Write-Ahead Log / Settings",
        "work_mem" => "Resource Usage / Memory",
        _ => "Client Connection Defaults / Statement Behavior",
    }
}

impl PartitionStream for SettingsTable {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let settings = context.session_config().get_extension::<Mutex<Settings>>();
        let rows = match settings.as_deref() {
            Some(settings) => self.rows(&settings.lock().unwrap_or_else(PoisonError::into_inner)),
            None => Ok(RecordBatch::new_empty(Arc::clone(&self.schema))),
        };
        stream_of(&self.schema, rows)
    }
}
