//! Settings of the engine that a session may change, and the values that they may have.
//!
//! DataFusion takes any number: a batch size of 10¹⁵ asks for petabytes, and the process ends. So each setting that a
//! number can make dangerous has a range, for every user, and users who are not superusers may change only the settings
//! that are listed here.

use crate::Error;

/// Values that a setting may have.
#[derive(Debug, Clone, Copy)]
enum Values {
    /// Any value that DataFusion takes, such as switches and names.
    Any,
    /// Whole numbers from the first to the second.
    Between(u64, u64),
}

/// Settings of a session, which do not affect others.
const OF_SESSION: &[(&str, Values)] = &[
    ("datafusion.execution.batch_size", Values::Between(1, 1 << 16)),
    ("datafusion.execution.coalesce_batches", Values::Any),
    ("datafusion.execution.collect_statistics", Values::Any),
    ("datafusion.execution.target_partitions", Values::Between(0, 256)),
    ("datafusion.execution.parquet.binary_as_string", Values::Any),
    ("datafusion.execution.parquet.bloom_filter_on_read", Values::Any),
    ("datafusion.execution.parquet.enable_page_index", Values::Any),
    ("datafusion.execution.parquet.pruning", Values::Any),
    ("datafusion.execution.parquet.pushdown_filters", Values::Any),
    ("datafusion.execution.parquet.reorder_filters", Values::Any),
    ("datafusion.execution.parquet.schema_force_view_types", Values::Any),
    ("datafusion.execution.parquet.skip_metadata", Values::Any),
    ("datafusion.execution.skip_partial_aggregation_probe_ratio_threshold", Values::Any),
    ("datafusion.execution.split_file_groups_by_statistics", Values::Any),
    ("datafusion.explain.analyze_level", Values::Any),
    ("datafusion.explain.format", Values::Any),
    ("datafusion.explain.logical_plan_only", Values::Any),
    ("datafusion.explain.physical_plan_only", Values::Any),
    ("datafusion.explain.show_schema", Values::Any),
    ("datafusion.explain.show_sizes", Values::Any),
    ("datafusion.explain.show_statistics", Values::Any),
    ("datafusion.explain.tree_maximum_render_width", Values::Between(0, 10_000)),
    ("datafusion.optimizer.allow_symmetric_joins_without_pruning", Values::Any),
    ("datafusion.optimizer.default_filter_selectivity", Values::Between(0, 100)),
    ("datafusion.optimizer.enable_distinct_aggregation_soft_limit", Values::Any),
    ("datafusion.optimizer.enable_dynamic_filter_pushdown", Values::Any),
    ("datafusion.optimizer.enable_round_robin_repartition", Values::Any),
    ("datafusion.optimizer.enable_topk_aggregation", Values::Any),
    ("datafusion.optimizer.enable_window_topn", Values::Any),
    ("datafusion.optimizer.filter_null_join_keys", Values::Any),
    ("datafusion.optimizer.hash_join_single_partition_threshold", Values::Any),
    ("datafusion.optimizer.hash_join_single_partition_threshold_rows", Values::Any),
    ("datafusion.optimizer.max_passes", Values::Between(0, 16)),
    ("datafusion.optimizer.prefer_existing_sort", Values::Any),
    ("datafusion.optimizer.prefer_existing_union", Values::Any),
    ("datafusion.optimizer.prefer_hash_join", Values::Any),
    ("datafusion.optimizer.repartition_aggregations", Values::Any),
    ("datafusion.optimizer.repartition_file_min_size", Values::Any),
    ("datafusion.optimizer.repartition_file_scans", Values::Any),
    ("datafusion.optimizer.repartition_joins", Values::Any),
    ("datafusion.optimizer.repartition_sorts", Values::Any),
    ("datafusion.optimizer.repartition_windows", Values::Any),
    ("datafusion.optimizer.skip_failed_rules", Values::Any),
    ("datafusion.optimizer.top_down_join_key_reordering", Values::Any),
    ("neuroql.device", Values::Any),
];

/// Ranges of settings that only a superuser may change.
const OF_SUPERUSER: &[(&str, Values)] = &[
    ("datafusion.execution.max_buffered_batches_per_output_file", Values::Between(1, 1 << 10)),
    ("datafusion.execution.meta_fetch_concurrency", Values::Between(1, 1 << 10)),
    ("datafusion.execution.minimum_parallel_output_files", Values::Between(1, 256)),
    ("datafusion.execution.planning_concurrency", Values::Between(0, 256)),
    ("datafusion.execution.parquet.max_row_group_size", Values::Between(1, 1 << 30)),
    ("datafusion.execution.parquet.maximum_parallel_row_group_writers", Values::Between(1, 256)),
    ("datafusion.execution.parquet.maximum_buffered_record_batches_per_stream", Values::Between(1, 1 << 10)),
    ("datafusion.execution.parquet.write_batch_size", Values::Between(1, 1 << 20)),
];

/// Refuses a value that a setting of the engine may not have.
///
/// # Errors
/// [`Error::Setting`] if the setting has a range and the value is not in it.
pub fn check_setting(name: &str, value: &str) -> Result<(), Error> {
    let name = name.to_ascii_lowercase();
    let listed = OF_SESSION.iter().chain(OF_SUPERUSER).find(|(listed, _)| *listed == name);
    let Some((_, Values::Between(least, most))) = listed else { return Ok(()) };
    match value.trim().trim_matches('\'').parse::<u64>() {
        Ok(number) if (least..=most).contains(&&number) => Ok(()),
        _ => Err(Error::Setting { name, value: value.into(), least: *least, most: *most }),
    }
}

/// Returns true if a user who is not a superuser may change a setting.
pub(crate) fn is_of_session(name: &str) -> bool {
    OF_SESSION.iter().any(|(listed, _)| name.eq_ignore_ascii_case(listed))
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionConfig;

    use super::*;

    /// A name that DataFusion no longer has would be a hole in the list.
    #[test]
    fn every_name_is_one_of_datafusion() {
        let config = SessionConfig::new();
        let known: Vec<String> = config.options().entries().into_iter().map(|entry| entry.key).collect();
        for (name, _) in OF_SESSION.iter().chain(OF_SUPERUSER) {
            assert!(name.starts_with("neuroql.") || known.iter().any(|known| known == name), "{name}");
        }
    }

    /// Every default is in its range.
    #[test]
    fn defaults_are_allowed() {
        let config = SessionConfig::new();
        for entry in config.options().entries() {
            if let Some(value) = &entry.value {
                check_setting(&entry.key, value).unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }

    #[test]
    fn ranges() {
        let name = "datafusion.execution.batch_size";
        assert!(check_setting(name, "8192").is_ok());
        assert!(check_setting("DataFusion.Execution.Batch_Size", "1").is_ok());
        for value in ["0", "1000000000000000", "-1", "x", "1.5", ""] {
            assert!(matches!(check_setting(name, value), Err(Error::Setting { .. })), "{value}");
        }
        assert!(is_of_session(name) && !is_of_session("datafusion.runtime.memory_limit"));
        assert!(!is_of_session("datafusion.catalog.location"));
    }
}
