//! Metrics of a scan in EXPLAIN ANALYZE.

use std::time::Instant;

use datafusion::physical_plan::metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, Gauge, MetricBuilder, Time};
use neuroql_model::DeviceName;

/// Counters of one partition.
#[derive(Clone)]
pub(super) struct Metrics {
    pub baseline: BaselineMetrics,
    pub tokens_run: Count,
    pub forward_passes: Count,
    pub examples_skipped: Count,
    forward_time: Time,
    tokens_per_second: Gauge,
    /// Bytes copied from a GPU to the host; `None` for a model on processors.
    bytes_to_host: Option<Count>,
}

impl Metrics {
    pub fn new(set: &ExecutionPlanMetricsSet, partition: usize, device: DeviceName) -> Self {
        let counter = |name: &'static str| MetricBuilder::new(set).counter(name, partition);
        Self {
            baseline: BaselineMetrics::new(set, partition),
            tokens_run: counter("tokens_run"),
            forward_passes: counter("forward_passes"),
            examples_skipped: counter("examples_skipped"),
            forward_time: MetricBuilder::new(set).subset_time("forward_time", partition),
            tokens_per_second: MetricBuilder::new(set).gauge("tokens_per_second", partition),
            bytes_to_host: (device != DeviceName::Cpu).then(|| counter("bytes_to_host")),
        }
    }

    /// Records a forward pass that gave `values` values; the rate is that of all passes of the partition so far.
    pub fn ran(&self, start: Instant, values: usize) {
        self.bytes_to_host.iter().for_each(|bytes| bytes.add(4 * values));
        self.forward_time.add_elapsed(start);
        let seconds = self.forward_time.value() as f64 / 1e9;
        self.tokens_per_second.set((self.tokens_run.value() as f64 / seconds.max(1e-9)) as usize);
    }
}
